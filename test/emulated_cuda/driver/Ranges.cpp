#include "test/emulated_cuda/driver/State.h"

namespace emu {
namespace {

void reportOrder(CUctx_st &context, const Operation &operation, const Region &region, const Conflict &conflict,
                 bool writes) {
  (void)context;
  const Order &order = driver().order;
  std::string other = order.describe(operation, serialOf(conflict.other));
  reportFinding(concat("order", operation.what, other, writes),
                concat("order: ", order.describe(operation), writes ? " writes " : " reads ",
                       hex(region.base + conflict.offset), ", ", conflict.offset, " bytes into ", region.what,
                       ", which ", other, conflict.otherWrote ? " wrote" : " read",
                       ": no event, stream order or host orders the two"));
}

} // namespace

Region *regionOf(CUctx_st &context, CUdeviceptr at, size_t bytes) {
  Region *region = context.memory.find(at);
  return region && region->contains(at, bytes) ? region : nullptr;
}

std::string describeRange(CUctx_st &context, CUdeviceptr at, size_t bytes) {
  return concat(bytes, " bytes at ", hex(at), ", ", context.memory.describe(at));
}

bool readRange(CUctx_st &context, Operation &operation, CUdeviceptr at, size_t bytes) {
  if (!bytes)
    return true;
  Region *region = regionOf(context, at, bytes);
  if (!region) {
    finding("out of bounds: ", driver().order.describe(operation), " reads ", describeRange(context, at, bytes));
    return false;
  }
  uint64_t offset = at - region->base, missing = region->shadow.firstUninitialised(offset, bytes);
  if (missing != offset + bytes)
    reportFinding(concat("uninitialised", operation.what, region->what),
                  concat("uninitialised: ", driver().order.describe(operation), " reads ", bytes, " bytes at ", hex(at),
                         ", of which byte ", missing - offset, " has not been written, ", missing, " bytes into ",
                         region->what));
  if (auto conflict = region->shadow.range(driver().order, operation, offset, bytes, false))
    reportOrder(context, operation, *region, *conflict, false);
  return true;
}

bool writeRange(CUctx_st &context, Operation &operation, CUdeviceptr at, size_t bytes, bool initialises) {
  if (!bytes)
    return true;
  Region *region = regionOf(context, at, bytes);
  if (!region) {
    finding("out of bounds: ", driver().order.describe(operation), " writes ", describeRange(context, at, bytes));
    return false;
  }
  if (region->readOnly)
    finding("constant: ", driver().order.describe(operation), " writes ", region->what, ", which is constant");
  uint64_t offset = at - region->base;
  if (auto conflict = region->shadow.range(driver().order, operation, offset, bytes, true))
    reportOrder(context, operation, *region, *conflict, true);
  region->shadow.setInitialised(offset, bytes, initialises);
  return true;
}

} // namespace emu
