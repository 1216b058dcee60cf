// Timelines as Chrome's trace events: what stands between the brackets of "traceEvents". See Profiler.h for what is in it.
#ifndef AMC_RUNTIME_TRAINER_TRACE_H
#define AMC_RUNTIME_TRAINER_TRACE_H

#include "runtime/executor/Executor.h"

#include <string>
#include <string_view>
#include <vector>

namespace amc::rt {

// What one rank has recorded, in nanoseconds of the system's clock; the lanes are the timeline's.
struct RankEvents {
  std::vector<Timeline::Event> lanes[2];
  // When the first began; 2^63 - 1 if there is none.
  int64_t begin() const;

  static RankEvents of(const Timeline &timeline);
  // As bytes for a rank of the same program, and back; bytes that are none are no events.
  std::string pack() const;
  static RankEvents unpack(std::string_view bytes);
};

// Events separated by commas, at least one. Times count from `origin`.
std::string traceEvents(const Executor &executor, RankEvents events, uint64_t rank, int64_t origin);

} // namespace amc::rt

#endif
