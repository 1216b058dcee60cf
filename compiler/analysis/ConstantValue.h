// What a value is when it depends on constants only: shape chains and operator arguments for the
// importer, epsilons, scales and mask constants for pattern matching. Nothing is folded in the IR.
//
// Evaluation is iterative (graphs are deep) and memoised; every tensor on the way has at most
// `maxElements` elements, so that a weight is never loaded by accident. Inputs, states and
// trainable parameters are not constant. Parameters that are not (or not yet) trainable are read
// from their file, found through the module's `train.model_directory`, unless they hold floats and
// may be trained yet (`floatParameters`); one whose bytes are absent is not constant. Every result is
// rounded to its element type, as ONNX computes it.
#ifndef AMC_COMPILER_ANALYSIS_CONSTANTVALUE_H
#define AMC_COMPILER_ANALYSIS_CONSTANTVALUE_H

#include "compiler/dialect/Train.h"
#include "llvm/ADT/DenseMap.h"
#include <memory>

namespace amc {

class ConstantEvaluator {
public:
  explicit ConstantEvaluator(int64_t maxElements = 4096, bool floatParameters = true)
      : maxElements(maxElements), floatParameters(floatParameters) {}

  /// The value's elements, or null if it is not constant or too large. The pointer lives as long as
  /// the evaluator.
  const HostTensor *get(mlir::Value value);
  /// The single element of a constant of one element, whatever its rank.
  std::optional<double> scalar(mlir::Value value);

  /// Forgets everything. To be called after operations were erased: their addresses may come back.
  void clear() { known.clear(); }

private:
  using Results = std::vector<HostTensor>;
  bool evaluate(mlir::Operation *op, Results &results);
  bool fits(mlir::Operation *op) const;

  int64_t maxElements;
  bool floatParameters;
  /// Null: not constant. Only looked up, never iterated.
  llvm::DenseMap<mlir::Operation *, std::unique_ptr<Results>> known;
};

/// One value, evaluated without keeping what was on the way.
std::optional<HostTensor> constantValue(mlir::Value value, int64_t maxElements = 4096);

/// The initial elements of a parameter, read from its file and converted to its element type;
/// nothing if the bytes are absent. Refuses tensors of more than `maxElements` elements.
std::optional<HostTensor> readParameter(train::ParameterOp parameter, int64_t maxElements);

} // namespace amc

#endif
