#include "test/emulated_cuda/engine/Access.h"
#include "test/emulated_cuda/driver/Findings.h"
#include "test/emulated_cuda/engine/Lanes.h"

namespace emu {
namespace {

const char *verb(Access access) {
  return access == Access::Read ? "reads" : access == Access::Write ? "writes" : "updates atomically";
}

std::string range(const Warp &w, Where where, uint64_t address, unsigned bytes) {
  const char *space = where == Where::Shared ? "shared address " : where == Where::Local ? "local address " : "";
  (void)w;
  return concat(bytes, bytes == 1 ? " byte at " : " bytes at ", space, hex(address));
}

Where windowOf(uint64_t &address) {
  switch (address & windowMask) {
  case sharedWindow:
    address &= ~windowMask;
    return Where::Shared;
  case localWindow:
    address &= ~windowMask;
    return Where::Local;
  case paramWindow:
    address &= ~windowMask;
    return Where::Param;
  default:
    return Where::Global;
  }
}

// The shared variable that has these bytes, or the launch's dynamic memory.
bool inSharedVariable(const Launch &launch, uint64_t offset, uint64_t bytes) {
  const Kernel &kernel = *launch.kernel;
  auto within = [&](uint64_t from, uint64_t size) { return offset >= from && offset - from + bytes <= size; };
  for (const SharedVariable &variable : kernel.shared)
    if (within(variable.offset, variable.bytes))
      return true;
  return within(kernel.dynamicSharedOffset, launch.dynamicShared);
}

std::string describeShared(const Launch &launch) {
  std::string text = "shared memory of the block is";
  for (const SharedVariable &variable : launch.kernel->shared)
    text += concat(" ", variable.name, " at ", hex(variable.offset), " (", variable.bytes, " bytes),");
  if (launch.dynamicShared)
    text += concat(" dynamic at ", hex(launch.kernel->dynamicSharedOffset), " (", launch.dynamicShared, " bytes),");
  if (text.back() == ',')
    text.pop_back();
  else
    text += " empty";
  return text;
}

bool inThisLaunch(const Warp &w, uint64_t serial) {
  const Operation &operation = *w.launch->operation;
  return serial >= operation.serial && serial < operation.serialEnd;
}

bool acquiredFrom(const Warp &w, uint64_t serial, uint64_t clock) {
  for (const auto &[address, seen] : w.block->acquired) {
    const Releases &releases = w.launch->released.at(address);
    for (size_t n = 0; n < seen; ++n)
      if (releases.list[n].serial == serial && releases.list[n].time >= clock)
        return true;
  }
  return false;
}

bool acquiredFromAll(const Warp &w) {
  for (const auto &[address, seen] : w.block->acquired)
    if (seen + 1 >= w.launch->blocksBegun)
      return true;
  return false;
}

// Whether what `other` did happens before what this lane does now.
bool ordered(const Warp &w, unsigned lane, Stamp other, Stamp limit) {
  if (other < limit || sameThread(other, w.stamps[lane]))
    return true;
  const Launch &launch = *w.launch;
  const Block &block = *w.block;
  uint64_t serial = serialOf(other), clock = clockOf(other);
  if (!inThisLaunch(w, serial))
    return launch.order->ordered(*launch.operation, serial);
  if (serial == launch.operation->serial)
    return acquiredFromAll(w);
  if (serial != block.serial)
    return acquiredFrom(w, serial, clock);
  if (clock < block.lastFull)
    return true;
  unsigned warp = warpOf(other), of = laneOf(other);
  if (warp == manyWarps)
    return block.partialBarriers; // whose they were is not known any more
  if (warp != w.index)
    return block.partialBarriers && block.known[w.index][warp] > clock;
  return clock < w.clock || (clock < w.partialTime[lane] && (of == manyLanes || clock < w.partialTime[of]));
}

std::string whoIs(const Warp &w, Stamp other) {
  const Launch &launch = *w.launch;
  uint64_t serial = serialOf(other);
  if (!inThisLaunch(w, serial))
    return launch.order->describe(*launch.operation, serial);
  if (serial == launch.operation->serial)
    return "several blocks of this launch";
  uint64_t n = serial - launch.operation->serial - 1;
  uint64_t index = (launch.firstBlock + n * launch.blockStep) % launch.blocks;
  std::string block = concat("block (", index % launch.grid[0], ", ", index / launch.grid[0] % launch.grid[1], ", ",
                             index / launch.grid[0] / launch.grid[1], ")");
  if (warpOf(other) == manyWarps)
    return concat("several threads of ", block);
  if (laneOf(other) == manyLanes)
    return concat("several threads of warp ", warpOf(other), " of ", block);
  unsigned thread = warpOf(other) * 32 + laneOf(other);
  return concat("thread (", thread % launch.block[0], ", ", thread / launch.block[0] % launch.block[1], ", ",
                thread / launch.block[0] / launch.block[1], ") of ", block);
}

void reportRace(Warp &w, const Instr &i, unsigned lane, const Spot &spot, unsigned bytes, Access access, Stamp other,
                bool otherWrote) {
  bool same = inThisLaunch(w, serialOf(other));
  const char *lacks = !same                                ? "no event, stream order or host orders the two"
                      : serialOf(other) == w.block->serial ? "no barrier stands between"
                                                           : "nothing orders blocks of one launch";
  std::string where = spot.region == w.block->shared ? concat("shared address ", hex(spot.offset))
                                                     : concat(hex(spot.region->base + spot.offset), ", ", spot.offset,
                                                              " bytes into ", spot.region->what);
  reportIn(w, i, lane, same ? "race" : "order",
           concat(verb(access), " ", bytes, " bytes at ", where, ", which ", whoIs(w, other),
                  otherWrote ? (other & atomicBit ? " updated" : " wrote") : " read", ": ", lacks));
}

struct Marks { // of one lane's access to one cell
  Warp &w;
  const Instr &i;
  unsigned lane;
  const Spot &spot;
  unsigned bytes;
  Access access;
  bool raced = false;
  Stamp limit, mine;

  void race(Stamp other, bool wrote) {
    if (!raced)
      reportRace(w, i, lane, spot, bytes, access, other, wrote);
    raced = true;
  }

  // Several threads' access in one stamp.
  Stamp joined(Stamp other, Stamp mine) const {
    if (serialOf(other) != w.block->serial)
      return w.launch->launchStamp;
    uint64_t clock = std::max(clockOf(other), clockOf(mine));
    return warpOf(other) == w.index ? stampOf(w.block->serial, clock, w.index, manyLanes)
                                    : stampOf(w.block->serial, clock, manyWarps, manyLanes);
  }

  void read(Stamp writer, Stamp &reader) {
    if (!ordered(w, lane, writer, limit))
      race(writer, true);
    if (serialOf(reader) == w.launch->operation->serial)
      return; // several blocks already
    if (ordered(w, lane, reader, limit))
      reader = mine;
    else if (inThisLaunch(w, serialOf(reader)))
      reader = joined(reader, mine);
    else
      reader = stampOf(w.launch->order->together(*w.launch->operation, serialOf(reader)));
  }

  void write(Stamp &writer, Stamp &reader) {
    bool inOrder = ordered(w, lane, writer, limit);
    bool bothAtomic = access == Access::Atomic && (writer & atomicBit) && inThisLaunch(w, serialOf(writer));
    if (!inOrder && !bothAtomic)
      race(writer, true);
    if (!ordered(w, lane, reader, limit))
      race(reader, false);
    writer = !inOrder && bothAtomic ? joined(writer, mine) : mine;
    if (access == Access::Atomic)
      writer |= atomicBit;
    reader = 0;
  }
};

void markCells(Warp &w, const Instr &i, unsigned lane, const Spot &spot, unsigned bytes, Access access, Stamp mine) {
  Shadow &shadow = spot.region->shadow;
  if ((1u << shadow.cellShift(spot.offset)) > bytes)
    shadow.refine(spot.offset, std::countr_zero(bytes));
  size_t first = shadow.cell(spot.offset), count = bytes >> shadow.cellShift(spot.offset);
  Stamp limit = spot.region == w.block->shared ? stampOf(w.block->serial, w.block->lastFull) : w.launch->limit;
  Marks marks{w, i, lane, spot, bytes, access, false, limit, mine};
  bool strongRead = access == Access::Atomic && i.detail[StrongDetail] == 2;
  for (size_t c = first; c < first + count; ++c) {
    Stamp &writer = shadow.writers[c], &reader = shadow.readers[c];
    if (strongRead) {
      if (!(writer & atomicBit) && !ordered(w, lane, writer, limit))
        marks.race(writer, true);
    } else if (access == Access::Read) {
      marks.read(writer, reader);
    } else {
      marks.write(writer, reader);
    }
  }
}

} // namespace

Spot locate(Warp &w, const Instr &i, unsigned lane, Where where, uint64_t address, unsigned bytes, bool writes) {
  const Launch &launch = *w.launch;
  uint64_t given = address;
  if (where == Where::Generic)
    where = windowOf(address);
  auto fail = [&](CUresult code, const char *kind, const std::string &why) {
    abortLaunch(w, i, lane, code, kind,
                concat(writes ? "writes " : "reads ", range(w, where, given, bytes), ": ", why));
  };
  if (address & (bytes - 1))
    fail(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned", concat("should be aligned to ", bytes, " bytes"));
  switch (where) {
  case Where::Shared:
    if (address >= launch.sharedBytes || bytes > launch.sharedBytes - address ||
        (w.block->shared->poisoned && !inSharedVariable(launch, address, bytes)))
      fail(CUDA_ERROR_ILLEGAL_ADDRESS, "out of bounds", describeShared(launch));
    return {w.block->shared->host + address, w.block->shared, address};
  case Where::Local: {
    uint64_t size = launch.kernel->localBytes;
    if (address >= size || bytes > size - address)
      fail(CUDA_ERROR_ILLEGAL_ADDRESS, "out of bounds", concat("the thread has ", size, " bytes of local memory"));
    return {w.local + lane * size + address, nullptr, address};
  }
  case Where::Param: {
    uint64_t size = launch.parameters.size();
    if (writes || address >= size || bytes > size - address)
      fail(CUDA_ERROR_ILLEGAL_ADDRESS, "out of bounds", concat("the kernel has ", size, " bytes of parameters"));
    return {const_cast<std::byte *>(launch.parameters.data()) + address, nullptr, address};
  }
  default:
    break;
  }
  Region *region = w.lastRegion;
  if (!region || !region->contains(address, bytes)) {
    region = launch.memory->find(address);
    if (!region)
      fail(CUDA_ERROR_ILLEGAL_ADDRESS, "out of bounds", launch.memory->describe(address));
    if (!region->contains(address, bytes))
      fail(CUDA_ERROR_ILLEGAL_ADDRESS, "out of bounds", concat("reaches past the end of ", region->what));
    w.lastRegion = region;
  }
  if (writes && region->readOnly)
    fail(CUDA_ERROR_ILLEGAL_ADDRESS, "constant", concat("is constant, in ", region->what));
  uint64_t offset = address - region->base;
  return {region->host + offset, region, offset};
}

void check(Warp &w, const Instr &i, unsigned lane, const Spot &spot, unsigned bytes, Access access) {
  if (!spot.region)
    return;
  Shadow &shadow = spot.region->shadow;
  if (access != Access::Write && !shadow.isInitialised(spot.offset, bytes)) {
    bool shared = spot.region == w.block->shared;
    reportIn(w, i, lane, "uninitialised",
             concat(verb(access), " ", bytes, " bytes at ", shared ? "shared address " : "",
                    hex(spot.region->base + spot.offset), ", ", spot.offset, " bytes into ", spot.region->what,
                    ", of which ", shadow.firstUninitialised(spot.offset, bytes) - spot.offset,
                    " are written before the first that is not"));
    shadow.initialise(spot.offset, bytes);
  }
  if (access != Access::Read)
    shadow.initialise(spot.offset, bytes);
  markCells(w, i, lane, spot, bytes, access, w.stamps[lane]);
}

std::byte *checkTogether(Warp &w, const Instr &i, const uint64_t *addresses, unsigned bytes, Access access) {
  uint64_t first = addresses[0], address = first;
  uint64_t differs = 0, strays = 0;
  for (unsigned l = 0; l < 32; ++l) {
    differs |= addresses[l] ^ first;
    strays |= addresses[l] ^ (first + l * bytes);
  }
  if ((differs && strays) || (!differs && access != Access::Read) || (first & (bytes - 1)))
    return nullptr;
  uint64_t total = strays ? bytes : 32ull * bytes;
  Where where = (Where)i.detail[WhereDetail];
  if (where == Where::Generic)
    where = windowOf(address);
  Region *region;
  uint64_t offset;
  Stamp limit;
  const Launch &launch = *w.launch;
  if (where == Where::Global) {
    region = w.lastRegion;
    if (!region || !region->contains(address, total)) {
      region = launch.memory->find(address);
      if (!region || !region->contains(address, total))
        return nullptr;
      w.lastRegion = region;
    }
    offset = address - region->base;
    limit = launch.limit;
    if (region->readOnly && access == Access::Write)
      return nullptr;
  } else if (where == Where::Shared) {
    region = w.block->shared;
    offset = address;
    if (offset >= launch.sharedBytes || total > launch.sharedBytes - offset ||
        (region->poisoned && !inSharedVariable(launch, offset, total)))
      return nullptr;
    limit = stampOf(w.block->serial, w.block->lastFull);
  } else {
    return nullptr;
  }
  Shadow &shadow = region->shadow;
  if (offset >> pageShift != (offset + total - 1) >> pageShift)
    return nullptr;
  if (access == Access::Read && shadow.firstUninitialised(offset, total) != offset + total)
    return nullptr;
  unsigned want = std::countr_zero(bytes);
  if (shadow.cellShift(offset) > want)
    shadow.refine(offset, want);
  unsigned cellsEach = bytes >> shadow.cellShift(offset);
  Stamp *writers = shadow.writers + shadow.cell(offset), *readers = shadow.readers + shadow.cell(offset);

  // Ordered: before the limit, in this block before its last barrier, or by the thread itself.
  Stamp blockBegin = stampOf(w.block->serial), blockFull = stampOf(w.block->serial, w.block->lastFull);
  auto conflicts = [=](Stamp other, Stamp mine) {
    return Stamp(other >= limit) & (Stamp(other < blockBegin) | Stamp(other >= blockFull)) &
           Stamp(((other ^ mine) & threadMask) != 0);
  };
  if (strays) { // all read the same
    Stamp mine = stampOf(w.block->serial, w.clock, w.index, manyLanes);
    for (unsigned c = 0; c < cellsEach; ++c)
      if (conflicts(writers[c], -1))
        return nullptr;
    for (unsigned c = 0; c < cellsEach; ++c) {
      if (!conflicts(readers[c], mine)) {
        readers[c] = mine;
      } else if (readers[c] != launch.launchStamp) {
        Spot spot{nullptr, region, offset};
        Marks{w, i, 0, spot, bytes, access, false, limit, mine}.read(0, readers[c]);
      }
    }
    return region->host + offset;
  }

  Stamp bad = 0, read = 0, unlike = 0;
  if (cellsEach == 1) {
    for (unsigned l = 0; l < 32; ++l) {
      bad |= conflicts(writers[l], w.stamps[l]);
      read |= conflicts(readers[l], w.stamps[l]);
      unlike |= readers[l] ^ launch.launchStamp;
    }
  } else {
    for (unsigned l = 0, c = 0; l < 32; ++l)
      for (unsigned k = 0; k < cellsEach; ++k, ++c) {
        bad |= conflicts(writers[c], w.stamps[l]);
        read |= conflicts(readers[c], w.stamps[l]);
        unlike |= readers[c] ^ launch.launchStamp;
      }
  }
  if (access == Access::Write) {
    if (bad | read)
      return nullptr;
    shadow.setInitialised(offset, total, true);
    for (unsigned l = 0, c = 0; l < 32; ++l)
      for (unsigned k = 0; k < cellsEach; ++k, ++c)
        writers[c] = w.stamps[l];
    std::fill_n(readers, 32 * cellsEach, 0);
    return region->host + offset;
  }
  if (bad)
    return nullptr;
  if (!read) {
    for (unsigned l = 0, c = 0; l < 32; ++l)
      for (unsigned k = 0; k < cellsEach; ++k, ++c)
        readers[c] = w.stamps[l];
  } else if (unlike) {
    return nullptr;
  }
  return region->host + offset;
}

void fenced(Warp &w) { w.block->fenced = w.block->time + 1; }

void atomicAt(Warp &w, CUdeviceptr address) {
  Block &block = *w.block;
  if (!block.fenced)
    return; // relaxed: it orders nothing
  Releases &releases = w.launch->released[address];
  block.acquired[address] = releases.list.size();
  releases.list.push_back({block.serial, block.fenced - 1});
}

} // namespace emu
