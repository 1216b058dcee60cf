// Devices by a plan's target.
#include "runtime/device/Device.h"
#include "runtime/device/cpu/CpuDevice.h"
#include "runtime/device/cuda/Module.h"

namespace amc::rt {

Expected<std::unique_ptr<Device>> createDevice(const std::string &target, const DeviceOptions &options) {
  if (target == "cpu")
    return createCpuDevice(options);
  if (target.starts_with("cuda:"))
    return cuda::createDevice(target, options);
  return inputError("the plan is for target '", target, "', which this program has no device for; it has 'cpu' and 'cuda:sm_…'");
}

} // namespace amc::rt
