// Type arithmetic, broadcasting and graph-building helpers; see OpSupport.h.
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/Mesh.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace amc::train {

uint64_t byteSize(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  unsigned bits = tensor.getElementType().getIntOrFloatBitWidth();
  return static_cast<uint64_t>(tensor.getNumElements()) * (bits < 8 ? 1 : bits / 8);
}

uint64_t defaultFlops(Operation *op) {
  uint64_t elements = 0;
  for (Type type : op->getResultTypes())
    elements += cast<RankedTensorType>(type).getNumElements();
  return elements;
}

uint64_t defaultBytesMoved(Operation *op) {
  uint64_t bytes = 0;
  for (Type type : op->getOperandTypes())
    bytes += byteSize(type);
  for (Type type : op->getResultTypes())
    bytes += byteSize(type);
  if (auto update = dyn_cast<UpdateOpInterface>(op))
    for (unsigned at : update.getUpdatedOperands())
      bytes += byteSize(op->getOperand(at).getType());
  return bytes;
}

uint64_t bytesMoved(ArrayRef<Work> parts) {
  uint64_t bytes = 0;
  for (const Work &part : parts)
    bytes = llvm::SaturatingMultiplyAdd(part.bytes, part.times, bytes);
  return bytes;
}

StringRef defaultKernelName(Operation *op) { return op->getName().stripDialect(); }

Type statisticType(Type element) {
  return element.isF64() ? element : Float32Type::get(element.getContext());
}

void widenType(Value v) { v.setType(RankedTensorType::get(shapeOf(v), statisticType(elementOf(v)))); }

std::optional<SmallVector<int64_t>> broadcastShapes(ArrayRef<ArrayRef<int64_t>> shapes) {
  size_t rank = 0;
  for (ArrayRef<int64_t> shape : shapes)
    rank = std::max(rank, shape.size());
  SmallVector<int64_t> result(rank, 1);
  for (ArrayRef<int64_t> shape : shapes) {
    size_t skip = rank - shape.size();
    for (size_t i = 0; i < shape.size(); ++i) {
      int64_t &have = result[skip + i];
      if (have == 1)
        have = shape[i];
      else if (shape[i] != 1 && shape[i] != have)
        return std::nullopt;
    }
  }
  return result;
}

std::string shapeString(ArrayRef<int64_t> shape) {
  if (shape.empty())
    return "scalar";
  std::string text;
  for (int64_t dim : shape)
    text += (text.empty() ? "" : "x") + std::to_string(dim);
  return text;
}

LogicalResult inferError(std::optional<Location> loc, const Twine &message) {
  return emitOptionalError(loc, message);
}

bool isElementType(Type type) {
  if (auto integer = dyn_cast<IntegerType>(type)) {
    if (integer.isSigned()) // the dialect's integers are signless or unsigned
      return false;
    unsigned width = integer.getWidth();
    return (width == 1 && integer.isSignless()) || width == 8 || width == 16 || width == 32 || width == 64;
  }
  return isa<Float32Type, BFloat16Type, Float16Type, Float64Type>(type);
}

LogicalResult inferTensor(std::optional<Location> loc, ArrayRef<int64_t> shape, Type element,
                          SmallVectorImpl<Type> &types) {
  // tensor_c1: the dialect has the element type.
  if (!isElementType(element)) {
    std::string text;
    llvm::raw_string_ostream(text) << element;
    return inferError(loc, "element type is " + text + ", should be a float, an integer of 8 to 64 bits or i1");
  }
  // tensor_c2: no dimension is negative (the dynamic marker is negative too).
  // A zero dimension does not excuse the others: their product alone is bounded, so that strides never overflow.
  int64_t count = 1;
  for (int64_t dim : shape) {
    if (dim < 0)
      return inferError(loc, "dimension is " + Twine(dim) + ", should be 0 or more");
    // tensor_c3: the element count is bounded.
    if (dim > 0 && (__builtin_mul_overflow(count, dim, &count) || count > maxElements))
      return inferError(loc, "tensor of " + shapeString(shape) + " has more than 2^48 elements");
  }
  types.push_back(RankedTensorType::get(shape, element));
  return success();
}

LogicalResult inferTensors(std::optional<Location> loc, ArrayRef<RankedTensorType> of, SmallVectorImpl<Type> &types) {
  for (RankedTensorType type : of)
    if (failed(inferTensor(loc, type.getShape(), type.getElementType(), types)))
      return failure();
  return success();
}

std::string typeString(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

std::string numberString(const APFloat &value) {
  SmallString<24> text;
  value.toString(text);
  return std::string(text);
}

LogicalResult inferExpect(std::optional<Location> loc, const Twine &name, Value value, Type expected) {
  if (value.getType() == expected)
    return success();
  return inferError(loc, name + " is " + typeString(value.getType()) + ", should be " + typeString(expected));
}

Value scalar(OpBuilder &b, Location loc, double value, Type element) {
  return full(b, loc, value, RankedTensorType::get({}, element));
}

Value full(OpBuilder &b, Location loc, double value, RankedTensorType type) {
  return FullOp::create(b, loc, b.getF64FloatAttr(value), b.getDenseI64ArrayAttr(type.getShape()),
                        TypeAttr::get(type.getElementType()));
}

Value reshape(OpBuilder &b, Location loc, Value x, ArrayRef<int64_t> shape) {
  if (shapeOf(x) == shape)
    return x;
  return ReshapeOp::create(b, loc, x, b.getDenseI64ArrayAttr(shape));
}

Value cast(OpBuilder &b, Location loc, Value x, Type element) {
  if (elementOf(x) == element)
    return x;
  return CastOp::create(b, loc, x, TypeAttr::get(element));
}

Value sumTo(OpBuilder &b, Location loc, Value grad, RankedTensorType type) {
  ArrayRef<int64_t> from = shapeOf(grad), to = type.getShape();
  if (from == to)
    return grad;
  size_t skip = from.size() - to.size();
  SmallVector<int64_t> axes;
  for (size_t i = 0; i < from.size(); ++i)
    if (i < skip || (to[i - skip] == 1 && from[i] != 1))
      axes.push_back(i);
  Value sum = grad;
  if (!axes.empty())
    sum = ReduceSumOp::create(b, loc, grad, axes, /*keepdims=*/false, /*wide=*/false);
  return reshape(b, loc, sum, to);
}

BroadcastIndexer::BroadcastIndexer(ArrayRef<int64_t> operandShape, ArrayRef<int64_t> result)
    : resultStrides(rowMajorStrides(result)), resultShape(result.begin(), result.end()),
      operandStrides(result.size(), 0) {
  SmallVector<int64_t> strides = rowMajorStrides(operandShape);
  size_t skip = result.size() - operandShape.size();
  for (size_t i = 0; i < operandShape.size(); ++i)
    operandStrides[skip + i] = operandShape[i] == 1 ? 0 : strides[i];
}

int64_t BroadcastIndexer::operator()(int64_t flat) const {
  int64_t index = 0;
  for (size_t i = 0; i < resultShape.size(); ++i)
    index += (flat / resultStrides[i]) % resultShape[i] * operandStrides[i];
  return index;
}

ParameterOp parameterBehind(Value v) {
  while (Operation *op = v.getDefiningOp()) {
    if (auto parameter = dyn_cast<ParameterOp>(op))
      return parameter;
    if (!isa<ViewOpInterface, CastOp, TransposeOp, AllGatherOp>(op))
      return nullptr;
    v = op->getOperand(0);
  }
  return nullptr;
}

LogicalResult checkGroup(std::optional<Location> loc, StringRef group, int64_t members) {
  // collective_c1
  if (!rt::isGroupName(group))
    return inferError(loc, "group is \"" + group +
                               "\", should be axes among dp_replicate, dp_shard, cp and tp, in that order, joined by +, or ep or "
                               "ep_shard in the place of dp_shard and cp");
  // collective_c2
  if (members < 1 || members > static_cast<int64_t>(rt::mostRanks))
    return inferError(loc, "members are " + Twine(members) + ", should be in [1, " + Twine(rt::mostRanks) + "]");
  return success();
}

LogicalResult checkGroup(std::optional<Location> loc, std::optional<StringRef> group, std::optional<int64_t> members) {
  if (!group && !members)
    return success();
  // collective_c4
  if (!group || !members)
    return inferError(loc, "group and members should be there both or none");
  return checkGroup(loc, *group, *members);
}

int64_t elementCount(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t dim : shape)
    count *= dim;
  return count;
}

StringRef targetOf(Operation *op) {
  auto step = mlir::isa<StepOp>(op) ? mlir::cast<StepOp>(op) : op->getParentOfType<StepOp>();
  auto target = step ? step->getAttrOfType<StringAttr>("train.target") : nullptr;
  return target ? target.getValue() : "cpu";
}

uint64_t workspaceBytes(ComputeOpInterface op) {
  return targetOf(op) == "cpu" ? op.getWorkspaceBytes() : op.getCudaWorkspaceBytes();
}

} // namespace amc::train
