// Normalisations over the last dimension. Statistics are fp32 (f64 for f64), one per row.
#ifndef AMC_DIALECT_NORMOPS
#define AMC_DIALECT_NORMOPS

include "compiler/dialect/TrainDialect.td"

def Train_RmsNormOp : Train_DiffOp<"rms_norm", [Train_FusableRows<["emitTerm", "emitStatistic"]>, DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], ["getFlops"]> {
  let summary = "y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon)";
  let description = [{ x [..., D], weight [D] or absent; rstd has x's shape without the last dimension. }];
  let arguments = (ins Train_FloatTensor:$x, Optional<Train_FloatTensor>:$weight, F64Attr:$epsilon);
  let results = (outs Train_FloatTensor:$y, Train_FloatTensor:$rstd);
}
def Train_RmsNormBackwardOp : Train_ComputeOp<"rms_norm_backward", [Train_FusableRows<["emitTerm", "emitStatistic"]>, DeclareOpInterfaceMethods<WideningOpInterface>], ["getFlops", "getWorkspaceBytes", "getCudaWorkspaceBytes"]> {
  let summary = "dx and dweight of rms_norm";
  let description = [{
    With g = dy * weight: dx = rstd * (g - x * rstd^2 * mean(g * x)), dweight = sum over rows of dy * x * rstd
    (blocks of 64 rows, then blocks in ascending order; partial sums are workspace). Without weight there is no
    dweight. `wide`: dweight is the fp32 sum (f64 for f64), not rounded; nothing changes for f32 and f64.
  }];
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$x, Train_FloatTensor:$rstd, Optional<Train_FloatTensor>:$weight,
                       UnitAttr:$wide);
  let results = (outs Train_FloatTensor:$dx, Optional<Train_FloatTensor>:$dweight);
}
def Train_LayerNormOp : Train_DiffOp<"layer_norm", [Train_FusableRows<["emitTerm", "emitStatistic"]>, AttrSizedOperandSegments, DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], ["getFlops"]> {
  let summary = "y = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + epsilon)";
  let arguments = (ins Train_FloatTensor:$x, Optional<Train_FloatTensor>:$weight, Optional<Train_FloatTensor>:$bias, F64Attr:$epsilon);
  let results = (outs Train_FloatTensor:$y, Train_FloatTensor:$mean, Train_FloatTensor:$rstd);
}
def Train_LayerNormBackwardOp : Train_ComputeOp<"layer_norm_backward", [Train_FusableRows<["emitTerm", "emitStatistic"]>, AttrSizedResultSegments, DeclareOpInterfaceMethods<WideningOpInterface>], ["getFlops", "getWorkspaceBytes", "getCudaWorkspaceBytes"]> {
  let summary = "dx, dweight and dbias of layer_norm";
  let description = [{
    With h = (x - mean) * rstd and g = dy * weight: dx = rstd * (g - mean(g) - h * mean(g * h)); dweight = sum of
    dy * h, dbias = sum of dy over rows, in blocks of 64 rows as in rms_norm_backward. dweight and dbias are both
    there or (without weight) both absent. `wide` as in rms_norm_backward, for both.
  }];
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$x, Train_FloatTensor:$mean, Train_FloatTensor:$rstd,
                       Optional<Train_FloatTensor>:$weight, UnitAttr:$wide);
  let results = (outs Train_FloatTensor:$dx, Optional<Train_FloatTensor>:$dweight, Optional<Train_FloatTensor>:$dbias);
}

#endif
