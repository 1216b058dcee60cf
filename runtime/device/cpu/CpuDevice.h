#ifndef AMC_RUNTIME_DEVICE_CPU_CPUDEVICE_H
#define AMC_RUNTIME_DEVICE_CPU_CPUDEVICE_H

#include "runtime/device/Device.h"

namespace amc::rt {

// The device of plans for "cpu".
Expected<std::unique_ptr<Device>> createCpuDevice(const DeviceOptions &options);

} // namespace amc::rt

#endif
