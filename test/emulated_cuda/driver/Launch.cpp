#include "test/emulated_cuda/driver/Launch.h"
#include "test/emulated_cuda/engine/Warp.h"
#include <cstring>

namespace emu {
namespace {

struct KernelTask : Task {
  KernelTask(std::shared_ptr<CUfunc_st> function, const LaunchShape &shape, std::vector<std::byte> parameters)
      : Task(concat("kernel '", function->kernel.name, "'")), function(std::move(function)), shape(shape),
        parameters(std::move(parameters)) {}
  std::shared_ptr<CUfunc_st> function;
  LaunchShape shape;
  std::vector<std::byte> parameters;

  CUresult begin(CUctx_st &context, Operation &operation) override {
    Driver &d = driver();
    if (!d.functions.count(function.get())) {
      finding("misuse: ", d.order.describe(operation), " runs after its module was unloaded");
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    emu::Launch launch;
    launch.kernel = &function->kernel;
    uint64_t blocks = 1;
    for (int axis = 0; axis < 3; ++axis) {
      launch.grid[axis] = shape.grid[axis];
      launch.block[axis] = shape.block[axis];
      launch.threads *= shape.block[axis];
      blocks *= shape.grid[axis];
    }
    launch.dynamicShared = shape.sharedBytes;
    launch.parameters = parameters;
    launch.memory = &context.memory;
    launch.order = &d.order;
    launch.operation = &operation;
    launch.processors = processors;
    d.order.begin(operation, 1 + blocks);
    return runLaunch(launch, d.random);
  }
};

} // namespace

CUresult checkShape(const Call &call, const CUfunc_st &function, const LaunchShape &shape) {
  const Kernel &kernel = function.kernel;
  std::string name = concat("kernel '", kernel.name, "': ");
  constexpr uint64_t gridLimits[] = {0x7fffffff, 65535, 65535}, blockLimits[] = {1024, 1024, 64};
  uint64_t threads = 1, blocks = 1;
  for (int axis = 0; axis < 3; ++axis) {
    if (!shape.grid[axis] || shape.grid[axis] > gridLimits[axis])
      return call.misuse(CUDA_ERROR_INVALID_VALUE, name, "grid of (", shape.grid[0], ", ", shape.grid[1], ", ",
                         shape.grid[2], ") blocks should be within (2147483647, 65535, 65535), and not empty");
    if (!shape.block[axis] || shape.block[axis] > blockLimits[axis])
      return call.misuse(CUDA_ERROR_INVALID_VALUE, name, "block of (", shape.block[0], ", ", shape.block[1], ", ",
                         shape.block[2], ") threads should be within (1024, 1024, 64), and not empty");
    threads *= shape.block[axis];
    blocks *= shape.grid[axis];
  }
  if (threads > 1024)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, name, "block of ", threads, " threads should be within 1024");
  if (blocks >> 31)
    return call.misuse(CUDA_ERROR_NOT_SUPPORTED, name, blocks, " blocks are more than the emulator counts");
  unsigned most = 1, needed = 1;
  for (int axis = 0; axis < 3; ++axis) {
    most *= kernel.maxThreads[axis];
    needed *= kernel.requiredThreads[axis];
  }
  if (most && threads > most)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, name, threads, " threads a block, where .maxntid says ", most);
  if (needed && (shape.block[0] != kernel.requiredThreads[0] || shape.block[1] != kernel.requiredThreads[1] ||
                 shape.block[2] != kernel.requiredThreads[2]))
    return call.misuse(CUDA_ERROR_INVALID_VALUE, name, "block of (", shape.block[0], ", ", shape.block[1], ", ",
                       shape.block[2], ") threads is not what .reqntid says");
  if (shape.sharedBytes && !kernel.usesDynamicShared)
    finding("misuse: ", call.name, ": ", name, shape.sharedBytes,
            " bytes of dynamic shared memory, of which it uses "
            "none");
  if (kernel.staticShared + shape.sharedBytes > (unsigned)function.maxDynamicShared)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, name, kernel.staticShared, " + ", shape.sharedBytes,
                       " bytes of shared memory are more than ", function.maxDynamicShared,
                       "; beyond 48 KiB CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES has to be set");
  return CUDA_SUCCESS;
}

CUresult launch(Call &call, CUfunction f, const LaunchShape &shape, CUstream stream, void **parameters, void **extra) {
  if (!driver().functions.count(f))
    return call.misuse(CUDA_ERROR_INVALID_HANDLE, "the function is none, or its module has been unloaded");
  if (CUresult result = call.check(stream); result != CUDA_SUCCESS)
    return result;
  if (f->module->context != call.context)
    return call.misuse(CUDA_ERROR_INVALID_CONTEXT, "kernel '", f->kernel.name, "' belongs to another context");
  if (CUresult result = checkShape(call, *f, shape); result != CUDA_SUCCESS)
    return result;
  const Kernel &kernel = f->kernel;
  std::vector<std::byte> values(kernel.parameterBytes);
  if (parameters && extra)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "has both kernelParams and extra");
  if (extra) {
    const void *buffer = nullptr;
    size_t bytes = 0;
    for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
      if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER)
        buffer = extra[1];
      else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE)
        bytes = *static_cast<size_t *>(extra[1]);
      else
        return call.misuse(CUDA_ERROR_INVALID_VALUE, "extra has an unknown entry");
    }
    if (bytes != values.size())
      return call.misuse(CUDA_ERROR_INVALID_VALUE, "kernel '", kernel.name, "' has ", values.size(),
                         " bytes of parameters, and gets ", bytes);
    memcpy(values.data(), buffer, bytes);
  } else if (!kernel.parameters.empty()) {
    if (!parameters)
      return call.misuse(CUDA_ERROR_INVALID_VALUE, "kernel '", kernel.name, "' gets no parameters");
    for (size_t i = 0; i < kernel.parameters.size(); ++i) {
      if (!parameters[i])
        return call.misuse(CUDA_ERROR_INVALID_VALUE, "kernel '", kernel.name, "': parameter ", i, " is null");
      memcpy(values.data() + kernel.parameters[i].offset, parameters[i], kernel.parameters[i].bytes);
    }
  }
  std::shared_ptr<CUfunc_st> kept = f->module->functions.at(kernel.name);
  return enqueue(*stream, std::make_shared<KernelTask>(std::move(kept), shape, std::move(values)));
}

} // namespace emu

using namespace emu;

CUresult CUDAAPI cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                unsigned bz, unsigned sharedBytes, CUstream stream, void **parameters, void **extra) {
  Call call("cuLaunchKernel", Needs::Context);
  if (call.failed())
    return call.status;
  return launch(call, f, {{gx, gy, gz}, {bx, by, bz}, sharedBytes}, stream, parameters, extra);
}

CUresult CUDAAPI cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **parameters, void **extra) {
  Call call("cuLaunchKernelEx", Needs::Context);
  if (call.failed())
    return call.status;
  if (!config)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "config is null");
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    CUlaunchAttributeID id = config->attrs[i].id;
    if (id != CU_LAUNCH_ATTRIBUTE_IGNORE && id != CU_LAUNCH_ATTRIBUTE_PRIORITY)
      return call.misuse(CUDA_ERROR_NOT_SUPPORTED, "launch attribute ", (int)id, " is not modelled");
  }
  return launch(call, f,
                {{config->gridDimX, config->gridDimY, config->gridDimZ},
                 {config->blockDimX, config->blockDimY, config->blockDimZ},
                 config->sharedMemBytes},
                config->hStream, parameters, extra);
}
