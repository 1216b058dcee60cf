// Starts the ranks of a run on this machine, through the mpirun that is in PATH (MPICH's or Open MPI's).
#ifndef AMC_RUNTIME_LAUNCH_RANKS_H
#define AMC_RUNTIME_LAUNCH_RANKS_H

#include "runtime/plan/plan.pb.h"
#include "runtime/support/Status.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace amc::rt {

// Ranks that the plan is for.
uint64_t ranksOf(const plan::Plan &plan);

// How many ranks an MPI launcher has started this process among; nothing if none has.
std::optional<uint64_t> ranksOfLauncher();

// Which of them this process is; nothing likewise.
std::optional<unsigned> rankOfLauncher();

// The number of ranks to start for --nproc-per-node (0: auto), or why that plan does not run so.
Expected<uint64_t> ranksToStart(const plan::Plan &plan, const std::string &path, uint64_t asked);

// Threads of each of `ranks` on this machine: the processors this process may use, divided; at least one.
unsigned threadsPerRank(uint64_t ranks);

// Runs `program` as that many ranks and returns the exit code: theirs, or 3 when one was ended by a signal, with an
// error that names it. (Where ranks end with different codes, it is what the launcher makes of them.) What signals to
// this process do, and what `program` has to do: LaunchedRanks.h.
Expected<int> runRanks(uint64_t ranks, const std::string &program, const std::vector<std::string> &arguments,
                       const std::function<void(std::string_view)> &note);

} // namespace amc::rt

#endif
