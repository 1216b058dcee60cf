// What has to be the same on all ranks of a run, as facts by name: the plan, what was asked for,
// the data. Compared before anything is loaded (see Ranks::sameOnAll), because ranks that run
// different steps would hang or train nonsense.
#ifndef AMC_RUNTIME_TRAINER_FINGERPRINT_H
#define AMC_RUNTIME_TRAINER_FINGERPRINT_H

#include "runtime/trainer/Options.h"

#include <string>
#include <utility>
#include <vector>

namespace amc::rt {

// The plan file is known by the hash that it carries, other files by their size and 64 KiB each of
// their beginning, middle and end: ranks on several machines may have them under different names.
// Threads, verbosity and where a model lies may differ.
Expected<std::vector<std::pair<std::string, std::string>>> fingerprint(const TrainOptions &options);

} // namespace amc::rt

#endif
