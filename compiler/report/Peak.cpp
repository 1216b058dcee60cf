#include "compiler/report/Peak.h"
#include "compiler/analysis/CostModel.h"
#include "runtime/plan/PlanRanks.h"
#include <algorithm>
#include <map>
#include <tuple>

namespace amc::report {

std::vector<std::pair<std::string, uint64_t>> categoriesAtPeak(const plan::Plan &plan) {
  const plan::Promise &promise = plan.promise();
  return {{"parameters", promise.parameter_bytes()},
          {"gradients", promise.gradient_bytes()},
          {"optimizer_state", promise.optimizer_state_bytes()},
          {"activations", promise.activation_bytes()},
          {"workspace", promise.workspace_bytes()},
          {"inputs", promise.input_bytes()},
          {"constants", promise.constant_bytes()}};
}

std::vector<AliveGroup> group(const Values &values, const std::vector<const Value *> &alive) {
  std::vector<AliveGroup> groups;
  std::map<std::tuple<Role, std::string, std::string, std::string, uint64_t>, size_t> known;
  for (const Value *value : alive) {
    uint64_t bytes = values.buffer(*value).bytes();
    auto [at, added] = known.try_emplace({value->role, values.kernel(*value), values.dtype(*value),
                                          values.shape(*value), bytes},
                                         groups.size());
    if (added)
      groups.push_back({value, 0, 0});
    ++groups[at->second].count;
    groups[at->second].bytes += bytes;
  }
  std::stable_sort(groups.begin(), groups.end(), [](const AliveGroup &a, const AliveGroup &b) {
    return a.bytes > b.bytes;
  });
  return groups;
}

// From the first rank of rank 0's group to its last.
static uint64_t spanOf(const rt::MeshShape &mesh, const plan::Instruction &instruction) {
  for (const plan::Attribute &attribute : instruction.attributes())
    if (attribute.name() == "group")
      if (std::optional<rt::Axes> axes = rt::groupAxes(attribute.s(), mesh))
        return rt::groupSpan(mesh, *axes);
  return 1;
}

std::optional<ModelledTime> modelledTime(const plan::Plan &plan, const std::string &device) {
  const plan::Attribute *moved = nullptr;
  std::map<int64_t, std::vector<GraphWork>> partsOf; // by instruction
  for (const plan::Attribute &note : plan.notes()) {
    if (note.name() == "instruction_bytes" &&
        note.ints().value_size() == plan.instructions_size())
      moved = &note;
    auto number = [&](int i) { return static_cast<uint64_t>(note.ints().value(i)); };
    for (int i = 0; note.name() == "instruction_parts" && i + 5 <= note.ints().value_size(); i += 5)
      partsOf[note.ints().value(i)].push_back({number(i + 1), number(i + 2), number(i + 3), number(i + 4)});
  }
  std::optional<DeviceModel> model = deviceModel(device, plan.precision());
  if (!moved || !model)
    return std::nullopt;
  const rt::MeshShape mesh = rt::meshOf(plan);
  ModelledTime time;
  // Of the section that runs: what has passed, when the links are free, when each buffer's collective has ended.
  uint64_t now = 0, free = 0;
  std::map<uint64_t, uint64_t> ends;
  for (int i = 0; i < plan.instructions_size(); ++i) {
    if (static_cast<uint64_t>(i) == plan.micro_batch_end())
      free = now;
    const plan::Instruction &instruction = plan.instructions(i);
    GraphOp op;
    op.flops = instruction.flops();
    op.bytesMoved = static_cast<uint64_t>(moved->ints().value(i));
    if (auto parts = partsOf.find(i); parts != partsOf.end())
      op.parts = parts->second;
    if (rt::isCollective(instruction)) {
      op.bytesSent = rt::bytesSent(instruction);
      op.span = spanOf(mesh, instruction);
      op.steps = rt::ringSteps(instruction);
    }
    uint64_t cost = opCost(op, *model), sent = 0, begin = now, waited = 0;
    if (op.span > 0) {
      GraphOp alone = op;
      alone.span = 0;
      sent = cost - opCost(alone, *model);
      cost -= sent;
    }
    now += cost;
    auto waitUntil = [&](uint64_t end) {
      waited = end > now ? end - now : 0;
      now += waited;
    };
    if (sent > 0) {
      free = std::max(free, now) + sent;
      if (rt::isAsync(instruction) && instruction.outputs_size() > 0)
        ends[instruction.outputs(0).buffer()] = free;
      else
        waitUntil(free);
    }
    if (rt::isWait(instruction) && instruction.inputs_size() > 0) {
      now = begin; // it is no work of its own
      if (auto end = ends.find(instruction.inputs(0).buffer()); end != ends.end())
        waitUntil(end->second);
    }
    bool often = static_cast<uint64_t>(i) < plan.micro_batch_end();
    double times = often ? static_cast<double>(std::max<uint64_t>(1, plan.accumulation())) : 1;
    (instruction.phase() == plan::RECOMPUTE ? time.recompute : time.step) += times * seconds(now - begin);
    if (instruction.recompute_flops() > 0) { // what it takes longer for that
      GraphOp rest = op;
      rest.flops -= instruction.recompute_flops();
      double longer = times * seconds(opCost(op, *model) - opCost(rest, *model));
      time.recompute += longer;
      time.step -= longer;
    }
    time.communication += times * seconds(sent);
    time.exposed += times * seconds(waited);
  }
  return time;
}

} // namespace amc::report
