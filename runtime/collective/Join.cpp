#include "runtime/collective/Join.h"
#include "runtime/collective/SharedCommunicator.h"
#include "runtime/collective/Supervisor.h"
#include "runtime/collective/mpi/MpiCommunicator.h"
#include "runtime/support/Modules.h"
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <optional>
#include <sys/time.h>
#include <unistd.h>

namespace amc::rt {
namespace {

using namespace collective;

std::optional<unsigned long> number(const char *variable) {
  const char *value = std::getenv(variable);
  if (!value || !*value)
    return std::nullopt;
  char *end;
  unsigned long parsed = std::strtoul(value, &end, 10);
  return *end ? std::nullopt : std::optional(parsed);
}

// Ranks, as the launchers of MPICH and its kin, Open MPI, MVAPICH and PMIx say it; nothing if there is no launcher.
std::optional<unsigned long> launchedRanks() {
  for (const char *variable : {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"})
    if (auto size = number(variable))
      return size;
  if (number("PMI_RANK") || number("PMIX_RANK"))
    return 0; // several perhaps: MPI knows
  return std::nullopt;
}

Expected<const AmcMpi *> loadMpi() {
  // UCX, which MPICH may come with, would catch crashes of the whole program otherwise.
  ::setenv("UCX_HANDLE_ERRORS", "none", 0);
  Expected<LoadedModule> module = loadModule("libamrt_mpi.so");
  if (!module.ok())
    return std::move(module).status().withContext("started as one of several ranks; the module that talks to MPI");
  auto function = reinterpret_cast<AmcMpiFunction>(::dlsym(module->handle, "amcMpi"));
  const AmcMpi *mpi = function ? function() : nullptr;
  if (!mpi || mpi->version != amcMpiVersion)
    return limitError(module->path, ": belongs to another version of this program");
  return mpi;
}

// MPI waits for ever for ranks that do not come (another program started in their place, a host that hangs). This one
// ends then; the launcher ends the others.
class Alarm {
public:
  Alarm(double seconds, unsigned long rank) {
    // One of them speaks: the others wait a little longer, and the launcher has ended them by then.
    double all = seconds + 0.25 * static_cast<double>(std::min(rank, 40ul));
    int printed = std::snprintf(message, sizeof message,
                                "%s: error: rank %lu has waited %g s for the other ranks to start\n",
                                program_invocation_short_name, rank, seconds);
    length = std::min(static_cast<size_t>(std::max(printed, 0)), sizeof message - 1);
    struct sigaction action = {};
    action.sa_handler = ring;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGALRM, &action, &before);
    set(all);
  }
  ~Alarm() {
    set(0);
    ::sigaction(SIGALRM, &before, nullptr);
  }
  Alarm(const Alarm &) = delete;
  Alarm &operator=(const Alarm &) = delete;

private:
  static void set(double seconds) {
    struct itimerval timer = {};
    timer.it_value.tv_sec = static_cast<time_t>(seconds);
    timer.it_value.tv_usec = static_cast<suseconds_t>((seconds - std::floor(seconds)) * 1e6);
    ::setitimer(ITIMER_REAL, &timer, nullptr);
  }
  static void ring(int) {
    [[maybe_unused]] ssize_t written = ::write(2, message, length); // nobody to tell if it fails
    ::_exit(static_cast<int>(ErrorKind::Limit));
  }
  static inline char message[256];
  static inline size_t length = 0;
  struct sigaction before = {};
};

unsigned long launchedRank() {
  for (const char *variable : {"PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK"})
    if (auto rank = number(variable))
      return *rank;
  return 0;
}

Status asStatus(const char *wrong) { return wrong ? limitError("MPI failed: ", wrong) : Status(); }

Expected<JoinOptions::Path> choosePath(const JoinOptions &options) {
  const char *value = std::getenv("AMC_COLLECTIVES");
  if (options.path != JoinOptions::Path::Automatic || !value)
    return options.path;
  if (!std::strcmp(value, "shm"))
    return JoinOptions::Path::SharedMemory;
  if (!std::strcmp(value, "mpi"))
    return JoinOptions::Path::Mpi;
  return Status(ErrorKind::Usage, text("AMC_COLLECTIVES is '", value, "' and should be shm or mpi"));
}

} // namespace

bool startedByLauncher() { return launchedRanks().has_value(); }

Expected<std::unique_ptr<Communicator>> joinRanks(const JoinOptions &options) {
  Expected<JoinOptions::Path> path = choosePath(options);
  if (!path.ok())
    return path.status();
  std::optional<unsigned long> launched = launchedRanks();
  if (!launched || *launched == 1)
    return std::unique_ptr<Communicator>();
  if (std::optional<unsigned long> connection = number("PMI_FD"); connection && options.supervised)
    if (Status s = supervise(static_cast<int>(*connection)); !s.ok())
      return s;
  Expected<const AmcMpi *> loaded = loadMpi();
  if (!loaded.ok())
    return loaded.status();
  const AmcMpi &mpi = **loaded;
  int rank = 0, size = 1, onThisHost = 1;
  {
    Alarm alarm(options.rankTimeout, launchedRank());
    if (Status s = asStatus(mpi.start(&rank, &size, &onThisHost)); !s.ok())
      return s;
  }
  if (*launched > 1 && static_cast<unsigned long>(size) != *launched)
    return inputError("the launcher says that there are ", *launched, " ranks and MPI that there are ", size,
                      "; start it with the mpirun of the MPI that this program was built with");
  if (size == 1) {
    tellSupervisor(RankState::Told);
    if (Status s = asStatus(mpi.finish(0)); !s.ok())
      return s;
    return std::unique_ptr<Communicator>();
  }
  auto allGather = [&mpi](const void *mine, size_t bytes, void *all) {
    return asStatus(mpi.allGather(mine, static_cast<int>(bytes), all));
  };
  if (*path != JoinOptions::Path::Mpi) {
    Status problem;
    if (onThisHost == size) {
      Bootstrap bootstrap;
      bootstrap.rank = static_cast<unsigned>(rank);
      bootstrap.size = static_cast<unsigned>(size);
      bootstrap.allGather = allGather;
      auto joined = SharedCommunicator::join(bootstrap, options);
      if (joined.ok()) {
        // From here on a rank that ends is the others' to explain, not the launcher's to clean up after.
        tellSupervisor(RankState::Told);
        if (Status s = asStatus(mpi.finish(0)); !s.ok())
          return s;
        return joined;
      }
      problem = joined.status();
    } else {
      problem = limitError("the ranks are on several hosts");
    }
    if (*path == JoinOptions::Path::SharedMemory)
      return std::move(problem).withContext("AMC_COLLECTIVES=shm");
  }
  auto self = static_cast<unsigned>(rank), ranks = static_cast<unsigned>(size);
  auto heart = Heart::start(self, ranks, options.lostTimeout, allGather);
  if (!heart.ok())
    return heart.status();
  return std::unique_ptr<Communicator>(new MpiCommunicator(mpi, self, ranks, std::move(*heart), options));
}

} // namespace amc::rt
