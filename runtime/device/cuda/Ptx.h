// The runtime's own kernels as PTX text: ptx::Movement is kernels/Movement.cu.
#ifndef AMC_RUNTIME_DEVICE_CUDA_PTX_H
#define AMC_RUNTIME_DEVICE_CUDA_PTX_H

extern "C" {
#define PTX(name) extern const char amrtPtx##name[];
#include "Ptx.inc"
#undef PTX
}

namespace amc::rt::cuda::ptx {

#define PTX(name) inline constexpr const char *name = amrtPtx##name;
#include "Ptx.inc"
#undef PTX

} // namespace amc::rt::cuda::ptx

#endif
