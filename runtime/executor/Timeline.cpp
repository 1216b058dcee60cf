#include "runtime/executor/Timeline.h"
#include <new>
#include <stdexcept>

namespace amc::rt {

Expected<std::unique_ptr<Timeline>> Timeline::create(uint64_t compute, uint64_t communication) {
  try {
    auto timeline = std::make_unique<Timeline>();
    timeline->lanes[static_cast<size_t>(Lane::Compute)].room.resize(compute);
    timeline->lanes[static_cast<size_t>(Lane::Communication)].room.resize(communication);
    return timeline;
  } catch (const std::bad_alloc &) {
  } catch (const std::length_error &) {
  }
  return limitError("no memory for the events of a trace: ", compute, " and ", communication, " of ", sizeof(Event),
                    " bytes; trace fewer steps");
}

} // namespace amc::rt
