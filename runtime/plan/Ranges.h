// The one place where offsets and lengths meet: no other code of reader, verifier and executor adds them up.
#ifndef AMC_RUNTIME_PLAN_RANGES_H
#define AMC_RUNTIME_PLAN_RANGES_H

#include "runtime/plan/DTypes.h"
#include <cstdint>
#include <optional>

namespace amc::rt {

// Is [offset, offset + length) inside [0, limit)? Never overflows.
constexpr bool rangeFits(uint64_t offset, uint64_t length, uint64_t limit) {
  return offset <= limit && length <= limit - offset;
}

// Products of more than this are refused everywhere, so that sizes can be multiplied by small factors and
// counted in int64_t. 2^48 bytes is what an address space holds.
inline constexpr uint64_t maxTensorBytes = uint64_t(1) << 48;
// Micro-batches of a step: a run holds something for each.
inline constexpr uint64_t mostMicroBatches = uint64_t(1) << 20;

// Elements of a shape; nothing if it, or its product without zeros, is beyond maxTensorBytes.
template <class Shape> std::optional<uint64_t> shapeElements(const Shape &shape) {
  uint64_t product = 1;
  bool empty = false;
  for (uint64_t dim : shape) {
    if (dim == 0) {
      empty = true;
      continue;
    }
    if (dim > maxTensorBytes / product)
      return std::nullopt;
    product *= dim;
  }
  return empty ? 0 : product;
}

// Bytes of a tensor; nothing if it is too large or its dtype is not one.
inline std::optional<uint64_t> viewBytes(const plan::View &view) {
  std::optional<uint64_t> elements = shapeElements(view.shape());
  uint64_t width = dtypeBytes(view.dtype());
  if (!elements || width == 0 || *elements > maxTensorBytes / width)
    return std::nullopt;
  return *elements * width;
}

} // namespace amc::rt

#endif
