// The import as a whole: local functions, the order of nodes, and one node after the other. What
// becomes of inputs is in Inputs.cpp, of initializers in Weights.cpp, of outputs and dead code in
// Finish.cpp, of each operation in the …Ops.cpp.
#include "compiler/import/Importer.h"
#include "compiler/import/Node.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/Path.h"
#include <queue>

using namespace mlir;

namespace amc {

FailureOr<OwningOpRef<ModuleOp>> importOnnx(MLIRContext *context, StringRef path,
                                            const ImportOptions &options, ImportReport &report) {
  context->loadDialect<train::TrainDialect>();
  Location file = FileLineColLoc::get(context, path, 0, 0);
  std::unique_ptr<importer::Model> model =
      importer::Model::read(path, options, [&] { return emitError(file); });
  if (!model)
    return failure();
  OwningOpRef<ModuleOp> module = importer::Importer(context, *model, options, report).run();
  if (!module)
    return failure();
  return module;
}

std::string describeLocation(Location location) {
  if (auto fused = dyn_cast<FusedLoc>(location)) {
    for (Location part : fused.getLocations())
      if (std::string text = describeLocation(part); !text.empty())
        return text;
    return "";
  }
  if (auto call = dyn_cast<CallSiteLoc>(location))
    return describeLocation(call.getCallee());
  if (auto file = dyn_cast<FileLineColLoc>(location)) {
    std::string text = file.getFilename().str();
    return file.getLine() ? text + ":" + std::to_string(file.getLine()) + ":" +
                                std::to_string(file.getColumn())
                          : text;
  }
  auto named = dyn_cast<NameLoc>(location);
  if (!named)
    return "";
  // The importer nests node name, operation and file, in this order.
  std::string node = "node '" + named.getName().str() + "'";
  auto op = dyn_cast<NameLoc>(named.getChildLoc());
  if (!op) {
    std::string file = describeLocation(named.getChildLoc());
    return file.empty() ? node : file + ": " + node;
  }
  std::string file = describeLocation(op.getChildLoc());
  StringRef kind = op.getName();
  // Operations are capitalised; what is not a node stands there in small letters.
  std::string what = kind == "input" || kind == "output" || kind == "initializer"
                         ? (kind + " '" + named.getName().getValue() + "'").str()
                         : node + " (" + kind.str() + ")";
  return (file.empty() ? "" : file + ": ") + what;
}

namespace importer {

Importer::Importer(MLIRContext *context, const Model &model, const ImportOptions &options,
                   ImportReport &report)
    : context(context), model(model), options(options), report(report), builder(context) {}

Location Importer::fileLocation() { return FileLineColLoc::get(context, model.path, 0, 0); }

Location Importer::nodeLocation(const std::string &name, const std::string &op) {
  return NameLoc::get(builder.getStringAttr(name),
                      NameLoc::get(builder.getStringAttr(op), fileLocation()));
}

InFlightDiagnostic Importer::error(Location location) {
  failed = true;
  return emitError(location);
}

void Importer::unsupported(const std::string &op, const std::string &reason,
                           const std::string &node) {
  failed |= !options.standIns;
  auto [found, fresh] =
      unsupportedIndex.try_emplace(op + '\0' + reason, static_cast<int>(report.unsupported.size()));
  if (fresh)
    report.unsupported.push_back({op, reason, node, 0});
  ++report.unsupported[found->second].count;
}

Type Importer::elementType(int64_t dataType) {
  switch (dataType) {
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
    return builder.getF32Type();
  case onnx::TensorProto::DOUBLE:
    return builder.getF64Type();
  case onnx::TensorProto::BOOL:
    return builder.getI1Type();
  case onnx::TensorProto::INT8:
  case onnx::TensorProto::INT16:
  case onnx::TensorProto::INT32:
  case onnx::TensorProto::INT64:
    return builder.getIntegerType(8 * elementBytes(dataType));
  case onnx::TensorProto::UINT8:
  case onnx::TensorProto::UINT16:
  case onnx::TensorProto::UINT32:
  case onnx::TensorProto::UINT64:
    return builder.getIntegerType(8 * elementBytes(dataType), /*isSigned=*/false);
  default:
    return {};
  }
}

RankedTensorType Importer::tensorType(ArrayRef<int64_t> shape, Type element, Location location) {
  if (static_cast<int64_t>(shape.size()) > options.maxRank) {
    error(location) << "tensor of rank " << shape.size() << ", the limit is " << options.maxRank;
    return {};
  }
  constexpr int64_t limit = int64_t(1) << 46;
  int64_t elements = 1;
  for (int64_t dim : shape) {
    if (dim < 0) {
      error(location) << "dimension " << dim << " should not be negative";
      return {};
    }
    if (dim > limit || elements > limit / std::max<int64_t>(dim, 1)) {
      error(location) << "tensor of shape " << train::shapeString(shape)
                      << " has too many elements";
      return {};
    }
    elements *= dim;
  }
  return RankedTensorType::get(shape, element);
}

// ---------------------------------------------------------------- names of operations

/// A string field newer than our protobuf, from the fields that it does not know.
static std::string unknownString(const google::protobuf::Message &message, int number) {
  const auto &unknown = message.GetReflection()->GetUnknownFields(message);
  for (int i = 0; i < unknown.field_count(); ++i)
    if (unknown.field(i).number() == number &&
        unknown.field(i).type() == unknown.field(i).TYPE_LENGTH_DELIMITED)
      return unknown.field(i).length_delimited();
  return "";
}

static StringRef normalDomain(StringRef domain) { return domain == "ai.onnx" ? "" : domain; }

std::string qualifiedName(StringRef domain, StringRef op) {
  domain = normalDomain(domain);
  return domain.empty() ? op.str() : (domain + "." + op).str();
}

static std::string joinKey(StringRef domain, StringRef name, StringRef overload) {
  return (qualifiedName(domain, name) + ":" + overload).str();
}
std::string functionKey(const onnx::FunctionProto &function) {
  return joinKey(function.domain(), function.name(), unknownString(function, 13));
}
std::string functionKey(const onnx::NodeProto &node) {
  return joinKey(node.domain(), node.op_type(), unknownString(node, 8));
}

bool Importer::collectFunctions() {
  for (const onnx::FunctionProto &function : model.proto.functions()) {
    if (!functions.try_emplace(functionKey(function), &function).second) {
      error(fileLocation()) << "function '" << qualifiedName(function.domain(), function.name())
                            << "' is defined twice";
      return false;
    }
    // Attribute defaults are newer than our protobuf as well.
    constexpr int attributeProtoField = 11;
    const auto &unknown = function.GetReflection()->GetUnknownFields(function);
    for (int i = 0; i < unknown.field_count(); ++i) {
      const auto &field = unknown.field(i);
      onnx::AttributeProto attribute;
      if (field.number() == attributeProtoField && field.type() == field.TYPE_LENGTH_DELIMITED &&
          attribute.ParsePartialFromString(field.length_delimited()))
        defaults[&function][attribute.name()] = attribute;
    }
  }
  return true;
}

const onnx::AttributeProto *Importer::functionDefault(const onnx::FunctionProto *function,
                                                      StringRef name) const {
  auto found = defaults.find(function);
  if (found == defaults.end())
    return nullptr;
  auto attribute = found->second.find(name);
  return attribute == found->second.end() ? nullptr : &attribute->second;
}

// ---------------------------------------------------------------- order of nodes

/// Names that a node reads, those that its subgraphs read from outside included.
static void collectReads(const onnx::NodeProto &node, std::set<std::string> &reads, int depth = 0) {
  for (const std::string &input : node.input())
    if (!input.empty())
      reads.insert(input);
  if (depth > 64)
    return;
  for (const onnx::AttributeProto &attribute : node.attribute()) {
    if (!attribute.has_g())
      continue;
    std::set<std::string> inner;
    for (const onnx::NodeProto &child : attribute.g().node())
      collectReads(child, inner, depth + 1);
    for (const onnx::ValueInfoProto &output : attribute.g().output())
      inner.insert(output.name());
    for (const onnx::NodeProto &child : attribute.g().node())
      for (const std::string &output : child.output())
        inner.erase(output);
    for (const onnx::ValueInfoProto &input : attribute.g().input())
      inner.erase(input.name());
    for (const onnx::TensorProto &initializer : attribute.g().initializer())
      inner.erase(initializer.name());
    reads.insert(inner.begin(), inner.end());
  }
}

static std::string nodeName(const onnx::NodeProto &node, const Scope &scope, int index) {
  std::string name =
      node.name().empty() ? node.op_type() + ":" + std::to_string(index) : node.name();
  return scope.prefix + name;
}

/// Follows unfinished producers from an unfinished node until one comes back.
static std::string describeCycle(const NodeList &nodes, const Scope &scope,
                                 const std::vector<int> &waitingFor, int start) {
  std::vector<int> position(nodes.size(), -1), path;
  int at = start;
  while (position[at] < 0) {
    position[at] = static_cast<int>(path.size());
    path.push_back(at);
    at = waitingFor[at];
  }
  std::vector<int> cycle(path.begin() + position[at], path.end());
  std::reverse(cycle.begin(), cycle.end());
  std::string text;
  for (size_t i = 0; i < cycle.size() && i < 5; ++i)
    text += "'" + nodeName(nodes[cycle[i]], scope, cycle[i]) + "' -> ";
  if (cycle.size() > 5)
    text += "… -> ";
  return text + "'" + nodeName(nodes[cycle[0]], scope, cycle[0]) + "'";
}

bool Importer::runNodes(const NodeList &nodes, Scope &scope) {
  llvm::StringMap<int> producer;
  bool sound = true;
  for (auto [i, node] : llvm::enumerate(nodes))
    for (const std::string &output : node.output()) {
      if (output.empty())
        continue;
      bool shadows = scope.values.contains(output) || (scope.parent && scope.parent->find(output));
      auto [first, fresh] = producer.try_emplace(output, static_cast<int>(i));
      if (fresh && !shadows)
        continue;
      auto diagnostic = error(
          nodeLocation(nodeName(node, scope, i), qualifiedName(node.domain(), node.op_type())));
      diagnostic << "output '" << output << "' is defined twice";
      if (!fresh)
        diagnostic.attachNote() << "the first definition is node '"
                                << nodeName(nodes[first->second], scope, first->second) << "'";
      sound = false;
    }

  // Kahn's algorithm, the earliest node in the file first: a sorted file keeps its order.
  std::vector<std::vector<int>> readers(nodes.size());
  std::vector<int> missing(nodes.size(), 0), waitingFor(nodes.size(), 0);
  std::priority_queue<int, std::vector<int>, std::greater<int>> ready;
  for (auto [i, node] : llvm::enumerate(nodes)) {
    std::set<std::string> reads;
    collectReads(node, reads);
    for (const std::string &name : reads) {
      if (auto found = producer.find(name); found != producer.end()) {
        readers[found->second].push_back(i);
        ++missing[i];
      } else if (!scope.find(name)) {
        error(nodeLocation(nodeName(node, scope, i), qualifiedName(node.domain(), node.op_type())))
            << "input '" << name
            << "' is neither an input of the graph, an initializer nor an output of a node";
        sound = false;
      }
    }
    if (missing[i] == 0)
      ready.push(i);
  }
  if (!sound)
    return false;
  std::vector<int> order;
  while (!ready.empty()) {
    int i = ready.top();
    ready.pop();
    order.push_back(i);
    for (int reader : readers[i])
      if (--missing[reader] == 0)
        ready.push(reader);
  }
  if (order.size() < static_cast<size_t>(nodes.size())) {
    int start = -1;
    for (int i = nodes.size(); i-- > 0;)
      if (missing[i] > 0) {
        start = i;
        for (int reader : readers[i])
          waitingFor[reader] = i;
      }
    error(nodeLocation(nodeName(nodes[start], scope, start),
                       qualifiedName(nodes[start].domain(), nodes[start].op_type())))
        << "is part of a cycle: " << describeCycle(nodes, scope, waitingFor, start);
    return false;
  }

  for (int i : order) {
    if (++steps > options.maxNodes) { // calls count, too: functions of functions can be many
      error(fileLocation()) << "has more than " << options.maxNodes << " nodes, functions inlined";
      return false;
    }
    runNode(nodes[i], scope, i);
  }
  return true;
}

// ---------------------------------------------------------------- one node

static int64_t opsetOf(const Scope &scope, StringRef domain) {
  for (const Scope *at = &scope; at; at = at->parent)
    if (at->opsets) {
      for (const onnx::OperatorSetIdProto &opset : *at->opsets)
        if (normalDomain(opset.domain()) == domain)
          return opset.version();
      return 0;
    }
  return 0;
}

void Importer::runNode(const onnx::NodeProto &proto, Scope &scope, int index) {
  StringRef domain = normalDomain(proto.domain());
  int64_t opset = opsetOf(scope, domain);
  Node node(*this, scope, proto, nodeName(proto, scope, index), opset);

  llvm::scope_exit publish([&] {
    if (node.failed && node.lacked && options.standIns && standIn(node))
      node.failed = false;
    for (int i = 0; i < proto.output_size(); ++i) {
      Datum &result = node.results[i];
      if (node.failed) {
        result = {};
        result.kind = Datum::Failed;
      } else if (result.kind == Datum::Absent && result.lacking.empty()) {
        result.lacking = "output " + std::to_string(i);
      }
      if (!proto.output(i).empty())
        scope.values[proto.output(i)] = std::move(result);
    }
  });

  // A function of the model takes precedence over an operation of the same name.
  auto function = functions.find(functionKey(proto));
  const OpEntry *entry = nullptr;
  if (function == functions.end()) {
    ++report.nodes;
    ++report.opCounts[node.op];
    entry = findOp(domain, proto.op_type(), opset ? opset : 1);
    if (!entry) {
      node.unsupported("AMC does not have it" + (domain.empty() ? Twine(" in opset ") + Twine(opset)
                                                                : Twine(" in this domain")));
      return;
    }
  }
  for (const std::string &input : proto.input()) {
    const Datum *datum = input.empty() ? nullptr : scope.find(input);
    if (!datum)
      continue;
    if (!datum->lacking.empty() && datum->kind == Datum::Absent) {
      node.unsupported("reads '" + Twine(input) + "': " + datum->lacking);
      return;
    }
    if (datum->kind == Datum::Failed) {
      node.failed = true;
      if (report.unreached++ == 0)
        report.firstUnreached = node.name;
      return;
    }
  }
  if (function != functions.end()) {
    callFunction(*function->second, node);
    return;
  }
  entry->translate(node);
  node.checkAllUsed();
}

void Importer::callFunction(const onnx::FunctionProto &function, Node &caller) {
  for (const Scope *at = &caller.scope; at; at = at->caller ? &at->caller->scope : at->parent)
    if (at->function == &function) {
      caller.fail("function '" + caller.op + "' calls itself");
      return;
    }
  if (caller.scope.depth >= options.maxNesting) {
    caller.fail("functions are nested deeper than " + Twine(options.maxNesting) + " levels");
    return;
  }
  if (caller.inputs() > function.input_size() || caller.outputs() > function.output_size()) {
    caller.fail("calls function '" + caller.op + "' with " + Twine(caller.inputs()) +
                " inputs and " + Twine(caller.outputs()) + " outputs, it has " +
                Twine(function.input_size()) + " and " + Twine(function.output_size()));
    return;
  }
  Scope body;
  body.function = &function;
  body.caller = &caller;
  body.prefix = caller.name + "/";
  body.opsets = &function.opset_import();
  body.depth = caller.scope.depth + 1;
  for (int i = 0; i < function.input_size(); ++i) {
    Datum argument;
    if (i < caller.inputs() && !caller.proto.input(i).empty())
      if (const Datum *given = caller.scope.find(caller.proto.input(i)))
        argument = *given;
    body.values[function.input(i)] = argument;
  }
  if (!runNodes(function.node(), body)) {
    caller.failed = true;
    return;
  }
  for (int i = 0; i < caller.outputs(); ++i) {
    const Datum *result = body.find(function.output(i));
    if (!result) {
      caller.fail("function '" + caller.op + "' does not make its output '" + function.output(i) +
                  "'");
      return;
    }
    caller.results[i] = *result;
  }
}

// ---------------------------------------------------------------- the whole

OwningOpRef<ModuleOp> Importer::run() {
  const onnx::GraphProto &graph = model.proto.graph();
  Scope scope;
  scope.opsets = &model.proto.opset_import();
  report.opset = opsetOf(scope, "");
  if (report.opset < oldestOpset && !(report.opset == 0 && graph.node_size() == 0)) {
    auto diagnostic = error(fileLocation());
    diagnostic << (report.opset ? "is of opset " + std::to_string(report.opset)
                                : std::string("names no opset"))
               << ", should be " << oldestOpset << " or newer";
    diagnostic.attachNote() << "convert it: onnx.version_converter.convert_version(model, 18)";
    return nullptr;
  }
  if (report.opset > newestOpset)
    remark("opset " + std::to_string(report.opset) + " is newer than " +
           std::to_string(newestOpset) +
           ", the newest that is known; operations are read as in opset " +
           std::to_string(newestOpset));
  if (!collectFunctions())
    return nullptr;

  OwningOpRef<ModuleOp> module = ModuleOp::create(builder, fileLocation());
  (*module)->setAttr("train.model", builder.getStringAttr(model.path));
  (*module)->setAttr("train.model_directory", builder.getStringAttr(model.folder));
  builder.setInsertionPointToStart(module->getBody());
  auto step = train::StepOp::create(builder, fileLocation(), builder.getStringAttr("step"));
  body = &step.getBody().emplaceBlock();
  builder.setInsertionPointToStart(body);

  bool bound = bindInputs(scope);
  bool loaded = importInitializers(scope);
  if (!bound || !loaded || !runNodes(graph.node(), scope) || !emitOutputs(scope) || failed ||
      !cleanUp()) {
    reportUnsupported();
    return nullptr;
  }
  return module;
}

} // namespace importer
} // namespace amc
