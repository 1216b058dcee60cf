// A process between the launcher and a rank.
//
// MPICH's launcher kills all ranks the moment it sees one of them ended by a signal, so that none can say what has
// happened. Here it sees the supervisor, which ends with exit code 3 instead. The rank is its child and dies with it, as
// it dies with the launcher's process on this host: the pipes of that stay open in other ranks, so that a write to them
// would wait for ever. Signals to the supervisor go to the rank.
//
// Who tells of a rank that dies depends on how far it is. Ranks that share memory find out and say so. Before that, and
// over MPI, where a peer's death is silence, its own supervisor does, and has the launcher end the run: as MPI_Abort
// would, in the words of PMI 1, so that one line is all that is printed.
#ifndef AMC_RUNTIME_COLLECTIVE_SUPERVISOR_H
#define AMC_RUNTIME_COLLECTIVE_SUPERVISOR_H

#include "runtime/support/Status.h"

namespace amc::rt::collective {

// Returns in the rank, which is another process than the caller; threads that the caller has started stay behind.
// `connection` is the launcher's, a file by which it is told that the run is to end; -1: none.
Status supervise(int connection);

// How far this rank is, for its supervisor, if there is one. Joining, as it begins: an end by a signal is told of, as a
// rank that fails says so itself. Joined: so is an end of any other kind. Told: nothing is, others do or have done so.
enum class RankState { Joining, Joined, Told };
void tellSupervisor(RankState state);

} // namespace amc::rt::collective

#endif
