// What the emulated device remembers of every byte: whether it has been written since it was allocated, and who wrote
// and who read it last.
//
// Who is a Stamp: the serial (of a block's run, or of an operation such as a copy; see Order.h), the time of the
// block's barriers, and the warp and lane. Stamps compare by serial, then time, so that one comparison tells what an
// earlier operation did, or the same block before its last barrier. One stamp covers a cell; cells of a page of 4 KiB
// have the size of the smallest access that the page has seen, or are the page as long as only whole-page operations
// touched it.
#ifndef AMC_TEST_EMULATED_CUDA_MEMORY_SHADOW_H
#define AMC_TEST_EMULATED_CUDA_MEMORY_SHADOW_H

#include "test/emulated_cuda/memory/Order.h"
#include <cstddef>
#include <optional>

namespace emu {

using Stamp = int64_t; // never negative: serials have 32 bits

// From the top: serial, clock, warp, lane, and whether the access was atomic.
inline constexpr unsigned laneShift = 1, warpShift = 7, clockShift = 13, serialShift = 31;
inline constexpr uint64_t maxClock = (1 << (serialShift - clockShift)) - 1;
inline constexpr unsigned manyLanes = 32, manyWarps = 32, manyBlocks = 33;
inline constexpr Stamp atomicBit = 1;
inline constexpr Stamp threadMask = ~Stamp(maxClock << clockShift | atomicBit);

constexpr Stamp stampOf(uint64_t serial, uint64_t clock = 0, unsigned warp = 0, unsigned lane = 0) {
  return Stamp(serial << serialShift | clock << clockShift | uint64_t(warp) << warpShift | uint64_t(lane) << laneShift);
}
constexpr uint64_t serialOf(Stamp stamp) { return uint64_t(stamp) >> serialShift; }
constexpr uint64_t clockOf(Stamp stamp) { return uint64_t(stamp) >> clockShift & maxClock; }
constexpr unsigned warpOf(Stamp stamp) { return stamp >> warpShift & 63; }
constexpr unsigned laneOf(Stamp stamp) { return stamp >> laneShift & 63; }
constexpr bool sameThread(Stamp a, Stamp b) { return ((a ^ b) & threadMask) == 0; }

// Pages that are zero and take no memory until they are written.
class Mapping {
public:
  Mapping() = default;
  explicit Mapping(size_t bytes); // throws std::bad_alloc
  Mapping(Mapping &&other) noexcept : begin(other.begin), length(other.length) { other.begin = nullptr; }
  Mapping &operator=(Mapping &&other) noexcept {
    std::swap(begin, other.begin);
    std::swap(length, other.length);
    return *this;
  }
  ~Mapping();
  std::byte *data() const { return begin; }

private:
  std::byte *begin = nullptr;
  size_t length = 0;
};

inline constexpr unsigned pageShift = 12;
inline constexpr uint64_t pageBytes = 1 << pageShift;

enum class Access : uint8_t { Read, Write, Atomic };

struct Conflict {
  uint64_t offset;
  Stamp other;
  bool otherWrote;
};

class Shadow {
public:
  Shadow() = default;
  explicit Shadow(uint64_t bytes);

  // Cells. `cellShift` is the logarithm of a cell's bytes in a page; `refine` makes cells at most that large.
  unsigned cellShift(uint64_t offset) const { return pageShift - fineness[offset >> pageShift]; }
  void refine(uint64_t offset, unsigned shift);
  size_t cell(uint64_t offset) const {
    return (offset & ~(pageBytes - 1)) + ((offset & (pageBytes - 1)) >> cellShift(offset));
  }
  Stamp *writers = nullptr, *readers = nullptr;

  // Initialised bytes, one bit each.
  uint64_t *initialised = nullptr;
  bool isInitialised(uint64_t offset, unsigned bytes) const { // at most 16, aligned
    uint64_t mask = (1ull << bytes) - 1;
    return (initialised[offset >> 6] >> (offset & 63) & mask) == mask;
  }
  void initialise(uint64_t offset, unsigned bytes) {
    initialised[offset >> 6] |= ((1ull << bytes) - 1) << (offset & 63);
  }
  void setInitialised(uint64_t offset, uint64_t bytes, bool value);
  uint64_t firstUninitialised(uint64_t offset, uint64_t bytes) const; // offset + bytes: none
  static void copyInitialised(Shadow &to, uint64_t toOffset, const Shadow &from, uint64_t fromOffset, uint64_t bytes);

  // An operation other than a kernel reads or writes a range: the first conflict with what is not ordered before it.
  std::optional<Conflict> range(Order &order, const Operation &now, uint64_t offset, uint64_t bytes, bool writes);

private:
  uint8_t *fineness = nullptr; // pageShift - cell shift
  Mapping bits, cells, fine;
};

} // namespace emu

#endif
