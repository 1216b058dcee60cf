// From entries of GpuKernel to what a plan carries for an NVIDIA GPU: PTX, which every driver that is new enough compiles for
// the GPU that it finds, and, where NVIDIA's ptxas is at hand, the machine code that it makes of that.
#ifndef AMC_COMPILER_CODEGEN_PTXOBJECT_H
#define AMC_COMPILER_CODEGEN_PTXOBJECT_H

#include "mlir/IR/BuiltinOps.h"
#include <optional>
#include <string>
#include <vector>

namespace amc::codegen {

/// Architectures that PTX is made for, as targets name them: "sm_90".
llvm::ArrayRef<llvm::StringRef> gpuArchitectures();

/// The PTX of a module of the llvm and nvvm dialects. Fails with a diagnostic. The same module gives the same text.
mlir::FailureOr<std::string> compileToPtx(llvm::StringRef architecture, mlir::ModuleOp module);

/// What ptxas says of an entry.
struct GpuResources {
  uint64_t registers = 0, sharedBytes = 0, spillBytes = 0;
};
struct Cubin {
  std::string bytes;
  std::vector<GpuResources> resources; // of the functions that were asked for
};

/// Where ptxas is: $AMC_PTXAS, which may say "off"; else on PATH, in $CUDA_HOME/bin or in /usr/local/cuda/bin.
std::optional<std::string> findPtxas();

/// Has `ptxas` assemble it. What it complains about is the diagnostic.
mlir::FailureOr<Cubin> assemble(const std::string &ptxas, llvm::StringRef architecture, const std::string &ptx,
                                llvm::ArrayRef<std::string> functions, mlir::ModuleOp module);

} // namespace amc::codegen

#endif
