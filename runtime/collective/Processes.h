// Other processes of this host: are they there, and the memory they share.
#ifndef AMC_RUNTIME_COLLECTIVE_PROCESSES_H
#define AMC_RUNTIME_COLLECTIVE_PROCESSES_H

#include "runtime/support/Status.h"
#include <cstddef>
#include <cstdint>
#include <string>

namespace amc::rt::collective {

// A process to be watched. A number that is used again is not taken for it: by a pidfd, or, where the system has none,
// by the time it was started.
class Process {
public:
  static Process watch(int pid);
  Process() = default;
  Process(Process &&other) noexcept;
  Process &operator=(Process &&other) noexcept;
  ~Process();
  bool alive() const; // zombies are not
  void kill() const;  // SIGKILL, if it is still that process

private:
  int pid = 0, fd = -1;
  std::string started;
};

// Zeroed memory without a name that other processes of this user can map; taken page by page as it is touched. Not in
// /dev/shm, which containers keep small.
class SharedMemory {
public:
  // What another process needs to know; plain data.
  struct Ticket {
    int pid = 0, fd = -1;
    uint64_t device = 0, inode = 0, bytes = 0;
  };
  static Expected<SharedMemory> create(const char *name, uint64_t bytes);
  // Another's, by its ticket, while that still has it open.
  static Expected<SharedMemory> open(const Ticket &ticket);
  SharedMemory() = default;
  SharedMemory(SharedMemory &&other) noexcept;
  SharedMemory &operator=(SharedMemory &&other) noexcept;
  ~SharedMemory(); // closes the file; mappings stay
  Ticket ticket() const { return made; }
  Expected<std::byte *> map(bool writable) const;

private:
  Ticket made;
};

} // namespace amc::rt::collective

#endif
