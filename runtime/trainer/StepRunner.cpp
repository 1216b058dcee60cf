// See StepRunner.h.
#include "runtime/trainer/StepRunner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>

namespace amc::rt {

StepRunner::StepRunner(Executor &executor, const Ranks &ranks, DataRequest request)
    : executor(executor), ranks(ranks), request(std::move(request)) {}

StepRunner::~StepRunner() { executor.setHook({}); }

Expected<std::unique_ptr<StepRunner>> StepRunner::create(Executor &executor, const Ranks &ranks,
                                                         DataRequest request) {
  std::unique_ptr<StepRunner> runner(new StepRunner(executor, ranks, std::move(request)));
  if (Status failure = runner->bind(); !failure.ok())
    return failure;
  return runner;
}

// Finds inputs by role and outputs by name, and allocates the staging buffers.
Status StepRunner::bind() {
  const plan::Plan &plan = executor.plan();
  for (int i = 0; i < plan.inputs_size(); ++i) {
    const plan::Input &input = plan.inputs(i);
    std::optional<size_t> *scalar = nullptr;
    switch (input.role()) {
    case plan::DATA:
    case plan::LABELS:
      at.data.push_back(static_cast<size_t>(i));
      continue;
    case plan::LOSS_NORMALIZER:
      scalar = &at.normalizer;
      break;
    case plan::LEARNING_RATE:
      scalar = &at.learningRate;
      break;
    case plan::STEP_NUMBER:
      scalar = &at.stepNumber;
      break;
    case plan::MICRO_BATCH:
      scalar = &at.microBatch;
      break;
    case plan::SEED:
      scalar = &at.seed;
      break;
    case plan::DATA_RANK:
      scalar = &at.dataRank;
      break;
    default:
      return inputError("the plan's input '", input.name(), "' has no role");
    }
    if (*scalar || executor.input(i).elements != 1)
      return inputError("the plan's input '", input.name(),
                        "' should be the only scalar of its role");
    *scalar = static_cast<size_t>(i);
  }
  std::optional<size_t> loss;
  for (int i = 0; i < plan.outputs_size(); ++i) {
    if (plan.outputs(i).name() == "loss")
      loss = static_cast<size_t>(i);
    if (plan.outputs(i).name() == "grad_norm")
      at.gradNorm = static_cast<size_t>(i);
    if (plan.outputs(i).name() == "dropped_tokens")
      at.droppedTokens = static_cast<size_t>(i);
  }
  if (!loss || executor.output(*loss).elements != 1)
    return inputError(
        "the plan has no loss to train on or to evaluate; amc compile --loss attaches one");
  at.loss = *loss;
  if (at.gradNorm && executor.output(*at.gradNorm).elements != 1)
    return inputError("the plan's grad_norm should be a scalar");
  if (at.droppedTokens && executor.output(*at.droppedTokens).elements != 1)
    return inputError("the plan's dropped_tokens should be a scalar");
  staged.resize(std::max<uint64_t>(plan.accumulation(), 1));
  stagedCounts.resize(staged.size());
  for (Entry &entry : staged)
    for (const DataInput &input : request.inputs)
      entry.emplace_back(input.bytes());
  setObserver({}, {});
  return {};
}

void StepRunner::setObserver(Executor::Hook hook, std::vector<uint64_t> after) {
  observer = std::move(hook);
  if (at.gradNorm)
    after.push_back(executor.plan().outputs(static_cast<int>(*at.gradNorm)).ready());
  std::sort(after.begin(), after.end());
  if (after.empty())
    executor.setHook({});
  else
    executor.setHook([this](uint64_t instruction) { return afterInstruction(instruction); }, std::move(after));
}

Status StepRunner::afterInstruction(uint64_t instruction) {
  if (!observing)
    return {};
  if (observer)
    if (Status failure = observer(instruction); !failure.ok())
      return failure;
  if (at.gradNorm &&
      instruction == executor.plan().outputs(static_cast<int>(*at.gradNorm)).ready()) {
    Expected<double> norm = readOutput(*at.gradNorm);
    if (!norm.ok())
      return norm.status();
    if (!std::isfinite(*norm)) {
      badNorm = *norm;
      stopped = true;
      return inputError("the gradient norm is not finite");
    }
  }
  return {};
}

uint64_t StepRunner::tokensPerStep() const {
  uint64_t tokens = 0;
  for (const DataInput &input : request.inputs) {
    if (input.name == "input_ids")
      return input.elements() * entriesPerStep();
    if (input.labels)
      tokens = input.elements() * entriesPerStep();
  }
  return tokens;
}

uint64_t StepRunner::stagingBytes() const {
  uint64_t bytes = 0;
  for (const DataInput &input : request.inputs)
    bytes += input.bytes() * staged.size();
  return bytes;
}

Expected<StepRunner::Counted> StepRunner::countAll(std::span<const LabelCount> mine,
                                                   bool stop) const {
  Counted all;
  auto add = [&](const LabelCount &labels) {
    all.labels.tokens += labels.tokens;
    all.labels.weight += labels.weight;
  };
  if (ranks.alone()) {
    all.stop = stop;
    std::for_each(mine.begin(), mine.end(), add);
    return all;
  }
  // A byte, then tokens and weight of each micro-batch.
  constexpr size_t width = sizeof(uint64_t) + sizeof(double);
  std::string said(1 + mine.size() * width, '\0');
  said[0] = stop;
  for (size_t micro = 0; micro < mine.size(); ++micro) {
    std::memcpy(&said[1 + micro * width], &mine[micro].tokens, sizeof(uint64_t));
    std::memcpy(&said[1 + micro * width + sizeof(uint64_t)], &mine[micro].weight, sizeof(double));
  }
  Expected<std::vector<std::string>> heard = ranks.exchange(said);
  if (!heard.ok())
    return heard.status();
  for (size_t rank = 0; rank < heard->size(); ++rank) {
    if ((*heard)[rank].size() != said.size())
      return inputError("rank ", rank, " counts labels of ", (*heard)[rank].size() / width,
                        " micro-batches, this one of ", mine.size());
    all.stop |= (*heard)[rank][0] != 0;
  }
  std::vector<uint64_t> leaders = ranks.dataLeaders();
  for (size_t micro = 0; micro < mine.size(); ++micro)
    for (uint64_t leader : leaders) {
      LabelCount labels;
      const char *bytes = (*heard)[leader].data() + 1 + micro * width;
      std::memcpy(&labels.tokens, bytes, sizeof(uint64_t));
      std::memcpy(&labels.weight, bytes + sizeof(uint64_t), sizeof(double));
      add(labels);
    }
  return all;
}

namespace {

// An enclosing event of the executor's timeline, if there is one: from here to the end of the block.
class Enclosing {
public:
  Enclosing(const Executor &executor, Timeline::Kind kind, uint64_t number)
      : timeline(executor.timeline()), kind(kind), number(number) {
    if (timeline)
      begin = Timeline::Clock::now();
  }
  ~Enclosing() {
    if (timeline)
      timeline->add(Timeline::Lane::Compute, kind, number, begin, Timeline::Clock::now());
  }
  Enclosing(const Enclosing &) = delete;

private:
  Timeline *timeline;
  Timeline::Kind kind;
  uint64_t number;
  Timeline::Clock::time_point begin;
};

} // namespace

Expected<bool> StepRunner::stage(DataSource &source, uint64_t position, bool stop) {
  Enclosing event(executor, Timeline::Kind::Data, 0);
  position += ranks.dataIndex();
  for (size_t micro = 0; micro < staged.size(); ++micro) {
    if (Status failure = source.readEntry(position, staged[micro]); !failure.ok())
      return failure;
    position += ranks.dataRanks();
    stagedCounts[micro] = countLabels(request, staged[micro]);
  }
  Expected<Counted> all = countAll(stagedCounts, stop);
  if (!all.ok())
    return all.status();
  stagedLabels = all->labels;
  return all->stop;
}

void StepRunner::ignoreLabels(Entry &entry) const {
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const DataInput &input = request.inputs[i];
    if (!input.labels)
      continue;
    for (uint64_t element = 0; element < input.elements(); ++element)
      convertElements(plan::I64, reinterpret_cast<const std::byte *>(&request.ignoreIndex),
                      input.dtype, entry[i].data() + element * dtypeBytes(input.dtype), 1);
  }
}

// What feeding fails with is kept until the run that it was for.
void StepRunner::put(const Tensor &tensor, const std::byte *bytes) {
  if (Status failure = executor.write(tensor, bytes); !failure.ok() && feeding.ok())
    feeding = std::move(failure);
}

void StepRunner::feedData(const Entry &entry) {
  for (size_t i = 0; i < at.data.size(); ++i)
    put(executor.input(at.data[i]), entry[i].data());
}

void StepRunner::feedInt(std::optional<size_t> input, int64_t value) {
  if (input)
    feedNumber(executor.input(*input), plan::I64, reinterpret_cast<const std::byte *>(&value));
}

void StepRunner::feedFloat(std::optional<size_t> input, double value) {
  if (input)
    feedNumber(executor.input(*input), plan::F64, reinterpret_cast<const std::byte *>(&value));
}

void StepRunner::feedNumber(const Tensor &tensor, plan::DType from, const std::byte *value) {
  std::byte converted[8];
  convertElements(from, value, tensor.dtype, converted, 1);
  put(tensor, converted);
}

Expected<double> StepRunner::readOutput(size_t output) const {
  Tensor tensor = executor.output(output);
  std::byte number[8];
  if (Status failure = executor.readInto(tensor, number); !failure.ok())
    return failure;
  return elementAsDouble(tensor.dtype, number, 0);
}

Status StepRunner::addDropped(std::optional<double> &sum) const {
  if (!at.droppedTokens)
    return {};
  Expected<double> dropped = readOutput(*at.droppedTokens);
  if (!dropped.ok())
    return dropped.status();
  sum = sum.value_or(0) + *dropped;
  return {};
}

Expected<StepResult> StepRunner::run(uint64_t step, double learningRate, uint64_t seed) {
  const plan::Output &lossOutput = executor.plan().outputs(static_cast<int>(at.loss));
  StepResult result;
  result.labelTokens = stagedLabels.tokens;
  stopped = false;
  feedFloat(at.learningRate, learningRate);
  feedInt(at.stepNumber, static_cast<int64_t>(step));
  auto feed = [&](size_t micro) {
    feedData(staged[micro]);
    feedFloat(at.normalizer, stagedLabels.divisor());
    feedInt(at.microBatch, static_cast<int64_t>(micro));
    feedInt(at.seed, static_cast<int64_t>(seed));
    feedInt(at.dataRank, static_cast<int64_t>(ranks.dataIndex()));
    feedInt(at.stepNumber, static_cast<int64_t>(step)); // what read it last may be in this micro-batch
  };
  for (size_t micro = 0; micro < staged.size(); ++micro) {
    auto again = [&] { feed(micro); };
    Enclosing event(executor, Timeline::Kind::MicroBatch, micro + 1);
    feed(micro);
    observing = micro + 1 == staged.size();
    Status ran = feeding.ok() ? executor.runMicroBatch() : std::exchange(feeding, Status());
    if (!ran.ok() && !stopped)
      return std::move(ran).withContext(text("step ", step));
    Expected<double> loss = readOutput(at.loss);
    if (!loss.ok())
      return loss.status();
    if (!std::isfinite(*loss))
      return nonFinite(text("step ", step, ": the loss"), *loss, again);
    if (stopped)
      return nonFinite(text("step ", step, ": the gradient norm"), badNorm, again);
    if (Status failure = addDropped(result.droppedTokens); !failure.ok())
      return failure;
    result.loss +=
        lossOutput.sum_over_micro_batches() ? *loss : *loss / static_cast<double>(staged.size());
  }
  Enclosing event(executor, Timeline::Kind::Update, 0);
  Status ran = executor.runUpdate();
  observing = false;
  if (stopped)
    return nonFinite(text("step ", step, ": the gradient norm"), badNorm, [&] { feed(staged.size() - 1); });
  if (!ran.ok())
    return std::move(ran).withContext(text("step ", step));
  if (at.gradNorm) {
    Expected<double> norm = readOutput(*at.gradNorm);
    if (!norm.ok())
      return norm.status();
    result.gradNorm = *norm;
  }
  return result;
}

// The plan's forward pass may talk to the other ranks, so all of them run it equally often, each on
// an entry of its own. Where fewer entries are left than ranks, those without one take the last
// with all labels ignored, which adds nothing to the loss. A loss that is the model's own, a mean
// of unknown weights, has no such entry: what is left is evaluated one by one, by all ranks alike.
Expected<EvalResult> StepRunner::evaluate(DataSource &source, bool heldOut, uint64_t entries,
                                          uint64_t seed,
                                          const std::function<void(uint64_t)> &progress,
                                          const std::function<void(uint64_t, bool)> &watch) {
  const plan::Plan &plan = executor.plan();
  if (plan.outputs(static_cast<int>(at.loss)).ready() >= plan.forward_end())
    return inputError("the plan's forward pass does not end with the loss, so it cannot evaluate");
  observing = false;
  EvalResult result;
  Entry &entry = staged.front();
  double sum = 0, weights = 0;
  const uint64_t together = ranks.dataRanks();
  const bool canPad = at.normalizer && request.loss != plan::LOSS_MODEL;
  for (uint64_t first = 0, batch = 1; first < entries; ++batch) {
    if (watch)
      watch(batch, true);
    uint64_t left = entries - first;
    bool alike = left < together && !canPad; // all ranks take the same entry
    uint64_t taken = alike ? 1 : std::min(left, together);
    uint64_t mine = alike ? first : std::min(first + ranks.dataIndex(), entries - 1);
    Status read = heldOut ? source.readHeldOut(mine, entry) : source.readEntry(mine, entry);
    if (!read.ok())
      return read;
    if (!alike && ranks.dataIndex() >= taken)
      ignoreLabels(entry);
    LabelCount own = countLabels(request, entry);
    Expected<Counted> all = countAll(std::span(&own, 1), false);
    if (!all.ok())
      return all.status();
    auto feed = [&] {
      feedData(entry);
      feedFloat(at.normalizer, all->labels.divisor());
      feedInt(at.microBatch, 0);
      feedInt(at.stepNumber, 0); // no training step: nothing is dropped
      feedInt(at.seed, static_cast<int64_t>(seed));
      feedInt(at.dataRank, static_cast<int64_t>(ranks.dataIndex()));
    };
    feed();
    if (Status ran = feeding.ok() ? executor.runForward() : std::exchange(feeding, Status()); !ran.ok())
      return std::move(ran).withContext(text("evaluation, batch ", mine));
    Expected<double> loss = readOutput(at.loss);
    if (!loss.ok())
      return loss.status();
    if (!std::isfinite(*loss))
      return nonFinite(text("evaluation, batch ", mine, ": the loss"), *loss, feed);
    // Ranks that took the same entry counted its labels once each. Without a normalizer the loss is the sum over all
    // ranks' entries, and what is wanted is an entry's.
    uint64_t copies = alike ? together : 1;
    double weight = (at.normalizer ? all->labels.weight : 1.0) / static_cast<double>(copies);
    sum += *loss * weight;
    weights += at.normalizer ? weight : static_cast<double>(taken);
    result.labelTokens += all->labels.tokens / copies;
    result.entries += taken;
    if (Status failure = addDropped(result.droppedTokens); !failure.ok())
      return failure;
    first += taken;
    if (watch)
      watch(batch, false);
    if (progress)
      progress(first - 1);
  }
  if (weights == 0)
    return inputError(request.path, ": has no labelled token to evaluate on");
  result.loss = sum / weights;
  return result;
}

Status StepRunner::nonFinite(std::string_view what, double value,
                             const std::function<void()> &feed) {
  observing = false;
  Expected<std::optional<NonFinite>> found = executor.findNonFinite(feed);
  // Without the sign that a NaN may have and nobody means.
  std::string context = fmt::format("{} is {}", what, std::isnan(value) ? std::fabs(value) : value);
  if (!found.ok())
    return inputError(context, "; looking for the cause failed: ", found.status().message());
  if (*found)
    return inputError(context, "; first tensor at fault: ", (*found)->describe());
  // The cause lies in an earlier micro-batch, or in the sum over all of them.
  for (int i = 0; i < executor.plan().parameters_size(); ++i) {
    Tensor gradient = executor.gradient(static_cast<size_t>(i));
    if (!gradient.data)
      continue;
    Expected<TensorBytes> bytes = executor.read(gradient);
    if (!bytes.ok())
      return bytes.status();
    for (uint64_t element = 0; element < gradient.elements; ++element) {
      double number = elementAsDouble(gradient.dtype, bytes->data(), element);
      if (!std::isfinite(number))
        return inputError(context, "; first tensor at fault: ",
                          fmt::format("gradient of '{}', element {}: {}",
                                      executor.plan().parameters(i).name(), element, number));
    }
  }
  return inputError(context,
                    "; every tensor of the last micro-batch is finite, so the sum overflowed");
}

} // namespace amc::rt
