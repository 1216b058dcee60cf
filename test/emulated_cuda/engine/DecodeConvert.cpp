// cvt. Half precisions go through f32, which holds them exactly; narrowing rounds once.
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Float.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include "test/emulated_cuda/engine/Rounded.h"
#include <limits>

namespace emu {
namespace {

template <class H> float widened(uint16_t a) { return H::widen(a); }

enum class Integral : uint8_t { None, Nearest, Zero, Down, Up };
template <class T, Integral How> T integral(T a) {
  switch (How) {
  case Integral::Nearest:
    return canonical(T(__builtin_nearbyint(a)));
  case Integral::Zero:
    return canonical(T(__builtin_trunc(a)));
  case Integral::Down:
    return canonical(T(__builtin_floor(a)));
  case Integral::Up:
    return canonical(T(__builtin_ceil(a)));
  case Integral::None:
    break;
  }
  return a;
}
template <> float integral<float, Integral::Nearest>(float a) { return canonical(__builtin_nearbyintf(a)); }
template <> float integral<float, Integral::Zero>(float a) { return canonical(__builtin_truncf(a)); }
template <> float integral<float, Integral::Down>(float a) { return canonical(__builtin_floorf(a)); }
template <> float integral<float, Integral::Up>(float a) { return canonical(__builtin_ceilf(a)); }

template <class T> Handler integralHandler(Integral how) {
  switch (how) {
  case Integral::Nearest:
    return map<integral<T, Integral::Nearest>>;
  case Integral::Zero:
    return map<integral<T, Integral::Zero>>;
  case Integral::Down:
    return map<integral<T, Integral::Down>>;
  case Integral::Up:
    return map<integral<T, Integral::Up>>;
  case Integral::None:
    break;
  }
  return nullptr;
}

// An integral value; NaN gives 0, what does not fit the nearest limit.
template <class To, class From> To toInteger(From a) {
  constexpr To low = std::numeric_limits<To>::min(), high = std::numeric_limits<To>::max();
  // As floating-point values: the first one too large (a power of two, exact), and the lowest.
  constexpr From above = std::is_signed_v<To> ? -(From)low : (From)(high / 2 + 1) * 2;
  if (a != a)
    return 0;
  return a >= above ? high : a <= (From)low ? low : (To)a;
}
template <class From> Handler toIntegerHandler(Type type) {
  switch (type) {
  case Type::U8:
    return map<toInteger<uint8_t, From>>;
  case Type::S8:
    return map<toInteger<int8_t, From>>;
  case Type::U16:
    return map<toInteger<uint16_t, From>>;
  case Type::S16:
    return map<toInteger<int16_t, From>>;
  case Type::U32:
    return map<toInteger<uint32_t, From>>;
  case Type::S32:
    return map<toInteger<int32_t, From>>;
  case Type::U64:
    return map<toInteger<uint64_t, From>>;
  case Type::S64:
    return map<toInteger<int64_t, From>>;
  default:
    return nullptr;
  }
}

template <class To, class From> To fromInteger(From a) { return (To)a; }
// To half precisions through a double that keeps whether anything was cut.
template <class H, class From> uint16_t halfFromInteger(From a) {
  if (sizeof(From) == 8 && (a & 2047))
    a = (a & ~From(2047)) | 2048;
  return narrowDouble<H>((double)a);
}
template <class From> Handler fromIntegerHandler(Type to) {
  switch (to) {
  case Type::F32:
    return map<fromInteger<float, From>>;
  case Type::F64:
    return map<fromInteger<double, From>>;
  case Type::F16:
    return map<halfFromInteger<Half, From>>;
  case Type::BF16:
    return map<halfFromInteger<BFloat, From>>;
  default:
    return nullptr;
  }
}
Handler fromIntegerHandler(Type to, Type from) {
  switch (from) {
  case Type::U8:
    return fromIntegerHandler<uint8_t>(to);
  case Type::S8:
    return fromIntegerHandler<int8_t>(to);
  case Type::U16:
    return fromIntegerHandler<uint16_t>(to);
  case Type::S16:
    return fromIntegerHandler<int16_t>(to);
  case Type::U32:
    return fromIntegerHandler<uint32_t>(to);
  case Type::S32:
    return fromIntegerHandler<int32_t>(to);
  case Type::U64:
    return fromIntegerHandler<uint64_t>(to);
  case Type::S64:
    return fromIntegerHandler<int64_t>(to);
  default:
    return nullptr;
  }
}

// Rounded otherwise than to nearest; detail[0] says how. 64-bit integers, which the others are widened to.
template <class To, class From> void directed(Warp &w, const Instr &i, uint32_t mask) {
  const From *a = w.lanes<From>(i.r[1]);
  To t[32];
  for (unsigned l = 0; l < 32; ++l) {
    if constexpr (std::is_same_v<To, float>)
      t[l] = canonical(toFloat(a[l], (Rounding)i.detail[0]));
    else
      t[l] = toDouble(a[l], (Rounding)i.detail[0]);
  }
  merge(w.lanes<To>(i.r[0]), t, mask);
}

// Integers with .sat: into the range of the result's type. details: bytes and sign of the result, then of the source.
void saturate(Warp &w, const Instr &i, uint32_t mask) {
  const uint64_t *a = w.lanes<uint64_t>(i.r[1]);
  uint64_t *d = w.lanes<uint64_t>(i.r[0]);
  unsigned bits = i.detail[0] * 8;
  __int128 low = i.detail[1] ? -((__int128)1 << (bits - 1)) : 0;
  __int128 high = ((__int128)1 << (bits - i.detail[1])) - 1;
  for (unsigned l = 0; l < 32; ++l)
    if (mask >> l & 1) {
      __int128 value = i.detail[2] ? (__int128)(int64_t)a[l] : (__int128)a[l];
      d[l] = (uint64_t)(value < low ? low : value > high ? high : value);
    }
}

template <bool Ftz, bool Sat> float same32(float a) { return out<Ftz, Sat>(in<Ftz>(a)); }
inline double widen64(float a) { return a; }
inline double saturate64(double a) { return a > 0 ? (a < 1 ? a : 1) : 0; }
inline float narrow32(double a) { return canonical((float)a); }
template <bool Ftz, bool Sat> float finish32(float a) { return out<Ftz, Sat>(a); }

// details: rounds to zero, .relu, .satfinite
template <class H> uint16_t narrowed(float a, const uint8_t *detail) {
  if (detail[1] && a < 0)
    a = 0;
  uint16_t r;
  if (detail[0]) {
    r = H::narrow(a);
    // Back by one step where rounding to nearest went away from zero.
    if (a == a && std::fabs(H::widen(r)) > std::fabs(a))
      --r;
  } else {
    r = H::narrow(a);
  }
  if (detail[1] && (r & 0x8000) && a == a)
    r = 0;
  if (detail[2] && a == a && (r & 0x7fff) == H::exponent) // the largest finite number
    --r;
  return r;
}
template <class H> void narrowHandler(Warp &w, const Instr &i, uint32_t mask) {
  const float *a = w.lanes<float>(i.r[1]);
  uint16_t t[32];
  if (!i.detail[0] && !i.detail[1] && !i.detail[2]) {
    EMU_LANES t[l] = H::narrow(a[l]);
  } else {
    for (unsigned l = 0; l < 32; ++l)
      t[l] = narrowed<H>(a[l], i.detail);
  }
  merge(w.lanes<uint16_t>(i.r[0]), t, mask);
}
template <class H> void narrowPair(Warp &w, const Instr &i, uint32_t mask) {
  const float *a = w.lanes<float>(i.r[1]), *b = w.lanes<float>(i.r[2]); // a becomes the upper half
  uint32_t t[32];
  if (!i.detail[0] && !i.detail[1] && !i.detail[2]) {
    EMU_LANES t[l] = uint32_t(H::narrow(a[l])) << 16 | H::narrow(b[l]);
  } else {
    for (unsigned l = 0; l < 32; ++l)
      t[l] = uint32_t(narrowed<H>(a[l], i.detail)) << 16 | narrowed<H>(b[l], i.detail);
  }
  merge(w.lanes<uint32_t>(i.r[0]), t, mask);
}

// 10 bits of mantissa: ties away from zero, or to even.
uint32_t toTf32Away(float a) { return a != a ? nanBits : std::isinf(a) ? asBits(a) : (asBits(a) + 0x1000) & ~0x1fffu; }
uint32_t toTf32Even(float a) {
  uint32_t bits = asBits(a);
  return a != a ? nanBits : std::isinf(a) ? bits : (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
}

} // namespace

bool Decoder::decodeConvert() {
  if (text->base != "cvt")
    return false;
  auto whole = takeOneOf<Integral>(
      {{"rni", Integral::Nearest}, {"rzi", Integral::Zero}, {"rmi", Integral::Down}, {"rpi", Integral::Up}});
  auto rounding = takeOneOf<Rounding>({{"rn", Rounding::Nearest},
                                       {"rz", Rounding::Zero},
                                       {"rm", Rounding::Down},
                                       {"rp", Rounding::Up},
                                       {"rna", Rounding::NearestAway}});
  bool ftz = take("ftz"), relu = take("relu"), finite = take("satfinite"), sat = take("sat");
  Type to = takeType(), from = takeType();
  bool nearest = !rounding || *rounding == Rounding::Nearest;
  auto setDetails = [&](Instr &made) {
    made.detail[0] = rounding == Rounding::Zero;
    made.detail[1] = relu;
    made.detail[2] = finite;
  };
  auto onlyNearestOrZero = [&] {
    if (!nearest && rounding != Rounding::Zero)
      fail("this rounding is not modelled");
  };
  if (to == Type::F16x2 || to == Type::BF16x2) {
    if (from != Type::F32 || operandCount() != 3)
      fail("should be of two .f32");
    onlyNearestOrZero();
    uint32_t a = use(operand(1), Type::F32), b = use(operand(2), Type::F32);
    setDetails(emit(to == Type::F16x2 ? narrowPair<Half> : narrowPair<BFloat>, {define(operand(0), to)}, {a, b}));
    return true;
  }
  if (operandCount() != 2)
    fail("should have 2 operands");
  uint32_t x = use(operand(1), from);
  if (from == Type::F16 || from == Type::BF16) {
    uint32_t wide = newRegister(4);
    emit(from == Type::F16 ? map<widened<Half>> : map<widened<BFloat>>, {wide}, {x});
    x = wide;
    from = Type::F32;
  }
  bool fromFloat = ptx::isFloat(from), toFloating = ptx::isFloat(to);
  if (fromFloat && from != Type::F32 && from != Type::F64)
    fail("is not modelled for this source");

  if (!fromFloat && !toFloating) {
    uint32_t d = define(operand(0), to);
    if (!sat) {
      resize(d, x, ptx::isSigned(from));
      return true;
    }
    uint32_t wide = newRegister(8), cut = newRegister(8);
    resize(wide, x, ptx::isSigned(from));
    Instr &made = emit(saturate, {cut}, {wide});
    made.detail[0] = ptx::sizeOf(to);
    made.detail[1] = ptx::isSigned(to);
    made.detail[2] = ptx::isSigned(from);
    resize(d, cut, false);
    return true;
  }
  if (!fromFloat) {
    if (!rounding)
      fail("should have a rounding");
    uint32_t d = define(operand(0), to);
    if (!nearest) {
      if (to != Type::F32 && to != Type::F64)
        fail("this rounding is not modelled");
      bool isSigned = ptx::isSigned(from);
      uint32_t wide = newRegister(8);
      resize(wide, x, isSigned);
      Handler handler = to == Type::F32 ? (isSigned ? directed<float, int64_t> : directed<float, uint64_t>)
                                        : (isSigned ? directed<double, int64_t> : directed<double, uint64_t>);
      emit(handler, {d}, {wide}).detail[0] = (uint8_t)*rounding;
      return true;
    }
    Handler handler = fromIntegerHandler(to, from);
    if (!handler || sat)
      fail("is not modelled for this type");
    emit(handler, {d}, {x});
    return true;
  }

  bool single = from == Type::F32;
  if (single && ftz) {
    uint32_t flat = newRegister(4);
    emit(map<same32<true, false>>, {flat}, {x});
    x = flat;
  }
  if (whole) {
    uint32_t rounded = newRegister(single ? 4 : 8);
    emit(single ? integralHandler<float>(*whole) : integralHandler<double>(*whole), {rounded}, {x});
    x = rounded;
  }
  if (!toFloating) {
    if (!whole)
      fail("should have a rounding to integers");
    Handler handler = single ? toIntegerHandler<float>(to) : toIntegerHandler<double>(to);
    if (!handler)
      fail("is not modelled for this type");
    emit(handler, {define(operand(0), to)}, {x});
    return true;
  }
  uint32_t d = define(operand(0), to);
  switch (to) {
  case Type::F32:
    if (!single) {
      uint32_t narrow = newRegister(4);
      if (nearest)
        emit(map<narrow32>, {narrow}, {x});
      else
        emit(directed<float, double>, {narrow}, {x}).detail[0] = (uint8_t)*rounding;
      x = narrow;
    }
    emit(ftz ? (sat ? map<finish32<true, true>> : map<finish32<true, false>>)
             : (sat ? map<finish32<false, true>> : map<finish32<false, false>>),
         {d}, {x});
    return true;
  case Type::F64:
    if (single) {
      uint32_t wide = newRegister(8);
      emit(map<widen64>, {wide}, {x});
      x = wide;
    }
    if (sat)
      emit(map<saturate64>, {d}, {x});
    else
      resize(d, x, false);
    return true;
  case Type::F16:
  case Type::BF16: {
    bool brain = to == Type::BF16;
    onlyNearestOrZero();
    if (single) {
      if (sat) {
        uint32_t cut = newRegister(4);
        emit(map<finish32<false, true>>, {cut}, {x});
        x = cut;
      }
      setDetails(emit(brain ? narrowHandler<BFloat> : narrowHandler<Half>, {d}, {x}));
    } else {
      if (sat || relu || finite || !nearest)
        fail("is not modelled for this type");
      emit(brain ? map<narrowDouble<BFloat>> : map<narrowDouble<Half>>, {d}, {x});
    }
    return true;
  }
  case Type::TF32:
    if (!single || relu || sat || (rounding != Rounding::NearestAway && rounding != Rounding::Nearest))
      fail("is not modelled for this type");
    emit(rounding == Rounding::NearestAway ? map<toTf32Away> : map<toTf32Even>, {d}, {x});
    return true;
  default:
    fail("is not modelled for this type");
  }
}

} // namespace emu
