// Reading a node's inputs, attributes and constant arguments, and building operations; see Node.h.
#include "compiler/import/Node.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace amc::importer {

Node::Node(Importer &importer, Scope &scope, const onnx::NodeProto &proto, std::string name,
           int64_t opset)
    : importer(importer), scope(scope), proto(proto), name(std::move(name)),
      op(qualifiedName(proto.domain(), proto.op_type())), opset(opset),
      location(importer.nodeLocation(this->name, op)), results(proto.output_size()),
      askedInputs(proto.input_size(), false) {}

// ---------------------------------------------------------------- inputs and outputs

bool Node::has(int i) const {
  if (i >= inputs() || proto.input(i).empty())
    return false;
  const Datum *datum = scope.find(proto.input(i));
  return datum && datum->kind != Datum::Absent;
}

Value Node::in(int i) {
  if (i < inputs())
    askedInputs[i] = true;
  if (!has(i)) {
    fail("input " + Twine(i) + " is required");
    return {};
  }
  const Datum *datum = scope.find(proto.input(i));
  if (datum->kind == Datum::Tensor)
    return datum->value;
  if (datum->kind == Datum::Sequence)
    fail("input " + Twine(i) + " is a sequence, should be a tensor");
  failed = true;
  return {};
}

const std::vector<Value> &Node::sequence(int i) {
  static const std::vector<Value> none;
  if (i < inputs())
    askedInputs[i] = true;
  const Datum *datum = has(i) ? scope.find(proto.input(i)) : nullptr;
  if (datum && datum->kind == Datum::Sequence)
    return datum->list;
  fail("input " + Twine(i) + " should be a sequence");
  return none;
}

std::vector<Value> Node::from(int i) {
  std::vector<Value> values;
  for (; i < inputs(); ++i)
    values.push_back(in(i));
  return values;
}

void Node::set(int i, Value value) {
  if (!value)
    failed = true;
  if (i < outputs()) {
    results[i].kind = value ? Datum::Tensor : Datum::Failed;
    results[i].value = value;
  }
}

void Node::setSequence(int i, std::vector<Value> list) {
  if (i < outputs()) {
    results[i].kind = Datum::Sequence;
    results[i].list = std::move(list);
  }
}

void Node::lack(int i, std::string reason) {
  if (i < outputs())
    results[i].lacking = std::move(reason);
}

// ---------------------------------------------------------------- attributes

const onnx::AttributeProto *Node::attr(StringRef name) {
  for (const onnx::AttributeProto &attribute : proto.attribute()) {
    if (StringRef(attribute.name()) != name)
      continue;
    askedAttributes.insert(name.str());
    if (attribute.ref_attr_name().empty())
      return &attribute;
    const Scope *owner = &scope;
    while (owner && !owner->function)
      owner = owner->parent;
    if (!owner) {
      fail("attribute '" + name + "' refers to '" + attribute.ref_attr_name() +
           "' outside of a function");
      return nullptr;
    }
    if (const onnx::AttributeProto *given = owner->caller->attr(attribute.ref_attr_name()))
      return given;
    return importer.functionDefault(owner->function, attribute.ref_attr_name());
  }
  return nullptr;
}

const onnx::AttributeProto *Node::typed(StringRef name, onnx::AttributeProto::AttributeType type) {
  const onnx::AttributeProto *attribute = attr(name);
  if (!attribute)
    return nullptr;
  // Files before IR version 2 leave the type out; ours are newer, but some writers forget it all
  // the same.
  if (attribute->type() == type || attribute->type() == onnx::AttributeProto::UNDEFINED)
    return attribute;
  fail("attribute '" + name + "' is " +
       StringRef(onnx::AttributeProto::AttributeType_Name(attribute->type())).lower() +
       ", should be " + StringRef(onnx::AttributeProto::AttributeType_Name(type)).lower());
  return nullptr;
}

int64_t Node::getInt(StringRef name, int64_t otherwise) {
  const onnx::AttributeProto *attribute = typed(name, onnx::AttributeProto::INT);
  return attribute ? attribute->i() : otherwise;
}
double Node::getFloat(StringRef name, double otherwise) {
  const onnx::AttributeProto *attribute = typed(name, onnx::AttributeProto::FLOAT);
  return attribute ? attribute->f() : otherwise;
}
std::string Node::getString(StringRef name, std::string otherwise) {
  const onnx::AttributeProto *attribute = typed(name, onnx::AttributeProto::STRING);
  return attribute ? attribute->s() : otherwise;
}
std::optional<Ints> Node::getInts(StringRef name) {
  const onnx::AttributeProto *attribute = typed(name, onnx::AttributeProto::INTS);
  if (!attribute)
    return std::nullopt;
  return Ints(attribute->ints().begin(), attribute->ints().end());
}
int64_t Node::needInt(StringRef name) {
  if (!hasAttr(name))
    fail("attribute '" + name + "' is required");
  return getInt(name, 0);
}

// ---------------------------------------------------------------- constant arguments

const HostTensor *Node::constant(int i, StringRef what) {
  Value value = in(i);
  if (!value)
    return nullptr;
  const HostTensor *tensor = importer.evaluator.get(value);
  if (!tensor)
    unsupported("argument '" + what + "' depends on data");
  return tensor;
}

std::optional<Ints> Node::constInts(int i, StringRef what) {
  const HostTensor *tensor = constant(i, what);
  if (!tensor)
    return std::nullopt;
  if (tensor->isFloat() || tensor->rank() > 1) {
    fail("argument '" + what + "' should be integers of rank 1");
    return std::nullopt;
  }
  return Ints(tensor->ints.begin(), tensor->ints.end());
}

std::optional<double> Node::constScalar(int i, StringRef what) {
  const HostTensor *tensor = constant(i, what);
  if (!tensor)
    return std::nullopt;
  if (tensor->size() != 1) {
    fail("argument '" + what + "' has " + Twine(tensor->size()) + " elements, should have one");
    return std::nullopt;
  }
  return tensor->number(0);
}

std::optional<int64_t> Node::constInt(int i, StringRef what) {
  std::optional<double> value = constScalar(i, what);
  if (!value)
    return std::nullopt;
  if (std::abs(*value) <= double(int64_t(1) << 53)) // not NaN either
    return static_cast<int64_t>(*value);
  fail("argument '" + what + "' is out of range");
  return std::nullopt;
}

std::optional<Ints> Node::axes(int i, int64_t since) {
  if (opset < since)
    return getInts("axes").value_or(Ints());
  if (!has(i))
    return Ints();
  return constInts(i, "axes");
}

int64_t Node::axis(int64_t axis, int64_t rank) {
  if (axis >= -rank && axis < rank)
    return axis < 0 ? axis + rank : axis;
  fail("axis " + Twine(axis) + " is out of range for rank " + Twine(rank));
  return 0;
}

std::optional<Ints> Node::axes(ArrayRef<int64_t> axes, int64_t rank) {
  Ints result;
  for (int64_t a : axes)
    result.push_back(axis(a, rank));
  llvm::sort(result);
  if (std::adjacent_find(result.begin(), result.end()) != result.end() && !failed)
    fail("an axis is given twice");
  return failed ? std::nullopt : std::optional<Ints>(result);
}

// ---------------------------------------------------------------- failing

void Node::fail(const Twine &message) {
  if (!failed)
    importer.error(location) << message;
  failed = true;
}

void Node::unsupported(const Twine &reason) {
  if (!failed)
    importer.unsupported(op, reason.str(), name);
  lacked |= !failed;
  failed = true;
}

void Node::checkAllUsed() {
  if (failed)
    return;
  for (const onnx::AttributeProto &attribute : proto.attribute())
    if (!askedAttributes.count(attribute.name()))
      unsupported("attribute '" + attribute.name() + "'");
  for (int i = 0; i < inputs(); ++i)
    if (has(i) && !askedInputs[i])
      unsupported("input " + Twine(i));
}

// ---------------------------------------------------------------- building

NamedAttribute Node::intAttr(StringRef name, int64_t value) {
  return importer.builder.getNamedAttr(name, importer.builder.getI64IntegerAttr(value));
}
NamedAttribute Node::boolAttr(StringRef name, bool value) {
  return importer.builder.getNamedAttr(name, importer.builder.getBoolAttr(value));
}
NamedAttribute Node::floatAttr(StringRef name, double value) {
  return importer.builder.getNamedAttr(name, importer.builder.getF64FloatAttr(value));
}
NamedAttribute Node::stringAttr(StringRef name, StringRef value) {
  return importer.builder.getNamedAttr(name, importer.builder.getStringAttr(value));
}
NamedAttribute Node::intsAttr(StringRef name, ArrayRef<int64_t> values) {
  return importer.builder.getNamedAttr(name, importer.builder.getDenseI64ArrayAttr(values));
}
NamedAttribute Node::typeAttr(StringRef name, Type type) {
  return importer.builder.getNamedAttr(name, TypeAttr::get(type));
}
NamedAttribute Node::unitAttr(StringRef name) {
  return importer.builder.getNamedAttr(name, importer.builder.getUnitAttr());
}
Type Node::i64() const { return importer.builder.getI64Type(); }
Type Node::i1() const { return importer.builder.getI1Type(); }
Type Node::f32() const { return importer.builder.getF32Type(); }

/// Builds an operation whose result types follow from its operands. What the operation refuses is
/// the node's error.
Operation *Node::build(StringRef op, ValueRange operands, ArrayRef<NamedAttribute> attrs,
                       ArrayRef<int32_t> segments) {
  for (Value operand : operands)
    if (!operand)
      failed = true;
  if (failed)
    return nullptr;
  MLIRContext *context = importer.context;
  OperationName opName(op, context);
  NamedAttrList list(attrs);
  if (!segments.empty())
    list.append("operandSegmentSizes", DenseI32ArrayAttr::get(context, segments));
  for ([[maybe_unused]] NamedAttribute attr : list)
    assert(llvm::is_contained(opName.getAttributeNames(), attr.getName()) &&
           "no such attribute on this operation");

  // Inference reads properties, before the operation exists.
  OperationState state(location, opName);
  DictionaryAttr dictionary = list.getDictionary(context);
  SmallVector<std::max_align_t, 8> storage(
      opName.getOpPropertyByteSize() / sizeof(std::max_align_t) + 1);
  OpaqueProperties properties(storage.data());
  bool hasProperties = opName.getOpPropertyByteSize() > 0;
  if (hasProperties) {
    opName.initOpProperties(properties, OpaqueProperties(nullptr));
    opName.populateDefaultProperties(properties);
    LogicalResult set = opName.setOpPropertiesFromAttribute(
        opName, properties, dictionary, [&] { return importer.error(location); });
    if (mlir::failed(set))
      failed = true;
  }
  auto *inference = opName.getInterface<InferTypeOpInterface>();
  assert(inference && "operations built here infer their types");
  if (!failed && mlir::failed(inference->inferReturnTypes(
                     context, location, operands, dictionary,
                     hasProperties ? properties : OpaqueProperties(nullptr), {}, state.types)))
    failed = true;
  if (hasProperties)
    opName.destroyOpProperties(properties);
  if (failed) {
    importer.markFailed();
    return nullptr;
  }
  for (Type type : state.types) {
    auto tensor = mlir::cast<RankedTensorType>(type);
    if (!importer.tensorType(tensor.getShape(), tensor.getElementType(), location)) {
      failed = true;
      return nullptr;
    }
  }
  state.addOperands(operands);
  state.addAttributes(list);
  Operation *made = importer.builder.create(state);
  // Operand types that the operation does not take (an exponential of integers).
  if (mlir::failed(opName.verifyInvariants(made))) {
    importer.markFailed();
    failed = true;
    return nullptr;
  }
  return made;
}

Value Node::scalar(double value, Value like) {
  return like ? full(value, {}, train::elementOf(like)) : Value();
}
Value Node::full(double value, ArrayRef<int64_t> shape, Type element) {
  return emit<train::FullOp>(
      {}, {floatAttr("value", value), intsAttr("shape", shape), typeAttr("element", element)});
}
Value Node::iota(double start, double step, int64_t axis, ArrayRef<int64_t> shape, Type element) {
  return emit<train::IotaOp>({}, {floatAttr("start", start), floatAttr("step", step),
                                  intAttr("axis", axis), intsAttr("shape", shape),
                                  typeAttr("element", element)});
}

Value Node::ints(ArrayRef<int64_t> values, ArrayRef<int64_t> shape, Type element) {
  if (failed)
    return {};
  HostTensor tensor(RankedTensorType::get(shape, element ? element : i64()));
  assert(tensor.size() == static_cast<int64_t>(values.size()));
  tensor.ints.assign(values.begin(), values.end());
  return train::ConstantOp::create(importer.builder, location, tensor.type, tensor.toAttr());
}

Value Node::reshape(Value x, ArrayRef<int64_t> shape) {
  if (x && shapeOf(x) == shape)
    return x;
  return emit<train::ReshapeOp>({x}, {intsAttr("shape", shape)});
}

Value Node::transpose(Value x, ArrayRef<int64_t> permutation) {
  if (x && permutation == ArrayRef(llvm::to_vector(llvm::seq<int64_t>(0, shapeOf(x).size()))))
    return x;
  return emit<train::TransposeOp>({x}, {intsAttr("permutation", permutation)});
}

Value Node::broadcast(Value x, ArrayRef<int64_t> shape) {
  if (x && shapeOf(x) == shape)
    return x;
  return emit<train::BroadcastOp>({x}, {intsAttr("shape", shape)});
}

Value Node::cast(Value x, Type element) {
  if (x && train::elementOf(x) == element)
    return x;
  return emit<train::CastOp>({x}, {typeAttr("to", element)});
}

Value Node::slice(Value x, ArrayRef<int64_t> starts, ArrayRef<int64_t> sizes,
                  ArrayRef<int64_t> steps) {
  Ints ones(starts.size(), 1);
  if (steps.empty())
    steps = ones;
  if (x && shapeOf(x) == sizes && llvm::all_of(starts, [](int64_t s) { return s == 0; }) &&
      steps == ArrayRef(ones))
    return x;
  return emit<train::SliceOp>(
      {x}, {intsAttr("starts", starts), intsAttr("sizes", sizes), intsAttr("steps", steps)});
}

Value Node::sliceAxis(Value x, int64_t axis, int64_t start, int64_t size, int64_t step) {
  if (!x)
    return x;
  Ints starts(shapeOf(x).size(), 0), sizes(shapeOf(x)), steps(shapeOf(x).size(), 1);
  starts[axis] = start;
  sizes[axis] = size;
  steps[axis] = step;
  return slice(x, starts, sizes, steps);
}

Value Node::concat(std::vector<Value> parts, int64_t axis) {
  if (failed || llvm::is_contained(parts, Value()))
    return {};
  std::vector<Value> kept;
  for (Value part : parts)
    if (train::elementCount(shapeOf(part)) > 0)
      kept.push_back(part);
  if (kept.empty())
    kept = parts;
  return kept.size() == 1 ? kept[0] : emit<train::ConcatOp>(kept, {intAttr("axis", axis)});
}

Value Node::pad(Value x, ArrayRef<int64_t> low, ArrayRef<int64_t> high, double value) {
  Ints interior(low.size(), 0);
  return emit<train::PadOp>({x}, {intsAttr("low", low), intsAttr("high", high),
                                  intsAttr("interior", interior), floatAttr("value", value)});
}

Value Node::gather(Value x, Value indices, int64_t axis) {
  if (!x || !indices)
    return {};
  bool table = axis == 0 && shapeOf(x).size() == 2 && x.getDefiningOp<train::ParameterOp>() &&
               isa<FloatType>(train::elementOf(x));
  if (table)
    return emit<train::EmbeddingOp>({x, indices});
  return emit<train::GatherOp>({x, indices}, {intAttr("axis", axis)});
}

Value Node::linear(Value x, Value w, Value bias, bool transposed) {
  SmallVector<Value> operands{x, w};
  if (bias)
    operands.push_back(bias);
  SmallVector<NamedAttribute> attrs;
  if (transposed)
    attrs.push_back(unitAttr("transpose_w"));
  return emit<train::LinearOp>(operands, attrs);
}

Value Node::matmul(Value a, Value b, bool transposeA, bool transposeB) {
  SmallVector<NamedAttribute> attrs;
  if (transposeA)
    attrs.push_back(unitAttr("transpose_a"));
  if (transposeB)
    attrs.push_back(unitAttr("transpose_b"));
  return emit<train::MatmulOp>({a, b}, attrs);
}

Value Node::layerNorm(Value x, Value weight, Value bias, double epsilon, Operation **made) {
  SmallVector<Value> operands{x};
  for (Value optional : {weight, bias})
    if (optional)
      operands.push_back(optional);
  Operation *op = build(train::LayerNormOp::getOperationName(), operands,
                        {floatAttr("epsilon", epsilon)}, {1, weight ? 1 : 0, bias ? 1 : 0});
  if (made)
    *made = op;
  return op ? op->getResult(0) : Value();
}

Value Node::rmsNorm(Value x, Value weight, double epsilon, Operation **made) {
  SmallVector<Value> operands{x};
  if (weight)
    operands.push_back(weight);
  Operation *op =
      build(train::RmsNormOp::getOperationName(), operands, {floatAttr("epsilon", epsilon)});
  if (made)
    *made = op;
  return op ? op->getResult(0) : Value();
}

} // namespace amc::importer
