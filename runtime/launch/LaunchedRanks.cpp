// See LaunchedRanks.h. One loop over an epoll: its list of what is ready has the ranks' ends in their order, however
// late this process is woken.
#include "runtime/launch/LaunchedRanks.h"

#include "runtime/launch/Ranks.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <map>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace amc::rt {
namespace {

// In a rank's environment: the name of the socket at which runLauncher listens.
constexpr const char *variable = "AMC_LAUNCHED_BY";

// What a rank says there. Who it is comes first, and has both outputs as its answer; how it ends comes last.
struct Word {
  unsigned rank = 0;
  pid_t pid = 0, parent = 0;
  bool said = false, ends = false; // it has printed an error; it does nothing more
  int code = 0;                    // what it will exit with, in either case
};

// ---- the launcher's process

volatile std::sig_atomic_t launcher = 0, asked = 0;
struct timespec lastAsked;

// A signal's handler. The first counts at once; more follow soon from a doubled key, or a signal to a whole group.
void ask(int) {
  const int saved = errno;
  struct timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const double passed =
      static_cast<double>(now.tv_sec - lastAsked.tv_sec) + static_cast<double>(now.tv_nsec - lastAsked.tv_nsec) * 1e-9;
  if (launcher > 0 && (asked == 0 || passed >= 1)) {
    ::kill(static_cast<pid_t>(launcher), SIGTERM);
    asked = asked + 1;
    lastAsked = now;
  }
  errno = saved;
}

// SIGTERM and SIGINT: blocked until there is somebody to pass them on to, then handled, in the end as before.
class Signals {
public:
  Signals() {
    sigset_t both;
    sigemptyset(&both);
    for (int signal : {SIGTERM, SIGINT})
      sigaddset(&both, signal);
    ::sigprocmask(SIG_BLOCK, &both, &mask);
    action.sa_handler = ask;
    action.sa_mask = both;
    asked = 0;
  }
  void passTo(pid_t child) {
    launcher = child;
    ::sigaction(SIGTERM, &action, &oldTerm);
    ::sigaction(SIGINT, &action, &oldInt);
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  }
  ~Signals() {
    if (launcher) {
      launcher = 0;
      ::sigaction(SIGTERM, &oldTerm, nullptr);
      ::sigaction(SIGINT, &oldInt, nullptr);
    }
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  }
  Signals(const Signals &) = delete;
  Signals &operator=(const Signals &) = delete;

private:
  sigset_t mask;
  struct sigaction action = {}, oldTerm, oldInt;
};

// A file of this process; closed with it.
struct File {
  int fd = -1;
  File() = default;
  explicit File(int fd) : fd(fd) {}
  File(File &&other) noexcept : fd(std::exchange(other.fd, -1)) {}
  File &operator=(File &&other) noexcept {
    std::swap(fd, other.fd);
    return *this;
  }
  ~File() {
    if (fd >= 0)
      ::close(fd);
  }
};

// A name for what is bound to it already, in the abstract namespace; its first byte, 0, is left out.
struct sockaddr_un addressOf(std::string_view name, socklen_t &length) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t size = std::min(name.size(), sizeof address.sun_path - 1);
  std::copy_n(name.begin(), size, address.sun_path + 1);
  length = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + 1 + size);
  return address;
}

// A message with both outputs, or room for them.
struct Outputs {
  char byte = 0;
  struct iovec bytes = {&byte, 1};
  alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  struct msghdr message = {};
  Outputs() {
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
  }
};

bool sendOutputs(int connection) {
  Outputs outputs;
  const int fds[] = {STDOUT_FILENO, STDERR_FILENO};
  struct cmsghdr *header = CMSG_FIRSTHDR(&outputs.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fds);
  std::memcpy(CMSG_DATA(header), fds, sizeof fds);
  return ::sendmsg(connection, &outputs.message, MSG_NOSIGNAL) == 1;
}

bool takeOutputs(int connection) {
  Outputs outputs;
  ssize_t got;
  while ((got = ::recvmsg(connection, &outputs.message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
    ;
  const struct cmsghdr *header = got == 1 ? CMSG_FIRSTHDR(&outputs.message) : nullptr;
  int fds[2];
  if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof fds))
    return false;
  std::memcpy(fds, CMSG_DATA(header), sizeof fds);
  const File out(fds[0]), err(fds[1]);
  return ::dup2(out.fd, STDOUT_FILENO) >= 0 && ::dup2(err.fd, STDERR_FILENO) >= 0;
}

// As waitpid gives it, of a process that has ended and that its parent has not waited for: the last field of its line.
std::optional<int> exitStatusOf(pid_t pid) {
  const File file(::open(text("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char line[1024];
  const ssize_t length = file.fd < 0 ? -1 : ::read(file.fd, line, sizeof line - 1);
  line[std::max<ssize_t>(length, 0)] = 0;
  const char *name = std::strrchr(line, ')'), *last = std::strrchr(line, ' ');
  if (!name || !last || !std::string_view(name).starts_with(") Z"))
    return std::nullopt;
  return static_cast<int>(std::strtol(last, nullptr, 10));
}

// Readable when the process has ended.
File watch(pid_t pid) { return File(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

// An output that is closed becomes one that takes nothing, lest it become a file that is opened here.
void occupyOutputs() {
  int fd;
  while ((fd = ::open("/dev/null", O_RDONLY)) >= 0 && fd <= STDERR_FILENO)
    ;
  const File spare(fd);
}

class Watch {
public:
  Expected<RanksEnd> run(const std::vector<std::string> &command) {
    occupyOutputs();
    const File said(::memfd_create("launcher", MFD_CLOEXEC));
    poll = File(::epoll_create1(EPOLL_CLOEXEC));
    if (said.fd < 0 || poll.fd < 0 || !listen())
      return limitError("ranks cannot be watched: ", std::strerror(errno));
    Signals signals;
    Expected<pid_t> child = startCommand(command, [&] {
      leaveTerminal();
      ::setenv(variable, name.c_str(), 1);
      ::dup2(said.fd, STDOUT_FILENO);
      ::dup2(said.fd, STDERR_FILENO);
    });
    if (!child.ok())
      return child.status();
    signals.passTo(*child);
    const File own = watch(*child);
    add(door.fd);
    add(own.fd);
    int status = 0;
    while (::waitpid(*child, &status, WNOHANG) != *child)
      look(100); // milliseconds, where there are no pidfds
    for (int i = 0; i < 1000 && look(0); ++i) // what came last; a bound, for what cannot be accepted stays
      ;
    end.launcher = endOf(status);
    end.launcher.out = contentsOf(said.fd);
    end.asked = static_cast<unsigned>(asked);
    return std::move(end);
  }

private:
  struct Rank {
    Word word;
    File process, connection;
  };

  bool listen() {
    socklen_t length = sizeof(sa_family_t); // the system finds a name, then
    struct sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    door = File(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (door.fd < 0 || ::bind(door.fd, reinterpret_cast<struct sockaddr *>(&address), length) != 0 ||
        ::listen(door.fd, SOMAXCONN) != 0)
      return false;
    length = sizeof address;
    if (::getsockname(door.fd, reinterpret_cast<struct sockaddr *>(&address), &length) != 0)
      return false;
    name.assign(address.sun_path + 1, length - offsetof(struct sockaddr_un, sun_path) - 1);
    return true;
  }

  void add(int fd) {
    struct epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (fd >= 0)
      ::epoll_ctl(poll.fd, EPOLL_CTL_ADD, fd, &event);
  }

  // Whether there was something. A process that has ended is looked at once.
  bool look(int milliseconds) {
    std::array<struct epoll_event, 64> events;
    const int count = ::epoll_wait(poll.fd, events.data(), static_cast<int>(events.size()), milliseconds);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == door.fd) {
        admit();
        continue;
      }
      auto of = [&](File Rank::*file) {
        return std::find_if(ranks.begin(), ranks.end(), [&](const Rank &rank) { return (rank.*file).fd == fd; });
      };
      if (auto rank = of(&Rank::connection); rank != ranks.end()) {
        listenTo(*rank);
        continue;
      }
      ::epoll_ctl(poll.fd, EPOLL_CTL_DEL, fd, nullptr);
      if (auto rank = of(&Rank::process); rank != ranks.end())
        ended(rank->word);
      else
        settled = true; // a process of the launcher; one that dies takes its ranks along, which are not to blame
    }
    return count > 0;
  }

  void admit() {
    File connection(::accept4(door.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    struct ucred peer = {};
    socklen_t length = sizeof peer;
    if (connection.fd < 0 || ::getsockopt(connection.fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
        peer.uid != ::geteuid())
      return;
    add(connection.fd);
    ranks.push_back({{}, File(), std::move(connection)});
  }

  void listenTo(Rank &rank) {
    Word word;
    const ssize_t got = ::recv(rank.connection.fd, &word, sizeof word, 0);
    if (got == sizeof word && (word.said || word.ends)) {
      rank.word.ends |= word.ends;
      end.said |= word.said;
      if (word.code != 0 && !end.failed)
        end.failed = word.code;
    } else if (got == sizeof word && rank.word.pid == 0 && sendOutputs(rank.connection.fd)) {
      rank.word = word;
      rank.process = watch(word.pid);
      add(rank.process.fd);
      if (parents.find(word.parent) == parents.end())
        add(parents.emplace(word.parent, watch(word.parent)).first->second.fd);
    } else if (got >= 0 || errno != EAGAIN) { // it has ended
      end.vanished |= rank.word.pid != 0 && !rank.word.ends;
      ::epoll_ctl(poll.fd, EPOLL_CTL_DEL, rank.connection.fd, nullptr);
      rank.connection = File();
    }
  }

  // The first that fails is the cause; the launcher ends the others, then.
  void ended(const Word &rank) {
    const std::optional<int> status = settled ? std::optional(0) : exitStatusOf(rank.pid);
    if (status && *status == 0)
      return;
    settled = true;
    if (!status) // its parent was faster
      end.died = RankDeath{rank.rank, rank.pid, 0};
    else if (WIFSIGNALED(*status))
      end.died = RankDeath{rank.rank, rank.pid, WTERMSIG(*status)};
  }

  File door, poll;
  std::string name; // of the door
  std::vector<Rank> ranks;
  std::map<pid_t, File> parents; // the launcher's processes that have started them
  bool settled = false;          // has what ended the run been looked at?
  RanksEnd end;
};

// ---- a rank's process

File launcherEar; // the connection

} // namespace

Expected<RanksEnd> runLauncher(const std::vector<std::string> &command) { return Watch().run(command); }

Status meetLauncher() {
  const char *name = std::getenv(variable);
  const std::optional<unsigned> rank = rankOfLauncher();
  if (!name || !rank)
    return Status();
  socklen_t length;
  const struct sockaddr_un address = addressOf(name, length);
  const Word word = {*rank, ::getpid(), ::getppid(), false};
  launcherEar = File(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (launcherEar.fd < 0 ||
      ::connect(launcherEar.fd, reinterpret_cast<const struct sockaddr *>(&address), length) != 0 ||
      ::send(launcherEar.fd, &word, sizeof word, MSG_NOSIGNAL) != sizeof word || !takeOutputs(launcherEar.fd))
    return limitError("rank ", *rank, " cannot reach the process that has started the ranks (", variable, "=", name,
                      "): ", std::strerror(errno));
  ::unsetenv(variable); // what this process starts is no rank
  return Status();
}

namespace {

void tell(Word word) {
  [[maybe_unused]] ssize_t sent = ::send(launcherEar.fd, &word, sizeof word, MSG_NOSIGNAL); // nobody may be there
}

} // namespace

void tellLauncherOfError(int code) {
  Word word;
  word.said = true;
  word.code = code;
  tell(word);
}

void tellLauncherOfEnd(int code) {
  Word word;
  word.ends = true;
  word.code = code;
  tell(word);
}

} // namespace amc::rt
