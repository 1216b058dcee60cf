// Decides which values of the forward graph are bf16: the weights, and every float that is computed
// from one.
//
// Phases: clamp literals that bf16 cannot hold; narrow the weights; walk the operations in order
// and infer each result again from narrower operands, so that an operation's own type rule says
// what stays fp32 (loss, log-sum-exp, statistics of norms). Floats that depend on no weight
// (angles, tables, masks, batch data) are auxiliary: they are computed as before and cast once,
// before their first reader that does not take both types.
//
// A graph that was exported in bf16 asks for fp32 here and there by a cast and for bf16 by another.
// Kernels compute in fp32 anyway, so these casts vanish and with them the fp32 copies of
// activations that they would make.
//
// Limits: a mixture of experts is routed by bf16 scores, whatever the exporter cast. Scalars that
// meet activations are rounded to bf16, unlike torch's Python numbers.
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "llvm/ADT/MapVector.h"

namespace amc {
#define GEN_PASS_DEF_APPLYPRECISION
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

bool isFloat(Value v) { return isa<FloatType>(elementOf(v)); }

/// `value` if bf16 has a finite number near it, else the bf16 number of largest magnitude and that
/// sign: a mask's "as small as can be" must not become an infinity, of which a softmax over nothing
/// else makes NaN.
APFloat clampToBf16(APFloat value) {
  const llvm::fltSemantics &own = value.getSemantics();
  if (!value.isFinite())
    return value;
  bool lossy;
  APFloat narrow = value;
  narrow.convert(APFloat::BFloat(), APFloat::rmNearestTiesToEven, &lossy);
  if (narrow.isFinite())
    return value;
  narrow = APFloat::getLargest(APFloat::BFloat(), value.isNegative());
  narrow.convert(own, APFloat::rmNearestTiesToEven, &lossy);
  return narrow;
}

/// The literal with each number replaced, in `element`; null if it is not stored as dense numbers.
DenseElementsAttr mapLiteral(ElementsAttr literal, FloatType element,
                             function_ref<APFloat(APFloat)> change) {
  auto dense = dyn_cast<DenseFPElementsAttr>(literal);
  if (!dense)
    return nullptr;
  return dense.mapValues(element,
                         [&](const APFloat &value) { return change(value).bitcastToAPInt(); });
}

class Narrowing {
public:
  explicit Narrowing(StepOp step)
      : step(step), b(step.getContext()), narrow(BFloat16Type::get(step.getContext())),
        wide(Float32Type::get(step.getContext())) {}

  LogicalResult run() {
    SmallVector<Operation *> ops;
    for (Operation &op : step.getBody().front())
      ops.push_back(&op);
    if (OutputOp loss = findOutput(step, "loss"))
      findLossTail(loss.getValue());
    bool bad = false;
    for (Operation *op : ops) {
      if (auto parameter = dyn_cast<ParameterOp>(op))
        narrowParameter(parameter);
      else if (!isa<SourceOpInterface>(op))
        bad |= failed(visit(op));
      else
        clampLiteral(op);
    }
    for (Operation *op : llvm::reverse(dead))
      op->erase();
    step->setAttr("train.precision", b.getStringAttr("bf16"));
    return failure(bad);
  }

  uint64_t narrowed = 0, castsRemoved = 0, castsAdded = 0;

private:
  /// Operations that make one number from one number, back from the loss to the reductions that
  /// gave the first.
  void findLossTail(Value value) {
    Operation *op = value.getDefiningOp();
    if (!op || !isFloat(value) || elementCount(shapeOf(value)) != 1 || !lossTail.insert(op).second)
      return;
    for (Value operand : op->getOperands())
      findLossTail(operand);
  }

  void clampLiteral(Operation *op) {
    if (auto constant = dyn_cast<ConstantOp>(op); constant && isFloat(constant.getResult()))
      if (auto clamped = mapLiteral(constant.getValue(),
                                    cast<FloatType>(elementOf(constant.getResult())), clampToBf16))
        constant.setValueAttr(clamped);
  }

  void narrowParameter(ParameterOp parameter) {
    Value value = parameter.getResult();
    if (!isFloat(value) || !(parameter.getTrainable() || parameter->hasAttr("train.frozen")))
      return;
    if (parameter.getSource()) {
      StringAttr stored = parameter.getSourceDtypeAttr();
      if (!stored)
        stored = b.getStringAttr(typeString(elementOf(value)));
      parameter.setSourceDtypeAttr(stored == "bf16" ? StringAttr() : stored);
    }
    setType(value, narrow);
  }

  void setType(Value value, Type element) {
    narrowed += element == narrow && elementOf(value) != narrow;
    value.setType(tensorType(value).clone(element));
    activations.insert(value);
  }

  LogicalResult visit(Operation *op) {
    if (auto fill = dyn_cast<FullOp>(op); fill && isFloat(fill.getResult()))
      fill.setValueAttr(FloatAttr::get(b.getF64Type(), clampToBf16(fill.getValue())));
    auto isActivation = [&](Value v) { return activations.contains(v); };
    if (llvm::none_of(op->getOperands(), isActivation))
      return success();
    auto inference = dyn_cast<InferTypeOpInterface>(op);
    if (!inference) // an output names what it is given
      return success();
    if (auto castOp = dyn_cast<CastOp>(op); castOp && isFloat(castOp.getResult())) {
      castOp.getResult().replaceAllUsesWith(castOp.getX());
      dead.push_back(op);
      ++castsRemoved;
      return success();
    }
    // Beside an fp32 activation (a part of the loss) everything is fp32.
    bool isWide = llvm::any_of(op->getOperands(),
                               [&](Value v) { return isActivation(v) && elementOf(v) != narrow; });
    FailureOr<SmallVector<Type>> types = failure();
    if (!isWide) {
      types = infer(inference, op->getOperands());
      if (failed(types))
        types = retype(inference, narrow);
      isWide = succeeded(types) && lossTail.contains(op) && llvm::any_of(*types, [&](Type type) {
                 return cast<RankedTensorType>(type).getElementType() == narrow;
               });
    }
    if (isWide)
      types = retype(inference, wide);
    if (failed(types))
      return report(op);
    for (auto [result, type] : llvm::zip_equal(op->getResults(), *types))
      if (isFloat(result))
        setType(result, cast<RankedTensorType>(type).getElementType());
    return success();
  }

  /// The result types that the operation's own rule gives; fails without a diagnostic.
  FailureOr<SmallVector<Type>> infer(InferTypeOpInterface op, ValueRange operands) {
    SmallVector<Type> types;
    if (failed(op.inferReturnTypes(op->getContext(), std::nullopt, operands,
                                   op->getAttrDictionary(), op->getPropertiesStorage(),
                                   op->getRegions(), types)) ||
        types.size() != op->getNumResults())
      return failure();
    return types;
  }

  /// Casts all float operands to `element` and infers.
  FailureOr<SmallVector<Type>> retype(InferTypeOpInterface op, Type element) {
    b.setInsertionPoint(op);
    for (OpOperand &operand : op->getOpOperands())
      if (isFloat(operand.get()) && elementOf(operand.get()) != element)
        operand.set(casted(operand.get(), element, op.getLoc()));
    return infer(op, op->getOperands());
  }

  /// `value` in `element`; made once, for the first reader, behind which all others stand.
  Value casted(Value value, Type element, Location loc) {
    Value &made = casts[{value, element}];
    if (made)
      return made;
    if (auto constant = value.getDefiningOp<ConstantOp>())
      if (auto literal =
              mapLiteral(constant.getValue(), cast<FloatType>(element), [&](APFloat number) {
                bool lossy;
                number.convert(cast<FloatType>(element).getFloatSemantics(),
                               APFloat::rmNearestTiesToEven, &lossy);
                return number;
              }))
        return made = ConstantOp::create(b, constant.getLoc(), literal.getType(), literal);
    if (auto fill = value.getDefiningOp<FullOp>())
      return made = full(b, fill.getLoc(), fill.getValue().convertToDouble(),
                         tensorType(value).clone(element));
    // An integer or a truth value is converted in one go.
    if (auto from = value.getDefiningOp<CastOp>(); from && !isFloat(from.getX()))
      value = from.getX();
    ++castsAdded;
    made = CastOp::create(b, loc, value, TypeAttr::get(element));
    return made;
  }

  LogicalResult report(Operation *op) {
    auto error = op->emitError("does not take bf16 beside what else it reads here");
    error.attachNote() << "compile with --precision=fp32";
    return failure();
  }

  StepOp step;
  OpBuilder b;
  Type narrow, wide;
  DenseSet<Value> activations; // floats that depend on a weight
  DenseSet<Operation *> lossTail;
  DenseMap<std::pair<Value, Type>, Value> casts;
  SmallVector<Operation *> dead;
};

struct ApplyPrecisionPass : amc::impl::ApplyPrecisionBase<ApplyPrecisionPass> {
  using ApplyPrecisionBase::ApplyPrecisionBase;

  void runOnOperation() override {
    if (precision != "fp32" && precision != "bf16") {
      getOperation().emitError("precision is \"" + precision + "\", should be fp32 or bf16");
      return signalPassFailure();
    }
    bool bad = false;
    for (StepOp step : getOperation().getOps<StepOp>()) {
      if (precision == "fp32") {
        step->setAttr("train.precision", StringAttr::get(&getContext(), "fp32"));
        continue;
      }
      if (llvm::any_of(step.getBody().front(),
                       [](Operation &op) { return phaseOf(&op) != Phase::Forward; })) {
        step.emitError("the step has a backward pass, should have none yet").attachNote()
            << "run apply-precision before derive-backward";
        bad = true;
        continue;
      }
      Narrowing narrowing(step);
      bad |= failed(narrowing.run());
      narrowed += narrowing.narrowed;
      castsRemoved += narrowing.castsRemoved;
      castsAdded += narrowing.castsAdded;
    }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
