// Streams, events, functions of the host.
#include "test/emulated_cuda/driver/State.h"

using namespace emu;

namespace {

struct HostTask : Task {
  HostTask(CUhostFn function, void *data) : Task("a function of the host"), function(function), data(data) {}
  CUhostFn function;
  void *data;
  bool blocks() const override { return true; } // on what the program likes
  CUresult begin(CUctx_st &, Operation &operation) override {
    driver().order.begin(operation, 1);
    return CUDA_SUCCESS;
  }
  void call() override { function(data); }
};

constexpr int leastPriority = 0, greatestPriority = -5;

} // namespace

CUresult CUDAAPI cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  Call call("cuStreamCreate", Needs::Context);
  if (call.failed())
    return call.status;
  if (!stream || (flags & ~(unsigned)CU_STREAM_NON_BLOCKING))
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "a null result, or unknown flags");
  *stream = makeStream(*call.context, flags, std::clamp(priority, greatestPriority, leastPriority), false);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamCreate(CUstream *stream, unsigned flags) {
  return cuStreamCreateWithPriority(stream, flags, 0);
}

CUresult CUDAAPI cuStreamDestroy(CUstream stream) {
  Call call("cuStreamDestroy", Needs::Context | Needs::AnyError);
  if (call.failed())
    return call.status;
  if (CUresult result = call.check(stream); result != CUDA_SUCCESS)
    return result;
  if (stream->capture)
    return call.forbidInCapture(stream);
  CUresult result = runUntil(call.lock, stream, [&] { return stream->items.empty() && !stream->busy; });
  dropStream(stream);
  return result;
}

CUresult CUDAAPI cuStreamSynchronize(CUstream stream) {
  Call call("cuStreamSynchronize", Needs::Context);
  if (call.failed())
    return call.status;
  CUresult result = call.check(stream);
  if (result == CUDA_SUCCESS)
    result = call.forbidInCapture(stream);
  return result == CUDA_SUCCESS ? synchronize(call.lock, *stream) : result;
}

CUresult CUDAAPI cuStreamQuery(CUstream stream) {
  Call call("cuStreamQuery", Needs::Context);
  if (call.failed())
    return call.status;
  CUresult result = call.check(stream);
  if (result == CUDA_SUCCESS)
    result = call.forbidInCapture(stream);
  if (result != CUDA_SUCCESS)
    return result;
  if (stream->items.empty() && !stream->busy) {
    driver().host.join(stream->clock);
    return call.context->sticky;
  }
  progress(call.lock, stream); // who asks again and again sees an end
  return CUDA_ERROR_NOT_READY;
}

CUresult CUDAAPI cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  Call call("cuStreamWaitEvent", Needs::Context);
  if (call.failed())
    return call.status;
  if (flags)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "flags should be 0");
  CUresult result = call.check(stream);
  if (result == CUDA_SUCCESS)
    result = call.check(event);
  if (result != CUDA_SUCCESS)
    return result;
  if (stream->capture || event->state->capture)
    return captureWait(*stream, *event->state);
  waitEvent(*stream, event->state);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamGetFlags(CUstream stream, unsigned *flags) {
  Call call("cuStreamGetFlags", Needs::Context);
  CUresult result = call.failed() ? call.status : call.check(stream);
  if (result == CUDA_SUCCESS)
    *flags = stream->flags;
  return result;
}

CUresult CUDAAPI cuStreamGetPriority(CUstream stream, int *priority) {
  Call call("cuStreamGetPriority", Needs::Context);
  CUresult result = call.failed() ? call.status : call.check(stream);
  if (result == CUDA_SUCCESS)
    *priority = stream->priority;
  return result;
}

CUresult CUDAAPI cuStreamGetCtx(CUstream stream, CUcontext *context) {
  Call call("cuStreamGetCtx", Needs::Context);
  CUresult result = call.failed() ? call.status : call.check(stream);
  if (result == CUDA_SUCCESS)
    *context = stream->context;
  return result;
}

CUresult CUDAAPI cuStreamGetId(CUstream stream, unsigned long long *id) {
  Call call("cuStreamGetId", Needs::Context);
  CUresult result = call.failed() ? call.status : call.check(stream);
  if (result == CUDA_SUCCESS)
    *id = stream->id;
  return result;
}

CUresult CUDAAPI cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data) {
  Call call("cuLaunchHostFunc", Needs::Context);
  if (call.failed())
    return call.status;
  if (!function)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "the function is null");
  CUresult result = call.check(stream);
  return result == CUDA_SUCCESS ? enqueue(*stream, std::make_shared<HostTask>(function, data)) : result;
}

CUresult CUDAAPI cuEventCreate(CUevent *event, unsigned flags) {
  Call call("cuEventCreate", Needs::Context);
  if (call.failed())
    return call.status;
  constexpr unsigned known = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING;
  if (!event || (flags & ~known))
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "a null result, or flags that are not modelled");
  *event = new CUevent_st{call.context, flags};
  driver().events.insert(*event);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventDestroy(CUevent event) {
  Call call("cuEventDestroy", Needs::Context | Needs::AnyError);
  if (call.failed())
    return call.status;
  CUresult result = call.check(event);
  if (result == CUDA_SUCCESS) {
    driver().events.erase(event);
    delete event; // what is enqueued keeps its state
  }
  return result;
}

CUresult CUDAAPI cuEventRecord(CUevent event, CUstream stream) {
  Call call("cuEventRecord", Needs::Context);
  if (call.failed())
    return call.status;
  CUresult result = call.check(event);
  if (result == CUDA_SUCCESS)
    result = call.check(stream);
  if (result != CUDA_SUCCESS)
    return result;
  if (event->context != call.context)
    return call.misuse(CUDA_ERROR_INVALID_CONTEXT, "the event belongs to another context");
  if (stream->capture)
    captureRecord(*stream, *event->state);
  else
    record(*stream, event->state);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags) {
  return flags ? CUDA_ERROR_NOT_SUPPORTED : cuEventRecord(event, stream);
}

CUresult CUDAAPI cuEventQuery(CUevent event) {
  Call call("cuEventQuery", Needs::Context);
  if (call.failed())
    return call.status;
  if (CUresult result = call.check(event); result != CUDA_SUCCESS)
    return result;
  EventState &state = *event->state;
  if (state.capture) {
    if (driver().captures.count(state.capture))
      invalidate(*state.capture, call.name);
    return CUDA_ERROR_CAPTURED_EVENT;
  }
  if (state.done < state.recorded) {
    progress(call.lock, nullptr);
    return CUDA_ERROR_NOT_READY;
  }
  driver().host.join(state.clock);
  return call.context->sticky;
}

CUresult CUDAAPI cuEventSynchronize(CUevent event) {
  Call call("cuEventSynchronize", Needs::Context);
  if (call.failed())
    return call.status;
  if (CUresult result = call.check(event); result != CUDA_SUCCESS)
    return result;
  std::shared_ptr<EventState> state = event->state;
  if (state->capture) {
    if (driver().captures.count(state->capture))
      invalidate(*state->capture, call.name);
    return CUDA_ERROR_CAPTURED_EVENT;
  }
  uint64_t version = state->recorded;
  Clock clock = state->clock;
  CUresult result = runUntil(call.lock, nullptr, [&] { return state->done >= version; });
  driver().host.join(clock);
  return result != CUDA_SUCCESS ? result : call.context->sticky;
}

CUresult CUDAAPI cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end) {
  Call call("cuEventElapsedTime", Needs::Context);
  if (call.failed())
    return call.status;
  for (CUevent event : {begin, end}) {
    if (CUresult result = call.check(event); result != CUDA_SUCCESS)
      return result;
    if (!milliseconds || (event->flags & CU_EVENT_DISABLE_TIMING) || !event->state->recorded)
      return call.misuse(CUDA_ERROR_INVALID_HANDLE, "an event has not been recorded, or without time");
    if (event->state->done < event->state->recorded)
      return CUDA_ERROR_NOT_READY;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(end->state->time - begin->state->time).count();
  return CUDA_SUCCESS;
}
