// Zeroed memory of whole pages, beyond malloc: it goes back when it is let go.
#ifndef AMC_RUNTIME_DEVICE_CPU_PAGES_H
#define AMC_RUNTIME_DEVICE_CPU_PAGES_H

#include "runtime/support/Status.h"
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sys/mman.h>

namespace amc::rt::cpu {

class Pages {
public:
  Pages() = default;
  ~Pages() {
    if (base)
      ::munmap(base, bytes);
  }
  Pages(const Pages &) = delete;
  Pages &operator=(const Pages &) = delete;

  // Once. `what` it is for is said by the limit error where it is not to be had.
  Status map(uint64_t wanted, const char *what) {
    void *mapped = ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
      return limitError("no memory for ", what, " of ", wanted, " bytes: ", std::strerror(errno));
    base = static_cast<std::byte *>(mapped);
    bytes = wanted;
    return Status();
  }
  // Advice: a kernel without huge pages may refuse it.
  void adviseHuge() { ::madvise(base, bytes, MADV_HUGEPAGE); }

  std::byte *base = nullptr;
  uint64_t bytes = 0;
};

} // namespace amc::rt::cpu

#endif
