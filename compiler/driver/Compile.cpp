// Drives one compilation: import, the passes of Pipeline.cpp, the plan. Decides how diagnostics
// become messages, which exit code they mean, and what a failed pass leaves behind (a reproducer in
// the temporary folder). Knows no operation.
#include "compiler/driver/Compile.h"
#include "compiler/analysis/BudgetPlanner.h"
#include "compiler/analysis/GatherStep.h"
#include "compiler/dialect/Train.h"
#include "compiler/driver/Pipeline.h"
#include "compiler/driver/WithinBudget.h"
#include "compiler/emit/EmitPlan.h"
#include "compiler/import/Import.h"
#include "compiler/report/Report.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "runtime/plan/PlanFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"
#include <cstdlib>
#include <map>

using namespace mlir;

namespace amc {
namespace {

Message toMessage(const Diagnostic &diagnostic) {
  Message message;
  switch (diagnostic.getSeverity()) {
  case DiagnosticSeverity::Error:
    message.severity = Message::Error;
    break;
  case DiagnosticSeverity::Warning:
    message.severity = Message::Warning;
    break;
  default:
    message.severity = Message::Remark;
  }
  message.where = describeLocation(diagnostic.getLocation());
  message.text = diagnostic.str();
  for (const Diagnostic &note : diagnostic.getNotes()) {
    std::string where =
        note.getLocation() == diagnostic.getLocation() || isa<UnknownLoc>(note.getLocation())
            ? ""
            : describeLocation(note.getLocation()) + ": ";
    message.notes.push_back(where + note.str());
  }
  return message;
}

// One context, one module, one sink for what is said about it.
class Compilation {
public:
  explicit Compilation(const MessageSink &sink)
      : sink(&sink),
        handler(&context, [this](Diagnostic &diagnostic) { return take(diagnostic); }) {
    // One thread: diagnostics come in the order of the graph, and local reproducers need it.
    context.disableMultithreading();
    context.printOpOnDiagnostic(false); // a whole step is no help to a person
    context.loadDialect<train::TrainDialect>();
  }

  void sayTo(const MessageSink &other) { sink = &other; }

  FailureOr<OwningOpRef<ModuleOp>> import(const CompileOptions &options, ImportReport &report,
                                         bool standIns = false) {
    ImportOptions importOptions;
    importOptions.standIns = standIns;
    for (const std::string &binding : options.shape) {
      size_t equals = binding.find('=');
      importOptions.shapes[binding.substr(0, equals)] =
          *parseShape(std::string_view(binding).substr(equals + 1));
    }
    FailureOr<OwningOpRef<ModuleOp>> imported =
        importOnnx(&context, options.model, importOptions, report);
    for (const std::string &remark : report.remarks)
      (*sink)({Message::Remark, options.model, remark, {}});
    if (succeeded(imported) && options.precision == "fp32")
      remarkPrecision(**imported, options.model);
    return imported;
  }

  // Once for the model: what is computed is not what the file stores.
  void remarkPrecision(ModuleOp module, const std::string &model) {
    std::map<std::string, int64_t> stored;
    module.walk([&](train::ParameterOp parameter) {
      if (auto dtype = parameter.getSourceDtype())
        ++stored[dtype->str()];
    });
    for (const auto &[dtype, count] : stored)
      (*sink)({Message::Remark,
            model,
            "the model stores " + std::to_string(count) + (count == 1 ? " weight" : " weights") +
                " as " + dtype + "; training holds and computes in fp32, which takes twice the memory; " +
                "--precision=bf16 is the 16-bit precision that AMC has",
            {}});
  }

  // Runs the pipeline up to a stage. A failing pass leaves the IR it was given and its options in a
  // file, unless it is one that judges what was asked for: there is nothing to look into then.
  LogicalResult run(ModuleOp module, const CompileOptions &options, llvm::StringRef upTo,
                    llvm::StringRef after = "import") {
    PassManager passes(&context, ModuleOp::getOperationName());
    buildPipeline(passes, options, upTo, after);
    std::string reproducer;
    passes.enableCrashReproducerGeneration(
        [&](std::string &error) -> std::unique_ptr<ReproducerStream> {
          return openReproducer(reproducer, error);
        },
        /*genLocalReproducer=*/true);
    std::string culprit;
    passes.addInstrumentation(std::make_unique<FailedPass>(culprit));
    LogicalResult result = passes.run(module);
    if (culprit == "assign-roles" || culprit == "attach-loss")
      llvm::sys::fs::remove(reproducer);
    else if (failed(result) && !reproducer.empty())
      (*sink)({Message::Remark,
            "",
            "the failed pass can be run again alone: amc-opt --run-reproducer " + reproducer,
            {}});
    return result;
  }

private:
  struct FailedPass : PassInstrumentation {
    explicit FailedPass(std::string &name) : name(name) {}
    void runAfterPassFailed(Pass *pass, Operation *) override {
      if (name.empty())
        name = pass->getArgument().str();
    }
    std::string &name;
  };

  struct FileReproducer : ReproducerStream {
    FileReproducer(int fd, llvm::StringRef path) : path(path), stream(fd, /*shouldClose=*/true) {}
    llvm::StringRef description() override { return path; }
    llvm::raw_ostream &os() override { return stream; }
    std::string path;
    llvm::raw_fd_ostream stream;
  };

  static std::unique_ptr<ReproducerStream> openReproducer(std::string &path, std::string &error) {
    int fd = -1;
    llvm::SmallString<128> name;
    if (std::error_code code =
            llvm::sys::fs::createTemporaryFile("amc-reproducer", "mlir", fd, name)) {
      error = code.message();
      return nullptr;
    }
    path = name.str();
    return std::make_unique<FileReproducer>(fd, name);
  }

  LogicalResult take(Diagnostic &diagnostic) {
    Message message = toMessage(diagnostic);
    // MLIR's own words about the reproducer; run() says it in AMC's.
    if (message.text.find("while processing an MLIR pass pipeline") != message.text.npos ||
        message.text.rfind("A failure has been detected while processing the MLIR module", 0) == 0)
      return success();
    (*sink)(message);
    return success();
  }

  const MessageSink *sink;
  MLIRContext context;
  ScopedDiagnosticHandler handler;
};

// Options as the passes see them: --ac-trace is also an environment variable, and another one in
// the guide that users come from.
CompileOptions withEnvironment(CompileOptions options) {
  for (const char *name : {"AMC_SELECTIVE_AC_TRACE", "NEMO_SELECTIVE_AC_TRACE"})
    if (const char *value = std::getenv(name);
        value && llvm::StringRef(value) != "" && llvm::StringRef(value) != "0")
      options.acTrace = true;
  return options;
}

Message errorMessage(const std::string &text) { return {Message::Error, "", text, {}}; }

// What is asked for, from a module that the pipeline has been run on.
CompileResult finish(ModuleOp module, const CompileOptions &options) {
  CompileResult result;
  if (options.emit != "plan") {
    // With locations: read back, the text is the module again. VerifyPlan tells recomputed operations by them, and
    // diagnostics name the model's nodes.
    llvm::raw_string_ostream text(result.text);
    module.print(text, OpPrintingFlags().enableDebugInfo());
    text << "\n";
    return result;
  }
  EmitOptions emitOptions;
  emitOptions.embedWeights = options.embedWeights;
  emitOptions.learningRate = options.learningRate;
  FailureOr<plan::Plan> plan = emitPlan(module, emitOptions);
  if (failed(plan))
    result.code = BadInput;
  else
    result.plan = std::move(*plan);
  return result;
}

bool agree(const CompileOptions &options, const MessageSink &sink) {
  std::vector<std::string> wrong = checkTogether(options);
  for (const std::string &message : wrong)
    sink(errorMessage(message));
  return wrong.empty();
}

// What a step with its optimizer could be planned to: rising arenas, falling cost. Empty if the
// target has no cost model or the step cannot be gathered, which the planner would say.
ParetoCurve curveOf(train::StepOp step, const CompileOptions &options, unsigned points) {
  std::optional<DeviceModel> device = deviceModel(options.target, options.precision);
  FailureOr<GatheredStep> gathered = gatherStep(step);
  if (!device || failed(gathered))
    return {};
  PlannerSettings settings;
  settings.device = *device;
  return planCurve(gathered->graph, findBlocks(gathered->graph), settings, points);
}

bool plansBudget(const CompileOptions &options) {
  return options.activationCheckpointing == "budget" || options.activationCheckpointing == "auto";
}

// For reports.
void noteCurve(ModuleOp module, const CompileOptions &options) {
  constexpr unsigned points = 12;
  for (auto step : module.getOps<train::StepOp>()) {
    llvm::SmallVector<int64_t> numbers;
    for (const CurvePoint &point : curveOf(step, options, points))
      numbers.append({static_cast<int64_t>(point.arenaBytes), static_cast<int64_t>(point.cost)});
    step->setAttr("train.pareto_curve", DenseI64ArrayAttr::get(module.getContext(), numbers));
  }
}

// The options without those that only say what is kept for backward, and where results go.
CompileOptions stepOptions(CompileOptions options) {
  const CompileOptions defaults;
  options.activationCheckpointing = defaults.activationCheckpointing;
  options.acMatmuls = defaults.acMatmuls;
  options.acPolicy = defaults.acPolicy;
  options.acKvSharing = defaults.acKvSharing;
  options.acTrace = defaults.acTrace;
  options.memoryBudget = defaults.memoryBudget;
  options.deviceMemory = defaults.deviceMemory;
  options.output = defaults.output;
  options.report = defaults.report;
  return options;
}

} // namespace

CompileResult compile(const CompileOptions &given, const MessageSink &sink) {
  CompileOptions options = withEnvironment(given);
  if (!agree(options, sink))
    return {BadUsage, {}, {}};
  Compilation compilation(sink);
  ImportReport report;
  FailureOr<OwningOpRef<ModuleOp>> module = compilation.import(options, report);
  if (failed(module))
    return {BadInput, {}, {}};
  if (options.emit != "plan" || (options.report.empty() && !plansBudget(options))) {
    if (failed(compilation.run(**module, options, options.emit)))
      return {BadInput, {}, {}};
  } else {
    if (failed(compilation.run(**module, options, "optimizer")))
      return {BadInput, {}, {}};
    noteCurve(**module, options);
    if (failed(compilation.run(**module, options, "plan", "optimizer")))
      return {BadInput, {}, {}};
  }
  return finish(**module, options);
}

struct Techniques::State {
  explicit State(const MessageSink &sink) : compilation(sink) {}
  Compilation compilation;
  OwningOpRef<ModuleOp> model; // raised; null if that failed
  CompileOptions options;      // of `step`
  OwningOpRef<ModuleOp> step;  // with its optimizer, as the last technique had it
};

Techniques::Techniques(const CompileOptions &options, const MessageSink &sink)
    : state(std::make_unique<State>(sink)) {
  ImportReport report;
  FailureOr<OwningOpRef<ModuleOp>> module = state->compilation.import(options, report);
  if (succeeded(module) && succeeded(state->compilation.run(**module, options, "raise")))
    state->model = std::move(*module);
}
Techniques::~Techniques() = default;

bool Techniques::ready() const { return static_cast<bool>(state->model); }

bool Techniques::makeStep(const CompileOptions &options, const MessageSink &sink) {
  state->compilation.sayTo(sink);
  CompileOptions wanted = stepOptions(options);
  if (state->step && state->options == wanted)
    return true;
  state->step = OwningOpRef<ModuleOp>(state->model->clone());
  state->options = wanted;
  if (succeeded(state->compilation.run(*state->step, options, "optimizer", "raise")))
    return true;
  state->step = {};
  return false;
}

CompileResult Techniques::compile(const CompileOptions &given, const MessageSink &sink) {
  CompileOptions options = withEnvironment(given);
  if (!agree(options, sink))
    return {BadUsage, {}, {}};
  if (!makeStep(options, sink))
    return {BadInput, {}, {}};
  OwningOpRef<ModuleOp> module(state->step->clone());
  if (failed(state->compilation.run(*module, options, "plan", "optimizer")))
    return {BadInput, {}, {}};
  return finish(*module, options);
}

std::vector<uint64_t> Techniques::arenas(const CompileOptions &options, unsigned points,
                                         const MessageSink &sink) {
  std::vector<uint64_t> bytes;
  if (makeStep(options, sink))
    for (auto step : state->step->getOps<train::StepOp>())
      for (const CurvePoint &point : curveOf(step, options, points))
        bytes.push_back(point.arenaBytes);
  return bytes;
}

ExitCode writeFile(const std::string &path, const std::string &bytes, const MessageSink &sink) {
  if (path == "-") {
    llvm::outs() << bytes;
    llvm::outs().flush();
    std::error_code code = llvm::outs().error();
    if (!code)
      return Done;
    llvm::outs().clear_error();
    sink(errorMessage("standard output cannot be written: " + code.message()));
    return MachineLimit; // as amrun
  }
  rt::Status status = rt::writeFileWhole(bytes, path);
  if (!status.ok())
    sink(errorMessage(status.message()));
  return static_cast<ExitCode>(status.ok() ? 0 : status.exitCode());
}

ExitCode compileToFile(const CompileOptions &options, const MessageSink &sink) {
  for (const std::string *path : {&options.output, &options.report})
    if (bool same = false; !path->empty() && *path != "-" &&
                           !llvm::sys::fs::equivalent(*path, options.model, same) && same) {
      sink(errorMessage(*path + ": is the model itself, should be another file"));
      return BadInput;
    }
  CompileResult result = compileWithinBudget(options, sink);
  if (result.code != Done)
    return result.code;
  if (!result.plan)
    return writeFile(options.output.empty() ? "-" : options.output, result.text, sink);
  auto fail = [&](const rt::Status &status) {
    sink(errorMessage(status.message()));
    return static_cast<ExitCode>(status.exitCode());
  };
  const std::string page = options.report.empty() ? "" : report::html(*result.plan);
  // Whether a report is asked for changes no plan: only that of a budget keeps its curve.
  auto &notes = *result.plan->mutable_notes();
  if (!plansBudget(options))
    notes.erase(std::remove_if(notes.begin(), notes.end(),
                               [](const plan::Attribute &note) { return note.name() == "pareto_curve"; }),
                notes.end());
  // The report is whole before the plan appears, so that neither is there without the other.
  std::optional<rt::PendingFile> report;
  if (!options.report.empty() && options.report != "-") {
    rt::Expected<rt::PendingFile> written =
        rt::PendingFile::write(page, options.report);
    if (!written.ok())
      return fail(written.status());
    report.emplace(std::move(*written));
  }
  if (options.output == "-") {
    rt::Expected<std::string> bytes = rt::serializePlan(*result.plan);
    if (!bytes.ok())
      return fail(bytes.status());
    if (ExitCode code = writeFile("-", *bytes, sink); code != Done)
      return code;
  } else if (rt::Status status = rt::writePlanFile(*result.plan, options.output); !status.ok()) {
    return fail(status);
  }
  if (options.report == "-")
    return writeFile("-", page, sink);
  if (report)
    if (rt::Status status = report->commit(); !status.ok())
      return fail(status);
  sink({Message::Remark, options.output, report::promiseText(*result.plan), {}});
  return Done;
}

CheckReport check(const CompileOptions &given) {
  CompileOptions options = withEnvironment(given);
  CheckReport report;
  // derive-backward states what has no gradient as "train.sort has no gradient here (3 uses, …)",
  // one error for each kind of operation; everything else that it or another pass finds is passed
  // on as it is.
  MessageSink sink = [&](const Message &message) {
    if (message.severity != Message::Error)
      return;
    llvm::StringRef text = message.text;
    auto [op, rest] = text.split(" has no gradient here (");
    int64_t count = 0;
    if (!rest.empty() && !rest.consumeInteger(10, count))
      report.missingGradients.push_back({op.str(), "", message.where, count});
    else if (!text.starts_with("needs what AMC does not have")) // the importer's list, which
                                                                // `missingOperations` has
      report.otherErrors.push_back(message);
  };
  Compilation compilation(sink);
  ImportReport imported;
  FailureOr<OwningOpRef<ModuleOp>> module = compilation.import(options, imported, /*standIns=*/true);
  bool ok = succeeded(module);
  report.opset = imported.opset;
  report.nodes = imported.nodes;
  for (const auto &[name, count] : imported.opCounts)
    report.operations.emplace_back(name, count);
  for (const UnsupportedOp &op : imported.unsupported)
    report.missingOperations.push_back({op.op, op.reason, op.firstNode, op.count});
  const size_t own = report.otherErrors.size(); // what comes now may be the stand-ins' doing
  if (ok && failed(compilation.run(**module, options, "backward")) && report.trains())
    report.otherErrors.push_back(errorMessage("the model cannot be differentiated"));
  if (!ok && report.trains())
    report.otherErrors.push_back(errorMessage("the model cannot be read"));
  if (imported.unsupported.empty())
    return report;
  if (imported.unreached)
    report.notJudged.push_back(
        std::to_string(imported.unreached) +
        (imported.unreached == 1 ? " node" : " nodes") + " behind missing operations, first at " +
        imported.firstUnreached +
        ": the model does not say the shapes of what these make (onnx.shape_inference may add them)");
  if (!ok && report.otherErrors.empty())
    report.notJudged.push_back("gradients: no output of the model can be reached");
  for (size_t i = own; i < report.otherErrors.size(); ++i)
    report.notJudged.push_back("gradients: " + report.otherErrors[i].text);
  report.otherErrors.resize(own);
  return report;
}

} // namespace amc
