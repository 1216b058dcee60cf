// From a plan.program to the message: every field, determinism, and the runtime's own check of the
// result.
#include "compiler/emit/EmitPlan.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/PlanVerifier.h"
#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>

using namespace mlir;

namespace {

constexpr const char *training = R"(
module attributes {train.model = "dir/m.onnx", train.model_directory = "."} {
train.step @step attributes {train.loss = "causal-lm", train.ignore_index = -100 : i64} {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w", trainable, source = #train.file<"emit_plan_weights.bin", 4, 256>,
                        tied = [#train.tied<"w_copy", [1, 0]>]} : tensor<8x8xf32>
  %f = train.parameter {name = "frozen", source_dtype = "bf16"} : tensor<8xf32>
  %y = train.linear %x, %w : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32> loc("node_linear")
  %z = train.mul %y, %f : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  %l = train.reduce_sum %z {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x8xf32>) -> tensor<f32>
  train.output %l {name = "loss", sum} : tensor<f32>
}
}
)";

constexpr const char *inference = R"(
train.step @step {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w"} : tensor<8x8xf32>
  %y = train.linear %x, %w : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
}
)";

constexpr const char *constants = R"(
train.step @step {
  %c = train.constant {value = dense<[1, -2]> : tensor<2xi64>} : tensor<2xi64>
  %m = train.constant {value = dense<[true, false, true, true]> : tensor<4xi1>} : tensor<4xi1>
  %h = train.constant {value = dense<[1.5, -0.25]> : tensor<2xf32>} : tensor<2xf32>
  %s = train.constant {value = dense<0.5> : tensor<3xf32>} : tensor<3xf32>
  %y = train.exp %h : (tensor<2xf32>) -> tensor<2xf32>
}
)";

class EmitPlan : public testing::Test {
protected:
  // Runs the pipeline behind the importer and emits.
  std::optional<amc::plan::Plan> compile(const char *source, bool train,
                                         const amc::EmitOptions &options = {},
                                         int64_t accumulation = 1) {
    context.loadDialect<amc::train::TrainDialect, amc::plan::PlanDialect>();
    OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(source, &context);
    if (!module)
      return std::nullopt;
    PassManager passes(&context);
    if (train) {
      passes.addPass(amc::createDeriveBackward());
      amc::AttachOptimizerOptions optimizer;
      optimizer.accumulation = accumulation;
      optimizer.learningRate = 0.25;
      optimizer.weightDecay = 0;
      passes.addPass(amc::createAttachOptimizer(optimizer));
      passes.addPass(amc::createRematerialize());
    }
    passes.addPass(amc::createSchedule());
    passes.addPass(amc::createAssignOffsets());
    passes.addPass(amc::createVerifyPlan());
    passes.addPass(amc::createLowerToPlan());
    if (failed(passes.run(*module)))
      return std::nullopt;
    ScopedDiagnosticHandler handler(
        &context, [&](Diagnostic &diagnostic) { errors += diagnostic.str() + "\n"; });
    FailureOr<amc::plan::Plan> plan = amc::emitPlan(*module, options);
    if (failed(plan))
      return std::nullopt;
    return std::move(*plan);
  }
  static std::string problems(const amc::plan::Plan &plan) {
    std::string all;
    for (const std::string &error : amc::rt::verifyPlanStructure(plan).errors)
      all += error + "\n";
    return all;
  }

  MLIRContext context;
  std::string errors;
};

TEST_F(EmitPlan, TrainingPlanIsWhatTheRuntimeAccepts) {
  for (int64_t accumulation : {1, 4}) {
    auto plan = compile(training, true, {}, accumulation);
    ASSERT_TRUE(plan);
    EXPECT_EQ(problems(*plan), "");
    EXPECT_EQ(plan->accumulation(), static_cast<uint64_t>(accumulation));
    EXPECT_GT(plan->forward_end(), 0u);
    EXPECT_GT(plan->micro_batch_end(), plan->forward_end());
    EXPECT_LT(plan->micro_batch_end(), static_cast<uint64_t>(plan->instructions_size()));
  }
}

TEST_F(EmitPlan, InferencePlanIsWhatTheRuntimeAccepts) {
  auto plan = compile(inference, false);
  ASSERT_TRUE(plan);
  EXPECT_EQ(problems(*plan), "");
  EXPECT_EQ(plan->loss(), amc::plan::LOSS_NONE);
  EXPECT_EQ(plan->optimizer(), "");
  EXPECT_EQ(plan->forward_end(), 1u);
  EXPECT_EQ(plan->micro_batch_end(), 1u);
  EXPECT_EQ(plan->ac_policy(), "none");
}

TEST_F(EmitPlan, HeaderSaysWhatThePassesLeft) {
  auto plan = compile(training, true);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->model_path(), "dir/m.onnx");
  EXPECT_EQ(plan->loss(), amc::plan::LOSS_CAUSAL_LM);
  EXPECT_EQ(plan->ignore_index(), -100);
  EXPECT_EQ(plan->optimizer(), "adamw");
  EXPECT_EQ(plan->default_learning_rate(), 0.25);
  EXPECT_EQ(plan->max_grad_norm(), 1.0);
  EXPECT_EQ(plan->precision(), "fp32");
  amc::EmitOptions options;
  options.learningRate = 0.5;
  EXPECT_EQ(compile(training, true, options)->default_learning_rate(), 0.5);
}

TEST_F(EmitPlan, ParametersCarrySourceTiesStatesAndGradient) {
  auto plan = compile(training, true);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->parameters_size(), 2);
  const amc::plan::Parameter &w = plan->parameters(0), &frozen = plan->parameters(1);
  EXPECT_EQ(w.name(), "w");
  EXPECT_TRUE(w.trainable());
  EXPECT_EQ(w.source().file().path(), "emit_plan_weights.bin");
  EXPECT_EQ(w.source().file().offset(), 4u);
  EXPECT_EQ(w.source().file().length(), 256u);
  ASSERT_EQ(w.tied_size(), 1);
  EXPECT_EQ(w.tied(0).name(), "w_copy");
  EXPECT_EQ(std::vector<uint32_t>(w.tied(0).permutation().begin(), w.tied(0).permutation().end()),
            (std::vector<uint32_t>{1, 0}));
  ASSERT_EQ(w.states_size(), 2);
  EXPECT_EQ(w.states(0).name(), "exp_avg");
  EXPECT_EQ(w.states(1).name(), "exp_avg_sq");
  ASSERT_TRUE(w.has_gradient());
  const amc::plan::Instruction &makes = plan->instructions(static_cast<int>(w.gradient_ready()));
  EXPECT_EQ(makes.outputs(0).buffer(), w.gradient().buffer());
  EXPECT_EQ(plan->buffers(static_cast<int>(w.gradient().buffer())).category(), amc::plan::GRADIENT);
  EXPECT_FALSE(frozen.trainable());
  EXPECT_FALSE(frozen.has_gradient());
  EXPECT_EQ(frozen.initializer_dtype(), "bf16");
  EXPECT_EQ(plan->adamw_no_decay_size(), 1);
}

TEST_F(EmitPlan, AccumulatedGradientIsReadyBehindItsLastUpdate) {
  auto plan = compile(training, true, {}, 4);
  ASSERT_TRUE(plan);
  const amc::plan::Parameter &w = plan->parameters(0);
  EXPECT_EQ(plan->instructions(static_cast<int>(w.gradient_ready())).kernel(), "accumulate");
  EXPECT_LT(w.gradient_ready(), plan->micro_batch_end());
  EXPECT_TRUE(plan->buffers(static_cast<int>(w.gradient().buffer())).persistent());
}

TEST_F(EmitPlan, ConstantsAreLittleEndian) {
  auto plan = compile(constants, false);
  ASSERT_TRUE(plan);
  EXPECT_EQ(problems(*plan), "");
  std::vector<std::string> data;
  for (const amc::plan::Constant &constant : plan->constants())
    data.push_back(constant.data());
  EXPECT_EQ(data, (std::vector<std::string>{
                      std::string("\1\0\0\0\0\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff", 16),
                      std::string("\1\0\1\1", 4), std::string("\0\0\xc0\x3f\0\0\x80\xbe", 8),
                      std::string("\0\0\0\x3f\0\0\0\x3f\0\0\0\x3f", 12)}));
}

TEST_F(EmitPlan, InstructionsNameTheirNode) {
  auto plan = compile(training, true);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->instructions(0).kernel(), "linear");
  EXPECT_EQ(plan->instructions(0).location(), "node_linear");
  EXPECT_EQ(plan->instructions(0).inputs_size(), 3);
  EXPECT_EQ(plan->instructions(0).inputs(2).dtype(), amc::plan::DTYPE_UNSPECIFIED);
  EXPECT_EQ(plan->instructions(0).phase(), amc::plan::FORWARD);
}

TEST_F(EmitPlan, PromiseIsWhatTheRuntimeComputes) {
  auto plan = compile(training, true);
  ASSERT_TRUE(plan);
  amc::rt::LivePeak peak = amc::rt::findLivePeak(*plan);
  EXPECT_EQ(plan->promise().max_live_bytes(), peak.bytes);
  EXPECT_EQ(plan->promise().peak_instruction(), peak.instruction);
  EXPECT_EQ(plan->promise().parameter_bytes(), 256u + 32u);
  EXPECT_EQ(plan->promise().optimizer_state_bytes(), 512u);
  // Backward reads x and f, which are no results, and of the forward results none: d(sum) needs
  // only shapes.
  EXPECT_EQ(plan->promise().saved_bytes(), 0u);
  EXPECT_EQ(plan->promise().flops_recompute(), 0u);
}

TEST_F(EmitPlan, SameInputSameBytes) {
  auto first = compile(training, true), second = compile(training, true);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(*amc::rt::serializePlan(*first), *amc::rt::serializePlan(*second));
}

TEST_F(EmitPlan, WeightsAreEmbeddedOrSaidToBeMissing) {
  amc::EmitOptions options;
  options.embedWeights = true;
  std::remove("emit_plan_weights.bin");
  EXPECT_FALSE(compile(training, true, options));
  EXPECT_NE(errors.find("weight w cannot be embedded: ./emit_plan_weights.bin cannot be read"),
            std::string::npos)
      << errors;
  std::string bytes(260, '\0');
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<char>(i);
  std::ofstream("emit_plan_weights.bin", std::ios::binary) << bytes.substr(0, 200);
  errors.clear();
  EXPECT_FALSE(compile(training, true, options));
  EXPECT_NE(errors.find("has fewer than the 256 bytes at offset 4"), std::string::npos) << errors;
  std::ofstream("emit_plan_weights.bin", std::ios::binary) << bytes;
  auto plan = compile(training, true, options);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->parameters(0).source().embedded(), bytes.substr(4));
  EXPECT_EQ(problems(*plan), "");
  std::remove("emit_plan_weights.bin");
}

TEST_F(EmitPlan, WhatAPlanCannotHoldIsReportedInOneRun) {
  context.loadDialect<amc::train::TrainDialect, amc::plan::PlanDialect>();
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(R"(
plan.program @p attributes {arena_bytes = 64 : i64, alignment = 64 : i64, forward_end = 0 : i64,
                            micro_batch_end = 1 : i64, accumulation = 1 : i64} {
  plan.buffer 0 {bytes = 4 : i64, offset = 0 : i64, first = 0 : i64, last = 1 : i64, category = "attic", name = "x"}
  plan.input "x" {role = "guest", view = #plan.view<0, 0, tensor<f32>>}
  plan.constant #plan.view<0, 0, tensor<f32>> = dense<1> : tensor<i32>
  plan.call "exp" {inputs = [], outputs = [], workspaces = [], arguments = {a = [1]}, phase = "noon", flops = 0 : i64}
  %w = train.parameter {name = "w"} : tensor<f32>
}
)",
                                                             &context);
  ASSERT_TRUE(module);
  ScopedDiagnosticHandler handler(
      &context, [&](Diagnostic &diagnostic) { errors += diagnostic.str() + "\n"; });
  EXPECT_TRUE(failed(amc::emitPlan(*module, {})));
  for (const char *text :
       {"category attic is not one that plans know", "role guest is not one that plans know",
        "value should have its view's type", "phase noon is not one that plans know",
        "argument a is of a kind that plans cannot carry", "is not part of a plan"})
    EXPECT_NE(errors.find(text), std::string::npos) << text << "\n" << errors;
}

TEST_F(EmitPlan, ModuleWithoutProgramIsAnError) {
  context.loadDialect<amc::train::TrainDialect, amc::plan::PlanDialect>();
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(inference, &context);
  ScopedDiagnosticHandler handler(&context,
                                  [&](Diagnostic &diagnostic) { errors += diagnostic.str(); });
  EXPECT_TRUE(failed(amc::emitPlan(*module, {})));
  EXPECT_NE(errors.find("has 0 plan.program, should have one; run lower-to-plan first"),
            std::string::npos)
      << errors;
}

} // namespace
