// Helpers of the runtime's tests: tensors as doubles, plans of one instruction, comparison by dtype.
#ifndef AMC_TEST_UNIT_RUNTIME_SUPPORT_H
#define AMC_TEST_UNIT_RUNTIME_SUPPORT_H

#include "runtime/executor/Executor.h"
#include "runtime/plan/DTypes.h"
#include "runtime/plan/PlanVerifier.h"
#include "runtime/plan/Ranges.h"
#include <cmath>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace amc::rt::test {

using Shape = std::vector<uint64_t>;
inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline const double nan = std::numeric_limits<double>::quiet_NaN();

// ---- values

struct Array {
  plan::DType dtype = plan::DTYPE_UNSPECIFIED; // unspecified: an absent optional operand
  Shape shape;
  std::vector<double> values;
};

inline uint64_t elements(const Shape &shape) {
  uint64_t n = 1;
  for (uint64_t dim : shape)
    n *= dim;
  return n;
}

float halfToFloat(uint16_t bits);
uint16_t floatToHalf(float value); // nearest, halves to even

// What is left of a value when it is stored.
double rounded(plan::DType dtype, double value);
void encode(plan::DType dtype, double value, void *out);
double decode(plan::DType dtype, const void *in);

inline Array array(plan::DType dtype, Shape shape, std::vector<double> values) {
  EXPECT_EQ(values.size(), elements(shape));
  for (double &v : values)
    v = rounded(dtype, v);
  return {dtype, std::move(shape), std::move(values)};
}

// Values in [low, high), the same in every run.
Array random(plan::DType dtype, Shape shape, uint64_t seed, double low = -1, double high = 1);
Array randomIndices(plan::DType dtype, Shape shape, uint64_t seed, int64_t low, int64_t high);

// ---- attributes

plan::Attribute attribute(const std::string &name, int64_t value);
inline plan::Attribute attribute(const std::string &name, int value) { return attribute(name, int64_t(value)); }
inline plan::Attribute attribute(const std::string &name, bool value) { return attribute(name, int64_t(value)); }
plan::Attribute attribute(const std::string &name, double value);
plan::Attribute attribute(const std::string &name, const char *value);
plan::Attribute attribute(const std::string &name, std::vector<int64_t> values);
using Attributes = std::vector<plan::Attribute>;

// ---- plans

struct Result {
  plan::DType dtype = plan::DTYPE_UNSPECIFIED;
  Shape shape;
};

struct Call {
  std::string kernel;
  std::vector<Array> inputs;
  std::vector<Result> outputs;
  Attributes attributes;
  uint64_t workspace = 0;
  // Result i stands in operand `replaces[i]`; -1 or beyond the end: in a buffer of its own.
  std::vector<int> replaces = {};
};

// What plans of tests are for: AMC_TEST_TARGET, such as "cuda:sm_90", else "cpu". On a GPU, which may be an emulated one, the
// calls below run as they are, but for threads and workspaces.
const std::string &testTarget();
bool onCuda();
// Whether the target's device has a kernel of this name.
bool hasKernel(const std::string &kernel);

// A valid plan that does nothing but this call.
plan::Plan planOf(const Call &call);
// Sets arena and promise from the buffers.
void complete(plan::Plan &plan);

struct Outcome {
  Status status;
  std::vector<Array> outputs;
  std::vector<std::string> bytes; // of the outputs
};
Outcome run(const Call &call, unsigned threads = 1);

// One small valid call of every kernel of the CPU device, with floats in f32; in runtime_mutations.cpp, where a kernel
// without one fails.
std::map<std::string, Call> samples();

// ---- comparison

// Tolerance of arithmetic in a dtype (bf16 and f16: in fp32), relative to the larger of 1 and the expected magnitude.
double tolerance(plan::DType dtype);
// What rounding a value to bf16 or f16 may move it by, relative to its magnitude; 0 for the others.
double storageRounding(plan::DType dtype);
// The tolerance where bf16 is multiplied: the one given, or, if this processor or GPU multiplies it as it is stored, with what
// has been rounded to bf16 for that.
double multiplied(plan::DType dtype, double tolerance);
// Are they equal as far as the tolerance (and a rounding, see above) says? NaN equals NaN, an infinity itself only. Says
// where not.
testing::AssertionResult close(const std::vector<double> &actual, const std::vector<double> &expected, double tolerance,
                               double rounding = 0);
// Lossy data has statistics in fp32, f64 in f64.
inline plan::DType statisticType(plan::DType dtype) { return dtype == plan::F64 ? plan::F64 : plan::F32; }

// Runs with 1, 2, 3 and 8 threads (on a GPU: twice), expects the same bytes from all, and the values given. `tolerance` is
// that of the arithmetic: results in bf16 or f16 may be off by their rounding, too. Skips what the target has no kernel for.
void expectCall(const Call &call, const std::vector<std::vector<double>> &expected, double tolerance);

} // namespace amc::rt::test

#endif
