// Emulation.h: what the libraries beside the driver, and tests, use.
#include "test/emulated_cuda/driver/State.h"
#include <cstdarg>
#include <cstdio>
#include <cstring>

using namespace emu;

namespace {

struct LibraryTask : Task {
  LibraryTask(const char *what, const EmulatedRange *reads, size_t readCount, const EmulatedRange *writes,
              size_t writeCount, void (*run)(void *), void *state, void (*drop)(void *), bool blocking)
      : Task(what), reads(reads, reads + readCount), writes(writes, writes + writeCount), run(run), state(state),
        drop(drop), blocking(blocking) {}
  ~LibraryTask() override {
    if (drop)
      drop(state);
  }
  std::vector<EmulatedRange> reads, writes;
  void (*run)(void *);
  void *state;
  void (*drop)(void *);
  bool blocking;

  bool blocks() const override { return blocking; }

  template <class F> static bool eachRow(const std::vector<EmulatedRange> &ranges, F f) {
    for (const EmulatedRange &range : ranges) {
      if (range.pitch == range.bytes) {
        if (!f(range.base, range.bytes * range.rows))
          return false;
        continue;
      }
      for (size_t row = 0; row < range.rows; ++row)
        if (!f(range.base + row * range.pitch, range.bytes))
          return false;
    }
    return true;
  }

  CUresult begin(CUctx_st &context, Operation &operation) override {
    driver().order.begin(operation, 1);
    bool ok =
        eachRow(reads, [&](CUdeviceptr at, size_t bytes) { return readRange(context, operation, at, bytes); }) &&
        eachRow(writes, [&](CUdeviceptr at, size_t bytes) { return writeRange(context, operation, at, bytes, true); });
    return ok ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  void call() override { run(state); }
};

struct ForgetTask : Task {
  ForgetTask(CUdeviceptr at, size_t bytes) : Task("a test's emulatedCudaForget"), at(at), bytes(bytes) {}
  CUdeviceptr at;
  size_t bytes;
  CUresult begin(CUctx_st &context, Operation &operation) override {
    driver().order.begin(operation, 1);
    return writeRange(context, operation, at, bytes, false) ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS;
  }
};

CUresult enqueueLibrary(CUstream stream, const char *what, const EmulatedRange *reads, size_t readCount,
                        const EmulatedRange *writes, size_t writeCount, void (*run)(void *), void *state,
                        void (*drop)(void *), bool blocking) {
  auto task = std::make_shared<LibraryTask>(what, reads, readCount, writes, writeCount, run, state, drop, blocking);
  Call call(what, Needs::Context);
  if (call.failed())
    return call.status;
  if (CUresult result = call.check(stream); result != CUDA_SUCCESS)
    return result;
  for (const auto *ranges : {&task->reads, &task->writes})
    for (const EmulatedRange &range : *ranges) {
      if (range.rows > 1 && range.pitch < range.bytes)
        return call.misuse(CUDA_ERROR_INVALID_VALUE, "rows of ", range.bytes, " bytes overlap, ", range.pitch,
                           " bytes apart");
      size_t bytes = range.rows && range.bytes ? (range.rows - 1) * range.pitch + range.bytes : 0;
      if (bytes && !regionOf(*call.context, range.base, bytes))
        return call.misuse(CUDA_ERROR_INVALID_VALUE, ranges == &task->reads ? "reads " : "writes ",
                           describeRange(*call.context, range.base, bytes));
    }
  return enqueue(*stream, std::move(task));
}

} // namespace

extern "C" {

CUresult emulatedCudaEnqueue(CUstream stream, const char *what, const EmulatedRange *reads, size_t readCount,
                             const EmulatedRange *writes, size_t writeCount, void (*run)(void *state), void *state,
                             void (*drop)(void *state)) {
  return enqueueLibrary(stream, what, reads, readCount, writes, writeCount, run, state, drop, false);
}

CUresult emulatedCudaEnqueueBlocking(CUstream stream, const char *what, const EmulatedRange *reads, size_t readCount,
                                     const EmulatedRange *writes, size_t writeCount, void (*run)(void *state),
                                     void *state, void (*drop)(void *state)) {
  return enqueueLibrary(stream, what, reads, readCount, writes, writeCount, run, state, drop, true);
}

void *emulatedCudaAddress(CUdeviceptr pointer) {
  Lock lock;
  for (auto &context : driver().contexts)
    if (context)
      if (Region *region = context->memory.find(pointer))
        return region->host + (pointer - region->base);
  finding("out of bounds: a library uses ", hex(pointer), ", which is in no allocation");
  return nullptr;
}

void emulatedCudaFinding(const char *format, ...) {
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  finding(text);
}

int emulatedCudaDevice(void) { return contextStack.empty() || !contextStack.back() ? -1 : contextStack.back()->device; }

int emulatedCudaCapturing(CUstream stream) {
  Lock lock;
  return driver().streams.count(stream) && stream->capture;
}

void emulatedCudaForbidInCapture(CUstream stream, const char *call) {
  Lock lock;
  if (driver().streams.count(stream) && stream->capture)
    invalidate(*stream->capture, call);
}

CUresult emulatedCudaForgetAsync(CUdeviceptr base, size_t bytes, CUstream stream) {
  Call call("emulatedCudaForgetAsync", Needs::Context);
  if (call.failed())
    return call.status;
  CUresult result = call.check(stream);
  return result == CUDA_SUCCESS ? enqueue(*stream, std::make_shared<ForgetTask>(base, bytes)) : result;
}

void emulatedCudaForget(CUdeviceptr base, size_t bytes) {
  Call call("emulatedCudaForget", Needs::Context);
  if (call.failed())
    return;
  runAll(call.lock);
  if (Region *region = regionOf(*call.context, base, bytes))
    region->shadow.setInitialised(base - region->base, bytes, false);
  else
    finding("out of bounds: emulatedCudaForget of ", describeRange(*call.context, base, bytes));
}

size_t emulatedCudaFindingCount(void) { return findingCount(); }

size_t emulatedCudaTakeFindings(char *text, size_t capacity) {
  size_t count;
  std::string taken = takeFindings(count);
  if (capacity)
    snprintf(text, capacity, "%s", taken.c_str());
  return count;
}

} // extern "C"
