// Divides a step along its layers, so that memory decisions are made layer by layer. Plain C++.
//
// Every forward operation belongs to one segment: a block (Blocks.h), or what stands between blocks
// (embedding, head, what joins encoder and decoder). Segments are numbered in forward order and read
// only from themselves and earlier ones. Backward, in the order given, runs through the segments in
// reverse: the region of a segment ends behind the last operation that reads what the segment reads.
// What follows the last region (gradient norm, optimizer) is the tail.
//
// A value made before a segment and read again in one region only is that segment's to keep or, if
// its operation stands between blocks (embedding) or ends one whose other operations have no need
// of what it reads (the norm that ends a block of BERT), to make again. What several regions read
// (rotary tables, shared keys and values) is kept, and counts for the earliest segment that reads
// it.
#ifndef AMC_COMPILER_ANALYSIS_SEGMENTS_H
#define AMC_COMPILER_ANALYSIS_SEGMENTS_H

#include "compiler/analysis/ApplyDecision.h"
#include "compiler/analysis/Blocks.h"

namespace amc {

struct Segmentation {
  uint32_t count = 0;
  std::vector<uint32_t> segmentOfOp; // of forward computations and views; noIndex for the others
  std::vector<uint32_t> regionOfOp;  // of other phases' operations: a segment, or `count`: the tail
};

Segmentation findSegments(const StepGraph &graph, const BlockAnalysis &blocks);

// The joint graph of one segment alone. Its first computation stands for what the segment reads from
// elsewhere and keeps, an operation in the middle for the gradients that come in. What does not
// depend on the segment's decision is not in it but in the bases.
struct SegmentProblem {
  StepGraph graph;
  std::vector<uint32_t> opOf; // of every operation: the step's, or noIndex
  std::vector<bool> mayDrop;  // of every operation
  uint64_t forwardBase = 0, backwardBase = 0; // bytes alive throughout, without earlier segments'
  std::vector<uint64_t> key; // equal for problems that have the same options
};

/// One for each segment.
std::vector<SegmentProblem> makeSegmentProblems(const StepGraph &graph,
                                                const Segmentation &segments);

/// Bytes alive at the worst instruction of the tail: no decision changes them.
uint64_t tailBytes(const StepGraph &graph, const Segmentation &segments);

} // namespace amc

#endif
