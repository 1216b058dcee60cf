// Exact search for a packing within a given height. Plain C++; knows nothing but intervals and
// sizes.
//
// Branch and bound after MiniMalloc (Moffitt, "MiniMalloc: A Lightweight Memory Allocator for
// Hardware-Accelerated Machine Learning", ASPLOS 2023): items are placed from the floor up, each at
// the lowest offset that what stands below it allows, in the order of (offset, rank), so that every
// packing is met once. A branch ends when in some section of time what stands and what is still to
// come do not fit below the height; when an item would leave a gap that another fits into whole;
// and when nothing above an item was in the way, its alternatives with it. Where no unplaced item
// spans a moment, both sides are searched on their own. Sections whose items are all in another one
// are left out. Beyond the paper: short runs that restart (Luby), and what was still to come when a
// section was full is blamed and ranked further to the front next time, by more or less in each of
// several strategies that take turns. That is what fits MiniMalloc's hardest instances in seconds.
// Limits: steps are counted, never timed, so the answer is the same on every machine; an answer
// "exhausted" says nothing. Practical up to about a thousand items.
#ifndef AMC_COMPILER_ANALYSIS_PACKINGSEARCH_H
#define AMC_COMPILER_ANALYSIS_PACKINGSEARCH_H

#include "compiler/analysis/Packing.h"

namespace amc {

struct PackingSearchResult {
  enum Answer { Found, Impossible, Exhausted } answer = Exhausted;
  std::vector<uint64_t> offsets; // if found; of every item
  uint64_t steps = 0;            // items looked at while branching
  const char *rank = "";         // the ranking that found it
};

/// Sizes are taken as they are: round them to the alignment before. Empty lifetimes are at 0.
PackingSearchResult searchPacking(const std::vector<PackingItem> &items, uint64_t height,
                                  uint64_t stepLimit);

} // namespace amc

#endif
