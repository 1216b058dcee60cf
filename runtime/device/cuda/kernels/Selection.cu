// top_k, arg_max and cumsum along an axis, of any numbers.
//
// top_k and arg_max: ties go to the lower index (or the last one, if asked for), NaN comes first, whatever is asked for. A
// block has a line, and finds the best of what is left k times: made for the small k of routing. cumsum: of f16 and bf16 in
// fp32, of integers modulo 2^64; a block has a line along the innermost axis, in chunks of as many elements as it has threads,
// a thread has one along another. An element is read by the thread that writes it.
#include "Stored.cuh"

using namespace amc;

namespace {

// What is looked for among elements.
struct Order {
  int largest, last; // the smallest; of equals the first
};

template <class T> struct Found {
  T value;
  i64 index; // negative: nothing
};

template <class T> __device__ inline bool before(T a, T b, bool largest) {
  const bool nanA = a != a, nanB = b != b;
  if (nanA || nanB)
    return nanA && !nanB;
  return largest ? a > b : a < b;
}
// A total order; nothing comes last.
template <class T> __device__ inline bool ahead(const Found<T> &a, const Found<T> &b, Order order) {
  if (a.index < 0 || b.index < 0)
    return a.index >= 0;
  if (before(a.value, b.value, order.largest))
    return true;
  if (before(b.value, a.value, order.largest))
    return false;
  return order.last ? a.index > b.index : a.index < b.index;
}

// The first of all threads' in that order, for all of them.
template <class T> __device__ inline Found<T> firstOfBlock(Found<T> x, Order order, Found<T> *partial) {
  auto reduce = [&] {
    for (int step = 16; step > 0; step /= 2) {
      const Found<T> other{__shfl_xor_sync(wholeWarp, x.value, step), __shfl_xor_sync(wholeWarp, x.index, step)};
      if (ahead(other, x, order))
        x = other;
    }
  };
  reduce();
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  if (threadIdx.x % 32 == 0)
    partial[warp] = x;
  __syncthreads();
  x = partial[static_cast<int>(threadIdx.x % 32) < warps ? threadIdx.x % 32 : 0];
  reduce();
  __syncthreads();
  return x;
}

// The first element of the line behind `after`.
template <class T>
__device__ inline Found<T> firstOfLine(const void *x, Stored stored, i64 base, i64 axis, i64 inner, Order order,
                                       const Found<T> &after, Found<T> *partial) {
  Found<T> best{T(0), -1};
  for (i64 i = threadIdx.x; i < axis; i += blockDim.x) {
    const Found<T> one{loadElement<T>(x, base + i * inner, stored), i};
    if ((after.index < 0 || ahead(after, one, order)) && ahead(one, best, order))
      best = one;
  }
  return firstOfBlock(best, order, partial);
}

template <class T>
__device__ inline void topK(const void *x, void *values, i64 *indices, i64 axis, i64 inner, i64 k, Order order, Stored stored) {
  __shared__ Found<T> partial[32];
  const i64 line = blockIdx.x, in = line / inner * axis * inner + line % inner, out = line / inner * k * inner + line % inner;
  Found<T> found{T(0), -1};
  for (i64 place = 0; place < k; ++place) {
    found = firstOfLine(x, stored, in, axis, inner, order, found, partial);
    if (threadIdx.x == 0) {
      storeElement<T>(values, out + place * inner, found.value, stored);
      indices[out + place * inner] = found.index;
    }
  }
}

template <class T>
__device__ inline void argMax(const void *x, i64 *y, i64 axis, i64 inner, Order order, Stored stored) {
  __shared__ Found<T> partial[32];
  const i64 line = blockIdx.x, in = line / inner * axis * inner + line % inner;
  const Found<T> best = firstOfLine(x, stored, in, axis, inner, order, Found<T>{T(0), -1}, partial);
  if (threadIdx.x == 0)
    y[line] = best.index;
}

// ---- cumsum

template <class T> struct Wrapping { using type = T; };
template <> struct Wrapping<i64> { using type = u64; };

struct Scan {
  i64 axis, inner;
  int exclusive, reverse;
};

template <class T> __device__ inline void scanRow(const void *x, void *y, const Scan &scan, Stored stored) {
  using U = typename Wrapping<T>::type;
  __shared__ U totals[8];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const i64 base = blockIdx.x * scan.axis;
  U carry = 0;
  for (i64 begin = 0; begin < scan.axis; begin += blockDim.x) {
    const i64 i = begin + threadIdx.x, at = base + (scan.reverse ? scan.axis - 1 - i : i);
    const U own = i < scan.axis ? static_cast<U>(loadElement<T>(x, at, stored)) : U(0);
    U sum = own;
    for (int step = 1; step < 32; step *= 2) {
      const U other = __shfl_up_sync(wholeWarp, sum, step);
      if (lane >= step)
        sum += other;
    }
    if (lane == 31)
      totals[warp] = sum;
    const U previous = __shfl_up_sync(wholeWarp, sum, 1);
    __syncthreads();
    U before = carry;
    for (int w = 0; w < warps; ++w) {
      before += w < warp ? totals[w] : U(0);
      carry += totals[w];
    }
    before += lane > 0 ? previous : U(0);
    if (i < scan.axis)
      storeElement<T>(y, at, static_cast<T>(scan.exclusive ? before : before + own), stored);
    __syncthreads();
  }
}

template <class T> __device__ inline void scanLine(const void *x, void *y, i64 lines, const Scan &scan, Stored stored) {
  using U = typename Wrapping<T>::type;
  const i64 line = globalThread();
  if (line >= lines)
    return;
  const i64 base = line / scan.inner * scan.axis * scan.inner + line % scan.inner;
  U sum = 0;
  for (i64 i = 0; i < scan.axis; ++i) {
    const i64 at = base + (scan.reverse ? scan.axis - 1 - i : i) * scan.inner;
    const U own = static_cast<U>(loadElement<T>(x, at, stored));
    storeElement<T>(y, at, static_cast<T>(scan.exclusive ? sum : sum + own), stored);
    sum += own;
  }
}

} // namespace

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void top_k_##suffix(const void *x, void *values, i64 *indices, i64 axis, i64 inner, i64 k,     \
                                            int largest, int stored) {                                                 \
    topK<T>(x, values, indices, axis, inner, k, Order{largest, 0}, static_cast<Stored>(stored));                       \
  }                                                                                                                    \
  extern "C" __global__ void arg_max_##suffix(const void *x, i64 *y, i64 axis, i64 inner, int largest, int last,       \
                                              int stored) {                                                            \
    argMax<T>(x, y, axis, inner, Order{largest, last}, static_cast<Stored>(stored));                                   \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      cumsum_row_##suffix(const void *x, void *y, i64 axis, int exclusive, int reverse, int stored) {                  \
    scanRow<T>(x, y, Scan{axis, 1, exclusive, reverse}, static_cast<Stored>(stored));                                  \
  }                                                                                                                    \
  extern "C" __global__ void cumsum_line_##suffix(const void *x, void *y, i64 lines, i64 axis, i64 inner,              \
                                                  int exclusive, int reverse, int stored) {                            \
    scanLine<T>(x, y, lines, Scan{axis, inner, exclusive, reverse}, static_cast<Stored>(stored));                      \
  }
AMC_FOR_COMPUTE(MAKE)
#undef MAKE
