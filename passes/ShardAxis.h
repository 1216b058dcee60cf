// Divides the work of a step among the ranks of one axis of the mesh, along dimensions that operations say can be cut
// (compiler/dialect/Sharding.h): tensor, sequence and context parallelism.
#ifndef AMC_PASSES_SHARDAXIS_H
#define AMC_PASSES_SHARDAXIS_H

#include "compiler/analysis/ContextAttention.h"
#include "compiler/dialect/Train.h"
#include <map>
#include <vector>

namespace amc {

struct AxisRequest {
  std::string axis;              // of runtime/plan/Mesh.h
  int64_t members = 1;           // its ranks
  enum class Along {
    Weights,          // dimensions of weights
    WeightsAndTokens, // and what these leave whole along the tokens
    Sequence          // the positions of attention's queries, and everything that has them
  } along = Along::Weights;
  // Of Sequence: how attention gets at other members' keys and values, and what that is decided with.
  ContextAttention attention = ContextAttention::AllGather;
  DeviceModel device = {};
  uint64_t span = 1; // from the group's first rank to its last
  bool experts = true; // whether weights of grouped products may be cut, too
};

/// A dimension of a parameter that would be cut if its parts could be divided among the members, or if the loss did not
/// read whole rows of logits.
struct WholeDimension {
  std::string parameter; // the first
  unsigned others = 0;   // that have the same
  int64_t dim = 0, size = 0, parts = 0;
};

struct AxisOutcome {
  unsigned dimensions = 0; // of weights that were cut, each with all that it goes through
  unsigned operations = 0; // that do a part of their work
  unsigned parameters = 0; // that are spread
  std::vector<WholeDimension> indivisible, readByLoss;
  bool tokens = false;     // whether tokens were cut
  bool zigzag = false;     // whether every member has an early and a late part of the sequence
  // Of Sequence: attentions of which a member does a part, by how they get at keys and values, and what the first was
  // decided by (auto); and those that are not in a ring though it was asked for, by the reason.
  unsigned rings = 0, gathers = 0;
  ContextCost ring, gather;
  std::map<std::string, unsigned> noRing;
};

/// Rewrites a step without backward pass. Never fails: what cannot be divided is done by every rank.
AxisOutcome shardAxis(train::StepOp step, const AxisRequest &request);

} // namespace amc

#endif
