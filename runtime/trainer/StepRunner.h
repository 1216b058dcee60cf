// One training step, or one evaluation, on an executor: stages the data, feeds every input by its
// role, runs the micro-batches and the update, reads loss and gradient norm back. Whatever a step
// needs is allocated by `create`.
//
// A step stages all of its micro-batches first, because the number of labelled tokens over all of
// them, on all ranks, normalises the loss of each. Of `accumulation` x R entries, R ranks taking
// data, rank d of them takes those at m * R + d: what one rank would with R times the
// micro-batches. Labels are counted in that order too, so that the normaliser is the same to the
// bit. A loss that is not finite stops the step before the update, a gradient norm that is not
// finite stops the update before it changes a weight; either error names the first tensor that went
// wrong.
#ifndef AMC_RUNTIME_TRAINER_STEPRUNNER_H
#define AMC_RUNTIME_TRAINER_STEPRUNNER_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Data.h"
#include "runtime/trainer/Ranks.h"

#include <atomic>
#include <functional>
#include <optional>
#include <vector>

namespace amc::rt {

struct StepResult {
  double loss = 0;
  std::optional<double> gradNorm;
  uint64_t labelTokens = 0;
  std::optional<double> droppedTokens; // as StepRecord has them
};

// Loss per labelled token (per micro-batch, if the plan does not say how many tokens a loss stands
// for).
struct EvalResult {
  double loss = 0;
  uint64_t labelTokens = 0;
  uint64_t entries = 0;
  std::optional<double> droppedTokens; // as StepRecord has them
};

class StepRunner {
public:
  // `executor` and `ranks` outlive the runner and keep their addresses. `request` is
  // requestFor(executor.plan()) with what the user said about the data.
  static Expected<std::unique_ptr<StepRunner>> create(Executor &executor, const Ranks &ranks,
                                                      DataRequest request);
  ~StepRunner();

  // Entries of the data that a step takes, on all ranks.
  uint64_t entriesPerStep() const { return staged.size() * ranks.dataRanks(); }
  // Tokens of a step: elements of input_ids over all micro-batches and ranks (of the labels, if
  // there is no such input).
  uint64_t tokensPerStep() const;
  // Bytes of the staging buffers.
  uint64_t stagingBytes() const;

  // Reads this rank's share of the entriesPerStep() entries from `position` on and counts labels
  // with the others. Gives true if any rank says `stop`; then all of them get it.
  Expected<bool> stage(DataSource &source, uint64_t position, bool stop = false);
  // Runs the staged step. `step` counts from 1.
  Expected<StepResult> run(uint64_t step, double learningRate, uint64_t seed);

  // Called after those instructions, of the last micro-batch and of the update, until set to nothing.
  void setObserver(Executor::Hook observer, std::vector<uint64_t> after);

  // Runs the forward pass over entries [0, entries) of the held-out share, or of an epoch in the
  // data's order, dealt out to the ranks. `progress` gets the last entry that is done; `watch` is called around each
  // batch, of all ranks together, which are counted from 1.
  Expected<EvalResult> evaluate(DataSource &source, bool heldOut, uint64_t entries, uint64_t seed,
                                const std::function<void(uint64_t entry)> &progress = {},
                                const std::function<void(uint64_t batch, bool begins)> &watch = {});

private:
  using Entry = std::vector<std::vector<std::byte>>; // a buffer per data input
  struct Indices {
    std::optional<size_t> normalizer, learningRate, stepNumber, microBatch, seed, dataRank;
    std::vector<size_t> data;
    size_t loss = 0;
    std::optional<size_t> gradNorm, droppedTokens;
  };
  StepRunner(Executor &executor, const Ranks &ranks, DataRequest request);
  Status bind();
  // The counts of `mine` on all ranks that take data, those of one micro-batch after the other.
  struct Counted {
    LabelCount labels;
    bool stop = false;
  };
  Expected<Counted> countAll(std::span<const LabelCount> mine, bool stop) const;
  void ignoreLabels(Entry &entry) const;
  Status afterInstruction(uint64_t instruction);
  void feedData(const Entry &entry);
  void feedInt(std::optional<size_t> input, int64_t value);
  void feedFloat(std::optional<size_t> input, double value);
  void feedNumber(const Tensor &tensor, plan::DType from, const std::byte *value);
  void put(const Tensor &tensor, const std::byte *bytes);
  Expected<double> readOutput(size_t output) const;
  Status addDropped(std::optional<double> &sum) const;
  Status nonFinite(std::string_view what, double value, const std::function<void()> &feed);

  Executor &executor;
  const Ranks &ranks;
  DataRequest request;
  Indices at;
  std::vector<Entry> staged;
  std::vector<LabelCount> stagedCounts; // of each
  LabelCount stagedLabels;
  Executor::Hook observer;
  Status feeding; // of what is in place for the next run
  bool observing = false; // in the last micro-batch or the update of a step
  double badNorm = 0;     // what the update was stopped for
  bool stopped = false;
};

} // namespace amc::rt

#endif
