// What happens to gradients.
#ifndef AMC_DIALECT_OPTIMIZEROPS
#define AMC_DIALECT_OPTIMIZEROPS

include "compiler/dialect/TrainDialect.td"

def Train_SquaredNormOp : Train_ComputeOp<"squared_norm", [], ["getFlops", "getCudaWorkspaceBytes"]> {
  let summary = "sum of squares, in f64, in blocks of 4096 elements, ascending";
  let arguments = (ins Train_FloatTensor:$x);
  let results = (outs Train_F64Scalar:$y);
}
def Train_SumScalarsOp : Train_ComputeOp<"sum_scalars"> {
  let summary = "sum in f64, in the order of the operands";
  let arguments = (ins Variadic<Train_F64Scalar>:$inputs);
  let results = (outs Train_F64Scalar:$y);
}
def Train_ClipScaleOp : Train_ComputeOp<"clip_scale", [], ["getCudaWorkspaceBytes"]> {
  let summary = "global norm of all gradients and the factor that clips it";
  let description = [{
    norm = sqrt(sum of squared norms); scale = min(1, max_norm / (norm + 1e-6)), 1 if max_norm is 0
    (torch.nn.utils.clip_grad_norm_).
  }];
  let arguments = (ins Variadic<Train_F64Scalar>:$squared_norms, F64Attr:$max_norm);
  let results = (outs Train_F32Scalar:$norm, Train_F32Scalar:$scale);
}

class Train_UpdateOp<string mnemonic, list<Trait> traits = []>
    : Train_Op<mnemonic, !listconcat(traits, [DeclareOpInterfaceMethods<UpdateOpInterface>,
        DeclareOpInterfaceMethods<ComputeOpInterface, ["evaluate", "getFlops"]>])> {
  let description = [{ For `evaluate` the outputs are the new values of the updated operands, in their order. }];
  let assemblyFormat = "operands attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def Train_AccumulateOp : Train_UpdateOp<"accumulate"> {
  let summary = "accumulator = x in micro-batch 0, accumulator + x later";
  let arguments = (ins Train_FloatTensor:$accumulator, Train_FloatTensor:$x, Train_I64Scalar:$micro_batch);
}
def Train_AdamWOp : Train_UpdateOp<"adamw", [DeclareOpInterfaceMethods<OptimizerOpInterface>]> {
  let summary = "decoupled weight decay Adam (Loshchilov and Hutter, 2019), as torch.optim.AdamW";
  let description = [{
    g = gradient * scale
    p *= 1 - lr * weight_decay
    m += (g - m) * (1 - beta1);  v = v * beta2 + g * g * (1 - beta2)
    p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon)
    Scalars are computed in f64 and rounded once. For a bf16 parameter all of it is computed in fp32 and each updated
    value rounded once, to nearest even. The moments are of the parameter's type or both fp32. With `master` (the
    parameter in fp32, a train.state) p is the master, and the parameter becomes its rounding.
  }];
  let arguments = (ins Train_FloatTensor:$parameter, Train_FloatTensor:$gradient, Train_FloatTensor:$exp_avg, Train_FloatTensor:$exp_avg_sq,
                       Train_F32Scalar:$scale, Train_F64Scalar:$learning_rate, Train_I64Scalar:$step, Optional<Train_F32Tensor>:$master,
                       F64Attr:$beta1, F64Attr:$beta2, F64Attr:$epsilon, F64Attr:$weight_decay);
}
def Train_SgdOp : Train_UpdateOp<"sgd", [AttrSizedOperandSegments, DeclareOpInterfaceMethods<OptimizerOpInterface>]> {
  let summary = "stochastic gradient descent, as torch.optim.SGD";
  let description = [{
    g = gradient * scale + weight_decay * p; with momentum: b = g at step 1, momentum * b + g later, and g = b
    (nesterov: g + momentum * b); p -= lr * g. `buffer` is there exactly when momentum is not 0. Precision and
    `master` as in adamw.
  }];
  let arguments = (ins Train_FloatTensor:$parameter, Train_FloatTensor:$gradient, Train_F32Scalar:$scale, Train_F64Scalar:$learning_rate,
                       Train_I64Scalar:$step, Optional<Train_FloatTensor>:$buffer, Optional<Train_F32Tensor>:$master,
                       F64Attr:$momentum, F64Attr:$weight_decay, UnitAttr:$nesterov);
}

#endif
