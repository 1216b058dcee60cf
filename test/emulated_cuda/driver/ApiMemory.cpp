// Memory of devices and pinned memory of the host; copies and fills.
#include "test/emulated_cuda/driver/State.h"
#include <cstdlib>
#include <cstring>

using namespace emu;

namespace {

// A side of a copy: memory of the device, or of the host.
struct Side {
  CUdeviceptr device = 0;
  void *host = nullptr;
  std::vector<std::byte> kept; // of pageable memory, which is read when the copy is enqueued
};

struct CopyTask : Task {
  CopyTask(const char *what, Side to, Side from, size_t bytes)
      : Task(what), to(std::move(to)), from(std::move(from)), bytes(bytes) {}
  Side to, from;
  size_t bytes;

  CUresult begin(CUctx_st &context, Operation &operation) override {
    driver().order.begin(operation, 1);
    Region *source = from.device ? regionOf(context, from.device, bytes) : nullptr;
    Region *target = to.device ? regionOf(context, to.device, bytes) : nullptr;
    const void *bytesFrom = from.kept.empty() ? from.host : from.kept.data();
    void *bytesTo = to.host;
    if (from.device) {
      // A copy on the device propagates what is uninitialised; one to the host uses it.
      bool ok = to.device ? markRead(context, operation) : readRange(context, operation, from.device, bytes);
      if (!ok)
        return CUDA_ERROR_ILLEGAL_ADDRESS;
      bytesFrom = source->host + (from.device - source->base);
    }
    if (to.device) {
      if (!writeRange(context, operation, to.device, bytes, true))
        return CUDA_ERROR_ILLEGAL_ADDRESS;
      bytesTo = target->host + (to.device - target->base);
    }
    memmove(bytesTo, bytesFrom, bytes);
    if (source && target)
      Shadow::copyInitialised(target->shadow, to.device - target->base, source->shadow, from.device - source->base,
                              bytes);
    return CUDA_SUCCESS;
  }

  bool markRead(CUctx_st &context, Operation &operation) {
    Region *source = regionOf(context, from.device, bytes);
    if (!source)
      return readRange(context, operation, from.device, bytes); // reports
    Shadow &shadow = source->shadow;
    uint64_t offset = from.device - source->base;
    if (shadow.firstUninitialised(offset, bytes) == offset + bytes)
      return readRange(context, operation, from.device, bytes);
    // Order is checked without the look at what is initialised.
    Shadow none(bytes);
    Shadow::copyInitialised(none, 0, shadow, offset, bytes);
    shadow.setInitialised(offset, bytes, true);
    bool ok = readRange(context, operation, from.device, bytes);
    Shadow::copyInitialised(shadow, offset, none, 0, bytes);
    return ok;
  }
};

struct SetTask : Task {
  SetTask(CUdeviceptr to, uint32_t value, unsigned width, size_t count)
      : Task("a memset"), to(to), value(value), width(width), count(count) {}
  CUdeviceptr to;
  uint32_t value;
  unsigned width;
  size_t count;

  CUresult begin(CUctx_st &context, Operation &operation) override {
    driver().order.begin(operation, 1);
    if (!writeRange(context, operation, to, count * width, true))
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    Region *region = regionOf(context, to, count * width);
    std::byte *host = region->host + (to - region->base);
    if (width == 1)
      memset(host, value, count);
    else
      for (size_t i = 0; i < count; ++i)
        memcpy(host + i * width, &value, width);
    return CUDA_SUCCESS;
  }
};

CUresult checkDevice(const Call &call, const char *which, CUdeviceptr at, size_t bytes) {
  if (regionOf(*call.context, at, bytes))
    return CUDA_SUCCESS;
  return call.misuse(CUDA_ERROR_INVALID_VALUE, which, ": ", describeRange(*call.context, at, bytes));
}

CUresult copy(const char *name, const char *what, Side to, Side from, size_t bytes, CUstream stream, bool async) {
  Call call(name, async ? Needs::Context : Needs::Context | Needs::NoCapture);
  if (call.failed())
    return call.status;
  if (!bytes)
    return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  if (to.device || from.device) {
    if ((to.device && (result = checkDevice(call, "target", to.device, bytes)) != CUDA_SUCCESS) ||
        (from.device && (result = checkDevice(call, "source", from.device, bytes)) != CUDA_SUCCESS))
      return result;
  }
  if (!(to.device || to.host) || !(from.device || from.host))
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "a pointer is null");
  void *host = to.device ? from.host : to.host;
  bool pageable = host && !driver().pinnedAt(host, bytes);
  auto task = std::make_shared<CopyTask>(what, std::move(to), std::move(from), bytes);
  if (!async)
    return runNow(call, *task);
  if ((result = call.check(stream)) != CUDA_SUCCESS)
    return result;
  if (pageable && task->from.host && !stream->capture) {
    auto begin = static_cast<std::byte *>(task->from.host);
    task->from.kept.assign(begin, begin + bytes);
  }
  bool waits = pageable && task->to.host && !stream->capture;
  result = enqueue(*stream, task);
  return waits && result == CUDA_SUCCESS ? synchronize(call.lock, *stream) : result;
}

CUresult fill(const char *name, CUdeviceptr to, uint32_t value, unsigned width, size_t count, CUstream stream,
              bool async) {
  Call call(name, async ? Needs::Context : Needs::Context | Needs::NoCapture);
  if (call.failed())
    return call.status;
  if (!count)
    return CUDA_SUCCESS;
  if (count > ~size_t(0) / width || to % width)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, hex(to), " should be aligned to ", width, " bytes");
  if (CUresult result = checkDevice(call, "target", to, count * width); result != CUDA_SUCCESS)
    return result;
  auto task = std::make_shared<SetTask>(to, value, width, count);
  if (!async)
    return runNow(call, *task);
  if (CUresult result = call.check(stream); result != CUDA_SUCCESS)
    return result;
  return enqueue(*stream, task);
}

Side onDevice(CUdeviceptr at) { return {at, nullptr, {}}; }
Side onHost(const void *at) { return {0, const_cast<void *>(at), {}}; }

CUresult pin(Call &call, void *host, size_t bytes, bool registered, unsigned flags) {
  Region *region = call.context->memory.allocate(bytes, "pinned host memory", host);
  if (!region)
    return CUDA_ERROR_OUT_OF_MEMORY;
  driver().pinned[static_cast<std::byte *>(host)] = {bytes, registered, region->base, call.context, flags};
  return CUDA_SUCCESS;
}

CUresult unpin(Call &call, void *host, bool registered) {
  auto found = driver().pinned.find(static_cast<std::byte *>(host));
  if (found == driver().pinned.end() || found->second.registered != registered)
    return call.misuse(registered ? CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED : CUDA_ERROR_INVALID_VALUE,
                       "the memory is not pinned, or in another way");
  CUresult result = runAll(call.lock);
  found->second.context->memory.free(found->second.device);
  driver().pinned.erase(found);
  if (!registered)
    free(host);
  return result;
}

} // namespace

CUresult CUDAAPI cuMemGetInfo(size_t *free, size_t *total) {
  Call call("cuMemGetInfo", Needs::Context);
  if (call.failed())
    return call.status;
  if (!free || !total)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "a pointer is null");
  *total = call.context->memory.size();
  *free = *total - call.context->memory.used();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemAlloc(CUdeviceptr *pointer, size_t bytes) {
  Call call("cuMemAlloc", Needs::Context | Needs::NoCapture);
  if (call.failed())
    return call.status;
  if (!pointer || !bytes)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, bytes ? "the result is null" : "no bytes are asked for");
  Region *region = call.context->memory.allocate(bytes, "cuMemAlloc");
  if (!region)
    return CUDA_ERROR_OUT_OF_MEMORY;
  *pointer = region->base;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemFree(CUdeviceptr pointer) {
  Call call("cuMemFree", Needs::Context | Needs::NoCapture | Needs::AnyError);
  if (call.failed())
    return call.status;
  if (!pointer)
    return CUDA_SUCCESS;
  CUresult result = runAll(call.lock); // as the driver does; it orders nothing for the checks
  Region *region = call.context->memory.find(pointer);
  if (!region || region->base != pointer || !region->owned || region->variable)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "no allocation begins at ", hex(pointer), ", which is ",
                       call.context->memory.describe(pointer));
  call.context->memory.free(pointer);
  return call.context->sticky != CUDA_SUCCESS ? call.context->sticky : result;
}

CUresult CUDAAPI cuMemAllocAsync(CUdeviceptr *, size_t, CUstream) { return CUDA_ERROR_NOT_SUPPORTED; }
CUresult CUDAAPI cuMemFreeAsync(CUdeviceptr, CUstream) { return CUDA_ERROR_NOT_SUPPORTED; }

CUresult CUDAAPI cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr pointer) {
  Call call("cuMemGetAddressRange", Needs::Context);
  if (call.failed())
    return call.status;
  Region *region = call.context->memory.find(pointer);
  if (!region)
    return CUDA_ERROR_NOT_FOUND;
  if (base)
    *base = region->base;
  if (bytes)
    *bytes = region->bytes;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemHostAlloc(void **host, size_t bytes, unsigned flags) {
  Call call("cuMemHostAlloc", Needs::Context | Needs::NoCapture);
  if (call.failed())
    return call.status;
  if (!host || !bytes || (flags & ~7u))
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "a null result, no bytes, or unknown flags");
  *host = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!*host)
    return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = pin(call, *host, bytes, false, flags);
  if (result != CUDA_SUCCESS)
    free(*host);
  return result;
}

CUresult CUDAAPI cuMemAllocHost(void **host, size_t bytes) { return cuMemHostAlloc(host, bytes, 0); }

CUresult CUDAAPI cuMemFreeHost(void *host) {
  Call call("cuMemFreeHost", Needs::Context | Needs::NoCapture | Needs::AnyError);
  return call.failed() ? call.status : unpin(call, host, false);
}

CUresult CUDAAPI cuMemHostRegister(void *host, size_t bytes, unsigned flags) {
  Call call("cuMemHostRegister", Needs::Context | Needs::NoCapture);
  if (call.failed())
    return call.status;
  if (!host || !bytes)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "no memory is given");
  if (driver().pinnedAt(host, 0))
    return call.misuse(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "the memory is pinned already");
  return pin(call, host, bytes, true, flags);
}

CUresult CUDAAPI cuMemHostUnregister(void *host) {
  Call call("cuMemHostUnregister", Needs::Context | Needs::NoCapture | Needs::AnyError);
  return call.failed() ? call.status : unpin(call, host, true);
}

CUresult CUDAAPI cuMemHostGetDevicePointer(CUdeviceptr *pointer, void *host, unsigned flags) {
  Call call("cuMemHostGetDevicePointer", Needs::Context);
  if (call.failed())
    return call.status;
  HostMemory *memory = driver().pinnedAt(host, 0);
  if (!pointer || !memory || flags || memory->context != call.context)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "the memory is not pinned in this context");
  auto region = memory->context->memory.find(memory->device);
  *pointer = memory->device + (static_cast<std::byte *>(host) - region->host);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemHostGetFlags(unsigned *flags, void *host) {
  Call call("cuMemHostGetFlags", Needs::Context);
  if (call.failed())
    return call.status;
  HostMemory *memory = driver().pinnedAt(host, 0);
  if (!flags || !memory)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "the memory is not pinned");
  *flags = memory->flags;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
  return copy("cuMemcpyHtoD", "a copy to the device", onDevice(to), onHost(from), bytes, nullptr, false);
}
CUresult CUDAAPI cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
  return copy("cuMemcpyDtoH", "a copy to the host", onHost(to), onDevice(from), bytes, nullptr, false);
}
CUresult CUDAAPI cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy("cuMemcpyDtoD", "a copy on the device", onDevice(to), onDevice(from), bytes, nullptr, false);
}
CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  return copy("cuMemcpyHtoDAsync", "a copy to the device", onDevice(to), onHost(from), bytes, stream, true);
}
CUresult CUDAAPI cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy("cuMemcpyDtoHAsync", "a copy to the host", onHost(to), onDevice(from), bytes, stream, true);
}
CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy("cuMemcpyDtoDAsync", "a copy on the device", onDevice(to), onDevice(from), bytes, stream, true);
}

CUresult CUDAAPI cuMemsetD8(CUdeviceptr to, unsigned char value, size_t count) {
  return fill("cuMemsetD8", to, value, 1, count, nullptr, false);
}
CUresult CUDAAPI cuMemsetD16(CUdeviceptr to, unsigned short value, size_t count) {
  return fill("cuMemsetD16", to, value, 2, count, nullptr, false);
}
CUresult CUDAAPI cuMemsetD32(CUdeviceptr to, unsigned value, size_t count) {
  return fill("cuMemsetD32", to, value, 4, count, nullptr, false);
}
CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  return fill("cuMemsetD8Async", to, value, 1, count, stream, true);
}
CUresult CUDAAPI cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
  return fill("cuMemsetD16Async", to, value, 2, count, stream, true);
}
CUresult CUDAAPI cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
  return fill("cuMemsetD32Async", to, value, 4, count, stream, true);
}

CUresult CUDAAPI cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr pointer) {
  Call call("cuPointerGetAttribute", Needs::Nothing);
  if (call.failed())
    return call.status;
  if (!data)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "the result is null");
  HostMemory *host = driver().pinnedAt(reinterpret_cast<void *>(pointer), 0);
  CUctx_st *context = host ? host->context : nullptr;
  Region *region = host ? context->memory.find(host->device) : nullptr;
  for (auto &one : driver().contexts)
    if (one && !region && (region = one->memory.find(pointer)))
      context = one.get();
  if (!region)
    return CUDA_ERROR_INVALID_VALUE; // how one asks whether it is an address of the device
  switch (attribute) {
  case CU_POINTER_ATTRIBUTE_CONTEXT:
    *static_cast<CUcontext *>(data) = context;
    return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    *static_cast<unsigned *>(data) = region->owned ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    *static_cast<CUdeviceptr *>(data) = host ? region->base : pointer;
    return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    *static_cast<int *>(data) = context->device;
    return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    *static_cast<unsigned *>(data) = 0;
    return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    *static_cast<CUdeviceptr *>(data) = region->base;
    return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    *static_cast<size_t *>(data) = region->bytes;
    return CUDA_SUCCESS;
  default:
    return CUDA_ERROR_NOT_SUPPORTED;
  }
}
