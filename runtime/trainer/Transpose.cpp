// See Transpose.h.
#include "runtime/trainer/Transpose.h"

namespace amc::rt {

bool TransposedLayout::valid(const Shape &weight, const std::vector<uint32_t> &permutation) {
  if (permutation.empty())
    return true;
  if (permutation.size() != weight.size())
    return false;
  std::vector<bool> seen(weight.size());
  for (uint32_t axis : permutation) {
    if (axis >= weight.size() || seen[axis])
      return false;
    seen[axis] = true;
  }
  return true;
}

TransposedLayout::TransposedLayout(Shape weight, std::vector<uint32_t> permutation)
    : stored(weight), strides(weight.size()), alike(true) {
  std::vector<uint64_t> weightStrides(weight.size(), 1);
  for (size_t axis = weight.size(); axis > 1; --axis)
    weightStrides[axis - 2] = weightStrides[axis - 1] * weight[axis - 1];
  for (size_t axis = 0; axis < weight.size(); ++axis) {
    size_t from = permutation.empty() ? axis : permutation[axis];
    stored[axis] = weight[from];
    strides[axis] = weightStrides[from];
    alike &= from == axis;
  }
}

uint64_t TransposedLayout::weightIndex(uint64_t index) const {
  uint64_t at = 0;
  for (size_t axis = stored.size(); axis > 0; --axis) {
    at += index % stored[axis - 1] * strides[axis - 1];
    index /= stored[axis - 1];
  }
  return at;
}

} // namespace amc::rt
