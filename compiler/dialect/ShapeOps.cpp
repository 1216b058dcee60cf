// Operations that move elements without arithmetic: shape rules, evaluation, gradients. Their gradients are
// operations of the same family, so that a gradient graph needs no kernels of its own here. Comments name each
// constraint (slice_c2); test/dialect/shape-invalid.mlir has a case of every name.
#include "compiler/dialect/IndexSupport.h"
#include <cmath>

using namespace mlir;
using namespace amc;
using namespace amc::train;

//===--------------------------------------------------------------------------------------------===//
// reshape
//===--------------------------------------------------------------------------------------------===//

LogicalResult ReshapeOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                          ValueRange operands, DictionaryAttr attributes,
                                          OpaqueProperties properties, RegionRange regions,
                                          SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(inferTensor(loc, op.getShape(), elementOf(op.getX()), types)))
    return failure();
  // reshape_c1: both shapes have the same number of elements.
  int64_t have = elementCount(shapeOf(op.getX())), want = elementCount(op.getShape());
  if (have != want)
    return inferError(loc, "element count of shape " + shapeString(op.getShape()) + " is " +
                               Twine(want) + ", should be " + Twine(have));
  return success();
}

LogicalResult ReshapeOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                  MutableArrayRef<HostTensor> outputs) {
  outputs[0].floats = inputs[0]->floats;
  outputs[0].ints = inputs[0]->ints;
  return success();
}

uint64_t ReshapeOp::getFlops() { return 0; }
uint64_t ReshapeOp::getBytesMoved() { return 0; }

ShardingRule ReshapeOp::getShardingRule() {
  RuleBuilder r(*this);
  r.rule.flat = true;
  return std::move(r.rule);
}

void ReshapeOp::localize(FactorKind, StringRef, int64_t) { setShape(shapeOf(getY())); }

LogicalResult ReshapeOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                  MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = reshape(b, getLoc(), cotangents[0], shapeOf(getX()));
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// transpose
//===--------------------------------------------------------------------------------------------===//

LogicalResult TransposeOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                            ValueRange operands, DictionaryAttr attributes,
                                            OpaqueProperties properties, RegionRange regions,
                                            SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> shape = shapeOf(op.getX()), permutation = op.getPermutation();
  // transpose_c1: one entry for each dimension.
  if (failed(checkLength(loc, "permutation", permutation, shape.size())))
    return failure();
  // transpose_c2: every dimension once.
  SmallVector<bool> seen(shape.size(), false);
  SmallVector<int64_t> result;
  for (int64_t from : permutation) {
    if (from < 0 || from >= static_cast<int64_t>(shape.size()) || seen[from])
      return inferError(loc, "permutation entry " + Twine(from) +
                                 " is repeated or out of range, should be each of 0 to " +
                                 Twine(static_cast<int64_t>(shape.size()) - 1) + " once");
    seen[from] = true;
    result.push_back(shape[from]);
  }
  return inferTensor(loc, result, elementOf(op.getX()), types);
}

LogicalResult TransposeOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                    MutableArrayRef<HostTensor> outputs) {
  SmallVector<int64_t> strides = rowMajorStrides(inputs[0]->shape()), permuted;
  for (int64_t from : getPermutation())
    permuted.push_back(strides[from]);
  return forEachIndex(outputs[0].shape(), [&](int64_t flat, ArrayRef<int64_t> at) {
    outputs[0].copyElement(flat, *inputs[0], flatten(at, permuted));
    return success();
  });
}

ShardingRule TransposeOp::getShardingRule() {
  RuleBuilder r(*this);
  SmallVector<unsigned> x = r.each(shapeOf(getX())), y;
  for (int64_t from : getPermutation())
    y.push_back(x[from]);
  r.operand(0, x);
  r.result(0, y);
  return std::move(r.rule);
}

LogicalResult TransposeOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (!needed[0] || !cotangents[0])
    return success();
  SmallVector<int64_t> inverse(getPermutation().size());
  for (auto [to, from] : llvm::enumerate(getPermutation()))
    inverse[from] = to;
  gradients[0] = TransposeOp::create(b, getLoc(), cotangents[0], inverse);
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// broadcast
//===--------------------------------------------------------------------------------------------===//

LogicalResult BroadcastOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                            ValueRange operands, DictionaryAttr attributes,
                                            OpaqueProperties properties, RegionRange regions,
                                            SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> from = shapeOf(op.getX()), to = op.getShape();
  if (failed(inferTensor(loc, to, elementOf(op.getX()), types)))
    return failure();
  // broadcast_c1: x's dimensions, aligned at the last, are 1 or the result's.
  bool fits = from.size() <= to.size();
  for (size_t i = 1; fits && i <= from.size(); ++i)
    fits = from[from.size() - i] == 1 || from[from.size() - i] == to[to.size() - i];
  if (!fits)
    return inferError(loc, "shape of x is " + shapeString(from) + ", should broadcast to " +
                               shapeString(to));
  return success();
}

LogicalResult BroadcastOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                    MutableArrayRef<HostTensor> outputs) {
  BroadcastIndexer index(inputs[0]->shape(), outputs[0].shape());
  for (int64_t i = 0, n = outputs[0].size(); i < n; ++i)
    outputs[0].copyElement(i, *inputs[0], index(i));
  return success();
}

ShardingRule BroadcastOp::getShardingRule() { return broadcastRule(*this); }

void BroadcastOp::localize(FactorKind, StringRef, int64_t) { setShape(shapeOf(getY())); }

LogicalResult BroadcastOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = sumTo(b, getLoc(), cotangents[0], getX().getType());
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// slice
//===--------------------------------------------------------------------------------------------===//

LogicalResult SliceOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                        ValueRange operands, DictionaryAttr attributes,
                                        OpaqueProperties properties, RegionRange regions,
                                        SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> shape = shapeOf(op.getX());
  // slice_c1: starts, sizes and steps have one number for each dimension.
  if (failed(checkLength(loc, "starts", op.getStarts(), shape.size())) ||
      failed(checkLength(loc, "sizes", op.getSizes(), shape.size())) ||
      failed(checkLength(loc, "steps", op.getSteps(), shape.size())))
    return failure();
  if (failed(inferTensor(loc, op.getSizes(), elementOf(op.getX()), types)))
    return failure();
  for (size_t d = 0; d < shape.size(); ++d) {
    int64_t start = op.getStarts()[d], size = op.getSizes()[d], step = op.getSteps()[d];
    // slice_c2: no step is zero.
    if (step == 0)
      return inferError(loc, "step of dimension " + Twine(d) + " is 0, should not be");
    if (size == 0)
      continue;
    // slice_c3: the first and the last element taken are inside x.
    int64_t last;
    bool overflow = __builtin_mul_overflow(size - 1, step, &last) ||
                    __builtin_add_overflow(start, last, &last);
    if (overflow || start < 0 || start >= shape[d] || last < 0 || last >= shape[d])
      return inferError(loc, "dimension " + Twine(d) + " takes " + Twine(size) +
                                 " elements from " + Twine(start) + " by " + Twine(step) +
                                 ", should stay in [0, " + Twine(shape[d]) + ")");
  }
  return success();
}

LogicalResult SliceOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                MutableArrayRef<HostTensor> outputs) {
  SmallVector<int64_t> strides = rowMajorStrides(inputs[0]->shape());
  return forEachIndex(outputs[0].shape(), [&](int64_t flat, ArrayRef<int64_t> at) {
    int64_t from = 0;
    for (size_t d = 0; d < at.size(); ++d)
      from += (getStarts()[d] + at[d] * getSteps()[d]) * strides[d];
    outputs[0].copyElement(flat, *inputs[0], from);
    return success();
  });
}

// A block of a dimension of equal blocks (one of three in a product that makes queries, keys and values) can be cut as the
// others are; other parts of a dimension cannot.
ShardingRule SliceOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> shape = shapeOf(getX());
  for (size_t d = 0; d < shape.size(); ++d) {
    int64_t size = getSizes()[d], start = getStarts()[d];
    if (size == shape[d] && getSteps()[d] == 1) {
      unsigned all = r.factor(size);
      r.split(r.rule.operands[0], d, all);
      r.split(r.rule.results[0], d, all);
    } else if (size > 0 && getSteps()[d] == 1 && shape[d] % size == 0 && start % size == 0) {
      unsigned blocks = r.factor(shape[d] / size, FactorKind::Whole), block = r.factor(size);
      r.split(r.rule.operands[0], d, {blocks, block});
      r.split(r.rule.results[0], d, block);
    } else {
      r.split(r.rule.operands[0], d, r.factor(shape[d], FactorKind::Whole));
      r.split(r.rule.results[0], d, r.factor(size, FactorKind::Whole));
    }
  }
  return std::move(r.rule);
}

void SliceOp::localize(FactorKind, StringRef, int64_t) {
  SmallVector<int64_t> starts(getStarts()), sizes(shapeOf(getY()));
  for (size_t d = 0; d < sizes.size(); ++d)
    if (sizes[d] != getSizes()[d])
      starts[d] = starts[d] / getSizes()[d] * sizes[d]; // the same block, of which there is a part
  setStarts(starts);
  setSizes(sizes);
}

// Zeros around dy, and between its elements where steps skipped some; dimensions taken backwards are turned first.
LogicalResult SliceOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                MutableArrayRef<Value> gradients) {
  if (!needed[0] || !cotangents[0] || getY().getType().getNumElements() == 0)
    return success();
  ArrayRef<int64_t> shape = shapeOf(getX()), sizes = getSizes();
  size_t rank = shape.size();
  SmallVector<int64_t> turnStarts(rank, 0), turnSteps(rank, 1), low, high, interior;
  bool turn = false, pad = false;
  for (size_t d = 0; d < rank; ++d) {
    int64_t first = getStarts()[d], last = first + (sizes[d] - 1) * getSteps()[d];
    if (last < first) {
      turn = true;
      turnStarts[d] = sizes[d] - 1;
      turnSteps[d] = -1;
      std::swap(first, last);
    }
    low.push_back(first);
    high.push_back(shape[d] - 1 - last);
    interior.push_back(sizes[d] == 1 ? 0 : std::abs(getSteps()[d]) - 1);
    pad |= low[d] || high[d] || interior[d];
  }
  Value grad = cotangents[0];
  if (turn)
    grad = SliceOp::create(b, getLoc(), grad, turnStarts, sizes, turnSteps);
  if (pad)
    grad = PadOp::create(b, getLoc(), grad, low, high, interior, llvm::APFloat(0.0));
  gradients[0] = grad;
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// concat
//===--------------------------------------------------------------------------------------------===//

LogicalResult ConcatOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                         ValueRange operands, DictionaryAttr attributes,
                                         OpaqueProperties properties, RegionRange regions,
                                         SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  // concat_c1: there is something to join.
  if (op.getInputs().empty())
    return inferError(loc, "number of inputs is 0, should be 1 or more");
  int64_t axis = op.getAxis();
  SmallVector<int64_t> shape(shapeOf(op.getInputs()[0]));
  // concat_c2: the axis is a dimension.
  if (failed(checkAxis(loc, axis, shape.size())))
    return failure();
  Type element = elementOf(op.getInputs()[0]);
  for (Value input : op.getInputs().drop_front()) {
    // concat_c3: one element type.
    if (elementOf(input) != element)
      return inferError(loc, "inputs have different element types, should have one");
    // concat_c4: the shapes are equal but for the axis.
    ArrayRef<int64_t> other = shapeOf(input);
    bool fits = other.size() == shape.size();
    for (size_t d = 0; fits && d < shape.size(); ++d)
      fits = static_cast<int64_t>(d) == axis || other[d] == shape[d];
    if (!fits)
      return inferError(loc, "shape of an input is " + shapeString(other) + ", should be " +
                                 shapeString(shapeOf(op.getInputs()[0])) + " but for axis " +
                                 Twine(axis));
    if (__builtin_add_overflow(shape[axis], other[axis], &shape[axis]))
      shape[axis] = std::numeric_limits<int64_t>::max(); // refused by inferTensor
  }
  return inferTensor(loc, shape, element, types);
}

LogicalResult ConcatOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                 MutableArrayRef<HostTensor> outputs) {
  AxisSplit to(outputs[0].shape(), getAxis());
  int64_t base = 0;
  for (const HostTensor *input : inputs) {
    AxisSplit from(input->shape(), getAxis());
    for (int64_t o = 0; o < from.outer; ++o)
      for (int64_t i = 0; i < from.n; ++i)
        for (int64_t k = 0; k < from.inner; ++k)
          outputs[0].copyElement(to.at(o, base + i, k), *input, from.at(o, i, k));
    base += from.n;
  }
  return success();
}

ShardingRule ConcatOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> shape = shapeOf(getY());
  SmallVector<unsigned> dims = r.each(shape);
  r.rule.factors[dims[getAxis()]].kind = FactorKind::Whole;
  r.result(0, dims);
  for (auto [number, input] : llvm::enumerate(getInputs())) {
    dims[getAxis()] = r.factor(shapeOf(input)[getAxis()], FactorKind::Whole);
    r.operand(number, dims);
  }
  return std::move(r.rule);
}

LogicalResult ConcatOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                 MutableArrayRef<Value> gradients) {
  if (!cotangents[0])
    return success();
  SmallVector<int64_t> starts(shapeOf(getY()).size(), 0), steps(starts.size(), 1);
  for (auto [i, input] : llvm::enumerate(getInputs())) {
    if (needed[i])
      gradients[i] = SliceOp::create(b, getLoc(), cotangents[0], starts, shapeOf(input), steps);
    starts[getAxis()] += shapeOf(input)[getAxis()];
  }
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// pad
//===--------------------------------------------------------------------------------------------===//

LogicalResult PadOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                      ValueRange operands, DictionaryAttr attributes,
                                      OpaqueProperties properties, RegionRange regions,
                                      SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> shape = shapeOf(op.getX());
  // pad_c1: low, high and interior have one number for each dimension.
  if (failed(checkLength(loc, "low", op.getLow(), shape.size())) ||
      failed(checkLength(loc, "high", op.getHigh(), shape.size())) ||
      failed(checkLength(loc, "interior", op.getInterior(), shape.size())))
    return failure();
  SmallVector<int64_t> result;
  for (size_t d = 0; d < shape.size(); ++d) {
    int64_t low = op.getLow()[d], high = op.getHigh()[d], interior = op.getInterior()[d];
    // pad_c2: nothing is taken away.
    if (low < 0 || high < 0 || interior < 0)
      return inferError(loc, "padding of dimension " + Twine(d) + " is " + Twine(low) + ", " +
                                 Twine(high) + ", " + Twine(interior) + ", should be 0 or more");
    int64_t size = 0;
    bool overflow =
        __builtin_mul_overflow(std::max<int64_t>(shape[d] - 1, 0), interior, &size) ||
        __builtin_add_overflow(size, shape[d], &size) || __builtin_add_overflow(size, low, &size) ||
        __builtin_add_overflow(size, high, &size);
    result.push_back(overflow ? std::numeric_limits<int64_t>::max() : size); // inferTensor refuses
  }
  // pad_c3: the element type can hold the padding, rounded.
  double value = op.getValue().convertToDouble();
  if (failed(checkRepresentable(loc, "value", std::nearbyint(value), elementOf(op.getX()))))
    return failure();
  return inferTensor(loc, result, elementOf(op.getX()), types);
}

LogicalResult PadOp::evaluate(ArrayRef<const HostTensor *> inputs,
                              MutableArrayRef<HostTensor> outputs) {
  HostTensor &y = outputs[0];
  double value = getValue().convertToDouble();
  for (int64_t i = 0, n = y.size(); i < n; ++i)
    y.set(i, y.isFloat() ? value : std::nearbyint(value));
  SmallVector<int64_t> strides = rowMajorStrides(y.shape());
  return forEachIndex(inputs[0]->shape(), [&](int64_t flat, ArrayRef<int64_t> at) {
    int64_t to = 0;
    for (size_t d = 0; d < at.size(); ++d)
      to += (getLow()[d] + at[d] + at[d] * getInterior()[d]) * strides[d];
    y.copyElement(to, *inputs[0], flat);
    return success();
  });
}

LogicalResult PadOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                              MutableArrayRef<Value> gradients) {
  if (!needed[0] || !cotangents[0])
    return success();
  ArrayRef<int64_t> shape = shapeOf(getX());
  SmallVector<int64_t> steps;
  for (auto [size, interior] : llvm::zip_equal(shape, getInterior()))
    steps.push_back(size <= 1 ? 1 : interior + 1); // no step is taken; interior may be huge
  gradients[0] = SliceOp::create(b, getLoc(), cotangents[0], getLow(), shape, steps);
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// full, iota
//===--------------------------------------------------------------------------------------------===//

LogicalResult FullOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                       ValueRange operands, DictionaryAttr attributes,
                                       OpaqueProperties properties, RegionRange regions,
                                       SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  // full_c1: the element type can hold the value.
  if (failed(inferTensor(loc, op.getShape(), op.getElement(), types)))
    return failure();
  return checkRepresentable(loc, "value", op.getValue().convertToDouble(), op.getElement());
}

LogicalResult FullOp::evaluate(ArrayRef<const HostTensor *>, MutableArrayRef<HostTensor> outputs) {
  for (int64_t i = 0, n = outputs[0].size(); i < n; ++i)
    outputs[0].set(i, getValue().convertToDouble());
  return success();
}

LogicalResult IotaOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                       ValueRange operands, DictionaryAttr attributes,
                                       OpaqueProperties properties, RegionRange regions,
                                       SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  Type element = op.getElement();
  // iota_c1: the axis is a dimension.
  if (failed(inferTensor(loc, op.getShape(), element, types)) ||
      failed(checkAxis(loc, op.getAxis(), op.getShape().size())))
    return failure();
  // iota_c2: the element type can hold the first value, the step's multiples and the last value.
  double start = op.getStart().convertToDouble(), step = op.getStep().convertToDouble();
  int64_t size = op.getShape()[op.getAxis()];
  if (failed(checkRepresentable(loc, "start", start, element)))
    return failure();
  if (size > 1 && (failed(checkRepresentable(loc, "second value", start + step, element)) ||
                   failed(checkRepresentable(loc, "last value", start + step * (size - 1), element))))
    return failure();
  return success();
}

LogicalResult IotaOp::evaluate(ArrayRef<const HostTensor *>, MutableArrayRef<HostTensor> outputs) {
  AxisSplit split(outputs[0].shape(), getAxis());
  double start = getStart().convertToDouble(), step = getStep().convertToDouble();
  for (int64_t o = 0; o < split.outer; ++o)
    for (int64_t i = 0; i < split.n; ++i)
      for (int64_t k = 0; k < split.inner; ++k)
        outputs[0].set(split.at(o, i, k), start + step * static_cast<double>(i));
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// triangle
//===--------------------------------------------------------------------------------------------===//

LogicalResult TriangleOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                           ValueRange operands, DictionaryAttr attributes,
                                           OpaqueProperties properties, RegionRange regions,
                                           SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  // triangle_c1: there are rows and columns.
  if (shapeOf(op.getX()).size() < 2)
    return inferError(loc, "rank of x is " + Twine(shapeOf(op.getX()).size()) +
                               ", should be 2 or more");
  types.push_back(op.getX().getType());
  return success();
}

LogicalResult TriangleOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                   MutableArrayRef<HostTensor> outputs) {
  return forEachIndex(outputs[0].shape(), [&](int64_t flat, ArrayRef<int64_t> at) {
    int64_t offset = at[at.size() - 1] - at[at.size() - 2], k = getK();
    if (getUpper() ? offset >= k : offset <= k)
      outputs[0].copyElement(flat, *inputs[0], flat);
    return success();
  });
}

LogicalResult TriangleOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                   MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = TriangleOp::create(b, getLoc(), cotangents[0], getUpper(), getK());
  return success();
}
