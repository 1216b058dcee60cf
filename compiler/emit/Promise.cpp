// The promise of a plan; the runtime's verifier computes it again with code of its own (the sequence of collectives
// excepted, which is stated in one place).
#include "compiler/emit/EmitPlan.h"
#include "runtime/plan/PlanRanks.h"
#include <algorithm>
#include <vector>

namespace amc {
namespace {

// Bytes of buffers that a forward instruction writes and one of another phase reads before they are
// written again.
uint64_t savedBytes(const plan::Plan &plan) {
  std::vector<bool> forward(plan.buffers_size(), false), saved(plan.buffers_size(), false);
  for (const plan::Instruction &instruction : plan.instructions()) {
    bool isForward = instruction.phase() == plan::FORWARD;
    if (!isForward)
      for (const plan::View &view : instruction.inputs())
        if (view.dtype() != plan::DTYPE_UNSPECIFIED && forward[view.buffer()])
          saved[view.buffer()] = true;
    for (const plan::View &view : instruction.outputs())
      if (view.dtype() != plan::DTYPE_UNSPECIFIED)
        forward[view.buffer()] = isForward;
  }
  uint64_t bytes = 0;
  for (int i = 0; i < plan.buffers_size(); ++i)
    bytes += saved[i] ? plan.buffers(i).bytes() : 0;
  return bytes;
}

void addFlops(const plan::Plan &plan, plan::Promise &promise) {
  uint64_t flops[plan::Phase_ARRAYSIZE] = {};
  for (const plan::Instruction &instruction : plan.instructions()) {
    flops[instruction.phase()] += instruction.flops() - instruction.recompute_flops();
    flops[plan::RECOMPUTE] += instruction.recompute_flops();
  }
  promise.set_flops_forward(flops[plan::FORWARD]);
  promise.set_flops_backward(flops[plan::BACKWARD]);
  promise.set_flops_recompute(flops[plan::RECOMPUTE]);
  promise.set_flops_optimizer(flops[plan::OPTIMIZER]);
}

} // namespace

plan::Promise computePromise(const plan::Plan &plan) {
  const uint64_t n = plan.instructions_size();
  std::vector<int64_t> change(n + 1, 0);
  for (const plan::Buffer &buffer : plan.buffers()) {
    change[buffer.first()] += static_cast<int64_t>(buffer.bytes());
    change[buffer.last()] -= static_cast<int64_t>(buffer.bytes());
  }
  uint64_t peak = 0, most = 0;
  int64_t live = 0;
  for (uint64_t i = 0; i < n; ++i) {
    live += change[i];
    if (static_cast<uint64_t>(live) > most) {
      most = static_cast<uint64_t>(live);
      peak = i;
    }
  }
  uint64_t byCategory[plan::Category_ARRAYSIZE] = {};
  for (const plan::Buffer &buffer : plan.buffers())
    if (buffer.first() <= peak && peak < buffer.last())
      byCategory[buffer.category()] += buffer.bytes();

  plan::Promise promise;
  promise.set_arena_bytes(plan.arena_bytes());
  promise.set_max_live_bytes(most);
  promise.set_peak_instruction(peak);
  promise.set_parameter_bytes(byCategory[plan::PARAMETER]);
  promise.set_gradient_bytes(byCategory[plan::GRADIENT]);
  promise.set_optimizer_state_bytes(byCategory[plan::OPTIMIZER_STATE]);
  promise.set_activation_bytes(byCategory[plan::ACTIVATION]);
  promise.set_workspace_bytes(byCategory[plan::WORKSPACE]);
  promise.set_input_bytes(byCategory[plan::INPUT]);
  promise.set_constant_bytes(byCategory[plan::CONSTANT]);
  promise.set_saved_bytes(savedBytes(plan));
  addFlops(plan, promise);
  rt::promiseCollectives(plan, promise);
  return promise;
}

} // namespace amc
