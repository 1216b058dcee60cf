// What a plan's buffers hold, and when: each buffer is the home of one value after another. Read off
// the plan alone: who writes a value, who reads it, whether backward reads it (saved) or it is
// computed again (recomputed), and why.
#ifndef AMC_COMPILER_REPORT_VALUES_H
#define AMC_COMPILER_REPORT_VALUES_H

#include "runtime/plan/plan.pb.h"
#include <cstdint>
#include <string>
#include <vector>

namespace amc::report {

inline constexpr uint64_t never = ~uint64_t(0);

enum class Role : uint8_t {
  Parameter,
  Gradient, // of a parameter
  State,
  Saved,      // made by the forward pass, read by another phase
  Recomputed, // made once more for backward
  Forward,    // made by the forward pass and read by it alone
  Backward,   // made by the backward pass: gradients of activations, and what their kernels compute again beside them
  Update,     // made by the optimizer: norms, scales
  Workspace,
  Input,
  Constant,
};
const char *roleName(Role role);
const char *categoryName(plan::Category category);

struct Value {
  uint32_t buffer = 0;
  Role role = Role::Forward;
  const plan::View *view = nullptr; // null: scratch
  uint64_t first = 0, last = 0;     // instructions [first, last) at which the buffer holds it
  uint64_t writer = never;          // instruction; never: it is there before the step
  uint64_t nextPhaseReader = never; // of a forward value: the first instruction of another phase that reads it
  uint64_t lastReader = never;
};

// Everything in the order of its first instruction, ties by buffer.
class Values {
public:
  explicit Values(const plan::Plan &plan);

  const plan::Plan &plan;
  std::vector<Value> all;
  /// The block of every instruction, -1 for none; empty if the plan does not say.
  std::vector<int64_t> blocks;

  const plan::Buffer &buffer(const Value &value) const {
    return plan.buffers(static_cast<int>(value.buffer));
  }
  /// Values whose buffers are alive at an instruction, largest first, ties by name: their bytes add
  /// up to the live bytes there.
  std::vector<const Value *> aliveAt(uint64_t instruction) const;
  /// For people: the ONNX node or initializer that a value belongs to.
  std::string name(const Value &value) const;
  /// Operation that makes it, "" if none does.
  std::string kernel(const Value &value) const;
  std::string dtype(const Value &value) const;
  std::string shape(const Value &value) const; // "8x2048x2048", "scalar", "" for scratch
  /// Why it is in memory: one sentence without a full stop.
  std::string why(const Value &value) const;

private:
  std::string describe(uint64_t instruction) const;
  std::string whySaved(const Value &value) const;
};

/// "forward", "backward", "recompute", "optimizer".
const char *phaseName(plan::Phase phase);

} // namespace amc::report

#endif
