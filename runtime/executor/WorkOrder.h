// Which instructions of a plan wait for which, and which are executed as one, on a device that runs them side by side
// (Device::executeAll).
//
// The plan's order means no more than this: of two instructions of which either writes bytes that the other reads or writes,
// the first comes first. All else is free, up to the window that a device keeps (workWindow).
#ifndef AMC_RUNTIME_EXECUTOR_WORKORDER_H
#define AMC_RUNTIME_EXECUTOR_WORKORDER_H

#include "runtime/device/Device.h"
#include <functional>
#include <memory>
#include <vector>

namespace amc::rt {

struct ByteRange {
  const std::byte *begin = nullptr, *end = nullptr;
  bool meets(const ByteRange &other) const { return begin < other.end && other.begin < end; }
  bool operator==(const ByteRange &) const = default;
};

// Bytes of the arena that instructions read and write.
struct Touched {
  std::vector<ByteRange> read, written;

  void add(const Touched &other);
  // Whether either writes what the other reads or writes.
  bool meets(const Touched &other) const;
  // … in any other way than that exactly `shared` is written by this and then read or written by the other.
  bool meetsButFor(const ByteRange &shared, const Touched &other) const;
};

class WorkOrder {
public:
  struct Instruction {
    Work work; // waits for none yet
    Touched touched;
    bool alone;              // talks to other ranks: nothing passes it
    ByteRange result;        // the only one; empty where there are several or none
    uint64_t resultElements; // of it
    uint32_t section;        // sections are run at different times
  };
  // Device::pair.
  using MakePair = std::function<std::unique_ptr<Kernel>(const Work &first, const Work &second, uint64_t resultElements)>;
  // Kernels and operands' addresses stay where they are.
  WorkOrder(std::vector<Instruction> instructions, const MakePair &make);

  // Instructions after which somebody looks at the arena: what comes later has not been done then.
  void stopAt(const std::function<bool(uint64_t)> &looked);

  // By instruction; of two that are executed as one it is the first's, and the second's has no kernel.
  const Work *works() const { return all.data(); }
  // How many are executed as parts of others.
  uint64_t paired() const { return pairedNow; }

private:
  void findPairs(const MakePair &make);

  struct Pair {
    uint64_t first, second;
    std::unique_ptr<Kernel> kernel;
  };
  std::vector<Instruction> instructions;
  std::vector<Pair> pairs; // that the device would rather execute as one
  std::vector<Work> all;
  uint64_t pairedNow = 0;
};

} // namespace amc::rt

#endif
