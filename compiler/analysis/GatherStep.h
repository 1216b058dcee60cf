// Fills a StepGraph from a train.step through the operations' interfaces.
#ifndef AMC_COMPILER_ANALYSIS_GATHERSTEP_H
#define AMC_COMPILER_ANALYSIS_GATHERSTEP_H

#include "compiler/analysis/Liveness.h"
#include "compiler/dialect/Train.h"

namespace amc {

struct GatheredStep {
  StepGraph graph;
  std::vector<mlir::Operation *> ops;            // of every GraphOp
  std::vector<mlir::Value> values;               // of every GraphValue
  llvm::DenseMap<mlir::Value, uint32_t> indexOf; // for look-ups only

  uint32_t index(mlir::Value value) const { return indexOf.at(value); }
  /// All operations as they stand.
  std::vector<uint32_t> programOrder() const;
};

KeepClass keepClass(train::SaveClass saveClass);

/// Fails, with a diagnostic for each, if the step holds operations that are neither computations,
/// views, updates, sources nor markers of the train dialect.
mlir::FailureOr<GatheredStep> gatherStep(train::StepOp step);

} // namespace amc

#endif
