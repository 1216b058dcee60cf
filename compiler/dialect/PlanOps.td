// The plan dialect: what amrun executes, still readable. One to one with runtime/plan/plan.proto, where the meaning of
// every number is defined; compiler/emit writes it out.
#ifndef AMC_DIALECT_PLANOPS
#define AMC_DIALECT_PLANOPS

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/IR/RegionKindInterface.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let cppNamespace = "::amc::plan";
  let summary = "buffers at fixed places and kernel calls in order";
  let description = [{
    A `plan.program` lists buffers, then parameters, constants, inputs and outputs, then calls. Positions of calls
    count from 0 in the order in which they stand; lifetimes are half-open intervals of them. Bytes everywhere.
  }];
  let useDefaultAttributePrinterParser = 1;
  let usePropertiesForAttributes = 1;
}

def Plan_ViewAttr : AttrDef<Plan_Dialect, "View"> {
  let mnemonic = "view";
  let summary = "a contiguous row-major tensor: buffer number, byte offset from the buffer's start, tensor type";
  let parameters = (ins "uint64_t":$buffer, "uint64_t":$byteOffset, "::mlir::RankedTensorType":$type);
  let assemblyFormat = "`<` $buffer `,` $byteOffset `,` $type `>`";
}

class Plan_Op<string mnemonic, list<Trait> traits = []> : Op<Plan_Dialect, mnemonic, traits>;

def Plan_ProgramOp : Plan_Op<"program", [IsolatedFromAbove, Symbol, NoTerminator, SingleBlock, NoRegionArguments]> {
  let summary = "one step: every buffer placed, every call in order";
  let description = [{
    Calls [0, forward_end) are the forward pass, [0, micro_batch_end) run once per micro-batch, the rest once per
    step. The verifier checks that buffers are numbered in order and lie in the arena, and that every view lies in its
    buffer. What passes left on the step (train.loss, train.optimizer, …) stays as discardable attributes.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$arena_bytes, I64Attr:$alignment, I64Attr:$forward_end,
                       I64Attr:$micro_batch_end, I64Attr:$accumulation);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword $body";
  let hasRegionVerifier = 1;
}

def Plan_BufferOp : Plan_Op<"buffer", [HasParent<"ProgramOp">]> {
  let summary = "bytes [offset, offset + bytes) of the arena, intact during calls [first, last)";
  let arguments = (ins I64Attr:$number, I64Attr:$offset, I64Attr:$bytes, I64Attr:$first, I64Attr:$last,
                       StrAttr:$category, StrAttr:$name, UnitAttr:$persistent);
  let assemblyFormat = "$number attr-dict";
}

def Plan_ParameterOp : Plan_Op<"parameter", [HasParent<"ProgramOp">]> {
  let summary = "a weight, the states that belong to it, and its gradient (complete behind call `gradient_ready`)";
  let description = [{
    `source`, `source_dtype`, `tied` and `splits` as on train.parameter; `state_splits` has a list for each state, and
    the gradient is split as `gradient_splits` say; without them, as the parameter is.
  }];
  let arguments = (ins StrAttr:$name, Plan_ViewAttr:$view, UnitAttr:$trainable, OptionalAttr<AnyAttr>:$source,
                       OptionalAttr<StrAttr>:$source_dtype, OptionalAttr<ArrayAttr>:$tied, StrArrayAttr:$state_names,
                       TypedArrayAttrBase<Plan_ViewAttr, "views">:$states, OptionalAttr<Plan_ViewAttr>:$gradient,
                       OptionalAttr<I64Attr>:$gradient_ready,
                       OptionalAttr<ArrayAttr>:$splits, OptionalAttr<ArrayAttr>:$state_splits,
                       OptionalAttr<ArrayAttr>:$gradient_splits);
  let assemblyFormat = "$name attr-dict";
}

def Plan_ConstantOp : Plan_Op<"constant", [HasParent<"ProgramOp">]> {
  let summary = "a literal tensor";
  let arguments = (ins Plan_ViewAttr:$view, ElementsAttr:$value);
  let assemblyFormat = "$view `=` $value attr-dict";
}

def Plan_InputOp : Plan_Op<"input", [HasParent<"ProgramOp">]> {
  let summary = "what the runtime writes before a micro-batch or a step; roles as of train.input";
  let arguments = (ins StrAttr:$name, StrAttr:$role, Plan_ViewAttr:$view);
  let assemblyFormat = "$name attr-dict";
}

def Plan_OutputOp : Plan_Op<"output", [HasParent<"ProgramOp">]> {
  let summary = "what the runtime may read once call `ready` has run";
  let arguments = (ins StrAttr:$name, Plan_ViewAttr:$view, I64Attr:$ready, UnitAttr:$sum);
  let assemblyFormat = "$name attr-dict";
}

def Plan_KernelOp : Plan_Op<"kernel", [HasParent<"ProgramOp">, IsolatedFromAbove, SingleBlock]> {
  let summary = "a kernel that is generated: the body of the train.fused that calls with its number run";
  let description = [{
    Calls of the kernel "fused" name one by their argument `number`; groups that do the same share it. The block's
    arguments are the calls' inputs, what it yields are their outputs.
  }];
  let arguments = (ins I64Attr:$number, StrAttr:$name, I64Attr:$workspace_bytes, DenseI64ArrayAttr:$taken);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$number $name attr-dict-with-keyword $body";
}

def Plan_CallOp : Plan_Op<"call", [HasParent<"ProgramOp">]> {
  let summary = "runs a kernel on views; `unit` stands for an absent optional operand or result";
  let description = [{
    Of `flops`, a call of backward computes `recompute_flops` again on the way.
  }];
  let arguments = (ins StrAttr:$kernel, ArrayAttr:$inputs, ArrayAttr:$outputs, ArrayAttr:$workspaces,
                       DictionaryAttr:$arguments, StrAttr:$phase, I64Attr:$flops,
                       OptionalAttr<I64Attr>:$recompute_flops);
  let assemblyFormat = "$kernel attr-dict";
}

#endif
