// How attention gets at the keys and values of a sequence that is spread over ranks (context parallelism): all of them
// gathered beforehand, or the other ranks' pieces one after the other, in a ring. Plain C++.
//
// The rule: the way that is modelled (CostModel.h) to take less time, forward and backward together; where the two differ
// by less than 5 %, which is closer than the model knows, the one that needs fewer bytes while backward runs. A gather is
// sent, then computed on; a ring sends beside its computation (where the device can), sends keys and values again in
// backward, and begins a transfer in each of its steps. Shapes, mesh and target decide, no memory policy: policies then
// leave the same bits.
#ifndef AMC_COMPILER_ANALYSIS_CONTEXTATTENTION_H
#define AMC_COMPILER_ANALYSIS_CONTEXTATTENTION_H

#include "compiler/analysis/CostModel.h"
#include "runtime/plan/Ring.h"

namespace amc {

enum class ContextAttention : uint8_t { Auto, Ring, AllGather };

/// "auto", "ring", "all-gather"; nothing for another word.
std::optional<ContextAttention> contextAttentionNamed(std::string_view name);

// One attention of one member.
struct ContextCase {
  rt::RingShape ring;
  uint64_t forwardFlops = 0; // either way
  uint64_t readers = 1;      // attentions that share the gathered keys and values
  uint64_t span = 1;         // from the group's first rank to its last
};

struct ContextCost {
  uint64_t picoseconds = 0; // forward and backward
  uint64_t bytes = 0;       // while backward runs: what there is of keys, values and their gradients beside this member's
                            // piece, and scratch
};

ContextCost ringCost(const ContextCase &c, const DeviceModel &device);
ContextCost gatherCost(const ContextCase &c, const DeviceModel &device);
bool isRingBetter(const ContextCost &ring, const ContextCost &gather);

} // namespace amc

#endif
