// A fused group as functions on vectors of sixteen fp32, whatever the machine's own are wide: so a sum is the same tree at
// every level of the instruction set. Made of scf, vector, arith, math and llvm operations.
#ifndef AMC_COMPILER_CODEGEN_CPUKERNEL_H
#define AMC_COMPILER_CODEGEN_CPUKERNEL_H

#include "compiler/codegen/GroupEmitter.h"

namespace amc::codegen {

/// Adds the group's functions, which are called one after the other, to `module`.
llvm::SmallVector<KernelFunction> emitCpuKernel(const Group &group, llvm::StringRef name, mlir::ModuleOp module);

} // namespace amc::codegen

#endif
