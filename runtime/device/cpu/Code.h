// Machine code of a plan's fused kernels, mapped, and the kernels that run it.
#ifndef AMC_RUNTIME_DEVICE_CPU_CODE_H
#define AMC_RUNTIME_DEVICE_CPU_CODE_H

#include "runtime/device/cpu/Kernel.h"
#include "runtime/device/cpu/Pages.h"
#include <memory>
#include <vector>

namespace amc::rt::cpu {

// A generated kernel: functions one after the other, each over [0, extent) in pieces of `grain`, which may run at the same
// time.
class FusedKernel final : public Kernel {
public:
  using Function = void (*)(std::byte **operands, int64_t begin, int64_t end);
  struct Launch {
    Function function;
    int64_t extent, grain;
  };
  // The domain as plan::FusedKernel has it; 0: unknown.
  FusedKernel(std::vector<Launch> launches, int64_t rows, int64_t columns, const InstructionSpec &spec);
  void run(const Operands &operands, RunContext &context) const override;
  // Addresses in the order in which functions take them; `all` has room for maxFusedOperands.
  void gather(const Operands &operands, std::byte **all) const;

  const std::vector<Launch> launches;
  const int64_t rows, columns;

private:
  size_t inputs, outputs, workspaces;
};

class Code {
public:
  // The plan's code for the best level that `isa` ("x86-64-v3" or "x86-64-v4") runs. The plan has been verified. Empty if
  // it has no fused kernels; an input error if none of its levels runs here.
  static Expected<std::unique_ptr<Code>> load(const plan::Plan &plan, const std::string &isa);

  // The kernel of an instruction that has been verified. The code outlives it.
  std::unique_ptr<Kernel> prepare(const InstructionSpec &spec) const;
  uint64_t bytes() const { return image.bytes; }

private:
  Code() = default;

  Pages image;
  struct Generated {
    std::vector<FusedKernel::Launch> launches;
    int64_t rows, columns;
  };
  std::vector<Generated> kernels;
};

} // namespace amc::rt::cpu

#endif
