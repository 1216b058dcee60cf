// Which forward operations, run again, become part of the kernel that reads them: recomputation that costs arithmetic and
// next to no memory traffic. What FuseElementwise will make of a plan, foreseen from the step before anything is decided;
// the idea is that of planners that look at fused graphs (He and Yu, "Transcending Runtime-Memory Tradeoffs in
// Checkpointing by being Fusion Aware", MLSys 2023).
//
// Such an operation has a fusion rule, and what backward reads of it is read by operations of one kernel to be (neighbours
// in program order that FuseElementwise would join, with its domain, element by element), or by others that join that
// kernel. The bytes it costs are those of operands that the kernel does not read otherwise, less its results, which are no
// longer read. Kernels take as many operations as fit, the last in forward order first.
//
// Limits: a price is fixed, whatever else is run again: it supposes that what has joined the kernel before runs there. The
// scheduler may part what stood together, and placement or the number of tensors may refuse a kernel; then the operation is
// a kernel of its own.
#ifndef AMC_COMPILER_ANALYSIS_JOINEDRECOMPUTATION_H
#define AMC_COMPILER_ANALYSIS_JOINEDRECOMPUTATION_H

#include "compiler/analysis/GatherStep.h"

namespace amc {

/// Sets GraphOp::joinsReaders and joinedBytes. Near linear.
void markJoinedRecomputation(GatheredStep &step);

} // namespace amc

#endif
