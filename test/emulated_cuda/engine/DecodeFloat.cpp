// Arithmetic of f32 and f64. The .approx instructions give the correctly rounded value, or nearly.
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Float.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include "test/emulated_cuda/engine/Rounded.h"
#include <algorithm>

namespace emu {
namespace {

// One lane; F computes, the rest is what the modifiers say.
template <auto F, bool Ftz, bool Sat> float one(float a) { return out<Ftz, Sat>(F(in<Ftz>(a))); }
template <auto F, bool Ftz, bool Sat> float two(float a, float b) { return out<Ftz, Sat>(F(in<Ftz>(a), in<Ftz>(b))); }
template <auto F, bool Ftz, bool Sat> float three(float a, float b, float c) {
  return out<Ftz, Sat>(F(in<Ftz>(a), in<Ftz>(b), in<Ftz>(c)));
}

template <class T> T addOf(T a, T b) { return a + b; }
template <class T> T subOf(T a, T b) { return a - b; }
template <class T> T mulOf(T a, T b) { return a * b; }
template <class T> T divOf(T a, T b) { return a / b; }
inline float fmaOf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double fmaOf64(double a, double b, double c) { return __builtin_fma(a, b, c); }
template <class T> T minOf(T a, T b) { return minNumber(a, b); }
template <class T> T maxOf(T a, T b) { return maxNumber(a, b); }
inline float minNan(float a, float b) { return a != a || b != b ? asFloat(nanBits) : minNumber(a, b); }
inline float maxNan(float a, float b) { return a != a || b != b ? asFloat(nanBits) : maxNumber(a, b); }

// Sign operations on bits: the sign of a NaN is unspecified, its payload stays.
template <bool Ftz> uint32_t absBits(uint32_t a) { return asBits(in<Ftz>(asFloat(a))) & 0x7fffffff; }
template <bool Ftz> uint32_t negBits(uint32_t a) { return asBits(in<Ftz>(asFloat(a))) ^ 0x80000000; }
inline uint64_t absBits64(uint64_t a) { return a & ~(1ull << 63); }
inline uint64_t negBits64(uint64_t a) { return a ^ 1ull << 63; }
inline uint32_t copySign(uint32_t a, uint32_t b) { return (a & 0x80000000) | (b & 0x7fffffff); }
inline uint64_t copySign64(uint64_t a, uint64_t b) { return (a & 1ull << 63) | (b & ~(1ull << 63)); }

template <class T> T reciprocal(T a) { return 1 / a; }
template <class T> T squareRoot(T a) { return std::sqrt(a); }
inline float reciprocalRoot(float a) { return (float)(1 / std::sqrt((double)a)); }
inline double reciprocalRoot64(double a) { return 1 / std::sqrt(a); }
inline float sine(float a) { return (float)std::sin((double)a); }
inline float cosine(float a) { return (float)std::cos((double)a); }
inline float log2Of(float a) { return (float)std::log2((double)a); }
inline float exp2Of(float a) { return (float)std::exp2((double)a); }
inline float tanhOf(float a) { return (float)std::tanh((double)a); }

template <bool Ftz> float approxQuotient(float a, float b) {
  // For 2^126 < |b| < 2^128 div.approx gives 0 (or NaN where a is infinite).
  float m = std::fabs(b);
  if (m > 0x1p126f && m <= 0x1.fffffep127f)
    return std::isinf(a) ? asFloat(nanBits) : std::copysign(0.0f, a) * std::copysign(1.0f, b);
  return a / b;
}

template <auto F> Handler oneHandler(bool ftz, bool sat) {
  return ftz ? (sat ? map<one<F, true, true>> : map<one<F, true, false>>)
             : (sat ? map<one<F, false, true>> : map<one<F, false, false>>);
}
template <auto F> Handler twoHandler(bool ftz, bool sat) {
  return ftz ? (sat ? map<two<F, true, true>> : map<two<F, true, false>>)
             : (sat ? map<two<F, false, true>> : map<two<F, false, false>>);
}
template <auto F> Handler threeHandler(bool ftz, bool sat) {
  return ftz ? (sat ? map<three<F, true, true>> : map<three<F, true, false>>)
             : (sat ? map<three<F, false, true>> : map<three<F, false, false>>);
}

// rcp and rsqrt.approx.ftz.f64 see and give the upper 32 bits only.
inline double upperHalf(double a) {
  uint64_t bits = std::bit_cast<uint64_t>(a);
  return std::bit_cast<double>((bits >> 52 & 0x7ff ? bits : bits & 1ull << 63) & ~0xffffffffull);
}
inline double grossReciprocal(double a) { return a != a ? a : upperHalf(1 / upperHalf(a)); }
inline double grossRoot(double a) { return a != a ? a : upperHalf(1 / std::sqrt(upperHalf(a))); }

enum Test { Finite, Infinite, Number, NotANumber, Normal, Subnormal };
template <class T> void testHandler(Warp &w, const Instr &i, uint32_t mask) {
  const T *a = w.lanes<T>(i.r[1]);
  uint32_t bits = 0;
  for (unsigned l = 0; l < 32; ++l) {
    bool is = false;
    switch ((Test)i.detail[0]) {
    case Finite:
      is = std::isfinite(a[l]);
      break;
    case Infinite:
      is = std::isinf(a[l]);
      break;
    case Number:
      is = a[l] == a[l];
      break;
    case NotANumber:
      is = a[l] != a[l];
      break;
    case Normal:
      is = std::isnormal(a[l]);
      break;
    case Subnormal:
      is = a[l] == 0 || std::fpclassify(a[l]) == FP_SUBNORMAL; // PTX counts zero among them
      break;
    }
    bits |= uint32_t(is) << l;
  }
  setPredicate(w, i.r[0], bits, mask);
}

} // namespace

bool Decoder::decodeFloat() {
  const std::string &base = text->base;
  if (modifiers.empty())
    return false;
  std::optional<Type> named = ptx::typeNamed(modifiers.back());
  if (!named || !ptx::isFloat(*named))
    return false;
  Type type = *named;
  if (type != Type::F32 && type != Type::F64)
    return decodeHalf(type, base);
  bool single = type == Type::F32;

  static const char *const bases[] = {"add", "sub",  "mul", "fma", "mad",   "div", "min", "max",  "abs",      "neg",
                                      "rcp", "sqrt", "sin", "cos", "rsqrt", "lg2", "ex2", "tanh", "copysign", "testp"};
  if (std::find(std::begin(bases), std::end(bases), base) == std::end(bases))
    return false;

  takeType();
  bool ftz = take("ftz"), sat = take("sat");
  if (!single && (base == "rcp" || base == "rsqrt") && ftz && modifiers == std::vector<std::string>{"approx"}) {
    take("approx");
    emitSame(base == "rcp" ? map<grossReciprocal> : map<grossRoot>, type, 1);
    return true;
  }
  if (!single && (ftz || sat))
    fail(".ftz and .sat are for .f32");
  auto rounding = takeOneOf<Rounding>(
      {{"rn", Rounding::Nearest}, {"rz", Rounding::Zero}, {"rm", Rounding::Down}, {"rp", Rounding::Up}});
  bool approx = take("approx"), full = take("full");
  bool directed = rounding && *rounding != Rounding::Nearest;
  auto finish = [&](Handler handler, size_t operands) {
    if (!handler)
      fail("is not modelled for this type or rounding");
    emitSame(handler, type, operands);
    return true;
  };
  auto rounded = [&](Arithmetic what, size_t operands) {
    emitSame(roundedHandler(what, single), type, operands);
    uint8_t *detail = kernel.code.back().detail;
    detail[0] = (uint8_t)*rounding;
    detail[1] = ftz;
    detail[2] = sat;
    return true;
  };

  if (base == "add")
    return directed ? rounded(Arithmetic::Add, 2)
                    : finish(single ? twoHandler<addOf<float>>(ftz, sat) : map<addOf<double>>, 2);
  if (base == "sub")
    return directed ? rounded(Arithmetic::Sub, 2)
                    : finish(single ? twoHandler<subOf<float>>(ftz, sat) : map<subOf<double>>, 2);
  if (base == "mul")
    return directed ? rounded(Arithmetic::Mul, 2)
                    : finish(single ? twoHandler<mulOf<float>>(ftz, sat) : map<mulOf<double>>, 2);
  if (base == "fma" || base == "mad") {
    if (!rounding)
      fail("should have a rounding");
    return directed ? rounded(Arithmetic::Fma, 3) : finish(single ? threeHandler<fmaOf>(ftz, sat) : map<fmaOf64>, 3);
  }
  if (base == "div") {
    if (approx && single)
      return finish(ftz ? twoHandler<approxQuotient<true>>(true, sat) : twoHandler<approxQuotient<false>>(false, sat),
                    2);
    if (directed)
      return rounded(Arithmetic::Div, 2);
    if (!rounding && !full)
      fail("should be .approx, .full or have a rounding");
    return finish(single ? twoHandler<divOf<float>>(ftz, sat) : map<divOf<double>>, 2);
  }
  if (base == "min" || base == "max") {
    bool nan = take("NaN"), isMin = base == "min";
    if (!single)
      return finish(nan ? nullptr : isMin ? map<minOf<double>> : map<maxOf<double>>, 2);
    if (nan)
      return finish(isMin ? twoHandler<minNan>(ftz, false) : twoHandler<maxNan>(ftz, false), 2);
    return finish(isMin ? twoHandler<minOf<float>>(ftz, false) : twoHandler<maxOf<float>>(ftz, false), 2);
  }
  if (base == "abs")
    return finish(!single ? map<absBits64> : ftz ? map<absBits<true>> : map<absBits<false>>, 1);
  if (base == "neg")
    return finish(!single ? map<negBits64> : ftz ? map<negBits<true>> : map<negBits<false>>, 1);
  if (base == "copysign")
    return finish(single ? map<copySign> : map<copySign64>, 2);
  if (base == "rcp") {
    if (directed)
      return rounded(Arithmetic::Reciprocal, 1);
    if (!approx && !rounding)
      fail("should be .approx or have a rounding");
    return finish(single ? oneHandler<reciprocal<float>>(ftz, false) : map<reciprocal<double>>, 1);
  }
  if (base == "sqrt") {
    if (directed)
      return rounded(Arithmetic::Root, 1);
    if (!approx && !rounding)
      fail("should be .approx or have a rounding");
    return finish(single ? oneHandler<squareRoot<float>>(ftz, false) : map<squareRoot<double>>, 1);
  }
  if (base == "testp") {
    auto what = takeOneOf<Test>({{"finite", Finite},
                                 {"infinite", Infinite},
                                 {"number", Number},
                                 {"notanumber", NotANumber},
                                 {"normal", Normal},
                                 {"subnormal", Subnormal}});
    if (!what)
      fail("tests nothing that is modelled");
    uint32_t a = use(operand(1), type);
    emit(single ? testHandler<float> : testHandler<double>, {definePredicate(operand(0))}, {a}).detail[0] = *what;
    return true;
  }
  if (!approx)
    fail("should be .approx");
  if (base == "rsqrt")
    return finish(single ? oneHandler<reciprocalRoot>(ftz, false) : map<reciprocalRoot64>, 1);
  if (!single)
    fail("is not modelled for .f64");
  if (base == "sin")
    return finish(oneHandler<sine>(ftz, false), 1);
  if (base == "cos")
    return finish(oneHandler<cosine>(ftz, false), 1);
  if (base == "lg2")
    return finish(oneHandler<log2Of>(ftz, false), 1);
  if (base == "ex2")
    return finish(oneHandler<exp2Of>(ftz, false), 1);
  return finish(oneHandler<tanhOf>(false, false), 1);
}

} // namespace emu
