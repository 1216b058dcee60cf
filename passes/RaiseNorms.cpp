// Raise: RMSNorm and LayerNorm over the last dimension.
//
// In two steps, so that any order of the factors is found: first the normalisation proper, without
// weight, then products with a weight and sums with a bias are absorbed. A normalisation computed
// in f32 of a narrower tensor and cast back becomes one of the narrower tensor: statistics are fp32
// in any case.
#include "passes/Raise.h"

using namespace mlir;
using namespace amc::train;

namespace amc::raise {

namespace {
struct MeanSquare {
  Value x;
  double epsilon;
};
} // namespace

/// a + number, in either order; a itself with 0.
static std::pair<Value, double> splitConstantTerm(Rewriter &r, Value value) {
  if (auto add = definedBy<AddOp>(value))
    for (auto [a, b] : {std::pair(add.getA(), add.getB()), std::pair(add.getB(), add.getA())})
      if (a.getType() == value.getType())
        if (std::optional<double> number = r.scalar(b))
          return {a, *number};
  return {value, 0};
}

/// mean(x * x) + epsilon over the last dimension, which is kept as 1.
static std::optional<MeanSquare> matchMeanSquare(Rewriter &r, Value value) {
  auto [mean, epsilon] = splitConstantTerm(r, value);
  if (auto reshape = definedBy<ReshapeOp>(mean)) // keepdims = false and a new dimension
    mean = reshape.getX();
  auto reduce = definedBy<ReduceMeanOp>(mean);
  if (!reduce || !isOverLast(reduce) || !(epsilon >= 0 && std::isfinite(epsilon)))
    return std::nullopt;
  Value square = reduce.getX(), x;
  if (auto pow = definedBy<PowOp>(square)) {
    if (r.scalar(pow.getB()) == 2.0)
      x = pow.getA();
  } else if (auto mul = definedBy<MulOp>(square)) {
    if (mul.getA() == mul.getB())
      x = mul.getA();
  }
  if (!x || x.getType() != square.getType() || !isa<FloatType>(elementOf(x)))
    return std::nullopt;
  SmallVector<int64_t> kept(shapeOf(x));
  kept.back() = 1;
  if (shapeOf(value) != ArrayRef<int64_t>(kept))
    return std::nullopt;
  return MeanSquare{x, epsilon};
}

/// sqrt(mean(x * x) + epsilon)
static std::optional<MeanSquare> matchRoot(Rewriter &r, Value value) {
  if (auto root = definedBy<SqrtOp>(value))
    return matchMeanSquare(r, root.getX());
  if (auto pow = definedBy<PowOp>(value))
    if (r.scalar(pow.getB()) == 0.5 && pow.getA().getType() == value.getType())
      return matchMeanSquare(r, pow.getA());
  return std::nullopt;
}

/// 1 / sqrt(mean(x * x) + epsilon)
static std::optional<MeanSquare> matchReciprocalRoot(Rewriter &r, Value value) {
  if (auto op = definedBy<RsqrtOp>(value))
    return matchMeanSquare(r, op.getX());
  if (auto op = definedBy<ReciprocalOp>(value))
    return matchRoot(r, op.getX());
  if (auto op = definedBy<DivOp>(value))
    if (r.scalar(op.getA()) == 1.0 && op.getB().getType() == value.getType())
      return matchRoot(r, op.getB());
  if (auto op = definedBy<PowOp>(value)) {
    if (op.getA().getType() != value.getType())
      return std::nullopt;
    std::optional<double> exponent = r.scalar(op.getB());
    if (exponent == -0.5)
      return matchMeanSquare(r, op.getA());
    if (exponent == -1.0)
      return matchRoot(r, op.getA());
  }
  return std::nullopt;
}

/// y = x / sqrt(mean(x * x) + epsilon), y being the result of `op`.
static std::optional<MeanSquare> matchNormalised(Rewriter &r, Operation *op) {
  std::optional<MeanSquare> match;
  auto isOf = [&](Value x) {
    return match && match->x == x && x.getType() == op->getResult(0).getType();
  };
  if (auto mul = dyn_cast<MulOp>(op)) {
    for (auto [x, scale] : {std::pair(mul.getA(), mul.getB()), std::pair(mul.getB(), mul.getA())})
      if (match = matchReciprocalRoot(r, scale); isOf(x))
        return match;
  } else if (auto div = dyn_cast<DivOp>(op)) {
    if (match = matchRoot(r, div.getB()); isOf(div.getA()))
      return match;
  }
  return std::nullopt;
}

/// value = x - mean(x) over the last dimension.
static Value matchCentred(Value value) {
  auto sub = definedBy<SubOp>(value);
  if (!sub || sub.getA().getType() != value.getType())
    return {};
  Value mean = sub.getB();
  if (auto reshape = definedBy<ReshapeOp>(mean))
    mean = reshape.getX();
  auto reduce = definedBy<ReduceMeanOp>(mean);
  SmallVector<int64_t> kept(shapeOf(value));
  if (!reduce || kept.empty() || !isOverLast(reduce) || reduce.getX() != sub.getA())
    return {};
  kept.back() = 1;
  return shapeOf(sub.getB()) == ArrayRef<int64_t>(kept) ? sub.getA() : Value();
}

/// `value` as a vector over the last dimension of `x`, or null: it must add nothing to x's shape.
static Value asColumns(OpBuilder *b, Location loc, Value value, RankedTensorType x) {
  RankedTensorType type = tensorType(value);
  int64_t columns = x.getShape().back();
  if (type.getElementType() != x.getElementType() || type.getRank() > x.getRank() ||
      type.getRank() < 1 || type.getShape().back() != columns || type.getNumElements() != columns)
    return {};
  return b ? train::reshape(*b, loc, value, {columns}) : value;
}

namespace {
/// A normalisation without weight (or without bias) that a product (a sum) may absorb into itself.
struct Absorbed {
  Operation *norm;
  Value input;  // what the new normalisation reads
  Value vector; // weight or bias
};
} // namespace

/// The normalisation that `value` is, alone or cast back from f32 to the type that its input was
/// cast from.
static std::pair<Operation *, Value> matchNorm(Value value) {
  Value norm = value;
  if (auto cast = definedBy<CastOp>(value); cast && value.hasOneUse())
    norm = cast.getX();
  Operation *op = norm.getDefiningOp();
  if (!op || !isa<RmsNormOp, LayerNormOp>(op) || op->getResult(0) != norm || !norm.hasOneUse())
    return {nullptr, Value()};
  // Statistics that something else reads stay as they are.
  for (Value statistic : op->getResults().drop_front())
    if (!statistic.use_empty())
      return {nullptr, Value()};
  Value input = op->getOperand(0);
  if (norm == value)
    return {op, input};
  auto widen = definedBy<CastOp>(input);
  bool isPlain = op->getNumOperands() == 1;
  if (widen && isPlain && widen.getX().getType() == value.getType() &&
      isa<FloatType>(elementOf(value)) &&
      elementOf(value).getIntOrFloatBitWidth() < elementOf(input).getIntOrFloatBitWidth())
    return {op, widen.getX()};
  return {nullptr, Value()};
}

static std::optional<Absorbed> matchAbsorbed(Operation *op) {
  if (!isa<MulOp, AddOp>(op))
    return std::nullopt;
  for (unsigned i : {0u, 1u}) {
    auto [norm, input] = matchNorm(op->getOperand(i));
    Value vector = op->getOperand(1 - i);
    if (!norm || op->getOperand(i).getType() != op->getResult(0).getType() ||
        op->getOperand(i) == vector ||
        !asColumns(nullptr, op->getLoc(), vector, tensorType(op->getResult(0))))
      continue;
    auto rms = dyn_cast<RmsNormOp>(norm);
    auto layer = dyn_cast<LayerNormOp>(norm);
    if (isa<MulOp>(op) && (rms ? !rms.getWeight() : !layer.getWeight() && !layer.getBias()))
      return Absorbed{norm, input, vector};
    if (isa<AddOp>(op) && layer && layer.getWeight() && !layer.getBias())
      return Absorbed{norm, input, vector};
  }
  return std::nullopt;
}

bool raiseNorm(Rewriter &r, Operation *op) {
  Location loc = op->getLoc();
  if (std::optional<MeanSquare> match = matchNormalised(r, op)) {
    OpBuilder &b = r.at(op);
    FloatAttr epsilon = b.getF64FloatAttr(match->epsilon);
    Value centredOf = matchCentred(match->x);
    Value y = centredOf ? LayerNormOp::create(b, loc, centredOf, Value(), Value(), epsilon).getY()
                        : RmsNormOp::create(b, loc, match->x, Value(), epsilon).getY();
    r.replace(op, y, Found::Norm);
    return true;
  }
  if (std::optional<Absorbed> match = matchAbsorbed(op)) {
    OpBuilder &b = r.at(op);
    Value vector = asColumns(&b, loc, match->vector, tensorType(op->getResult(0)));
    Value y;
    if (auto rms = dyn_cast<RmsNormOp>(match->norm))
      y = RmsNormOp::create(b, loc, match->input, vector, rms.getEpsilonAttr()).getY();
    else if (auto layer = cast<LayerNormOp>(match->norm); isa<MulOp>(op))
      y = LayerNormOp::create(b, loc, match->input, vector, Value(), layer.getEpsilonAttr()).getY();
    else
      y = LayerNormOp::create(b, loc, match->input, layer.getWeight(), vector,
                              layer.getEpsilonAttr())
              .getY();
    r.replace(op, y, Found::Count);
    return true;
  }
  return false;
}

} // namespace amc::raise
