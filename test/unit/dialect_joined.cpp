// What markJoinedRecomputation foresees of steps, and what that costs.
#include "compiler/analysis/CostModel.h"
#include "compiler/analysis/JoinedRecomputation.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

constexpr uint64_t tensorBytes = 8 * 16 * 4;

class Joined : public testing::Test {
protected:
  // Sources x, g, u, v and the scalar c; T stands for their type, P for the backward phase's attribute.
  void mark(std::string body) {
    auto replace = [&](const std::string &what, const std::string &by) {
      for (size_t at = 0; (at = body.find(what, at)) != std::string::npos; at += by.size())
        body.replace(at, what.size(), by);
    };
    replace("T2", "(T, T) -> T");
    replace("T1", "(T) -> T");
    replace("TC", "(T, tensor<f32>) -> T");
    replace("P", "{train.phase = \"backward\"}");
    replace("T", "tensor<8x16xf32>");
    std::string text = "train.step @step {\n%c = train.input {name = \"c\"} : tensor<f32>\n";
    for (const char *name : {"x", "g", "u", "v"})
      text += std::string("%") + name + " = train.input {name = \"" + name + "\"} : tensor<8x16xf32>\n";
    context.loadDialect<TrainDialect>();
    module = parseSourceString<ModuleOp>(text + "%w = train.input {name = \"w\"} : tensor<16x16xf32>\n" + body + "}\n", &context);
    ASSERT_TRUE(module) << text << body;
    FailureOr<GatheredStep> gathered = gatherStep(*module->getOps<StepOp>().begin());
    ASSERT_TRUE(succeeded(gathered));
    step = std::move(*gathered);
    markJoinedRecomputation(step);
  }
  // The n-th operation called so.
  const GraphOp &op(const std::string &name, unsigned n = 0) {
    for (const GraphOp &op : step.graph.ops)
      if (step.graph.names[op.name] == "train." + name && n-- == 0)
        return op;
    ADD_FAILURE() << "there is no " << name;
    return step.graph.ops.front();
  }
  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  GatheredStep step;
};

// x sigmoid(c x): the sigmoid and what it is made of join its gradient; the product that a weight's gradient reads does not.
TEST_F(Joined, ChainsThatOneKernelReads) {
  mark(R"(
    %a = train.mul %x, %c : TC
    %s = train.sigmoid %a : T1
    %y = train.mul %x, %s : T2
    %z = train.linear %y, %w : (T, tensor<16x16xf32>) -> T
    %dw = train.linear_weight_grad %y, %g P : (T, T) -> tensor<16x16xf32>
    %d = train.mul %g, %s P : T2
    %e = train.mul %g, %x P : T2
    %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32, train.phase = "backward"} : () -> tensor<f32>
    %f = train.sub %one, %s P : (tensor<f32>, T) -> T
    %h = train.mul %e, %f P : T2
    %i = train.mul %h, %c P : TC
    %j = train.add %d, %i P : T2
  )");
  EXPECT_TRUE(op("mul", 0).joinsReaders);
  EXPECT_TRUE(op("sigmoid").joinsReaders);
  EXPECT_FALSE(op("mul", 1).joinsReaders);
  EXPECT_FALSE(op("linear").joinsReaders);
  EXPECT_EQ(op("mul", 0).joinedBytes, 0u); // x and c are read there anyway
  EXPECT_EQ(op("sigmoid").joinedBytes, 0u); // its operand instead of itself
  DeviceModel device = *deviceModel("cpu", "fp32");
  EXPECT_LT(100 * recomputeCost(op("sigmoid"), device), opCost(op("sigmoid"), device));
  EXPECT_EQ(recomputeCost(op("mul", 1), device), opCost(op("mul", 1), device));
}

// A sum of two tensors that nothing else reads costs one tensor's bytes.
TEST_F(Joined, OperandsAreReadInstead) {
  mark(R"(
    %a = train.add %x, %u : T2
    %z = train.exp %a : T1
    %d = train.mul %g, %a P : T2
  )");
  EXPECT_TRUE(op("add").joinsReaders);
  EXPECT_EQ(op("add").joinedBytes, tensorBytes);
  EXPECT_FALSE(op("exp").joinsReaders); // nothing of backward reads it
  // One tensor more at 20 GB/s; without a tensor more a picosecond, the least; never more than a kernel of its own.
  DeviceModel cpu = *deviceModel("cpu", "fp32");
  GraphOp joined = op("add");
  EXPECT_EQ(recomputeCost(joined, cpu), tensorBytes * 50);
  joined.joinedBytes = joined.flops = 0;
  EXPECT_EQ(recomputeCost(joined, cpu), 1u);
  joined.joinedBytes = uint64_t(1) << 40;
  EXPECT_EQ(recomputeCost(joined, cpu), opCost(joined, cpu));
}

// A tensor of one number is not read at all.
TEST_F(Joined, ConstantsAreNotRead) {
  mark(R"(
    %h = train.full {element = f32, shape = array<i64: 8, 16>, value = 0.5 : f64} : () -> tensor<8x16xf32>
    %a = train.mul %x, %h : T2
    %z = train.exp %a : T1
    %d = train.mul %g, %a P : T2
  )");
  EXPECT_TRUE(op("mul").joinsReaders);
  EXPECT_EQ(op("mul").joinedBytes, 0u);
}

TEST_F(Joined, NotWhereTwoKernelsRead) {
  mark(R"(
    %a = train.exp %x : T1
    %d = train.mul %g, %a P : T2
    %z = train.linear %d, %w P : (T, tensor<16x16xf32>) -> T
    %e = train.mul %z, %a P : T2
  )");
  EXPECT_FALSE(op("exp").joinsReaders);
}

// Neighbours that only a number relates are two kernels.
TEST_F(Joined, ANumberRelatesNothing) {
  mark(R"(
    %a = train.exp %x : T1
    %d = train.mul %a, %c P : TC
    %e = train.mul %u, %c P : TC
    %f = train.mul %e, %a P : T2
  )");
  EXPECT_FALSE(op("exp").joinsReaders);
}

// A row's statistic is read by rows, so its operation is a kernel of its own.
TEST_F(Joined, StatisticsOfRowsDoNotJoin) {
  mark(R"(
    %a = train.exp %x : T1
    %y, %r = train.rms_norm %u {epsilon = 1.0e-3 : f64} : (T) -> (T, tensor<8xf32>)
    %d = train.rms_norm_backward %g, %u, %r {train.phase = "backward"} : (T, T, tensor<8xf32>) -> T
    %e = train.mul %d, %a P : T2
  )");
  EXPECT_FALSE(op("rms_norm").joinsReaders);
  EXPECT_TRUE(op("exp").joinsReaders);
}

} // namespace
