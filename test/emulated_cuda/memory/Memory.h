// The memory of one emulated device: live allocations, by device address.
//
// Device addresses are no addresses of the host: using one there is a segmentation fault. Each allocation has memory of
// its own, and addresses are never given twice, so that an access through a stale pointer, or off either end, meets
// nothing.
#ifndef AMC_TEST_EMULATED_CUDA_MEMORY_MEMORY_H
#define AMC_TEST_EMULATED_CUDA_MEMORY_MEMORY_H

#include "test/emulated_cuda/memory/Shadow.h"
#include <cuda.h>
#include <deque>
#include <map>
#include <memory>
#include <string>

namespace emu {

// Where addresses of kernels' other memories stand when they are generic.
inline constexpr uint64_t sharedWindow = 0x0500ull << 48, localWindow = 0x0600ull << 48, paramWindow = 0x0700ull << 48;
inline constexpr uint64_t globalWindow = 0x0d00ull << 48, windowMask = 0xff00ull << 48;
inline constexpr unsigned deviceShift = 44; // of the device's ordinal in global addresses

struct Region {
  CUdeviceptr base = 0;
  uint64_t bytes = 0;
  std::byte *host = nullptr;
  Shadow shadow;
  std::string what; // "allocation 3 (cuMemAlloc)"
  bool readOnly = false;
  bool variable = false; // of a module
  bool owned = true;     // counts as device memory
  bool poisoned = false; // has gaps (see Launch.cpp), for shared memory
  Mapping mapping;
  bool contains(CUdeviceptr at, uint64_t n) const { return at - base <= bytes && n <= bytes - (at - base); }
};

class Memory {
public:
  Memory(int device, uint64_t total) : next((uint64_t(device) << deviceShift | globalWindow) + 0x200), total(total) {}

  // Null: no memory. `host`, where given, is what the addresses stand for (pinned host memory), initialised.
  Region *allocate(uint64_t bytes, const std::string &what, void *host = nullptr);
  bool free(CUdeviceptr base); // false: no allocation begins there
  Region *find(CUdeviceptr at) {
    auto after = regions.upper_bound(at);
    if (after == regions.begin())
      return nullptr;
    Region *region = std::prev(after)->second.get();
    return at - region->base < region->bytes ? region : nullptr;
  }
  const std::map<CUdeviceptr, std::unique_ptr<Region>> &all() const { return regions; }
  uint64_t used() const { return taken; }
  uint64_t size() const { return total; }
  void take(int64_t bytes) { taken += bytes; } // by a context, a module
  // What stands near an address that is in no allocation: "16 bytes past the end of allocation 3 (...)".
  std::string describe(CUdeviceptr at) const;

private:
  CUdeviceptr next;
  uint64_t total, taken = 0;
  size_t count = 0;
  std::map<CUdeviceptr, std::unique_ptr<Region>> regions;
  struct Gone {
    CUdeviceptr base;
    uint64_t bytes;
    std::string what;
  };
  std::deque<Gone> gone; // the last ones freed
};

} // namespace emu

#endif
