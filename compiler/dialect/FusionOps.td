// Groups of cheap operations that run as one kernel.
#ifndef AMC_DIALECT_FUSIONOPS
#define AMC_DIALECT_FUSIONOPS

include "compiler/dialect/TrainDialect.td"

def Train_YieldOp : Train_Op<"yield", [Pure, Terminator]> {
  let summary = "what of a fused group is needed outside it; ends a train.fused and a plan.kernel";
  let arguments = (ins Variadic<Train_AnyTensor>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

def Train_FusedOp : Train_Op<"fused", [IsolatedFromAbove, SingleBlock, Pure,
    DeclareOpInterfaceMethods<ComputeOpInterface, ["evaluate", "getFlops", "getWorkspaceBytes", "getCudaWorkspaceBytes", "getReusableOperands", "getTakenOperands"]>]> {
  let summary = "operations that run as one kernel, a row at a time";
  let description = [{
    The body is a piece of a step: operations with FusableOpInterface, views between them, and what is full of one number,
    on the group's operands.
    All have one domain; what is used inside only is never in memory. `taken` has for each result the operand whose bytes
    it stands in, -1 for none. What it means is what its operations mean one after the other.
  }];
  let arguments = (ins Variadic<Train_AnyTensor>:$inputs, DenseI64ArrayAttr:$taken);
  let results = (outs Variadic<Train_AnyTensor>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let hasRegionVerifier = 1;
  let hasCustomAssemblyFormat = 1;
}

#endif
