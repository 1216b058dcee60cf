// shift_labels, cross_entropy, cross_entropy_backward: of logits in f32, bf16 and f16 in fp32, of f64 in f64.
//
// A row of logits is a block's: threads look at classes of their own, then add up in a tree. The rows' losses are added up by
// one block, in another. dlogits may stand in the logits: an element is read by the thread that writes it. A label outside of
// [0, classes) that is not the ignored one is a failure, and its row is taken for an ignored one.
#include "Common.cuh"
#include "runtime/device/cuda/kernels/Loss.h"

using namespace amc;

namespace {

template <class T> __device__ inline T weightOf(const LossRows &loss, i64 at) {
  return loss.weights ? static_cast<const T *>(loss.weights)[at] : T(1);
}

// The label of a row, or -1: it counts for nothing.
__device__ inline i64 labelOf(const LossRows &loss, i64 row) {
  const i64 label = loss.labels[row];
  if (label == loss.ignored)
    return -1;
  if (label >= 0 && label < loss.classes)
    return label;
  fail(loss.failure, row, label);
  return -1;
}

} // namespace

// y[r, c] = x[r, c + 1], and the ignored label at the end.
extern "C" __global__ void shift_labels(const i64 *x, i64 *y, i64 n, i64 columns, i64 ignored) {
  const i64 i = globalThread();
  if (i < n)
    y[i] = i % columns + 1 < columns ? x[i + 1] : ignored;
}

template <class S> __device__ inline void rowLoss(const S *logits, WideOf<S> *losses, WideOf<S> *lse, const LossRows &loss) {
  using T = WideOf<S>;
  __shared__ T partial[32];
  const i64 row = blockIdx.x, n = loss.classes;
  const S *z = logits + row * n;
  const T infinite = static_cast<T>(__int_as_float(0x7f800000));
  T top = -infinite, sum = 0, weighted = 0, total = 0;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x)
    top = max(top, widen(z[i]));
  top = maxOfBlock(top, partial);
  // If all are -infinity, so is the result; NaN passes through the sum.
  const T from = top == -infinite ? T(0) : top;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) {
    const T value = widen(z[i]);
    sum += exp(value - from);
    if (loss.onAll != 0) {
      const T w = weightOf<T>(loss, i);
      weighted += w * value;
      total += w;
    }
  }
  sum = sumOfBlock(sum, partial);
  if (loss.onAll != 0) {
    weighted = sumOfBlock(weighted, partial);
    total = sumOfBlock(total, partial);
  }
  if (threadIdx.x > 0)
    return;
  const T l = from + log(sum);
  lse[row] = l;
  const i64 label = labelOf(loss, row);
  T value = 0;
  if (label >= 0) {
    value = static_cast<T>(loss.onLabel) * weightOf<T>(loss, label) * (l - widen(z[label]));
    if (loss.onAll != 0)
      value += static_cast<T>(loss.onAll) * (total * l - weighted);
    if (loss.zLoss != 0)
      value += static_cast<T>(loss.zLoss) * l * l;
  }
  losses[row] = value;
}

// The sum of the rows' losses, by one block.
template <class T> __device__ inline void sumLosses(const T *losses, T *loss, i64 rows) {
  __shared__ T partial[32];
  T sum = 0;
  for (i64 i = threadIdx.x; i < rows; i += blockDim.x)
    sum += losses[i];
  sum = sumOfBlock(sum, partial);
  if (threadIdx.x == 0)
    *loss = sum;
}

template <class S>
__device__ inline void rowGradient(const WideOf<S> *dloss, const S *logits, const WideOf<S> *lse, S *dlogits, const LossRows &loss) {
  using T = WideOf<S>;
  __shared__ T partial[32];
  const i64 row = blockIdx.x, n = loss.classes, label = labelOf(loss, row);
  const S *z = logits + row * n;
  S *dz = dlogits + row * n;
  if (label < 0) {
    for (i64 i = threadIdx.x; i < n; i += blockDim.x)
      dz[i] = narrow<S>(T(0));
    return;
  }
  const T onLabel = static_cast<T>(loss.onLabel) * weightOf<T>(loss, label), onAll = static_cast<T>(loss.onAll), l = lse[row];
  T sum = onLabel;
  if (loss.onAll != 0) {
    T total = static_cast<T>(n);
    if (loss.weights) {
      total = 0;
      for (i64 i = threadIdx.x; i < n; i += blockDim.x)
        total += weightOf<T>(loss, i);
      total = sumOfBlock(total, partial);
    }
    sum += onAll * total;
  }
  if (loss.zLoss != 0)
    sum += 2 * static_cast<T>(loss.zLoss) * l;
  const T scale = *dloss, factor = scale * sum, each = scale * onAll;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) {
    T value = factor * exp(widen(z[i]) - l);
    if (loss.onAll != 0)
      value -= each * weightOf<T>(loss, i);
    if (i == label)
      value -= scale * onLabel;
    dz[i] = narrow<S>(value);
  }
}

#define MAKE(S, suffix)                                                                                                \
  extern "C" __global__ void cross_entropy_##suffix(const S *logits, WideOf<S> *losses, WideOf<S> *lse,                \
                                                    const __grid_constant__ LossRows loss) {                           \
    rowLoss(logits, losses, lse, loss);                                                                                \
  }                                                                                                                    \
  extern "C" __global__ void cross_entropy_backward_##suffix(const WideOf<S> *dloss, const S *logits,                  \
                                                             const WideOf<S> *lse, S *dlogits,                         \
                                                             const __grid_constant__ LossRows loss) {                  \
    rowGradient(dloss, logits, lse, dlogits, loss);                                                                    \
  }
AMC_FOR_FLOATS(MAKE)
#undef MAKE

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void sum_losses_##suffix(const T *losses, T *loss, i64 rows) { sumLosses(losses, loss, rows); }
MAKE(float, f32)
MAKE(double, f64)
#undef MAKE
