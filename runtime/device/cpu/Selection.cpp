// top_k, arg_max, cumsum along an axis; all numbers.
//
// A line along the axis is one piece. Ties go to the lower index; NaN comes first, whatever is asked for. cumsum of
// f16 and bf16 runs in fp32, of integers modulo 2^64, in the order of the axis (or its reverse). cumsum may run in
// place. Reference: a stable sort of each line; a loop.
//
// top_k keeps the k best in order by insertion: O(n k), made for the small k of routing; for k beyond 64 it inserts
// only what beats the current last, which is O(n + k^2) on random lines and O(n k) at worst.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {
namespace {

// Is a (strictly) before b in the order asked for?
template <class T> bool before(T a, T b, bool largest) {
  bool nanA = a != a, nanB = b != b;
  if (nanA || nanB)
    return nanA && !nanB;
  return largest ? a > b : a < b;
}

template <class T> T element(plan::DType dtype, const void *x, int64_t at) {
  Block<T> block;
  return *loadBlock(dtype, x, at, 1, block);
}
template <class T> void setElement(plan::DType dtype, void *y, int64_t at, T value) {
  Block<T> block;
  *blockTarget(dtype, y, at, block) = value;
  storeBlock(dtype, y, at, 1, block);
}

// ---- top_k

Status checkTopK(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptNumber}}, {{"values", AcceptNumber}, {"indices", AcceptI64}},
                         {{"k", Int}, {"axis", Int}, {"largest", Int}}));
  const TensorSpec &x = spec.inputs[0];
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  AMC_TRY(expectAxis(spec, "axis", x.rank()));
  size_t axis = static_cast<size_t>(spec.integer("axis"));
  int64_t k = spec.integer("k");
  AMC_EXPECT(k >= 0 && k <= x.shape[axis], "attributes.k: is ", k, " and should be in [0, ", x.shape[axis], "]");
  std::vector<int64_t> shape = x.shape;
  shape[axis] = k;
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], shape));
  return expectShape("outputs[1]", spec.outputs[1], shape);
}

std::unique_ptr<Kernel> createTopK(const InstructionSpec &spec) {
  Split split = splitAt(spec.inputs[0].shape, static_cast<size_t>(spec.integer("axis")));
  int64_t k = spec.integer("k");
  bool largest = spec.flag("largest");
  plan::DType dtype = spec.inputs[0].dtype;
  return withCompute(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, k ? split.outer * split.inner : 0, rowGrain(split.axis), [&](int64_t begin, int64_t end) {
        for (int64_t line = begin; line < end; ++line) {
          int64_t in = line / split.inner * split.axis * split.inner + line % split.inner;
          int64_t out = line / split.inner * k * split.inner + line % split.inner;
          int64_t *indices = o.out<int64_t>(1) + out; // `inner` apart
          auto value = [&](int64_t i) { return element<T>(dtype, o.inputs[0], in + i * split.inner); };
          int64_t held = 0;
          for (int64_t i = 0; i < split.axis; ++i) {
            T x = value(i);
            if (held == k && !before(x, value(indices[(k - 1) * split.inner]), largest))
              continue;
            int64_t place = held < k ? held++ : k - 1;
            for (; place > 0 && before(x, value(indices[(place - 1) * split.inner]), largest); --place)
              indices[place * split.inner] = indices[(place - 1) * split.inner];
            indices[place * split.inner] = i;
          }
          for (int64_t i = 0; i < k; ++i)
            setElement<T>(dtype, o.outputs[0], out + i * split.inner, value(indices[i * split.inner]));
        }
      });
    });
  });
}

// ---- arg_max

Status checkArgMax(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptNumber}}, {{"y", AcceptI64}},
                         {{"axis", Int}, {"keepdims", Int}, {"min", Int, Optional}, {"last", Int, Optional}}));
  std::vector<int64_t> shape = spec.inputs[0].shape;
  AMC_TRY(expectAxis(spec, "axis", shape.size()));
  size_t axis = static_cast<size_t>(spec.integer("axis"));
  AMC_EXPECT(shape[axis] > 0, "inputs[0]: dimension ", axis, " is 0 and should be at least 1");
  if (spec.flag("keepdims"))
    shape[axis] = 1;
  else
    shape.erase(shape.begin() + static_cast<long>(axis));
  return expectShape("outputs[0]", spec.outputs[0], shape);
}

std::unique_ptr<Kernel> createArgMax(const InstructionSpec &spec) {
  Split split = splitAt(spec.inputs[0].shape, static_cast<size_t>(spec.integer("axis")));
  bool largest = !spec.flag("min"), last = spec.flag("last");
  plan::DType dtype = spec.inputs[0].dtype;
  return withCompute(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, split.outer * split.inner, rowGrain(split.axis), [&](int64_t begin, int64_t end) {
        for (int64_t line = begin; line < end; ++line) {
          int64_t in = line / split.inner * split.axis * split.inner + line % split.inner, best = 0;
          T top = element<T>(dtype, o.inputs[0], in);
          for (int64_t i = 1; i < split.axis; ++i) {
            T x = element<T>(dtype, o.inputs[0], in + i * split.inner);
            if (before(x, top, largest) || (last && !before(top, x, largest))) {
              best = i;
              top = x;
            }
          }
          o.out<int64_t>(0)[line] = best;
        }
      });
    });
  });
}

// ---- cumsum

Status checkCumsum(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptNumber}}, {{"y", AcceptNumber}},
                         {{"axis", Int}, {"exclusive", Int, Optional}, {"reverse", Int, Optional}}));
  AMC_TRY(expectAxis(spec, "axis", spec.inputs[0].rank()));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  return expectShape("outputs[0]", spec.outputs[0], spec.inputs[0].shape);
}

std::unique_ptr<Kernel> createCumsum(const InstructionSpec &spec) {
  Split split = splitAt(spec.inputs[0].shape, static_cast<size_t>(spec.integer("axis")));
  bool exclusive = spec.flag("exclusive"), reverse = spec.flag("reverse");
  plan::DType dtype = spec.inputs[0].dtype;
  return withCompute(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    using Sum = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, split.outer * split.inner, rowGrain(split.axis), [&](int64_t begin, int64_t end) {
        for (int64_t line = begin; line < end; ++line) {
          int64_t base = line / split.inner * split.axis * split.inner + line % split.inner;
          Sum sum = 0;
          for (int64_t i = 0; i < split.axis; ++i) {
            int64_t at = base + (reverse ? split.axis - 1 - i : i) * split.inner;
            Sum x = static_cast<Sum>(element<T>(dtype, o.inputs[0], at));
            setElement<T>(dtype, o.outputs[0], at, static_cast<T>(exclusive ? sum : sum + x));
            sum += x;
          }
        }
      });
    });
  });
}

} // namespace

void registerSelection(KernelRegistry &registry) {
  registry.add("top_k", {checkTopK, createTopK});
  registry.add("arg_max", {checkArgMax, createArgMax});
  registry.add("cumsum", {checkCumsum, createCumsum, aliasElementwise});
}

} // namespace amc::rt::cpu
