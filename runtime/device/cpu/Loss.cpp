// shift_labels, cross_entropy, cross_entropy_backward; logits f32 and f64.
//
// A row of logits is one piece. The loss adds the rows in blocks of 64, ascending, then the blocks; lse of an ignored
// row is computed all the same. A label outside [0, V) that is not ignore_index is a failure at run time. dlogits may
// replace logits. Reference: LossOps.td, two loops.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {
namespace {

float logSumExp(const float *x, int64_t n) { return hot().logSumExp(x, n); }
double logSumExp(const double *x, int64_t n) {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t i = 0; i < n; ++i)
    top = x[i] == x[i] && top == top ? std::max(top, x[i]) : x[i] + top;
  if (top == -std::numeric_limits<double>::infinity())
    return top;
  for (int64_t i = 0; i < n; ++i)
    sum += std::exp(x[i] - top);
  return top + std::log(sum);
}
void backwardRow(const float *x, float lse, float factor, float *dx, int64_t n) {
  hot().crossEntropyBackward(x, lse, factor, dx, n);
}
void backwardRow(const double *x, double lse, double factor, double *dx, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    dx[i] = factor * std::exp(x[i] - lse);
}

// ---- shift_labels

Status checkShift(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"labels", AcceptI64}}, {{"y", AcceptI64}}, {{"ignore_index", Int}}));
  AMC_EXPECT(spec.inputs[0].rank() >= 1, "inputs[0]: rank is 0 and should be at least 1");
  return expectShape("outputs[0]", spec.outputs[0], spec.inputs[0].shape);
}

std::unique_ptr<Kernel> createShift(const InstructionSpec &spec) {
  Rows rows = rowsOf(spec.inputs[0].shape);
  int64_t ignored = spec.integer("ignore_index");
  return makeKernel([=](const Operands &o, RunContext &) {
    for (int64_t r = 0; r < (rows.columns ? rows.rows : 0); ++r) {
      const int64_t *x = o.in<int64_t>(0) + r * rows.columns;
      int64_t *y = o.out<int64_t>(0) + r * rows.columns;
      std::copy(x + 1, x + rows.columns, y);
      y[rows.columns - 1] = ignored;
    }
  });
}

// ---- cross_entropy

Status expectLabels(const char *what, const TensorSpec &labels, const TensorSpec &logits) {
  AMC_EXPECT(logits.rank() >= 1, "logits: rank is 0 and should be at least 1");
  return expectShape(what, labels, {logits.shape.begin(), logits.shape.end() - 1});
}

Status checkLoss(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"logits", AcceptWide}, {"labels", AcceptI64}},
                         {{"loss", AcceptWide}, {"lse", AcceptWide}}, {{"ignore_index", Int}}));
  const TensorSpec &logits = spec.inputs[0];
  AMC_TRY(expectLabels("inputs[1]", spec.inputs[1], logits));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], logits.dtype));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], {}));
  AMC_TRY(expectDType("outputs[1]", spec.outputs[1], logits.dtype));
  return expectShape("outputs[1]", spec.outputs[1], spec.inputs[1].shape);
}

std::unique_ptr<Kernel> createLoss(const InstructionSpec &spec) {
  Rows rows = rowsOf(spec.inputs[0].shape);
  int64_t ignored = spec.integer("ignore_index");
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      const T *logits = o.in<T>(0);
      const int64_t *labels = o.in<int64_t>(1);
      T *lse = o.out<T>(1);
      parallelRange(c.pool, rows.rows, rowGrain(rows.columns), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          lse[r] = logSumExp(logits + r * rows.columns, rows.columns);
      });
      T loss = 0;
      for (int64_t block = 0; block < rows.rows; block += 64) {
        T sum = 0;
        for (int64_t r = block; r < std::min(block + 64, rows.rows); ++r) {
          int64_t label = labels[r];
          if (label == ignored)
            continue;
          if (label < 0 || label >= rows.columns)
            c.failure.report("label", static_cast<uint64_t>(r), label, 0, rows.columns);
          else
            sum += lse[r] - logits[r * rows.columns + label];
        }
        loss += sum;
      }
      *o.out<T>(0) = loss;
    });
  };
  return spec.inputs[0].dtype == plan::F64 ? make(double{}) : make(float{});
}

Status checkBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(
      spec, {{"dloss", AcceptWide}, {"logits", AcceptWide}, {"labels", AcceptI64}, {"lse", AcceptWide}},
      {{"dlogits", AcceptWide}}, {{"ignore_index", Int}}));
  const TensorSpec &logits = spec.inputs[1];
  AMC_TRY(expectDType("inputs[0]", spec.inputs[0], logits.dtype));
  AMC_TRY(expectShape("inputs[0]", spec.inputs[0], {}));
  AMC_TRY(expectLabels("inputs[2]", spec.inputs[2], logits));
  AMC_TRY(expectDType("inputs[3]", spec.inputs[3], logits.dtype));
  AMC_TRY(expectShape("inputs[3]", spec.inputs[3], spec.inputs[2].shape));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], logits.dtype));
  return expectShape("outputs[0]", spec.outputs[0], logits.shape);
}

std::unique_ptr<Kernel> createBackward(const InstructionSpec &spec) {
  Rows rows = rowsOf(spec.inputs[1].shape);
  int64_t ignored = spec.integer("ignore_index");
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      T factor = *o.in<T>(0);
      const int64_t *labels = o.in<int64_t>(2);
      int64_t n = rows.columns;
      parallelRange(c.pool, rows.rows, rowGrain(n), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          T *dx = o.out<T>(0) + r * n;
          int64_t label = labels[r];
          if (label == ignored) {
            std::fill_n(dx, n, T{});
          } else if (label < 0 || label >= n) {
            c.failure.report("label", static_cast<uint64_t>(r), label, 0, n);
          } else {
            backwardRow(o.in<T>(1) + r * n, o.in<T>(3)[r], factor, dx, n);
            dx[label] -= factor;
          }
        }
      });
    });
  };
  return spec.inputs[1].dtype == plan::F64 ? make(double{}) : make(float{});
}

bool aliasLogits(const InstructionSpec &spec, size_t output, size_t input) {
  return output == 0 && input == 1 && aliasElementwise(spec, output, input);
}

} // namespace

void registerLoss(KernelRegistry &registry) {
  registry.add("shift_labels", {checkShift, createShift});
  registry.add("cross_entropy", {checkLoss, createLoss});
  registry.add("cross_entropy_backward", {checkBackward, createBackward, aliasLogits});
}

} // namespace amc::rt::cpu
