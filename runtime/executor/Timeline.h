// What ran when: the events of a few steps, for a trace.
//
// All memory is taken by `create`; recording takes none. Each lane has one writer, the thread that computes and the one
// that communicates; they are read when nothing runs. What finds no room is counted, not kept.
#ifndef AMC_RUNTIME_EXECUTOR_TIMELINE_H
#define AMC_RUNTIME_EXECUTOR_TIMELINE_H

#include "runtime/support/Status.h"
#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace amc::rt {

class Timeline {
public:
  using Clock = std::chrono::steady_clock;
  enum class Lane : uint8_t { Compute, Communication };
  enum class Kind : uint8_t { Instruction, Data, MicroBatch, Update, Step, Evaluation };
  struct Event {
    int64_t begin = 0, end = 0; // nanoseconds of the clock
    uint64_t number = 0;        // of the instruction, the micro-batch or the step
    Kind kind = Kind::Instruction;
  };

  // Room for as many events on each lane. A limit error if there is no memory for them.
  static Expected<std::unique_ptr<Timeline>> create(uint64_t compute, uint64_t communication);

  void add(Lane lane, Kind kind, uint64_t number, Clock::time_point begin, Clock::time_point end) {
    Events &events = lanes[static_cast<size_t>(lane)];
    if (events.used == events.room.size())
      ++events.lost;
    else
      events.room[events.used++] = {nanoseconds(begin), nanoseconds(end), number, kind};
  }

  // In the order in which they ended.
  std::vector<Event> events(Lane lane) const {
    const Events &kept = lanes[static_cast<size_t>(lane)];
    return {kept.room.begin(), kept.room.begin() + static_cast<std::ptrdiff_t>(kept.used)};
  }
  uint64_t lost() const { return lanes[0].lost + lanes[1].lost; }
  uint64_t memoryBytes() const { return (lanes[0].room.size() + lanes[1].room.size()) * sizeof(Event); }

private:
  static int64_t nanoseconds(Clock::time_point t) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count();
  }
  struct alignas(64) Events {
    std::vector<Event> room;
    size_t used = 0;
    uint64_t lost = 0;
  };
  Events lanes[2];
};

} // namespace amc::rt

#endif
