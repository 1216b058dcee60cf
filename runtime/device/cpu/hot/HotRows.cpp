// Rows, of fp32 and some of bf16: sums, softmax, normalisations, rotary, transposition. See Hot.h.
#include "runtime/device/cpu/hot/HotParts.h"

namespace amc::rt::cpu::AMC_ISA {
namespace {
constexpr float infinity = __builtin_inff();
}

template <class E> static float sumRow(const E *x, int64_t n) {
  return reduceSum(n, [&](int64_t i, int64_t count) { return loadUpTo(x + i, count); });
}
float sum(const float *x, int64_t n) { return sumRow(x, n); }

template <class E> static float dotRow(const E *a, const E *b, int64_t n) {
  V s0{}, s1{}, s2{}, s3{};
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W) {
    s0 = fma(load(a + i), load(b + i), s0);
    s1 = fma(load(a + i + W), load(b + i + W), s1);
    s2 = fma(load(a + i + 2 * W), load(b + i + 2 * W), s2);
    s3 = fma(load(a + i + 3 * W), load(b + i + 3 * W), s3);
  }
  for (; i + W <= n; i += W)
    s0 = fma(load(a + i), load(b + i), s0);
  if (i < n)
    s1 = fma(loadPart(a + i, n - i), loadPart(b + i, n - i), s1);
  return sumLanes((s0 + s1) + (s2 + s3));
}

template <class E> static float maxRow(const E *x, int64_t n) {
  V best = splat(-infinity), b1 = best, b2 = best, b3 = best;
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W) {
    best = maxV(load(x + i), best);
    b1 = maxV(load(x + i + W), b1);
    b2 = maxV(load(x + i + 2 * W), b2);
    b3 = maxV(load(x + i + 3 * W), b3);
  }
  for (; i + W <= n; i += W)
    best = maxV(load(x + i), best);
  float result = maxLanes(maxV(maxV(best, b1), maxV(b2, b3)));
  float tail[W];
  if (i < n)
    store(tail, loadPart(x + i, n - i));
  for (int64_t j = 0; i + j < n; ++j)
    result = tail[j] > result ? tail[j] : result;
  return result;
}

float dot(const float *a, const float *b, int64_t n) { return dotRow(a, b, n); }
float max(const float *x, int64_t n) { return maxRow(x, n); }

double sumOfSquares(const float *x, int64_t n) {
  double lane[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j)
      lane[j] += (double)x[i + j] * (double)x[i + j];
  for (int j = 0; i < n; ++i, ++j)
    lane[j] += (double)x[i] * (double)x[i];
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// y = e^(x - shift), returns the sum.
static inline float expRow(const float *x, float shift, float *y, int64_t n) {
  V s0{}, s1{};
  int64_t i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    V a = expV(load(x + i) - shift), b = expV(load(x + i + W) - shift);
    store(y + i, a);
    store(y + i + W, b);
    s0 += a;
    s1 += b;
  }
  for (; i < n; i += W) {
    int64_t count = n - i < W ? n - i : W;
    V a = expV(loadUpTo(x + i, count) - shift);
    storePart(y + i, a, count);
    s0 += loadPart(y + i, count); // nothing from beyond the end
  }
  return sumLanes(s0 + s1);
}

// Of a row that has an element near shift, so what is below 2^-126 of it does not matter.
// With `fetches` as many elements from `next` on come into the cache meanwhile.
template <bool fetches = false, class E>
static inline float sumExp(const E *x, float shift, int64_t n, [[maybe_unused]] const E *next = nullptr) {
  V s0{}, s1{};
  int64_t i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    for (int64_t line = 0; fetches && line < 2 * W; line += 64 / static_cast<int64_t>(sizeof(E)))
      __builtin_prefetch(next + i + line, 0, 2);
    s0 += boundedExpV(load(x + i) - shift);
    s1 += boundedExpV(load(x + i + W) - shift);
  }
  for (; i + W <= n; i += W)
    s0 += boundedExpV(load(x + i) - shift);
  float tail[W] = {};
  if (i < n) {
    storePart(tail, boundedExpV(loadPart(x + i, n - i) - shift), n - i);
    s1 += load(tail);
  }
  return sumLanes(s0 + s1);
}

void softmax(const float *x, float *y, int64_t n) {
  float total = expRow(x, max(x, n), y, n);
  scale(y, 1.0f / total, n);
}

// Numerators are not kept, they would be rounded before they are divided.
static void softmaxBf16(const BFloat16 *x, BFloat16 *y, int64_t n) {
  float top = maxRow(x, n), share = 1.0f / sumExp(x, top, n);
  map1(x, y, n, [=](V v) { return expV(v - top) * share; });
}

template <class E>
static void softmaxBackwardRow(const E *dy, const E *y, E *dx, int64_t n) {
  float inner = dotRow(dy, y, n);
  map2(dy, y, dx, n, [&](V d, V p) { return p * (d - inner); });
}

float logSumExp(const float *x, int64_t n, const float *next) {
  float top = max(x, n);
  if (top == -infinity) // all are, or NaN, which is no maximum: so is their sum
    return n > 0 ? sum(x, n) : top;
  return top + __builtin_logf(next ? sumExp<true>(x, top, n, next) : sumExp(x, top, n));
}

template <class E>
static void logSoftmaxRow(const E *x, E *y, int64_t n) {
  float top = maxRow(x, n), rest = __builtin_logf(sumExp(x, top, n));
  map1(x, y, n, [&](V v) { return v - top - rest; });
}

template <class E>
static void logSoftmaxBackwardRow(const E *dy, const E *y, E *dx, int64_t n) {
  float total = sumRow(dy, n);
  map2(dy, y, dx, n, [&](V d, V l) { return d - expV(l) * total; });
}

void crossEntropyBackward(const float *logits, float lse, float factor, float *dlogits, int64_t n) {
  map1(logits, dlogits, n, [&](V v) { return factor * expV(v - lse); });
}

template <class E>
static float rmsNormRow(const E *x, const E *weight, E *y, int64_t n, float epsilon) {
  float rstd = 1.0f / __builtin_sqrtf(dotRow(x, x, n) / (float)n + epsilon);
  if (weight)
    map2(x, weight, y, n, [&](V v, V w) { return v * rstd * w; });
  else
    map1(x, y, n, [&](V v) { return v * rstd; });
  return rstd;
}

template <class E>
static void rmsNormBackwardRow(const E *dy, const E *x, float rstd, const E *weight, E *dx, float *dweight,
                               int64_t n) {
  auto gradient = [&](int64_t i, int64_t count) {
    V d = loadUpTo(dy + i, count);
    return weight ? d * loadUpTo(weight + i, count) : d;
  };
  float mean = reduceSum(n, [&](int64_t i, int64_t count) {
                 return gradient(i, count) * loadUpTo(x + i, count);
               }) / (float)n;
  float slope = -rstd * rstd * mean;
  for (int64_t i = 0; i < n; i += W) {
    int64_t count = n - i < W ? n - i : W;
    V v = loadUpTo(x + i, count), d = loadUpTo(dy + i, count);
    V g = gradient(i, count);
    if (dweight)
      storePart(dweight + i, fma(d, v * rstd, loadUpTo(dweight + i, count)), count);
    storePart(dx + i, rstd * fma(v, splat(slope), g), count);
  }
}

template <class E>
static void layerNormRow(const E *x, const E *weight, const E *bias, E *y, float *mean, float *rstd, int64_t n,
                         float epsilon) {
  float m = sumRow(x, n) / (float)n;
  float tail[W];
  float variance = reduceSum(n, [&](int64_t i, int64_t count) {
                     V d = loadUpTo(x + i, count) - m;
                     if (count < W) { // what lies beyond the end would count as -m
                       store(tail, V{});
                       storePart(tail, d, count);
                       d = load(tail);
                     }
                     return d * d;
                   }) / (float)n;
  float r = 1.0f / __builtin_sqrtf(variance + epsilon);
  for (int64_t i = 0; i < n; i += W) {
    int64_t count = n - i < W ? n - i : W;
    V h = (loadUpTo(x + i, count) - m) * r;
    if (weight)
      h = h * loadUpTo(weight + i, count);
    if (bias)
      h = h + loadUpTo(bias + i, count);
    storePart(y + i, h, count);
  }
  *mean = m;
  *rstd = r;
}

template <class E>
static void layerNormBackwardRow(const E *dy, const E *x, float mean, float rstd, const E *weight, E *dx,
                                 float *dweight, float *dbias, int64_t n) {
  auto gradient = [&](int64_t i, int64_t count) {
    V d = loadUpTo(dy + i, count);
    return weight ? d * loadUpTo(weight + i, count) : d;
  };
  float meanG = reduceSum(n, gradient) / (float)n;
  float meanGh = reduceSum(n, [&](int64_t i, int64_t count) {
                   return gradient(i, count) * ((loadUpTo(x + i, count) - mean) * rstd);
                 }) / (float)n;
  for (int64_t i = 0; i < n; i += W) {
    int64_t count = n - i < W ? n - i : W;
    V d = loadUpTo(dy + i, count), h = (loadUpTo(x + i, count) - mean) * rstd;
    V g = gradient(i, count);
    if (dweight) {
      storePart(dweight + i, fma(d, h, loadUpTo(dweight + i, count)), count);
      storePart(dbias + i, loadUpTo(dbias + i, count) + d, count);
    }
    storePart(dx + i, rstd * fma(-h, splat(meanGh), g - meanG), count);
  }
}

void rotary(const float *x, const float *cos, const float *sin, float *y, int64_t half) {
  for (int64_t i = 0; i < half; i += W) {
    int64_t count = half - i < W ? half - i : W;
    V a = loadUpTo(x + i, count), b = loadUpTo(x + half + i, count);
    V first = fma(-b, loadUpTo(sin + i, count), a * loadUpTo(cos + i, count));
    V second = fma(a, loadUpTo(sin + half + i, count), b * loadUpTo(cos + half + i, count));
    storePart(y + i, first, count);
    storePart(y + half + i, second, count);
  }
}

void rotaryBackward(const float *dy, const float *cos, const float *sin, float *dx, int64_t half) {
  for (int64_t i = 0; i < half; i += W) {
    int64_t count = half - i < W ? half - i : W;
    V a = loadUpTo(dy + i, count), b = loadUpTo(dy + half + i, count);
    V first = fma(b, loadUpTo(sin + half + i, count), a * loadUpTo(cos + i, count));
    V second = fma(-a, loadUpTo(sin + i, count), b * loadUpTo(cos + half + i, count));
    storePart(dx + i, first, count);
    storePart(dx + half + i, second, count);
  }
}

// Eight rows of eight elements.
static inline void transposeBlock(const uint32_t *x, int64_t ldx, uint32_t *y, int64_t ldy) {
  __m256 v[8], t[8];
  for (int i = 0; i < 8; ++i)
    v[i] = _mm256_loadu_ps((const float *)(x + i * ldx));
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    v[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    v[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    v[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps((float *)(y + i * ldy), _mm256_permute2f128_ps(v[i], v[i + 4], 0x20));
    _mm256_storeu_ps((float *)(y + (i + 4) * ldy), _mm256_permute2f128_ps(v[i], v[i + 4], 0x31));
  }
}

// In blocks of 16 x 16, so that every cache line is read and written whole at once: with rows a power of two apart,
// lines of many rows do not fit into the cache together.
void transpose32(const uint32_t *x, int64_t ldx, uint32_t *y, int64_t ldy, int64_t rows, int64_t columns) {
  int64_t wholeRows = rows & ~(int64_t)15, wholeColumns = columns & ~(int64_t)15;
  for (int64_t r = 0; r < wholeRows; r += 16)
    for (int64_t c = 0; c < wholeColumns; c += 16)
      for (int64_t i = 0; i < 16; i += 8)
        for (int64_t j = 0; j < 16; j += 8)
          transposeBlock(x + (r + j) * ldx + c + i, ldx, y + (c + i) * ldy + r + j, ldy);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < wholeRows ? wholeColumns : 0; c < columns; ++c)
      y[c * ldy + r] = x[r * ldx + c];
}

extern const Hot hot = {
#ifdef __AVX512F__
    "x86-64-v4",
#else
    "x86-64-v3",
#endif
    unary, binary, gated, gatedBackward, activationBackward, addTo, addRowsTo, bf16ToF32, f32ToBf16, f16ToF32, f32ToF16, sum,
    max, sumOfSquares, softmax, softmaxBackwardRow<float>, logSoftmaxRow<float>, logSoftmaxBackwardRow<float>,
    logSumExp, crossEntropyBackward, rmsNormRow<float>, rmsNormBackwardRow<float>, layerNormRow<float>,
    layerNormBackwardRow<float>, rotary, rotaryBackward, attentionBlock, scale, attentionBackwardBlock, dot, dropoutMask,
    keepScaled, adamw, sgd, transpose32,
    {dotRow<BFloat16>, softmaxBf16, softmaxBackwardRow<BFloat16>, logSoftmaxRow<BFloat16>,
     logSoftmaxBackwardRow<BFloat16>, rmsNormRow<BFloat16>, rmsNormBackwardRow<BFloat16>, layerNormRow<BFloat16>,
     layerNormBackwardRow<BFloat16>}};

} // namespace amc::rt::cpu::AMC_ISA
