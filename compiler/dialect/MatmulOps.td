// Matrix products. Accumulation in fp32 (f64 for f64), one rounding at the result. Narrower operands are widened a
// panel at a time in the workspace.
#ifndef AMC_DIALECT_MATMULOPS
#define AMC_DIALECT_MATMULOPS

include "compiler/dialect/TrainDialect.td"

class Train_Product<string mnemonic, list<Trait> traits = [], list<string> declared = []>
    : Train_Op<mnemonic, !listconcat(traits, [Pure, DeclareOpInterfaceMethods<InferTypeOpInterface>,
        DeclareOpInterfaceMethods<ComputeOpInterface, !listconcat(["evaluate", "getFlops"], declared)>])> {
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Train_MatmulOp : Train_Product<"matmul", [DeclareOpInterfaceMethods<DifferentiableOpInterface>,
    DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], ["getWorkspaceBytes", "getCudaWorkspaceBytes"]> {
  let summary = "batched matrix product, leading dimensions broadcast";
  let description = [{
    op(a) is [..., M, K] and op(b) is [..., K, N], where op swaps the last two dimensions if `transpose_a` /
    `transpose_b`. Both have rank 2 or more. Save class: ALTERNATE when one operand is a weight (a parameter or a
    view, cast or transpose of one), SAVE for the product of two activations.
  }];
  let arguments = (ins Train_NumberTensor:$a, Train_NumberTensor:$b, UnitAttr:$transpose_a, UnitAttr:$transpose_b);
  let results = (outs Train_NumberTensor:$y);
}
def Train_LinearOp : Train_Product<"linear", [DeclareOpInterfaceMethods<DifferentiableOpInterface>,
    DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], ["getWorkspaceBytes", "getCudaWorkspaceBytes"]> {
  let summary = "y = x w + bias over the last dimension of x";
  let description = [{
    x is [..., K]; w is [K, N], or [N, K] if `transpose_w` (as torch.nn.Linear keeps it); bias is [N].
    Save class: SAVE with a bias, ALTERNATE without.
  }];
  let arguments = (ins Train_FloatTensor:$x, Train_FloatTensor:$w, Optional<Train_FloatTensor>:$bias, UnitAttr:$transpose_w);
  let results = (outs Train_FloatTensor:$y);
}
def Train_LinearWeightGradOp : Train_Product<"linear_weight_grad", [DeclareOpInterfaceMethods<WideningOpInterface>], ["getWorkspaceBytes", "getCudaWorkspaceBytes"]> {
  let summary = "dw of linear: sum over all rows of x^T dy, [K, N], or [N, K] if `transpose_w`";
  let description = [{
    Rows are added up in blocks of `weightGradRowBlock` (runtime/plan/Workspace.h), ascending, in fp32 (f64 for f64),
    and the sum is rounded once: adding the blocks of a slice of rows to an fp32 sum gives the bits of the whole. `wide`:
    dw is that sum, not rounded, and needs no room in the workspace; nothing changes for f32 and f64.
  }];
  let arguments = (ins Train_FloatTensor:$x, Train_FloatTensor:$dy, UnitAttr:$transpose_w, UnitAttr:$wide);
  let results = (outs Train_FloatTensor:$dw);
}
def Train_GroupedMatmulOp : Train_Product<"grouped_matmul", [DeclareOpInterfaceMethods<DifferentiableOpInterface>,
    DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], ["getWorkspaceBytes", "getCudaWorkspaceBytes"]> {
  let summary = "mixture of experts: row i of x times the matrix of group ids[i]";
  let description = [{
    x is [N, K], w is [E, K, M], or [E, M, K] if `transpose_w`; ids is [N], each in [0, E). y is [N, M].
    The kernel sorts rows by group (in its workspace), so each group is one product. With `expected_rows` an id may be E,
    too: a row without a group, which is zero. The number is how many have one if groups are even, for the cost. Save
    class: ALTERNATE.
    MegaBlocks (Gale et al., 2022).
  }];
  let arguments = (ins Train_FloatTensor:$x, Train_FloatTensor:$w, Train_IndexTensor:$ids, UnitAttr:$transpose_w,
                       OptionalAttr<I64Attr>:$expected_rows);
  let results = (outs Train_FloatTensor:$y);
}
def Train_GroupedMatmulWeightGradOp : Train_Product<"grouped_matmul_weight_grad", [DeclareOpInterfaceMethods<WideningOpInterface>], ["getWorkspaceBytes", "getCudaWorkspaceBytes"]> {
  let summary = "dw of grouped_matmul: for each group the sum over its rows, ascending, of x^T dy";
  let description = [{
    `wide`: dw is the fp32 sum (f64 for f64), not rounded; nothing changes for f32 and f64. `expected_rows` as of
    grouped_matmul: a row without a group is added to none.
  }];
  let arguments = (ins Train_FloatTensor:$x, Train_FloatTensor:$dy, Train_IndexTensor:$ids, I64Attr:$groups, UnitAttr:$transpose_w,
                       UnitAttr:$wide, OptionalAttr<I64Attr>:$expected_rows);
  let results = (outs Train_FloatTensor:$dw);
}

#endif
