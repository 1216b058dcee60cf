// Small questions about a train.step that several passes ask.
#ifndef AMC_COMPILER_DIALECT_STEPSUPPORT_H
#define AMC_COMPILER_DIALECT_STEPSUPPORT_H

#include "compiler/dialect/Train.h"
#include "runtime/plan/Mesh.h"

namespace amc::train {

/// The part of the step that an operation belongs to, kept in the attribute `train.phase` (absent: forward).
enum class Phase { Forward, Backward, Recompute, Optimizer };

llvm::StringRef phaseName(Phase phase);
/// Unknown names count as forward; VerifyPlan rejects them.
Phase phaseOf(mlir::Operation *op);
void setPhase(mlir::Operation *op, Phase phase);

/// The output called `name`, or null.
OutputOp findOutput(StepOp step, llvm::StringRef name);

/// The mesh of a step or a program, from `train.mesh`: its axes, and ep where experts are shared. One rank if it has none;
/// nothing if the attribute is no mesh.
std::optional<rt::MeshShape> meshOf(mlir::Operation *op);
void setMesh(mlir::Operation *op, const rt::MeshShape &mesh);

/// Erases pure operations without uses, sources included, from the end of the step to its start.
void eraseDeadOps(StepOp step);

/// The ONNX node (or other name) that an operation comes from; "?" if its location has no name.
std::string locationName(mlir::Location loc);

/// Results as operandSlots gives operands.
llvm::SmallVector<mlir::Value> resultSlots(mlir::Operation *op);

/// The dimension that a parameter is spread along over `ranks`: the first, unless it has fewer elements than ranks and
/// another has not. One that is cut in blocks already (queries, keys and values in one weight) cannot be cut again: what
/// a rank has of it is no range. Nothing if there is no other, as of the bias of such a weight, and of a scalar.
std::optional<int64_t> splitDim(ParameterOp parameter, int64_t ranks);

/// Tags every operation that a builder inserts with one phase.
class PhaseTagger : public mlir::OpBuilder::Listener {
public:
  explicit PhaseTagger(Phase phase) : phase(phase) {}
  void notifyOperationInserted(mlir::Operation *op, mlir::OpBuilder::InsertPoint) override { setPhase(op, phase); }

private:
  Phase phase;
};

} // namespace amc::train

#endif
