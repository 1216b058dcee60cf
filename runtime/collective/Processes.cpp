#include "runtime/collective/Processes.h"
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace amc::rt::collective {
namespace {

// State and start time of a process, as /proc/PID/stat has them behind the name, which may contain anything.
bool readStat(int pid, char &state, std::string &started) {
  char path[64], line[1024];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return false;
  ssize_t length = ::read(fd, line, sizeof line - 1);
  ::close(fd);
  if (length <= 0)
    return false;
  line[length] = 0;
  const char *field = std::strrchr(line, ')');
  if (!field || field[1] != ' ')
    return false;
  state = field[2];
  for (int i = 0; field && i < 20; ++i) // to field 22
    field = std::strchr(field + 1, ' ');
  started = field ? std::string(field + 1, std::strcspn(field + 1, " ")) : "";
  return field != nullptr;
}

} // namespace

Process Process::watch(int pid) {
  Process process;
  process.pid = pid;
  process.fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  char state;
  readStat(pid, state, process.started);
  return process;
}

Process::Process(Process &&other) noexcept
    : pid(std::exchange(other.pid, 0)), fd(std::exchange(other.fd, -1)), started(std::move(other.started)) {}

Process &Process::operator=(Process &&other) noexcept {
  std::swap(pid, other.pid);
  std::swap(fd, other.fd);
  std::swap(started, other.started);
  return *this;
}

Process::~Process() {
  if (fd >= 0)
    ::close(fd);
}

bool Process::alive() const {
  if (fd >= 0) {
    struct pollfd poll = {fd, POLLIN, 0};
    return ::poll(&poll, 1, 0) <= 0; // an error of poll's own says nothing of the process
  }
  char state;
  std::string now;
  return pid > 0 && readStat(pid, state, now) && state != 'Z' && state != 'X' && now == started;
}

void Process::kill() const {
  if (fd >= 0)
    ::syscall(SYS_pidfd_send_signal, fd, SIGKILL, nullptr, 0);
  else if (alive())
    ::kill(pid, SIGKILL);
}

Expected<SharedMemory> SharedMemory::create(const char *name, uint64_t bytes) {
  SharedMemory memory;
  memory.made.fd = ::memfd_create(name, MFD_CLOEXEC);
  if (memory.made.fd < 0)
    return limitError("no memory can be shared with other processes: memfd_create: ", std::strerror(errno));
  struct stat about;
  if (bytes > static_cast<uint64_t>(INT64_MAX) || ::ftruncate(memory.made.fd, static_cast<off_t>(bytes)) != 0 ||
      ::fstat(memory.made.fd, &about) != 0)
    return limitError("no shared memory of ", bytes, " bytes: ", std::strerror(errno));
  memory.made.pid = ::getpid();
  memory.made.device = about.st_dev;
  memory.made.inode = about.st_ino;
  memory.made.bytes = bytes;
  return memory;
}

Expected<SharedMemory> SharedMemory::open(const Ticket &ticket) {
  SharedMemory memory;
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", ticket.pid, ticket.fd);
  memory.made = ticket;
  memory.made.fd = ::open(path, O_RDWR | O_CLOEXEC);
  if (memory.made.fd < 0)
    return limitError("the memory of process ", ticket.pid, " cannot be mapped: ", path, ": ", std::strerror(errno));
  // Processes in containers of their own number themselves alike.
  struct stat about;
  if (::fstat(memory.made.fd, &about) != 0 || about.st_dev != ticket.device || about.st_ino != ticket.inode ||
      static_cast<uint64_t>(about.st_size) != ticket.bytes)
    return limitError("the memory of process ", ticket.pid, " cannot be mapped: ", path,
                      " is another process's; ranks have to see each other's processes");
  return memory;
}

SharedMemory::SharedMemory(SharedMemory &&other) noexcept : made(std::exchange(other.made, Ticket())) {}

SharedMemory &SharedMemory::operator=(SharedMemory &&other) noexcept {
  std::swap(made, other.made);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (made.fd >= 0)
    ::close(made.fd);
}

Expected<std::byte *> SharedMemory::map(bool writable) const {
  void *base = ::mmap(nullptr, made.bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_NORESERVE,
                      made.fd, 0);
  if (base == MAP_FAILED)
    return limitError("shared memory of ", made.bytes, " bytes cannot be mapped: ", std::strerror(errno));
  return static_cast<std::byte *>(base);
}

} // namespace amc::rt::collective
