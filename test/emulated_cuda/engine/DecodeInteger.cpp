// Integer arithmetic.
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include <limits>
#include <type_traits>

namespace emu {
namespace {

template <class T> using Unsigned = std::make_unsigned_t<T>;
template <class T>
using Wide =
    std::conditional_t<sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
                       std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                                          std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>>;

template <class T> T add(T a, T b) { return Unsigned<T>(a) + Unsigned<T>(b); }
template <class T> T sub(T a, T b) { return Unsigned<T>(a) - Unsigned<T>(b); }
template <class T> T mulLow(T a, T b) {
  if constexpr (sizeof(T) == 2)
    return T(uint32_t(a) * uint32_t(b)); // not int's overflow
  else
    return Unsigned<T>(a) * Unsigned<T>(b);
}
template <class T> T mulHigh(T a, T b) { return T((Wide<T>(a) * Wide<T>(b)) >> (sizeof(T) * 8)); }
template <class T> Wide<T> mulWide(T a, T b) { return Wide<T>(a) * Wide<T>(b); }
template <class T> T madLow(T a, T b, T c) { return add(mulLow(a, b), c); }
template <class T> T madHigh(T a, T b, T c) { return add(mulHigh(a, b), c); }
template <class T> Wide<T> madWide(T a, T b, Wide<T> c) {
  return Wide<T>(Unsigned<Wide<T>>(Wide<T>(a) * Wide<T>(b)) + Unsigned<Wide<T>>(c));
}
template <class T> T low24(T a) { return std::is_signed_v<T> ? T(uint32_t(a) << 8) >> 8 : T(uint32_t(a) & 0xffffff); }
template <class T> T mul24Low(T a, T b) { return T(int64_t(low24(a)) * int64_t(low24(b))); }
template <class T> T mul24High(T a, T b) { return T((int64_t(low24(a)) * int64_t(low24(b))) >> 16); }
template <class T> T mad24Low(T a, T b, T c) { return add(mul24Low(a, b), c); }
template <class T> T mad24High(T a, T b, T c) { return add(mul24High(a, b), c); }
template <class T> T sad(T a, T b, T c) { return add(c, a < b ? sub(b, a) : sub(a, b)); }
// Division by zero is undefined in PTX; devices give all ones.
template <class T> T quotient(T a, T b) {
  if (b == 0)
    return T(-1);
  return std::is_signed_v<T> && b == T(-1) ? sub(T(0), a) : T(a / b);
}
template <class T> T remainder(T a, T b) {
  if (b == 0)
    return a;
  return std::is_signed_v<T> && b == T(-1) ? T(0) : T(a % b);
}
template <class T> T lesser(T a, T b) { return a < b ? a : b; }
template <class T> T greater(T a, T b) { return a < b ? b : a; }
template <class T> T magnitude(T a) { return a < 0 ? sub(T(0), a) : a; }
template <class T> T negative(T a) { return sub(T(0), a); }
int32_t saturated(int64_t a) {
  return a > std::numeric_limits<int32_t>::max()   ? std::numeric_limits<int32_t>::max()
         : a < std::numeric_limits<int32_t>::min() ? std::numeric_limits<int32_t>::min()
                                                   : int32_t(a);
}
int32_t addSaturated(int32_t a, int32_t b) { return saturated(int64_t(a) + b); }
int32_t subSaturated(int32_t a, int32_t b) { return saturated(int64_t(a) - b); }

template <class A, class B> uint32_t dot4(uint32_t a, uint32_t b, uint32_t c) {
  for (unsigned i = 0; i < 32; i += 8)
    c += uint32_t(int32_t(A(a >> i)) * int32_t(B(b >> i)));
  return c;
}

// With carries, in a predicate that no text can name. add.cc, addc, addc.cc and the same of sub.
template <class T, bool Subtracts, bool Takes, bool Gives> void withCarry(Warp &w, const Instr &i, uint32_t mask) {
  T *d = w.lanes<T>(i.r[0]);
  const T *a = w.lanes<T>(i.r[2]), *b = w.lanes<T>(i.r[3]);
  uint32_t carry = w.predicate(i.r[4]), given = 0;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(mask >> l & 1))
      continue;
    // A subtraction's borrow is kept as such.
    unsigned __int128 x = a[l], y = b[l], in = Takes ? carry >> l & 1 : 0;
    unsigned __int128 sum = Subtracts ? x - y - in : x + y + in;
    d[l] = T(sum);
    given |= uint32_t(sum >> (sizeof(T) * 8) & 1) << l;
  }
  if (Gives)
    setPredicate(w, i.r[1], given, mask);
}

template <class F> Handler ofInteger(Type type, F f) {
  switch (type) {
  case Type::U16:
  case Type::B16:
    return f(uint16_t());
  case Type::S16:
    return f(int16_t());
  case Type::U32:
  case Type::B32:
    return f(uint32_t());
  case Type::S32:
    return f(int32_t());
  case Type::U64:
  case Type::B64:
    return f(uint64_t());
  case Type::S64:
    return f(int64_t());
  default:
    return nullptr;
  }
}

#define OF(function) [](auto t) -> Handler { return map<function<decltype(t)>>; }

Type doubled(Type type) {
  switch (type) {
  case Type::U16:
    return Type::U32;
  case Type::S16:
    return Type::S32;
  case Type::U32:
    return Type::U64;
  case Type::S32:
    return Type::S64;
  default:
    return Type::None;
  }
}

Handler wideHandler(Type type, bool adds) {
  switch (type) {
  case Type::U16:
    return adds ? map<madWide<uint16_t>> : map<mulWide<uint16_t>>;
  case Type::S16:
    return adds ? map<madWide<int16_t>> : map<mulWide<int16_t>>;
  case Type::U32:
    return adds ? map<madWide<uint32_t>> : map<mulWide<uint32_t>>;
  case Type::S32:
    return adds ? map<madWide<int32_t>> : map<mulWide<int32_t>>;
  default:
    return nullptr;
  }
}

Handler carryHandler(Type type, bool subtracts, bool takes, bool gives) {
  auto of = [&](auto t) -> Handler {
    using T = std::make_unsigned_t<decltype(t)>;
    if (subtracts)
      return takes ? (gives ? withCarry<T, true, true, true> : withCarry<T, true, true, false>)
                   : withCarry<T, true, false, true>;
    return takes ? (gives ? withCarry<T, false, true, true> : withCarry<T, false, true, false>)
                 : withCarry<T, false, false, true>;
  };
  return ptx::sizeOf(type) < 4 ? nullptr : ofInteger(type, of);
}

} // namespace

bool Decoder::decodeInteger() {
  const std::string &base = text->base;
  // These have floating-point types as well, which are another family's.
  if (modifiers.empty())
    return false;
  std::optional<Type> named = ptx::typeNamed(modifiers.back());
  if (!named || !ptx::isInteger(*named))
    return false;
  Type type = *named;
  auto finish = [&](Handler handler, size_t operands) {
    takeType();
    if (!handler)
      fail("is not modelled for this type");
    emitSame(handler, type, operands);
    return true;
  };
  auto half = [&](auto low, auto high, size_t operands) {
    if (take("wide"))
      fail("is not modelled for this type");
    bool isHigh = take("hi");
    if (!isHigh && !take("lo"))
      fail("should be .lo, .hi or .wide");
    return finish(isHigh ? ofInteger(type, high) : ofInteger(type, low), operands);
  };

  if ((base == "add" || base == "sub") && (take("cc"))) {
    takeType();
    uint32_t a = use(operand(1), type), b = use(operand(2), type), d = define(operand(0), type);
    uint32_t carry = carryRegister();
    emit(carryHandler(type, base == "sub", false, true), {d, carry}, {a, b, carry});
    return true;
  }
  if (base == "addc" || base == "subc") {
    bool gives = take("cc");
    takeType();
    uint32_t a = use(operand(1), type), b = use(operand(2), type), d = define(operand(0), type);
    uint32_t carry = carryRegister();
    Handler handler = carryHandler(type, base == "subc", true, gives);
    if (!handler)
      fail("is not modelled for this type");
    emit(handler, {d, carry}, {a, b, carry});
    return true;
  }
  if (base == "madc" || (base == "mad" && take("cc"))) { // a product, then a sum with a carry
    bool takes = base == "madc", gives = !takes || take("cc"), isHigh = take("hi");
    if (!isHigh && !take("lo"))
      fail("should be .lo or .hi");
    takeType();
    Handler sum = carryHandler(type, false, takes, gives);
    if (!sum)
      fail("is not modelled for this type");
    uint32_t a = use(operand(1), type), b = use(operand(2), type), c = use(operand(3), type);
    uint32_t product = newRegister(ptx::sizeOf(type)), d = define(operand(0), type), carry = carryRegister();
    emit(isHigh ? ofInteger(type, OF(mulHigh)) : ofInteger(type, OF(mulLow)), {product}, {a, b});
    emit(sum, {d, carry}, {product, c, carry});
    return true;
  }
  if (base == "add")
    return take("sat") ? finish(type == Type::S32 ? map<addSaturated> : nullptr, 2)
                       : finish(ofInteger(type, OF(add)), 2);
  if (base == "sub")
    return take("sat") ? finish(type == Type::S32 ? map<subSaturated> : nullptr, 2)
                       : finish(ofInteger(type, OF(sub)), 2);
  if ((base == "mul" || base == "mad") && take("wide")) {
    takeType();
    bool adds = base == "mad";
    Handler handler = wideHandler(type, adds);
    if (!handler || operandCount() != (adds ? 4u : 3u))
      fail("is not modelled for this type");
    uint32_t a = use(operand(1), type), b = use(operand(2), type);
    uint32_t c = adds ? use(operand(3), doubled(type)) : none;
    uint32_t d = define(operand(0), doubled(type));
    if (adds)
      emit(handler, {d}, {a, b, c});
    else
      emit(handler, {d}, {a, b});
    return true;
  }
  if (base == "mul")
    return half(OF(mulLow), OF(mulHigh), 2);
  if (base == "mad")
    return half(OF(madLow), OF(madHigh), 3);
  if (base == "mul24" || base == "mad24") {
    bool isSigned = type == Type::S32, isHigh = take("hi");
    if ((!isHigh && !take("lo")) || (!isSigned && type != Type::U32))
      fail("should be .lo or .hi of .u32 or .s32");
    if (base == "mul24")
      return finish(isSigned ? (isHigh ? map<mul24High<int32_t>> : map<mul24Low<int32_t>>)
                             : (isHigh ? map<mul24High<uint32_t>> : map<mul24Low<uint32_t>>),
                    2);
    return finish(isSigned ? (isHigh ? map<mad24High<int32_t>> : map<mad24Low<int32_t>>)
                           : (isHigh ? map<mad24High<uint32_t>> : map<mad24Low<uint32_t>>),
                  3);
  }
  if (base == "sad")
    return finish(ofInteger(type, OF(sad)), 3);
  if (base == "div")
    return finish(ofInteger(type, OF(quotient)), 2);
  if (base == "rem")
    return finish(ofInteger(type, OF(remainder)), 2);
  if (base == "min")
    return finish(ofInteger(type, OF(lesser)), 2);
  if (base == "max")
    return finish(ofInteger(type, OF(greater)), 2);
  if (base == "abs")
    return finish(ofInteger(type, OF(magnitude)), 1);
  if (base == "neg")
    return finish(ofInteger(type, OF(negative)), 1);
  if (base == "dp4a") {
    Type a = takeType(), b = takeType();
    auto ok = [](Type t) { return t == Type::U32 || t == Type::S32; };
    if (!ok(a) || !ok(b))
      fail("should be of .u32 or .s32");
    bool as = a == Type::S32, bs = b == Type::S32;
    emitSame(as ? (bs ? map<dot4<int8_t, int8_t>> : map<dot4<int8_t, uint8_t>>)
                : (bs ? map<dot4<uint8_t, int8_t>> : map<dot4<uint8_t, uint8_t>>),
             Type::B32, 3);
    return true;
  }
  return false;
}

} // namespace emu
