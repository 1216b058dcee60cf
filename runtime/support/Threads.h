// Threads of the runtime's own.
#ifndef AMC_RUNTIME_SUPPORT_THREADS_H
#define AMC_RUNTIME_SUPPORT_THREADS_H

#include <csignal>
#include <pthread.h>

namespace amc::rt {

// pthread_create for a thread that takes no signals; those of the process go to the main thread. That is more than order:
// see runtime/trainer/StopSignals.h for what a handler may do to a thread that multiplies.
inline int startThread(pthread_t &thread, void *(*entry)(void *), void *argument) {
  sigset_t everything, before;
  sigfillset(&everything);
  ::pthread_sigmask(SIG_SETMASK, &everything, &before);
  int error = ::pthread_create(&thread, nullptr, entry, argument);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error;
}

} // namespace amc::rt

#endif
