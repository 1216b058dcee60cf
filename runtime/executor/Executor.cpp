#include "runtime/executor/Executor.h"
#include "runtime/device/Device.h"
#include "runtime/executor/Channel.h"
#include "runtime/executor/WorkOrder.h"
#include "runtime/plan/PlanVerifier.h"
#include "runtime/plan/Ranges.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <new>
#include <stdexcept>

namespace amc::rt {
namespace {

// An instruction, ready to run: addresses lie in Impl::addresses.
struct Step {
  std::unique_ptr<Kernel> kernel;
  size_t inputs, outputs, workspaces;
  std::string collective; // as CollectiveTrace has it; empty: it is none
  uint64_t bytesSent = 0;
  bool async = false;
  bool alone = false; // talks to other ranks: where it stands in the order matters
  uint64_t waitsFor = notWaiting; // of a wait: the instruction that has started it
  static constexpr uint64_t notWaiting = ~uint64_t(0);
};

std::string describeInstruction(const plan::Plan &plan, uint64_t index) {
  const plan::Instruction &instruction = plan.instructions(static_cast<int>(index));
  std::string out = text("instructions[", index, "] (", instruction.kernel());
  if (!instruction.location().empty())
    out += ", " + instruction.location();
  return out + ")";
}

// The first element that is neither finite nor, unless asked for, minus infinity.
bool findIn(const Tensor &tensor, const void *data, bool minusInfinity, uint64_t &element, double &value) {
  for (uint64_t i = 0; i < tensor.elements; ++i) {
    double x;
    switch (tensor.dtype) {
    case plan::F32: x = static_cast<const float *>(data)[i]; break;
    case plan::F64: x = static_cast<const double *>(data)[i]; break;
    case plan::BF16: {
      uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(data)[i]) << 16;
      float wide;
      std::memcpy(&wide, &bits, sizeof wide);
      x = wide;
      break;
    }
    case plan::F16: {
      uint16_t bits = static_cast<const uint16_t *>(data)[i];
      if ((bits & 0x7c00) != 0x7c00)
        continue;
      x = bits & 0x3ff ? std::nan("") : bits & 0x8000 ? -HUGE_VAL : HUGE_VAL;
      break;
    }
    default: return false;
    }
    if (std::isfinite(x) || (!minusInfinity && x == -HUGE_VAL))
      continue;
    element = i;
    value = x;
    return true;
  }
  return false;
}

// Is this run of as many ranks as the plan is made for?
Status checkRanks(const plan::Plan &plan, const Communicator *communicator) {
  MeshShape mesh = meshOf(plan);
  uint64_t wanted = mesh.ranks(), there = communicator ? communicator->size() : 1;
  if (wanted == there)
    return Status();
  std::string verb = there == 1 ? text("there is 1") : text("there are ", there);
  if (wanted == 1)
    return inputError("the plan is for 1 rank and ", verb, "; start it without mpirun, or compile it for ", there,
                      " (--dp-size ", there, ")");
  return inputError("the plan is for ", describeMesh(mesh), " and ", verb, "; start it with --nproc-per-node ", wanted,
                    " or mpirun -n ", wanted);
}

} // namespace

struct Executor::Impl {
  plan::Plan plan;
  Communicator *communicator = nullptr;
  CollectiveTrace trace;
  std::unique_ptr<Device> device;
  DeviceQueue *queue = nullptr; // the device's, if it has one
  std::unique_ptr<DeviceMemory> arena;
  std::vector<Step> steps;
  std::vector<std::byte *> addresses;
  std::unique_ptr<WorkOrder> order; // of a device without a queue
  Hook hook;
  std::vector<uint64_t> hookAfter; // empty: everything
  bool profiled = false;
  std::vector<InstructionTime> times; // of each; empty until they are asked for
  Timeline *timeline = nullptr;
  std::vector<uint32_t> numbers;    // by instruction: what `channel` said when it was started
  struct Section {
    bool ran = false;
    std::unique_ptr<DeviceQueue::Recording> recording;
  };
  std::map<std::pair<uint64_t, uint64_t>, Section> sections; // that have been put into the queue, by their instructions
  std::unique_ptr<Channel> channel; // if there is anything async; destroyed first, its thread uses the rest

  Tensor bind(const plan::View &view) const {
    Tensor tensor;
    tensor.view = &view;
    tensor.dtype = view.dtype();
    if (view.dtype() == plan::DTYPE_UNSPECIFIED)
      return tensor;
    tensor.bytes = *viewBytes(view);
    tensor.elements = tensor.bytes / dtypeBytes(view.dtype());
    tensor.data = arena->base + plan.buffers(static_cast<int>(view.buffer())).offset() + view.byte_offset();
    return tensor;
  }

  size_t bindAll(const google::protobuf::RepeatedPtrField<plan::View> &views) {
    size_t first = addresses.size();
    for (const plan::View &view : views)
      addresses.push_back(static_cast<std::byte *>(bind(view).data));
    return first;
  }

  Status prepare() {
    uint64_t asyncs = 0;
    std::map<uint64_t, uint64_t> startedAt; // by buffer: the last instruction that has been started to write it
    for (int i = 0; i < plan.instructions_size(); ++i) {
      const plan::Instruction &instruction = plan.instructions(i);
      Expected<InstructionSpec> spec = InstructionSpec::create(instruction);
      if (!spec.ok())
        return std::move(spec).status().withContext(describeInstruction(plan, static_cast<uint64_t>(i)));
      Expected<std::unique_ptr<Kernel>> kernel = device->prepare(*spec);
      if (!kernel.ok())
        return std::move(kernel).status().withContext(describeInstruction(plan, static_cast<uint64_t>(i)));
      Step step{std::move(*kernel), 0, 0, 0, CollectiveTrace::lineOf(instruction), bytesSent(instruction)};
      step.async = isAsync(instruction);
      asyncs += step.async;
      if (step.async)
        startedAt[instruction.outputs(0).buffer()] = static_cast<uint64_t>(i);
      if (isWait(instruction))
        step.waitsFor = startedAt.at(instruction.inputs(0).buffer()); // verified
      step.alone = !step.collective.empty() || step.waitsFor != Step::notWaiting || spec->find("group");
      step.inputs = bindAll(instruction.inputs());
      step.outputs = bindAll(instruction.outputs());
      step.workspaces = bindAll(instruction.workspaces());
      steps.push_back(std::move(step));
    }
    for (const plan::Constant &constant : plan.constants()) {
      Status status = device->upload(static_cast<std::byte *>(bind(constant.view()).data),
                                     reinterpret_cast<const std::byte *>(constant.data().data()), constant.data().size());
      if (!status.ok())
        return status;
    }
    if (!queue)
      findOrder();
    numbers.resize(steps.size());
    if (asyncs == 0 || queue)
      return Status();
    Expected<std::unique_ptr<Channel>> made = Channel::create(asyncs, [this](uint64_t i) {
      return timed(i, [&] { return device->communicate(*steps[i].kernel, operandsOf(steps[i])); });
    });
    if (!made.ok())
      return made.status();
    channel = std::move(*made);
    return Status();
  }

  void findOrder() {
    std::vector<WorkOrder::Instruction> all;
    for (size_t i = 0; i < steps.size(); ++i) {
      const plan::Instruction &instruction = plan.instructions(static_cast<int>(i));
      const uint32_t section = (i >= plan.forward_end()) + (i >= plan.micro_batch_end());
      WorkOrder::Instruction one{{steps[i].kernel.get(), operandsOf(steps[i]), 0}, {}, steps[i].alone, {}, 0, section};
      auto add = [&](const auto &views, std::vector<ByteRange> &ranges) {
        for (const plan::View &view : views)
          if (Tensor tensor = bind(view); tensor.data && tensor.bytes) {
            auto begin = static_cast<const std::byte *>(tensor.data);
            ranges.push_back({begin, begin + tensor.bytes});
          }
      };
      add(instruction.inputs(), one.touched.read);
      add(instruction.outputs(), one.touched.written);
      if (one.touched.written.size() == 1 && instruction.outputs_size() == 1) {
        one.result = one.touched.written[0];
        one.resultElements = bind(instruction.outputs(0)).elements;
      }
      add(instruction.workspaces(), one.touched.written);
      all.push_back(std::move(one));
    }
    order = std::make_unique<WorkOrder>(std::move(all), [this](const Work &first, const Work &second, uint64_t elements) {
      return device->pair(first, second, elements);
    });
  }

  Operands operandsOf(const Step &step) const {
    return {addresses.data() + step.inputs, addresses.data() + step.outputs, addresses.data() + step.workspaces};
  }

  // An instruction's seconds are those of the thread that runs it: of an async collective what it takes, of its wait what
  // the thread that computes has to wait.
  template <class Body> Status timed(uint64_t i, Body &&body) {
    auto start = Timeline::Clock::now();
    Status status = body();
    if (profiled) {
      auto end = Timeline::Clock::now();
      times[i].seconds += std::chrono::duration<double>(end - start).count();
      ++times[i].runs;
      if (timeline)
        timeline->add(steps[i].async ? Timeline::Lane::Communication : Timeline::Lane::Compute, Timeline::Kind::Instruction,
                      i, start, end);
    }
    return status.ok() ? Status() : std::move(status).withContext(describeInstruction(plan, i));
  }

  // Into the queue.
  Status put(uint64_t i) {
    const Step &step = steps[i];
    Status status = step.async                               ? queue->start(i, *step.kernel, operandsOf(step))
                    : step.waitsFor != Step::notWaiting ? queue->join(step.waitsFor)
                                                        : device->execute(*step.kernel, operandsOf(step));
    return status.ok() ? Status() : std::move(status).withContext(describeInstruction(plan, i));
  }

  Status putAll(uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i)
      if (Status status = put(i); !status.ok())
        return status;
    return Status();
  }

  bool hooked(uint64_t i) const {
    return hook && (hookAfter.empty() || std::binary_search(hookAfter.begin(), hookAfter.end(), i));
  }

  Status runQueued(uint64_t begin, uint64_t end) {
    Status status;
    for (uint64_t from = begin, to; from < end && status.ok(); from = to) {
      for (to = from + 1; to < end && !hooked(to - 1);)
        ++to;
      status = runAtOnce(from, to);
      if (status.ok() && hooked(to - 1))
        status = hook(to - 1);
    }
    return status;
  }

  // The first time as it is, so that everything that is made when it is first used is there, then recorded.
  Status runAtOnce(uint64_t begin, uint64_t end) {
    Section &section = sections[{begin, end}];
    if (section.ran && !section.recording) {
      Expected<std::unique_ptr<DeviceQueue::Recording>> made = queue->record([&] { return putAll(begin, end); });
      if (!made.ok())
        return made.status();
      section.recording = std::move(*made);
    }
    Status status = section.recording ? queue->replay(*section.recording) : putAll(begin, end);
    section.ran = true;
    if (Status ended = queue->finish(); status.ok())
      status = std::move(ended);
    for (uint64_t i = begin; i < end && status.ok(); ++i)
      if (!steps[i].collective.empty())
        trace.add(steps[i].collective, steps[i].bytesSent);
    return status;
  }

  Status runOne(uint64_t i) {
    const Step &step = steps[i];
    if (queue)
      return timed(i, [&] {
        Status status = put(i);
        return status.ok() ? queue->finish() : std::move(status);
      });
    if (!channel || (step.collective.empty() && step.waitsFor == Step::notWaiting))
      return timed(i, [&] { return device->execute(*step.kernel, operandsOf(step)); });
    if (step.async) {
      numbers[i] = channel->start(i);
      return Status();
    }
    if (step.waitsFor != Step::notWaiting) {
      Status joined; // says itself where it failed
      (void)timed(i, [&] {
        joined = channel->join(numbers[step.waitsFor]);
        return Status();
      });
      return joined;
    }
    // Behind all that has been started before it. It then runs here: it may use the threads that compute, and the two
    // threads take turns with the communicator.
    if (Status s = channel->settle(); !s.ok())
      return s;
    return timed(i, [&] { return device->execute(*step.kernel, operandsOf(step)); });
  }

  // Instructions from `begin` on that nothing comes between: neither other ranks, nor the hook, nor somebody who measures each.
  uint64_t endOfWork(uint64_t begin, uint64_t end) const {
    uint64_t i = begin;
    while (i < end && !steps[i].alone)
      if (hooked(i++))
        break;
    return i;
  }

  Status runWork(uint64_t begin, uint64_t end) {
    uint64_t failed = 0;
    Status status = device->executeAll(order->works() + begin, end - begin, failed);
    return status.ok() ? Status() : std::move(status).withContext(describeInstruction(plan, begin + failed));
  }

  // Calls after(i) for every instruction i or, where that does nothing until the hook, `together`, for the last of each piece
  // of work.
  template <class After> Status run(uint64_t begin, uint64_t end, bool together, After &&after) {
    Status status;
    for (uint64_t i = begin; i < end && status.ok(); ++i) {
      if (communicator)
        communicator->progress();
      if (uint64_t to = together ? endOfWork(i, end) : i; to > i + 1) {
        status = runWork(i, to);
        i = to - 1;
      } else {
        status = runOne(i);
      }
      if (status.ok() && !steps[i].collective.empty())
        trace.add(steps[i].collective, steps[i].bytesSent);
      if (status.ok())
        status = after(i);
    }
    // Whoever is told of a failure may call the communicator, and nobody else may be in it then. What has been started
    // ends: the others start it, too, or somebody has said why not. A section that ends well has nothing under way: the
    // verifier has seen to that.
    if (!status.ok() && channel)
      (void)channel->settle();
    return status;
  }

  Status run(uint64_t begin, uint64_t end) {
    if (queue && !profiled)
      return runQueued(begin, end);
    return run(begin, end, /*together=*/!profiled && !queue, [&](uint64_t i) { return hooked(i) ? hook(i) : Status(); });
  }

  Expected<bool> look(const plan::View &view, bool minusInfinity, NonFinite &found) const {
    Tensor tensor = bind(view);
    if (!isFloat(tensor.dtype))
      return false;
    Expected<TensorBytes> bytes = read(tensor);
    if (!bytes.ok())
      return bytes.status();
    return findIn(tensor, bytes->data(), minusInfinity, found.element, found.value);
  }

  using Found = Expected<std::optional<NonFinite>>;

  Found findBefore(bool minusInfinity) const {
    NonFinite found;
    auto lookAt = [&](const std::string &name, const plan::View &view) {
      found.tensor = name;
      return look(view, minusInfinity, found);
    };
    for (const plan::Parameter &parameter : plan.parameters())
      if (Expected<bool> is = lookAt(parameter.name(), parameter.view()); !is.ok() || *is)
        return is.ok() ? Found(std::optional(found)) : Found(is.status());
    for (const plan::Input &input : plan.inputs())
      if (input.role() == plan::DATA)
        if (Expected<bool> is = lookAt(input.name(), input.view()); !is.ok() || *is)
          return is.ok() ? Found(std::optional(found)) : Found(is.status());
    return std::optional<NonFinite>();
  }

  Found findAfter(uint64_t i, bool minusInfinity) const {
    if (steps[i].async)
      return std::optional<NonFinite>(); // its wait has it
    if (steps[i].waitsFor != Step::notWaiting)
      i = steps[i].waitsFor;
    const plan::Instruction &instruction = plan.instructions(static_cast<int>(i));
    for (const plan::View &view : instruction.outputs()) {
      NonFinite found;
      Expected<bool> is = look(view, minusInfinity, found);
      if (!is.ok())
        return is.status();
      if (!*is)
        continue;
      found.tensor = plan.buffers(static_cast<int>(view.buffer())).name();
      found.kernel = instruction.kernel();
      found.location = instruction.location();
      found.instruction = i;
      found.phase = instruction.phase();
      return std::optional(found);
    }
    return std::optional<NonFinite>();
  }

  Expected<TensorBytes> read(const Tensor &tensor) const {
    TensorBytes bytes(*device, tensor);
    if (bytes.data() != bytes.place)
      if (Status status = device->download(bytes.data(), bytes.place, tensor.bytes); !status.ok())
        return status;
    return bytes;
  }
};

std::string NonFinite::describe() const {
  const char *number = std::isnan(value) ? "NaN" : value > 0 ? "infinity" : "minus infinity";
  std::string out = text(number, " in tensor '", tensor, "', element ", element);
  if (!instruction)
    return out + ", before the step";
  out += text(", written by instruction ", *instruction, " (", kernel);
  if (!location.empty())
    out += ", " + location;
  return out + ")";
}

Executor::Executor(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
Executor::Executor(Executor &&) noexcept = default;
Executor &Executor::operator=(Executor &&) noexcept = default;
Executor::~Executor() = default;

Expected<Executor> Executor::create(plan::Plan plan, const ExecutorOptions &options) {
  try {
    auto impl = std::make_unique<Impl>();
    impl->plan = std::move(plan);
    impl->communicator = options.communicator;
    Expected<std::unique_ptr<Device>> device = createDevice(
        impl->plan.target(), {options.threads, options.hugePages, options.communicator, meshOf(impl->plan)});
    if (!device.ok())
      return device.status();
    impl->device = std::move(*device);
    impl->queue = impl->device->queue();
    if (Status status = verifyPlan(impl->plan, impl->device->signatures()).toStatus(); !status.ok())
      return status;
    if (Status status = checkRanks(impl->plan, options.communicator); !status.ok())
      return status;
    if (Status status = impl->device->load(impl->plan); !status.ok())
      return status;
    Expected<std::unique_ptr<DeviceMemory>> arena = impl->device->allocate(impl->plan.arena_bytes());
    if (!arena.ok())
      return arena.status();
    impl->arena = std::move(*arena);
    // Optimizer states and accumulators start as zeros. Nothing else is read before it has been written.
    for (const plan::Buffer &buffer : impl->plan.buffers())
      if (buffer.persistent())
        if (Status status = impl->device->zero(impl->arena->base + buffer.offset(), buffer.bytes()); !status.ok())
          return status;
    if (Status status = impl->prepare(); !status.ok())
      return status;
    return Executor(std::move(impl));
  } catch (const std::bad_alloc &) {
    return Status::outOfMemory();
  } catch (const std::length_error &) {
    return Status::outOfMemory();
  }
}

const plan::Plan &Executor::plan() const { return impl->plan; }
unsigned Executor::threads() const { return impl->device->threads(); }
const char *Executor::isa() const { return impl->device->isa(); }
uint64_t Executor::arenaBytes() const { return impl->arena->bytes; }
uint64_t Executor::scratchBytes() const { return impl->device->scratchBytes(); }

Tensor Executor::parameter(size_t index) const {
  return impl->bind(impl->plan.parameters(static_cast<int>(index)).view());
}
Tensor Executor::gradient(size_t index) const {
  return impl->bind(impl->plan.parameters(static_cast<int>(index)).gradient());
}
Tensor Executor::state(size_t index, size_t state) const {
  return impl->bind(impl->plan.parameters(static_cast<int>(index)).states(static_cast<int>(state)).view());
}
Tensor Executor::input(size_t index) const { return impl->bind(impl->plan.inputs(static_cast<int>(index)).view()); }
Tensor Executor::output(size_t index) const {
  return impl->bind(impl->plan.outputs(static_cast<int>(index)).view());
}
Tensor Executor::view(const plan::View &view) const { return impl->bind(view); }

TensorBytes::TensorBytes(Device &device, const Tensor &tensor) : device(&device), place(static_cast<std::byte *>(tensor.data)), at(place) {
  if (device.hostAddressable())
    return;
  copy.resize(tensor.bytes);
  at = copy.data();
}
Status TensorBytes::store() { return at == place ? Status() : device->upload(place, at, copy.size()); }
Expected<TensorBytes> Executor::read(const Tensor &tensor) const { return impl->read(tensor); }
Status Executor::write(const Tensor &tensor, const std::byte *bytes) {
  return impl->device->upload(static_cast<std::byte *>(tensor.data), bytes, tensor.bytes);
}
Status Executor::readInto(const Tensor &tensor, std::byte *bytes) const {
  return impl->device->download(bytes, static_cast<const std::byte *>(tensor.data), tensor.bytes);
}
TensorBytes Executor::blank(const Tensor &tensor) const { return TensorBytes(*impl->device, tensor); }
bool Executor::hostAddressable() const { return impl->device->hostAddressable(); }

Status Executor::runForward() { return impl->run(0, impl->plan.forward_end()); }
Status Executor::runMicroBatch() { return impl->run(0, impl->plan.micro_batch_end()); }
Status Executor::runUpdate() {
  return impl->run(impl->plan.micro_batch_end(), static_cast<uint64_t>(impl->plan.instructions_size()));
}

CollectiveFacts Executor::collectivesRun() const { return impl->trace.facts(); }
void Executor::restartCollectives() { impl->trace.restart(); }

void Executor::setHook(Hook hook, std::vector<uint64_t> after) {
  impl->hook = std::move(hook);
  impl->hookAfter = std::move(after);
  if (impl->order)
    impl->order->stopAt([&](uint64_t i) { return impl->hooked(i); });
}

void Executor::enableProfile(bool on, Timeline *timeline) {
  if (on)
    impl->times.resize(impl->steps.size());
  impl->profiled = on;
  impl->timeline = on ? timeline : nullptr;
}
const std::vector<InstructionTime> &Executor::profile() const { return impl->times; }
Timeline *Executor::timeline() const { return impl->timeline; }

uint64_t Executor::paired() const { return impl->order ? impl->order->paired() : 0; }

std::vector<DeviceRemainder> Executor::remainder() const { return impl->device->remainder(); }

Expected<DeviceLimits> Executor::measureLimits() { return impl->device->measureLimits(); }

Expected<std::optional<NonFinite>> Executor::findNonFinite(const std::function<void()> &feed) {
  // First without, then with minus infinity: that is what masks are made of.
  for (bool minusInfinity : {false, true}) {
    if (feed)
      feed();
    Expected<std::optional<NonFinite>> found = impl->findBefore(minusInfinity);
    if (!found.ok() || *found)
      return found;
    constexpr const char *stop = "found";
    Status status = impl->run(0, impl->plan.micro_batch_end(), /*together=*/false, [&](uint64_t i) {
      found = impl->findAfter(i, minusInfinity);
      if (!found.ok())
        return found.status();
      return *found ? inputError(stop) : Status();
    });
    if (!found.ok() || *found)
      return found;
    if (!status.ok())
      return status;
  }
  return std::optional<NonFinite>();
}

} // namespace amc::rt
