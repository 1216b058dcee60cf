// rms_norm, layer_norm and their gradients over the last dimension; f32 and f64, statistics in the same type, and bf16,
// computed in fp32, with statistics in fp32.
//
// Rows are independent. dweight and dbias are summed over blocks of 64 rows (workspace: one row of partial sums for
// each block), then over the blocks in ascending order. dx may replace dy or x, y may replace x. Reference: the
// formulas in NormOps.td; the double versions below are written after them.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/Workspace.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {
namespace {

// ---- rows

void rmsRow(const float *x, const float *w, float *y, float *rstd, int64_t n, double epsilon) {
  *rstd = hot().rmsNorm(x, w, y, n, static_cast<float>(epsilon));
}
void rmsRow(const BFloat16 *x, const BFloat16 *w, BFloat16 *y, float *rstd, int64_t n, double epsilon) {
  *rstd = hot().bf16.rmsNorm(x, w, y, n, static_cast<float>(epsilon));
}
void rmsRow(const double *x, const double *w, double *y, double *rstd, int64_t n, double epsilon) {
  double squares = 0;
  for (int64_t i = 0; i < n; ++i)
    squares += x[i] * x[i];
  double r = *rstd = 1 / std::sqrt(squares / static_cast<double>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i)
    y[i] = x[i] * r * (w ? w[i] : 1);
}

void rmsBackwardRow(const float *dy, const float *x, float rstd, const float *w, float *dx, float *dw, int64_t n) {
  hot().rmsNormBackward(dy, x, rstd, w, dx, dw, n);
}
void rmsBackwardRow(const BFloat16 *dy, const BFloat16 *x, float rstd, const BFloat16 *w, BFloat16 *dx, float *dw,
                    int64_t n) {
  hot().bf16.rmsNormBackward(dy, x, rstd, w, dx, dw, n);
}
void rmsBackwardRow(const double *dy, const double *x, double rstd, const double *w, double *dx, double *dw,
                    int64_t n) {
  double mean = 0;
  for (int64_t i = 0; i < n; ++i)
    mean += dy[i] * (w ? w[i] : 1) * x[i];
  mean /= static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) {
    double d = dy[i], v = x[i];
    if (dw)
      dw[i] += d * v * rstd;
    dx[i] = rstd * (d * (w ? w[i] : 1) - v * rstd * rstd * mean);
  }
}

void layerRow(const float *x, const float *w, const float *b, float *y, float *mean, float *rstd, int64_t n,
              double epsilon) {
  hot().layerNorm(x, w, b, y, mean, rstd, n, static_cast<float>(epsilon));
}
void layerRow(const BFloat16 *x, const BFloat16 *w, const BFloat16 *b, BFloat16 *y, float *mean, float *rstd, int64_t n,
              double epsilon) {
  hot().bf16.layerNorm(x, w, b, y, mean, rstd, n, static_cast<float>(epsilon));
}
void layerRow(const double *x, const double *w, const double *b, double *y, double *mean, double *rstd, int64_t n,
              double epsilon) {
  double m = 0, variance = 0;
  for (int64_t i = 0; i < n; ++i)
    m += x[i];
  m /= static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i)
    variance += (x[i] - m) * (x[i] - m);
  double r = 1 / std::sqrt(variance / static_cast<double>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i)
    y[i] = (x[i] - m) * r * (w ? w[i] : 1) + (b ? b[i] : 0);
  *mean = m;
  *rstd = r;
}

void layerBackwardRow(const float *dy, const float *x, float mean, float rstd, const float *w, float *dx, float *dw,
                      float *db, int64_t n) {
  hot().layerNormBackward(dy, x, mean, rstd, w, dx, dw, db, n);
}
void layerBackwardRow(const BFloat16 *dy, const BFloat16 *x, float mean, float rstd, const BFloat16 *w, BFloat16 *dx,
                      float *dw, float *db, int64_t n) {
  hot().bf16.layerNormBackward(dy, x, mean, rstd, w, dx, dw, db, n);
}
void layerBackwardRow(const double *dy, const double *x, double mean, double rstd, const double *w, double *dx,
                      double *dw, double *db, int64_t n) {
  double meanG = 0, meanGh = 0;
  for (int64_t i = 0; i < n; ++i) {
    double g = dy[i] * (w ? w[i] : 1);
    meanG += g;
    meanGh += g * (x[i] - mean) * rstd;
  }
  meanG /= static_cast<double>(n);
  meanGh /= static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) {
    double d = dy[i], h = (x[i] - mean) * rstd;
    if (dw) {
      dw[i] += d * h;
      db[i] += d;
    }
    dx[i] = rstd * (d * (w ? w[i] : 1) - meanG - h * meanGh);
  }
}

// Calls f(S{}) with the type that sums over rows of S are stored in.
template <class S, class F> void withSumType(bool wide, F &&f) { wide ? f(Wide<S>{}) : f(S{}); }

// out = sum of `blocks` rows of partial sums, `pitch` elements apart, ascending.
template <class S, class T>
void sumBlocks(ThreadPool &pool, const T *partial, int64_t blocks, int64_t pitch, int64_t columns, S *out) {
  constexpr int64_t columnBlock = 128;
  parallelRange(pool, columns, columnBlock, [&](int64_t begin, int64_t end) {
    T sum[columnBlock] = {};
    for (int64_t b = 0; b < blocks; ++b)
      addToRow(sum, partial + b * pitch + begin, end - begin);
    narrowRow(sum, out + begin, end - begin);
  });
}

template <class T> int64_t partialPitch(int64_t columns) {
  return static_cast<int64_t>(workspace::detail::pad(static_cast<uint64_t>(columns) * sizeof(T)) / sizeof(T));
}

// ---- signatures

Status expectRows(const TensorSpec &x) {
  AMC_EXPECT(x.rank() >= 1, "inputs: rank is 0 and should be at least 1");
  AMC_EXPECT(x.shape.back() > 0, "inputs: the last dimension is 0");
  return Status();
}
Status expectColumn(const char *what, const TensorSpec &tensor, const TensorSpec &x) {
  AMC_TRY(expectDType(what, tensor, x.dtype));
  return expectShape(what, tensor, {x.shape.back()});
}
Status expectLike(const char *what, const TensorSpec &tensor, const TensorSpec &x) {
  AMC_TRY(expectDType(what, tensor, x.dtype));
  return expectShape(what, tensor, x.shape);
}
Status expectColumnSum(const char *what, const InstructionSpec &spec, const TensorSpec &tensor, const TensorSpec &x) {
  AMC_TRY(expectSumType(what, spec, tensor, x));
  return expectShape(what, tensor, {x.shape.back()});
}
Status expectStatistic(const char *what, const TensorSpec &tensor, const TensorSpec &x) {
  AMC_TRY(expectStatisticType(what, tensor, x));
  return expectShape(what, tensor, {x.shape.begin(), x.shape.end() - 1});
}
// Bytes of a statistic or a partial sum.
uint64_t wideBytes(const TensorSpec &x) { return workspace::detail::wide(dtypeBytes(x.dtype)); }

// ---- rms_norm

Status checkRms(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptData}, {"weight", AcceptData, Optional}},
                         {{"y", AcceptData}, {"rstd", AcceptWide}}, {{"epsilon", Real}}));
  const TensorSpec &x = spec.inputs[0];
  AMC_TRY(expectRows(x));
  if (spec.inputs[1].present())
    AMC_TRY(expectColumn("inputs[1]", spec.inputs[1], x));
  AMC_TRY(expectLike("outputs[0]", spec.outputs[0], x));
  return expectStatistic("outputs[1]", spec.outputs[1], x);
}

std::unique_ptr<Kernel> createRms(const InstructionSpec &spec) {
  Rows rows = rowsOf(spec.inputs[0].shape);
  double epsilon = spec.real("epsilon");
  return withFloats(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    using T = Wide<S>;
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, rows.rows, rowGrain(rows.columns), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          rmsRow(o.in<S>(0) + r * rows.columns, o.in<S>(1), o.out<S>(0) + r * rows.columns, o.out<T>(1) + r,
                 rows.columns, epsilon);
      });
    });
  });
}

bool aliasFirstResult(const InstructionSpec &spec, size_t output, size_t input) {
  return output == 0 && input == 0 && aliasElementwise(spec, output, input);
}

Status checkRmsBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(
      spec, {{"dy", AcceptData}, {"x", AcceptData}, {"rstd", AcceptWide}, {"weight", AcceptData, Optional}},
      {{"dx", AcceptData}, {"dweight", AcceptData, Optional}}, {{"wide", Int, Optional}}));
  const TensorSpec &x = spec.inputs[1];
  AMC_TRY(expectRows(x));
  AMC_TRY(expectLike("inputs[0]", spec.inputs[0], x));
  AMC_TRY(expectStatistic("inputs[2]", spec.inputs[2], x));
  AMC_TRY(expectLike("outputs[0]", spec.outputs[0], x));
  bool weighted = spec.inputs[3].present();
  AMC_EXPECT(spec.outputs[1].present() == weighted, "outputs[1] (dweight): should be there exactly when weight is");
  if (weighted) {
    AMC_TRY(expectColumn("inputs[3]", spec.inputs[3], x));
    AMC_TRY(expectColumnSum("outputs[1]", spec, spec.outputs[1], x));
  }
  Rows rows = rowsOf(x.shape);
  return expectWorkspace(spec, workspace::rmsNormBackward(rows.rows, rows.columns, weighted, wideBytes(x)));
}

// dx may replace dy or x: both are read before.
bool aliasDx(const InstructionSpec &spec, size_t output, size_t input) {
  return output == 0 && input <= 1 && aliasElementwise(spec, output, input);
}

std::unique_ptr<Kernel> createRmsBackward(const InstructionSpec &spec) {
  Rows rows = rowsOf(spec.inputs[1].shape);
  bool weighted = spec.inputs[3].present(), wide = spec.flag("wide");
  return withFloats(spec.inputs[1].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    using T = Wide<S>;
    return makeKernel([=](const Operands &o, RunContext &c) {
      constexpr int64_t block = workspace::normRowBlock;
      int64_t blocks = ceilDiv(rows.rows, block), n = rows.columns, pitch = partialPitch<T>(n);
      T *partial = weighted && blocks && n ? o.workspace<T>() : nullptr;
      parallelRange(c.pool, rows.rows, block, [&](int64_t begin, int64_t end) {
        T *dw = partial ? partial + begin / block * pitch : nullptr;
        if (dw)
          std::fill_n(dw, n, T{});
        for (int64_t r = begin; r < end; ++r)
          rmsBackwardRow(o.in<S>(0) + r * n, o.in<S>(1) + r * n, o.in<T>(2)[r], o.in<S>(3), o.out<S>(0) + r * n, dw,
                         n);
      });
      if (weighted)
        withSumType<S>(wide, [&](auto sum) { sumBlocks(c.pool, partial, blocks, pitch, n, o.out<decltype(sum)>(1)); });
    });
  });
}

// ---- layer_norm

Status checkLayer(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec,
                         {{"x", AcceptData}, {"weight", AcceptData, Optional}, {"bias", AcceptData, Optional}},
                         {{"y", AcceptData}, {"mean", AcceptWide}, {"rstd", AcceptWide}}, {{"epsilon", Real}}));
  const TensorSpec &x = spec.inputs[0];
  AMC_TRY(expectRows(x));
  for (size_t i = 1; i < 3; ++i)
    if (spec.inputs[i].present())
      AMC_TRY(expectColumn(i == 1 ? "inputs[1]" : "inputs[2]", spec.inputs[i], x));
  AMC_TRY(expectLike("outputs[0]", spec.outputs[0], x));
  AMC_TRY(expectStatistic("outputs[1]", spec.outputs[1], x));
  return expectStatistic("outputs[2]", spec.outputs[2], x);
}

std::unique_ptr<Kernel> createLayer(const InstructionSpec &spec) {
  Rows rows = rowsOf(spec.inputs[0].shape);
  double epsilon = spec.real("epsilon");
  return withFloats(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    using T = Wide<S>;
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, rows.rows, rowGrain(rows.columns), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          layerRow(o.in<S>(0) + r * rows.columns, o.in<S>(1), o.in<S>(2), o.out<S>(0) + r * rows.columns,
                   o.out<T>(1) + r, o.out<T>(2) + r, rows.columns, epsilon);
      });
    });
  });
}

Status checkLayerBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec,
                         {{"dy", AcceptData},
                          {"x", AcceptData},
                          {"mean", AcceptWide},
                          {"rstd", AcceptWide},
                          {"weight", AcceptData, Optional}},
                         {{"dx", AcceptData}, {"dweight", AcceptData, Optional}, {"dbias", AcceptData, Optional}},
                         {{"wide", Int, Optional}}));
  const TensorSpec &x = spec.inputs[1];
  AMC_TRY(expectRows(x));
  AMC_TRY(expectLike("inputs[0]", spec.inputs[0], x));
  AMC_TRY(expectStatistic("inputs[2]", spec.inputs[2], x));
  AMC_TRY(expectStatistic("inputs[3]", spec.inputs[3], x));
  AMC_TRY(expectLike("outputs[0]", spec.outputs[0], x));
  bool weighted = spec.inputs[4].present();
  AMC_EXPECT(spec.outputs[1].present() == weighted && spec.outputs[2].present() == weighted,
             "outputs: dweight and dbias should be there exactly when weight is");
  if (weighted) {
    AMC_TRY(expectColumn("inputs[4]", spec.inputs[4], x));
    AMC_TRY(expectColumnSum("outputs[1]", spec, spec.outputs[1], x));
    AMC_TRY(expectColumnSum("outputs[2]", spec, spec.outputs[2], x));
  }
  Rows rows = rowsOf(x.shape);
  return expectWorkspace(spec, workspace::layerNormBackward(rows.rows, rows.columns, weighted, wideBytes(x)));
}

std::unique_ptr<Kernel> createLayerBackward(const InstructionSpec &spec) {
  Rows rows = rowsOf(spec.inputs[1].shape);
  bool weighted = spec.inputs[4].present(), wide = spec.flag("wide");
  return withFloats(spec.inputs[1].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    using T = Wide<S>;
    return makeKernel([=](const Operands &o, RunContext &c) {
      constexpr int64_t block = workspace::normRowBlock;
      int64_t blocks = ceilDiv(rows.rows, block), n = rows.columns, pitch = partialPitch<T>(n);
      T *partial = weighted && blocks && n ? o.workspace<T>() : nullptr;
      parallelRange(c.pool, rows.rows, block, [&](int64_t begin, int64_t end) {
        T *dw = partial ? partial + begin / block * pitch : nullptr;
        T *db = partial ? dw + blocks * pitch : nullptr;
        if (dw) {
          std::fill_n(dw, n, T{});
          std::fill_n(db, n, T{});
        }
        for (int64_t r = begin; r < end; ++r)
          layerBackwardRow(o.in<S>(0) + r * n, o.in<S>(1) + r * n, o.in<T>(2)[r], o.in<T>(3)[r], o.in<S>(4),
                           o.out<S>(0) + r * n, dw, db, n);
      });
      if (weighted)
        withSumType<S>(wide, [&](auto sum) {
          using R = decltype(sum);
          sumBlocks(c.pool, partial, blocks, pitch, n, o.out<R>(1));
          sumBlocks(c.pool, partial ? partial + blocks * pitch : nullptr, blocks, pitch, n, o.out<R>(2));
        });
    });
  });
}

} // namespace

void registerNorms(KernelRegistry &registry) {
  registry.add("rms_norm", {checkRms, createRms, aliasFirstResult});
  registry.add("rms_norm_backward", {checkRmsBackward, createRmsBackward, aliasDx, false, true});
  registry.add("layer_norm", {checkLayer, createLayer, aliasFirstResult});
  registry.add("layer_norm_backward", {checkLayerBackward, createLayerBackward, aliasDx, false, true});
}

} // namespace amc::rt::cpu
