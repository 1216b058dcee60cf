// Which operations on a device happen before which: vector clocks over queues (streams, and branches of graphs).
//
// An operation's clock says, for each queue, up to which of its operations all are ordered before it, by stream order,
// events, or a host that waited. Clocks are made when work is enqueued, so they do not depend on when it is executed.
//
// Executed operations take serial numbers (a kernel one for itself and one for each of its blocks), which is what the
// shadow of memory remembers. Most checks are one comparison: serials below an operation's `limit` are all ordered
// before it.
#ifndef AMC_TEST_EMULATED_CUDA_MEMORY_ORDER_H
#define AMC_TEST_EMULATED_CUDA_MEMORY_ORDER_H

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace emu {

class Clock {
public:
  uint64_t operator[](size_t queue) const { return queue < at.size() ? at[queue] : 0; }
  void set(size_t queue, uint64_t sequence) {
    if (at.size() <= queue)
      at.resize(queue + 1);
    at[queue] = std::max(at[queue], sequence);
  }
  void join(const Clock &other) {
    if (at.size() < other.at.size())
      at.resize(other.at.size());
    for (size_t i = 0; i < other.at.size(); ++i)
      at[i] = std::max(at[i], other.at[i]);
  }

private:
  std::vector<uint64_t> at;
};

struct Operation {
  std::string what; // "kernel 'rms_norm'"
  uint32_t queue = 0;
  uint64_t sequence = 0; // in its queue, from 1
  Clock clock;           // its own sequence included
  // From Order::begin:
  uint64_t serial = 0, serialEnd = 0; // of this run
  uint64_t limit = 0;
};

class Order {
public:
  uint32_t newQueue(const std::string &name) {
    queues.push_back({name, {}});
    return queues.size() - 1;
  }
  // The operation is executed now: it gets its serials.
  void begin(Operation &operation, uint64_t serials);
  // Whether everything that `serial` stands for is ordered before `now`, or is `now` itself.
  bool ordered(const Operation &now, uint64_t serial) const;
  // A serial that stands for `now` and for what of `serial` is not ordered before it (readers that do not conflict).
  uint64_t together(const Operation &now, uint64_t serial);
  // "kernel 'a' on stream 1"; of several the first that is not ordered before `now`.
  std::string describe(const Operation &now, uint64_t serial) const;
  std::string describe(const Operation &operation) const;

private:
  struct Queue {
    std::string name;
    std::vector<uint64_t> serials; // by sequence - 1, as far as executed
  };
  struct Past {
    uint64_t serial;
    uint32_t queue;
    uint32_t what;
    uint64_t sequence;
    int64_t set = -1; // index into `sets`, for serials from together()
  };
  std::vector<Queue> queues;
  std::vector<Past> past; // by serial
  std::vector<std::string> names;
  std::map<std::string, uint32_t> nameIndex;
  std::vector<std::vector<uint64_t>> sets; // serials of operations
  std::map<std::vector<uint64_t>, uint64_t> setSerials;
  uint64_t nextSerial = 1;

  const Past &at(uint64_t serial) const;
  bool before(const Past &one, const Operation &now) const {
    return one.serial == now.serial || now.clock[one.queue] >= one.sequence;
  }
};

} // namespace emu

#endif
