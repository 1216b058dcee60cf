// Sums that are stored as they were added up (`wide`): rounded, they are the bits of the results without it; what else
// the kernel gives does not change; and it asks for no more scratch.
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/Workspace.h"
#include "runtime_support.h"
#include <set>

namespace amc::rt::test {
namespace {

constexpr plan::DType BF16 = plan::BF16;

// A call with narrow sums, which of its results those are, and what scratch it needs with wide ones.
struct Case {
  Call narrow;
  std::set<size_t> sums;
  uint64_t wideWorkspace;

  Call wide() const {
    Call call = narrow;
    for (size_t i : sums)
      if (call.outputs[i].dtype != plan::DTYPE_UNSPECIFIED)
        call.outputs[i].dtype = statisticType(call.outputs[i].dtype);
    call.attributes.push_back(attribute("wide", true));
    call.workspace = wideWorkspace;
    return call;
  }
};

bool verified(const Call &call) {
  cpu::KernelRegistry registry;
  return verifyPlan(planOf(call), registry).ok();
}

// Several tiles of the product and blocks of rows, whole ones and parts.
Case weightGradient(plan::DType dtype, bool transpose) {
  constexpr uint64_t rows = 2 * 1100, k = 300, n = 530;
  Shape dw = transpose ? Shape{n, k} : Shape{k, n};
  Call call{"linear_weight_grad", {random(dtype, {2, 1100, k}, 1), random(dtype, {2, 1100, n}, 2)}, {{dtype, dw}}, {},
            workspace::product(dw[0], dw[1], rows, dtypeBytes(dtype))};
  if (transpose)
    call.attributes = {attribute("transpose_w", true)};
  return {call, {0}, workspace::product(dw[0], dw[1], rows, dtypeBytes(dtype), false)};
}

// Of five groups one has no rows.
Case groupedWeightGradient(plan::DType dtype, bool transpose) {
  constexpr uint64_t rows = 700, k = 270, m = 40, groups = 5;
  Array ids = randomIndices(plan::I64, {rows}, 3, 0, groups - 1);
  Call call{"grouped_matmul_weight_grad", {random(dtype, {rows, k}, 1), random(dtype, {rows, m}, 2), ids},
            {{dtype, transpose ? Shape{groups, m, k} : Shape{groups, k, m}}}, {attribute("groups", int64_t(groups))},
            workspace::groupedMatmulWeightGrad(rows, k, m, groups, dtypeBytes(dtype))};
  if (transpose)
    call.attributes.push_back(attribute("transpose_w", true));
  return {call, {0}, workspace::groupedMatmulWeightGrad(rows, k, m, groups, dtypeBytes(dtype), true)};
}

// A tile of rows and a part of one.
Case gatedMlp(plan::DType dtype) {
  constexpr uint64_t rows = 1100, k = 24, inner = 40, n = 16;
  Call call{"gated_mlp_backward",
            {random(dtype, {rows, n}, 1), random(dtype, {rows, k}, 2), random(dtype, {k, inner}, 3),
             random(dtype, {inner, k}, 4), random(dtype, {inner, n}, 5)},
            {{dtype, {rows, k}}, {dtype, {k, inner}}, {dtype, {inner, k}}, {dtype, {inner, n}}},
            {attribute("activation", "silu"), attribute("transpose_up", true)},
            workspace::gatedMlpBackward(rows, k, inner, n, true, dtypeBytes(dtype))};
  return {call, {1, 2, 3}, workspace::gatedMlpBackward(rows, k, inner, n, true, dtypeBytes(dtype), true)};
}

// A tile of the vocabulary and a part of one; several tiles of tokens, of which some are ignored.
Case linearCrossEntropy(plan::DType dtype, bool transpose, bool dhidden = true) {
  constexpr uint64_t tokens = 151, width = 70, classes = 700;
  plan::DType wide = statisticType(dtype);
  Array labels = randomIndices(plan::I64, {tokens}, 4, 0, classes);
  labels.values[3] = -100;
  Shape weight = transpose ? Shape{classes, width} : Shape{width, classes};
  workspace::LceShape s{tokens, width, classes, dtypeBytes(wide), dtype != wide, true, 2};
  Call call{"linear_cross_entropy_backward",
            {array(wide, {}, {0.7}), random(dtype, {tokens, width}, 1), random(dtype, weight, 2),
             random(dtype, {classes}, 3), labels, {}, random(wide, {tokens}, 5, 6, 8)},
            {dhidden ? Result{dtype, {tokens, width}} : Result(), {dtype, weight}, {dtype, {classes}}},
            {attribute("ignore_index", -100), attribute("label_smoothing", 0.1), attribute("softcap", 5.0),
             attribute("tokens_in_flight", 2), attribute("z_loss", 0.01)},
            workspace::linearCrossEntropyBackward(s, dhidden, true, true)};
  if (transpose)
    call.attributes.push_back(attribute("transpose_w", true));
  return {call, {1, 2}, workspace::linearCrossEntropyBackward(s, dhidden, true, true, true)};
}

// Tokens that repeat; width beyond a block of elements.
Case embedding(plan::DType dtype) {
  constexpr uint64_t tokens = 300, width = 530, rows = 40;
  uint64_t scratch = dtypeBytes(dtype) < 4 ? workspace::sortedSources(rows, tokens) : 0;
  return {{"embedding_backward",
           {random(dtype, {tokens, width}, 1), randomIndices(plan::I64, {tokens}, 2, 0, rows - 1)},
           {{dtype, {rows, width}}}, {attribute("rows", int64_t(rows))}, scratch},
          {0}, scratch};
}

Case rmsNorm(plan::DType dtype) {
  constexpr uint64_t rows = 150, n = 140;
  plan::DType wide = statisticType(dtype);
  uint64_t scratch = workspace::rmsNormBackward(rows, n, true, dtypeBytes(wide));
  return {{"rms_norm_backward",
           {random(dtype, {rows, n}, 1), random(dtype, {rows, n}, 2), random(wide, {rows}, 3, 0.5, 2),
            random(dtype, {n}, 4)},
           {{dtype, {rows, n}}, {dtype, {n}}}, {}, scratch},
          {1}, scratch};
}

Case layerNorm(plan::DType dtype) {
  constexpr uint64_t rows = 150, n = 140;
  plan::DType wide = statisticType(dtype);
  uint64_t scratch = workspace::layerNormBackward(rows, n, true, dtypeBytes(wide));
  return {{"layer_norm_backward",
           {random(dtype, {rows, n}, 1), random(dtype, {rows, n}, 2), random(wide, {rows}, 3), random(wide, {rows}, 4, 0.5, 2),
            random(dtype, {n}, 5)},
           {{dtype, {rows, n}}, {dtype, {n}}, {dtype, {n}}}, {}, scratch},
          {1, 2}, scratch};
}

Case sum(plan::DType dtype, std::vector<int64_t> axes, Shape result) {
  return {{"reduce_sum", {random(dtype, {7, 90, 140}, 1)}, {{dtype, std::move(result)}},
           {attribute("axes", std::move(axes)), attribute("keepdims", false)}},
          {0}, 0};
}

std::vector<Case> casesOf(plan::DType dtype) {
  std::vector<Case> cases = {
      linearCrossEntropy(dtype, true), linearCrossEntropy(dtype, false), linearCrossEntropy(dtype, true, false),
      embedding(dtype), sum(dtype, {0, 1}, {140}), sum(dtype, {1, 2}, {7}), sum(dtype, {0, 1, 2}, {})};
  if (dtype != plan::F16) // which products and norms do not take
    for (Case more : {weightGradient(dtype, false), weightGradient(dtype, true), groupedWeightGradient(dtype, false),
                      groupedWeightGradient(dtype, true), gatedMlp(dtype), rmsNorm(dtype), layerNorm(dtype)})
      if (hasKernel(more.narrow.kernel))
        cases.push_back(more);
  return cases;
}

TEST(RuntimeWide, RoundedTheyAreTheBitsOfNarrowSums) {
  for (plan::DType dtype : {BF16, plan::F16})
    for (const Case &c : casesOf(dtype)) {
      SCOPED_TRACE(std::string(dtypeName(dtype)) + " " + c.narrow.kernel);
      Outcome narrow = run(c.narrow);
      ASSERT_TRUE(narrow.status.ok()) << narrow.status.message();
      for (unsigned threads : {1u, 3u}) {
        Outcome wide = run(c.wide(), threads);
        ASSERT_TRUE(wide.status.ok()) << wide.status.message();
        for (size_t i = 0; i < narrow.outputs.size(); ++i) {
          if (!c.sums.count(i)) {
            EXPECT_EQ(wide.bytes[i], narrow.bytes[i]) << "result " << i;
            continue;
          }
          size_t unrounded = 0, differ = 0;
          for (size_t j = 0; j < wide.outputs[i].values.size(); ++j) {
            double value = wide.outputs[i].values[j];
            unrounded += rounded(dtype, value) != value;
            differ += !(rounded(dtype, value) == narrow.outputs[i].values[j]);
          }
          EXPECT_EQ(differ, 0u) << "result " << i;
          EXPECT_GT(unrounded, wide.outputs[i].values.size() / 2) << "result " << i << " has been rounded";
        }
      }
    }
}

TEST(RuntimeWide, NothingChangesForWideElements) {
  for (plan::DType dtype : {plan::F32, plan::F64})
    for (const Case &c : casesOf(dtype)) {
      SCOPED_TRACE(std::string(dtypeName(dtype)) + " " + c.narrow.kernel);
      EXPECT_EQ(c.narrow.workspace, c.wideWorkspace);
      Outcome narrow = run(c.narrow), wide = run(c.wide());
      ASSERT_TRUE(narrow.status.ok() && wide.status.ok()) << narrow.status.message() << wide.status.message();
      EXPECT_EQ(wide.bytes, narrow.bytes);
    }
}

TEST(RuntimeWide, ScratchIsWhatTheFormulasSayAndNoMore) {
  for (const Case &c : casesOf(BF16)) {
    SCOPED_TRACE(c.narrow.kernel);
    EXPECT_LE(c.wideWorkspace, c.narrow.workspace);
    EXPECT_TRUE(verified(c.wide()));
    if (Call call = c.wide(); call.workspace) {
      --call.workspace;
      EXPECT_FALSE(verified(call));
    }
  }
  // A product that is added up in place needs its panels alone: 32 slots, less a tile of 256 x 272 fp32 each.
  EXPECT_EQ(workspace::product(4096, 530, 300, 2) - workspace::product(4096, 530, 300, 2, false), 32u * 256 * 272 * 4);
}

TEST(RuntimeWide, TypesAreThoseThatTheAttributeSays) {
  for (const Case &c : casesOf(BF16))
    for (size_t i : c.sums) {
      SCOPED_TRACE(c.narrow.kernel + " result " + std::to_string(i));
      Call call = c.wide();
      call.outputs[i].dtype = BF16; // wide, but rounded
      EXPECT_FALSE(verified(call));
      call = c.narrow;
      call.workspace = std::max(call.workspace, c.wideWorkspace);
      call.outputs[i].dtype = plan::F32; // not rounded, but not wide
      EXPECT_FALSE(verified(call));
    }
}

// The kernels that know the attribute are those with a case above.
TEST(RuntimeWide, EveryKernelThatKnowsItIsHere) {
  std::set<std::string> tested, knowing;
  for (const Case &c : casesOf(BF16))
    tested.insert(c.narrow.kernel);
  for (auto &[name, call] : samples()) {
    call.attributes.push_back(attribute("wide", true));
    if (verified(call) && hasKernel(call.kernel))
      knowing.insert(name);
  }
  EXPECT_EQ(knowing, tested);
}

} // namespace
} // namespace amc::rt::test
