// See Checkpoint.h.
#include "runtime/trainer/Checkpoint.h"

#include "runtime/trainer/Weights.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

namespace amc::rt {
namespace {

using Json = nlohmann::ordered_json;
constexpr uint64_t stateVersion = 1;
constexpr std::string_view partialPrefix = ".partial-";

std::string statePrefix(const plan::OptimizerState &state) { return state.name() + "."; }

// The step of a folder named epoch_E_step_S; nothing for any other name.
std::optional<uint64_t> stepOf(std::string_view name) {
  auto number = [&](std::string_view prefix) -> std::optional<uint64_t> {
    uint64_t value;
    if (!name.starts_with(prefix))
      return std::nullopt;
    const char *begin = name.data() + prefix.size();
    auto [at, error] = std::from_chars(begin, name.data() + name.size(), value);
    if (error != std::errc())
      return std::nullopt;
    name.remove_prefix(static_cast<size_t>(at - name.data()));
    return value;
  };
  if (!number("epoch_"))
    return std::nullopt;
  std::optional<uint64_t> step = number("_step_");
  return name.empty() ? step : std::nullopt;
}

// Names of the entries of a directory, sorted.
Expected<std::vector<std::string>> entriesOf(const std::string &directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error))
    names.push_back(at->path().filename().string());
  if (error)
    return systemError(error.value(), directory, "cannot be listed");
  std::sort(names.begin(), names.end());
  return names;
}

// Renames a whole checkpoint to its place. A folder of that name is from an earlier run in the same
// directory: the two change places, so that at no time there is neither, and the old one is
// removed.
Status putInPlace(const std::string &partial, const std::string &folder) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder, ignored))
    return renamePath(partial, folder);
  if (::renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) != 0)
    return systemError(errno, folder, "cannot be replaced");
  return removeTree(partial);
}

Status saveOptimizer(const Executor &executor, const std::string &path) {
  std::vector<SafetensorsWriter::Spec> specs;
  const plan::Plan &plan = executor.plan();
  for (const plan::Parameter &parameter : plan.parameters())
    for (const plan::OptimizerState &state : parameter.states())
      specs.push_back({statePrefix(state) + parameter.name(), state.view().dtype(),
                       Shape(state.view().shape().begin(), state.view().shape().end())});
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(path, std::move(specs), {});
  if (!writer.ok())
    return writer.status();
  for (int i = 0; i < plan.parameters_size(); ++i)
    for (int s = 0; s < plan.parameters(i).states_size(); ++s) {
      Tensor tensor = executor.state(i, s);
      std::span<const std::byte> bytes(static_cast<const std::byte *>(tensor.data), tensor.bytes);
      std::string name = statePrefix(plan.parameters(i).states(s)) + plan.parameters(i).name();
      if (Status failure = writer->write(name, 0, bytes); !failure.ok())
        return failure;
    }
  return writer->finish();
}

Status loadOptimizer(Executor &executor, const std::string &path) {
  Expected<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file.ok())
    return file.status();
  const plan::Plan &plan = executor.plan();
  for (int i = 0; i < plan.parameters_size(); ++i)
    for (int s = 0; s < plan.parameters(i).states_size(); ++s) {
      const plan::OptimizerState &state = plan.parameters(i).states(s);
      std::string name = statePrefix(state) + plan.parameters(i).name();
      const TensorInfo *info = file->find(name);
      Tensor tensor = executor.state(i, s);
      Shape shape(state.view().shape().begin(), state.view().shape().end());
      if (!info)
        return inputError(path, ": the plan's optimizer state '", name, "' is missing");
      if (info->shape != shape || info->dtype != tensor.dtype)
        return inputError(path, ": tensor '", name, "' is ", dtypeName(info->dtype), " ",
                          shapeText(info->shape), " and should be ", dtypeName(tensor.dtype), " ",
                          shapeText(shape));
      if (Status failure = file->read(*info, 0, tensor.elements, tensor.dtype,
                                      static_cast<std::byte *>(tensor.data));
          !failure.ok())
        return failure;
    }
  return {};
}

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
  json["schedule"] = {{"kind", scheduleName(state.schedule.kind)},
                      {"lr", state.schedule.rate},
                      {"min_lr", state.schedule.minRate},
                      {"warmup_steps", state.schedule.warmupSteps},
                      {"steps", state.schedule.horizon},
                      {"init_lr", state.schedule.initRate},
                      {"wsd_steps", state.schedule.wsdSteps},
                      {"wsd_style", decayName(state.schedule.wsdStyle)}};
  return json.dump(2) + "\n";
}

Expected<RunState> stateFromJson(const std::string &text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  std::string faults;
  auto value = [&](const Json &object, const char *key) -> Json {
    if (!object.is_object() || !object.contains(key)) {
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
  Json schedule = value(json, "schedule");
  state.schedule.rate = real(schedule, "lr");
  state.schedule.minRate = real(schedule, "min_lr");
  state.schedule.warmupSteps = number(schedule, "warmup_steps");
  state.schedule.horizon = number(schedule, "steps");
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

Expected<Checkpoints::Lock> Checkpoints::lock(const std::string &directory) {
  int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0)
    return systemError(errno, directory, "cannot be opened");
  Lock held(new int(descriptor), [](const int *closed) {
    ::close(*closed);
    delete closed;
  });
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return inputError(directory, ": another run writes its checkpoints here; give each run a "
                                 "folder of its own");
  return held;
}

Expected<Checkpoints> Checkpoints::open(const std::string &directory, uint64_t keep) {
  if (Status failure = makeDirectory(directory); !failure.ok())
    return failure;
  // A folder that cannot be written should not be found out by a run's last step.
  if (::access(directory.c_str(), W_OK | X_OK) != 0)
    return systemError(errno, directory, "cannot be written");
  Expected<Lock> held = lock(directory);
  if (!held.ok())
    return held.status();
  Expected<std::vector<std::string>> names = entriesOf(directory);
  if (!names.ok())
    return names.status();
  for (const std::string &name : *names)
    if (name.starts_with(partialPrefix))
      if (Status failure = removeTree(directory + "/" + name); !failure.ok())
        return failure;
  return Checkpoints(directory, keep, std::move(*held));
}

Status Checkpoints::write(const Executor &executor, const RunState &state,
                          const std::string &folder) const {
  if (Status failure = makeDirectory(folder); !failure.ok())
    return failure;
  if (Status failure = saveWeights(executor, folder + "/model.safetensors"); !failure.ok())
    return failure;
  if (Status failure = saveOptimizer(executor, folder + "/optimizer.safetensors"); !failure.ok())
    return failure;
  if (Status failure = writeWholeFile(folder + "/state.json", stateToJson(state)); !failure.ok())
    return failure;
  return syncDirectory(folder);
}

Status Checkpoints::save(const Executor &executor, const RunState &state) {
  std::string name = checkpointName(state);
  std::string folder = directory + "/" + name;
  std::string partial = directory + "/" + std::string(partialPrefix) + name;
  Status failure = write(executor, state, partial);
  if (failure.ok()) {
    failure = putInPlace(partial, folder);
    if (failure.ok())
      failure = syncDirectory(directory);
    if (failure.ok())
      failure = moveLatest(name);
    if (failure.ok())
      failure = removeOld();
  }
  if (failure.ok())
    return failure;
  // What caused the failure is what to report, even if clearing up fails as well; open() clears
  // again.
  if (Status cleared = removeTree(partial); !cleared.ok())
    return std::move(failure).withContext(text("checkpoint ", name, " (", cleared.message(), ")"));
  return std::move(failure).withContext(text("checkpoint ", name));
}

Status Checkpoints::moveLatest(const std::string &name) const {
  std::string aside = directory + "/" + std::string(partialPrefix) + "LATEST";
  if (Status failure = removeTree(aside); !failure.ok())
    return failure;
  if (::symlink(name.c_str(), aside.c_str()) != 0)
    return systemError(errno, aside, "cannot be linked");
  if (Status failure = renamePath(aside, directory + "/LATEST"); !failure.ok())
    return failure;
  return syncDirectory(directory);
}

Status Checkpoints::removeOld() const {
  if (keep == 0)
    return {};
  Expected<std::vector<std::string>> names = entriesOf(directory);
  if (!names.ok())
    return names.status();
  Expected<std::optional<std::string>> newest = latest();
  if (!newest.ok())
    return newest.status();
  std::vector<std::pair<uint64_t, std::string>> found;
  for (const std::string &name : *names)
    if (std::optional<uint64_t> step = stepOf(name))
      found.emplace_back(*step, directory + "/" + name);
  std::sort(found.begin(), found.end());
  uint64_t surplus = found.size() > keep ? found.size() - keep : 0;
  for (const auto &[step, folder] : found) {
    if (surplus == 0)
      break;
    if (*newest == folder)
      continue;
    --surplus;
    // Renamed first, so that a half-removed folder does not look like a checkpoint.
    std::string aside = directory + "/" + std::string(partialPrefix) +
                        std::filesystem::path(folder).filename().string();
    if (Status failure = renamePath(folder, aside); !failure.ok())
      return failure;
    if (Status failure = removeTree(aside); !failure.ok())
      return failure;
  }
  return {};
}

Expected<std::optional<std::string>> Checkpoints::latest() const {
  std::error_code error;
  std::filesystem::path target = std::filesystem::read_symlink(directory + "/LATEST", error);
  if (error == std::errc::no_such_file_or_directory)
    return std::optional<std::string>();
  if (error)
    return systemError(error.value(), directory + "/LATEST", "should be a symbolic link");
  return std::optional<std::string>(directory + "/" + target.string());
}

Expected<RunState> Checkpoints::load(Executor &executor, const std::string &folder) {
  Expected<std::string> json = readWholeFile(folder + "/state.json", 1 << 20);
  if (!json.ok())
    return json.status();
  Expected<RunState> state = stateFromJson(*json);
  if (!state.ok())
    return std::move(state).status().withContext(folder + "/state.json");
  Expected<SafetensorsReader> weights = SafetensorsReader::open(folder + "/model.safetensors");
  if (!weights.ok())
    return weights.status();
  if (Status failure = readWeights(executor, *weights); !failure.ok())
    return failure;
  if (Status failure = loadOptimizer(executor, folder + "/optimizer.safetensors"); !failure.ok())
    return failure;
  return state;
}

} // namespace amc::rt
