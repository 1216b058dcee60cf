// Runs operations of the train dialect in double precision, each by its own ComputeOpInterface::evaluate: the oracle
// that gradients, kernels and passes are tested against. Every value is kept, so it is for small graphs.
#ifndef AMC_COMPILER_ANALYSIS_INTERPRETER_H
#define AMC_COMPILER_ANALYSIS_INTERPRETER_H

#include "compiler/dialect/Train.h"
#include "llvm/ADT/DenseMap.h"
#include <functional>

namespace amc {

class Interpreter {
public:
  /// What a source operation other than a constant brings in: a tensor of the result's type, or nothing if unknown.
  /// Parameters and states are asked for once and then keep what the step makes of them; inputs are asked for in every
  /// micro-batch (counted from 0; the part of a step after train.micro_batch_end sees the last one).
  using Sources = std::function<std::optional<HostTensor>(mlir::Operation *source, int64_t microBatch)>;

  explicit Interpreter(Sources sources) : sources(std::move(sources)) {}

  /// Runs one operation whose operands have run. Reports at the operation why it could not.
  llvm::LogicalResult run(mlir::Operation *op, int64_t microBatch = 0);

  /// Runs a whole step: what stands before train.micro_batch_end once for each micro-batch, the rest once. `sum`
  /// outputs of earlier micro-batches are found in outputs() only.
  llvm::LogicalResult runStep(train::StepOp step, int64_t microBatches = 1);

  /// The value's tensor. The value must have run or have been set.
  const HostTensor &get(mlir::Value value) const { return values.find(value)->second; }
  bool has(mlir::Value value) const { return values.contains(value); }
  void set(mlir::Value value, HostTensor tensor) { values[value] = std::move(tensor); }

  /// The step's outputs by name after runStep, those marked `sum` added up over micro-batches, others as of the last.
  const llvm::StringMap<HostTensor> &outputs() const { return namedOutputs; }

private:
  llvm::LogicalResult runSource(mlir::Operation *op, int64_t microBatch);
  llvm::LogicalResult runCompute(train::ComputeOpInterface op);
  void recordOutput(train::OutputOp output);

  Sources sources;
  /// Only looked up, never iterated.
  llvm::DenseMap<mlir::Value, HostTensor> values;
  llvm::StringMap<HostTensor> namedOutputs;
};

} // namespace amc

#endif
