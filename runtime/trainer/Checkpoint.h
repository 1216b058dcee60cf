// Checkpoints: DIR/epoch_E_step_S/ holds model.safetensors (weights by initializer name),
// optimizer.safetensors (STATE.NAME, e.g. exp_avg.lm_head.weight) and state.json (where the run
// stands). DIR/LATEST is a symbolic link to the newest one.
//
// Several ranks each write files of their own instead of those two, with an index beside them: see
// Shards.h. So a checkpoint takes as long as its largest part, nothing is gathered, and no two
// ranks write to one file. Any mesh resumes from what any other wrote; DIR has to be the same
// folder for all ranks, which rank 0 makes, renames and removes.
//
// A checkpoint is written under another name, flushed, renamed when whole, and only then does
// LATEST move; a run that dies at any point, a full disk included, leaves the previous checkpoint
// as it was. One run at a time writes to a directory: a lock keeps others off, where the file
// system has locks.
#ifndef AMC_RUNTIME_TRAINER_CHECKPOINT_H
#define AMC_RUNTIME_TRAINER_CHECKPOINT_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Ranks.h"
#include "runtime/trainer/RunState.h"

#include <memory>
#include <optional>
#include <string>

namespace amc::rt {

class Checkpoints {
public:
  // Creates the directory, locks it for this run and clears what an interrupted save left. `keep`:
  // newest checkpoints to keep, 0 for all.
  // Called by all ranks; what one finds wrong, all return.
  static Expected<Checkpoints> open(const std::string &directory, uint64_t keep,
                                    const Ranks &ranks);
  // To read from only: changes nothing, and needs no lock beside a run that writes there.
  static Checkpoints openToRead(const std::string &directory, const Ranks &ranks) { return {directory, 0, ranks, {}}; }

  // Called by all ranks. If one of them fails, all do, and the checkpoints are as they were. The checkpoint is there: then
  // rank 0 is told what old one could not be removed, in words; empty if all could.
  Expected<std::string> save(const Executor &executor, const RunState &state);

  // The newest checkpoint's folder; nothing if there is none. Called by all ranks: they get the
  // same.
  Expected<std::optional<std::string>> latest() const;

  // Where the run of a checkpoint's folder stands, and this rank's part of its weights and
  // optimizer states.
  static Expected<RunState> readState(const std::string &folder);
  static Status load(Executor &executor, const Ranks &ranks, const std::string &folder);

private:
  // An open descriptor, closed when the last one to hold it goes.
  using Lock = std::shared_ptr<const int>;
  static Expected<Lock> lock(const std::string &directory);
  Checkpoints(std::string directory, uint64_t keep, const Ranks &ranks, Lock held)
      : directory(std::move(directory)), keep(keep), ranks(&ranks), held(std::move(held)) {}
  static Expected<Lock> prepare(const std::string &directory);
  Status write(const Executor &executor, const RunState &state, const std::string &folder) const;
  Status publish(const std::string &partial, const std::string &name) const;
  Expected<std::optional<std::string>> readLatest() const;
  Status moveLatest(const std::string &name) const;
  Status removeOld() const;
  std::string directory;
  uint64_t keep;
  const Ranks *ranks;
  Lock held; // rank 0's
};

} // namespace amc::rt

#endif
