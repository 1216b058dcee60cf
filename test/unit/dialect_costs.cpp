// What operations say about their cost: FLOPs, class for checkpointing, workspace, buffers that
// results may take over.
#include "compiler/analysis/CostModel.h"
#include "compiler/dialect/Train.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "runtime/plan/Workspace.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace amc::train;

namespace {

/// A parsed step; the operation under test is the last one.
class Costs : public testing::Test {
protected:
  ComputeOpInterface parse(const std::string &body) {
    context.loadDialect<TrainDialect>();
    module = parseSourceString<ModuleOp>("train.step @step {\n" + body + "\n}", &context);
    if (!module)
      return nullptr;
    auto step = *module->getOps<StepOp>().begin();
    return dyn_cast<ComputeOpInterface>(step.getBody().front().back());
  }
  ComputeOpInterface attention(int64_t queries, int64_t keys, const std::string &attributes) {
    auto type = [](int64_t heads, int64_t length, int64_t width) {
      return "tensor<2x" + std::to_string(heads) + "x" + std::to_string(length) + "x" +
             std::to_string(width) + "xf32>";
    };
    std::string q = type(4, queries, 6), k = type(2, keys, 6), v = type(2, keys, 7),
                y = type(4, queries, 7);
    return parse("%q = train.input {name = \"q\"} : " + q + "\n%k = train.input {name = \"k\"} : " +
                 k + "\n%v = train.input {name = \"v\"} : " + v +
                 "\n%y:2 = train.attention %q, %k, %v {scale = 1.0 : f64, " + attributes +
                 "operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (" + q + ", " + k + ", " + v +
                 ") -> (" + y + ", tensor<2x4x" + std::to_string(queries) + "xf32>)");
  }
  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

TEST_F(Costs, ProductsCountTwoForAMultiplyAdd) {
  ComputeOpInterface op = parse(R"(
    %a = train.input {name = "a"} : tensor<5x3x2xf32>
    %b = train.input {name = "b"} : tensor<1x3x4xf32>
    %y = train.matmul %a, %b {transpose_a} : (tensor<5x3x2xf32>, tensor<1x3x4xf32>) -> tensor<5x2x4xf32>)");
  ASSERT_TRUE(op);
  EXPECT_EQ(op.getFlops(), 2u * 5 * 2 * 4 * 3);
  EXPECT_EQ(op.getSaveClass(), SaveClass::Save); // a product of two activations
}

TEST_F(Costs, ProductWithAWeightAlternates) {
  ComputeOpInterface op = parse(R"(
    %a = train.input {name = "a"} : tensor<2x3xf32>
    %w = train.parameter {name = "w", trainable} : tensor<4x3xf32>
    %t = train.transpose %w {permutation = array<i64: 1, 0>} : (tensor<4x3xf32>) -> tensor<3x4xf32>
    %y = train.matmul %a, %t : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>)");
  ASSERT_TRUE(op);
  EXPECT_EQ(op.getSaveClass(), SaveClass::Alternate);
}

TEST_F(Costs, LinearIsSavedWithABiasOnly) {
  std::string inputs = R"(
    %x = train.input {name = "x"} : tensor<2x3xf32>
    %w = train.parameter {name = "w", trainable} : tensor<3x4xf32>
    %b = train.parameter {name = "b", trainable} : tensor<4xf32>
)";
  ComputeOpInterface plain = parse(
      inputs + "%y = train.linear %x, %w : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain.getFlops(), 2u * 2 * 3 * 4);
  EXPECT_EQ(plain.getSaveClass(), SaveClass::Alternate);
  ComputeOpInterface biased = parse(inputs + "%y = train.linear %x, %w, %b : (tensor<2x3xf32>, "
                                             "tensor<3x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>");
  ASSERT_TRUE(biased);
  EXPECT_EQ(biased.getFlops(), 2u * 2 * 3 * 4 + 2 * 4);
  EXPECT_EQ(biased.getSaveClass(), SaveClass::Save);
}

TEST_F(Costs, GroupedProductsTakeWorkspace) {
  ComputeOpInterface op = parse(R"(
    %x = train.input {name = "x"} : tensor<6x3xf32>
    %w = train.parameter {name = "w", trainable} : tensor<8x4x3xf32>
    %ids = train.input {name = "ids"} : tensor<6xi64>
    %y = train.grouped_matmul %x, %w, %ids {transpose_w} : (tensor<6x3xf32>, tensor<8x4x3xf32>, tensor<6xi64>) -> tensor<6x4xf32>)");
  ASSERT_TRUE(op);
  EXPECT_EQ(op.getFlops(), 2u * 6 * 3 * 4);
  EXPECT_EQ(op.getSaveClass(), SaveClass::Alternate);
  EXPECT_EQ(op.getWorkspaceBytes(), amc::rt::workspace::groupedMatmul(6, 3, 4, 8, 4));
}

TEST_F(Costs, NormsBackwardTakesWorkspaceForItsWeight) {
  ComputeOpInterface op = parse(R"(
    %x = train.input {name = "x"} : tensor<2x100x3xf32>
    %rstd = train.input {name = "rstd"} : tensor<2x100xf32>
    %w = train.input {name = "w"} : tensor<3xf32>
    %dx, %dw = train.rms_norm_backward %x, %x, %rstd, %w : (tensor<2x100x3xf32>, tensor<2x100x3xf32>, tensor<2x100xf32>, tensor<3xf32>) -> (tensor<2x100x3xf32>, tensor<3xf32>))");
  ASSERT_TRUE(op);
  EXPECT_EQ(op.getWorkspaceBytes(), amc::rt::workspace::rmsNormBackward(200, 3, true, 4));
  EXPECT_GT(op.getWorkspaceBytes(), 0u);
  EXPECT_EQ(op.getSaveClass(), SaveClass::Recompute);
}

TEST_F(Costs, CrossEntropyBackwardMayWriteOverTheLogits) {
  ComputeOpInterface op = parse(R"(
    %d = train.input {name = "d"} : tensor<f32>
    %x = train.input {name = "x"} : tensor<4x5xf32>
    %l = train.input {name = "l"} : tensor<4xi64>
    %lse = train.input {name = "lse"} : tensor<4xf32>
    %y = train.cross_entropy_backward %d, %x, %l, %lse : (tensor<f32>, tensor<4x5xf32>, tensor<4xi64>, tensor<4xf32>) -> tensor<4x5xf32>)");
  ASSERT_TRUE(op);
  EXPECT_EQ(op.getReusableOperands(), SmallVector<unsigned>{1});
}

// The logits are computed once in forward and again in backward, where each gradient is one more product. What is not
// asked for costs neither FLOPs nor workspace. The numbers of bytes are those of the table's shape, by hand.
TEST_F(Costs, LinearCrossEntropyHasNoLogits) {
  const std::string sources = R"(
    %d = train.input {name = "d"} : tensor<f32>
    %x = train.input {name = "x"} : tensor<8x2048x2048xbf16>
    %w = train.input {name = "w"} : tensor<128256x2048xbf16>
    %l = train.input {name = "l"} : tensor<8x2048xi64>
    %lse = train.input {name = "lse"} : tensor<8x2048xf32>)";
  const uint64_t product = 2ull * 16384 * 128256 * 2048, logits = 16384ull * 128256, mib = 1 << 20;
  ComputeOpInterface forward = parse(sources + R"(
    %y:2 = train.linear_cross_entropy %x, %w, %l {transpose_w, tokens_in_flight = 16 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
      : (tensor<8x2048x2048xbf16>, tensor<128256x2048xbf16>, tensor<8x2048xi64>) -> (tensor<f32>, tensor<8x2048xf32>))");
  ASSERT_TRUE(forward);
  EXPECT_EQ(forward.getFlops(), product + 4 * logits);
  EXPECT_EQ(forward.getSaveClass(), SaveClass::Save);
  // Losses of 16,384 rows; 16 times 256 x 512 logits, 256 states of 32 bytes, 256 rows and 512 classes of 2,048 in fp32.
  EXPECT_EQ(forward.getWorkspaceBytes(), 16384 * 4 + 16 * (mib / 2 + 256 * 32 + 2 * mib + 4 * mib));
  auto backward = [&](const std::string &segments, const std::string &results) {
    return parse(sources + R"(
    %y:)" + std::to_string(llvm::count(segments, '1')) + R"( = train.linear_cross_entropy_backward %d, %x, %w, %l, %lse {transpose_w,
      operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: )" + segments + R"(>}
      : (tensor<f32>, tensor<8x2048x2048xbf16>, tensor<128256x2048xbf16>, tensor<8x2048xi64>, tensor<8x2048xf32>) -> ()" + results + ")");
  };
  const std::string dx = "tensor<8x2048x2048xbf16>", dw = "tensor<128256x2048xbf16>";
  ComputeOpInterface both = backward("1, 1, 0", dx + ", " + dw);
  ASSERT_TRUE(both);
  EXPECT_EQ(both.getFlops(), 3 * product + 5 * logits);
  // 16 times 256 x 512 logits and 256 rows of 2,048; dhidden as a whole; 512 classes of the weight and of its gradient.
  EXPECT_EQ(both.getWorkspaceBytes(), 16 * (mib / 2 + 2 * mib) + 128 * mib + 4 * mib + 4 * mib);
  ComputeOpInterface frozenBody = backward("0, 1, 0", dw);
  ASSERT_TRUE(frozenBody);
  EXPECT_EQ(frozenBody.getFlops(), 2 * product + 5 * logits);
  EXPECT_EQ(frozenBody.getWorkspaceBytes(), 16 * (mib / 2 + 2 * mib) + 4 * mib + 4 * mib);
}

// With fewer tiles in flight the weight is read by more groups, and what is done tile by tile takes longer once there are
// fewer than 16 at a time.
TEST_F(Costs, LinearCrossEntropyCostsMoreInSmallerGroups) {
  auto parts = [&](const std::string &tokens, int tiles, bool backward) {
    const std::string x = "tensor<" + tokens + "x2048xf32>", w = "tensor<128256x2048xf32>", l = "tensor<" + tokens;
    std::string inFlight = "{transpose_w, tokens_in_flight = " + std::to_string(tiles) + " : i64, ";
    std::string sources = "%d = train.input {name = \"d\"} : tensor<f32>\n%x = train.input {name = \"x\"} : " + x +
                          "\n%w = train.input {name = \"w\"} : " + w + "\n%l = train.input {name = \"l\"} : " + l +
                          "xi64>\n%lse = train.input {name = \"lse\"} : " + l + "xf32>\n";
    ComputeOpInterface op =
        backward ? parse(sources + "%y:2 = train.linear_cross_entropy_backward %d, %x, %w, %l, %lse " + inFlight +
                         "operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>} : "
                         "(tensor<f32>, " + x + ", " + w + ", " + l + "xi64>, " + l + "xf32>) -> (" + x + ", " + w + ")")
                 : parse(sources + "%y:2 = train.linear_cross_entropy %x, %w, %l " + inFlight +
                         "operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>} : (" + x + ", " + w + ", " + l +
                         "xi64>) -> (tensor<f32>, " + l + "xf32>)");
    EXPECT_TRUE(op);
    SmallVector<Work> result = op.getParts();
    EXPECT_EQ(op.getBytesMoved(), bytesMoved(result));
    return result;
  };
  const uint64_t weight = 128256ull * 2048 * 4, hidden = 16384ull * 2048 * 4, row = 16384 * 4;
  // 64 tiles of 256 tokens.
  for (auto [tiles, groups, percent] : {std::tuple(64, 1u, 100u), {16, 4u, 100u}, {8, 8u, 200u}, {3, 22u, 534u}, {1, 64u, 1600u}}) {
    SmallVector<Work> forward = parts("16384", tiles, false);
    ASSERT_EQ(forward.size(), 1u);
    EXPECT_EQ(forward[0].bytes, hidden + groups * weight + 2 * row + row + 4) << tiles;
    EXPECT_EQ(forward[0].percent, percent);
    // Logits and dhidden; dweight. 251 tiles of the vocabulary.
    SmallVector<Work> backward = parts("16384", tiles, true);
    ASSERT_EQ(backward.size(), 2u);
    EXPECT_EQ(backward[0].percent, percent);
    EXPECT_EQ(backward[1].percent, 100u);
    EXPECT_EQ(backward[0].bytes, 251 * 3 * hidden + groups * weight);
    EXPECT_EQ(backward[1].bytes, 251 * hidden + groups * 2 * weight);
  }
  // Six tiles of 16 tokens: there is no room for more.
  EXPECT_EQ(parts("96", 16, false)[0].percent, 100u);
  EXPECT_EQ(parts("96", 3, false)[0].percent, 200u);
}

// gated_mlp costs what it stands for; its backward also computes gate and up again. No part is hidden behind another.
TEST_F(Costs, GatedMlpCostsItsParts) {
  for (int64_t rows : {int64_t(512), int64_t(4096)}) {
    const std::string x = "tensor<" + std::to_string(rows) + "x64xf32>", w = "tensor<64x256xf32>", v = "tensor<256x64xf32>",
                      h = "tensor<" + std::to_string(rows) + "x256xf32>";
    const std::string sources = "%x = train.input {name = \"x\"} : " + x + "\n%g = train.input {name = \"g\"} : " + w +
                                "\n%v = train.input {name = \"v\"} : " + v + "\n%h = train.input {name = \"h\"} : " + h + "\n";
    amc::DeviceModel device = *amc::deviceModel("cpu", "fp32");
    auto cost = [&](const std::string &text) {
      ComputeOpInterface op = parse(sources + text);
      EXPECT_TRUE(op) << text;
      amc::GraphOp node;
      node.flops = op.getFlops();
      node.bytesMoved = op.getBytesMoved();
      for (const Work &part : op.getParts())
        node.parts.push_back({part.flops, part.bytes, part.times, part.percent});
      return amc::opCost(node, device);
    };
    uint64_t up = cost("%y = train.linear %x, %g : (" + x + ", " + w + ") -> " + h),
             down = cost("%y = train.linear %h, %v : (" + h + ", " + v + ") -> " + x),
             act = cost("%y = train.gated_activation %h, %h {activation = \"silu\"} : (" + h + ", " + h + ") -> " + h),
             whole = cost("%y = train.gated_mlp %x, %g, %g, %v {activation = \"silu\"} : (" + x + ", " + w + ", " + w +
                          ", " + v + ") -> " + x);
    if (rows <= 1024)
      EXPECT_NEAR(double(whole), double(2 * up + act + down), 4);
    else
      EXPECT_GT(whole, 2 * up + act + down); // weights are read and kernels started once a tile
    uint64_t backward = cost("%y:4 = train.gated_mlp_backward %x, %x, %g, %g, %v {activation = \"silu\"} : (" + x + ", " + x + ", " +
                             w + ", " + w + ", " + v + ") -> (" + x + ", " + w + ", " + w + ", " + v + ")");
    EXPECT_GT(backward, whole + 2 * up);
  }
}

// Pairs inside the band, counted one by one, for every band around sizes that are equal, wide, tall
// and empty.
TEST_F(Costs, AttentionCountsTheBandOnly) {
  for (auto [queries, keys] :
       {std::pair(5, 5), std::pair(3, 7), std::pair(7, 3), std::pair(0, 4), std::pair(1, 1)})
    for (int left = -3; left <= 8; ++left)
      for (int right = -3; right <= 8; ++right) {
        uint64_t pairs = 0;
        for (int i = 0; i < queries; ++i)
          for (int j = 0; j < keys; ++j)
            pairs += (right == 8 || j - i <= right) && (left == 8 || i - j <= left);
        std::string attributes; // 8 stands for unlimited
        if (left != 8)
          attributes += "left = " + std::to_string(left) + " : i64, ";
        if (right != 8)
          attributes += "right = " + std::to_string(right) + " : i64, ";
        ComputeOpInterface op = attention(queries, keys, attributes);
        ASSERT_TRUE(op);
        EXPECT_EQ(op.getFlops(), 2u * (6 + 7) * 2 * 4 * pairs)
            << queries << " x " << keys << " left " << left << " right " << right;
      }
}

// A member of a group counts the mean of all; with zigzag and a causal mask that is what each has.
TEST_F(Costs, AttentionOfAMemberCountsItsShare) {
  for (int64_t members : {2, 4}) {
    const int64_t queries = 6, keys = queries * members, chunk = queries / 2;
    std::string group = "group = \"cp\", members = " + std::to_string(members) + " : i64, ";
    EXPECT_EQ(attention(queries, keys, group).getFlops(), 2u * 13 * 8 * static_cast<uint64_t>(queries * keys));
    EXPECT_EQ(attention(queries, keys + 1, group).getFlops(), 2u * 13 * 8 * static_cast<uint64_t>(queries * (keys + 1)));
    for (int64_t member = 0; member < members; ++member) {
      int64_t pairs = 0;
      for (int64_t c : {member, 2 * members - 1 - member})
        for (int64_t i = 0; i < chunk; ++i)
          pairs += c * chunk + i + 1;
      EXPECT_EQ(attention(queries, keys, group + "zigzag, right = 0 : i64, ").getFlops(),
                2u * 13 * 8 * static_cast<uint64_t>(pairs));
    }
    uint64_t all = attention(keys, keys, "left = 3 : i64, right = 0 : i64, ").getFlops() / (2 * 13 * 8);
    EXPECT_EQ(attention(queries, keys, group + "left = 3 : i64, right = 0 : i64, ").getFlops(),
              2u * 13 * 8 * (all / static_cast<uint64_t>(members)));
  }
  std::string most = "group = \"cp\", members = 16777216 : i64, ";
  EXPECT_GT(attention(int64_t(1) << 40, int64_t(1) << 40, most + "right = 0 : i64, ").getFlops(), 0u);
}

// In a ring a member has as many keys as queries, and counts as it does with all keys at hand. It sends its keys and
// values on in every step, and says how many there are: heads of 6 and 7 in fp32.
TEST_F(Costs, AttentionInARing) {
  const int64_t rows = 6, members = 4;
  std::string group = "group = \"cp\", members = 4 : i64, ";
  for (std::string band : {"", "right = 0 : i64, ", "zigzag, right = 0 : i64, ", "left = 3 : i64, right = 0 : i64, "}) {
    ComputeOpInterface ring = attention(rows, rows, group + "ring, " + band);
    ASSERT_TRUE(ring);
    auto sends = cast<CollectiveOpInterface>(ring.getOperation());
    EXPECT_EQ(sends.getGroupName(), "cp");
    uint64_t steps = band.find("left") == band.npos ? 3 : 1; // three to the left are one's own or the neighbour's
    EXPECT_EQ(sends.getSteps(), steps);
    auto of = [&](unsigned operand) {
      return byteSize(cast<RankedTensorType>(ring->getOperand(operand).getType()));
    };
    EXPECT_EQ(sends.getBytesSent(), steps * (of(1) + of(2)));
    EXPECT_EQ(ring.getSaveClass(), SaveClass::Save);
    EXPECT_GT(ring.getWorkspaceBytes(), of(1) + of(2));
    uint64_t flops = ring.getFlops(); // what is parsed next takes its place
    ComputeOpInterface whole = attention(rows, rows * members, group + band);
    EXPECT_EQ(whole.getFlops(), flops);
    EXPECT_EQ(cast<CollectiveOpInterface>(whole.getOperation()).getGroupName(), "");
  }
}

// Dropout's mask costs 22 operations for each pair inside the band, as it does for each element of dropout, and has no
// workspace: 15 pairs below the diagonal of 5 x 5. Backward draws it once more and multiplies twice.
TEST_F(Costs, DropoutCountsTheDrawing) {
  const std::string sources = R"(
    %q = train.input {name = "q"} : tensor<2x4x5x6xf32>
    %lse = train.input {name = "lse"} : tensor<2x4x5xf32>
    %n = train.input {name = "n", role = "seed"} : tensor<i64>
    %d = train.dropout %q, %n, %n, %n {probability = 0.1 : f64, stream = 0 : i64} : (tensor<2x4x5x6xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x4x5x6xf32>)";
  const std::string attributes =
      "{scale = 1.0 : f64, right = 0 : i64, dropout = 0.1 : f64, stream = 0 : i64, operandSegmentSizes = array<i32: ";
  ComputeOpInterface dropout = parse(sources);
  ASSERT_TRUE(dropout);
  EXPECT_EQ(dropout.getFlops(), 22u * 2 * 4 * 5 * 6);
  ComputeOpInterface forward = parse(sources + "\n%y:2 = train.attention %q, %q, %q, %n, %n, %n " + attributes + R"(1, 1, 1, 0, 0, 1, 1, 1>}
      : (tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<i64>, tensor<i64>, tensor<i64>)
      -> (tensor<2x4x5x6xf32>, tensor<2x4x5xf32>))");
  ASSERT_TRUE(forward);
  EXPECT_EQ(forward.getFlops(), (2u * 12 + 22) * 2 * 4 * 15);
  EXPECT_EQ(forward.getSaveClass(), SaveClass::Save);
  EXPECT_EQ(forward.getKernelName(), "attention_dropout");
  EXPECT_EQ(forward.getWorkspaceBytes(), amc::rt::workspace::attention(2, 4, 5, 6, 6, 4, 5));
  ComputeOpInterface backward = parse(sources + "\n%g:3 = train.attention_backward %q, %q, %q, %q, %q, %lse, %n, %n, %n " + attributes + R"(1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1>}
      : (tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5xf32>, tensor<i64>, tensor<i64>, tensor<i64>)
      -> (tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>))");
  ASSERT_TRUE(backward);
  EXPECT_EQ(backward.getFlops(), (10u * 6 + 24) * 2 * 4 * 15);
}

// Limits at the ends of 64 bits neither overflow nor crash.
TEST_F(Costs, AttentionWithHostileLimits) {
  std::string least = std::to_string(INT64_MIN), most = std::to_string(INT64_MAX);
  EXPECT_EQ(attention(5, 5, "left = " + most + " : i64, right = " + most + " : i64, ").getFlops(),
            2u * 13 * 8 * 25);
  EXPECT_EQ(attention(5, 5, "left = " + least + " : i64, right = " + least + " : i64, ").getFlops(),
            0u);
  ComputeOpInterface op = attention(5, 5, "");
  EXPECT_EQ(op.getSaveClass(), SaveClass::Save);
  EXPECT_EQ(op.getWorkspaceBytes(), amc::rt::workspace::attention(2, 4, 5, 6, 7, 4, 5));
}

} // namespace
