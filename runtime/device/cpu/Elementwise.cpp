// Elementwise kernels: unary, binary, comparison, logical and bitwise functions, select, cast.
//
// Shapes broadcast as in NumPy (BroadcastLoop). All dtypes that the dialect allows; f16 and bf16 are computed in fp32
// and rounded once, integers wrap around in their own width. fp32 goes through the vector functions of Hot.h where
// there is one, other floats and functions through libm in double. A result may replace an operand of its bytes and
// width. Reference: the expression in ElementwiseOps.td, element by element.
#include "runtime/device/cpu/BroadcastLoop.h"
#include "runtime/device/cpu/Compute.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {
namespace {

enum class Op {
  Abs, Neg, Exp, Log, Sqrt, Rsqrt, Reciprocal, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh,
  Tanh, Sigmoid, Erf, Relu, Silu, Softplus, Gelu, GeluTanh, Elu, Ceil, Floor, Round, Sign, Not, BitwiseNot,
  IsNan, IsInf,
  Add, Sub, Mul, Div, Pow, Max, Min, Mod, Fmod, Equal, Less, LessEqual, And, Or, Xor, BitwiseAnd, BitwiseOr,
  BitwiseXor
};

struct Named {
  const char *name;
  Op op;
  uint32_t accepts;
};
constexpr Named unaries[] = {
    {"abs", Op::Abs, AcceptNumber}, {"neg", Op::Neg, AcceptNumber}, {"exp", Op::Exp, AcceptFloat},
    {"log", Op::Log, AcceptFloat}, {"sqrt", Op::Sqrt, AcceptFloat}, {"rsqrt", Op::Rsqrt, AcceptFloat},
    {"reciprocal", Op::Reciprocal, AcceptFloat}, {"sin", Op::Sin, AcceptFloat}, {"cos", Op::Cos, AcceptFloat},
    {"tan", Op::Tan, AcceptFloat}, {"asin", Op::Asin, AcceptFloat}, {"acos", Op::Acos, AcceptFloat},
    {"atan", Op::Atan, AcceptFloat}, {"sinh", Op::Sinh, AcceptFloat}, {"cosh", Op::Cosh, AcceptFloat},
    {"asinh", Op::Asinh, AcceptFloat}, {"acosh", Op::Acosh, AcceptFloat}, {"atanh", Op::Atanh, AcceptFloat},
    {"tanh", Op::Tanh, AcceptFloat}, {"sigmoid", Op::Sigmoid, AcceptFloat}, {"erf", Op::Erf, AcceptFloat},
    {"relu", Op::Relu, AcceptNumber}, {"silu", Op::Silu, AcceptFloat}, {"softplus", Op::Softplus, AcceptFloat},
    {"gelu", Op::Gelu, AcceptFloat}, {"elu", Op::Elu, AcceptFloat}, {"ceil", Op::Ceil, AcceptFloat},
    {"floor", Op::Floor, AcceptFloat}, {"round", Op::Round, AcceptFloat}, {"sign", Op::Sign, AcceptNumber},
    {"not", Op::Not, AcceptBool}, {"bitwise_not", Op::BitwiseNot, AcceptInteger},
    {"is_nan", Op::IsNan, AcceptFloat}, {"is_inf", Op::IsInf, AcceptFloat},
};
constexpr Named binaries[] = {
    {"add", Op::Add, AcceptNumber}, {"sub", Op::Sub, AcceptNumber}, {"mul", Op::Mul, AcceptNumber},
    {"div", Op::Div, AcceptNumber}, {"pow", Op::Pow, AcceptNumber}, {"max", Op::Max, AcceptNumber},
    {"min", Op::Min, AcceptNumber}, {"mod", Op::Mod, AcceptNumber}, {"equal", Op::Equal, AcceptAny},
    {"less", Op::Less, AcceptNumber}, {"less_equal", Op::LessEqual, AcceptNumber}, {"and", Op::And, AcceptBool},
    {"or", Op::Or, AcceptBool}, {"xor", Op::Xor, AcceptBool}, {"bitwise_and", Op::BitwiseAnd, AcceptInteger},
    {"bitwise_or", Op::BitwiseOr, AcceptInteger}, {"bitwise_xor", Op::BitwiseXor, AcceptInteger},
};

template <size_t N> Op lookup(const Named (&table)[N], const std::string &name) {
  return std::find_if(std::begin(table), std::end(table), [&](const Named &n) { return name == n.name; })->op;
}
template <size_t N> uint32_t accepted(const Named (&table)[N], const std::string &name) {
  return std::find_if(std::begin(table), std::end(table), [&](const Named &n) { return name == n.name; })->accepts;
}

bool isComparison(Op op) { return op == Op::Equal || op == Op::Less || op == Op::LessEqual; }
bool isTest(Op op) { return op == Op::IsNan || op == Op::IsInf; }

// ---- scalar functions

struct Parameters {
  double alpha = 1;
  bool positive = true, negative = true;
};

double unaryReal(Op op, double x, const Parameters &p) {
  switch (op) {
  case Op::Abs: return std::fabs(x);
  case Op::Neg: return -x;
  case Op::Exp: return std::exp(x);
  case Op::Log: return std::log(x);
  case Op::Sqrt: return std::sqrt(x);
  case Op::Rsqrt: return 1 / std::sqrt(x);
  case Op::Reciprocal: return 1 / x;
  case Op::Sin: return std::sin(x);
  case Op::Cos: return std::cos(x);
  case Op::Tan: return std::tan(x);
  case Op::Asin: return std::asin(x);
  case Op::Acos: return std::acos(x);
  case Op::Atan: return std::atan(x);
  case Op::Sinh: return std::sinh(x);
  case Op::Cosh: return std::cosh(x);
  case Op::Asinh: return std::asinh(x);
  case Op::Acosh: return std::acosh(x);
  case Op::Atanh: return std::atanh(x);
  case Op::Tanh: return std::tanh(x);
  case Op::Sigmoid: return 1 / (1 + std::exp(-x));
  case Op::Erf: return std::erf(x);
  case Op::Relu: return x > 0 ? x : x <= 0 ? 0.0 : x;
  case Op::Silu: return x / (1 + std::exp(-x));
  case Op::Softplus: return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
  case Op::Gelu: return 0.5 * x * (1 + std::erf(x * M_SQRT1_2));
  case Op::GeluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(M_2_PI) * (x + 0.044715 * x * x * x)));
  case Op::Elu: return x > 0 ? x : p.alpha * std::expm1(x);
  case Op::Ceil: return std::ceil(x);
  case Op::Floor: return std::floor(x);
  case Op::Round: return std::nearbyint(x);
  case Op::Sign: return x > 0 ? 1 : x < 0 ? -1 : x;
  default: return x;
  }
}

// Integers are computed modulo 2^64, so nothing overflows.
template <class T> T unaryInteger(Op op, T x) {
  auto bits = static_cast<uint64_t>(x);
  switch (op) {
  case Op::Abs: return std::is_signed_v<T> && x < T{} ? static_cast<T>(0 - bits) : x;
  case Op::Neg: return static_cast<T>(0 - bits);
  case Op::Relu: return x > T{} ? x : T{};
  case Op::Sign: return static_cast<T>(static_cast<int>(x > T{}) - static_cast<int>(std::is_signed_v<T> && x < T{}));
  case Op::Not: return static_cast<T>(x == T{});
  case Op::BitwiseNot: return static_cast<T>(~bits);
  default: return x;
  }
}

template <class T> T power(T base, T exponent) {
  if constexpr (std::is_signed_v<T>) {
    if (exponent < 0) // the truncated quotient 1 / base^|exponent|
      return base == 1 ? T(1) : base == -1 ? (exponent % 2 ? T(-1) : T(1)) : T(0);
  }
  uint64_t result = 1, factor = static_cast<uint64_t>(base);
  for (auto e = static_cast<uint64_t>(exponent); e; e >>= 1, factor *= factor)
    if (e & 1)
      result *= factor;
  return static_cast<T>(result);
}

template <class T> T binaryInteger(Op op, T a, T b) {
  auto x = static_cast<uint64_t>(a), y = static_cast<uint64_t>(b);
  switch (op) {
  case Op::Add: return static_cast<T>(x + y);
  case Op::Sub: return static_cast<T>(x - y);
  case Op::Mul: return static_cast<T>(x * y);
  case Op::Div:
    if (b == T{})
      return T{};
    return std::is_signed_v<T> && b == static_cast<T>(-1) ? static_cast<T>(0 - x) : a / b;
  case Op::Pow: return power(a, b);
  case Op::Max: return a > b ? a : b;
  case Op::Min: return a < b ? a : b;
  case Op::Mod:
  case Op::Fmod: {
    if (b == T{} || (std::is_signed_v<T> && b == static_cast<T>(-1)))
      return T{};
    T rest = a % b;
    bool opposite = std::is_signed_v<T> && rest != T{} && (rest < T{}) != (b < T{});
    return op == Op::Mod && opposite ? rest + b : rest;
  }
  case Op::And:
  case Op::BitwiseAnd: return static_cast<T>(x & y);
  case Op::Or:
  case Op::BitwiseOr: return static_cast<T>(x | y);
  case Op::Xor:
  case Op::BitwiseXor: return static_cast<T>(x ^ y);
  default: return a;
  }
}

double binaryReal(Op op, double a, double b) {
  switch (op) {
  case Op::Add: return a + b;
  case Op::Sub: return a - b;
  case Op::Mul: return a * b;
  case Op::Div: return a / b;
  case Op::Pow: return b == 2 ? a * a : std::pow(a, b);
  case Op::Max: return a != a || a > b ? a : b;
  case Op::Min: return a != a || a < b ? a : b;
  case Op::Fmod: return std::fmod(a, b);
  case Op::Mod: {
    double rest = std::fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  }
  default: return a;
  }
}

// ---- blocks

template <class T> void unaryBlock(Op op, const T *x, T *y, int64_t n, const Parameters &p) {
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_floating_point_v<T>)
      y[i] = static_cast<T>(unaryReal(op, x[i], p));
    else
      y[i] = unaryInteger(op, x[i]);
  }
}

template <class T>
void binaryBlock(Op op, const T *a, int stepA, const T *b, int stepB, T *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_floating_point_v<T>)
      y[i] = static_cast<T>(binaryReal(op, a[i * stepA], b[i * stepB]));
    else
      y[i] = binaryInteger(op, a[i * stepA], b[i * stepB]);
  }
}

template <class T>
void comparisonBlock(Op op, const T *a, int stepA, const T *b, int stepB, uint8_t *y, int64_t n) {
  switch (op) {
  case Op::Less:
    for (int64_t i = 0; i < n; ++i)
      y[i] = a[i * stepA] < b[i * stepB];
    break;
  case Op::LessEqual:
    for (int64_t i = 0; i < n; ++i)
      y[i] = a[i * stepA] <= b[i * stepB];
    break;
  default:
    for (int64_t i = 0; i < n; ++i)
      y[i] = a[i * stepA] == b[i * stepB];
  }
}

bool hotUnary(Op op, HotUnary &found) {
  switch (op) {
  case Op::Abs: found = HotUnary::Abs; return true;
  case Op::Neg: found = HotUnary::Neg; return true;
  case Op::Exp: found = HotUnary::Exp; return true;
  case Op::Sqrt: found = HotUnary::Sqrt; return true;
  case Op::Rsqrt: found = HotUnary::Rsqrt; return true;
  case Op::Reciprocal: found = HotUnary::Reciprocal; return true;
  case Op::Tanh: found = HotUnary::Tanh; return true;
  case Op::Sigmoid: found = HotUnary::Sigmoid; return true;
  case Op::Erf: found = HotUnary::Erf; return true;
  case Op::Relu: found = HotUnary::Relu; return true;
  case Op::Silu: found = HotUnary::Silu; return true;
  case Op::Gelu: found = HotUnary::Gelu; return true;
  case Op::GeluTanh: found = HotUnary::GeluTanh; return true;
  case Op::Ceil: found = HotUnary::Ceil; return true;
  case Op::Floor: found = HotUnary::Floor; return true;
  case Op::Round: found = HotUnary::Round; return true;
  default: return false;
  }
}

bool hotBinary(Op op, HotBinary &found) {
  switch (op) {
  case Op::Add: found = HotBinary::Add; return true;
  case Op::Sub: found = HotBinary::Sub; return true;
  case Op::Mul: found = HotBinary::Mul; return true;
  case Op::Div: found = HotBinary::Div; return true;
  case Op::Max: found = HotBinary::Max; return true;
  case Op::Min: found = HotBinary::Min; return true;
  default: return false;
  }
}

// Blocks of a piece that need converting; whole pieces where nothing does.
constexpr int64_t stride(plan::DType dtype) {
  return dtypeBytes(dtype) == 8 || dtype == plan::F32 ? elementGrain : blockElements;
}

// ---- unary

Status checkUnary(const InstructionSpec &spec) {
  uint32_t accepts = accepted(unaries, spec.kernel);
  Op op = lookup(unaries, spec.kernel);
  std::initializer_list<OperandRule> in = {{"x", accepts}};
  if (op == Op::Gelu) {
    AMC_TRY(expectOperands(spec, in, {{"y", accepts}}, {{"approximate", Text}}));
    AMC_TRY(expectOneOf(spec, "approximate", {"none", "tanh"}));
  } else if (op == Op::Elu) {
    AMC_TRY(expectOperands(spec, in, {{"y", accepts}}, {{"alpha", Real}}));
  } else if (op == Op::IsInf) {
    AMC_TRY(expectOperands(spec, in, {{"y", AcceptBool}}, {{"positive", Int}, {"negative", Int}}));
  } else {
    AMC_TRY(expectOperands(spec, in, {{"y", isTest(op) ? uint32_t(AcceptBool) : accepts}}));
  }
  if (!isTest(op))
    AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  return expectShape("outputs[0]", spec.outputs[0], spec.inputs[0].shape);
}

std::unique_ptr<Kernel> createTest(const InstructionSpec &spec) {
  Parameters p;
  Op op = lookup(unaries, spec.kernel);
  if (op == Op::IsInf) {
    p.positive = spec.flag("positive");
    p.negative = spec.flag("negative");
  }
  int64_t n = spec.inputs[0].elements;
  plan::DType dtype = spec.inputs[0].dtype;
  return makeKernel([=](const Operands &o, RunContext &c) {
    uint8_t *y = o.out<uint8_t>(0);
    auto test = [&](auto type) {
      using T = decltype(type);
      parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
        Block<T> block;
        for (int64_t at = begin; at < end; at += blockElements) {
          int64_t count = std::min(blockElements, end - at);
          const T *x = loadBlock(dtype, o.inputs[0], at, count, block);
          for (int64_t i = 0; i < count; ++i)
            y[at + i] = op == Op::IsNan ? std::isnan(x[i])
                                        : std::isinf(x[i]) && (x[i] > 0 ? p.positive : p.negative);
        }
      });
    };
    if (dtype == plan::F64)
      test(double{});
    else
      test(float{});
  });
}

std::unique_ptr<Kernel> createUnary(const InstructionSpec &spec) {
  Op op = lookup(unaries, spec.kernel);
  if (isTest(op))
    return createTest(spec);
  if (op == Op::Gelu && spec.string("approximate") == "tanh")
    op = Op::GeluTanh;
  Parameters p;
  if (op == Op::Elu)
    p.alpha = spec.real("alpha");
  int64_t n = spec.inputs[0].elements;
  plan::DType dtype = spec.inputs[0].dtype;
  HotUnary fast{};
  bool isFast = hotUnary(op, fast);
  return withCompute(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
        Block<T> in, out;
        for (int64_t at = begin; at < end; at += stride(dtype)) {
          int64_t count = std::min(stride(dtype), end - at);
          const T *x = loadBlock(dtype, o.inputs[0], at, count, in);
          T *y = blockTarget(dtype, o.outputs[0], at, out);
          if constexpr (std::is_same_v<T, float>) {
            if (isFast)
              hot().unary(fast, x, y, count);
            else
              unaryBlock(op, x, y, count, p);
          } else {
            unaryBlock(op, x, y, count, p);
          }
          storeBlock(dtype, o.outputs[0], at, count, out);
        }
      });
    });
  });
}

// ---- binary

Status checkBinary(const InstructionSpec &spec) {
  uint32_t accepts = accepted(binaries, spec.kernel);
  Op op = lookup(binaries, spec.kernel);
  OperandRule result{"y", isComparison(op) ? uint32_t(AcceptBool) : accepts};
  if (op == Op::Mod)
    AMC_TRY(expectOperands(spec, {{"a", accepts}, {"b", accepts}}, {result}, {{"fmod", Int, Optional}}));
  else
    AMC_TRY(expectOperands(spec, {{"a", accepts}, {"b", accepts}}, {result}));
  AMC_TRY(expectDType("inputs[1]", spec.inputs[1], spec.inputs[0].dtype));
  if (!isComparison(op))
    AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  AMC_TRY(expectBroadcast("inputs[0]", spec.inputs[0], spec.outputs[0].shape));
  AMC_TRY(expectBroadcast("inputs[1]", spec.inputs[1], spec.outputs[0].shape));
  return Status();
}

std::unique_ptr<Kernel> createBinary(const InstructionSpec &spec) {
  Op op = lookup(binaries, spec.kernel);
  if (op == Op::Mod && spec.flag("fmod"))
    op = Op::Fmod;
  auto loop = BroadcastLoop<2>::create(spec.outputs[0].shape, {&spec.inputs[0].shape, &spec.inputs[1].shape});
  plan::DType dtype = spec.inputs[0].dtype;
  HotBinary fast{};
  bool isFast = hotBinary(op, fast), compares = isComparison(op);
  return withCompute(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      loop.run(c.pool, [&](int64_t position, const std::array<int64_t, 2> &from, int64_t n) {
        Block<T> left, right, out;
        for (int64_t at = 0; at < n; at += stride(dtype)) {
          int64_t count = std::min(stride(dtype), n - at);
          int sa = loop.step[0], sb = loop.step[1];
          const T *a = loadBlock(dtype, o.inputs[0], from[0] + at * sa, sa ? count : 1, left);
          const T *b = loadBlock(dtype, o.inputs[1], from[1] + at * sb, sb ? count : 1, right);
          if (compares) {
            comparisonBlock(op, a, sa, b, sb, o.out<uint8_t>(0) + position + at, count);
            continue;
          }
          T *y = blockTarget(dtype, o.outputs[0], position + at, out);
          if constexpr (std::is_same_v<T, float>) {
            if (isFast)
              hot().binary(fast, a, sa, b, sb, y, count);
            else
              binaryBlock(op, a, sa, b, sb, y, count);
          } else {
            binaryBlock(op, a, sa, b, sb, y, count);
          }
          storeBlock(dtype, o.outputs[0], position + at, count, out);
        }
      });
    });
  });
}

// ---- select

Status checkSelect(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"condition", AcceptBool}, {"a", AcceptAny}, {"b", AcceptAny}}, {{"y", AcceptAny}}));
  const TensorSpec &y = spec.outputs[0];
  AMC_TRY(expectDType("inputs[1]", spec.inputs[1], y.dtype));
  AMC_TRY(expectDType("inputs[2]", spec.inputs[2], y.dtype));
  AMC_TRY(expectBroadcast("inputs[0]", spec.inputs[0], y.shape));
  AMC_TRY(expectBroadcast("inputs[1]", spec.inputs[1], y.shape));
  AMC_TRY(expectBroadcast("inputs[2]", spec.inputs[2], y.shape));
  return Status();
}

std::unique_ptr<Kernel> createSelect(const InstructionSpec &spec) {
  auto loop = BroadcastLoop<3>::create(spec.outputs[0].shape,
                                       {&spec.inputs[0].shape, &spec.inputs[1].shape, &spec.inputs[2].shape});
  return withBits(spec.outputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      loop.run(c.pool, [&](int64_t position, const std::array<int64_t, 3> &from, int64_t n) {
        const uint8_t *condition = o.in<uint8_t>(0) + from[0];
        const T *a = o.in<T>(1) + from[1], *b = o.in<T>(2) + from[2];
        T *y = o.out<T>(0) + position;
        int s0 = loop.step[0], s1 = loop.step[1], s2 = loop.step[2];
        for (int64_t i = 0; i < n; ++i) {
          T left = a[i * s1], right = b[i * s2];
          y[i] = condition[i * s0] ? left : right;
        }
      });
    });
  });
}

// ---- cast

Status checkCast(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}}, {{"y", AcceptAny}}, {{"to", Text}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], dtypeFromName(spec.string("to"))));
  return expectShape("outputs[0]", spec.outputs[0], spec.inputs[0].shape);
}

std::unique_ptr<Kernel> createCast(const InstructionSpec &spec) {
  plan::DType from = spec.inputs[0].dtype, to = spec.outputs[0].dtype;
  int64_t n = spec.inputs[0].elements;
  return withCompute(from, [&](auto source) {
    return withCompute(to, [&](auto target) -> std::unique_ptr<Kernel> {
      using S = decltype(source);
      using T = decltype(target);
      return makeKernel([=](const Operands &o, RunContext &c) {
        parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
          Block<S> in;
          Block<T> converted;
          for (int64_t at = begin; at < end; at += blockElements) {
            int64_t count = std::min(blockElements, end - at);
            const S *x = loadBlock(from, o.inputs[0], at, count, in);
            T *y = blockTarget(to, o.outputs[0], at, converted);
            if (to == plan::BOOL) {
              for (int64_t i = 0; i < count; ++i)
                y[i] = static_cast<T>(x[i] != S{});
            } else {
              for (int64_t i = 0; i < count; ++i)
                y[i] = convertElement<T>(x[i]);
            }
            storeBlock(to, o.outputs[0], at, count, converted);
          }
        });
      });
    });
  });
}

} // namespace

void registerElementwise(KernelRegistry &registry) {
  for (const Named &named : unaries)
    registry.add(named.name, {checkUnary, createUnary, aliasElementwise});
  for (const Named &named : binaries)
    registry.add(named.name, {checkBinary, createBinary, aliasElementwise});
  registry.add("select", {checkSelect, createSelect, aliasElementwise});
  registry.add("cast", {checkCast, createCast, aliasElementwise});
}

} // namespace amc::rt::cpu
