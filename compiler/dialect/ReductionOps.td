// Reductions and softmax. Sums accumulate in fp32 (f64 for f64) on a fixed grid.
#ifndef AMC_DIALECT_REDUCTIONOPS
#define AMC_DIALECT_REDUCTIONOPS

include "compiler/dialect/TrainDialect.td"

class Train_Reduction<string mnemonic, string what, list<Trait> traits = []>
    : Train_DiffOp<mnemonic, !listconcat(traits, [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>]),
                   ["getFlops", "getCudaWorkspaceBytes"]> {
  let summary = what;
  let description = [{ `axes` are ascending and not negative; reducing none is the identity. }];
  let arguments = (ins Train_NumberTensor:$x, DenseI64ArrayAttr:$axes, BoolAttr:$keepdims);
  let results = (outs Train_NumberTensor:$y);
}
def Train_ReduceSumOp : Train_Reduction<"reduce_sum", "sum over axes", [DeclareOpInterfaceMethods<WideningOpInterface>]> {
  let description = [{
    `axes` are ascending and not negative; reducing none is the identity. `wide`: y is the fp32 sum (f64 for f64), not
    rounded; nothing changes for f32, f64 and integers.
  }];
  let arguments = (ins Train_NumberTensor:$x, DenseI64ArrayAttr:$axes, BoolAttr:$keepdims, UnitAttr:$wide);
}
def Train_ReduceMeanOp : Train_Reduction<"reduce_mean", "mean over axes">;
def Train_ReduceProdOp : Train_Reduction<"reduce_prod", "product over axes">;
def Train_ReduceMaxOp : Train_Reduction<"reduce_max", "largest over axes; equal elements share the gradient"> {
  let description = [{ Save class SAVE, as the reference systems have it. }];
}
def Train_ReduceMinOp : Train_Reduction<"reduce_min", "smallest over axes; equal elements share the gradient">;

def Train_SoftmaxOp : Train_DiffOp<"softmax", [Train_FusableRows<["emitTerm", "emitStatistic"]>, DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], ["getFlops"]> {
  let summary = "e^x / sum e^x along `axis`, maximum subtracted";
  let arguments = (ins Train_FloatTensor:$x, I64Attr:$axis);
  let results = (outs Train_FloatTensor:$y);
}
def Train_SoftmaxBackwardOp : Train_ComputeOp<"softmax_backward", [Train_FusableRows<["emitTerm"]>], ["getFlops"]> {
  let summary = "y * (dy - sum(dy * y))";
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$y, I64Attr:$axis);
  let results = (outs Train_FloatTensor:$dx);
}
def Train_LogSoftmaxOp : Train_DiffOp<"log_softmax", [Train_FusableRows<["emitTerm", "emitStatistic"]>, DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], ["getFlops"]> {
  let summary = "x - log sum e^x along `axis`";
  let arguments = (ins Train_FloatTensor:$x, I64Attr:$axis);
  let results = (outs Train_FloatTensor:$y);
}
def Train_LogSoftmaxBackwardOp : Train_ComputeOp<"log_softmax_backward", [Train_FusableRows<["emitTerm"]>], ["getFlops"]> {
  let summary = "dy - e^y * sum(dy)";
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$y, I64Attr:$axis);
  let results = (outs Train_FloatTensor:$dx);
}

#endif
