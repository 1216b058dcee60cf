// Reductions and softmax: shape rules, evaluation, gradients, cost. Comments name each constraint (reduction_c1);
// test/dialect/reduction-invalid.mlir has a case of every name.
#include "compiler/dialect/IndexSupport.h"
#include "runtime/plan/CudaWorkspace.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

using Shape = SmallVector<int64_t>;
using Types = SmallVectorImpl<Type>;
using Loc = std::optional<Location>;

/// The shape of x with the reduced dimensions 1.
Shape keptShape(ArrayRef<int64_t> x, ArrayRef<int64_t> axes) {
  Shape shape(x);
  for (int64_t axis : axes)
    shape[axis] = 1;
  return shape;
}

/// The shape rule of all reductions. `needsElements`: there is no result of nothing.
LogicalResult inferReduction(Loc loc, Value x, ArrayRef<int64_t> axes, bool keepdims,
                             bool needsElements, Types &types) {
  ArrayRef<int64_t> from = shapeOf(x);
  int64_t previous = -1, rank = from.size();
  for (int64_t axis : axes) {
    // reduction_c1: axes are ascending dimensions, each once.
    if (axis <= previous || axis >= rank)
      return inferError(loc, "axis is " + Twine(axis) + ", should be in [" + Twine(previous + 1) +
                                 ", " + Twine(rank) + "), axes ascending");
    // reduction_c2: mean, largest and smallest are of at least one element.
    if (needsElements && from[axis] == 0)
      return inferError(loc, "dimension " + Twine(axis) + " to reduce is 0, should be 1 or more");
    previous = axis;
  }
  Shape shape;
  for (auto [d, size] : llvm::enumerate(from))
    if (!llvm::is_contained(axes, static_cast<int64_t>(d)))
      shape.push_back(size);
    else if (keepdims)
      shape.push_back(1);
  return inferTensor(loc, shape, elementOf(x), types);
}

template <typename Op>
LogicalResult inferReductionOf(Loc loc, typename Op::Adaptor op, bool needsElements, Types &types) {
  return inferReduction(loc, op.getX(), op.getAxes(), op.getKeepdims(), needsElements, types);
}

/// Folds x's elements into the result's, in ascending order.
template <typename FloatFold, typename IntFold>
LogicalResult evaluateReduction(const HostTensor &x, ArrayRef<int64_t> axes, double floatStart,
                                int64_t intStart, HostTensor &y, FloatFold foldFloats,
                                IntFold foldInts) {
  llvm::fill(y.floats, floatStart);
  llvm::fill(y.ints, intStart);
  Shape kept = keptShape(x.shape(), axes), strides = rowMajorStrides(kept);
  for (int64_t axis : axes)
    strides[axis] = 0;
  return forEachIndex(x.shape(), [&](int64_t flat, ArrayRef<int64_t> at) {
    int64_t to = flatten(at, strides);
    if (x.isFloat())
      y.floats[to] = foldFloats(y.floats[to], x.floats[flat]);
    else
      y.ints[to] = foldInts(y.ints[to], x.ints[flat]);
    return success();
  });
}

int64_t reducedCount(ArrayRef<int64_t> x, ArrayRef<int64_t> axes) {
  int64_t count = 1;
  for (int64_t axis : axes)
    count *= x[axis];
  return count;
}

uint64_t readElements(Value x) { return tensorType(x).getNumElements(); }

double larger(double a, double b) { return std::isnan(a) || a > b ? a : b; }
double smaller(double a, double b) { return std::isnan(a) || a < b ? a : b; }

/// `value`, a reduction's result or its cotangent, with the reduced dimensions back as 1.
Value keep(OpBuilder &b, Location loc, Value value, Value x, ArrayRef<int64_t> axes) {
  return reshape(b, loc, value, keptShape(shapeOf(x), axes));
}

Value sumKept(OpBuilder &b, Location loc, Value x, ArrayRef<int64_t> axes) {
  return ReduceSumOp::create(b, loc, x, axes, /*keepdims=*/true, /*wide=*/false);
}

/// For max and min: elements equal to the result share its gradient.
Value shareAmongEqual(OpBuilder &b, Location loc, Value x, Value y, Value dy,
                      ArrayRef<int64_t> axes) {
  Value equal = EqualOp::create(b, loc, x, keep(b, loc, y, x, axes));
  Value mask = cast(b, loc, equal, elementOf(x));
  Value share = DivOp::create(b, loc, keep(b, loc, dy, x, axes), sumKept(b, loc, mask, axes));
  return MulOp::create(b, loc, mask, share);
}

} // namespace

//===--------------------------------------------------------------------------------------------===//
// Sum, mean, product
//===--------------------------------------------------------------------------------------------===//

/// What is not reduced is parallel; what is, of that kind.
static ShardingRule reductionRule(Operation *op, ArrayRef<int64_t> axes, bool keepdims, FactorKind reduced) {
  RuleBuilder r(op);
  ArrayRef<int64_t> shape = shapeOf(op->getOperand(0));
  SmallVector<unsigned> x, y;
  for (int64_t dim = 0; dim < static_cast<int64_t>(shape.size()); ++dim) {
    bool gone = llvm::is_contained(axes, dim);
    x.push_back(r.factor(shape[dim], gone ? reduced : FactorKind::Parallel));
    if (!gone || keepdims)
      y.push_back(gone ? RuleBuilder::none : x.back());
  }
  r.operand(0, x);
  r.result(0, y);
  return std::move(r.rule);
}

/// Along `axis` nothing is cut.
static ShardingRule alongRule(Operation *op, int64_t axis) {
  RuleBuilder r(op);
  ArrayRef<int64_t> shape = shapeOf(op->getOperand(0));
  SmallVector<unsigned> dims;
  for (int64_t dim = 0; dim < static_cast<int64_t>(shape.size()); ++dim)
    dims.push_back(r.factor(shape[dim], dim == axis ? FactorKind::Whole : FactorKind::Parallel));
  r.operand(0, dims);
  r.result(0, dims);
  return std::move(r.rule);
}

/// On a CUDA device, of pieces of long sums: in fp32, f64 and integers in 64 bits.
static uint64_t reductionWorkspace(Value x, Value y) {
  uint64_t results = elementCount(shapeOf(y)), terms = results ? elementCount(shapeOf(x)) / results : 0;
  Type element = elementOf(x);
  return rt::workspace::cuda::reduction(results, terms, element.isFloat() && !element.isF64() ? 4 : 8);
}

LogicalResult ReduceSumOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                            DictionaryAttr attributes, OpaqueProperties properties,
                                            RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(inferReductionOf<ReduceSumOp>(loc, op, false, types)))
    return failure();
  // reduce_sum_c1: a sum of floats is rounded unless it is wide.
  if (Type element = elementOf(op.getX()); op.getWide() && isa<FloatType>(element))
    types.back() = cast<RankedTensorType>(types.back()).clone(statisticType(element));
  return success();
}
LogicalResult ReduceSumOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                    MutableArrayRef<HostTensor> outputs) {
  return evaluateReduction(*inputs[0], getAxes(), 0, 0, outputs[0], std::plus<double>(), wrapAdd);
}
ShardingRule ReduceSumOp::getShardingRule() {
  return reductionRule(*this, getAxes(), getKeepdims(), FactorKind::Sum);
}
uint64_t ReduceSumOp::getFlops() { return readElements(getX()); }
uint64_t ReduceSumOp::getCudaWorkspaceBytes() { return reductionWorkspace(getX(), getY()); }
LogicalResult ReduceSumOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0]) {
    Value dy = train::cast(b, getLoc(), cotangents[0], elementOf(getX())); // of a wide result it is wide
    gradients[0] = BroadcastOp::create(b, getLoc(), keep(b, getLoc(), dy, getX(), getAxes()), shapeOf(getX()));
  }
  return success();
}
SmallVector<OpResult> ReduceSumOp::getSums() { return {getOperation()->getResult(0)}; }

LogicalResult ReduceMeanOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                             DictionaryAttr attributes, OpaqueProperties properties,
                                             RegionRange regions, Types &types) {
  return inferReductionOf<ReduceMeanOp>(loc, {operands, attributes, properties, regions}, true,
                                        types);
}
LogicalResult ReduceMeanOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                     MutableArrayRef<HostTensor> outputs) {
  if (failed(evaluateReduction(*inputs[0], getAxes(), 0, 0, outputs[0], std::plus<double>(),
                               wrapAdd)))
    return failure();
  int64_t count = reducedCount(inputs[0]->shape(), getAxes());
  for (double &sum : outputs[0].floats)
    sum /= static_cast<double>(count);
  for (int64_t &sum : outputs[0].ints)
    sum /= count;
  return success();
}
ShardingRule ReduceMeanOp::getShardingRule() {
  return reductionRule(*this, getAxes(), getKeepdims(), FactorKind::Whole);
}
uint64_t ReduceMeanOp::getFlops() { return readElements(getX()); }
uint64_t ReduceMeanOp::getCudaWorkspaceBytes() { return reductionWorkspace(getX(), getY()); }
LogicalResult ReduceMeanOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                     MutableArrayRef<Value> gradients) {
  if (!needed[0] || !cotangents[0])
    return success();
  Location loc = getLoc();
  double count = static_cast<double>(reducedCount(shapeOf(getX()), getAxes()));
  // 1 / count rounded to bf16 would bias every element alike: unless it is exact, the share is computed in fp32.
  Type element = elementOf(getX());
  Type wide = std::exp2(std::ilogb(count)) == count ? element : statisticType(element);
  Value dy = cast(b, loc, keep(b, loc, cotangents[0], getX(), getAxes()), wide);
  Value share = cast(b, loc, MulOp::create(b, loc, dy, scalar(b, loc, 1.0 / count, wide)), element);
  gradients[0] = BroadcastOp::create(b, loc, share, shapeOf(getX()));
  return success();
}

LogicalResult ReduceProdOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                             DictionaryAttr attributes, OpaqueProperties properties,
                                             RegionRange regions, Types &types) {
  return inferReductionOf<ReduceProdOp>(loc, {operands, attributes, properties, regions}, false,
                                        types);
}
LogicalResult ReduceProdOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                     MutableArrayRef<HostTensor> outputs) {
  return evaluateReduction(*inputs[0], getAxes(), 1, 1, outputs[0], std::multiplies<double>(),
                           wrapMul);
}
ShardingRule ReduceProdOp::getShardingRule() {
  return reductionRule(*this, getAxes(), getKeepdims(), FactorKind::Whole);
}
uint64_t ReduceProdOp::getFlops() { return readElements(getX()); }
uint64_t ReduceProdOp::getCudaWorkspaceBytes() { return reductionWorkspace(getX(), getY()); }

// The product of all other elements: with no zero among them result / x, with one zero the product of the rest there
// and 0 elsewhere, with more 0. So: product of the non-zero elements, divided by x unless it is zero itself, where
// the number of zeros is that of x itself.
LogicalResult ReduceProdOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                     MutableArrayRef<Value> gradients) {
  if (!needed[0] || !cotangents[0])
    return success();
  Location loc = getLoc();
  Type element = elementOf(getX());
  Value zero = scalar(b, loc, 0, element), one = scalar(b, loc, 1, element);
  Value isZero = EqualOp::create(b, loc, getX(), zero);
  Value own = cast(b, loc, isZero, element);
  Value nonZero = SelectOp::create(b, loc, isZero, one, getX());
  Value product = ReduceProdOp::create(b, loc, nonZero, getAxes(), /*keepdims=*/true);
  Value others = DivOp::create(b, loc, product, nonZero);
  Value only = EqualOp::create(b, loc, sumKept(b, loc, own, getAxes()), own);
  Value factor = SelectOp::create(b, loc, only, others, zero);
  gradients[0] =
      MulOp::create(b, loc, keep(b, loc, cotangents[0], getX(), getAxes()), factor);
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// Largest, smallest
//===--------------------------------------------------------------------------------------------===//

LogicalResult ReduceMaxOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                            DictionaryAttr attributes, OpaqueProperties properties,
                                            RegionRange regions, Types &types) {
  return inferReductionOf<ReduceMaxOp>(loc, {operands, attributes, properties, regions}, true,
                                       types);
}
LogicalResult ReduceMaxOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                    MutableArrayRef<HostTensor> outputs) {
  return evaluateReduction(*inputs[0], getAxes(), -std::numeric_limits<double>::infinity(),
                           std::numeric_limits<int64_t>::min(), outputs[0], larger,
                           [](int64_t a, int64_t b) { return std::max(a, b); });
}
ShardingRule ReduceMaxOp::getShardingRule() {
  return reductionRule(*this, getAxes(), getKeepdims(), FactorKind::Whole);
}
uint64_t ReduceMaxOp::getFlops() { return readElements(getX()); }
uint64_t ReduceMaxOp::getCudaWorkspaceBytes() { return reductionWorkspace(getX(), getY()); }
LogicalResult ReduceMaxOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = shareAmongEqual(b, getLoc(), getX(), getY(), cotangents[0], getAxes());
  return success();
}

LogicalResult ReduceMinOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                            DictionaryAttr attributes, OpaqueProperties properties,
                                            RegionRange regions, Types &types) {
  return inferReductionOf<ReduceMinOp>(loc, {operands, attributes, properties, regions}, true,
                                       types);
}
LogicalResult ReduceMinOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                    MutableArrayRef<HostTensor> outputs) {
  return evaluateReduction(*inputs[0], getAxes(), std::numeric_limits<double>::infinity(),
                           std::numeric_limits<int64_t>::max(), outputs[0], smaller,
                           [](int64_t a, int64_t b) { return std::min(a, b); });
}
ShardingRule ReduceMinOp::getShardingRule() {
  return reductionRule(*this, getAxes(), getKeepdims(), FactorKind::Whole);
}
uint64_t ReduceMinOp::getFlops() { return readElements(getX()); }
uint64_t ReduceMinOp::getCudaWorkspaceBytes() { return reductionWorkspace(getX(), getY()); }
LogicalResult ReduceMinOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = shareAmongEqual(b, getLoc(), getX(), getY(), cotangents[0], getAxes());
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// Softmax
//===--------------------------------------------------------------------------------------------===//

namespace {

LogicalResult inferSoftmax(Loc loc, Value x, int64_t axis, Types &types) {
  // softmax_c1: the axis is a dimension.
  if (failed(checkAxis(loc, axis, shapeOf(x).size())))
    return failure();
  types.push_back(x.getType());
  return success();
}

LogicalResult inferSoftmaxBackward(Loc loc, Value dy, Value y, int64_t axis, Types &types) {
  // softmax_backward_c1: y and its gradient have one type.
  if (dy.getType() != y.getType())
    return inferError(loc, "types of dy and y are different, should be equal");
  return inferSoftmax(loc, y, axis, types);
}

/// Calls `row(at)` for each row along the axis; `at(i)` is the position of its element i.
void forEachRow(ArrayRef<int64_t> shape, int64_t axis,
                llvm::function_ref<void(llvm::function_ref<int64_t(int64_t)>, int64_t)> row) {
  AxisSplit split(shape, axis);
  for (int64_t o = 0; o < split.outer; ++o)
    for (int64_t k = 0; k < split.inner; ++k)
      row([&](int64_t i) { return split.at(o, i, k); }, split.n);
}

/// The largest element of a row and the logarithm of sum e^(x - largest). Kept apart: added up, the logarithm would be
/// absorbed in a row of equal huge numbers (a finite mask).
std::pair<double, double> logSumExp(const HostTensor &x, llvm::function_ref<int64_t(int64_t)> at, int64_t n) {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t i = 0; i < n; ++i)
    largest = larger(largest, x.floats[at(i)]);
  for (int64_t i = 0; i < n; ++i)
    sum += std::exp(x.floats[at(i)] - largest);
  return {largest, std::log(sum)};
}

} // namespace

// Fused kernels along the innermost dimension: one row after the other. Any other axis is its own kernel's.

namespace {

FusionRule softmaxRule(Operation *op, int64_t axis, ArrayRef<Combine> statistics) {
  ArrayRef<int64_t> shape = shapeOf(op->getResult(0));
  FusionRule rule = rowFusion(op, shape);
  if (axis != static_cast<int64_t>(shape.size()) - 1)
    rule.domain = std::nullopt;
  rule.statistics.assign(statistics.begin(), statistics.end());
  rule.chained = true;
  return rule;
}

/// Statistic 0 of forward is the largest element x of the row; the terms of statistic 1 are e^(x - largest).
Value softmaxTerm(ElementEmitter &e, Value x, unsigned k) {
  return k == 0 ? e.element(x) : e.exp(e.sub(e.element(x), e.statistic(0)));
}

} // namespace

FusionRule SoftmaxOp::getFusionRule() { return softmaxRule(*this, getAxis(), {Combine::Maximum, Combine::Sum}); }
Value SoftmaxOp::emitTerm(ElementEmitter &e, unsigned k) { return softmaxTerm(e, getX(), k); }
Value SoftmaxOp::emitStatistic(ElementEmitter &e, unsigned k, Value combined) {
  return k == 0 ? combined : e.div(e.constant(1), combined);
}
void SoftmaxOp::emitElement(ElementEmitter &e) {
  e.set(getY(), e.mul(e.exp(e.sub(e.element(getX()), e.statistic(0))), e.statistic(1)));
}

FusionRule SoftmaxBackwardOp::getFusionRule() { return softmaxRule(*this, getAxis(), {Combine::Sum}); }
Value SoftmaxBackwardOp::emitTerm(ElementEmitter &e, unsigned) { return e.mul(e.element(getDy()), e.element(getY())); }
void SoftmaxBackwardOp::emitElement(ElementEmitter &e) {
  e.set(getDx(), e.mul(e.element(getY()), e.sub(e.element(getDy()), e.statistic(0))));
}

FusionRule LogSoftmaxOp::getFusionRule() { return softmaxRule(*this, getAxis(), {Combine::Maximum, Combine::Sum}); }
Value LogSoftmaxOp::emitTerm(ElementEmitter &e, unsigned k) { return softmaxTerm(e, getX(), k); }
Value LogSoftmaxOp::emitStatistic(ElementEmitter &e, unsigned k, Value combined) {
  return k == 0 ? combined : e.log(combined);
}
void LogSoftmaxOp::emitElement(ElementEmitter &e) {
  e.set(getY(), e.sub(e.sub(e.element(getX()), e.statistic(0)), e.statistic(1)));
}

FusionRule LogSoftmaxBackwardOp::getFusionRule() { return softmaxRule(*this, getAxis(), {Combine::Sum}); }
Value LogSoftmaxBackwardOp::emitTerm(ElementEmitter &e, unsigned) { return e.element(getDy()); }
void LogSoftmaxBackwardOp::emitElement(ElementEmitter &e) {
  e.set(getDx(), e.sub(e.element(getDy()), e.mul(e.exp(e.element(getY())), e.statistic(0))));
}

LogicalResult SoftmaxOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                          DictionaryAttr attributes, OpaqueProperties properties,
                                          RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  return inferSoftmax(loc, op.getX(), op.getAxis(), types);
}
LogicalResult SoftmaxOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                  MutableArrayRef<HostTensor> outputs) {
  const HostTensor &x = *inputs[0];
  forEachRow(x.shape(), getAxis(), [&](auto at, int64_t n) {
    auto [largest, log] = logSumExp(x, at, n);
    for (int64_t i = 0; i < n; ++i)
      outputs[0].floats[at(i)] = std::exp(x.floats[at(i)] - largest - log);
  });
  return success();
}
// Maximum, difference, exponential, sum, division.
ShardingRule SoftmaxOp::getShardingRule() { return alongRule(*this, getAxis()); }
uint64_t SoftmaxOp::getFlops() { return 5 * readElements(getX()); }
LogicalResult SoftmaxOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                  MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = SoftmaxBackwardOp::create(b, getLoc(), cotangents[0], getY(), getAxis());
  return success();
}

LogicalResult SoftmaxBackwardOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                                  DictionaryAttr attributes,
                                                  OpaqueProperties properties, RegionRange regions,
                                                  Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  return inferSoftmaxBackward(loc, op.getDy(), op.getY(), op.getAxis(), types);
}
LogicalResult SoftmaxBackwardOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                          MutableArrayRef<HostTensor> outputs) {
  const HostTensor &dy = *inputs[0], &y = *inputs[1];
  forEachRow(y.shape(), getAxis(), [&](auto at, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i)
      sum += dy.floats[at(i)] * y.floats[at(i)];
    for (int64_t i = 0; i < n; ++i)
      outputs[0].floats[at(i)] = y.floats[at(i)] * (dy.floats[at(i)] - sum);
  });
  return success();
}
// Two for the dot product, difference, product.
uint64_t SoftmaxBackwardOp::getFlops() { return 4 * readElements(getY()); }

LogicalResult LogSoftmaxOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                             DictionaryAttr attributes, OpaqueProperties properties,
                                             RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  return inferSoftmax(loc, op.getX(), op.getAxis(), types);
}
LogicalResult LogSoftmaxOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                     MutableArrayRef<HostTensor> outputs) {
  const HostTensor &x = *inputs[0];
  forEachRow(x.shape(), getAxis(), [&](auto at, int64_t n) {
    auto [largest, log] = logSumExp(x, at, n);
    for (int64_t i = 0; i < n; ++i)
      outputs[0].floats[at(i)] = x.floats[at(i)] - largest - log;
  });
  return success();
}
// Maximum, difference, exponential, sum, difference.
ShardingRule LogSoftmaxOp::getShardingRule() { return alongRule(*this, getAxis()); }
uint64_t LogSoftmaxOp::getFlops() { return 5 * readElements(getX()); }
LogicalResult LogSoftmaxOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                     MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = LogSoftmaxBackwardOp::create(b, getLoc(), cotangents[0], getY(), getAxis());
  return success();
}

LogicalResult LogSoftmaxBackwardOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                                     DictionaryAttr attributes,
                                                     OpaqueProperties properties,
                                                     RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  return inferSoftmaxBackward(loc, op.getDy(), op.getY(), op.getAxis(), types);
}
LogicalResult LogSoftmaxBackwardOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                             MutableArrayRef<HostTensor> outputs) {
  const HostTensor &dy = *inputs[0], &y = *inputs[1];
  forEachRow(y.shape(), getAxis(), [&](auto at, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i)
      sum += dy.floats[at(i)];
    for (int64_t i = 0; i < n; ++i)
      outputs[0].floats[at(i)] = dy.floats[at(i)] - std::exp(y.floats[at(i)]) * sum;
  });
  return success();
}
// Sum, exponential, product, difference.
uint64_t LogSoftmaxBackwardOp::getFlops() { return 4 * readElements(getY()); }
