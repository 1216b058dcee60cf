// Import with shapes bound from the case's inputs, the memory passes, the plan, the CPU executor:
// what amc and amrun do, without a loss. Every case runs twice, once as imported and once after
// `raise`, whose rewriting must not change it.
//
// What is done to the models first:
//   - opsets below 13 become 13, the oldest that AMC imports: such a model's operation has not
//   changed between its opset
//     and 13, because the suite states the opset in which its operation last changed (but for a few
//     models of old operations, which are expected to fail);
//   - outputs whose names start with "present" get another name: the importer takes them for a
//   decoder's caches, which a
//     training step does not make;
//   - where the import asks for constants, integer inputs and single numbers become initializers. A
//   node test feeds
//     even shapes and axes at run time; in a model that is trained they are constants;
//   - a step whose results are views of its inputs (Identity, Reshape) has nothing to run, which no
//   plan may be: it gets
//     a result of its own, beside those that are compared;
//   - sequences going in or out become their elements: an AMC step has tensors only.
#include "test/conformance/Runner.h"
#include "compiler/dialect/Plan.h"
#include "compiler/dialect/Train.h"
#include "compiler/emit/EmitPlan.h"
#include "compiler/import/Import.h"
#include "compiler/import/Node.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include "runtime/executor/Executor.h"
#include "runtime/trainer/Weights.h"
#include "test/conformance/Compare.h"
#include <filesystem>
#include <fstream>
#include <onnx/onnx-data_pb.h>
#include <onnx/onnx_pb.h>

using namespace mlir;

namespace amc::conformance {
namespace {

/// A folder that is gone when the case is done.
class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "amc-conformance-XXXXXX").string();
    if (char *made = mkdtemp(pattern.data()))
      path = made;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path path;
};

struct DataSet {
  std::vector<Tensor> inputs, outputs;
};

rt::DType dtypeOf(int dataType) {
  switch (dataType) {
  case onnx::TensorProto::FLOAT:
    return plan::F32;
  case onnx::TensorProto::DOUBLE:
    return plan::F64;
  case onnx::TensorProto::FLOAT16:
    return plan::F16;
  case onnx::TensorProto::BFLOAT16:
    return plan::BF16;
  case onnx::TensorProto::INT64:
    return plan::I64;
  case onnx::TensorProto::INT32:
    return plan::I32;
  case onnx::TensorProto::INT16:
    return plan::I16;
  case onnx::TensorProto::INT8:
    return plan::I8;
  case onnx::TensorProto::UINT64:
    return plan::U64;
  case onnx::TensorProto::UINT32:
    return plan::U32;
  case onnx::TensorProto::UINT16:
    return plan::U16;
  case onnx::TensorProto::UINT8:
    return plan::U8;
  case onnx::TensorProto::BOOL:
    return plan::BOOL;
  default:
    return plan::DTYPE_UNSPECIFIED;
  }
}

const std::byte *bytesOf(const Tensor &tensor) {
  return reinterpret_cast<const std::byte *>(tensor.bytes.data());
}

std::vector<uint64_t> shapeOf(const Tensor &tensor) {
  return {tensor.shape.begin(), tensor.shape.end()};
}

bool readModel(const Case &test, onnx::ModelProto &model) {
  auto file = test.files.find("model.onnx");
  return file != test.files.end() && model.ParseFromString(file->second);
}

/// The tensor in a message; a reason if it is none that AMC knows. ONNX 1.12 wrote bfloat16 as
/// uint16.
std::string addTensor(onnx::TensorProto proto, int declaredType, const std::string &what,
                      std::vector<Tensor> &values) {
  if (declaredType == onnx::TensorProto::BFLOAT16 && proto.data_type() == onnx::TensorProto::UINT16)
    proto.set_data_type(onnx::TensorProto::BFLOAT16);
  std::optional<Tensor> tensor = readTensor(proto);
  if (!tensor)
    return what + " is of an element type that AMC does not have";
  values.push_back(std::move(*tensor));
  return "";
}

onnx::NodeProto makeNode(const char *op, std::vector<std::string> inputs,
                         const std::string &output) {
  onnx::NodeProto node;
  node.set_op_type(op);
  node.set_name("conformance " + output);
  for (const std::string &input : inputs)
    node.add_input(input);
  node.add_output(output);
  return node;
}

/// Reads the values of a model's inputs and outputs. A sequence becomes its elements, in the data
/// and in the model: SequenceConstruct makes it from inputs, SequenceAt takes it apart into
/// outputs.
class DataReader {
public:
  DataReader(const Case &test, std::string folder, onnx::ModelProto &model)
      : test(test), folder(std::move(folder)), graph(*model.mutable_graph()) {}

  std::string read(DataSet &data) {
    dropInitialized();
    std::string why = readAll("input", *graph.mutable_input(), data.inputs);
    if (why.empty())
      why = readAll("output", *graph.mutable_output(), data.outputs);
    google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
    for (const onnx::NodeProto &node : before)
      *nodes.Add() = node;
    nodes.MergeFrom(graph.node());
    for (const onnx::NodeProto &node : after)
      *nodes.Add() = node;
    *graph.mutable_node() = nodes;
    return why;
  }

private:
  using Infos = google::protobuf::RepeatedPtrField<onnx::ValueInfoProto>;

  /// Inputs that are initializers, too, have no data of their own.
  void dropInitialized() {
    Infos inputs;
    for (const onnx::ValueInfoProto &info : graph.input())
      if (llvm::none_of(graph.initializer(),
                        [&](const onnx::TensorProto &t) { return t.name() == info.name(); }))
        *inputs.Add() = info;
    *graph.mutable_input() = inputs;
  }

  std::string readAll(const std::string &kind, Infos &infos, std::vector<Tensor> &values) {
    Infos flat;
    for (int i = 0; i < infos.size(); ++i) {
      std::string path = folder + "/" + kind + "_" + std::to_string(i) + ".pb";
      std::string what = kind + " '" + infos[i].name() + "'";
      auto file = test.files.find(path);
      if (file == test.files.end())
        return path + " is missing";
      std::string why;
      if (infos[i].type().has_tensor_type()) {
        onnx::TensorProto proto;
        if (!proto.ParseFromString(file->second))
          return path + " cannot be read";
        why = addTensor(proto, infos[i].type().tensor_type().elem_type(), what, values);
        *flat.Add() = infos[i];
      } else if (infos[i].type().has_sequence_type()) {
        onnx::SequenceProto proto;
        if (!proto.ParseFromString(file->second))
          return path + " cannot be read";
        why = readSequence(kind == "input", infos[i], proto, flat, values);
      } else {
        why = what + " is no tensor and no sequence";
      }
      if (!why.empty())
        return why;
    }
    infos = flat;
    return "";
  }

  std::string readSequence(bool input, const onnx::ValueInfoProto &info,
                           const onnx::SequenceProto &proto, Infos &flat,
                           std::vector<Tensor> &values) {
    std::vector<std::string> elements;
    for (int i = 0; i < proto.tensor_values_size(); ++i) {
      const onnx::TensorProto &tensor = proto.tensor_values(i);
      elements.push_back(info.name() + "_" + std::to_string(i));
      if (std::string why =
              addTensor(tensor, tensor.data_type(), "an element of '" + info.name() + "'", values);
          !why.empty())
        return why;
      onnx::ValueInfoProto &element = *flat.Add();
      element.set_name(elements.back());
      element.mutable_type()->mutable_tensor_type()->set_elem_type(tensor.data_type());
      for (int64_t dim : tensor.dims())
        element.mutable_type()->mutable_tensor_type()->mutable_shape()->add_dim()->set_dim_value(
            dim);
      if (input)
        continue;
      std::string position = elements.back() + "_position";
      onnx::NodeProto constant = makeNode("Constant", {}, position);
      onnx::AttributeProto *value = constant.add_attribute();
      value->set_name("value_int");
      value->set_type(onnx::AttributeProto::INT);
      value->set_i(i);
      after.push_back(constant);
      after.push_back(makeNode("SequenceAt", {info.name(), position}, elements.back()));
    }
    if (input)
      before.push_back(makeNode(elements.empty() ? "SequenceEmpty" : "SequenceConstruct", elements,
                                info.name()));
    return "";
  }

  const Case &test;
  const std::string folder;
  onnx::GraphProto &graph;
  std::vector<onnx::NodeProto> before, after;
};

std::vector<std::string> dataSets(const Case &test) {
  std::set<std::string> folders;
  for (const auto &[path, content] : test.files)
    if (size_t slash = path.find('/'); slash != path.npos)
      folders.insert(path.substr(0, slash));
  return {folders.begin(), folders.end()};
}

void raiseOpset(onnx::ModelProto &model) {
  for (auto &opset : *model.mutable_opset_import())
    if ((opset.domain().empty() || opset.domain() == "ai.onnx") && opset.version() < 13)
      opset.set_version(13);
}

void renameCaches(onnx::GraphProto &graph) {
  auto rename = [](std::string *name) {
    if (name->rfind("present", 0) == 0)
      name->insert(0, "made_");
  };
  for (auto &output : *graph.mutable_output())
    rename(output.mutable_name());
  for (auto &node : *graph.mutable_node()) {
    for (auto &name : *node.mutable_input())
      rename(&name);
    for (auto &name : *node.mutable_output())
      rename(&name);
  }
}

/// Integer inputs and single numbers become initializers; gives the indices of the inputs that
/// stay.
std::vector<int> makeConstants(onnx::GraphProto &graph, const DataSet &data) {
  std::vector<int> kept;
  google::protobuf::RepeatedPtrField<onnx::ValueInfoProto> inputs;
  for (int i = 0; i < graph.input_size(); ++i) {
    const Tensor &value = data.inputs[i];
    rt::DType dtype = dtypeOf(value.dataType);
    if (rt::isFloat(dtype) && value.bytes.size() > rt::dtypeBytes(dtype)) {
      kept.push_back(i);
      *inputs.Add() = graph.input(i);
      continue;
    }
    onnx::TensorProto *constant = graph.add_initializer();
    constant->set_name(graph.input(i).name());
    constant->set_data_type(value.dataType);
    for (int64_t dim : value.shape)
      constant->add_dims(dim);
    constant->set_raw_data(value.bytes);
  }
  *graph.mutable_input() = inputs;
  return kept;
}

/// Adds a computation and an output to a step that computes nothing.
void giveWork(train::StepOp step) {
  Block &block = step.getBody().front();
  if (llvm::any_of(block, [](Operation &op) {
        return isa<train::ComputeOpInterface>(op) && !isa<train::ViewOpInterface>(op);
      }))
    return;
  OpBuilder builder = OpBuilder::atBlockEnd(&block);
  auto one =
      train::FullOp::create(builder, step.getLoc(), builder.getF64FloatAttr(1),
                            builder.getDenseI64ArrayAttr({}), TypeAttr::get(builder.getF32Type()));
  train::OutputOp::create(builder, step.getLoc(), one, builder.getStringAttr("work"), UnitAttr());
}

class CaseRun {
public:
  CaseRun(const onnx::ModelProto &model, const DataSet &data, bool raise)
      : model(model), data(data), raise(raise) {}

  std::string run() {
    if (folder.path.empty())
      return "no temporary folder can be made";
    std::string why = build(/*constants=*/false);
    if (!why.empty()) {
      std::string again = build(/*constants=*/true);
      if (!again.empty())
        return again;
    }
    return execute();
  }

private:
  std::string build(bool constants) {
    onnx::ModelProto variant = model;
    runtimeInputs.clear();
    if (constants)
      runtimeInputs = makeConstants(*variant.mutable_graph(), data);
    else
      for (int i = 0; i < variant.graph().input_size(); ++i)
        runtimeInputs.push_back(i);
    std::string path = folder.path / "model.onnx";
    {
      std::ofstream file(path, std::ios::binary);
      if (!variant.SerializeToOstream(&file))
        return path + " cannot be written";
    }

    MLIRContext context;
    context.disableMultithreading();
    context.loadDialect<train::TrainDialect, plan::PlanDialect>();
    std::string errors;
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
      if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
        errors += (errors.empty() ? "" : "; ") + diagnostic.str();
      return success();
    });
    auto failed = [&](const char *stage) { return std::string(stage) + ": " + errors; };

    ImportOptions options;
    for (int i = 0; i < variant.graph().input_size(); ++i)
      options.shapes[variant.graph().input(i).name()] = data.inputs[runtimeInputs[i]].shape;
    ImportReport report;
    FailureOr<OwningOpRef<ModuleOp>> module = importOnnx(&context, path, options, report);
    if (mlir::failed(module)) {
      for (const UnsupportedOp &op : report.unsupported)
        errors += (errors.empty() ? "" : "; ") + op.op + ": " + op.reason;
      return failed("import");
    }
    for (train::StepOp step : (*module)->getOps<train::StepOp>())
      giveWork(step);
    PassManager passes(&context, ModuleOp::getOperationName());
    if (raise)
      passes.addPass(createRaise());
    passes.addPass(createSchedule());
    passes.addPass(createAssignOffsets());
    passes.addPass(createVerifyPlan());
    passes.addPass(createLowerToPlan());
    if (mlir::failed(passes.run(**module)))
      return failed("passes");
    FailureOr<plan::Plan> emitted = emitPlan(**module, EmitOptions());
    if (mlir::failed(emitted))
      return failed("emit");
    plan = std::move(*emitted);
    return "";
  }

  std::string execute() {
    std::vector<plan::Source> sources = rt::takeSources(plan);
    rt::ExecutorOptions options;
    options.threads = 2;
    options.hugePages = false;
    rt::Expected<rt::Executor> executor = rt::Executor::create(plan, options);
    if (!executor.ok())
      return "executor: " + executor.status().message();
    std::vector<std::string> notes;
    if (rt::Status status = rt::loadWeights(*executor, rt::Ranks(), {}, std::move(sources), folder.path, notes);
        !status.ok())
      return "weights: " + status.message();
    for (int i = 0; i < executor->plan().inputs_size(); ++i)
      if (std::string why = feed(*executor, i); !why.empty())
        return why;
    if (rt::Status status = executor->runForward(); !status.ok())
      return "run: " + status.message();
    return check(*executor);
  }

  std::string feed(rt::Executor &executor, int index) {
    const std::string &name = executor.plan().inputs(index).name();
    for (int i : runtimeInputs) {
      if (model.graph().input(i).name() != name)
        continue;
      const Tensor &value = data.inputs[i];
      rt::Tensor target = executor.input(index);
      rt::DType from = dtypeOf(value.dataType);
      uint64_t elements = value.bytes.size() / rt::dtypeBytes(from);
      if (target.elements != elements || !rt::convertible(from, target.dtype) ||
          rt::convertElements(from, bytesOf(value), target.dtype,
                              static_cast<std::byte *>(target.data), elements) != elements)
        return "input '" + name + "' does not fit what the plan has for it";
      return "";
    }
    return "the plan has an input '" + name + "' that the model does not have";
  }

  std::string check(const rt::Executor &executor) {
    for (int i = 0; i < model.graph().output_size(); ++i) {
      const std::string &name = model.graph().output(i).name();
      int found = -1;
      for (int k = 0; k < executor.plan().outputs_size(); ++k)
        if (executor.plan().outputs(k).name() == name)
          found = k;
      if (found < 0)
        return "the plan does not have output '" + name + "'";
      rt::Tensor ours = executor.output(found);
      const Tensor &expected = data.outputs[i];
      std::string why = compare(ours.dtype, {ours.view->shape().begin(), ours.view->shape().end()},
                                static_cast<const std::byte *>(ours.data),
                                dtypeOf(expected.dataType), shapeOf(expected), bytesOf(expected));
      if (!why.empty())
        return "output '" + name + "' " + why;
    }
    return "";
  }

  const onnx::ModelProto &model;
  const DataSet &data;
  bool raise;
  TemporaryFolder folder;
  std::vector<int> runtimeInputs; // indices into the model's inputs, in the order of the variant's
  plan::Plan plan;
};

/// Operations of a graph and of the graphs and functions inside it.
void collect(const google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes,
             const onnx::ModelProto &model, int64_t opset, Outcome &outcome) {
  for (const onnx::NodeProto &node : nodes) {
    bool standard = node.domain().empty() || node.domain() == "ai.onnx";
    std::string name = standard ? node.op_type() : node.domain() + "." + node.op_type();
    bool function = llvm::any_of(model.functions(), [&](const onnx::FunctionProto &f) {
      return f.name() == node.op_type() && f.domain() == node.domain();
    });
    if (!function) {
      outcome.operations.insert(name);
      if (!importer::findOp(standard ? "" : node.domain(), node.op_type(), opset))
        outcome.unsupported.insert(name);
    }
    for (const onnx::AttributeProto &attribute : node.attribute())
      if (attribute.has_g())
        collect(attribute.g().node(), model, opset, outcome);
  }
}

} // namespace

Outcome inspect(const Case &test) {
  Outcome outcome;
  onnx::ModelProto model;
  if (!readModel(test, model))
    return outcome;
  raiseOpset(model);
  int64_t opset = 0;
  for (const auto &import : model.opset_import())
    if (import.domain().empty() || import.domain() == "ai.onnx")
      opset = import.version();
  collect(model.graph().node(), model, opset, outcome);
  for (const onnx::FunctionProto &function : model.functions())
    collect(function.node(), model, opset, outcome);
  return outcome;
}

Outcome run(const Case &test) {
  Outcome outcome = inspect(test);
  onnx::ModelProto model;
  if (!readModel(test, model)) {
    outcome.failure = "model.onnx cannot be read";
    return outcome;
  }
  raiseOpset(model);
  renameCaches(*model.mutable_graph());
  std::vector<std::string> folders = dataSets(test);
  if (folders.empty())
    outcome.failure = "there is no data";
  for (const std::string &folder : folders) {
    DataSet data;
    onnx::ModelProto flat = model;
    outcome.failure = DataReader(test, folder, flat).read(data);
    for (bool raise : {false, true})
      if (outcome.failure.empty())
        if (std::string why = CaseRun(flat, data, raise).run(); !why.empty())
          outcome.failure = (raise ? "after raise: " : "") + why;
    if (!outcome.failure.empty())
      return outcome;
  }
  return outcome;
}

} // namespace amc::conformance
