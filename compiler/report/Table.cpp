// The table as text and JSON. Numbers in one column have one unit, and the parts of a peak are
// rounded so that they add up to it as it is printed; JSON has the bytes.
#include "compiler/report/Table.h"
#include "compiler/report/Peak.h"
#include "runtime/plan/FusedKernels.h"
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace amc::report {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t shownGroups = 8; // of what is alive at a peak

struct Unit {
  const char *name;
  double size;
};
Unit unitFor(uint64_t largest) {
  if (largest >= uint64_t(1) << 30)
    return {"GiB", 0x1p30};
  if (largest >= uint64_t(1) << 20)
    return {"MiB", 0x1p20};
  return {"KiB", 0x1p10};
}

// Hundredths of the unit, the parts adding up to the rounded whole: whatever the rounding of each
// part leaves over goes to the parts that it wrongs most.
std::vector<int64_t> hundredths(const std::vector<uint64_t> &parts, Unit unit) {
  uint64_t whole = 0;
  std::vector<std::pair<double, size_t>> lost;
  std::vector<int64_t> result;
  int64_t sum = 0;
  for (uint64_t part : parts) {
    double exact = static_cast<double>(part) * 100 / unit.size;
    auto down = static_cast<int64_t>(exact);
    lost.emplace_back(static_cast<double>(down) - exact, result.size());
    result.push_back(down);
    sum += down;
    whole += part;
  }
  auto total = static_cast<int64_t>(static_cast<double>(whole) * 100 / unit.size + 0.5);
  std::stable_sort(lost.begin(), lost.end());
  for (size_t i = 0; i < lost.size() && sum < total; ++i, ++sum)
    ++result[lost[i].second];
  return result;
}

std::string inUnit(int64_t hundredthsOf) {
  return format("%lld.%02lld", static_cast<long long>(hundredthsOf / 100),
                static_cast<long long>(hundredthsOf % 100));
}

// The columns that a peak is the sum of.
std::vector<std::pair<std::string, uint64_t>> parts(const plan::Plan &plan) {
  const plan::Promise &promise = plan.promise();
  return {{"params", promise.parameter_bytes()},
          {"grads", promise.gradient_bytes()},
          {"states", promise.optimizer_state_bytes()},
          {"activat.", promise.activation_bytes()},
          {"workspace", promise.workspace_bytes()},
          {"in+const", promise.input_bytes() + promise.constant_bytes()},
          {"fragm.", promise.arena_bytes() - promise.max_live_bytes()}};
}

// A whole step beside one of the first row: recomputation counts, and so does what a tiled or fused
// operation computes again within itself.
std::string timeText(const plan::Plan &plan, const plan::Plan &first, const char *device) {
  std::optional<ModelledTime> time = modelledTime(plan, device), base = modelledTime(first, device);
  if (!time || !base || !(base->step + base->recompute > 0))
    return "?";
  double percent = 100 * ((time->step + time->recompute) / (base->step + base->recompute) - 1);
  return format("%+.1f%%", std::abs(percent) < 0.05 ? 0.0 : percent); // no minus zero
}

std::string typeText(const Values &values, const Value &value) {
  std::string dtype = values.dtype(value), shape = values.shape(value);
  return shape.empty() ? "scratch" : dtype + " " + shape;
}

// A peak is decided by what is alive there; two rows are decided alike if that is.
struct Peak {
  Values values;
  std::vector<const Value *> alive;
  std::vector<AliveGroup> groups;
  explicit Peak(const plan::Plan &plan)
      : values(plan), alive(values.aliveAt(plan.promise().peak_instruction())),
        groups(group(values, alive)) {}

  std::string signature() const {
    std::string text;
    for (const AliveGroup &group : groups)
      text += format("%llu %llu ", static_cast<unsigned long long>(group.count),
                     static_cast<unsigned long long>(group.bytes)) +
              roleName(group.first->role) + values.kernel(*group.first) +
              typeText(values, *group.first) + "\n";
    return text;
  }
  // What comes and goes within a step decides; weights and states are in every row.
  const AliveGroup *decider() const {
    for (const AliveGroup &group : groups)
      if (!values.buffer(*group.first).persistent())
        return &group;
    return groups.empty() ? nullptr : &groups.front();
  }
};

std::string groupLine(const Peak &peak, const AliveGroup &group) {
  const Values &values = peak.values;
  std::string kernel = values.kernel(*group.first);
  std::string line =
      format("  %10s  %4llu x %-10s %-10s %-26s %-26s ", bytesText(group.bytes).c_str(),
             static_cast<unsigned long long>(group.count),
             bytesText(group.bytes / group.count).c_str(), roleName(group.first->role),
             typeText(values, *group.first).c_str(), kernel.empty() ? "-" : kernel.c_str());
  return line + (group.count > 1 ? "first: " : "") + values.name(*group.first) + "\n";
}

std::string peakText(const TableRow &row, const Peak &peak) {
  const plan::Promise &promise = row.plan->promise();
  std::string at = "no instruction";
  if (promise.peak_instruction() < static_cast<uint64_t>(row.plan->instructions_size())) {
    const plan::Instruction &instruction =
        row.plan->instructions(static_cast<int>(promise.peak_instruction()));
    at = format("instruction %llu of %d, %s (%s)",
                static_cast<unsigned long long>(promise.peak_instruction()),
                row.plan->instructions_size(), rt::kernelTitle(*row.plan, instruction).c_str(),
                phaseName(instruction.phase())) +
         (instruction.location().empty() ? "" : " of " + instruction.location());
  }
  std::string out = "  " + at + "\n";
  uint64_t rest = 0;
  size_t others = 0;
  for (size_t i = 0; i < peak.groups.size(); ++i) {
    if (i < shownGroups)
      out += groupLine(peak, peak.groups[i]);
    else {
      rest += peak.groups[i].bytes;
      others += peak.groups[i].count;
    }
  }
  if (others)
    out += format("  %10s  %4zu smaller tensors and scratch\n", bytesText(rest).c_str(), others);
  out += format("  %10s  live; + %s fragmentation = %s, the arena\n",
                bytesText(promise.max_live_bytes()).c_str(),
                bytesText(promise.arena_bytes() - promise.max_live_bytes()).c_str(),
                bytesText(promise.arena_bytes()).c_str());
  return out;
}

Json aliveJson(const Peak &peak) {
  Json list = Json::array();
  for (const Value *value : peak.alive)
    list.push_back({{"name", peak.values.name(*value)},
                    {"category", categoryName(peak.values.buffer(*value).category())},
                    {"role", roleName(value->role)},
                    {"operation", peak.values.kernel(*value)},
                    {"dtype", peak.values.dtype(*value)},
                    {"shape", peak.values.shape(*value)},
                    {"bytes", peak.values.buffer(*value).bytes()},
                    {"first", value->first},
                    {"last", value->last},
                    {"why", peak.values.why(*value)}});
  return list;
}

// What a row has more and less at its peak than the row above it, part by part; the parts add up to the difference.
std::string differenceText(const TableRow &row, const TableRow &above, int number) {
  auto mine = parts(*row.plan), its = parts(*above.plan);
  auto difference = [](uint64_t a, uint64_t b) {
    return (a >= b ? "+" : "-") + std::to_string(a >= b ? a - b : b - a);
  };
  std::string line = format("  bytes beside %d: ", number) +
                     difference(row.plan->promise().arena_bytes(), above.plan->promise().arena_bytes()) + " =";
  for (size_t part = 0; part < mine.size(); ++part)
    if (mine[part].second != its[part].second)
      line += " " + mine[part].first + " " + difference(mine[part].second, its[part].second);
  return line + "\n";
}

size_t columnWidth(const std::vector<TableRow> &rows) {
  size_t width = 9;
  for (const TableRow &row : rows)
    width = std::max(width, row.technique.size());
  return width;
}

} // namespace

std::string tableText(const TableRequest &request, const std::vector<TableRow> &rows) {
  uint64_t largest = 0, work = 0, mostSent = 0;
  bool anyErrors = false;
  for (const TableRow &row : rows) {
    largest = std::max(largest, row.plan ? row.plan->promise().arena_bytes() : 0);
    work = std::max(work, row.plan ? row.plan->promise().flops_recompute() : 0);
    mostSent = std::max(mostSent, row.plan ? row.plan->promise().collective_bytes() : 0);
    anyErrors = anyErrors || !row.plan;
  }
  Unit unit = unitFor(largest), sent = unitFor(mostSent), flops = work >= 1'000'000'000'000 ? Unit{"TFLOP", 1e12}
                                        : work >= 1'000'000'000   ? Unit{"GFLOP", 1e9}
                                                                  : Unit{"MFLOP", 1e6};
  const int width = static_cast<int>(columnWidth(rows));

  std::string out = request.model + ", " + (request.shapes.empty() ? "" : request.shapes + ", ") +
                    request.precision + "; " + unit.name +
                    ". A peak is the whole arena: the sum of the columns behind it.\n";
  out += format("%2s  %-*s %9s", "#", width, "technique", "peak");
  for (const char *name :
       {"params", "grads", "states", "activat.", "workspace", "in+const", "fragm."})
    out += format(" %9s", name);
  out += format(" %10s %10s %9s %9s", "saved", "recompute", "time on", "time on");
  if (mostSent)
    out += format(" %9s", "sent");
  if (request.deviceMemory)
    out += format("  %s", bytesText(*request.deviceMemory).c_str());
  out += format("\n%2s  %-*s %9s", "", width, "", "");
  for (int i = 0; i < 7; ++i)
    out += format(" %9s", "");
  out += format(" %10s %10s %9s %9s", "", flops.name, "cpu", "sm_90");
  if (mostSent)
    out += format(" %9s", sent.name);
  out += "\n";
  const plan::Plan *first = nullptr;
  for (const TableRow &row : rows)
    if (row.plan && !first)
      first = &*row.plan;
  int number = 0;
  for (const TableRow &row : rows) {
    out += format("%2d  %-*s", ++number, width, row.technique.c_str());
    if (!row.plan) {
      out += " cannot be done, see below\n";
      continue;
    }
    const plan::Promise &promise = row.plan->promise();
    std::vector<uint64_t> bytes;
    for (const auto &[name, part] : parts(*row.plan))
      bytes.push_back(part);
    std::vector<int64_t> printed = hundredths(bytes, unit);
    int64_t sum = 0;
    for (int64_t part : printed)
      sum += part;
    out += format(" %9s", inUnit(sum).c_str());
    for (int64_t part : printed)
      out += format(" %9s", inUnit(part).c_str());
    out += format(" %10s %10.3f %9s %9s",
                  inUnit(hundredths({promise.saved_bytes()}, unit)[0]).c_str(),
                  static_cast<double>(promise.flops_recompute()) / flops.size,
                  timeText(*row.plan, *first, modelledDevices[0]).c_str(),
                  timeText(*row.plan, *first, modelledDevices[1]).c_str());
    if (mostSent)
      out += format(" %9s", inUnit(hundredths({promise.collective_bytes()}, sent)[0]).c_str());
    if (request.deviceMemory)
      out += request.fits(promise.arena_bytes()) ? "  fits" : "  does not fit";
    out += "\n";
  }
  out += "\nsaved: forward values that backward reads. recompute: of one micro-batch, without what a "
         "tiled or fused operation computes again within itself. time: a whole modelled step beside "
         "that of the first row.\n";
  if (mostSent)
    out += "sent: by each rank to others in a step of one micro-batch, as rings send; what of it overlaps with "
           "computation is not counted off.\n";
  if (request.deviceMemory)
    out += "fits: in " + bytesText(*request.deviceMemory) + " less a reserve of " +
           bytesText(request.reserve) + " for what no plan owns.\n";
  for (const std::string &note : request.notes)
    out += note + "\n";
  if (anyErrors) {
    out += "\ncannot be done\n";
    number = 0;
    for (const TableRow &row : rows) {
      ++number;
      for (const std::string &error : row.errors)
        out += format("%2d  %s: ", number, row.technique.c_str()) + error + "\n";
    }
  }

  out += "\nalive at each peak\n";
  std::vector<std::pair<std::string, int>> seen;
  std::vector<std::pair<uint64_t, int>> peaks;
  number = 0;
  const TableRow *above = nullptr;
  int aboveNumber = 0;
  for (const TableRow &row : rows) {
    ++number;
    if (!row.plan)
      continue;
    Peak peak(*row.plan);
    const plan::Promise &promise = row.plan->promise();
    out += format("%2d  %s: %s   %s\n", number, row.technique.c_str(),
                  bytesText(promise.arena_bytes()).c_str(), row.flags.c_str());
    if (above && above->plan->promise().arena_bytes() != promise.arena_bytes())
      out += differenceText(row, *above, aboveNumber);
    above = &row;
    aboveNumber = number;
    auto equal = std::find_if(peaks.begin(), peaks.end(),
                              [&](auto &known) { return known.first == promise.arena_bytes(); });
    if (equal != peaks.end())
      if (const AliveGroup *decider = peak.decider())
        out += format("  the same peak as %d: what decides is %s of %s (%s)\n", equal->second,
                      typeText(peak.values, *decider->first).c_str(),
                      peak.values.name(*decider->first).c_str(), roleName(decider->first->role));
    peaks.emplace_back(promise.arena_bytes(), number);
    std::string signature = peak.signature();
    auto same = std::find_if(seen.begin(), seen.end(),
                             [&](auto &known) { return known.first == signature; });
    out += same == seen.end() ? peakText(row, peak)
                              : format("  the same tensors are alive as at the peak of %d\n",
                                       same->second);
    seen.emplace_back(std::move(signature), number);
  }
  return out;
}

std::string tableJson(const TableRequest &request, const std::vector<TableRow> &rows) {
  Json list = Json::array();
  for (const TableRow &row : rows) {
    if (!row.plan) {
      list.push_back({{"technique", row.technique}, {"flags", row.flags}, {"errors", row.errors}});
      continue;
    }
    const plan::Promise &promise = row.plan->promise();
    Json categories = Json::object(), times = Json::object();
    for (const auto &[name, bytes] : categoriesAtPeak(*row.plan))
      categories[name] = bytes;
    for (const char *device : modelledDevices)
      if (std::optional<ModelledTime> time = modelledTime(*row.plan, device))
        times[device] = {{"step_seconds", time->step},
                         {"recompute_seconds", time->recompute},
                         {"overhead", time->overhead()}};
    Json entry = {{"technique", row.technique},
                  {"flags", row.flags},
                  {"peak_bytes", promise.arena_bytes()},
                  {"max_live_bytes", promise.max_live_bytes()},
                  {"fragmentation_bytes", promise.arena_bytes() - promise.max_live_bytes()},
                  {"saved_bytes", promise.saved_bytes()},
                  {"categories", categories},
                  {"recompute_flops", promise.flops_recompute()},
                  {"collective_bytes", promise.collective_bytes()},
                  {"modelled_time", times},
                  {"peak_instruction", promise.peak_instruction()},
                  {"alive_at_peak", aliveJson(Peak(*row.plan))}};
    if (request.deviceMemory)
      entry["fits"] = request.fits(promise.arena_bytes());
    list.push_back(std::move(entry));
  }
  Json json = {{"model", request.model}, {"shapes", request.shapes}, {"precision", request.precision}};
  if (request.deviceMemory)
    json["device_memory_bytes"] = *request.deviceMemory;
  if (request.deviceMemory)
    json["reserve_bytes"] = request.reserve;
  if (!request.notes.empty())
    json["notes"] = request.notes;
  json["rows"] = std::move(list);
  // Names come from a stranger's model and may be any bytes.
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace amc::report
