// One training step, or one evaluation, on an executor: stages the data, feeds every input by its
// role, runs the micro-batches and the update, reads loss and gradient norm back. Whatever a step
// needs is allocated by `create`.
//
// A step stages all of its micro-batches first, because the number of labelled tokens over all of
// them normalises the loss of each. A loss that is not finite stops the step before the update, a
// gradient norm that is not finite stops the update before it changes a weight; either error names
// the first tensor that went wrong.
#ifndef AMC_RUNTIME_TRAINER_STEPRUNNER_H
#define AMC_RUNTIME_TRAINER_STEPRUNNER_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Data.h"

#include <atomic>
#include <functional>
#include <optional>
#include <vector>

namespace amc::rt {

struct StepResult {
  double loss = 0;
  std::optional<double> gradNorm;
  uint64_t labelTokens = 0;
};

// Loss per labelled token (per micro-batch, if the plan does not say how many tokens a loss stands
// for).
struct EvalResult {
  double loss = 0;
  uint64_t labelTokens = 0;
  uint64_t entries = 0;
};

class StepRunner {
public:
  // `executor` outlives the runner and keeps its address. `request` is requestFor(executor.plan())
  // with what the user said about the data.
  static Expected<std::unique_ptr<StepRunner>> create(Executor &executor, DataRequest request);
  ~StepRunner();

  uint64_t accumulation() const { return staged.size(); }
  // Tokens of a step: elements of input_ids over all micro-batches (of the labels, if there is no
  // such input).
  uint64_t tokensPerStep() const;
  // Bytes of the staging buffers.
  uint64_t stagingBytes() const;

  // Reads `accumulation` entries from `position` on.
  Status stage(DataSource &source, uint64_t position);
  // Runs the staged step. `step` counts from 1.
  Expected<StepResult> run(uint64_t step, double learningRate, uint64_t seed);

  // Called after every instruction of the last micro-batch and of the update, until set to nothing.
  void setObserver(Executor::Hook observer);

  // Runs the forward pass over entries [0, entries) of the held-out share, or of an epoch in the
  // data's order.
  Expected<EvalResult> evaluate(DataSource &source, bool heldOut, uint64_t entries, uint64_t seed,
                                const std::function<void(uint64_t entry)> &progress = {});

private:
  struct Indices {
    std::optional<size_t> normalizer, learningRate, stepNumber, microBatch, seed;
    std::vector<size_t> data;
    size_t loss = 0;
    std::optional<size_t> gradNorm;
  };
  using Entry = std::vector<std::vector<std::byte>>; // a buffer per data input

  StepRunner(Executor &executor, DataRequest request);
  Status bind();
  Status afterInstruction(uint64_t instruction);
  void feedData(const Entry &entry);
  void feedInt(std::optional<size_t> input, int64_t value);
  void feedFloat(std::optional<size_t> input, double value);
  double readOutput(size_t output) const;
  Status nonFinite(std::string_view what, double value, const std::function<void()> &feed);

  Executor &executor;
  DataRequest request;
  Indices at;
  std::vector<Entry> staged;
  LabelCount stagedLabels;
  Executor::Hook observer;
  bool observing = false; // in the last micro-batch or the update of a step
  double badNorm = 0;     // what the update was stopped for
  bool stopped = false;
};

} // namespace amc::rt

#endif
