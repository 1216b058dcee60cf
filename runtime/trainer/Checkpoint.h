// Checkpoints: DIR/epoch_E_step_S/ holds model.safetensors (weights by initializer name),
// optimizer.safetensors (STATE.NAME, e.g. exp_avg.lm_head.weight) and state.json (where the run
// stands). DIR/LATEST is a symbolic link to the newest one.
//
// A checkpoint is written under another name, flushed, renamed when whole, and only then does
// LATEST move; a run that dies at any point, a full disk included, leaves the previous checkpoint
// as it was. One run at a time writes to a directory: a lock keeps others off, where the file
// system has locks.
#ifndef AMC_RUNTIME_TRAINER_CHECKPOINT_H
#define AMC_RUNTIME_TRAINER_CHECKPOINT_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Schedule.h"

#include <memory>
#include <optional>
#include <string>

namespace amc::rt {

// Everything about a run that is not in the arena.
struct RunState {
  uint64_t step = 0;     // finished steps
  uint64_t epoch = 0;    // of the last finished step
  uint64_t position = 0; // entries taken from the data, see Data.h
  uint64_t seed = 0;
  Schedule schedule;
  uint64_t entriesPerEpoch =
      0; // of the data; a resumed run's has to be the same for `position` to mean the same
  std::string dataUse; // how the run takes its data, in words; the same holds for it

  bool operator==(const RunState &) const = default;
};

std::string stateToJson(const RunState &state);
Expected<RunState> stateFromJson(const std::string &json);

// "epoch_0_step_10".
std::string checkpointName(const RunState &state);

class Checkpoints {
public:
  // Creates the directory, locks it for this run and clears what an interrupted save left. `keep`:
  // newest checkpoints to keep, 0 for all.
  static Expected<Checkpoints> open(const std::string &directory, uint64_t keep);

  Status save(const Executor &executor, const RunState &state);

  // The newest checkpoint's folder; nothing if there is none.
  Expected<std::optional<std::string>> latest() const;

  // Fills weights and optimizer states from a checkpoint's folder.
  static Expected<RunState> load(Executor &executor, const std::string &folder);

private:
  // An open descriptor, closed when the last one to hold it goes.
  using Lock = std::shared_ptr<const int>;
  static Expected<Lock> lock(const std::string &directory);
  Checkpoints(std::string directory, uint64_t keep, Lock held)
      : directory(std::move(directory)), keep(keep), held(std::move(held)) {}
  Status write(const Executor &executor, const RunState &state, const std::string &folder) const;
  Status moveLatest(const std::string &name) const;
  Status removeOld() const;
  std::string directory;
  uint64_t keep;
  Lock held;
};

} // namespace amc::rt

#endif
