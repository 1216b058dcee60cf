// A unary function for each arithmetic type: `value` is an expression of x, of type T, and of `parameter`.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_UNARY_CUH
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_UNARY_CUH

#include "Stored.cuh"

#define AMC_UNARY(name, S, suffix, value)                                                                              \
  extern "C" __global__ void unary_##name##_##suffix(const void *from, void *to, i64 n, int stored, double parameter) { \
    using T = S;                                                                                                       \
    const i64 i = globalThread();                                                                                      \
    if (i >= n)                                                                                                        \
      return;                                                                                                          \
    const T x = loadElement<T>(from, i, static_cast<Stored>(stored));                                                  \
    storeElement<T>(to, i, value, static_cast<Stored>(stored));                                                        \
  }
#define AMC_REAL_UNARY(name, value) AMC_UNARY(name, float, f32, value) AMC_UNARY(name, double, f64, value)

#endif
