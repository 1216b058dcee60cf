// Reductions over any axes of any numbers. f16 and bf16 are computed in fp32, integers modulo 2^64 (means of integers
// truncate), NaN wins in max and min.
//
// Where the operand's innermost dimension is reduced, a block has a result (or a piece of its terms): threads take terms of
// their own and then combine in a tree. Where it is kept, a block has 32 results beside each other and 8 threads for each,
// which combine ascending. Pieces' values go to the workspace, and are combined ascending by a kernel of their own.
#include "Stored.cuh"
#include "runtime/device/cuda/kernels/Reduction.h"

using namespace amc;

namespace {

template <class T> __device__ inline T start(Reduce kind) {
  switch (kind) {
  case Reduce::Prod: return T(1);
  case Reduce::Max:
    if constexpr (IsFloat<T>::value)
      return static_cast<T>(-__int_as_float(0x7f800000));
    else
      return least<T>;
  case Reduce::Min:
    if constexpr (IsFloat<T>::value)
      return static_cast<T>(__int_as_float(0x7f800000));
    else
      return greatest<T>;
  default: return T(0);
  }
}

template <class T> struct Wrapping { using type = T; };
template <> struct Wrapping<i64> { using type = u64; };

template <class T> __device__ inline T combine(Reduce kind, T a, T b) {
  using U = typename Wrapping<T>::type;
  switch (kind) {
  case Reduce::Prod: return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
  case Reduce::Max: return a != a || a > b ? a : b;
  case Reduce::Min: return a != a || a < b ? a : b;
  default: return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  }
}

template <class T> __device__ inline T combineBlock(Reduce kind, T x, T *partial) {
  for (int step = 16; step > 0; step /= 2)
    x = combine(kind, x, __shfl_xor_sync(wholeWarp, x, step));
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  if (threadIdx.x % 32 == 0)
    partial[warp] = x;
  __syncthreads();
  x = static_cast<int>(threadIdx.x % 32) < warps ? partial[threadIdx.x % 32] : start<T>(kind);
  for (int step = 16; step > 0; step /= 2)
    x = combine(kind, x, __shfl_xor_sync(wholeWarp, x, step));
  return x;
}

// A value of all terms becomes the result; one of a piece goes to the workspace.
template <class T>
__device__ inline void put(const Reduction &r, Reduce kind, T value, i64 piece, i64 result, void *y, void *pieces) {
  if (r.pieces > 1) {
    static_cast<T *>(pieces)[piece * r.kept.elements + result] = value;
    return;
  }
  if (kind == Reduce::Mean) {
    if (IsFloat<T>::value || r.reduced.elements > 0)
      value /= static_cast<T>(r.reduced.elements);
    else
      value = 0;
  }
  storeElement<T>(y, result, value, static_cast<Stored>(r.to));
}

// A sum is told at compile time, for the sake of its loop.
template <class T, bool sums> __device__ inline void reduceRows(const void *x, void *y, void *pieces, const Reduction &r) {
  __shared__ T partial[32];
  const Reduce kind = static_cast<Reduce>(r.kind), combining = sums ? Reduce::Sum : kind;
  const i64 piece = blockIdx.x % r.pieces, result = blockIdx.x / r.pieces, base = r.kept.offsetOf(result);
  const i64 begin = piece * r.each, end = begin + r.each < r.reduced.elements ? begin + r.each : r.reduced.elements;
  T value = start<T>(combining);
  for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x)
    value = combine(combining, value, loadElement<T>(x, base + r.reduced.offsetOf(i), static_cast<Stored>(r.from)));
  value = combineBlock(combining, value, partial);
  if (threadIdx.x == 0)
    put(r, kind, value, piece, result, y, pieces);
}

template <class T, bool sums> __device__ inline void reduceColumns(const void *x, void *y, void *pieces, const Reduction &r) {
  constexpr int columns = 32, lanes = 8;
  __shared__ T values[lanes][columns];
  const Reduce kind = static_cast<Reduce>(r.kind), combining = sums ? Reduce::Sum : kind;
  const int column = threadIdx.x % columns, lane = threadIdx.x / columns;
  const i64 piece = blockIdx.x % r.pieces, result = blockIdx.x / r.pieces * columns + column;
  const i64 begin = piece * r.each, end = begin + r.each < r.reduced.elements ? begin + r.each : r.reduced.elements;
  T value = start<T>(combining);
  if (result < r.kept.elements) {
    const i64 base = r.kept.offsetOf(result);
    for (i64 i = begin + lane; i < end; i += lanes)
      value = combine(combining, value, loadElement<T>(x, base + r.reduced.offsetOf(i), static_cast<Stored>(r.from)));
  }
  values[lane][column] = value;
  __syncthreads();
  if (lane > 0 || result >= r.kept.elements)
    return;
  for (int other = 1; other < lanes; ++other)
    value = combine(combining, value, values[other][column]);
  put(r, kind, value, piece, result, y, pieces);
}

// A thread for each result; `r` has one piece, `terms` of which say what a mean divides by.
template <class T> __device__ inline void reducePieces(const void *pieces, i64 count, void *y, const Reduction &r) {
  const i64 result = globalThread();
  if (result >= r.kept.elements)
    return;
  const Reduce kind = static_cast<Reduce>(r.kind);
  T value = start<T>(kind);
  for (i64 piece = 0; piece < count; ++piece)
    value = combine(kind, value, static_cast<const T *>(pieces)[piece * r.kept.elements + result]);
  put<T>(r, kind, value, 0, result, y, nullptr);
}

} // namespace

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      reduce_rows_sum_##suffix(const void *x, void *y, void *pieces, const __grid_constant__ Reduction r) {            \
    reduceRows<T, true>(x, y, pieces, r);                                                                              \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      reduce_rows_other_##suffix(const void *x, void *y, void *pieces, const __grid_constant__ Reduction r) {          \
    reduceRows<T, false>(x, y, pieces, r);                                                                             \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      reduce_columns_sum_##suffix(const void *x, void *y, void *pieces, const __grid_constant__ Reduction r) {         \
    reduceColumns<T, true>(x, y, pieces, r);                                                                           \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      reduce_columns_other_##suffix(const void *x, void *y, void *pieces, const __grid_constant__ Reduction r) {       \
    reduceColumns<T, false>(x, y, pieces, r);                                                                          \
  }                                                                                                                    \
  extern "C" __global__ void reduce_pieces_##suffix(const void *pieces, i64 count, void *y,                            \
                                                    const __grid_constant__ Reduction r) {                             \
    reducePieces<T>(pieces, count, y, r);                                                                              \
  }
AMC_FOR_COMPUTE(MAKE)
#undef MAKE
