// Decides which forward values live until backward and which are computed again (activation
// checkpointing). Plain C++.
//
// Works on the joint graph: `readers` below are operations of other phases than forward. Outside
// blocks everything that is read is saved. Within a block:
//   full       nothing is saved but routing decisions and what they were made from (BlockFacts.h)
//   submodules what full saves, and attention with its projections is not run again: what models
//   that
//              share keys and values between layers get unless told otherwise
//   selective  results of SAVE operations are saved; of ALTERNATE operations the first, third, … of
//   the block in
//              forward order; those whose result backward needs neither directly nor for
//              recomputing another value are skipped. With matmuls=all: the cheapest set of values
//              with which no SAVE or ALTERNATE operation runs twice, a minimum vertex cut; of equal
//              ones the one with least to recompute.
// Gathered parameters that say themselves whether they live until backward do as they say, under every policy.
// A value that another block or an output reads is the block's boundary: always saved, never
// counted in the alternation. A value counts as possibly recomputed for the alternation's question
// unless its operation is SAVE.
#ifndef AMC_COMPILER_ANALYSIS_ACPOLICY_H
#define AMC_COMPILER_ANALYSIS_ACPOLICY_H

#include "compiler/analysis/BlockFacts.h"

namespace amc {

enum class AcPolicy : uint8_t { None, Full, Selective, SubModules };
enum class AcMatmuls : uint8_t { Alternate, All };

struct AcDecision {
  std::vector<uint32_t>
      recompute;           // forward operations to run again (views among them), in program order
  std::vector<bool> saved; // of root values: read by backward or by a recomputation
  uint64_t savedBytes = 0;
  uint64_t recomputeFlops = 0;
  struct TraceLine {
    uint32_t name;
    KeepClass keep;
    bool operator==(const TraceLine &) const = default;
  };
  std::vector<TraceLine> trace; // each distinct pair once, in forward order; selective only
  // Experts' products that selective runs again: of those at the same place of several blocks the
  // first, and how many there are.
  std::vector<std::pair<uint32_t, uint32_t>> recomputedExperts;
};

AcDecision decideCheckpointing(const StepGraph &graph, const BlockAnalysis &blocks,
                               const BlockFacts &facts, AcPolicy policy, AcMatmuls matmuls);

} // namespace amc

#endif
