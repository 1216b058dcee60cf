// A process between the launcher and a rank.
//
// MPICH's launcher kills all ranks the moment it sees one of them ended by a signal, so that none can say what has
// happened. Here it sees the supervisor, which ends with exit code 3 instead. The rank is its child and dies with it, as
// it dies with the launcher's process on this host: the pipes of that stay open in other ranks, so that a write to them
// would wait for ever. Signals to the supervisor go to the rank. Before the ranks have joined nothing changes: the
// launcher sees the rank's connection break, and ends the others.
#ifndef AMC_RUNTIME_COLLECTIVE_SUPERVISOR_H
#define AMC_RUNTIME_COLLECTIVE_SUPERVISOR_H

#include "runtime/support/Status.h"

namespace amc::rt::collective {

// Returns in the rank, which is another process than the caller. `connection` is the launcher's, a file that the
// supervisor does not keep; -1: none. Threads that the caller has started stay behind (those of OpenBLAS end, and begin
// again when they are needed).
Status supervise(int connection);

} // namespace amc::rt::collective

#endif
