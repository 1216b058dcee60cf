// The feed-forward network of a transformer layer as one operation.
#ifndef AMC_DIALECT_MLPOPS
#define AMC_DIALECT_MLPOPS

include "compiler/dialect/TrainDialect.td"

def Train_GatedMlpOp : Train_DiffOp<"gated_mlp", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], ["getFlops", "getBytesMoved", "getParts", "getWorkspaceBytes", "getCudaWorkspaceBytes"]> {
  let summary = "(activation(x gate) * (x up)) down, tiled over rows";
  let description = [{
    x is [..., K], gate and up are [K, I], down is [I, N]; each is stored the other way round if its `transpose_`
    attribute is there. The product is formed for `mlpRowTile` rows (runtime/plan/Workspace.h) at a time, so the two
    [rows, I] activations never exist whole. Every element is rounded where linear and gated_activation would round
    it and every sum runs in their order: the bits are those of the operations this one stands for. Save class:
    ALTERNATE. Sequence tiling of the MLP: ALST (Bekman et al., 2025).
  }];
  let arguments = (ins Train_FloatTensor:$x, Train_FloatTensor:$gate, Train_FloatTensor:$up, Train_FloatTensor:$down, StrAttr:$activation,
                       UnitAttr:$transpose_gate, UnitAttr:$transpose_up, UnitAttr:$transpose_down);
  let results = (outs Train_FloatTensor:$y);
}
def Train_GatedMlpBackwardOp : Train_ComputeOp<"gated_mlp_backward", [DeclareOpInterfaceMethods<WideningOpInterface>], ["getFlops", "getBytesMoved", "getParts", "getWorkspaceBytes", "getCudaWorkspaceBytes"]> {
  let summary = "gradients of gated_mlp; the activations are computed again, tile by tile";
  let description = [{
    dx = dup up^T + dgate gate^T, each product rounded to the element type before the sum. Weight gradients are summed over the tiles in
    fp32 (f64 for f64), ascending, and rounded once. With `input_only` the weights are frozen and there is dx alone.
    `wide`: the weight gradients are the sums, not rounded, and added up in place; nothing changes for f32 and f64.
  }];
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$x, Train_FloatTensor:$gate, Train_FloatTensor:$up, Train_FloatTensor:$down,
                       StrAttr:$activation, UnitAttr:$transpose_gate, UnitAttr:$transpose_up, UnitAttr:$transpose_down, UnitAttr:$input_only,
                       UnitAttr:$wide);
  let results = (outs Train_FloatTensor:$dx, Variadic<Train_FloatTensor>:$weight_gradients);
}

#endif
