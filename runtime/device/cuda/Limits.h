// What a GPU can do at most.
#ifndef AMC_RUNTIME_DEVICE_CUDA_LIMITS_H
#define AMC_RUNTIME_DEVICE_CUDA_LIMITS_H

#include "runtime/device/cuda/Blas.h"

namespace amc::rt::cuda {

// Products of 4096 by cuBLASLt and copies of 256 MiB within the GPU, timed by events; what they need is allocated for it.
Expected<DeviceLimits> measureLimits(Context &context, Blas &blas);

} // namespace amc::rt::cuda

#endif
