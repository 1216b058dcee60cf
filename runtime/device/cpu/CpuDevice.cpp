// The CPU as a device: its memory, kernels and threads.
#include "runtime/collective/SelfGroup.h"
#include "runtime/device/Device.h"
#include "runtime/device/cpu/Code.h"
#include "runtime/device/cpu/CpuDevice.h"
#include "runtime/device/cpu/Epilogue.h"
#include "runtime/device/cpu/Gemm.h"
#include "runtime/device/cpu/Hot.h"
#include "runtime/device/cpu/Limits.h"
#include "runtime/device/cpu/Pages.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/FusedKernels.h"
#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <unistd.h>

namespace amc::rt {
namespace {

class MappedMemory final : public DeviceMemory {
public:
  cpu::Pages pages;
};

// The communicator's, which keeps it.
class SharedMemory final : public DeviceMemory {};

static_assert(ThreadPool::taskWindow == workWindow);

class CpuDevice final : public Device {
public:
  explicit CpuDevice(const DeviceOptions &options) : options(options) {}

  Status start() {
    if (const char *error = cpu::hotError())
      return limitError(error);
    Expected<std::unique_ptr<ThreadPool>> made = ThreadPool::create(options.threads);
    if (!made.ok())
      return made.status();
    pool = std::move(*made);
    pool->showProgressTo(options.communicator);
    Expected<std::unique_ptr<ThreadPool>> alone = ThreadPool::create(1);
    if (!alone.ok())
      return alone.status();
    nobody = std::move(*alone);
    Expected<uint64_t> gemmBytes = cpu::prepareGemm(*pool);
    if (!gemmBytes.ok())
      return gemmBytes.status();
    scratch = *gemmBytes;
    return Status();
  }

  const KernelSignatures &signatures() const override { return registry; }

  Expected<std::unique_ptr<DeviceMemory>> allocate(uint64_t wanted) override {
    uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    uint64_t bytes = std::max((wanted + page - 1) / page * page, page);
    if (bytes < wanted)
      return limitError("the plan's arena of ", wanted, " bytes is beyond every address space");
    if (options.communicator) {
      Expected<std::byte *> base = options.communicator->allocate(bytes);
      if (!base.ok())
        return base.status();
      auto shared = std::make_unique<SharedMemory>();
      shared->base = *base;
      shared->bytes = bytes;
      return std::unique_ptr<DeviceMemory>(std::move(shared));
    }
    auto memory = std::make_unique<MappedMemory>();
    if (Status status = memory->pages.map(bytes, "the plan's arena"); !status.ok())
      return status;
    memory->base = memory->pages.base;
    memory->bytes = bytes;
    if (options.hugePages)
      memory->pages.adviseHuge();
    return std::unique_ptr<DeviceMemory>(std::move(memory));
  }

  Status upload(std::byte *to, const std::byte *from, uint64_t bytes) override {
    std::memcpy(to, from, bytes);
    return Status();
  }
  Status download(std::byte *to, const std::byte *from, uint64_t bytes) override { return upload(to, from, bytes); }

  Status zero(std::byte *, uint64_t) override { return Status(); } // as pages come

  Status load(const plan::Plan &plan) override {
    Expected<std::unique_ptr<cpu::Code>> made = cpu::Code::load(plan, isa());
    if (!made.ok())
      return made.status();
    code = std::move(*made);
    return Status();
  }

  Expected<std::unique_ptr<Kernel>> prepare(const InstructionSpec &spec) override {
    if (spec.kernel == fusedKernel)
      return code->prepare(spec);
    const cpu::KernelEntry *entry = registry.find(spec.kernel);
    if (!entry)
      return inputError("kernel '", spec.kernel, "' is not one of this device's");
    auto isDouble = [](const TensorSpec &tensor) { return tensor.dtype == plan::F64; };
    if (entry->multiplies && !multipliesDoubles && std::any_of(spec.inputs.begin(), spec.inputs.end(), isDouble)) {
      Expected<uint64_t> bytes = cpu::prepareGemm64(*pool);
      if (!bytes.ok())
        return bytes.status();
      scratch += *bytes;
      multipliesDoubles = true;
    }
    if (!entry->createInGroup || (entry->create && !spec.find("group")))
      return entry->create(spec);
    Expected<Group *> group = groupOf(spec.string("group"));
    if (!group.ok())
      return group.status();
    return entry->createInGroup(spec, **group);
  }

  Status execute(const Kernel &kernel, const Operands &operands) override {
    Status status = execute(kernel, operands, failures[0]);
    cpu::clearGemmFailure();
    return status;
  }

  Status executeAll(const Work *work, uint64_t count, uint64_t &failed) override {
    std::mutex mutex;
    Status first;
    pool->runTasks(count, [&](uint64_t i) { return work[i].behind; }, [&](uint64_t i) {
      if (!work[i].kernel)
        return true;
      Status status;
      try {
        status = execute(*work[i].kernel, work[i].operands, failures[i % workWindow]);
      } catch (const std::bad_alloc &) { // of an error's text
        status = Status::outOfMemory();
      }
      if (status.ok())
        return true;
      std::lock_guard lock(mutex);
      if (first.ok() || i < failed) {
        first = std::move(status);
        failed = i;
      }
      return false;
    });
    cpu::clearGemmFailure();
    return first;
  }

  std::unique_ptr<Kernel> pair(const Work &first, const Work &second, uint64_t resultElements) override {
    return cpu::withEpilogue(first, second, static_cast<int64_t>(resultElements), threads());
  }

  Status communicate(const Kernel &kernel, const Operands &operands) override {
    cpu::RunContext context{*nobody, communicationFailure};
    static_cast<const cpu::Kernel &>(kernel).run(operands, context);
    return communicationFailure.any() ? communicationFailure.take() : Status();
  }

  unsigned threads() const override { return pool->threads(); }
  const char *isa() const override { return cpu::hot().isa; }
  uint64_t scratchBytes() const override { return scratch + (code ? code->bytes() : 0); }
  Expected<DeviceLimits> measureLimits() override { return cpu::measureLimits(*pool); }

private:
  // A product that found no memory fails every instruction until that is cleared, so the one that it was for and those beside it.
  Status execute(const Kernel &kernel, const Operands &operands, RunFailure &failure) {
    cpu::RunContext context{*pool, failure};
    static_cast<const cpu::Kernel &>(kernel).run(operands, context);
    if (Status status = cpu::gemmFailure(); !status.ok())
      return status;
    return failure.any() ? failure.take() : Status();
  }

  Expected<Group *> groupOf(const std::string &name) {
    if (!options.communicator)
      return &alone;
    std::optional<Axes> axes = groupAxes(name, options.mesh);
    if (!axes)
      return inputError("'", name, "' is no group of the mesh's ranks");
    std::vector<unsigned> ranks;
    for (uint64_t rank : groupMembers(options.mesh, *axes, options.communicator->rank()))
      ranks.push_back(static_cast<unsigned>(rank));
    return options.communicator->group(ranks);
  }

  DeviceOptions options;
  SelfGroup alone;
  cpu::KernelRegistry registry;
  std::unique_ptr<cpu::Code> code;
  std::unique_ptr<ThreadPool> pool, nobody; // the latter has no workers, for the thread that communicates
  RunFailure failures[workWindow], communicationFailure; // of what runs at the same time
  uint64_t scratch = 0;
  bool multipliesDoubles = false;
};

} // namespace

Expected<std::unique_ptr<Device>> createCpuDevice(const DeviceOptions &options) {
  auto device = std::make_unique<CpuDevice>(options);
  if (Status status = device->start(); !status.ok())
    return status;
  return std::unique_ptr<Device>(std::move(device));
}

} // namespace amc::rt
