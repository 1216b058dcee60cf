#include "runtime/device/cuda/Kernel.h"
#include <limits>

namespace amc::rt::cuda {

Status Stream::launchWith(CUfunction function, Grid grid, unsigned threads, unsigned sharedBytes, void **arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0)
    return Status();
  if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
    return limitError("a launch of ", grid.x, " x ", grid.y, " x ", grid.z, " blocks is more than a GPU takes");
  return driver.check(driver.cuLaunchKernel(function, static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                                            static_cast<unsigned>(grid.z), threads, 1, 1, sharedBytes, handle, arguments,
                                            nullptr),
                      "a launch");
}

Status Stream::zero(std::byte *to, uint64_t bytes) {
  return bytes ? driver.check(driver.cuMemsetD8Async(reinterpret_cast<CUdeviceptr>(to), 0, bytes, handle), "zeroing")
               : Status();
}

Status Stream::copy(std::byte *to, const std::byte *from, uint64_t bytes) {
  return bytes ? driver.check(driver.cuMemcpyDtoDAsync(reinterpret_cast<CUdeviceptr>(to),
                                                       reinterpret_cast<CUdeviceptr>(from), bytes, handle),
                              "copying")
               : Status();
}

Expected<uint64_t *> Failures::add(FailureSlot slot) {
  if (slots.size() == maxSlots)
    return limitError("the plan has more than ", maxSlots, " instructions that check values of the data");
  slots.push_back(std::move(slot));
  return base + slots.size() - 1;
}

// A slot: the element (it saturates) above the value (it saturates), as kernels/Failure.cuh packs them.
Status Failures::of(const uint64_t *values) const {
  for (size_t i = 0; i < slots.size(); ++i) {
    if (values[i] == none)
      continue;
    const FailureSlot &slot = slots[i];
    auto value = static_cast<int32_t>(static_cast<uint32_t>(values[i]));
    const char *beyond = value == std::numeric_limits<int32_t>::max()   ? " or more"
                         : value == std::numeric_limits<int32_t>::min() ? " or less"
                                                                        : "";
    return inputError(slot.where, ": ", slot.what, " ", value, beyond, " at element ", values[i] >> 32, " should be in [",
                      slot.low, ", ", slot.high, ")");
  }
  return Status();
}

} // namespace amc::rt::cuda
