// rotary and rotary_backward: f32, f64 and bf16, computed in fp32 and rounded once; a thread turns a pair, which it reads before
// it writes, so that y may be x.
#include "Common.cuh"
#include "runtime/device/cuda/kernels/Rotary.h"

using namespace amc;

template <class S> __device__ inline WideOf<S> tableValue(const RotaryTable &table, i64 at) {
  if (table.narrow)
    return widen(static_cast<const __nv_bfloat16 *>(table.data)[at]);
  return static_cast<const WideOf<S> *>(table.data)[at];
}

template <class S> __device__ inline void rotate(const S *x, S *y, const Rotary &r) {
  using T = WideOf<S>;
  const i64 pair = globalThread();
  if (pair >= r.pairs)
    return;
  const i64 row = pair / r.half, i = pair % r.half;
  const i64 s = row % r.length, h = row / r.length % r.heads, b = row / r.length / r.heads;
  const i64 p = r.interleaved ? 2 * i : i, q = r.interleaved ? p + 1 : i + r.half, base = row * 2 * r.half;
  auto value = [&](const RotaryTable &table, i64 column) {
    return tableValue<S>(table, b * table.strides[0] + h * table.strides[1] + s * table.strides[2] + column * table.strides[3]);
  };
  const T first = widen(x[base + p]), second = widen(x[base + q]);
  const T cosP = value(r.cos, p), cosQ = value(r.cos, q), sinP = value(r.sin, p), sinQ = value(r.sin, q);
  y[base + p] = narrow<S>(r.backward ? first * cosP + second * sinQ : first * cosP - second * sinP);
  y[base + q] = narrow<S>(r.backward ? second * cosQ - first * sinP : second * cosQ + first * sinQ);
}

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void rotary_##suffix(const T *x, T *y, const __grid_constant__ Rotary r) { rotate(x, y, r); }
AMC_FOR_DATA(MAKE)
MAKE(double, f64)
#undef MAKE
