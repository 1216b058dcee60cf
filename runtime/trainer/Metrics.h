// What a step reports: the log line for people, the JSON object for programs.
#ifndef AMC_RUNTIME_TRAINER_METRICS_H
#define AMC_RUNTIME_TRAINER_METRICS_H

#include <cstdint>
#include <optional>
#include <string>

namespace amc::rt {

struct StepRecord {
  uint64_t step = 0;  // from 1
  uint64_t epoch = 0; // from 0: the epoch that the step's first entry belongs to
  double loss = 0;
  std::optional<double> gradNorm; // before clipping; absent when the plan does not compute it
  double learningRate = 0;
  uint64_t memoryBytes = 0; // the arena, as the plan lays it out
  double tokensPerSecond = 0;
  uint64_t ranks = 1;
  uint64_t labelTokens = 0; // labelled tokens over all ranks and micro-batches
  // Expert parallelism with a capacity: pairs of a token and an expert that had no slot, over all layers, ranks and
  // micro-batches; absent where nothing can be dropped.
  std::optional<uint64_t> droppedTokens;
};

// " | dropped_tokens 12", nothing where nothing can be dropped.
std::string droppedText(std::optional<double> droppedTokens);

// `step 10 | epoch 0 | loss 5.1234 | grad_norm 1.2345 | lr 1.00e-05 | mem 7.30 GiB | tps
// 5123.45(640.43/rank) | num_label_tokens 16384`, on one line; `| dropped_tokens 12` behind it where there can be such.
std::string logLine(const StepRecord &record);

// One object, keys in the order step, epoch, loss, grad_norm, lr, mem, tps, num_label_tokens, dropped_tokens.
// Numbers are written so that they read back to the same double; a value that JSON has no number
// for is null.
std::string logJson(const StepRecord &record);

// "7.30 GiB"; below a tenth of that "4.04 MiB".
std::string gibibytes(uint64_t bytes);

} // namespace amc::rt

#endif
