// What this processor and its memory can do at most, measured by the means that kernels have: the tiles of Gemm.h, the
// threads of the pool. What a profile's kernels are held against.
#ifndef AMC_RUNTIME_DEVICE_CPU_LIMITS_H
#define AMC_RUNTIME_DEVICE_CPU_LIMITS_H

#include "runtime/device/Device.h"
#include "runtime/device/cpu/ThreadPool.h"

namespace amc::rt::cpu {

// Takes some hundred milliseconds, and for that time memory beyond the last cache, which it gives back; a limit error if
// that is not to be had.
Expected<DeviceLimits> measureLimits(ThreadPool &pool);

} // namespace amc::rt::cpu

#endif
