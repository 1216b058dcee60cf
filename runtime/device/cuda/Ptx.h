// Code for GPUs, and the runtime's own kernels: ptx::Movement is kernels/Movement.cu.
#ifndef AMC_RUNTIME_DEVICE_CUDA_PTX_H
#define AMC_RUNTIME_DEVICE_CUDA_PTX_H

extern "C" {
#define PTX(name) extern const char amrtPtx##name[], amrtFatbin##name[];
#include "Ptx.inc"
#undef PTX
}

namespace amc::rt::cuda {

// The same kernels twice: PTX, which the driver compiles for any GPU, and what ptxas has made of it for some, a cubin or a
// fatbin; null: nothing.
struct KernelImage {
  const char *text, *binary;
};

namespace ptx {

#define PTX(name) inline constexpr KernelImage name = {amrtPtx##name, amrtFatbin##name};
#include "Ptx.inc"
#undef PTX

} // namespace ptx
} // namespace amc::rt::cuda

#endif
