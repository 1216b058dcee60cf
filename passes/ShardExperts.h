// Expert parallelism: the experts of grouped products (train.grouped_matmul) are spread over ranks, and rows go to them.
#ifndef AMC_PASSES_SHARDEXPERTS_H
#define AMC_PASSES_SHARDEXPERTS_H

#include "compiler/dialect/Train.h"
#include "runtime/plan/Mesh.h"

namespace amc {

/// The rows of each grouped product of a step, in program order: what tells whether an axis has cut them.
llvm::SmallVector<int64_t> expertRows(train::StepOp step);

struct ExpertsRequest {
  rt::MeshShape mesh;        // ep is above 1
  double capacityFactor = 0; // slots that a rank has for rows to each other, of an even share; 0: for all of them
  // Of each grouped product, in program order: whether its rows are this rank's own with respect to cp, and to tp.
  std::vector<std::array<bool, 2>> divided;
};

struct ExpertsOutcome {
  unsigned products = 0;                        // grouped products whose experts are spread
  unsigned layers = 0;                          // with ids of their own
  int64_t rows = 0, slots = 0;                  // that a rank sends of the first layer, and has room for
  llvm::DenseSet<mlir::Operation *> parameters; // their matrices; look-ups only
};

/// Rewrites a step without backward pass. Fails, with an error, where experts cannot be shared by that many ranks; a
/// product whose matrices are used otherwise, too, keeps all of them, with a remark.
llvm::FailureOr<ExpertsOutcome> shardExperts(train::StepOp step, const ExpertsRequest &request);

} // namespace amc

#endif
