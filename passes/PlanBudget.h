// A step and what the budget planner makes of it, apart from the pass: the driver plans several
// variants of a step before it takes one, and the pass then writes what has been planned instead of
// planning it again.
#ifndef AMC_PASSES_PLANBUDGET_H
#define AMC_PASSES_PLANBUDGET_H

#include "compiler/analysis/BudgetPlanner.h"
#include "compiler/analysis/GatherStep.h"
#include "passes/Passes.h"

namespace amc {

struct PlannedStep {
  /// Gathers `step`, which may not be changed before the pass has written the plan. Fails, with a
  /// diagnostic, if that cannot be done, or if the options say of no device what it costs.
  static mlir::FailureOr<std::shared_ptr<PlannedStep>> gather(train::StepOp step,
                                                              const PlanBudgetOptions &options);
  /// Once.
  const BudgetPlan &makePlan(uint64_t budget);

  train::StepOp step;
  std::string variant; // which one of several the step is, for messages; empty: the only one
  GatheredStep gathered;
  PlannerSettings settings;
  bool curve = false;    // is wanted of the driver: train.pareto_curve
  uint64_t stepCost = 0;                  // picoseconds without recomputation
  BlockAnalysis blocks;                   // with the plan
  std::unique_ptr<BudgetPlanner> planner; // looks at `gathered`
  BudgetPlan plan;
};

/// The pass; for `planned`'s step it writes that plan, which has been made with the same options.
std::unique_ptr<mlir::Pass> createPlanBudget(const PlanBudgetOptions &options,
                                             std::shared_ptr<PlannedStep> planned);

} // namespace amc

#endif
