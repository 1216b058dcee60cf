// See Elements.h.
#include "runtime/trainer/Elements.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

namespace amc::rt {
namespace {

// Storage types of 16 bits that C++20 does not have.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};
// One byte, 0 or 1.
struct Boolean {
  uint8_t value;
};

template <typename T>
constexpr bool isFloatType =
    std::is_floating_point_v<T> || std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

float toFloat(BFloat16 value) { return std::bit_cast<float>(uint32_t(value.bits) << 16); }

float toFloat(Float16 value) {
  uint32_t sign = uint32_t(value.bits & 0x8000) << 16;
  uint32_t exponent = (value.bits >> 10) & 31;
  uint32_t mantissa = value.bits & 0x3ff;
  if (exponent == 31)
    return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  float magnitude = static_cast<float>(mantissa) * 0x1p-24f; // subnormal, exact in f32
  return sign ? -magnitude : magnitude;
}

BFloat16 toBFloat16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value))
    return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

Float16 toFloat16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return {static_cast<uint16_t>(sign | 0x7e00)};
  if (magnitude >= 0x477ff000) // 65520 and above round to infinity
    return {static_cast<uint16_t>(sign | 0x7c00)};
  if (magnitude < 0x38800000) { // below the smallest normal: units of 2^-24, ties to even
    float scaled = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24f);
    return {static_cast<uint16_t>(sign | static_cast<uint16_t>(scaled))};
  }
  uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return {static_cast<uint16_t>(sign | ((rounded - (112u << 23)) >> 13))};
}

template <typename T> T load(const std::byte *data, uint64_t index) {
  T value;
  std::memcpy(&value, data + index * sizeof(T), sizeof(T));
  return value;
}

template <typename T> double floatToDouble(T value) {
  if constexpr (std::is_floating_point_v<T>)
    return value;
  else
    return toFloat(value);
}

// The float nearest to `value` of which rounding further, to 16 bits, gives what rounding `value`
// at once would: a float that is not exact gets an odd last bit.
float towardOdd(double value) {
  float nearest = static_cast<float>(value);
  if (std::isnan(value) || std::isinf(nearest) || static_cast<double>(nearest) == value)
    return nearest;
  if (std::abs(static_cast<double>(nearest)) > std::abs(value))
    nearest = std::nextafter(nearest, 0.0f);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(nearest) | 1);
}

template <typename To> To fromDouble(double value) {
  if constexpr (std::is_floating_point_v<To>)
    return static_cast<To>(value);
  else if constexpr (std::is_same_v<To, BFloat16>)
    return toBFloat16(towardOdd(value));
  else
    return toFloat16(towardOdd(value));
}

// Converts one value; false if `to` cannot hold it.
template <typename From, typename To> bool convertOne(From from, To &to) {
  if constexpr (isFloatType<From>) {
    if constexpr (isFloatType<To>) {
      to = fromDouble<To>(floatToDouble(from));
      return true;
    } else {
      return false;
    }
  } else if constexpr (std::is_same_v<From, Boolean>) {
    return convertOne<uint8_t, To>(from.value != 0, to);
  } else if constexpr (isFloatType<To>) {
    to = fromDouble<To>(static_cast<double>(from));
    double back = floatToDouble(to);
    // The bound keeps the cast back defined; values of 2^63 and more are refused, no data has them.
    return std::abs(back) < 0x1p63 && static_cast<From>(back) == from;
  } else if constexpr (std::is_same_v<To, Boolean>) {
    to.value = from != 0;
    return from == 0 || from == 1;
  } else {
    to = static_cast<To>(from);
    return std::in_range<To>(from);
  }
}

template <typename Visitor> auto visit(DType type, Visitor visitor) {
  switch (type) {
  case plan::F32:
    return visitor(float());
  case plan::BF16:
    return visitor(BFloat16());
  case plan::F16:
    return visitor(Float16());
  case plan::F64:
    return visitor(double());
  case plan::I64:
    return visitor(int64_t());
  case plan::I32:
    return visitor(int32_t());
  case plan::I16:
    return visitor(int16_t());
  case plan::I8:
    return visitor(int8_t());
  case plan::U16:
    return visitor(uint16_t());
  case plan::U32:
    return visitor(uint32_t());
  case plan::U64:
    return visitor(uint64_t());
  case plan::BOOL:
    return visitor(Boolean());
  default:
    return visitor(uint8_t());
  }
}

} // namespace

std::string shapeText(std::span<const uint64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::optional<uint64_t> elementCount(std::span<const uint64_t> shape) {
  uint64_t count = 1;
  for (uint64_t dimension : shape)
    if (__builtin_mul_overflow(count, dimension, &count))
      return std::nullopt;
  return count;
}

bool convertible(DType from, DType to) {
  return dtypeBytes(from) != 0 && dtypeBytes(to) != 0 && (!isFloat(from) || isFloat(to));
}

uint64_t convertElements(DType from, const std::byte *source, DType to, std::byte *target,
                         uint64_t count) {
  if (from == to && from != plan::BOOL) {
    std::memcpy(target, source, count * dtypeBytes(from));
    return count;
  }
  return visit(from, [&](auto fromTag) {
    return visit(to, [&](auto toTag) -> uint64_t {
      using From = decltype(fromTag);
      using To = decltype(toTag);
      for (uint64_t i = 0; i < count; ++i) {
        To value{};
        if (!convertOne<From, To>(load<From>(source, i), value))
          return i;
        std::memcpy(target + i * sizeof(To), &value, sizeof(To));
      }
      return count;
    });
  });
}

double elementAsDouble(DType type, const std::byte *data, uint64_t index) {
  return visit(type, [&](auto tag) -> double {
    using T = decltype(tag);
    if constexpr (isFloatType<T>)
      return floatToDouble(load<T>(data, index));
    else if constexpr (std::is_same_v<T, Boolean>)
      return load<T>(data, index).value != 0;
    else
      return static_cast<double>(load<T>(data, index));
  });
}

int64_t elementAsInt(DType type, const std::byte *data, uint64_t index) {
  return visit(type, [&](auto tag) -> int64_t {
    using T = decltype(tag);
    if constexpr (isFloatType<T>)
      return 0;
    else if constexpr (std::is_same_v<T, Boolean>)
      return load<T>(data, index).value != 0;
    else
      return static_cast<int64_t>(load<T>(data, index));
  });
}

} // namespace amc::rt
