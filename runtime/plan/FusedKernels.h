// Kernels that were generated for a plan: what its instructions with the kernel "fused" are checked against.
#ifndef AMC_RUNTIME_PLAN_FUSEDKERNELS_H
#define AMC_RUNTIME_PLAN_FUSEDKERNELS_H

#include "runtime/plan/PlanVerifier.h"
#include <functional>
#include <optional>
#include <string>

namespace amc::rt {

inline constexpr const char *fusedKernel = "fused";
// Inputs, outputs and workspace of one kernel.
inline constexpr int maxFusedOperands = 64;
// On a CPU: a function whose items are elements, not rows, is called on multiples of so many, but for the last: it works on
// whole vectors of them.
inline constexpr int64_t fusedElementStep = 16;
// On a GPU: what addresses of a fused kernel's operands are multiples of, so that it may read as many bytes at once; the
// level of code that any of its drivers compiles; limits of a launch.
inline constexpr uint64_t gpuAlignment = 16;
inline constexpr const char *ptxLevel = "ptx";
inline constexpr uint64_t mostThreads = 1024, mostBlocks = (uint64_t(1) << 31) - 1;

// "sm_90" of the target "cuda:sm_90"; nothing for other devices'.
std::optional<std::string> architectureOf(const std::string &target);

// The kernel that an instruction runs; null if it is none of the plan's, or if it is another kind of instruction.
const plan::FusedKernel *fusedKernelOf(const plan::Plan &plan, const plan::Instruction &instruction);

// What people call an instruction's kernel: of a fused one, the operations in it.
std::string kernelTitle(const plan::Plan &plan, const plan::Instruction &instruction);

// What Plan.code_hash should be: of every field of fused_kernels and code, in order. Empty if there are none.
std::string codeHash(const plan::Plan &plan);

// Tables of kernels and their code: that it is the target's, that functions are there and lie in their image, that they can
// be launched, and that all of it is as it was compiled. What the code does cannot be seen.
void checkCode(const plan::Plan &plan, const std::function<void(const std::string &)> &error);

// The device's kernels and the plan's own.
class PlanSignatures final : public KernelSignatures {
public:
  PlanSignatures(const plan::Plan &plan, const KernelSignatures &device) : plan(plan), device(device) {}
  Status check(const plan::Instruction &instruction) const override;
  bool mayAlias(const plan::Instruction &instruction, int output, int input) const override;
  bool mustAlias(const plan::Instruction &instruction, int output, int input) const override;

private:
  const plan::Plan &plan;
  const KernelSignatures &device;
};

} // namespace amc::rt

#endif
