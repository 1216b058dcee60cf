// softmax, log_softmax and their gradients along any axis; f32 and f64, sums in the same type.
//
// A row is one piece of work; its sum runs in a fixed order. An axis that is not innermost is walked with its stride,
// sums ascending. The result may replace an operand of its size. Reference: y = e^(x - max) / sum, dx as in
// ReductionOps.td.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {
namespace {

enum class Kind { Softmax, LogSoftmax, SoftmaxBackward, LogSoftmaxBackward };

// One row of n elements, `stride` apart. For the forward kinds `a` is x; for backward a is dy and b is y.
template <class T> void row(Kind kind, const T *a, const T *b, T *out, int64_t n, int64_t stride) {
  switch (kind) {
  case Kind::Softmax:
  case Kind::LogSoftmax: {
    T top = -std::numeric_limits<T>::infinity(), sum = 0;
    for (int64_t i = 0; i < n; ++i)
      top = std::max(top, a[i * stride]);
    for (int64_t i = 0; i < n; ++i)
      sum += std::exp(a[i * stride] - top);
    T rest = std::log(sum), scale = 1 / sum;
    for (int64_t i = 0; i < n; ++i) {
      T x = a[i * stride] - top;
      out[i * stride] = kind == Kind::Softmax ? std::exp(x) * scale : x - rest;
    }
    break;
  }
  case Kind::SoftmaxBackward: {
    T inner = 0;
    for (int64_t i = 0; i < n; ++i)
      inner += a[i * stride] * b[i * stride];
    for (int64_t i = 0; i < n; ++i)
      out[i * stride] = b[i * stride] * (a[i * stride] - inner);
    break;
  }
  case Kind::LogSoftmaxBackward: {
    T total = 0;
    for (int64_t i = 0; i < n; ++i)
      total += a[i * stride];
    for (int64_t i = 0; i < n; ++i)
      out[i * stride] = a[i * stride] - std::exp(b[i * stride]) * total;
    break;
  }
  }
}

void fastRow(Kind kind, const float *a, const float *b, float *out, int64_t n) {
  switch (kind) {
  case Kind::Softmax: return hot().softmax(a, out, n);
  case Kind::LogSoftmax: return hot().logSoftmax(a, out, n);
  case Kind::SoftmaxBackward: return hot().softmaxBackward(a, b, out, n);
  case Kind::LogSoftmaxBackward: return hot().logSoftmaxBackward(a, b, out, n);
  }
}

template <Kind kind> Status check(const InstructionSpec &spec) {
  constexpr bool backward = kind == Kind::SoftmaxBackward || kind == Kind::LogSoftmaxBackward;
  if (backward)
    AMC_TRY(expectOperands(spec, {{"dy", AcceptWide}, {"y", AcceptWide}}, {{"dx", AcceptWide}}, {{"axis", Int}}));
  else
    AMC_TRY(expectOperands(spec, {{"x", AcceptWide}}, {{"y", AcceptWide}}, {{"axis", Int}}));
  const TensorSpec &first = spec.inputs[0];
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], first.dtype));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], first.shape));
  if (backward) {
    AMC_TRY(expectDType("inputs[1]", spec.inputs[1], first.dtype));
    AMC_TRY(expectShape("inputs[1]", spec.inputs[1], first.shape));
  }
  return expectAxis(spec, "axis", first.rank());
}

template <Kind kind> std::unique_ptr<Kernel> create(const InstructionSpec &spec) {
  Split split = splitAt(spec.inputs[0].shape, static_cast<size_t>(spec.integer("axis")));
  size_t second = spec.inputs.size() - 1;
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      if (split.axis == 0)
        return;
      const T *a = o.in<T>(0), *b = o.in<T>(second);
      T *out = o.out<T>(0);
      parallelRange(c.pool, split.outer * split.inner, rowGrain(split.axis), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          int64_t at = r / split.inner * split.axis * split.inner + r % split.inner;
          if constexpr (std::is_same_v<T, float>) {
            if (split.inner == 1) {
              fastRow(kind, a + at, b + at, out + at, split.axis);
              continue;
            }
          }
          row(kind, a + at, b + at, out + at, split.axis, split.inner);
        }
      });
    });
  };
  return spec.inputs[0].dtype == plan::F64 ? make(double{}) : make(float{});
}

} // namespace

void registerSoftmax(KernelRegistry &registry) {
  registry.add("softmax", {check<Kind::Softmax>, create<Kind::Softmax>, aliasElementwise});
  registry.add("log_softmax", {check<Kind::LogSoftmax>, create<Kind::LogSoftmax>, aliasElementwise});
  registry.add("softmax_backward", {check<Kind::SoftmaxBackward>, create<Kind::SoftmaxBackward>, aliasElementwise});
  registry.add("log_softmax_backward",
               {check<Kind::LogSoftmaxBackward>, create<Kind::LogSoftmaxBackward>, aliasElementwise});
}

} // namespace amc::rt::cpu
