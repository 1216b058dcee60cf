// How much memory a plan of --ac=auto may use: the device's capacity less what no plan owns.
//
// Capacity is --device-memory, or for the cpu the lowest limit of this process's control group and
// its ancestors (v2, or v1), or this machine's memory. The reserve is a constant of the target: on
// the cpu what amrun's memory table allows outside the arena (256 MiB for kernels and threads) and
// 32 MiB for the process itself; on a GPU 1 GiB for the driver's context and its libraries.
#ifndef AMC_COMPILER_DRIVER_DEVICEMEMORY_H
#define AMC_COMPILER_DRIVER_DEVICEMEMORY_H

#include "compiler/driver/Options.h"

namespace amc {

struct DeviceMemory {
  uint64_t capacity = 0, reserve = 0; // bytes
  std::string origin;                 // "--device-memory", "this machine's memory", …
  uint64_t forArena() const { return capacity > reserve ? capacity - reserve : 0; }
};

DeviceMemory deviceMemory(const CompileOptions &options);

// The limit of the control group that `processFile` (/proc/self/cgroup) names under `mount`
// (/sys/fs/cgroup); nothing if there is none.
std::optional<uint64_t> controlGroupLimit(const std::string &processFile, const std::string &mount);

} // namespace amc

#endif
