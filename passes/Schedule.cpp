// Puts the operations of a step into an order with a low peak. The order comes from
// compiler/analysis/ListSchedule, which knows no MLIR; this file gathers and moves.
#include "compiler/analysis/GatherStep.h"
#include "compiler/analysis/ListSchedule.h"
#include "passes/Passes.h"

namespace amc {
#define GEN_PASS_DEF_SCHEDULE
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

struct SchedulePass : amc::impl::ScheduleBase<SchedulePass> {
  void runOnOperation() override {
    bool bad = false;
    for (StepOp step : getOperation().getOps<StepOp>()) {
      FailureOr<GatheredStep> gathered = gatherStep(step);
      if (failed(gathered)) {
        bad = true;
        continue;
      }
      ScheduleResult schedule = scheduleStep(gathered->graph);
      Block *block = &step.getBody().front();
      for (uint32_t op : schedule.order)
        gathered->ops[op]->moveBefore(block, block->end());
      step->setAttr("train.schedule", StringAttr::get(&getContext(), schedule.rule));
      programBytes += schedule.programBytes;
      scheduledBytes += schedule.maxLiveBytes;
    }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
