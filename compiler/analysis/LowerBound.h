// Proven lower bounds for rematerialization: what no planner can beat. Plain C++.
//
// Of cost: covers every plan that runs the forward operations once, then the operations of other
// phases in the order given, with copies of forward operations anywhere between those, any number of
// each, each value dropped and made again as often as it likes. (The planner asks for the order that
// its own plan has.)
//
// Take instants q_0 < q_1 < … of backward. If a value is read after q_k it is resident at q_k
// or its operation runs again after q_k; what runs again after q_k reads its operands after q_k; and
// what is resident at q_k, with the bytes that are alive there in any case (persistent buffers,
// gradients, the operands, results and scratch of the operation at q_k), fits the budget. Instants
// of forward are like its end for the values made by then. Giving
// every budget a price (Lagrange, 1797; Everett, 1963) leaves a closure problem, which a minimum cut
// solves; every set of prices gives a bound, and subgradient steps look for good ones. Each copy is
// charged once however often it runs: the bound is loose where a value has to be made twice.
//
// Of the peak: covers every order too. At every operation its operands, results and scratch are
// alive, what persists, and what an ancestor of it makes and a descendant reads, unless that could
// be made again.
#ifndef AMC_COMPILER_ANALYSIS_LOWERBOUND_H
#define AMC_COMPILER_ANALYSIS_LOWERBOUND_H

#include "compiler/analysis/CostModel.h"

namespace amc {

class LowerBound {
public:
  LowerBound(const StepGraph &graph, const CostModel &costModel);

  /// No plan whose live sum stays within `budget` recomputes for less: picoseconds. `instants` are
  /// instructions at which the budget is thought to bind, in program order; the end of forward is
  /// always looked at. `known` is what some plan costs.
  uint64_t cost(uint64_t budget, const std::vector<uint32_t> &instants, uint64_t known) const;

private:
  struct Evaluation {
    double bound;
    std::vector<double> excess; // by instant: resident bytes minus what the budget leaves
  };
  // Whether `value` counts at an instant only if it is kept: it is made by then, and nothing else
  // has it there.
  bool countsAt(uint32_t value, uint32_t instant) const;
  Evaluation evaluate(const std::vector<uint32_t> &instants, const std::vector<double> &room,
                      const std::vector<double> &prices) const;

  const StepGraph &graph;
  const CostModel &costModel;
  IndexLists roots;                // of every operation
  std::vector<uint64_t> baseBytes;    // of every operation: alive there in any case
  std::vector<uint32_t> lastRead;     // of forward roots: the last operation of another phase
  std::vector<uint32_t> lastForward;  // of forward roots: the last forward reader
  uint64_t boundaryBase = 0;
  std::vector<bool> candidate;     // of roots: made by forward and perhaps read again
};

/// No plan's largest live sum is lower, in whatever order. Quadratic in the number of operations.
uint64_t peakBound(const StepGraph &graph);

} // namespace amc

#endif
