// For `amc check`: something to go on with behind a node that cannot be translated, so that one report holds what is
// missing behind it, too. Never part of a plan: a model with unsupported nodes does not compile.
//
// A stand-in has the type that the file declares for the node's output. A float one depends on every float operand of
// the node and passes gradients on, as the missing operation would; an integer or boolean one is an input, and only made
// where an operand depends on data or weights: what would follow from constants alone might be a shape, and guessing one would
// report failures that are none. Where the file declares nothing, the nodes behind are counted as unreached.
#include "compiler/dialect/OpSupport.h"
#include "compiler/import/Importer.h"
#include "compiler/import/Node.h"

using namespace mlir;

namespace amc::importer {

/// Null if the file does not declare the value, or a dimension of it has no number.
RankedTensorType Importer::declaredType(const std::string &value) {
  if (declared.empty()) {
    const onnx::GraphProto &graph = model.proto.graph();
    for (const onnx::ValueInfoProto &info : graph.value_info())
      declared[info.name()] = &info;
    for (const onnx::ValueInfoProto &info : graph.output())
      declared[info.name()] = &info;
  }
  const onnx::ValueInfoProto *info = declared.lookup(value);
  if (!info || !info->type().has_tensor_type() || !info->type().tensor_type().has_shape())
    return {};
  Type element = elementType(info->type().tensor_type().elem_type());
  SmallVector<int64_t> shape;
  for (const auto &dim : info->type().tensor_type().shape().dim()) {
    auto bound = dimensions.find(dim.dim_param());
    if (!dim.has_dim_value() && bound == dimensions.end())
      return {};
    shape.push_back(dim.has_dim_value() ? dim.dim_value() : bound->second);
    // What tensorType() would call an error of the model is no reason to here.
    if (shape.back() <= 0 || shape.back() > (int64_t(1) << 32) || shape.size() > 8)
      return {};
  }
  uint64_t elements = 1;
  for (int64_t dim : shape)
    if (elements = llvm::SaturatingMultiply<uint64_t>(elements, dim); elements > (uint64_t(1) << 46))
      return {};
  return element ? RankedTensorType::get(shape, element) : RankedTensorType();
}

/// Fills the results of a node that is unsupported; false, and nothing done, if the file says too little.
bool Importer::standIn(Node &node) {
  if (node.scope.caller) // names in a function's body are not the graph's
    return false;
  SmallVector<RankedTensorType> types;
  for (int i = 0; i < node.outputs(); ++i) {
    types.push_back(node.wants(i) ? declaredType(node.proto.output(i)) : RankedTensorType());
    if (node.wants(i) && !types.back())
      return false;
  }
  SmallVector<Value> floats;
  bool fromData = false;
  for (const std::string &name : node.proto.input()) {
    const Datum *datum = name.empty() ? nullptr : node.scope.find(name);
    if (!datum || datum->kind != Datum::Tensor)
      continue;
    fromData |= isa_and_nonnull<train::ParameterOp>(datum->value.getDefiningOp()) ||
                evaluator.get(datum->value) == nullptr;
    if (isa<FloatType>(train::elementOf(datum->value)))
      floats.push_back(datum->value);
  }
  if (!fromData)
    return false;
  node.failed = false;
  for (auto [i, type] : llvm::enumerate(types)) {
    if (!type)
      continue;
    node.results[i] = {};
    Value value = train::InputOp::create(builder, node.location, type,
                                         builder.getStringAttr(node.proto.output(i)),
                                         builder.getStringAttr("data"));
    if (isa<FloatType>(type.getElementType()))
      for (Value operand : floats) {
        Value flat = node.cast(node.reshape(operand, {train::elementCount(train::shapeOf(operand))}),
                               type.getElementType());
        Value first = node.reshape(node.slice(flat, {0}, {1}), SmallVector<int64_t>(type.getRank(), 1));
        value = node.emit<train::AddOp>({value, node.broadcast(first, type.getShape())});
      }
    node.set(i, value);
  }
  return !node.failed;
}

} // namespace amc::importer
