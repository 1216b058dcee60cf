// The step itself and the sources of its values.
#ifndef AMC_DIALECT_STEPOPS
#define AMC_DIALECT_STEPOPS

include "compiler/dialect/CollectiveOps.td"

def Train_FileSourceAttr : AttrDef<Train_Dialect, "FileSource"> {
  let mnemonic = "file";
  let summary = "bytes of a file: path, offset in bytes, length in bytes";
  let parameters = (ins StringRefParameter<"path, relative to the model's folder">:$path,
                        "uint64_t":$offset, "uint64_t":$length);
  let assemblyFormat = "`<` $path `,` $offset `,` $length `>`";
}

def Train_TiedNameAttr : AttrDef<Train_Dialect, "TiedName"> {
  let mnemonic = "tied";
  let summary = "another initializer holding the same weight, stored as transpose(weight, permutation); empty: alike";
  let parameters = (ins StringRefParameter<"">:$initializer, OptionalArrayRefParameter<"int64_t">:$permutation);
  let assemblyFormat = "`<` $initializer (`,` `[` $permutation^ `]`)? `>`";
}

def Train_StepOp : Train_Op<"step", [IsolatedFromAbove, Symbol, NoTerminator, SingleBlock, NoRegionArguments]> {
  let summary = "one training step of one rank";
  let description = [{
    One block. Attributes that passes leave: `train.loss` (LossKind name), `train.accumulation` (micro-batches),
    `train.arena_bytes`, …; see the passes.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword $body";
}

class Train_SourceOp<string mnemonic, list<Trait> traits = []>
    : Train_Op<mnemonic, !listconcat(traits, [DeclareOpInterfaceMethods<SourceOpInterface>])> {
  let assemblyFormat = "attr-dict `:` type(results)";
}

def Train_ParameterOp : Train_SourceOp<"parameter", [Pure]> {
  let summary = "the current value of a weight";
  let description = [{
    `source` says where the initial bytes are (row-major, little-endian); without it they are absent and given at
    run time. Bytes at `source` may have another dtype than the tensor: `source_dtype` then names it ("f32",
    "bf16", "f16"). `trainable` is decided by role when the model is imported (see compiler/import/Roles). `splits`
    lead from the whole weight, which is what `source` and `tied` speak of, to what this rank holds: applied one after
    the other, the second splits what the first left.
  }];
  let arguments = (ins StrAttr:$name, UnitAttr:$trainable, OptionalAttr<Train_FileSourceAttr>:$source,
                       OptionalAttr<StrAttr>:$source_dtype,
                       OptionalAttr<TypedArrayAttrBase<Train_TiedNameAttr, "tied names">>:$tied,
                       OptionalAttr<TypedArrayAttrBase<Train_SplitAttr, "splits">>:$splits);
  let results = (outs Train_AnyTensor:$result);
}

def Train_StateOp : Train_SourceOp<"state", [Pure]> {
  let summary = "optimizer state or a gradient accumulator; zero before the first step";
  let description = [{ 
    `kind` is "optimizer" (Adam moments, momentum, master weights) or "gradient" (accumulator over micro-batches). The
    optimizer state named "master" does not start as zero: it holds the parameter's initial value in fp32, not rounded
    to the parameter's type. "shard" holds this rank's rows of a parameter that is whole on every rank, in its type and with
    its initial value. `splits` as of train.parameter: from the whole weight's shape to this one.
  }];
  let arguments = (ins StrAttr:$name, StrAttr:$parameter, StrAttr:$kind,
                       OptionalAttr<TypedArrayAttrBase<Train_SplitAttr, "splits">>:$splits);
  let results = (outs Train_AnyTensor:$result);
  let hasVerifier = 1;
}

def Train_InputOp : Train_SourceOp<"input", [Pure]> {
  let summary = "what the runtime feeds before a micro-batch or a step";
  let description = [{
    `role`: "data", "labels", "loss_normalizer" (f32 scalar, labelled tokens of the whole step), "learning_rate"
    (f64 scalar), "step_number" (i64 scalar, from 1), "micro_batch" (i64 scalar, from 0), "seed" (i64 scalar),
    "data_rank" (i64 scalar: which of the data-parallel ranks this is, from 0).
  }];
  let arguments = (ins StrAttr:$name, DefaultValuedStrAttr<StrAttr, "data">:$role);
  let results = (outs Train_AnyTensor:$result);
  let hasVerifier = 1;
}

def Train_ConstantOp : Train_SourceOp<"constant", [Pure, ConstantLike]> {
  let summary = "a literal tensor";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs Train_AnyTensor:$result);
  let hasFolder = 1;
  let hasVerifier = 1;
}

def Train_OutputOp : Train_Op<"output"> {
  let summary = "names a value that leaves the step";
  let description = [{
    "loss", "grad_norm" or an output of the model. `sum` says that the values of all micro-batches add up. The
    value's buffer stays intact until the end of the micro-batch (or of the step).
  }];
  let arguments = (ins Train_AnyTensor:$value, StrAttr:$name, UnitAttr:$sum);
  let assemblyFormat = "$value attr-dict `:` type($value)";
}

def Train_GradientOp : Train_Op<"gradient"> {
  let summary = "names a value as the gradient of a parameter; derive-backward leaves it, attach-optimizer consumes it";
  let arguments = (ins Train_FloatTensor:$value, StrAttr:$parameter);
  let assemblyFormat = "$value attr-dict `:` type($value)";
}

def Train_MicroBatchEndOp : Train_Op<"micro_batch_end"> {
  let summary = "operations before this one run once per micro-batch, those after it once per step";
  let assemblyFormat = "attr-dict";
}

#endif
