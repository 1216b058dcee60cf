// See Process.h. fork and exec; whether exec failed comes back through a pipe that a successful one closes.
#include "runtime/launch/Process.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace amc::rt {
namespace {

// What the handlers know. Only one command at a time is forwarded to.
volatile std::sig_atomic_t forwardTo = 0;

void forward(int signal) {
  int saved = errno;
  if (forwardTo > 0)
    ::kill(static_cast<pid_t>(forwardTo), signal);
  errno = saved;
}

Status cannotStart(const std::string &program, int error) {
  return limitError(program, ": cannot be started: ", std::strerror(error));
}

} // namespace

// Signals should be blocked by the caller if it will handle them.
Expected<pid_t> startCommand(const std::vector<std::string> &command, const std::function<void()> &prepare) {
  std::vector<char *> argv;
  for (const std::string &word : command)
    argv.push_back(const_cast<char *>(word.c_str()));
  argv.push_back(nullptr);
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0)
    return cannotStart(command[0], errno);
  pid_t parent = ::getpid();
  pid_t child = ::fork();
  if (child < 0) {
    int error = errno;
    ::close(report[0]);
    ::close(report[1]);
    return cannotStart(command[0], error);
  }
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) // it ended before that took effect
      ::_exit(127);
    // amrun ignores these two for itself; a command starts as any does.
    std::signal(SIGPIPE, SIG_DFL);
    std::signal(SIGXFSZ, SIG_DFL);
    prepare();
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execv(argv[0], argv.data());
    int error = errno;
    [[maybe_unused]] ssize_t written = ::write(report[1], &error, sizeof error);
    ::_exit(127);
  }
  ::close(report[1]);
  int error = 0;
  ssize_t got;
  while ((got = ::read(report[0], &error, sizeof error)) < 0 && errno == EINTR)
    ;
  ::close(report[0]);
  if (got == sizeof error) {
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR)
      ;
    return cannotStart(command[0], error);
  }
  return child;
}

void leaveTerminal() {
  ::setpgid(0, 0);
  if (int nothing = ::open("/dev/null", O_RDONLY); nothing >= 0)
    ::dup2(nothing, STDIN_FILENO); // a background group may not read from the terminal
}

ProgramEnd endOf(int status) {
  ProgramEnd end;
  if (WIFSIGNALED(status))
    end.signal = WTERMSIG(status);
  else
    end.code = WEXITSTATUS(status);
  return end;
}

std::string contentsOf(int file) {
  std::string text;
  char block[4096];
  ::lseek(file, 0, SEEK_SET);
  for (ssize_t got; (got = ::read(file, block, sizeof block)) > 0;)
    text.append(block, static_cast<size_t>(got));
  return text;
}

namespace {

ProgramEnd waitFor(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR)
    ;
  return endOf(status);
}

} // namespace

std::string ownProgram() {
  std::string path(4096, '\0');
  ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  path.resize(length > 0 ? static_cast<size_t>(length) : 0);
  return path;
}

std::string findInPath(const std::string &name) {
  const char *value = std::getenv("PATH");
  std::string path = value ? value : "";
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = std::min(path.find(':', begin), path.size());
    std::string file = text(path.substr(begin, end - begin), "/", name);
    if (end > begin && ::access(file.c_str(), X_OK) == 0)
      return file;
    begin = end + 1;
  }
  return "";
}

Expected<ProgramEnd> runCaptured(const std::vector<std::string> &command) {
  // Files in memory: nothing has to be read while the command runs.
  int out = ::memfd_create("out", MFD_CLOEXEC), err = ::memfd_create("err", MFD_CLOEXEC);
  if (out < 0 || err < 0) {
    int error = errno;
    if (out >= 0)
      ::close(out);
    return cannotStart(command[0], error);
  }
  Expected<pid_t> child = startCommand(command, [&] {
    ::dup2(out, STDOUT_FILENO);
    ::dup2(err, STDERR_FILENO);
  });
  if (child.ok()) {
    ProgramEnd end = waitFor(*child);
    end.out = contentsOf(out);
    end.err = contentsOf(err);
    ::close(out);
    ::close(err);
    return end;
  }
  ::close(out);
  ::close(err);
  return child.status();
}

Expected<ProgramEnd> runForwarding(const std::vector<std::string> &command, bool onlyNotes) {
  // Between fork and the moment the handlers know the child, a signal waits.
  sigset_t both, before;
  sigemptyset(&both);
  sigaddset(&both, SIGTERM);
  sigaddset(&both, SIGINT);
  ::sigprocmask(SIG_BLOCK, &both, &before);
  struct sigaction action = {}, oldTerm, oldInt;
  action.sa_handler = forward;
  sigemptyset(&action.sa_mask);
  Expected<pid_t> child = startCommand(command, [&] {
    leaveTerminal();
    if (onlyNotes)
      ::dup2(STDERR_FILENO, STDOUT_FILENO);
  });
  if (!child.ok()) {
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    return child.status();
  }
  forwardTo = *child;
  ::sigaction(SIGTERM, &action, &oldTerm);
  ::sigaction(SIGINT, &action, &oldInt);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ProgramEnd end = waitFor(*child);
  forwardTo = 0;
  ::sigaction(SIGTERM, &oldTerm, nullptr);
  ::sigaction(SIGINT, &oldInt, nullptr);
  return end;
}

} // namespace amc::rt
