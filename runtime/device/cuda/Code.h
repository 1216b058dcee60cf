// A plan's fused kernels on a GPU.
#ifndef AMC_RUNTIME_DEVICE_CUDA_CODE_H
#define AMC_RUNTIME_DEVICE_CUDA_CODE_H

#include "runtime/device/cuda/Kernel.h"

namespace amc::rt::cuda {

class Code {
public:
  // The plan's cubin for this GPU, else its PTX. The plan has been verified. Empty if it has no fused kernels.
  static Expected<std::unique_ptr<Code>> load(const plan::Plan &plan, Context &context);

  // The kernel of an instruction that has been verified. The code outlives it.
  std::unique_ptr<Kernel> prepare(const InstructionSpec &spec) const;

private:
  struct Launch {
    CUfunction function;
    uint64_t blocks;
    unsigned threads;
  };
  std::vector<std::vector<Launch>> kernels;
  friend class FusedKernel;
};

} // namespace amc::rt::cuda

#endif
