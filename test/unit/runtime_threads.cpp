// Kernels that multiply: several tiles, blocks and heads each, the same bits with 1, 2, 4 and 8 threads, in fp32 and bf16.
#include "runtime/plan/Workspace.h"
#include "runtime_support.h"
#include <filesystem>

namespace amc::rt::test {
namespace {

class RuntimeThreads : public testing::TestWithParam<plan::DType> {
protected:
  const plan::DType type = GetParam();
  const uint64_t bytes = dtypeBytes(type);
  uint64_t seed = 0;

  Array data(Shape shape) { return random(type, std::move(shape), ++seed); }
  void expectSameBits(const Call &call) {
    Outcome one = run(call, 1);
    ASSERT_TRUE(one.status.ok()) << call.kernel << ": " << one.status.message();
    for (unsigned threads : {2u, 4u, 8u}) {
      Outcome more = run(call, threads);
      ASSERT_TRUE(more.status.ok()) << call.kernel << ": " << more.status.message();
      EXPECT_EQ(one.bytes, more.bytes) << call.kernel << " on " << threads << " threads";
    }
  }
};

TEST_P(RuntimeThreads, Products) {
  const uint64_t rows = 1100, k = 300, n = 1060;
  expectSameBits({"linear", {data({rows, k}), data({n, k}), data({n})}, {{type, {rows, n}}}, {attribute("transpose_w", 1)},
                  workspace::product(rows, n, k, bytes), {}});
  expectSameBits({"linear_weight_grad", {data({rows, k}), data({rows, n})}, {{type, {k, n}}}, {},
                  workspace::product(k, n, rows, bytes), {}});
  expectSameBits({"matmul", {data({3, rows, k}), data({3, k, 70})}, {{type, {3, rows, 70}}}, {},
                  workspace::product(3 * rows, 70, k, bytes), {}});
}

TEST_P(RuntimeThreads, GroupedProducts) {
  const uint64_t rows = 900, k = 96, n = 600, groups = 3;
  Array x = data({rows, k}), ids = randomIndices(plan::I64, {rows}, 9, 0, groups);
  expectSameBits({"grouped_matmul", {x, data({groups, k, n}), ids}, {{type, {rows, n}}}, {},
                  workspace::groupedMatmul(rows, k, n, groups, bytes), {}});
  expectSameBits({"grouped_matmul_weight_grad", {x, data({rows, n}), ids}, {{type, {groups, k, n}}},
                  {attribute("groups", static_cast<int64_t>(groups))},
                  workspace::groupedMatmulWeightGrad(rows, k, n, groups, bytes), {}});
}

TEST_P(RuntimeThreads, GatedMlp) {
  const uint64_t rows = workspace::mlpRowTile + 200, input = 72, inner = 530, output = 80;
  Array x = data({rows, input}), gate = data({input, inner}), up = data({input, inner}), down = data({inner, output});
  Attributes silu = {attribute("activation", "silu")};
  expectSameBits({"gated_mlp", {x, gate, up, down}, {{type, {rows, output}}}, silu,
                  workspace::gatedMlp(rows, input, inner, output, bytes), {}});
  expectSameBits({"gated_mlp_backward", {data({rows, output}), x, gate, up, down},
                  {{type, x.shape}, {type, gate.shape}, {type, up.shape}, {type, down.shape}}, silu,
                  workspace::gatedMlpBackward(rows, input, inner, output, true, bytes), {}});
}

TEST_P(RuntimeThreads, LinearCrossEntropy) {
  const uint64_t tokens = 900, width = 90, classes = 1300;
  Array hidden = data({tokens, width}), weight = data({classes, width}), bias = data({classes}),
        labels = randomIndices(plan::I64, {tokens}, 7, 0, classes), dloss = array(plan::F32, {}, {1.0});
  for (uint64_t inFlight : {1, 3, 16}) {
    workspace::LceShape shape{tokens, width, classes, 4, type != plan::F32, true, inFlight};
    Attributes attributes = {attribute("transpose_w", 1),     attribute("ignore_index", -100),
                             attribute("label_smoothing", 0.0), attribute("z_loss", 0.0),
                             attribute("softcap", 0.0),       attribute("tokens_in_flight", static_cast<int64_t>(inFlight))};
    Call forward{"linear_cross_entropy", {hidden, weight, bias, labels, {}}, {{plan::F32, {}}, {plan::F32, {tokens}}},
                 attributes, workspace::linearCrossEntropy(shape), {}};
    expectSameBits(forward);
    expectSameBits({"linear_cross_entropy_backward", {dloss, hidden, weight, bias, labels, {}, run(forward).outputs[1]},
                    {{type, hidden.shape}, {type, weight.shape}, {type, bias.shape}}, attributes,
                    workspace::linearCrossEntropyBackward(shape, true, true, true), {}});
  }
}

// Causal, two key heads for six of queries, several blocks of both; and a window with softcap.
TEST_P(RuntimeThreads, Attention) {
  const uint64_t batch = 2, heads = 6, keyHeads = 2, length = 600, width = 40;
  Array q = data({batch, heads, length, width}), k = data({batch, keyHeads, length, width}), v = data(k.shape),
        dy = data(q.shape);
  for (bool window : {false, true}) {
    Attributes attributes = {attribute("masked_rows", "zero"), attribute("right", 0), attribute("scale", 0.2),
                             attribute("softcap", window ? 5.0 : 0.0)};
    if (window)
      attributes.push_back(attribute("left", 300));
    Call forward{"attention", {q, k, v, {}, {}}, {{type, q.shape}, {plan::F32, {batch, heads, length}}}, attributes,
                 workspace::attention(batch, heads, length, width, width, bytes), {}};
    expectSameBits(forward);
    Outcome y = run(forward);
    expectSameBits({"attention_backward", {dy, q, k, v, y.outputs[0], y.outputs[1], {}, {}},
                    {{type, q.shape}, {type, k.shape}, {type, v.shape}}, attributes,
                    workspace::attentionBackward(batch, heads, keyHeads, length, length, width, width, bytes), {}});
  }
}

// oneDNN's OpenMP would like as many threads as there are processors.
TEST_P(RuntimeThreads, TheLibraryStartsNone) {
  auto threads = [] {
    std::filesystem::directory_iterator tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  };
  const uint64_t n = 1100;
  Call linear{"linear", {data({n, n}), data({n, n}), {}}, {{type, {n, n}}}, {}, workspace::product(n, n, n, bytes), {}};
  const auto before = threads();
  Expected<Executor> executor = Executor::create(planOf(linear), {3, false});
  ASSERT_TRUE(executor.ok()) << executor.status().message();
  ASSERT_TRUE(executor->runMicroBatch().ok());
  EXPECT_EQ(threads(), before + 2);
}

INSTANTIATE_TEST_SUITE_P(Types, RuntimeThreads, testing::Values(plan::F32, plan::BF16));

} // namespace
} // namespace amc::rt::test
