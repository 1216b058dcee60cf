// mov (of values, addresses, and between a register and a vector of parts), selp, slct, cvta, isspacep.
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include <cstring>

namespace emu {
namespace {

template <class T> T same(T a) { return a; }
template <class T> T chosen(T a, T b, int32_t c) { return c >= 0 ? a : b; }
template <class T> T chosenFloat(T a, T b, float c) { return c >= 0 ? a : b; }

template <class T> void select(Warp &w, const Instr &i, uint32_t mask) {
  T *d = w.lanes<T>(i.r[0]);
  const T *a = w.lanes<T>(i.r[1]), *b = w.lanes<T>(i.r[2]);
  uint32_t p = w.predicate(i.r[3]);
  T t[32];
  EMU_LANES t[l] = (p >> l & 1) ? a[l] : b[l];
  merge(d, t, mask);
}

// The parts of a register, from the lowest bits.
template <class Whole, class Part> void unpack(Warp &w, const Instr &i, uint32_t mask) {
  Whole whole[32];
  memcpy(whole, w.lanes<Whole>(i.r[i.results]), sizeof whole); // which may be one of the results
  for (unsigned n = 0; n < i.results; ++n) {
    Part t[32];
    EMU_LANES t[l] = Part(whole[l] >> (n * sizeof(Part) * 8));
    merge(w.lanes<Part>(i.r[n]), t, mask);
  }
}
template <class Whole, class Part> void pack(Warp &w, const Instr &i, uint32_t mask) {
  Whole whole[32] = {};
  for (unsigned n = 0; n < i.operands; ++n) {
    const Part *part = w.lanes<Part>(i.r[1 + n]);
    EMU_LANES whole[l] |= Whole(part[l]) << (n * sizeof(Part) * 8);
  }
  merge(w.lanes<Whole>(i.r[0]), whole, mask);
}

Handler packHandler(unsigned whole, unsigned parts, bool packs) {
  switch (whole * 16 + parts) {
  case 2 * 16 + 2:
    return packs ? pack<uint16_t, uint8_t> : unpack<uint16_t, uint8_t>;
  case 4 * 16 + 2:
    return packs ? pack<uint32_t, uint16_t> : unpack<uint32_t, uint16_t>;
  case 4 * 16 + 4:
    return packs ? pack<uint32_t, uint8_t> : unpack<uint32_t, uint8_t>;
  case 8 * 16 + 2:
    return packs ? pack<uint64_t, uint32_t> : unpack<uint64_t, uint32_t>;
  case 8 * 16 + 4:
    return packs ? pack<uint64_t, uint16_t> : unpack<uint64_t, uint16_t>;
  default:
    return nullptr;
  }
}

Type bitsOfWidth(unsigned bytes) {
  return bytes == 1 ? Type::B8 : bytes == 2 ? Type::B16 : bytes == 4 ? Type::B32 : Type::B64;
}

Handler sameHandler(unsigned width) {
  return width == 1   ? map<same<uint8_t>>
         : width == 2 ? map<same<uint16_t>>
         : width == 4 ? map<same<uint32_t>>
                      : map<same<uint64_t>>;
}

uint64_t windowOf(const std::string &name) {
  return name == "shared" ? sharedWindow : name == "local" ? localWindow : name == "param" ? paramWindow : 0;
}

// Generic addresses of shared, local and parameter memory are in windows; those of global memory are themselves.
void toGeneric(Warp &w, const Instr &i, uint32_t mask) {
  const uint64_t *a = w.lanes<uint64_t>(i.r[1]);
  uint64_t t[32];
  EMU_LANES t[l] = a[l] | i.immediate;
  merge(w.lanes<uint64_t>(i.r[0]), t, mask);
}
void fromGeneric(Warp &w, const Instr &i, uint32_t mask) {
  const uint64_t *a = w.lanes<uint64_t>(i.r[1]);
  uint64_t t[32];
  EMU_LANES t[l] = a[l] & ~windowMask;
  merge(w.lanes<uint64_t>(i.r[0]), t, mask);
}
void isInWindow(Warp &w, const Instr &i, uint32_t mask) {
  const uint64_t *a = w.lanes<uint64_t>(i.r[1]);
  uint32_t bits = 0;
  for (unsigned l = 0; l < 32; ++l)
    bits |= uint32_t((a[l] & windowMask) == i.immediate) << l;
  setPredicate(w, i.r[0], bits, mask);
}

void clockHandler(Warp &w, const Instr &i, uint32_t mask) {
  uint64_t t[32];
  for (uint64_t &value : t)
    value = w.steps + w.clock;
  merge(w.lanes<uint64_t>(i.r[0]), t, mask);
}
void activeHandler(Warp &w, const Instr &i, uint32_t mask) {
  uint32_t t[32];
  for (uint32_t &value : t)
    value = mask;
  merge(w.lanes<uint32_t>(i.r[0]), t, mask);
}

} // namespace

bool Decoder::decodeMove() {
  const std::string &base = text->base;
  if (base == "mov") {
    Type type = takeType();
    if (operandCount() != 2)
      fail("should have 2 operands");
    const Operand &to = operand(0), &from = operand(1);
    if (type == Type::Pred) {
      uint32_t a = usePredicate(from);
      emit([](Warp &w, const Instr &i, uint32_t m) { setPredicate(w, i.r[0], w.predicate(i.r[1]), m); },
           {definePredicate(to)}, {a});
      return true;
    }
    unsigned width = ptx::sizeOf(type);
    if (to.kind == Operand::Vector || from.kind == Operand::Vector) {
      bool packs = from.kind == Operand::Vector;
      const std::vector<Operand> &parts = packs ? from.elements : to.elements;
      Handler handler = packHandler(width, parts.size(), packs);
      if (!handler || (packs && to.kind == Operand::Vector))
        fail("a vector of this kind is not modelled");
      Type part = bitsOfWidth(width / parts.size());
      std::vector<uint32_t> registers;
      if (packs) {
        for (const Operand &one : parts)
          registers.push_back(use(one, part));
        emitMany(handler, {define(to, type)}, registers);
      } else {
        uint32_t whole = use(from, type);
        for (const Operand &one : parts)
          registers.push_back(define(one, part));
        emitMany(handler, registers, {whole});
      }
      return true;
    }
    if (from.kind == Operand::Register &&
        (from.name == "%clock64" || from.name == "%globaltimer" || from.name == "%clock")) {
      uint32_t wide = width == 8 ? define(to, type) : newRegister(8);
      emit(clockHandler, {wide}, {});
      if (width == 4)
        resize(define(to, type), wide, false);
      return true;
    }
    uint32_t a = use(from, type);
    emit(sameHandler(width), {define(to, type)}, {a});
    return true;
  }
  if (base == "activemask") {
    takeType();
    emit(activeHandler, {define(operand(0), Type::B32)}, {});
    return true;
  }
  if (base == "selp") {
    Type type = takeType();
    uint32_t a = use(operand(1), type), b = use(operand(2), type), p = usePredicate(operand(3));
    unsigned width = ptx::sizeOf(type);
    emit(width == 2   ? select<uint16_t>
         : width == 4 ? select<uint32_t>
                      : select<uint64_t>,
         {define(operand(0), type)}, {a, b, p});
    return true;
  }
  if (base == "slct") {
    take("ftz"); // of the comparison with zero, which it does not change
    Type type = takeType(), of = takeType();
    uint32_t a = use(operand(1), type), b = use(operand(2), type), c = use(operand(3), of);
    unsigned width = ptx::sizeOf(type);
    Handler handler;
    if (of == Type::S32)
      handler = width == 2 ? map<chosen<uint16_t>> : width == 4 ? map<chosen<uint32_t>> : map<chosen<uint64_t>>;
    else if (of == Type::F32)
      handler = width == 2   ? map<chosenFloat<uint16_t>>
                : width == 4 ? map<chosenFloat<uint32_t>>
                             : map<chosenFloat<uint64_t>>;
    else
      fail("should be by .s32 or .f32");
    emit(handler, {define(operand(0), type)}, {a, b, c});
    return true;
  }
  if (base == "cvta") {
    bool from = take("to");
    std::string space;
    for (const char *name : {"shared", "shared::cta", "local", "param", "param::entry", "global", "const"})
      if (take(name))
        space = std::string(name, strcspn(name, ":"));
    if (space.empty())
      fail("should name a space");
    Type type = takeType();
    if (ptx::sizeOf(type) != 8)
      fail("should be of .u64");
    uint32_t a = use(operand(1), type), d = define(operand(0), type);
    uint64_t window = windowOf(space);
    emit(!window ? map<same<uint64_t>> : from ? fromGeneric : toGeneric, {d}, {a}).immediate = window;
    return true;
  }
  if (base == "isspacep") {
    auto window = takeOneOf<uint64_t>({{"shared", sharedWindow},
                                       {"shared::cta", sharedWindow},
                                       {"local", localWindow},
                                       {"param", paramWindow},
                                       {"global", globalWindow}});
    if (!window)
      fail("asks for a space that is not modelled");
    uint32_t a = use(operand(1), Type::U64);
    emit(isInWindow, {definePredicate(operand(0))}, {a}).immediate = *window;
    return true;
  }
  return false;
}

} // namespace emu
