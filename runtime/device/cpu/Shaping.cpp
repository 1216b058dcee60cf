// Kernels that make tensors: full, iota, pad, triangle.
//
// All dtypes. Results never overlap operands, but triangle may run in place. Reference: the index formula of each op's
// description, element by element (iota in double, rounded once).
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <algorithm>
#include <array>
#include <cstring>

namespace amc::rt::cpu {
namespace {

template <class T> T encoded(plan::DType dtype, double value) {
  std::byte bytes[8];
  encodeElement(dtype, value, bytes);
  T element;
  std::memcpy(&element, bytes, sizeof element);
  return element;
}

// ---- full

Status checkFull(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {}, {{"y", AcceptAny}}, {{"value", Real}, {"shape", Ints}, {"element", Text}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], dtypeFromName(spec.string("element"))));
  return expectShape("outputs[0]", spec.outputs[0], spec.ints("shape"));
}

std::unique_ptr<Kernel> createFull(const InstructionSpec &spec) {
  plan::DType dtype = spec.outputs[0].dtype;
  int64_t n = spec.outputs[0].elements;
  double value = spec.real("value");
  return withBits(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    T element = encoded<T>(dtype, value);
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
        std::fill(o.out<T>(0) + begin, o.out<T>(0) + end, element);
      });
    });
  });
}

// ---- iota

Status checkIota(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {}, {{"y", AcceptNumber}},
                         {{"start", Real}, {"step", Real}, {"axis", Int}, {"shape", Ints}, {"element", Text}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], dtypeFromName(spec.string("element"))));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], spec.ints("shape")));
  return expectAxis(spec, "axis", spec.outputs[0].rank());
}

std::unique_ptr<Kernel> createIota(const InstructionSpec &spec) {
  plan::DType dtype = spec.outputs[0].dtype;
  Split split = splitAt(spec.outputs[0].shape, static_cast<size_t>(spec.integer("axis")));
  double start = spec.real("start"), step = spec.real("step");
  return withBits(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      int64_t runs = split.inner == 0 ? 0 : split.outer * split.axis;
      parallelRange(c.pool, runs, rowGrain(split.inner), [&](int64_t begin, int64_t end) {
        for (int64_t run = begin; run < end; ++run)
          std::fill_n(o.out<T>(0) + run * split.inner, split.inner,
                      encoded<T>(dtype, start + static_cast<double>(run % split.axis) * step));
      });
    });
  });
}

// ---- pad

Status checkPad(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}}, {{"y", AcceptAny}},
                         {{"low", Ints}, {"high", Ints}, {"interior", Ints}, {"value", Real}}));
  const TensorSpec &x = spec.inputs[0];
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  std::vector<int64_t> low = spec.ints("low"), high = spec.ints("high"), interior = spec.ints("interior");
  AMC_EXPECT(low.size() == x.rank() && high.size() == x.rank() && interior.size() == x.rank(),
             "attributes: low, high and interior should have ", x.rank(), " entries each");
  std::vector<int64_t> shape;
  for (size_t i = 0; i < x.rank(); ++i) {
    constexpr int64_t bound = int64_t(1) << 48;
    bool sane = low[i] >= 0 && low[i] < bound && high[i] >= 0 && high[i] < bound && interior[i] >= 0 &&
                (x.shape[i] < 2 || interior[i] <= bound / (x.shape[i] - 1));
    AMC_EXPECT(sane, "attributes: padding of dimension ", i, " should be in [0, 2^48)");
    shape.push_back(low[i] + high[i] + x.shape[i] + (x.shape[i] > 1 ? (x.shape[i] - 1) * interior[i] : 0));
  }
  return expectShape("outputs[0]", spec.outputs[0], shape);
}

// Rows along the last dimension: each row of the result is all padding or one row of x, spread out.
std::unique_ptr<Kernel> createPad(const InstructionSpec &spec) {
  plan::DType dtype = spec.inputs[0].dtype;
  struct Dims {
    size_t rank = 0; // without the last dimension
    std::array<int64_t, maxRank> source, result, low, step;
  } dims;
  std::vector<int64_t> low = spec.ints("low"), interior = spec.ints("interior");
  const std::vector<int64_t> &x = spec.inputs[0].shape, &y = spec.outputs[0].shape;
  size_t rank = x.size();
  for (size_t i = 0; i + 1 < rank; ++i) {
    dims.source[i] = x[i];
    dims.result[i] = y[i];
    dims.low[i] = low[i];
    dims.step[i] = interior[i] + 1;
  }
  dims.rank = rank ? rank - 1 : 0;
  Rows from = rowsOf(x), to = rowsOf(y);
  int64_t lastLow = rank ? low[rank - 1] : 0, lastStep = rank ? interior[rank - 1] + 1 : 1;
  double value = spec.real("value");
  return withBits(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    T padding = encoded<T>(dtype, value);
    return makeKernel([=](const Operands &o, RunContext &c) {
      const T *x = o.in<T>(0);
      T *y = o.out<T>(0);
      parallelRange(c.pool, to.columns ? to.rows : 0, rowGrain(to.columns), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          std::fill_n(y + row * to.columns, to.columns, padding);
          int64_t rest = row, source = 0, pitch = 1;
          bool inside = true;
          for (size_t d = dims.rank; d-- > 0; rest /= dims.result[d]) {
            int64_t at = rest % dims.result[d] - dims.low[d];
            inside = inside && at >= 0 && at % dims.step[d] == 0 && at / dims.step[d] < dims.source[d];
            source += inside ? at / dims.step[d] * pitch : 0;
            pitch *= dims.source[d];
          }
          if (!inside)
            continue;
          T *target = y + row * to.columns + lastLow;
          const T *line = x + source * from.columns;
          if (lastStep == 1)
            std::memcpy(target, line, static_cast<size_t>(from.columns) * sizeof(T));
          else
            for (int64_t i = 0; i < from.columns; ++i)
              target[i * lastStep] = line[i];
        }
      });
    });
  });
}

// ---- triangle

Status checkTriangle(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}}, {{"y", AcceptAny}}, {{"upper", Int}, {"k", Int}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  AMC_EXPECT(spec.inputs[0].rank() >= 2, "inputs[0]: rank is ", spec.inputs[0].rank(), " and should be at least 2");
  return expectShape("outputs[0]", spec.outputs[0], spec.inputs[0].shape);
}

std::unique_ptr<Kernel> createTriangle(const InstructionSpec &spec) {
  const std::vector<int64_t> &shape = spec.inputs[0].shape;
  Rows rows = rowsOf(shape);
  int64_t height = shape[shape.size() - 2];
  constexpr int64_t bound = int64_t(1) << 48;
  int64_t k = std::clamp<int64_t>(spec.integer("k"), -bound, bound);
  bool upper = spec.flag("upper");
  return withBits(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, rows.columns ? rows.rows : 0, rowGrain(rows.columns), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          // Columns [0, border) are on one side, the rest on the other.
          int64_t border = std::clamp<int64_t>(row % height + k + (upper ? 0 : 1), 0, rows.columns);
          const T *x = o.in<T>(0) + row * rows.columns;
          T *y = o.out<T>(0) + row * rows.columns;
          int64_t keepFrom = upper ? border : 0, keepTo = upper ? rows.columns : border;
          std::memmove(y + keepFrom, x + keepFrom, static_cast<size_t>(keepTo - keepFrom) * sizeof(T));
          std::fill(y, y + keepFrom, T{});
          std::fill(y + keepTo, y + rows.columns, T{});
        }
      });
    });
  });
}

} // namespace

void registerShaping(KernelRegistry &registry) {
  registry.add("full", {checkFull, createFull});
  registry.add("iota", {checkIota, createIota});
  registry.add("pad", {checkPad, createPad});
  registry.add("triangle", {checkTriangle, createTriangle, aliasElementwise});
}

} // namespace amc::rt::cpu
