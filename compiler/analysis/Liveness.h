// Decides which values share a buffer and when each buffer is alive, for a given order. Plain C++.
//
// Time counts instructions (operations of kind Compute and Wait) in the order; lifetimes are half-open. A
// buffer is born at the instruction that writes it and dies behind the last that reads it, itself
// or through views; persistent sources and nothing else live in [0, n); other sources (inputs) from
// 0, and at instruction 0 even if nobody reads them. Values named by Output operations live to the
// end of their section: the micro-batch if they are made there, else the step. A result takes over
// the buffer of an operand that dies there if the operation allows it (GraphOp::reusable), the byte
// counts are equal, and the operand is no source. Workspaces live at their instruction. What an async collective reads
// is kept until its wait, which is no reason against taking it over.
#ifndef AMC_COMPILER_ANALYSIS_LIVENESS_H
#define AMC_COMPILER_ANALYSIS_LIVENESS_H

#include "compiler/analysis/Packing.h"
#include "compiler/analysis/StepGraph.h"

namespace amc {

struct LiveBuffer {
  uint64_t bytes = 0;
  uint64_t first = 0, last = 0; // [first, last)
  BufferCategory category = BufferCategory::Activation;
  bool persistent = false;
  uint32_t value = noIndex;       // the last root value it holds; noIndex for workspaces
  uint32_t workspaceOf = noIndex; // the operation it is scratch of
};

struct Liveness {
  std::vector<LiveBuffer> buffers;       // in order of birth
  std::vector<uint32_t> bufferOfValue;   // of every value; noIndex if the value is not in the order
  std::vector<uint32_t> workspaceOfOp;   // buffer, or noIndex
  std::vector<uint32_t> instructionOfOp; // noIndex if the operation is none
  std::vector<uint32_t> instructions;    // operations that are instructions, in order
  uint64_t microBatchEnd = 0;            // instructions before it run once per micro-batch
  uint64_t maxLiveBytes = 0;             // largest sum of live buffers
  uint64_t peakInstruction = 0;          // the first where it is reached
};

/// `order` holds operations of `graph`, each at most once, operands before their readers.
Liveness computeLiveness(const StepGraph &graph, const std::vector<uint32_t> &order);

/// The buffers as pack() takes them: what AssignOffsets places and what the budget planner promises have
/// to be the same items. In a step without instructions lifetimes are empty, but its sources still need
/// places, so each item lives for one instruction at least.
std::vector<PackingItem> packingItems(const Liveness &live);

/// Forward-made values that instructions of other phases read: the sum of their bytes, views
/// counted once.
uint64_t savedBytes(const StepGraph &graph);

} // namespace amc

#endif
