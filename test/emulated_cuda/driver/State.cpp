#include "test/emulated_cuda/driver/State.h"
#include <cstdlib>
#include <unistd.h>

namespace emu {

thread_local std::vector<CUctx_st *> contextStack;

Driver &driver() {
  static Driver *made = new Driver; // outlives every destructor that may call
  return *made;
}

namespace {
thread_local Lock *holder = nullptr;
} // namespace

Lock::Lock() : outermost(!holder) {
  if (outermost) {
    lock = std::unique_lock(driver().mutex);
    holder = this;
  }
}

Lock::~Lock() {
  if (outermost)
    holder = nullptr;
}

void Lock::wait() {
  holder = nullptr;
  driver().changed.wait(lock);
  holder = this;
}

Call::Call(const char *name, unsigned needs) : name(name) {
  Driver &d = driver();
  if (!d.initialised) {
    status = misuse(CUDA_ERROR_NOT_INITIALIZED, "is called before cuInit");
    return;
  }
  if (d.pid != getpid()) {
    status = misuse(CUDA_ERROR_NOT_INITIALIZED, "is called in a child of the process that called cuInit");
    return;
  }
  if (!(needs & Needs::Context))
    return;
  if (contextStack.empty() || !contextStack.back()) {
    status = misuse(CUDA_ERROR_INVALID_CONTEXT, "no context is current in this thread");
    return;
  }
  context = contextStack.back();
  if (context->sticky != CUDA_SUCCESS && !(needs & Needs::AnyError)) {
    status = context->sticky;
    return;
  }
  if (!(needs & Needs::NoCapture))
    return;
  for (Capture *capture : d.captures) {
    bool forbidden =
        capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
        (capture->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && capture->thread == std::this_thread::get_id());
    if (forbidden) {
      invalidate(*capture, name);
      status = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
      return;
    }
  }
}

CUresult Call::check(CUstream stream) const {
  if (!stream || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD)
    return misuse(CUDA_ERROR_INVALID_HANDLE, "the default stream is not used here");
  if (!driver().streams.count(stream))
    return misuse(CUDA_ERROR_INVALID_HANDLE, "the stream has been destroyed, or never was one");
  if (stream->context != context)
    return misuse(CUDA_ERROR_INVALID_CONTEXT, "the stream belongs to another context than the current one");
  return CUDA_SUCCESS;
}

CUresult Call::check(CUevent event) const {
  if (!event || !driver().events.count(event))
    return misuse(CUDA_ERROR_INVALID_HANDLE, "the event has been destroyed, or never was one");
  return CUDA_SUCCESS;
}

CUresult Call::forbidInCapture(CUstream stream) const {
  if (!stream->capture)
    return CUDA_SUCCESS;
  invalidate(*stream->capture, name);
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

HostMemory *Driver::pinnedAt(const void *host, size_t bytes) {
  auto at = const_cast<std::byte *>(static_cast<const std::byte *>(host));
  auto after = pinned.upper_bound(at);
  if (after == pinned.begin())
    return nullptr;
  auto &[begin, memory] = *std::prev(after);
  size_t offset = at - begin;
  return offset <= memory.bytes && bytes <= memory.bytes - offset ? &memory : nullptr;
}

} // namespace emu
