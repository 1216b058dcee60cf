// Splits collectives of a scheduled step, so that they run beside computation. What is decided is
// compiler/analysis/Overlap's, which knows no MLIR; this file gathers, moves, and makes the waits.
#include "compiler/analysis/GatherStep.h"
#include "compiler/analysis/Overlap.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "runtime/support/Counted.h"

namespace amc {
#define GEN_PASS_DEF_OVERLAPCOLLECTIVES
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

/// The block of every operation, -1 for none. An operation of backward belongs to the block of the forward operation
/// that it has its location from.
std::vector<int64_t> unitsOf(const GatheredStep &gathered) {
  DenseMap<Location, int64_t> blockAt; // look-ups only
  for (Operation *op : gathered.ops)
    if (auto block = op->getAttrOfType<IntegerAttr>("train.block"))
      blockAt.try_emplace(op->getLoc(), block.getInt());
  std::vector<int64_t> units;
  for (Operation *op : gathered.ops) {
    auto block = blockAt.find(op->getLoc());
    units.push_back(block == blockAt.end() ? -1 : block->second);
  }
  return units;
}

void write(StepOp step, const GatheredStep &gathered, const OverlapPlan &plan) {
  OpBuilder b(step.getContext());
  Block *block = &step.getBody().front();
  for (uint32_t index : plan.order) {
    if (index < gathered.ops.size()) {
      gathered.ops[index]->moveBefore(block, block->end());
      continue;
    }
    Operation *collective = gathered.ops[plan.windows[index - gathered.ops.size()].collective];
    Value result = collective->getResult(0);
    b.setInsertionPointToEnd(block);
    auto wait = WaitOp::create(b, collective->getLoc(), result.getType(), result, collective->getOperand(0));
    setPhase(wait, phaseOf(collective));
    result.replaceAllUsesExcept(wait.getDone(), wait);
    cast<SplitPhaseOpInterface>(collective).makeAsync();
  }
}

struct OverlapCollectivesPass : amc::impl::OverlapCollectivesBase<OverlapCollectivesPass> {
  using OverlapCollectivesBase::OverlapCollectivesBase;

  bool optionsAreValid() {
    bool bad = false;
    auto wrong = [&]() {
      bad = true;
      return getOperation().emitError();
    };
    if (mode != "auto" && mode != "prefetch")
      wrong() << "mode is \"" << mode << "\", should be auto or prefetch";
    if (!deviceModel(target, precision))
      wrong() << "target is \"" << target << "\", should be " << modelledTargets;
    if (alignment < 1 || alignment > (int64_t(1) << 30) || (alignment & (alignment - 1)) != 0)
      wrong() << "alignment is " << int64_t(alignment) << ", should be a power of two up to 2^30";
    for (auto [name, limit] : {std::pair("work-limit", int64_t(workLimit)), std::pair("exact-items", int64_t(exactItems)),
                               std::pair("exact-steps", int64_t(exactSteps))})
      if (limit < 0)
        wrong() << name << " is " << limit << ", should not be negative";
    return !bad;
  }

  OverlapRequest requestFor(const GatheredStep &gathered) {
    OverlapRequest request;
    request.device = *deviceModel(target, precision);
    request.unitOf = unitsOf(gathered);
    for (Operation *op : gathered.ops) {
      auto collective = dyn_cast<SplitPhaseOpInterface>(op);
      request.splittable.push_back(collective && !collective.isAsync());
    }
    request.alignment = static_cast<uint64_t>(int64_t(alignment));
    request.packing.work = static_cast<uint64_t>(int64_t(workLimit));
    request.packing.exactItems = static_cast<uint64_t>(int64_t(exactItems));
    request.packing.exactSteps = static_cast<uint64_t>(int64_t(exactSteps));
    return request;
  }

  void runOnOperation() override {
    bool bad = !optionsAreValid();
    if (!bad)
      for (StepOp step : getOperation().getOps<StepOp>()) {
        FailureOr<GatheredStep> gathered = gatherStep(step);
        if (failed(gathered)) {
          bad = true;
          continue;
        }
        OverlapRequest request = requestFor(*gathered);
        // Nothing to split, nothing to pack for.
        if (llvm::none_of(request.splittable, [](bool splittable) { return splittable; })) {
          if (mode == "prefetch")
            step.emitRemark("overlap: there is nothing to overlap: the step has no collective that could run beside computation");
          continue;
        }
        if (mode == "auto") {
          Liveness live = computeLiveness(gathered->graph, gathered->programOrder());
          request.arenaLimit = pack(packingItems(live), request.alignment, request.packing).height;
        } else if (auto budget = step->getAttrOfType<IntegerAttr>("train.memory_budget")) {
          request.arenaLimit = budget.getValue().getZExtValue();
        }
        OverlapPlan plan = planOverlap(gathered->graph, request);
        write(step, *gathered, plan);
        step->setAttr("train.overlap", StringAttr::get(&getContext(), mode));
        if (plan.limited)
          step.emitRemark("overlap: no more windows were tried; ")
              << plan.windows.size() << " of " << rt::counted(plan.possible, "collective") << " run beside computation";
        else if (plan.windows.empty() && plan.possible > 0)
          step.emitRemark("overlap: none of the ")
              << rt::counted(plan.possible, "collective") << " that could run beside computation does, for the arena would be larger; prefetch takes that";
        windows += plan.windows.size();
        reduced += plan.reduced;
        hiddenMicroseconds += plan.hidden / 1'000'000;
      }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
