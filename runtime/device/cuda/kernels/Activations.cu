// gated_activation and its gradients, silu_backward, gelu_backward; f16 and bf16 in fp32, rounded once. An element is a
// thread's, which reads all operands before it writes, so that results may stand in operands.
#include "Stored.cuh"

using namespace amc;

namespace {

enum class Act { Silu, Gelu, GeluTanh, Relu };

template <class T> __device__ inline T innerTanh(T x) { return tanh(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x)); }

template <Act act, class T> __device__ inline T activation(T x) {
  if constexpr (act == Act::Silu)
    return x / (1 + exp(-x));
  else if constexpr (act == Act::Gelu)
    return T(0.5) * x * (1 + erf(x * T(0.70710678118654752440)));
  else if constexpr (act == Act::GeluTanh)
    return T(0.5) * x * (1 + innerTanh(x));
  else
    return x > 0 ? x : x <= 0 ? T(0) : x;
}

template <Act act, class T> __device__ inline T slope(T x) {
  if constexpr (act == Act::Silu) {
    const T s = 1 / (1 + exp(-x));
    return s * (1 + x * (1 - s));
  } else if constexpr (act == Act::Gelu) {
    return T(0.5) * (1 + erf(x * T(0.70710678118654752440))) + x * exp(T(-0.5) * x * x) * T(0.39894228040143267794);
  } else if constexpr (act == Act::GeluTanh) {
    const T t = innerTanh(x);
    return T(0.5) * (1 + t) + T(0.5) * x * (1 - t * t) * T(0.79788456080286535588) * (1 + T(3 * 0.044715) * x * x);
  } else {
    return x > 0 ? T(1) : T(0);
  }
}

template <Act act, class T> __device__ inline void gated(const void *gate, const void *up, void *y, i64 n, Stored stored) {
  const i64 i = globalThread();
  if (i < n)
    storeElement<T>(y, i, activation<act>(loadElement<T>(gate, i, stored)) * loadElement<T>(up, i, stored), stored);
}

template <Act act, class T>
__device__ inline void gatedBackward(const void *dy, const void *gate, const void *up, void *dgate, void *dup, i64 n, Stored stored) {
  const i64 i = globalThread();
  if (i >= n)
    return;
  const T d = loadElement<T>(dy, i, stored), g = loadElement<T>(gate, i, stored), u = loadElement<T>(up, i, stored);
  storeElement<T>(dgate, i, d * u * slope<act>(g), stored);
  storeElement<T>(dup, i, d * activation<act>(g), stored);
}

template <Act act, class T> __device__ inline void backward(const void *dy, const void *x, void *dx, i64 n, Stored stored) {
  const i64 i = globalThread();
  if (i < n)
    storeElement<T>(dx, i, loadElement<T>(dy, i, stored) * slope<act>(loadElement<T>(x, i, stored)), stored);
}

} // namespace

#define MAKE_ACT(act, name, T, suffix)                                                                                 \
  extern "C" __global__ void gated_activation_##name##_##suffix(const void *gate, const void *up, void *y, i64 n,      \
                                                                int stored) {                                          \
    gated<act, T>(gate, up, y, n, static_cast<Stored>(stored));                                                        \
  }                                                                                                                    \
  extern "C" __global__ void gated_activation_backward_##name##_##suffix(                                              \
      const void *dy, const void *gate, const void *up, void *dgate, void *dup, i64 n, int stored) {                   \
    gatedBackward<act, T>(dy, gate, up, dgate, dup, n, static_cast<Stored>(stored));                                   \
  }                                                                                                                    \
  extern "C" __global__ void backward_##name##_##suffix(const void *dy, const void *x, void *dx, i64 n, int stored) {  \
    backward<act, T>(dy, x, dx, n, static_cast<Stored>(stored));                                                       \
  }
#define MAKE(T, suffix)                                                                                                \
  MAKE_ACT(Act::Silu, silu, T, suffix)                                                                                 \
  MAKE_ACT(Act::Gelu, gelu, T, suffix)                                                                                 \
  MAKE_ACT(Act::GeluTanh, gelu_tanh, T, suffix)                                                                        \
  MAKE_ACT(Act::Relu, relu, T, suffix)
AMC_FOR_WIDE(MAKE)
#undef MAKE
