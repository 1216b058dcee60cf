// setp and set: comparisons, combined with a predicate.
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Float.h"
#include "test/emulated_cuda/engine/Lanes.h"

namespace emu {
namespace {

enum Comparison : uint8_t { Eq, Ne, Lt, Le, Gt, Ge, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan };
enum Combination : uint8_t { Only, And, Or, Xor };

template <Comparison C, class T> bool holds(T a, T b) {
  bool unordered = a != a || b != b;
  switch (C) {
  case Eq:
    return a == b;
  case Ne:
    return a != b && !unordered;
  case Lt:
    return a < b;
  case Le:
    return a <= b;
  case Gt:
    return a > b;
  case Ge:
    return a >= b;
  case Equ:
    return !(a < b || a > b);
  case Neu:
    return a != b;
  case Ltu:
    return !(a >= b);
  case Leu:
    return !(a > b);
  case Gtu:
    return !(a <= b);
  case Geu:
    return !(a < b);
  case Num:
    return !unordered;
  case Nan:
    return unordered;
  }
}

uint32_t combined(uint32_t bits, uint32_t with, uint8_t how) {
  switch (how) {
  case And:
    return bits & with;
  case Or:
    return bits | with;
  case Xor:
    return bits ^ with;
  default:
    return bits;
  }
}

// r: p, q, a, b, c; q and c may be absent. details: combination, whether q is there, ftz.
void store(Warp &w, const Instr &i, uint32_t bits, uint32_t mask) {
  uint32_t with = i.operands > 2 ? w.predicate(i.r[4]) : 0;
  setPredicate(w, i.r[1], combined(~bits, with, i.detail[0]), mask);
  setPredicate(w, i.r[0], combined(bits, with, i.detail[0]), mask);
}

template <Comparison C, class T> void compare(Warp &w, const Instr &i, uint32_t mask) {
  const T *a = w.lanes<T>(i.r[2]), *b = w.lanes<T>(i.r[3]);
  if constexpr (std::is_same_v<T, float>) {
    if (i.detail[2]) {
      float x[32], y[32];
      EMU_LANES x[l] = flushed(a[l]);
      EMU_LANES y[l] = flushed(b[l]);
      store(w, i, bitsWhere<holds<C, T>>(x, y), mask);
      return;
    }
  }
  store(w, i, bitsWhere<holds<C, T>>(a, b), mask);
}

template <Comparison C, class H> void compareHalf(Warp &w, const Instr &i, uint32_t mask) {
  const uint16_t *a = w.lanes<uint16_t>(i.r[2]), *b = w.lanes<uint16_t>(i.r[3]);
  float x[32], y[32];
  for (unsigned l = 0; l < 32; ++l) {
    x[l] = H::widen(a[l]);
    y[l] = H::widen(b[l]);
  }
  store(w, i, bitsWhere<holds<C, float>>(x, y), mask);
}

template <Comparison C> Handler handlerFor(Type type) {
  switch (type) {
  case Type::B16:
  case Type::U16:
    return compare<C, uint16_t>;
  case Type::S16:
    return compare<C, int16_t>;
  case Type::B32:
  case Type::U32:
    return compare<C, uint32_t>;
  case Type::S32:
    return compare<C, int32_t>;
  case Type::B64:
  case Type::U64:
    return compare<C, uint64_t>;
  case Type::S64:
    return compare<C, int64_t>;
  case Type::F32:
    return compare<C, float>;
  case Type::F64:
    return compare<C, double>;
  case Type::F16:
    return compareHalf<C, Half>;
  case Type::BF16:
    return compareHalf<C, BFloat>;
  default:
    return nullptr;
  }
}

Handler handlerOf(Comparison c, Type type) {
  switch (c) {
  case Eq:
    return handlerFor<Eq>(type);
  case Ne:
    return handlerFor<Ne>(type);
  case Lt:
    return handlerFor<Lt>(type);
  case Le:
    return handlerFor<Le>(type);
  case Gt:
    return handlerFor<Gt>(type);
  case Ge:
    return handlerFor<Ge>(type);
  default:
    break;
  }
  if (!ptx::isFloat(type))
    return nullptr;
  switch (c) {
  case Equ:
    return handlerFor<Equ>(type);
  case Neu:
    return handlerFor<Neu>(type);
  case Ltu:
    return handlerFor<Ltu>(type);
  case Leu:
    return handlerFor<Leu>(type);
  case Gtu:
    return handlerFor<Gtu>(type);
  case Geu:
    return handlerFor<Geu>(type);
  case Num:
    return handlerFor<Num>(type);
  default:
    return handlerFor<Nan>(type);
  }
}

void expand(Warp &w, const Instr &i, uint32_t mask) { // what `set` gives
  uint32_t p = w.predicate(i.r[1]), one = i.immediate, t[32];
  EMU_LANES t[l] = (p >> l & 1) ? one : 0;
  merge(w.lanes<uint32_t>(i.r[0]), t, mask);
}

} // namespace

bool Decoder::decodeCompare() {
  bool sets = text->base == "set";
  if (text->base != "setp" && !sets)
    return false;
  bool ftz = take("ftz");
  // The unsigned names (lo, ls, hi, hs) are those of the order that the type has anyway.
  auto comparison = takeOneOf<Comparison>({{"eq", Eq},
                                           {"ne", Ne},
                                           {"lt", Lt},
                                           {"le", Le},
                                           {"gt", Gt},
                                           {"ge", Ge},
                                           {"lo", Lt},
                                           {"ls", Le},
                                           {"hi", Gt},
                                           {"hs", Ge},
                                           {"equ", Equ},
                                           {"neu", Neu},
                                           {"ltu", Ltu},
                                           {"leu", Leu},
                                           {"gtu", Gtu},
                                           {"geu", Geu},
                                           {"num", Num},
                                           {"nan", Nan}});
  auto combination = takeOneOf<Combination>({{"and", And}, {"or", Or}, {"xor", Xor}});
  Type result = sets ? takeType() : Type::Pred;
  Type type = takeType();
  Handler handler = comparison ? handlerOf(*comparison, type) : nullptr;
  if (!handler)
    fail("is not modelled for this type or comparison");
  if (operandCount() != (combination ? 4u : 3u))
    fail("has another number of operands");
  uint32_t a = use(operand(1), type), b = use(operand(2), type);
  uint32_t c = combination ? usePredicate(operand(3)) : none;
  uint32_t p = sets ? newRegister(0) : definePredicate(operand(0));
  uint32_t q = !sets && operand(0).pair ? definePredicate(*operand(0).pair) : newRegister(0);
  Instr &made = combination ? emit(handler, {p, q}, {a, b, c}) : emit(handler, {p, q}, {a, b});
  made.detail[0] = combination.value_or(Only);
  made.detail[2] = ftz;
  if (sets) {
    if (ptx::sizeOf(result) != 4)
      fail("is not modelled for this result");
    emit(expand, {define(operand(0), result)}, {p}).immediate = result == Type::F32 ? 0x3f800000 : ~0u;
  }
  return true;
}

} // namespace emu
