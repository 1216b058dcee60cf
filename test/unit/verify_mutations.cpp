// VerifyPlan against broken steps: a valid placed step is changed in one way at a time, and that
// change has to be found.
#include "compiler/dialect/StepSupport.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace amc::train;

namespace {

// Two blocks of a gated MLP behind a norm: forward, backward, recomputation, workspaces, views and
// in-place sums.
constexpr const char *source = R"(
train.step @step {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %e = train.parameter {name = "e", trainable} : tensor<8x8xf32>
  %n0 = train.parameter {name = "n0", trainable} : tensor<8xf32>
  %g0 = train.parameter {name = "g0", trainable} : tensor<8x8xf32>
  %u0 = train.parameter {name = "u0", trainable} : tensor<8x8xf32>
  %d0 = train.parameter {name = "d0", trainable} : tensor<8x8xf32>
  %n1 = train.parameter {name = "n1", trainable} : tensor<8xf32>
  %g1 = train.parameter {name = "g1", trainable} : tensor<8x8xf32>
  %u1 = train.parameter {name = "u1", trainable} : tensor<8x8xf32>
  %d1 = train.parameter {name = "d1", trainable} : tensor<8x8xf32>
  %r = train.linear %x, %e : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %x0 = train.reshape %r {shape = array<i64: 2, 2, 8>} : (tensor<4x8xf32>) -> tensor<2x2x8xf32>
  %y0, %s0 = train.rms_norm %x0, %n0 {epsilon = 1.0e-5 : f64} : (tensor<2x2x8xf32>, tensor<8xf32>) -> (tensor<2x2x8xf32>, tensor<2x2xf32>)
  %gate0 = train.linear %y0, %g0 : (tensor<2x2x8xf32>, tensor<8x8xf32>) -> tensor<2x2x8xf32>
  %up0 = train.linear %y0, %u0 : (tensor<2x2x8xf32>, tensor<8x8xf32>) -> tensor<2x2x8xf32>
  %act0 = train.gated_activation %gate0, %up0 {activation = "silu"} : (tensor<2x2x8xf32>, tensor<2x2x8xf32>) -> tensor<2x2x8xf32>
  %down0 = train.linear %act0, %d0 : (tensor<2x2x8xf32>, tensor<8x8xf32>) -> tensor<2x2x8xf32>
  %x1 = train.add %x0, %down0 : (tensor<2x2x8xf32>, tensor<2x2x8xf32>) -> tensor<2x2x8xf32>
  %y1, %s1 = train.rms_norm %x1, %n1 {epsilon = 1.0e-5 : f64} : (tensor<2x2x8xf32>, tensor<8xf32>) -> (tensor<2x2x8xf32>, tensor<2x2xf32>)
  %gate1 = train.linear %y1, %g1 : (tensor<2x2x8xf32>, tensor<8x8xf32>) -> tensor<2x2x8xf32>
  %up1 = train.linear %y1, %u1 : (tensor<2x2x8xf32>, tensor<8x8xf32>) -> tensor<2x2x8xf32>
  %act1 = train.gated_activation %gate1, %up1 {activation = "silu"} : (tensor<2x2x8xf32>, tensor<2x2x8xf32>) -> tensor<2x2x8xf32>
  %down1 = train.linear %act1, %d1 : (tensor<2x2x8xf32>, tensor<8x8xf32>) -> tensor<2x2x8xf32>
  %x2 = train.add %x1, %down1 : (tensor<2x2x8xf32>, tensor<2x2x8xf32>) -> tensor<2x2x8xf32>
  %l = train.reduce_sum %x2 {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<2x2x8xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}
)";

// A weight that two ranks have whole, each of which updates a half.
constexpr const char *spread = R"(
train.step @step attributes {train.mesh = array<i64: 1, 2, 1, 1>, train.zero = 1} {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w", trainable} : tensor<8x8xf32>
  %v = train.vary %w {group = "dp_shard", members = 2 : i64} : (tensor<8x8xf32>) -> tensor<8x8xf32>
  %y = train.linear %x, %v : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %l = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x8xf32>) -> tensor<f32>
  %s = train.all_reduce %l {group = "dp_shard", members = 2 : i64} : (tensor<f32>) -> tensor<f32>
  train.output %s {name = "loss"} : tensor<f32>
}
)";

class VerifyPlan : public testing::Test {
protected:
  void SetUp() override { build(source); }

  void build(const char *text) {
    context.loadDialect<TrainDialect, amc::plan::PlanDialect>();
    module = parseSourceString<ModuleOp>(text, &context);
    ASSERT_TRUE(module);
    PassManager passes(&context);
    passes.addPass(amc::createDeriveBackward());
    amc::AttachOptimizerOptions optimizer;
    optimizer.accumulation = 2;
    passes.addPass(amc::createAttachOptimizer(optimizer));
    amc::RematerializeOptions checkpointing;
    checkpointing.policy = "selective";
    passes.addPass(amc::createRematerialize(checkpointing));
    passes.addPass(amc::createSchedule());
    passes.addPass(amc::createAssignOffsets());
    ASSERT_TRUE(succeeded(passes.run(*module)));
    step = *module->getOps<StepOp>().begin();
  }

  // The pass's errors, one a line.
  std::string verify() {
    std::string errors;
    ScopedDiagnosticHandler handler(
        &context, [&](Diagnostic &diagnostic) { errors += diagnostic.str() + "\n"; });
    EXPECT_TRUE(succeeded(mlir::verify(*module)))
        << "the change should leave IR that the dialect accepts";
    PassManager passes(&context);
    passes.addPass(amc::createVerifyPlan());
    bool accepted = succeeded(passes.run(*module));
    EXPECT_EQ(accepted, errors.empty());
    return errors;
  }
  void expectError(const std::string &text) {
    std::string errors = verify();
    EXPECT_NE(errors.find(text), std::string::npos) << "errors were:\n" << errors;
  }

  template <class OpTy> OpTy nth(unsigned index, std::optional<Phase> phase = std::nullopt) {
    for (OpTy op : step.getOps<OpTy>())
      if ((!phase || phaseOf(op) == *phase) && index-- == 0)
        return op;
    ADD_FAILURE() << "the step has no such operation";
    return nullptr;
  }
  static int64_t offset(Value value) {
    auto offsets = value.getDefiningOp()->getAttrOfType<DenseI64ArrayAttr>("train.offsets");
    return offsets[cast<OpResult>(value).getResultNumber()];
  }
  void place(Value value, int64_t at) {
    Operation *op = value.getDefiningOp();
    SmallVector<int64_t> offsets(
        op->getAttrOfType<DenseI64ArrayAttr>("train.offsets").asArrayRef());
    offsets[cast<OpResult>(value).getResultNumber()] = at;
    op->setAttr("train.offsets", b.getDenseI64ArrayAttr(offsets));
  }
  void set(StringRef name, int64_t value) { step->setAttr(name, b.getI64IntegerAttr(value)); }
  int64_t get(StringRef name) { return step->getAttrOfType<IntegerAttr>(name).getInt(); }
  Value parameter(StringRef name) {
    for (ParameterOp op : step.getOps<ParameterOp>())
      if (op.getName() == name)
        return op;
    return nullptr;
  }

  MLIRContext context;
  Builder b{&context};
  OwningOpRef<ModuleOp> module;
  StepOp step;
};

TEST_F(VerifyPlan, AcceptsWhatThePassesMade) { EXPECT_EQ(verify(), ""); }

TEST_F(VerifyPlan, OverlapOfTwoLiveValues) {
  // The gate of the first block is saved; the one of the second is placed over it.
  place(nth<LinearOp>(4).getY(), offset(nth<LinearOp>(1).getY()));
  expectError("hold something else");
}
TEST_F(VerifyPlan, OffsetOutsideTheArena) {
  place(nth<LinearOp>(1).getY(), get("train.arena_bytes"));
  expectError("exceeds the arena of");
}
TEST_F(VerifyPlan, NegativeOffset) {
  place(nth<LinearOp>(1).getY(), -256);
  expectError("is at offset -256, should be at a multiple of 256");
}
TEST_F(VerifyPlan, UnalignedOffset) {
  place(nth<LinearOp>(1).getY(), offset(nth<LinearOp>(1).getY()) + 4);
  expectError("should be at a multiple of 256");
}
TEST_F(VerifyPlan, MissingOffsets) {
  nth<LinearOp>(1)->removeAttr("train.offsets");
  expectError("train.offsets has 0 entries, should have one for each of 1 results");
}
TEST_F(VerifyPlan, TooFewOffsets) {
  nth<RmsNormOp>(0)->setAttr("train.offsets", b.getDenseI64ArrayAttr({0}));
  expectError("train.offsets has 1 entries, should have one for each of 2 results");
}
TEST_F(VerifyPlan, ShrunkenArena) {
  set("train.arena_bytes", get("train.arena_bytes") - 256);
  expectError("exceeds the arena of");
}
TEST_F(VerifyPlan, ArenaLargerThanNeeded) {
  set("train.arena_bytes", get("train.arena_bytes") + 256);
  expectError("train.arena_bytes is ");
}
TEST_F(VerifyPlan, MissingArena) {
  step->removeAttr("train.arena_bytes");
  expectError("train.arena_bytes is missing or negative; run assign-offsets first");
}
TEST_F(VerifyPlan, WrongAlignment) {
  set("train.alignment", 48);
  expectError("train.alignment is 48, should be a power of two");
}
TEST_F(VerifyPlan, SavedBytesUntrue) {
  set("train.saved_bytes", get("train.saved_bytes") - 4);
  expectError("train.saved_bytes is ");
}
TEST_F(VerifyPlan, LiveBytesUntrue) {
  set("train.max_live_bytes", get("train.max_live_bytes") - 4);
  expectError("train.max_live_bytes is ");
}
TEST_F(VerifyPlan, FreedEarly) {
  // The gradient of the last product needs act of the second block; computed at the end of the
  // micro-batch, it comes when act's bytes have been given to others.
  LinearWeightGradOp last = nth<LinearWeightGradOp>(0);
  auto reader = [&] {
    for (Operation *user : last.getDw().getUsers())
      if (isa<AccumulateOp>(user))
        return user;
    return static_cast<Operation *>(nullptr);
  }();
  ASSERT_TRUE(reader);
  Operation *end = nth<MicroBatchEndOp>(0);
  last->moveBefore(end);
  reader->moveBefore(end);
  expectError("hold something else");
}
TEST_F(VerifyPlan, ReadBehindAnUpdate) {
  // Another use of an accumulator in the section that updates it, behind the update.
  AccumulateOp update = nth<AccumulateOp>(0);
  OpBuilder builder(nth<MicroBatchEndOp>(0));
  auto read = NegOp::create(builder, update.getLoc(), update.getAccumulator());
  setPhase(read, Phase::Backward);
  read->setAttr("train.offsets", b.getDenseI64ArrayAttr({offset(nth<LinearOp>(1).getY())}));
  expectError("reads a value that was updated before it");
}
TEST_F(VerifyPlan, RefreshInFrontOfTheUpdate) {
  build(spread);
  EXPECT_EQ(verify(), "");
  nth<RefreshOp>(0)->moveBefore(nth<AdamWOp>(0));
  expectError("reads operand 1 before its update, should stand behind it");
}
TEST_F(VerifyPlan, RefreshInFrontOfAReader) {
  build(spread);
  OpBuilder builder(&context);
  builder.setInsertionPointAfter(nth<RefreshOp>(0));
  auto read = NegOp::create(builder, step.getLoc(), parameter("w"));
  setPhase(read, Phase::Optimizer);
  read->setAttr("train.offsets", b.getDenseI64ArrayAttr({offset(parameter("w"))}));
  expectError("reads a value that was updated before it");
}
TEST_F(VerifyPlan, RefreshTwice) {
  build(spread);
  OpBuilder builder(&context);
  builder.setInsertionPointAfter(nth<RefreshOp>(0));
  builder.clone(*nth<RefreshOp>(0));
  expectError("reads a value that was updated before it");
}
TEST_F(VerifyPlan, ForwardBehindBackward) {
  nth<ReduceSumOp>(0)->moveBefore(nth<MicroBatchEndOp>(0));
  Operation *output = *nth<ReduceSumOp>(0)->getUsers().begin();
  output->moveBefore(nth<MicroBatchEndOp>(0));
  expectError("should come first");
}
TEST_F(VerifyPlan, ForwardBehindTheMicroBatch) {
  nth<MicroBatchEndOp>(0)->moveBefore(nth<ReduceSumOp>(0));
  expectError("is a forward operation behind the end of the micro-batch");
}
TEST_F(VerifyPlan, SecondMarker) {
  OpBuilder builder(nth<MicroBatchEndOp>(0));
  MicroBatchEndOp::create(builder, step.getLoc());
  expectError("is the second end of the micro-batch; a step should have one");
}
TEST_F(VerifyPlan, UnknownPhase) {
  nth<LinearOp>(0)->setAttr("train.phase", b.getStringAttr("sideways"));
  expectError("train.phase is \"sideways\"");
}
TEST_F(VerifyPlan, RecomputedWithAnotherAttribute) {
  nth<GatedActivationOp>(0, Phase::Recompute).setActivation("gelu");
  expectError("is recomputed but equals no forward operation");
}
TEST_F(VerifyPlan, RecomputedFromAnotherValue) {
  nth<LinearOp>(0, Phase::Recompute)->setOperand(1, parameter("g0"));
  expectError("is recomputed but equals no forward operation");
}
TEST_F(VerifyPlan, RecomputedFromAnotherNode) {
  nth<LinearOp>(0, Phase::Recompute)->setLoc(NameLoc::get(b.getStringAttr("elsewhere")));
  expectError("is recomputed but equals no forward operation");
}
TEST_F(VerifyPlan, RecomputationDropped) {
  // Backward reads the original of a recomputed value, whose bytes are gone.
  LinearOp copy = nth<LinearOp>(0, Phase::Recompute);
  for (LinearOp original : step.getOps<LinearOp>())
    if (phaseOf(original) == Phase::Forward && original.getW() == copy.getW()) {
      copy.getY().replaceAllUsesWith(original.getY());
      break;
    }
  copy->erase();
  EXPECT_NE(verify(), "");
}
TEST_F(VerifyPlan, WorkspaceMissing) {
  nth<RmsNormBackwardOp>(0)->removeAttr("train.workspace_offset");
  expectError("bytes of workspace and has no train.workspace_offset");
}
TEST_F(VerifyPlan, WorkspaceOverOperand) {
  RmsNormBackwardOp op = nth<RmsNormBackwardOp>(0);
  op->setAttr("train.workspace_offset", b.getI64IntegerAttr(offset(op.getDy())));
  expectError("overlaps operand 0");
}
TEST_F(VerifyPlan, WorkspaceOverResult) {
  RmsNormBackwardOp op = nth<RmsNormBackwardOp>(0);
  op->setAttr("train.workspace_offset", b.getI64IntegerAttr(offset(op.getDx())));
  expectError("overlaps result 0");
}
TEST_F(VerifyPlan, WorkspaceOverParameter) {
  nth<RmsNormBackwardOp>(0)->setAttr("train.workspace_offset",
                                     b.getI64IntegerAttr(offset(parameter("e"))));
  expectError("which persist between steps");
}
TEST_F(VerifyPlan, WorkspaceOutsideTheArena) {
  nth<RmsNormBackwardOp>(0)->setAttr("train.workspace_offset",
                                     b.getI64IntegerAttr(get("train.arena_bytes")));
  expectError("workspace with ");
}
TEST_F(VerifyPlan, ViewElsewhere) {
  Value view = nth<ReshapeOp>(0).getY();
  place(view, offset(view) + 256);
  expectError("views bytes ");
}
TEST_F(VerifyPlan, ResultOverParameter) {
  place(nth<LinearOp>(1).getY(), offset(parameter("d1")));
  expectError("which persist between steps");
}
TEST_F(VerifyPlan, ParameterOverParameter) {
  place(parameter("d1"), offset(parameter("g1")));
  expectError("which persist between steps");
}
TEST_F(VerifyPlan, InputOverInput) {
  SmallVector<InputOp> inputs(step.getOps<InputOp>());
  ASSERT_GE(inputs.size(), 2u);
  place(inputs[1], offset(inputs[0]));
  expectError("input should be in bytes ");
}
TEST_F(VerifyPlan, InPlaceWithoutPermission) {
  // A product may not stand on what it multiplies.
  LinearOp product = nth<LinearOp>(1);
  place(product.getY(), offset(product.getX()));
  expectError("should be intact while the operation runs");
}
TEST_F(VerifyPlan, ResultsOverEachOther) {
  RmsNormOp norm = nth<RmsNormOp>(0);
  place(norm.getRstd(), offset(norm.getY()));
  expectError("results 0 and 1 overlap");
}
TEST_F(VerifyPlan, OutputOverwritten) {
  // The loss has to survive to the end of the micro-batch; the first gradient is placed over it.
  Value loss = findOutput(step, "loss").getValue();
  place(nth<LinearWeightGradOp>(0).getDw(), offset(loss));
  expectError("output at the end of its section should be in bytes ");
}
TEST_F(VerifyPlan, TwoParametersOfOneName) {
  cast<ParameterOp>(parameter("d1").getDefiningOp()).setName("d0");
  expectError("is the second parameter called d0");
}

} // namespace
