// Elements of the types that the emulated libraries compute on, converted to and from what they compute in. Rounding is
// to nearest, ties to even, as the hardware's conversions do by default; NaN stays NaN.
#ifndef AMC_TEST_EMULATED_CUDA_ELEMENTS_H
#define AMC_TEST_EMULATED_CUDA_ELEMENTS_H

#include <cstdint>
#include <cstring>

namespace amc::emulated {

struct BFloat16 {
  uint16_t bits;
};
using Half = _Float16;

inline float widen(float value) { return value; }
inline double widen(double value) { return value; }
inline float widen(Half value) { return value; }
inline float widen(BFloat16 value) {
  uint32_t bits = uint32_t(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

inline void narrow(float value, float &element) { element = value; }
inline void narrow(double value, double &element) { element = value; }
inline void narrow(float value, Half &element) { element = Half(value); }
inline void narrow(float value, BFloat16 &element) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  element.bits = uint16_t(value != value ? 0x7fff : rounded);
}

// The nearest fp32 with the 10 bits of mantissa that a tensor core reads of a TF32 operand, ties away from zero.
inline float toTf32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7f800000) != 0x7f800000)
    bits = (bits + 0x1000) & ~uint32_t(0x1fff);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

} // namespace amc::emulated

#endif
