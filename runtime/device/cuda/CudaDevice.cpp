// A GPU as a device: its memory, kernels, streams and recordings.
#include "runtime/device/cuda/Blas.h"
#include "runtime/device/cuda/Code.h"
#include "runtime/device/cuda/Limits.h"
#include "runtime/device/cuda/Module.h"
#include "runtime/device/cuda/Nccl.h"
#include "runtime/device/cuda/Registry.h"
#include "runtime/plan/FusedKernels.h"
#include <charconv>
#include <cstdlib>
#include <unistd.h>

namespace amc::rt::cuda {
namespace {

class Graph final : public DeviceQueue::Recording {
public:
  explicit Graph(const Driver &driver) : driver(driver) {}
  ~Graph() override {
    if (executable)
      driver.cuGraphExecDestroy(executable);
  }
  const Driver &driver;
  CUgraphExec executable = nullptr;
};

class CudaDevice final : public Device, public DeviceQueue {
public:
  CudaDevice(const Driver &driver, std::string target, const DeviceOptions &options)
      : driver(driver), target(std::move(target)), options(options) {}

  Status start(int ordinal, int architecture) {
    AMC_CUDA_TRY(made, Context::create(driver, ordinal, architecture));
    context = std::move(made);
    blas = std::make_unique<Blas>(*context);
    AMC_CUDA_TRY(slots, context->allocate(Failures::maxSlots * sizeof(uint64_t), "the table of failures"));
    failureMemory = std::move(slots);
    failures.base = reinterpret_cast<uint64_t *>(failureMemory->base);
    Status status = driver.check(driver.cuMemsetD8Async(reinterpret_cast<CUdeviceptr>(failures.base), 0xff, failureMemory->bytes,
                                                        context->compute),
                                 "the table of failures");
    if (status.ok() && options.communicator) {
      AMC_CUDA_TRY(joined, Nccl::create(*context, *options.communicator, options.mesh));
      nccl = std::move(joined);
    }
    return status;
  }

  const KernelSignatures &signatures() const override { return registry; }

  Expected<std::unique_ptr<DeviceMemory>> allocate(uint64_t bytes) override {
    AMC_CUDA_TRY(memory, context->allocate(bytes, "the plan's arena"));
    return std::unique_ptr<DeviceMemory>(std::move(memory));
  }

  bool hostAddressable() const override { return false; }
  Status upload(std::byte *to, const std::byte *from, uint64_t bytes) override { return context->upload(to, from, bytes); }
  Status download(std::byte *to, const std::byte *from, uint64_t bytes) override {
    return context->download(to, from, bytes);
  }

  Status zero(std::byte *to, uint64_t bytes) override { return Stream(driver, context->compute).zero(to, bytes); }

  Status load(const plan::Plan &plan) override {
    AMC_CUDA_TRY(loaded, Code::load(plan, *context));
    code = std::move(loaded);
    return Status();
  }

  Expected<std::unique_ptr<rt::Kernel>> prepare(const InstructionSpec &spec) override {
    if (spec.kernel == fusedKernel)
      return std::unique_ptr<rt::Kernel>(code->prepare(spec));
    const KernelEntry *entry = registry.find(spec.kernel);
    if (!entry)
      return inputError("kernel '", spec.kernel, "' is not one of the CUDA device's");
    Maker maker{*context, failures, *blas, nccl.get()};
    AMC_CUDA_TRY(kernel, entry->create(spec, maker));
    return std::unique_ptr<rt::Kernel>(std::move(kernel));
  }

  Status execute(const rt::Kernel &kernel, const Operands &operands) override {
    Stream stream(driver, context->compute);
    return static_cast<const Kernel &>(kernel).enqueue(operands, stream);
  }
  Status communicate(const rt::Kernel &, const Operands &) override {
    return limitError("a device with a queue starts its collectives there");
  }
  unsigned threads() const override { return 1; }
  const char *isa() const override { return description.c_str(); }
  uint64_t scratchBytes() const override { return 0; }
  std::vector<DeviceRemainder> remainder() const override {
    std::vector<DeviceRemainder> parts = {{"driver's context, code and streams", context->contextBytes},
                                          {"table of failures", failureMemory->bytes}};
    if (blas->deviceBytes())
      parts.push_back({"cuBLASLt", blas->deviceBytes()});
    if (nccl)
      parts.push_back({"NCCL", nccl->deviceBytes()});
    return parts;
  }
  Expected<DeviceLimits> measureLimits() override { return cuda::measureLimits(*context, *blas); }

  // ---- the queue

  DeviceQueue *queue() override { return this; }

  Status start(uint64_t number, const rt::Kernel &kernel, const Operands &operands) override {
    AMC_CUDA_TRY(pair, eventsOf(number));
    if (Status status = order(pair->ready, context->compute, context->communication); !status.ok())
      return status;
    Stream stream(driver, context->communication);
    if (Status status = static_cast<const Kernel &>(kernel).enqueue(operands, stream); !status.ok())
      return status;
    if (Status status = driver.check(driver.cuEventRecord(pair->done, context->communication), "an event"); !status.ok())
      return status;
    pair->open = true;
    return Status();
  }

  // One that has been waited for as a whole is joined already.
  Status join(uint64_t number) override {
    auto found = started.find(number);
    if (found == started.end() || !found->second.open)
      return Status();
    found->second.open = false;
    return driver.check(driver.cuStreamWaitEvent(context->compute, found->second.done, 0), "waiting for a collective");
  }

  Status finish() override {
    if (Status status = joinAll(); !status.ok())
      return status;
    Status status = nccl ? nccl->wait(context->compute)
                         : driver.check(driver.cuStreamSynchronize(context->compute), "the GPU");
    if (!status.ok() || failures.count() == 0)
      return status;
    failureCopies.resize(failures.count());
    status = context->download(reinterpret_cast<std::byte *>(failureCopies.data()), failureMemory->base,
                               failures.count() * sizeof(uint64_t));
    return status.ok() ? failures.of(failureCopies.data()) : status;
  }

  Expected<std::unique_ptr<Recording>> record(const std::function<Status()> &body) override {
    auto graph = std::make_unique<Graph>(driver);
    if (Status status = driver.check(driver.cuStreamBeginCapture(context->compute, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                                     "recording a step");
        !status.ok())
      return status;
    Status status = body();
    if (status.ok())
      status = joinAll();
    CUgraph captured = nullptr;
    Status ended = driver.check(driver.cuStreamEndCapture(context->compute, &captured), "recording a step");
    if (status.ok())
      status = std::move(ended);
    if (status.ok())
      status = driver.check(driver.cuGraphInstantiate(&graph->executable, captured, 0), "recording a step");
    if (captured)
      driver.cuGraphDestroy(captured);
    if (!status.ok())
      return status;
    return std::unique_ptr<Recording>(std::move(graph));
  }

  Status replay(const Recording &recording) override {
    return driver.check(driver.cuGraphLaunch(static_cast<const Graph &>(recording).executable, context->compute), "a step");
  }

private:
  struct Events {
    CUevent ready = nullptr, done = nullptr; // the operands are; the collective is
    bool open = false;                       // started and not joined
  };

  Expected<Events *> eventsOf(uint64_t number) {
    Events &pair = started[number];
    for (CUevent *event : {&pair.ready, &pair.done})
      if (!*event) {
        AMC_CUDA_TRY(made, context->makeEvent());
        *event = made;
      }
    return &pair;
  }

  // What is put into `after` from now on runs behind what is in `before`.
  Status order(CUevent event, CUstream before, CUstream after) {
    Status status = driver.check(driver.cuEventRecord(event, before), "an event");
    return status.ok() ? driver.check(driver.cuStreamWaitEvent(after, event, 0), "an event") : status;
  }

  Status joinAll() {
    for (auto &[number, pair] : started)
      if (Status status = join(number); !status.ok())
        return status;
    return Status();
  }

  const Driver &driver;
  std::string target;
  DeviceOptions options;
  std::string description;
  KernelRegistry registry;
  // Destroyed from the last to the first: the context at the end.
  std::unique_ptr<Context> context;
  std::unique_ptr<Allocation> failureMemory;
  Failures failures;
  std::vector<uint64_t> failureCopies;
  std::unique_ptr<Blas> blas;
  std::unique_ptr<Nccl> nccl;
  std::unique_ptr<Code> code;
  std::map<uint64_t, Events> started; // by number

  friend Expected<std::unique_ptr<Device>> create(const std::string &, const DeviceOptions &);
};

// The GPU of this rank: the one of its number on its host.
Expected<int> ordinalOf(const DeviceOptions &options) {
  if (!options.communicator)
    return 0;
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  Expected<std::vector<std::string>> hosts = options.communicator->exchange(host);
  if (!hosts.ok())
    return hosts.status();
  int ordinal = 0;
  for (unsigned rank = 0; rank < options.communicator->rank(); ++rank)
    ordinal += (*hosts)[rank] == host;
  return ordinal;
}

Expected<std::unique_ptr<Device>> create(const std::string &target, const DeviceOptions &options) {
  constexpr std::string_view prefix = "cuda:sm_";
  int architecture = 0;
  std::string_view number = std::string_view(target).substr(std::min(prefix.size(), target.size()));
  auto parsed = std::from_chars(number.data(), number.data() + number.size(), architecture);
  if (!target.starts_with(prefix) || parsed.ec != std::errc() || parsed.ptr != number.data() + number.size())
    return inputError("the plan is for target '", target, "', which is no GPU this program knows; it knows 'cuda:sm_80' and the like");
  AMC_CUDA_TRY(driver, Driver::load());
  AMC_CUDA_TRY(ordinal, ordinalOf(options));
  auto device = std::make_unique<CudaDevice>(*driver, target, options);
  if (Status status = device->start(ordinal, architecture); !status.ok())
    return status;
  device->description = text(device->context->name, ", sm_", device->context->capability);
  return std::unique_ptr<Device>(std::move(device));
}

} // namespace
} // namespace amc::rt::cuda

extern "C" __attribute__((visibility("default"))) amc::rt::Expected<std::unique_ptr<amc::rt::Device>>
amrtCudaCreate(const std::string &target, const amc::rt::DeviceOptions &options) {
  return amc::rt::cuda::create(target, options);
}
