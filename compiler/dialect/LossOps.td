// Losses.
#ifndef AMC_DIALECT_LOSSOPS
#define AMC_DIALECT_LOSSOPS

include "compiler/dialect/TrainDialect.td"

def Train_ShiftLabelsOp : Train_ComputeOp<"shift_labels"> {
  let summary = "causal-LM labels: y[…, t] = labels[…, t + 1], ignore_index at the last position";
  let arguments = (ins Train_TensorOf<[I64]>:$labels, I64Attr:$ignore_index);
  let results = (outs Train_TensorOf<[I64]>:$y);
}
def Train_CrossEntropyOp : Train_DiffOp<"cross_entropy", [], ["getFlops"]> {
  let summary = "sum over rows of log sum e^logits - logits[label]";
  let description = [{
    logits [..., V], labels of logits' shape without the last dimension. Rows whose label is `ignore_index` count
    nothing. loss is an fp32 scalar (f64 for f64), rows added in blocks of 64, ascending; lse has the labels'
    shape. A label outside [0, V) is an error at run time.
  }];
  let arguments = (ins Train_FloatTensor:$logits, Train_TensorOf<[I64]>:$labels,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index);
  let results = (outs Train_FloatTensor:$loss, Train_FloatTensor:$lse);
}
def Train_CrossEntropyBackwardOp : Train_ComputeOp<"cross_entropy_backward", [], ["getFlops", "getReusableOperands"]> {
  let summary = "dlogits = dloss * (e^(logits - lse) - onehot(label)), zero in ignored rows";
  let arguments = (ins Train_FloatTensor:$dloss, Train_FloatTensor:$logits, Train_TensorOf<[I64]>:$labels, Train_FloatTensor:$lse,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index);
  let results = (outs Train_FloatTensor:$dlogits);
}

#endif
