// What a kernel is told (InstructionSpec) and what it is (Kernel).
//
// A kernel is prepared once per instruction: its signature is checked, then everything it needs is computed.
// Running it allocates nothing, and the work it is cut into depends on shapes alone, so that any number of threads
// gives the same bits.
#ifndef AMC_RUNTIME_DEVICE_KERNEL_H
#define AMC_RUNTIME_DEVICE_KERNEL_H

#include "runtime/plan/plan.pb.h"
#include "runtime/support/Status.h"
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace amc::rt {

inline constexpr size_t maxRank = 12;

struct TensorSpec {
  plan::DType dtype = plan::DTYPE_UNSPECIFIED; // unspecified: an optional operand that is absent
  std::vector<int64_t> shape;
  int64_t elements = 0;
  uint64_t bytes = 0;
  bool present() const { return dtype != plan::DTYPE_UNSPECIFIED; }
  size_t rank() const { return shape.size(); }
};

// An instruction without its places in memory.
class InstructionSpec {
public:
  static Expected<InstructionSpec> create(const plan::Instruction &instruction);

  std::string kernel, location; // the latter is for people
  std::vector<TensorSpec> inputs, outputs, workspaces;
  bool workspaceChecked = false; // by a device that needs other workspaces than the CPU's kernel of this name

  const plan::Attribute *find(std::string_view name) const;
  // Values of attributes that the kernel's signature check has found present and of this kind.
  int64_t integer(std::string_view name) const { return find(name)->i(); }
  int64_t integer(std::string_view name, int64_t absent) const {
    const plan::Attribute *attribute = find(name);
    return attribute ? attribute->i() : absent;
  }
  double real(std::string_view name) const { return find(name)->f(); }
  const std::string &string(std::string_view name) const { return find(name)->s(); }
  std::vector<int64_t> ints(std::string_view name) const {
    const auto &values = find(name)->ints().value();
    return {values.begin(), values.end()};
  }
  bool flag(std::string_view name) const { return integer(name, 0) != 0; }

  const google::protobuf::RepeatedPtrField<plan::Attribute> &attributes() const { return attributeList; }

private:
  google::protobuf::RepeatedPtrField<plan::Attribute> attributeList;
};

// Addresses of an instruction's tensors, null for absent ones.
struct Operands {
  std::byte *const *inputs;
  std::byte *const *outputs;
  std::byte *const *workspaces;
  template <class T> const T *in(size_t i) const { return reinterpret_cast<const T *>(inputs[i]); }
  template <class T> T *out(size_t i) const { return reinterpret_cast<T *>(outputs[i]); }
  template <class T> T *workspace() const { return reinterpret_cast<T *>(workspaces[0]); }
};

// What went wrong in an instruction: a value in the data that makes it undefined, or a collective's error. Threads may
// report values in any order; the one that stands first in its tensor is kept, so the message does not depend on timing.
class RunFailure {
public:
  // `what` is a literal such as "label"; valid values are [low, high).
  void report(const char *what, uint64_t element, int64_t value, int64_t low, int64_t high) {
    std::lock_guard lock(mutex);
    if (!failed || element < first) {
      failed = true;
      first = element;
      this->what = what;
      this->value = value;
      this->low = low;
      this->high = high;
    }
  }
  // From the thread that runs the kernel; an ok status is none.
  void report(Status &&status) {
    if (!status.ok() && this->status.ok())
      this->status = std::move(status);
  }
  bool any() const { return failed || !status.ok(); }
  Status take() {
    failed = false;
    if (!status.ok())
      return std::exchange(status, Status());
    return inputError(what, " ", value, " at element ", first, " should be in [", low, ", ", high, ")");
  }

private:
  std::mutex mutex;
  bool failed = false;
  const char *what = "";
  uint64_t first = 0;
  int64_t value = 0, low = 0, high = 0;
  Status status;
};

// What a device has prepared to run an instruction: each device's kernels are its own (cpu::Kernel, cuda::Kernel).
class Kernel {
public:
  virtual ~Kernel() = default;
};

} // namespace amc::rt

#endif
