// Trains or evaluates: the loop that amrun is, as a function.
#ifndef AMC_RUNTIME_TRAINER_TRAINER_H
#define AMC_RUNTIME_TRAINER_TRAINER_H

#include "runtime/collective/Communicator.h"
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

// Does what `options` ask for. When `stop` becomes true, training ends between two steps: with
// a checkpoint if there is a folder for them, without the files that only a finished run writes.
// That is no error.
//
// `communicator` joins the ranks of a run; every rank calls this with the same options. Without one
// the run is one rank's. Only rank 0 uses the sinks; one rank's `stop` stops all. A failure of one
// rank ends all: its own message says "rank N: …". A failure that all have found together is rank
// 0's to report, the others' status then has an empty message.
Status runTrainer(const TrainOptions &options, const TrainSinks &sinks,
                  const std::atomic<bool> &stop, Communicator *communicator = nullptr);

} // namespace amc::rt

#endif
