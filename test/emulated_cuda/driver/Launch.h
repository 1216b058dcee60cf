// Kernels as tasks.
#ifndef AMC_TEST_EMULATED_CUDA_DRIVER_LAUNCH_H
#define AMC_TEST_EMULATED_CUDA_DRIVER_LAUNCH_H

#include "test/emulated_cuda/driver/State.h"

namespace emu {

inline constexpr int maxSharedPerBlock = 48 << 10, maxSharedOptIn = 227 << 10, maxSharedPerProcessor = 228 << 10;
inline constexpr int processors = 132, maxThreadsPerProcessor = 2048, maxBlocksPerProcessor = 32;
inline constexpr int registersPerBlock = 65536;

struct LaunchShape {
  unsigned grid[3], block[3], sharedBytes;
};

// The limits of a device and of the kernel; a finding where they are passed.
CUresult checkShape(const Call &call, const CUfunc_st &function, const LaunchShape &shape);

// `parameters` as cuLaunchKernel gets them: an address for each; or `extra`.
CUresult launch(Call &call, CUfunction function, const LaunchShape &shape, CUstream stream, void **parameters,
                void **extra);

} // namespace emu

#endif
