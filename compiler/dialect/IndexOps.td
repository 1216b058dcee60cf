// Operations driven by indices. Negative indices count from the end; an index out of range is an error at run time.
// What is added (or multiplied) up in bf16 or f16 is combined in fp32 and rounded once for each element; the workspace
// is what that takes.
#ifndef AMC_DIALECT_INDEXOPS
#define AMC_DIALECT_INDEXOPS

include "compiler/dialect/TrainDialect.td"

def Train_GatherOp : Train_DiffOp<"gather", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>]> {
  let summary = "takes slices of x along `axis` (ONNX Gather): shape x[:axis] + indices + x[axis+1:]";
  let arguments = (ins Train_AnyTensor:$x, Train_IndexTensor:$indices, I64Attr:$axis);
  let results = (outs Train_AnyTensor:$y);
}
def Train_GatherBackwardOp : Train_ComputeOp<"gather_backward", [], ["getWorkspaceBytes"]> {
  let summary = "adds slices of dy into zeros of x's shape, in ascending order of the index tensor";
  let arguments = (ins Train_FloatTensor:$dy, Train_IndexTensor:$indices, I64Attr:$axis, DenseI64ArrayAttr:$shape);
  let results = (outs Train_FloatTensor:$dx);
}
def Train_EmbeddingOp : Train_DiffOp<"embedding", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule", "localize"]>]> {
  let summary = "rows of a trained table: y[…, :] = table[ids[…], :]";
  let description = [{
    With `group` the table holds this member's piece of the rows, the first piece the first member's, and ids mean rows
    of the whole: rows that other members hold are zero here, so that y is partial.
  }];
  let arguments = (ins Train_FloatTensor:$table, Train_IndexTensor:$ids, OptionalAttr<StrAttr>:$group,
                       OptionalAttr<I64Attr>:$members);
  let results = (outs Train_FloatTensor:$y);
}
def Train_EmbeddingBackwardOp : Train_ComputeOp<"embedding_backward", [DeclareOpInterfaceMethods<WideningOpInterface>], ["getWorkspaceBytes"]> {
  let summary = "dense gradient of the table, rows added in ascending token order";
  let description = [{
    `group` and `members` as of embedding; `rows` are those of this member's piece. `wide`: dtable is the fp32 sum (f64 for
    f64), not rounded; nothing changes for f32 and f64.
  }];
  let arguments = (ins Train_FloatTensor:$dy, Train_IndexTensor:$ids, I64Attr:$rows, OptionalAttr<StrAttr>:$group,
                       OptionalAttr<I64Attr>:$members, UnitAttr:$wide);
  let results = (outs Train_FloatTensor:$dtable);
}
def Train_GatherElementsOp : Train_DiffOp<"gather_elements"> {
  let summary = "y[i, j, …] = x[i, indices[i, j, …], …] along `axis` (ONNX GatherElements)";
  let arguments = (ins Train_AnyTensor:$x, Train_IndexTensor:$indices, I64Attr:$axis);
  let results = (outs Train_AnyTensor:$y);
}
def Train_ScatterElementsOp : Train_DiffOp<"scatter_elements", [], ["getWorkspaceBytes"]> {
  let summary = "x with updates written at indices along `axis` (ONNX ScatterElements)";
  let description = [{ `reduction`: "none" (duplicate indices: the last wins), "add", "mul", "max", "min". }];
  let arguments = (ins Train_AnyTensor:$x, Train_IndexTensor:$indices, Train_AnyTensor:$updates, I64Attr:$axis,
                       DefaultValuedStrAttr<StrAttr, "none">:$reduction);
  let results = (outs Train_AnyTensor:$y);
}
def Train_GatherNdOp : Train_DiffOp<"gather_nd"> {
  let summary = "ONNX GatherND";
  let arguments = (ins Train_AnyTensor:$x, Train_IndexTensor:$indices, DefaultValuedAttr<I64Attr, "0">:$batch_dims);
  let results = (outs Train_AnyTensor:$y);
}
def Train_GatherNdBackwardOp : Train_ComputeOp<"gather_nd_backward", [], ["getWorkspaceBytes"]> {
  let summary = "adds dy at indices into zeros of x's shape, ascending";
  let arguments = (ins Train_FloatTensor:$dy, Train_IndexTensor:$indices, I64Attr:$batch_dims, DenseI64ArrayAttr:$shape);
  let results = (outs Train_FloatTensor:$dx);
}
def Train_ScatterNdOp : Train_DiffOp<"scatter_nd", [], ["getWorkspaceBytes"]> {
  let summary = "ONNX ScatterND; `reduction` as in scatter_elements";
  let arguments = (ins Train_AnyTensor:$x, Train_IndexTensor:$indices, Train_AnyTensor:$updates,
                       DefaultValuedStrAttr<StrAttr, "none">:$reduction);
  let results = (outs Train_AnyTensor:$y);
}
def Train_OneHotOp : Train_ComputeOp<"one_hot"> {
  let summary = "a new dimension of `depth` at `axis`, 1 at the index, 0 elsewhere; out of range gives all 0";
  let arguments = (ins Train_IndexTensor:$indices, I64Attr:$depth, I64Attr:$axis, TypeAttr:$element);
  let results = (outs Train_AnyTensor:$y);
}
def Train_TopKOp : Train_DiffOp<"top_k"> {
  let summary = "the k largest or smallest along `axis`, sorted, ties to the lower index, and where they were";
  let arguments = (ins Train_NumberTensor:$x, I64Attr:$k, I64Attr:$axis, DefaultValuedAttr<BoolAttr, "true">:$largest);
  let results = (outs Train_NumberTensor:$values, Train_TensorOf<[I64]>:$indices);
}
def Train_ArgMaxOp : Train_ComputeOp<"arg_max"> {
  let summary = "position of the largest (or `min`: smallest) along `axis`; ties to the first (or `last`)";
  let arguments = (ins Train_NumberTensor:$x, I64Attr:$axis, BoolAttr:$keepdims, UnitAttr:$min, UnitAttr:$last);
  let results = (outs Train_TensorOf<[I64]>:$y);
}
def Train_CumsumOp : Train_DiffOp<"cumsum"> {
  let summary = "running sum along `axis`";
  let arguments = (ins Train_NumberTensor:$x, I64Attr:$axis, UnitAttr:$exclusive, UnitAttr:$reverse);
  let results = (outs Train_NumberTensor:$y);
}

#endif
