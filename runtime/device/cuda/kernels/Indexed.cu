// Kernels that read at indices, and those that combine updates there.
//
// Updates of one place are combined in ascending order of their indices, and what is stored narrower than it is computed is
// rounded once: the update that is the first of its place looks for all later ones of the same, the others do nothing.
// So nothing is sorted and nothing needs memory; the price is that every update looks at every other one's index.
#include "Stored.cuh"
#include "runtime/device/cuda/kernels/Slices.h"

using namespace amc;

namespace {

constexpr i64 nowhere = -1, elsewhere = -2; // a failure; another rank's

__device__ inline i64 rawIndex(const void *indices, int wide, i64 at) {
  return wide ? static_cast<const i64 *>(indices)[at] : static_cast<const int *>(indices)[at];
}

// In [0, limit), or `nowhere`.
__device__ inline i64 checkedIndex(const void *indices, int wide, i64 at, i64 limit, u64 *failure) {
  const i64 value = rawIndex(indices, wide, at), index = value < 0 ? value + limit : value;
  if (index >= 0 && index < limit)
    return index;
  fail(failure, at, value);
  return nowhere;
}

// Which slice of its batch a tuple names; negative: none that is here.
__device__ inline i64 sliceOf(const Slices &s, i64 batch, i64 tuple) {
  const i64 flat = (s.shared ? 0 : batch * s.count) + tuple;
  i64 slice = 0;
  for (int d = 0; d < s.length; ++d) {
    const i64 index = checkedIndex(s.indices, s.wide, flat * s.length + d, s.limits[d], s.failures + d);
    if (index < 0)
      return nowhere;
    slice = slice * s.limits[d] + index;
  }
  slice -= s.first;
  return slice >= 0 && slice < s.slices ? slice : elsewhere;
}

template <class T> __device__ inline T combined(Combine kind, T old, T update) {
  switch (kind) {
  case Combine::Add: return old + update;
  case Combine::Mul: return old * update;
  case Combine::Max: return old != old || old > update ? old : update;
  case Combine::Min: return old != old || old < update ? old : update;
  default: return update;
  }
}
// Integers wrap around.
template <> __device__ inline i64 combined<i64>(Combine kind, i64 old, i64 update) {
  switch (kind) {
  case Combine::Add: return static_cast<i64>(static_cast<u64>(old) + static_cast<u64>(update));
  case Combine::Mul: return static_cast<i64>(static_cast<u64>(old) * static_cast<u64>(update));
  case Combine::Max: return old > update ? old : update;
  case Combine::Min: return old < update ? old : update;
  default: return update;
  }
}

} // namespace

// y[batch, tuple] = x[batch, slice]; zeros where there is none.
template <class T> __device__ inline void gatherSlices(const T *x, T *y, const Slices &s, i64 n) {
  const i64 i = globalThread();
  if (i >= n)
    return;
  const i64 at = i / s.inner, batch = at / s.count, slice = sliceOf(s, batch, at % s.count);
  y[i] = slice >= 0 ? x[(batch * s.slices + slice) * s.inner + i % s.inner] : T{};
}
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void gather_slices_##suffix(const T *x, T *y, const __grid_constant__ Slices s, i64 n) {       \
    gatherSlices(x, y, s, n);                                                                                          \
  }
AMC_FOR_WIDTHS(MAKE)
MAKE(uint4, 16)
#undef MAKE

// y[batch, slice] = what is there (`onto`) or nothing, combined with x[batch, tuple] of all tuples that name it. A block of
// 256 threads has one tuple and 1024 elements of the slices: that tuple's `tile`.
template <class T>
__device__ inline void combineSlices(const void *x, Stored xStored, void *y, Stored yStored, const Slices &s, i64 tiles,
                                     Combine kind, int onto) {
  constexpr int threads = 256, each = 4, chunk = 1024;
  __shared__ unsigned named[chunk / 32]; // a bit for each tuple of a chunk
  const i64 block = blockIdx.x, at = block / tiles, batch = at / s.count, tuple = at % s.count;
  const i64 slice = sliceOf(s, batch, tuple);
  if (slice < 0)
    return;
  for (i64 before = 0; before < tuple; before += threads) {
    const i64 other = before + threadIdx.x;
    if (__syncthreads_or(other < tuple && sliceOf(s, batch, other) == slice))
      return;
  }
  T sum[each];
  const i64 column = block % tiles * threads * each + threadIdx.x;
  const i64 target = (batch * s.slices + slice) * s.inner, source = (batch * s.count + tuple) * s.inner;
  for (int k = 0; k < each; ++k)
    if (column + k * threads < s.inner) {
      sum[k] = loadElement<T>(x, source + column + k * threads, xStored);
      if (onto)
        sum[k] = combined(kind, loadElement<T>(y, target + column + k * threads, yStored), sum[k]);
    }
  for (i64 begin = tuple + 1; begin < s.count; begin += chunk) {
    for (int k = threadIdx.x; k < chunk; k += threads) {
      const i64 other = begin + k;
      const unsigned bits = __ballot_sync(wholeWarp, other < s.count && sliceOf(s, batch, other) == slice);
      if (threadIdx.x % 32 == 0)
        named[k / 32] = bits;
    }
    __syncthreads();
    for (int word = 0; word < chunk / 32; ++word)
      for (unsigned bits = named[word]; bits; bits &= bits - 1) {
        const i64 from = (batch * s.count + begin + word * 32 + __ffs(static_cast<int>(bits)) - 1) * s.inner;
        for (int k = 0; k < each; ++k)
          if (column + k * threads < s.inner)
            sum[k] = combined(kind, sum[k], loadElement<T>(x, from + column + k * threads, xStored));
      }
    __syncthreads();
  }
  for (int k = 0; k < each; ++k)
    if (column + k * threads < s.inner)
      storeElement<T>(y, target + column + k * threads, sum[k], yStored);
}
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      combine_slices_##suffix(const void *x, int xStored, void *y, int yStored, const __grid_constant__ Slices s,      \
                              i64 tiles, int kind, int onto) {                                                         \
    combineSlices<T>(x, static_cast<Stored>(xStored), y, static_cast<Stored>(yStored), s, tiles,                       \
                     static_cast<Combine>(kind), onto);                                                                \
  }
AMC_FOR_COMPUTE(MAKE)
#undef MAKE

// ---- along lines

// y, row by row of the indices, takes x at the index along the axis: `x` walks over the other dimensions.
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void gather_elements_##suffix(const T *x, T *y, const void *indices, int wide, i64 limit,      \
                                                      i64 step, const __grid_constant__ Strided others, u64 *failure) { \
    const i64 i = globalThread();                                                                                      \
    if (i >= others.elements)                                                                                          \
      return;                                                                                                          \
    const i64 index = checkedIndex(indices, wide, i, limit, failure);                                                  \
    y[i] = index >= 0 ? x[others.offsetOf(i) + index * step] : static_cast<T>(0);                                      \
  }
AMC_FOR_WIDTHS(MAKE)
#undef MAKE

// A thread has one update.
template <class T>
__device__ inline void combineElements(const void *x, void *y, Stored stored, const Lines &lines, Combine kind) {
  const i64 thread = globalThread(), count = lines.ids.elements;
  if (thread >= count * lines.length)
    return;
  const i64 line = lines.innermost ? thread / lines.length : thread % count;
  const i64 i = lines.innermost ? thread % lines.length : thread / count, start = lines.ids.offsetOf(line);
  auto indexOf = [&](i64 k) {
    return checkedIndex(lines.indices, lines.wide, start + k * lines.idStep, lines.limit, lines.failure);
  };
  const i64 index = indexOf(i);
  if (index < 0)
    return;
  for (i64 k = i; k-- > 0;)
    if (indexOf(k) == index)
      return;
  const i64 target = lines.x.offsetOf(line) + index * lines.xStep;
  T value = combined(kind, loadElement<T>(y, target, stored), loadElement<T>(x, start + i * lines.idStep, stored));
  for (i64 k = i + 1; k < lines.length; ++k)
    if (indexOf(k) == index)
      value = combined(kind, value, loadElement<T>(x, start + k * lines.idStep, stored));
  storeElement<T>(y, target, value, stored);
}
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void combine_elements_##suffix(const void *x, void *y, int stored,                             \
                                                       const __grid_constant__ Lines lines, int kind) {                \
    combineElements<T>(x, y, static_cast<Stored>(stored), lines, static_cast<Combine>(kind));                          \
  }
AMC_FOR_COMPUTE(MAKE)
#undef MAKE

// y[outer, axis, inner]: `one`, the bits of 1, where the index is that of the axis. An index out of range is none.
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void one_hot_##suffix(const void *indices, int wide, T *y, i64 n, i64 axis, i64 inner,         \
                                              u64 one) {                                                               \
    const i64 i = globalThread();                                                                                      \
    if (i >= n)                                                                                                        \
      return;                                                                                                          \
    const i64 value = rawIndex(indices, wide, i / inner / axis * inner + i % inner);                                   \
    y[i] = (value < 0 ? value + axis : value) == i / inner % axis ? static_cast<T>(one) : static_cast<T>(0);           \
  }
AMC_FOR_WIDTHS(MAKE)
#undef MAKE
