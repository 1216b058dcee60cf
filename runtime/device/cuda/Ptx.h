// The runtime's own kernels: ptx::Movement is kernels/Movement.cu.
#ifndef AMC_RUNTIME_DEVICE_CUDA_PTX_H
#define AMC_RUNTIME_DEVICE_CUDA_PTX_H

extern "C" {
#define PTX(name) extern const char amrtPtx##name[], amrtFatbin##name[];
#include "Ptx.inc"
#undef PTX
}

namespace amc::rt::cuda {

// One file's kernels twice: PTX, which the driver compiles for any GPU, and what ptxas has made of it for some.
struct KernelImage {
  const char *text, *fatbin;
};

namespace ptx {

#define PTX(name) inline constexpr KernelImage name = {amrtPtx##name, amrtFatbin##name};
#include "Ptx.inc"
#undef PTX

} // namespace ptx
} // namespace amc::rt::cuda

#endif
