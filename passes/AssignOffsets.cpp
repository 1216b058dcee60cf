// Decides offsets, nothing else: order comes from Schedule, lifetimes and sharing from
// compiler/analysis/Liveness, the packing from compiler/analysis/Packing, which knows no MLIR.
// VerifyPlan proves the result again and shares no code with this file.
#include "compiler/analysis/GatherStep.h"
#include "compiler/analysis/Packing.h"
#include "passes/Passes.h"

namespace amc {
#define GEN_PASS_DEF_ASSIGNOFFSETS
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

void write(StepOp step, const GatheredStep &gathered, const Liveness &live,
           const Placement &placement, int64_t alignment) {
  Builder b(step.getContext());
  auto number = [&](uint64_t value) { return b.getI64IntegerAttr(static_cast<int64_t>(value)); };
  for (uint32_t i = 0; i < gathered.ops.size(); ++i) {
    SmallVector<int64_t> offsets;
    for (uint32_t result : gathered.graph.ops[i].results)
      offsets.push_back(static_cast<int64_t>(placement.offsets[live.bufferOfValue[result]]));
    if (!offsets.empty())
      gathered.ops[i]->setAttr("train.offsets", b.getDenseI64ArrayAttr(offsets));
    if (live.workspaceOfOp[i] != noIndex)
      gathered.ops[i]->setAttr("train.workspace_offset",
                               number(placement.offsets[live.workspaceOfOp[i]]));
  }
  step->setAttr("train.arena_bytes", number(placement.height));
  step->setAttr("train.max_live_bytes", number(live.maxLiveBytes));
  step->setAttr("train.arena_bound_bytes", number(placement.bound));
  step->setAttr("train.alignment", b.getI64IntegerAttr(alignment));
  step->setAttr("train.packing", b.getStringAttr(placement.rule));
}

struct AssignOffsetsPass : amc::impl::AssignOffsetsBase<AssignOffsetsPass> {
  using AssignOffsetsBase::AssignOffsetsBase;

  void runOnOperation() override {
    if (alignment < 1 || alignment > (int64_t(1) << 30) || (alignment & (alignment - 1)) != 0) {
      getOperation().emitError("alignment is ")
          << int64_t(alignment) << ", should be a power of two up to 2^30";
      return signalPassFailure();
    }
    for (auto [name, limit] : {std::pair("work-limit", int64_t(workLimit)),
                               std::pair("exact-items", int64_t(exactItems)),
                               std::pair("exact-steps", int64_t(exactSteps))})
      if (limit < 0) {
        getOperation().emitError() << name << " is " << limit << ", should not be negative";
        return signalPassFailure();
      }
    bool bad = false;
    for (StepOp step : getOperation().getOps<StepOp>()) {
      FailureOr<GatheredStep> gathered = gatherStep(step);
      if (failed(gathered)) {
        bad = true;
        continue;
      }
      Liveness live = computeLiveness(gathered->graph, gathered->programOrder());
      PackingLimits limits;
      limits.work = static_cast<uint64_t>(int64_t(workLimit));
      limits.exactItems = static_cast<uint64_t>(int64_t(exactItems));
      limits.exactSteps = static_cast<uint64_t>(int64_t(exactSteps));
      Placement placement =
          pack(packingItems(live), static_cast<uint64_t>(int64_t(alignment)), limits);
      if (placement.limited)
        step.emitRemark("offsets: ")
            << live.buffers.size() << " buffers are too many for every packing rule; the best of "
            << placement.tried << " rules was taken";
      // PlanBudget carried its plan out to the end, so it is at fault if this is not what it saw.
      if (auto budget = step->getAttrOfType<IntegerAttr>("train.memory_budget");
          budget && placement.height > budget.getValue().getZExtValue()) {
        step.emitError("the arena is ")
            << placement.height << " bytes, should be at most " << budget.getValue().getZExtValue()
            << ", the memory budget";
        bad = true;
        continue;
      }
      write(step, *gathered, live, placement, alignment);
      searchSteps += placement.steps;
      heightBytes += placement.height;
      boundBytes += placement.bound;
    }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
