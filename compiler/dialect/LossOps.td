// Losses.
#ifndef AMC_DIALECT_LOSSOPS
#define AMC_DIALECT_LOSSOPS

include "compiler/dialect/TrainDialect.td"

def Train_ShiftLabelsOp : Train_ComputeOp<"shift_labels", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>]> {
  let summary = "causal-LM labels: y[…, t] = labels[…, t + 1], ignore_index at the last position";
  let arguments = (ins Train_TensorOf<[I64]>:$labels, I64Attr:$ignore_index);
  let results = (outs Train_TensorOf<[I64]>:$y);
}
def Train_CrossEntropyOp : Train_DiffOp<"cross_entropy", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], ["getFlops", "getCudaWorkspaceBytes"]> {
  let summary = "sum over rows of log sum e^logits - logits[label]";
  let description = [{
    logits z [..., V], labels y of logits' shape without the last dimension. With the class weights w (all 1 if
    absent), e = `label_smoothing` and lse = log sum e^z, a row adds, as torch.nn.functional.cross_entropy does,

      (1 - e) w[y] (lse - z[y]) + e / V sum over c of w[c] (lse - z[c]) + z_loss lse^2

    Rows whose label is `ignore_index` count nothing. loss is an fp32 scalar (f64 for f64), rows added in blocks of
    64, ascending; lse has the labels' shape. class_weights is [V], fp32 (f64 for f64), without gradient. A label
    outside [0, V) is an error at run time.
  }];
  let arguments = (ins Train_FloatTensor:$logits, Train_TensorOf<[I64]>:$labels, Optional<Train_FloatTensor>:$class_weights,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index, DefaultValuedAttr<F64Attr, "0.0">:$label_smoothing,
                       DefaultValuedAttr<F64Attr, "0.0">:$z_loss);
  let results = (outs Train_FloatTensor:$loss, Train_FloatTensor:$lse);
}
def Train_CrossEntropyBackwardOp : Train_ComputeOp<"cross_entropy_backward", [], ["getFlops", "getReusableOperands"]> {
  let summary = "dlogits = dloss * (a e^(logits - lse) - target), zero in ignored rows";
  let description = [{
    target is (1 - e) w[y] at the label plus e w[c] / V everywhere; a is target's sum + 2 z_loss lse.
  }];
  let arguments = (ins Train_FloatTensor:$dloss, Train_FloatTensor:$logits, Train_TensorOf<[I64]>:$labels, Train_FloatTensor:$lse,
                       Optional<Train_FloatTensor>:$class_weights,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index, DefaultValuedAttr<F64Attr, "0.0">:$label_smoothing,
                       DefaultValuedAttr<F64Attr, "0.0">:$z_loss);
  let results = (outs Train_FloatTensor:$dlogits);
}

class Train_LinearCrossEntropyBase<string mnemonic, list<Trait> traits, list<string> declared = []>
    : Train_Op<mnemonic, !listconcat(traits, [Pure, AttrSizedOperandSegments,
        DeclareOpInterfaceMethods<InferTypeOpInterface>,
        DeclareOpInterfaceMethods<ComputeOpInterface,
            !listconcat(["evaluate", "getFlops", "getBytesMoved", "getParts", "getWorkspaceBytes", "getCudaWorkspaceBytes"], declared)>])> {
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Train_LinearCrossEntropyOp : Train_LinearCrossEntropyBase<"linear_cross_entropy", [DeclareOpInterfaceMethods<DifferentiableOpInterface>,
    DeclareOpInterfaceMethods<CollectiveOpInterface>,
    DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule", "localize"]>]> {
  let summary = "cross_entropy of hidden times weight, without the logits in memory";
  let description = [{
    hidden x [..., H]; weight is [H, V], or [V, H] if `transpose_w`; bias [V]; labels of hidden's shape without the
    last dimension. The logits z = x weight + bias (softcap > 0: softcap * tanh(z / softcap)) exist a tile of tokens
    and vocabulary at a time, in fp32 (f64 for f64) whatever the operands' type; what follows is cross_entropy. lse
    [...] is all that backward needs. Cut Your Losses (Wijmans et al., 2024).

    The tiles follow from the shapes alone (runtime/plan/Workspace.h) and are added up in ascending order.
    `tokens_in_flight`, how many tiles of tokens are worked on at a time, decides the workspace and changes no bit.
    What it costs: every group in flight reads the weight again, and adds to the weight's gradient again; with fewer than
    16 (and than there are) what is done tile by tile takes longer in proportion.

    With `group` weight, bias and class_weights hold this member's piece of the classes, the first piece the
    first member's, and labels mean classes of the whole: members exchange, for each token, what they know of its
    log-sum-exp and of its label's logit, and all get the whole loss and lse. Save class: SAVE.
  }];
  let arguments = (ins Train_FloatTensor:$hidden, Train_FloatTensor:$weight, Optional<Train_FloatTensor>:$bias,
                       Train_TensorOf<[I64]>:$labels, Optional<Train_FloatTensor>:$class_weights, UnitAttr:$transpose_w,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index, DefaultValuedAttr<F64Attr, "0.0">:$label_smoothing,
                       DefaultValuedAttr<F64Attr, "0.0">:$z_loss, DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedAttr<I64Attr, "16">:$tokens_in_flight, OptionalAttr<StrAttr>:$group,
                       OptionalAttr<I64Attr>:$members);
  let results = (outs Train_FloatTensor:$loss, Train_FloatTensor:$lse);
}
def Train_LinearCrossEntropyBackwardOp : Train_LinearCrossEntropyBase<"linear_cross_entropy_backward",
    [AttrSizedResultSegments, DeclareOpInterfaceMethods<WideningOpInterface, ["isLargerWide"]>], ["getReusableOperands"]> {
  let summary = "gradients of linear_cross_entropy from logits computed again";
  let description = [{
    Any result may be absent: what is frozen costs nothing. Vocabulary tiles ascending, in each the token tiles
    ascending: logits, their gradient, its products into dhidden and into the tile of dweight and dbias, all in fp32
    (f64 for f64). A tile of dweight is rounded to the weight's type once, when all tokens have been added; dhidden
    when all the vocabulary has. `group` and `members` as of linear_cross_entropy; dhidden is then partial. `wide`: dweight
    and dbias are the fp32 sums (f64 for f64), not rounded, and dweight is added up in place; dhidden is rounded all the
    same. Nothing changes for f32 and f64.
  }];
  let arguments = (ins Train_FloatTensor:$dloss, Train_FloatTensor:$hidden, Train_FloatTensor:$weight,
                       Optional<Train_FloatTensor>:$bias, Train_TensorOf<[I64]>:$labels,
                       Optional<Train_FloatTensor>:$class_weights, Train_FloatTensor:$lse, UnitAttr:$transpose_w,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index, DefaultValuedAttr<F64Attr, "0.0">:$label_smoothing,
                       DefaultValuedAttr<F64Attr, "0.0">:$z_loss, DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedAttr<I64Attr, "16">:$tokens_in_flight, OptionalAttr<StrAttr>:$group,
                       OptionalAttr<I64Attr>:$members, UnitAttr:$wide);
  let results = (outs Optional<Train_FloatTensor>:$dhidden, Optional<Train_FloatTensor>:$dweight, Optional<Train_FloatTensor>:$dbias);
}

#endif
