// See Ranks.h.
#include "runtime/launch/Ranks.h"

#include "runtime/launch/LaunchedRanks.h"
#include "runtime/plan/PlanRanks.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sched.h>
#include <unistd.h>

namespace amc::rt {
namespace {

// Of the first of these environment variables that is one.
std::optional<uint64_t> numberIn(std::initializer_list<const char *> names) {
  for (const char *name : names)
    if (const char *value = std::getenv(name)) {
      char *end = nullptr;
      unsigned long long number = std::strtoull(value, &end, 10);
      if (end != value && !*end)
        return number;
    }
  return std::nullopt;
}

// The signal that an exit code of a launcher stands for; 0: none. MPICH's has the signal itself.
int signalIn(int code) {
  const int signal = code > 128 ? code - 128 : code;
  return code > static_cast<int>(ErrorKind::Limit) && signal < NSIG ? signal : 0;
}

// What the launcher's end comes to, and why where no rank has said so.
Expected<int> explain(const RanksEnd &run, const std::string &mpirun,
                      const std::function<void(std::string_view)> &note) {
  const int limit = static_cast<int>(ErrorKind::Limit);
  const int killed = run.died ? run.died->signal : 0;
  ProgramEnd end = run.launcher;
  if (run.failed && !killed) { // what a rank says of itself counts more
    end.code = *run.failed;
    end.signal = 0;
  }
  if (!end.signal && end.code == 0) {
    if (!killed && run.vanished && run.asked == 0)
      return limitError("a rank has ended without saying how, and ", mpirun, " with 0");
    if (!killed)
      return 0;
    end.code = 128 + killed;
  }
  const bool own = !end.signal && end.code <= limit; // a code of the ranks' own
  const int signal = killed ? killed : own || end.signal ? 0 : signalIn(end.code);
  if (run.asked > 0 && (own || signal == SIGTERM)) {
    if (!run.said)
      note(run.asked > 1 ? "ended by a second signal" : "ended by a signal");
    return own ? end.code : limit;
  }
  if (run.died && signal) {
    const std::string what = text("rank ", run.died->rank, " (pid ", run.died->pid, ") was ended by signal ", signal,
                                  " (", ::strsignal(signal), ")");
    if (!run.said)
      return limitError(what);
    note(what); // another rank has been quick enough to miss it
    return limit;
  }
  if (end.signal)
    return limitError(mpirun, ": ended by signal ", end.signal, " (", ::strsignal(end.signal), ")");
  // 255 is mpirun's own way to fail.
  if (end.code > limit) {
    if (!end.out.empty())
      note(end.out);
    return limitError("the ranks ended with exit code ", end.code,
                      (end.code > 128 && end.code < 255) || end.code == 9 ? ", which stands for a signal" : "",
                      "; see above");
  }
  return end.code;
}

} // namespace

uint64_t ranksOf(const plan::Plan &plan) { return meshOf(plan).ranks(); }

std::optional<uint64_t> ranksOfLauncher() {
  // MPICH and what speaks its protocol; Open MPI.
  std::optional<uint64_t> size = numberIn({"PMI_SIZE", "OMPI_COMM_WORLD_SIZE"});
  return size && *size > 0 ? size : std::nullopt;
}

std::optional<unsigned> rankOfLauncher() {
  std::optional<uint64_t> rank = numberIn({"PMI_RANK", "OMPI_COMM_WORLD_RANK"});
  return rank ? std::optional(static_cast<unsigned>(*rank)) : std::nullopt;
}

Expected<uint64_t> ranksToStart(const plan::Plan &plan, const std::string &path, uint64_t asked) {
  const MeshShape mesh = meshOf(plan);
  const uint64_t ranks = mesh.ranks();
  if (asked == 0 || asked == ranks)
    return ranks;
  std::string sizes;
  for (size_t axis = 0; axis < meshAxes.size(); ++axis)
    if (mesh.size[axis] > 1)
      sizes += text(sizes.empty() ? "" : " x ", std::string(meshAxes[axis]), " ", mesh.size[axis]);
  return inputError(path, ": is a plan for ", ranks, ranks == 1 ? " rank" : " ranks",
                    sizes.empty() ? "" : text(" (", sizes, ")"), ", --nproc-per-node is ", asked,
                    "; give --nproc-per-node ", ranks, " or auto, or compile for ", asked, " (amc compile --ranks ",
                    asked, " --dp-size none)");
}

unsigned threadsPerRank(uint64_t ranks) {
  cpu_set_t set;
  uint64_t processors = ::sched_getaffinity(0, sizeof set, &set) == 0
                            ? static_cast<uint64_t>(CPU_COUNT(&set))
                            : static_cast<uint64_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  return static_cast<unsigned>(std::max<uint64_t>(1, processors / std::max<uint64_t>(ranks, 1)));
}

Expected<int> runRanks(uint64_t ranks, const std::string &program, const std::vector<std::string> &arguments,
                       const std::function<void(std::string_view)> &note) {
  std::string mpirun = findInPath("mpirun");
  if (mpirun.empty())
    mpirun = findInPath("mpiexec");
  if (mpirun.empty())
    return limitError(
        "--nproc-per-node starts ranks through mpirun, which is not in PATH; install an MPI (Debian: mpich)");
  Expected<ProgramEnd> version = runCaptured({mpirun, "--version"});
  if (!version.ok())
    return version.status();
  std::vector<std::string> command = {mpirun, "-n", std::to_string(ranks)};
  if ((version->out + version->err).find("Open MPI") != std::string::npos ||
      (version->out + version->err).find("OpenRTE") != std::string::npos) {
    // It counts cores, binds ranks to them and does not like root; threads are divided here.
    command.insert(command.end(), {"--oversubscribe", "--bind-to", "none"});
    if (::geteuid() == 0)
      command.push_back("--allow-run-as-root");
  }
  command.push_back(program);
  command.insert(command.end(), arguments.begin(), arguments.end());
  note(text("starting ", ranks, " ranks through ", mpirun));
  Expected<RanksEnd> run = runLauncher(command);
  if (!run.ok())
    return run.status();
  return explain(*run, mpirun, note);
}

} // namespace amc::rt
