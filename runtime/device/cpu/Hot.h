// The inner loops that training time goes into: fp32, rows also in bf16 as they are stored; compiled once for x86-64-v3
// (AVX2) and once for x86-64-v4 (AVX-512) from the files in hot/, chosen when the process starts. Only plain functions
// on plain data: a template of the standard library instantiated in such a file could be linked into code that runs on
// an older processor.
//
// A result depends on the values and the length of a row alone, never on addresses; the order of every sum is
// fixed. Unless said otherwise a result may stand in the bytes of an operand of the same length.
#ifndef AMC_RUNTIME_DEVICE_CPU_HOT_H
#define AMC_RUNTIME_DEVICE_CPU_HOT_H

#include <cstdint>

namespace amc::rt::cpu {

// An element in storage: the upper half of the fp32 value.
struct BFloat16 {
  uint16_t bits;
  operator float() const {
    uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    __builtin_memcpy(&value, &wide, 4);
    return value;
  }
};

enum class HotUnary {
  Abs, Neg, Exp, Sqrt, Rsqrt, Reciprocal, Tanh, Sigmoid, Erf, Relu, Silu, Gelu, GeluTanh, Ceil, Floor, Round
};
enum class HotBinary { Add, Sub, Mul, Div, Max, Min };
enum class HotActivation { Silu, Gelu, GeluTanh, Relu };

struct AdamWScalars {
  float gradientScale, decay, oneMinusBeta1, beta2, oneMinusBeta2, stepSize, sqrtCorrection2, epsilon;
};
struct SgdScalars {
  float gradientScale, weightDecay, momentum, learningRate;
  bool hasMomentum, firstStep, nesterov;
};

// What a dropout's mask is drawn from (runtime/plan/Philox.h): an element is kept if its word is above `lastDropped`.
struct DropoutDraw {
  uint32_t key[2], stream, step, lastDropped;
};

// A block of scores: row r may attend to columns [low[r], high[r]) of the first `columns`. Rows are `stride` apart.
struct ScoreBlock {
  float *scores;
  int64_t stride, rows, columns;
  const int32_t *low, *high;
};

// Rows of bf16: the functions of Hot with the same names, each result rounded once, statistics and sums fp32. The order
// of sums is that of fp32 rows.
struct HotBf16Rows {
  float (*dot)(const BFloat16 *a, const BFloat16 *b, int64_t n);
  void (*softmax)(const BFloat16 *x, BFloat16 *y, int64_t n);
  void (*softmaxBackward)(const BFloat16 *dy, const BFloat16 *y, BFloat16 *dx, int64_t n);
  void (*logSoftmax)(const BFloat16 *x, BFloat16 *y, int64_t n);
  void (*logSoftmaxBackward)(const BFloat16 *dy, const BFloat16 *y, BFloat16 *dx, int64_t n);
  float (*rmsNorm)(const BFloat16 *x, const BFloat16 *weight, BFloat16 *y, int64_t n, float epsilon);
  void (*rmsNormBackward)(const BFloat16 *dy, const BFloat16 *x, float rstd, const BFloat16 *weight, BFloat16 *dx,
                          float *dweight, int64_t n);
  void (*layerNorm)(const BFloat16 *x, const BFloat16 *weight, const BFloat16 *bias, BFloat16 *y, float *mean,
                    float *rstd, int64_t n, float epsilon);
  void (*layerNormBackward)(const BFloat16 *dy, const BFloat16 *x, float mean, float rstd, const BFloat16 *weight,
                            BFloat16 *dx, float *dweight, float *dbias, int64_t n);
};

struct Hot {
  const char *isa;

  // ---- elementwise; strideA and strideB are 0 (one value for all) or 1
  void (*unary)(HotUnary op, const float *x, float *y, int64_t n);
  void (*binary)(HotBinary op, const float *a, int strideA, const float *b, int strideB, float *y, int64_t n);
  void (*gated)(HotActivation act, const float *gate, const float *up, float *y, int64_t n);
  void (*gatedBackward)(HotActivation act, const float *dy, const float *gate, const float *up, float *dgate,
                        float *dup, int64_t n);
  void (*activationBackward)(HotActivation act, const float *dy, const float *x, float *dx, int64_t n);
  void (*addTo)(float *y, const float *x, int64_t n); // y += x
  void (*addRowsTo)(float *y, const float *x, int64_t stride, int64_t rows, int64_t n); // y += each row of x, in their order
  void (*bf16ToF32)(const uint16_t *x, float *y, int64_t n);
  void (*f32ToBf16)(const float *x, uint16_t *y, int64_t n);
  void (*f16ToF32)(const uint16_t *x, float *y, int64_t n);
  void (*f32ToF16)(const float *x, uint16_t *y, int64_t n);

  // ---- sums over a row
  float (*sum)(const float *x, int64_t n);
  float (*max)(const float *x, int64_t n);
  double (*sumOfSquares)(const float *x, int64_t n); // squares and sum in double

  // ---- rows
  void (*softmax)(const float *x, float *y, int64_t n);
  void (*softmaxBackward)(const float *dy, const float *y, float *dx, int64_t n);
  void (*logSoftmax)(const float *x, float *y, int64_t n);
  void (*logSoftmaxBackward)(const float *dy, const float *y, float *dx, int64_t n);
  float (*logSumExp)(const float *x, int64_t n, const float *next); // next: n elements that will be wanted, or null
  void (*crossEntropyBackward)(const float *logits, float lse, float scale, float *dlogits, int64_t n);
  float (*rmsNorm)(const float *x, const float *weight, float *y, int64_t n, float epsilon); // weight may be null
  // dweight (may be null) is added to
  void (*rmsNormBackward)(const float *dy, const float *x, float rstd, const float *weight, float *dx,
                          float *dweight, int64_t n);
  void (*layerNorm)(const float *x, const float *weight, const float *bias, float *y, float *mean, float *rstd,
                    int64_t n, float epsilon);
  void (*layerNormBackward)(const float *dy, const float *x, float mean, float rstd, const float *weight,
                            float *dx, float *dweight, float *dbias, int64_t n);
  // A row of two halves; cos and sin are rows, too.
  void (*rotary)(const float *x, const float *cos, const float *sin, float *y, int64_t half);
  void (*rotaryBackward)(const float *dy, const float *cos, const float *sin, float *dx, int64_t half);

  // ---- attention. Results stand in the scores' place, row by row, zero outside [low, high); `narrow`: as bf16, each row
  // from where it began.
  // Forward, online softmax: scores become e^(score - new maximum); maxima and sums of the rows are updated; factors[r] is
  // what row r of what was added up before has to be scaled with.
  void (*attentionBlock)(const ScoreBlock &, float *maximum, float *sum, float *factors, bool narrow);
  void (*scale)(float *x, float factor, int64_t n);
  // Backward: scores become probabilities e^(score - lse), gradients (dy v^T) become p * (gradient - delta) * scale.
  void (*attentionBackwardBlock)(const ScoreBlock &, float *gradients, const float *lse, const float *delta, float scale,
                                 bool narrow);
  float (*dot)(const float *a, const float *b, int64_t n);

  // ---- dropout: keep[i] is all ones where element first + i is kept, else 0; y = keep ? x * factor : 0
  void (*dropoutMask)(const DropoutDraw &, uint64_t first, int64_t n, uint32_t *keep);
  void (*keepScaled)(const float *x, const uint32_t *keep, float factor, float *y, int64_t n);

  // ---- optimizer
  void (*adamw)(float *p, const float *g, float *m, float *v, int64_t n, const AdamWScalars &);
  void (*sgd)(float *p, const float *g, float *buffer, int64_t n, const SgdScalars &);

  // ---- movement: y[c * ldy + r] = x[r * ldx + c], 4-byte elements; no overlap
  void (*transpose32)(const uint32_t *x, int64_t ldx, uint32_t *y, int64_t ldy, int64_t rows, int64_t columns);

  HotBf16Rows bf16;
};

namespace v3 { extern const Hot hot; }
namespace v4 { extern const Hot hot; }

// The best this processor runs; AMC_ISA=v3 or v4 asks for one (v4 where it cannot run is what hotError reports).
const Hot &hot();
// Null, or why no table can be used on this machine (a processor without AVX2, a wrong AMC_ISA).
const char *hotError();

} // namespace amc::rt::cpu

#endif
