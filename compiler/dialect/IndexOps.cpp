// Operations driven by indices: shape rules and evaluation. Their gradients and sharding rules are in IndexVjp.cpp. Comments name each
// constraint (gather_c1); test/dialect/index-invalid.mlir has a case of every name.
#include "compiler/dialect/IndexSupport.h"
#include "runtime/plan/Workspace.h"
#include <cmath>

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

using Shape = SmallVector<int64_t>;
using Types = SmallVectorImpl<Type>;
using Loc = std::optional<Location>;

/// x[:axis] + indices + x[axis + 1:], what gather returns.
Shape gatheredShape(ArrayRef<int64_t> x, ArrayRef<int64_t> indices, int64_t axis) {
  Shape shape(x.take_front(axis));
  shape.append(indices.begin(), indices.end());
  llvm::append_range(shape, x.drop_front(axis + 1));
  return shape;
}

/// The position in x that each index of gather and gather_backward names: visit(flat of y, flat of x).
LogicalResult walkGather(ArrayRef<int64_t> x, const HostTensor &indices, int64_t axis,
                         function_ref<void(int64_t, int64_t)> visit) {
  AxisSplit split(x, axis);
  int64_t count = indices.size();
  for (int64_t o = 0; o < split.outer; ++o)
    for (int64_t j = 0; j < count; ++j) {
      std::optional<int64_t> row = wrapIndex(indices.ints[j], split.n);
      if (!row)
        return failure();
      for (int64_t k = 0; k < split.inner; ++k)
        visit((o * count + j) * split.inner + k, split.at(o, *row, k));
    }
  return success();
}

/// The same for gather_elements and scatter_elements: visit(flat of indices, flat of x).
LogicalResult walkElements(ArrayRef<int64_t> x, const HostTensor &indices, int64_t axis,
                           function_ref<void(int64_t, int64_t)> visit) {
  Shape strides = rowMajorStrides(x);
  return forEachIndex(indices.shape(), [&](int64_t flat, ArrayRef<int64_t> at) -> LogicalResult {
    std::optional<int64_t> index = wrapIndex(indices.ints[flat], x[axis]);
    if (!index)
      return failure();
    visit(flat, flatten(at, strides) + (*index - at[axis]) * strides[axis]);
    return success();
  });
}

/// The same for the ND operations: each row of `indices` names a slice of x of `inner` elements.
LogicalResult walkNd(ArrayRef<int64_t> x, const HostTensor &indices, int64_t batchDims,
                     function_ref<void(int64_t, int64_t)> visit) {
  int64_t depth = indices.shape().back();
  int64_t batches = elementCount(indices.shape().take_front(batchDims));
  int64_t perBatch = elementCount(indices.shape().drop_front(batchDims).drop_back());
  ArrayRef<int64_t> indexed = x.slice(batchDims, depth);
  int64_t inner = elementCount(x.drop_front(batchDims + depth));
  Shape strides = rowMajorStrides(indexed);
  int64_t perBatchOfX = elementCount(indexed) * inner;
  for (int64_t batch = 0; batch < batches; ++batch)
    for (int64_t j = 0; j < perBatch; ++j) {
      int64_t row = batch * perBatch + j, at = 0;
      for (int64_t d = 0; d < depth; ++d) {
        std::optional<int64_t> index = wrapIndex(indices.ints[row * depth + d], indexed[d]);
        if (!index)
          return failure();
        at += *index * strides[d];
      }
      for (int64_t k = 0; k < inner; ++k)
        visit(row * inner + k, batch * perBatchOfX + at * inner + k);
    }
  return success();
}

bool isReduction(StringRef name) {
  return name == "none" || name == "add" || name == "mul" || name == "max" || name == "min";
}

double combine(StringRef reduction, double old, double update) {
  if (reduction == "add")
    return old + update;
  if (reduction == "mul")
    return old * update;
  if (std::isnan(old) || std::isnan(update))
    return std::numeric_limits<double>::quiet_NaN();
  return reduction == "max" ? std::max(old, update) : std::min(old, update);
}
int64_t combine(StringRef reduction, int64_t old, int64_t update) {
  if (reduction == "add")
    return wrapAdd(old, update);
  if (reduction == "mul")
    return wrapMul(old, update);
  return reduction == "max" ? std::max(old, update) : std::min(old, update);
}
/// y[to] = reduction(y[to], updates[from]).
void scatter(HostTensor &y, int64_t to, const HostTensor &updates, int64_t from,
             StringRef reduction) {
  if (reduction == "none")
    y.copyElement(to, updates, from);
  else if (y.isFloat())
    y.floats[to] = combine(reduction, y.floats[to], updates.floats[from]);
  else
    y.ints[to] = combine(reduction, y.ints[to], updates.ints[from]);
}

/// What both scatters ask of reduction and element types.
LogicalResult checkScatter(Loc loc, StringRef reduction, Value x, Value updates) {
  // scatter_c1: the reduction is known.
  if (!isReduction(reduction))
    return inferError(loc, "reduction is '" + reduction +
                               "', should be none, add, mul, max or min");
  // scatter_c2: x and updates have one element type.
  if (elementOf(x) != elementOf(updates))
    return inferError(loc, "x and updates have different element types, should have one");
  // scatter_c3: only numbers are reduced.
  if (reduction != "none" && elementOf(x).isInteger(1))
    return inferError(loc, "reduction of i1 elements is '" + reduction + "', should be none");
  return success();
}

/// What both element-wise operations ask of the indices' shape.
LogicalResult checkElements(Loc loc, ArrayRef<int64_t> x, ArrayRef<int64_t> indices, int64_t axis) {
  // elements_c1: the axis is a dimension.
  if (failed(checkAxis(loc, axis, x.size())))
    return failure();
  // elements_c2: indices have x's rank and, but for the axis, do not go beyond its dimensions.
  bool fits = x.size() == indices.size();
  for (size_t d = 0; fits && d < x.size(); ++d)
    fits = static_cast<int64_t>(d) == axis || indices[d] <= x[d];
  if (!fits)
    return inferError(loc, "shape of indices is " + shapeString(indices) +
                               ", should have the rank of x, " + shapeString(x) +
                               ", and its dimensions at most but for axis " + Twine(axis));
  return success();
}

/// Ordering for top_k and arg_max: NaN counts as the largest and the smallest, so that it is always seen.
struct Before {
  const HostTensor &x;
  bool largest;
  bool operator()(int64_t a, int64_t b) const {
    if (!x.isFloat())
      return largest ? x.ints[a] > x.ints[b] : x.ints[a] < x.ints[b];
    double left = x.floats[a], right = x.floats[b];
    if (std::isnan(left) || std::isnan(right))
      return std::isnan(left) && !std::isnan(right);
    return largest ? left > right : left < right;
  }
};

} // namespace

//===--------------------------------------------------------------------------------------------===//
// gather, embedding
//===--------------------------------------------------------------------------------------------===//

LogicalResult GatherOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                         DictionaryAttr attributes, OpaqueProperties properties,
                                         RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  // gather_c1: the axis is a dimension.
  if (failed(checkAxis(loc, op.getAxis(), shapeOf(op.getX()).size())))
    return failure();
  return inferTensor(loc, gatheredShape(shapeOf(op.getX()), shapeOf(op.getIndices()), op.getAxis()),
                     elementOf(op.getX()), types);
}

LogicalResult GatherOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                 MutableArrayRef<HostTensor> outputs) {
  return walkGather(inputs[0]->shape(), *inputs[1], getAxis(), [&](int64_t y, int64_t x) {
    outputs[0].copyElement(y, *inputs[0], x);
  });
}

LogicalResult GatherBackwardOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                                 DictionaryAttr attributes,
                                                 OpaqueProperties properties, RegionRange regions,
                                                 Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(inferTensor(loc, op.getShape(), elementOf(op.getDy()), types)))
    return failure();
  // gather_backward_c1: the axis is a dimension.
  if (failed(checkAxis(loc, op.getAxis(), op.getShape().size())))
    return failure();
  // gather_backward_c2: dy has the shape that gather returns.
  Shape want = gatheredShape(op.getShape(), shapeOf(op.getIndices()), op.getAxis());
  if (shapeOf(op.getDy()) != ArrayRef(want))
    return inferError(loc, "shape of dy is " + shapeString(shapeOf(op.getDy())) + ", should be " +
                               shapeString(want));
  return success();
}

LogicalResult GatherBackwardOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                         MutableArrayRef<HostTensor> outputs) {
  return walkGather(getShape(), *inputs[1], getAxis(), [&](int64_t y, int64_t x) {
    outputs[0].floats[x] += inputs[0]->floats[y];
  });
}

uint64_t GatherBackwardOp::getWorkspaceBytes() {
  return isNarrowFloat(getDx()) ? rt::workspace::sortedSources(getShape()[getAxis()],
                                                               elementCount(shapeOf(getIndices())))
                                : 0;
}

LogicalResult EmbeddingOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                            DictionaryAttr attributes, OpaqueProperties properties,
                                            RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  // embedding_c1: the table has rows and columns.
  ArrayRef<int64_t> table = shapeOf(op.getTable());
  if (table.size() != 2)
    return inferError(loc, "rank of table is " + Twine(table.size()) + ", should be 2");
  if (failed(checkGroup(loc, op.getGroup(), op.getMembers())))
    return failure();
  return inferTensor(loc, gatheredShape(table, shapeOf(op.getIds()), 0), elementOf(op.getTable()),
                     types);
}

LogicalResult EmbeddingOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                    MutableArrayRef<HostTensor> outputs) {
  if (getMembers().value_or(1) != 1)
    return failure();
  return walkGather(inputs[0]->shape(), *inputs[1], 0, [&](int64_t y, int64_t x) {
    outputs[0].copyElement(y, *inputs[0], x);
  });
}

LogicalResult EmbeddingBackwardOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                                    DictionaryAttr attributes,
                                                    OpaqueProperties properties,
                                                    RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  // embedding_backward_c1: dy has a row for each id.
  ArrayRef<int64_t> dy = shapeOf(op.getDy()), ids = shapeOf(op.getIds());
  if (dy.size() != ids.size() + 1 || dy.drop_back() != ids)
    return inferError(loc, "shape of dy is " + shapeString(dy) + ", should be that of ids, " +
                               shapeString(ids) + ", and a last dimension");
  if (failed(checkGroup(loc, op.getGroup(), op.getMembers())))
    return failure();
  int64_t shape[] = {static_cast<int64_t>(op.getRows()), dy.back()};
  // embedding_backward_c2: the result is rounded unless it is wide.
  return inferTensor(loc, shape, sumType(elementOf(op.getDy()), op.getWide()), types);
}

LogicalResult EmbeddingBackwardOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                            MutableArrayRef<HostTensor> outputs) {
  if (getMembers().value_or(1) != 1)
    return failure();
  return walkGather(outputs[0].shape(), *inputs[1], 0, [&](int64_t y, int64_t x) {
    outputs[0].floats[x] += inputs[0]->floats[y];
  });
}

uint64_t EmbeddingBackwardOp::getWorkspaceBytes() {
  return isNarrowFloat(getDy())
             ? rt::workspace::sortedSources(getRows(), elementCount(shapeOf(getIds())))
             : 0;
}

SmallVector<OpResult> EmbeddingBackwardOp::getSums() { return {getOperation()->getResult(0)}; }

//===--------------------------------------------------------------------------------------------===//
// gather_elements, scatter_elements
//===--------------------------------------------------------------------------------------------===//

LogicalResult GatherElementsOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                                 DictionaryAttr attributes,
                                                 OpaqueProperties properties, RegionRange regions,
                                                 Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkElements(loc, shapeOf(op.getX()), shapeOf(op.getIndices()), op.getAxis())))
    return failure();
  return inferTensor(loc, shapeOf(op.getIndices()), elementOf(op.getX()), types);
}

LogicalResult GatherElementsOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                         MutableArrayRef<HostTensor> outputs) {
  return walkElements(inputs[0]->shape(), *inputs[1], getAxis(), [&](int64_t y, int64_t x) {
    outputs[0].copyElement(y, *inputs[0], x);
  });
}

LogicalResult ScatterElementsOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                                  DictionaryAttr attributes,
                                                  OpaqueProperties properties, RegionRange regions,
                                                  Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkElements(loc, shapeOf(op.getX()), shapeOf(op.getIndices()), op.getAxis())) ||
      failed(checkScatter(loc, op.getReduction(), op.getX(), op.getUpdates())))
    return failure();
  // scatter_elements_c1: an update for each index.
  if (shapeOf(op.getUpdates()) != shapeOf(op.getIndices()))
    return inferError(loc, "shape of updates is " + shapeString(shapeOf(op.getUpdates())) +
                               ", should be that of indices, " +
                               shapeString(shapeOf(op.getIndices())));
  types.push_back(op.getX().getType());
  return success();
}

LogicalResult ScatterElementsOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                          MutableArrayRef<HostTensor> outputs) {
  outputs[0].floats = inputs[0]->floats;
  outputs[0].ints = inputs[0]->ints;
  return walkElements(inputs[0]->shape(), *inputs[1], getAxis(), [&](int64_t update, int64_t x) {
    scatter(outputs[0], x, *inputs[2], update, getReduction());
  });
}

/// Whether elements of the result are combined from several that are narrower than their sum.
static bool combinesNarrow(StringRef reduction, Value y) {
  return isNarrowFloat(y) && (reduction == "add" || reduction == "mul");
}

uint64_t ScatterElementsOp::getWorkspaceBytes() {
  if (!combinesNarrow(getReduction(), getY()))
    return 0;
  AxisSplit lines(shapeOf(getIndices()), getAxis());
  return rt::workspace::scatterLines(lines.outer * lines.inner, shapeOf(getX())[getAxis()]);
}

//===--------------------------------------------------------------------------------------------===//
// gather_nd, scatter_nd
//===--------------------------------------------------------------------------------------------===//

// The shape that gather_nd returns for x; reports what does not fit.
static LogicalResult inferNd(Loc loc, ArrayRef<int64_t> x, ArrayRef<int64_t> indices,
                             int64_t batchDims, Shape &result) {
  // nd_c1: indices have a last dimension, which indexes.
  if (indices.empty())
    return inferError(loc, "rank of indices is 0, should be 1 or more");
  // nd_c2: batch dimensions are leading dimensions of both that are not indexed.
  int64_t rank = x.size(), rows = static_cast<int64_t>(indices.size()) - 1;
  if (batchDims < 0 || batchDims > std::min(rank, rows))
    return inferError(loc, "batch_dims is " + Twine(batchDims) + ", should be in [0, " +
                               Twine(std::min(rank, rows)) + "]");
  // nd_c3: x and indices have the same batch dimensions.
  if (x.take_front(batchDims) != indices.take_front(batchDims))
    return inferError(loc, "shape of indices is " + shapeString(indices) + ", should start as " +
                               shapeString(x) + " in " + Twine(batchDims) + " batch dimensions");
  // nd_c4: an index has no more numbers than x has dimensions left.
  if (indices.back() > rank - batchDims)
    return inferError(loc, "last dimension of indices is " + Twine(indices.back()) +
                               ", should be at most " + Twine(rank - batchDims));
  result.assign(indices.begin(), indices.end() - 1);
  llvm::append_range(result, x.drop_front(batchDims + indices.back()));
  return success();
}

LogicalResult GatherNdOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                           DictionaryAttr attributes, OpaqueProperties properties,
                                           RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  Shape shape;
  if (failed(inferNd(loc, shapeOf(op.getX()), shapeOf(op.getIndices()), op.getBatchDims(), shape)))
    return failure();
  return inferTensor(loc, shape, elementOf(op.getX()), types);
}

LogicalResult GatherNdOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                   MutableArrayRef<HostTensor> outputs) {
  return walkNd(inputs[0]->shape(), *inputs[1], getBatchDims(), [&](int64_t y, int64_t x) {
    outputs[0].copyElement(y, *inputs[0], x);
  });
}

LogicalResult GatherNdBackwardOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                                   DictionaryAttr attributes,
                                                   OpaqueProperties properties, RegionRange regions,
                                                   Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  Shape want;
  if (failed(inferTensor(loc, op.getShape(), elementOf(op.getDy()), types)) ||
      failed(inferNd(loc, op.getShape(), shapeOf(op.getIndices()), op.getBatchDims(), want)))
    return failure();
  // gather_nd_backward_c1: dy has the shape that gather_nd returns.
  if (shapeOf(op.getDy()) != ArrayRef(want))
    return inferError(loc, "shape of dy is " + shapeString(shapeOf(op.getDy())) + ", should be " +
                               shapeString(want));
  return success();
}

LogicalResult GatherNdBackwardOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                           MutableArrayRef<HostTensor> outputs) {
  return walkNd(getShape(), *inputs[1], getBatchDims(), [&](int64_t y, int64_t x) {
    outputs[0].floats[x] += inputs[0]->floats[y];
  });
}

/// Slices of `shape` that an index of `length` numbers behind the batch dimensions can name, in all batches.
static uint64_t slicesOf(ArrayRef<int64_t> shape, int64_t batchDims, int64_t length) {
  return elementCount(shape.take_front(batchDims + length));
}

uint64_t GatherNdBackwardOp::getWorkspaceBytes() {
  ArrayRef<int64_t> indices = shapeOf(getIndices());
  return isNarrowFloat(getDx())
             ? rt::workspace::sortedSources(slicesOf(getShape(), getBatchDims(), indices.back()),
                                            elementCount(indices.drop_back()))
             : 0;
}

LogicalResult ScatterNdOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                            DictionaryAttr attributes, OpaqueProperties properties,
                                            RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  Shape want;
  if (failed(inferNd(loc, shapeOf(op.getX()), shapeOf(op.getIndices()), 0, want)) ||
      failed(checkScatter(loc, op.getReduction(), op.getX(), op.getUpdates())))
    return failure();
  // scatter_nd_c1: an update for each index.
  if (shapeOf(op.getUpdates()) != ArrayRef(want))
    return inferError(loc, "shape of updates is " + shapeString(shapeOf(op.getUpdates())) +
                               ", should be " + shapeString(want));
  types.push_back(op.getX().getType());
  return success();
}

LogicalResult ScatterNdOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                    MutableArrayRef<HostTensor> outputs) {
  outputs[0].floats = inputs[0]->floats;
  outputs[0].ints = inputs[0]->ints;
  return walkNd(inputs[0]->shape(), *inputs[1], 0, [&](int64_t update, int64_t x) {
    scatter(outputs[0], x, *inputs[2], update, getReduction());
  });
}

uint64_t ScatterNdOp::getWorkspaceBytes() {
  ArrayRef<int64_t> indices = shapeOf(getIndices());
  return combinesNarrow(getReduction(), getY())
             ? rt::workspace::sortedSources(slicesOf(shapeOf(getX()), 0, indices.back()),
                                            elementCount(indices.drop_back()))
             : 0;
}

//===--------------------------------------------------------------------------------------------===//
// one_hot
//===--------------------------------------------------------------------------------------------===//

LogicalResult OneHotOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                         DictionaryAttr attributes, OpaqueProperties properties,
                                         RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  Shape shape(shapeOf(op.getIndices()));
  // one_hot_c1: the new dimension stands at or between the others.
  if (failed(checkAxis(loc, op.getAxis(), shape.size() + 1)))
    return failure();
  shape.insert(shape.begin() + op.getAxis(), op.getDepth());
  return inferTensor(loc, shape, op.getElement(), types);
}

LogicalResult OneHotOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                 MutableArrayRef<HostTensor> outputs) {
  AxisSplit split(outputs[0].shape(), getAxis());
  for (int64_t o = 0; o < split.outer; ++o)
    for (int64_t k = 0; k < split.inner; ++k)
      if (auto index = wrapIndex(inputs[0]->ints[o * split.inner + k], split.n))
        outputs[0].set(split.at(o, *index, k), 1);
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// top_k, arg_max, cumsum
//===--------------------------------------------------------------------------------------------===//

LogicalResult TopKOp::inferReturnTypes(MLIRContext *context, Loc loc, ValueRange operands,
                                       DictionaryAttr attributes, OpaqueProperties properties,
                                       RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  Shape shape(shapeOf(op.getX()));
  // top_k_c1: the axis is a dimension.
  if (failed(checkAxis(loc, op.getAxis(), shape.size())))
    return failure();
  // top_k_c2: there are k elements.
  int64_t &size = shape[op.getAxis()], k = op.getK();
  if (k < 0 || k > size)
    return inferError(loc, "k is " + Twine(k) + ", should be in [0, " + Twine(size) + "]");
  size = k;
  if (failed(inferTensor(loc, shape, elementOf(op.getX()), types)))
    return failure();
  return inferTensor(loc, shape, IntegerType::get(context, 64), types);
}

LogicalResult TopKOp::evaluate(ArrayRef<const HostTensor *> inputs,
                               MutableArrayRef<HostTensor> outputs) {
  AxisSplit from(inputs[0]->shape(), getAxis()), to(outputs[0].shape(), getAxis());
  Before before{*inputs[0], getLargest()};
  for (int64_t o = 0; o < from.outer; ++o)
    for (int64_t k = 0; k < from.inner; ++k) {
      Shape order = llvm::to_vector(llvm::seq<int64_t>(0, from.n));
      llvm::stable_sort(order, [&](int64_t a, int64_t b) {
        return before(from.at(o, a, k), from.at(o, b, k));
      });
      for (int64_t i = 0; i < to.n; ++i) {
        outputs[0].copyElement(to.at(o, i, k), *inputs[0], from.at(o, order[i], k));
        outputs[1].ints[to.at(o, i, k)] = order[i];
      }
    }
  return success();
}

LogicalResult ArgMaxOp::inferReturnTypes(MLIRContext *context, Loc loc, ValueRange operands,
                                         DictionaryAttr attributes, OpaqueProperties properties,
                                         RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  Shape shape(shapeOf(op.getX()));
  // arg_max_c1: the axis is a dimension.
  if (failed(checkAxis(loc, op.getAxis(), shape.size())))
    return failure();
  // arg_max_c2: which has a position to name.
  if (shape[op.getAxis()] == 0)
    return inferError(loc, "dimension of the axis is 0, should be 1 or more");
  if (op.getKeepdims())
    shape[op.getAxis()] = 1;
  else
    shape.erase(shape.begin() + op.getAxis());
  return inferTensor(loc, shape, IntegerType::get(context, 64), types);
}

LogicalResult ArgMaxOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                 MutableArrayRef<HostTensor> outputs) {
  AxisSplit split(inputs[0]->shape(), getAxis());
  Before before{*inputs[0], !getMin()};
  for (int64_t o = 0; o < split.outer; ++o)
    for (int64_t k = 0; k < split.inner; ++k) {
      int64_t best = 0;
      for (int64_t i = 1; i < split.n; ++i) {
        int64_t have = split.at(o, best, k), here = split.at(o, i, k);
        if (before(here, have) || (getLast() && !before(have, here)))
          best = i;
      }
      outputs[0].ints[o * split.inner + k] = best;
    }
  return success();
}

LogicalResult CumsumOp::inferReturnTypes(MLIRContext *, Loc loc, ValueRange operands,
                                         DictionaryAttr attributes, OpaqueProperties properties,
                                         RegionRange regions, Types &types) {
  Adaptor op(operands, attributes, properties, regions);
  // cumsum_c1: the axis is a dimension.
  if (failed(checkAxis(loc, op.getAxis(), shapeOf(op.getX()).size())))
    return failure();
  types.push_back(op.getX().getType());
  return success();
}

LogicalResult CumsumOp::evaluate(ArrayRef<const HostTensor *> inputs,
                                 MutableArrayRef<HostTensor> outputs) {
  AxisSplit split(inputs[0]->shape(), getAxis());
  const HostTensor &x = *inputs[0];
  for (int64_t o = 0; o < split.outer; ++o)
    for (int64_t k = 0; k < split.inner; ++k) {
      double sum = 0;
      int64_t total = 0;
      for (int64_t step = 0; step < split.n; ++step) {
        int64_t at = split.at(o, getReverse() ? split.n - 1 - step : step, k);
        auto write = [&] {
          if (x.isFloat())
            outputs[0].floats[at] = sum;
          else
            outputs[0].ints[at] = total;
        };
        if (getExclusive())
          write();
        if (x.isFloat())
          sum += x.floats[at];
        else
          total = wrapAdd(total, x.ints[at]);
        if (!getExclusive())
          write();
      }
    }
  return success();
}
