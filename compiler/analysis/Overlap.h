// Which collectives of a scheduled step run beside computation, and from where to where. Plain C++.
//
// A window is a collective, where it starts and where it is waited for. Two kinds:
//   - a gather of a value that is there from the beginning (a parameter) starts early: at most when the unit before its
//     own begins to compute, as FSDP2 prefetches. A unit is a block of the model; what is in no block is one of its own.
//   - any other collective is waited for late: before its first reader, and at most before the last such collective of
//     the next unit. What only passes a gradient on (a cast, a sum, the optimizer) is a reader that waits as well.
// No window leaves its section of the step (forward, micro-batch, rest): these are run alone. Starts, and so the order
// of all collectives, are the same on all ranks, since it is one plan.
//
// Bounded (`arenaLimit`), windows become smaller where more would be alive than fits: first as long as the modelled time
// of the collective asks for, then half of that, then none; those that hide least for their bytes go first. Packing, by
// the function that places the step, has the last word: where it lets a buffer stick out, the windows around that become
// smaller, and it packs again. Every loop is bounded; where the last does not succeed, nothing overlaps. Near-linear in
// operations.
//
// Limits: a window is judged by the time of its own collective, not by those that are queued before it, so where the
// links are busier than the device, what stands between two operations (tensor parallelism) may come to wait for a
// prefetch. Collectives that update in place (train.refresh) are not split.
#ifndef AMC_COMPILER_ANALYSIS_OVERLAP_H
#define AMC_COMPILER_ANALYSIS_OVERLAP_H

#include "compiler/analysis/CostModel.h"
#include "compiler/analysis/Packing.h"
#include <optional>

namespace amc {

struct OverlapRequest {
  DeviceModel device;
  std::vector<bool> splittable; // of every operation: a collective with one operand and one result that may be split
  std::vector<int64_t> unitOf;  // of every operation: its block, or -1
  std::optional<uint64_t> arenaLimit; // bytes, or as many as the windows take
  uint64_t alignment = 256;           // as AssignOffsets will be asked
  PackingLimits packing;              // the same
};

struct OverlapWindow {
  uint32_t collective = noIndex;
  uint64_t hidden = 0; // picoseconds of computation between start and wait, at most what the collective takes
};

struct OverlapPlan {
  std::vector<OverlapWindow> windows;
  // The new order. Operations are numbered as in the graph, then the waits as their windows.
  std::vector<uint32_t> order;
  uint32_t possible = 0; // windows that would hide something
  uint32_t reduced = 0;  // of these, those that are smaller than they could be, or not there
  uint64_t hidden = 0;   // picoseconds, of all windows
  bool limited = false;  // a loop reached its bound: fewer windows than might fit
};

/// The step as it stands has to be its order.
OverlapPlan planOverlap(const StepGraph &graph, const OverlapRequest &request);

} // namespace amc

#endif
