// Elementwise operations. Broadcasting is NumPy's, implicit, never materialised. All float arithmetic in fp32 for
// bf16 and f16 tensors, result rounded once.
#ifndef AMC_DIALECT_ELEMENTWISEOPS
#define AMC_DIALECT_ELEMENTWISEOPS

include "compiler/dialect/TrainDialect.td"

class Train_Elementwise<string mnemonic, list<Trait> traits, list<string> declared = [],
                        Trait sharding = DeclareOpInterfaceMethods<ShardingOpInterface>>
    : Train_Op<mnemonic, !listconcat(traits, [Pure, DeclareOpInterfaceMethods<InferTypeOpInterface>,
        DeclareOpInterfaceMethods<ComputeOpInterface, !listconcat(["evaluate", "getReusableOperands"], declared)>,
        sharding])> {
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

class Train_Unary<string mnemonic, string what, Type type = Train_FloatTensor, list<Trait> traits = []>
    : Train_Elementwise<mnemonic, !listconcat(traits, [DeclareOpInterfaceMethods<DifferentiableOpInterface>])> {
  let summary = what;
  let arguments = (ins type:$x);
  let results = (outs type:$y);
}
// Result is i1 or the derivative is zero everywhere: no gradient flows.
class Train_UnaryNoGrad<string mnemonic, string what, Type type = Train_FloatTensor, Type result = type, list<Trait> traits = []>
    : Train_Elementwise<mnemonic, !listconcat(traits, [Train_ZeroGradient])> {
  let summary = what;
  let arguments = (ins type:$x);
  let results = (outs result:$y);
}
class Train_Binary<string mnemonic, string what, Type type = Train_NumberTensor, list<Trait> traits = []>
    : Train_Elementwise<mnemonic, !listconcat(traits, [DeclareOpInterfaceMethods<DifferentiableOpInterface>])> {
  let summary = what;
  let description = [{ Both operands have one element type; shapes broadcast. }];
  let arguments = (ins type:$a, type:$b);
  let results = (outs type:$y);
}
class Train_BinaryNoGrad<string mnemonic, string what, Type type, Type result, list<Trait> traits = []>
    : Train_Elementwise<mnemonic, traits> {
  let summary = what;
  let arguments = (ins type:$a, type:$b);
  let results = (outs result:$y);
}

def Train_AbsOp : Train_Unary<"abs", "|x|; gradient sign(x)", Train_NumberTensor, [Train_Fusable]>;
def Train_NegOp : Train_Unary<"neg", "-x", Train_NumberTensor, [Train_Fusable]>;
def Train_ExpOp : Train_Unary<"exp", "e^x", Train_FloatTensor, [Train_Fusable]>;
def Train_LogOp : Train_Unary<"log", "natural logarithm">;
def Train_SqrtOp : Train_Unary<"sqrt", "square root", Train_FloatTensor, [Train_Fusable]>;
def Train_RsqrtOp : Train_Unary<"rsqrt", "1 / sqrt(x)", Train_FloatTensor, [Train_Fusable]>;
def Train_ReciprocalOp : Train_Unary<"reciprocal", "1 / x", Train_FloatTensor, [Train_Fusable]>;
def Train_SinOp : Train_Unary<"sin", "sine">;
def Train_CosOp : Train_Unary<"cos", "cosine">;
def Train_TanOp : Train_Unary<"tan", "tangent">;
def Train_AsinOp : Train_Unary<"asin", "inverse sine">;
def Train_AcosOp : Train_Unary<"acos", "inverse cosine">;
def Train_AtanOp : Train_Unary<"atan", "inverse tangent">;
def Train_SinhOp : Train_Unary<"sinh", "hyperbolic sine">;
def Train_CoshOp : Train_Unary<"cosh", "hyperbolic cosine">;
def Train_AsinhOp : Train_Unary<"asinh", "inverse hyperbolic sine">;
def Train_AcoshOp : Train_Unary<"acosh", "inverse hyperbolic cosine">;
def Train_AtanhOp : Train_Unary<"atanh", "inverse hyperbolic tangent">;
def Train_TanhOp : Train_Unary<"tanh", "hyperbolic tangent", Train_FloatTensor, [Train_Fusable]>;
def Train_SigmoidOp : Train_Unary<"sigmoid", "1 / (1 + e^-x)", Train_FloatTensor, [Train_Fusable]>;
def Train_ErfOp : Train_Unary<"erf", "error function", Train_FloatTensor, [Train_Fusable]>;
def Train_ReluOp : Train_Unary<"relu", "max(x, 0); gradient 0 at 0", Train_NumberTensor, [Train_Fusable]>;
def Train_SiluOp : Train_Unary<"silu", "x * sigmoid(x)", Train_FloatTensor, [Train_Fusable]>;
def Train_SoftplusOp : Train_Unary<"softplus", "log(1 + e^x), without overflow">;
def Train_GeluOp : Train_Unary<"gelu", "Gaussian error linear unit", Train_FloatTensor, [Train_Fusable]> {
  let description = [{ `approximate` "none": x * Phi(x) by erf; "tanh": the tanh approximation. }];
  let arguments = (ins Train_FloatTensor:$x, DefaultValuedStrAttr<StrAttr, "none">:$approximate);
}
def Train_EluOp : Train_Unary<"elu", "x where x > 0, alpha * (e^x - 1) elsewhere"> {
  let arguments = (ins Train_FloatTensor:$x, DefaultValuedAttr<F64Attr, "1.0">:$alpha);
}
def Train_CeilOp : Train_UnaryNoGrad<"ceil", "smallest integer not below x", Train_FloatTensor, Train_FloatTensor, [Train_Fusable]>;
def Train_FloorOp : Train_UnaryNoGrad<"floor", "largest integer not above x", Train_FloatTensor, Train_FloatTensor, [Train_Fusable]>;
def Train_RoundOp : Train_UnaryNoGrad<"round", "nearest integer, halves to even", Train_FloatTensor, Train_FloatTensor, [Train_Fusable]>;
def Train_SignOp : Train_UnaryNoGrad<"sign", "-1, 0 or 1", Train_NumberTensor>;
def Train_IsNanOp : Train_UnaryNoGrad<"is_nan", "x is NaN", Train_FloatTensor, Train_BoolTensor>;
def Train_IsInfOp : Train_UnaryNoGrad<"is_inf", "x is an infinity of a sign asked for", Train_FloatTensor, Train_BoolTensor> {
  let arguments = (ins Train_FloatTensor:$x, DefaultValuedAttr<BoolAttr, "true">:$positive,
                       DefaultValuedAttr<BoolAttr, "true">:$negative);
}
def Train_NotOp : Train_UnaryNoGrad<"not", "logical negation", Train_BoolTensor>;
def Train_BitwiseNotOp : Train_UnaryNoGrad<"bitwise_not", "bitwise negation", Train_IntTensor>;

def Train_AddOp : Train_Binary<"add", "a + b", Train_NumberTensor, [Train_Fusable]>;
def Train_SubOp : Train_Binary<"sub", "a - b", Train_NumberTensor, [Train_Fusable]>;
def Train_MulOp : Train_Binary<"mul", "a * b", Train_NumberTensor, [Train_Fusable]>;
def Train_DivOp : Train_Binary<"div", "a / b; integers truncate, a zero divisor gives 0", Train_NumberTensor, [Train_Fusable]>;
def Train_PowOp : Train_Binary<"pow", "a to the power b">;
def Train_MaxOp : Train_Binary<"max", "the larger; NaN wins; equal operands share the gradient equally", Train_NumberTensor, [Train_Fusable]>;
def Train_MinOp : Train_Binary<"min", "the smaller; NaN wins; equal operands share the gradient equally", Train_NumberTensor, [Train_Fusable]>;
def Train_ModOp : Train_BinaryNoGrad<"mod", "remainder", Train_NumberTensor, Train_NumberTensor> {
  let description = [{ `fmod`: sign of the dividend (C's fmod); otherwise sign of the divisor (Python's %). }];
  let arguments = (ins Train_NumberTensor:$a, Train_NumberTensor:$b, UnitAttr:$fmod);
}
def Train_EqualOp : Train_BinaryNoGrad<"equal", "a == b", Train_AnyTensor, Train_BoolTensor>;
def Train_LessOp : Train_BinaryNoGrad<"less", "a < b", Train_NumberTensor, Train_BoolTensor, [Train_Fusable]>;
def Train_LessEqualOp : Train_BinaryNoGrad<"less_equal", "a <= b", Train_NumberTensor, Train_BoolTensor, [Train_Fusable]>;
def Train_AndOp : Train_BinaryNoGrad<"and", "logical and", Train_BoolTensor, Train_BoolTensor>;
def Train_OrOp : Train_BinaryNoGrad<"or", "logical or", Train_BoolTensor, Train_BoolTensor>;
def Train_XorOp : Train_BinaryNoGrad<"xor", "logical exclusive or", Train_BoolTensor, Train_BoolTensor>;
def Train_BitwiseAndOp : Train_BinaryNoGrad<"bitwise_and", "bitwise and", Train_IntTensor, Train_IntTensor>;
def Train_BitwiseOrOp : Train_BinaryNoGrad<"bitwise_or", "bitwise or", Train_IntTensor, Train_IntTensor>;
def Train_BitwiseXorOp : Train_BinaryNoGrad<"bitwise_xor", "bitwise exclusive or", Train_IntTensor, Train_IntTensor>;

def Train_SelectOp : Train_Elementwise<"select", [DeclareOpInterfaceMethods<DifferentiableOpInterface>, Train_Fusable]> {
  let summary = "a where condition, b elsewhere; all three broadcast";
  let arguments = (ins Train_BoolTensor:$condition, Train_AnyTensor:$a, Train_AnyTensor:$b);
  let results = (outs Train_AnyTensor:$y);
}

def Train_CastOp : Train_Elementwise<"cast", [DeclareOpInterfaceMethods<DifferentiableOpInterface>, Train_Fusable]> {
  let summary = "converts the element type";
  let description = [{
    Float to narrower float rounds to nearest even; float to integer truncates toward zero; anything to i1 is
    `x != 0`. Its buffer can be reused only when both types have one width.
  }];
  let arguments = (ins Train_AnyTensor:$x, TypeAttr:$to);
  let results = (outs Train_AnyTensor:$y);
}

def Train_DropoutOp : Train_Elementwise<"dropout", [DeclareOpInterfaceMethods<DifferentiableOpInterface>],
                                         ["getFlops"], DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>> {
  let summary = "x / (1 - probability) where an element is kept, 0 where it is dropped; its own gradient's operation too";
  let description = [{
    Element i is dropped if word i % 4 of philox4x32-10 is below probability * 2^32 for the counter (i / 4, `stream`,
    step) and a key of seed and micro_batch (runtime/plan/Philox.h): one mask in forward, recomputation and backward,
    so none is saved. `stream` tells the dropouts of a model apart. Step 0 is no training step: everything is kept.
    Save class: SAVE, as random operations have it.
  }];
  let arguments = (ins Train_FloatTensor:$x, Train_I64Scalar:$seed, Train_I64Scalar:$step, Train_I64Scalar:$micro_batch,
                       F64Attr:$probability, I64Attr:$stream);
  let results = (outs Train_FloatTensor:$y);
}

def Train_GatedActivationOp : Train_Elementwise<"gated_activation", [DeclareOpInterfaceMethods<DifferentiableOpInterface>, Train_Fusable]> {
  let summary = "activation(gate) * up, one pass over memory";
  let description = [{ `activation`: "silu", "gelu", "gelu_tanh", "relu". Operands have one shape. }];
  let arguments = (ins Train_FloatTensor:$gate, Train_FloatTensor:$up, StrAttr:$activation);
  let results = (outs Train_FloatTensor:$y);
}

def Train_GatedActivationBackwardOp : Train_Elementwise<"gated_activation_backward", [Train_Fusable]> {
  let summary = "gradients of gated_activation: dy * up * activation'(gate), dy * activation(gate)";
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$gate, Train_FloatTensor:$up, StrAttr:$activation);
  let results = (outs Train_FloatTensor:$dgate, Train_FloatTensor:$dup);
}

def Train_SiluBackwardOp : Train_Elementwise<"silu_backward", [Train_Fusable]> {
  let summary = "dy * d silu(x) / dx";
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$x);
  let results = (outs Train_FloatTensor:$dx);
}
def Train_GeluBackwardOp : Train_Elementwise<"gelu_backward", [Train_Fusable]> {
  let summary = "dy * d gelu(x) / dx";
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$x, DefaultValuedStrAttr<StrAttr, "none">:$approximate);
  let results = (outs Train_FloatTensor:$dx);
}

#endif
