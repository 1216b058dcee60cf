#include "test/emulated_cuda/engine/Loads.h"
#include "test/emulated_cuda/engine/Float.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include "test/emulated_cuda/engine/Quick.h"
#include <algorithm>
#include <cstring>

namespace emu {
namespace {

template <unsigned Bytes> struct Bits;
template <> struct Bits<1> { using Type = uint8_t; };
template <> struct Bits<2> { using Type = uint16_t; };
template <> struct Bits<4> { using Type = uint32_t; };
template <> struct Bits<8> { using Type = uint64_t; };

template <unsigned Bytes, unsigned Elements> void load(Warp &w, const Instr &i, uint32_t mask) {
  using T = typename Bits<Bytes>::Type;
  constexpr unsigned total = Bytes * Elements;
  uint64_t addresses[32];
  addressesOf(w, i, i.r[Elements], addresses);
  Access access = i.detail[StrongDetail] ? Access::Atomic : Access::Read;
  if (mask == allLanes && access == Access::Read) {
    if (const std::byte *from = checkTogether(w, i, addresses, total, access)) {
      bool same = addresses[0] == addresses[1];
      for (unsigned e = 0; e < Elements; ++e) {
        T *d = w.lanes<T>(i.r[e]);
        const T *s = reinterpret_cast<const T *>(from) + e;
        if (same)
          std::fill_n(d, 32, *s);
        else
          for (unsigned l = 0; l < 32; ++l)
            d[l] = s[l * Elements];
      }
      return;
    }
  }
  T values[Elements][32];
  Quick quick(w, i, total);
  for (uint32_t rest = mask; rest; rest &= rest - 1) {
    unsigned l = std::countr_zero(rest);
    const std::byte *from = access == Access::Read ? quick.read(l, addresses[l]) : nullptr;
    if (!from) {
      Spot spot = locate(w, i, l, (Where)i.detail[WhereDetail], addresses[l], total, false);
      check(w, i, l, spot, total, access);
      from = spot.host;
    }
    T element[Elements];
    memcpy(element, from, total);
    for (unsigned e = 0; e < Elements; ++e)
      values[e][l] = element[e];
  }
  for (unsigned e = 0; e < Elements; ++e)
    merge(w.lanes<T>(i.r[e]), values[e], mask);
}

template <unsigned Bytes, unsigned Elements> void store(Warp &w, const Instr &i, uint32_t mask) {
  using T = typename Bits<Bytes>::Type;
  constexpr unsigned total = Bytes * Elements;
  uint64_t addresses[32];
  addressesOf(w, i, i.r[0], addresses);
  Access access = i.detail[StrongDetail] ? Access::Atomic : Access::Write;
  if (mask == allLanes && access == Access::Write) {
    if (std::byte *to = checkTogether(w, i, addresses, total, access)) {
      for (unsigned e = 0; e < Elements; ++e) {
        const T *s = w.lanes<T>(i.r[1 + e]);
        T *d = reinterpret_cast<T *>(to) + e;
        for (unsigned l = 0; l < 32; ++l)
          d[l * Elements] = s[l];
      }
      return;
    }
  }
  Quick quick(w, i, total);
  for (uint32_t rest = mask; rest; rest &= rest - 1) {
    unsigned l = std::countr_zero(rest);
    std::byte *to = access == Access::Write ? quick.write(l, addresses[l]) : nullptr;
    if (!to) {
      Spot spot = locate(w, i, l, (Where)i.detail[WhereDetail], addresses[l], total, true);
      if (access == Access::Atomic && spot.region)
        spot.region->shadow.initialise(spot.offset, total);
      check(w, i, l, spot, total, access);
      to = spot.host;
    }
    T element[Elements];
    for (unsigned e = 0; e < Elements; ++e)
      element[e] = w.lanes<T>(i.r[1 + e])[l];
    memcpy(to, element, total);
  }
}

template <unsigned Bytes, unsigned Elements> void parameter(Warp &w, const Instr &i, uint32_t mask) {
  using T = typename Bits<Bytes>::Type;
  for (unsigned e = 0; e < Elements; ++e) {
    T value, t[32];
    memcpy(&value, w.launch->parameters.data() + i.immediate + e * Bytes, Bytes);
    std::fill_n(t, 32, value);
    merge(w.lanes<T>(i.r[e]), t, mask);
  }
}

#define PICK(function)                                                                                                 \
  switch (bytes * 16 + elements) {                                                                                     \
  case 1 * 16 + 1:                                                                                                     \
    return function<1, 1>;                                                                                             \
  case 1 * 16 + 2:                                                                                                     \
    return function<1, 2>;                                                                                             \
  case 1 * 16 + 4:                                                                                                     \
    return function<1, 4>;                                                                                             \
  case 2 * 16 + 1:                                                                                                     \
    return function<2, 1>;                                                                                             \
  case 2 * 16 + 2:                                                                                                     \
    return function<2, 2>;                                                                                             \
  case 2 * 16 + 4:                                                                                                     \
    return function<2, 4>;                                                                                             \
  case 4 * 16 + 1:                                                                                                     \
    return function<4, 1>;                                                                                             \
  case 4 * 16 + 2:                                                                                                     \
    return function<4, 2>;                                                                                             \
  case 4 * 16 + 4:                                                                                                     \
    return function<4, 4>;                                                                                             \
  case 8 * 16 + 1:                                                                                                     \
    return function<8, 1>;                                                                                             \
  case 8 * 16 + 2:                                                                                                     \
    return function<8, 2>;                                                                                             \
  default:                                                                                                             \
    return nullptr;                                                                                                    \
  }

// One lane's update of `old`.
template <class T> T updated(Atomic what, T old, T value, T swap) {
  using U = std::conditional_t<std::is_floating_point_v<T>, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>, T>;
  switch (what) {
  case Atomic::Add:
    if constexpr (std::is_floating_point_v<T>)
      return canonical(T(old + value));
    else
      return T(std::make_unsigned_t<T>(old) + std::make_unsigned_t<T>(value));
  case Atomic::Min:
    return std::min(old, value);
  case Atomic::Max:
    return std::max(old, value);
  case Atomic::And:
    return std::bit_cast<T>(U(std::bit_cast<U>(old) & std::bit_cast<U>(value)));
  case Atomic::Or:
    return std::bit_cast<T>(U(std::bit_cast<U>(old) | std::bit_cast<U>(value)));
  case Atomic::Xor:
    return std::bit_cast<T>(U(std::bit_cast<U>(old) ^ std::bit_cast<U>(value)));
  case Atomic::Exchange:
    return value;
  case Atomic::Swap:
    return std::bit_cast<U>(old) == std::bit_cast<U>(value) ? swap : old;
  case Atomic::Inc:
    return old >= value ? T(0) : T(old + 1);
  case Atomic::Dec:
    return old == 0 || old > value ? value : T(old - 1);
  }
  return old;
}

// Half precisions, alone or in pairs, are added only.
template <class H> uint16_t addedHalf(uint16_t a, uint16_t b) { return H::narrow(H::widen(a) + H::widen(b)); }
struct HalfOne {
  using Type = uint16_t;
  template <class H> static Type add(Type a, Type b) { return addedHalf<H>(a, b); }
};
struct HalfPair {
  using Type = uint32_t;
  template <class H> static Type add(Type a, Type b) {
    return addedHalf<H>(a, b) | uint32_t(addedHalf<H>(a >> 16, b >> 16)) << 16;
  }
};

template <class T, class F> void atomicLanes(Warp &w, const Instr &i, uint32_t mask, bool gives, F update) {
  uint64_t addresses[32];
  addressesOf(w, i, i.r[gives], addresses);
  for (uint32_t rest = mask; rest; rest &= rest - 1) {
    unsigned l = std::countr_zero(rest);
    Spot spot = locate(w, i, l, (Where)i.detail[WhereDetail], addresses[l], sizeof(T), true);
    check(w, i, l, spot, sizeof(T), Access::Atomic);
    if (spot.region && spot.region != w.block->shared)
      atomicAt(w, spot.region->base + spot.offset);
    T old;
    memcpy(&old, spot.host, sizeof old);
    T now = update(old, l);
    memcpy(spot.host, &now, sizeof now);
    if (gives)
      w.lanes<T>(i.r[0])[l] = old;
  }
}

template <class T, bool Gives> void atomic(Warp &w, const Instr &i, uint32_t mask) {
  const T *value = w.lanes<T>(i.r[Gives + 1]);
  const T *swap = i.operands > 2 ? w.lanes<T>(i.r[Gives + 2]) : value;
  T values[32], swaps[32]; // the result may be their register
  memcpy(values, value, sizeof values);
  memcpy(swaps, swap, sizeof swaps);
  Atomic what = (Atomic)i.detail[3];
  atomicLanes<T>(w, i, mask, Gives, [&](T old, unsigned l) { return updated<T>(what, old, values[l], swaps[l]); });
}

template <class Form, class H, bool Gives> void atomicHalf(Warp &w, const Instr &i, uint32_t mask) {
  using T = typename Form::Type;
  T values[32];
  memcpy(values, w.lanes<T>(i.r[Gives + 1]), sizeof values);
  atomicLanes<T>(w, i, mask, Gives, [&](T old, unsigned l) { return Form::template add<H>(old, values[l]); });
}

template <unsigned Matrices> void loadMatrix(Warp &w, const Instr &i, uint32_t mask) {
  uint64_t addresses[32];
  addressesOf(w, i, i.r[Matrices], addresses);
  if (mask != allLanes)
    abortLaunch(w, i, std::countr_zero(mask), CUDA_ERROR_LAUNCH_FAILED, "divergence",
                "ldmatrix should be executed by all lanes of the warp");
  uint16_t rows[8 * Matrices][8];
  for (unsigned row = 0; row < 8 * Matrices; ++row) { // its address is in the lane of this number
    Spot spot = locate(w, i, row, (Where)i.detail[WhereDetail], addresses[row], 16, false);
    check(w, i, row, spot, 16, Access::Read);
    memcpy(rows[row], spot.host, 16);
  }
  for (unsigned m = 0; m < Matrices; ++m) {
    uint32_t *d = w.lanes<uint32_t>(i.r[m]);
    for (unsigned l = 0; l < 32; ++l) {
      unsigned row = l / 4, column = l % 4 * 2;
      uint16_t low = i.detail[3] ? rows[8 * m + column][row] : rows[8 * m + row][column];
      uint16_t high = i.detail[3] ? rows[8 * m + column + 1][row] : rows[8 * m + row][column + 1];
      d[l] = low | uint32_t(high) << 16;
    }
  }
}

void finishCopy(Warp &w, const Instr &i, const AsyncCopy &copy) {
  Spot to = locate(w, i, copy.lane, Where::Shared, copy.target, copy.bytes, true);
  check(w, i, copy.lane, to, copy.bytes, Access::Write);
  memset(to.host, 0, copy.bytes);
  unsigned piece = copy.sourceBytes == copy.bytes ? copy.bytes : 1; // what is left out may be any number of bytes
  for (unsigned at = 0; at < copy.sourceBytes; at += piece) {
    Spot from = locate(w, i, copy.lane, Where::Global, copy.source + at, piece, false);
    check(w, i, copy.lane, from, piece, Access::Read);
    memcpy(to.host + at, from.host, piece);
  }
}

} // namespace

Handler loadHandler(unsigned bytes, unsigned elements){PICK(load)} Handler
    storeHandler(unsigned bytes, unsigned elements){PICK(store)} Handler
    parameterHandler(unsigned bytes, unsigned elements){PICK(parameter)}

Handler atomicHandler(Atomic what, ptx::Type type, bool gives) {
  using ptx::Type;
  auto of = [&](auto t) -> Handler {
    using T = decltype(t);
    return gives ? atomic<T, true> : atomic<T, false>;
  };
  bool bits = what == Atomic::And || what == Atomic::Or || what == Atomic::Xor || what == Atomic::Exchange ||
              what == Atomic::Swap;
  switch (type) {
  case Type::B16:
    return what == Atomic::Swap ? of(uint16_t()) : nullptr;
  case Type::B32:
    return bits ? of(uint32_t()) : nullptr;
  case Type::B64:
    return bits ? of(uint64_t()) : nullptr;
  case Type::U32:
    return of(uint32_t());
  case Type::S32:
    return what == Atomic::Inc || what == Atomic::Dec ? nullptr : of(int32_t());
  case Type::U64:
    return what == Atomic::Inc || what == Atomic::Dec ? nullptr : of(uint64_t());
  case Type::S64:
    return what == Atomic::Inc || what == Atomic::Dec ? nullptr : of(int64_t());
  case Type::F32:
    return what == Atomic::Add ? of(float()) : nullptr;
  case Type::F64:
    return what == Atomic::Add ? of(double()) : nullptr;
  case Type::F16:
    return what != Atomic::Add ? nullptr : gives ? atomicHalf<HalfOne, Half, true> : atomicHalf<HalfOne, Half, false>;
  case Type::BF16:
    return what != Atomic::Add ? nullptr
           : gives             ? atomicHalf<HalfOne, BFloat, true>
                               : atomicHalf<HalfOne, BFloat, false>;
  case Type::F16x2:
    return what != Atomic::Add ? nullptr : gives ? atomicHalf<HalfPair, Half, true> : atomicHalf<HalfPair, Half, false>;
  case Type::BF16x2:
    return what != Atomic::Add ? nullptr
           : gives             ? atomicHalf<HalfPair, BFloat, true>
                               : atomicHalf<HalfPair, BFloat, false>;
  default:
    return nullptr;
  }
}

Handler matrixHandler(unsigned matrices) {
  return matrices == 1 ? loadMatrix<1> : matrices == 2 ? loadMatrix<2> : loadMatrix<4>;
}

// A copy happens when it is waited for: as late as it may. Until then its target is uninitialised.
void copyAsync(Warp &w, const Instr &i, uint32_t mask) {
  uint64_t sources[32];
  const uint64_t *source = w.lanes<uint64_t>(i.r[1]);
  memcpy(sources, source, sizeof sources);
  uint8_t bytes = i.detail[3];
  for (uint32_t rest = mask; rest; rest &= rest - 1) {
    unsigned l = std::countr_zero(rest);
    uint64_t target = i.detail[NarrowDetail] ? uint32_t(w.lanes<uint32_t>(i.r[0])[l] + i.immediate)
                                             : w.lanes<uint64_t>(i.r[0])[l] + i.immediate;
    unsigned taken = i.detail[4] ? std::min<uint32_t>(bytes, w.lanes<uint32_t>(i.r[2])[l]) : bytes;
    Spot to = locate(w, i, l, Where::Shared, target, bytes, true);
    check(w, i, l, to, bytes, Access::Write);
    to.region->shadow.setInitialised(to.offset, bytes, false);
    uint64_t from = sources[l] + (int32_t)i.extra;
    w.copies.push_back({(uint8_t)l, bytes, (uint8_t)taken, (uint32_t)target, from, w.commits[l]});
  }
}

void commitCopies(Warp &w, const Instr &, uint32_t mask) {
  for (unsigned l = 0; l < 32; ++l)
    w.commits[l] += mask >> l & 1;
}

void waitForCopies(Warp &w, const Instr &i, uint32_t mask) {
  bool all = i.immediate == none;
  std::erase_if(w.copies, [&](const AsyncCopy &copy) {
    bool due = (mask >> copy.lane & 1) && (all || copy.commit + i.immediate < w.commits[copy.lane]);
    if (due)
      finishCopy(w, i, copy);
    return due;
  });
}

} // namespace emu
