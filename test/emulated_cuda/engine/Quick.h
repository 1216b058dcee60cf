// One lane's access where nothing is wrong and nothing has to be looked up: what most accesses are that a warp does not
// make as one. It must not report; whatever is unusual is left to Access.cpp.
#ifndef AMC_TEST_EMULATED_CUDA_ENGINE_QUICK_H
#define AMC_TEST_EMULATED_CUDA_ENGINE_QUICK_H

#include "test/emulated_cuda/engine/Access.h"

namespace emu {

class Quick {
public:
  Quick(Warp &w, const Instr &i, unsigned bytes)
      : w(w), where((Where)i.detail[WhereDetail]), bytes(bytes), begin(stampOf(w.block->serial)),
        full(stampOf(w.block->serial, w.block->lastFull)),
        warpStamp(stampOf(w.block->serial, w.clock, w.index, manyLanes)),
        blockStamp(stampOf(w.block->serial, w.clock, manyWarps, manyLanes)) {}

  // The bytes, checked and marked as read or written; null: not so quickly.
  std::byte *read(unsigned lane, uint64_t address) {
    Cells c;
    if (!find(address, c) || !c.region->shadow.isInitialised(c.offset, bytes))
      return nullptr;
    Stamp mine = w.stamps[lane];
    for (unsigned n = 0; n < c.count; ++n) {
      if (conflicts(c.writers[n], mine, c.limit))
        return nullptr;
      Stamp &reader = c.readers[n];
      if (!conflicts(reader, mine, c.limit))
        reader = mine;
      else if ((reader ^ warpStamp) >> warpShift == 0) // of this warp, at this time
        reader = warpStamp;
      else if ((reader ^ blockStamp) >> clockShift == 0) // of this block, at this time
        reader = blockStamp;
      else if (reader != w.launch->launchStamp)
        return nullptr;
    }
    return c.host;
  }

  std::byte *write(unsigned lane, uint64_t address) {
    Cells c;
    if (!find(address, c) || c.region->readOnly)
      return nullptr;
    Stamp mine = w.stamps[lane];
    for (unsigned n = 0; n < c.count; ++n)
      if (conflicts(c.writers[n], mine, c.limit) || conflicts(c.readers[n], mine, c.limit))
        return nullptr;
    for (unsigned n = 0; n < c.count; ++n) {
      c.writers[n] = mine;
      c.readers[n] = 0;
    }
    c.region->shadow.initialise(c.offset, bytes);
    return c.host;
  }

private:
  struct Cells {
    Region *region;
    uint64_t offset;
    std::byte *host;
    Stamp *writers, *readers, limit;
    unsigned count;
  };
  Warp &w;
  Where where;
  unsigned bytes;
  Stamp begin, full, warpStamp, blockStamp;

  // Where the shared variable stands that the last lane used. Accesses are aligned: they do not leave it half.
  uint64_t variableBegin = 0, variableEnd = 0;
  bool findVariable(uint64_t address) {
    const Kernel &kernel = *w.launch->kernel;
    auto is = [&](uint64_t from, uint64_t size) {
      if (address < from || address - from >= size || size % bytes)
        return false;
      variableBegin = from;
      variableEnd = from + size;
      return true;
    };
    for (const SharedVariable &variable : kernel.shared)
      if (is(variable.offset, variable.bytes))
        return true;
    return is(kernel.dynamicSharedOffset, w.launch->dynamicShared);
  }

  bool find(uint64_t address, Cells &c) {
    uint64_t size;
    bool shared = where == Where::Shared;
    if (where == Where::Generic && (address & windowMask) == sharedWindow) {
      shared = true;
      address &= ~windowMask;
    }
    if (shared) {
      c.region = w.block->shared;
      size = w.launch->sharedBytes;
      c.limit = full;
      if (c.region->poisoned && !(address >= variableBegin && address < variableEnd) && !findVariable(address))
        return false;
    } else {
      c.region = w.lastRegion;
      if (!c.region)
        return false;
      size = c.region->bytes;
      c.limit = w.launch->limit;
    }
    c.offset = address - c.region->base;
    if (c.offset >= size || bytes > size - c.offset || (address & (bytes - 1)))
      return false;
    Shadow &shadow = c.region->shadow;
    unsigned shift = shadow.cellShift(c.offset);
    c.count = bytes >> shift;
    size_t cell = shadow.cell(c.offset);
    c.writers = shadow.writers + cell;
    c.readers = shadow.readers + cell;
    c.host = c.region->host + c.offset;
    return c.count != 0; // 0: the cell is larger
  }

  bool conflicts(Stamp other, Stamp mine, Stamp limit) const {
    return other >= limit && (other < begin || other >= full) && !sameThread(other, mine);
  }
};

} // namespace emu

#endif
