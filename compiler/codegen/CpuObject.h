// From functions of CpuKernel to machine code that a plan can carry.
#ifndef AMC_COMPILER_CODEGEN_CPUOBJECT_H
#define AMC_COMPILER_CODEGEN_CPUOBJECT_H

#include "mlir/IR/BuiltinOps.h"
#include <string>
#include <vector>

namespace amc::codegen {

/// Instructions and the constants that they read, to be mapped together, anywhere: they refer to nothing else.
struct CodeImage {
  std::string level;                 // of x86-64: "x86-64-v3", "x86-64-v4"
  std::string bytes;                 // begins at a multiple of 64
  std::vector<uint64_t> entries;     // where the functions that were asked for begin
};

/// Compiles a module of the llvm dialect for each level, side by side. `functions` are the entries, in order. Fails with a
/// diagnostic. The same module gives the same bytes.
mlir::FailureOr<std::vector<CodeImage>> compileFor(llvm::ArrayRef<llvm::StringRef> levels, mlir::ModuleOp module,
                                                   llvm::ArrayRef<std::string> functions);

} // namespace amc::codegen

#endif
