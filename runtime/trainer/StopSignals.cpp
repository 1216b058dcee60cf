// See StopSignals.h.
#include "runtime/trainer/StopSignals.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/auxv.h>
#include <sys/mman.h>

namespace amc::rt {
namespace {

std::atomic<bool> *requested = nullptr;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

void requestStop(int) { requested->store(true); }

// What the processor's registers take there (AMX's are 8 KiB) and as much as a handler is ever given.
uint64_t stackBytes() { return ::getauxval(AT_MINSIGSTKSZ) + (64 << 10); }

} // namespace

Status catchStopSignals(std::atomic<bool> &flag) {
  requested = &flag;
  stack_t stack = {};
  stack.ss_size = stackBytes();
  stack.ss_sp = ::mmap(nullptr, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack.ss_sp == MAP_FAILED || ::sigaltstack(&stack, nullptr) != 0)
    return limitError("no stack for handlers of signals: ", std::strerror(errno));
  struct sigaction action = {};
  action.sa_handler = requestStop;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART | SA_ONSTACK);
  sigemptyset(&action.sa_mask);
  for (int signal : {SIGTERM, SIGINT})
    ::sigaction(signal, &action, nullptr);
  return {};
}

} // namespace amc::rt
