// Products of small bf16 matrices by a warp (mma.sync, sm_80 on), of tiles in shared memory.
//
// A tile has rows of `columns` elements, a multiple of 64: 16 bytes of a row are moved at a time, and where they stand is
// rotated by the row, so that eight rows of the same columns are read without conflicts. A result of 16 x 8 is four floats
// for each thread: rows lane / 4 and lane / 4 + 8, columns 2 (lane % 4) and the one behind it.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_MMA_CUH
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_MMA_CUH

#include "Common.cuh"

namespace amc {

using Bf16 = __nv_bfloat16;

// Where in a tile columns 8 chunk to 8 chunk + 7 of a row stand.
template <int columns> __device__ inline int chunkAt(int row, int chunk) { return row * columns + (chunk ^ (row & 7)) * 8; }

__device__ inline unsigned sharedAddress(const void *p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// 16 bytes, both addresses multiples of 16; there when the thread has waited for it and the block has met.
__device__ inline void copyAsync(Bf16 *to, const Bf16 *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(sharedAddress(to)), "l"(__cvta_generic_to_global(from)) : "memory");
}
__device__ inline void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all but the last `pending` groups of this thread are there.
template <int pending> __device__ inline void waitForCopies() { asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory"); }

// Columns 8 chunk … of `source`, of which `columns` are left; the rest zeros. `aligned`: the source is, and all eight are there.
__device__ inline void copyChunk(Bf16 *to, const Bf16 *source, int columns, bool aligned) {
  if (aligned)
    return copyAsync(to, source);
  unsigned words[4];
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const unsigned low = 2 * n < columns ? __bfloat16_as_ushort(source[2 * n]) : 0;
    const unsigned high = 2 * n + 1 < columns ? __bfloat16_as_ushort(source[2 * n + 1]) : 0;
    words[n] = low | high << 16;
  }
  *reinterpret_cast<uint4 *>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

struct Fragment4 {
  unsigned x[4];
};
__device__ inline Fragment4 loadMatrices(const Bf16 *row) {
  Fragment4 f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(f.x[0]), "=r"(f.x[1]), "=r"(f.x[2]), "=r"(f.x[3]) : "r"(sharedAddress(row)) : "memory");
  return f;
}
__device__ inline Fragment4 loadTransposed(const Bf16 *row) {
  Fragment4 f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(f.x[0]), "=r"(f.x[1]), "=r"(f.x[2]), "=r"(f.x[3]) : "r"(sharedAddress(row)) : "memory");
  return f;
}

// The left operand, rows row0 to row0 + 15 and inner positions 16 step …, of a tile [rows, inner].
template <int columns> __device__ inline Fragment4 leftOperand(const Bf16 *tile, int row0, int step) {
  const int lane = threadIdx.x % 32;
  return loadMatrices(tile + chunkAt<columns>(row0 + lane % 16, 2 * step + lane / 16));
}
// The same of a tile [inner, rows].
template <int columns> __device__ inline Fragment4 leftOperandTransposed(const Bf16 *tile, int row0, int step) {
  const int lane = threadIdx.x % 32;
  return loadTransposed(tile + chunkAt<columns>(16 * step + lane % 8 + lane / 16 * 8, row0 / 8 + lane / 8 % 2));
}
// Two right operands, for 8 columns of the result each from column0 on, of a tile [columns of the result, inner].
template <int columns> __device__ inline Fragment4 rightOperands(const Bf16 *tile, int column0, int step) {
  const int lane = threadIdx.x % 32;
  return loadMatrices(tile + chunkAt<columns>(column0 + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
}
// The same of a tile [inner, columns of the result].
template <int columns> __device__ inline Fragment4 rightOperandsTransposed(const Bf16 *tile, int column0, int step) {
  const int lane = threadIdx.x % 32;
  return loadTransposed(tile + chunkAt<columns>(16 * step + lane % 16, column0 / 8 + lane / 16));
}

// sums += a b
__device__ inline void multiplyAdd(float (&sums)[4], const Fragment4 &a, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b0), "r"(b1));
}
// Of two results that stand side by side.
__device__ inline void multiplyAdd(float (&left)[4], float (&right)[4], const Fragment4 &a, const Fragment4 &b) {
  multiplyAdd(left, a, b.x[0], b.x[1]);
  multiplyAdd(right, a, b.x[2], b.x[3]);
}

__device__ inline unsigned pack(float low, float high) {
  return static_cast<unsigned>(__bfloat16_as_ushort(__float2bfloat16_rn(low))) |
         static_cast<unsigned>(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16;
}
// Two results of 16 x 8 as a left operand of 16 x 16, rounded.
__device__ inline Fragment4 asLeftOperand(const float (&first)[4], const float (&second)[4]) {
  return {{pack(first[0], first[1]), pack(first[2], first[3]), pack(second[0], second[1]), pack(second[2], second[3])}};
}

// Two neighbours of a row, of which `columns` are left. `aligned`: to is at a multiple of 4 bytes, and columns are even.
__device__ inline void storePair(Bf16 *to, float low, float high, int columns, bool aligned) {
  if (columns <= 0)
    return;
  if (aligned) {
    *reinterpret_cast<unsigned *>(to) = pack(low, high);
    return;
  }
  to[0] = __float2bfloat16_rn(low);
  if (columns > 1)
    to[1] = __float2bfloat16_rn(high);
}

} // namespace amc

#endif
