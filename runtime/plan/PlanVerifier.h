// Independent check of a plan. It believes nothing: what passes here cannot make the runtime read or write a byte
// outside the arena, use a value that no instruction has written, or overwrite one that is still needed.
//
// Checked, all errors in one run:
//   structure  alignment, buffers inside the arena, lifetimes, views inside their buffers, ready and end indices
//   overlap    two buffers alive at the same instruction share no byte. One exception: when a buffer's last
//              instruction is another's first, they may share bytes if that very instruction's kernel may write
//              over that operand (checked under aliasing)
//   order      every range read was written before (or is a parameter, constant, input or persistent state)
//   aliasing   within an instruction outputs overlap nothing but operands that the kernel's signature lets them
//              replace, then exactly; workspaces overlap nothing
//   kernels    each is known and its signature check passes (KernelSignatures, from the device)
//   code       the plan's own kernels have functions that lie in their image; what machine code does, nobody can see
//              (FusedKernels.h)
//   updates    nothing reads a parameter behind its update; an update reads the parameter's gradient, which nothing
//              has written since it was ready, and stands behind the micro-batches; no gradient is left unused
//              (PlanVerifierUpdates.cpp)
//   ranks      the mesh is one; collectives name groups of it and their size; splits of weights, states and gradients
//              fit each other and the whole weight, whose bytes the source has (PlanVerifierRanks.cpp)
//   phases     forward alone before forward_end, the optimizer alone behind micro_batch_end; async: PlanVerifierAsync.cpp
//   promise    arena, live maximum, its instruction and categories, saved bytes, FLOPs and collectives, recomputed
// Near-linear in instructions, views and buffers. Limits: at most `maxDiagnostics` errors are kept.
#ifndef AMC_RUNTIME_PLAN_PLANVERIFIER_H
#define AMC_RUNTIME_PLAN_PLANVERIFIER_H

#include "runtime/plan/plan.pb.h"
#include "runtime/support/Status.h"
#include <string>
#include <vector>

namespace amc::rt {

// What the verifier asks about kernels.
class KernelSignatures {
public:
  virtual ~KernelSignatures() = default;
  // Is the kernel known, and are operands, results, workspaces and attributes what it takes?
  virtual Status check(const plan::Instruction &instruction) const = 0;
  // May result `output` stand in exactly the bytes of operand `input`?
  virtual bool mayAlias(const plan::Instruction &instruction, int output, int input) const = 0;
  // Does the kernel update operand `input` in place, so that result `output` has to be the same view?
  virtual bool mustAlias(const plan::Instruction &instruction, int output, int input) const = 0;
};

struct PlanDiagnostics {
  static constexpr size_t maxDiagnostics = 100;
  std::vector<std::string> errors;
  size_t suppressed = 0;
  bool ok() const { return errors.empty(); }
  // One error that holds them all, a line each.
  Status toStatus() const;
};

// With the signatures of the device that will run the plan.
PlanDiagnostics verifyPlan(const plan::Plan &plan, const KernelSignatures &signatures);
// Everything but kernels' signatures; an output may then replace any operand exactly. For the compiler, which has no
// device at hand. The runtime never calls it.
PlanDiagnostics verifyPlanStructure(const plan::Plan &plan);

// Live bytes where their sum is largest (the first such instruction), in all and by category.
struct LivePeak {
  uint64_t bytes = 0;
  uint64_t instruction = 0;
  uint64_t byCategory[8] = {};
};
LivePeak findLivePeak(const plan::Plan &plan);

// Bytes of the buffers that a forward instruction writes and one of another phase reads before anything writes them again.
uint64_t savedBytes(const plan::Plan &plan);

} // namespace amc::rt

#endif
