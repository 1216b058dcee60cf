// The kernels of a CUDA device by name, for the compiler, which has no device to ask. No dependencies.
#ifndef AMC_RUNTIME_PLAN_CUDAKERNELS_H
#define AMC_RUNTIME_PLAN_CUDAKERNELS_H

#include <algorithm>
#include <array>
#include <string_view>

namespace amc::rt {

// Kernels of the CPU that a CUDA device does not have; unit-runtime holds it against the device's registry.
inline constexpr std::array<std::string_view, 0> onlyOnCpu = {};

constexpr bool isCudaKernel(std::string_view kernel) {
  return std::find(onlyOnCpu.begin(), onlyOnCpu.end(), kernel) == onlyOnCpu.end();
}

} // namespace amc::rt

#endif
