// Bounds the page: columns instead of instructions, the tensors that fill most of the arena and of
// the peak instead of all, each text once and cut where it is too long. What is cut is counted.
#include "compiler/report/PageFacts.h"
#include "compiler/report/Peak.h"
#include "runtime/plan/FusedKernels.h"
#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

namespace amc::report {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t roleCount = static_cast<size_t>(Role::Constant) + 1;
// Of the memory picture, from the bottom: what stays, what comes and goes.
constexpr Role stack[roleCount] = {Role::Parameter, Role::State,      Role::Constant, Role::Input,
                                   Role::Gradient,  Role::Saved,      Role::Recomputed, Role::Forward,
                                   Role::Backward,  Role::Update,     Role::Workspace};

size_t place(Role role) {
  return static_cast<size_t>(std::find(std::begin(stack), std::end(stack), role) -
                             std::begin(stack));
}

class Writer {
public:
  Writer(const Values &values, const PageLimits &limits)
      : values(values), plan(values.plan), limits(limits),
        steps(static_cast<size_t>(plan.instructions_size())) {}

  PageFacts write() {
    PageFacts facts;
    Json json;
    json["instructions"] = steps;
    json["arena"] = plan.promise().arena_bytes();
    json["peak"] = plan.promise().peak_instruction();
    json["roles"] = Json::array();
    for (Role role : stack)
      json["roles"].push_back(roleName(role));
    json["persistent"] = {place(Role::Parameter), place(Role::State), place(Role::Constant),
                          place(Role::Input)};
    json["sections"] = sections();
    json["columns"] = columns();
    json["tensors"] = tensors(facts);
    json["pareto"] = Json::array();
    std::optional<ModelledTime> time = modelledTime(plan, plan.target());
    for (auto [bytes, picoseconds] : paretoCurve(plan))
      if (time && time->step > 0)
        json["pareto"].push_back({bytes, static_cast<double>(picoseconds) * 1e-12 / time->step});
    json["chosenShare"] = time ? time->overhead() : 0.0;
    json["strings"] = std::move(strings);
    // Names come from a stranger's model and may be any bytes; "</script" must not end the element.
    std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    for (char c : text)
      facts.json += c == '<' ? std::string("\\u003c") : std::string(1, c);
    return facts;
  }

private:
  size_t text(std::string full) {
    if (full.size() > limits.text) {
      size_t end = limits.text;
      while (end > 0 && (static_cast<unsigned char>(full[end]) & 0xC0) == 0x80)
        --end; // not within a character
      full = full.substr(0, end) + "…";
    }
    auto [at, added] = numberOf.try_emplace(std::move(full), strings.size());
    if (added)
      strings.push_back(at->first);
    return at->second;
  }

  Json sections() const {
    uint64_t forward = std::min<uint64_t>(plan.forward_end(), steps),
             often = std::clamp<uint64_t>(plan.micro_batch_end(), forward, steps);
    Json list = Json::array();
    auto add = [&](const char *name, uint64_t first, uint64_t last) {
      if (first < last)
        list.push_back({name, first, last});
    };
    add("forward", 0, forward);
    add("backward", forward, often);
    add("once a step", often, steps);
    return list;
  }

  Json columns() {
    std::vector<std::array<int64_t, roleCount>> change(steps + 1);
    for (const Value &value : values.all) {
      auto bytes = static_cast<int64_t>(values.buffer(value).bytes());
      change[value.first][place(value.role)] += bytes;
      change[value.last][place(value.role)] -= bytes;
    }
    Json list = Json::array();
    size_t count = std::min(steps, limits.columns), column = 0;
    std::array<int64_t, roleCount> now{}, fullest{};
    int64_t most = -1;
    size_t at = 0;
    for (size_t i = 0; i < steps; ++i) {
      int64_t total = 0;
      for (size_t role = 0; role < roleCount; ++role)
        total += now[role] += change[i][role];
      if (total > most) {
        most = total;
        fullest = now;
        at = i;
      }
      if (i + 1 < (column + 1) * steps / count)
        continue;
      const plan::Instruction &instruction = plan.instructions(static_cast<int>(at));
      list.push_back({{"begin", column * steps / count},
                      {"at", at},
                      {"bytes", fullest},
                      {"kernel", text(rt::kernelTitle(plan, instruction))},
                      {"phase", text(phaseName(instruction.phase()))},
                      {"block", values.blocks.empty() ? -1 : values.blocks[at]},
                      {"node", text(instruction.location())}});
      ++column;
      most = -1;
    }
    return list;
  }

  Json tensors(PageFacts &facts) {
    auto area = [&](size_t i) {
      const Value &value = values.all[i];
      return static_cast<double>(values.buffer(value).bytes()) *
             static_cast<double>(value.last - value.first);
    };
    std::vector<size_t> order;
    double whole = 0, drawn = 0;
    for (size_t i = 0; i < values.all.size(); ++i)
      if (values.all[i].first < values.all[i].last) {
        order.push_back(i);
        whole += area(i);
      }
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return area(a) > area(b); });
    facts.allTensors = order.size();
    // A tenth for what is alive at the peak, however shortly.
    std::set<size_t> chosen;
    std::vector<const Value *> alive = values.aliveAt(plan.promise().peak_instruction());
    for (size_t i = 0; i < std::min(alive.size(), limits.tensors / 10); ++i)
      chosen.insert(static_cast<size_t>(alive[i] - values.all.data()));
    for (size_t i = 0; i < order.size() && chosen.size() < limits.tensors; ++i)
      chosen.insert(order[i]);
    Json list = Json::array();
    for (size_t i : chosen) {
      const Value &value = values.all[i];
      const plan::Buffer &buffer = values.buffer(value);
      std::string type = values.dtype(value);
      type += (type.empty() ? "scratch" : " ") + values.shape(value);
      list.push_back({value.first, value.last, buffer.offset(), buffer.bytes(), place(value.role),
                      text(values.kernel(value)), text(type), text(values.name(value)),
                      text(values.why(value))});
      drawn += area(i);
    }
    facts.tensors = chosen.size();
    facts.drawnShare = whole > 0 ? drawn / whole : 1;
    return list;
  }

  const Values &values;
  const plan::Plan &plan;
  const PageLimits &limits;
  size_t steps;
  Json strings = Json::array();
  std::map<std::string, size_t> numberOf;
};

} // namespace

std::vector<std::pair<uint64_t, uint64_t>> paretoCurve(const plan::Plan &plan) {
  std::vector<std::pair<uint64_t, uint64_t>> points;
  for (const plan::Attribute &note : plan.notes())
    if (note.name() == "pareto_curve")
      for (int i = 0; i + 2 <= note.ints().value_size(); i += 2)
        points.emplace_back(static_cast<uint64_t>(note.ints().value(i)),
                            static_cast<uint64_t>(note.ints().value(i + 1)));
  return points;
}

PageFacts pageFacts(const Values &values, const PageLimits &limits) {
  return Writer(values, limits).write();
}

} // namespace amc::report
