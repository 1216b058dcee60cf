// Elementwise functions and conversions. See Hot.h.
#include "runtime/device/cpu/hot/HotParts.h"

namespace amc::rt::cpu::AMC_ISA {
namespace {

constexpr float sqrtHalf = 0.70710678118654752440f;
constexpr float geluTanhScale = 1.59576912160573071176f; // 2 sqrt(2 / pi)
constexpr float geluTanhCubic = 0.044715f;
constexpr float normalDensity = 0.39894228040143267794f; // 1 / sqrt(2 pi)

inline V siluV(V x) { return x * sigmoidV(x); }
inline V geluV(V x) { return 0.5f * x * (1.0f + erfV(x * sqrtHalf)); }
// (1 + tanh u) / 2 is the sigmoid of 2 u, which loses nothing where tanh is near -1.
inline V geluTanhShare(V x) { return sigmoidV(geluTanhScale * fma(x * x * x, splat(geluTanhCubic), x)); }
inline V geluTanhV(V x) { return x * geluTanhShare(x); }
inline V reluV(V x) { return x > 0.0f ? x : (x <= 0.0f ? V{} : x); }

inline V siluSlope(V x) {
  V s = sigmoidV(x);
  return s * fma(x, 1.0f - s, splat(1.0f));
}
inline V geluSlope(V x) {
  return fma(x * normalDensity, expV(-0.5f * x * x), 0.5f * (1.0f + erfV(x * sqrtHalf)));
}
inline V geluTanhSlope(V x) {
  V s = geluTanhShare(x);
  V inner = geluTanhScale * fma(x * x, splat(3.0f * geluTanhCubic), splat(1.0f));
  return fma(x * (s * (1.0f - s)), inner, s);
}
inline V reluSlope(V x) { return x > 0.0f ? splat(1.0f) : V{}; }

template <class F> void withActivation(HotActivation act, F f) {
  switch (act) {
  case HotActivation::Silu: f([](V x) { return siluV(x); }, [](V x) { return siluSlope(x); }); break;
  case HotActivation::Gelu: f([](V x) { return geluV(x); }, [](V x) { return geluSlope(x); }); break;
  case HotActivation::GeluTanh: f([](V x) { return geluTanhV(x); }, [](V x) { return geluTanhSlope(x); }); break;
  case HotActivation::Relu: f([](V x) { return reluV(x); }, [](V x) { return reluSlope(x); }); break;
  }
}

template <class F>
inline void broadcast2(const float *a, int strideA, const float *b, int strideB, float *y, int64_t n, F f) {
  if (strideA && strideB) {
    map2(a, b, y, n, f);
  } else if (strideA) {
    V right = splat(*b);
    map1(a, y, n, [&](V x) { return f(x, right); });
  } else if (strideB) {
    V left = splat(*a);
    map1(b, y, n, [&](V x) { return f(left, x); });
  } else {
    V value = f(splat(*a), splat(*b));
    map1(y, y, n, [&](V) { return value; });
  }
}

} // namespace

void unary(HotUnary op, const float *x, float *y, int64_t n) {
  switch (op) {
  case HotUnary::Abs: return map1(x, y, n, [](V v) { return absV(v); });
  case HotUnary::Neg: return map1(x, y, n, [](V v) { return -v; });
  case HotUnary::Exp: return map1(x, y, n, [](V v) { return expV(v); });
  case HotUnary::Sqrt: return map1(x, y, n, [](V v) { return sqrtV(v); });
  case HotUnary::Rsqrt: return map1(x, y, n, [](V v) { return 1.0f / sqrtV(v); });
  case HotUnary::Reciprocal: return map1(x, y, n, [](V v) { return 1.0f / v; });
  case HotUnary::Tanh: return map1(x, y, n, [](V v) { return tanhV(v); });
  case HotUnary::Sigmoid: return map1(x, y, n, [](V v) { return sigmoidV(v); });
  case HotUnary::Erf: return map1(x, y, n, [](V v) { return erfV(v); });
  case HotUnary::Relu: return map1(x, y, n, [](V v) { return reluV(v); });
  case HotUnary::Silu: return map1(x, y, n, [](V v) { return siluV(v); });
  case HotUnary::Gelu: return map1(x, y, n, [](V v) { return geluV(v); });
  case HotUnary::GeluTanh: return map1(x, y, n, [](V v) { return geluTanhV(v); });
  case HotUnary::Ceil: return map1(x, y, n, [](V v) { return ceilV(v); });
  case HotUnary::Floor: return map1(x, y, n, [](V v) { return floorV(v); });
  case HotUnary::Round: return map1(x, y, n, [](V v) { return roundEven(v); });
  }
}

void binary(HotBinary op, const float *a, int sa, const float *b, int sb, float *y, int64_t n) {
  switch (op) {
  case HotBinary::Add: return broadcast2(a, sa, b, sb, y, n, [](V l, V r) { return l + r; });
  case HotBinary::Sub: return broadcast2(a, sa, b, sb, y, n, [](V l, V r) { return l - r; });
  case HotBinary::Mul: return broadcast2(a, sa, b, sb, y, n, [](V l, V r) { return l * r; });
  case HotBinary::Div: return broadcast2(a, sa, b, sb, y, n, [](V l, V r) { return l / r; });
  // NaN wins on either side.
  case HotBinary::Max:
    return broadcast2(a, sa, b, sb, y, n, [](V l, V r) { return l == l ? maxV(l, r) : l; });
  case HotBinary::Min:
    return broadcast2(a, sa, b, sb, y, n, [](V l, V r) { return l == l ? minV(l, r) : l; });
  }
}

void gated(HotActivation act, const float *gate, const float *up, float *y, int64_t n) {
  withActivation(act, [&](auto value, auto) {
    map2(gate, up, y, n, [&](V g, V u) { return value(g) * u; });
  });
}

// Both results may stand in the bytes of any operands: a vector is read whole before it is written.
void gatedBackward(HotActivation act, const float *dy, const float *gate, const float *up, float *dgate, float *dup,
                   int64_t n) {
  withActivation(act, [&](auto value, auto slope) {
    int64_t i = 0;
    for (; i + W <= n; i += W) {
      V d = load(dy + i), g = load(gate + i), u = load(up + i);
      V first = d * u * slope(g), second = d * value(g);
      store(dgate + i, first);
      store(dup + i, second);
    }
    if (i < n) {
      V d = loadPart(dy + i, n - i), g = loadPart(gate + i, n - i), u = loadPart(up + i, n - i);
      V first = d * u * slope(g), second = d * value(g);
      storePart(dgate + i, first, n - i);
      storePart(dup + i, second, n - i);
    }
  });
}

void activationBackward(HotActivation act, const float *dy, const float *x, float *dx, int64_t n) {
  withActivation(act, [&](auto, auto slope) {
    map2(dy, x, dx, n, [&](V d, V v) { return d * slope(v); });
  });
}

void addTo(float *y, const float *x, int64_t n) {
  map2(y, x, y, n, [](V l, V r) { return l + r; });
}

// Rows are far from each other, so that each vector of `y` is read and written once for sixteen of them, and whole cache lines
// are read of each.
void addRowsTo(float *y, const float *x, int64_t stride, int64_t rows, int64_t n) {
  constexpr int64_t group = 16, line = 16, vectors = line / W;
  for (int64_t first = 0; first < rows; first += group) {
    const float *from = x + first * stride;
    const int64_t count = rows - first < group ? rows - first : group;
    int64_t i = 0;
    for (; i + line <= n; i += line) {
      V sums[vectors];
      for (int64_t v = 0; v < vectors; ++v)
        sums[v] = load(y + i + v * W);
      for (int64_t row = 0; row < count; ++row)
        for (int64_t v = 0; v < vectors; ++v)
          sums[v] += load(from + row * stride + i + v * W);
      for (int64_t v = 0; v < vectors; ++v)
        store(y + i + v * W, sums[v]);
    }
    for (int64_t row = 0; i < n && row < count; ++row)
      addTo(y + i, from + row * stride + i, n - i);
  }
}

void scale(float *x, float factor, int64_t n) {
  map1(x, x, n, [=](V v) { return v * factor; });
}

void bf16ToF32(const uint16_t *x, float *y, int64_t n) {
  const BFloat16 *from = (const BFloat16 *)x;
  int64_t i = 0;
  for (; i + W <= n; i += W)
    store(y + i, load(from + i));
  if (i < n)
    storePart(y + i, loadPart(from + i, n - i), n - i);
}

void f32ToBf16(const float *x, uint16_t *y, int64_t n) {
  BFloat16 *to = (BFloat16 *)y;
  int64_t i = 0;
  for (; i + W <= n; i += W)
    store(to + i, load(x + i));
  if (i < n)
    storePart(to + i, loadPart(x + i, n - i), n - i);
}

void f16ToF32(const uint16_t *x, float *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = _cvtsh_ss(x[i]);
}

void f32ToF16(const float *x, uint16_t *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = _cvtss_sh(x[i], 0);
}

void adamw(float *p, const float *g, float *m, float *v, int64_t n, const AdamWScalars &s) {
  auto step = [&](V &pv, V gv, V &mv, V &vv) {
    gv = gv * s.gradientScale;
    pv = pv * s.decay;
    mv = fma(gv - mv, splat(s.oneMinusBeta1), mv);
    vv = fma(gv * gv, splat(s.oneMinusBeta2), vv * s.beta2);
    V denominator = sqrtV(vv) / s.sqrtCorrection2 + s.epsilon;
    pv = pv - s.stepSize * (mv / denominator);
  };
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    V pv = load(p + i), mv = load(m + i), vv = load(v + i);
    step(pv, load(g + i), mv, vv);
    store(p + i, pv);
    store(m + i, mv);
    store(v + i, vv);
  }
  if (int64_t rest = n - i) {
    V pv = loadPart(p + i, rest), mv = loadPart(m + i, rest), vv = loadPart(v + i, rest);
    step(pv, loadPart(g + i, rest), mv, vv);
    storePart(p + i, pv, rest);
    storePart(m + i, mv, rest);
    storePart(v + i, vv, rest);
  }
}

void sgd(float *p, const float *g, float *buffer, int64_t n, const SgdScalars &s) {
  auto part = [&](int64_t i, int64_t count) {
    V pv = loadUpTo(p + i, count);
    V gv = fma(splat(s.weightDecay), pv, loadUpTo(g + i, count) * s.gradientScale);
    if (s.hasMomentum) {
      V b = s.firstStep ? gv : fma(splat(s.momentum), loadUpTo(buffer + i, count), gv);
      storePart(buffer + i, b, count);
      gv = s.nesterov ? fma(splat(s.momentum), b, gv) : b;
    }
    storePart(p + i, pv - s.learningRate * gv, count);
  };
  for (int64_t i = 0; i < n; i += W)
    part(i, n - i < W ? n - i : W);
}

} // namespace amc::rt::cpu::AMC_ISA
