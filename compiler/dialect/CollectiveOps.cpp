// Collectives: shapes, gradients, what they send. The oracle works on one rank alone and knows groups of one only.
// Constraints are labelled (those of a group in OpSupport.cpp); test/dialect/collective-invalid.mlir has a case for each.
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Workspace.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

namespace {

LogicalResult checkDim(std::optional<Location> loc, int64_t dim, ArrayRef<int64_t> shape) {
  // collective_c3
  if (dim < 0 || dim >= static_cast<int64_t>(shape.size()))
    return inferError(loc, "dim is " + Twine(dim) + ", should be one of the " + Twine(shape.size()) + " dimensions");
  return success();
}

int64_t piece(int64_t size, int64_t members) {
  return static_cast<int64_t>(rt::pieceOf(static_cast<uint64_t>(size), static_cast<uint64_t>(members)));
}

/// A contribution in the type that sums are taken in. One that was rounded for nothing but to be summed again is taken
/// as it was.
Value widened(OpBuilder &b, Location loc, Value x) {
  Type wide = statisticType(elementOf(x));
  if (auto rounding = x.getDefiningOp<CastOp>(); rounding && elementOf(rounding.getX()) == wide)
    return rounding.getX();
  return train::cast(b, loc, x, wide);
}

/// What a rank passes on of `bytes` that go once around a ring.
uint64_t ringBytes(uint64_t bytes, int64_t members) {
  uint64_t n = static_cast<uint64_t>(members);
  return bytes / n * (n - 1) + bytes % n * (n - 1) / n;
}

/// Along `dim` nothing is cut again; a sum over members goes element by element.
ShardingRule alongRule(Operation *op, std::optional<int64_t> dim) {
  RuleBuilder r(op);
  ArrayRef<int64_t> x = shapeOf(op->getOperand(0)), y = shapeOf(op->getResult(0));
  SmallVector<unsigned> from = r.each(x), to = from;
  if (dim) {
    r.rule.factors[from[*dim]].kind = FactorKind::Whole;
    to[*dim] = r.factor(y[*dim], FactorKind::Whole);
  }
  r.operand(0, from);
  r.result(0, to);
  return std::move(r.rule);
}

LogicalResult copyAlone(int64_t members, Inputs in, Outputs out) {
  if (members != 1)
    return failure();
  out[0].floats = in[0]->floats;
  out[0].ints = in[0]->ints;
  return success();
}

} // namespace

//===----------------------------------------------------------------------===//
// all_gather
//===----------------------------------------------------------------------===//

LogicalResult AllGatherOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                            DictionaryAttr attributes, OpaqueProperties properties,
                                            RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  SmallVector<int64_t> shape(shapeOf(op.getPiece()));
  if (failed(checkGroup(loc, op.getGroup(), op.getMembers())) || failed(checkDim(loc, op.getDim(), shape)))
    return failure();
  int64_t size = op.getSize();
  // all_gather_c1
  if (size < 0 || shape[op.getDim()] != piece(size, op.getMembers()))
    return inferError(loc, "dimension " + Twine(op.getDim()) + " of the piece is " + Twine(shape[op.getDim()]) +
                               ", should be ceil(" + Twine(size) + " / " + Twine(op.getMembers()) + ")");
  // all_gather_c2
  if (op.getReshard() && op.getRetain())
    return inferError(loc, "is to be both resharded and retained, should be one or none");
  shape[op.getDim()] = size;
  return inferTensor(loc, shape, elementOf(op.getPiece()), types);
}

LogicalResult AllGatherOp::evaluate(Inputs in, Outputs out) { return copyAlone(getMembers(), in, out); }

LogicalResult AllGatherOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (!needed[0] || !cotangents[0])
    return success();
  if (getAlike()) {
    gradients[0] = TakePieceOp::create(b, getLoc(), cotangents[0], getDim(), getGroup(), getMembers(), /*zigzag=*/false);
    return success();
  }
  Value sum = ReduceScatterOp::create(b, getLoc(), widened(b, getLoc(), cotangents[0]), getDim(), getGroup(), getMembers());
  gradients[0] = train::cast(b, getLoc(), sum, elementOf(getPiece()));
  return success();
}

uint64_t AllGatherOp::getFlops() { return 0; }
uint64_t AllGatherOp::getBytesMoved() { return 2 * byteSize(getWhole().getType()); }
uint64_t AllGatherOp::getBytesSent() { return ringBytes(byteSize(getWhole().getType()), getMembers()); }
ShardingRule AllGatherOp::getShardingRule() { return alongRule(*this, getDim()); }
StringRef AllGatherOp::getGroupName() { return getGroup(); }
std::optional<bool> AllGatherOp::getKept() {
  if (getReshard() || getRetain())
    return getRetain();
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// reduce_scatter
//===----------------------------------------------------------------------===//

LogicalResult ReduceScatterOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                                DictionaryAttr attributes, OpaqueProperties properties,
                                                RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  SmallVector<int64_t> shape(shapeOf(op.getWhole()));
  if (failed(checkGroup(loc, op.getGroup(), op.getMembers())) || failed(checkDim(loc, op.getDim(), shape)))
    return failure();
  shape[op.getDim()] = piece(shape[op.getDim()], op.getMembers());
  return inferTensor(loc, shape, elementOf(op.getWhole()), types);
}

LogicalResult ReduceScatterOp::evaluate(Inputs in, Outputs out) { return copyAlone(getMembers(), in, out); }

LogicalResult ReduceScatterOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                        MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = AllGatherOp::create(b, getLoc(), cotangents[0], getDim(), shapeOf(getWhole())[getDim()], getGroup(),
                                       getMembers(), /*reshard=*/false, /*retain=*/false, /*alike=*/false);
  return success();
}

uint64_t ReduceScatterOp::getFlops() {
  return static_cast<uint64_t>(elementCount(shapeOf(getPiece()))) * static_cast<uint64_t>(getMembers() - 1);
}
uint64_t ReduceScatterOp::getBytesMoved() {
  return byteSize(getWhole().getType()) + byteSize(getPiece().getType());
}
uint64_t ReduceScatterOp::getBytesSent() { return ringBytes(byteSize(getWhole().getType()), getMembers()); }
ShardingRule ReduceScatterOp::getShardingRule() { return alongRule(*this, getDim()); }
StringRef ReduceScatterOp::getGroupName() { return getGroup(); }

//===----------------------------------------------------------------------===//
// all_reduce
//===----------------------------------------------------------------------===//

LogicalResult AllReduceOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                            DictionaryAttr attributes, OpaqueProperties properties,
                                            RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkGroup(loc, op.getGroup(), op.getMembers())))
    return failure();
  return inferTensors(loc, {tensorType(op.getX())}, types);
}

LogicalResult AllReduceOp::evaluate(Inputs in, Outputs out) { return copyAlone(getMembers(), in, out); }

LogicalResult AllReduceOp::buildVjp(OpBuilder &, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (needed[0])
    gradients[0] = cotangents[0];
  return success();
}

uint64_t AllReduceOp::getFlops() {
  return static_cast<uint64_t>(elementCount(shapeOf(getX()))) * static_cast<uint64_t>(getMembers() - 1) /
         static_cast<uint64_t>(getMembers());
}
// The kernel reads element i of x only before or while it writes element i of y.
SmallVector<unsigned> AllReduceOp::getReusableOperands() { return {0}; }
uint64_t AllReduceOp::getBytesMoved() { return 3 * byteSize(getX().getType()); }
uint64_t AllReduceOp::getBytesSent() { return 2 * ringBytes(byteSize(getX().getType()), getMembers()); }
ShardingRule AllReduceOp::getShardingRule() { return alongRule(*this, std::nullopt); }
StringRef AllReduceOp::getGroupName() { return getGroup(); }

//===----------------------------------------------------------------------===//
// all_to_all
//===----------------------------------------------------------------------===//

LogicalResult AllToAllOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                           DictionaryAttr attributes, OpaqueProperties properties, RegionRange regions,
                                           SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  SmallVector<int64_t> shape(shapeOf(op.getX()));
  const int64_t members = op.getMembers();
  if (failed(checkGroup(loc, op.getGroup(), members)) || failed(checkDim(loc, op.getSplitDim(), shape)) ||
      failed(checkDim(loc, op.getConcatDim(), shape)))
    return failure();
  // all_to_all_c1
  if (shape[op.getSplitDim()] % members != 0)
    return inferError(loc, "dimension " + Twine(op.getSplitDim()) + " is " + Twine(shape[op.getSplitDim()]) +
                               ", should be divisible by the " + Twine(members) + " members");
  shape[op.getSplitDim()] /= members;
  shape[op.getConcatDim()] *= members;
  return inferTensor(loc, shape, elementOf(op.getX()), types);
}

LogicalResult AllToAllOp::evaluate(Inputs in, Outputs out) { return copyAlone(getMembers(), in, out); }

LogicalResult AllToAllOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                   MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = AllToAllOp::create(b, getLoc(), cotangents[0], getConcatDim(), getSplitDim(), getGroup(), getMembers());
  return success();
}

uint64_t AllToAllOp::getFlops() { return 0; }
uint64_t AllToAllOp::getBytesMoved() { return 2 * byteSize(getX().getType()); }
uint64_t AllToAllOp::getBytesSent() { return ringBytes(byteSize(getX().getType()), getMembers()); }
uint64_t AllToAllOp::getWorkspaceBytes() {
  ArrayRef<int64_t> x = shapeOf(getX()), y = shapeOf(getY());
  return rt::workspace::allToAll(byteSize(getX().getType()), elementCount(x.take_front(getSplitDim())),
                                 elementCount(y.take_front(getConcatDim())));
}
uint64_t AllToAllOp::getCudaWorkspaceBytes() { return getWorkspaceBytes(); }
StringRef AllToAllOp::getGroupName() { return getGroup(); }
// Along neither dimension anything is cut again.
ShardingRule AllToAllOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> x = shapeOf(getX()), y = shapeOf(getY());
  SmallVector<unsigned> from = r.each(x), to = from;
  for (int64_t dim : {static_cast<int64_t>(getSplitDim()), static_cast<int64_t>(getConcatDim())}) {
    r.rule.factors[from[dim]].kind = FactorKind::Whole;
    to[dim] = r.factor(y[dim], FactorKind::Whole);
  }
  r.operand(0, from);
  r.result(0, to);
  return std::move(r.rule);
}

//===----------------------------------------------------------------------===//
// wait, and what is waited for
//===----------------------------------------------------------------------===//

LogicalResult amc::train::verifySplitPhase(Operation *op) {
  if (!cast<SplitPhaseOpInterface>(op).isAsync())
    return success();
  Value result = op->getResult(0);
  auto waits = llvm::count_if(result.getUsers(), [](Operation *user) { return isa<WaitOp>(user); });
  // split_phase_c1
  if (waits != 1)
    return op->emitOpError("is async and has ") << waits << " waits, should have one";
  // split_phase_c2
  for (Operation *user : result.getUsers())
    if (!isa<WaitOp>(user))
      return (op->emitOpError("is async, and its result is read without waiting for it; should be read behind its wait")
                  .attachNote(user->getLoc())
              << "this should read the result of the train.wait");
  return success();
}

LogicalResult WaitOp::verify() {
  auto started = getStarted().getDefiningOp<SplitPhaseOpInterface>();
  // wait_c1
  if (!started || !started.isAsync())
    return emitOpError("waits for something that is not the result of a collective with async, should be");
  // wait_c2
  if (started->getOperand(0) != getSource())
    return emitOpError("source is not what the collective reads, should be");
  return success();
}

LogicalResult WaitOp::evaluate(Inputs in, Outputs out) { return copyAlone(1, in, out); }
bool WaitOp::isInstruction() { return true; }
uint64_t WaitOp::getFlops() { return 0; }
uint64_t WaitOp::getBytesMoved() { return 0; }

//===----------------------------------------------------------------------===//
// vary
//===----------------------------------------------------------------------===//

LogicalResult VaryOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                       DictionaryAttr attributes, OpaqueProperties properties, RegionRange regions,
                                       SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkGroup(loc, op.getGroup(), op.getMembers())))
    return failure();
  return inferTensors(loc, {tensorType(op.getX())}, types);
}

LogicalResult VaryOp::evaluate(Inputs in, Outputs out) { return copyAlone(1, in, out); }

LogicalResult VaryOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                               MutableArrayRef<Value> gradients) {
  if (!needed[0] || !cotangents[0])
    return success();
  Value sum = AllReduceOp::create(b, getLoc(), widened(b, getLoc(), cotangents[0]), getGroup(), getMembers());
  gradients[0] = train::cast(b, getLoc(), sum, elementOf(getX()));
  return success();
}

uint64_t VaryOp::getFlops() { return 0; }
uint64_t VaryOp::getBytesMoved() { return 0; }

//===----------------------------------------------------------------------===//
// take_piece
//===----------------------------------------------------------------------===//

LogicalResult TakePieceOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                            DictionaryAttr attributes, OpaqueProperties properties,
                                            RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  SmallVector<int64_t> shape(shapeOf(op.getWhole()));
  if (failed(checkGroup(loc, op.getGroup(), op.getMembers())) || failed(checkDim(loc, op.getDim(), shape)))
    return failure();
  int64_t size = shape[op.getDim()], members = op.getMembers();
  // take_piece_c1
  if (op.getZigzag() && (size % members || size / members % 2))
    return inferError(loc, "dimension " + Twine(op.getDim()) + " is " + Twine(size) +
                               ", should be divisible by twice the " + Twine(members) + " members");
  shape[op.getDim()] = piece(shape[op.getDim()], op.getMembers());
  return inferTensor(loc, shape, elementOf(op.getWhole()), types);
}

LogicalResult TakePieceOp::evaluate(Inputs in, Outputs out) { return copyAlone(getMembers(), in, out); }

LogicalResult TakePieceOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (!needed[0] || !cotangents[0])
    return success();
  const int64_t rows = shapeOf(getWhole())[getDim()], members = getMembers();
  gradients[0] = AllGatherOp::create(b, getLoc(), cotangents[0], getDim(), rows, getGroup(), members,
                                     /*reshard=*/false, /*retain=*/false, /*alike=*/true);
  if (!getZigzag())
    return success();
  // Row i of the whole, in chunk c, is where member c, or 2 members - 1 - c, has it.
  const int64_t chunk = rows / (2 * members);
  SmallVector<int64_t> at;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t c = row / chunk;
    at.push_back((c < members ? 2 * c : 2 * (2 * members - 1 - c) + 1) * chunk + row % chunk);
  }
  auto type = RankedTensorType::get(rows, b.getI64Type());
  Value indices = ConstantOp::create(b, getLoc(), type, DenseElementsAttr::get(type, ArrayRef(at)));
  gradients[0] = GatherOp::create(b, getLoc(), gradients[0], indices, getDim());
  return success();
}

ShardingRule TakePieceOp::getShardingRule() { return alongRule(*this, getDim()); }

//===----------------------------------------------------------------------===//
// refresh
//===----------------------------------------------------------------------===//

LogicalResult RefreshOp::verify() {
  ArrayRef<int64_t> shape = shapeOf(getParameter());
  if (failed(checkGroup(getLoc(), getGroup(), getMembers())) || failed(checkDim(getLoc(), getDim(), shape)))
    return failure();
  Operation *parameter = getParameter().getDefiningOp();
  auto shard = getShard().getDefiningOp<StateOp>();
  // refresh_c1
  if (!isa_and_nonnull<ParameterOp, StateOp>(parameter))
    return emitOpError("parameter is not the result of train.parameter or train.state, should be");
  // refresh_c2
  auto named = dyn_cast<ParameterOp>(parameter);
  if (!shard || shard == parameter || (named && shard.getParameter() != named.getName()))
    return emitOpError("shard is not a train.state of the parameter, should be");
  // refresh_c3
  if (static_cast<int64_t>(getSize()) != shape[getDim()])
    return emitOpError("size is ") << getSize() << ", should be the " << shape[getDim()] << " elements of dimension "
                                   << getDim();
  // refresh_c4
  SmallVector<int64_t> part(shape);
  part[getDim()] = piece(getSize(), getMembers());
  if (auto type = RankedTensorType::get(part, elementOf(getParameter())); getShard().getType() != type)
    return emitOpError("shard is ") << getShard().getType() << ", should be " << type;
  return success();
}

LogicalResult RefreshOp::evaluate(Inputs in, Outputs out) { return copyAlone(getMembers(), in.drop_front(), out); }

StringRef RefreshOp::getKernelName() { return AllGatherOp::getOperationName().rsplit('.').second; }
SmallVector<Value> RefreshOp::getKernelInputs() { return {getShard()}; }
uint64_t RefreshOp::getFlops() { return 0; }
uint64_t RefreshOp::getBytesMoved() { return 2 * byteSize(getParameter().getType()); }
uint64_t RefreshOp::getBytesSent() { return ringBytes(byteSize(getParameter().getType()), getMembers()); }
StringRef RefreshOp::getGroupName() { return getGroup(); }
SmallVector<unsigned> RefreshOp::getUpdatedOperands() { return {odsIndex_parameter}; }
SmallVector<unsigned> RefreshOp::getFollowedOperands() { return {odsIndex_shard}; }
