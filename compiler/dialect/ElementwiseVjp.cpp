// Vector-Jacobian products of elementwise operations, built from other operations of the dialect.
#include "compiler/dialect/OpSupport.h"
#include <cmath>

using namespace mlir;
using namespace amc::train;

namespace {

/// A builder that reads like formulas; scalars take the element type of the tensor they meet.
struct Formula {
  OpBuilder &b;
  Location loc;
  Type element;

  Value mul(Value x, Value y) { return MulOp::create(b, loc, x, y); }
  Value mul(Value x, double y) { return mul(x, scalar(b, loc, y, element)); }
  Value add(Value x, double y) { return AddOp::create(b, loc, x, scalar(b, loc, y, element)); }
  Value add(Value x, Value y) { return AddOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return SubOp::create(b, loc, x, y); }
  Value sub(double x, Value y) { return SubOp::create(b, loc, scalar(b, loc, x, element), y); }
  Value div(Value x, Value y) { return DivOp::create(b, loc, x, y); }
  Value neg(Value x) { return NegOp::create(b, loc, x); }
  Value square(Value x) { return mul(x, x); }
  Value sqrt(Value x) { return SqrtOp::create(b, loc, x); }
  Value zeroLike(Value x) { return scalar(b, loc, 0, elementOf(x)); }
  Value select(Value condition, Value x, Value y) { return SelectOp::create(b, loc, condition, x, y); }
  /// 1 where x > y, 1/2 where equal, 0 elsewhere: how max and min share a gradient.
  Value share(Value x, Value y) {
    Value one = scalar(b, loc, 1, element), half = scalar(b, loc, 0.5, element), zero = scalar(b, loc, 0, element);
    Value tie = select(EqualOp::create(b, loc, x, y), half, zero);
    return select(LessOp::create(b, loc, y, x), one, tie);
  }
};

} // namespace

// The gradient of a unary operation; in EXPRESSION `x` is the operand, `y` the result, `dy` the cotangent, `f` the
// formula builder.
#define AMC_UNARY_VJP(OP, EXPRESSION)                                                                        \
  LogicalResult OP::buildVjp(OpBuilder &builder, ValueRange cotangents, ArrayRef<bool> needed,               \
                             MutableArrayRef<Value> gradients) {                                             \
    if (!needed[0])                                                                                          \
      return success();                                                                                      \
    Formula f{builder, getLoc(), elementOf(getX())};                                                         \
    Value x = getX(), y = getResult(), dy = cotangents[0];                                                   \
    (void)x, (void)y, (void)f;                                                                               \
    gradients[0] = EXPRESSION;                                                                               \
    return success();                                                                                        \
  }

AMC_UNARY_VJP(AbsOp, f.mul(dy, SignOp::create(builder, getLoc(), x)))
AMC_UNARY_VJP(NegOp, f.neg(dy))
AMC_UNARY_VJP(ExpOp, f.mul(dy, y))
AMC_UNARY_VJP(LogOp, f.div(dy, x))
AMC_UNARY_VJP(SqrtOp, f.div(f.mul(dy, 0.5), y))
AMC_UNARY_VJP(RsqrtOp, f.mul(f.mul(dy, -0.5), f.mul(y, f.square(y))))
AMC_UNARY_VJP(ReciprocalOp, f.neg(f.mul(dy, f.square(y))))
AMC_UNARY_VJP(SinOp, f.mul(dy, CosOp::create(builder, getLoc(), x)))
AMC_UNARY_VJP(CosOp, f.neg(f.mul(dy, SinOp::create(builder, getLoc(), x))))
AMC_UNARY_VJP(TanOp, f.mul(dy, f.add(f.square(y), 1)))
AMC_UNARY_VJP(AsinOp, f.div(dy, f.sqrt(f.sub(1, f.square(x)))))
AMC_UNARY_VJP(AcosOp, f.neg(f.div(dy, f.sqrt(f.sub(1, f.square(x))))))
AMC_UNARY_VJP(AtanOp, f.div(dy, f.add(f.square(x), 1)))
AMC_UNARY_VJP(SinhOp, f.mul(dy, CoshOp::create(builder, getLoc(), x)))
AMC_UNARY_VJP(CoshOp, f.mul(dy, SinhOp::create(builder, getLoc(), x)))
AMC_UNARY_VJP(AsinhOp, f.div(dy, f.sqrt(f.add(f.square(x), 1))))
AMC_UNARY_VJP(AcoshOp, f.div(dy, f.sqrt(f.add(f.square(x), -1))))
AMC_UNARY_VJP(AtanhOp, f.div(dy, f.sub(1, f.square(x))))
AMC_UNARY_VJP(TanhOp, f.mul(dy, f.sub(1, f.square(y))))
AMC_UNARY_VJP(SigmoidOp, f.mul(dy, f.mul(y, f.sub(1, y))))
AMC_UNARY_VJP(ErfOp, f.mul(f.mul(dy, 2 / std::sqrt(M_PI)), ExpOp::create(builder, getLoc(), f.neg(f.square(x)))))
AMC_UNARY_VJP(ReluOp, f.select(LessOp::create(builder, getLoc(), f.zeroLike(x), x), dy, f.zeroLike(dy)))
AMC_UNARY_VJP(SiluOp, SiluBackwardOp::create(builder, getLoc(), dy, x))
AMC_UNARY_VJP(SoftplusOp, f.mul(dy, SigmoidOp::create(builder, getLoc(), x)))
AMC_UNARY_VJP(GeluOp, GeluBackwardOp::create(builder, getLoc(), dy, x, getApproximateAttr()))
// alpha e^x is y + alpha where x <= 0.
AMC_UNARY_VJP(EluOp, f.select(LessOp::create(builder, getLoc(), f.zeroLike(x), x), dy,
                              f.mul(dy, f.add(y, getAlpha().convertToDouble()))))

LogicalResult CastOp::buildVjp(OpBuilder &builder, ValueRange cotangents, ArrayRef<bool> needed,
                               MutableArrayRef<Value> gradients) {
  Type from = elementOf(getX());
  // A value that went through integers carries no gradient; asking for one means the graph is not differentiable.
  if (!isa<FloatType>(from) || !isa<FloatType>(getTo()))
    return failure();
  if (needed[0])
    gradients[0] = cast(builder, getLoc(), cotangents[0], from);
  return success();
}

/// Shared by the binary operations: `dA` and `dB` build a gradient in the result's shape, which is then summed over
/// broadcast dimensions.
static LogicalResult binaryVjp(Operation *op, OpBuilder &b, ArrayRef<bool> needed, MutableArrayRef<Value> gradients,
                               llvm::function_ref<Value(Formula &)> dA, llvm::function_ref<Value(Formula &)> dB) {
  if (!isa<FloatType>(elementOf(op->getResult(0))))
    return failure();
  Formula f{b, op->getLoc(), elementOf(op->getResult(0))};
  if (needed[0])
    gradients[0] = sumTo(b, op->getLoc(), dA(f), tensorType(op->getOperand(0)));
  if (needed[1])
    gradients[1] = sumTo(b, op->getLoc(), dB(f), tensorType(op->getOperand(1)));
  return success();
}

#define AMC_BINARY_VJP(OP, DA, DB)                                                                           \
  LogicalResult OP::buildVjp(OpBuilder &builder, ValueRange cotangents, ArrayRef<bool> needed,               \
                             MutableArrayRef<Value> gradients) {                                             \
    Value a = getA(), b = getB(), y = getY(), dy = cotangents[0];                                            \
    (void)a, (void)b, (void)y;                                                                               \
    return binaryVjp(                                                                                        \
        *this, builder, needed, gradients, [&](Formula &f) -> Value { (void)f; return DA; },                 \
        [&](Formula &f) -> Value { (void)f; return DB; });                                                   \
  }

/// d a^b / da = b a^(b-1). A constant exponent of 2 (the squares that norms are made of) needs no power.
static Value powBase(Formula &f, Value a, Value exponent, Value dy) {
  if (auto full = exponent.getDefiningOp<FullOp>())
    if (full.getValue().convertToDouble() == 2)
      return f.mul(f.mul(dy, 2), a);
  if (auto constant = exponent.getDefiningOp<ConstantOp>())
    if (auto splat = dyn_cast<SplatElementsAttr>(constant.getValue()))
      if (splat.getSplatValue<APFloat>().convertToDouble() == 2)
        return f.mul(f.mul(dy, 2), a);
  Value power = PowOp::create(f.b, f.loc, a, f.add(exponent, -1));
  return f.mul(dy, f.mul(exponent, power));
}

AMC_BINARY_VJP(AddOp, dy, dy)
AMC_BINARY_VJP(SubOp, dy, f.neg(dy))
AMC_BINARY_VJP(MulOp, f.mul(dy, b), f.mul(dy, a))
AMC_BINARY_VJP(DivOp, f.div(dy, b), f.neg(f.div(f.mul(dy, y), b)))
AMC_BINARY_VJP(PowOp, powBase(f, a, b, dy), f.mul(dy, f.mul(y, LogOp::create(builder, getLoc(), a))))
AMC_BINARY_VJP(MaxOp, f.mul(dy, f.share(a, b)), f.mul(dy, f.share(b, a)))
AMC_BINARY_VJP(MinOp, f.mul(dy, f.share(b, a)), f.mul(dy, f.share(a, b)))

LogicalResult SelectOp::buildVjp(OpBuilder &builder, ValueRange cotangents, ArrayRef<bool> needed,
                                 MutableArrayRef<Value> gradients) {
  if (!isa<FloatType>(elementOf(getY())))
    return failure();
  Formula f{builder, getLoc(), elementOf(getY())};
  Value dy = cotangents[0];
  if (needed[1])
    gradients[1] = sumTo(builder, getLoc(), f.select(getCondition(), dy, f.zeroLike(dy)), tensorType(getA()));
  if (needed[2])
    gradients[2] = sumTo(builder, getLoc(), f.select(getCondition(), f.zeroLike(dy), dy), tensorType(getB()));
  return success();
}

LogicalResult GatedActivationOp::buildVjp(OpBuilder &builder, ValueRange cotangents, ArrayRef<bool> needed,
                                          MutableArrayRef<Value> gradients) {
  auto backward = GatedActivationBackwardOp::create(builder, getLoc(), cotangents[0], getGate(), getUp(),
                                                    getActivationAttr());
  if (needed[0])
    gradients[0] = backward.getDgate();
  if (needed[1])
    gradients[1] = backward.getDup();
  return success();
}
