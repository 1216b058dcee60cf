// squared_norm, sum_scalars, clip_scale, accumulate, adamw, sgd.
//
// f64, and f32 and bf16 in any mixture, computed in fp32, each updated value rounded once. Squares are added up in double:
// threads take elements of their own, a block adds its threads' sums in a tree, one block adds the blocks'. Updates are in
// place, an element a thread at a time, over as many blocks as fill a GPU. What a step's scalars come to is computed in double.
#include "Common.cuh"
#include "runtime/device/cuda/kernels/Optimizer.h"

using namespace amc;

namespace {

__device__ inline i64 gridThreads() { return static_cast<i64>(gridDim.x) * blockDim.x; }

__device__ inline float loadFloat(const Updated &x, i64 i) {
  return x.narrow ? __bfloat162float(static_cast<const __nv_bfloat16 *>(x.data)[i]) : static_cast<const float *>(x.data)[i];
}
__device__ inline void storeFloat(const Updated &x, i64 i, float value) {
  if (x.narrow)
    static_cast<__nv_bfloat16 *>(x.data)[i] = __float2bfloat16_rn(value);
  else
    static_cast<float *>(x.data)[i] = value;
}

} // namespace

// The sum of the squares of each block's elements; `each` of them to a block, in pieces of 256.
template <class T> __device__ inline void squaredNorm(const T *x, double *sums, i64 n, i64 each) {
  __shared__ double partial[32];
  const i64 begin = blockIdx.x * each, end = begin + each < n ? begin + each : n;
  double sum = 0;
  for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const double value = static_cast<double>(widen(x[i]));
    sum += value * value;
  }
  sum = sumOfBlock(sum, partial);
  if (threadIdx.x == 0)
    sums[blockIdx.x] = sum;
}
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void squared_norm_##suffix(const T *x, double *sums, i64 n, i64 each) {                        \
    squaredNorm(x, sums, n, each);                                                                                     \
  }
AMC_FOR_DATA(MAKE)
MAKE(double, f64)
#undef MAKE

// y = the sum of x, by one block.
extern "C" __global__ void sum_doubles(const double *x, double *y, i64 n) {
  __shared__ double partial[32];
  double sum = 0;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x)
    sum += x[i];
  sum = sumOfBlock(sum, partial);
  if (threadIdx.x == 0)
    *y = sum;
}

// Of scalars a block of 256 threads reads them at once; one adds them up, ascending, to what a launch before left in `carry`.
__device__ inline double sumOfScalars(const Scalars &x, const double *carry) {
  __shared__ double values[Scalars::most];
  for (int i = threadIdx.x; i < x.count; i += blockDim.x)
    values[i] = *x.at[i];
  __syncthreads();
  double sum = carry ? *carry : 0;
  for (int i = 0; i < x.count; ++i)
    sum += values[i];
  return sum;
}

extern "C" __global__ void sum_scalars(const __grid_constant__ Scalars x, const double *carry, double *y) {
  const double sum = sumOfScalars(x, carry);
  if (threadIdx.x == 0)
    *y = sum;
}

extern "C" __global__ void clip_scale(const __grid_constant__ Scalars x, const double *carry, float *norm, float *scale,
                                      double limit) {
  const double total = sqrt(sumOfScalars(x, carry)), factor = limit / (total + 1e-6);
  if (threadIdx.x > 0)
    return;
  *norm = static_cast<float>(total);
  *scale = limit == 0 ? 1.0f : static_cast<float>(factor < 1 || factor != factor ? factor : 1.0);
}

// y becomes x in the first micro-batch, y + x in the others.
extern "C" __global__ void accumulate_f32(const __grid_constant__ Updated y, const __grid_constant__ Updated x,
                                          const i64 *microBatch, i64 n) {
  const bool first = *microBatch == 0;
  for (i64 i = globalThread(); i < n; i += gridThreads())
    storeFloat(y, i, first ? loadFloat(x, i) : loadFloat(y, i) + loadFloat(x, i));
}
extern "C" __global__ void accumulate_f64(const __grid_constant__ Updated y, const __grid_constant__ Updated x,
                                          const i64 *microBatch, i64 n) {
  const bool first = *microBatch == 0;
  double *to = static_cast<double *>(y.data);
  const double *from = static_cast<const double *>(x.data);
  for (i64 i = globalThread(); i < n; i += gridThreads())
    to[i] = first ? from[i] : to[i] + from[i];
}

// ---- adamw

template <class T> struct AdamWScalars {
  T gradientScale, decay, oneMinusBeta1, beta2, oneMinusBeta2, stepSize, sqrtCorrection2, epsilon;
};

template <class T> __device__ inline AdamWScalars<T> scalarsOf(const AdamW &a) {
  const double step = static_cast<double>(*a.step), rate = *a.learningRate;
  return {static_cast<T>(*a.scale),
          static_cast<T>(1 - rate * a.weightDecay),
          static_cast<T>(1 - a.beta1),
          static_cast<T>(a.beta2),
          static_cast<T>(1 - a.beta2),
          static_cast<T>(rate / (1 - pow(a.beta1, step))),
          static_cast<T>(sqrt(1 - pow(a.beta2, step))),
          static_cast<T>(a.epsilon)};
}

template <class T>
__device__ inline void updateAdamW(T &p, T g, T &m, T &v, const AdamWScalars<T> &s) {
  g *= s.gradientScale;
  p *= s.decay;
  m += (g - m) * s.oneMinusBeta1;
  v = v * s.beta2 + g * g * s.oneMinusBeta2;
  p -= s.stepSize * (m / (sqrt(v) / s.sqrtCorrection2 + s.epsilon));
}

extern "C" __global__ void adamw_f32(const __grid_constant__ AdamW a) {
  __shared__ AdamWScalars<float> shared;
  if (threadIdx.x == 0)
    shared = scalarsOf<float>(a);
  __syncthreads();
  const AdamWScalars<float> s = shared;
  for (i64 i = globalThread(); i < a.n; i += gridThreads()) {
    const Updated &held = a.master.data ? a.master : a.parameter;
    float p = loadFloat(held, i), m = loadFloat(a.first, i), v = loadFloat(a.second, i);
    updateAdamW(p, loadFloat(a.gradient, i), m, v, s);
    storeFloat(a.parameter, i, p);
    if (a.master.data)
      storeFloat(a.master, i, p);
    storeFloat(a.first, i, m);
    storeFloat(a.second, i, v);
  }
}

extern "C" __global__ void adamw_f64(const __grid_constant__ AdamW a) {
  __shared__ AdamWScalars<double> shared;
  if (threadIdx.x == 0)
    shared = scalarsOf<double>(a);
  __syncthreads();
  const AdamWScalars<double> s = shared;
  auto at = [](const Updated &x) { return static_cast<double *>(x.data); };
  for (i64 i = globalThread(); i < a.n; i += gridThreads())
    updateAdamW(at(a.parameter)[i], at(a.gradient)[i], at(a.first)[i], at(a.second)[i], s);
}

// ---- sgd

template <class T> struct SgdScalars {
  T scale, weightDecay, momentum, rate;
  bool hasMomentum, first, nesterov;
};

template <class T> __device__ inline SgdScalars<T> scalarsOf(const Sgd &s) {
  return {static_cast<T>(*s.scale), static_cast<T>(s.weightDecay), static_cast<T>(s.momentum), static_cast<T>(*s.learningRate),
          s.momentum != 0,          *s.step == 1,                  s.nesterov != 0};
}

template <class T> __device__ inline void updateSgd(T &p, T g, T &b, const SgdScalars<T> &s) {
  g = g * s.scale + s.weightDecay * p;
  if (s.hasMomentum) {
    b = s.first ? g : s.momentum * b + g;
    g = s.nesterov ? g + s.momentum * b : b;
  }
  p -= s.rate * g;
}

extern "C" __global__ void sgd_f32(const __grid_constant__ Sgd a) {
  const SgdScalars<float> s = scalarsOf<float>(a);
  for (i64 i = globalThread(); i < a.n; i += gridThreads()) {
    const Updated &held = a.master.data ? a.master : a.parameter;
    float p = loadFloat(held, i), b = s.hasMomentum ? loadFloat(a.buffer, i) : 0;
    updateSgd(p, loadFloat(a.gradient, i), b, s);
    storeFloat(a.parameter, i, p);
    if (a.master.data)
      storeFloat(a.master, i, p);
    if (s.hasMomentum)
      storeFloat(a.buffer, i, b);
  }
}

extern "C" __global__ void sgd_f64(const __grid_constant__ Sgd a) {
  const SgdScalars<double> s = scalarsOf<double>(a);
  auto at = [](const Updated &x) { return static_cast<double *>(x.data); };
  for (i64 i = globalThread(); i < a.n; i += gridThreads()) {
    double b = s.hasMomentum ? at(a.buffer)[i] : 0;
    updateSgd(at(a.parameter)[i], at(a.gradient)[i], b, s);
    if (s.hasMomentum)
      at(a.buffer)[i] = b;
  }
}
