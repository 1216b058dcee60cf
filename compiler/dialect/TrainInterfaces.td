// What every pass asks of an operation. No pass knows operations by name.
#ifndef AMC_DIALECT_TRAININTERFACES
#define AMC_DIALECT_TRAININTERFACES

include "mlir/IR/OpBase.td"

def ComputeOpInterface : OpInterface<"ComputeOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{
    An operation that becomes one kernel call. Cost, checkpointing class and kernel are declared here, beside the
    operation, and nowhere else.
  }];
  let methods = [
    InterfaceMethod<[{
      Evaluates the operation naively: floating point in double precision, integers in 64 bits. The oracle that
      kernels are tested against, and what constant shape chains are folded with. `inputs` are the operands
      (a null pointer for an absent optional one); `outputs` come in shaped and typed like the results, zeroed.
      Fails when a value makes the operation undefined (an index out of range).
    }], "::llvm::LogicalResult", "evaluate",
      (ins "::llvm::ArrayRef<const ::amc::HostTensor *>":$inputs,
           "::llvm::MutableArrayRef<::amc::HostTensor>":$outputs)>,
    InterfaceMethod<[{
      Floating-point operations of one execution: two for a multiply-add. Default: one per result element.
    }], "uint64_t", "getFlops", (ins), "",
      [{ return ::amc::train::defaultFlops($_op.getOperation()); }]>,
    InterfaceMethod<[{ Bytes read and written by one execution. Default: operands and results once each, an updated operand twice. }],
      "uint64_t", "getBytesMoved", (ins), "",
      [{ return ::amc::train::defaultBytesMoved($_op.getOperation()); }]>,
    InterfaceMethod<[{
      The parts of one execution that run one after the other, for its modelled time; their bytes are getBytesMoved.
      Default: none, all of it is one part.
    }], "::llvm::SmallVector<::amc::train::Work>", "getParts", (ins), "", [{ return {}; }]>,
    InterfaceMethod<[{
      What selective activation checkpointing does with the operation: SAVE (expensive or not repeatable),
      ALTERNATE (activation x weight products, every other one of a block), RECOMPUTE (the rest). Default: as
      compiler/dialect/SaveClasses.cpp's table says, which is what `amc inspect --ac-policy` prints.
    }], "::amc::train::SaveClass", "getSaveClass", (ins), "",
      [{ return ::amc::train::tabledSaveClass($_op.getOperation()); }]>,
    InterfaceMethod<[{ The runtime's name of the kernel. Default: the mnemonic. }],
      "::llvm::StringRef", "getKernelName", (ins), "",
      [{ return ::amc::train::defaultKernelName($_op.getOperation()); }]>,
    InterfaceMethod<[{
      The kernel's inputs in a plan, null where an optional one is absent. Default: the operands, see operandSlots.
    }], "::llvm::SmallVector<::mlir::Value>", "getKernelInputs", (ins), "",
      [{ return ::amc::train::operandSlots($_op.getOperation()); }]>,
    InterfaceMethod<[{
      Scratch bytes the kernel needs on the CPU while it runs; part of the plan. Default: none. Ask workspaceBytes
      (OpSupport.h) for those of the step's target.
    }], "uint64_t", "getWorkspaceBytes", (ins), "", [{ return 0; }]>,
    InterfaceMethod<[{ The same on a CUDA device. Default: none. }],
      "uint64_t", "getCudaWorkspaceBytes", (ins), "", [{ return 0; }]>,
    InterfaceMethod<[{
      Operands whose buffer a result may take over when the operand dies here and has the result's byte count:
      the kernel reads element i of it only before or while writing element i. Default: none.
    }], "::llvm::SmallVector<unsigned>", "getReusableOperands", (ins), "", [{ return {}; }]>,
    InterfaceMethod<[{
      Where that has been decided: for each result the operand whose buffer it takes over, -1 for none. Default: nothing
      has been.
    }], "::std::optional<::llvm::ArrayRef<int64_t>>", "getTakenOperands", (ins), "", [{ return ::std::nullopt; }]>,
  ];
}

def FusableOpInterface : OpInterface<"FusableOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{
    Cheap work on the elements and rows of tensors, which may share a kernel with its neighbours (train.fused). The
    operation says what it does with one element, in fp32, whatever is stored; where elements are and how many are
    computed at a time is the emitter's business, so the same description becomes CPU vectors and GPU threads.
  }];
  let methods = [
    InterfaceMethod<[{
      What is computed from what (compiler/dialect/Fusion.h). Default: results are elements of operands that broadcast.
    }], "::amc::train::FusionRule", "getFusionRule", (ins), "",
      [{ return ::amc::train::elementwiseFusion($_op.getOperation()); }]>,
    InterfaceMethod<[{ Builds one element of each result that has elements, and a term of each sum over rows. }],
      "void", "emitElement", (ins "::amc::train::ElementEmitter &":$e)>,
    InterfaceMethod<[{ Builds what an element contributes to statistic `k` of its row. Default: there are none. }],
      "::mlir::Value", "emitTerm", (ins "::amc::train::ElementEmitter &":$e, "unsigned":$k), "", [{ return {}; }]>,
    InterfaceMethod<[{ Builds statistic `k` of a row from the sum or maximum of its terms. Default: that itself. }],
      "::mlir::Value", "emitStatistic", (ins "::amc::train::ElementEmitter &":$e, "unsigned":$k, "::mlir::Value":$combined), "",
      [{ return combined; }]>,
  ];
}

def DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{ An operation that has a vector-Jacobian product. }];
  let methods = [
    InterfaceMethod<[{
      Builds the gradients of the operands from those of the results. `cotangents[i]` is null when result i has no
      gradient. `needed[j]` says whether operand j's gradient is wanted; `gradients[j]` is set for those (leave it
      null if it is zero), in the operand's type. Builds through `builder` at the operation's location only.
      Failing emits no diagnostic: it means that this use has no gradient, and the caller reports it with all others.
    }], "::llvm::LogicalResult", "buildVjp",
      (ins "::mlir::OpBuilder &":$builder, "::mlir::ValueRange":$cotangents, "::llvm::ArrayRef<bool>":$needed,
           "::llvm::MutableArrayRef<::mlir::Value>":$gradients)>
  ];
}

def CollectiveOpInterface : OpInterface<"CollectiveOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{
    All ranks of a group take part. Every rank runs the same collectives in the same order: this is what a plan
    promises and what makes waiting for each other end.
  }];
  let methods = [
    InterfaceMethod<[{
      Bytes that each member sends in one execution, by ring algorithms: (n - 1) / n of the whole for a gather or a
      scatter among n, twice that for a sum that all get.
    }], "uint64_t", "getBytesSent">,
    InterfaceMethod<"the axes whose ranks take part, by name; empty: this one does without", "::llvm::StringRef", "getGroupName">,
    InterfaceMethod<[{
      Whether the result lives from forward to backward whatever the checkpointing policy says; nothing: as it says.
    }], "::std::optional<bool>", "getKept", (ins), "", [{ return ::std::nullopt; }]>,
    InterfaceMethod<[{
      The transfers of one that computes in steps, on what is here while what is next may come: each takes its time to
      begin, and what is sent goes on beside the computation where the device can do both. 0: it does nothing but send.
    }], "uint64_t", "getSteps", (ins), "", [{ return 0; }]>,
  ];
}

def SplitPhaseOpInterface : OpInterface<"SplitPhaseOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{
    A collective of one operand and one result that may run beside computation: with the unit attribute `async`, which
    every such operation has, it is started where it stands, and operand and result are its own until the train.wait that
    reads both. That is the only reader of the result.
  }];
  let methods = [
    InterfaceMethod<"whether `async` is there", "bool", "isAsync", (ins), "", [{ return $_op.getAsync(); }]>,
    InterfaceMethod<"sets `async`; the caller makes the wait", "void", "makeAsync", (ins), "", [{ $_op.setAsync(true); }]>,
  ];
  let verify = [{ return ::amc::train::verifySplitPhase($_op); }];
}

def ShardingOpInterface : OpInterface<"ShardingOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{
    An operation that may be divided among ranks. One without it runs whole on every rank.
  }];
  let methods = [
    InterfaceMethod<[{ How (compiler/dialect/Sharding.h). Default: elementwise, with broadcasting. }],
      "::amc::train::ShardingRule", "getShardingRule", (ins), "",
      [{ return ::amc::train::broadcastRule($_op.getOperation()); }]>,
    InterfaceMethod<[{
      Called on a copy whose operands and result types are those of one of `members` ranks, a factor of kind `kind`
      having been cut: brings attributes that state shapes in line, and keeps the group if the kind asks for it.
    }], "void", "localize", (ins "::amc::train::FactorKind":$kind, "::llvm::StringRef":$group, "int64_t":$members), "",
      [{ (void)kind; (void)group; (void)members; }]>,
  ];
}

def WideningOpInterface : OpInterface<"WideningOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{
    Adds up some of its results in a wider type than they are stored in, fp32 (f64 for f64), and rounds each once. With
    the unit attribute `wide`, which every such operation has, they are stored as they were added up: rounding them
    gives the bits of the results without it. On f32 and f64, and where no such result is there, it changes nothing.
  }];
  let methods = [
    InterfaceMethod<[{ The results that `wide` is about, whether or not it is there. All are or none is wide. }],
      "::llvm::SmallVector<::mlir::OpResult>", "getSums">,
    InterfaceMethod<"whether `wide` is there", "bool", "isWide", (ins), "", [{ return $_op.getWide(); }]>,
    InterfaceMethod<[{
      Whether `wide` sums take more than narrow ones that are cast behind the operation: it reads the weight while it
      makes the gradient, which is rounded piece by piece where it is narrow, so that with the weight as much is alive
      as at the cast, and what else the operation works with. Default: no.
    }], "bool", "isLargerWide", (ins), "", [{ return false; }]>,
    InterfaceMethod<[{ Sets `wide` and the types of getSums() accordingly; what reads them is left to the caller. }],
      "void", "makeWide", (ins), "", [{
        $_op.setWide(true);
        for (::mlir::OpResult sum : $_op.getSums())
          ::amc::train::widenType(sum);
      }]>,
  ];
}

def ViewOpInterface : OpInterface<"ViewOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{ The single result is the bytes of operand 0 under another shape: no kernel, no buffer. }];
  let methods = [
    InterfaceMethod<"whether a plan has an instruction for it all the same, which counts as time. Default: no",
      "bool", "isInstruction", (ins), "", [{ return false; }]>
  ];
}

def SourceOpInterface : OpInterface<"SourceOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{ Brings a value into the step without computing it: parameter, state, input, constant. }];
}

def UpdateOpInterface : OpInterface<"UpdateOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{
    Mutates some operands in place; those are results of source operations. Every other reader of such a value in
    the same run of the step must stand before it, unless it is an update that says that it follows.
  }];
  let methods = [
    InterfaceMethod<[{ Indices of the operands that are overwritten. }],
      "::llvm::SmallVector<unsigned>", "getUpdatedOperands">,
    InterfaceMethod<[{
      Indices of the operands that are read as an update before this one has left them; it must stand behind that.
      Default: none.
    }], "::llvm::SmallVector<unsigned>", "getFollowedOperands", (ins), "", [{ return {}; }]>
  ];
}

def OptimizerOpInterface : OpInterface<"OptimizerOpInterface"> {
  let cppNamespace = "::amc::train";
  let description = [{ Updates one parameter from its gradient. }];
  let methods = [
    InterfaceMethod<[{ The parameter, or the state that holds this rank's rows of it (train.refresh). }],
      "::mlir::Value", "getParameterValue">,
    InterfaceMethod<"its gradient before clipping", "::mlir::Value", "getGradientValue">,
    InterfaceMethod<"its state values (train.state)", "::llvm::SmallVector<::mlir::Value>", "getStateValues">
  ];
}

#endif
