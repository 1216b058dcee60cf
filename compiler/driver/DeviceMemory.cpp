// Capacities as the kernel states them; see DeviceMemory.h.
#include "compiler/driver/DeviceMemory.h"
#include <algorithm>
#include <fstream>
#include <unistd.h>

namespace amc {
namespace {

// The one number in a file; "max" and v1's "no limit" (about 2^63) are none.
std::optional<uint64_t> readLimit(const std::string &path) {
  std::ifstream in(path);
  uint64_t value = 0;
  if (!(in >> value) || value >= uint64_t(1) << 62)
    return std::nullopt;
  return value;
}

} // namespace

std::optional<uint64_t> controlGroupLimit(const std::string &processFile,
                                          const std::string &mount) {
  std::optional<uint64_t> lowest;
  auto consider = [&](const std::string &path) {
    if (std::optional<uint64_t> limit = readLimit(path))
      lowest = std::min(*limit, lowest.value_or(*limit));
  };
  std::ifstream in(processFile);
  for (std::string line; std::getline(in, line);) {
    // hierarchy:controllers:path; v2 has hierarchy 0 and no controllers.
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos)
      continue;
    std::string controllers = line.substr(first + 1, second - first - 1),
                path = line.substr(second + 1);
    bool v2 = controllers.empty(),
         v1 = ("," + controllers + ",").find(",memory,") != std::string::npos;
    if (!v1 && !v2)
      continue;
    std::string root = v2 ? mount : mount + "/memory",
                file = v2 ? "/memory.max" : "/memory.limit_in_bytes";
    while (true) { // the group and its ancestors
      consider(root + (path == "/" ? "" : path) + file);
      size_t slash = path.rfind('/');
      if (slash == path.npos || path == "/")
        break;
      path = slash == 0 ? "/" : path.substr(0, slash);
    }
  }
  return lowest;
}

DeviceMemory deviceMemory(const CompileOptions &options) {
  DeviceMemory memory;
  bool cpu = options.target == "cpu";
  memory.reserve = cpu ? uint64_t(288) << 20 : uint64_t(1) << 30;
  if (!options.deviceMemory.empty()) {
    memory.capacity = parseBytes(options.deviceMemory).value_or(0);
    memory.origin = "--device-memory";
    return memory;
  }
  memory.capacity = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                    static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
  memory.origin = "this machine's memory";
  std::optional<uint64_t> limit = controlGroupLimit("/proc/self/cgroup", "/sys/fs/cgroup");
  if (limit && *limit < memory.capacity) {
    memory.capacity = *limit;
    memory.origin = "this control group's limit";
  }
  return memory;
}

} // namespace amc
