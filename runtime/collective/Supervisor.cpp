#include "runtime/collective/Supervisor.h"
#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace amc::rt::collective {
namespace {

constexpr int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT};

[[noreturn]] void watch(pid_t rank, const sigset_t &signals) {
  while (true) {
    int status;
    if (::waitpid(rank, &status, WNOHANG) == rank)
      ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : static_cast<int>(ErrorKind::Limit));
    // Child's state changes are among the signals; they are blocked, so none is lost in between.
    siginfo_t signal;
    if (::sigwaitinfo(&signals, &signal) > 0 && signal.si_signo != SIGCHLD)
      ::kill(rank, signal.si_signo);
  }
}

} // namespace

Status supervise(int connection) {
  sigset_t signals, before;
  sigemptyset(&signals);
  for (int signal : forwarded)
    sigaddset(&signals, signal);
  sigaddset(&signals, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &signals, &before);
  pid_t supervisor = ::getpid(), rank = ::fork();
  if (rank > 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL); // nobody reads what the rank writes then, or ends it
    if (connection >= 0)
      ::close(connection);
    watch(rank, signals);
  }
  if (rank == 0) {
    ::setpgid(0, 0); // a signal of the terminal comes once: from the supervisor
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != supervisor) // it has died before that
      ::_exit(static_cast<int>(ErrorKind::Limit));
  }
  int error = errno;
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return rank == 0 ? Status() : limitError("the process of a rank cannot be started: ", std::strerror(error));
}

} // namespace amc::rt::collective
