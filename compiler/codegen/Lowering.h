// What machine code for any device goes through on its way from a module of kernels.
#ifndef AMC_COMPILER_CODEGEN_LOWERING_H
#define AMC_COMPILER_CODEGEN_LOWERING_H

#include "mlir/IR/BuiltinOps.h"
#include <string>

namespace llvm {
class Module;
class TargetMachine;
} // namespace llvm

namespace amc::codegen {

/// To the llvm dialect (and nvvm, where that is in it), in place.
mlir::LogicalResult lowerToLlvm(mlir::ModuleOp module);

/// Knows no MLIR: may run beside another module's. Empty: done, else what is wrong.
std::string optimize(llvm::Module &module, llvm::TargetMachine &machine);

} // namespace amc::codegen

#endif
