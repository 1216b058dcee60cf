#include "test/emulated_cuda/nccl/Types.h"
#include "test/emulated_cuda/Elements.h"
#include <algorithm>
#include <type_traits>

namespace amc::emulated {

inline float widen(__nv_fp8_e4m3 value) { return float(value); }
inline float widen(__nv_fp8_e5m2 value) { return float(value); }
inline void narrow(float value, __nv_fp8_e4m3 &element) { element = __nv_fp8_e4m3(value); }
inline void narrow(float value, __nv_fp8_e5m2 &element) { element = __nv_fp8_e5m2(value); }

namespace {

constexpr size_t strip = 512; // elements kept between ranks

template <class T> T combine(ncclRedOp_t op, T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::conditional_t<sizeof(T) < 4, uint32_t, std::make_unsigned_t<T>>; // wraps, and is not promoted to int
    switch (op) {
    case ncclProd:
      return T(U(a) * U(b));
    case ncclMax:
      return std::max(a, b);
    case ncclMin:
      return std::min(a, b);
    default:
      return T(U(a) + U(b));
    }
  } else {
    switch (op) {
    case ncclProd:
      return a * b;
    case ncclMax:
      return a != a || a > b ? a : b;
    case ncclMin:
      return a != a || a < b ? a : b;
    default:
      return a + b;
    }
  }
}

template <class E> auto load(E element) {
  if constexpr (std::is_integral_v<E>)
    return element;
  else
    return widen(element);
}

template <class E, class T> void store(T value, E &element) {
  if constexpr (std::is_integral_v<E>)
    element = value;
  else
    narrow(value, element);
}

template <class E> void reduceAs(ncclRedOp_t op, const std::vector<const void *> &inputs, void *result, size_t count) {
  using T = decltype(load(E()));
  T sums[strip];
  for (size_t begin = 0; begin < count; begin += strip) {
    size_t length = std::min(strip, count - begin);
    for (size_t rank = 0; rank < inputs.size(); ++rank) {
      const E *from = static_cast<const E *>(inputs[rank]) + begin;
      for (size_t i = 0; i < length; ++i)
        sums[i] = rank == 0 ? load(from[i]) : combine<T>(op, sums[i], load(from[i]));
    }
    E *to = static_cast<E *>(result) + begin;
    for (size_t i = 0; i < length; ++i)
      store(op == ncclAvg ? T(sums[i] / T(inputs.size())) : sums[i], to[i]);
  }
}

} // namespace

size_t elementBytes(ncclDataType_t type) {
  switch (type) {
  case ncclInt8:
  case ncclUint8:
  case ncclFloat8e4m3:
  case ncclFloat8e5m2:
    return 1;
  case ncclFloat16:
  case ncclBfloat16:
    return 2;
  case ncclInt32:
  case ncclUint32:
  case ncclFloat32:
    return 4;
  case ncclInt64:
  case ncclUint64:
  case ncclFloat64:
    return 8;
  default:
    return 0;
  }
}

const char *typeName(ncclDataType_t type) {
  constexpr const char *names[] = {"i8",  "u8",  "i32", "u32",  "i64",    "u64",
                                   "f16", "f32", "f64", "bf16", "f8e4m3", "f8e5m2"};
  return type >= 0 && type < ncclNumTypes ? names[type] : "no type";
}

const char *operationName(ncclRedOp_t op) {
  constexpr const char *names[] = {"sum", "prod", "max", "min", "avg"};
  return op >= 0 && op < ncclNumOps ? names[op] : nullptr;
}

void reduce(ncclDataType_t type, ncclRedOp_t op, const std::vector<const void *> &inputs, void *result, size_t count) {
  switch (type) {
  case ncclInt8:
    return reduceAs<int8_t>(op, inputs, result, count);
  case ncclUint8:
    return reduceAs<uint8_t>(op, inputs, result, count);
  case ncclInt32:
    return reduceAs<int32_t>(op, inputs, result, count);
  case ncclUint32:
    return reduceAs<uint32_t>(op, inputs, result, count);
  case ncclInt64:
    return reduceAs<int64_t>(op, inputs, result, count);
  case ncclUint64:
    return reduceAs<uint64_t>(op, inputs, result, count);
  case ncclFloat16:
    return reduceAs<Half>(op, inputs, result, count);
  case ncclFloat32:
    return reduceAs<float>(op, inputs, result, count);
  case ncclFloat64:
    return reduceAs<double>(op, inputs, result, count);
  case ncclBfloat16:
    return reduceAs<BFloat16>(op, inputs, result, count);
  case ncclFloat8e4m3:
    return reduceAs<__nv_fp8_e4m3>(op, inputs, result, count);
  case ncclFloat8e5m2:
    return reduceAs<__nv_fp8_e5m2>(op, inputs, result, count);
  default:
    return;
  }
}

} // namespace amc::emulated
