// What may be done with the forward values of one segment: a set of decisions none of which another
// beats in every respect. Plain C++.
//
// Candidates: keep everything; drop everything; minimum cuts for every price of a byte kept at which
// the cut changes (the lower hull), with several weights for bytes that are merely there again in
// backward; then a local search that drops or keeps one operation more, divides the region in two
// parts, or runs something again in both; then one that keeps a value through the first part alone.
// All of that with the operations in the order given, in the one that the scheduler finds for
// keeping everything, and in that for dropping everything. Each candidate is carried out on the
// segment's graph and its bytes are counted, not estimated. Bounded by a number of candidates.
#ifndef AMC_COMPILER_ANALYSIS_BLOCKOPTIONS_H
#define AMC_COMPILER_ANALYSIS_BLOCKOPTIONS_H

#include "compiler/analysis/CostModel.h"
#include "compiler/analysis/Segments.h"

namespace amc {

struct BlockOption {
  uint64_t saved = 0;    // bytes that live from the segment's forward to its backward
  uint64_t forward = 0;  // most bytes alive in its forward, without the base and earlier segments'
  uint64_t backward = 0; // the same in its backward
  uint64_t cost = 0;     // of what runs again: picoseconds in whole quanta
  uint64_t exact = 0;    // the same, not rounded: where quanta are equal, less is better
  std::vector<Keep> keep;      // of the problem's operations
  std::vector<uint32_t> split; // the problem's operations that begin another part
  std::vector<uint32_t> order; // of the problem's operations; empty: as they stand
};

struct BlockOptions {
  std::vector<BlockOption> options; // by saved bytes, descending; the first keeps everything
  unsigned tried = 0;
};

/// Carries the decision out and counts; nothing if it would read what has been overwritten.
std::optional<BlockOption> evaluateOption(const SegmentProblem &problem, const CostModel &costModel,
                                          std::vector<Keep> keep, std::vector<uint32_t> split);

/// `maxTried` candidates in each of the three orders, and half as many that keep something late.
BlockOptions findOptions(const SegmentProblem &problem, const CostModel &costModel,
                         unsigned maxTried = 2000);

} // namespace amc

#endif
