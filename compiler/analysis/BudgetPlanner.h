// Plans a step within a memory budget: the least modelled recompute time whose arena fits. Plain
// C++, no solver.
//
// Phases: segments (Segments.h), each with its options (BlockOptions.h; equal segments share them);
// one sweep over the segments in forward order with labels (bytes kept so far, cost), in which
// option o of segment s needs
//   kept before s + forward_o  + base of the forward pass    <= model budget
//   kept before s + backward_o + base of the region of s     <= model budget;
// the cheapest label that is left is carried out (ApplyDecision.h), scheduled, and placed; packing
// is searched for long where only that stands between a plan and the budget. Model budgets form a
// fixed grid that does not depend on the request, and the largest whose plan's arena fits the
// request is taken: so the arena never exceeds the budget and a larger budget never costs more.
// Beside the result stands a proven lower bound (LowerBound.h).
//
// Limits: what several segments read (a block's input among them) is kept, so the smallest arena
// found is not the smallest there is; within its region a value is made at most twice. Labels are
// exact; options are what BlockOptions.h finds. Measured against a MILP solver (test/oracle): the
// optimum on every transformer fixture at every budget tried, 94 of 100 random graphs. Llama 3.2 1B
// at 8 x 2048 is planned in about three seconds, within 3 % of the bound but at the smallest arena
// (9 %).
#ifndef AMC_COMPILER_ANALYSIS_BUDGETPLANNER_H
#define AMC_COMPILER_ANALYSIS_BUDGETPLANNER_H

#include "compiler/analysis/BlockOptions.h"
#include "compiler/analysis/Packing.h"
#include <memory>

namespace amc {

struct PlannerSettings {
  DeviceModel device;
  uint64_t alignment = 256; // as AssignOffsets will be asked
  PackingLimits packing;    // the same
};

// A decision and what it comes to after scheduling and placing.
struct CarriedOut {
  AppliedStep applied;         // what the step becomes; its operations' origins are the step's
  std::vector<uint32_t> order; // of the applied graph's operations, as Schedule will choose it
  uint64_t arenaBytes = 0, maxLiveBytes = 0;
  uint64_t arenaBound = 0; // no packing of this plan is lower
  uint64_t cost = 0;       // picoseconds of what runs again
  uint64_t flops = 0;      // of what runs again
};

struct BudgetPlan {
  bool feasible = false;
  CarriedOut result;           // if feasible, else the plan with the smallest arena that was found
  uint64_t stepCost = 0;       // picoseconds of a step without recomputation
  uint64_t costBound = 0;      // no plan with this order of gradient operations costs less
  uint64_t peakBound = 0;      // if infeasible: no plan at all needs less memory
  std::vector<uint32_t> alive; // values of the result's graph at its peak, largest first
  /// (cost - bound) as a share of a step's whole modelled time.
  double gapOfStep() const;
  /// (cost - bound) / cost; 0 if nothing is recomputed.
  double gap() const;
};

struct CurvePoint {
  uint64_t arenaBytes = 0, cost = 0, flops = 0;
};
// Rising bytes, falling cost; the first is the smallest arena found, the last keeps everything.
using ParetoCurve = std::vector<CurvePoint>;

class BudgetPlanner {
public:
  BudgetPlanner(const StepGraph &graph, const BlockAnalysis &blocks, PlannerSettings settings);
  ~BudgetPlanner();

  BudgetPlan plan(uint64_t budget);
  /// At most `points` points.
  ParetoCurve curve(unsigned points);

private:
  class Impl;
  std::unique_ptr<Impl> impl;
};

/// The curve alone, for reports and tables.
ParetoCurve planCurve(const StepGraph &graph, const BlockAnalysis &blocks,
                      const PlannerSettings &settings, unsigned points);

} // namespace amc

#endif
