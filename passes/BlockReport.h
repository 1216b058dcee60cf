// What reports say about blocks and the classes of operations; left on the step as attributes.
#ifndef AMC_PASSES_BLOCKREPORT_H
#define AMC_PASSES_BLOCKREPORT_H

#include "compiler/analysis/BlockFacts.h"
#include "compiler/dialect/Train.h"

namespace amc {

/// Leaves train.block_runs, five numbers for each run of blocks: the first block, how many, of how
/// many kinds, operations of a block, bytes that enter a block (of several kinds the most); and
/// train.save_classes, for every operation of the forward pass "12 ALTERNATE, 3 SAVE".
void describeBlocks(train::StepOp step, const StepGraph &graph, const BlockAnalysis &blocks,
                    const BlockFacts &facts);

} // namespace amc

#endif
