// Gathers the facts of a plan and prints them. JSON has bytes and FLOPs as integers; text rounds
// them.
#include "compiler/report/Collectives.h"
#include "compiler/report/GeneratedKernels.h"
#include "compiler/report/Report.h"
#include "compiler/report/Peak.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/PlanRanks.h"
#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

namespace amc::report {
namespace {

using Json = nlohmann::ordered_json;

std::vector<Group> sorted(const std::map<std::string, Group> &groups) {
  std::vector<Group> list;
  for (const auto &[name, group] : groups)
    list.push_back(group);
  std::stable_sort(list.begin(), list.end(),
                   [](const Group &a, const Group &b) { return a.bytes > b.bytes; });
  return list;
}

std::string shapeText(const plan::View &view) {
  std::string text;
  for (uint64_t dim : view.shape())
    text += (text.empty() ? "" : "x") + std::to_string(dim);
  return text.empty() ? "scalar" : text;
}

Json aliveJson(const Facts &facts) {
  Json list = Json::array();
  for (const Alive &alive : facts.aliveAtPeak)
    list.push_back({{"name", alive.name},
                    {"category", alive.category},
                    {"role", alive.role},
                    {"operation", alive.operation},
                    {"dtype", alive.dtype},
                    {"shape", alive.shape},
                    {"bytes", alive.bytes},
                    {"first", alive.first},
                    {"last", alive.last},
                    {"why", alive.why}});
  return list;
}

Json categoriesJson(const Facts &facts) {
  Json object = Json::object();
  for (const auto &[name, bytes] : facts.categories)
    object[name] = bytes;
  return object;
}

Json timesJson(const plan::Plan &plan) {
  Json times = Json::object();
  for (const char *device : modelledDevices)
    if (std::optional<ModelledTime> time = modelledTime(plan, device))
      times[device] = {{"step_seconds", time->step},
                       {"recompute_seconds", time->recompute},
                       {"overhead", time->overhead()}};
  return times;
}

Json groupsJson(const std::vector<Group> &groups) {
  Json list = Json::array();
  for (const Group &group : groups)
    list.push_back({{"kernel", group.name},
                    {"count", group.count},
                    {"bytes", group.bytes},
                    {"flops", group.flops}});
  return list;
}

// Names come from a stranger's model and may be any bytes.
std::string dump(const Json &json) {
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

constexpr std::string_view classNote = "save_class:";
// (operation, "12 ALTERNATE, 3 SAVE")
std::vector<std::pair<std::string, std::string>> saveClasses(const plan::Plan &plan) {
  std::vector<std::pair<std::string, std::string>> classes;
  for (const plan::Attribute &note : plan.notes())
    if (note.name().rfind(classNote, 0) == 0)
      classes.emplace_back(note.name().substr(classNote.size()), note.s());
  return classes;
}
// Notes that are printed as they are.
bool isPlain(const plan::Attribute &note) {
  return note.name() != "block_runs" && note.name() != "blocks" &&
         note.name() != "instruction_blocks" && note.name() != "instruction_bytes" &&
         note.name() != "instruction_parts" &&
         note.name() != "pareto_curve" && note.name().rfind(classNote, 0) != 0;
}

std::string attributeText(const plan::Attribute &attribute) {
  switch (attribute.value_case()) {
  case plan::Attribute::kI:
    return std::to_string(attribute.i());
  case plan::Attribute::kF:
    return format("%g", attribute.f());
  case plan::Attribute::kS:
    return attribute.s();
  case plan::Attribute::kInts: {
    std::string text;
    for (int64_t value : attribute.ints().value())
      text += (text.empty() ? "" : ",") + std::to_string(value);
    return text;
  }
  case plan::Attribute::kFloats: {
    std::string text;
    for (double value : attribute.floats().value())
      text += (text.empty() ? "" : ",") + format("%g", value);
    return text;
  }
  default:
    return "";
  }
}

} // namespace

std::vector<BlockRun> blockRuns(const plan::Plan &plan) {
  std::vector<BlockRun> runs;
  for (const plan::Attribute &note : plan.notes())
    if (note.name() == "block_runs")
      for (int i = 0; i + 5 <= note.ints().value_size(); i += 5) {
        auto at = [&](int k) { return static_cast<uint64_t>(note.ints().value(i + k)); };
        runs.push_back({at(0), at(1), at(2), at(3), at(4)});
      }
  return runs;
}

Facts gather(const plan::Plan &plan) {
  Facts facts;
  const plan::Promise &promise = plan.promise();
  facts.categories = categoriesAtPeak(plan);

  size_t steps = static_cast<size_t>(plan.instructions_size());
  std::vector<int64_t> change(steps + 1, 0);
  for (const plan::Buffer &buffer : plan.buffers()) {
    size_t first = std::min<uint64_t>(buffer.first(), steps),
           last = std::min<uint64_t>(buffer.last(), steps);
    if (first >= last)
      continue;
    change[first] += static_cast<int64_t>(buffer.bytes());
    change[last] -= static_cast<int64_t>(buffer.bytes());
  }
  Values values(plan);
  for (const Value *value : values.aliveAt(promise.peak_instruction()))
    facts.aliveAtPeak.push_back({values.name(*value),
                                 categoryName(values.buffer(*value).category()),
                                 roleName(value->role), values.kernel(*value),
                                 values.dtype(*value), values.shape(*value), values.why(*value),
                                 values.buffer(*value).bytes(), value->first, value->last});
  int64_t live = 0;
  for (size_t i = 0; i < steps; ++i)
    facts.live.push_back(static_cast<uint64_t>(live += change[i]));

  // A buffer is saved if a forward instruction wrote it and an instruction of another phase reads
  // it before anything writes it again (plan.proto, Promise).
  std::map<std::string, Group> saved, recomputed;
  std::vector<const plan::Instruction *> writer(static_cast<size_t>(plan.buffers_size()), nullptr);
  std::vector<bool> counted(writer.size(), false);
  auto bufferOf = [&](const plan::View &view) -> std::optional<size_t> {
    if (view.dtype() == plan::DTYPE_UNSPECIFIED || view.buffer() >= writer.size())
      return std::nullopt;
    return static_cast<size_t>(view.buffer());
  };
  for (const plan::Instruction &instruction : plan.instructions()) {
    if (instruction.phase() == plan::RECOMPUTE || instruction.recompute_flops() > 0) {
      Group &group = recomputed[rt::kernelTitle(plan, instruction)];
      group.name = rt::kernelTitle(plan, instruction);
      ++group.count;
      group.flops += instruction.recompute_flops() > 0 ? instruction.recompute_flops() : instruction.flops();
    }
    for (const plan::View &view : instruction.inputs()) {
      std::optional<size_t> buffer = bufferOf(view);
      if (!buffer || !writer[*buffer] || writer[*buffer]->phase() != plan::FORWARD ||
          instruction.phase() == plan::FORWARD || counted[*buffer])
        continue;
      counted[*buffer] = true;
      Group &group = saved[rt::kernelTitle(plan, *writer[*buffer])];
      group.name = rt::kernelTitle(plan, *writer[*buffer]);
      ++group.count;
      group.bytes += plan.buffers(static_cast<int>(*buffer)).bytes();
      group.flops += writer[*buffer]->flops();
    }
    for (const plan::View &view : instruction.outputs())
      if (std::optional<size_t> buffer = bufferOf(view))
        writer[*buffer] = &instruction;
  }
  facts.saved = sorted(saved);
  facts.recomputed = sorted(recomputed);
  return facts;
}

std::string promiseText(const plan::Plan &plan) {
  const plan::Promise &promise = plan.promise();
  std::string out = format("promised peak %s (%llu bytes):", bytesText(promise.arena_bytes()).c_str(),
                           static_cast<unsigned long long>(promise.arena_bytes()));
  for (auto [name, bytes] : categoriesAtPeak(plan)) {
    std::replace(name.begin(), name.end(), '_', ' ');
    if (bytes)
      out += " " + name + " " + bytesText(bytes) + ",";
  }
  return out + " fragmentation " + bytesText(promise.arena_bytes() - promise.max_live_bytes());
}

std::string inspectText(const plan::Plan &plan) {
  Facts facts = gather(plan);
  const plan::Promise &promise = plan.promise();
  std::string out =
      format("%s: %s, %s, activation checkpointing %s, %d instructions\n",
             plan.model_path().c_str(), plan.target().c_str(), plan.precision().c_str(),
             plan.ac_policy().c_str(), plan.instructions_size());
  out += format("promised peak        %s (%llu bytes, the arena)\n",
                bytesText(promise.arena_bytes()).c_str(),
                static_cast<unsigned long long>(promise.arena_bytes()));
  out += format("live at the peak     %s, instruction %llu\n",
                bytesText(promise.max_live_bytes()).c_str(),
                static_cast<unsigned long long>(promise.peak_instruction()));
  for (const auto &[name, bytes] : facts.categories)
    out += format("  %-18s %s\n", name.c_str(), bytesText(bytes).c_str());
  out += format("saved for backward   %s\n", bytesText(promise.saved_bytes()).c_str());
  auto gigaflops = [](uint64_t flops) { return static_cast<double>(flops) * 1e-9; };
  out += format(
      "GFLOP a micro-batch  forward %.3f, backward %.3f, recompute %.3f; update %.3f a step\n",
      gigaflops(promise.flops_forward()), gigaflops(promise.flops_backward()),
      gigaflops(promise.flops_recompute()), gigaflops(promise.flops_optimizer()));
  for (const char *device : modelledDevices)
    if (std::optional<ModelledTime> time = modelledTime(plan, device))
      out += format("modelled on %-9s recomputation adds %.1f%% to a step\n", device,
                    100 * time->overhead());
  out += collectivesText(plan);
  uint64_t blocks = 0;
  std::string runs;
  for (const BlockRun &run : blockRuns(plan)) {
    blocks += run.count;
    runs += format("%s%llu %s of %llu operations, %s in", runs.empty() ? ": " : "; ",
                   static_cast<unsigned long long>(run.count),
                   run.kinds > 1 ? format("(%llu kinds)", static_cast<unsigned long long>(run.kinds)).c_str()
                                 : "alike",
                   static_cast<unsigned long long>(run.operations),
                   bytesText(run.inputBytes).c_str());
  }
  out += format("blocks               %llu%s\n", static_cast<unsigned long long>(blocks),
                runs.c_str());
  for (const plan::Attribute &note : plan.notes())
    if (isPlain(note))
      out += format("%-20s %s\n", note.name().c_str(), attributeText(note).c_str());

  constexpr size_t shown = 20;
  out += "\nalive at the peak\n";
  for (size_t i = 0; i < std::min(shown, facts.aliveAtPeak.size()); ++i) {
    const Alive &alive = facts.aliveAtPeak[i];
    std::string type = alive.dtype.empty() ? "scratch" : alive.dtype + " " + alive.shape;
    out += format("  %12s  %-10s %-24s [%llu, %llu)  %s: %s\n", bytesText(alive.bytes).c_str(),
                  alive.role.c_str(), type.c_str(), static_cast<unsigned long long>(alive.first),
                  static_cast<unsigned long long>(alive.last), alive.name.c_str(),
                  alive.why.c_str());
  }
  if (facts.aliveAtPeak.size() > shown)
    out += format("  … %zu more; all of them with --json\n", facts.aliveAtPeak.size() - shown);
  out += "\nsaved for backward, by the kernel that makes it\n";
  for (const Group &group : facts.saved)
    out += format("  %-24s %6llu  %s\n", group.name.c_str(),
                  static_cast<unsigned long long>(group.count), bytesText(group.bytes).c_str());
  out += facts.recomputed.empty() ? "\nnothing is recomputed\n" : "\nrecomputed\n";
  for (const Group &group : facts.recomputed)
    out += format("  %-24s %6llu  %.3f GFLOP\n", group.name.c_str(),
                  static_cast<unsigned long long>(group.count), gigaflops(group.flops));
  out += generatedKernelsText(plan);
  out += "\nparameters\n";
  for (const plan::Parameter &parameter : plan.parameters()) {
    out += format("  %-8s %-16s %s", parameter.trainable() ? "trained" : "frozen",
                  shapeText(parameter.view()).c_str(), parameter.name().c_str());
    for (const plan::TiedName &tied : parameter.tied())
      out += " = " + tied.name();
    out += "\n";
  }
  return out;
}

std::string inspectJson(const plan::Plan &plan) {
  Facts facts = gather(plan);
  const plan::Promise &promise = plan.promise();
  Json parameters = Json::array();
  for (const plan::Parameter &parameter : plan.parameters()) {
    Json tied = Json::array();
    for (const plan::TiedName &name : parameter.tied())
      tied.push_back(name.name());
    parameters.push_back({{"name", parameter.name()},
                          {"shape", std::vector<uint64_t>(parameter.view().shape().begin(),
                                                          parameter.view().shape().end())},
                          {"trainable", parameter.trainable()},
                          {"tied", tied}});
  }
  Json notes = Json::object();
  for (const plan::Attribute &note : plan.notes())
    if (isPlain(note))
      notes[note.name()] = attributeText(note);
  Json runs = Json::array(), classes = Json::object();
  uint64_t blocks = 0;
  for (const BlockRun &run : blockRuns(plan)) {
    blocks += run.count;
    runs.push_back({{"first", run.first},
                    {"count", run.count},
                    {"kinds", run.kinds},
                    {"operations_per_block", run.operations},
                    {"input_bytes", run.inputBytes}});
  }
  for (const auto &[operation, text] : saveClasses(plan))
    classes[operation] = text;
  Json ranks; // null for one
  if (rt::MeshShape mesh = rt::meshOf(plan); mesh.ranks() > 1) {
    ranks = {{"count", mesh.ranks()}, {"strategy", plan.strategy()}};
    for (size_t axis = 0; axis < mesh.size.size(); ++axis)
      ranks[std::string(rt::meshAxes[axis])] = mesh.size[axis];
    if (mesh.ep > 1)
      ranks["ep"] = mesh.ep;
    ranks["step"] = collectivesJson(plan);
  }
  return dump({{"model", plan.model_path()},
               {"target", plan.target()},
               {"ranks", ranks},
               {"precision", plan.precision()},
               {"ac", plan.ac_policy()},
               {"instructions", plan.instructions_size()},
               {"accumulation", plan.accumulation()},
               {"optimizer", plan.optimizer()},
               {"learning_rate", plan.default_learning_rate()},
               {"max_grad_norm", plan.max_grad_norm()},
               {"peak_bytes", promise.arena_bytes()},
               {"max_live_bytes", promise.max_live_bytes()},
               {"peak_instruction", promise.peak_instruction()},
               {"saved_bytes", promise.saved_bytes()},
               {"flops",
                {{"forward", promise.flops_forward()},
                 {"backward", promise.flops_backward()},
                 {"recompute", promise.flops_recompute()},
                 {"optimizer", promise.flops_optimizer()}}},
               {"categories", categoriesJson(facts)},
               {"fragmentation_bytes", promise.arena_bytes() - promise.max_live_bytes()},
               {"modelled_time", timesJson(plan)},
               {"alive_at_peak", aliveJson(facts)},
               {"saved", groupsJson(facts.saved)},
               {"recomputed", groupsJson(facts.recomputed)},
               {"blocks", {{"count", blocks}, {"runs", runs}}},
               {"save_classes", classes},
               {"generated_kernels", generatedKernelsJson(plan)},
               {"notes", notes},
               {"parameters", parameters}});
}

std::string acPolicyText(const plan::Plan &plan) {
  std::string out = format("%-28s %s\n", "operation", "forward operations of each class");
  for (const auto &[operation, text] : saveClasses(plan))
    out += format("%-28s %s\n", operation.c_str(), text.c_str());
  return out;
}

std::string acPolicyJson(const plan::Plan &plan) {
  Json rows = Json::array();
  for (const auto &[operation, text] : saveClasses(plan))
    rows.push_back({{"operation", operation}, {"classes", text}});
  return dump({{"model", plan.model_path()}, {"operations", rows}});
}

} // namespace amc::report
