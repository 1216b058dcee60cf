// What runs an instruction on a GPU, and what such kernels are made with.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNEL_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNEL_H

#include "runtime/device/Kernel.h"
#include "runtime/device/cuda/Context.h"

namespace amc::rt::cuda {

struct Grid {
  uint64_t x = 1, y = 1, z = 1; // blocks
};

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Where a kernel puts its work.
class Stream {
public:
  Stream(const Driver &driver, CUstream handle) : driver(driver), handle(handle) {}

  // The arguments have exactly the types of the function's parameters. An empty grid is no launch.
  template <class... Arguments>
  Status launch(CUfunction function, Grid grid, unsigned threads, unsigned sharedBytes, const Arguments &...arguments) {
    const void *pointers[sizeof...(arguments) + 1] = {static_cast<const void *>(&arguments)..., nullptr};
    return launchWith(function, grid, threads, sharedBytes, const_cast<void **>(pointers));
  }
  Status launchWith(CUfunction function, Grid grid, unsigned threads, unsigned sharedBytes, void **arguments);
  Status zero(std::byte *to, uint64_t bytes);
  Status copy(std::byte *to, const std::byte *from, uint64_t bytes); // within the device

  const Driver &driver;
  const CUstream handle;
};

class Kernel : public rt::Kernel {
public:
  // Puts it into the stream. What `operands` points to may change when this returns; the addresses in it do not for as
  // long as a recording may be replayed.
  virtual Status enqueue(const Operands &operands, Stream &stream) const = 0;
};

// A kernel from a callable of (const Operands &, Stream &) that returns a Status.
template <class Body> std::unique_ptr<Kernel> makeKernel(Body body) {
  struct Made final : Kernel {
    explicit Made(Body body) : body(std::move(body)) {}
    Status enqueue(const Operands &operands, Stream &stream) const override { return body(operands, stream); }
    Body body;
  };
  return std::make_unique<Made>(std::move(body));
}

// Where a kernel says that a value in the data makes it undefined (kernels/Failure.cuh has the other side). Of several, the
// one that stands first in its tensor is kept. A kernel goes on with something harmless in the value's place.
struct FailureSlot {
  std::string where; // kernel and location of the instruction
  const char *what;  // "label"
  int64_t low, high; // valid values are [low, high)
};

class Failures {
public:
  static constexpr size_t maxSlots = 4096;
  // The address that a kernel is given for values of this kind.
  Expected<uint64_t *> add(FailureSlot slot);
  // Of the slots as they were read back.
  Status of(const uint64_t *values) const;
  size_t count() const { return slots.size(); }

  static constexpr uint64_t none = ~uint64_t(0);
  uint64_t *base = nullptr; // on the device

private:
  std::vector<FailureSlot> slots;
};

class Blas;
class Nccl;

// What kernels are made with.
struct Maker {
  Context &context;
  Failures &failures;
  Blas &blas;
  Nccl *nccl; // null: one rank

  Expected<uint64_t *> failure(const InstructionSpec &spec, const char *what, int64_t low, int64_t high) {
    return failures.add({spec.location.empty() ? spec.kernel : spec.kernel + ", " + spec.location, what, low, high});
  }
};

// Either a value or the return of the function around it.
#define AMC_CUDA_TRY(name, expression)                                                                                 \
  auto name##Expected = (expression);                                                                                  \
  if (!name##Expected.ok())                                                                                            \
    return name##Expected.status();                                                                                    \
  auto name = std::move(*name##Expected)

} // namespace amc::rt::cuda

#endif
