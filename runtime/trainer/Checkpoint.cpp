// See Checkpoint.h.
#include "runtime/trainer/Checkpoint.h"

#include "runtime/trainer/SaveWeights.h"
#include "runtime/trainer/Shards.h"
#include "runtime/trainer/Weights.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <unistd.h>

namespace amc::rt {
namespace {

constexpr std::string_view partialPrefix = ".partial-";
// As passes/AttachOptimizer.cpp names them.
constexpr std::string_view optimizerStates[] = {"master", "exp_avg", "exp_avg_sq", "momentum_buffer"};

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
  if (::renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0)
    return removeTree(partial);
  if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
    return systemError(errno, folder, "cannot be replaced");
  // A file system that cannot, as NFS. LATEST does not name this folder: a run saves behind what it resumed from.
  const std::string aside = partial + "-old";
  if (Status failure = renamePath(folder, aside); !failure.ok())
    return failure;
  if (Status failure = renamePath(partial, folder); !failure.ok())
    return failure;
  return removeTree(aside);
}

// The states that a checkpoint keeps of a parameter.
bool kept(const plan::OptimizerState &state) { return state.name() != shardState; }

// One rank's file: whole tensors.
Status saveOptimizer(const Executor &executor, const std::string &path) {
  std::vector<SafetensorsWriter::Spec> specs;
  const plan::Plan &plan = executor.plan();
  for (const plan::Parameter &parameter : plan.parameters())
    for (const plan::OptimizerState &state : parameter.states())
      if (kept(state))
        specs.push_back(
            {statePrefix(state) + parameter.name(), state.view().dtype(), shapeOf(state.view())});
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(path, std::move(specs), {});
  if (!writer.ok())
    return writer.status();
  for (int i = 0; i < plan.parameters_size(); ++i)
    for (int s = 0; s < plan.parameters(i).states_size(); ++s) {
      if (!kept(plan.parameters(i).states(s)))
        continue;
      Tensor tensor = executor.state(i, s);
      Expected<TensorBytes> held = executor.read(tensor);
      if (!held.ok())
        return held.status();
      std::span<const std::byte> bytes(held->data(), tensor.bytes);
      std::string name = statePrefix(plan.parameters(i).states(s)) + plan.parameters(i).name();
      if (Status failure = writer->write(name, 0, bytes); !failure.ok())
        return failure;
    }
  return writer->finish();
}

// States that the plan does not keep would be lost without a word: fp32 masters, moments.
Status keepsAll(const plan::Plan &plan, const StoredTensors &file) {
  for (const plan::Parameter &parameter : plan.parameters()) {
    if (!parameter.trainable())
      continue;
    for (std::string_view state : optimizerStates) {
      if (std::ranges::any_of(parameter.states(), [&](const plan::OptimizerState &kept) { return kept.name() == state; }))
        continue;
      if (std::string name = text(state, ".", parameter.name()); file.find(name))
        return inputError(file.path(), ": has the optimizer state '", name,
                          "', which the plan does not keep; resume with a plan of the same optimizer and master weights, or "
                          "start anew from the checkpoint's weights");
    }
  }
  return {};
}

Status loadOptimizer(Executor &executor, const Ranks &ranks, const StoredTensors &file) {
  const plan::Plan &plan = executor.plan();
  if (Status failure = keepsAll(plan, file); !failure.ok())
    return failure;
  for (int i = 0; i < plan.parameters_size(); ++i)
    for (int s = 0; s < plan.parameters(i).states_size(); ++s) {
      const plan::OptimizerState &state = plan.parameters(i).states(s);
      if (!kept(state))
        continue;
      std::string name = statePrefix(state) + plan.parameters(i).name();
      const TensorInfo *info = file.find(name);
      Tensor tensor = executor.state(i, s);
      Expected<Slice> slice = sliceOf(state.view(), state.splits(), ranks);
      if (!slice.ok())
        return slice.status();
      if (!info)
        return inputError(file.path(), ": the plan's optimizer state '", name, "' is missing");
      if (info->shape != slice->whole() || info->dtype != tensor.dtype)
        return inputError(file.path(), ": tensor '", name, "' is ", dtypeName(info->dtype), " ",
                          shapeText(info->shape), " and should be ", dtypeName(tensor.dtype), " ",
                          shapeText(slice->whole()));
      TensorBytes target = executor.blank(tensor);
      Status failure = readSlice(
          *slice, dtypeBytes(tensor.dtype), target.data(),
          [&](uint64_t first, uint64_t count, std::byte *target) {
            return file.read(*info, first, count, tensor.dtype, target);
          },
          [&] { ranks.progress(); });
      if (failure.ok())
        failure = target.store();
      if (!failure.ok())
        return failure;
    }
  return {};
}

// Weights and states of a run of several ranks, as this one holds them.
Expected<std::vector<ShardedTensor>> shardedTensors(const Executor &executor, const Ranks &ranks) {
  std::vector<ShardedTensor> tensors;
  auto add = [&](std::string name, std::string_view kind, const Tensor &tensor,
                 const Splits &splits) -> Status {
    Expected<Slice> slice = sliceOf(*tensor.view, splits, ranks);
    if (!slice.ok())
      return slice.status();
    tensors.push_back({std::move(name), kind, tensor.dtype, slice->whole(), splits, *slice, tensor});
    return {};
  };
  const plan::Plan &plan = executor.plan();
  for (int i = 0; i < plan.parameters_size(); ++i) {
    const plan::Parameter &parameter = plan.parameters(i);
    if (Status failure =
            add(parameter.name(), modelFiles, executor.parameter(i), parameter.splits());
        !failure.ok())
      return failure;
    for (int s = 0; s < parameter.states_size(); ++s) {
      const plan::OptimizerState &state = parameter.states(s);
      if (!kept(state))
        continue;
      if (Status failure = add(statePrefix(state) + parameter.name(), optimizerFiles,
                               executor.state(i, s), state.splits());
          !failure.ok())
        return failure;
    }
  }
  return tensors;
}

} // namespace

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

Expected<Checkpoints::Lock> Checkpoints::prepare(const std::string &directory) {
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
  return held;
}

Expected<Checkpoints> Checkpoints::open(const std::string &directory, uint64_t keep,
                                        const Ranks &ranks) {
  Lock held;
  Status mine;
  if (ranks.isFirst()) {
    Expected<Lock> prepared = prepare(directory);
    mine = prepared.status();
    if (prepared.ok())
      held = std::move(prepared).value();
  }
  if (Status failure = ranks.agree(mine); !failure.ok())
    return failure;
  // Rank 0 has made it: whoever does not see it looks at another file system.
  if (!ranks.isFirst() && ::access(directory.c_str(), W_OK | X_OK) != 0)
    mine = systemError(errno, directory, "cannot be written")
               .withContext("checkpoints of several ranks need a folder that all of them see");
  if (Status failure = ranks.agree(mine); !failure.ok())
    return failure;
  return Checkpoints(directory, keep, ranks, std::move(held));
}

// This rank's files, and on rank 0 what is there once.
Status Checkpoints::write(const Executor &executor, const RunState &state,
                          const std::string &folder) const {
  if (ranks->alone()) {
    if (Status failure = saveWeights(executor, *ranks, folder + "/model.safetensors");
        !failure.ok())
      return failure;
    if (Status failure = saveOptimizer(executor, folder + "/optimizer.safetensors"); !failure.ok())
      return failure;
  } else {
    Expected<std::vector<ShardedTensor>> tensors = shardedTensors(executor, *ranks);
    if (!tensors.ok())
      return tensors.status();
    for (std::string_view kind : {modelFiles, optimizerFiles})
      if (Status failure = writeShard(folder, kind, *tensors, executor, *ranks); !failure.ok())
        return failure;
    if (ranks->isFirst())
      if (Status failure =
              writeWholeFile(folder + "/index.json", indexToJson(*tensors, ranks->mesh()));
          !failure.ok())
        return failure;
  }
  return ranks->isFirst() ? writeWholeFile(folder + "/state.json", stateToJson(state)) : Status();
}

// Rank 0's part, once all files are whole and on the disk.
Status Checkpoints::publish(const std::string &partial, const std::string &name) const {
  if (Status failure = syncDirectory(partial); !failure.ok())
    return failure;
  if (Status failure = putInPlace(partial, directory + "/" + name); !failure.ok())
    return failure;
  if (Status failure = syncDirectory(directory); !failure.ok())
    return failure;
  return moveLatest(name);
}

Expected<std::string> Checkpoints::save(const Executor &executor, const RunState &state) {
  std::string name = checkpointName(state);
  std::string partial = directory + "/" + std::string(partialPrefix) + name;
  Status failure = ranks->agree(ranks->isFirst() ? makeDirectory(partial) : Status());
  if (failure.ok())
    failure = ranks->agree(write(executor, state, partial));
  if (failure.ok())
    failure = ranks->agree(ranks->isFirst() ? publish(partial, name) : Status());
  if (failure.ok()) {
    Status old = ranks->isFirst() ? removeOld() : Status();
    return old.ok() ? std::string() : std::string(old.message());
  }
  // What caused the failure is what to report, even if clearing up fails as well; open() clears
  // again.
  if (ranks->isFirst())
    if (Status cleared = removeTree(partial); !cleared.ok())
      return std::move(failure).withContext(
          text("checkpoint ", name, " (", cleared.message(), ")"));
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
  Expected<std::optional<std::string>> newest = readLatest();
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
    ranks->progress();
  }
  return {};
}

Expected<std::optional<std::string>> Checkpoints::readLatest() const {
  std::error_code error;
  std::filesystem::path target = std::filesystem::read_symlink(directory + "/LATEST", error);
  if (error == std::errc::no_such_file_or_directory)
    return std::optional<std::string>();
  if (error)
    return systemError(error.value(), directory + "/LATEST", "should be a symbolic link");
  return std::optional<std::string>(directory + "/" + target.string());
}

Expected<std::optional<std::string>> Checkpoints::latest() const {
  std::optional<std::string> folder;
  Status mine;
  if (ranks->isFirst()) {
    Expected<std::optional<std::string>> found = readLatest();
    mine = found.status();
    if (found.ok())
      folder = *found;
  }
  if (Status failure = ranks->agree(mine); !failure.ok())
    return failure;
  Expected<std::vector<std::string>> said = ranks->exchange(folder.value_or(""));
  if (!said.ok())
    return said.status();
  if (said->front().empty())
    return std::optional<std::string>();
  return std::optional<std::string>(said->front());
}

Expected<RunState> Checkpoints::readState(const std::string &folder) {
  Expected<std::string> json = readWholeFile(folder + "/state.json", 1 << 20);
  if (!json.ok())
    return json.status();
  Expected<RunState> state = stateFromJson(*json);
  if (!state.ok())
    return std::move(state).status().withContext(folder + "/state.json");
  return state;
}

Status Checkpoints::load(Executor &executor, const Ranks &ranks, const std::string &folder) {
  auto states = [&]() -> Expected<std::unique_ptr<StoredTensors>> {
    if (ShardedReader::isIn(folder)) {
      Expected<std::unique_ptr<ShardedReader>> opened = ShardedReader::open(folder, optimizerFiles);
      if (!opened.ok())
        return opened.status();
      return std::unique_ptr<StoredTensors>(std::move(opened).value());
    }
    return openWeights(folder + "/optimizer.safetensors");
  };
  Expected<std::unique_ptr<StoredTensors>> weights =
      openWeights(ShardedReader::isIn(folder) ? folder : folder + "/model.safetensors");
  if (!weights.ok())
    return weights.status();
  if (Status failure = readWeights(executor, ranks, **weights); !failure.ok())
    return failure;
  Expected<std::unique_ptr<StoredTensors>> optimizer = states();
  if (!optimizer.ok())
    return optimizer.status();
  return loadOptimizer(executor, ranks, **optimizer);
}

} // namespace amc::rt
