// Matrix products: shapes, oracle, gradients, cost.
//
// A product with a weight gives the weight's gradient in one product over all rows
// (linear_weight_grad), never as a batch of gradients that is summed afterwards. Constraints are
// labelled; test/dialect/matmul-invalid.mlir has a case for each.
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/CudaWorkspace.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

namespace {

/// Rows and columns of a matrix as an operand of a product, and how to step through it.
struct Matrix {
  int64_t rows, columns, rowStride, columnStride;

  Matrix(ArrayRef<int64_t> shape, bool transposed) {
    int64_t m = shape[shape.size() - 2], n = shape.back();
    rows = transposed ? n : m;
    columns = transposed ? m : n;
    rowStride = transposed ? 1 : n;
    columnStride = transposed ? n : 1;
  }
  int64_t index(int64_t row, int64_t column) const {
    return row * rowStride + column * columnStride;
  }
};

} // namespace

static uint64_t productFlops(ArrayRef<uint64_t> factors) {
  uint64_t flops = 2;
  for (uint64_t factor : factors)
    flops = llvm::SaturatingMultiply(flops, factor);
  return flops;
}

static int64_t rowsOf(ArrayRef<int64_t> shape) { return elementCount(shape.drop_back()); }

/// Adds `sum` over k of left(i, k) * right(k, j) to every out(i, j); integers wrap.
static void addProduct(const HostTensor &a, int64_t aBase, const Matrix &left, const HostTensor &b,
                       int64_t bBase, const Matrix &right, HostTensor &out, int64_t outBase) {
  for (int64_t i = 0; i < left.rows; ++i)
    for (int64_t j = 0; j < right.columns; ++j) {
      double sum = 0;
      uint64_t integerSum = 0;
      for (int64_t k = 0; k < left.columns; ++k) {
        int64_t ia = aBase + left.index(i, k), ib = bBase + right.index(k, j);
        if (a.isFloat())
          sum += a.floats[ia] * b.floats[ib];
        else
          integerSum += static_cast<uint64_t>(a.ints[ia]) * static_cast<uint64_t>(b.ints[ib]);
      }
      int64_t o = outBase + i * right.columns + j;
      if (a.isFloat())
        out.floats[o] += sum;
      else
        out.ints[o] = static_cast<int64_t>(static_cast<uint64_t>(out.ints[o]) + integerSum);
    }
}

//===----------------------------------------------------------------------===//
// matmul
//===----------------------------------------------------------------------===//

LogicalResult MatmulOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                         ValueRange operands, DictionaryAttr attributes,
                                         OpaqueProperties properties, RegionRange regions,
                                         SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> a = shapeOf(op.getA()), b = shapeOf(op.getB());
  // matmul_c1
  if (a.size() < 2 || b.size() < 2)
    return inferError(loc, "operands are of shapes " + shapeString(a) + " and " + shapeString(b) +
                               ", should be of rank 2 or more");
  // matmul_c2
  if (elementOf(op.getA()) != elementOf(op.getB()))
    return inferError(loc, "operands are of element types " + typeString(elementOf(op.getA())) +
                               " and " + typeString(elementOf(op.getB())) + ", should be of one");
  Matrix left(a, op.getTransposeA()), right(b, op.getTransposeB());
  // matmul_c3
  if (left.columns != right.rows)
    return inferError(loc, "inner dimensions are " + Twine(left.columns) + " and " +
                               Twine(right.rows) + ", should be equal");
  std::optional<SmallVector<int64_t>> shape = broadcastShapes({a.drop_back(2), b.drop_back(2)});
  // matmul_c4
  if (!shape)
    return inferError(loc, "leading dimensions " + shapeString(a.drop_back(2)) + " and " +
                               shapeString(b.drop_back(2)) + " do not broadcast");
  shape->append({left.rows, right.columns});
  return inferTensor(loc, *shape, elementOf(op.getA()), types);
}

LogicalResult MatmulOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &a = *in[0], &b = *in[1];
  HostTensor &y = out[0];
  if (y.size() == 0)
    return success();
  Matrix left(a.shape(), getTransposeA()), right(b.shape(), getTransposeB());
  ArrayRef<int64_t> batch = y.shape().drop_back(2);
  BroadcastIndexer indexA(a.shape().drop_back(2), batch), indexB(b.shape().drop_back(2), batch);
  for (int64_t i = 0, e = elementCount(batch); i < e; ++i)
    addProduct(a, indexA(i) * left.rows * left.columns, left, b,
               indexB(i) * right.rows * right.columns, right, y, i * left.rows * right.columns);
  return success();
}

LogicalResult MatmulOp::buildVjp(OpBuilder &builder, ValueRange cotangents, ArrayRef<bool> needed,
                                 MutableArrayRef<Value> gradients) {
  Value a = getA(), b = getB(), dy = cotangents[0];
  if (!isa<FloatType>(elementOf(a)))
    return failure();
  if (!dy)
    return success();
  bool ta = getTransposeA(), tb = getTransposeB();
  if (needed[0]) {
    Value da = ta ? MatmulOp::create(builder, getLoc(), b, dy, tb, true)
                  : MatmulOp::create(builder, getLoc(), dy, b, false, !tb);
    gradients[0] = sumTo(builder, getLoc(), da, tensorType(a));
  }
  if (needed[1]) {
    // A matrix against a batch of rows: one product over all rows instead of a batch of products
    // and their sum.
    if (!ta && tensorType(b).getRank() == 2) {
      gradients[1] = LinearWeightGradOp::create(builder, getLoc(), a, dy, tb, /*wide=*/false);
    } else {
      Value db = tb ? MatmulOp::create(builder, getLoc(), dy, a, true, ta)
                    : MatmulOp::create(builder, getLoc(), a, dy, !ta, false);
      gradients[1] = sumTo(builder, getLoc(), db, tensorType(b));
    }
  }
  return success();
}

ShardingRule MatmulOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> shape = shapeOf(getY());
  SmallVector<unsigned> batch = r.each(shape.drop_back(2));
  unsigned m = r.factor(shape[shape.size() - 2]), n = r.factor(shape.back());
  unsigned k = r.factor(Matrix(shapeOf(getA()), getTransposeA()).columns, FactorKind::Sum);
  auto place = [&](unsigned number, Value operand, unsigned rows, unsigned columns, bool transposed) {
    r.broadcastOperand(number, shape, batch); // the leading dimensions; the last two are set below
    ShardingRule::Dims &dims = r.rule.operands[number];
    dims[dims.size() - 2] = {transposed ? columns : rows};
    dims[dims.size() - 1] = {transposed ? rows : columns};
  };
  batch.append({RuleBuilder::none, RuleBuilder::none});
  place(0, getA(), m, k, getTransposeA());
  place(1, getB(), k, n, getTransposeB());
  batch[batch.size() - 2] = m;
  batch.back() = n;
  r.result(0, batch);
  return std::move(r.rule);
}

uint64_t MatmulOp::getFlops() {
  Matrix left(shapeOf(getA()), getTransposeA());
  return productFlops(
      {static_cast<uint64_t>(elementCount(shapeOf(getY()))), static_cast<uint64_t>(left.columns)});
}

uint64_t MatmulOp::getWorkspaceBytes() {
  if (!isNarrowFloat(getY()))
    return 0;
  Matrix left(shapeOf(getA()), getTransposeA());
  ArrayRef<int64_t> y = shapeOf(getY());
  return rt::workspace::product(elementCount(y.drop_back()), y.back(), left.columns,
                                storageBytes(getY()));
}
uint64_t MatmulOp::getCudaWorkspaceBytes() {
  ArrayRef<int64_t> y = shapeOf(getY()).take_back(2);
  return rt::workspace::cuda::product(y[0], y[1]);
}

//===----------------------------------------------------------------------===//
// linear
//===----------------------------------------------------------------------===//

LogicalResult LinearOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                         ValueRange operands, DictionaryAttr attributes,
                                         OpaqueProperties properties, RegionRange regions,
                                         SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> x = shapeOf(op.getX()), w = shapeOf(op.getW());
  // linear_c1
  if (x.empty())
    return inferError(loc, "x is a scalar, should be of rank 1 or more");
  // linear_c2
  if (w.size() != 2)
    return inferError(loc, "w is of shape " + shapeString(w) + ", should be of rank 2");
  Matrix weight(w, op.getTransposeW());
  // linear_c3
  if (x.back() != weight.rows)
    return inferError(loc, "x's last dimension is " + Twine(x.back()) +
                               ", should be w's input dimension " + Twine(weight.rows));
  // linear_c4
  if (op.getBias() && shapeOf(op.getBias()) != ArrayRef<int64_t>(weight.columns))
    return inferError(loc, "bias is of shape " + shapeString(shapeOf(op.getBias())) +
                               ", should be " + Twine(weight.columns));
  Type element = elementOf(op.getX());
  // linear_c5
  if (elementOf(op.getW()) != element || (op.getBias() && elementOf(op.getBias()) != element))
    return inferError(loc, "operands should have one element type");
  SmallVector<int64_t> shape(x.drop_back());
  shape.push_back(weight.columns);
  return inferTensor(loc, shape, element, types);
}

LogicalResult LinearOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &x = *in[0], &w = *in[1];
  Matrix weight(w.shape(), getTransposeW());
  SmallVector<int64_t> rows = {rowsOf(x.shape()), x.shape().back()};
  if (in[2])
    for (int64_t i = 0, e = out[0].size(); i < e; ++i)
      out[0].floats[i] = in[2]->floats[i % weight.columns];
  addProduct(x, 0, Matrix(rows, false), w, 0, weight, out[0], 0);
  return success();
}

LogicalResult LinearOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                 MutableArrayRef<Value> gradients) {
  Value dy = cotangents[0];
  if (!dy)
    return success();
  if (needed[0])
    gradients[0] = LinearOp::create(b, getLoc(), dy, getW(), Value(), !getTransposeW());
  if (needed[1])
    gradients[1] = LinearWeightGradOp::create(b, getLoc(), getX(), dy, getTransposeW(), /*wide=*/false);
  if (getBias() && needed[2])
    gradients[2] = sumTo(b, getLoc(), dy, tensorType(getBias()));
  return success();
}

ShardingRule LinearOp::getShardingRule() {
  RuleBuilder r(*this);
  SmallVector<unsigned> x = r.each(shapeOf(getX()).drop_back()), y = x;
  unsigned k = r.factor(shapeOf(getX()).back(), FactorKind::Sum), n = r.factor(shapeOf(getY()).back());
  x.push_back(k);
  y.push_back(n);
  r.operand(0, x);
  r.operand(1, getTransposeW() ? ArrayRef{n, k} : ArrayRef{k, n});
  if (getBias())
    r.operand(2, n);
  r.result(0, y);
  return std::move(r.rule);
}

uint64_t LinearOp::getFlops() {
  uint64_t elements = elementCount(shapeOf(getY()));
  uint64_t flops = productFlops({elements, static_cast<uint64_t>(shapeOf(getX()).back())});
  return getBias() ? llvm::SaturatingAdd(flops, elements) : flops;
}

uint64_t LinearOp::getWorkspaceBytes() {
  ArrayRef<int64_t> x = shapeOf(getX());
  return rt::workspace::product(elementCount(x.drop_back()), shapeOf(getY()).back(), x.back(),
                                storageBytes(getX()));
}
uint64_t LinearOp::getCudaWorkspaceBytes() {
  ArrayRef<int64_t> y = shapeOf(getY());
  return rt::workspace::cuda::product(elementCount(y.drop_back()), y.back());
}

LogicalResult LinearWeightGradOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                                   ValueRange operands, DictionaryAttr attributes,
                                                   OpaqueProperties properties, RegionRange regions,
                                                   SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> x = shapeOf(op.getX()), dy = shapeOf(op.getDy());
  // linear_weight_grad_c1
  if (x.empty() || dy.empty())
    return inferError(loc, "operands are of shapes " + shapeString(x) + " and " + shapeString(dy) +
                               ", should be of rank 1 or more");
  // linear_weight_grad_c2
  if (x.drop_back() != dy.drop_back())
    return inferError(loc, "leading dimensions are " + shapeString(x.drop_back()) + " and " +
                               shapeString(dy.drop_back()) + ", should be equal");
  // linear_weight_grad_c3
  if (elementOf(op.getX()) != elementOf(op.getDy()))
    return inferError(loc, "operands should have one element type");
  SmallVector<int64_t, 2> shape = {x.back(), dy.back()};
  if (op.getTransposeW())
    std::swap(shape[0], shape[1]);
  // linear_weight_grad_c4: the result is rounded unless it is wide.
  return inferTensor(loc, shape, sumType(elementOf(op.getX()), op.getWide()), types);
}

LogicalResult LinearWeightGradOp::evaluate(Inputs in, Outputs out) {
  bool transposed = getTransposeW();
  const HostTensor &left = *in[transposed ? 1 : 0], &right = *in[transposed ? 0 : 1];
  SmallVector<int64_t> leftShape = {rowsOf(left.shape()), left.shape().back()};
  SmallVector<int64_t> rightShape = {rowsOf(right.shape()), right.shape().back()};
  addProduct(left, 0, Matrix(leftShape, true), right, 0, Matrix(rightShape, false), out[0], 0);
  return success();
}

uint64_t LinearWeightGradOp::getFlops() {
  return productFlops({static_cast<uint64_t>(elementCount(shapeOf(getX()))),
                       static_cast<uint64_t>(shapeOf(getDy()).back())});
}

uint64_t LinearWeightGradOp::getWorkspaceBytes() {
  ArrayRef<int64_t> dw = shapeOf(getDw());
  return rt::workspace::product(dw[0], dw[1], elementCount(shapeOf(getX()).drop_back()),
                                storageBytes(getX()), !getWide());
}
uint64_t LinearWeightGradOp::getCudaWorkspaceBytes() {
  ArrayRef<int64_t> dw = shapeOf(getDw());
  return rt::workspace::cuda::product(dw[0], dw[1]);
}

SmallVector<OpResult> LinearWeightGradOp::getSums() { return {getOperation()->getResult(0)}; }

//===----------------------------------------------------------------------===//
// grouped_matmul
//===----------------------------------------------------------------------===//

static LogicalResult checkExpectedRows(std::optional<Location> loc, std::optional<int64_t> expected, int64_t rows) {
  // grouped_matmul_c6
  if (expected && (*expected < 0 || *expected > rows))
    return inferError(loc, "expected_rows is " + Twine(*expected) + ", should be in [0, " + Twine(rows) + "]");
  return success();
}

static uint64_t workingRows(Value x, std::optional<int64_t> expected) {
  return static_cast<uint64_t>(expected.value_or(shapeOf(x)[0]));
}

LogicalResult GroupedMatmulOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                                ValueRange operands, DictionaryAttr attributes,
                                                OpaqueProperties properties, RegionRange regions,
                                                SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> x = shapeOf(op.getX()), w = shapeOf(op.getW()), ids = shapeOf(op.getIds());
  // grouped_matmul_c1
  if (x.size() != 2)
    return inferError(loc, "x is of shape " + shapeString(x) + ", should be of rank 2");
  // grouped_matmul_c2
  if (w.size() != 3)
    return inferError(loc, "w is of shape " + shapeString(w) + ", should be of rank 3");
  // grouped_matmul_c3
  if (ids.size() != 1 || ids[0] != x[0])
    return inferError(loc, "ids is of shape " + shapeString(ids) + ", should be " + Twine(x[0]) +
                               ", one for each row of x");
  Matrix weight(w, op.getTransposeW());
  // grouped_matmul_c4
  if (x[1] != weight.rows)
    return inferError(loc, "x's last dimension is " + Twine(x[1]) +
                               ", should be w's input dimension " + Twine(weight.rows));
  // grouped_matmul_c5
  if (elementOf(op.getX()) != elementOf(op.getW()))
    return inferError(loc, "x and w should have one element type");
  if (failed(checkExpectedRows(loc, op.getExpectedRows(), x[0])))
    return failure();
  return inferTensor(loc, {x[0], weight.columns}, elementOf(op.getX()), types);
}

LogicalResult GroupedMatmulOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &x = *in[0], &w = *in[1], &ids = *in[2];
  Matrix weight(w.shape(), getTransposeW());
  SmallVector<int64_t> row = {1, x.shape()[1]};
  for (int64_t i = 0, e = x.shape()[0]; i < e; ++i) {
    int64_t group = ids.ints[i], groups = w.shape()[0];
    if (getExpectedRows() && group == groups)
      continue;
    if (group < 0 || group >= groups)
      return failure();
    addProduct(x, i * row[1], Matrix(row, false), w, group * weight.rows * weight.columns, weight,
               out[0], i * weight.columns);
  }
  return success();
}

LogicalResult GroupedMatmulOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                        MutableArrayRef<Value> gradients) {
  Value dy = cotangents[0];
  if (!dy)
    return success();
  if (needed[0])
    gradients[0] = GroupedMatmulOp::create(b, getLoc(), dy, getW(), getIds(), !getTransposeW(), getExpectedRowsAttr());
  if (needed[1])
    gradients[1] = GroupedMatmulWeightGradOp::create(b, getLoc(), getX(), dy, getIds(), shapeOf(getW())[0],
                                                     getTransposeW(), /*wide=*/false, getExpectedRowsAttr());
  return success();
}

ShardingRule GroupedMatmulOp::getShardingRule() {
  RuleBuilder r(*this);
  unsigned rows = r.factor(shapeOf(getX())[0]), k = r.factor(shapeOf(getX())[1], FactorKind::Sum),
           groups = r.factor(shapeOf(getW())[0], FactorKind::Whole), m = r.factor(shapeOf(getY())[1]);
  r.operand(0, {rows, k});
  r.operand(1, getTransposeW() ? ArrayRef{groups, m, k} : ArrayRef{groups, k, m});
  r.operand(2, rows);
  r.result(0, {rows, m});
  return std::move(r.rule);
}

uint64_t GroupedMatmulOp::getFlops() {
  return productFlops({workingRows(getX(), getExpectedRows()), static_cast<uint64_t>(shapeOf(getX()).back()),
                       static_cast<uint64_t>(shapeOf(getY()).back())});
}

uint64_t GroupedMatmulOp::getWorkspaceBytes() {
  ArrayRef<int64_t> x = shapeOf(getX());
  return rt::workspace::groupedMatmul(x[0], x[1], shapeOf(getY())[1], shapeOf(getW())[0],
                                      storageBytes(getX()));
}
uint64_t GroupedMatmulOp::getCudaWorkspaceBytes() {
  return rt::workspace::cuda::groupedMatmul(shapeOf(getX())[0], shapeOf(getW())[0]);
}

LogicalResult GroupedMatmulWeightGradOp::inferReturnTypes(
    MLIRContext *, std::optional<Location> loc, ValueRange operands, DictionaryAttr attributes,
    OpaqueProperties properties, RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> x = shapeOf(op.getX()), dy = shapeOf(op.getDy()), ids = shapeOf(op.getIds());
  // grouped_matmul_weight_grad_c1
  if (x.size() != 2 || dy.size() != 2)
    return inferError(loc, "operands are of shapes " + shapeString(x) + " and " + shapeString(dy) +
                               ", should be of rank 2");
  // grouped_matmul_weight_grad_c2
  if (x[0] != dy[0] || ids.size() != 1 || ids[0] != x[0])
    return inferError(loc, "x, dy and ids are of shapes " + shapeString(x) + ", " +
                               shapeString(dy) + " and " + shapeString(ids) +
                               ", should have one number of rows");
  // grouped_matmul_weight_grad_c3
  if (elementOf(op.getX()) != elementOf(op.getDy()))
    return inferError(loc, "x and dy should have one element type");
  int64_t groups = static_cast<int64_t>(op.getGroups());
  // grouped_matmul_weight_grad_c4
  if (groups < 0)
    return inferError(loc, "groups is " + Twine(groups) + ", should be 0 or more");
  if (failed(checkExpectedRows(loc, op.getExpectedRows(), x[0])))
    return failure();
  SmallVector<int64_t, 3> shape = {groups, x[1], dy[1]};
  if (op.getTransposeW())
    std::swap(shape[1], shape[2]);
  // grouped_matmul_weight_grad_c5: the result is rounded unless it is wide.
  return inferTensor(loc, shape, sumType(elementOf(op.getX()), op.getWide()), types);
}

LogicalResult GroupedMatmulWeightGradOp::evaluate(Inputs in, Outputs out) {
  bool transposed = getTransposeW();
  const HostTensor &left = *in[transposed ? 1 : 0], &right = *in[transposed ? 0 : 1], &ids = *in[2];
  int64_t rows = left.shape()[1], columns = right.shape()[1];
  for (int64_t i = 0, e = left.shape()[0]; i < e; ++i) {
    int64_t group = ids.ints[i], groups = static_cast<int64_t>(getGroups());
    if (getExpectedRows() && group == groups)
      continue;
    if (group < 0 || group >= groups)
      return failure();
    SmallVector<int64_t> leftShape = {1, rows}, rightShape = {1, columns};
    addProduct(left, i * rows, Matrix(leftShape, true), right, i * columns,
               Matrix(rightShape, false), out[0], group * rows * columns);
  }
  return success();
}

uint64_t GroupedMatmulWeightGradOp::getFlops() {
  return productFlops({workingRows(getX(), getExpectedRows()), static_cast<uint64_t>(shapeOf(getX()).back()),
                       static_cast<uint64_t>(shapeOf(getDy()).back())});
}

uint64_t GroupedMatmulWeightGradOp::getWorkspaceBytes() {
  ArrayRef<int64_t> x = shapeOf(getX());
  return rt::workspace::groupedMatmulWeightGrad(x[0], x[1], shapeOf(getDy())[1], getGroups(),
                                                storageBytes(getX()), getWide());
}
uint64_t GroupedMatmulWeightGradOp::getCudaWorkspaceBytes() {
  return rt::workspace::cuda::groupedMatmul(shapeOf(getX())[0], getGroups());
}

SmallVector<OpResult> GroupedMatmulWeightGradOp::getSums() {
  return {getOperation()->getResult(0)};
}
