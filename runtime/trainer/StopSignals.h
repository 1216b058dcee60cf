// SIGTERM and SIGINT as a request to end a run.
//
// oneDNN's generated products keep the stack pointer inside the buffer that they pack operands into: whatever the system
// puts below it for a signal's handler is written over numbers that are being multiplied and over the heap. So a process
// that multiplies has its handlers on a stack of their own (sigaltstack, SA_ONSTACK), and threads that have none take no
// signals (runtime/support/Threads.h).
#ifndef AMC_RUNTIME_TRAINER_STOPSIGNALS_H
#define AMC_RUNTIME_TRAINER_STOPSIGNALS_H

#include "runtime/support/Status.h"
#include <atomic>

namespace amc::rt {

// From now on the first SIGTERM or SIGINT sets `requested`, which lives as long as the process; a second one of the same
// kind ends the process. To be called by the main thread. A limit error where there is no memory for the handlers' stack.
Status catchStopSignals(std::atomic<bool> &requested);

} // namespace amc::rt

#endif
