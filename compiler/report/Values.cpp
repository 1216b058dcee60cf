// Follows the writes to every buffer through the schedule. A buffer that persists between steps has
// one value, which updates change in place.
#include "compiler/report/Values.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/DTypes.h"
#include <algorithm>

namespace amc::report {
namespace {

Role roleOf(plan::Category category) {
  switch (category) {
  case plan::PARAMETER:
    return Role::Parameter;
  case plan::GRADIENT:
    return Role::Gradient;
  case plan::OPTIMIZER_STATE:
    return Role::State;
  case plan::WORKSPACE:
    return Role::Workspace;
  case plan::INPUT:
    return Role::Input;
  case plan::CONSTANT:
    return Role::Constant;
  default:
    return Role::Forward;
  }
}

Role roleOf(plan::Phase phase) {
  switch (phase) {
  case plan::BACKWARD:
    return Role::Backward;
  case plan::RECOMPUTE:
    return Role::Recomputed;
  case plan::OPTIMIZER:
    return Role::Update;
  default:
    return Role::Forward;
  }
}

class Follower {
public:
  explicit Follower(const plan::Plan &plan)
      : plan(plan), steps(static_cast<uint64_t>(plan.instructions_size())),
        current(static_cast<size_t>(plan.buffers_size()), -1) {}

  std::vector<Value> run() {
    for (int i = 0; i < plan.buffers_size(); ++i) {
      const plan::Buffer &buffer = plan.buffers(i);
      if (buffer.persistent() || buffer.category() == plan::INPUT)
        begin(static_cast<uint32_t>(i), nullptr, never, std::min(buffer.first(), steps));
    }
    for (const plan::Parameter &parameter : plan.parameters()) {
      holds(parameter.view());
      for (const plan::OptimizerState &state : parameter.states())
        holds(state.view());
      if (parameter.has_gradient())
        holds(parameter.gradient()); // of one that persists: an accumulator
    }
    for (const plan::Constant &constant : plan.constants())
      holds(constant.view());
    for (const plan::Input &input : plan.inputs())
      holds(input.view());
    for (uint64_t i = 0; i < steps; ++i)
      visit(i);
    for (int &index : current)
      if (index >= 0)
        end(index, plan.buffers(static_cast<int>(values[static_cast<size_t>(index)].buffer)).last());
    std::stable_sort(values.begin(), values.end(), [](const Value &a, const Value &b) {
      return a.first != b.first ? a.first < b.first : a.buffer < b.buffer;
    });
    return std::move(values);
  }

private:
  bool known(const plan::View &view) const {
    return view.dtype() != plan::DTYPE_UNSPECIFIED && view.buffer() < current.size();
  }
  void holds(const plan::View &view) {
    if (known(view) && current[view.buffer()] >= 0)
      values[static_cast<size_t>(current[view.buffer()])].view = &view;
  }
  void begin(uint32_t buffer, const plan::View *view, uint64_t writer, uint64_t first) {
    if (current[buffer] >= 0)
      end(current[buffer], first);
    Value value;
    value.buffer = buffer;
    value.view = view;
    value.writer = writer;
    value.first = first;
    value.role = roleOf(plan.buffers(static_cast<int>(buffer)).category());
    if (value.role == Role::Forward && writer != never)
      value.role = roleOf(plan.instructions(static_cast<int>(writer)).phase());
    current[buffer] = static_cast<int>(values.size());
    values.push_back(value);
  }
  void end(int index, uint64_t last) {
    values[static_cast<size_t>(index)].last = std::min(last, steps);
  }
  void visit(uint64_t number) {
    const plan::Instruction &instruction = plan.instructions(static_cast<int>(number));
    for (const plan::View &view : instruction.inputs()) {
      if (!known(view) || current[view.buffer()] < 0)
        continue;
      Value &value = values[static_cast<size_t>(current[view.buffer()])];
      value.lastReader = number;
      if (value.writer == never || value.nextPhaseReader != never ||
          instruction.phase() == plan::FORWARD ||
          plan.instructions(static_cast<int>(value.writer)).phase() != plan::FORWARD)
        continue;
      value.nextPhaseReader = number;
      if (value.role == Role::Forward)
        value.role = Role::Saved;
    }
    for (const plan::View &view : instruction.workspaces())
      if (known(view))
        begin(static_cast<uint32_t>(view.buffer()), nullptr, number, number);
    for (const plan::View &view : instruction.outputs())
      if (known(view) && !plan.buffers(static_cast<int>(view.buffer())).persistent())
        begin(static_cast<uint32_t>(view.buffer()), &view, number, number);
  }

  const plan::Plan &plan;
  uint64_t steps;
  std::vector<int> current; // of every buffer: the value in it
  std::vector<Value> values;
};

std::vector<int64_t> blocksOf(const plan::Plan &plan) {
  for (const plan::Attribute &note : plan.notes())
    if (note.name() == "instruction_blocks" &&
        note.ints().value_size() == plan.instructions_size())
      return {note.ints().value().begin(), note.ints().value().end()};
  return {};
}

} // namespace

const char *roleName(Role role) {
  static constexpr const char *names[] = {"parameter", "gradient", "state",     "saved",
                                          "recomputed", "forward", "backward",  "update",
                                          "workspace", "input",    "constant"};
  return names[static_cast<size_t>(role)];
}

const char *categoryName(plan::Category category) {
  switch (category) {
  case plan::PARAMETER:
    return "parameters";
  case plan::GRADIENT:
    return "gradients";
  case plan::OPTIMIZER_STATE:
    return "optimizer_state";
  case plan::ACTIVATION:
    return "activations";
  case plan::WORKSPACE:
    return "workspace";
  case plan::INPUT:
    return "inputs";
  case plan::CONSTANT:
    return "constants";
  default:
    return "unknown";
  }
}

const char *phaseName(plan::Phase phase) {
  switch (phase) {
  case plan::FORWARD:
    return "forward";
  case plan::BACKWARD:
    return "backward";
  case plan::RECOMPUTE:
    return "recompute";
  case plan::OPTIMIZER:
    return "optimizer";
  default:
    return "unknown";
  }
}

Values::Values(const plan::Plan &plan)
    : plan(plan), all(Follower(plan).run()), blocks(blocksOf(plan)) {}

std::vector<const Value *> Values::aliveAt(uint64_t instruction) const {
  std::vector<const Value *> alive;
  for (const Value &value : all)
    if (value.first <= instruction && instruction < value.last)
      alive.push_back(&value);
  std::stable_sort(alive.begin(), alive.end(), [&](const Value *a, const Value *b) {
    uint64_t left = buffer(*a).bytes(), right = buffer(*b).bytes();
    return left != right ? left > right : name(*a) < name(*b);
  });
  return alive;
}

std::string Values::name(const Value &value) const {
  bool named = value.role != Role::Saved && value.role != Role::Recomputed &&
               value.role != Role::Forward && value.role != Role::Backward;
  // A buffer is called after the last value in it.
  if (value.writer == never || named)
    return buffer(value).name();
  const plan::Instruction &writer = plan.instructions(static_cast<int>(value.writer));
  std::string name = writer.location().empty() ? rt::kernelTitle(plan, writer) : writer.location();
  if (writer.outputs_size() > 1)
    for (int i = 0; i < writer.outputs_size(); ++i)
      if (&writer.outputs(i) == value.view)
        name += "#" + std::to_string(i);
  return name;
}

std::string Values::kernel(const Value &value) const {
  return value.writer == never ? "" : rt::kernelTitle(plan, plan.instructions(static_cast<int>(value.writer)));
}

std::string Values::dtype(const Value &value) const {
  return value.view ? std::string(rt::dtypeName(value.view->dtype())) : "";
}

std::string Values::shape(const Value &value) const {
  if (!value.view)
    return "";
  std::string text;
  for (uint64_t dim : value.view->shape())
    text += (text.empty() ? "" : "x") + std::to_string(dim);
  return text.empty() ? "scalar" : text;
}

std::string Values::describe(uint64_t number) const {
  const plan::Instruction &instruction = plan.instructions(static_cast<int>(number));
  std::string text = rt::kernelTitle(plan, instruction) + " at " + std::to_string(number);
  return instruction.location().empty() ? text : text + " (" + instruction.location() + ")";
}

std::string Values::whySaved(const Value &value) const {
  std::string reader = "read by " + describe(value.nextPhaseReader);
  const std::string &policy = plan.ac_policy();
  if (policy == "none")
    return "checkpointing is off: kept for backward, " + reader;
  if (policy == "budget" || policy == "auto")
    return "the budget has room for it, or making it again would cost more: " + reader;
  int64_t home = blocks.empty() ? -1 : blocks[value.writer],
          other = blocks.empty() ? -1 : blocks[value.nextPhaseReader];
  if (!blocks.empty() && home != other && other >= 0)
    return "enters block " + std::to_string(other) + ", whose inputs are kept: " + reader;
  if (!blocks.empty() && home < 0)
    return "made outside the blocks, which are what is checkpointed: " + reader;
  return (policy == "selective" ? "selective keeps what " : "kept although checkpointed: made by ") +
         kernel(value) + (policy == "selective" ? " makes here: " : ", ") + reader;
}

std::string Values::why(const Value &value) const {
  switch (value.role) {
  case Role::Parameter:
    return "a weight: lives from step to step";
  case Role::State:
    return "the optimizer's state: lives from step to step";
  case Role::Constant:
    return "a constant of the model";
  case Role::Input:
    return "fed at every step, until its last reader";
  case Role::Workspace:
    return "scratch of " + describe(value.first) + ", for that instruction alone";
  case Role::Saved:
    return whySaved(value);
  case Role::Recomputed:
    return "run again instead of kept since the forward pass" +
           (value.lastReader == never ? "" : ", until " + describe(value.lastReader));
  case Role::Gradient:
    return value.lastReader == never ? "the gradient of a weight"
                                     : "the gradient of a weight, until " + describe(value.lastReader);
  default:
    return value.lastReader == never ? "a result that nothing reads"
                                     : "needed until " + describe(value.lastReader);
  }
}

} // namespace amc::report
