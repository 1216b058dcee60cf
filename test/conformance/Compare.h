// Comparison of one result with the expected one, as ONNX's backend test runner does it.
#ifndef AMC_TEST_CONFORMANCE_COMPARE_H
#define AMC_TEST_CONFORMANCE_COMPARE_H

#include "runtime/trainer/Elements.h"
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace amc::conformance {

inline constexpr double relativeTolerance = 1e-3, absoluteTolerance = 1e-7;

/// A number is right if it is within tolerance, or the same infinity, or NaN where NaN is expected.
inline bool closeEnough(double ours, double expected) {
  if (std::isnan(expected))
    return std::isnan(ours);
  if (std::isinf(expected))
    return ours == expected;
  return std::fabs(ours - expected) <= absoluteTolerance + relativeTolerance * std::fabs(expected);
}

/// Empty if all elements are right, else what is wrong first. Half floats are computed in single
/// precision, so f32 answers for them, rounded to them here; every other type has to be the
/// expected one. Integers and booleans have to be equal.
inline std::string compare(rt::DType ourType, const std::vector<uint64_t> &ourShape,
                           const std::byte *ours, rt::DType type,
                           const std::vector<uint64_t> &shape, const std::byte *expected) {
  bool half = (type == plan::F16 || type == plan::BF16) && ourType == plan::F32;
  if (ourType != type && !half)
    return "is of type " + std::string(rt::dtypeName(ourType)) + ", should be " +
           std::string(rt::dtypeName(type));
  if (ourShape != shape)
    return "is of shape " + rt::shapeText(ourShape) + ", should be " + rt::shapeText(shape);
  for (uint64_t i = 0, e = *rt::elementCount(shape); i < e; ++i) {
    if (rt::isFloat(type)) {
      double a = rt::elementAsDouble(ourType, ours, i), b = rt::elementAsDouble(type, expected, i);
      if (half) {
        std::byte rounded[2];
        rt::convertElements(ourType, ours + i * sizeof(float), type, rounded, 1);
        a = rt::elementAsDouble(type, rounded, 0);
      }
      if (!closeEnough(a, b))
        return "element " + std::to_string(i) + " is " + std::to_string(a) + ", should be " +
               std::to_string(b);
    } else {
      int64_t a = rt::elementAsInt(ourType, ours, i), b = rt::elementAsInt(type, expected, i);
      if (a != b)
        return "element " + std::to_string(i) + " is " + std::to_string(a) + ", should be " +
               std::to_string(b);
    }
  }
  return "";
}

} // namespace amc::conformance

#endif
