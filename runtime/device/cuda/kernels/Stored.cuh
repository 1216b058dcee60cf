// Elements of any type, told at run time, in the types arithmetic is done in: f32, f16 and bf16 in float, f64 in double,
// unsigned 64-bit integers in u64, all others (booleans as 0 or 1) in i64. As runtime/device/cpu/Compute.h has it.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_STORED_CUH
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_STORED_CUH

#include "Common.cuh"
#include "runtime/device/cuda/kernels/Stored.h"

namespace amc {

// Every element of a launch is of one type: the branches are the same for all threads.
template <class T> __device__ inline T loadElement(const void *x, i64 at, Stored stored);
template <> __device__ inline float loadElement<float>(const void *x, i64 at, Stored stored) {
  switch (stored) {
  case Stored::F32: return static_cast<const float *>(x)[at];
  case Stored::BF16: return __bfloat162float(static_cast<const __nv_bfloat16 *>(x)[at]);
  default: return __half2float(static_cast<const __half *>(x)[at]);
  }
}
template <> __device__ inline double loadElement<double>(const void *x, i64 at, Stored) {
  return static_cast<const double *>(x)[at];
}
template <> __device__ inline u64 loadElement<u64>(const void *x, i64 at, Stored) {
  return static_cast<const u64 *>(x)[at];
}
template <> __device__ inline i64 loadElement<i64>(const void *x, i64 at, Stored stored) {
  switch (stored) {
  case Stored::I64: return static_cast<const i64 *>(x)[at];
  case Stored::I32: return static_cast<const int *>(x)[at];
  case Stored::I16: return static_cast<const short *>(x)[at];
  case Stored::I8: return static_cast<const signed char *>(x)[at];
  case Stored::U32: return static_cast<const unsigned *>(x)[at];
  case Stored::U16: return static_cast<const unsigned short *>(x)[at];
  default: return static_cast<const unsigned char *>(x)[at];
  }
}

template <class T> __device__ inline void storeElement(void *y, i64 at, T value, Stored stored);
template <> __device__ inline void storeElement<float>(void *y, i64 at, float value, Stored stored) {
  switch (stored) {
  case Stored::F32: static_cast<float *>(y)[at] = value; break;
  case Stored::BF16: static_cast<__nv_bfloat16 *>(y)[at] = __float2bfloat16_rn(value); break;
  default: static_cast<__half *>(y)[at] = __float2half_rn(value);
  }
}
template <> __device__ inline void storeElement<double>(void *y, i64 at, double value, Stored) {
  static_cast<double *>(y)[at] = value;
}
template <> __device__ inline void storeElement<u64>(void *y, i64 at, u64 value, Stored) {
  static_cast<u64 *>(y)[at] = value;
}
template <> __device__ inline void storeElement<i64>(void *y, i64 at, i64 value, Stored stored) {
  switch (stored) {
  case Stored::I64: static_cast<i64 *>(y)[at] = value; break;
  case Stored::I32:
  case Stored::U32: static_cast<unsigned *>(y)[at] = static_cast<unsigned>(value); break;
  case Stored::I16:
  case Stored::U16: static_cast<unsigned short *>(y)[at] = static_cast<unsigned short>(value); break;
  default: static_cast<unsigned char *>(y)[at] = static_cast<unsigned char>(value);
  }
}

template <class T> struct IsFloat { static constexpr bool value = false; };
template <> struct IsFloat<float> { static constexpr bool value = true; };
template <> struct IsFloat<double> { static constexpr bool value = true; };

template <class T> constexpr bool isSigned = T(-1) < T(0);
template <class T> constexpr T greatest = static_cast<T>(~u64(0) >> (64 - 8 * sizeof(T) + (isSigned<T> ? 1 : 0)));
template <class T> constexpr T least = isSigned<T> ? static_cast<T>(-greatest<T> - 1) : T(0);

// A conversion that is defined for every value: floats are truncated and saturate, NaN becomes 0.
template <class To, class From> __device__ inline To convertElement(From x) {
  if constexpr (IsFloat<From>::value && !IsFloat<To>::value) {
    if (x != x)
      return 0;
    if (x <= static_cast<From>(least<To>))
      return least<To>;
    if (x >= static_cast<From>(greatest<To>)) // which may be rounded up to the first that does not fit
      return greatest<To>;
    return isSigned<To> ? static_cast<To>(static_cast<i64>(x)) : static_cast<To>(static_cast<u64>(x));
  } else {
    return static_cast<To>(x);
  }
}

} // namespace amc

// One function for each arithmetic type.
#define AMC_FOR_WIDE(MAKE) MAKE(float, f32) MAKE(double, f64)
#define AMC_FOR_COMPUTE(MAKE) AMC_FOR_WIDE(MAKE) MAKE(long long, i64) MAKE(unsigned long long, u64)

#endif
