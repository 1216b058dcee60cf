// How this process finds the other ranks of its run.
//
// An MPI launcher (mpirun) starts the ranks and MPI tells them who they are; then one of two implementations carries
// the collectives:
//   shm  all ranks are on one host. MPI is left behind once the ranks know each other: they share a control block and
//   map
//        each other's arenas (memfd, found as /proc/PID/fd/N), and read their peers' buffers where they lie.
//   mpi  on several hosts, over MPI's non-blocking sends and receives. Sums are ours, so the bits are those of shm.
// AMC_COLLECTIVES=shm or mpi asks for one; else it is shm where all ranks can map each other's memory, mpi elsewhere.
//
// MPI itself is in a module (libamrt_mpi.so, runtime/collective/mpi) that only a process started by a launcher loads: a
// single rank pays nothing for it.
#ifndef AMC_RUNTIME_COLLECTIVE_JOIN_H
#define AMC_RUNTIME_COLLECTIVE_JOIN_H

#include "runtime/collective/Communicator.h"

namespace amc::rt {

struct JoinOptions {
  enum class Path { Automatic, SharedMemory, Mpi };
  Path path = Path::Automatic; // Automatic: AMC_COLLECTIVES, else the best there is
  // A rank that others wait for and that shows no progress for so many seconds is taken to hang, and the run ends.
  // The same for ranks that do not appear: joining then ends this process with a message and exit code 3.
  double rankTimeout = 60;
  // A rank whose process does not run at all for so many seconds (stopped, frozen) ends the run, too: shm.
  double stoppedTimeout = 5;
  // The same for one that is not heard of, as its host or the network between may have failed, too: mpi.
  double lostTimeout = 10;
  // Once the run has failed, a rank that is still here after so many seconds ends itself, with exit code 3.
  double grace = 5;
  // Under MPICH's launcher: leave a small process between it and this rank (Supervisor.h), so that a rank that is
  // killed or crashes ends the run with a message and exit code 3 rather than by the launcher's SIGKILL to all.
  bool supervised = true;
};

// Was this process started by an MPI launcher, as one of several ranks or alone?
bool startedByLauncher();

// Joins the other ranks; a null communicator if there are none. Call it before anything that can fail: a rank that ends
// before it has joined keeps the others waiting in MPI_Init until rankTimeout. The communicator leaves the run when destroyed; one that
// is left early, while others still call it, is their error. If supervised, it returns in a child of the process that
// has called it, so call it while there is one thread and nothing that a process has for itself (locks, temporary
// files).
Expected<std::unique_ptr<Communicator>> joinRanks(const JoinOptions &options = {});

} // namespace amc::rt

#endif
