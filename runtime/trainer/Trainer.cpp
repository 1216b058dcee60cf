// See Trainer.h. The order of things: everything that can be wrong with the request is found before
// the first step (plan, data, weights, checkpoint, outputs that cannot be written); then steps;
// then the files of a finished run.
//
// Of several ranks all go the same way through this file. What each does by itself (reading a plan,
// loading weights) ends with `agree`, so that a user's mistake is reported once; what goes wrong
// between is told to the others at the end of go(), wherever they are.
#include "runtime/trainer/Trainer.h"

#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Splits.h"
#include "runtime/support/Counted.h"
#include "runtime/trainer/Checkpoint.h"
#include "runtime/trainer/Files.h"
#include "runtime/trainer/Fingerprint.h"
#include "runtime/trainer/GradientDump.h"
#include "runtime/trainer/JsonLog.h"
#include "runtime/trainer/MemoryTable.h"
#include "runtime/trainer/Metrics.h"
#include "runtime/trainer/Profiler.h"
#include "runtime/trainer/SaveWeights.h"
#include "runtime/trainer/StepRunner.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <malloc.h>
#include <map>

namespace amc::rt {
namespace {

class Run {
public:
  Run(const TrainOptions &options, const TrainSinks &sinks, const std::atomic<bool> &stop,
      Communicator *communicator)
      : options(options), sinks(sinks), stop(stop), communicator(communicator), ranks(communicator),
        startMemory(residentMemory(nullptr)) {}

  Status go() { return ranks.end(run()); }

private:
  Status run() {
    if (Status failure = prepare(); !failure.ok())
      return failure;
    Status done = options.eval ? evaluateOnly() : train();
    return done.ok() ? reportMemory() : done;
  }
  Status checkOutputs() const;
  Status prepare();
  Status readPlan(plan::Plan &plan);
  Status createExecutor(plan::Plan plan);
  Status openCheckpoints();
  Status load(DataRequest request, std::vector<plan::Source> sources,
              const std::string &modelDirectory);
  Status resume();
  Status checkUse(const DataRequest &request);
  void resolveSchedule(double planRate);
  Status limitToEpochs();
  uint64_t entriesToEvaluate() const;
  Status createProfiler();
  void describePlan();
  Status evaluateOnly();
  Status train();
  Expected<bool> oneStep();
  Status report(const StepResult &result, double rate, double seconds);
  Status evaluateHeldOut(uint64_t step);
  Status saveCheckpoint();
  Status checkCollectives();
  Status reportMemory();
  void reportTime();
  // Rank 0 speaks for all.
  template <typename... Pieces> void note(const Pieces &...pieces) {
    if (ranks.isFirst())
      sinks.note(text(pieces...));
  }
  Status result(std::string_view line) { return ranks.isFirst() ? sinks.result(line) : Status(); }

  TrainOptions options;
  const TrainSinks &sinks;
  const std::atomic<bool> &stop;
  Communicator *communicator;
  Ranks ranks;
  ResidentMemory startMemory;
  std::optional<Executor> executor;
  std::unique_ptr<DataSource> source;
  std::unique_ptr<StepRunner> runner;
  std::unique_ptr<GradientDump> dump;
  std::unique_ptr<Profiler> profiler;
  std::optional<Checkpoints> checkpoints;
  std::string resumed; // the folder of the checkpoint that this run goes on from
  RunState state;
  uint64_t savedStep = ~uint64_t(0);
  uint64_t planBytes = 0;
  bool checkedCollectives = false; // of the first step
  JsonLog log;
};

// Writing over what is read would cost the user a plan or a corpus, over what this run writes a result. Initial weights may
// become trained ones.
Status Run::checkOutputs() const {
  const std::pair<const std::string &, const char *> outputs[] = {{options.saveWeights, "--save-weights"},
                                                                  {options.dumpGradients, "--dump-gradients"},
                                                                  {options.logJson, "--log-json"},
                                                                  {options.profile, "--profile"}};
  std::error_code ignored; // files that are not there are not the same
  std::map<std::filesystem::path, const char *> flagOf;
  for (auto [output, flag] : outputs) {
    if (output.empty())
      continue;
    for (const std::string *input : {&options.plan, &options.data})
      if (std::filesystem::equivalent(output, *input, ignored))
        return inputError(output, ": is read by this run, should be another file");
    auto [other, isNew] = flagOf.try_emplace(std::filesystem::weakly_canonical(output, ignored), flag);
    if (!isNew)
      return inputError(output, ": is written for ", other->second, ", should be another file for ", flag);
  }
  return {};
}

Status Run::prepare() {
  plan::Plan plan;
  std::vector<std::pair<std::string, std::string>> facts;
  Status mine = readPlan(plan);
  if (mine.ok() && !ranks.alone()) {
    Expected<std::vector<std::pair<std::string, std::string>>> found = fingerprint(options);
    mine = found.status();
    if (found.ok())
      facts = std::move(found).value();
  }
  if (Status failure = ranks.agree(mine); !failure.ok())
    return failure;
  if (Status failure = ranks.sameOnAll(facts, "; all ranks have to run the same"); !failure.ok())
    return failure;
  DataRequest request = requestFor(plan);
  if (!options.model.empty())
    moveModel(plan, options.model);
  std::string modelDirectory =
      options.modelDir.value_or(options.model.empty() ? findModelDirectory(options.plan, plan)
                                                      : parentDirectory(options.model));
  std::vector<plan::Source> sources = takeSources(plan);
  if (Status failure = createExecutor(std::move(plan)); !failure.ok())
    return failure;
  if (Status failure = openCheckpoints(); !failure.ok())
    return failure;
  if (Status failure = ranks.agree(load(std::move(request), std::move(sources), modelDirectory)); !failure.ok())
    return failure;
  return options.profile.empty() ? Status() : ranks.agree(createProfiler());
}

// The plan, and whether the outputs can be written.
Status Run::readPlan(plan::Plan &plan) {
  if (Status failure = checkOutputs(); !failure.ok())
    return failure;
  for (const std::string *path : {&options.saveWeights, &options.dumpGradients, &options.profile})
    if (!path->empty() && ranks.isFirst())
      if (Status failure = probeWritable(*path); !failure.ok())
        return failure;
  Expected<plan::Plan> read = readPlanFile(options.plan);
  if (!read.ok())
    return read.status();
  plan = std::move(read).value();
  Expected<MeshShape> mesh = meshOf(plan.mesh());
  Status failure = mesh.ok() ? ranks.setMesh(*mesh) : mesh.status();
  return std::move(failure).withContext(options.plan);
}

Status Run::createExecutor(plan::Plan plan) {
  planBytes = plan.SpaceUsedLong();
  ExecutorOptions executorOptions;
  executorOptions.threads = options.threads;
  executorOptions.communicator = communicator;
  Expected<Executor> created = Executor::create(std::move(plan), executorOptions);
  if (!created.ok())
    return std::move(created).status().withContext(options.plan);
  executor.emplace(std::move(created.value()));
  executor->enableProfile(options.verbose && options.profile.empty());
  describePlan();
  return {};
}

// Data and initial weights, or where the checkpoint's run stood: what a rank does by itself.
Status Run::load(DataRequest request, std::vector<plan::Source> sources,
                 const std::string &modelDirectory) {
  request.path = options.data;
  request.seed = state.seed = options.seed.value_or(0);
  request.tokenDType = options.tokenDType;
  request.separator = options.documentSeparator;
  request.heldOut = options.evalFraction;
  if (options.resume) {
    // The checkpoint's seed decides the order of the data, so it is read before the data is opened.
    if (Status failure = resume(); !failure.ok())
      return failure;
    request.seed = state.seed;
  }
  if (Status failure = checkUse(request); !failure.ok())
    return failure;
  Expected<std::unique_ptr<DataSource>> opened = openData(request);
  if (!opened.ok())
    return opened.status();
  source = std::move(opened.value());
  note(options.data, ": ", source->describe(), source->remark);
  if (options.resume && !options.eval && source->entriesPerEpoch() != state.entriesPerEpoch)
    return inputError("the data has ", source->entriesPerEpoch(),
                      " micro-batches an epoch, but had ", state.entriesPerEpoch,
                      " when the checkpoint was written; resume with the same --data, "
                      "--document-separator and --eval-fraction");
  state.entriesPerEpoch = source->entriesPerEpoch();
  if (options.resume) {
    if (Status failure = Checkpoints::load(*executor, ranks, resumed); !failure.ok())
      return std::move(failure).withContext("--resume");
  } else {
    std::vector<std::string> notes;
    if (Status failure =
            loadWeights(*executor, ranks, options.init, std::move(sources), modelDirectory, notes);
        !failure.ok())
      return failure;
    for (const std::string &line : notes)
      note(line);
  }
  if (Status failure = limitToEpochs(); !failure.ok())
    return failure;
  ::malloc_trim(0); // the plan file's bytes and embedded weights go back to the system
  resolveSchedule(executor->plan().default_learning_rate());
  Expected<std::unique_ptr<StepRunner>> made =
      StepRunner::create(*executor, ranks, std::move(request));
  if (!made.ok())
    return std::move(made).status().withContext(options.plan);
  runner = std::move(made.value());
  if (!options.logJson.empty() && ranks.isFirst())
    return log.open(options.logJson, options.resume);
  return {};
}

// --epochs in steps: those that its entries fill.
Status Run::limitToEpochs() {
  if (!options.epochs)
    return {};
  uint64_t perStep = executor->plan().accumulation() * ranks.dataRanks();
  unsigned __int128 entries = static_cast<unsigned __int128>(*options.epochs) * source->entriesPerEpoch() / perStep;
  uint64_t steps = static_cast<uint64_t>(std::min<unsigned __int128>(entries, ~uint64_t(0) / 2));
  if (steps == 0)
    return inputError("--epochs is ", *options.epochs, " of ", source->entriesPerEpoch(),
                      " micro-batches, and a step takes ", perStep, "; give more data, or more epochs");
  options.steps = std::min(steps, options.steps.value_or(steps));
  return {};
}

// How this run takes its data, and whether the checkpoint's run took it so. On another mesh a step
// may take another number of entries: that goes on, with other steps.
Status Run::checkUse(const DataRequest &request) {
  std::string use = describeUse(request, executor->plan().accumulation() * ranks.dataRanks());
  if (options.resume && !options.eval && !state.dataUse.empty() && use != state.dataUse) {
    if (state.mesh == ranks.mesh() || !sameUseButCount(use, state.dataUse))
      return inputError("--resume: the checkpoint's run took its data as ", state.dataUse,
                        ", this one would as ", use,
                        "; resume with the same plan and settings, or start anew from the "
                        "checkpoint's weights (--init ",
                        options.checkpointDir, "/LATEST",
                        state.mesh.ranks() > 1 ? "" : "/model.safetensors", ")");
    note("the checkpoint's run took its data as ", state.dataUse, ", this one takes it as ", use,
         "; it goes on with the entry behind the last one taken, in steps of another size");
  }
  if (options.resume && !options.eval && state.mesh != ranks.mesh())
    note("the checkpoint is of ", meshText(state.mesh), ", this run of ", meshText(ranks.mesh()),
         ": sums are taken in another order, so it goes on as that run would have within their "
         "rounding");
  state.mesh = ranks.mesh();
  state.dataUse = std::move(use);
  return {};
}

// What the step did with other ranks: as the plan promises, and on all of them the same.
Status Run::checkCollectives() {
  CollectiveFacts ran = executor->collectivesRun(),
                  promised = collectiveFacts(executor->plan(), executor->plan().accumulation());
  auto words = [](const CollectiveFacts &facts) {
    return text(counted(facts.count, "collective"), " of ", facts.bytes, " bytes, sequence ", facts.sequence);
  };
  Status mine;
  if (ran != promised)
    mine = inputError("step ", state.step, " ran ", words(ran), ", the plan promises ", words(promised));
  if (Status failure = ranks.agree(mine); !failure.ok())
    return failure;
  return ranks.sameOnAll({{text("what step ", state.step, " ran"), words(ran)}}, "");
}

void Run::describePlan() {
  const plan::Plan &plan = executor->plan();
  const plan::Promise &promise = plan.promise();
  note(options.plan, ": promised peak ", promise.arena_bytes(), " bytes, arena ",
       executor->arenaBytes(), " bytes, ", counted(executor->threads(), "thread"), ", ", executor->isa());
  if (!options.verbose)
    return;
  note("  ", plan.instructions_size(), " instructions (", plan.forward_end(), " forward, ",
       plan.micro_batch_end(), " a micro-batch), accumulation ", plan.accumulation(), ", ac ",
       plan.ac_policy(), ", ", plan.precision(), ", optimizer ", plan.optimizer());
  note("  at the peak: parameters ", promise.parameter_bytes(), ", gradients ",
       promise.gradient_bytes(), ", optimizer state ", promise.optimizer_state_bytes(),
       ", activations ", promise.activation_bytes(), ", workspace ", promise.workspace_bytes(),
       ", inputs ", promise.input_bytes(), ", constants ", promise.constant_bytes(), " bytes");
  note("  FLOPs: forward ", promise.flops_forward(), ", backward ", promise.flops_backward(),
       ", recompute ", promise.flops_recompute(), ", optimizer ", promise.flops_optimizer());
  if (uint64_t paired = executor->paired())
    note("  tile by tile behind a product, but while kernels are timed: ", counted(paired, "generated kernel"));
  if (!ranks.alone())
    note("  ", ranks.size(), " ranks (", meshText(ranks.mesh()), "), joined by ", communicator->kind());
}

Status Run::openCheckpoints() {
  if (options.checkpointDir.empty())
    return {};
  Expected<Checkpoints> opened = options.eval ? Checkpoints::openToRead(options.checkpointDir, ranks)
                                              : Checkpoints::open(options.checkpointDir, options.keep, ranks);
  if (!opened.ok())
    return opened.status();
  checkpoints.emplace(std::move(opened.value()));
  Expected<std::optional<std::string>> earlier = checkpoints->latest();
  if (!earlier.ok())
    return earlier.status();
  Status failure;
  if (options.resume && !*earlier)
    failure = inputError(options.checkpointDir,
                         ": has no checkpoint to resume from; start without --resume");
  // A run of its own would replace checkpoints of the same name and, with --keep, remove the
  // others.
  if (!options.resume && *earlier)
    failure = inputError(options.checkpointDir, ": holds checkpoints of an earlier run; --resume "
                                                "continues it, another folder starts anew");
  resumed = earlier->value_or("");
  return ranks.agree(failure);
}

Status Run::resume() {
  Expected<RunState> loaded = Checkpoints::readState(resumed);
  if (!loaded.ok())
    return std::move(loaded).status().withContext("--resume");
  if (options.seed && *options.seed != loaded->seed)
    return inputError("--seed is ", *options.seed, " and the checkpoint's is ", loaded->seed,
                      "; resume without --seed, or start anew");
  state = *loaded;
  savedStep = state.step;
  note("resumed from ", resumed, " after step ", state.step);
  return {};
}

// The command line beats the checkpoint, the checkpoint beats the plan.
void Run::resolveSchedule(double planRate) {
  Schedule before = state.schedule;
  Schedule &schedule = state.schedule;
  schedule.kind = options.schedule.value_or(before.kind);
  schedule.rate = options.learningRate.value_or(options.resume ? before.rate : planRate);
  schedule.minRate = options.minLearningRate.value_or(before.minRate);
  schedule.warmupSteps = options.warmupSteps.value_or(before.warmupSteps);
  state.horizonGiven = options.decaySteps || (options.resume && state.horizonGiven);
  schedule.horizon = options.decaySteps.value_or(state.horizonGiven ? before.horizon : options.steps.value_or(before.horizon));
  schedule.initRate = options.initLearningRate.value_or(before.initRate);
  schedule.wsdSteps = options.wsdSteps.value_or(before.wsdSteps);
  schedule.wsdStyle = options.wsdStyle.value_or(before.wsdStyle);
  if (options.resume && !options.eval && schedule != before &&
      (schedule.kind != ScheduleKind::Constant || schedule.rate != before.rate ||
       schedule.warmupSteps != before.warmupSteps))
    note(fmt::format("the learning rate's schedule differs from the checkpoint's: {} from {} over {} steps, before {} from {} "
                     "over {}",
                     scheduleName(schedule.kind), schedule.rate, schedule.horizon, scheduleName(before.kind), before.rate,
                     before.horizon));
}

uint64_t Run::entriesToEvaluate() const {
  uint64_t entries = options.evalFraction > 0 ? source->heldOutEntries() : source->entriesPerEpoch();
  if (options.evalSteps)
    entries = std::min(entries, *options.evalSteps);
  if (options.steps)
    entries = std::min(entries, *options.steps * runner->entriesPerStep());
  return entries;
}

// All ranks at the same time: they share what is measured.
Status Run::createProfiler() {
  uint64_t rounds = options.eval ? (entriesToEvaluate() + ranks.dataRanks() - 1) / ranks.dataRanks()
                                 : *options.steps - std::min(state.step, *options.steps);
  Expected<std::unique_ptr<Profiler>> made =
      Profiler::create(*executor, ranks, options.profile, options.profileSteps, rounds, options.eval);
  if (!made.ok())
    return made.status();
  profiler = std::move(*made);
  note("this machine, measured with ", counted(executor->threads(), "thread"), ": ", describeLimits(profiler->limits()));
  return {};
}

Status Run::evaluateOnly() {
  const bool heldOut = options.evalFraction > 0;
  const uint64_t entries = entriesToEvaluate();
  auto last = std::chrono::steady_clock::now();
  auto progress = [&](uint64_t entry) {
    auto now = std::chrono::steady_clock::now();
    if (now - last < std::chrono::seconds(5))
      return;
    last = now;
    note("evaluated ", entry + 1, " of ", counted(entries, "micro-batch"));
  };
  auto watch = [&](uint64_t batch, bool begins) {
    if (profiler)
      begins ? profiler->before() : profiler->after(batch);
  };
  Expected<EvalResult> result = runner->evaluate(*source, heldOut, entries, state.seed, progress, watch);
  if (!result.ok())
    return result.status();
  note("evaluated ", counted(result->entries, "micro-batch"), ", ", counted(result->labelTokens, "labelled token"),
       droppedText(result->droppedTokens));
  if (Status failure = this->result(fmt::format("loss {:.9g}", result->loss)); !failure.ok())
    return failure;
  reportTime();
  return profiler ? profiler->finish([this](const std::string &line) { note(line); }) : Status();
}

Status Run::train() {
  if (state.step >= *options.steps && !options.dumpGradients.empty())
    return ranks.agree(inputError("--dump-gradients: no step is run, since step ", state.step, " is done and --steps is ",
                                  *options.steps));
  if (state.step >= *options.steps && options.resume)
    note("nothing to train: step ", state.step, " is done and --steps is ", *options.steps);
  if (executor->plan().optimizer().empty() && *options.steps > state.step)
    return ranks.agree(inputError(
        options.plan, ": is a plan without an optimizer, which can be evaluated only (--eval)"));
  if (!options.dumpGradients.empty()) {
    Expected<std::unique_ptr<GradientDump>> made =
        GradientDump::create(*executor, ranks, options.dumpGradients);
    if (!made.ok())
      return made.status();
    dump = std::move(made.value());
    runner->setObserver([this](uint64_t instruction) { return dump->afterInstruction(instruction); },
                        dump->instructions());
  }
  bool stopped = false;
  while (state.step < *options.steps && !stopped) {
    Expected<bool> done = oneStep();
    if (!done.ok())
      return done.status();
    stopped = !*done;
    bool due = options.checkpointEvery && state.step % options.checkpointEvery == 0;
    if (due || stopped || state.step == *options.steps)
      if (Status failure = saveCheckpoint(); !failure.ok())
        return failure;
  }
  reportTime();
  if (profiler)
    if (Status failure = profiler->finish([this](const std::string &line) { note(line); }); !failure.ok())
      return failure;
  if (stopped) {
    note("stopped by a signal after step ", state.step, checkpoints ? "; --resume continues" : "",
         options.saveWeights.empty() ? ""
                                     : "; --save-weights is for finished runs and wrote nothing");
    return {};
  }
  if (options.saveWeights.empty())
    return {};
  if (Status failure = saveWeights(*executor, ranks, options.saveWeights); !failure.ok())
    return failure;
  note("weights written to ", options.saveWeights);
  return {};
}

// False: a rank was told to stop, and no step was done. Signals reach ranks at different times, or
// only one of them, so they agree in the exchange that begins a step.
Expected<bool> Run::oneStep() {
  if (ranks.alone() && stop.load())
    return false;
  auto begin = std::chrono::steady_clock::now();
  uint64_t step = state.step + 1;
  if (profiler)
    profiler->before();
  Expected<bool> stopping = runner->stage(*source, state.position, stop.load());
  if (!stopping.ok())
    return std::move(stopping).status().withContext(text("step ", step));
  if (*stopping)
    return false;
  double rate = state.schedule.at(step);
  executor->restartCollectives();
  Expected<StepResult> result = runner->run(step, rate, state.seed);
  if (!result.ok())
    return result.status();
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (profiler)
    profiler->after(step);
  state.step = step;
  state.epoch = state.position / source->entriesPerEpoch();
  state.position += runner->entriesPerStep();
  if (!std::exchange(checkedCollectives, true) || step == *options.steps)
    if (Status failure = checkCollectives(); !failure.ok())
      return failure;
  if (dump) {
    runner->setObserver({}, {});
    if (Status failure = dump->finish(result->loss); !failure.ok())
      return failure;
    dump.reset();
    note("gradients written to ", options.dumpGradients);
  }
  if (ranks.isFirst())
    if (Status failure = report(*result, rate, seconds.count()); !failure.ok())
      return failure;
  if (options.evalEvery && step % options.evalEvery == 0)
    if (Status failure = evaluateHeldOut(step); !failure.ok())
      return failure;
  return true;
}

// The step's line. Rank 0 has what there is to say of all: loss and norm are sums over them, and
// their arenas are laid out by one plan.
Status Run::report(const StepResult &result, double rate, double seconds) {
  StepRecord record;
  record.step = state.step;
  record.epoch = state.epoch;
  record.loss = result.loss;
  record.gradNorm = result.gradNorm;
  record.learningRate = rate;
  record.memoryBytes = executor->plan().arena_bytes();
  record.tokensPerSecond = static_cast<double>(runner->tokensPerStep()) / seconds;
  record.ranks = ranks.size();
  record.labelTokens = result.labelTokens;
  if (result.droppedTokens)
    record.droppedTokens = static_cast<uint64_t>(*result.droppedTokens);
  if (result.labelTokens == 0 && executor->plan().loss() != plan::LOSS_MODEL)
    note("step ", state.step, ": no token of its data is labelled");
  if (Status failure = sinks.result(logLine(record)); !failure.ok())
    return failure;
  return log.write(logJson(record));
}

Status Run::evaluateHeldOut(uint64_t step) {
  uint64_t entries = std::min(source->heldOutEntries(), options.evalSteps.value_or(~uint64_t(0)));
  Expected<EvalResult> result = runner->evaluate(*source, /*heldOut=*/true, entries, state.seed);
  if (!result.ok())
    return std::move(result).status().withContext(text("after step ", step));
  return this->result(fmt::format("eval after step {} | loss {:.4f} | num_label_tokens {}{}", step, result->loss,
                                  result->labelTokens, droppedText(result->droppedTokens)));
}

Status Run::saveCheckpoint() {
  if (!checkpoints || savedStep == state.step)
    return {};
  Expected<std::string> left = checkpoints->save(*executor, state);
  if (!left.ok())
    return left.status();
  savedStep = state.step;
  note("checkpoint ", options.checkpointDir, "/", checkpointName(state));
  if (!left->empty())
    note("an older checkpoint is left: ", *left);
  return {};
}

Status Run::reportMemory() {
  std::vector<KnownHeap> known = {{"the plan", planBytes},
                                  {"staged data", runner->stagingBytes()},
                                  {"the data's order and buffers", source->memoryBytes()}};
  if (profiler)
    known.push_back({"the events of the trace", profiler->memoryBytes()});
  if (communicator)
    known.push_back({"what ranks talk through", communicator->scratchBytes()});
  for (const std::string &line : deviceMemory(*executor))
    note(line);
  ResidentMemory now = residentMemory(&*executor);
  if (!options.verbose)
    note(memorySummary(*executor, now), "; --verbose lists it");
  else
    for (const std::string &line : memoryTable(*executor, startMemory, now, known))
      note(line);
  if (ranks.alone())
    return {};
  Expected<std::string> extremes = memoryOfRanks(ranks, now);
  if (!extremes.ok())
    return extremes.status();
  note(*extremes);
  return {};
}

// --verbose: what a step says to other ranks; and, where --profile does not say it of some steps, time by kernel.
void Run::reportTime() {
  if (options.verbose && !options.eval && !ranks.alone()) {
    CollectiveFacts promised = collectiveFacts(executor->plan(), executor->plan().accumulation());
    note("a step has ", counted(promised.count, "collective"), ", in which each rank sends ", promised.bytes, " bytes");
  }
  if (!options.verbose || profiler)
    return;
  for (const std::string &line : kernelTable(timesByKernel(executor->plan(), executor->profile(), {}), false))
    note(line);
}

} // namespace

Status runTrainer(const TrainOptions &options, const TrainSinks &sinks,
                  const std::atomic<bool> &stop, Communicator *communicator) {
  return Run(options, sinks, stop, communicator).go();
}

} // namespace amc::rt
