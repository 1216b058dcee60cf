// Normalisations over the last dimension: shapes, oracle, gradients, cost.
//
// The statistics of a row are results because backward reads them; no gradient flows into them.
// Constraints are labelled; test/dialect/norm-invalid.mlir has a case for each.
#include "compiler/dialect/Fusion.h"
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/Workspace.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

/// The type of a statistic: one number for each row of `x`.
static RankedTensorType rowType(RankedTensorType x) {
  return RankedTensorType::get(x.getShape().drop_back(), statisticType(x.getElementType()));
}

/// A vector over the last dimension of `x`, in x's element type.
static RankedTensorType columnType(RankedTensorType x) {
  return RankedTensorType::get(x.getShape().back(), x.getElementType());
}

/// The type of such a vector that is added up over the rows of `x`.
static RankedTensorType columnSumType(RankedTensorType x, bool wide) {
  return RankedTensorType::get(x.getShape().back(), sumType(x.getElementType(), wide));
}

static LogicalResult checkEpsilon(std::optional<Location> loc, const APFloat &epsilon) {
  if (epsilon.isFinite() && !epsilon.isNegative())
    return success();
  return inferError(loc,
                    "epsilon is " + numberString(epsilon) + ", should be 0 or more and finite");
}

/// Rows are independent, each is whole: of a normalisation with x and vectors over its last dimension.
static ShardingRule rowsRule(Operation *op) {
  RuleBuilder r(op);
  ArrayRef<int64_t> x = shapeOf(op->getOperand(0));
  SmallVector<unsigned> rows = r.each(x.drop_back()), dims = rows;
  dims.push_back(r.factor(x.back(), FactorKind::Whole));
  r.operand(0, dims);
  for (unsigned i = 1; i < op->getNumOperands(); ++i)
    r.operand(i, dims.back());
  r.result(0, dims);
  for (unsigned i = 1; i < op->getNumResults(); ++i)
    r.result(i, rows);
  return std::move(r.rule);
}

static uint64_t flopsPerElement(Value x, uint64_t flops) {
  return llvm::SaturatingMultiply<uint64_t>(elementCount(shapeOf(x)), flops);
}

//===----------------------------------------------------------------------===//
// rms_norm
//===----------------------------------------------------------------------===//

LogicalResult RmsNormOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                          ValueRange operands, DictionaryAttr attributes,
                                          OpaqueProperties properties, RegionRange regions,
                                          SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  RankedTensorType x = tensorType(op.getX());
  // rms_norm_c1
  if (x.getRank() < 1)
    return inferError(loc, "x is a scalar, should be of rank 1 or more");
  // rms_norm_c2
  if (op.getWeight() && failed(inferExpect(loc, "weight", op.getWeight(), columnType(x))))
    return failure();
  // rms_norm_c3
  if (failed(checkEpsilon(loc, op.getEpsilon())))
    return failure();
  return inferTensors(loc, {x, rowType(x)}, types);
}

LogicalResult RmsNormOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &x = *in[0], *weight = in[1];
  int64_t columns = x.shape().back();
  double epsilon = getEpsilon().convertToDouble();
  for (int64_t row = 0, rows = out[1].size(); row < rows; ++row) {
    const double *xs = x.floats.data() + row * columns;
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i)
      sum += xs[i] * xs[i];
    double rstd = out[1].floats[row] = 1 / std::sqrt(sum / columns + epsilon);
    for (int64_t i = 0; i < columns; ++i)
      out[0].floats[row * columns + i] = xs[i] * rstd * (weight ? weight->floats[i] : 1);
  }
  return success();
}

LogicalResult RmsNormOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                  MutableArrayRef<Value> gradients) {
  if (cotangents[1])
    return failure();
  if (!cotangents[0])
    return success();
  auto backward =
      RmsNormBackwardOp::create(b, getLoc(), cotangents[0], getX(), getRstd(), getWeight(), /*wide=*/false);
  if (needed[0])
    gradients[0] = backward.getDx();
  if (getWeight() && needed[1])
    gradients[1] = backward.getDweight();
  return success();
}

ShardingRule RmsNormOp::getShardingRule() { return rowsRule(*this); }

uint64_t RmsNormOp::getFlops() { return flopsPerElement(getX(), 4); }

LogicalResult RmsNormBackwardOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                                  ValueRange operands, DictionaryAttr attributes,
                                                  OpaqueProperties properties, RegionRange regions,
                                                  SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  RankedTensorType x = tensorType(op.getX());
  // rms_norm_backward_c1
  if (x.getRank() < 1)
    return inferError(loc, "x is a scalar, should be of rank 1 or more");
  // rms_norm_backward_c2
  if (failed(inferExpect(loc, "dy", op.getDy(), x)))
    return failure();
  // rms_norm_backward_c3
  if (failed(inferExpect(loc, "rstd", op.getRstd(), rowType(x))))
    return failure();
  if (!op.getWeight())
    return inferTensors(loc, {x}, types);
  // rms_norm_backward_c4
  if (failed(inferExpect(loc, "weight", op.getWeight(), columnType(x))))
    return failure();
  // rms_norm_backward_c5: dweight is rounded unless it is wide.
  return inferTensors(loc, {x, columnSumType(x, op.getWide())}, types);
}

LogicalResult RmsNormBackwardOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &dy = *in[0], &x = *in[1], &rstds = *in[2], *weight = in[3];
  int64_t columns = x.shape().back();
  for (int64_t row = 0, rows = rstds.size(); row < rows; ++row) {
    double rstd = rstds.floats[row], mean = 0;
    int64_t base = row * columns;
    auto g = [&](int64_t i) { return dy.floats[base + i] * (weight ? weight->floats[i] : 1); };
    for (int64_t i = 0; i < columns; ++i)
      mean += g(i) * x.floats[base + i] / columns;
    for (int64_t i = 0; i < columns; ++i) {
      out[0].floats[base + i] = rstd * (g(i) - x.floats[base + i] * rstd * rstd * mean);
      if (weight)
        out[1].floats[i] += dy.floats[base + i] * x.floats[base + i] * rstd;
    }
  }
  return success();
}

uint64_t RmsNormBackwardOp::getFlops() { return flopsPerElement(getX(), getWeight() ? 11 : 8); }

uint64_t RmsNormBackwardOp::getWorkspaceBytes() {
  return rt::workspace::rmsNormBackward(elementCount(shapeOf(getRstd())), shapeOf(getX()).back(),
                                        static_cast<bool>(getWeight()), accumulatorBytes(getX()));
}
uint64_t RmsNormBackwardOp::getCudaWorkspaceBytes() { return getWorkspaceBytes(); }

SmallVector<OpResult> RmsNormBackwardOp::getSums() {
  return llvm::map_to_vector(getOperation()->getResults().drop_front(), [](OpResult r) { return r; });
}

//===----------------------------------------------------------------------===//
// layer_norm
//===----------------------------------------------------------------------===//

LogicalResult LayerNormOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                            ValueRange operands, DictionaryAttr attributes,
                                            OpaqueProperties properties, RegionRange regions,
                                            SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  // layer_norm_c1: the generated accessors trust the segments of required operands.
  if (op.getProperties().operandSegmentSizes[0] != 1)
    return inferError(loc, "operandSegmentSizes should give x one operand");
  RankedTensorType x = tensorType(op.getX());
  // layer_norm_c2
  if (x.getRank() < 1)
    return inferError(loc, "x is a scalar, should be of rank 1 or more");
  // layer_norm_c3
  if (op.getWeight() && failed(inferExpect(loc, "weight", op.getWeight(), columnType(x))))
    return failure();
  // layer_norm_c4
  if (op.getBias() && failed(inferExpect(loc, "bias", op.getBias(), columnType(x))))
    return failure();
  // layer_norm_c5: backward has either both gradients or none.
  if (op.getBias() && !op.getWeight())
    return inferError(loc, "there is a bias without a weight, should be with one");
  // layer_norm_c6
  if (failed(checkEpsilon(loc, op.getEpsilon())))
    return failure();
  return inferTensors(loc, {x, rowType(x), rowType(x)}, types);
}

LogicalResult LayerNormOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &x = *in[0], *weight = in[1], *bias = in[2];
  int64_t columns = x.shape().back();
  double epsilon = getEpsilon().convertToDouble();
  for (int64_t row = 0, rows = out[1].size(); row < rows; ++row) {
    const double *xs = x.floats.data() + row * columns;
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < columns; ++i)
      mean += xs[i] / columns;
    for (int64_t i = 0; i < columns; ++i)
      variance += (xs[i] - mean) * (xs[i] - mean) / columns;
    double rstd = 1 / std::sqrt(variance + epsilon);
    out[1].floats[row] = mean;
    out[2].floats[row] = rstd;
    for (int64_t i = 0; i < columns; ++i)
      out[0].floats[row * columns + i] =
          (xs[i] - mean) * rstd * (weight ? weight->floats[i] : 1) + (bias ? bias->floats[i] : 0);
  }
  return success();
}

LogicalResult LayerNormOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (cotangents[1] || cotangents[2])
    return failure();
  if (!cotangents[0])
    return success();
  // Result types are spelled out: the inferring builder does not set the segments of results.
  Type x = getX().getType(), column = getWeight() ? Type(columnType(tensorType(getX()))) : Type();
  auto backward = LayerNormBackwardOp::create(b, getLoc(), x, column, column, cotangents[0], getX(),
                                              getMean(), getRstd(), getWeight(), /*wide=*/false);
  if (needed[0])
    gradients[0] = backward.getDx();
  if (getWeight() && needed[1])
    gradients[1] = backward.getDweight();
  if (getBias() && needed[2])
    gradients[2] = backward.getDbias();
  return success();
}

ShardingRule LayerNormOp::getShardingRule() { return rowsRule(*this); }

uint64_t LayerNormOp::getFlops() { return flopsPerElement(getX(), 8); }

LogicalResult LayerNormBackwardOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                                    ValueRange operands, DictionaryAttr attributes,
                                                    OpaqueProperties properties,
                                                    RegionRange regions,
                                                    SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  // layer_norm_backward_c6: results are told apart by their segments. All zero: a builder asks for
  // the types and sets them later.
  ArrayRef<int32_t> segments = op.getProperties().resultSegmentSizes;
  int32_t vectors = op.getWeight() ? 1 : 0;
  if (segments != ArrayRef<int32_t>({0, 0, 0}) &&
      segments != ArrayRef<int32_t>({1, vectors, vectors}))
    return inferError(loc, "resultSegmentSizes should be 1, " + Twine(vectors) + ", " +
                               Twine(vectors) + ", as weight is " +
                               (op.getWeight() ? "there" : "absent"));
  RankedTensorType x = tensorType(op.getX());
  // layer_norm_backward_c1
  if (x.getRank() < 1)
    return inferError(loc, "x is a scalar, should be of rank 1 or more");
  // layer_norm_backward_c2
  if (failed(inferExpect(loc, "dy", op.getDy(), x)))
    return failure();
  // layer_norm_backward_c3
  if (failed(inferExpect(loc, "mean", op.getMean(), rowType(x))))
    return failure();
  // layer_norm_backward_c4
  if (failed(inferExpect(loc, "rstd", op.getRstd(), rowType(x))))
    return failure();
  if (!op.getWeight())
    return inferTensors(loc, {x}, types);
  // layer_norm_backward_c5
  if (failed(inferExpect(loc, "weight", op.getWeight(), columnType(x))))
    return failure();
  // layer_norm_backward_c7: dweight and dbias are rounded unless they are wide.
  RankedTensorType sum = columnSumType(x, op.getWide());
  return inferTensors(loc, {x, sum, sum}, types);
}

LogicalResult LayerNormBackwardOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &dy = *in[0], &x = *in[1], &means = *in[2], &rstds = *in[3], *weight = in[4];
  int64_t columns = x.shape().back();
  for (int64_t row = 0, rows = rstds.size(); row < rows; ++row) {
    double rstd = rstds.floats[row], meanG = 0, meanGH = 0;
    int64_t base = row * columns;
    auto g = [&](int64_t i) { return dy.floats[base + i] * (weight ? weight->floats[i] : 1); };
    auto h = [&](int64_t i) { return (x.floats[base + i] - means.floats[row]) * rstd; };
    for (int64_t i = 0; i < columns; ++i) {
      meanG += g(i) / columns;
      meanGH += g(i) * h(i) / columns;
    }
    for (int64_t i = 0; i < columns; ++i) {
      out[0].floats[base + i] = rstd * (g(i) - meanG - h(i) * meanGH);
      if (weight) {
        out[1].floats[i] += dy.floats[base + i] * h(i);
        out[2].floats[i] += dy.floats[base + i];
      }
    }
  }
  return success();
}

uint64_t LayerNormBackwardOp::getFlops() { return flopsPerElement(getX(), getWeight() ? 14 : 10); }

uint64_t LayerNormBackwardOp::getWorkspaceBytes() {
  return rt::workspace::layerNormBackward(elementCount(shapeOf(getRstd())), shapeOf(getX()).back(),
                                          static_cast<bool>(getWeight()), accumulatorBytes(getX()));
}
uint64_t LayerNormBackwardOp::getCudaWorkspaceBytes() { return getWorkspaceBytes(); }

SmallVector<OpResult> LayerNormBackwardOp::getSums() {
  return llvm::map_to_vector(getOperation()->getResults().drop_front(), [](OpResult r) { return r; });
}

//===----------------------------------------------------------------------===//
// Fused kernels. Orders of operations are those of runtime/device/cpu/hot/HotRows.cpp, but for sums.
//===----------------------------------------------------------------------===//

/// Of x and what is made of its rows: statistics of rows are results behind the first.
static FusionRule normRule(Operation *op, Value x) {
  FusionRule rule = rowFusion(op, shapeOf(x));
  for (unsigned i = 1; i < op->getNumResults(); ++i) {
    rule.results[i] = Makes::Row;
    rule.statisticOf[i] = i - 1;
  }
  rule.statistics.assign(op->getNumResults() - 1, Combine::Sum);
  rule.chained = true;
  return rule;
}

/// … of their gradients: statistics of forward are operands, one a row; sums over the rows are results behind the first.
static FusionRule normBackwardRule(Operation *op, Value x, ValueRange statistics, unsigned count) {
  FusionRule rule = rowFusion(op, shapeOf(x));
  for (OpOperand &operand : op->getOpOperands())
    rule.perRow[operand.getOperandNumber()] = llvm::is_contained(statistics, operand.get());
  if (static_cast<size_t>(llvm::count(rule.perRow, true)) != statistics.size())
    rule.domain.reset(); // one value is a statistic and a row at once: elements are asked for by value
  for (unsigned i = 1; i < op->getNumResults(); ++i)
    rule.results[i] = Makes::ColumnSum;
  rule.statistics.assign(count, Combine::Sum);
  return rule;
}

static Value meanOf(ElementEmitter &e, Value x, Value sum) {
  return e.div(sum, e.constant(static_cast<double>(shapeOf(x).back())));
}
static Value reciprocalRoot(ElementEmitter &e, Value mean, const APFloat &epsilon) {
  return e.div(e.constant(1), e.sqrt(e.add(mean, e.constant(epsilon.convertToDouble()))));
}
/// dy, times the weight if there is one.
static Value weighted(ElementEmitter &e, Value dy, Value weight) {
  Value g = e.element(dy);
  return weight ? e.mul(g, e.element(weight)) : g;
}

FusionRule RmsNormOp::getFusionRule() { return normRule(*this, getX()); }
Value RmsNormOp::emitTerm(ElementEmitter &e, unsigned) {
  Value x = e.element(getX());
  return e.mul(x, x);
}
Value RmsNormOp::emitStatistic(ElementEmitter &e, unsigned, Value sum) {
  return reciprocalRoot(e, meanOf(e, getX(), sum), getEpsilon());
}
void RmsNormOp::emitElement(ElementEmitter &e) {
  Value y = e.mul(e.element(getX()), e.statistic(0));
  e.set(getY(), getWeight() ? e.mul(y, e.element(getWeight())) : y);
}

FusionRule RmsNormBackwardOp::getFusionRule() { return normBackwardRule(*this, getX(), getRstd(), 1); }
Value RmsNormBackwardOp::emitTerm(ElementEmitter &e, unsigned) {
  return e.mul(weighted(e, getDy(), getWeight()), e.element(getX()));
}
Value RmsNormBackwardOp::emitStatistic(ElementEmitter &e, unsigned, Value sum) {
  Value rstd = e.element(getRstd());
  return e.mul(e.mul(e.neg(rstd), rstd), meanOf(e, getX(), sum));
}
void RmsNormBackwardOp::emitElement(ElementEmitter &e) {
  Value x = e.element(getX()), rstd = e.element(getRstd());
  e.set(getDx(), e.mul(rstd, e.fma(x, e.statistic(0), weighted(e, getDy(), getWeight()))));
  if (getDweight())
    e.set(getDweight(), e.mul(e.element(getDy()), e.mul(x, rstd)));
}

FusionRule LayerNormOp::getFusionRule() { return normRule(*this, getX()); }
Value LayerNormOp::emitTerm(ElementEmitter &e, unsigned k) {
  Value x = e.element(getX());
  if (k == 0)
    return x;
  Value d = e.sub(x, e.statistic(0));
  return e.mul(d, d);
}
Value LayerNormOp::emitStatistic(ElementEmitter &e, unsigned k, Value sum) {
  Value mean = meanOf(e, getX(), sum);
  return k == 0 ? mean : reciprocalRoot(e, mean, getEpsilon());
}
void LayerNormOp::emitElement(ElementEmitter &e) {
  Value y = e.mul(e.sub(e.element(getX()), e.statistic(0)), e.statistic(1));
  if (getWeight())
    y = e.mul(y, e.element(getWeight()));
  e.set(getY(), getBias() ? e.add(y, e.element(getBias())) : y);
}

static Value normalized(ElementEmitter &e, LayerNormBackwardOp op) {
  return e.mul(e.sub(e.element(op.getX()), e.element(op.getMean())), e.element(op.getRstd()));
}
FusionRule LayerNormBackwardOp::getFusionRule() {
  return normBackwardRule(*this, getX(), {getMean(), getRstd()}, 2);
}
Value LayerNormBackwardOp::emitTerm(ElementEmitter &e, unsigned k) {
  Value g = weighted(e, getDy(), getWeight());
  return k == 0 ? g : e.mul(g, normalized(e, *this));
}
Value LayerNormBackwardOp::emitStatistic(ElementEmitter &e, unsigned, Value sum) { return meanOf(e, getX(), sum); }
void LayerNormBackwardOp::emitElement(ElementEmitter &e) {
  Value h = normalized(e, *this), g = weighted(e, getDy(), getWeight());
  Value inner = e.fma(e.neg(h), e.statistic(1), e.sub(g, e.statistic(0)));
  e.set(getDx(), e.mul(e.element(getRstd()), inner));
  if (getDweight())
    e.set(getDweight(), e.mul(e.element(getDy()), h));
  if (getDbias())
    e.set(getDbias(), e.element(getDy()));
}
