// Finds the transformer blocks of a forward graph by structure. Plain C++, near linear.
//
// Activations are values that depend on a parameter and on an input; what depends on only one of
// them (rotary tables, masks, reshaped weights) is auxiliary and does not count. A cut is a place
// in the order where exactly one activation is alive: all flow passes through it. Between cuts lie
// segments, hashed by what their operations do and how they are connected. The longest run of
// segments that repeats with the smallest period is the blocks; what is left on either side is
// searched again (encoder and decoder, dense layers before mixtures of experts). Models whose
// streams never narrow to one value (several residual streams, keys and values shared between
// layers): the longest-lived activations are ignored, a few more each time, until blocks appear. If
// nothing repeats at all, the graph is split into about sqrt(expensive operations) segments where
// the least is alive. Limits: periods up to 512 segments; isomorphic blocks whose operations stand
// in different orders count as different.
#ifndef AMC_COMPILER_ANALYSIS_BLOCKS_H
#define AMC_COMPILER_ANALYSIS_BLOCKS_H

#include "compiler/analysis/StepGraph.h"

namespace amc {

struct BlockRun {
  uint32_t first = 0, count = 0; // block numbers [first, first + count)
  uint32_t opsPerBlock = 0;
};

struct BlockAnalysis {
  enum class Found : uint8_t { Repeated, IgnoringLongLived, Segments, Nothing };
  Found found = Found::Nothing;
  std::vector<uint32_t> blockOfOp; // of every operation; noIndex outside blocks
  uint32_t count = 0;              // blocks, numbered in forward order
  std::vector<BlockRun> runs;      // of isomorphic blocks
  uint32_t ignoredValues = 0;      // long-lived activations that were ignored
  uint32_t coveredOps = 0, activationOps = 0;
};

BlockAnalysis findBlocks(const StepGraph &graph);

} // namespace amc

#endif
