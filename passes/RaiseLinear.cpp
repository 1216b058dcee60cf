// Raise: products with a weight matrix become linear, over the last dimension of whatever their
// input was flattened from; a sum with a bias vector joins them. A weight is a parameter, perhaps
// transposed or cast.
#include "passes/Raise.h"

using namespace mlir;
using namespace amc::train;

namespace amc::raise {

/// A linear of `like`'s attributes and weight on another input.
static LinearOp linearOn(OpBuilder &b, LinearOp like, Value x) {
  return LinearOp::create(b, like.getLoc(), x, like.getW(), like.getBias(), like.getTransposeW());
}

/// What `x` was before its leading dimensions were folded or split.
static Value unflattened(Value x) {
  auto reshape = definedBy<ReshapeOp>(x);
  if (!reshape || shapeOf(reshape.getX()).empty() || shapeOf(x).empty() ||
      shapeOf(reshape.getX()).back() != shapeOf(x).back())
    return {};
  return reshape.getX();
}

/// op(b) of the product as a weight: the stored matrix and whether it is [N, K].
static std::pair<Value, bool> matchWeight(MatmulOp matmul) {
  Value w = matmul.getB();
  bool isTransposed = matmul.getTransposeB();
  if (matmul.getTransposeA() || shapeOf(w).size() != 2 || !isa<FloatType>(elementOf(w)) ||
      !parameterBehind(w))
    return {};
  if (auto transpose = definedBy<TransposeOp>(w); transpose && transpose.getPermutation()[0] == 1) {
    w = transpose.getX();
    isTransposed = !isTransposed;
  }
  return {w, isTransposed};
}

static bool raiseMatmul(Rewriter &r, MatmulOp matmul) {
  auto [w, isTransposed] = matchWeight(matmul);
  if (!w)
    return false;
  OpBuilder &b = r.at(matmul);
  Value x = unflattened(matmul.getA());
  Value y = LinearOp::create(b, matmul.getLoc(), x ? x : matmul.getA(), w, Value(), isTransposed);
  r.replace(matmul, train::reshape(b, matmul.getLoc(), y, shapeOf(matmul.getY())), Found::Linear);
  return true;
}

static bool raiseBias(Rewriter &r, AddOp add) {
  for (auto [product, bias] :
       {std::pair(add.getA(), add.getB()), std::pair(add.getB(), add.getA())}) {
    Value source = product;
    if (Value inner = unflattened(product); inner && product.hasOneUse())
      source = inner;
    auto linear = definedBy<LinearOp>(source);
    if (!linear || linear.getBias() || !source.hasOneUse() || product.getType() != add.getType())
      continue;
    int64_t columns = shapeOf(source).back();
    ArrayRef<int64_t> shape = shapeOf(bias);
    if (shape.empty() || shape.back() != columns || elementCount(shape) != columns ||
        !parameterBehind(bias) || elementOf(bias) != elementOf(source) ||
        shape.size() > shapeOf(product).size())
      continue;
    OpBuilder &b = r.at(add);
    Location loc = linear.getLoc();
    Value vector = train::reshape(b, loc, bias, {columns});
    Value y =
        LinearOp::create(b, loc, linear.getX(), linear.getW(), vector, linear.getTransposeW());
    r.replace(add, train::reshape(b, loc, y, shapeOf(add.getY())), Found::Count);
    return true;
  }
  return false;
}

/// linear(reshape(x)) = reshape(linear(x)) where the reshape keeps the last dimension.
static bool hoist(Rewriter &r, LinearOp linear) {
  Value x = unflattened(linear.getX());
  if (!x)
    return false;
  OpBuilder &b = r.at(linear);
  Value y = linearOn(b, linear, x);
  r.replace(linear, train::reshape(b, linear.getLoc(), y, shapeOf(linear.getY())), Found::Count);
  return true;
}

/// reshape(linear(reshape(x))) = linear(reshape(x)) where the outer one keeps the last dimension
/// and the inner does not.
static bool pull(Rewriter &r, ReshapeOp reshape) {
  auto linear = definedBy<LinearOp>(reshape.getX());
  if (!linear || !linear.getY().hasOneUse() || !unflattened(reshape.getY()))
    return false;
  auto inner = definedBy<ReshapeOp>(linear.getX());
  if (!inner)
    return false;
  SmallVector<int64_t> shape(shapeOf(reshape.getY()));
  shape.back() = shapeOf(linear.getX()).back();
  OpBuilder &b = r.at(reshape);
  Value x = train::reshape(b, inner.getLoc(), inner.getX(), shape);
  r.replace(reshape, linearOn(b, linear, x).getY(), Found::Count);
  return true;
}

bool raiseLinear(Rewriter &r, Operation *op) {
  if (auto matmul = dyn_cast<MatmulOp>(op))
    return raiseMatmul(r, matmul);
  if (auto add = dyn_cast<AddOp>(op))
    return raiseBias(r, add);
  if (auto linear = dyn_cast<LinearOp>(op))
    return hoist(r, linear);
  if (auto reshape = dyn_cast<ReshapeOp>(op))
    return pull(r, reshape);
  return false;
}

} // namespace amc::raise
