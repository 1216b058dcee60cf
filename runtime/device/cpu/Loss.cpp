// shift_labels, cross_entropy, cross_entropy_backward; logits f32, f64, bf16 and f16 (read in blocks of 512 as fp32).
//
// A row of logits is one piece of work. The loss adds the rows in blocks of 64, ascending, then the blocks; lse of an
// ignored row is computed all the same. A label outside [0, V) that is not ignore_index is a failure at run time.
// dlogits may replace logits. Reference: LossOps.td, two loops.
#include "runtime/device/cpu/RowLoss.h"

namespace amc::rt::cpu {
namespace {

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

// The type of losses and statistics: fp32, or f64 for f64.
plan::DType statisticOf(const TensorSpec &logits) { return logits.dtype == plan::F64 ? plan::F64 : plan::F32; }

Status checkLoss(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(
      spec, {{"logits", AcceptFloat}, {"labels", AcceptI64}, {"class_weights", AcceptWide, Optional}},
      {{"loss", AcceptWide}, {"lse", AcceptWide}},
      {{"ignore_index", Int}, {"label_smoothing", Real, Optional}, {"z_loss", Real, Optional}}));
  const TensorSpec &logits = spec.inputs[0];
  AMC_TRY(expectLabels("inputs[1]", spec.inputs[1], logits));
  AMC_TRY(LossOptions::check(spec, 2, logits.shape.back(), statisticOf(logits)));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], statisticOf(logits)));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], {}));
  AMC_TRY(expectDType("outputs[1]", spec.outputs[1], statisticOf(logits)));
  return expectShape("outputs[1]", spec.outputs[1], spec.inputs[1].shape);
}

// Calls body(z, first, n) for the row's logits: at once if they are of the arithmetic type, else in blocks.
template <class T, class Body>
void forPieces(plan::DType dtype, const void *logits, int64_t row, int64_t columns, Body &&body) {
  Block<T> block;
  int64_t step = dtype == plan::F32 || dtype == plan::F64 ? std::max<int64_t>(columns, 1) : blockElements;
  for (int64_t first = 0; first < columns; first += step) {
    int64_t n = std::min(step, columns - first);
    body(loadBlock(dtype, logits, row * columns + first, n, block), first, n);
  }
}

std::unique_ptr<Kernel> createLoss(const InstructionSpec &spec) {
  Rows rows = rowsOf(spec.inputs[0].shape);
  LossOptions options = LossOptions::create(spec, 2);
  plan::DType dtype = spec.inputs[0].dtype;
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      int64_t columns = rows.columns;
      const int64_t *labels = o.in<int64_t>(1);
      RowLoss<T> loss(options, o.in<T>(2), columns);
      T *lse = o.out<T>(1);
      int64_t grain = rowGrain(columns);
      if (dtype == plan::F32) // several rows, so that a thread can have its next one come into the cache
        grain = std::max(grain, std::clamp<int64_t>(rows.rows / 64, 1, 8));
      parallelRange(c.pool, rows.rows, grain, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          if (dtype == plan::F32 || dtype == plan::F64) {
            const T *z = o.in<T>(0) + r * columns;
            lse[r] = logSumExp(z, columns, r + 1 < end ? z + columns : nullptr);
            continue;
          }
          LogitSums sums;
          forPieces<T>(dtype, o.inputs[0], r, columns,
                       [&](const T *z, int64_t first, int64_t n) { sums.add(loss, -1, z, first, n); });
          lse[r] = sums.lse<T>();
        }
      });
      *o.out<T>(0) = sumRows<T>(rows.rows, [&](int64_t r) {
        int64_t label = labels[r];
        if (label == loss.ignored)
          return T(0);
        if (label < 0 || label >= columns) {
          c.failure.report("label", static_cast<uint64_t>(r), label, 0, columns);
          return T(0);
        }
        Block<T> block;
        T logit = *loadBlock(dtype, o.inputs[0], r * columns + label, 1, block);
        double weighted = 0;
        if (loss.onAll != 0)
          forPieces<T>(dtype, o.inputs[0], r, columns, [&](const T *z, int64_t first, int64_t n) {
            weighted += weightedSum(z, loss.weights ? loss.weights + first : nullptr, n);
          });
        return loss.loss(label, lse[r], logit, static_cast<T>(weighted));
      });
    });
  };
  return dtype == plan::F64 ? make(double{}) : make(float{});
}

Status checkBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(
      spec,
      {{"dloss", AcceptWide}, {"logits", AcceptFloat}, {"labels", AcceptI64}, {"lse", AcceptWide},
       {"class_weights", AcceptWide, Optional}},
      {{"dlogits", AcceptFloat}},
      {{"ignore_index", Int}, {"label_smoothing", Real, Optional}, {"z_loss", Real, Optional}}));
  const TensorSpec &logits = spec.inputs[1];
  AMC_TRY(expectDType("inputs[0]", spec.inputs[0], statisticOf(logits)));
  AMC_TRY(expectShape("inputs[0]", spec.inputs[0], {}));
  AMC_TRY(expectLabels("inputs[2]", spec.inputs[2], logits));
  AMC_TRY(expectDType("inputs[3]", spec.inputs[3], statisticOf(logits)));
  AMC_TRY(expectShape("inputs[3]", spec.inputs[3], spec.inputs[2].shape));
  AMC_TRY(LossOptions::check(spec, 4, logits.shape.back(), statisticOf(logits)));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], logits.dtype));
  return expectShape("outputs[0]", spec.outputs[0], logits.shape);
}

std::unique_ptr<Kernel> createBackward(const InstructionSpec &spec) {
  Rows rows = rowsOf(spec.inputs[1].shape);
  LossOptions options = LossOptions::create(spec, 4);
  plan::DType dtype = spec.inputs[1].dtype;
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      T dloss = *o.in<T>(0);
      const int64_t *labels = o.in<int64_t>(2);
      int64_t columns = rows.columns;
      uint64_t bytes = dtypeBytes(dtype);
      RowLoss<T> loss(options, o.in<T>(4), columns);
      parallelRange(c.pool, rows.rows, rowGrain(columns), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          int64_t label = labels[r];
          if (label == loss.ignored) {
            std::fill_n(o.outputs[0] + static_cast<uint64_t>(r * columns) * bytes,
                        static_cast<uint64_t>(columns) * bytes, std::byte{});
          } else if (label < 0 || label >= columns) {
            c.failure.report("label", static_cast<uint64_t>(r), label, 0, columns);
          } else {
            forPieces<T>(dtype, o.inputs[1], r, columns, [&](const T *z, int64_t first, int64_t n) {
              Block<T> block;
              int64_t at = r * columns + first;
              loss.gradient(label, o.in<T>(3)[r], dloss, z, first, n, blockTarget(dtype, o.outputs[0], at, block));
              storeBlock(dtype, o.outputs[0], at, n, block);
            });
          }
        }
      });
    });
  };
  return dtype == plan::F64 ? make(double{}) : make(float{});
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
