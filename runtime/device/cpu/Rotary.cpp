// rotary and rotary_backward; f32, f64 and bf16 (computed in fp32, rounded once; cos and sin bf16 or f32 then).
//
// Rows of the last dimension are independent; cos and sin broadcast. The result may replace x (dy): a pair is read
// before it is written. Rows of bf16 are widened whole if they fit into a block of 512, as heads do; longer ones
// element by element. Reference: rotateRow below.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <cmath>

namespace amc::rt::cpu {
namespace {

// cos and sin advance by `step` (0: one value for the row). S and C as stored.
template <class S, class C, class D>
void rotateRow(bool backward, bool interleaved, const S *x, const C *cos, int64_t stepCos, const D *sin,
               int64_t stepSin, S *y, int64_t n) {
  using T = Wide<S>;
  int64_t half = n / 2;
  for (int64_t i = 0; i < half; ++i) {
    int64_t p = interleaved ? 2 * i : i, q = interleaved ? p + 1 : i + half;
    T a = x[p], b = x[q], cosP = cos[p * stepCos], cosQ = cos[q * stepCos];
    T sinP = sin[p * stepSin], sinQ = sin[q * stepSin];
    // Rounded as the hot loop and generated kernels do.
    T first = std::fma(backward ? b : -b, backward ? sinQ : sinP, a * cosP);
    T second = std::fma(backward ? -a : a, backward ? sinP : sinQ, b * cosQ);
    narrowRow(&first, y + p, 1);
    narrowRow(&second, y + q, 1);
  }
}

// The row by the hot loop, if it can be done that way.
template <bool backward> bool rotateFast(const float *x, const float *cos, const float *sin, float *y, int64_t n) {
  (backward ? hot().rotaryBackward : hot().rotary)(x, cos, sin, y, n / 2);
  return true;
}
template <bool backward, class C, class D>
bool rotateFast(const BFloat16 *x, const C *cos, const D *sin, BFloat16 *y, int64_t n) {
  if (n > blockElements)
    return false;
  Block<float> value, cosine, sine;
  widenRow(x, value.data, n);
  widenRow(cos, cosine.data, n);
  widenRow(sin, sine.data, n);
  rotateFast<backward>(value.data, cosine.data, sine.data, value.data, n);
  narrowRow(value.data, y, n);
  return true;
}
template <bool backward> bool rotateFast(const double *, const double *, const double *, double *, int64_t) {
  return false;
}

// Where the row of cos or sin for a row of x starts.
struct Table {
  int64_t strides[3], step;
  static Table create(const std::vector<int64_t> &shape) {
    int64_t padded[4];
    for (size_t i = 0; i < 4; ++i)
      padded[i] = i + shape.size() >= 4 ? shape[i + shape.size() - 4] : 1;
    Table table;
    table.step = padded[3] == 1 ? 0 : 1;
    int64_t stride = padded[3];
    for (int i = 2; i >= 0; --i) {
      table.strides[i] = padded[i] == 1 ? 0 : stride;
      stride *= padded[i];
    }
    return table;
  }
  int64_t at(int64_t b, int64_t h, int64_t s) const { return b * strides[0] + h * strides[1] + s * strides[2]; }
};

Status check(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptData}, {"cos", AcceptData}, {"sin", AcceptData}}, {{"y", AcceptData}},
                         {{"interleaved", Int, Optional}}));
  const TensorSpec &x = spec.inputs[0];
  AMC_EXPECT(x.rank() == 4 && x.shape[3] % 2 == 0, "inputs[0]: shape is ", shapeText(x.shape),
             " and should be of rank 4 with an even last dimension");
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], x.shape));
  for (size_t i = 1; i < 3; ++i) {
    if (x.dtype != plan::BF16 || spec.inputs[i].dtype != plan::F32)
      AMC_TRY(expectDType(i == 1 ? "inputs[1]" : "inputs[2]", spec.inputs[i], x.dtype));
    AMC_TRY(expectBroadcast(i == 1 ? "inputs[1]" : "inputs[2]", spec.inputs[i], x.shape));
  }
  return Status();
}

template <bool backward, class S, class C, class D> std::unique_ptr<Kernel> createOf(const InstructionSpec &spec) {
  const std::vector<int64_t> &shape = spec.inputs[0].shape;
  int64_t heads = shape[1], length = shape[2], n = shape[3], rows = n ? shape[0] * heads * length : 0;
  Table cos = Table::create(spec.inputs[1].shape), sin = Table::create(spec.inputs[2].shape);
  bool interleaved = spec.flag("interleaved");
  return makeKernel([=](const Operands &o, RunContext &c) {
    parallelRange(c.pool, rows, rowGrain(n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        int64_t s = r % length, h = r / length % heads, b = r / length / heads;
        const S *x = o.in<S>(0) + r * n;
        const C *cosRow = o.in<C>(1) + cos.at(b, h, s);
        const D *sinRow = o.in<D>(2) + sin.at(b, h, s);
        S *y = o.out<S>(0) + r * n;
        bool done = !interleaved && cos.step && sin.step && rotateFast<backward>(x, cosRow, sinRow, y, n);
        if (!done)
          rotateRow(backward, interleaved, x, cosRow, cos.step, sinRow, sin.step, y, n);
      }
    });
  });
}

template <bool backward> std::unique_ptr<Kernel> create(const InstructionSpec &spec) {
  bool narrowCos = spec.inputs[1].dtype == plan::BF16, narrowSin = spec.inputs[2].dtype == plan::BF16;
  switch (spec.inputs[0].dtype) {
  case plan::F64: return createOf<backward, double, double, double>(spec);
  case plan::BF16:
    if (narrowCos)
      return narrowSin ? createOf<backward, BFloat16, BFloat16, BFloat16>(spec)
                       : createOf<backward, BFloat16, BFloat16, float>(spec);
    return narrowSin ? createOf<backward, BFloat16, float, BFloat16>(spec)
                     : createOf<backward, BFloat16, float, float>(spec);
  default: return createOf<backward, float, float, float>(spec);
  }
}

bool aliasFirst(const InstructionSpec &spec, size_t output, size_t input) {
  return input == 0 && aliasElementwise(spec, output, input);
}

} // namespace

void registerRotary(KernelRegistry &registry) {
  registry.add("rotary", {check, create<false>, aliasFirst});
  registry.add("rotary_backward", {check, create<true>, aliasFirst});
}

} // namespace amc::rt::cpu
