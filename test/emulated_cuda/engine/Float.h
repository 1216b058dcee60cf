// PTX's floating point, one lane at a time: NaN results are canonical, .ftz flushes, .sat clamps.
#ifndef AMC_TEST_EMULATED_CUDA_ENGINE_FLOAT_H
#define AMC_TEST_EMULATED_CUDA_ENGINE_FLOAT_H

#include <bit>
#include <cmath>
#include <cstdint>

namespace emu {

inline float asFloat(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t asBits(float value) { return std::bit_cast<uint32_t>(value); }
inline constexpr uint32_t nanBits = 0x7fffffff;

inline float flushed(float x) {
  uint32_t bits = asBits(x);
  return asFloat((bits & 0x7f800000) ? bits : bits & 0x80000000);
}
template <bool Ftz> inline float in(float x) { return Ftz ? flushed(x) : x; }
template <bool Ftz, bool Sat> inline float out(float x) {
  if (Ftz)
    x = flushed(x);
  if (Sat)
    return x > 0 ? (x < 1 ? x : 1) : 0;
  return x == x ? x : asFloat(nanBits);
}

inline double canonical(double x) { return x; } // NaNs of doubles keep their payload
inline float canonical(float x) { return x == x ? x : asFloat(nanBits); }

// Half precisions by their bits. `widen` is exact; `narrow` rounds to nearest, ties to even.
struct Half {
  static float widen(uint16_t bits) {
#ifdef __F16C__
    _Float16 half = std::bit_cast<_Float16>(bits);
    return half;
#else
#error "compile with -mf16c"
#endif
  }
  static uint16_t narrow(float x) {
    uint16_t bits = std::bit_cast<uint16_t>(static_cast<_Float16>(x));
    return x == x ? bits : 0x7fff;
  }
  static constexpr uint16_t quiet = 0x7fff, exponent = 0x7c00, one = 0x3c00;
};

struct BFloat {
  static float widen(uint16_t bits) { return asFloat(uint32_t(bits) << 16); }
  static uint16_t narrow(float x) {
    uint32_t bits = asBits(x);
    uint16_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return x == x ? rounded : 0x7fff;
  }
  static constexpr uint16_t quiet = 0x7fff, exponent = 0x7f80, one = 0x3f80;
};

// To fewer bits without a second rounding's error: the last bit tells whether anything was cut.
inline float roundToOdd(double x) {
  float f = (float)x;
  if (f != f || (double)f == x)
    return f;
  uint32_t bits = asBits(f);
  if (std::fabs((double)f) > std::fabs(x))
    --bits;
  return asFloat(bits | 1);
}

template <class H> inline uint16_t narrowDouble(double x) { return H::narrow(roundToOdd(x)); }

// a * b + c rounded once: the product is exact in double, the sum is rounded to odd.
template <class H> inline uint16_t fusedHalf(uint16_t a, uint16_t b, uint16_t c) {
  double p = (double)H::widen(a) * H::widen(b), q = H::widen(c);
  double s = p + q;
  double shift = s - p, rest = (p - (s - shift)) + (q - shift);
  if (rest != 0 && rest == rest && !std::isinf(s)) {
    uint64_t bits = std::bit_cast<uint64_t>(s);
    if (!(bits & 1))
      bits += ((rest > 0) == (s > 0)) ? 1 : -1;
    s = std::bit_cast<double>(bits);
  }
  return narrowDouble<H>(s);
}

template <class T> inline T minNumber(T a, T b) {
  bool first = a < b || b != b || (a == b && std::signbit(a));
  return canonical(first ? a : b);
}
template <class T> inline T maxNumber(T a, T b) {
  bool first = a > b || b != b || (a == b && !std::signbit(a));
  return canonical(first ? a : b);
}

} // namespace emu

#endif
