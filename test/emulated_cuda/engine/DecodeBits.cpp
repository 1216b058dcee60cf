// Logic, shifts and fields of bits.
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include <type_traits>

namespace emu {
namespace {

template <class T> T andOf(T a, T b) { return a & b; }
template <class T> T orOf(T a, T b) { return a | b; }
template <class T> T xorOf(T a, T b) { return a ^ b; }
template <class T> T notOf(T a) { return ~a; }
template <class T> T isZero(T a) { return a == 0; }

// Shifts by more than the width give zero, or the sign.
template <class T> T shiftLeft(T a, uint32_t n) { return n < sizeof(T) * 8 ? T(a << n) : T(0); }
template <class T> T shiftRight(T a, uint32_t n) {
  constexpr uint32_t last = sizeof(T) * 8 - 1;
  if (std::is_signed_v<T>)
    return a >> (n < last ? n : last);
  return n <= last ? T(a >> (n & last)) : T(0);
}

template <class T> uint32_t countOnes(T a) { return __builtin_popcountll(a); }
template <class T> uint32_t leadingZeros(T a) { return std::countl_zero(a); }
template <class T> T reversed(T a) {
  T r = 0;
  for (unsigned i = 0; i < sizeof(T) * 8; ++i)
    r |= (a >> i & 1) << (sizeof(T) * 8 - 1 - i);
  return r;
}
template <class T, bool Shift> uint32_t findLeading(T a) {
  using U = std::make_unsigned_t<T>;
  U bits = std::is_signed_v<T> && a < 0 ? U(~a) : U(a);
  if (!bits)
    return ~0u;
  unsigned lead = std::countl_zero(bits);
  return Shift ? lead : sizeof(T) * 8 - 1 - lead;
}

template <class T> T extractField(T a, uint32_t position, uint32_t length) {
  using U = std::make_unsigned_t<T>;
  constexpr uint32_t last = sizeof(T) * 8 - 1;
  position &= 255;
  length &= 255;
  bool sign = std::is_signed_v<T> && length && (U(a) >> std::min(position + length - 1, last) & 1);
  U field = position > last ? 0 : U(a) >> position;
  // Bits above the source's top are its sign as well.
  uint32_t given = position > last ? 0 : std::min(length, last + 1 - position);
  if (given <= last)
    field &= (U(1) << given) - 1;
  if (sign && given <= last)
    field |= ~U(0) << given;
  return T(field);
}

template <class T> void insertField(Warp &w, const Instr &i, uint32_t mask) {
  const T *a = w.lanes<T>(i.r[1]), *b = w.lanes<T>(i.r[2]);
  const uint32_t *c = w.lanes<uint32_t>(i.r[3]), *d = w.lanes<uint32_t>(i.r[4]);
  T result[32];
  for (unsigned l = 0; l < 32; ++l) {
    unsigned position = c[l] & 255, length = d[l] & 255, width = sizeof(T) * 8;
    T field = length >= width ? ~T(0) : (T(1) << length) - 1;
    field = position >= width ? 0 : field << position;
    result[l] = (b[l] & ~field) | ((position >= width ? 0 : a[l] << position) & field);
  }
  merge(w.lanes<T>(i.r[0]), result, mask);
}

// lop3 by its table: bit (4a + 2b + c) of it is the result.
void logic3(Warp &w, const Instr &i, uint32_t mask) {
  const uint32_t *a = w.lanes<uint32_t>(i.r[1]), *b = w.lanes<uint32_t>(i.r[2]), *c = w.lanes<uint32_t>(i.r[3]);
  uint32_t table[8], result[32];
  for (unsigned k = 0; k < 8; ++k)
    table[k] = i.immediate >> k & 1 ? ~0u : 0;
  EMU_LANES {
    uint32_t x = a[l], y = b[l], z = c[l];
    uint32_t none0 = (table[0] & ~z) | (table[1] & z), none1 = (table[2] & ~z) | (table[3] & z);
    uint32_t some0 = (table[4] & ~z) | (table[5] & z), some1 = (table[6] & ~z) | (table[7] & z);
    result[l] = (~x & ((~y & none0) | (y & none1))) | (x & ((~y & some0) | (y & some1)));
  }
  merge(w.lanes<uint32_t>(i.r[0]), result, mask);
}

template <bool Left, bool Wrap> uint32_t funnel(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t n = Wrap ? c & 31 : c < 32 ? c : 32;
  uint64_t both = (uint64_t)b << 32 | a;
  return Left ? (both << n) >> 32 : both >> n;
}

uint32_t permute(uint32_t a, uint32_t b, uint32_t c) {
  uint64_t bytes = (uint64_t)b << 32 | a;
  uint32_t result = 0;
  for (unsigned k = 0; k < 4; ++k) {
    uint32_t select = c >> (4 * k);
    uint8_t byte = bytes >> (8 * (select & 7));
    if (select & 8)
      byte = byte & 0x80 ? 0xff : 0;
    result |= (uint32_t)byte << (8 * k);
  }
  return result;
}

enum PermuteMode { F4e, B4e, Rc8, Ecl, Ecr, Rc16 };
template <PermuteMode Mode> uint32_t permuteMode(uint32_t a, uint32_t b, uint32_t c) {
  static constexpr uint16_t selectors[6][4] = {{0x3210, 0x4321, 0x5432, 0x6543}, {0x5670, 0x6701, 0x7012, 0x0123},
                                               {0x0000, 0x1111, 0x2222, 0x3333}, {0x3210, 0x3211, 0x3222, 0x3333},
                                               {0x0000, 0x1110, 0x2210, 0x3210}, {0x1010, 0x3232, 0x1010, 0x3232}};
  return permute(a, b, selectors[Mode][c & 3]);
}

template <class F> Handler ofBits(Type type, F f) {
  switch (ptx::sizeOf(type)) {
  case 2:
    return f(uint16_t());
  case 4:
    return f(uint32_t());
  case 8:
    return f(uint64_t());
  default:
    return nullptr;
  }
}

#define OF(function) [](auto t) -> Handler { return map<function<decltype(t)>>; }

} // namespace

bool Decoder::decodeBits() {
  const std::string &base = text->base;
  if (base == "lop3") {
    if (take("BoolOp"))
      fail("a lop3 with a predicate is not modelled");
    takeType();
    uint32_t a = use(operand(1), Type::B32), b = use(operand(2), Type::B32), c = use(operand(3), Type::B32);
    if (operand(4).kind != Operand::Integer || operandCount() != 5)
      fail("should have a table");
    emit(logic3, {define(operand(0), Type::B32)}, {a, b, c}).immediate = operand(4).bits;
    return true;
  }
  if (base == "prmt") {
    takeType();
    auto mode = takeOneOf<Handler>({{"f4e", map<permuteMode<F4e>>},
                                    {"b4e", map<permuteMode<B4e>>},
                                    {"rc8", map<permuteMode<Rc8>>},
                                    {"ecl", map<permuteMode<Ecl>>},
                                    {"ecr", map<permuteMode<Ecr>>},
                                    {"rc16", map<permuteMode<Rc16>>}});
    emitSame(mode.value_or(map<permute>), Type::B32, 3);
    return true;
  }
  if (base == "shf") {
    takeType();
    bool left = take("l"), wrap = take("wrap");
    if ((!left && !take("r")) || (!wrap && !take("clamp")))
      fail("should be .l or .r, .wrap or .clamp");
    emitSame(left ? (wrap ? map<funnel<true, true>> : map<funnel<true, false>>)
                  : (wrap ? map<funnel<false, true>> : map<funnel<false, false>>),
             Type::B32, 3);
    return true;
  }
  if (base == "and" || base == "or" || base == "xor" || base == "not") {
    Type type = takeType();
    if (type == Type::Pred) {
      uint32_t a = usePredicate(operand(1)), b = base == "not" ? a : usePredicate(operand(2));
      if (operandCount() != (base == "not" ? 2u : 3u))
        fail("has another number of operands");
      Handler handler =
          base == "and"  ? [](Warp &w, const Instr &i,
                             uint32_t m) { setPredicate(w, i.r[0], w.predicate(i.r[1]) & w.predicate(i.r[2]), m); }
          : base == "or" ? [](Warp &w, const Instr &i,
                              uint32_t m) { setPredicate(w, i.r[0], w.predicate(i.r[1]) | w.predicate(i.r[2]), m); }
          : base == "xor"
              ? [](Warp &w, const Instr &i,
                   uint32_t m) { setPredicate(w, i.r[0], w.predicate(i.r[1]) ^ w.predicate(i.r[2]), m); }
              : [](Warp &w, const Instr &i, uint32_t m) { setPredicate(w, i.r[0], ~w.predicate(i.r[1]), m); };
      emit(handler, {definePredicate(operand(0))}, {a, b});
      return true;
    }
    emitSame(base == "and"   ? ofBits(type, OF(andOf))
             : base == "or"  ? ofBits(type, OF(orOf))
             : base == "xor" ? ofBits(type, OF(xorOf))
                             : ofBits(type, OF(notOf)),
             type, base == "not" ? 1 : 2);
    return true;
  }
  if (base == "cnot") {
    Type type = takeType();
    emitSame(ofBits(type, OF(isZero)), type, 1);
    return true;
  }
  if (base == "shl" || base == "shr") {
    Type type = takeType();
    uint32_t a = use(operand(1), type), n = use(operand(2), Type::U32);
    Handler handler =
        base == "shl" ? ofBits(type, OF(shiftLeft))
        : !ptx::isSigned(type)
            ? ofBits(type, OF(shiftRight))
            : ofBits(type, [](auto t) -> Handler { return map<shiftRight<std::make_signed_t<decltype(t)>>>; });
    emit(handler, {define(operand(0), type)}, {a, n});
    return true;
  }
  if (base == "popc" || base == "clz" || base == "bfind") {
    bool shift = take("shiftamt");
    Type type = takeType();
    if (ptx::sizeOf(type) < 4)
      fail("is not modelled for this type");
    bool wide = ptx::sizeOf(type) == 8, isSigned = ptx::isSigned(type);
    Handler handler;
    if (base == "popc")
      handler = wide ? map<countOnes<uint64_t>> : map<countOnes<uint32_t>>;
    else if (base == "clz")
      handler = wide ? map<leadingZeros<uint64_t>> : map<leadingZeros<uint32_t>>;
    else if (isSigned)
      handler = wide ? (shift ? map<findLeading<int64_t, true>> : map<findLeading<int64_t, false>>)
                     : (shift ? map<findLeading<int32_t, true>> : map<findLeading<int32_t, false>>);
    else
      handler = wide ? (shift ? map<findLeading<uint64_t, true>> : map<findLeading<uint64_t, false>>)
                     : (shift ? map<findLeading<uint32_t, true>> : map<findLeading<uint32_t, false>>);
    uint32_t a = use(operand(1), type);
    emit(handler, {define(operand(0), Type::U32)}, {a});
    return true;
  }
  if (base == "brev") {
    Type type = takeType();
    emitSame(ptx::sizeOf(type) == 8 ? map<reversed<uint64_t>> : map<reversed<uint32_t>>, type, 1);
    return true;
  }
  if (base == "bfe") {
    Type type = takeType();
    bool wide = ptx::sizeOf(type) == 8;
    uint32_t a = use(operand(1), type), b = use(operand(2), Type::U32), c = use(operand(3), Type::U32);
    Handler handler = ptx::isSigned(type) ? (wide ? map<extractField<int64_t>> : map<extractField<int32_t>>)
                                          : (wide ? map<extractField<uint64_t>> : map<extractField<uint32_t>>);
    emit(handler, {define(operand(0), type)}, {a, b, c});
    return true;
  }
  if (base == "bfi") {
    Type type = takeType();
    uint32_t a = use(operand(1), type), b = use(operand(2), type);
    uint32_t c = use(operand(3), Type::U32), d = use(operand(4), Type::U32);
    emit(ptx::sizeOf(type) == 8 ? insertField<uint64_t> : insertField<uint32_t>, {define(operand(0), type)},
         {a, b, c, d});
    return true;
  }
  return false;
}

} // namespace emu
