// See StepRunner.h.
#include "runtime/trainer/StepRunner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>

namespace amc::rt {

StepRunner::StepRunner(Executor &executor, DataRequest request)
    : executor(executor), request(std::move(request)) {}

StepRunner::~StepRunner() { executor.setHook({}); }

Expected<std::unique_ptr<StepRunner>> StepRunner::create(Executor &executor, DataRequest request) {
  std::unique_ptr<StepRunner> runner(new StepRunner(executor, std::move(request)));
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
  }
  if (!loss || executor.output(*loss).elements != 1)
    return inputError(
        "the plan has no loss to train on or to evaluate; amc compile --loss attaches one");
  at.loss = *loss;
  if (at.gradNorm && executor.output(*at.gradNorm).elements != 1)
    return inputError("the plan's grad_norm should be a scalar");
  staged.resize(std::max<uint64_t>(plan.accumulation(), 1));
  for (Entry &entry : staged)
    for (const DataInput &input : request.inputs)
      entry.emplace_back(input.bytes());
  executor.setHook([this](uint64_t instruction) { return afterInstruction(instruction); });
  return {};
}

void StepRunner::setObserver(Executor::Hook hook) { observer = std::move(hook); }

Status StepRunner::afterInstruction(uint64_t instruction) {
  if (!observing)
    return {};
  if (observer)
    if (Status failure = observer(instruction); !failure.ok())
      return failure;
  if (at.gradNorm &&
      instruction == executor.plan().outputs(static_cast<int>(*at.gradNorm)).ready()) {
    double norm = readOutput(*at.gradNorm);
    if (!std::isfinite(norm)) {
      badNorm = norm;
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
      return input.elements() * staged.size();
    if (input.labels)
      tokens = input.elements() * staged.size();
  }
  return tokens;
}

uint64_t StepRunner::stagingBytes() const {
  uint64_t bytes = 0;
  for (const DataInput &input : request.inputs)
    bytes += input.bytes() * staged.size();
  return bytes;
}

Status StepRunner::stage(DataSource &source, uint64_t position) {
  stagedLabels = {};
  for (Entry &entry : staged) {
    if (Status failure = source.readEntry(position++, entry); !failure.ok())
      return failure;
    LabelCount labels = countLabels(request, entry);
    stagedLabels.tokens += labels.tokens;
    stagedLabels.weight += labels.weight;
  }
  return {};
}

void StepRunner::feedData(const Entry &entry) {
  for (size_t i = 0; i < at.data.size(); ++i) {
    Tensor tensor = executor.input(at.data[i]);
    std::memcpy(tensor.data, entry[i].data(), tensor.bytes);
  }
}

void StepRunner::feedInt(std::optional<size_t> input, int64_t value) {
  if (!input)
    return;
  Tensor tensor = executor.input(*input);
  convertElements(plan::I64, reinterpret_cast<const std::byte *>(&value), tensor.dtype,
                  static_cast<std::byte *>(tensor.data), 1);
}

void StepRunner::feedFloat(std::optional<size_t> input, double value) {
  if (!input)
    return;
  Tensor tensor = executor.input(*input);
  convertElements(plan::F64, reinterpret_cast<const std::byte *>(&value), tensor.dtype,
                  static_cast<std::byte *>(tensor.data), 1);
}

double StepRunner::readOutput(size_t output) const {
  Tensor tensor = executor.output(output);
  return elementAsDouble(tensor.dtype, static_cast<const std::byte *>(tensor.data), 0);
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
    feedInt(at.stepNumber, static_cast<int64_t>(step)); // what read it last may be in this micro-batch
  };
  for (size_t micro = 0; micro < staged.size(); ++micro) {
    auto again = [&] { feed(micro); };
    feed(micro);
    observing = micro + 1 == staged.size();
    Status ran = executor.runMicroBatch();
    if (!ran.ok() && !stopped)
      return std::move(ran).withContext(text("step ", step));
    double loss = readOutput(at.loss);
    if (!std::isfinite(loss))
      return nonFinite(text("step ", step, ": the loss"), loss, again);
    if (stopped)
      return nonFinite(text("step ", step, ": the gradient norm"), badNorm, again);
    result.loss +=
        lossOutput.sum_over_micro_batches() ? loss : loss / static_cast<double>(staged.size());
  }
  Status ran = executor.runUpdate();
  observing = false;
  if (stopped)
    return nonFinite(text("step ", step, ": the gradient norm"), badNorm, [&] { feed(staged.size() - 1); });
  if (!ran.ok())
    return std::move(ran).withContext(text("step ", step));
  if (at.gradNorm)
    result.gradNorm = readOutput(*at.gradNorm);
  return result;
}

Expected<EvalResult> StepRunner::evaluate(DataSource &source, bool heldOut, uint64_t entries,
                                          uint64_t seed,
                                          const std::function<void(uint64_t)> &progress) {
  const plan::Plan &plan = executor.plan();
  if (plan.outputs(static_cast<int>(at.loss)).ready() >= plan.forward_end())
    return inputError("the plan's forward pass does not end with the loss, so it cannot evaluate");
  observing = false;
  EvalResult result;
  Entry &entry = staged.front();
  double sum = 0, weights = 0;
  for (uint64_t i = 0; i < entries; ++i) {
    Status read = heldOut ? source.readHeldOut(i, entry) : source.readEntry(i, entry);
    if (!read.ok())
      return read;
    LabelCount labels = countLabels(request, entry);
    auto feed = [&] {
      feedData(entry);
      feedFloat(at.normalizer, labels.divisor());
      feedInt(at.microBatch, 0);
      feedInt(at.stepNumber, 0); // no training step: nothing is dropped
      feedInt(at.seed, static_cast<int64_t>(seed));
    };
    feed();
    if (Status ran = executor.runForward(); !ran.ok())
      return std::move(ran).withContext(text("evaluation, batch ", i));
    double loss = readOutput(at.loss);
    if (!std::isfinite(loss))
      return nonFinite(text("evaluation, batch ", i, ": the loss"), loss, feed);
    double weight = at.normalizer ? labels.weight : 1.0;
    sum += loss * weight;
    weights += weight;
    result.labelTokens += labels.tokens;
    ++result.entries;
    if (progress)
      progress(i);
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
    for (uint64_t element = 0; gradient.data && element < gradient.elements; ++element) {
      double number =
          elementAsDouble(gradient.dtype, static_cast<const std::byte *>(gradient.data), element);
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
