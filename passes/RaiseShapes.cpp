// Raise: shape operations that do nothing, or that another one can do: identities, chains of
// reshapes and transposes, transposes that move dimensions of one element only, transposes that a
// matrix product can read through. Products with 1 and sums with 0, which exporters leave as well,
// are identities too.
#include "passes/Raise.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace amc::train;

namespace amc::raise {

static bool isIdentity(ArrayRef<int64_t> permutation) {
  return llvm::all_of(llvm::enumerate(permutation), [](auto entry) {
    return static_cast<int64_t>(entry.index()) == entry.value();
  });
}

/// The permutation keeps the order of all dimensions that have more than one element.
static bool movesOnlyUnits(TransposeOp transpose) {
  int64_t last = -1;
  for (int64_t from : transpose.getPermutation()) {
    if (shapeOf(transpose.getX())[from] == 1)
      continue;
    if (from < last)
      return false;
    last = from;
  }
  return true;
}

/// The value that `op` is, when it does nothing.
static Value matchIdentity(Operation *op) {
  if (!isa<ReshapeOp, TransposeOp, BroadcastOp, SliceOp, CastOp, ConcatOp>(op) ||
      op->getNumOperands() == 0 || op->getOperand(0).getType() != op->getResult(0).getType())
    return {};
  if (auto transpose = dyn_cast<TransposeOp>(op);
      transpose && !isIdentity(transpose.getPermutation()))
    return {};
  if (auto slice =
          dyn_cast<SliceOp>(op)) // a dimension of one element has the same only with start 0
    if (!llvm::all_of(slice.getStarts(), [](int64_t start) { return start == 0; }) ||
        !llvm::all_of(slice.getSteps(), [](int64_t step) { return step == 1; }))
      return {};
  if (isa<ConcatOp>(op) && op->getNumOperands() != 1)
    return {};
  return op->getOperand(0);
}

static bool simplifyReshape(Rewriter &r, ReshapeOp reshape) {
  Value x = reshape.getX();
  if (auto inner = definedBy<ReshapeOp>(x))
    x = inner.getX();
  else if (auto inner = definedBy<TransposeOp>(x); inner && movesOnlyUnits(inner))
    x = inner.getX();
  else
    return false;
  OpBuilder &b = r.at(reshape);
  r.replace(reshape, train::reshape(b, reshape.getLoc(), x, shapeOf(reshape.getY())), Found::Shape);
  return true;
}

static bool simplifyTranspose(Rewriter &r, TransposeOp transpose) {
  OpBuilder &b = r.at(transpose);
  if (auto inner = definedBy<TransposeOp>(transpose.getX())) {
    SmallVector<int64_t> joint;
    for (int64_t from : transpose.getPermutation())
      joint.push_back(inner.getPermutation()[from]);
    Value y = inner.getX();
    if (!isIdentity(joint))
      y = TransposeOp::create(b, transpose.getLoc(), y, b.getDenseI64ArrayAttr(joint));
    r.replace(transpose, y, Found::Shape);
    return true;
  }
  if (movesOnlyUnits(transpose)) {
    r.replace(transpose,
              train::reshape(b, transpose.getLoc(), transpose.getX(), shapeOf(transpose.getY())),
              Found::Shape);
    return true;
  }
  return false;
}

/// x * 1, x / 1, x + 0, x - 0. (-0 + 0 is 0, which no operation but a division tells from -0.)
static Value matchNeutral(Rewriter &r, Operation *op) {
  if (!isa<AddOp, SubOp, MulOp, DivOp>(op))
    return {};
  double neutral = isa<AddOp, SubOp>(op) ? 0 : 1;
  for (unsigned i : {0u, 1u})
    if (op->getOperand(i).getType() == op->getResult(0).getType() &&
        (i == 0 || isa<AddOp, MulOp>(op)) && r.scalar(op->getOperand(1 - i)) == neutral)
      return op->getOperand(i);
  return {};
}

bool simplifyShape(Rewriter &r, Operation *op) {
  Value x = matchIdentity(op);
  if (!x)
    x = matchNeutral(r, op);
  if (x) {
    r.replace(op, x, Found::Shape);
    return true;
  }
  if (auto reshape = dyn_cast<ReshapeOp>(op))
    return simplifyReshape(r, reshape);
  if (auto transpose = dyn_cast<TransposeOp>(op))
    return simplifyTranspose(r, transpose);
  return false;
}

bool foldTransposes(Rewriter &r, Operation *op) {
  auto matmul = dyn_cast<MatmulOp>(op);
  if (!matmul)
    return false;
  auto swapsLast = [](Value value) -> Value {
    auto transpose = definedBy<TransposeOp>(value);
    if (!transpose)
      return {};
    SmallVector<int64_t> permutation(transpose.getPermutation());
    size_t rank = permutation.size();
    if (rank < 2)
      return {};
    std::swap(permutation[rank - 1], permutation[rank - 2]);
    return isIdentity(permutation) ? transpose.getX() : Value();
  };
  Value a = swapsLast(matmul.getA()), b = swapsLast(matmul.getB());
  if (!a && !b)
    return false;
  Value y = MatmulOp::create(r.at(op), op->getLoc(), a ? a : matmul.getA(), b ? b : matmul.getB(),
                             matmul.getTransposeA() != static_cast<bool>(a),
                             matmul.getTransposeB() != static_cast<bool>(b));
  r.replace(op, y, Found::Shape);
  return true;
}

} // namespace amc::raise
