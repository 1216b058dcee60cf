// See Compilation.h.
#include "compiler/driver/Compilation.h"
#include "compiler/analysis/JoinedRecomputation.h"
#include "compiler/driver/Pipeline.h"
#include "compiler/emit/EmitPlan.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/PlanVerifier.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassInstrumentation.h"
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

std::unique_ptr<ReproducerStream> openReproducer(std::string &path, std::string &error) {
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

} // namespace

Compilation::Compilation(const MessageSink &sink)
    : sink(&sink), handler(&context, [this](Diagnostic &diagnostic) { return take(diagnostic); }) {
  // One thread: diagnostics come in the order of the graph, and local reproducers need it.
  context.disableMultithreading();
  context.printOpOnDiagnostic(false); // a whole step is no help to a person
  context.loadDialect<train::TrainDialect>();
}

FailureOr<OwningOpRef<ModuleOp>> Compilation::import(const CompileOptions &options,
                                                     ImportReport &report, bool standIns) {
  ImportOptions importOptions;
  importOptions.standIns = standIns;
  importOptions.batch = options.localBatchSize;
  importOptions.untied = options.untied;
  for (const std::string &binding : options.shape) {
    size_t equals = binding.find('=');
    importOptions.shapes[binding.substr(0, equals)] =
        *parseShape(std::string_view(binding).substr(equals + 1));
  }
  FailureOr<OwningOpRef<ModuleOp>> imported =
      importOnnx(&context, options.model, importOptions, report);
  for (const std::string &remark : report.remarks)
    (*sink)({Message::Remark, options.model, remark, {}});
  // Before any pass: how much scratch an operation needs is a matter of the target.
  if (succeeded(imported) && options.target != "cpu")
    for (auto step : (*imported)->getOps<train::StepOp>())
      step->setAttr("train.target", StringAttr::get(&context, options.target));
  if (succeeded(imported) && options.precision == "fp32")
    remarkPrecision(**imported, options.model);
  return imported;
}

// Once for the model: what is computed is not what the file stores.
void Compilation::remarkPrecision(ModuleOp module, const std::string &model) {
  std::map<std::string, int64_t> stored;
  module.walk([&](train::ParameterOp parameter) {
    if (auto dtype = parameter.getSourceDtype())
      ++stored[dtype->str()];
  });
  for (const auto &[dtype, count] : stored)
    (*sink)({Message::Remark,
             model,
             "the model stores " + std::to_string(count) + (count == 1 ? " weight" : " weights") +
                 " as " + dtype +
                 "; training holds and computes in fp32, which takes twice the memory; " +
                 "--precision=bf16 is the 16-bit precision that AMC has",
             {}});
}

LogicalResult Compilation::run(ModuleOp module, const CompileOptions &options, llvm::StringRef upTo,
                               llvm::StringRef after, std::shared_ptr<PlannedStep> planned) {
  PassManager passes(&context, ModuleOp::getOperationName());
  buildPipeline(passes, options, upTo, after, planned);
  std::string reproducer;
  passes.enableCrashReproducerGeneration(
      [&](std::string &error) -> std::unique_ptr<ReproducerStream> {
        return openReproducer(reproducer, error);
      },
      /*genLocalReproducer=*/true);
  std::string culprit;
  passes.addInstrumentation(std::make_unique<FailedPass>(culprit));
  LogicalResult result = passes.run(module);
  bool overBudget = culprit == "plan-budget" && planned && !planned->plan.feasible;
  if (culprit == "assign-roles" || culprit == "attach-loss" || overBudget)
    llvm::sys::fs::remove(reproducer);
  else if (failed(result) && !reproducer.empty())
    (*sink)({Message::Remark,
             "",
             "the failed pass can be run again alone: amc-opt --run-reproducer " + reproducer,
             {}});
  return result;
}

LogicalResult Compilation::take(Diagnostic &diagnostic) {
  Message message = toMessage(diagnostic);
  // MLIR's own words about the reproducer; run() says it in AMC's.
  if (message.text.find("while processing an MLIR pass pipeline") != message.text.npos ||
      message.text.rfind("A failure has been detected while processing the MLIR module", 0) == 0)
    return success();
  (*sink)(message);
  return success();
}

CompileOptions withEnvironment(CompileOptions options) {
  for (const char *name : {"AMC_SELECTIVE_AC_TRACE", "NEMO_SELECTIVE_AC_TRACE"})
    if (const char *value = std::getenv(name);
        value && llvm::StringRef(value) != "" && llvm::StringRef(value) != "0")
      options.acTrace = true;
  settle(options);
  return options;
}

Message errorMessage(const std::string &text) { return {Message::Error, "", text, {}}; }

bool agree(const CompileOptions &options, const MessageSink &sink) {
  std::vector<std::string> wrong = checkTogether(options);
  for (const std::string &message : wrong)
    sink(errorMessage(message));
  return wrong.empty();
}

bool plansBudget(const CompileOptions &options) {
  return options.activationCheckpointing == "budget" || options.activationCheckpointing == "auto";
}

ParetoCurve curveOf(train::StepOp step, const CompileOptions &options, unsigned points) {
  std::optional<DeviceModel> device = deviceModel(options.target, options.precision);
  FailureOr<GatheredStep> gathered = gatherStep(step);
  if (!device || failed(gathered))
    return {};
  if (options.fusion == "on")
    markJoinedRecomputation(*gathered);
  PlannerSettings settings;
  settings.device = *device;
  return planCurve(gathered->graph, findBlocks(gathered->graph), settings, points);
}

CompileResult finish(ModuleOp module, const CompileOptions &options) {
  CompileResult result;
  if (options.emit != "plan" && options.emit != "ptx") {
    // With locations: read back, the text is the module again. VerifyPlan tells recomputed
    // operations by them, and diagnostics name the model's nodes.
    llvm::raw_string_ostream text(result.text);
    module.print(text, OpPrintingFlags().enableDebugInfo());
    text << "\n";
    return result;
  }
  EmitOptions emitOptions;
  emitOptions.target = options.target;
  emitOptions.embedWeights = options.embedWeights;
  emitOptions.learningRate = options.learningRate;
  FailureOr<plan::Plan> plan = emitPlan(module, emitOptions);
  if (failed(plan)) {
    result.code = BadInput;
    return result;
  }
  // Kernels were formed behind VerifyPlan; what amrun would refuse does not leave the compiler.
  if (rt::PlanDiagnostics found = rt::verifyPlanStructure(*plan); !found.ok()) {
    module.emitError("the plan is not sound, which is a defect of amc: ") << found.toStatus().message();
    result.code = BadInput;
    return result;
  }
  if (options.emit == "plan")
    result.plan = std::move(*plan);
  else
    for (const plan::Code &code : plan->code())
      if (code.level() == rt::ptxLevel)
        result.text = code.image();
  return result;
}

} // namespace amc
