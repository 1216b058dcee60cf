// Raise: mixtures of experts whose matrices are gathered for every token become one grouped
// product, so that no expert is copied; rows taken from a trained table become an embedding.
//
// Expert ids must come from a top-k or arg-max over as many scores as there are experts: others
// could be out of range or count from the end, which a grouped product does not allow.
#include "passes/Raise.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace amc::train;

namespace amc::raise {

/// The ids are positions among at most `groups` scores.
static bool arePositions(Value ids, int64_t groups) {
  constexpr int maxSteps = 16;
  for (int step = 0; step < maxSteps; ++step) {
    Operation *op = ids.getDefiningOp();
    if (!op)
      return false;
    if (auto topK = dyn_cast<TopKOp>(op))
      return ids == topK.getIndices() && shapeOf(topK.getX())[topK.getAxis()] <= groups;
    if (auto argMax = dyn_cast<ArgMaxOp>(op))
      return shapeOf(argMax.getX())[argMax.getAxis()] <= groups;
    if (!isa<ReshapeOp, TransposeOp, SliceOp, BroadcastOp, CastOp>(op) ||
        elementOf(op->getOperand(0)).isInteger(1))
      return false;
    ids = op->getOperand(0);
  }
  return false;
}

namespace {
struct Gathered {
  Value weight;   // [E, P, Q]
  Value ids;      // as many as matrices were gathered
  bool isSwapped; // gathered matrices are [Q, P]
};
} // namespace

static bool swapsMatrices(TransposeOp transpose) {
  ArrayRef<int64_t> permutation = transpose.getPermutation();
  int64_t rank = permutation.size();
  for (int64_t i = 0; i < rank - 2; ++i)
    if (permutation[i] != i)
      return false;
  return rank > 2 && permutation[rank - 1] == rank - 2;
}

static std::optional<Gathered> matchGathered(Value value) {
  Gathered match{{}, {}, false};
  if (auto transpose = definedBy<TransposeOp>(value); transpose && swapsMatrices(transpose)) {
    match.isSwapped = true;
    value = transpose.getX();
  }
  int64_t rank = shapeOf(value).size();
  if (auto gather = definedBy<GatherOp>(value); gather && gather.getAxis() == 0) {
    match.weight = gather.getX();
    match.ids = gather.getIndices();
  } else if (auto gather = definedBy<GatherNdOp>(value);
             gather && gather.getBatchDims() == 0 && shapeOf(gather.getIndices()).back() == 1) {
    match.weight = gather.getX();
    match.ids = gather.getIndices();
  } else {
    return std::nullopt;
  }
  if (auto transpose = definedBy<TransposeOp>(match.weight);
      transpose && swapsMatrices(transpose)) {
    match.isSwapped = !match.isSwapped;
    match.weight = transpose.getX();
  }
  ArrayRef<int64_t> shape = shapeOf(match.weight);
  if (rank < 3 || shape.size() != 3 || !parameterBehind(match.weight) ||
      !arePositions(match.ids, shape[0]))
    return std::nullopt;
  return match;
}

namespace {
struct Experts {
  Gathered matrices;
  Value rows;
  bool isTransposed; // the weight is [E, M, K]
};
} // namespace

static std::optional<Experts> matchExperts(MatmulOp matmul) {
  ArrayRef<int64_t> result = shapeOf(matmul.getY());
  for (bool isLeft : {true, false}) {
    Value matrix = isLeft ? matmul.getA() : matmul.getB(),
          rows = isLeft ? matmul.getB() : matmul.getA();
    bool isRead = isLeft ? matmul.getTransposeA() : matmul.getTransposeB();
    // One vector for each matrix, nothing broadcast.
    if (result[result.size() - (isLeft ? 1 : 2)] != 1 ||
        shapeOf(matrix).drop_back(2) != result.drop_back(2) ||
        shapeOf(rows).drop_back(2) != result.drop_back(2))
      continue;
    std::optional<Gathered> gathered = matchGathered(matrix);
    if (!gathered || elementOf(gathered->weight) != elementOf(rows) ||
        !isa<FloatType>(elementOf(rows)))
      continue;
    // op(matrix) is [M, K] on the left and [K, M] on the right; the weight is that, swapped or not.
    bool isSwapped = gathered->isSwapped != isRead;
    return Experts{*gathered, rows, isLeft != isSwapped};
  }
  return std::nullopt;
}

bool raiseExperts(Rewriter &r, Operation *op) {
  auto matmul = dyn_cast<MatmulOp>(op);
  std::optional<Experts> match = matmul ? matchExperts(matmul) : std::nullopt;
  if (!match)
    return false;
  OpBuilder &b = r.at(op);
  Location loc = op->getLoc();
  ArrayRef<int64_t> weight = shapeOf(match->matrices.weight);
  int64_t inputs = weight[match->isTransposed ? 2 : 1];
  int64_t count = elementCount(shapeOf(match->matrices.ids));
  Value x = train::reshape(b, loc, match->rows, {count, inputs});
  Value ids = train::reshape(b, loc, match->matrices.ids, {count});
  Value y = GroupedMatmulOp::create(b, loc, x, match->matrices.weight, ids, match->isTransposed, /*expected_rows=*/IntegerAttr());
  r.replace(op, train::reshape(b, loc, y, shapeOf(matmul.getY())), Found::Experts);
  return true;
}

/// What is gathered ends as cos or sin of a rotary: a table of positions, not one that is trained.
static bool isRotaryTable(GatherOp gather) {
  constexpr size_t maxVisits = 256;
  SmallVector<Value> open = {gather.getY()};
  for (size_t i = 0; i < open.size() && i < maxVisits; ++i)
    for (OpOperand &use : open[i].getUses()) {
      Operation *user = use.getOwner();
      if (isa<RotaryOp>(user) && use.getOperandNumber() > 0)
        return true;
      if (isa<ReshapeOp, TransposeOp, BroadcastOp, SliceOp, CastOp, ConcatOp, MulOp>(user) &&
          !llvm::is_contained(open, user->getResult(0)))
        open.push_back(user->getResult(0));
    }
  return false;
}

bool raiseEmbedding(Rewriter &r, Operation *op) {
  auto gather = dyn_cast<GatherOp>(op);
  if (!gather || gather.getAxis() != 0 || shapeOf(gather.getX()).size() != 2 ||
      !isa<FloatType>(elementOf(gather.getX())))
    return false;
  Value table = gather.getX();
  if (auto cast = definedBy<CastOp>(table))
    table = cast.getX();
  if (!definedBy<ParameterOp>(table) || isRotaryTable(gather))
    return false;
  r.replace(op,
            EmbeddingOp::create(r.at(op), op->getLoc(), gather.getX(), gather.getIndices(),
                                /*group=*/StringAttr(), /*members=*/IntegerAttr())
                .getY(),
            Found::Embedding);
  return true;
}

} // namespace amc::raise
