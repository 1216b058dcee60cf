// Elementwise operations. Where an ONNX operation has a kink, the translation takes PyTorch's
// gradient at it: Clip passes the gradient at its bounds, LeakyRelu and PRelu take the slope at
// zero.
#include "compiler/import/Node.h"

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

template <typename Op> static void unary(Node &n) { n.set(0, n.emit<Op>({n.in(0)})); }
template <typename Op> static void binary(Node &n) { n.set(0, n.emit<Op>({n.in(0), n.in(1)})); }
/// a > b is b < a.
template <typename Op> static void swapped(Node &n) { n.set(0, n.emit<Op>({n.in(1), n.in(0)})); }

/// Left to right over any number of inputs.
template <typename Op> static Value fold(Node &n) {
  std::vector<Value> values = n.from(0);
  if (values.empty()) {
    n.fail("should have at least one input");
    return {};
  }
  Value result = values[0];
  for (size_t i = 1; i < values.size(); ++i)
    result = n.emit<Op>({result, values[i]});
  return result;
}
template <typename Op> static void variadic(Node &n) { n.set(0, fold<Op>(n)); }

static void mean(Node &n) {
  Value sum = fold<AddOp>(n);
  n.set(0, n.inputs() > 1 ? n.div(sum, n.scalar(n.inputs(), sum)) : sum);
}

static bool isFloat(Value x) { return x && isa<FloatType>(elementOf(x)); }

static Value clamp(Node &n, Value x, Value low, Value high) {
  if (!isFloat(x)) {
    if (low)
      x = n.emit<MaxOp>({x, low});
    return high ? n.emit<MinOp>({x, high}) : x;
  }
  if (low)
    x = n.select(n.less(x, low), low, x);
  return high ? n.select(n.less(high, x), high, x) : x;
}

static void clip(Node &n) {
  // A missing bound may also be an empty tensor name; both are absent.
  Value x = n.in(0), low = n.opt(1), high = n.opt(2);
  n.set(0, clamp(n, x, low, high));
}

static void relu(Node &n) { unary<ReluOp>(n); }

static void leakyRelu(Node &n) {
  Value x = n.in(0);
  n.set(0,
        n.select(n.less(n.scalar(0, x), x), x, n.mul(x, n.scalar(n.getFloat("alpha", 0.01f), x))));
}
static void pRelu(Node &n) {
  Value x = n.in(0), slope = n.in(1);
  n.set(0, n.select(n.less(n.scalar(0, x), x), x, n.mul(x, slope)));
}
static void elu(Node &n) {
  n.set(0, n.emit<EluOp>({n.in(0)}, {n.floatAttr("alpha", n.getFloat("alpha", 1))}));
}
static void selu(Node &n) {
  double alpha = n.getFloat("alpha", 1.67326319217681884765625),
         gamma = n.getFloat("gamma", 1.05070102214813232421875);
  Value x = n.in(0);
  n.set(0, n.mul(n.emit<EluOp>({x}, {n.floatAttr("alpha", alpha)}), n.scalar(gamma, x)));
}
/// max(0, x) + min(0, alpha (e^(x / alpha) - 1)) is alpha elu(x / alpha).
static void celu(Node &n) {
  Value x = n.in(0);
  double alpha = n.getFloat("alpha", 1);
  Value y = n.emit<EluOp>({n.div(x, n.scalar(alpha, x))}, {n.floatAttr("alpha", 1)});
  n.set(0, n.mul(y, n.scalar(alpha, x)));
}
static void thresholdedRelu(Node &n) {
  Value x = n.in(0);
  n.set(0, n.select(n.less(n.scalar(n.getFloat("alpha", 1), x), x), x, n.scalar(0, x)));
}
static Value hardSigmoid(Node &n, Value x, double alpha, double beta) {
  Value line = n.add(n.mul(x, n.scalar(alpha, x)), n.scalar(beta, x));
  return clamp(n, line, n.scalar(0, x), n.scalar(1, x));
}
static void hardSigmoidOp(Node &n) {
  double alpha = n.getFloat("alpha", 0.2f), beta = n.getFloat("beta", 0.5f);
  n.set(0, hardSigmoid(n, n.in(0), alpha, beta));
}
static void hardSwish(Node &n) {
  Value x = n.in(0);
  n.set(0, n.mul(x, hardSigmoid(n, x, 1.0 / 6, 0.5)));
}
static void mish(Node &n) {
  Value x = n.in(0);
  n.set(0, n.mul(x, n.emit<TanhOp>({n.emit<SoftplusOp>({x})})));
}
static void softsign(Node &n) {
  Value x = n.in(0);
  n.set(0, n.div(x, n.add(n.emit<AbsOp>({x}), n.scalar(1, x))));
}
static void swish(Node &n) {
  Value x = n.in(0);
  double alpha = n.getFloat("alpha", 1);
  if (alpha == 1)
    n.set(0, n.emit<SiluOp>({x}));
  else
    n.set(0, n.mul(x, n.emit<SigmoidOp>({n.mul(x, n.scalar(alpha, x))})));
}
static void quickGelu(Node &n) {
  Value x = n.in(0);
  n.set(0, n.mul(x, n.emit<SigmoidOp>({n.mul(x, n.scalar(n.getFloat("alpha", 1.702f), x))})));
}
static void shrink(Node &n) {
  Value x = n.in(0);
  double lambd = n.getFloat("lambd", 0.5), bias = n.getFloat("bias", 0);
  Value zero = n.scalar(0, x);
  Value high = n.select(n.less(n.scalar(lambd, x), x), n.sub(x, n.scalar(bias, x)), zero);
  n.set(0, n.select(n.less(x, n.scalar(-lambd, x)), n.add(x, n.scalar(bias, x)), high));
}
static Value gelu(Node &n, Value x, StringRef approximate) {
  return n.emit<GeluOp>({x}, {n.stringAttr("approximate", approximate)});
}
static void geluOp(Node &n) {
  std::string approximate = n.getString("approximate", "none");
  if (approximate != "none" && approximate != "tanh")
    n.fail("attribute 'approximate' is '" + approximate + "', should be 'none' or 'tanh'");
  n.set(0, gelu(n, n.in(0), approximate));
}
static Value biased(Node &n) {
  Value x = n.in(0);
  return n.has(1) ? n.add(x, n.in(1)) : x;
}
static void contribGelu(Node &n) { n.set(0, gelu(n, n.in(0), "none")); }
static void biasGelu(Node &n) { n.set(0, gelu(n, biased(n), "none")); }
static void fastGelu(Node &n) { n.set(0, gelu(n, biased(n), "tanh")); }

static void pow(Node &n) {
  Value a = n.in(0), b = n.in(1);
  if (!a || !b)
    return n.set(0, {});
  Type base = elementOf(a);
  // An integer base with a float exponent is computed in floating point; the result has the base's
  // type.
  Type common = isa<FloatType>(base) || !isa<FloatType>(elementOf(b)) ? base : elementOf(b);
  n.set(0, n.cast(n.emit<PowOp>({n.cast(a, common), n.cast(b, common)}), base));
}
static void mod(Node &n) {
  Value a = n.in(0), b = n.in(1);
  bool fmod = n.getFlag("fmod");
  if (!fmod && isFloat(a))
    return n.fail("of floating-point numbers needs fmod = 1");
  SmallVector<NamedAttribute> attrs;
  if (fmod)
    attrs.push_back(n.unitAttr("fmod"));
  n.set(0, n.emit<ModOp>({a, b}, attrs));
}
static void bitShift(Node &n) {
  std::string direction = n.getString("direction", "");
  if (direction != "LEFT" && direction != "RIGHT")
    return n.fail("attribute 'direction' should be LEFT or RIGHT");
  Value x = n.in(0), power = n.emit<PowOp>({n.scalar(2, x), n.in(1)});
  n.set(0, direction == "LEFT" ? n.mul(x, power) : n.div(x, power));
}
static void isInf(Node &n) {
  n.set(0,
        n.emit<IsInfOp>({n.in(0)}, {n.boolAttr("positive", n.getFlag("detect_positive", true)),
                                    n.boolAttr("negative", n.getFlag("detect_negative", true))}));
}
static void cast(Node &n) {
  n.ignore("saturate"); // concerns 8-bit floats, which have no type here
  n.ignore("round_mode");
  int64_t to = n.needInt("to");
  Type element = n.importer.elementType(to);
  if (!element)
    return n.unsupported("to " + dataTypeName(to));
  n.set(0, n.cast(n.in(0), element));
}
static void castLike(Node &n) {
  n.ignore("saturate");
  n.ignore("round_mode");
  Value x = n.in(0), like = n.in(1);
  n.set(0, like ? n.cast(x, elementOf(like)) : Value());
}
static void identity(Node &n) {
  const Datum *datum = n.has(0) ? n.scope.find(n.proto.input(0)) : nullptr;
  if (datum && datum->kind == Datum::Sequence)
    n.setSequence(0, n.sequence(0));
  else
    n.set(0, n.in(0));
}
static void dropout(Node &n) {
  n.ignore("seed"); // amrun's seed decides, so that a run can be repeated
  Value x = n.in(0);
  double ratio = 0;
  bool training = n.has(2) && n.constScalar(2, "training_mode").value_or(0) != 0;
  if (training)
    ratio = n.has(1) ? n.constScalar(1, "ratio").value_or(0) : 0.5;
  else if (n.has(1))
    (void)n.in(1);
  if (!training || ratio == 0 || !x) {
    n.set(0, x);
    if (n.wants(1))
      n.set(1, x ? n.full(1, shapeOf(x), n.i1()) : Value());
    return;
  }
  SmallVector<NamedAttribute> attributes = {n.floatAttr("probability", ratio),
                                            n.intAttr("stream", n.importer.nextRandomStream())};
  auto drop = [&](Value value) {
    return n.emit<DropoutOp>({value, n.importer.scalarInput("seed"),
                              n.importer.scalarInput("step_number"),
                              n.importer.scalarInput("micro_batch")},
                             attributes);
  };
  n.set(0, drop(x));
  if (n.wants(1)) // of all ones nothing is left where an element is dropped
    n.set(1, n.cast(drop(n.full(1, shapeOf(x), elementOf(x))), n.i1()));
}

ArrayRef<OpEntry> elementwiseOps() {
  static const OpEntry table[] = {
      {"", "Abs", 13, unary<AbsOp>},
      {"", "Neg", 13, unary<NegOp>},
      {"", "Exp", 13, unary<ExpOp>},
      {"", "Log", 13, unary<LogOp>},
      {"", "Sqrt", 13, unary<SqrtOp>},
      {"", "Reciprocal", 13, unary<ReciprocalOp>},
      {"", "Sin", 13, unary<SinOp>},
      {"", "Cos", 13, unary<CosOp>},
      {"", "Tan", 13, unary<TanOp>},
      {"", "Asin", 13, unary<AsinOp>},
      {"", "Acos", 13, unary<AcosOp>},
      {"", "Atan", 13, unary<AtanOp>},
      {"", "Sinh", 13, unary<SinhOp>},
      {"", "Cosh", 13, unary<CoshOp>},
      {"", "Asinh", 13, unary<AsinhOp>},
      {"", "Acosh", 13, unary<AcoshOp>},
      {"", "Atanh", 13, unary<AtanhOp>},
      {"", "Tanh", 13, unary<TanhOp>},
      {"", "Sigmoid", 13, unary<SigmoidOp>},
      {"", "Erf", 13, unary<ErfOp>},
      {"", "Relu", 13, relu},
      {"", "Softplus", 13, unary<SoftplusOp>},
      {"", "Ceil", 13, unary<CeilOp>},
      {"", "Floor", 13, unary<FloorOp>},
      {"", "Round", 13, unary<RoundOp>},
      {"", "Sign", 13, unary<SignOp>},
      {"", "IsNaN", 13, unary<IsNanOp>},
      {"", "IsInf", 13, isInf},
      {"", "Not", 13, unary<NotOp>},
      {"", "BitwiseNot", 18, unary<BitwiseNotOp>},
      {"", "Add", 13, binary<AddOp>},
      {"", "Sub", 13, binary<SubOp>},
      {"", "Mul", 13, binary<MulOp>},
      {"", "Div", 13, binary<DivOp>},
      {"", "Pow", 13, pow},
      {"", "Mod", 13, mod},
      {"", "Equal", 13, binary<EqualOp>},
      {"", "Less", 13, binary<LessOp>},
      {"", "LessOrEqual", 13, binary<LessEqualOp>},
      {"", "Greater", 13, swapped<LessOp>},
      {"", "GreaterOrEqual", 13, swapped<LessEqualOp>},
      {"", "And", 13, binary<AndOp>},
      {"", "Or", 13, binary<OrOp>},
      {"", "Xor", 13, binary<XorOp>},
      {"", "BitwiseAnd", 18, binary<BitwiseAndOp>},
      {"", "BitwiseOr", 18, binary<BitwiseOrOp>},
      {"", "BitwiseXor", 18, binary<BitwiseXorOp>},
      {"", "BitShift", 13, bitShift},
      {"", "Max", 13, variadic<MaxOp>},
      {"", "Min", 13, variadic<MinOp>},
      {"", "Sum", 13, variadic<AddOp>},
      {"", "Mean", 13, mean},
      {"", "Clip", 13, clip},
      {"", "LeakyRelu", 13, leakyRelu},
      {"", "PRelu", 13, pRelu},
      {"", "Elu", 13, elu},
      {"", "Selu", 13, selu},
      {"", "Celu", 13, celu},
      {"", "ThresholdedRelu", 13, thresholdedRelu},
      {"", "HardSigmoid", 13, hardSigmoidOp},
      {"", "HardSwish", 14, hardSwish},
      {"", "Mish", 18, mish},
      {"", "Softsign", 13, softsign},
      {"", "Shrink", 13, shrink},
      {"", "Swish", 24, swish},
      {"", "Gelu", 20, geluOp},
      {"", "Cast", 13, cast},
      {"", "CastLike", 15, castLike},
      {"", "Identity", 13, identity},
      {"", "Dropout", 13, dropout},
      {"com.microsoft", "Gelu", 1, contribGelu},
      {"com.microsoft", "BiasGelu", 1, biasGelu},
      {"com.microsoft", "FastGelu", 1, fastGelu},
      {"com.microsoft", "QuickGelu", 1, quickGelu},
  };
  return table;
}

} // namespace amc::importer
