// Type arithmetic, broadcasting and graph-building helpers; see OpSupport.h.
#include "compiler/dialect/OpSupport.h"

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
  return bytes;
}

StringRef defaultKernelName(Operation *op) { return op->getName().stripDialect(); }

Type statisticType(Type element) {
  return element.isF64() ? element : Float32Type::get(element.getContext());
}

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
    sum = ReduceSumOp::create(b, loc, grad, b.getDenseI64ArrayAttr(axes), b.getBoolAttr(false));
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
    if (!isa<ViewOpInterface, CastOp, TransposeOp>(op))
      return nullptr;
    v = op->getOperand(0);
  }
  return nullptr;
}

int64_t elementCount(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t dim : shape)
    count *= dim;
  return count;
}

} // namespace amc::train
