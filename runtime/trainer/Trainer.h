// Trains or evaluates: the loop that amrun is, as a function.
#ifndef AMC_RUNTIME_TRAINER_TRAINER_H
#define AMC_RUNTIME_TRAINER_TRAINER_H

#include "runtime/support/Status.h"
#include "runtime/trainer/Options.h"

#include <atomic>
#include <functional>
#include <string_view>

namespace amc::rt {

struct TrainSinks {
  // A line of results: a step, an evaluation. A failure ends the run.
  std::function<Status(std::string_view line)> result;
  // A line for the person who watches.
  std::function<void(std::string_view line)> note;
};

// Does what `options` ask for. When `stop` becomes true, training ends after the current step: with
// a checkpoint if there is a folder for them, without the files that only a finished run writes.
// That is no error.
Status runTrainer(const TrainOptions &options, const TrainSinks &sinks,
                  const std::atomic<bool> &stop);

} // namespace amc::rt

#endif
