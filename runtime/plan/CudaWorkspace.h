// Scratch bytes that kernels of a CUDA device need, as Workspace.h has the CPU's. No dependencies.
#ifndef AMC_RUNTIME_PLAN_CUDAWORKSPACE_H
#define AMC_RUNTIME_PLAN_CUDAWORKSPACE_H

#include "runtime/plan/Workspace.h"

namespace amc::rt::workspace::cuda {

// Buffers of a plan for a CUDA device begin at multiples of this: what cudaMalloc gives and cuBLASLt asks of its workspace.
inline constexpr uint64_t alignment = 256;

// What cuBLASLt may use for a product, for sums of parts of the inner dimension mostly: four times the result in fp32, and
// no more than NVIDIA recommends for Hopper.
inline constexpr uint64_t productMost = 32 << 20;
constexpr uint64_t product(uint64_t rows, uint64_t columns) {
  return detail::least(productMost, (16 * rows * columns + alignment - 1) / alignment * alignment);
}

// Row sums of dy * y.
constexpr uint64_t attentionBackward(uint64_t batch, uint64_t heads, uint64_t queries) {
  return detail::pad(batch * heads * queries * 4);
}

} // namespace amc::rt::workspace::cuda

#endif
