// Elements to other places, and elements that are made: by width, since nothing is computed but iota.
//
// A thread moves one element, as wide a one as the tensors allow; a transposition goes through a tile in shared memory, so
// that operand and result are both touched along their innermost dimensions.
#include "Stored.cuh"
#include "runtime/device/cuda/kernels/Strided.h"

using namespace amc;

// Wider than any element: for several at once.
#define FOR_MOVES(MAKE) AMC_FOR_WIDTHS(MAKE) MAKE(uint4, 16)

// Element i of the walk `from` over x goes to element i of the walk `to` over y.
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void strided_move_##suffix(const T *x, T *y, const __grid_constant__ Strided from,             \
                                                   const __grid_constant__ Strided to) {                               \
    const i64 i = globalThread();                                                                                      \
    if (i < from.elements)                                                                                             \
      y[to.offsetOf(i)] = x[from.offsetOf(i)];                                                                         \
  }
FOR_MOVES(MAKE)
#undef MAKE

// Tiles of 32 elements either way, of 64 where they are narrow; 256 threads. Rows of a tile are an odd number of words
// apart, so that threads of a warp that walk down a column meet in no bank.
template <class T> __device__ inline void transposePlanes(const T *x, T *y, const Planes &p) {
  constexpr int side = sizeof(T) >= 4 ? 32 : 64, step = 256 / side;
  __shared__ T tile[side][side + (sizeof(T) >= 4 ? 1 : 4 / sizeof(T))];
  const i64 block = blockIdx.x, tiles = p.down * p.across, plane = block / tiles, r0 = block % tiles / p.across * side,
            c0 = block % p.across * side;
  x += p.source.offsetOf(plane);
  y += p.result.offsetOf(plane);
  const int along = threadIdx.x % side, first = threadIdx.x / side;
  for (int r = first; r < side; r += step)
    if (r0 + r < p.rows && c0 + along < p.columns)
      tile[r][along] = x[(r0 + r) * p.ldx + c0 + along];
  __syncthreads();
  for (int c = first; c < side; c += step)
    if (c0 + c < p.columns && r0 + along < p.rows)
      y[(c0 + c) * p.ldy + r0 + along] = tile[along][c];
}

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void transpose_planes_##suffix(const T *x, T *y, const __grid_constant__ Planes planes) {      \
    transposePlanes(x, y, planes);                                                                                     \
  }
AMC_FOR_WIDTHS(MAKE)
#undef MAKE

// `value` has the element's bits in its lowest bytes.
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void fill_##suffix(T *y, i64 n, u64 value) {                                                   \
    const i64 i = globalThread();                                                                                      \
    if (i < n)                                                                                                         \
      y[i] = static_cast<T>(value);                                                                                    \
  }
AMC_FOR_WIDTHS(MAKE)
#undef MAKE

// Of [height, width] matrices what stands on or beyond the diagonal k, zeros elsewhere; y may be x.
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void triangle_##suffix(const T *x, T *y, i64 n, i64 height, i64 width, i64 k, int upper) {     \
    const i64 i = globalThread();                                                                                      \
    if (i >= n)                                                                                                        \
      return;                                                                                                          \
    const i64 column = i % width, diagonal = column - i / width % height;                                              \
    y[i] = (upper ? diagonal >= k : diagonal <= k) ? x[i] : static_cast<T>(0);                                         \
  }
AMC_FOR_WIDTHS(MAKE)
#undef MAKE

// start + step * (index along the axis), computed in double; floats rounded, of integers the nearest.
template <class T> struct Iota {
  static __device__ T of(double value) { return convertElement<T>(rint(value)); }
};
template <> struct Iota<float> {
  static __device__ float of(double value) { return static_cast<float>(value); }
};
template <> struct Iota<double> {
  static __device__ double of(double value) { return value; }
};
template <> struct Iota<__nv_bfloat16> {
  static __device__ __nv_bfloat16 of(double value) { return __float2bfloat16_rn(static_cast<float>(value)); }
};
template <> struct Iota<__half> {
  static __device__ __half of(double value) { return __float2half_rn(static_cast<float>(value)); }
};

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void iota_##suffix(T *y, i64 n, i64 axis, i64 inner, double start, double step) {              \
    const i64 i = globalThread();                                                                                      \
    if (i < n)                                                                                                         \
      y[i] = Iota<T>::of(__dadd_rn(start, __dmul_rn(static_cast<double>(i / inner % axis), step)));                      \
  }
AMC_FOR_FLOATS(MAKE)
AMC_FOR_INTEGERS(MAKE)
#undef MAKE
