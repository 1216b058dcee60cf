// The train dialect: one transformer training step as a graph of tensor operations.
#ifndef AMC_DIALECT_TRAINDIALECT
#define AMC_DIALECT_TRAINDIALECT

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/IR/RegionKindInterface.td"
include "compiler/dialect/TrainInterfaces.td"

def Train_Dialect : Dialect {
  let name = "train";
  let cppNamespace = "::amc::train";
  let summary = "one training step: forward, backward and optimizer, on statically shaped tensors";
  let description = [{
    Values are ranked tensors of static shape. A `train.step` holds the whole step as one block; the order of its
    operations is the schedule once `--schedule` has run. Parameters and optimizer state are values of source
    operations (`train.parameter`, `train.state`); the operations that update them mutate them in place and have
    no other way to do so.

    Discardable attributes that passes leave on operations:
      train.phase   "forward" (absent means forward), "backward", "recompute", "optimizer"
      train.block   i64, the transformer block that an operation belongs to
      train.saved   unit, the operation's results live until backward reads them
      train.offsets i64 array, one arena offset in bytes for each result (after AssignOffsets)
      train.workspace_offset i64, arena offset in bytes of the operation's workspace (after AssignOffsets)
      train.joined_flops i64, FLOPs of a backward train.fused that are computed again (after FuseElementwise)
  }];
  let useDefaultAttributePrinterParser = 1;
  let usePropertiesForAttributes = 1;
}

// The derivative is zero wherever it exists: gradients stop here and none is missing.
def Train_ZeroGradient : NativeOpTrait<"ZeroGradient"> { let cppNamespace = "::amc::train"; }

// May share a kernel with its neighbours; elementwise unless it says otherwise.
def Train_Fusable : DeclareOpInterfaceMethods<FusableOpInterface>;
class Train_FusableRows<list<string> methods> : DeclareOpInterfaceMethods<FusableOpInterface, !listconcat(["getFusionRule"], methods)>;

// Element types that tensors of a step can have.
def Train_Float : AnyTypeOf<[F32, BF16, F16, F64], "floating-point number">;
def Train_Int : AnyTypeOf<[I64, I32, I16, I8, UI8, UI16, UI32, UI64], "integer">;
def Train_Element : AnyTypeOf<[Train_Float, Train_Int, I1], "floating-point number, integer or i1">;

// tensor_c4: no tensor has more elements than maxElements (OpSupport.h), so that sizes never overflow.
def Train_BoundedPred : CPred<[{[](::llvm::ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t dim : shape)
    if (dim > 0 && (__builtin_mul_overflow(count, dim, &count) || count > int64_t(1) << 48))
      return false;
  return true;
}(::llvm::cast<::mlir::ShapedType>($_self).getShape())}]>;
class Train_TensorOf<list<Type> elements>
    : RankedTensorOf<elements, [HasStaticShapePred, Train_BoundedPred], "statically shaped tensor (2^48 elements at most)">;

def Train_AnyTensor : Train_TensorOf<[Train_Element]>;
def Train_FloatTensor : Train_TensorOf<[Train_Float]>;
def Train_IntTensor : Train_TensorOf<[Train_Int]>;
def Train_NumberTensor : Train_TensorOf<[Train_Float, Train_Int]>;
def Train_IndexTensor : Train_TensorOf<[I64, I32]>;
def Train_BoolTensor : Train_TensorOf<[I1]>;
def Train_F32Tensor : Train_TensorOf<[F32]>;
def Train_F64Scalar : 0DTensorOf<[F64]>;
def Train_F32Scalar : 0DTensorOf<[F32]>;
def Train_I64Scalar : 0DTensorOf<[I64]>;

class Train_Op<string mnemonic, list<Trait> traits = []> : Op<Train_Dialect, mnemonic, traits>;

// A pure computation whose result types follow from operands and attributes: one function, inferReturnTypes,
// both verifies and infers. Every such op also says how to evaluate itself (the oracle), what it costs and what
// checkpointing should think of it.
class Train_ComputeOp<string mnemonic, list<Trait> traits = [], list<string> declared = []>
    : Train_Op<mnemonic, !listconcat(traits, [Pure,
        DeclareOpInterfaceMethods<InferTypeOpInterface>,
        DeclareOpInterfaceMethods<ComputeOpInterface, !listconcat(["evaluate"], declared)>])> {
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

// … that has a vector-Jacobian product.
class Train_DiffOp<string mnemonic, list<Trait> traits = [], list<string> declared = []>
    : Train_ComputeOp<mnemonic, !listconcat(traits, [DeclareOpInterfaceMethods<DifferentiableOpInterface>]), declared>;

#endif
