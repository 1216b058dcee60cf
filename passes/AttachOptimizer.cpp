// Turns named gradients into parameter updates: accumulation over micro-batches, global norm, clipping, AdamW or SGD.
//
// The norm is the square root of a sum of f64 sums, one for each gradient in the order in which derive-backward
// names them, so it does not depend on any later scheduling decision. Of gradients that are spread over ranks every
// rank adds up its own parts, and the ranks' sums are added in their order.
//
// With train.zero (ZeRO, Rajbhandari et al., 2020: 1 spreads optimizer state, 2 gradients, too) a rank updates its rows
// of a parameter that is alike on all: a state of its own, "shard", from which the parameter is gathered again. What
// cannot be split, and a gradient of 2 that is no sum over the ranks, is dealt with as at the level below.
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "runtime/plan/Mesh.h"
#include "llvm/ADT/MapVector.h"

namespace amc {
#define GEN_PASS_DEF_ATTACHOPTIMIZER
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

struct Trained {
  ParameterOp parameter;
  GradientOp gradient;
  ArrayAttr gradientSplits, splits; // of the gradient's value, and of what this rank updates; null: whole
  SplitAttr shard;                  // from the parameter to what this rank updates; null: that is the parameter
};

/// The gradients of a parameter that is alike on a group's ranks are sums over them, and what casts and additions make
/// of such sums. This makes each rank's rows of the same.
class Scatter {
public:
  explicit Scatter(SplitAttr split) : split(split) {}

  /// Whether a sum is behind the value, and nothing else reads it.
  bool isSum(Value value) const {
    Operation *op = value.getDefiningOp();
    if (!op || !value.hasOneUse())
      return false;
    if (auto sum = dyn_cast<AllReduceOp>(op))
      return sum.getGroup() == split.getGroup();
    if (auto cast = dyn_cast<CastOp>(op))
      return isSum(cast.getX());
    return isa<AddOp>(op) && llvm::all_of(op->getOperandTypes(), [&](Type type) { return type == value.getType(); }) &&
           llvm::any_of(op->getOperands(), [&](Value operand) { return isSum(operand); });
  }

  /// Of a sum each rank's rows, made where the sum is; of anything else the rows that `reader` takes.
  Value piece(Value value, Operation *reader) const {
    if (!isSum(value)) {
      PhaseTagger tagger(phaseOf(reader));
      OpBuilder b(reader, &tagger);
      return TakePieceOp::create(b, reader->getLoc(), value, split.getDim(), split.getGroup(), split.getMembers(),
                                 /*zigzag=*/false);
    }
    Operation *op = value.getDefiningOp();
    SmallVector<Value> parts;
    if (!isa<AllReduceOp>(op))
      for (Value operand : op->getOperands())
        parts.push_back(piece(operand, op));
    PhaseTagger tagger(phaseOf(op));
    OpBuilder b(op, &tagger);
    if (auto sum = dyn_cast<AllReduceOp>(op))
      return ReduceScatterOp::create(b, op->getLoc(), sum.getX(), split.getDim(), split.getGroup(), split.getMembers());
    if (isa<CastOp>(op))
      return train::cast(b, op->getLoc(), parts[0], elementOf(value));
    return AddOp::create(b, op->getLoc(), parts[0], parts[1]);
  }

  /// Erases the sums that nothing reads any more.
  void erase(Value value) const {
    Operation *op = value.getDefiningOp();
    if (!isa_and_nonnull<AllReduceOp, CastOp, AddOp>(op) || !op->use_empty())
      return;
    SmallVector<Value> operands(op->getOperands());
    const bool ends = isa<AllReduceOp>(op);
    op->erase();
    for (Value operand : operands)
      if (!ends)
        erase(operand);
  }

private:
  SplitAttr split;
};

struct AttachOptimizerPass : amc::impl::AttachOptimizerBase<AttachOptimizerPass> {
  using AttachOptimizerBase::AttachOptimizerBase;

  LogicalResult checkOptions() {
    auto bad = [&](const Twine &message) { return getOperation().emitError(message); };
    if (optimizer != "adamw" && optimizer != "sgd")
      return bad("optimizer is \"" + optimizer + "\", should be adamw or sgd");
    if (weightDecayOn != "all" && weightDecayOn != "matrices")
      return bad("weight-decay-on is \"" + weightDecayOn + "\", should be all or matrices");
    if (!(beta1 >= 0 && beta1 < 1) || !(beta2 >= 0 && beta2 < 1))
      return bad("betas should be at least 0 and below 1");
    if (!(epsilon >= 0) || !(weightDecay >= 0) || !(momentum >= 0) || !(maxGradNorm >= 0) || !(learningRate >= 0))
      return bad("epsilon, weight-decay, momentum, max-grad-norm and learning-rate should not be negative");
    if (nesterov && momentum == 0)
      return bad("nesterov needs a momentum");
    if (accumulation < 1)
      return bad("accumulation is " + Twine(accumulation) + ", should be at least 1");
    if (inBackward != "auto" && inBackward != "on" && inBackward != "off")
      return bad("in-backward is \"" + inBackward + "\", should be auto, on or off");
    if (inBackward == "on" && maxGradNorm > 0)
      return bad("in-backward is on and max-grad-norm is not 0; clipping needs the norm of all gradients before the "
                 "first update");
    if (inBackward == "on" && accumulation > 1)
      return bad("in-backward is on and accumulation is above 1; updates wait for the last micro-batch");
    if (masterWeights != "none" && masterWeights != "fp32")
      return bad("master-weights is \"" + masterWeights + "\", should be none or fp32");
    if (!optimizerState.empty() && optimizerState != "fp32" && optimizerState != "bf16")
      return bad("optimizer-state is \"" + optimizerState + "\", should be fp32 or bf16");
    return success();
  }

  /// The type of a parameter's moments.
  Type stateElement(Type parameter) {
    if (optimizerState == "bf16")
      return BFloat16Type::get(&getContext());
    return optimizerState == "fp32" ? statisticType(parameter) : parameter;
  }

  /// Whether the options make sense for this parameter.
  LogicalResult checkPrecision(ParameterOp parameter) {
    Type element = elementOf(parameter.getResult());
    bool bad = false;
    if (masterWeights == "fp32" && element == statisticType(element)) {
      parameter.emitError("is ") << element << ", should be narrower to have a master copy in fp32";
      bad = true;
    }
    if (optimizerState == "bf16" && !element.isBF16()) {
      parameter.emitError("is ") << element << ", should be bf16 for states in bf16";
      bad = true;
    }
    return failure(bad);
  }

  FailureOr<SmallVector<Trained>> gather(StepOp step) {
    llvm::StringMap<ParameterOp> byName;
    for (ParameterOp parameter : step.getOps<ParameterOp>())
      byName[parameter.getName()] = parameter;
    SmallVector<Trained> trained;
    bool bad = false;
    llvm::StringMap<GradientOp> seen;
    for (GradientOp gradient : step.getOps<GradientOp>()) {
      ParameterOp parameter = byName.lookup(gradient.getParameter());
      if (!parameter || parameter.getType() != gradient.getValue().getType()) {
        gradient.emitError("no parameter of type ") << gradient.getValue().getType() << " is named "
                                                    << gradient.getParameter();
        bad = true;
      } else if (!seen.try_emplace(gradient.getParameter(), gradient).second) {
        gradient.emitError("parameter ") << gradient.getParameter() << " has more than one gradient";
        bad = true;
      } else if (failed(checkPrecision(parameter))) {
        bad = true;
      } else {
        trained.push_back({parameter, gradient, parameter.getSplitsAttr(), parameter.getSplitsAttr(), SplitAttr()});
      }
    }
    if (trained.empty() && !bad) {
      step.emitError("nothing to optimize: no gradient is named").attachNote() << "run derive-backward first";
      bad = true;
    }
    if (bad)
      return failure();
    return trained;
  }

  /// Decides what of each parameter a rank updates, and of which gradients it gets no more than that.
  void spread(StepOp step, MutableArrayRef<Trained> trained) {
    auto zero = step->getAttrOfType<IntegerAttr>("train.zero");
    const rt::Axes axes = rt::dataAxes;
    const rt::MeshShape mesh = meshOf(step).value_or(rt::MeshShape());
    const std::string group = rt::groupName(axes, mesh);
    const auto ranks = static_cast<int64_t>(rt::groupSize(mesh, axes));
    if (!zero || zero.getInt() < 1 || group.empty())
      return;
    for (Trained &t : trained) {
      std::optional<int64_t> dim = splitDim(t.parameter, ranks);
      auto type = tensorType(t.parameter.getResult());
      if (!dim || type.getNumElements() == 0)
        continue;
      t.shard = SplitAttr::get(&getContext(), *dim, group, ranks, type.getDimSize(*dim), /*blocks=*/1);
      SmallVector<Attribute> splits;
      if (t.splits)
        llvm::append_range(splits, t.splits);
      splits.push_back(t.shard);
      t.splits = ArrayAttr::get(&getContext(), splits);
      Scatter scatter(t.shard);
      Value whole = t.gradient.getValue();
      if (zero.getInt() < 2 || !scatter.isSum(whole))
        continue;
      t.gradient.getValueMutable().assign(scatter.piece(whole, t.gradient));
      t.gradientSplits = t.splits;
      scatter.erase(whole);
    }
  }

  /// The scalar that the runtime feeds for a role: the one that random operations read already, or a new one.
  static Value scalarInput(StepOp step, OpBuilder &b, StringRef role, Type element) {
    for (InputOp input : step.getOps<InputOp>())
      if (input.getRole() == role)
        return input;
    return InputOp::create(b, step.getLoc(), RankedTensorType::get({}, element), role, role);
  }

  /// Gradients as the optimizer reads them: the values themselves, or accumulators over micro-batches.
  SmallVector<Value> accumulate(StepOp step, OpBuilder &b, MutableArrayRef<Trained> trained) {
    SmallVector<Value> gradients;
    if (accumulation == 1) {
      for (Trained &t : trained)
        gradients.push_back(t.gradient.getValue());
      return gradients;
    }
    PhaseTagger backward(Phase::Backward);
    OpBuilder inner = OpBuilder::atBlockEnd(&step.getBody().front(), &backward);
    Value microBatch = scalarInput(step, inner, "micro_batch", b.getI64Type());
    for (Trained &t : trained) {
      Value accumulator = StateOp::create(inner, t.parameter.getLoc(), t.gradient.getValue().getType(), "gradient",
                                          t.parameter.getName(), "gradient", t.gradientSplits);
      AccumulateOp::create(inner, t.parameter.getLoc(), accumulator, t.gradient.getValue(), microBatch);
      gradients.push_back(accumulator);
    }
    MicroBatchEndOp::create(b, step.getLoc());
    return gradients;
  }

  /// Those of whole gradients, one by one, and for every way of spreading gradients over ranks the sum over the ranks.
  SmallVector<Value> squaredNorms(StepOp step, OpBuilder &b, MutableArrayRef<Trained> trained, ArrayRef<Value> gradients) {
    SmallVector<Value> norms;
    llvm::MapVector<Attribute, SmallVector<Value>> spread; // by group
    const rt::MeshShape mesh = meshOf(step).value_or(rt::MeshShape());
    for (auto [t, gradient] : llvm::zip_equal(trained, gradients)) {
      Value norm = SquaredNormOp::create(b, t.parameter.getLoc(), gradient);
      rt::Axes axes = {};
      if (t.gradientSplits)
        for (auto split : t.gradientSplits.getAsRange<SplitAttr>())
          if (auto its = rt::groupAxes(split.getGroup(), mesh))
            axes = rt::unite(axes, *its);
      std::string group = rt::groupName(axes, mesh);
      (group.empty() ? norms : spread[b.getStringAttr(group)]).push_back(norm);
    }
    for (auto &[group, parts] : spread) {
      StringRef name = cast<StringAttr>(group).getValue();
      Value sum = SumScalarsOp::create(b, step.getLoc(), parts);
      norms.push_back(AllReduceOp::create(b, step.getLoc(), sum, name,
                                          static_cast<int64_t>(rt::groupSize(mesh, *rt::groupAxes(name, mesh)))));
    }
    return norms;
  }

  void write(StepOp step, MutableArrayRef<Trained> trained) {
    PhaseTagger tagger(Phase::Optimizer);
    OpBuilder b = OpBuilder::atBlockEnd(&step.getBody().front(), &tagger);
    Location loc = step.getLoc();
    SmallVector<Value> gradients = accumulate(step, b, trained);
    auto input = [&](StringRef role, Type element) -> Value {
      return scalarInput(step, b, role, element);
    };
    SmallVector<Value> norms = squaredNorms(step, b, trained, gradients);
    auto clip = ClipScaleOp::create(b, loc, norms, b.getF64FloatAttr(maxGradNorm));
    OutputOp::create(b, loc, clip.getNorm(), "grad_norm", /*sum=*/false);
    // A multiplication by exactly 1 either way; a constant does not wait for the norm.
    Value scale = clip.getScale();
    if (inBackward != "off" && maxGradNorm == 0 && accumulation == 1)
      scale = ConstantOp::create(
          b, loc, scale.getType(), DenseElementsAttr::get(cast<ShapedType>(scale.getType()), b.getF32FloatAttr(1.0f)));
    Value rate = input("learning_rate", b.getF64Type()), number = input("step_number", b.getI64Type());

    for (auto [t, gradient] : llvm::zip_equal(trained, gradients)) {
      Location at = t.parameter.getLoc();
      auto type = tensorType(t.parameter.getResult());
      if (t.shard) {
        SmallVector<int64_t> shape(type.getShape());
        shape[t.shard.getDim()] = static_cast<int64_t>(
            rt::pieceOf(static_cast<uint64_t>(t.shard.getSize()), static_cast<uint64_t>(t.shard.getMembers())));
        type = type.clone(shape);
      }
      auto state = [&](StringRef name, Type element) -> Value {
        return StateOp::create(b, at, type.clone(element), name, t.parameter.getName(), "optimizer", t.splits);
      };
      Value updated = t.shard ? state("shard", type.getElementType()) : t.parameter.getResult();
      Value its = gradient;
      if (t.gradientSplits != t.splits)
        its = TakePieceOp::create(b, at, gradient, t.shard.getDim(), t.shard.getGroup(), t.shard.getMembers(),
                                  /*zigzag=*/false);
      Type moment = stateElement(type.getElementType());
      Value master = masterWeights == "fp32" ? state("master", b.getF32Type()) : Value();
      bool decays = weightDecayOn == "all" || shapeOf(t.parameter.getResult()).size() >= 2;
      auto decay = b.getF64FloatAttr(decays ? weightDecay : 0.0);
      if (optimizer == "adamw") {
        Value average = state("exp_avg", moment), square = state("exp_avg_sq", moment);
        AdamWOp::create(b, at, updated, its, average, square, scale, rate, number, master,
                        b.getF64FloatAttr(beta1), b.getF64FloatAttr(beta2), b.getF64FloatAttr(epsilon), decay);
      } else {
        Value buffer = momentum != 0 ? state("momentum_buffer", moment) : Value();
        SgdOp::create(b, at, updated, its, scale, rate, number, buffer, master,
                      b.getF64FloatAttr(momentum), decay, nesterov ? b.getUnitAttr() : UnitAttr());
      }
      if (t.shard)
        RefreshOp::create(b, at, t.parameter, updated, t.shard.getDim(), t.shard.getSize(), t.shard.getGroup(),
                          t.shard.getMembers());
      t.gradient->erase();
    }
    step->setAttr("train.accumulation", b.getI64IntegerAttr(accumulation));
    step->setAttr("train.optimizer",
                  b.getDictionaryAttr({b.getNamedAttr("name", b.getStringAttr(optimizer)),
                                       b.getNamedAttr("learning_rate", b.getF64FloatAttr(learningRate)),
                                       b.getNamedAttr("max_grad_norm", b.getF64FloatAttr(maxGradNorm))}));
  }

  void runOnOperation() override {
    bool bad = failed(checkOptions());
    if (!bad)
      for (StepOp step : getOperation().getOps<StepOp>()) {
        FailureOr<SmallVector<Trained>> trained = gather(step);
        if (failed(trained)) {
          bad = true;
        } else {
          spread(step, *trained);
          write(step, *trained);
        }
      }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
