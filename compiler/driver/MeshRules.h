// From strategy, sizes and batch to the mesh of ranks: the rules of the guide that users come from, in one place. Knows
// neither MLIR nor a model; what a model's shapes allow is the passes' question.
#ifndef AMC_COMPILER_DRIVER_MESHRULES_H
#define AMC_COMPILER_DRIVER_MESHRULES_H

#include "compiler/driver/Options.h"
#include "runtime/plan/Mesh.h"

namespace amc {

struct MeshDecision {
  rt::MeshShape shape;          // {dp_replicate, dp_shard, cp, tp}; ep regroups the same ranks
  int64_t dataParallel = 1;     // dp_replicate x dp_shard
  int64_t gradAccumulation = 1; // from the batch sizes where both are given
  // Every rule that is broken, each with the options and values concerned and what to do. Then the rest says nothing.
  std::vector<std::string> errors;
};

MeshDecision decideMesh(const CompileOptions &options);

} // namespace amc

#endif
