// Elementwise operations: shapes, oracle, buffer reuse. Gradients are in ElementwiseVjp.cpp.
//
// All of them share one rule: shapes broadcast as NumPy's do, and a result may take over an operand's buffer when
// both have one shape and one element width, because element i is read before or while element i is written.
// Constraints are labelled; test/dialect/elementwise-invalid.mlir has a case each.
#include "compiler/dialect/Activation.h"
#include "compiler/dialect/OpSupport.h"
#include <cmath>
#include <limits>

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

/// Result type: the broadcast shape of `operands` with `element`.
static LogicalResult inferBroadcast(std::optional<Location> loc, ValueRange operands, Type element,
                                    SmallVectorImpl<Type> &types) {
  SmallVector<ArrayRef<int64_t>> shapes;
  for (Value operand : operands) {
    auto type = dyn_cast<RankedTensorType>(operand.getType());
    if (!type || !type.hasStaticShape())
      return inferError(loc, "operands should be tensors of static shape");
    shapes.push_back(type.getShape());
  }
  std::optional<SmallVector<int64_t>> shape = broadcastShapes(shapes);
  // elementwise_c1
  if (!shape) {
    std::string text;
    for (ArrayRef<int64_t> s : shapes)
      text += (text.empty() ? "" : " and ") + shapeString(s);
    return inferError(loc, "shapes " + text + " do not broadcast");
  }
  return inferTensor(loc, *shape, element, types);
}

/// … for operands of one element type, which is the result's, too, unless `element` says otherwise.
static LogicalResult inferSame(std::optional<Location> loc, ValueRange operands, SmallVectorImpl<Type> &types,
                               Type element = nullptr) {
  auto first = dyn_cast<RankedTensorType>(operands[0].getType());
  if (!first)
    return inferError(loc, "operands should be tensors of static shape");
  for (Value operand : operands.drop_front()) {
    auto type = dyn_cast<RankedTensorType>(operand.getType());
    // elementwise_c2
    if (!type || type.getElementType() != first.getElementType())
      return inferError(loc, "operands should have one element type");
  }
  return inferBroadcast(loc, operands, element ? element : first.getElementType(), types);
}

/// … for gradients of unary operations, whose kernels read both operands in step.
static LogicalResult inferAlike(std::optional<Location> loc, ValueRange operands, SmallVectorImpl<Type> &types) {
  // elementwise_c3
  if (operands[0].getType() != operands[1].getType())
    return inferError(loc, "dy and x should have one type");
  types.push_back(operands[0].getType());
  return success();
}

static SmallVector<unsigned> reusable(Operation *op) {
  SmallVector<unsigned> indices;
  auto result = cast<RankedTensorType>(op->getResult(0).getType());
  for (OpOperand &operand : op->getOpOperands()) {
    auto type = cast<RankedTensorType>(operand.get().getType());
    if (type.getShape() == result.getShape() && byteSize(type) == byteSize(result))
      indices.push_back(operand.getOperandNumber());
  }
  return indices;
}

template <typename F> static LogicalResult mapUnary(Inputs in, Outputs out, F f) {
  for (int64_t i = 0, e = out[0].size(); i < e; ++i)
    out[0].set(i, f(in[0]->number(i)));
  return success();
}

/// Integers go through `g` in 64 bits, floats through `f`.
template <typename F, typename G> static LogicalResult mapBinary(Inputs in, Outputs out, F f, G g) {
  BroadcastIndexer a(in[0]->shape(), out[0].shape()), b(in[1]->shape(), out[0].shape());
  bool integers = !in[0]->isFloat();
  for (int64_t i = 0, e = out[0].size(); i < e; ++i) {
    if (integers) {
      auto value = g(in[0]->ints[a(i)], in[1]->ints[b(i)]);
      out[0].ints[i] = static_cast<int64_t>(value);
    } else {
      out[0].set(i, f(in[0]->floats[a(i)], in[1]->floats[b(i)]));
    }
  }
  return success();
}

static double maxOf(double a, double b) { return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b); }
static double minOf(double a, double b) { return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b); }
static double sign(double x) { return std::isnan(x) ? x : (x > 0) - (x < 0); }
static int64_t integerPow(int64_t base, int64_t exponent) {
  if (exponent < 0)
    return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
  uint64_t result = 1, factor = static_cast<uint64_t>(base);
  for (; exponent; exponent >>= 1, factor *= factor)
    if (exponent & 1)
      result *= factor;
  return static_cast<int64_t>(result);
}
static int64_t divide(int64_t a, int64_t b) {
  if (b == 0)
    return 0;
  return b == -1 ? static_cast<int64_t>(0 - static_cast<uint64_t>(a)) : a / b;
}
static int64_t remainder(int64_t a, int64_t b, bool fmod) {
  if (b == 0 || b == -1)
    return 0;
  int64_t r = a % b;
  return !fmod && r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
static double remainder(double a, double b, bool fmod) {
  double r = std::fmod(a, b);
  return !fmod && r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

#define AMC_INFER(OP, ...)                                                                                   \
  LogicalResult OP::inferReturnTypes(MLIRContext *context, std::optional<Location> loc, ValueRange operands, \
                                     DictionaryAttr attributes, OpaqueProperties properties,                 \
                                     RegionRange regions, SmallVectorImpl<Type> &types) {                    \
    (void)context, (void)attributes, (void)properties, (void)regions;                                        \
    __VA_ARGS__                                                                                              \
  }                                                                                                          \
  SmallVector<unsigned> OP::getReusableOperands() { return reusable(*this); }

// A unary function of a number; `x` is its argument.
#define AMC_UNARY(OP, EXPRESSION)                                                                            \
  AMC_INFER(OP, return inferSame(loc, operands, types);)                                                     \
  LogicalResult OP::evaluate(Inputs in, Outputs out) {                                                       \
    return mapUnary(in, out, [&](double x) -> double { return EXPRESSION; });                                \
  }

AMC_UNARY(ExpOp, std::exp(x))
AMC_UNARY(LogOp, std::log(x))
AMC_UNARY(SqrtOp, std::sqrt(x))
AMC_UNARY(RsqrtOp, 1 / std::sqrt(x))
AMC_UNARY(ReciprocalOp, 1 / x)
AMC_UNARY(SinOp, std::sin(x))
AMC_UNARY(CosOp, std::cos(x))
AMC_UNARY(TanOp, std::tan(x))
AMC_UNARY(AsinOp, std::asin(x))
AMC_UNARY(AcosOp, std::acos(x))
AMC_UNARY(AtanOp, std::atan(x))
AMC_UNARY(SinhOp, std::sinh(x))
AMC_UNARY(CoshOp, std::cosh(x))
AMC_UNARY(AsinhOp, std::asinh(x))
AMC_UNARY(AcoshOp, std::acosh(x))
AMC_UNARY(AtanhOp, std::atanh(x))
AMC_UNARY(TanhOp, std::tanh(x))
AMC_UNARY(SigmoidOp, sigmoid(x))
AMC_UNARY(ErfOp, std::erf(x))
AMC_UNARY(ReluOp, std::isnan(x) ? x : std::max(x, 0.0))
AMC_UNARY(SiluOp, x *sigmoid(x))
AMC_UNARY(SoftplusOp, std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))))
AMC_UNARY(EluOp, x > 0 ? x : getAlpha().convertToDouble() * std::expm1(x))
AMC_UNARY(CeilOp, std::ceil(x))
AMC_UNARY(FloorOp, std::floor(x))
AMC_UNARY(RoundOp, std::nearbyint(x))
AMC_UNARY(SignOp, sign(x))

/// Integer results keep all 64 bits, so these do not go through double.
AMC_INFER(AbsOp, return inferSame(loc, operands, types);)
LogicalResult AbsOp::evaluate(Inputs in, Outputs out) {
  for (int64_t i = 0, e = out[0].size(); i < e; ++i) {
    if (out[0].isFloat())
      out[0].floats[i] = std::fabs(in[0]->floats[i]);
    else
      out[0].ints[i] = in[0]->ints[i] < 0 ? static_cast<int64_t>(0 - static_cast<uint64_t>(in[0]->ints[i])) : in[0]->ints[i];
  }
  return success();
}
AMC_INFER(NegOp, return inferSame(loc, operands, types);)
LogicalResult NegOp::evaluate(Inputs in, Outputs out) {
  for (int64_t i = 0, e = out[0].size(); i < e; ++i) {
    if (out[0].isFloat())
      out[0].floats[i] = -in[0]->floats[i];
    else
      out[0].ints[i] = static_cast<int64_t>(0 - static_cast<uint64_t>(in[0]->ints[i]));
  }
  return success();
}

/// gelu_c1: the two forms that exist.
static LogicalResult checkApproximate(std::optional<Location> loc, StringRef approximate) {
  if (approximate == "none" || approximate == "tanh")
    return success();
  return inferError(loc, "approximate is \"" + approximate + "\", should be \"none\" or \"tanh\"");
}
AMC_INFER(GeluOp, Adaptor adaptor(operands, attributes, properties, regions);
          if (failed(checkApproximate(loc, adaptor.getApproximate()))) return failure();
          return inferSame(loc, operands, types);)
LogicalResult GeluOp::evaluate(Inputs in, Outputs out) {
  bool tanhForm = getApproximate() == "tanh";
  return mapUnary(in, out, [&](double x) { return gelu(x, tanhForm); });
}
AMC_INFER(GeluBackwardOp, Adaptor adaptor(operands, attributes, properties, regions);
          if (failed(checkApproximate(loc, adaptor.getApproximate()))) return failure();
          return inferAlike(loc, operands, types);)
LogicalResult GeluBackwardOp::evaluate(Inputs in, Outputs out) {
  bool tanhForm = getApproximate() == "tanh";
  return mapBinary(
      in, out, [&](double dy, double x) { return dy * geluDerivative(x, tanhForm); },
      [](int64_t, int64_t) { return 0; });
}
AMC_INFER(SiluBackwardOp, return inferAlike(loc, operands, types);)
LogicalResult SiluBackwardOp::evaluate(Inputs in, Outputs out) {
  return mapBinary(
      in, out, [](double dy, double x) { return dy * siluDerivative(x); }, [](int64_t, int64_t) { return 0; });
}

static Type boolType(MLIRContext *context) { return IntegerType::get(context, 1); }

AMC_INFER(IsNanOp, return inferSame(loc, operands, types, boolType(context));)
LogicalResult IsNanOp::evaluate(Inputs in, Outputs out) {
  return mapUnary(in, out, [](double x) -> double { return std::isnan(x); });
}
AMC_INFER(IsInfOp, return inferSame(loc, operands, types, boolType(context));)
LogicalResult IsInfOp::evaluate(Inputs in, Outputs out) {
  return mapUnary(in, out, [&](double x) -> double {
    return std::isinf(x) && (x > 0 ? getPositive() : getNegative());
  });
}
AMC_UNARY(NotOp, x == 0)
AMC_INFER(BitwiseNotOp, return inferSame(loc, operands, types);)
LogicalResult BitwiseNotOp::evaluate(Inputs in, Outputs out) {
  for (int64_t i = 0, e = out[0].size(); i < e; ++i)
    out[0].ints[i] = ~in[0]->ints[i];
  return success();
}

// A function of two numbers: FLOATS of doubles a and b, INTEGERS of int64_t a and b.
#define AMC_BINARY(OP, FLOATS, INTEGERS)                                                                     \
  AMC_INFER(OP, return inferSame(loc, operands, types);)                                                     \
  LogicalResult OP::evaluate(Inputs in, Outputs out) {                                                       \
    return mapBinary(                                                                                        \
        in, out, [&](double a, double b) -> double { (void)a, (void)b; return FLOATS; },                     \
        [&](int64_t a, int64_t b) -> int64_t { return INTEGERS; });                                          \
  }
// … that gives a truth value.
#define AMC_COMPARE(OP, OPERATOR)                                                                            \
  AMC_INFER(OP, return inferSame(loc, operands, types, boolType(context));)                                  \
  LogicalResult OP::evaluate(Inputs in, Outputs out) {                                                       \
    return mapBinary(                                                                                        \
        in, out, [](double a, double b) -> double { return a OPERATOR b; },                                  \
        [](int64_t a, int64_t b) -> int64_t { return a OPERATOR b; });                                       \
  }

static int64_t wrap(uint64_t value) { return static_cast<int64_t>(value); }

AMC_BINARY(AddOp, a + b, wrap(uint64_t(a) + uint64_t(b)))
AMC_BINARY(SubOp, a - b, wrap(uint64_t(a) - uint64_t(b)))
AMC_BINARY(MulOp, a *b, wrap(uint64_t(a) * uint64_t(b)))
AMC_BINARY(DivOp, a / b, divide(a, b))
AMC_BINARY(PowOp, std::pow(a, b), integerPow(a, b))
AMC_BINARY(MaxOp, maxOf(a, b), std::max(a, b))
AMC_BINARY(MinOp, minOf(a, b), std::min(a, b))
AMC_BINARY(ModOp, remainder(a, b, getFmod()), remainder(a, b, getFmod()))
AMC_COMPARE(EqualOp, ==)
AMC_COMPARE(LessOp, <)
AMC_COMPARE(LessEqualOp, <=)
AMC_BINARY(AndOp, 0, a &&b)
AMC_BINARY(OrOp, 0, a || b)
AMC_BINARY(XorOp, 0, (a != 0) != (b != 0))
AMC_BINARY(BitwiseAndOp, 0, a &b)
AMC_BINARY(BitwiseOrOp, 0, a | b)
AMC_BINARY(BitwiseXorOp, 0, a ^ b)

AMC_INFER(SelectOp, auto a = dyn_cast<RankedTensorType>(operands[1].getType());
          auto b = dyn_cast<RankedTensorType>(operands[2].getType());
          // select_c1
          if (!a || !b || a.getElementType() != b.getElementType())
            return inferError(loc, "a and b should have one element type");
          return inferBroadcast(loc, operands, a.getElementType(), types);)
LogicalResult SelectOp::evaluate(Inputs in, Outputs out) {
  BroadcastIndexer c(in[0]->shape(), out[0].shape()), a(in[1]->shape(), out[0].shape()),
      b(in[2]->shape(), out[0].shape());
  for (int64_t i = 0, e = out[0].size(); i < e; ++i) {
    bool first = in[0]->ints[c(i)] != 0;
    out[0].copyElement(i, *in[first ? 1 : 2], first ? a(i) : b(i));
  }
  return success();
}

AMC_INFER(CastOp, Adaptor adaptor(operands, attributes, properties, regions);
          // cast_c1
          if (!isa<FloatType, IntegerType>(adaptor.getTo()))
            return inferError(loc, "target should be a float or integer type");
          return inferBroadcast(loc, operands, adaptor.getTo(), types);)
LogicalResult CastOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &x = *in[0];
  HostTensor &y = out[0];
  Type to = y.type.getElementType();
  for (int64_t i = 0, e = y.size(); i < e; ++i) {
    if (to.isInteger(1)) {
      y.ints[i] = x.number(i) != 0;
    } else if (y.isFloat()) {
      y.floats[i] = x.number(i);
    } else {
      int64_t value;
      if (x.isFloat()) {
        // Out-of-range values saturate: the conversion of the language is undefined there.
        double number = std::trunc(x.floats[i]);
        value = std::isnan(number)                                              ? 0
                : number >= 9.2233720368547758e18                               ? std::numeric_limits<int64_t>::max()
                : number <= -9.2233720368547758e18                              ? std::numeric_limits<int64_t>::min()
                                                                                : static_cast<int64_t>(number);
      } else {
        value = x.ints[i];
      }
      unsigned width = to.getIntOrFloatBitWidth();
      if (width < 64) {
        uint64_t low = static_cast<uint64_t>(value) & ((uint64_t(1) << width) - 1);
        bool negative = !to.isUnsignedInteger() && (low >> (width - 1)) & 1;
        value = static_cast<int64_t>(negative ? low | ~((uint64_t(1) << width) - 1) : low);
      }
      y.ints[i] = value;
    }
  }
  return success();
}

/// gated_activation_c1: the activations that exist; gated_activation_c2: one shape.
static LogicalResult checkGated(std::optional<Location> loc, ValueRange operands, StringRef activation) {
  if (!isActivation(activation))
    return inferError(loc, "activation is \"" + activation + "\", should be silu, gelu, gelu_tanh or relu");
  for (Value operand : operands.drop_front())
    if (operand.getType() != operands[0].getType())
      return inferError(loc, "operands should have one type");
  return success();
}
AMC_INFER(GatedActivationOp, Adaptor adaptor(operands, attributes, properties, regions);
          if (failed(checkGated(loc, operands, adaptor.getActivation()))) return failure();
          return inferSame(loc, operands, types);)
LogicalResult GatedActivationOp::evaluate(Inputs in, Outputs out) {
  for (int64_t i = 0, e = out[0].size(); i < e; ++i)
    out[0].floats[i] = activate(getActivation(), in[0]->floats[i]) * in[1]->floats[i];
  return success();
}
AMC_INFER(GatedActivationBackwardOp, Adaptor adaptor(operands, attributes, properties, regions);
          if (failed(checkGated(loc, operands, adaptor.getActivation()))) return failure();
          types.append(2, operands[0].getType()); return success();)
LogicalResult GatedActivationBackwardOp::evaluate(Inputs in, Outputs out) {
  for (int64_t i = 0, e = out[0].size(); i < e; ++i) {
    double dy = in[0]->floats[i], gate = in[1]->floats[i], up = in[2]->floats[i];
    out[0].floats[i] = dy * up * activateDerivative(getActivation(), gate);
    out[1].floats[i] = dy * activate(getActivation(), gate);
  }
  return success();
}
