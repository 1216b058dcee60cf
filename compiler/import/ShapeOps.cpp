// Operations that ask for shapes, make tensors from them, or give the same elements another shape.
#include "compiler/import/Node.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

/// Element type attribute `name`, or `otherwise` if absent; null after marking the node.
static Type elementAttr(Node &n, StringRef name, Type otherwise) {
  if (!n.hasAttr(name))
    return otherwise;
  int64_t dataType = n.getInt(name, 0);
  Type element = n.importer.elementType(dataType);
  if (!element)
    n.unsupported("to " + dataTypeName(dataType));
  return element;
}

static void shape(Node &n) {
  Value x = n.in(0);
  if (!x)
    return;
  int64_t rank = shapeOf(x).size();
  auto clamped = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank); };
  int64_t start = clamped(n.getInt("start", 0)),
          end = std::max(start, clamped(n.getInt("end", rank)));
  ArrayRef<int64_t> dims = shapeOf(x).slice(start, end - start);
  n.set(0, n.ints(dims, {end - start}));
}

static void size(Node &n) {
  Value x = n.in(0);
  if (x)
    n.set(0, n.ints({elementCount(shapeOf(x))}, {}));
}

static void reshape(Node &n) {
  Value x = n.in(0);
  std::optional<Ints> target = n.constInts(1, "shape");
  bool allowZero = n.getFlag("allowzero");
  if (!x || !target)
    return;
  ArrayRef<int64_t> from = shapeOf(x);
  int64_t known = 1, free = -1;
  for (auto [i, dim] : llvm::enumerate(*target)) {
    if (dim == 0 && !allowZero) {
      if (i >= from.size())
        return n.fail("copies dimension " + Twine(i) + " of a tensor of rank " +
                      Twine(from.size()));
      dim = from[i];
    }
    if (dim == -1) {
      if (free >= 0)
        return n.fail("shape has more than one -1");
      free = i;
    } else if (dim < 0) {
      return n.fail("shape has dimension " + Twine(dim));
    } else if (llvm::MulOverflow(known, dim, known)) {
      return n.fail("shape " + shapeString(*target) + " has too many elements");
    }
  }
  int64_t elements = elementCount(from);
  if (free >= 0) {
    if (known == 0 || elements % known)
      return n.fail("cannot reshape " + shapeString(from) + " to " + shapeString(*target));
    (*target)[free] = elements / known;
    known *= (*target)[free];
  }
  if (known != elements)
    return n.fail("cannot reshape " + shapeString(from) + " to " + shapeString(*target) + ": " +
                  Twine(elements) + " elements, should be " + Twine(known));
  n.set(0, n.reshape(x, *target));
}

static void flatten(Node &n) {
  Value x = n.in(0);
  if (!x)
    return;
  ArrayRef<int64_t> from = shapeOf(x);
  int64_t rank = from.size(), at = n.getInt("axis", 1);
  if (at != rank)
    at = n.axis(at, std::max<int64_t>(rank, 1));
  if (n.failed)
    return;
  n.set(0, n.reshape(x, {elementCount(from.take_front(at)), elementCount(from.drop_front(at))}));
}

static void squeeze(Node &n) {
  Value x = n.in(0);
  bool given = n.has(1);
  std::optional<Ints> listed = n.axes(1, 13);
  if (!x || !listed)
    return;
  ArrayRef<int64_t> from = shapeOf(x);
  std::optional<Ints> axes = n.axes(*listed, from.size());
  if (!axes)
    return;
  Ints to;
  for (auto [i, dim] : llvm::enumerate(from)) {
    bool drop = given ? llvm::is_contained(*axes, static_cast<int64_t>(i)) : dim == 1;
    if (drop && dim != 1)
      return n.fail("dimension " + Twine(i) + " is " + Twine(dim) + ", should be 1");
    if (!drop)
      to.push_back(dim);
  }
  n.set(0, n.reshape(x, to));
}

static void unsqueeze(Node &n) {
  Value x = n.in(0);
  std::optional<Ints> listed = n.axes(1, 13);
  if (!x || !listed)
    return;
  ArrayRef<int64_t> from = shapeOf(x);
  int64_t rank = from.size() + listed->size();
  std::optional<Ints> axes = n.axes(*listed, rank);
  if (!axes)
    return;
  Ints to;
  size_t next = 0;
  for (int64_t i = 0; i < rank; ++i)
    to.push_back(llvm::is_contained(*axes, i) ? 1 : from[next++]);
  n.set(0, n.reshape(x, to));
}

static void expand(Node &n) {
  Value x = n.in(0);
  std::optional<Ints> shape = n.constInts(1, "shape");
  if (!x || !shape)
    return;
  auto target = broadcastShapes({shapeOf(x), *shape});
  if (!target)
    return n.fail("cannot broadcast " + shapeString(shapeOf(x)) + " to " + shapeString(*shape));
  if (!n.importer.tensorType(*target, elementOf(x), n.location)) {
    n.failed = true;
    return;
  }
  // Dimensions of one in front are a view; only repetition moves bytes.
  if (elementCount(*target) == elementCount(shapeOf(x)))
    return n.set(0, n.reshape(x, *target));
  n.set(0, n.broadcast(x, *target));
}

static void range(Node &n) {
  Value start = n.in(0), limit = n.in(1), delta = n.in(2);
  if (!start || !limit || !delta)
    return;
  std::optional<double> from = n.constScalar(0, "start"), to = n.constScalar(1, "limit"),
                        step = n.constScalar(2, "delta");
  if (!from || !to || !step)
    return;
  if (*step == 0)
    return n.fail("delta is 0");
  double count = std::max(0.0, std::ceil((*to - *from) / *step));
  if (!(count < 1e12))
    return n.fail("has too many elements");
  n.set(0, n.iota(*from, *step, 0, {static_cast<int64_t>(count)}, elementOf(start)));
}

static void constantOfShape(Node &n) {
  std::optional<Ints> shape = n.constInts(0, "shape");
  if (!shape)
    return;
  double value = 0;
  Type element = n.f32();
  if (const onnx::AttributeProto *attribute = n.attr("value")) {
    element = n.importer.elementType(attribute->t().data_type());
    if (!element)
      return n.unsupported("of type " + dataTypeName(attribute->t().data_type()));
    Value literal = n.importer.constant(attribute->t(), n.location);
    const HostTensor *tensor = literal ? n.importer.evaluator.get(literal) : nullptr;
    if (!tensor || tensor->size() != 1)
      return n.fail("attribute 'value' should be a tensor of one element");
    value = tensor->number(0);
  }
  n.set(0, n.full(value, *shape, element));
}

static void eyeLike(Node &n) {
  Value x = n.in(0);
  if (!x)
    return;
  Type element = elementAttr(n, "dtype", elementOf(x));
  if (!element || shapeOf(x).size() != 2)
    return n.fail("input should have rank 2");
  int64_t k = n.getInt("k", 0), rows = shapeOf(x)[0], columns = shapeOf(x)[1];
  Value row = n.iota(k, 1, 0, {rows, 1}, n.i64()), column = n.iota(0, 1, 1, {1, columns}, n.i64());
  n.set(0, n.cast(n.emit<EqualOp>({row, column}), element));
}

static void constantOp(Node &n) {
  auto literal = [&](const onnx::TensorProto &tensor) {
    if (!n.importer.elementType(tensor.data_type()))
      return n.lack(0, "a constant of type " + dataTypeName(tensor.data_type()));
    n.set(0, n.importer.constant(tensor, n.location));
  };
  auto floats = [&](ArrayRef<float> values, ArrayRef<int64_t> shape) {
    auto type = RankedTensorType::get(shape, n.f32());
    n.set(0, ConstantOp::create(n.importer.builder, n.location, type,
                                DenseElementsAttr::get(type, values)));
  };
  if (const onnx::AttributeProto *value = n.attr("value"))
    return literal(value->t());
  if (const onnx::AttributeProto *value = n.attr("value_float"))
    return floats({value->f()}, {});
  if (const onnx::AttributeProto *value = n.attr("value_floats")) {
    SmallVector<float> values(value->floats().begin(), value->floats().end());
    return floats(values, {static_cast<int64_t>(values.size())});
  }
  if (const onnx::AttributeProto *value = n.attr("value_int"))
    return n.set(0, n.ints({value->i()}, {}));
  if (const onnx::AttributeProto *value = n.attr("value_ints")) {
    Ints values(value->ints().begin(), value->ints().end());
    return n.set(0, n.ints(values, {static_cast<int64_t>(values.size())}));
  }
  for (StringRef kind : {"value_string", "value_strings", "sparse_value"})
    if (n.attr(kind))
      return n.lack(0, "a constant given as " + kind.str());
  n.fail("has no value");
}

/// How many elements a reduction or a shape argument selects from data is known only for constants.
static void nonZero(Node &n) {
  const HostTensor *x = n.constant(0, "X");
  if (!x)
    return;
  std::vector<Ints> found(x->rank());
  SmallVector<int64_t> strides = rowMajorStrides(x->shape());
  for (int64_t i = 0; i < x->size(); ++i)
    if (x->number(i) != 0)
      for (int64_t d = 0; d < x->rank(); ++d)
        found[d].push_back(i / strides[d] % x->shape()[d]);
  Ints flat;
  for (const Ints &row : found)
    flat.append(row);
  int64_t count = found.empty() ? 0 : found[0].size();
  n.set(0, n.ints(flat, {x->rank(), count}));
}

ArrayRef<OpEntry> shapeOps() {
  static const OpEntry table[] = {
      {"", "Shape", 13, shape},
      {"", "Size", 13, size},
      {"", "Reshape", 13, reshape},
      {"", "Flatten", 13, flatten},
      {"", "Squeeze", 13, squeeze},
      {"", "Unsqueeze", 13, unsqueeze},
      {"", "Expand", 13, expand},
      {"", "Range", 13, range},
      {"", "ConstantOfShape", 13, constantOfShape},
      {"", "EyeLike", 13, eyeLike},
      {"", "Constant", 13, constantOp},
      {"", "NonZero", 13, nonZero},
  };
  return table;
}

} // namespace amc::importer
