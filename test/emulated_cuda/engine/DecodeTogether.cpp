// What lanes do together: shuffles, votes, barriers.
#include "test/emulated_cuda/driver/Findings.h"
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include <algorithm>
#include <cstring>

namespace emu {
namespace {

enum Shuffle : uint8_t { Up, Down, Butterfly, Index };

// r: d, p, a, b, c, members
void shuffle(Warp &w, const Instr &i, uint32_t mask) {
  const uint32_t *a = w.lanes<uint32_t>(i.r[2]), *b = w.lanes<uint32_t>(i.r[3]), *c = w.lanes<uint32_t>(i.r[4]);
  uint32_t values[32], inRange = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1))
      continue;
    int by = b[lane] & 31, segment = c[lane] >> 8 & 31, clamp = c[lane] & 31;
    int first = lane & segment, last = first | (clamp & ~segment), from = lane;
    bool in = false;
    switch ((Shuffle)i.detail[0]) {
    case Up:
      from = (int)lane - by;
      in = from >= last;
      break;
    case Down:
      from = (int)lane + by;
      in = from <= last;
      break;
    case Butterfly:
      from = lane ^ by;
      in = from <= last;
      break;
    case Index:
      from = first | (by & ~segment);
      in = from <= last;
      break;
    }
    if (!in)
      from = lane;
    if (!(mask >> from & 1))
      reportIn(w, i, lane, "shuffle",
               concat("takes the value of lane ", from, ", which does not take part (lanes ", hex(mask), " do)"));
    values[lane] = a[from];
    inRange |= uint32_t(in) << lane;
  }
  merge(w.lanes<uint32_t>(i.r[0]), values, mask);
  setPredicate(w, i.r[1], inRange, mask);
}

enum Vote : uint8_t { All, Any, Uniform, Ballot };

void vote(Warp &w, const Instr &i, uint32_t mask) {
  uint32_t holds = w.predicate(i.r[1]) & mask;
  if (i.detail[0] == Ballot) {
    uint32_t t[32];
    std::fill_n(t, 32, holds);
    merge(w.lanes<uint32_t>(i.r[0]), t, mask);
    return;
  }
  bool result = i.detail[0] == All ? holds == mask : i.detail[0] == Any ? holds != 0 : holds == mask || !holds;
  setPredicate(w, i.r[0], result ? allLanes : 0, mask);
}

template <class T> void matchAny(Warp &w, const Instr &i, uint32_t mask) {
  const T *a = w.lanes<T>(i.r[1]);
  uint32_t t[32] = {};
  for (unsigned x = 0; x < 32; ++x)
    for (unsigned y = 0; y < 32; ++y)
      t[x] |= uint32_t((mask >> y & 1) && a[x] == a[y]) << y;
  merge(w.lanes<uint32_t>(i.r[0]), t, mask);
}
template <class T> void matchAll(Warp &w, const Instr &i, uint32_t mask) { // r: d, p, a, members
  const T *a = w.lanes<T>(i.r[2]);
  bool same = true;
  for (uint32_t rest = mask; rest; rest &= rest - 1)
    same &= a[std::countr_zero(rest)] == a[std::countr_zero(mask)];
  uint32_t t[32];
  std::fill_n(t, 32, same ? mask : 0);
  merge(w.lanes<uint32_t>(i.r[0]), t, mask);
  setPredicate(w, i.r[1], same ? allLanes : 0, mask);
}

enum Reduction : uint8_t { Add, Min, Max, And, Or, Xor };
template <class T> void reduceLanes(Warp &w, const Instr &i, uint32_t mask) {
  const T *a = w.lanes<T>(i.r[1]);
  T result = a[std::countr_zero(mask)], t[32];
  for (uint32_t rest = mask & (mask - 1); rest; rest &= rest - 1) {
    T value = a[std::countr_zero(rest)];
    switch ((Reduction)i.detail[0]) {
    case Add:
      result = T(uint32_t(result) + uint32_t(value));
      break;
    case Min:
      result = std::min(result, value);
      break;
    case Max:
      result = std::max(result, value);
      break;
    case And:
      result &= value;
      break;
    case Or:
      result |= value;
      break;
    case Xor:
      result ^= value;
      break;
    }
  }
  std::fill_n(t, 32, result);
  merge(w.lanes<T>(i.r[0]), t, mask);
}

// Orders memory among the lanes that meet: they are in another time afterwards.
void meet(Warp &w, const Instr &i, uint32_t mask) {
  if (++w.block->time > maxClock)
    abortLaunch(w, i, 0, CUDA_ERROR_LAUNCH_FAILED, "limit", "the block has more barriers than the emulator counts");
  if (mask == w.live) {
    w.setClock(w.block->time);
    return;
  }
  w.setClock(w.block->time, mask);
  for (unsigned l = 0; l < 32; ++l)
    if (mask >> l & 1)
      w.partialTime[l] = w.block->time;
}

} // namespace

bool Decoder::decodeTogether() {
  const std::string &base = text->base;
  auto together = [&](Instr &made, unsigned members) {
    made.flow = Flow::Together;
    made.detail[7] = members;
  };
  if (base == "shfl") {
    auto how = takeOneOf<Shuffle>({{"up", Up}, {"down", Down}, {"bfly", Butterfly}, {"idx", Index}});
    if (!take("sync") || !how)
      fail("should be .sync");
    takeType();
    uint32_t a = use(operand(1), Type::B32), b = use(operand(2), Type::B32), c = use(operand(3), Type::B32);
    uint32_t members = use(operand(4), Type::B32), d = define(operand(0), Type::B32);
    uint32_t p = operand(0).pair ? definePredicate(*operand(0).pair) : newRegister(0);
    Instr &made = emit(shuffle, {d, p}, {a, b, c, members});
    made.detail[0] = *how;
    together(made, 5);
    return true;
  }
  if (base == "vote") {
    auto how = takeOneOf<Vote>({{"all", All}, {"any", Any}, {"uni", Uniform}, {"ballot", Ballot}});
    if (!take("sync") || !how)
      fail("should be .sync");
    takeType();
    uint32_t a = usePredicate(operand(1)), members = use(operand(2), Type::B32);
    uint32_t d = *how == Ballot ? define(operand(0), Type::B32) : definePredicate(operand(0));
    Instr &made = emit(vote, {d}, {a, members});
    made.detail[0] = *how;
    together(made, 2);
    return true;
  }
  if (base == "match") {
    bool any = take("any");
    if (!take("sync") || (!any && !take("all")))
      fail("should be .any or .all, .sync");
    Type type = takeType();
    bool wide = ptx::sizeOf(type) == 8;
    uint32_t a = use(operand(1), type), members = use(operand(2), Type::B32);
    uint32_t d = define(operand(0), Type::B32);
    if (any) {
      together(emit(wide ? matchAny<uint64_t> : matchAny<uint32_t>, {d}, {a, members}), 2);
    } else {
      uint32_t p = operand(0).pair ? definePredicate(*operand(0).pair) : newRegister(0);
      together(emit(wide ? matchAll<uint64_t> : matchAll<uint32_t>, {d, p}, {a, members}), 3);
    }
    return true;
  }
  if (base == "redux") {
    auto how = takeOneOf<Reduction>({{"add", Add}, {"min", Min}, {"max", Max}, {"and", And}, {"or", Or}, {"xor", Xor}});
    if (!take("sync") || !how)
      fail("should be .sync");
    Type type = takeType();
    if (ptx::sizeOf(type) != 4 || ptx::isFloat(type))
      fail("is not modelled for this type");
    uint32_t a = use(operand(1), type), members = use(operand(2), Type::B32);
    Instr &made = emit(type == Type::S32 ? reduceLanes<int32_t> : reduceLanes<uint32_t>, {define(operand(0), type)},
                       {a, members});
    made.detail[0] = *how;
    together(made, 2);
    return true;
  }
  if (base == "bar" && take("warp")) {
    if (!take("sync"))
      fail("should be .sync");
    together(emit(meet, {}, {use(operand(0), Type::B32)}), 0);
    return true;
  }
  if (base == "bar" || base == "barrier") {
    take("cta");
    bool aligned = take("aligned") || base == "bar";
    decodeBarrier(aligned);
    return true;
  }
  return false;
}

// Registers: the result if there is one, the barrier, the threads if given, the predicate if there is one.
void Decoder::decodeBarrier(bool aligned) {
  BarrierKind kind = BarrierKind::Sync;
  size_t n = 0;
  std::vector<uint32_t> results, operands;
  if (take("red")) {
    auto how = takeOneOf<BarrierKind>(
        {{"popc", BarrierKind::ReducePopc}, {"and", BarrierKind::ReduceAnd}, {"or", BarrierKind::ReduceOr}});
    if (!how)
      fail("reduces in a way that is not modelled");
    kind = *how;
    takeType();
    const Operand &result = operand(n++);
    results.push_back(kind == BarrierKind::ReducePopc ? define(result, Type::U32) : definePredicate(result));
  } else if (take("arrive")) {
    kind = BarrierKind::Arrive;
  } else if (!take("sync")) {
    fail("not modelled");
  }
  bool reduces = !results.empty();
  operands.push_back(use(operand(n++), Type::U32));
  bool counted = operandCount() - reduces > n;
  if (counted)
    operands.push_back(use(operand(n++), Type::U32));
  else if (kind == BarrierKind::Arrive)
    fail("should have a number of threads");
  if (reduces)
    operands.push_back(usePredicate(operand(n++)));
  Instr &made = emitMany(nullptr, results, operands);
  made.flow = Flow::Barrier;
  made.detail[0] = (uint8_t)kind;
  made.detail[1] = aligned;
  made.detail[2] = counted;
  made.detail[3] = results.size();
  made.detail[4] = reduces ? results.size() + operands.size() - 1 : 0;
}

} // namespace emu
