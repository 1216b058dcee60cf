// Queues: what is enqueued, and who executes it when.
#include "test/emulated_cuda/driver/State.h"

namespace emu {
namespace {

constexpr size_t fullQueue = 1024;

bool isReady(const CUstream_st &stream) {
  if (stream.busy || stream.items.empty())
    return false;
  const Item &item = stream.items.front();
  return item.kind != Item::Wait || item.event->done >= item.version;
}

void finish(CUctx_st &context, CUresult result) {
  if (result != CUDA_SUCCESS && context.sticky == CUDA_SUCCESS)
    context.sticky = result;
}

void runTask(CUctx_st &context, Task &task, Operation &operation) {
  if (context.sticky != CUDA_SUCCESS)
    return;
  CUresult result = task.begin(context, operation);
  if (result == CUDA_SUCCESS) {
    task.call();
    result = task.end(context, operation);
  }
  finish(context, result);
}

// The task waits for others: what is enqueued elsewhere goes on meanwhile.
void runBlocking(CUstream_st *stream, Item item) {
  stream->busy = true;
  std::thread([stream, item = std::move(item)]() mutable {
    CUctx_st &context = *stream->context;
    CUresult result = CUDA_ERROR_UNKNOWN;
    bool goes;
    {
      Lock lock;
      goes = context.sticky == CUDA_SUCCESS;
      if (goes)
        result = item.task->begin(context, item.operation);
    }
    if (result == CUDA_SUCCESS)
      item.task->call();
    Lock lock;
    if (goes) {
      if (result == CUDA_SUCCESS)
        result = item.task->end(context, item.operation);
      finish(context, result);
    }
    item = {};
    stream->busy = false;
    driver().changed.notify_all();
  }).detach();
}

void step(CUstream_st *stream) {
  Item item = std::move(stream->items.front());
  stream->items.pop_front();
  switch (item.kind) {
  case Item::Work:
    if (item.task->blocks())
      runBlocking(stream, std::move(item));
    else
      runTask(*stream->context, *item.task, item.operation);
    break;
  case Item::Record:
    item.event->done = std::max(item.event->done, item.version);
    item.event->time = std::chrono::steady_clock::now();
    break;
  case Item::Wait:
    break;
  }
}

} // namespace

bool progress(Lock &lock, CUstream_st *prefer) {
  Driver &d = driver();
  std::vector<CUstream_st *> ready;
  bool busy = false;
  for (auto *set : {&d.streams, &d.hidden})
    for (CUstream_st *stream : *set) {
      busy |= stream->busy;
      if (isReady(*stream))
        ready.push_back(stream);
    }
  if (ready.empty()) {
    if (busy)
      lock.wait();
    return busy;
  }
  // By address would differ from run to run.
  std::sort(ready.begin(), ready.end(), [](CUstream_st *a, CUstream_st *b) { return a->id < b->id; });
  if (prefer && isReady(*prefer) && d.random() % 2)
    step(prefer);
  else
    step(ready[d.random() % ready.size()]);
  return true;
}

CUresult runUntil(Lock &lock, CUstream_st *stream, const std::function<bool()> &done) {
  // In half of the cases other streams run only where this one needs them.
  bool lazy = driver().random() % 2;
  while (!done()) {
    if (lazy && stream && isReady(*stream)) {
      step(stream);
    } else if (!progress(lock, stream)) {
      finding("order: the streams wait for events that nothing will record");
      return CUDA_ERROR_LAUNCH_TIMEOUT;
    }
  }
  return CUDA_SUCCESS;
}

CUresult synchronize(Lock &lock, CUstream_st &stream) {
  CUresult result = runUntil(lock, &stream, [&] { return stream.items.empty() && !stream.busy; });
  driver().host.join(stream.clock);
  return result != CUDA_SUCCESS ? result : stream.context->sticky;
}

CUresult runAll(Lock &lock) {
  return runUntil(lock, nullptr, [] {
    for (auto *set : {&driver().streams, &driver().hidden})
      for (CUstream_st *stream : *set)
        if (stream->busy || !stream->items.empty())
          return false;
    return true;
  });
}

CUresult enqueue(CUstream_st &stream, std::shared_ptr<Task> task) {
  if (stream.capture)
    return captureTask(stream, std::move(task));
  Item item{Item::Work, std::move(task), {}, nullptr};
  stream.clock.join(driver().host);
  stream.clock.set(stream.queue, ++stream.sequence);
  item.operation.what = item.task->what;
  item.operation.queue = stream.queue;
  item.operation.sequence = stream.sequence;
  item.operation.clock = stream.clock;
  stream.items.push_back(std::move(item));
  if (stream.items.size() >= fullQueue) {
    Lock lock;
    return runUntil(lock, &stream, [&] { return stream.items.size() < fullQueue / 2; });
  }
  return CUDA_SUCCESS;
}

void record(CUstream_st &stream, const std::shared_ptr<EventState> &event) {
  stream.clock.join(driver().host);
  event->capture = nullptr;
  event->clock = stream.clock;
  stream.items.push_back({Item::Record, nullptr, {}, event, ++event->recorded});
}

void waitEvent(CUstream_st &stream, const std::shared_ptr<EventState> &event) {
  if (!event->recorded)
    return; // nothing to wait for
  stream.clock.join(event->clock);
  stream.items.push_back({Item::Wait, nullptr, {}, event, event->recorded});
}

CUresult runNow(Call &call, Task &task) {
  Driver &d = driver();
  Operation operation;
  operation.what = task.what;
  operation.queue = d.syncQueue;
  // The default stream: behind what blocking streams have got, in no order with the others.
  for (CUstream_st *stream : d.streams) {
    if (stream->context != call.context || (stream->flags & CU_STREAM_NON_BLOCKING))
      continue;
    CUresult result = runUntil(call.lock, stream, [&] { return stream->items.empty() && !stream->busy; });
    if (result != CUDA_SUCCESS)
      return result;
    operation.clock.join(stream->clock);
  }
  static uint64_t sequence = 0;
  operation.clock.join(d.host);
  operation.sequence = ++sequence;
  operation.clock.set(operation.queue, operation.sequence);
  runTask(*call.context, task, operation);
  d.host.join(operation.clock);
  return call.context->sticky;
}

CUstream_st *makeStream(CUctx_st &context, unsigned flags, int priority, bool hidden) {
  Driver &d = driver();
  auto *stream = new CUstream_st;
  stream->context = &context;
  stream->flags = flags;
  stream->priority = priority;
  stream->id = d.nextId++;
  stream->queue =
      d.order.newQueue(hidden ? concat("a branch of a graph (", stream->id, ")") : concat("stream ", stream->id));
  (hidden ? d.hidden : d.streams).insert(stream);
  return stream;
}

void dropStream(CUstream_st *stream) {
  driver().streams.erase(stream);
  driver().hidden.erase(stream);
  delete stream;
}

} // namespace emu
