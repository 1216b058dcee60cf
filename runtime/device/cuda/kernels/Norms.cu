// rms_norm, layer_norm and their gradients where they are no part of a fused group: f32, f64 and bf16, computed in fp32 (f64 for
// f64). A block has a row, in backward some rows one after the other, whose parts of dweight and dbias it adds up for itself;
// the blocks' parts are added by another kernel, ascending. A thread reads an element before it writes there, so dx may stand
// in dy or x, and y in x. Formulas: compiler/dialect/NormOps.td.
#include "Common.cuh"

using namespace amc;

namespace {

constexpr int threads = 256;

template <class S> __device__ WideOf<S> weightAt(const S *w, int i) { return w ? widen(w[i]) : WideOf<S>(1); }

template <class S> __device__ void rmsNorm(const S *x, const S *w, S *y, WideOf<S> *rstd, int n, double epsilon) {
  using T = WideOf<S>;
  __shared__ T partial[32];
  const i64 at = static_cast<i64>(blockIdx.x) * n;
  T squares = T(0);
  for (int i = threadIdx.x; i < n; i += threads) {
    const T v = widen(x[at + i]);
    squares += v * v;
  }
  const T r = T(1) / sqrt(sumOfBlock(squares, partial) / static_cast<T>(n) + static_cast<T>(epsilon));
  if (threadIdx.x == 0)
    rstd[blockIdx.x] = r;
  for (int i = threadIdx.x; i < n; i += threads)
    y[at + i] = narrow<S>(widen(x[at + i]) * r * weightAt(w, i));
}

template <class S>
__device__ void layerNorm(const S *x, const S *w, const S *b, S *y, WideOf<S> *mean, WideOf<S> *rstd, int n, double epsilon) {
  using T = WideOf<S>;
  __shared__ T partial[32];
  const i64 at = static_cast<i64>(blockIdx.x) * n;
  T sum = T(0), squares = T(0);
  for (int i = threadIdx.x; i < n; i += threads)
    sum += widen(x[at + i]);
  const T m = sumOfBlock(sum, partial) / static_cast<T>(n);
  for (int i = threadIdx.x; i < n; i += threads) {
    const T d = widen(x[at + i]) - m;
    squares += d * d;
  }
  const T r = T(1) / sqrt(sumOfBlock(squares, partial) / static_cast<T>(n) + static_cast<T>(epsilon));
  if (threadIdx.x == 0) {
    mean[blockIdx.x] = m;
    rstd[blockIdx.x] = r;
  }
  for (int i = threadIdx.x; i < n; i += threads)
    y[at + i] = narrow<S>((widen(x[at + i]) - m) * r * weightAt(w, i) + (b ? widen(b[i]) : T(0)));
}

// Rows that a block has, and where the sums of its rows go: `pitch` elements from one block's to the next.
struct RowBlock {
  i64 rows;
  int each, n;
  i64 pitch;
};

template <class S>
__device__ void rmsBackward(const S *dy, const S *x, const WideOf<S> *rstd, const S *w, S *dx, WideOf<S> *dweight, const RowBlock &block) {
  using T = WideOf<S>;
  __shared__ T partial[32];
  const int n = block.n;
  const i64 first = static_cast<i64>(blockIdx.x) * block.each;
  T *dw = dweight ? dweight + blockIdx.x * block.pitch : nullptr;
  for (i64 row = first; row < min(first + block.each, block.rows); ++row) {
    const i64 at = row * n;
    const T r = rstd[row];
    T sum = T(0);
    for (int i = threadIdx.x; i < n; i += threads)
      sum += widen(dy[at + i]) * weightAt(w, i) * widen(x[at + i]);
    const T slope = r * r * (sumOfBlock(sum, partial) / static_cast<T>(n));
    for (int i = threadIdx.x; i < n; i += threads) {
      const T d = widen(dy[at + i]), v = widen(x[at + i]);
      if (dw)
        dw[i] = (row > first ? dw[i] : T(0)) + d * v * r;
      dx[at + i] = narrow<S>(r * (d * weightAt(w, i) - v * slope));
    }
  }
}

// dbias stands behind the blocks' dweight.
template <class S>
__device__ void layerBackward(const S *dy, const S *x, const WideOf<S> *mean, const WideOf<S> *rstd, const S *w, S *dx,
                              WideOf<S> *dweight, const RowBlock &block) {
  using T = WideOf<S>;
  __shared__ T partial[32];
  const int n = block.n;
  const i64 first = static_cast<i64>(blockIdx.x) * block.each;
  T *dw = dweight ? dweight + blockIdx.x * block.pitch : nullptr, *db = dweight ? dw + gridDim.x * block.pitch : nullptr;
  for (i64 row = first; row < min(first + block.each, block.rows); ++row) {
    const i64 at = row * n;
    const T m = mean[row], r = rstd[row];
    T sum = T(0), product = T(0);
    for (int i = threadIdx.x; i < n; i += threads) {
      const T g = widen(dy[at + i]) * weightAt(w, i);
      sum += g;
      product += g * (widen(x[at + i]) - m) * r;
    }
    sum = sumOfBlock(sum, partial) / static_cast<T>(n);
    product = sumOfBlock(product, partial) / static_cast<T>(n);
    for (int i = threadIdx.x; i < n; i += threads) {
      const T d = widen(dy[at + i]), h = (widen(x[at + i]) - m) * r;
      if (dw) {
        dw[i] = (row > first ? dw[i] : T(0)) + d * h;
        db[i] = (row > first ? db[i] : T(0)) + d;
      }
      dx[at + i] = narrow<S>(r * (d * weightAt(w, i) - sum - h * product));
    }
  }
}

// The sums of `blocks` rows of parts, ascending.
template <class R> __device__ void sumBlocks(const WideOf<R> *parts, i64 blocks, i64 pitch, int n, R *sums) {
  const i64 i = globalThread();
  if (i >= n)
    return;
  WideOf<R> sum = 0;
  for (i64 block = 0; block < blocks; ++block)
    sum += parts[block * pitch + i];
  sums[i] = narrow<R>(sum);
}

} // namespace

#define MAKE(S, suffix)                                                                                                \
  extern "C" __global__ void __launch_bounds__(threads)                                                                \
      rms_norm_##suffix(const S *x, const S *w, S *y, WideOf<S> *rstd, int n, double epsilon) {                        \
    rmsNorm<S>(x, w, y, rstd, n, epsilon);                                                                             \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(threads)                                                                \
      layer_norm_##suffix(const S *x, const S *w, const S *b, S *y, WideOf<S> *mean, WideOf<S> *rstd, int n, double epsilon) { \
    layerNorm<S>(x, w, b, y, mean, rstd, n, epsilon);                                                                  \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(threads)                                                                \
      rms_norm_backward_##suffix(const S *dy, const S *x, const WideOf<S> *rstd, const S *w, S *dx, WideOf<S> *parts,  \
                                 i64 rows, int each, int n, i64 pitch) {                                               \
    rmsBackward<S>(dy, x, rstd, w, dx, parts, {rows, each, n, pitch});                                                 \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(threads)                                                                \
      layer_norm_backward_##suffix(const S *dy, const S *x, const WideOf<S> *mean, const WideOf<S> *rstd, const S *w, S *dx, \
                                   WideOf<S> *parts, i64 rows, int each, int n, i64 pitch) {                           \
    layerBackward<S>(dy, x, mean, rstd, w, dx, parts, {rows, each, n, pitch});                                         \
  }                                                                                                                    \
  extern "C" __global__ void norm_sums_##suffix(const WideOf<S> *parts, i64 blocks, i64 pitch, int n, S *sums) {       \
    sumBlocks<S>(parts, blocks, pitch, n, sums);                                                                       \
  }
AMC_FOR_DATA(MAKE)
MAKE(double, f64)
#undef MAKE
