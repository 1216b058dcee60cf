// What ranks do together. A group is named by mesh axes (runtime/plan/Mesh.h); `members` is how many ranks are in it.
//
// Over the ranks of a group a value is one of
//   alike     every member holds the same
//   spread    every member holds its rows of one dimension, ceil(size / members) of them; behind the dimension's end
//             they are zero
//   partial   the value is the sum of what the members hold
// and the gradient of what is alike is alike, of what is spread spread, of what is partial alike. A value that is alike
// but goes into each member's own share of the work has a partial gradient there: `vary` stands between the two. With
// this convention (that of jax.shard_map's varying types, and of Megatron's f and g) each operation's gradient is
// another collective, and no pass needs to know about ranks to differentiate.
//
// A collective may be split in two: with `async` it is only started where it stands, runs beside the operations behind it,
// and is there behind its train.wait. overlap-collectives does that to a scheduled step; nothing before it may.
//
// Sums are taken in ascending order of members, in fp32 (f64 for f64), and rounded once, whatever the type of what
// members contribute. The gradient of a narrower value is derived as a sum of fp32, so that nothing is rounded that need
// not be; widen-gradients makes it one of narrow contributions where those have been rounded all the same.
#ifndef AMC_DIALECT_COLLECTIVEOPS
#define AMC_DIALECT_COLLECTIVEOPS

include "compiler/dialect/TrainDialect.td"

def Train_SplitAttr : AttrDef<Train_Dialect, "Split"> {
  let mnemonic = "split";
  let summary = "a dimension of `size` elements, in `blocks` equal blocks, each of which is spread over the members of a group";
  let parameters = (ins "int64_t":$dim, StringRefParameter<"">:$group, "int64_t":$members, "int64_t":$size,
                        DefaultValuedParameter<"int64_t", "1">:$blocks);
  let assemblyFormat = "`<` $dim `,` $group `,` $members `,` $size (`,` $blocks^)? `>`";
}

class Train_CollectiveOp<string mnemonic, list<string> declared = [], list<string> more = [], list<Trait> traits = [SplitPhaseOpInterface]>
    : Train_DiffOp<mnemonic, !listconcat([DeclareOpInterfaceMethods<CollectiveOpInterface, more>,
                                          DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>], traits),
                   !listconcat(["getFlops", "getBytesMoved"], declared)>;

def Train_AllGatherOp : Train_CollectiveOp<"all_gather", [], ["getKept"]> {
  let summary = "spread to alike: every member's rows of dimension `dim`, which has `size`";
  let description = [{
    What is gathered goes into each member's own work, so that its gradient is partial: reduce_scatter. With `alike` all
    members do the same with it, so that the gradient is alike: take_piece. `reshard` says
    that the result should not live from forward to backward whatever the checkpointing policy (FSDP's "reshard after
    forward"), `retain` that it should; with neither, the policy decides. Save class: SAVE for activations, RECOMPUTE
    for parameters.
  }];
  let arguments = (ins Train_AnyTensor:$piece, I64Attr:$dim, I64Attr:$size, StrAttr:$group, I64Attr:$members,
                       UnitAttr:$reshard, UnitAttr:$retain, UnitAttr:$alike, UnitAttr:$async);
  let results = (outs Train_AnyTensor:$whole);
}
def Train_ReduceScatterOp : Train_CollectiveOp<"reduce_scatter"> {
  let summary = "partial to spread: this member's rows of the sum over members";
  let arguments = (ins Train_FloatTensor:$whole, I64Attr:$dim, StrAttr:$group, I64Attr:$members, UnitAttr:$async);
  let results = (outs Train_FloatTensor:$piece);
}
def Train_AllReduceOp : Train_CollectiveOp<"all_reduce", ["getReusableOperands"]> {
  let summary = "partial to alike: the sum over members";
  let arguments = (ins Train_FloatTensor:$x, StrAttr:$group, I64Attr:$members, UnitAttr:$async);
  let results = (outs Train_FloatTensor:$y);
}
// Not in two phases: what rows wait for on their way to experts and back is all that there is to do.
def Train_AllToAllOp : Train_CollectiveOp<"all_to_all", ["getWorkspaceBytes", "getCudaWorkspaceBytes"], [], []> {
  let summary = "every member gets a part of everyone's x: spread along one dimension before, along another after";
  let description = [{
    x is cut along `split_dim` into a part for each member; what comes is joined along `concat_dim`, in the order of
    members. Its gradient is the way back. Save class: SAVE.
  }];
  let arguments = (ins Train_AnyTensor:$x, I64Attr:$split_dim, I64Attr:$concat_dim, StrAttr:$group, I64Attr:$members);
  let results = (outs Train_AnyTensor:$y);
}
def Train_WaitOp : Train_Op<"wait", [DeclareOpInterfaceMethods<ComputeOpInterface, ["evaluate", "getFlops", "getBytesMoved"]>,
    DeclareOpInterfaceMethods<ViewOpInterface, ["isInstruction"]>, AllTypesMatch<["started", "done"]>]> {
  let summary = "returns when the collective that `started` is the result of has written all of it";
  let description = [{
    `done` is the bytes of `started`, which nothing but this may read; `source` is what the collective reads. By reading
    both, the wait keeps both intact while the collective runs; where an all_reduce works in place, the two are one
    buffer. Every other reader of the result reads `done`. It has no gradient, since it is made behind all decisions.

    ```mlir
    %w = train.all_gather %p {async, dim = 0 : i64, group = "dp_shard", members = 2 : i64, size = 8 : i64} : (tensor<4xf32>) -> tensor<8xf32>
    %a = train.exp %x : (tensor<8xf32>) -> tensor<8xf32>       // meanwhile
    %v = train.wait %w, %p : tensor<8xf32>, tensor<4xf32>
    %b = train.mul %a, %v : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
    ```
  }];
  let arguments = (ins Train_AnyTensor:$started, Train_AnyTensor:$source);
  let results = (outs Train_AnyTensor:$done);
  let assemblyFormat = "$started `,` $source attr-dict `:` type($started) `,` type($source)";
  let hasVerifier = 1;
}
def Train_VaryOp : Train_Op<"vary", [Pure, DeclareOpInterfaceMethods<InferTypeOpInterface>,
    DeclareOpInterfaceMethods<ComputeOpInterface, ["evaluate", "getFlops", "getBytesMoved"]>,
    DeclareOpInterfaceMethods<DifferentiableOpInterface>, DeclareOpInterfaceMethods<ViewOpInterface>,
    DeclareOpInterfaceMethods<ShardingOpInterface>]> {
  let summary = "alike, used in each member's own work from here on: the bytes of x; its gradient is an all_reduce";
  let arguments = (ins Train_AnyTensor:$x, StrAttr:$group, I64Attr:$members);
  let results = (outs Train_AnyTensor:$y);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Train_TakePieceOp : Train_DiffOp<"take_piece", [DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>]> {
  let summary = "alike to spread: this member's rows; nothing is sent";
  let description = [{
    With `zigzag` member r of R takes chunks r and 2 R - 1 - r of 2 R equal ones, in this order: the pieces of all members,
    one behind the other, are then the storage order of attention's `zigzag`. It has no gradient yet.
  }];
  let arguments = (ins Train_AnyTensor:$whole, I64Attr:$dim, StrAttr:$group, I64Attr:$members, UnitAttr:$zigzag);
  let results = (outs Train_AnyTensor:$piece);
}

def Train_RefreshOp : Train_Op<"refresh", [
    DeclareOpInterfaceMethods<UpdateOpInterface, ["getFollowedOperands"]>,
    DeclareOpInterfaceMethods<ComputeOpInterface,
        ["evaluate", "getFlops", "getBytesMoved", "getKernelName", "getKernelInputs"]>,
    DeclareOpInterfaceMethods<CollectiveOpInterface>]> {
  let summary = "the parameter becomes what its shards are: every member's rows of dimension `dim`, gathered in place";
  let description = [{
    `shard` is the state "shard", this rank's rows of a parameter that is whole on every rank: what the optimizer has
    updated just before. The next step starts with the parameter that is written here. For `evaluate` the output is the
    new value of the parameter.
  }];
  let arguments = (ins Train_FloatTensor:$parameter, Train_FloatTensor:$shard, I64Attr:$dim, I64Attr:$size,
                       StrAttr:$group, I64Attr:$members);
  let assemblyFormat = "operands attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

#endif
