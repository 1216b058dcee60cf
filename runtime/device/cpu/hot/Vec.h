// Vectors of fp32 (in memory also bf16) for the files in hot/, 8 or 16 lanes wide, and the functions on them. AMC_ISA is
// the namespace (v3, v4) that this is compiled for. Fused multiply-adds are written out (`fma`), the compiler adds none,
// so that an element's result is the same in the middle of a row and at its end.
//
// Accuracy against correctly rounded results: exp 1 ulp, tanh and erf 2 ulp, sigmoid 2 ulp (tests measure them).
#ifndef AMC_RUNTIME_DEVICE_CPU_HOT_VEC_H
#define AMC_RUNTIME_DEVICE_CPU_HOT_VEC_H

#include "runtime/device/cpu/Hot.h"
#include <immintrin.h>

#ifndef AMC_ISA
#error "AMC_ISA should name the namespace: v3 or v4"
#endif

namespace amc::rt::cpu::AMC_ISA {

#ifdef __AVX512F__
inline constexpr int64_t W = 16;
#else
inline constexpr int64_t W = 8;
#endif
typedef float V __attribute__((vector_size(W * 4)));
typedef int32_t VI __attribute__((vector_size(W * 4)));
typedef uint32_t VU __attribute__((vector_size(W * 4)));

static inline V splat(float x) { return V{} + x; }
static inline V load(const float *p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
static inline void store(float *p, V v) { __builtin_memcpy(p, &v, sizeof v); }

#ifdef __AVX512F__
static inline V loadPart(const float *p, int64_t n) {
  return (V)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void storePart(float *p, V v, int64_t n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
static inline V fma(V a, V b, V c) { return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
static inline V roundEven(V x) { return (V)_mm512_roundscale_ps((__m512)x, 0x08); }
static inline V floorV(V x) { return (V)_mm512_roundscale_ps((__m512)x, 0x09); }
static inline V ceilV(V x) { return (V)_mm512_roundscale_ps((__m512)x, 0x0a); }
static inline V sqrtV(V x) { return (V)_mm512_sqrt_ps((__m512)x); }
static inline V powerOfTwo(V y, V n) { return (V)_mm512_scalef_ps((__m512)y, (__m512)n); }
#else
static inline __m256i partMask(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline V loadPart(const float *p, int64_t n) { return (V)_mm256_maskload_ps(p, partMask(n)); }
static inline void storePart(float *p, V v, int64_t n) { _mm256_maskstore_ps(p, partMask(n), (__m256)v); }
static inline V fma(V a, V b, V c) { return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
static inline V roundEven(V x) { return (V)_mm256_round_ps((__m256)x, 0x08); }
static inline V floorV(V x) { return (V)_mm256_round_ps((__m256)x, 0x09); }
static inline V ceilV(V x) { return (V)_mm256_round_ps((__m256)x, 0x0a); }
static inline V sqrtV(V x) { return (V)_mm256_sqrt_ps((__m256)x); }
// y * 2^n in two steps: neither factor overflows or is denormal, the product may be.
static inline V powerOfTwo(V y, V n) {
  VI whole = (VI)_mm256_cvtps_epi32((__m256)n);
  VI first = whole >> 1, second = whole - first;
  V a = (V)((first + 127) << 23), b = (V)((second + 127) << 23);
  return y * a * b;
}
#endif

// bf16 in memory: widened when it is read, rounded to nearest even when it is written; NaN stays NaN. What lies beyond
// a part reads as zero.
#ifdef __AVX512F__
static inline V widen(__m256i x) { return (V)_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16); }
static inline __m256i narrow(V v) {
  VU bits = (VU)v;
  VU rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
  VU kept = (bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded;
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)kept, 16));
}
static inline V load(const BFloat16 *p) { return widen(_mm256_loadu_si256((const __m256i *)p)); }
static inline void store(BFloat16 *p, V v) { _mm256_storeu_si256((__m256i *)p, narrow(v)); }
static inline V loadPart(const BFloat16 *p, int64_t n) {
  return widen(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}
static inline void storePart(BFloat16 *p, V v, int64_t n) {
  _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), narrow(v));
}
#else
static inline V widen(__m128i x) { return (V)_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16); }
static inline __m128i narrow(V v) {
  VU bits = (VU)v;
  VU rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
  VU kept = (bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded;
  __m256i high = _mm256_srli_epi32((__m256i)kept, 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
static inline V load(const BFloat16 *p) { return widen(_mm_loadu_si128((const __m128i *)p)); }
static inline void store(BFloat16 *p, V v) { _mm_storeu_si128((__m128i *)p, narrow(v)); }
static inline V loadPart(const BFloat16 *p, int64_t n) {
  BFloat16 part[8] = {};
  __builtin_memcpy(part, p, (unsigned long)n * sizeof *p);
  return load(part);
}
static inline void storePart(BFloat16 *p, V v, int64_t n) {
  BFloat16 part[8];
  store(part, v);
  __builtin_memcpy(p, part, (unsigned long)n * sizeof *p);
}
#endif

static inline V absV(V x) { return (V)((VI)x & 0x7fffffff); }
static inline V maxV(V a, V b) { return a > b ? a : b; } // b where either is NaN
static inline V minV(V a, V b) { return a < b ? a : b; }
static inline V copySign(V magnitude, V sign) {
  return (V)(((VI)magnitude & 0x7fffffff) | ((VI)sign & (int32_t)0x80000000));
}

// 1.5 * 2^23: a sum with it is rounded to an integer, which is the low bits of its mantissa.
static constexpr float roundingSum = 12582912.0f;

// x = n ln 2 + r, |r| <= ln 2 / 2: e^r, by the polynomial of Cephes' expf, and n + roundingSum.
static inline V expOfRest(V x, V &sum) {
  sum = fma(x, splat(1.44269504088896341f), splat(roundingSum));
  V n = sum - roundingSum;
  V r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  V p = fma(splat(1.9875691500e-4f), r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  return fma(p, r * r, r) + 1.0f;
}

static inline V expV(V x) {
  V c = x < -104.0f ? splat(-104.0f) : x, sum;
  c = c > 89.0f ? splat(89.0f) : c;
  V p = expOfRest(c, sum);
  return powerOfTwo(p, sum - roundingSum);
}

// e^x for what is added to something near 1: about 2^-126 for whatever is less, infinity from 2^127.5 on.
static inline V boundedExpV(V x) {
  V c = x < -87.0f ? splat(-87.0f) : x, sum;
  c = c > 89.0f ? splat(89.0f) : c;
  V p = expOfRest(c, sum);
  return p * (V)(((VI)sum << 23) + 0x3f800000);
}

// Small arguments by Cephes' polynomial, the rest by e^(2|x|).
static inline V tanhV(V x) {
  V a = absV(x), s = x * x;
  V p = fma(splat(-5.70498872745e-3f), s, splat(2.06390887954e-2f));
  p = fma(p, s, splat(-5.37397155531e-2f));
  p = fma(p, s, splat(1.33314422036e-1f));
  p = fma(p, s, splat(-3.33332819422e-1f));
  V small = fma(p * s, x, x);
  V large = copySign(1.0f - 2.0f / (boundedExpV(a + a) + 1.0f), x);
  return a < 0.625f ? small : (a >= 0.625f ? large : x);
}

static inline V sigmoidV(V x) { return 1.0f / (1.0f + boundedExpV(-x)); }

// Two polynomials that meet at 475/512, the outer one in the exponent (N. Juffa's single-precision erf).
static inline V erfV(V x) {
  V t = absV(x), s = x * x;
  V r = fma(splat(-1.72853470e-5f), t, splat(3.83197126e-4f));
  V u = fma(splat(-3.88396438e-3f), t, splat(2.42546219e-2f));
  r = fma(r, s, u);
  r = fma(r, t, splat(-1.06777877e-1f));
  r = fma(r, t, splat(-6.34846687e-1f));
  r = fma(r, t, splat(-1.28717512e-1f));
  r = fma(r, t, -t);
  V outer = copySign(1.0f - boundedExpV(r), x);
  // Far out the polynomial of the exponent turns around; erf is 1 there.
  outer = t > 4.0f ? copySign(splat(1.0f), x) : outer;
  V q = fma(splat(-5.96761703e-4f), s, splat(4.99119423e-3f));
  q = fma(q, s, splat(-2.67681349e-2f));
  q = fma(q, s, splat(1.12819925e-1f));
  q = fma(q, s, splat(-3.76125336e-1f));
  q = fma(q, s, splat(1.28379166e-1f));
  V inner = fma(q, x, x);
  return t > 0.927734375f ? outer : (t <= 0.927734375f ? inner : x);
}

// Lanes are added in a fixed tree: the upper half to the lower, until one is left.
static inline float sumQuarter(__m128 v) {
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps(v, v, 1)));
}
static inline float maxQuarter(__m128 v) {
  v = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)));
}
static inline float sumHalf(__m256 v) {
  return sumQuarter(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}
static inline float maxHalf(__m256 v) {
  return maxQuarter(_mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}
#ifdef __AVX512F__
static inline float sumLanes(V v) {
  return sumHalf(_mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1)));
}
static inline float maxLanes(V v) {
  return maxHalf(_mm256_max_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1)));
}
#else
static inline float sumLanes(V v) { return sumHalf((__m256)v); }
static inline float maxLanes(V v) { return maxHalf((__m256)v); }
#endif

// f on every element of rows of float or BFloat16.
template <class E, class F> static inline void map1(const E *x, E *y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + W <= n; i += W)
    store(y + i, f(load(x + i)));
  if (i < n)
    storePart(y + i, f(loadPart(x + i, n - i)), n - i);
}
template <class E, class F> static inline void map2(const E *a, const E *b, E *y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + W <= n; i += W)
    store(y + i, f(load(a + i), load(b + i)));
  if (i < n)
    storePart(y + i, f(loadPart(a + i, n - i), loadPart(b + i, n - i)), n - i);
}

// Sum over i of f(i): `f(at, count)` gives W terms starting at element `at`, of which `count` count. Four
// accumulators, added up pairwise, then across lanes.
template <class F> static inline float reduceSum(int64_t n, F f) {
  V s0{}, s1{}, s2{}, s3{};
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W) {
    s0 += f(i, W);
    s1 += f(i + W, W);
    s2 += f(i + 2 * W, W);
    s3 += f(i + 3 * W, W);
  }
  for (; i + W <= n; i += W)
    s0 += f(i, W);
  if (i < n)
    s1 += f(i, n - i);
  return sumLanes((s0 + s1) + (s2 + s3));
}
template <class E> static inline V loadUpTo(const E *p, int64_t count) {
  return count == W ? load(p) : loadPart(p, count);
}

} // namespace amc::rt::cpu::AMC_ISA

#endif
