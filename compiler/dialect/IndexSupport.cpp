// Index arithmetic; see IndexSupport.h.
#include "compiler/dialect/IndexSupport.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace mlir;

namespace amc::train {

LogicalResult forEachIndex(ArrayRef<int64_t> shape,
                           function_ref<LogicalResult(int64_t, ArrayRef<int64_t>)> visit) {
  int64_t count = elementCount(shape);
  SmallVector<int64_t> coordinates(shape.size(), 0);
  for (int64_t flat = 0; flat < count; ++flat) {
    if (failed(visit(flat, coordinates)))
      return failure();
    for (size_t d = shape.size(); d-- > 0;) {
      if (++coordinates[d] < shape[d])
        break;
      coordinates[d] = 0;
    }
  }
  return success();
}

int64_t flatten(ArrayRef<int64_t> coordinates, ArrayRef<int64_t> strides) {
  int64_t flat = 0;
  for (size_t d = 0; d < coordinates.size(); ++d)
    flat += coordinates[d] * strides[d];
  return flat;
}

std::optional<int64_t> wrapIndex(int64_t index, int64_t size) {
  if (index < -size || index >= size)
    return std::nullopt;
  return index < 0 ? index + size : index;
}

LogicalResult checkAxis(std::optional<Location> loc, int64_t axis, int64_t rank) {
  if (axis < 0 || axis >= rank)
    return inferError(loc, "axis is " + Twine(axis) + ", should be in [0, " + Twine(rank) + ")");
  return success();
}

LogicalResult checkLength(std::optional<Location> loc, StringRef name, ArrayRef<int64_t> numbers,
                          int64_t rank) {
  if (static_cast<int64_t>(numbers.size()) == rank)
    return success();
  return inferError(loc, "length of " + name + " is " + Twine(numbers.size()) + ", should be " +
                             Twine(rank) + ", the rank of x");
}

LogicalResult checkRepresentable(std::optional<Location> loc, StringRef name, double value,
                                 Type element) {
  auto integer = dyn_cast<IntegerType>(element);
  if (!integer)
    return success();
  // Unsigned 64-bit values live in int64_t here (HostTensor), which bounds them.
  int width = static_cast<int>(integer.getWidth());
  bool isUnsigned = integer.isUnsigned() || width == 1;
  double limit = std::ldexp(1.0, isUnsigned ? std::min(width, 63) : width - 1);
  double least = isUnsigned ? 0.0 : -limit;
  if (value >= least && value < limit && value == std::floor(value))
    return success();
  std::string text;
  llvm::raw_string_ostream stream(text);
  stream << name << " is " << llvm::format("%g", value) << ", should be an integer that " << element << " can hold";
  return inferError(loc, text);
}

} // namespace amc::train
