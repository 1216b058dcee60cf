// Finds the transformer blocks of a forward graph by structure. Plain C++, near linear.
//
// Activations are values that depend on a parameter and on an input; what depends on only one of
// them (rotary tables, masks, reshaped weights) is auxiliary and does not count. A cut is a place
// in the order where one activation is alive at most: all flow passes through it. Between cuts lie
// segments, hashed by what their operations do and how they are connected, not by their order. The
// runs of repeated segments that together cover most operations are the blocks (encoder and
// decoder, dense layers before mixtures of experts); a period of several layers is parted where
// they begin, and a layer beside a run that nobody repeats but that begins as they do is a block
// too. Models whose streams never narrow to one value (several residual streams, keys and values
// shared between layers): the longest-lived activations are ignored, a few more each time, as long
// as that finds a tenth more. If nothing repeats at all, the graph is split into about
// sqrt(expensive operations) segments where the least is alive. Limits: periods up to 512
// segments; operations in another order may move a cut.
#ifndef AMC_COMPILER_ANALYSIS_BLOCKS_H
#define AMC_COMPILER_ANALYSIS_BLOCKS_H

#include "compiler/analysis/StepGraph.h"

namespace amc {

struct BlockRun {
  uint32_t first = 0, count = 0; // block numbers [first, first + count)
  uint32_t opsPerBlock = 0;      // of several kinds: the average
  uint32_t kinds = 1;            // blocks that differ, one after the other
};

struct BlockAnalysis {
  enum class Found : uint8_t { Repeated, IgnoringLongLived, Segments, Nothing };
  Found found = Found::Nothing;
  std::vector<uint32_t> blockOfOp; // of every operation; noIndex outside blocks
  uint32_t count = 0;              // blocks, numbered in forward order
  std::vector<BlockRun> runs;      // of isomorphic blocks; a run of one: a layer of its own kind
  uint32_t ignoredValues = 0;      // long-lived activations that were ignored
  uint32_t coveredOps = 0, activationOps = 0;
};

/// Of values: whether they depend on a parameter and on an input.
std::vector<bool> findActivations(const StepGraph &graph);

BlockAnalysis findBlocks(const StepGraph &graph);

} // namespace amc

#endif
