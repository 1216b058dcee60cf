// Elementwise operations: what they do with one element in a fused kernel. The formulas, and the order in which they are
// computed, are those of runtime/device/cpu/hot/HotElementwise.cpp: both give the same bits.
#include "compiler/dialect/Fusion.h"
#include "compiler/dialect/OpSupport.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include <cmath>

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

using E = ElementEmitter;
using Unary = Value (*)(E &, Value);

constexpr double sqrtHalf = 0.70710678118654752440;
constexpr double geluTanhScale = 1.59576912160573071176; // 2 sqrt(2 / pi)
constexpr float geluTanhCubic = 0.044715f;
constexpr double normalDensity = 0.39894228040143267794; // 1 / sqrt(2 pi)

Value silu(E &e, Value x) { return e.mul(x, e.sigmoid(x)); }
Value gelu(E &e, Value x) {
  return e.mul(e.mul(e.constant(0.5), x), e.add(e.constant(1), e.erf(e.mul(x, e.constant(sqrtHalf)))));
}
/// (1 + tanh u) / 2 is the sigmoid of 2 u, which loses nothing where tanh is near -1.
Value geluTanhShare(E &e, Value x) {
  return e.sigmoid(e.mul(e.constant(geluTanhScale), e.fma(e.mul(e.mul(x, x), x), e.constant(geluTanhCubic), x)));
}
Value geluTanh(E &e, Value x) { return e.mul(x, geluTanhShare(e, x)); }
// NaN stays NaN.
Value relu(E &e, Value x) {
  Value zero = e.constant(0);
  return e.select(e.greater(x, zero), x, e.select(e.lessEqual(x, zero), zero, x));
}

Value siluSlope(E &e, Value x) {
  Value s = e.sigmoid(x);
  return e.mul(s, e.fma(x, e.sub(e.constant(1), s), e.constant(1)));
}
Value geluSlope(E &e, Value x) {
  Value density = e.exp(e.mul(e.mul(e.constant(-0.5), x), x));
  Value half = e.mul(e.constant(0.5), e.add(e.constant(1), e.erf(e.mul(x, e.constant(sqrtHalf)))));
  return e.fma(e.mul(x, e.constant(normalDensity)), density, half);
}
Value geluTanhSlope(E &e, Value x) {
  Value s = geluTanhShare(e, x);
  Value inner = e.mul(e.constant(geluTanhScale),
                      e.fma(e.mul(x, x), e.constant(3.0f * geluTanhCubic), e.constant(1)));
  return e.fma(e.mul(x, e.mul(s, e.sub(e.constant(1), s))), inner, s);
}
Value reluSlope(E &e, Value x) {
  return e.select(e.greater(x, e.constant(0)), e.constant(1), e.constant(0));
}

struct ActivationForms {
  Unary value, slope;
};
ActivationForms activation(StringRef kind) {
  if (kind == "gelu")
    return {gelu, geluSlope};
  if (kind == "gelu_tanh")
    return {geluTanh, geluTanhSlope};
  if (kind == "relu")
    return {relu, reluSlope};
  return {silu, siluSlope}; // verified to be one of them
}
ActivationForms geluForm(StringRef approximate) { return activation(approximate == "tanh" ? "gelu_tanh" : "gelu"); }

// NaN wins on either side.
Value extreme(E &e, Value a, Value b, bool larger) {
  Value picked = e.select(larger ? e.greater(a, b) : e.less(a, b), a, b);
  return e.select(e.isNan(a), a, picked);
}

bool isFloat(Value v) { return isa<FloatType>(elementOf(v)); }

} // namespace

#define UNARY(OP, FORMULA)                                                                                             \
  void OP::emitElement(ElementEmitter &e) {                                                                            \
    Value x = e.element(getX());                                                                                       \
    e.set(getY(), FORMULA);                                                                                            \
  }
UNARY(AbsOp, e.abs(x))
UNARY(NegOp, e.neg(x))
UNARY(ExpOp, e.exp(x))
UNARY(SqrtOp, e.sqrt(x))
UNARY(RsqrtOp, e.div(e.constant(1), e.sqrt(x)))
UNARY(ReciprocalOp, e.div(e.constant(1), x))
UNARY(TanhOp, e.tanh(x))
UNARY(SigmoidOp, e.sigmoid(x))
UNARY(ErfOp, e.erf(x))
UNARY(ReluOp, relu(e, x))
UNARY(SiluOp, silu(e, x))
UNARY(GeluOp, geluForm(getApproximate()).value(e, x))
UNARY(CeilOp, e.ceil(x))
UNARY(FloorOp, e.floor(x))
UNARY(RoundOp, e.roundEven(x))
#undef UNARY

#define BINARY(OP, FORMULA)                                                                                            \
  void OP::emitElement(ElementEmitter &e) {                                                                            \
    Value a = e.element(getA()), b = e.element(getB());                                                                \
    e.set(getY(), FORMULA);                                                                                            \
  }
BINARY(AddOp, e.add(a, b))
BINARY(SubOp, e.sub(a, b))
BINARY(MulOp, e.mul(a, b))
BINARY(DivOp, e.div(a, b))
BINARY(MaxOp, extreme(e, a, b, true))
BINARY(MinOp, extreme(e, a, b, false))
BINARY(LessOp, e.less(a, b))
BINARY(LessEqualOp, e.lessEqual(a, b))
#undef BINARY

void SelectOp::emitElement(ElementEmitter &e) {
  Value condition = e.element(getCondition()), a = e.element(getA()), b = e.element(getB());
  e.set(getY(), e.select(condition, a, b));
}

// Rounding is the tensor's: an element is rounded where it is made. What is not a number in between is.
void CastOp::emitElement(ElementEmitter &e) {
  Value x = e.element(getX());
  bool from = isFloat(getX()), to = isFloat(getY());
  if (from && !to) {
    Value zero = e.constant(0); // x != 0, NaN included
    Value below = e.less(x, zero), above = e.less(zero, x);
    x = arith::OrIOp::create(e.builder(), e.location(), arith::OrIOp::create(e.builder(), e.location(), below, above),
                             e.isNan(x));
  } else if (!from && to) {
    x = e.select(x, e.constant(1), e.constant(0));
  }
  e.set(getY(), x);
}

void GatedActivationOp::emitElement(ElementEmitter &e) {
  Value gate = e.element(getGate()), up = e.element(getUp());
  e.set(getY(), e.mul(activation(getActivation()).value(e, gate), up));
}

void GatedActivationBackwardOp::emitElement(ElementEmitter &e) {
  Value dy = e.element(getDy()), gate = e.element(getGate()), up = e.element(getUp());
  ActivationForms forms = activation(getActivation());
  e.set(getDgate(), e.mul(e.mul(dy, up), forms.slope(e, gate)));
  e.set(getDup(), e.mul(dy, forms.value(e, gate)));
}

void SiluBackwardOp::emitElement(ElementEmitter &e) {
  Value dy = e.element(getDy()), x = e.element(getX());
  e.set(getDx(), e.mul(dy, siluSlope(e, x)));
}

void GeluBackwardOp::emitElement(ElementEmitter &e) {
  Value dy = e.element(getDy()), x = e.element(getX());
  e.set(getDx(), e.mul(dy, geluForm(getApproximate()).slope(e, x)));
}
