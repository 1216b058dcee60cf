// The train dialect: classes generated from TrainOps.td and what its operations share.
#ifndef AMC_COMPILER_DIALECT_TRAIN_H
#define AMC_COMPILER_DIALECT_TRAIN_H

#include "compiler/dialect/Fusion.h"
#include "compiler/dialect/HostTensor.h"
#include "compiler/dialect/Sharding.h"
#include "runtime/plan/Ring.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/RegionKindInterface.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace amc::train {

/// What selective checkpointing does with an operation's results.
enum class SaveClass { Recompute, Save, Alternate };

/// What an operation does in one go. One that works in steps (a tile, then the next) is as many parts, which run one
/// after the other: its time is the sum of theirs, where the time of one part is bound by its FLOPs or by its bytes.
struct Work {
  uint64_t flops = 0, bytes = 0; // of one time
  uint64_t times = 1;
  uint64_t percent = 100; // of the time at a device's full rate: more where few pieces run at the same time
};
/// Read and written by all parts.
uint64_t bytesMoved(llvm::ArrayRef<Work> parts);

uint64_t defaultFlops(mlir::Operation *op);
uint64_t defaultBytesMoved(mlir::Operation *op);
llvm::StringRef defaultKernelName(mlir::Operation *op);
/// Operands as the operation's definition lists them: an absent optional one is a null value, a variadic one's values
/// just follow. What ComputeOpInterface::evaluate takes.
llvm::SmallVector<mlir::Value> operandSlots(mlir::Operation *op);
/// By the table in SaveClasses.h.
SaveClass tabledSaveClass(mlir::Operation *op);

/// The derivative is zero wherever it exists: gradients stop at the operation and none is missing.
template <typename ConcreteType>
class ZeroGradient : public mlir::OpTrait::TraitBase<ConcreteType, ZeroGradient> {};

/// Gives a float tensor the element type that sums over such elements are taken in: f64 for f64, else f32.
void widenType(mlir::Value v);

/// What SplitPhaseOpInterface asks of IR: an async collective is waited for, once, and read by nothing else.
llvm::LogicalResult verifySplitPhase(mlir::Operation *op);

/// Bytes that a tensor of `type` takes in memory (i1: one byte an element).
uint64_t byteSize(mlir::Type type);

} // namespace amc::train

#include "compiler/dialect/TrainDialect.h.inc"
#include "compiler/dialect/TrainInterfaces.h.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/TrainAttrs.h.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/TrainOps.h.inc"

#endif
