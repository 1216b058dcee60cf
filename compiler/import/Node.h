// One node while it is translated: its inputs, attributes and constant arguments, and short ways to
// build operations.
//
// Values are null once something went wrong, and everything accepts null and gives null back: a
// translation reads straight through and needs no checks of its own, except before it looks at a
// shape. Inputs and attributes that a translation did not ask for make the node unsupported, so
// none is ignored by oversight.
#ifndef AMC_COMPILER_IMPORT_NODE_H
#define AMC_COMPILER_IMPORT_NODE_H

#include "compiler/dialect/OpSupport.h"
#include "compiler/import/Importer.h"

namespace amc::importer {

using mlir::ArrayRef;
using mlir::NamedAttribute;
using mlir::SmallVector;
using mlir::StringRef;
using mlir::Type;
using mlir::Value;
using train::shapeOf;

using Ints = SmallVector<int64_t>;

class Node {
public:
  Node(Importer &importer, Scope &scope, const onnx::NodeProto &proto, std::string name,
       int64_t opset);

  Importer &importer;
  Scope &scope;
  const onnx::NodeProto &proto;
  const std::string name, op;
  const int64_t opset;
  const mlir::Location location;

  // ---- inputs
  int inputs() const { return proto.input_size(); }
  int outputs() const { return proto.output_size(); }
  bool has(int i) const;
  bool wants(int i) const { return i < outputs() && !proto.output(i).empty(); }
  /// A required tensor: an error if absent.
  Value in(int i);
  /// An optional tensor: null if absent.
  Value opt(int i) { return has(i) ? in(i) : Value(); }
  const std::vector<Value> &sequence(int i);
  /// Every input from the i-th, all required.
  std::vector<Value> from(int i);

  // ---- outputs
  void set(int i, Value value);
  void setSequence(int i, std::vector<Value> list);
  /// Says why an output is not made; matters only if somebody reads it.
  void lack(int i, std::string reason);
  std::vector<Datum> results;

  // ---- attributes
  const onnx::AttributeProto *attr(StringRef name);
  bool hasAttr(StringRef name) { return attr(name) != nullptr; }
  int64_t getInt(StringRef name, int64_t otherwise);
  bool getFlag(StringRef name, bool otherwise = false) { return getInt(name, otherwise) != 0; }
  double getFloat(StringRef name, double otherwise);
  std::string getString(StringRef name, std::string otherwise);
  std::optional<Ints> getInts(StringRef name);
  /// A required integer.
  int64_t needInt(StringRef name);
  /// Attributes that have no meaning for a training step.
  void ignore(StringRef name) { (void)attr(name); }

  // ---- constant arguments
  /// Elements of input i, which the step's shapes depend on. Nothing after the node was marked.
  std::optional<Ints> constInts(int i, StringRef what);
  std::optional<double> constScalar(int i, StringRef what);
  std::optional<int64_t> constInt(int i, StringRef what);
  const HostTensor *constant(int i, StringRef what);
  /// Axes from attribute `axes` before opset `since`, from input i afterwards; empty if absent.
  std::optional<Ints> axes(int i, int64_t since);

  // ---- failing
  /// The model is at fault.
  void fail(const mlir::Twine &message);
  /// The importer is.
  void unsupported(const mlir::Twine &reason);
  bool failed = false;
  bool lacked = false; ///< failed because it is unsupported
  /// Inputs and attributes that nobody asked for; called once the translation is done.
  void checkAllUsed();

  // ---- building
  mlir::Operation *build(StringRef op, mlir::ValueRange operands,
                         ArrayRef<NamedAttribute> attrs = {}, ArrayRef<int32_t> segments = {});
  template <typename Op>
  mlir::Operation *build(mlir::ValueRange operands, ArrayRef<NamedAttribute> attrs = {}) {
    return build(Op::getOperationName(), operands, attrs);
  }
  template <typename Op>
  Value emit(mlir::ValueRange operands, ArrayRef<NamedAttribute> attrs = {}) {
    mlir::Operation *made = build(Op::getOperationName(), operands, attrs);
    return made ? made->getResult(0) : Value();
  }
  NamedAttribute intAttr(StringRef name, int64_t value);
  NamedAttribute boolAttr(StringRef name, bool value);
  NamedAttribute floatAttr(StringRef name, double value);
  NamedAttribute stringAttr(StringRef name, StringRef value);
  NamedAttribute intsAttr(StringRef name, ArrayRef<int64_t> values);
  NamedAttribute typeAttr(StringRef name, Type type);
  NamedAttribute unitAttr(StringRef name);

  Value add(Value a, Value b) { return emit<train::AddOp>({a, b}); }
  Value sub(Value a, Value b) { return emit<train::SubOp>({a, b}); }
  Value mul(Value a, Value b) { return emit<train::MulOp>({a, b}); }
  Value div(Value a, Value b) { return emit<train::DivOp>({a, b}); }
  Value less(Value a, Value b) { return emit<train::LessOp>({a, b}); }
  Value select(Value c, Value a, Value b) { return emit<train::SelectOp>({c, a, b}); }
  /// A scalar of `like`'s element type.
  Value scalar(double value, Value like);
  Value full(double value, ArrayRef<int64_t> shape, Type element);
  Value iota(double start, double step, int64_t axis, ArrayRef<int64_t> shape, Type element);
  Value ints(ArrayRef<int64_t> values, ArrayRef<int64_t> shape, Type element = {});
  Value reshape(Value x, ArrayRef<int64_t> shape);
  Value transpose(Value x, ArrayRef<int64_t> permutation);
  Value broadcast(Value x, ArrayRef<int64_t> shape);
  Value cast(Value x, Type element);
  Value slice(Value x, ArrayRef<int64_t> starts, ArrayRef<int64_t> sizes,
              ArrayRef<int64_t> steps = {});
  /// Elements [start, start + size) along one axis.
  Value sliceAxis(Value x, int64_t axis, int64_t start, int64_t size, int64_t step = 1);
  /// Joins what has elements.
  Value concat(std::vector<Value> parts, int64_t axis);
  Value pad(Value x, ArrayRef<int64_t> low, ArrayRef<int64_t> high, double value);
  Value gather(Value x, Value indices, int64_t axis);
  template <typename Op> Value reduce(Value x, ArrayRef<int64_t> axes, bool keep) {
    return emit<Op>({x}, {intsAttr("axes", axes), boolAttr("keepdims", keep)});
  }
  /// x over the last dimension with a float matrix, which is a weight.
  Value linear(Value x, Value w, Value bias, bool transposed);
  Value matmul(Value a, Value b, bool transposeA = false, bool transposeB = false);
  Value layerNorm(Value x, Value weight, Value bias, double epsilon,
                  mlir::Operation **made = nullptr);
  Value rmsNorm(Value x, Value weight, double epsilon, mlir::Operation **made = nullptr);

  /// An axis in [-rank, rank), counted from the front; fails otherwise.
  int64_t axis(int64_t axis, int64_t rank);
  std::optional<Ints> axes(ArrayRef<int64_t> axes, int64_t rank);
  Type i64() const;
  Type i1() const;
  Type f32() const;

private:
  const onnx::AttributeProto *typed(StringRef name, onnx::AttributeProto::AttributeType type);

  std::set<std::string> askedAttributes;
  std::vector<bool> askedInputs;
};

/// A translation of one operation since an opset of its domain.
struct OpEntry {
  const char *domain, *op;
  int64_t since;
  void (*translate)(Node &);
};

/// The newest entry for `op` not newer than `opset`; null if there is none.
const OpEntry *findOp(StringRef domain, StringRef op, int64_t opset);
/// All of the table, by family.
std::vector<ArrayRef<OpEntry>> allOps();
/// The newest opset of the standard domain that the table was written for.
constexpr int64_t newestOpset = 23, oldestOpset = 13;

ArrayRef<OpEntry> elementwiseOps(); // ElementwiseOps.cpp
ArrayRef<OpEntry> shapeOps();       // ShapeOps.cpp
ArrayRef<OpEntry> layoutOps();      // LayoutOps.cpp
ArrayRef<OpEntry> indexOps();       // IndexOps.cpp
ArrayRef<OpEntry> reductionOps();   // ReductionOps.cpp
ArrayRef<OpEntry> normOps();        // NormOps.cpp
ArrayRef<OpEntry> productOps();     // ProductOps.cpp
ArrayRef<OpEntry> convOps();        // ConvOps.cpp
ArrayRef<OpEntry> attentionOps();   // AttentionOps.cpp
ArrayRef<OpEntry> controlOps();     // ControlOps.cpp
ArrayRef<OpEntry> lossOps();        // LossOps.cpp

} // namespace amc::importer

#endif
