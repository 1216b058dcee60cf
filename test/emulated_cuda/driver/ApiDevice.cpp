// Initialisation, devices, primary contexts; what is left at the end of the process.
#include "test/emulated_cuda/driver/Launch.h"
#include "test/emulated_cuda/driver/State.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

using namespace emu;

namespace {

constexpr uint64_t contextBytes = 300ull << 20; // what a context takes of the device's memory, nominally

uint64_t setting(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  if (!text || !*text)
    return otherwise;
  char *end;
  uint64_t value = strtoull(text, &end, 0);
  if (*end)
    finding("misuse: ", name, "=", text, " should be a number");
  return value;
}

CUresult checkDevice(const Call &call, CUdevice device) {
  if (call.failed())
    return call.status;
  if (device < 0 || device >= driver().devices)
    return call.misuse(CUDA_ERROR_INVALID_DEVICE, "device ", device, " should be below ", driver().devices);
  return CUDA_SUCCESS;
}

// What a context still holds, as findings.
void reportLeaks(CUctx_st &context, const char *when) {
  Driver &d = driver();
  size_t count = 0;
  auto leak = [&](const std::string &what) {
    if (++count <= 10)
      finding("leak: ", when, " device ", context.device, " still has ", what);
  };
  for (const auto &[base, region] : context.memory.all())
    if (!region->variable)
      leak(region->what);
  for (CUmod_st *module : d.modules)
    if (module->context == &context)
      leak(concat("a module with ", module->functions.size(), " kernels"));
  for (CUgraphExec_st *exec : d.execs)
    if (exec->context == &context)
      leak("an instantiated graph");
  for (CUstream_st *stream : d.streams)
    if (stream->context == &context)
      leak(concat("stream ", stream->id));
  for (CUevent_st *event : d.events)
    if (event->context == &context)
      leak("an event");
}

template <class T, class F> void dropAll(std::set<T *> &all, CUctx_st &context, F drop) {
  std::set<T *> copy = all;
  for (T *one : copy)
    if (one->context == &context)
      drop(one);
}

void destroyContext(Lock &lock, std::unique_ptr<CUctx_st> &context) {
  Driver &d = driver();
  runAll(lock);
  reportLeaks(*context, "the context released last of");
  dropAll(d.execs, *context, [&](CUgraphExec_st *exec) {
    for (CUstream_st *branch : exec->branches)
      dropStream(branch);
    d.execs.erase(exec);
    delete exec;
  });
  dropAll(d.streams, *context, dropStream);
  dropAll(d.events, *context, [&](CUevent_st *event) {
    d.events.erase(event);
    delete event;
  });
  dropAll(d.modules, *context, [&](CUmod_st *module) {
    for (auto &[name, function] : module->functions)
      d.functions.erase(function.get());
    d.modules.erase(module);
    delete module;
  });
  std::erase_if(d.pinned, [&](const auto &one) { return one.second.context == context.get(); });
  context.reset();
}

int exitStatus = 0;

// Runs last, when whatever the program destroys at its end is gone.
__attribute__((destructor)) void atEnd() {
  Driver &d = driver();
  if (!d.initialised || d.pid != getpid() || exitStatus != 0)
    return;
  {
    Lock lock;
    for (auto &context : d.contexts)
      if (context) {
        finding("leak: at the end of the process the context of device ", context->device, " is still retained ",
                context->users, " times");
        reportLeaks(*context, "at the end of the process");
      }
    for (size_t i = 0; i < d.graphs.size() && i < 1; ++i)
      finding("leak: at the end of the process ", d.graphs.size(), " graphs are left");
  }
  if (!findingCount())
    return;
  fprintf(stderr, "emulated CUDA: %zu findings; exit code %d\n", findingCount(), findingExitCode);
  fflush(nullptr);
  _exit(findingExitCode);
}

} // namespace

CUresult CUDAAPI cuInit(unsigned flags) {
  Lock lock;
  Driver &d = driver();
  if (flags)
    return CUDA_ERROR_INVALID_VALUE;
  if (d.initialised)
    return CUDA_SUCCESS;
  d.devices = setting("EMULATED_CUDA_DEVICES", 8);
  if (!d.devices)
    return CUDA_ERROR_NO_DEVICE;
  d.initialised = true;
  d.pid = getpid();
  // Not in a constructor: what is registered before main runs after the destructors.
  on_exit([](int status, void *) { exitStatus = status; }, nullptr);
  d.memory = setting("EMULATED_CUDA_MEMORY", 4ull << 30);
  d.version = setting("EMULATED_CUDA_DRIVER", 13000);
  d.random.seed(setting("EMULATED_CUDA_SEED", 1));
  if (const char *compute = getenv("EMULATED_CUDA_COMPUTE"); compute && *compute)
    if (sscanf(compute, "%d.%d", &d.major, &d.minor) != 2)
      finding("misuse: EMULATED_CUDA_COMPUTE=", compute, " should be like 9.0");
  d.contexts.resize(d.devices);
  d.contextFlags.resize(d.devices);
  d.syncQueue = d.order.newQueue("the host's own copies");
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDriverGetVersion(int *version) {
  if (!version)
    return CUDA_ERROR_INVALID_VALUE;
  *version = setting("EMULATED_CUDA_DRIVER", 13000);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGet(CUdevice *device, int ordinal) {
  Call call("cuDeviceGet", Needs::Nothing);
  CUresult result = checkDevice(call, ordinal);
  if (result == CUDA_SUCCESS)
    *device = ordinal;
  return result;
}

CUresult CUDAAPI cuDeviceGetCount(int *count) {
  Call call("cuDeviceGetCount", Needs::Nothing);
  if (!call.failed())
    *count = driver().devices;
  return call.status;
}

CUresult CUDAAPI cuDeviceGetName(char *name, int length, CUdevice device) {
  Call call("cuDeviceGetName", Needs::Nothing);
  CUresult result = checkDevice(call, device);
  if (result == CUDA_SUCCESS)
    snprintf(name, length, "Emulated CUDA device (CPU, PTX level)");
  return result;
}

CUresult CUDAAPI cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  Call call("cuDeviceTotalMem", Needs::Nothing);
  CUresult result = checkDevice(call, device);
  if (result == CUDA_SUCCESS)
    *bytes = driver().memory;
  return result;
}

CUresult CUDAAPI cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
  Call call("cuDeviceGetUuid", Needs::Nothing);
  CUresult result = checkDevice(call, device);
  if (result == CUDA_SUCCESS) {
    memset(uuid->bytes, 0, sizeof uuid->bytes);
    memcpy(uuid->bytes, "emulated", 8);
    uuid->bytes[15] = device;
  }
  return result;
}

CUresult CUDAAPI cuDeviceGetPCIBusId(char *id, int length, CUdevice device) {
  Call call("cuDeviceGetPCIBusId", Needs::Nothing);
  CUresult result = checkDevice(call, device);
  if (result == CUDA_SUCCESS)
    snprintf(id, length, "0000:%02X:00.0", device + 1);
  return result;
}

CUresult CUDAAPI cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  Call call("cuDeviceGetAttribute", Needs::Nothing);
  if (CUresult result = checkDevice(call, device); result != CUDA_SUCCESS)
    return result;
  if (!value)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "the result is null");
  static const std::map<CUdevice_attribute, int> values = {
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 0x7fffffff},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, maxSharedPerBlock},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, maxSharedOptIn},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, maxSharedPerProcessor},
      {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536},
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, registersPerBlock},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, registersPerBlock},
      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, processors},
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, maxThreadsPerProcessor},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, maxBlocksPerProcessor},
      {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000000},
      {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1000000},
      {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 512},
      {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 50 << 20},
      {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2},
      {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
      {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
      {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 0},
      {CU_DEVICE_ATTRIBUTE_INTEGRATED, 0},
      {CU_DEVICE_ATTRIBUTE_ECC_ENABLED, 0},
      {CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, 0},
      {CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, 0},
      {CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT, 0},
      {CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1},
      {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 0},
      {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 0},
      {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 0},
      {CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED, 0},
      {CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1},
      {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0},
  };
  if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
    *value = driver().major;
  else if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
    *value = driver().minor;
  else if (attribute == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)
    *value = device + 1;
  else if (auto found = values.find(attribute); found != values.end())
    *value = found->second;
  else
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "attribute ", (int)attribute, " is not modelled");
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  Call call("cuDevicePrimaryCtxRetain", Needs::Nothing);
  if (CUresult result = checkDevice(call, device); result != CUDA_SUCCESS)
    return result;
  auto &primary = driver().contexts[device];
  if (!primary) {
    if (driver().memory < contextBytes)
      return CUDA_ERROR_OUT_OF_MEMORY;
    primary = std::make_unique<CUctx_st>(device, driver().memory);
    primary->flags = driver().contextFlags[device];
    primary->memory.take(contextBytes);
  }
  ++primary->users;
  *context = primary.get();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
  Call call("cuDevicePrimaryCtxRelease", Needs::Nothing);
  if (CUresult result = checkDevice(call, device); result != CUDA_SUCCESS)
    return result;
  auto &primary = driver().contexts[device];
  if (!primary)
    return call.misuse(CUDA_ERROR_INVALID_CONTEXT, "the context of device ", device, " is not retained");
  if (--primary->users == 0) {
    for (CUctx_st *&current : contextStack)
      if (current == primary.get())
        current = nullptr;
    destroyContext(call.lock, primary);
  }
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags) {
  Call call("cuDevicePrimaryCtxSetFlags", Needs::Nothing);
  if (CUresult result = checkDevice(call, device); result != CUDA_SUCCESS)
    return result;
  driver().contextFlags[device] = flags;
  if (auto &primary = driver().contexts[device])
    primary->flags = flags;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  Call call("cuDevicePrimaryCtxGetState", Needs::Nothing);
  if (CUresult result = checkDevice(call, device); result != CUDA_SUCCESS)
    return result;
  *flags = driver().contextFlags[device];
  *active = driver().contexts[device] != nullptr;
  return CUDA_SUCCESS;
}

namespace {

CUresult checkContext(const Call &call, CUcontext context) {
  if (call.failed())
    return call.status;
  for (auto &primary : driver().contexts)
    if (primary && primary.get() == context)
      return CUDA_SUCCESS;
  return call.misuse(CUDA_ERROR_INVALID_CONTEXT, "the context has been released, or never was one");
}

} // namespace

CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
  Call call("cuCtxSetCurrent", Needs::Nothing);
  if (context)
    if (CUresult result = checkContext(call, context); result != CUDA_SUCCESS)
      return result;
  if (!contextStack.empty())
    contextStack.pop_back();
  if (context)
    contextStack.push_back(context);
  return call.status;
}

CUresult CUDAAPI cuCtxGetCurrent(CUcontext *context) {
  Call call("cuCtxGetCurrent", Needs::Nothing);
  *context = contextStack.empty() ? nullptr : contextStack.back();
  return call.status;
}

CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
  Call call("cuCtxPushCurrent", Needs::Nothing);
  CUresult result = checkContext(call, context);
  if (result == CUDA_SUCCESS)
    contextStack.push_back(context);
  return result;
}

CUresult CUDAAPI cuCtxPopCurrent(CUcontext *context) {
  Call call("cuCtxPopCurrent", Needs::Nothing);
  if (contextStack.empty())
    return call.misuse(CUDA_ERROR_INVALID_CONTEXT, "no context is current");
  if (context)
    *context = contextStack.back();
  contextStack.pop_back();
  return call.status;
}

CUresult CUDAAPI cuCtxGetDevice(CUdevice *device) {
  Call call("cuCtxGetDevice", Needs::Context | Needs::AnyError);
  if (!call.failed())
    *device = call.context->device;
  return call.status;
}

CUresult CUDAAPI cuCtxGetFlags(unsigned *flags) {
  Call call("cuCtxGetFlags", Needs::Context | Needs::AnyError);
  if (!call.failed())
    *flags = call.context->flags;
  return call.status;
}

CUresult CUDAAPI cuCtxGetApiVersion(CUcontext, unsigned *version) {
  *version = 3020;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSynchronize(void) {
  Call call("cuCtxSynchronize", Needs::Context | Needs::NoCapture);
  if (call.failed())
    return call.status;
  CUresult result = runAll(call.lock);
  for (auto *set : {&driver().streams, &driver().hidden})
    for (CUstream_st *stream : *set)
      if (stream->context == call.context)
        driver().host.join(stream->clock);
  return result != CUDA_SUCCESS ? result : call.context->sticky;
}

CUresult CUDAAPI cuCtxGetLimit(size_t *value, CUlimit limit) {
  Call call("cuCtxGetLimit", Needs::Context);
  if (call.failed())
    return call.status;
  switch (limit) {
  case CU_LIMIT_STACK_SIZE:
    *value = 1024;
    return CUDA_SUCCESS;
  case CU_LIMIT_PRINTF_FIFO_SIZE:
    *value = 1 << 20;
    return CUDA_SUCCESS;
  case CU_LIMIT_MALLOC_HEAP_SIZE:
    *value = 8 << 20;
    return CUDA_SUCCESS;
  default:
    return CUDA_ERROR_UNSUPPORTED_LIMIT;
  }
}

CUresult CUDAAPI cuCtxSetLimit(CUlimit limit, size_t) {
  Call call("cuCtxSetLimit", Needs::Context);
  if (call.failed())
    return call.status;
  return limit == CU_LIMIT_STACK_SIZE ? CUDA_SUCCESS : CUDA_ERROR_UNSUPPORTED_LIMIT;
}

CUresult CUDAAPI cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  Call call("cuCtxGetStreamPriorityRange", Needs::Context);
  if (call.failed())
    return call.status;
  if (least)
    *least = 0;
  if (greatest)
    *greatest = -5;
  return CUDA_SUCCESS;
}
