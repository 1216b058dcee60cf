// How a rank's tensor comes from a whole one, as Parameter.splits and OptimizerState.splits say. See Mesh.h for what a
// split is. Checked here once for verifier and trainer: a plan, or a checkpoint's index, is trusted in nothing.
#ifndef AMC_RUNTIME_PLAN_SPLITS_H
#define AMC_RUNTIME_PLAN_SPLITS_H

#include "runtime/plan/Mesh.h"
#include "runtime/plan/plan.pb.h"
#include "runtime/support/Status.h"
#include <span>
#include <vector>

namespace amc::rt {

// The mesh of a plan, every axis at least 1; one rank if it names none. More than mostRanks are an error.
Expected<MeshShape> meshOf(const plan::Mesh &mesh);

// "dp_shard 4, tp 2": the axes with more than one rank; "1 rank" if there are none.
std::string meshText(const MeshShape &mesh);

using Splits = google::protobuf::RepeatedPtrField<plan::Split>;

// Equal blocks that a split spreads one by one; 1 if it says nothing.
inline uint64_t blocksOf(const plan::Split &split) { return split.blocks() ? split.blocks() : 1; }

// The shape of the whole tensor of which every rank holds `local`. An error says which split does not fit: its
// dimension, its group, its size, blocks that do not divide that, or an axis that an earlier one has spread the tensor
// over. A dimension that is split in blocks is split by nothing else: what a piece of several blocks is in pieces, no
// plan has use for.
Expected<std::vector<uint64_t>> wholeShape(std::span<const uint64_t> local, const Splits &splits,
                                           const MeshShape &mesh);

// The other way round: what each rank holds of `whole`, padding included.
Expected<std::vector<uint64_t>> localShape(std::span<const uint64_t> whole, const Splits &splits,
                                           const MeshShape &mesh);

} // namespace amc::rt

#endif
