#include "test/emulated_cuda/memory/Shadow.h"
#include <bit>
#include <new>
#include <sys/mman.h>

namespace emu {

Mapping::Mapping(size_t bytes) : length(std::max<size_t>(bytes, 1)) {
  void *made = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED)
    throw std::bad_alloc();
  begin = static_cast<std::byte *>(made);
}

Mapping::~Mapping() {
  if (begin)
    munmap(begin, length);
}

Shadow::Shadow(uint64_t bytes) {
  uint64_t pages = (bytes + pageBytes - 1) / pageBytes;
  bits = Mapping(pages * pageBytes / 8 + 16);
  cells = Mapping(pages * pageBytes * 2 * sizeof(Stamp));
  fine = Mapping(pages);
  initialised = reinterpret_cast<uint64_t *>(bits.data());
  writers = reinterpret_cast<Stamp *>(cells.data());
  readers = writers + pages * pageBytes;
  fineness = reinterpret_cast<uint8_t *>(fine.data());
}

void Shadow::refine(uint64_t offset, unsigned shift) {
  unsigned old = cellShift(offset);
  if (old <= shift)
    return;
  uint64_t page = offset & ~(pageBytes - 1);
  size_t times = size_t(1) << (old - shift);
  for (Stamp *stamps : {writers + page, readers + page})
    for (size_t i = pageBytes >> old; i-- > 0;) // from behind: cells grow in place
      std::fill_n(stamps + i * times, times, Stamp(stamps[i]));
  fineness[offset >> pageShift] = pageShift - shift;
}

void Shadow::setInitialised(uint64_t offset, uint64_t bytes, bool value) {
  while (bytes) {
    unsigned at = offset & 63;
    uint64_t n = std::min<uint64_t>(64 - at, bytes);
    uint64_t mask = (n == 64 ? ~0ull : (1ull << n) - 1) << at;
    uint64_t &word = initialised[offset >> 6];
    word = value ? word | mask : word & ~mask;
    offset += n;
    bytes -= n;
  }
}

uint64_t Shadow::firstUninitialised(uint64_t offset, uint64_t bytes) const {
  uint64_t end = offset + bytes;
  while (offset < end) {
    unsigned at = offset & 63;
    uint64_t missing = ~initialised[offset >> 6] >> at;
    if (missing)
      return std::min<uint64_t>(end, offset + std::countr_zero(missing));
    offset += 64 - at;
  }
  return end;
}

void Shadow::copyInitialised(Shadow &to, uint64_t toOffset, const Shadow &from, uint64_t fromOffset, uint64_t bytes) {
  auto isSet = [&](uint64_t i) { return from.initialised[(fromOffset + i) >> 6] >> ((fromOffset + i) & 63) & 1; };
  // Runs of equal bits, which are long.
  for (uint64_t i = 0; i < bytes;) {
    bool value = isSet(i);
    uint64_t run = i;
    if (value)
      run = from.firstUninitialised(fromOffset + i, bytes - i) - fromOffset;
    else
      while (run < bytes && !isSet(run))
        ++run;
    to.setInitialised(toOffset + i, run - i, value);
    i = run;
  }
}

std::optional<Conflict> Shadow::range(Order &order, const Operation &now, uint64_t offset, uint64_t bytes,
                                      bool writes) {
  std::optional<Conflict> conflict;
  Stamp limit = stampOf(now.limit), mine = stampOf(now.serial);
  auto check = [&](Stamp other, bool wrote, uint64_t at) {
    if (other >= limit && !conflict && !order.ordered(now, serialOf(other)))
      conflict = {at, other, wrote};
  };
  for (uint64_t end = offset + bytes; offset < end;) {
    uint64_t page = offset & ~(pageBytes - 1);
    uint64_t to = std::min(page + pageBytes, end);
    bool whole = to - offset == pageBytes;
    if (!whole) {
      unsigned aligned = std::countr_zero(offset | to | 16);
      refine(offset, aligned);
    }
    unsigned shift = cellShift(offset);
    size_t first = page + ((offset - page) >> shift), count = std::max<uint64_t>(1, (to - offset) >> shift);
    for (size_t i = first; i < first + count; ++i) {
      uint64_t at = page + ((i - page) << shift);
      check(writers[i], true, at);
      if (writes) {
        check(readers[i], false, at);
        writers[i] = mine;
        readers[i] = 0;
      } else if (readers[i] < limit || order.ordered(now, serialOf(readers[i]))) {
        readers[i] = mine;
      } else {
        readers[i] = stampOf(order.together(now, serialOf(readers[i])));
      }
    }
    if (whole && writes) { // one cell again
      fineness[page >> pageShift] = 0;
      writers[page] = mine;
      readers[page] = 0;
    }
    offset = to;
  }
  return conflict;
}

} // namespace emu
