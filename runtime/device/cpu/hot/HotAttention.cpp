// Attention's softmax on a block of scores. See Hot.h.
//
// Exponentials are powers of two: e^(s - m) is 2^(s log2(e) - m log2(e)), one fused multiply-add, and no part of ln 2 has
// to be taken apart. Below 2^-126 the result is zero, so that masked scores (minus infinity) give zero and nothing is
// denormal. Maxima of all rows come first, the factors of all rows are computed together, then the exponentials.
#include "runtime/device/cpu/hot/HotParts.h"

namespace amc::rt::cpu::AMC_ISA {
namespace {
constexpr float infinity = __builtin_inff(), log2e = 1.44269504088896341f;

// 2^r, 0 <= r < 1, 1 at 0: relative error 2e-9 before rounding. What is rounded to bf16 afterwards, to 2e-3, is spared two
// multiplications of six: 3e-6.
template <class E> inline V powerOfFraction(V r);
template <> inline V powerOfFraction<float>(V r) {
  V p = fma(splat(2.1612914861179888e-4f), r, splat(1.2467846972867846e-3f));
  p = fma(p, r, splat(9.675451554358006e-3f));
  p = fma(p, r, splat(5.5485282093286514e-2f));
  p = fma(p, r, splat(2.402293086051941e-1f));
  p = fma(p, r, splat(6.931470632553101e-1f));
  return fma(p, r, splat(1.0f));
}
template <> inline V powerOfFraction<BFloat16>(V r) {
  V p = fma(splat(1.3426684289533461e-2f), r, splat(5.2242474187575313e-2f));
  p = fma(p, r, splat(2.4128020477403309e-1f));
  p = fma(p, r, splat(6.930448448986979e-1f));
  return fma(p, r, splat(1.0f));
}

// 2^x for x at most 127 or so, as exactly as E holds it; NaN stays NaN.
#ifdef __AVX512F__
template <class E = float> inline V exp2V(V x) {
  __mmask16 kept = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  V r = (V)_mm512_reduce_ps((__m512)x, 0x09); // x - floor(x)
  return (V)_mm512_maskz_scalef_ps(kept, (__m512)powerOfFraction<E>(r), (__m512)x);
}
#else
template <class E = float> inline V exp2V(V x) {
  V n = floorV(x);
  V p = powerOfFraction<E>(x - n);
  VI whole = (VI)_mm256_cvtps_epi32((__m256)n);
  V scaled = p * (V)((whole + 127) << 23);
  return (V)_mm256_and_ps((__m256)scaled, _mm256_cmp_ps((__m256)x, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ));
}
#endif

// f(at, count) for the vectors of [low, high).
template <class F> inline void forVectors(int64_t low, int64_t high, F f) {
  int64_t j = low;
  for (; j + W <= high; j += W)
    f(j, W);
  if (j < high)
    f(j, high - j);
}

// Beyond a part: minus infinity.
#ifdef __AVX512F__
inline V loadScores(const float *x, int64_t count) {
  return (V)_mm512_mask_loadu_ps(_mm512_set1_ps(-infinity), (__mmask16)((1u << count) - 1), x);
}
#else
inline V loadScores(const float *x, int64_t count) {
  return (V)_mm256_blendv_ps(_mm256_set1_ps(-infinity), (__m256)loadUpTo(x, count), (__m256)partMask(count));
}
#endif

// Results as float or bf16. The latter are asked for where the processor multiplies them, which then has an instruction
// for this, too, though this file is not compiled for it: to nearest even, denormals to zero.
inline void put(float *p, V v) { store(p, v); }
inline void putPart(float *p, V v, int64_t count) { storePart(p, v, count); }
#ifdef __AVX512F__
inline __m256i rounded(V v) {
  __m256i narrow;
  asm("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"((__m512)v));
  return narrow;
}
inline void put(BFloat16 *p, V v) { _mm256_storeu_si256((__m256i *)p, rounded(v)); }
inline void putPart(BFloat16 *p, V v, int64_t count) {
  _mm256_mask_storeu_epi16(p, (__mmask16)((1u << count) - 1), rounded(v));
}
#else
inline void put(BFloat16 *p, V v) { store(p, v); }
inline void putPart(BFloat16 *p, V v, int64_t count) { storePart(p, v, count); }
#endif

// A row of float or, in the bytes of one, of bf16. What is written is behind what is still to be read.
template <class E> inline void zero(E *row, int64_t from, int64_t to) {
  for (int64_t j = from; j < to; ++j)
    row[j] = E{};
}

float topOf(const float *x, int64_t low, int64_t high) {
  V best = splat(-infinity), other = best;
  int64_t j = low;
  for (; j + 2 * W <= high; j += 2 * W) {
    best = maxV(load(x + j), best);
    other = maxV(load(x + j + W), other);
  }
  best = maxV(best, other);
  forVectors(j, high, [&](int64_t at, int64_t count) { best = maxV(loadScores(x + at, count), best); });
  return maxLanes(best);
}

template <class E> void forwardBlock(const ScoreBlock &b, float *maximum, float *sum, float *factors) {
  constexpr int64_t group = 64;
  for (int64_t first = 0; first < b.rows; first += group) {
    const int64_t rows = b.rows - first < group ? b.rows - first : group;
    float tops[group], shifts[group], rescales[group];
    for (int64_t r = 0; r < rows; ++r) {
      const float before = maximum[first + r];
      float top = topOf(b.scores + (first + r) * b.stride, b.low[first + r], b.high[first + r]);
      tops[r] = top > before ? top : before; // NaN if that is NaN
      // Nothing to attend to so far: nothing is scaled, and every e^(score - 0) is zero but that of a NaN.
      bool nothing = tops[r] == -infinity;
      rescales[r] = nothing ? 0 : (before - tops[r]) * log2e;
      shifts[r] = nothing ? 0 : -tops[r] * log2e;
    }
    forVectors(0, rows, [&](int64_t r, int64_t count) {
      storePart(factors + first + r, exp2V(loadUpTo(rescales + r, count)), count);
    });
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t low = b.low[first + r], high = b.high[first + r];
      float *row = b.scores + (first + r) * b.stride;
      E *out = reinterpret_cast<E *>(row);
      const V shift = splat(shifts[r]);
      V s0{}, s1{};
      int64_t j = low;
      if (low >= high) {
        zero(out, 0, b.columns);
      } else {
        for (; j + 2 * W <= high; j += 2 * W) {
          V p = exp2V<E>(fma(load(row + j), splat(log2e), shift)), q = exp2V<E>(fma(load(row + j + W), splat(log2e), shift));
          put(out + j, p);
          put(out + j + W, q);
          s0 += p;
          s1 += q;
        }
        forVectors(j, high, [&](int64_t at, int64_t count) {
          V p = exp2V<E>(fma(loadScores(row + at, count), splat(log2e), shift));
          putPart(out + at, p, count);
          s0 += p;
        });
        zero(out, 0, low);
        zero(out, high, b.columns);
      }
      float added = sumLanes(s0 + s1);
      float *total = sum + first + r;
      maximum[first + r] = added != added ? added : tops[r];
      *total = *total * factors[first + r] + added;
    }
  }
}

template <class E>
void backwardBlock(const ScoreBlock &b, float *gradients, const float *lse, const float *delta, float scale) {
  for (int64_t r = 0; r < b.rows; ++r) {
    const bool nothing = lse[r] == -infinity; // the row attends to nothing
    const int64_t low = nothing ? 0 : b.low[r], high = nothing ? 0 : b.high[r];
    float *row = b.scores + r * b.stride, *gradient = gradients + r * b.stride;
    E *p = reinterpret_cast<E *>(row), *d = reinterpret_cast<E *>(gradient);
    const V shift = splat(-lse[r] * log2e), inner = splat(delta[r]);
    if (low < high)
      forVectors(low, high, [&](int64_t at, int64_t count) {
        V probability = exp2V<E>(fma(loadScores(row + at, count), splat(log2e), shift));
        V slope = probability * (loadUpTo(gradient + at, count) - inner) * scale;
        putPart(p + at, probability, count);
        putPart(d + at, slope, count);
      });
    const int64_t begin = low < high ? low : 0, end = low < high ? high : 0;
    zero(p, 0, begin);
    zero(p, end, b.columns);
    zero(d, 0, begin);
    zero(d, end, b.columns);
  }
}
} // namespace

void attentionBlock(const ScoreBlock &block, float *maximum, float *sum, float *factors, bool narrow) {
  if (narrow)
    forwardBlock<BFloat16>(block, maximum, sum, factors);
  else
    forwardBlock<float>(block, maximum, sum, factors);
}
void attentionBackwardBlock(const ScoreBlock &block, float *gradients, const float *lse, const float *delta, float scale,
                            bool narrow) {
  if (narrow)
    backwardBlock<BFloat16>(block, gradients, lse, delta, scale);
  else
    backwardBlock<float>(block, gradients, lse, delta, scale);
}

} // namespace amc::rt::cpu::AMC_ISA
