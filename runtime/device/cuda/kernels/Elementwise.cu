// Functions of single elements: unary, binary, comparisons, logic, select, cast.
//
// f16 and bf16 are computed in fp32 and rounded once, f64 in f64, integers modulo 2^64 and stored in their own width. A
// thread has an element, which it reads before it writes, so that a result may stand in an operand of its width. There is a
// function for each operation and arithmetic type; the type that is stored is told at run time. sin, cos and tan of
// doubles are in Trigonometry.cu.
#include "Unary.cuh"
#include "runtime/device/cuda/kernels/Strided.h"

using namespace amc;

// ---- unary

#define FOR_REAL_UNARIES(MAKE)                                                                                         \
  MAKE(abs, fabs(x))                                                                                                   \
  MAKE(neg, -x)                                                                                                        \
  MAKE(exp, exp(x))                                                                                                    \
  MAKE(log, log(x))                                                                                                    \
  MAKE(sqrt, sqrt(x))                                                                                                  \
  MAKE(rsqrt, 1 / sqrt(x))                                                                                             \
  MAKE(reciprocal, 1 / x)                                                                                              \
  MAKE(asin, asin(x))                                                                                                  \
  MAKE(acos, acos(x))                                                                                                  \
  MAKE(atan, atan(x))                                                                                                  \
  MAKE(sinh, sinh(x))                                                                                                  \
  MAKE(cosh, cosh(x))                                                                                                  \
  MAKE(asinh, asinh(x))                                                                                                \
  MAKE(acosh, acosh(x))                                                                                                \
  MAKE(atanh, atanh(x))                                                                                                \
  MAKE(tanh, tanh(x))                                                                                                  \
  MAKE(sigmoid, 1 / (1 + exp(-x)))                                                                                     \
  MAKE(erf, erf(x))                                                                                                    \
  MAKE(relu, x > 0 ? x : x <= 0 ? T(0) : x)                                                                            \
  MAKE(silu, x / (1 + exp(-x)))                                                                                        \
  MAKE(softplus, (x > 0 ? x : x <= 0 ? T(0) : x) + log1p(exp(-fabs(x))))                                               \
  MAKE(gelu, T(0.5) * x * (1 + erf(x * T(0.70710678118654752440))))                                                    \
  MAKE(gelu_tanh, T(0.5) * x * (1 + tanh(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x))))                  \
  MAKE(elu, x > 0 ? x : static_cast<T>(parameter) * expm1(x))                                                          \
  MAKE(ceil, ceil(x))                                                                                                  \
  MAKE(floor, floor(x))                                                                                                \
  MAKE(round, rint(x))                                                                                                 \
  MAKE(sign, x > 0 ? T(1) : x < 0 ? T(-1) : x)
#define FOR_INTEGER_UNARIES(MAKE)                                                                                      \
  MAKE(abs, isSigned<T> && x < T(0) ? static_cast<T>(0 - static_cast<u64>(x)) : x)                                     \
  MAKE(neg, static_cast<T>(0 - static_cast<u64>(x)))                                                                   \
  MAKE(relu, x > T(0) ? x : T(0))                                                                                      \
  MAKE(sign, static_cast<T>(x > T(0)) - static_cast<T>(isSigned<T> && x < T(0)))                                       \
  MAKE(not, static_cast<T>(x == T(0)))                                                                                 \
  MAKE(bitwise_not, static_cast<T>(~x))

FOR_REAL_UNARIES(AMC_REAL_UNARY)
AMC_UNARY(sin, float, f32, sin(x))
AMC_UNARY(cos, float, f32, cos(x))
AMC_UNARY(tan, float, f32, tan(x))
#define MAKE(name, value) AMC_UNARY(name, i64, i64, value) AMC_UNARY(name, u64, u64, value)
FOR_INTEGER_UNARIES(MAKE)
#undef MAKE

// `parameter` of is_inf: 1 if positive ones are meant, 2 if negative ones are, 3 if both.
#define MAKE_TEST(name, S, suffix, value)                                                                              \
  extern "C" __global__ void unary_##name##_##suffix(const void *from, unsigned char *to, i64 n, int stored,           \
                                                     double parameter) {                                               \
    const i64 i = globalThread();                                                                                      \
    if (i >= n)                                                                                                        \
      return;                                                                                                          \
    const S x = loadElement<S>(from, i, static_cast<Stored>(stored));                                                  \
    to[i] = value;                                                                                                     \
  }
#define MAKE(S, suffix)                                                                                                \
  MAKE_TEST(is_nan, S, suffix, x != x)                                                                                 \
  MAKE_TEST(is_inf, S, suffix, isinf(x) && (static_cast<int>(parameter) & (x > 0 ? 1 : 2)) != 0)
AMC_FOR_WIDE(MAKE)
#undef MAKE

// ---- binary

namespace {

template <class T> __device__ inline T modulo(T a, T b) {
  const T rest = fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

template <class T> __device__ inline T quotient(T a, T b) {
  if (b == T(0))
    return T(0);
  return isSigned<T> && b == static_cast<T>(-1) ? static_cast<T>(0 - static_cast<u64>(a)) : a / b;
}
template <class T> __device__ inline T truncatedRest(T a, T b) {
  return b == T(0) || (isSigned<T> && b == static_cast<T>(-1)) ? T(0) : a % b;
}
template <class T> __device__ inline T floorRest(T a, T b) {
  const T rest = truncatedRest(a, b);
  return isSigned<T> && rest != T(0) && (rest < T(0)) != (b < T(0)) ? rest + b : rest;
}
template <class T> __device__ inline T power(T base, T exponent) {
  if (isSigned<T> && exponent < T(0)) // the truncated quotient 1 / base^|exponent|
    return base == T(1) ? T(1) : base == static_cast<T>(-1) ? (exponent % 2 ? static_cast<T>(-1) : T(1)) : T(0);
  u64 result = 1, factor = static_cast<u64>(base);
  for (u64 e = static_cast<u64>(exponent); e; e >>= 1, factor *= factor)
    if (e & 1)
      result *= factor;
  return static_cast<T>(result);
}

} // namespace

#define FOR_REAL_BINARIES(MAKE)                                                                                        \
  MAKE(add, a + b)                                                                                                     \
  MAKE(sub, a - b)                                                                                                     \
  MAKE(mul, a * b)                                                                                                     \
  MAKE(div, a / b)                                                                                                     \
  MAKE(pow, b == 2 ? a * a : pow(a, b))                                                                                \
  MAKE(max, a != a || a > b ? a : b)                                                                                   \
  MAKE(min, a != a || a < b ? a : b)                                                                                   \
  MAKE(mod, modulo(a, b))                                                                                              \
  MAKE(fmod, fmod(a, b))
#define FOR_INTEGER_BINARIES(MAKE)                                                                                     \
  MAKE(add, static_cast<T>(static_cast<u64>(a) + static_cast<u64>(b)))                                                 \
  MAKE(sub, static_cast<T>(static_cast<u64>(a) - static_cast<u64>(b)))                                                 \
  MAKE(mul, static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b)))                                                 \
  MAKE(div, quotient(a, b))                                                                                            \
  MAKE(pow, power(a, b))                                                                                               \
  MAKE(max, a > b ? a : b)                                                                                             \
  MAKE(min, a < b ? a : b)                                                                                             \
  MAKE(mod, floorRest(a, b))                                                                                      \
  MAKE(fmod, truncatedRest(a, b))                                                                                          \
  MAKE(and, a & b)                                                                                                     \
  MAKE(or, a | b)                                                                                                      \
  MAKE(xor, a ^ b)
#define FOR_COMPARISONS(MAKE)                                                                                          \
  MAKE(equal, a == b)                                                                                                  \
  MAKE(less, a < b)                                                                                                    \
  MAKE(less_equal, a <= b)

#define MAKE_BINARY(name, S, suffix, put)                                                                              \
  extern "C" __global__ void binary_##name##_##suffix(const void *left, const void *right, void *to,                   \
                                                      const __grid_constant__ Strided first,                           \
                                                      const __grid_constant__ Strided second, int stored) {            \
    using T = S;                                                                                                       \
    const i64 i = globalThread();                                                                                      \
    if (i >= first.elements)                                                                                           \
      return;                                                                                                          \
    const T a = loadElement<T>(left, first.offsetOf(i), static_cast<Stored>(stored));                                  \
    const T b = loadElement<T>(right, second.offsetOf(i), static_cast<Stored>(stored));                                \
    put;                                                                                                               \
  }
#define STORE(value) storeElement<T>(to, i, value, static_cast<Stored>(stored))
#define MAKE(name, value) MAKE_BINARY(name, float, f32, STORE(value)) MAKE_BINARY(name, double, f64, STORE(value))
FOR_REAL_BINARIES(MAKE)
#undef MAKE
#define MAKE(name, value) MAKE_BINARY(name, i64, i64, STORE(value)) MAKE_BINARY(name, u64, u64, STORE(value))
FOR_INTEGER_BINARIES(MAKE)
#undef MAKE
#define COMPARE(value) static_cast<unsigned char *>(to)[i] = value
#define MAKE(name, value)                                                                                              \
  MAKE_BINARY(name, float, f32, COMPARE(value))                                                                        \
  MAKE_BINARY(name, double, f64, COMPARE(value))                                                                       \
  MAKE_BINARY(name, i64, i64, COMPARE(value))                                                                          \
  MAKE_BINARY(name, u64, u64, COMPARE(value))
FOR_COMPARISONS(MAKE)
#undef MAKE

// ---- select, cast

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void select_##suffix(const unsigned char *condition, const T *a, const T *b, T *y,             \
                                             const __grid_constant__ Strided which,                                    \
                                             const __grid_constant__ Strided first,                                    \
                                             const __grid_constant__ Strided second) {                                 \
    const i64 i = globalThread();                                                                                      \
    if (i < which.elements)                                                                                            \
      y[i] = condition[which.offsetOf(i)] ? a[first.offsetOf(i)] : b[second.offsetOf(i)];                              \
  }
AMC_FOR_WIDTHS(MAKE)
#undef MAKE

template <class From, class To>
__device__ inline void castElement(const void *x, void *y, i64 n, Stored from, Stored to) {
  const i64 i = globalThread();
  if (i >= n)
    return;
  const From value = loadElement<From>(x, i, from);
  storeElement<To>(y, i, to == Stored::Bool ? static_cast<To>(value != From(0)) : convertElement<To>(value), to);
}
#define MAKE_CAST(From, from, To, to)                                                                                  \
  extern "C" __global__ void cast_##from##_##to(const void *x, void *y, i64 n, int xStored, int yStored) {             \
    castElement<From, To>(x, y, n, static_cast<Stored>(xStored), static_cast<Stored>(yStored));                        \
  }
#define MAKE(From, from)                                                                                               \
  MAKE_CAST(From, from, float, f32)                                                                                    \
  MAKE_CAST(From, from, double, f64) MAKE_CAST(From, from, i64, i64) MAKE_CAST(From, from, u64, u64)
AMC_FOR_COMPUTE(MAKE)
#undef MAKE
