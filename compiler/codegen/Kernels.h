// Makes machine code of a program's fused kernels and puts it into the plan.
#ifndef AMC_COMPILER_CODEGEN_KERNELS_H
#define AMC_COMPILER_CODEGEN_KERNELS_H

#include "compiler/dialect/Plan.h"
#include "runtime/plan/plan.pb.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace amc {

/// Adds `fused_kernels` and `code` for the kernels of `program`, in their order, and for `plan.target`: an image for each
/// level of a CPU; for a GPU PTX, and a cubin where ptxas is at hand. Does nothing if there are none. Fails with a
/// diagnostic.
mlir::LogicalResult compileKernels(plan::ProgramOp program, plan::Plan &plan);

/// The functions of a program's kernels as operations of MLIR's dialects: what is compiled for every level.
mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>> buildKernelModule(plan::ProgramOp program, plan::Plan &plan);

} // namespace amc

#endif
