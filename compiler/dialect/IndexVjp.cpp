// Gradients and sharding rules of the operations driven by indices.
#include "compiler/dialect/IndexSupport.h"

using namespace mlir;
using namespace amc;
using namespace amc::train;

LogicalResult GatherOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                 MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = GatherBackwardOp::create(b, getLoc(), cotangents[0], getIndices(), getAxis(),
                                            shapeOf(getX()));
  return success();
}

LogicalResult EmbeddingOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = EmbeddingBackwardOp::create(b, getLoc(), cotangents[0], getIds(),
                                               shapeOf(getTable())[0], getGroupAttr(), getMembersAttr(),
                                               /*wide=*/false);
  return success();
}

LogicalResult GatherElementsOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                         MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = ScatterElementsOp::create(b, getLoc(), full(b, getLoc(), 0, getX().getType()),
                                             getIndices(), cotangents[0], getAxis(), "add");
  return success();
}

LogicalResult GatherNdOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                   MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = GatherNdBackwardOp::create(b, getLoc(), cotangents[0], getIndices(),
                                              getBatchDims(), shapeOf(getX()));
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// scatters
//===--------------------------------------------------------------------------------------------===//

namespace {

/// What the gradients of both scatters are made of: `gather` reads what each update was written to, `write` scatters.
struct ScatterPieces {
  OpBuilder &b;
  Location loc;
  Value x, updates, y, dy;
  StringRef reduction;
  llvm::function_ref<Value(Value from)> gather;
  llvm::function_ref<Value(Value into, Value updates, StringRef reduction)> write;
  /// A number for each update, ascending in the order of writing, and a tensor of such numbers for x's places.
  llvm::function_ref<std::pair<Value, Value>()> number;
};

LogicalResult scatterVjp(const ScatterPieces &p, ArrayRef<bool> needed,
                         MutableArrayRef<Value> gradients) {
  OpBuilder &b = p.b;
  Location loc = p.loc;
  if (p.reduction == "none") {
    if (needed[0])
      gradients[0] = p.write(p.dy, full(b, loc, 0, tensorType(p.updates)), "none");
    if (needed[2]) {
      // Of updates written to one place only the last one counts: write numbers, and see whose are still there.
      auto [numbers, places] = p.number();
      Value winner = EqualOp::create(b, loc, p.gather(p.write(places, numbers, "none")), numbers);
      gradients[2] = SelectOp::create(b, loc, winner, p.gather(p.dy),
                                      scalar(b, loc, 0, elementOf(p.dy)));
    }
    return success();
  }
  if (p.reduction == "add") {
    if (needed[0])
      gradients[0] = p.dy;
    if (needed[2])
      gradients[2] = p.gather(p.dy);
    return success();
  }
  if (p.reduction == "mul") {
    // An update's factor is the product of all others at its place; no operation computes that when some are zero.
    if (needed[2])
      return failure();
    Value factor = p.write(full(b, loc, 1, tensorType(p.x)), p.updates, "mul");
    if (needed[0])
      gradients[0] = MulOp::create(b, loc, p.dy, factor);
    return success();
  }
  // max and min: all that equal the result at a place, x's own element among them, share its gradient.
  Type element = elementOf(p.x);
  Value fromX = cast(b, loc, EqualOp::create(b, loc, p.x, p.y), element);
  Value fromUpdates = cast(b, loc, EqualOp::create(b, loc, p.updates, p.gather(p.y)), element);
  Value share = DivOp::create(b, loc, p.dy, p.write(fromX, fromUpdates, "add"));
  if (needed[0])
    gradients[0] = MulOp::create(b, loc, share, fromX);
  if (needed[2])
    gradients[2] = MulOp::create(b, loc, p.gather(share), fromUpdates);
  return success();
}

/// 0, 1, 2, … in row-major order of `shape`.
Value countUp(OpBuilder &b, Location loc, ArrayRef<int64_t> shape) {
  int64_t count = elementCount(shape);
  Value flat = IotaOp::create(b, loc, b.getF64FloatAttr(0), b.getF64FloatAttr(1),
                              b.getI64IntegerAttr(0), b.getDenseI64ArrayAttr(count),
                              TypeAttr::get(b.getI64Type()));
  return reshape(b, loc, flat, shape);
}

} // namespace

LogicalResult ScatterElementsOp::buildVjp(OpBuilder &b, ValueRange cotangents,
                                          ArrayRef<bool> needed, MutableArrayRef<Value> gradients) {
  if (!cotangents[0] || !(needed[0] || needed[2]))
    return success();
  Location loc = getLoc();
  auto gather = [&](Value from) -> Value {
    return GatherElementsOp::create(b, loc, from, getIndices(), getAxis());
  };
  auto write = [&](Value into, Value updates, StringRef reduction) -> Value {
    return ScatterElementsOp::create(b, loc, into, getIndices(), updates, getAxis(), reduction);
  };
  auto number = [&]() -> std::pair<Value, Value> {
    return {countUp(b, loc, shapeOf(getUpdates())),
            full(b, loc, -1, RankedTensorType::get(shapeOf(getX()), b.getI64Type()))};
  };
  return scatterVjp({b, loc, getX(), getUpdates(), getY(), cotangents[0], getReduction(), gather,
                     write, number},
                    needed, gradients);
}

LogicalResult ScatterNdOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (!cotangents[0] || !(needed[0] || needed[2]))
    return success();
  Location loc = getLoc();
  auto gather = [&](Value from) -> Value {
    return GatherNdOp::create(b, loc, from, getIndices(), 0);
  };
  auto write = [&](Value into, Value updates, StringRef reduction) -> Value {
    return ScatterNdOp::create(b, loc, into, getIndices(), updates, reduction);
  };
  auto number = [&]() -> std::pair<Value, Value> {
    return {countUp(b, loc, shapeOf(getUpdates())),
            full(b, loc, -1, RankedTensorType::get(shapeOf(getX()), b.getI64Type()))};
  };
  return scatterVjp({b, loc, getX(), getUpdates(), getY(), cotangents[0], getReduction(), gather,
                     write, number},
                    needed, gradients);
}

//===--------------------------------------------------------------------------------------------===//
// top_k, cumsum
//===--------------------------------------------------------------------------------------------===//

LogicalResult TopKOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                               MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = ScatterElementsOp::create(b, getLoc(), full(b, getLoc(), 0, getX().getType()),
                                             getIndices(), cotangents[0], getAxis(), "add");
  return success();
}

LogicalResult CumsumOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                 MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = CumsumOp::create(b, getLoc(), cotangents[0], getAxis(), getExclusive(),
                                    !getReverse());
  return success();
}

//===--------------------------------------------------------------------------------------------===//
// sharding rules
//===--------------------------------------------------------------------------------------------===//

// What is taken may be cut, what it is taken from may not.
ShardingRule GatherOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> x = shapeOf(getX());
  SmallVector<unsigned> from = r.each(x), indices = r.each(shapeOf(getIndices()));
  r.rule.factors[from[getAxis()]].kind = FactorKind::Whole;
  SmallVector<unsigned> y(from.begin(), from.begin() + getAxis());
  y.append(indices);
  y.append(from.begin() + getAxis() + 1, from.end());
  r.operand(0, from);
  r.operand(1, indices);
  r.result(0, y);
  return std::move(r.rule);
}

ShardingRule EmbeddingOp::getShardingRule() {
  RuleBuilder r(*this);
  SmallVector<unsigned> ids = r.each(shapeOf(getIds())), y = ids;
  ArrayRef<int64_t> table = shapeOf(getTable());
  // A table that is divided already is not divided again.
  unsigned rows = r.factor(table[0], getGroup() ? FactorKind::Whole : FactorKind::Indexed);
  y.append(r.each(table.drop_front()));
  SmallVector<unsigned> dims{rows};
  dims.append(y.begin() + static_cast<int64_t>(ids.size()), y.end());
  r.operand(0, dims);
  r.operand(1, ids);
  r.result(0, y);
  return std::move(r.rule);
}

void EmbeddingOp::localize(FactorKind kind, StringRef group, int64_t members) {
  if (kind != FactorKind::Indexed)
    return;
  setGroup(group);
  setMembers(members);
}
