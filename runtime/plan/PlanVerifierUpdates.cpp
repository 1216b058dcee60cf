// What the optimizer updates, and who may read it when (PlanVerifier.h, updates). Works on views that have been found
// sound, instruction by instruction in the plan's order; of a gradient, which a parameter names, that is not known.
#include "runtime/plan/PlanVerifierParts.h"
#include "runtime/support/Status.h"
#include <algorithm>

namespace amc::rt {
namespace {

// What the optimizer updates: the parameter, or this rank's shard of it, which the parameter is then gathered from.
const plan::OptimizerState *shardOf(const plan::Parameter &parameter) {
  for (const plan::OptimizerState &state : parameter.states())
    if (state.name() == "shard")
      return &state;
  return nullptr;
}
const plan::View &updatedView(const plan::Parameter &parameter) {
  const plan::OptimizerState *shard = shardOf(parameter);
  return shard ? shard->view() : parameter.view();
}

// Is it the gather that writes the parameter, all of it, from what the ranks hold of its shard?
bool refreshes(const plan::Instruction &instruction, const plan::Parameter &parameter,
               const plan::OptimizerState &shard) {
  auto same = [](const plan::View &a, const plan::View &b) {
    return a.buffer() == b.buffer() && a.byte_offset() == b.byte_offset() && a.dtype() == b.dtype() &&
           std::equal(a.shape().begin(), a.shape().end(), b.shape().begin(), b.shape().end());
  };
  if (instruction.kernel() != "all_gather" || instruction.inputs_size() != 1 || instruction.outputs_size() != 1 ||
      shard.splits().empty())
    return false;
  const plan::Split &split = shard.splits(shard.splits_size() - 1);
  bool along = true;
  for (const plan::Attribute &attribute : instruction.attributes())
    along = along && (attribute.name() != "group" || attribute.s() == split.group()) &&
            (attribute.name() != "dim" || attribute.i() == static_cast<int64_t>(split.dim()));
  return along && same(instruction.inputs(0), shard.view()) && same(instruction.outputs(0), parameter.view());
}

} // namespace

bool UpdateChecker::isLive(const plan::View &view, uint64_t instruction) const {
  const plan::Buffer &buffer = plan.buffers(static_cast<int>(view.buffer()));
  return buffer.first() <= instruction && instruction < buffer.last();
}

UpdateChecker::UpdateChecker(const plan::Plan &plan, const KernelSignatures *signatures, ReportError error)
    : plan(plan), signatures(signatures), error(std::move(error)),
      lastWrite(static_cast<size_t>(plan.buffers_size()), none),
      updatedAt(static_cast<size_t>(plan.parameters_size()), none),
      parameterOf(static_cast<size_t>(plan.buffers_size()), -1), updateOf(parameterOf) {
  auto mark = [](std::vector<int> &of, const plan::View &view, int p) {
    if (view.buffer() < of.size())
      of[view.buffer()] = p;
  };
  for (int p = 0; p < plan.parameters_size(); ++p) {
    mark(parameterOf, plan.parameters(p).view(), p);
    mark(updateOf, updatedView(plan.parameters(p)), p);
  }
}

void UpdateChecker::check(uint64_t index, const std::string &path, const plan::Instruction &instruction) {
  checkRefreshes(path, instruction);
  checkUpdates(index, path, instruction);
}

void UpdateChecker::wrote(uint64_t index, const plan::Instruction &instruction) {
  for (const plan::View &view : instruction.outputs())
    if (view.dtype() != plan::DTYPE_UNSPECIFIED && view.buffer() < lastWrite.size())
      lastWrite[view.buffer()] = index;
}

// A parameter that is gathered from its shard is written by nothing else, and the shard behind its update read by
// nothing else.
void UpdateChecker::checkRefreshes(const std::string &path, const plan::Instruction &instruction) {
  for (int o = 0; o < instruction.outputs_size(); ++o) {
    const plan::View &view = instruction.outputs(o);
    int p = view.dtype() == plan::DTYPE_UNSPECIFIED ? -1 : parameterOf[view.buffer()];
    const plan::OptimizerState *shard = p < 0 ? nullptr : shardOf(plan.parameters(p));
    if (shard && !refreshes(instruction, plan.parameters(p), *shard))
      error(text(path, ".outputs[", o, "]: writes parameter '", plan.parameters(p).name(),
                 "', which only a gather of its shard should"));
  }
  for (int i = 0; i < instruction.inputs_size(); ++i) {
    const plan::View &view = instruction.inputs(i);
    int p = view.dtype() == plan::DTYPE_UNSPECIFIED ? -1 : updateOf[view.buffer()];
    if (p < 0 || updatedAt[static_cast<size_t>(p)] == none)
      continue;
    const plan::OptimizerState *shard = shardOf(plan.parameters(p));
    if (shard && !refreshes(instruction, plan.parameters(p), *shard))
      error(text(path, ".inputs[", i, "]: reads the shard of parameter '", plan.parameters(p).name(),
                 "', which instruction ", updatedAt[static_cast<size_t>(p)], " has updated"));
  }
}

// A parameter is read by nobody behind its update, and updated with its own gradient as it was when ready.
void UpdateChecker::checkUpdates(uint64_t index, const std::string &path, const plan::Instruction &instruction) {
  for (int i = 0; i < instruction.inputs_size(); ++i) {
    const plan::View &view = instruction.inputs(i);
    if (view.dtype() == plan::DTYPE_UNSPECIFIED)
      continue;
    // One that has a shard is as it was until it is gathered.
    if (int p = parameterOf[view.buffer()]; p >= 0) {
      const plan::Parameter &parameter = plan.parameters(p);
      uint64_t at = shardOf(parameter) ? lastWrite[view.buffer()] : updatedAt[static_cast<size_t>(p)];
      if (at != none)
        error(text(path, ".inputs[", i, "]: reads parameter '", parameter.name(), "', which instruction ", at,
                   " has updated"));
    }
    if (updateOf[view.buffer()] < 0)
      continue;
    const plan::Parameter &parameter = plan.parameters(updateOf[view.buffer()]);
    bool updates = false;
    for (int o = 0; signatures && o < instruction.outputs_size(); ++o)
      updates =
          updates || (instruction.outputs(o).buffer() == view.buffer() && signatures->mustAlias(instruction, o, i));
    if (!updates)
      continue;
    updatedAt[static_cast<size_t>(updateOf[view.buffer()])] = index;
    if (plan.accumulation() > 1 && index < plan.micro_batch_end())
      error(text(path, ": updates parameter '", parameter.name(), "' in every micro-batch; it should stand behind ",
                 "micro_batch_end, ", plan.micro_batch_end()));
    if (parameter.gradient().dtype() == plan::DTYPE_UNSPECIFIED)
      continue;
    const plan::View &gradient = parameter.gradient();
    bool reads = false;
    for (const plan::View &input : instruction.inputs())
      reads = reads || (input.dtype() == gradient.dtype() && input.buffer() == gradient.buffer() &&
                        input.byte_offset() == gradient.byte_offset());
    uint64_t written = gradient.buffer() < lastWrite.size() ? lastWrite[gradient.buffer()] : none;
    if (!reads)
      error(text(path, ": updates parameter '", parameter.name(), "' without reading its gradient"));
    else if (written != none && written > parameter.gradient_ready() && isLive(gradient, parameter.gradient_ready()))
      error(text(path, ": updates parameter '", parameter.name(), "' with bytes that instruction ", written,
                 " wrote, behind gradient_ready, ", parameter.gradient_ready()));
  }
}

// With an optimizer every gradient is used, and what is updated comes to the parameter.
void UpdateChecker::finish() {
  if (!signatures || plan.optimizer().empty())
    return;
  for (int p = 0; p < plan.parameters_size(); ++p) {
    const plan::Parameter &parameter = plan.parameters(p);
    uint64_t at = updatedAt[static_cast<size_t>(p)], buffer = parameter.view().buffer();
    if (parameter.gradient().dtype() == plan::DTYPE_UNSPECIFIED || buffer >= lastWrite.size())
      continue;
    if (at == none)
      error(text("parameters[", p, "]: '", parameter.name(), "' has a gradient and nothing updates it"));
    else if (shardOf(parameter) && (lastWrite[buffer] == none || lastWrite[buffer] <= at))
      error(text("parameters[", p, "]: '", parameter.name(), "' is not written behind instruction ", at,
                 ", which updates its shard"));
  }
}

} // namespace amc::rt
