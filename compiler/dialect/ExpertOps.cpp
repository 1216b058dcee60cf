// Slots of expert parallelism. Constraints are labelled; test/dialect/expert-invalid.mlir has a case for each.
#include "compiler/dialect/OpSupport.h"

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

//===----------------------------------------------------------------------===//
// expert_slots
//===----------------------------------------------------------------------===//

LogicalResult ExpertSlotsOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc, ValueRange operands,
                                              DictionaryAttr attributes, OpaqueProperties properties,
                                              RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  ArrayRef<int64_t> ids = shapeOf(op.getIds());
  const int64_t experts = op.getExperts(), members = op.getMembers(), capacity = op.getCapacity();
  // expert_slots_c1
  if (ids.size() != 1)
    return inferError(loc, "ids is of shape " + shapeString(ids) + ", should be of rank 1");
  // expert_slots_c2
  if (members < 1 || experts < members || experts % members != 0)
    return inferError(loc, "experts are " + Twine(experts) + " and members " + Twine(members) +
                               ", should be at least one expert for each member, as many for all");
  // expert_slots_c3: more slots than rows could never be filled.
  if (capacity < 0 || capacity > ids[0])
    return inferError(loc, "capacity is " + Twine(capacity) + ", should be in [0, " + Twine(ids[0]) + "]");
  // expert_slots_c4
  if (capacity > 0 && members > (int64_t(1) << 48) / capacity)
    return inferError(loc, "there are more than 2^48 slots");
  Type index = IntegerType::get(context, 64);
  types.push_back(RankedTensorType::get(ids, index));
  types.push_back(RankedTensorType::get({members * capacity}, index));
  types.push_back(RankedTensorType::get({}, Float64Type::get(context)));
  return success();
}

LogicalResult ExpertSlotsOp::evaluate(Inputs in, Outputs out) {
  const int64_t experts = getExperts(), members = getMembers(), capacity = getCapacity(), each = experts / members;
  std::vector<int64_t> filled(members);
  std::fill(out[1].ints.begin(), out[1].ints.end(), each);
  for (auto [row, expert] : llvm::enumerate(in[0]->ints)) {
    if (expert < 0 || expert >= experts)
      return failure();
    const int64_t member = expert / each;
    int64_t &slot = out[0].ints[row] = members * capacity;
    if (filled[member] == capacity) {
      out[2].floats[0] += 1;
      continue;
    }
    slot = member * capacity + filled[member]++;
    out[1].ints[slot] = expert % each;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// place_rows, take_rows
//===----------------------------------------------------------------------===//

static LogicalResult checkSlots(std::optional<Location> loc, Value x, Value slots) {
  // slots_c1
  if (shapeOf(x).empty() || shapeOf(slots).size() != 1)
    return inferError(loc, "x and slots are of shapes " + shapeString(shapeOf(x)) + " and " +
                               shapeString(shapeOf(slots)) + ", should be of rank 1 or more, and of rank 1");
  return success();
}

static SmallVector<int64_t> withRows(Value x, int64_t rows) {
  SmallVector<int64_t> shape(shapeOf(x));
  shape[0] = rows;
  return shape;
}

LogicalResult PlaceRowsOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                            DictionaryAttr attributes, OpaqueProperties properties,
                                            RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkSlots(loc, op.getX(), op.getSlots())))
    return failure();
  // place_rows_c1
  if (shapeOf(op.getX())[0] != shapeOf(op.getSlots())[0])
    return inferError(loc, "x has " + Twine(shapeOf(op.getX())[0]) + " rows, should be " +
                               Twine(shapeOf(op.getSlots())[0]) + ", one for each slot");
  int64_t rows = op.getRows();
  // place_rows_c2
  if (rows < 0)
    return inferError(loc, "rows is " + Twine(rows) + ", should be 0 or more");
  return inferTensor(loc, withRows(op.getX(), rows), elementOf(op.getX()), types);
}

// What a slot moves, one way or the other.
static LogicalResult moveRows(const HostTensor &slots, int64_t rows, int64_t width,
                              llvm::function_ref<void(int64_t row, int64_t slot)> move) {
  for (auto [row, slot] : llvm::enumerate(slots.ints)) {
    if (slot < 0 || slot > rows)
      return failure();
    for (int64_t i = 0; slot < rows && i < width; ++i)
      move(static_cast<int64_t>(row) * width + i, slot * width + i);
  }
  return success();
}

LogicalResult PlaceRowsOp::evaluate(Inputs in, Outputs out) {
  return moveRows(*in[1], getRows(), elementCount(in[0]->shape().drop_front()),
                  [&](int64_t row, int64_t slot) { out[0].copyElement(slot, *in[0], row); });
}

LogicalResult PlaceRowsOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = TakeRowsOp::create(b, getLoc(), cotangents[0], getSlots());
  return success();
}

LogicalResult TakeRowsOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                           DictionaryAttr attributes, OpaqueProperties properties, RegionRange regions,
                                           SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkSlots(loc, op.getX(), op.getSlots())))
    return failure();
  return inferTensor(loc, withRows(op.getX(), shapeOf(op.getSlots())[0]), elementOf(op.getX()), types);
}

LogicalResult TakeRowsOp::evaluate(Inputs in, Outputs out) {
  return moveRows(*in[1], in[0]->shape()[0], elementCount(in[0]->shape().drop_front()),
                  [&](int64_t row, int64_t slot) { out[0].copyElement(row, *in[0], slot); });
}

LogicalResult TakeRowsOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                   MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = PlaceRowsOp::create(b, getLoc(), cotangents[0], getSlots(), shapeOf(getX())[0]);
  return success();
}
