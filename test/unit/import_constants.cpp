// Constant values: what the importer's arguments and the raise patterns' numbers are read with.
#include "compiler/analysis/ConstantValue.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>

using namespace mlir;

namespace {

class Constants : public testing::Test {
protected:
  Constants() { context.loadDialect<amc::train::TrainDialect>(); }

  /// Parses the body of a step.
  void parse(const std::string &body) {
    std::string folder = testing::TempDir();
    module = parseSourceString<ModuleOp>("module attributes {train.model_directory = \"" + folder +
                                             "\"} { train.step @step {\n" + body + "\n} }",
                                         &context);
    ASSERT_TRUE(module);
  }
  /// The value that train.output names.
  Value output(StringRef name) {
    Value found;
    module->walk([&](amc::train::OutputOp op) {
      if (op.getName() == name)
        found = op.getValue();
    });
    return found;
  }

  MLIRContext context{MLIRContext::Threading::DISABLED};
  OwningOpRef<ModuleOp> module;
};

// 3 + 4 = 7 per element, of which a slice takes the last two.
TEST_F(Constants, FollowsOperationsToTheirConstants) {
  parse(R"(
    %a = train.constant {value = dense<[1, 2, 3]> : tensor<3xi64>} : tensor<3xi64>
    %b = train.full {value = 4.0, shape = array<i64: 3>, element = i64} : () -> tensor<3xi64>
    %c = train.add %a, %b : (tensor<3xi64>, tensor<3xi64>) -> tensor<3xi64>
    %d = train.slice %c {starts = array<i64: 1>, sizes = array<i64: 2>, steps = array<i64: 1>} : (tensor<3xi64>) -> tensor<2xi64>
    train.output %d {name = "d"} : tensor<2xi64>)");
  auto value = amc::constantValue(output("d"));
  ASSERT_TRUE(value.has_value());
  EXPECT_EQ(value->ints, (std::vector<int64_t>{6, 7}));
}

TEST_F(Constants, InputsAndWhatFollowsFromThemAreNot) {
  parse(R"(
    %x = train.input {name = "x"} : tensor<2xf32>
    %two = train.constant {value = dense<2.0> : tensor<f32>} : tensor<f32>
    %y = train.mul %x, %two : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
    train.output %y {name = "y"} : tensor<2xf32>
    train.output %two {name = "two"} : tensor<f32>)");
  amc::ConstantEvaluator evaluator;
  EXPECT_EQ(evaluator.get(output("y")), nullptr);
  EXPECT_EQ(evaluator.get(output("y")), nullptr) << "asked again";
  EXPECT_EQ(evaluator.scalar(output("two")), 2.0);
}

// A sum of 101 elements is one element, but its operand is larger than asked for.
TEST_F(Constants, NothingOnTheWayIsLargerThanTheLimit) {
  parse(R"(
    %i = train.iota {start = 0.0, step = 1.0, axis = 0 : i64, shape = array<i64: 101>, element = f32} : () -> tensor<101xf32>
    %s = train.reduce_sum %i {axes = array<i64: 0>, keepdims = false} : (tensor<101xf32>) -> tensor<f32>
    train.output %s {name = "s"} : tensor<f32>)");
  EXPECT_FALSE(amc::constantValue(output("s"), 100).has_value());
  auto value = amc::constantValue(output("s"), 101);
  ASSERT_TRUE(value.has_value());
  EXPECT_EQ(value->floats, std::vector<double>{5050});
}

// 0x3f80 is one in bfloat16, 0xc000 minus two.
TEST_F(Constants, ReadsParametersThatAreNotTrained) {
  std::string file = "amc-constants.bin", path = testing::TempDir() + "/" + file;
  const char bytes[] = {0, 0, '\x80', '\x3f', '\x00', '\xc0'};
  std::ofstream(path, std::ios::binary).write(bytes, sizeof bytes);
  parse("%a = train.parameter {name = \"a\", source = #train.file<\"" + file +
        R"(", 2, 4>, source_dtype = "bf16"} : tensor<2xf32>
    %b = train.parameter {name = "b", trainable, source = #train.file<")" +
        file + R"(", 2, 4>, source_dtype = "bf16"} : tensor<2xf32>
    %c = train.parameter {name = "c", source = #train.file<"amc-not-there.bin", 0, 8>} : tensor<2xf32>
    %d = train.parameter {name = "d", source = #train.file<")" +
        file + R"(", 4, 8>} : tensor<2xf32>
    train.output %a {name = "a"} : tensor<2xf32>
    train.output %b {name = "trained"} : tensor<2xf32>
    train.output %c {name = "absent"} : tensor<2xf32>
    train.output %d {name = "beyond"} : tensor<2xf32>)");
  auto value = amc::constantValue(output("a"));
  std::remove(path.c_str());
  ASSERT_TRUE(value.has_value());
  EXPECT_EQ(value->floats, (std::vector<double>{1, -2}));
  for (const char *name : {"trained", "absent", "beyond"})
    EXPECT_FALSE(amc::constantValue(output(name)).has_value()) << name;
}

// What may be trained yet is not constant for whoever asks before that is decided; integers never are trained.
TEST_F(Constants, FloatParametersMayBeWeights) {
  std::string file = "amc-weights.bin", path = testing::TempDir() + "/" + file;
  std::ofstream(path, std::ios::binary).write("\0\0\0\0\0\0\0\0", 8);
  parse("%a = train.parameter {name = \"a\", source = #train.file<\"" + file + R"(", 0, 8>} : tensor<2xf32>
    %b = train.parameter {name = "b", source = #train.file<")" + file + R"(", 0, 8>} : tensor<1xi64>
    train.output %a {name = "a"} : tensor<2xf32>
    train.output %b {name = "b"} : tensor<1xi64>)");
  amc::ConstantEvaluator all, raising(4096, /*floatParameters=*/false);
  EXPECT_NE(all.get(output("a")), nullptr);
  EXPECT_EQ(raising.get(output("a")), nullptr);
  EXPECT_EQ(raising.scalar(output("b")), 0.0);
  std::remove(path.c_str());
}

// 100 * 0.7f is 70 in fp32 and 69.99… in double; 100 + 100 is -56 in eight bits; 1 + 2^-9 is 1 in bf16.
TEST_F(Constants, AreRoundedToTheirType) {
  parse(R"(
    %a = train.constant {value = dense<100.0> : tensor<f32>} : tensor<f32>
    %b = train.constant {value = dense<0.7> : tensor<f32>} : tensor<f32>
    %c = train.mul %a, %b : (tensor<f32>, tensor<f32>) -> tensor<f32>
    %d = train.floor %c : (tensor<f32>) -> tensor<f32>
    %i = train.constant {value = dense<100> : tensor<i8>} : tensor<i8>
    %j = train.add %i, %i : (tensor<i8>, tensor<i8>) -> tensor<i8>
    %o = train.constant {value = dense<1.0> : tensor<bf16>} : tensor<bf16>
    %p = train.constant {value = dense<0.001953125> : tensor<bf16>} : tensor<bf16>
    %q = train.add %o, %p : (tensor<bf16>, tensor<bf16>) -> tensor<bf16>
    train.output %d {name = "d"} : tensor<f32>
    train.output %j {name = "j"} : tensor<i8>
    train.output %q {name = "q"} : tensor<bf16>)");
  amc::ConstantEvaluator evaluator;
  EXPECT_EQ(evaluator.scalar(output("d")), 70.0);
  EXPECT_EQ(evaluator.scalar(output("j")), -56.0);
  EXPECT_EQ(evaluator.scalar(output("q")), 1.0);
}

// 100,000 negations: recursion would run out of stack. An even number of them is the identity.
TEST_F(Constants, DeepChains) {
  parse(R"(
    %a = train.constant {value = dense<5> : tensor<i64>} : tensor<i64>
    train.output %a {name = "a"} : tensor<i64>)");
  Value value = output("a");
  OpBuilder builder(value.getContext());
  builder.setInsertionPointAfterValue(value);
  for (int i = 0; i < 100000; ++i)
    value = amc::train::NegOp::create(builder, value.getLoc(), value);
  auto constant = amc::constantValue(value);
  ASSERT_TRUE(constant.has_value());
  EXPECT_EQ(constant->ints, std::vector<int64_t>{5});
}

} // namespace
