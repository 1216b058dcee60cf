#include "runtime/collective/Supervisor.h"
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace amc::rt::collective {
namespace {

constexpr int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT};

std::atomic<RankState> *rankState = nullptr; // in memory that both processes have
static_assert(std::atomic<RankState>::is_always_lock_free);

void write(int file, const std::string &words) {
  [[maybe_unused]] ssize_t written = ::write(file, words.data(), words.size()); // nobody to tell if it fails
}

// The rank has ended; `stopped`: by a signal that came through here, or told to by one, and whoever sent it knows.
[[noreturn]] void end(pid_t rank, int status, bool stopped, int connection) {
  constexpr int limit = static_cast<int>(ErrorKind::Limit);
  RankState state = rankState->load();
  bool killed = WIFSIGNALED(status);
  if (!(killed ? state != RankState::Told && !stopped : state == RankState::Joined))
    ::_exit(killed ? limit : WEXITSTATUS(status));
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const char *number = std::getenv("PMI_RANK");
  write(2, text(program_invocation_short_name, ": error: rank ", number ? number : "?", " (pid ", rank, " on ", host,
                ") died: ",
                killed ? text("killed by signal ", WTERMSIG(status), " (", ::strsignal(WTERMSIG(status)), ")")
                       : text("it ended with exit code ", WEXITSTATUS(status), " in the middle of the run"),
                "\n"));
  if (connection >= 0) {
    struct timespec moment = {0, 200'000'000}; // for the launcher to pass it on
    ::nanosleep(&moment, nullptr);
    write(connection, text("cmd=abort exitcode=", limit, "\n"));
    moment.tv_sec = 1; // it ends this process, too
    ::nanosleep(&moment, nullptr);
  }
  ::_exit(limit);
}

[[noreturn]] void watch(pid_t rank, const sigset_t &signals, int connection) {
  bool stopped = false;
  while (true) {
    int status;
    if (::waitpid(rank, &status, WNOHANG) == rank)
      end(rank, status, stopped, connection);
    // Child's state changes are among the signals; they are blocked, so none is lost in between.
    siginfo_t signal;
    if (::sigwaitinfo(&signals, &signal) > 0 && signal.si_signo != SIGCHLD) {
      stopped |= signal.si_signo == SIGTERM || signal.si_signo == SIGINT || signal.si_signo == SIGHUP || signal.si_signo == SIGQUIT;
      ::kill(rank, signal.si_signo);
    }
  }
}

} // namespace

Status supervise(int connection) {
  void *shared = ::mmap(nullptr, sizeof *rankState, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED)
    return limitError("no memory to be shared with the process that watches a rank: ", std::strerror(errno));
  rankState = new (shared) std::atomic<RankState>(RankState::Joining);
  sigset_t signals, before;
  sigemptyset(&signals);
  for (int signal : forwarded)
    sigaddset(&signals, signal);
  sigaddset(&signals, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &signals, &before);
  pid_t supervisor = ::getpid(), rank = ::fork();
  if (rank > 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL); // nobody reads what the rank writes then, or ends it
    std::signal(SIGPIPE, SIG_IGN);
    watch(rank, signals, connection);
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

void tellSupervisor(RankState state) {
  if (rankState)
    rankState->store(state);
}

} // namespace amc::rt::collective
