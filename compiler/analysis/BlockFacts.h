// What checkpointing has to know about the blocks of a model beyond where they are: keys and values
// that layers share, and routing in mixtures of experts. Found in the graph, not by names. Plain
// C++.
//
// Reaching means: through cheap operations (class RECOMPUTE) only. A product of activations is a
// SAVE operation of which two operands or more depend on both a parameter and an input: attention,
// raised or not.
#ifndef AMC_COMPILER_ANALYSIS_BLOCKFACTS_H
#define AMC_COMPILER_ANALYSIS_BLOCKFACTS_H

#include "compiler/analysis/Blocks.h"

namespace amc {

struct BlockFacts {
  // Made by a product in one block and reaching there, and in a later block, the same operand of
  // the same product of activations: keys and values of attention that another layer reads too.
  // Roots.
  std::vector<uint32_t> sharedKeys;
  uint32_t sharingBlocks = 0; // blocks that read another's
  // Of operations, if there are shared keys: attention from its projections in to its projection
  // out; norms in front of it and all that follows are not in it.
  std::vector<bool> inAttention;

  // Of roots: what a SAVE operation with an integer result (top-k) decided from activations, and
  // the products that reach it (the router's projection).
  std::vector<bool> routing;
  bool hasRouting = false;
  // Products of weights that integers choose (grouped products), in blocks. Operations.
  std::vector<uint32_t> experts;

  // Of blocks: bytes of forward values made outside that they read, sources not counted.
  std::vector<uint64_t> inputBytes;
};

/// The classes that `graph` has count: call it before a user's own are put in their place.
BlockFacts findBlockFacts(const StepGraph &graph, const BlockAnalysis &blocks);

} // namespace amc

#endif
