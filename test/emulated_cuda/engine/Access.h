// Memory as kernels see it: which bytes an address means, and whether a thread may use them now. Bounds and alignment
// end the launch, as they do on a device; what is uninitialised or races is reported, and the launch goes on.
#ifndef AMC_TEST_EMULATED_CUDA_ENGINE_ACCESS_H
#define AMC_TEST_EMULATED_CUDA_ENGINE_ACCESS_H

#include "test/emulated_cuda/engine/Warp.h"

namespace emu {

enum class Where : uint8_t { Generic, Global, Shared, Local, Param };

// Details of memory instructions.
enum Detail : uint8_t { WhereDetail = 0, NarrowDetail = 1, StrongDetail = 2 };

struct Spot {
  std::byte *host;
  Region *region; // null: the thread's own memory, which nothing races for
  uint64_t offset;
};

// Bounds and alignment of one lane's access.
Spot locate(Warp &w, const Instr &i, unsigned lane, Where where, uint64_t address, unsigned bytes, bool writes);

// Initialised bytes and races of one lane's access.
void check(Warp &w, const Instr &i, unsigned lane, const Spot &spot, unsigned bytes, Access access);

// All lanes access neighbouring bytes, or read the same: checks and marks at once what needs no further look. Null: it
// does, or there is nothing to find at all.
std::byte *checkTogether(Warp &w, const Instr &i, const uint64_t *addresses, unsigned bytes, Access access);

// The addresses in a register, plus the immediate.
inline void addressesOf(Warp &w, const Instr &i, uint32_t place, uint64_t *to) {
  if (i.detail[NarrowDetail]) {
    const uint32_t *a = w.lanes<uint32_t>(place);
    uint32_t offset = i.immediate;
    for (unsigned l = 0; l < 32; ++l)
      to[l] = uint32_t(a[l] + offset);
  } else {
    const uint64_t *a = w.lanes<uint64_t>(place);
    for (unsigned l = 0; l < 32; ++l)
      to[l] = a[l] + i.immediate;
  }
}

// A fence, or an atomic at a global address: they may order blocks.
void fenced(Warp &w);
void atomicAt(Warp &w, CUdeviceptr address);

} // namespace emu

#endif
