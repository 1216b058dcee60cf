// Elements to other places.
#include "Common.cuh"
#include "runtime/device/cuda/kernels/Strided.h"

using namespace amc;

// y, row by row of its shape, takes x at the strides of the same dimensions.
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void strided_copy_##suffix(const T *x, T *y, Strided from) {                                   \
    const i64 i = globalThread();                                                                                      \
    if (i < from.elements)                                                                                             \
      y[i] = x[from.offsetOf(i)];                                                                                      \
  }
AMC_FOR_WIDTHS(MAKE)
#undef MAKE

// x, row by row, goes to y at strides.
#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void strided_store_##suffix(const T *x, T *y, Strided to) {                                    \
    const i64 i = globalThread();                                                                                      \
    if (i < to.elements)                                                                                               \
      y[to.offsetOf(i)] = x[i];                                                                                        \
  }
AMC_FOR_WIDTHS(MAKE)
#undef MAKE
