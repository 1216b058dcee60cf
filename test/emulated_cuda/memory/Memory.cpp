#include "test/emulated_cuda/memory/Memory.h"
#include "test/emulated_cuda/driver/Findings.h"
#include <new>

namespace emu {
namespace {

constexpr uint64_t granule = 512, gap = 1 << 20;
constexpr size_t remembered = 256;

uint64_t roundUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

} // namespace

Region *Memory::allocate(uint64_t bytes, const std::string &what, void *host) {
  uint64_t charged = host ? 0 : roundUp(bytes, granule);
  if (charged < bytes * !host || charged > total - std::min(total, taken))
    return nullptr;
  auto region = std::make_unique<Region>();
  try {
    region->shadow = Shadow(bytes);
    if (!host)
      region->mapping = Mapping(bytes);
  } catch (const std::bad_alloc &) {
    return nullptr;
  }
  region->base = next;
  region->bytes = bytes;
  region->host = host ? static_cast<std::byte *>(host) : region->mapping.data();
  region->owned = !host;
  region->what = concat("allocation ", ++count, " (", what, ", ", bytes, " bytes at ", hex(next), ")");
  if (host)
    region->shadow.setInitialised(0, bytes, true);
  // An odd multiple of 512: nothing may count on more.
  next += roundUp(bytes, 2 * granule) + gap;
  taken += charged;
  Region *made = region.get();
  regions.emplace(made->base, std::move(region));
  return made;
}

bool Memory::free(CUdeviceptr base) {
  auto found = regions.find(base);
  if (found == regions.end())
    return false;
  Region &region = *found->second;
  if (region.owned)
    taken -= roundUp(region.bytes, granule);
  gone.push_back({region.base, region.bytes, region.what});
  if (gone.size() > remembered)
    gone.pop_front();
  regions.erase(found);
  return true;
}

std::string Memory::describe(CUdeviceptr at) const {
  if (at < 4096)
    return "a null pointer";
  for (const Gone &one : gone)
    if (at - one.base < one.bytes)
      return concat(at - one.base, " bytes into ", one.what, ", which has been freed");
  auto after = regions.upper_bound(at);
  if (after != regions.begin()) {
    const Region &before = *std::prev(after)->second;
    uint64_t offset = at - before.base;
    if (offset < before.bytes)
      return concat(offset, " bytes into ", before.what);
    if (offset - before.bytes < gap / 2 + before.bytes)
      return concat(offset - before.bytes, " bytes past the end of ", before.what);
  }
  if (after != regions.end() && after->first - at < gap)
    return concat(after->first - at, " bytes before ", after->second->what);
  return "in no allocation";
}

} // namespace emu
