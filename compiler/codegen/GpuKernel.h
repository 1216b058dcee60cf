// A fused group as entries of a module for a GPU, in the scf, vector, arith, math, llvm and nvvm dialects. What is computed
// of an element, and in which order a column's sum is added up, is what the CPU does, bit for bit; a row's statistics are
// another tree, which depends on the number of columns alone: not on the grid, nor on what else is in the group.
#ifndef AMC_COMPILER_CODEGEN_GPUKERNEL_H
#define AMC_COMPILER_CODEGEN_GPUKERNEL_H

#include "compiler/codegen/GroupEmitter.h"

namespace amc::codegen {

/// Adds the group's functions, which are launched one after the other, to `module`. `name` begins their names. Operands are
/// taken to begin at multiples of rt::gpuAlignment.
llvm::SmallVector<KernelFunction> emitGpuKernel(const Group &group, llvm::StringRef name, mlir::ModuleOp module);

} // namespace amc::codegen

#endif
