// Streams that are captured into graphs, and graphs that are launched.
//
// A graph keeps what its streams were told, by branch: tasks, and events between the branches. Launched, the first
// branch runs in the stream that it is launched into, each other one in a hidden stream of the graph's own.
#include "test/emulated_cuda/driver/State.h"

namespace emu {

void invalidate(Capture &capture, const char *call) {
  finding("capture: ", call, " may not be called while a stream is captured");
  capture.invalid = true;
}

CUresult captureTask(CUstream_st &stream, std::shared_ptr<Task> task) {
  Capture &capture = *stream.capture;
  if (capture.invalid)
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  capture.graph->commands.push_back({Item::Work, stream.branch, std::move(task)});
  return CUDA_SUCCESS;
}

void captureRecord(CUstream_st &stream, EventState &event) {
  Capture &capture = *stream.capture;
  event.capture = &capture;
  event.captured = capture.graph->events++;
  capture.graph->commands.push_back({Item::Record, stream.branch, nullptr, event.captured});
}

CUresult captureWait(CUstream_st &stream, EventState &event) {
  if (!event.capture) { // recorded outside
    stream.capture->invalid = true;
    finding("capture: a captured stream waits for an event that was recorded outside of the capture");
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  if (!driver().captures.count(event.capture))
    return CUDA_ERROR_CAPTURED_EVENT;
  Capture &capture = *event.capture;
  if (!stream.capture) { // the stream joins
    stream.capture = &capture;
    stream.branch = capture.graph->branches++;
    capture.streams.insert(&stream);
  } else if (stream.capture != &capture) {
    stream.capture->invalid = capture.invalid = true;
    finding("capture: a stream waits for an event of another capture");
    return CUDA_ERROR_STREAM_CAPTURE_MERGE;
  }
  capture.graph->commands.push_back({Item::Wait, stream.branch, nullptr, event.captured});
  return CUDA_SUCCESS;
}

CUresult launchGraph(CUgraphExec_st &exec, CUstream_st &stream) {
  std::vector<std::shared_ptr<EventState>> events(exec.events);
  for (auto &event : events)
    event = std::make_shared<EventState>();
  for (CUstream_st *branch : exec.branches) // not before what is launched before
    branch->clock.join(stream.clock);
  for (const Command &command : exec.commands) {
    CUstream_st &to = command.branch ? *exec.branches[command.branch - 1] : stream;
    switch (command.kind) {
    case Item::Work:
      if (CUresult result = enqueue(to, command.task); result != CUDA_SUCCESS)
        return result;
      break;
    case Item::Record:
      record(to, events[command.event]);
      break;
    case Item::Wait:
      waitEvent(to, events[command.event]);
      break;
    }
  }
  return CUDA_SUCCESS;
}

} // namespace emu
