// Decides the order of a step for a low peak. Plain C++; exact lifetimes (Liveness.h) judge every
// candidate.
//
// Sources come first, then the forward operations, then the others up to the end of the
// micro-batch, then the rest: sections stay in this order, and within each the portfolio is
//   program      the order given, which has recomputation just before its first reader
//   free-first   the order given, but what lowers the live sum runs as soon as it can, and what
//   makes
//                next to nothing if the one reader left of an operand may free it then
//   greedy W     of the ready operations within W of the first that has not run, the one that frees
//   most late W       the same, built from the end: operations run as late as possible
// and each of them again with what allocates without freeing anything sunk to its first reader;
// then
//   turned       sunk and free-first in turns (local search), from the order given and from the
//   best
// The lowest peak wins; earlier members win ties. Reads and updates of one value keep their order.
// Near linear.
#ifndef AMC_COMPILER_ANALYSIS_LISTSCHEDULE_H
#define AMC_COMPILER_ANALYSIS_LISTSCHEDULE_H

#include "compiler/analysis/Liveness.h"
#include <string>

namespace amc {

struct ScheduleResult {
  std::vector<uint32_t> order; // every operation of the graph
  uint64_t maxLiveBytes = 0;
  uint64_t programBytes = 0; // what the order given would need, sections and sources sorted
  std::string rule;          // the winners, "forward / backward / update"
};

ScheduleResult scheduleStep(const StepGraph &graph);

} // namespace amc

#endif
