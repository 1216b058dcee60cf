// Carries out a rematerialization decision on plain graphs, so that order, lifetimes and offsets of
// a plan can be computed without IR. Plain C++. The pass Rematerialize writes exactly this graph.
//
// Backward is divided into regions: runs of operations in program order. A dropped value is not
// kept from forward; where an operation of another phase reads it, the operation that makes it runs
// again just before, with what it reads in turn. Copies serve their region: the next one makes its
// own. Copies go in forward order, just before the first reader.
#ifndef AMC_COMPILER_ANALYSIS_APPLYDECISION_H
#define AMC_COMPILER_ANALYSIS_APPLYDECISION_H

#include "compiler/analysis/StepGraph.h"
#include <optional>

namespace amc {

enum class Keep : uint8_t {
  Saved,   // results live until their last reader
  Dropped, // run again, once in each region that reads results
  Twice,   // run again, once in each part of a region that reads results
  Late,    // results live through the first part of their region, and are run again in the others
};

struct RematDecision {
  std::vector<Keep> keep; // of every operation; Saved for all that are not forward computations
  // Of every operation that is not of the forward phase; noIndex for the others. Parts divide
  // regions.
  std::vector<uint32_t> region, part;
};

struct AppliedStep {
  StepGraph graph;
  std::vector<uint32_t> originOf; // of every operation of `graph`: the given graph's
  uint64_t copies = 0;            // instructions that run again
};

/// Nothing if a copy would read what an update has overwritten by then.
std::optional<AppliedStep> applyDecision(const StepGraph &graph, const RematDecision &decision);

/// The same operations in another order, which respects dependences.
AppliedStep reorderStep(const StepGraph &graph, const std::vector<uint32_t> &order);

} // namespace amc

#endif
