// gated_mlp is the operations it stands for, to the bit, for any number of tiles.
#include "runtime/plan/Workspace.h"
#include "runtime_support.h"

namespace amc::rt::test {
namespace {

constexpr uint64_t input = 48, inner = 80, output = 40;

uint64_t bytesOf(plan::DType dtype) { return dtypeBytes(dtype); }

struct Network {
  plan::DType dtype;
  uint64_t rows;
  bool transposed; // gate and down stored the other way round
  Array x, dy, gate, up, down;

  Network(plan::DType dtype, uint64_t rows, bool transposed)
      : dtype(dtype), rows(rows), transposed(transposed), x(random(dtype, {rows, input}, 1)),
        dy(random(dtype, {rows, output}, 2)),
        gate(random(dtype, transposed ? Shape{inner, input} : Shape{input, inner}, 3)),
        up(random(dtype, {input, inner}, 4)),
        down(random(dtype, transposed ? Shape{output, inner} : Shape{inner, output}, 5)) {}

  Attributes attributes(const char *activation) const {
    Attributes all = {attribute("activation", activation)};
    if (transposed) {
      all.push_back(attribute("transpose_down", 1));
      all.push_back(attribute("transpose_gate", 1));
    }
    return all;
  }

  // One operation of the chain; the only result, or both.
  std::vector<Array> call(const char *kernel, std::vector<Array> inputs, std::vector<Shape> results,
                          Attributes attributes = {}, uint64_t scratch = 0) const {
    std::vector<Result> outputs;
    for (const Shape &shape : results)
      outputs.push_back({dtype, shape});
    Outcome outcome = run({kernel, std::move(inputs), outputs, std::move(attributes), scratch, {}});
    EXPECT_TRUE(outcome.status.ok()) << outcome.status.message();
    return outcome.outputs;
  }
  Array linear(const Array &a, const Array &w, bool transpose) const {
    uint64_t k = a.shape[1], n = w.shape[transpose ? 0 : 1];
    return call("linear", {a, w, {}}, {{rows, n}}, transpose ? Attributes{attribute("transpose_w", 1)} : Attributes{},
                workspace::product(rows, n, k, bytesOf(dtype)))[0];
  }
  Array weightGradient(const Array &a, const Array &d, bool transpose) const {
    uint64_t k = a.shape[1], n = d.shape[1];
    uint64_t down = transpose ? n : k, across = transpose ? k : n;
    return call("linear_weight_grad", {a, d}, {{down, across}},
                transpose ? Attributes{attribute("transpose_w", 1)} : Attributes{},
                workspace::product(down, across, rows, bytesOf(dtype)))[0];
  }
};

void expectSame(const Array &actual, const Array &expected, const char *what) {
  ASSERT_EQ(actual.values.size(), expected.values.size()) << what;
  for (size_t i = 0; i < actual.values.size(); ++i)
    ASSERT_EQ(actual.values[i], expected.values[i]) << what << " at element " << i;
}

class RuntimeGatedMlp : public testing::TestWithParam<std::tuple<plan::DType, uint64_t, bool>> {};

TEST_P(RuntimeGatedMlp, IsItsParts) {
  auto [dtype, rows, transposed] = GetParam();
  Network n(dtype, rows, transposed);
  Array g = n.linear(n.x, n.gate, transposed), u = n.linear(n.x, n.up, false);
  Array h = n.call("gated_activation", {g, u}, {{rows, inner}}, {attribute("activation", "silu")})[0];
  Array y = n.linear(h, n.down, transposed);
  Array dh = n.linear(n.dy, n.down, !transposed);
  std::vector<Array> d = n.call("gated_activation_backward", {dh, g, u}, {{rows, inner}, {rows, inner}},
                                {attribute("activation", "silu")});
  Array dx = n.call("add", {n.linear(d[1], n.up, true), n.linear(d[0], n.gate, !transposed)}, {{rows, input}})[0];

  for (unsigned threads : {1u, 3u}) {
    Outcome forward = run({"gated_mlp", {n.x, n.gate, n.up, n.down}, {{dtype, {rows, output}}}, n.attributes("silu"),
                           workspace::gatedMlp(rows, input, inner, output, bytesOf(dtype)), {}},
                          threads);
    ASSERT_TRUE(forward.status.ok()) << forward.status.message();
    expectSame(forward.outputs[0], y, "y");

    Outcome backward = run({"gated_mlp_backward", {n.dy, n.x, n.gate, n.up, n.down},
                            {{dtype, n.x.shape}, {dtype, n.gate.shape}, {dtype, n.up.shape}, {dtype, n.down.shape}},
                            n.attributes("silu"),
                            workspace::gatedMlpBackward(rows, input, inner, output, true, bytesOf(dtype)), {}},
                           threads);
    ASSERT_TRUE(backward.status.ok()) << backward.status.message();
    expectSame(backward.outputs[0], dx, "dx");
    expectSame(backward.outputs[1], n.weightGradient(n.x, d[0], transposed), "dgate");
    expectSame(backward.outputs[2], n.weightGradient(n.x, d[1], false), "dup");
    expectSame(backward.outputs[3], n.weightGradient(h, n.dy, transposed), "ddown");

    Attributes frozen = n.attributes("silu");
    frozen.insert(frozen.begin() + 1, attribute("input_only", 1));
    Outcome alone = run({"gated_mlp_backward", {n.dy, n.x, n.gate, n.up, n.down}, {{dtype, n.x.shape}}, frozen,
                         workspace::gatedMlpBackward(rows, input, inner, output, false, bytesOf(dtype)), {}},
                        threads);
    ASSERT_TRUE(alone.status.ok()) << alone.status.message();
    expectSame(alone.outputs[0], dx, "dx alone");
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RuntimeGatedMlp,
                         testing::Combine(testing::Values(plan::F32, plan::F64, plan::BF16),
                                          // No row, less than a tile, a tile, tiles and a rest.
                                          testing::Values<uint64_t>(0, 5, workspace::mlpRowTile,
                                                                    2 * workspace::mlpRowTile + 300),
                                          testing::Bool()));

} // namespace
} // namespace amc::rt::test
