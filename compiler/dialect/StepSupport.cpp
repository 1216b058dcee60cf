// Small questions about a train.step; see StepSupport.h.
#include "compiler/dialect/StepSupport.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;

namespace amc::train {

static constexpr StringRef phaseNames[] = {"forward", "backward", "recompute", "optimizer"};

StringRef phaseName(Phase phase) { return phaseNames[static_cast<unsigned>(phase)]; }

Phase phaseOf(Operation *op) {
  if (auto attr = op->getAttrOfType<StringAttr>("train.phase"))
    for (unsigned i = 0; i < std::size(phaseNames); ++i)
      if (attr.getValue() == phaseNames[i])
        return static_cast<Phase>(i);
  return Phase::Forward;
}

void setPhase(Operation *op, Phase phase) {
  if (phase == Phase::Forward)
    op->removeAttr("train.phase");
  else
    op->setAttr("train.phase", StringAttr::get(op->getContext(), phaseName(phase)));
}

OutputOp findOutput(StepOp step, StringRef name) {
  for (OutputOp output : step.getOps<OutputOp>())
    if (output.getName() == name)
      return output;
  return nullptr;
}

void eraseDeadOps(StepOp step) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(step.getBody().front())))
    if (op.use_empty() && isMemoryEffectFree(&op))
      op.erase();
}

std::optional<rt::MeshShape> meshOf(Operation *op) {
  rt::MeshShape mesh;
  auto sizes = op->getAttrOfType<DenseI64ArrayAttr>("train.mesh");
  if (!sizes)
    return mesh;
  const int64_t axes = static_cast<int64_t>(mesh.size.size());
  if ((sizes.size() != axes && sizes.size() != axes + 1) || llvm::any_of(sizes.asArrayRef(), [](int64_t size) {
        return size < 1 || size > static_cast<int64_t>(rt::mostRanks);
      }))
    return std::nullopt;
  llvm::copy(sizes.asArrayRef().take_front(axes), mesh.size.begin());
  mesh.ep = sizes.size() > axes ? static_cast<uint64_t>(sizes[axes]) : 1;
  uint64_t ranks = 1;
  for (uint64_t size : mesh.size)
    if (ranks *= size; ranks > rt::mostRanks)
      return std::nullopt;
  return rt::isRegrouped(mesh) ? std::optional(mesh) : std::nullopt;
}

void setMesh(Operation *op, const rt::MeshShape &mesh) {
  SmallVector<int64_t> sizes(mesh.size.begin(), mesh.size.end());
  if (mesh.ep > 1)
    sizes.push_back(static_cast<int64_t>(mesh.ep));
  op->setAttr("train.mesh", DenseI64ArrayAttr::get(op->getContext(), sizes));
}

std::optional<int64_t> splitDim(ParameterOp parameter, int64_t ranks) {
  ArrayRef<int64_t> shape = cast<RankedTensorType>(parameter.getType()).getShape();
  std::optional<int64_t> first;
  for (int64_t dim = 0; dim < static_cast<int64_t>(shape.size()); ++dim) {
    if (parameter.getSplits() && llvm::any_of(parameter.getSplitsAttr().getAsRange<SplitAttr>(), [&](SplitAttr split) {
          return split.getDim() == dim && split.getBlocks() != 1;
        }))
      continue;
    if (shape[dim] >= ranks)
      return dim;
    first = first ? first : dim;
  }
  return first;
}

std::string locationName(Location loc) {
  if (auto name = dyn_cast<NameLoc>(loc))
    return name.getName().str();
  if (auto fused = dyn_cast<FusedLoc>(loc))
    for (Location part : fused.getLocations())
      if (std::string name = locationName(part); name != "?")
        return name;
  return "?";
}

// Segment sizes name the absent ones. Operations with one optional value have none of those; there it is the last and
// the trait that counts the others tells whether it is absent. (A variadic list of the dialect never follows others.)
static SmallVector<Value> slots(ValueRange values, DenseI32ArrayAttr segments, bool lastIsAbsent) {
  SmallVector<Value> result;
  if (!segments) {
    llvm::append_range(result, values);
    if (lastIsAbsent)
      result.push_back(nullptr);
    return result;
  }
  for (int32_t size : segments.asArrayRef()) {
    if (size == 0)
      result.push_back(nullptr);
    llvm::append_range(result, values.take_front(size));
    values = values.drop_front(size);
  }
  return result;
}

template <unsigned... N>
static bool hasExactly(Operation *op, unsigned operands, std::integer_sequence<unsigned, N...>) {
  return ((operands == N + 1 && op->hasTrait<OpTrait::AtLeastNOperands<N + 1>::template Impl>()) || ...);
}

SmallVector<Value> operandSlots(Operation *op) {
  return slots(op->getOperands(), op->getAttrOfType<DenseI32ArrayAttr>("operandSegmentSizes"),
               hasExactly(op, op->getNumOperands(), std::make_integer_sequence<unsigned, 8>()));
}

SmallVector<Value> resultSlots(Operation *op) {
  return slots(op->getResults(), op->getAttrOfType<DenseI32ArrayAttr>("resultSegmentSizes"),
               op->getNumResults() == 1 && op->hasTrait<OpTrait::AtLeastNResults<1>::Impl>());
}

} // namespace amc::train
