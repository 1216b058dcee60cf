// Divides the work of a step among the ranks of one axis of the mesh, along dimensions that operations say can be cut
// (compiler/dialect/Sharding.h): tensor and sequence parallelism.
#ifndef AMC_PASSES_SHARDAXIS_H
#define AMC_PASSES_SHARDAXIS_H

#include "compiler/dialect/Train.h"

namespace amc {

struct AxisRequest {
  std::string axis;              // of runtime/plan/Mesh.h
  int64_t members = 1;           // its ranks
  bool sequenceParallel = false; // what the weights' dimensions leave whole is cut along the sequence
};

struct AxisOutcome {
  unsigned dimensions = 0; // of weights that were cut, each with all that it goes through
  unsigned operations = 0; // that do a part of their work
  unsigned parameters = 0; // that are spread
  bool sequence = false;   // whether a sequence was cut
};

/// Rewrites a step without backward pass. Never fails: what cannot be divided is done by every rank.
AxisOutcome shardAxis(train::StepOp step, const AxisRequest &request);

} // namespace amc

#endif
