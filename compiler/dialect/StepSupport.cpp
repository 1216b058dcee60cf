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

std::string locationName(Location loc) {
  if (auto name = dyn_cast<NameLoc>(loc))
    return name.getName().str();
  if (auto fused = dyn_cast<FusedLoc>(loc))
    for (Location part : fused.getLocations())
      if (std::string name = locationName(part); name != "?")
        return name;
  return "?";
}

} // namespace amc::train
