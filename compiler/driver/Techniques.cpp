// One model compiled in several ways; see Compile.h.
#include "compiler/driver/Compilation.h"
#include "compiler/driver/Variants.h"

using namespace mlir;

namespace amc {
namespace {

// The options without those that only say what is kept for backward, what overlaps, and where results go. Whether a planner will
// decide stays: gathered parameters are left to it.
CompileOptions stepOptions(CompileOptions options) {
  const CompileOptions defaults;
  options.activationCheckpointing = plansBudget(options) ? "budget" : defaults.activationCheckpointing;
  options.acMatmuls = defaults.acMatmuls;
  options.acPolicy = defaults.acPolicy;
  options.acKvSharing = defaults.acKvSharing;
  options.acTrace = defaults.acTrace;
  options.memoryBudget = defaults.memoryBudget;
  options.deviceMemory = defaults.deviceMemory;
  options.overlap = defaults.overlap;
  options.output = defaults.output;
  options.report = defaults.report;
  return options;
}

} // namespace

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
  if (plansBudget(options)) {
    state->compilation.sayTo(sink);
    return compileWithinBudget(state->compilation, *state->model, options, sink);
  }
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

} // namespace amc
