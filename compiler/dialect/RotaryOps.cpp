// Rotary embedding: shapes, oracle, gradient. Constraints are labelled; test/dialect/attention-invalid.mlir has a case for
// each.
#include "compiler/dialect/Fusion.h"
#include "compiler/dialect/OpSupport.h"

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

/// What rotary and its backward ask of x (or dy), cos and sin. Both carry each label.
static LogicalResult checkRotary(std::optional<Location> loc, Value x, Value cos, Value sin) {
  ArrayRef<int64_t> shape = shapeOf(x);
  // rotary_c1, rotary_backward_c1
  if (shape.size() != 4)
    return inferError(loc, "x is of shape " + shapeString(shape) + ", should be of rank 4");
  // rotary_c2, rotary_backward_c2
  if (shape.back() % 2)
    return inferError(loc, "x's last dimension is " + Twine(shape.back()) + ", should be even");
  for (Value table : {cos, sin}) {
    // rotary_c3, rotary_backward_c3
    std::optional<SmallVector<int64_t>> result = broadcastShapes({shape, shapeOf(table)});
    if (!result || ArrayRef<int64_t>(*result) != shape)
      return inferError(loc, "cos and sin are of shapes " + shapeString(shapeOf(cos)) + " and " +
                                 shapeString(shapeOf(sin)) + ", should broadcast to x's, " +
                                 shapeString(shape));
    // rotary_c4, rotary_backward_c4
    if (elementOf(table) != elementOf(x) && elementOf(table) != statisticType(elementOf(x)))
      return inferError(loc, "cos and sin are of element types " + typeString(elementOf(cos)) +
                                 " and " + typeString(elementOf(sin)) + ", should be of x's, " +
                                 typeString(elementOf(x)));
  }
  return success();
}

/// The other element of the pair that rotation mixes `flat` with, and whether `flat` is the pair's
/// first.
static std::pair<int64_t, bool> rotationPartner(int64_t flat, int64_t columns, bool interleaved) {
  int64_t column = flat % columns;
  int64_t distance = interleaved ? 1 : columns / 2;
  bool first = interleaved ? column % 2 == 0 : column < distance;
  return {first ? flat + distance : flat - distance, first};
}

LogicalResult RotaryOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                         ValueRange operands, DictionaryAttr attributes,
                                         OpaqueProperties properties, RegionRange regions,
                                         SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkRotary(loc, op.getX(), op.getCos(), op.getSin())))
    return failure();
  return inferTensors(loc, {tensorType(op.getX())}, types);
}

LogicalResult RotaryOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &x = *in[0], &cos = *in[1], &sin = *in[2];
  BroadcastIndexer c(cos.shape(), x.shape()), s(sin.shape(), x.shape());
  for (int64_t i = 0, e = x.size(); i < e; ++i) {
    auto [partner, first] = rotationPartner(i, x.shape().back(), getInterleaved());
    double rotated = first ? -x.floats[partner] : x.floats[partner];
    out[0].floats[i] = x.floats[i] * cos.floats[c(i)] + rotated * sin.floats[s(i)];
  }
  return success();
}

ShardingRule RotaryOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> shape = shapeOf(getX());
  SmallVector<unsigned> dims = r.each(shape.drop_back());
  dims.push_back(r.factor(shape.back(), FactorKind::Whole));
  for (unsigned i = 0; i < 3; ++i)
    r.broadcastOperand(i, shape, dims);
  r.result(0, dims);
  return std::move(r.rule);
}

LogicalResult RotaryOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                 MutableArrayRef<Value> gradients) {
  if (!cotangents[0])
    return success();
  if (needed[1] || needed[2])
    return failure();
  if (needed[0])
    gradients[0] =
        RotaryBackwardOp::create(b, getLoc(), cotangents[0], getCos(), getSin(), getInterleaved());
  return success();
}

LogicalResult RotaryBackwardOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                                 ValueRange operands, DictionaryAttr attributes,
                                                 OpaqueProperties properties, RegionRange regions,
                                                 SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkRotary(loc, op.getDy(), op.getCos(), op.getSin())))
    return failure();
  return inferTensors(loc, {tensorType(op.getDy())}, types);
}

LogicalResult RotaryBackwardOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &dy = *in[0], &cos = *in[1], &sin = *in[2];
  BroadcastIndexer c(cos.shape(), dy.shape()), s(sin.shape(), dy.shape());
  for (int64_t i = 0, e = dy.size(); i < e; ++i) {
    auto [partner, first] = rotationPartner(i, dy.shape().back(), getInterleaved());
    double mixed = dy.floats[partner] * sin.floats[s(partner)];
    out[0].floats[i] = dy.floats[i] * cos.floats[c(i)] + (first ? mixed : -mixed);
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Fusion: the formulas of runtime/device/cpu/hot/HotRows.cpp, with the same bits
//===----------------------------------------------------------------------===//

static FusionRule rotationRule(Operation *op, Value x, bool interleaved) {
  FusionRule rule = rowFusion(op, shapeOf(x));
  rule.pairs = interleaved ? Pairs::Neighbours : Pairs::Halves;
  return rule;
}

FusionRule RotaryOp::getFusionRule() { return rotationRule(*this, getX(), getInterleaved()); }
void RotaryOp::emitElement(ElementEmitter &e) {
  Value rotated = e.mul(e.ofPair(-1, 1), e.partner(getX()));
  e.set(getY(), e.fma(rotated, e.element(getSin()), e.mul(e.element(getX()), e.element(getCos()))));
}

FusionRule RotaryBackwardOp::getFusionRule() { return rotationRule(*this, getDy(), getInterleaved()); }
void RotaryBackwardOp::emitElement(ElementEmitter &e) {
  Value rotated = e.mul(e.ofPair(1, -1), e.partner(getDy()));
  e.set(getDx(), e.fma(rotated, e.partner(getSin()), e.mul(e.element(getDy()), e.element(getCos()))));
}
