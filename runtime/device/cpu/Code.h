// Machine code of a plan's fused kernels, mapped, and the kernels that run it.
#ifndef AMC_RUNTIME_DEVICE_CPU_CODE_H
#define AMC_RUNTIME_DEVICE_CPU_CODE_H

#include "runtime/device/cpu/Kernel.h"
#include "runtime/device/cpu/Pages.h"
#include <memory>

namespace amc::rt::cpu {

class Code {
public:
  // The plan's code for the best level that `isa` ("x86-64-v3" or "x86-64-v4") runs. The plan has been verified. Empty if
  // it has no fused kernels; an input error if none of its levels runs here.
  static Expected<std::unique_ptr<Code>> load(const plan::Plan &plan, const std::string &isa);

  // The kernel of an instruction that has been verified. The code outlives it.
  std::unique_ptr<Kernel> prepare(const InstructionSpec &spec) const;
  uint64_t bytes() const { return image.bytes; }

private:
  using Function = void (*)(std::byte **operands, int64_t begin, int64_t end);
  struct Launch {
    Function function;
    int64_t extent, grain;
  };
  Code() = default;

  Pages image;
  std::vector<std::vector<Launch>> kernels;
  friend class FusedKernel;
};

} // namespace amc::rt::cpu

#endif
