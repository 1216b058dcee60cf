// Operations that move elements without arithmetic.
#ifndef AMC_DIALECT_SHAPEOPS
#define AMC_DIALECT_SHAPEOPS

include "compiler/dialect/TrainDialect.td"

def Train_ReshapeOp : Train_Op<"reshape", [Pure, DeclareOpInterfaceMethods<InferTypeOpInterface>,
    DeclareOpInterfaceMethods<ComputeOpInterface, ["evaluate", "getFlops", "getBytesMoved"]>,
    DeclareOpInterfaceMethods<DifferentiableOpInterface>, DeclareOpInterfaceMethods<ViewOpInterface>,
    DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule", "localize"]>]> {
  let summary = "the same elements under another shape: a view, never a kernel";
  let arguments = (ins Train_AnyTensor:$x, DenseI64ArrayAttr:$shape);
  let results = (outs Train_AnyTensor:$y);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}
def Train_TransposeOp : Train_DiffOp<"transpose", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>]> {
  let summary = "permutes dimensions: y's dimension i is x's dimension permutation[i]";
  let arguments = (ins Train_AnyTensor:$x, DenseI64ArrayAttr:$permutation);
  let results = (outs Train_AnyTensor:$y);
}
def Train_BroadcastOp : Train_DiffOp<"broadcast", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule", "localize"]>]> {
  let summary = "NumPy broadcast to `shape`, materialised";
  let arguments = (ins Train_AnyTensor:$x, DenseI64ArrayAttr:$shape);
  let results = (outs Train_AnyTensor:$y);
}
def Train_SliceOp : Train_DiffOp<"slice", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule", "localize"]>]> {
  let summary = "y[i] = x[starts + i * steps], `sizes` elements a dimension; steps may be negative";
  let arguments = (ins Train_AnyTensor:$x, DenseI64ArrayAttr:$starts, DenseI64ArrayAttr:$sizes, DenseI64ArrayAttr:$steps);
  let results = (outs Train_AnyTensor:$y);
}
def Train_ConcatOp : Train_DiffOp<"concat", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>]> {
  let summary = "joins tensors along `axis` (not negative)";
  let arguments = (ins Variadic<Train_AnyTensor>:$inputs, I64Attr:$axis);
  let results = (outs Train_AnyTensor:$y);
}
def Train_PadOp : Train_DiffOp<"pad"> {
  let summary = "`low` and `high` elements of `value` around x, `interior` between its neighbours";
  let description = [{
    Result dimension: low + high + n + (n - 1) * interior, the last term 0 if n is 0. Interior padding is what the
    gradient of a slice with steps needs. None may be negative. Integer tensors pad with the integer nearest to `value`.
  }];
  let arguments = (ins Train_AnyTensor:$x, DenseI64ArrayAttr:$low, DenseI64ArrayAttr:$high, DenseI64ArrayAttr:$interior,
                       DefaultValuedAttr<F64Attr, "0.0">:$value);
  let results = (outs Train_AnyTensor:$y);
}
def Train_FullOp : Train_ComputeOp<"full"> {
  let summary = "a tensor of one value";
  let arguments = (ins F64Attr:$value, DenseI64ArrayAttr:$shape, TypeAttr:$element);
  let results = (outs Train_AnyTensor:$y);
}
def Train_IotaOp : Train_ComputeOp<"iota"> {
  let summary = "y[…, i, …] = start + i * step along dimension `axis`";
  let arguments = (ins F64Attr:$start, F64Attr:$step, I64Attr:$axis, DenseI64ArrayAttr:$shape, TypeAttr:$element);
  let results = (outs Train_NumberTensor:$y);
}
def Train_TriangleOp : Train_DiffOp<"triangle"> {
  let summary = "keeps the upper or lower triangle of the last two dimensions, zero elsewhere (ONNX Trilu)";
  let description = [{ Upper keeps column - row >= k, lower keeps column - row <= k. }];
  let arguments = (ins Train_AnyTensor:$x, BoolAttr:$upper, DefaultValuedAttr<I64Attr, "0">:$k);
  let results = (outs Train_AnyTensor:$y);
}

#endif
