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

// squared_norm: blocks of at least 8192 elements that squares are added up in, no more than 1024 of them; one writes the result
// itself, several their sums (f64) first.
constexpr uint64_t squaredNormBlocks(uint64_t elements) {
  return detail::most(1, detail::least(1024, detail::blocks(elements, 8192)));
}
constexpr uint64_t squaredNorm(uint64_t elements) {
  uint64_t blocks = squaredNormBlocks(elements);
  return blocks > 1 ? detail::pad(blocks * 8) : 0;
}
// clip_scale of more scalars than one launch takes: the sum so far.
constexpr uint64_t clipScale(uint64_t scalars) { return scalars > 480 ? detail::pad(8) : 0; }

// A reduction, where results are too few to fill a GPU: its terms are cut into so many pieces, of 1024 at least, whose
// results in the arithmetic type (f32 for f32, bf16 and f16, else 64 bits: `bytes`) are combined in ascending order.
constexpr uint64_t reductionPieces(uint64_t results, uint64_t terms) {
  if (results == 0)
    return 1;
  uint64_t wanted = detail::least(detail::blocks(16384, results), 512);
  return detail::most(1, detail::least(wanted, detail::blocks(terms, 1024)));
}
constexpr uint64_t reduction(uint64_t results, uint64_t terms, uint64_t bytes) {
  uint64_t pieces = reductionPieces(results, terms);
  return pieces > 1 ? detail::pad(pieces * results * bytes) : 0;
}

// cross_entropy: the loss of every row, in the type of the loss.
constexpr uint64_t crossEntropy(uint64_t rows, uint64_t bytes) { return detail::pad(rows * bytes); }

// Row sums of dy * y.
constexpr uint64_t attentionBackward(uint64_t batch, uint64_t heads, uint64_t queries) {
  return detail::pad(batch * heads * queries * 4);
}

} // namespace amc::rt::workspace::cuda

#endif
