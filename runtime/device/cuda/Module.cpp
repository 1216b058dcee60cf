#include "runtime/device/cuda/Module.h"
#include "runtime/support/Modules.h"
#include <dlfcn.h>

namespace amc::rt::cuda {

Expected<std::unique_ptr<Device>> createDevice(const std::string &target, const DeviceOptions &options) {
  Expected<LoadedModule> module = loadModule("libamrt_cuda.so");
  if (!module.ok())
    return std::move(module).status().withContext(
        text("the plan is for target '", target, "'; the module that runs it, which is built where the CUDA toolkit is"));
  auto create = reinterpret_cast<CreateFunction>(::dlsym(module->handle, createFunction));
  if (!create)
    return limitError(module->path, ": belongs to another version of this program");
  return create(target, options);
}

} // namespace amc::rt::cuda
