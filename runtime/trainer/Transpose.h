// The map between a weight and the transposed copy under which a tied initializer stores it.
#ifndef AMC_RUNTIME_TRAINER_TRANSPOSE_H
#define AMC_RUNTIME_TRAINER_TRANSPOSE_H

#include "runtime/trainer/Elements.h"

namespace amc::rt {

// stored = transpose(weight, permutation); an empty permutation stores alike.
class TransposedLayout {
public:
  TransposedLayout(Shape weight, std::vector<uint32_t> permutation);

  // False unless the permutation is empty or one of the weight's axes.
  static bool valid(const Shape &weight, const std::vector<uint32_t> &permutation);

  const Shape &storedShape() const { return stored; }
  // True if both lie alike in memory.
  bool identical() const { return alike; }
  // Where the weight has the element that is at row-major `index` in the stored tensor.
  uint64_t weightIndex(uint64_t index) const;

private:
  Shape stored;
  std::vector<uint64_t> strides; // of the weight, in the order of the stored axes
  bool alike;
};

} // namespace amc::rt

#endif
