// softmax, log_softmax and their gradients; f32, f64 and bf16, in fp32 and rounded once.
//
// Rows along the innermost axis have a block each, whose threads add up elements of their own and then each other's in a tree;
// lines along another axis a thread each, ascending. Every element is read by the thread that writes it, in the last pass, so
// results may stand in operands.
#include "Common.cuh"

using namespace amc;

namespace {

enum class Kind { Softmax, LogSoftmax, SoftmaxBackward, LogSoftmaxBackward };
template <Kind kind> constexpr bool isBackward = kind == Kind::SoftmaxBackward || kind == Kind::LogSoftmaxBackward;

template <class T> __device__ inline T negativeInfinity() { return static_cast<T>(-__int_as_float(0x7f800000)); }

// What a pass over a row adds up, for the forward kinds once the largest is known; a is x, or dy, and b y.
template <Kind kind, class T> __device__ inline T term(T a, T b, T top) {
  if constexpr (kind == Kind::SoftmaxBackward)
    return a * b;
  else if constexpr (kind == Kind::LogSoftmaxBackward)
    return a;
  else
    return exp(a - top);
}
// `sum` of the terms; for log_softmax its logarithm, for softmax its reciprocal.
template <Kind kind, class T> __device__ inline T result(T a, T b, T top, T sum) {
  if constexpr (kind == Kind::Softmax)
    return exp(a - top) * sum;
  else if constexpr (kind == Kind::LogSoftmax)
    return a - top - sum;
  else if constexpr (kind == Kind::SoftmaxBackward)
    return b * (a - sum);
  else
    return a - exp(b) * sum;
}
template <Kind kind, class T> __device__ inline T ofSum(T sum) {
  return kind == Kind::Softmax ? 1 / sum : kind == Kind::LogSoftmax ? log(sum) : sum;
}

template <Kind kind, class S> __device__ inline void row(const S *a, const S *b, S *y, i64 n) {
  using T = WideOf<S>;
  __shared__ T partial[32];
  a += blockIdx.x * n;
  b += blockIdx.x * n;
  y += blockIdx.x * n;
  T top = negativeInfinity<T>(), sum = 0;
  if constexpr (!isBackward<kind>) {
    for (i64 i = threadIdx.x; i < n; i += blockDim.x)
      top = max(top, widen(a[i]));
    top = maxOfBlock(top, partial);
  }
  for (i64 i = threadIdx.x; i < n; i += blockDim.x)
    sum += term<kind>(widen(a[i]), kind == Kind::SoftmaxBackward ? widen(b[i]) : T(0), top);
  sum = ofSum<kind>(sumOfBlock(sum, partial));
  for (i64 i = threadIdx.x; i < n; i += blockDim.x)
    y[i] = narrow<S>(result<kind>(widen(a[i]), isBackward<kind> ? widen(b[i]) : T(0), top, sum));
}

template <Kind kind, class S> __device__ inline void line(const S *a, const S *b, S *y, i64 lines, i64 n, i64 inner) {
  using T = WideOf<S>;
  const i64 thread = globalThread();
  if (thread >= lines)
    return;
  const i64 at = thread / inner * n * inner + thread % inner;
  a += at;
  b += at;
  y += at;
  T top = negativeInfinity<T>(), sum = 0;
  if constexpr (!isBackward<kind>)
    for (i64 i = 0; i < n; ++i)
      top = max(top, widen(a[i * inner]));
  for (i64 i = 0; i < n; ++i)
    sum += term<kind>(widen(a[i * inner]), kind == Kind::SoftmaxBackward ? widen(b[i * inner]) : T(0), top);
  sum = ofSum<kind>(sum);
  for (i64 i = 0; i < n; ++i)
    y[i * inner] = narrow<S>(result<kind>(widen(a[i * inner]), isBackward<kind> ? widen(b[i * inner]) : T(0), top, sum));
}

} // namespace

// Of the forward kinds b is a.
#define MAKE_KIND(name, kind, S, suffix)                                                                               \
  extern "C" __global__ void name##_row_##suffix(const S *a, const S *b, S *y, i64 n) { row<kind>(a, b, y, n); }       \
  extern "C" __global__ void name##_line_##suffix(const S *a, const S *b, S *y, i64 lines, i64 n, i64 inner) {         \
    line<kind>(a, b, y, lines, n, inner);                                                                              \
  }
#define MAKE(S, suffix)                                                                                                \
  MAKE_KIND(softmax, Kind::Softmax, S, suffix)                                                                         \
  MAKE_KIND(log_softmax, Kind::LogSoftmax, S, suffix)                                                                  \
  MAKE_KIND(softmax_backward, Kind::SoftmaxBackward, S, suffix)                                                        \
  MAKE_KIND(log_softmax_backward, Kind::LogSoftmaxBackward, S, suffix)
AMC_FOR_DATA(MAKE)
MAKE(double, f64)
#undef MAKE
