// softmax, log_softmax and their gradients along any axis; f32 and f64, sums in the same type, and bf16, in fp32 and
// rounded once.
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

// One row of n elements, `stride` apart, S as stored. For the forward kinds `a` is x; for backward a is dy and b is y.
template <class S> void row(Kind kind, const S *a, const S *b, S *out, int64_t n, int64_t stride) {
  using T = Wide<S>;
  auto get = [&](const S *x, int64_t i) { return static_cast<T>(x[i * stride]); };
  auto set = [&](int64_t i, T value) { narrowRow(&value, out + i * stride, 1); };
  switch (kind) {
  case Kind::Softmax:
  case Kind::LogSoftmax: {
    T top = -std::numeric_limits<T>::infinity(), sum = 0;
    for (int64_t i = 0; i < n; ++i)
      top = std::max(top, get(a, i));
    for (int64_t i = 0; i < n; ++i)
      sum += std::exp(get(a, i) - top);
    T rest = std::log(sum), scale = 1 / sum;
    for (int64_t i = 0; i < n; ++i) {
      T x = get(a, i) - top;
      set(i, kind == Kind::Softmax ? std::exp(x) * scale : x - rest);
    }
    break;
  }
  case Kind::SoftmaxBackward: {
    T inner = 0;
    for (int64_t i = 0; i < n; ++i)
      inner += get(a, i) * get(b, i);
    for (int64_t i = 0; i < n; ++i)
      set(i, get(b, i) * (get(a, i) - inner));
    break;
  }
  case Kind::LogSoftmaxBackward: {
    T total = 0;
    for (int64_t i = 0; i < n; ++i)
      total += get(a, i);
    for (int64_t i = 0; i < n; ++i)
      set(i, get(a, i) - std::exp(get(b, i)) * total);
    break;
  }
  }
}

// Contiguous rows: `table` is hot() or its functions of bf16.
template <class S, class Table>
void fastRow(const Table &table, Kind kind, const S *a, const S *b, S *out, int64_t n) {
  switch (kind) {
  case Kind::Softmax: return table.softmax(a, out, n);
  case Kind::LogSoftmax: return table.logSoftmax(a, out, n);
  case Kind::SoftmaxBackward: return table.softmaxBackward(a, b, out, n);
  case Kind::LogSoftmaxBackward: return table.logSoftmaxBackward(a, b, out, n);
  }
}

template <Kind kind> Status check(const InstructionSpec &spec) {
  constexpr bool backward = kind == Kind::SoftmaxBackward || kind == Kind::LogSoftmaxBackward;
  if (backward)
    AMC_TRY(expectOperands(spec, {{"dy", AcceptData}, {"y", AcceptData}}, {{"dx", AcceptData}}, {{"axis", Int}}));
  else
    AMC_TRY(expectOperands(spec, {{"x", AcceptData}}, {{"y", AcceptData}}, {{"axis", Int}}));
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
  return withFloats(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      if (split.axis == 0)
        return;
      const S *a = o.in<S>(0), *b = o.in<S>(second);
      S *out = o.out<S>(0);
      parallelRange(c.pool, split.outer * split.inner, rowGrain(split.axis), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          int64_t at = r / split.inner * split.axis * split.inner + r % split.inner;
          if constexpr (!std::is_same_v<S, double>) {
            if (split.inner == 1) {
              if constexpr (isWide<S>)
                fastRow(hot(), kind, a + at, b + at, out + at, split.axis);
              else
                fastRow(hot().bf16, kind, a + at, b + at, out + at, split.axis);
              continue;
            }
          }
          row(kind, a + at, b + at, out + at, split.axis, split.inner);
        }
      });
    });
  });
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
