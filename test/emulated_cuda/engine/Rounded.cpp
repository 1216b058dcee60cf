#include "test/emulated_cuda/engine/Rounded.h"
#include "test/emulated_cuda/engine/Float.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include <cfenv>

namespace emu {
namespace {

int modeOf(Rounding rounding) {
  switch (rounding) {
  case Rounding::Zero:
    return FE_TOWARDZERO;
  case Rounding::Down:
    return FE_DOWNWARD;
  case Rounding::Up:
    return FE_UPWARD;
  default:
    return FE_TONEAREST;
  }
}

// What is computed between the two is read from and written to memory, which the calls may change: it stays there.
struct InMode {
  explicit InMode(Rounding rounding) { fesetround(modeOf(rounding)); }
  ~InMode() { fesetround(FE_TONEAREST); }
};

template <class T, Arithmetic What> __attribute__((noinline)) void compute(T *d, const T *a, const T *b, const T *c) {
  for (unsigned l = 0; l < 32; ++l)
    switch (What) {
    case Arithmetic::Add:
      d[l] = a[l] + b[l];
      break;
    case Arithmetic::Sub:
      d[l] = a[l] - b[l];
      break;
    case Arithmetic::Mul:
      d[l] = a[l] * b[l];
      break;
    case Arithmetic::Fma:
      d[l] = std::fma(a[l], b[l], c[l]);
      break;
    case Arithmetic::Div:
      d[l] = a[l] / b[l];
      break;
    case Arithmetic::Reciprocal:
      d[l] = 1 / a[l];
      break;
    case Arithmetic::Root:
      d[l] = std::sqrt(a[l]);
      break;
    }
}

template <class T, Arithmetic What> void handler(Warp &w, const Instr &i, uint32_t mask) {
  T operands[3][32] = {}, result[32];
  bool ftz = i.detail[1], sat = i.detail[2];
  for (unsigned n = 0; n < i.operands; ++n)
    for (unsigned l = 0; l < 32; ++l) {
      operands[n][l] = w.lanes<T>(i.r[1 + n])[l];
      if constexpr (sizeof(T) == 4)
        operands[n][l] = ftz ? flushed(operands[n][l]) : operands[n][l];
    }
  {
    InMode mode((Rounding)i.detail[0]);
    compute<T, What>(result, operands[0], operands[1], operands[2]);
  }
  if constexpr (sizeof(T) == 4)
    for (float &value : result)
      value = ftz ? (sat ? out<true, true>(value) : out<true, false>(value))
                  : (sat ? out<false, true>(value) : out<false, false>(value));
  merge(w.lanes<T>(i.r[0]), result, mask);
}

template <class T> Handler handlerOf(Arithmetic what) {
  switch (what) {
  case Arithmetic::Add:
    return handler<T, Arithmetic::Add>;
  case Arithmetic::Sub:
    return handler<T, Arithmetic::Sub>;
  case Arithmetic::Mul:
    return handler<T, Arithmetic::Mul>;
  case Arithmetic::Fma:
    return handler<T, Arithmetic::Fma>;
  case Arithmetic::Div:
    return handler<T, Arithmetic::Div>;
  case Arithmetic::Reciprocal:
    return handler<T, Arithmetic::Reciprocal>;
  case Arithmetic::Root:
    return handler<T, Arithmetic::Root>;
  }
  return nullptr;
}

template <class To, class From> To convert(From value, Rounding rounding) {
  volatile From from = value;
  InMode mode(rounding);
  volatile To to = (To)from;
  return to;
}

} // namespace

Handler roundedHandler(Arithmetic what, bool single) {
  return single ? handlerOf<float>(what) : handlerOf<double>(what);
}

float toFloat(double value, Rounding rounding) { return convert<float>(value, rounding); }
float toFloat(int64_t value, Rounding rounding) { return convert<float>(value, rounding); }
float toFloat(uint64_t value, Rounding rounding) { return convert<float>(value, rounding); }
double toDouble(int64_t value, Rounding rounding) { return convert<double>(value, rounding); }
double toDouble(uint64_t value, Rounding rounding) { return convert<double>(value, rounding); }

} // namespace emu
