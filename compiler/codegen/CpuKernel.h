// A fused group as functions on vectors of sixteen fp32, whatever the machine's own are wide: so a sum is the same tree at
// every level of the instruction set. Made of scf, vector, arith, math and llvm operations.
#ifndef AMC_COMPILER_CODEGEN_CPUKERNEL_H
#define AMC_COMPILER_CODEGEN_CPUKERNEL_H

#include "compiler/codegen/Group.h"
#include "mlir/IR/BuiltinOps.h"

namespace amc::codegen {

/// One function of a kernel: `void (ptr operands, i64 begin, i64 end)` on items [begin, end) of [0, extent). Items are
/// independent; `operands` are the addresses of inputs, outputs and workspace, in this order.
struct CpuFunction {
  std::string name;
  uint64_t extent, grain; // grain: items that are worth a piece of work of their own
};

/// Adds the group's functions, which are called one after the other, to `module`.
llvm::SmallVector<CpuFunction> emitCpuKernel(const Group &group, llvm::StringRef name, mlir::ModuleOp module);

} // namespace amc::codegen

#endif
