// amc::compile and compileToFile: a model and options in, a plan (or a stage's text) out, in memory or as files that
// appear complete or not at all. Within a memory budget the work is Variants.h's.
#include "compiler/driver/Compile.h"
#include "compiler/driver/Compilation.h"
#include "compiler/driver/Pipeline.h"
#include "compiler/driver/Variants.h"
#include "compiler/report/Report.h"
#include "runtime/plan/PlanFile.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace amc {
namespace {

// For reports; within a budget, PlanBudget does it.
void noteCurve(ModuleOp module, const CompileOptions &options) {
  for (auto step : module.getOps<train::StepOp>()) {
    llvm::SmallVector<int64_t> numbers;
    for (const CurvePoint &point : curveOf(step, options, paretoPoints))
      numbers.append({static_cast<int64_t>(point.arenaBytes), static_cast<int64_t>(point.cost)});
    step->setAttr("train.pareto_curve", DenseI64ArrayAttr::get(module.getContext(), numbers));
  }
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
  if (plansBudget(options) && reachesMemory(options)) {
    if (failed(compilation.run(**module, options, "raise")))
      return {BadInput, {}, {}};
    return compileWithinBudget(compilation, **module, options, sink, options.emit == "plan");
  }
  if (options.emit != "plan" || options.report.empty()) {
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
  auto same = [](llvm::StringRef a, llvm::StringRef b) {
    llvm::SmallString<128> left(a), right(b);
    for (llvm::SmallString<128> *path : {&left, &right}) {
      llvm::sys::fs::make_absolute(*path);
      llvm::sys::path::remove_dots(*path, /*remove_dot_dot=*/true);
    }
    return left == right;
  };
  if (!options.report.empty() && options.report != "-" && same(options.report, options.output)) {
    sink(errorMessage(options.report + ": is the plan itself, the report should be another file"));
    return BadInput;
  }
  CompileResult result = compile(options, sink);
  if (result.code != Done)
    return result.code;
  if (!result.plan)
    return writeFile(options.output.empty() ? "-" : options.output, result.text, sink);
  for (const plan::WeightFile &file : result.plan->weight_files()) {
    llvm::SmallString<128> weights(llvm::sys::path::parent_path(options.model));
    llvm::sys::path::append(weights, file.path());
    for (const std::string *path : {&options.output, &options.report})
      if (bool same = false; !path->empty() && *path != "-" && !llvm::sys::fs::equivalent(*path, weights, same) && same) {
        sink(errorMessage(*path + ": holds weights of the model, should be another file"));
        return BadInput;
      }
  }
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

} // namespace amc
