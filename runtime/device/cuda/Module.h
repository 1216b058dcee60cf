// The CUDA device is in a module of its own (libamrt_cuda.so), loaded for plans that need it. It uses the runtime of the
// program that loads it, which has to export its symbols.
#ifndef AMC_RUNTIME_DEVICE_CUDA_MODULE_H
#define AMC_RUNTIME_DEVICE_CUDA_MODULE_H

#include "runtime/device/Device.h"

namespace amc::rt::cuda {

// The device of plans for "cuda:sm_90" and the like. Errors of kind Limit: this program was built without CUDA, no driver,
// too old a driver, no such device, too few of them.
Expected<std::unique_ptr<Device>> createDevice(const std::string &target, const DeviceOptions &options);

// What the module exports as amrtCudaCreate.
inline constexpr const char *createFunction = "amrtCudaCreate";
using CreateFunction = Expected<std::unique_ptr<Device>> (*)(const std::string &target, const DeviceOptions &options);

} // namespace amc::rt::cuda

#endif
