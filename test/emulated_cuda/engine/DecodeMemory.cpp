// ld, st, atom, red, cp.async and hints about caches.
#include "test/emulated_cuda/driver/Findings.h"
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include "test/emulated_cuda/engine/Loads.h"
#include <limits>

namespace emu {
namespace {

void fenceHandler(Warp &w, const Instr &, uint32_t) { fenced(w); }

Where whereOf(ptx::Space space) {
  switch (space) {
  case ptx::Space::Shared:
    return Where::Shared;
  case ptx::Space::Local:
    return Where::Local;
  case ptx::Space::Param:
    return Where::Param;
  default:
    return Where::Global;
  }
}

} // namespace

Where Decoder::takeWhere() {
  auto space = takeOneOf<Where>({{"global", Where::Global},
                                 {"const", Where::Global},
                                 {"shared", Where::Shared},
                                 {"shared::cta", Where::Shared},
                                 {"local", Where::Local},
                                 {"param", Where::Param},
                                 {"param::entry", Where::Param},
                                 {"param::func", Where::Param}});
  return space.value_or(Where::Generic);
}

void Decoder::setAddress(Instr &instr, Where where, const Address &address) {
  // A parameter of a device function is a variable of the thread.
  if (where == Where::Param && address.symbol)
    where = whereOf(address.symbol->space);
  if (where == Where::Generic && address.symbol)
    where = whereOf(address.symbol->space);
  instr.immediate = address.offset;
  instr.detail[WhereDetail] = (uint8_t)where;
  instr.detail[NarrowDetail] = registers[address.base].width == 4;
}

bool Decoder::decodeMemory() {
  const std::string &base = text->base;
  if (base == "ld" || base == "ldu" || base == "st") {
    decodeLoadStore(base != "st");
    return true;
  }
  if (base == "atom" || base == "red") {
    decodeAtomic(base == "atom");
    return true;
  }
  if (base == "cp") {
    decodeCopyAsync();
    return true;
  }
  if (base == "prefetch" || base == "prefetchu" || base == "applypriority" || base == "discard") {
    if (base == "discard")
      fail("not modelled");
    modifiers.clear(); // hints
    return true;
  }
  if (base == "createpolicy") {
    modifiers.clear();
    emit(
        [](Warp &w, const Instr &i, uint32_t mask) {
          uint64_t zero[32] = {};
          merge(w.lanes<uint64_t>(i.r[0]), zero, mask);
        },
        {define(operand(0), Type::B64)}, {});
    return true;
  }
  if (base == "membar" || base == "fence") {
    bool block = take("cta");
    for (const char *what : {"gl", "sys", "gpu", "cluster", "sc", "acq_rel"})
      take(what);
    if (!block)
      emit(fenceHandler, {}, {});
    return true;
  }
  return false;
}

void Decoder::decodeLoadStore(bool loads) {
  Where where = takeWhere();
  bool isVolatile = take("volatile"), strong = isVolatile;
  take("weak");
  if (take("relaxed") || take("acquire") || take("release") || take("mmio"))
    strong = true;
  takeScope();
  bool hint = take("L2::cache_hint");
  takeCacheHints();
  unsigned elements = take("v2") ? 2 : take("v4") ? 4 : 1;
  Type type = takeType();
  unsigned bytes = ptx::sizeOf(type);
  if (operandCount() != 2u + hint)
    fail("should have 2 operands");
  const Operand &value = operand(loads ? 0 : 1);
  bool vector = value.kind == Operand::Vector;
  if (vector ? value.elements.size() != elements : elements != 1)
    fail(concat("should have ", elements, " values"));
  Address to = address(operand(loads ? 1 : 0));

  if (loads && where == Where::Param && to.symbol && to.symbol->space == ptx::Space::Param) {
    uint64_t offset = to.symbol->address + to.offset;
    if (offset > kernel.parameterBytes || bytes * elements > kernel.parameterBytes - offset || offset % bytes)
      fail("leaves the kernel's parameters");
    std::vector<uint32_t> results;
    for (unsigned e = 0; e < elements; ++e)
      results.push_back(define(vector ? value.elements[e] : value, type));
    Handler handler = parameterHandler(bytes, elements);
    if (!handler)
      fail("is not modelled for this type");
    emitMany(handler, results, {}).immediate = offset;
    return;
  }
  std::vector<uint32_t> values;
  for (unsigned e = 0; e < elements; ++e) {
    const Operand &one = vector ? value.elements[e] : value;
    values.push_back(loads ? define(one, type) : use(one, type));
  }
  Handler handler = loads ? loadHandler(bytes, elements) : storeHandler(bytes, elements);
  if (!handler)
    fail("is not modelled for this type");
  if (!loads)
    values.insert(values.begin(), to.base);
  Instr &made = loads ? emitMany(handler, values, {to.base}) : emitMany(handler, {}, values);
  setAddress(made, where, to);
  made.detail[StrongDetail] = strong ? (loads ? 2 : 1) : 0;
}

void Decoder::decodeAtomic(bool gives) {
  Where where = takeWhere();
  for (const char *order : {"relaxed", "acquire", "release", "acq_rel"})
    if (take(order) && std::string(order) != "relaxed")
      emit(fenceHandler, {}, {});
  takeScope();
  take("noftz");
  bool hint = take("L2::cache_hint");
  auto what = takeOneOf<Atomic>({{"add", Atomic::Add},
                                 {"min", Atomic::Min},
                                 {"max", Atomic::Max},
                                 {"and", Atomic::And},
                                 {"or", Atomic::Or},
                                 {"xor", Atomic::Xor},
                                 {"exch", Atomic::Exchange},
                                 {"cas", Atomic::Swap},
                                 {"inc", Atomic::Inc},
                                 {"dec", Atomic::Dec}});
  Type type = takeType();
  Handler handler = what ? atomicHandler(*what, type, gives) : nullptr;
  if (!handler)
    fail("is not modelled for this type or operation");
  size_t n = gives;
  Address to = address(operand(n++));
  std::vector<uint32_t> operands{to.base, use(operand(n++), type)};
  if (*what == Atomic::Swap)
    operands.push_back(use(operand(n++), type));
  if (operandCount() != n + hint)
    fail("has another number of operands");
  std::vector<uint32_t> results;
  if (gives)
    results.push_back(define(operand(0), type));
  Instr &made = emitMany(handler, results, operands);
  setAddress(made, where, to);
  made.detail[3] = (uint8_t)*what;
}

void Decoder::decodeCopyAsync() {
  if (!take("async"))
    fail("not modelled");
  if (take("commit_group")) {
    emit(commitCopies, {}, {});
    return;
  }
  if (take("wait_all")) {
    emit(waitForCopies, {}, {}).immediate = none;
    return;
  }
  if (take("wait_group")) {
    if (operandCount() != 1 || operand(0).kind != Operand::Integer)
      fail("should have a number of groups");
    emit(waitForCopies, {}, {}).immediate = operand(0).bits;
    return;
  }
  bool hint = take("L2::cache_hint");
  takeCacheHints();
  bool shared = take("shared") || take("shared::cta");
  if (!shared || !take("global"))
    fail("should be from .global to .shared");
  Address to = address(operand(0)), from = address(operand(1));
  uint64_t bytes = operand(2).bits;
  if (operand(2).kind != Operand::Integer || (bytes != 4 && bytes != 8 && bytes != 16))
    fail("should copy 4, 8 or 16 bytes");
  size_t count = operandCount() - hint;
  if (count > 4 || registers[from.base].width != 8 || from.offset != (int32_t)from.offset)
    fail("is not modelled with these operands");
  uint32_t taken = count == 4 ? use(operand(3), Type::U32) : none;
  Instr &made =
      taken == none ? emit(copyAsync, {}, {to.base, from.base}) : emit(copyAsync, {}, {to.base, from.base, taken});
  setAddress(made, Where::Shared, to);
  made.extra = (uint32_t)(int32_t)from.offset;
  made.detail[3] = bytes;
  made.detail[4] = taken != none;
}

} // namespace emu
