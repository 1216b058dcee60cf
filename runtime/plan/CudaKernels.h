// The kernels of a CUDA device by name, for the compiler, which has no device to ask. No dependencies.
#ifndef AMC_RUNTIME_PLAN_CUDAKERNELS_H
#define AMC_RUNTIME_PLAN_CUDAKERNELS_H

#include <algorithm>
#include <array>
#include <string_view>

namespace amc::rt {

// Kernels of the CPU that a CUDA device does not have; unit-runtime holds it against the device's registry. Networks are
// not tiled there: a product of fewer rows may have other bits.
inline constexpr std::array<std::string_view, 2> onlyOnCpu = {"gated_mlp", "gated_mlp_backward"};

constexpr bool isCudaKernel(std::string_view kernel) {
  return std::find(onlyOnCpu.begin(), onlyOnCpu.end(), kernel) == onlyOnCpu.end();
}

} // namespace amc::rt

#endif
