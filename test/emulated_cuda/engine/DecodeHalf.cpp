// Arithmetic of f16 and bf16, alone and in pairs. Sums and products are computed in f32, whose precision is more than
// twice theirs, so that rounding again changes nothing.
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Float.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include <algorithm>

namespace emu {
namespace {

template <class H, bool Ftz> uint16_t flushedHalf(uint16_t a) { return Ftz && !(a & H::exponent) ? a & 0x8000 : a; }
template <class H, bool Ftz, bool Sat> uint16_t finished(uint16_t a) {
  a = flushedHalf<H, Ftz>(a);
  if (Sat) {
    float x = H::widen(a);
    return x > 0 ? (x < 1 ? a : H::one) : 0;
  }
  return a;
}

struct AddHalf {
  static float of(float a, float b) { return a + b; }
};
struct SubHalf {
  static float of(float a, float b) { return a - b; }
};
struct MulHalf {
  static float of(float a, float b) { return a * b; }
};
struct MinHalf {
  static float of(float a, float b) { return minNumber(a, b); }
};
struct MaxHalf {
  static float of(float a, float b) { return maxNumber(a, b); }
};
struct MinNanHalf {
  static float of(float a, float b) { return a != a || b != b ? asFloat(nanBits) : minNumber(a, b); }
};
struct MaxNanHalf {
  static float of(float a, float b) { return a != a || b != b ? asFloat(nanBits) : maxNumber(a, b); }
};
struct Exp2Half {
  static float of(float a) { return (float)std::exp2((double)a); }
};
struct TanhHalf {
  static float of(float a) { return (float)std::tanh((double)a); }
};

template <class F, class H, bool Ftz, bool Sat> uint16_t binaryHalf(uint16_t a, uint16_t b) {
  return finished<H, Ftz, Sat>(H::narrow(F::of(H::widen(flushedHalf<H, Ftz>(a)), H::widen(flushedHalf<H, Ftz>(b)))));
}
template <class F, class H> uint16_t unaryHalf(uint16_t a) { return H::narrow(F::of(H::widen(a))); }
template <class H, bool Ftz, bool Sat, bool Relu> uint16_t fmaHalf(uint16_t a, uint16_t b, uint16_t c) {
  uint16_t r = fusedHalf<H>(flushedHalf<H, Ftz>(a), flushedHalf<H, Ftz>(b), flushedHalf<H, Ftz>(c));
  r = finished<H, Ftz, Sat>(r);
  return Relu && (r & 0x8000) && H::widen(r) == H::widen(r) ? 0 : r;
}
template <class H> uint16_t absHalf(uint16_t a) { return a & 0x7fff; }
template <class H> uint16_t negHalf(uint16_t a) { return a ^ 0x8000; }

template <auto F> uint32_t pair1(uint32_t a) { return F(uint16_t(a)) | uint32_t(F(uint16_t(a >> 16))) << 16; }
template <auto F> uint32_t pair2(uint32_t a, uint32_t b) {
  return F(uint16_t(a), uint16_t(b)) | uint32_t(F(uint16_t(a >> 16), uint16_t(b >> 16))) << 16;
}
template <auto F> uint32_t pair3(uint32_t a, uint32_t b, uint32_t c) {
  return F(uint16_t(a), uint16_t(b), uint16_t(c)) | uint32_t(F(uint16_t(a >> 16), uint16_t(b >> 16), uint16_t(c >> 16)))
                                                        << 16;
}

template <auto F> Handler alone1(bool pair) { return pair ? map<pair1<F>> : map<F>; }
template <auto F> Handler alone2(bool pair) { return pair ? map<pair2<F>> : map<F>; }
template <auto F> Handler alone3(bool pair) { return pair ? map<pair3<F>> : map<F>; }

template <class F, class H> Handler binaryHandler(bool pair, bool ftz, bool sat) {
  return ftz ? (sat ? alone2<binaryHalf<F, H, true, true>>(pair) : alone2<binaryHalf<F, H, true, false>>(pair))
             : (sat ? alone2<binaryHalf<F, H, false, true>>(pair) : alone2<binaryHalf<F, H, false, false>>(pair));
}
template <class H> Handler fmaHandler(bool pair, bool ftz, bool sat, bool relu) {
  if (relu)
    return ftz ? alone3<fmaHalf<H, true, false, true>>(pair) : alone3<fmaHalf<H, false, false, true>>(pair);
  return ftz ? (sat ? alone3<fmaHalf<H, true, true, false>>(pair) : alone3<fmaHalf<H, true, false, false>>(pair))
             : (sat ? alone3<fmaHalf<H, false, true, false>>(pair) : alone3<fmaHalf<H, false, false, false>>(pair));
}

template <class H> Handler halfHandler(const std::string &base, bool pair, bool ftz, bool sat, bool nan) {
  if (base == "add")
    return binaryHandler<AddHalf, H>(pair, ftz, sat);
  if (base == "sub")
    return binaryHandler<SubHalf, H>(pair, ftz, sat);
  if (base == "mul")
    return binaryHandler<MulHalf, H>(pair, ftz, sat);
  if (base == "min")
    return nan ? binaryHandler<MinNanHalf, H>(pair, ftz, false) : binaryHandler<MinHalf, H>(pair, ftz, false);
  if (base == "max")
    return nan ? binaryHandler<MaxNanHalf, H>(pair, ftz, false) : binaryHandler<MaxHalf, H>(pair, ftz, false);
  if (base == "abs")
    return alone1<absHalf<H>>(pair);
  if (base == "neg")
    return alone1<negHalf<H>>(pair);
  if (base == "ex2")
    return alone1<unaryHalf<Exp2Half, H>>(pair);
  if (base == "tanh")
    return alone1<unaryHalf<TanhHalf, H>>(pair);
  return nullptr;
}

} // namespace

bool Decoder::decodeHalf(Type type, const std::string &base) {
  static const char *const two[] = {"add", "sub", "mul", "min", "max"}, *const one[] = {"abs", "neg", "ex2", "tanh"};
  auto among = [&](const auto &names) {
    return std::find(std::begin(names), std::end(names), base) != std::end(names);
  };
  if (type == Type::TF32 || (base != "fma" && !among(two) && !among(one)))
    return false;
  bool pair = type == Type::F16x2 || type == Type::BF16x2, brain = type == Type::BF16 || type == Type::BF16x2;
  takeType();
  take("rn");
  take("approx");
  bool ftz = take("ftz"), sat = take("sat"), relu = base == "fma" && take("relu"), nan = take("NaN");
  if (brain && base == "ex2")
    ftz = false; // ex2.approx.ftz.bf16: there is no other
  if (base == "fma") {
    emitSame(brain ? fmaHandler<BFloat>(pair, ftz, sat, relu) : fmaHandler<Half>(pair, ftz, sat, relu), type, 3);
    return true;
  }
  Handler handler =
      brain ? halfHandler<BFloat>(base, pair, ftz, sat, nan) : halfHandler<Half>(base, pair, ftz, sat, nan);
  emitSame(handler, type, among(two) ? 2 : 1);
  return true;
}

} // namespace emu
