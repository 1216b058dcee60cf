// A GPU of this process: its context, two streams, copies to and from it, PTX modules.
#ifndef AMC_RUNTIME_DEVICE_CUDA_CONTEXT_H
#define AMC_RUNTIME_DEVICE_CUDA_CONTEXT_H

#include "runtime/device/Device.h"
#include "runtime/device/cuda/Libraries.h"
#include "runtime/device/cuda/Ptx.h"
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace amc::rt::cuda {

// Device memory, given back when destroyed.
class Allocation final : public DeviceMemory {
public:
  explicit Allocation(const Driver &driver) : driver(driver) {}
  ~Allocation() override;

private:
  const Driver &driver;
};

class Context {
public:
  // The GPU with this ordinal, which has to run what was compiled for `architecture` (90: sm_90).
  static Expected<std::unique_ptr<Context>> create(const Driver &driver, int ordinal, int architecture);
  ~Context();
  Context(const Context &) = delete;
  Context &operator=(const Context &) = delete;

  // Holds anything. An error of kind Limit says how much there is.
  Expected<std::unique_ptr<Allocation>> allocate(uint64_t bytes, const char *what);
  // Behind what is on the compute stream. `from` may change when it returns.
  Status upload(std::byte *to, const std::byte *from, uint64_t bytes);
  Status download(std::byte *to, const std::byte *from, uint64_t bytes);

  // A function of the runtime's own; its image is loaded when it is first asked for.
  Expected<CUfunction> function(const KernelImage &image, const std::string &name);
  Expected<CUfunction> function(CUmodule module, const std::string &name) const;
  // The binary where it is for this GPU and this driver (an emulated one takes none), else the text. What the driver's
  // compiler says is in the error.
  Expected<CUmodule> loadModule(const KernelImage &image, const char *what);

  Expected<CUevent> makeEvent();
  Expected<uint64_t> freeBytes() const;

  const Driver &driver;
  CUdevice device = 0;
  std::string name; // of the GPU
  int multiprocessors = 0, capability = 0; // 90: 9.0
  CUstream compute = nullptr, communication = nullptr;
  uint64_t contextBytes = 0; // what creating it took of the GPU's memory

private:
  explicit Context(const Driver &driver) : driver(driver) {}
  Status start(int ordinal, int architecture);
  // A part of the page-locked memory that copies go through, when the copy before has left it.
  Expected<std::byte *> stage(size_t slot);

  static constexpr uint64_t slotBytes = 1 << 20;
  static constexpr size_t slots = 4;
  CUcontext context = nullptr;
  bool retained = false;
  std::byte *staging = nullptr; // slots * slotBytes, page-locked
  CUevent staged[slots] = {};   // the last copy out of each
  size_t nextSlot = 0;
  std::map<const char *, CUmodule> images; // by their text
  std::vector<CUmodule> modules;
  std::vector<CUevent> events;
};

} // namespace amc::rt::cuda

#endif
