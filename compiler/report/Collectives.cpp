// See Collectives.h. The model: a collective takes what its ring sends at the rate of the slowest link that its ranks span,
// and a time to begin (compiler/analysis/CostModel). Those over data-parallel axes bring parameters and take gradients away:
// they can run beside the computation of neighbouring layers. Those over tp and cp alone stand between one operation and
// the next, and cannot. So a step takes at least computation and the latter, or what is sent at all if that is longer. What
// the plan's own windows (overlap-collectives) make of it is between the two; modelledTime follows them.
// Attention in a ring sends beside its own computation: what counts is what is longer than that, and the steps' beginnings.
#include "compiler/report/Collectives.h"
#include "compiler/analysis/BytesText.h"
#include "compiler/analysis/CostModel.h"
#include "compiler/report/Peak.h"
#include "compiler/report/Values.h"
#include "runtime/plan/PlanRanks.h"
#include "runtime/plan/Splits.h"
#include <map>
#include <tuple>

namespace amc::report {
namespace {

struct Line {
  uint64_t count = 0, bytes = 0;
  double seconds = 0;
  bool network = false, beside = false, own = false; // beside other computation, beside its own
};

struct Facts {
  std::map<std::tuple<std::string, std::string, bool>, Line> lines; // by kernel, group and `beside`, of a step
  double beside = 0, between = 0, computation = 0;           // seconds
  double planned = 0, exposed = 0; // a step as the plan has it, and what it waits for communication
  uint64_t async = 0;              // collectives of a step that are only started where they stand
  double overlapped() const { return std::max(computation + between, beside + between); }
  double serial() const { return computation + beside + between; }
};

constexpr const char *modelled = "cuda:sm_90";

const char *placeOf(const Line &line) {
  return line.own ? "beside its own computation" : line.beside ? "beside computation" : "between operations";
}

Facts gather(const plan::Plan &plan) {
  Facts facts;
  const rt::MeshShape mesh = rt::meshOf(plan);
  std::optional<DeviceModel> device = deviceModel(modelled, plan.precision());
  for (int i = 0; i < plan.instructions_size(); ++i) {
    const plan::Instruction &instruction = plan.instructions(i);
    if (!rt::isCollective(instruction))
      continue;
    std::string group;
    for (const plan::Attribute &attribute : instruction.attributes())
      if (attribute.name() == "group")
        group = attribute.s();
    std::optional<rt::Axes> axes = rt::groupAxes(group, mesh);
    if (!axes)
      continue;
    uint64_t times = static_cast<uint64_t>(i) < plan.micro_batch_end() ? std::max<uint64_t>(1, plan.accumulation()) : 1;
    // Over cp alone both weights and keys are gathered; of those, what the plan has beside computation can be there.
    const bool beside = rt::isAsync(instruction) ||
                        (rt::overlap(*axes, rt::dataAxes) && instruction.kernel() != "all_to_all"); // rows are waited for
    Line &line = facts.lines[{instruction.kernel(), group, beside}];
    uint64_t span = rt::groupSpan(mesh, *axes), sent = rt::bytesSent(instruction);
    line.network = span > device->ranksPerHost;
    line.beside = beside;
    line.count += times;
    line.bytes += times * sent;
    facts.async += rt::isAsync(instruction) ? times : 0;
    GraphOp op;
    op.flops = instruction.flops();
    double computing = amc::seconds(opCost(op, *device));
    op.span = span;
    op.bytesSent = sent;
    op.steps = rt::ringSteps(instruction);
    line.own = op.steps > 0;
    double seconds = sendingSeconds(op, computing, *device);
    line.seconds += static_cast<double>(times) * seconds;
    (line.beside ? facts.beside : facts.between) += static_cast<double>(times) * seconds;
  }
  if (std::optional<ModelledTime> time = modelledTime(plan, modelled)) {
    facts.planned = time->step + time->recompute;
    facts.exposed = time->exposed;
    facts.computation = std::max(0.0, facts.planned - facts.exposed);
  }
  return facts;
}

} // namespace

std::string collectivesText(const plan::Plan &plan) {
  const rt::MeshShape mesh = rt::meshOf(plan);
  if (mesh.ranks() == 1)
    return "";
  Facts facts = gather(plan);
  std::optional<DeviceModel> device = deviceModel(modelled, plan.precision());
  uint64_t count = 0, bytes = 0;
  for (const auto &[name, line] : facts.lines) {
    count += line.count;
    bytes += line.bytes;
  }
  std::string out = format("ranks                %llu (%s), %s\n", static_cast<unsigned long long>(mesh.ranks()),
                           rt::meshText(mesh).c_str(), plan.strategy().c_str());
  out += format("collectives a step   %llu, each rank sends %s; times are modelled on %s: %.0f GB/s within a host of %llu ranks, "
                "%.0f GB/s beyond, %.0f us to begin\n",
                static_cast<unsigned long long>(count), bytesText(bytes).c_str(), modelled,
                device->linkBytesPerSecond * 1e-9, static_cast<unsigned long long>(device->ranksPerHost),
                device->networkBytesPerSecond * 1e-9, device->collectiveSeconds * 1e6);
  for (const auto &[name, line] : facts.lines)
    out += format("  %-20s %-22s %6llu  %10s  %-7s %10.4f s  %s\n", std::get<0>(name).c_str(), std::get<1>(name).c_str(),
                  static_cast<unsigned long long>(line.count), bytesText(line.bytes).c_str(),
                  line.network ? "network" : "host", line.seconds,
                  placeOf(line));
  out += format("  computation %.4f s; a step takes %.4f s if all that can run beside it does, %.4f s if nothing does\n",
                facts.computation, facts.overlapped(), facts.serial());
  out += format("  as this plan has it, a step takes %.4f s: %llu of its collectives run beside computation, and of %.4f s of "
                "communication %.4f s are exposed\n",
                facts.planned, static_cast<unsigned long long>(facts.async), facts.beside + facts.between, facts.exposed);
  return out;
}

nlohmann::ordered_json collectivesJson(const plan::Plan &plan) {
  Facts facts = gather(plan);
  auto list = nlohmann::ordered_json::array();
  for (const auto &[name, line] : facts.lines)
    list.push_back({{"kernel", std::get<0>(name)},
                    {"group", std::get<1>(name)},
                    {"count", line.count},
                    {"bytes_sent", line.bytes},
                    {"link", line.network ? "network" : "host"},
                    {"seconds", line.seconds},
                    {"beside_computation", line.beside}});
  return {{"device", modelled},
          {"collectives", list},
          {"computation_seconds", facts.computation},
          {"async_collectives", facts.async},
          {"planned_seconds", facts.planned},
          {"exposed_seconds", facts.exposed},
          {"overlapped_seconds", facts.overlapped()},
          {"serial_seconds", facts.serial()}};
}

} // namespace amc::report
