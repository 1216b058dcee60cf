#include "runtime/collective/Join.h"
#include "runtime/collective/SharedCommunicator.h"
#include "runtime/collective/Supervisor.h"
#include "runtime/collective/mpi/MpiCommunicator.h"
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <optional>
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

Expected<const AmcMpi *> loadModule() {
  char self[4096];
  ssize_t length = ::readlink("/proc/self/exe", self, sizeof self - 1);
  std::string folder = length > 0 ? std::string(self, static_cast<size_t>(length)) : "";
  folder.resize(folder.rfind('/') == folder.npos ? 0 : folder.rfind('/') + 1);
  // UCX, which MPICH may come with, would catch crashes of the whole program otherwise.
  ::setenv("UCX_HANDLE_ERRORS", "none", 0);
  std::string errors;
  for (const std::string &path :
       {folder + "../lib/libamrt_mpi.so", folder + "libamrt_mpi.so", std::string("libamrt_mpi.so")}) {
    void *module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!module) {
      errors += text("\n  ", ::dlerror());
      continue;
    }
    auto function = reinterpret_cast<AmcMpiFunction>(::dlsym(module, "amcMpi"));
    const AmcMpi *mpi = function ? function() : nullptr;
    if (!mpi || mpi->version != amcMpiVersion)
      return limitError(path, ": belongs to another version of this program");
    return mpi;
  }
  return limitError("started as one of several ranks, and the module that talks to MPI cannot be loaded:", errors);
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
  Expected<const AmcMpi *> loaded = loadModule();
  if (!loaded.ok())
    return loaded.status();
  const AmcMpi &mpi = **loaded;
  int rank = 0, size = 1, onThisHost = 1;
  if (Status s = asStatus(mpi.start(&rank, &size, &onThisHost)); !s.ok())
    return s;
  if (*launched > 1 && static_cast<unsigned long>(size) != *launched)
    return inputError("the launcher says that there are ", *launched, " ranks and MPI that there are ", size,
                      "; start it with the mpirun of the MPI that this program was built with");
  if (size == 1) {
    if (Status s = asStatus(mpi.finish()); !s.ok())
      return s;
    return std::unique_ptr<Communicator>();
  }
  if (*path != JoinOptions::Path::Mpi) {
    Status problem;
    if (onThisHost == size) {
      Bootstrap bootstrap;
      bootstrap.rank = static_cast<unsigned>(rank);
      bootstrap.size = static_cast<unsigned>(size);
      bootstrap.allGather = [&](const void *mine, size_t bytes, void *all) {
        return asStatus(mpi.allGather(mine, static_cast<int>(bytes), all));
      };
      auto joined = SharedCommunicator::join(bootstrap, options);
      if (joined.ok()) {
        // From here on a rank that ends is ours to explain, not the launcher's to clean up after.
        if (Status s = asStatus(mpi.finish()); !s.ok())
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
  return std::unique_ptr<Communicator>(
      new MpiCommunicator(mpi, static_cast<unsigned>(rank), static_cast<unsigned>(size), options));
}

} // namespace amc::rt
