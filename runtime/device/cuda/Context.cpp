#include "runtime/device/cuda/Context.h"
#include <algorithm>
#include <cstring>

namespace amc::rt::cuda {
namespace {

CUdeviceptr address(const std::byte *p) { return reinterpret_cast<CUdeviceptr>(p); }

} // namespace

#define AMC_CHECK(call, what)                                                                                          \
  do {                                                                                                                 \
    if (Status amcChecked = driver.check((call), (what)); !amcChecked.ok())                                            \
      return amcChecked;                                                                                               \
  } while (false)

Allocation::~Allocation() {
  if (base)
    driver.cuMemFree(address(base));
}

Expected<std::unique_ptr<Context>> Context::create(const Driver &driver, int ordinal, int architecture) {
  std::unique_ptr<Context> made(new Context(driver));
  if (Status status = made->start(ordinal, architecture); !status.ok())
    return status;
  return made;
}

Status Context::start(int ordinal, int architecture) {
  int count = 0;
  AMC_CHECK(driver.cuDeviceGetCount(&count), "counting GPUs");
  if (count == 0)
    return limitError("there is no GPU");
  if (ordinal >= count)
    return limitError("this rank needs GPU ", ordinal, " of this host, which has ", count, count == 1 ? " GPU" : " GPUs",
                      ": one for each rank");
  AMC_CHECK(driver.cuDeviceGet(&device, ordinal), "the GPU");
  char text[256] = {};
  AMC_CHECK(driver.cuDeviceGetName(text, sizeof text - 1, device), "the GPU's name");
  name = text;
  int major = 0, minor = 0;
  AMC_CHECK(driver.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device), "the GPU");
  AMC_CHECK(driver.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device), "the GPU");
  AMC_CHECK(driver.cuDeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device), "the GPU");
  capability = 10 * major + minor;
  if (capability < architecture)
    return limitError("the plan is for sm_", architecture, " and GPU ", ordinal, " (", name, ") is sm_", capability,
                      "; compile it with --target=cuda:sm_", capability);
  AMC_CHECK(driver.cuDevicePrimaryCtxRetain(&context, device), "the GPU's context");
  retained = true;
  AMC_CHECK(driver.cuCtxSetCurrent(context), "the GPU's context");
  size_t free = 0, total = 0;
  AMC_CHECK(driver.cuMemGetInfo(&free, &total), "the GPU's memory");
  contextBytes = total - free;
  AMC_CHECK(driver.cuStreamCreateWithPriority(&compute, CU_STREAM_NON_BLOCKING, 0), "a stream");
  AMC_CHECK(driver.cuStreamCreateWithPriority(&communication, CU_STREAM_NON_BLOCKING, -1), "a stream");
  void *pinned = nullptr;
  AMC_CHECK(driver.cuMemHostAlloc(&pinned, slots * slotBytes, 0), "page-locked memory for copies");
  staging = static_cast<std::byte *>(pinned);
  return Status();
}

Context::~Context() {
  // Nothing can be done about what fails here; a device that has failed answers every call with the same error.
  if (compute)
    driver.cuStreamSynchronize(compute);
  if (communication)
    driver.cuStreamSynchronize(communication);
  for (CUmodule module : modules)
    driver.cuModuleUnload(module);
  for (CUevent event : events)
    driver.cuEventDestroy(event);
  if (staging)
    driver.cuMemFreeHost(staging);
  if (communication)
    driver.cuStreamDestroy(communication);
  if (compute)
    driver.cuStreamDestroy(compute);
  if (retained)
    driver.cuDevicePrimaryCtxRelease(device);
}

Expected<uint64_t> Context::freeBytes() const {
  size_t free = 0, total = 0;
  AMC_CHECK(driver.cuMemGetInfo(&free, &total), "the GPU's memory");
  return static_cast<uint64_t>(free);
}

Expected<std::unique_ptr<Allocation>> Context::allocate(uint64_t bytes, const char *what) {
  auto made = std::make_unique<Allocation>(driver);
  CUdeviceptr base = 0;
  CUresult result = driver.cuMemAlloc(&base, std::max<uint64_t>(bytes, 1));
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    Expected<uint64_t> free = freeBytes();
    return limitError(what, ": ", bytes, " bytes are wanted, and GPU ", device, " (", name, ") has ",
                      free.ok() ? std::to_string(*free) : "less", free.ok() ? " free" : "");
  }
  AMC_CHECK(result, what);
  made->base = reinterpret_cast<std::byte *>(base);
  made->bytes = bytes;
  return made;
}

Expected<CUevent> Context::makeEvent() {
  CUevent event = nullptr;
  AMC_CHECK(driver.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "an event");
  events.push_back(event);
  return event;
}

Expected<std::byte *> Context::stage(size_t slot) {
  if (!staged[slot]) {
    Expected<CUevent> event = makeEvent();
    if (!event.ok())
      return event.status();
    staged[slot] = *event;
  } else {
    AMC_CHECK(driver.cuEventSynchronize(staged[slot]), "a copy to the GPU");
  }
  return staging + slot * slotBytes;
}

Status Context::upload(std::byte *to, const std::byte *from, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes; done += slotBytes) {
    uint64_t now = std::min(slotBytes, bytes - done);
    size_t slot = nextSlot++ % slots;
    Expected<std::byte *> between = stage(slot);
    if (!between.ok())
      return between.status();
    std::memcpy(*between, from + done, now);
    AMC_CHECK(driver.cuMemcpyHtoDAsync(address(to + done), *between, now, compute), "a copy to the GPU");
    AMC_CHECK(driver.cuEventRecord(staged[slot], compute), "a copy to the GPU");
  }
  return Status();
}

Status Context::download(std::byte *to, const std::byte *from, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes; done += slotBytes) {
    uint64_t now = std::min(slotBytes, bytes - done);
    Expected<std::byte *> between = stage(nextSlot++ % slots);
    if (!between.ok())
      return between.status();
    AMC_CHECK(driver.cuMemcpyDtoHAsync(*between, address(from + done), now, compute), "a copy from the GPU");
    AMC_CHECK(driver.cuStreamSynchronize(compute), "a copy from the GPU");
    std::memcpy(to + done, *between, now);
  }
  return Status();
}

Expected<CUmodule> Context::loadModule(const KernelImage &image, const char *what) {
  char errors[4096] = {};
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void *values[] = {errors, reinterpret_cast<void *>(sizeof errors)};
  CUmodule module = nullptr;
  auto load = [&](const char *code) { return driver.cuModuleLoadDataEx(&module, code, 2, options, values); };
  CUresult result = image.binary ? load(image.binary) : CUDA_ERROR_NO_BINARY_FOR_GPU;
  if (result == CUDA_ERROR_NO_BINARY_FOR_GPU || result == CUDA_ERROR_INVALID_IMAGE)
    result = load(image.text);
  if (Status status = driver.check(result, what); !status.ok())
    return errors[0] ? limitError(status.message(), "\n", errors) : std::move(status);
  modules.push_back(module);
  return module;
}

Expected<CUfunction> Context::function(CUmodule module, const std::string &name) const {
  CUfunction function = nullptr;
  AMC_CHECK(driver.cuModuleGetFunction(&function, module, name.c_str()), name.c_str());
  return function;
}

Expected<CUfunction> Context::function(const KernelImage &image, const std::string &name) {
  auto found = images.find(image.text);
  if (found == images.end()) {
    Expected<CUmodule> module = loadModule(image, "kernels of the runtime");
    if (!module.ok())
      return module.status();
    found = images.emplace(image.text, *module).first;
  }
  return function(found->second, name);
}

} // namespace amc::rt::cuda
