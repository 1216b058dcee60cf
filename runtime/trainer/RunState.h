// Where a run stands, as state.json of a checkpoint keeps it.
#ifndef AMC_RUNTIME_TRAINER_RUNSTATE_H
#define AMC_RUNTIME_TRAINER_RUNSTATE_H

#include "runtime/plan/Mesh.h"
#include "runtime/support/Status.h"
#include "runtime/trainer/Schedule.h"

#include <string>

namespace amc::rt {

// Everything about a run that is not in the arena.
struct RunState {
  uint64_t step = 0;     // finished steps
  uint64_t epoch = 0;    // of the last finished step
  uint64_t position = 0; // entries taken from the data, see Data.h
  uint64_t seed = 0;
  Schedule schedule;
  bool horizonGiven = false; // by --lr-decay-steps: a resumed run's --steps does not change it
  uint64_t entriesPerEpoch =
      0; // of the data; a resumed run's has to be the same for `position` to mean the same
  std::string dataUse; // how the run takes its data, in words; the same holds for it
  MeshShape mesh;      // of the ranks that wrote it

  bool operator==(const RunState &) const = default;
};

std::string stateToJson(const RunState &state);
Expected<RunState> stateFromJson(const std::string &json);

// "epoch_0_step_10".
std::string checkpointName(const RunState &state);

} // namespace amc::rt

#endif
