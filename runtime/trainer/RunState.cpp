// See RunState.h.
#include "runtime/trainer/RunState.h"

#include <nlohmann/json.hpp>
#include <optional>

namespace amc::rt {
namespace {

using Json = nlohmann::ordered_json;
constexpr uint64_t stateVersion = 1;

} // namespace

std::string stateToJson(const RunState &state) {
  Json json;
  json["format"] = stateVersion;
  json["step"] = state.step;
  json["epoch"] = state.epoch;
  json["position"] = state.position;
  json["entries_per_epoch"] = state.entriesPerEpoch;
  json["data_use"] = state.dataUse;
  json["seed"] = state.seed;
  if (state.mesh.ranks() > 1) {
    for (size_t axis = 0; axis < meshAxes.size(); ++axis)
      json["mesh"][meshAxes[axis]] = state.mesh.size[axis];
    if (state.mesh.ep > 1)
      json["mesh"]["ep"] = state.mesh.ep;
  }
  json["schedule"] = {{"kind", scheduleName(state.schedule.kind)},
                      {"lr", state.schedule.rate},
                      {"min_lr", state.schedule.minRate},
                      {"warmup_steps", state.schedule.warmupSteps},
                      {"steps", state.schedule.horizon},
                      {"steps_given", state.horizonGiven},
                      {"init_lr", state.schedule.initRate},
                      {"wsd_steps", state.schedule.wsdSteps},
                      {"wsd_style", decayName(state.schedule.wsdStyle)}};
  return json.dump(2) + "\n";
}

Expected<RunState> stateFromJson(const std::string &text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  std::string faults;
  auto value = [&](const Json &object, const char *key) -> Json {
    if (!object.is_object() || !object.contains(key) || object[key].is_null()) {
      faults += (faults.empty() ? "'" : ", '") + std::string(key) + "'";
      return {};
    }
    return object[key];
  };
  auto number = [&](const Json &object, const char *key) -> uint64_t {
    Json found = value(object, key);
    if (found.is_number_unsigned())
      return found.get<uint64_t>();
    faults += found.is_null() ? "" : (faults.empty() ? "'" : ", '") + std::string(key) + "'";
    return 0;
  };
  auto real = [&](const Json &object, const char *key) -> double {
    Json found = value(object, key);
    if (found.is_number())
      return found.get<double>();
    faults += found.is_null() ? "" : (faults.empty() ? "'" : ", '") + std::string(key) + "'";
    return 0;
  };
  RunState state;
  uint64_t version = number(json, "format");
  state.step = number(json, "step");
  state.epoch = number(json, "epoch");
  state.position = number(json, "position");
  state.entriesPerEpoch = number(json, "entries_per_epoch");
  if (json.is_object() && json.contains("data_use") && json["data_use"].is_string())
    state.dataUse = json["data_use"].get<std::string>(); // empty in older checkpoints
  state.seed = number(json, "seed");
  if (json.is_object() && json.contains("mesh")) { // absent: one rank
    const Json &mesh = json["mesh"];
    for (size_t axis = 0; axis < meshAxes.size(); ++axis)
      state.mesh.size[axis] = number(mesh, meshAxes[axis].data());
    if (mesh.is_object() && mesh.contains("ep"))
      state.mesh.ep = number(mesh, "ep");
  }
  Json schedule = value(json, "schedule");
  state.schedule.rate = real(schedule, "lr");
  state.schedule.minRate = real(schedule, "min_lr");
  state.schedule.warmupSteps = number(schedule, "warmup_steps");
  state.schedule.horizon = number(schedule, "steps");
  if (schedule.is_object() && schedule.contains("steps_given")) // older checkpoints do not say
    state.horizonGiven = schedule["steps_given"] == true;
  if (schedule.is_object() && schedule.contains("wsd_style")) { // older checkpoints have none of the three
    state.schedule.initRate = real(schedule, "init_lr");
    state.schedule.wsdSteps = number(schedule, "wsd_steps");
    std::optional<DecayStyle> style;
    if (schedule["wsd_style"].is_string())
      style = decayFromName(schedule["wsd_style"].get_ref<const std::string &>());
    if (!style)
      return inputError("is no state of a run: its schedule's wsd_style should be ", decayNames());
    state.schedule.wsdStyle = *style;
  }
  Json kind = value(schedule, "kind");
  std::optional<ScheduleKind> known;
  if (kind.is_string())
    known = scheduleFromName(kind.get_ref<const std::string &>());
  if (!known)
    return inputError("is no state of a run: its schedule kind should be ", scheduleNames());
  state.schedule.kind = *known;
  if (!faults.empty())
    return inputError("is no state of a run: ", faults, " missing or no number");
  if (version != stateVersion)
    return inputError("its format is ", version, " and should be ", stateVersion);
  return state;
}

std::string checkpointName(const RunState &state) {
  return text("epoch_", state.epoch, "_step_", state.step);
}

} // namespace amc::rt
