// What the executor needs from a device: memory, kernels, running them. Devices are found by a plan's target.
#ifndef AMC_RUNTIME_DEVICE_DEVICE_H
#define AMC_RUNTIME_DEVICE_DEVICE_H

#include "runtime/collective/Communicator.h"
#include "runtime/device/Kernel.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/PlanVerifier.h"
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace amc::rt {

// Memory of the device, given back when destroyed. Zeroed where that costs nothing, see Device::zero.
class DeviceMemory {
public:
  virtual ~DeviceMemory() = default;
  std::byte *base = nullptr;
  uint64_t bytes = 0; // really taken
};

// An instruction of several that a device is given at once.
struct Work {
  const Kernel *kernel; // null: nothing is to be done
  Operands operands;
  uint32_t behind; // those that it has to wait for: bit d for the one d before it
};
// An instruction also waits for all but the workWindow - 1 before it.
inline constexpr uint64_t workWindow = 8;

struct DeviceOptions {
  unsigned threads = 0; // 0: the device's choice
  bool hugePages = true; // advised for memory of its own; a communicator advises them for what it gives
  Communicator *communicator = nullptr; // outlives the device; null: one rank
  MeshShape mesh;                       // whose groups collectives name
};

// What a device can do at most, in FLOP and bytes a second: what profiles are held against.
struct DeviceLimits {
  double fp32 = 0, bf16 = 0; // matrix products by the library in use, with operands of these
  double stream = 0;         // bytes read and written, far beyond the caches
};

// Memory of a device that is no plan's: what its driver and libraries take for themselves.
struct DeviceRemainder {
  std::string what;
  uint64_t bytes = 0;
};

// Where a device works on its own while this process goes on: what has been put into it runs in this order, but for
// collectives that are started beside the rest. It reports what went wrong when it is waited for.
class DeviceQueue {
public:
  virtual ~DeviceQueue() = default;
  // An async collective, behind all that has been executed. `number` names it.
  virtual Status start(uint64_t number, const Kernel &kernel, const Operands &operands) = 0;
  // What is executed from now on runs behind it.
  virtual Status join(uint64_t number) = 0;
  // Waits for everything.
  virtual Status finish() = 0;

  // What `body` executes, starts and joins, to be run again and again at the price of one call. Everything it waits for it
  // has started itself.
  class Recording {
  public:
    virtual ~Recording() = default;
  };
  virtual Expected<std::unique_ptr<Recording>> record(const std::function<Status()> &body) = 0;
  virtual Status replay(const Recording &recording) = 0;
};

class Device {
public:
  virtual ~Device() = default;
  // The signatures plans are verified against.
  virtual const KernelSignatures &signatures() const = 0;
  // With other ranks: together with them, the same size, memory of the communicator's.
  virtual Expected<std::unique_ptr<DeviceMemory>> allocate(uint64_t bytes) = 0;
  // Whether addresses in its memory are this process's own.
  virtual bool hostAddressable() const { return true; }
  // Between this process's memory and the device's, behind everything executed so far. `from` may change when it returns.
  virtual Status upload(std::byte *to, const std::byte *from, uint64_t bytes) = 0;
  virtual Status download(std::byte *to, const std::byte *from, uint64_t bytes) = 0;
  // Zeros in memory that has just been allocated; what is not asked for holds anything.
  virtual Status zero(std::byte *to, uint64_t bytes) = 0;
  // Takes the plan's own kernels, before any is prepared. The plan has been verified.
  virtual Status load(const plan::Plan &plan) = 0;
  // Prepares a kernel whose signature check has passed, and whose group of ranks (a collective's) is one of the mesh.
  virtual Expected<std::unique_ptr<Kernel>> prepare(const InstructionSpec &spec) = 0;
  // Runs it, or puts it into the queue of a device that has one.
  virtual Status execute(const Kernel &kernel, const Operands &operands) = 0;
  // Runs `count` of them, of which none is a collective. What does not wait for each other may run at the same time. An
  // error is of `work[failed]`; what waits for that has not been begun then, and some of what does not has been done.
  virtual Status executeAll(const Work *work, uint64_t count, uint64_t &failed) {
    for (failed = 0; failed < count; ++failed)
      if (work[failed].kernel)
        if (Status status = execute(*work[failed].kernel, work[failed].operands); !status.ok())
          return status;
    return Status();
  }
  // A kernel that does both, with the first one's operands; null: there is none that is better than one after the other. The
  // second has the first's result, `resultElements`, as an operand, and may put another in its place; beside that neither
  // writes what the other touches. Both, and the second's operands, stay.
  virtual std::unique_ptr<Kernel> pair(const Work & /*first*/, const Work & /*second*/, uint64_t /*resultElements*/) {
    return nullptr;
  }
  // Null: what is executed has been done. Where there is one, `communicate` is not called.
  virtual DeviceQueue *queue() { return nullptr; }
  // A collective that may be async, from one other thread, beside an execute: it shares nothing with that.
  virtual Status communicate(const Kernel &kernel, const Operands &operands) = 0;
  virtual unsigned threads() const = 0;
  virtual const char *isa() const = 0;
  virtual uint64_t scratchBytes() const = 0; // of this process, held outside any DeviceMemory, code included
  virtual std::vector<DeviceRemainder> remainder() const { return {}; } // measured, of a device with memory of its own
  // Measured now, outside any step: it takes time and memory.
  virtual Expected<DeviceLimits> measureLimits() = 0;
};

// The device for Plan.target.
Expected<std::unique_ptr<Device>> createDevice(const std::string &target, const DeviceOptions &options);

} // namespace amc::rt

#endif
