// Element types and the types arithmetic is done in: f32, f16 and bf16 in float, f64 in double, unsigned 64-bit
// integers in uint64_t, all others (i1 as 0 or 1) in int64_t. Conversion works on blocks of elements, or, where f16 is
// not among the types (withFloats), on rows. Results in f16 and bf16 are rounded once, to nearest even; what is made of
// f64 or of integers becomes a float first, as in PyTorch.
#ifndef AMC_RUNTIME_DEVICE_CPU_COMPUTE_H
#define AMC_RUNTIME_DEVICE_CPU_COMPUTE_H

#include "runtime/device/cpu/Hot.h"
#include "runtime/plan/DTypes.h"
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace amc::rt::cpu {

inline constexpr int64_t blockElements = 512;

template <class T> struct Block {
  alignas(64) T data[blockElements];
};

// Calls f(T{}) with the arithmetic type of a dtype.
template <class F> auto withCompute(plan::DType dtype, F &&f) {
  switch (dtype) {
  case plan::F32: case plan::F16: case plan::BF16: return f(float{});
  case plan::F64: return f(double{});
  case plan::U64: return f(uint64_t{});
  default: return f(int64_t{});
  }
}

// Calls f(T{}) with an unsigned integer of the dtype's width: for moving elements.
template <class F> auto withBits(plan::DType dtype, F &&f) {
  switch (dtypeBytes(dtype)) {
  case 8: return f(uint64_t{});
  case 4: return f(uint32_t{});
  case 2: return f(uint16_t{});
  default: return f(uint8_t{});
  }
}

// Calls f(T{}) with the storage type of a dtype that is not f16 or bf16.
template <class F> auto withStorage(plan::DType dtype, F &&f) {
  switch (dtype) {
  case plan::F32: return f(float{});
  case plan::F64: return f(double{});
  case plan::I64: return f(int64_t{});
  case plan::I32: return f(int32_t{});
  case plan::I16: return f(int16_t{});
  case plan::I8: return f(int8_t{});
  case plan::U16: return f(uint16_t{});
  case plan::U32: return f(uint32_t{});
  case plan::U64: return f(uint64_t{});
  default: return f(uint8_t{}); // U8 and BOOL
  }
}

// What products, norms and attention store (float, double or BFloat16) and what they compute in.
template <class S> struct WideOf { using type = S; };
template <> struct WideOf<BFloat16> { using type = float; };
template <class S> using Wide = typename WideOf<S>::type;
template <class S> inline constexpr bool isWide = std::is_same_v<S, Wide<S>>;

// Calls f(S{}) with the storage type of f32, f64 or bf16.
template <class F> auto withFloats(plan::DType dtype, F &&f) {
  switch (dtype) {
  case plan::F64: return f(double{});
  case plan::BF16: return f(BFloat16{});
  default: return f(float{});
  }
}

// y = x, widened, and its reverse, rounded to nearest even.
inline void widenRow(const BFloat16 *x, float *y, int64_t n) { hot().bf16ToF32(&x->bits, y, n); }
inline void narrowRow(const float *x, BFloat16 *y, int64_t n) { hot().f32ToBf16(x, &y->bits, n); }
template <class T> void widenRow(const T *x, T *y, int64_t n) {
  std::memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
}
template <class T> void narrowRow(const T *x, T *y, int64_t n) {
  std::memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
}

// y += x
inline void addToRow(float *y, const float *x, int64_t n) { hot().addTo(y, x, n); }
inline void addToRow(double *y, const double *x, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] += x[i];
}

// A conversion that is defined for every value: floats are truncated and saturate, NaN becomes 0.
template <class To, class From> To convertElement(From x) {
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (!(x == x))
      return 0;
    constexpr From low = static_cast<From>(std::numeric_limits<To>::min());
    constexpr From high = static_cast<From>(std::numeric_limits<To>::max()); // may round up to max + 1
    if (x <= low)
      return std::numeric_limits<To>::min();
    if (x >= high)
      return std::numeric_limits<To>::max();
    return static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

// `count` elements of `source` from `offset` in arithmetic type T (that of the dtype). Points into `source` where no
// conversion is needed, else into `block`; count is at most blockElements then.
template <class T>
const T *loadBlock(plan::DType dtype, const void *source, int64_t offset, int64_t count, Block<T> &block) {
  auto convert = [&](auto storage) {
    using S = decltype(storage);
    const S *from = static_cast<const S *>(source) + offset;
    for (int64_t i = 0; i < count; ++i)
      block.data[i] = static_cast<T>(from[i]);
    return static_cast<const T *>(block.data);
  };
  if constexpr (std::is_same_v<T, float>) {
    if (dtype == plan::F32)
      return static_cast<const float *>(source) + offset;
    const uint16_t *from = static_cast<const uint16_t *>(source) + offset;
    (dtype == plan::BF16 ? hot().bf16ToF32 : hot().f16ToF32)(from, block.data, count);
    return block.data;
  } else if constexpr (std::is_same_v<T, double>) {
    return static_cast<const double *>(source) + offset;
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    return static_cast<const uint64_t *>(source) + offset;
  } else {
    switch (dtype) {
    case plan::I64: return static_cast<const int64_t *>(source) + offset;
    case plan::I32: return convert(int32_t{});
    case plan::I16: return convert(int16_t{});
    case plan::I8: return convert(int8_t{});
    case plan::U32: return convert(uint32_t{});
    case plan::U16: return convert(uint16_t{});
    default: return convert(uint8_t{});
    }
  }
}

// Where to write `count` elements of T that storeBlock then brings to their place.
template <class T> T *blockTarget(plan::DType dtype, void *target, int64_t offset, Block<T> &block) {
  bool direct = (std::is_same_v<T, float> && dtype == plan::F32) || std::is_same_v<T, double> ||
                std::is_same_v<T, uint64_t> || (std::is_same_v<T, int64_t> && dtype == plan::I64);
  return direct ? static_cast<T *>(target) + offset : block.data;
}
template <class T> void storeBlock(plan::DType dtype, void *target, int64_t offset, int64_t count, const Block<T> &block) {
  auto convert = [&](auto storage) {
    using S = decltype(storage);
    S *to = static_cast<S *>(target) + offset;
    for (int64_t i = 0; i < count; ++i)
      to[i] = static_cast<S>(block.data[i]);
  };
  if constexpr (std::is_same_v<T, float>) {
    uint16_t *to = static_cast<uint16_t *>(target) + offset;
    if (dtype == plan::BF16)
      hot().f32ToBf16(block.data, to, count);
    else if (dtype == plan::F16)
      hot().f32ToF16(block.data, to, count);
  } else if constexpr (std::is_same_v<T, int64_t>) {
    switch (dtype) {
    case plan::I32: convert(int32_t{}); break;
    case plan::I16: convert(int16_t{}); break;
    case plan::I8: convert(int8_t{}); break;
    case plan::U32: convert(uint32_t{}); break;
    case plan::U16: convert(uint16_t{}); break;
    case plan::U8: case plan::BOOL: convert(uint8_t{}); break;
    default: break; // i64 was written in place
    }
  }
}

// One element of any dtype from a double (f32 and narrower floats rounded once, integers to the nearest).
void encodeElement(plan::DType dtype, double value, std::byte *out);

} // namespace amc::rt::cpu

#endif
