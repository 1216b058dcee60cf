// Elements of tensors: shapes as text, conversion between types. Names and widths are in
// runtime/plan/DTypes.h.
//
// Conversion keeps the value or says where it could not: an integer or boolean goes to any type
// that holds it exactly; a float goes to any float type, rounded to nearest even; a float never
// becomes an integer. bf16 and f16 are storage types here, read and written through f32.
#ifndef AMC_RUNTIME_TRAINER_ELEMENTS_H
#define AMC_RUNTIME_TRAINER_ELEMENTS_H

#include "runtime/plan/DTypes.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace amc::rt {

using DType = plan::DType;
using Shape = std::vector<uint64_t>;

// "[2, 48]".
std::string shapeText(std::span<const uint64_t> shape);

// Product of the dimensions; nothing if it does not fit in 64 bits. Empty shape: 1.
std::optional<uint64_t> elementCount(std::span<const uint64_t> shape);

// True if some value of `from` can become a `to`: everything but float to integer and float to
// boolean.
bool convertible(DType from, DType to);

// Converts `count` elements. Returns `count`, or the index of the first one whose value `to` cannot
// hold. Needs convertible(from, to). Any alignment.
uint64_t convertElements(DType from, const std::byte *source, DType to, std::byte *target,
                         uint64_t count);

// The element at `index` as a double (bf16, f16 and all integers included).
double elementAsDouble(DType type, const std::byte *data, uint64_t index);

// The element at `index` of an integer or boolean tensor.
int64_t elementAsInt(DType type, const std::byte *data, uint64_t index);

} // namespace amc::rt

#endif
