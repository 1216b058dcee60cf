// Executes a verified plan on this machine.
//
// An executor owns the arena (one allocation of Plan.arena_bytes), the kernels prepared for every
// instruction, and the threads. `create` verifies the plan; there is no way around it. Constants are loaded by
// `create`, parameters by the caller through `parameter(i)`; optimizer states and accumulators start as zeros.
// Before every runMicroBatch or runForward the caller writes the inputs it needs; the learning rate and the step
// number may be written at any time before runUpdate. Nothing is allocated during a run. Not thread-safe: one caller.
//
// With other ranks every rank has an executor of the same plan and runs the same parts of it at the same time. The arena
// is the communicator's; what other ranks do wrong or fail in ends a run with their collective's error.
//
// Async collectives run on a thread of their own (Channel.h), which a plan without any does not have; all others here,
// when those before them have ended, so that the communicator sees the plan's order. A failure of one comes out of its
// wait, or of the next collective. When a run returns, that thread is idle.
//
// On a device without a queue instructions that touch none of the same bytes, but to read them, may run at the same time: one
// begins when those before it are done that it has to wait for, and all but the nearest workWindow - 1. Where every one is
// looked at (a hook, a profile), and around collectives, they run one after the other.
//
// A device with a queue (Device.h) gets a section, or what lies between two calls of the hook, at once, from its second run
// on as a recording, and is waited for at its end; with a profile, after each instruction.
#ifndef AMC_RUNTIME_EXECUTOR_EXECUTOR_H
#define AMC_RUNTIME_EXECUTOR_EXECUTOR_H

#include "runtime/collective/Communicator.h"
#include "runtime/device/Device.h"
#include "runtime/executor/Timeline.h"
#include "runtime/plan/PlanRanks.h"
#include "runtime/plan/plan.pb.h"
#include "runtime/support/Status.h"
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace amc::rt {

struct ExecutorOptions {
  unsigned threads = 0;    // 0: AMC_NUM_THREADS, else the processors this process may use
  bool hugePages = true;   // advise transparent huge pages for the arena, where that is not the communicator's
  Communicator *communicator = nullptr; // joins the ranks of the plan's mesh; outlives the executor. Null: one rank
};

// A tensor in the arena. Row-major, contiguous.
struct Tensor {
  // Null: the tensor is absent (the gradient of a frozen parameter). On a device with memory of its own it is an address
  // there: Executor::read and TensorBytes are for those who do not know.
  void *data = nullptr;
  uint64_t bytes = 0;
  uint64_t elements = 0;
  plan::DType dtype = plan::DTYPE_UNSPECIFIED;
  const plan::View *view = nullptr;
};

// A tensor's bytes in this process: its own where the device's memory is this process's, else a copy.
class TensorBytes {
public:
  std::byte *data() const { return at; }
  // Puts them in their place.
  Status store();

  TensorBytes(TensorBytes &&) = default; // a vector's bytes stay where they are
  TensorBytes &operator=(TensorBytes &&) = default;

private:
  friend class Executor;
  TensorBytes(Device &device, const Tensor &tensor);
  Device *device;
  std::byte *place, *at;
  std::vector<std::byte> copy; // empty where `at` is the place
};

// Where the first non-finite number is.
struct NonFinite {
  std::string tensor;                  // the buffer's name, a parameter's or an input's name
  std::string kernel;                  // empty: a parameter or input held it before the step
  std::string location;                // ONNX node of the instruction
  std::optional<uint64_t> instruction; // absent: before the step
  uint64_t element = 0;                // row-major index in the tensor
  double value = 0;
  plan::Phase phase = plan::PHASE_UNSPECIFIED;
  std::string describe() const;        // one line for people
};

struct InstructionTime {
  double seconds = 0;
  uint64_t runs = 0;
};

class Executor {
public:
  static Expected<Executor> create(plan::Plan plan, const ExecutorOptions &options = {});
  Executor(Executor &&) noexcept;
  Executor &operator=(Executor &&) noexcept;
  ~Executor();

  const plan::Plan &plan() const;
  unsigned threads() const;
  const char *isa() const;        // "x86-64-v3" or "x86-64-v4"
  uint64_t arenaBytes() const;    // bytes mapped for the arena; Plan.arena_bytes rounded up to whole pages
  uint64_t scratchBytes() const;  // what kernels and threads hold outside the arena, as far as the runtime knows

  // Indices are those of Plan.parameters, .inputs and .outputs.
  Tensor parameter(size_t index) const;
  Tensor gradient(size_t index) const;
  Tensor state(size_t index, size_t state) const;
  Tensor input(size_t index) const;
  Tensor output(size_t index) const;
  Tensor view(const plan::View &view) const; // of this plan

  // Puts bytes into it, which may change when this returns.
  Status write(const Tensor &tensor, const std::byte *bytes);
  Status readInto(const Tensor &tensor, std::byte *bytes) const;
  // What a tensor holds now.
  Expected<TensorBytes> read(const Tensor &tensor) const;
  // For one that is about to be filled and stored as a whole.
  TensorBytes blank(const Tensor &tensor) const;
  // Whether tensors' addresses are this process's own.
  bool hostAddressable() const;

  Status runForward();    // instructions [0, forward_end)
  Status runMicroBatch(); // instructions [0, micro_batch_end)
  Status runUpdate();     // instructions [micro_batch_end, end)

  // The collectives that have been run since `restartCollectives` or, if that was never called, since the beginning. Of a
  // step of n micro-batches they are collectiveFacts(plan(), n), on all ranks alike.
  CollectiveFacts collectivesRun() const;
  void restartCollectives();

  // Called after each of the instructions `after`, ascending, or after every one if there are none, with its index; an
  // error stops the run. Empty: nobody is.
  using Hook = std::function<Status(uint64_t instruction)>;
  void setHook(Hook hook, std::vector<uint64_t> after = {});

  // What every instruction took while that was asked for, for which they run one after the other; empty if it never was.
  // Of an async collective it is what the other thread took; what this one waited for it is its wait's. Switched between
  // runs, never within one. `timeline` also gets each run of an instruction; it outlives its use here, null: nobody.
  void enableProfile(bool on, Timeline *timeline = nullptr);
  const std::vector<InstructionTime> &profile() const;
  // What of it is being kept: null while nothing is.
  Timeline *timeline() const;

  // How many instructions run as parts of the product before them, while nothing makes them run one after the other.
  uint64_t paired() const;

  // What the device can do at most, measured now.
  Expected<DeviceLimits> measureLimits();

  // What the device's driver and libraries hold of its memory beside the arena; empty where that is this process's.
  std::vector<DeviceRemainder> remainder() const;

  // Looks for the first NaN or infinity: in parameters and inputs, then after each instruction of a fresh run of
  // [0, micro_batch_end). Runs the instructions twice at most; `feed` is called before each run and puts the inputs in
  // place, whose bytes a run gives to others once they have been read. Minus infinity is what masks are made of and is
  // reported only if there is nothing else. Nothing found: an empty optional. With other ranks, all call it; one that
  // has found something stops there, so it has to tell the others (Communicator::abort).
  Expected<std::optional<NonFinite>> findNonFinite(const std::function<void()> &feed = {});

private:
  struct Impl;
  explicit Executor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace amc::rt

#endif
