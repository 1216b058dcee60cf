// rotary and rotary_backward; f32 and f64.
//
// Rows of the last dimension are independent; cos and sin broadcast. The result may replace x (dy): a pair is read
// before it is written. Reference: rotateRow below.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"

namespace amc::rt::cpu {
namespace {

// cos and sin advance by `step` (0: one value for the row).
template <class T>
void rotateRow(bool backward, bool interleaved, const T *x, const T *cos, int64_t stepCos, const T *sin,
               int64_t stepSin, T *y, int64_t n) {
  int64_t half = n / 2;
  for (int64_t i = 0; i < half; ++i) {
    int64_t p = interleaved ? 2 * i : i, q = interleaved ? p + 1 : i + half;
    T a = x[p], b = x[q];
    if (backward) {
      y[p] = a * cos[p * stepCos] + b * sin[q * stepSin];
      y[q] = b * cos[q * stepCos] - a * sin[p * stepSin];
    } else {
      y[p] = a * cos[p * stepCos] - b * sin[p * stepSin];
      y[q] = b * cos[q * stepCos] + a * sin[q * stepSin];
    }
  }
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
  AMC_TRY(expectOperands(spec, {{"x", AcceptWide}, {"cos", AcceptWide}, {"sin", AcceptWide}}, {{"y", AcceptWide}},
                         {{"interleaved", Int, Optional}}));
  const TensorSpec &x = spec.inputs[0];
  AMC_EXPECT(x.rank() == 4 && x.shape[3] % 2 == 0, "inputs[0]: shape is ", shapeText(x.shape),
             " and should be of rank 4 with an even last dimension");
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], x.shape));
  for (size_t i = 1; i < 3; ++i) {
    AMC_TRY(expectDType(i == 1 ? "inputs[1]" : "inputs[2]", spec.inputs[i], x.dtype));
    AMC_TRY(expectBroadcast(i == 1 ? "inputs[1]" : "inputs[2]", spec.inputs[i], x.shape));
  }
  return Status();
}

template <bool backward> std::unique_ptr<Kernel> create(const InstructionSpec &spec) {
  const std::vector<int64_t> &shape = spec.inputs[0].shape;
  int64_t heads = shape[1], length = shape[2], n = shape[3], rows = n ? shape[0] * heads * length : 0;
  Table cos = Table::create(spec.inputs[1].shape), sin = Table::create(spec.inputs[2].shape);
  bool interleaved = spec.flag("interleaved");
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, rows, rowGrain(n), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          int64_t s = r % length, h = r / length % heads, b = r / length / heads;
          const T *x = o.in<T>(0) + r * n;
          const T *cosRow = o.in<T>(1) + cos.at(b, h, s), *sinRow = o.in<T>(2) + sin.at(b, h, s);
          T *y = o.out<T>(0) + r * n;
          if constexpr (std::is_same_v<T, float>) {
            if (!interleaved && cos.step && sin.step) {
              (backward ? hot().rotaryBackward : hot().rotary)(x, cosRow, sinRow, y, n / 2);
              continue;
            }
          }
          rotateRow(backward, interleaved, x, cosRow, cos.step, sinRow, sin.step, y, n);
        }
      });
    });
  };
  return spec.inputs[0].dtype == plan::F64 ? make(double{}) : make(float{});
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
