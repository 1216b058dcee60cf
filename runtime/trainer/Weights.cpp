// See Weights.h.
#include "runtime/trainer/Weights.h"

#include "runtime/trainer/PlanSource.h"
#include "runtime/trainer/Random.h"
#include "runtime/trainer/SaveWeights.h"
#include "runtime/trainer/Shards.h"
#include "runtime/trainer/Transpose.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <utility>

namespace amc::rt {
namespace {

constexpr uint64_t bufferBytes = 1 << 20;
constexpr uint64_t drawnBetweenSigns = 1 << 20;    // numbers
constexpr std::string_view masterState = "master"; // as passes/AttachOptimizer.cpp names it

// The first few of a list, and how many there are.
std::string listOf(const std::vector<std::string> &names) {
  std::string line;
  for (size_t i = 0; i < names.size() && i < 5; ++i)
    line += text(i ? ", '" : "'", names[i], "'");
  if (names.size() > 5)
    line += text(" and ", names.size() - 5, " more");
  return line;
}

// Weights that files hold in a wider type than the plan's, by type.
class Roundings {
public:
  void add(DType stored, DType kept) {
    if (isFloat(stored) && isFloat(kept) &&
        (dtypeBytes(stored) > dtypeBytes(kept) || (stored == plan::F16 && kept == plan::BF16)))
      ++counts[{stored, kept}];
  }
  void report(std::vector<std::string> &notes) const {
    for (const auto &[types, count] : counts)
      notes.push_back(text(count, count == 1 ? " weight" : " weights", " rounded from ",
                           dtypeName(types.first), " to ", dtypeName(types.second)));
  }

private:
  std::map<std::pair<DType, DType>, uint64_t> counts;
};

// What of a rank's memory starts as a parameter's value.
struct Target {
  Tensor tensor;
  Slice slice;
};

// The parameter and the states that begin as it does, the fp32 master first: it has every bit that
// the source has, and the others are its rounding.
Expected<std::vector<Target>> targetsOf(const Executor &executor, const Ranks &ranks, int index) {
  const plan::Parameter &parameter = executor.plan().parameters(index);
  std::vector<Target> targets;
  auto add = [&](const Tensor &tensor, const Splits &splits) -> Status {
    Expected<Slice> slice = sliceOf(*tensor.view, splits, ranks);
    if (!slice.ok())
      return slice.status();
    targets.push_back({tensor, std::move(*slice)});
    return {};
  };
  size_t at = static_cast<size_t>(index);
  Status failure;
  for (int s = 0; s < parameter.states_size() && failure.ok(); ++s)
    if (parameter.states(s).name() == masterState)
      failure = add(executor.state(at, static_cast<size_t>(s)), parameter.states(s).splits());
  if (failure.ok())
    failure = add(executor.parameter(at), parameter.splits());
  for (int s = 0; s < parameter.states_size() && failure.ok(); ++s)
    if (parameter.states(s).name() == shardState)
      failure = add(executor.state(at, static_cast<size_t>(s)), parameter.states(s).splits());
  if (!failure.ok())
    return failure;
  return targets;
}

// Fills parameter `index` by `fill(slice, to, via, target)`, which writes what the slice holds in
// the type `to`; `via` is the type of the first. What holds the same elements as one before is
// copied from it.
template <typename Fill>
Status fillParameter(const Executor &executor, const Ranks &ranks, int index, Fill &&fill) {
  Expected<std::vector<Target>> targets = targetsOf(executor, ranks, index);
  if (!targets.ok())
    return targets.status();
  std::vector<TensorBytes> bytes; // of each
  for (const Target &target : *targets)
    bytes.push_back(executor.blank(target.tensor));
  for (size_t t = 0; t < targets->size(); ++t) {
    const auto &[tensor, slice] = (*targets)[t];
    auto same = std::find_if(targets->begin(), targets->begin() + static_cast<std::ptrdiff_t>(t),
                             [&](const Target &other) { return other.slice == slice; });
    size_t before = static_cast<size_t>(same - targets->begin());
    Status failure;
    if (before < t)
      convertElements(same->tensor.dtype, bytes[before].data(), tensor.dtype, bytes[t].data(), tensor.elements);
    else
      failure = fill(slice, tensor.dtype, targets->front().tensor.dtype, bytes[t].data());
    if (failure.ok())
      failure = bytes[t].store();
    if (!failure.ok())
      return failure;
  }
  return {};
}

// Elements [first, first + count) of a stored tensor, converted.
using ReadConverted =
    std::function<Status(uint64_t first, uint64_t count, DType to, std::byte *target)>;

// Fills `target` from a stored tensor that `slice` is a part of: read as `via`, the most exact type
// that is kept, then rounded to `to`.
Status fillFrom(const Slice &slice, DType to, DType via, std::byte *target, const Ranks &ranks,
                const ReadConverted &read) {
  std::vector<std::byte> exact;
  auto readElements = [&](uint64_t first, uint64_t count, std::byte *at) -> Status {
    if (to == via)
      return read(first, count, to, at);
    uint64_t width = dtypeBytes(via), atOnce = bufferBytes / width;
    exact.resize(std::min(atOnce, count) * width);
    for (uint64_t done = 0; done < count; done += atOnce) {
      uint64_t batch = std::min(atOnce, count - done);
      if (Status failure = read(first + done, batch, via, exact.data()); !failure.ok())
        return failure;
      convertElements(via, exact.data(), to, at + done * dtypeBytes(to), batch);
    }
    return {};
  };
  return readSlice(slice, dtypeBytes(to), target, readElements, [&] { ranks.progress(); });
}

// Rounds a double to the type and stores it.
void store(DType dtype, std::byte *target, uint64_t index, double value) {
  convertElements(plan::F64, reinterpret_cast<const std::byte *>(&value), dtype,
                  target + index * dtypeBytes(dtype), 1);
}

// Numbers are drawn in fp32 whatever the plan's type, so that a weight is the same with a master
// and without; by their place in the whole weight, so that it is the same on every mesh.
Status draw(const plan::Parameter &parameter, const Slice &slice, DType dtype, std::byte *target,
            uint64_t seed, const Ranks &ranks) {
  bool matrix = parameter.view().shape_size() >= 2;
  double constant = parameter.name().ends_with("weight") ? 1.0 : 0.0;
  uint64_t stream = streamOf(parameter.name());
  return slice.forEachRun([&](const ElementRun &run) {
    for (uint64_t i = 0; i < run.elements; ++i) {
      double value =
          matrix ? static_cast<float>(0.02 * randomNormal(seed, stream, run.whole + i)) : constant;
      store(dtype, target, run.local + i * run.step, value);
      if (i % drawnBetweenSigns == 0)
        ranks.progress();
    }
    return Status();
  });
}

// Reads parameter `index` from `file` under its own name or one it is tied to. False: there is none
// of them.
Expected<bool> readFrom(const StoredTensors &file, const Executor &executor, const Ranks &ranks,
                        int index, Roundings &roundings) {
  const plan::Parameter &parameter = executor.plan().parameters(index);
  const TensorInfo *info = file.find(parameter.name());
  std::vector<uint32_t> permutation;
  for (int i = 0; !info && i < parameter.tied_size(); ++i) {
    info = file.find(parameter.tied(i).name());
    permutation = permutationOf(parameter.tied(i));
  }
  if (!info)
    return false;
  Expected<Shape> whole = wholeShapeOf(parameter.view(), parameter.splits(), ranks);
  if (!whole.ok())
    return whole.status();
  if (!TransposedLayout::valid(*whole, permutation))
    return inputError("the plan's permutation for '", info->name, "' is none of its axes");
  Shape stored = TransposedLayout(*whole, permutation).storedShape();
  if (info->shape != stored)
    return inputError(file.path(), ": tensor '", info->name, "' is ", shapeText(info->shape),
                      " and should be ", shapeText(stored));
  roundings.add(info->dtype, parameter.view().dtype());
  Status failure = fillParameter(
      executor, ranks, index, [&](const Slice &slice, DType to, DType via, std::byte *target) {
        return fillFrom(slice.stored(permutation), to, via, target, ranks,
                        [&](uint64_t first, uint64_t count, DType type, std::byte *at) {
                          return file.read(*info, first, count, type, at);
                        });
      });
  return failure.ok() ? Expected<bool>(true) : Expected<bool>(failure);
}

// Parameter `index` from the plan's own source.
Status readInitial(const Executor &executor, const Ranks &ranks, int index,
                   const plan::Source &source, PlanSource &loader, Roundings &roundings) {
  const plan::Parameter &parameter = executor.plan().parameters(index);
  Expected<Shape> whole = wholeShapeOf(parameter.view(), parameter.splits(), ranks);
  if (!whole.ok())
    return whole.status();
  bool opened = false;
  return fillParameter(
      executor, ranks, index, [&](const Slice &slice, DType to, DType via, std::byte *target) {
        if (!opened)
          if (Status failure = loader.open(parameter, source, *elementCount(*whole), via);
              !failure.ok())
            return failure;
        if (!std::exchange(opened, true))
          roundings.add(loader.storedType(), parameter.view().dtype());
        return fillFrom(slice, to, via, target, ranks,
                        [&](uint64_t first, uint64_t count, DType type, std::byte *at) {
                          return loader.read(first, count, type, at);
                        });
      });
}

} // namespace

Expected<Shape> wholeShapeOf(const plan::View &view, const Splits &splits, const Ranks &ranks) {
  return wholeShape(shapeOf(view), splits, ranks.mesh());
}

Expected<Slice> sliceOf(const plan::View &view, const Splits &splits, const Ranks &ranks) {
  return Slice::of(shapeOf(view), splits, ranks.mesh(), ranks.rank());
}

Expected<InitialWeights> parseInitialWeights(const std::string &value) {
  InitialWeights initial;
  if (value.starts_with("seed:")) {
    initial.from = InitialWeights::From::Seed;
    const char *end = value.data() + value.size();
    auto [at, error] = std::from_chars(value.data() + 5, end, initial.seed);
    if (error != std::errc() || at != end)
      return Status(ErrorKind::Usage,
                    text("--init: '", value, "' should be seed:N with a number N"));
    return initial;
  }
  std::error_code ignored; // what cannot be examined is no folder
  if (!value.ends_with(".safetensors") && !std::filesystem::is_directory(value, ignored))
    return Status(ErrorKind::Usage,
                  text("--init: '", value,
                       "' should be FILE.safetensors or seed:N, or the folder of a checkpoint"));
  initial.from = InitialWeights::From::File;
  initial.path = value;
  return initial;
}

std::vector<plan::Source> takeSources(plan::Plan &plan) {
  std::vector<plan::Source> sources(static_cast<size_t>(plan.parameters_size()));
  for (int i = 0; i < plan.parameters_size(); ++i)
    if (plan.parameters(i).has_source())
      sources[static_cast<size_t>(i)].Swap(plan.mutable_parameters(i)->mutable_source());
  return sources;
}

std::string findModelDirectory(const std::string &planPath, const plan::Plan &plan) {
  std::filesystem::path model(plan.model_path()), planFolder(parentDirectory(planPath));
  std::vector<std::filesystem::path> candidates{parentDirectory(plan.model_path())};
  if (model.is_relative())
    candidates.push_back(planFolder / parentDirectory(plan.model_path()));
  candidates.push_back(planFolder);
  if (!plan.model_folder().empty())
    candidates.emplace_back(plan.model_folder());
  std::error_code ignored; // a folder that cannot be looked into does not hold the model
  for (const std::filesystem::path &folder : candidates)
    if (std::filesystem::exists(folder / model.filename(), ignored))
      return folder.string();
  return candidates.front().string();
}

void moveModel(plan::Plan &plan, const std::string &path) {
  const std::string before = std::filesystem::path(plan.model_path()).filename();
  const std::string after = std::filesystem::path(path).filename();
  for (plan::Parameter &parameter : *plan.mutable_parameters())
    if (parameter.source().has_file() && parameter.source().file().path() == before)
      parameter.mutable_source()->mutable_file()->set_path(after);
  plan.set_model_path(path);
}

Status loadWeights(Executor &executor, const Ranks &ranks, const InitialWeights &initial,
                   std::vector<plan::Source> sources, const std::string &modelDirectory,
                   std::vector<std::string> &notes) {
  if (initial.from == InitialWeights::From::File) {
    Expected<std::unique_ptr<StoredTensors>> file = openWeights(initial.path);
    return file.ok() ? readWeights(executor, ranks, **file, &notes) : file.status();
  }
  Roundings roundings;
  PlanSource loader(executor.plan(), modelDirectory);
  std::vector<std::string> absent, drawnFrozen;
  uint64_t drawn = 0;
  bool seeded = initial.from == InitialWeights::From::Seed;
  for (int i = 0; i < executor.plan().parameters_size(); ++i) {
    const plan::Parameter &parameter = executor.plan().parameters(i);
    const plan::Source &source = sources[static_cast<size_t>(i)];
    bool has = source.where_case() != plan::Source::WHERE_NOT_SET;
    if (seeded && isFloat(parameter.view().dtype()) && (parameter.trainable() || !has)) {
      if (Status failure =
              fillParameter(executor, ranks, i,
                            [&](const Slice &slice, DType to, DType, std::byte *target) {
                              return draw(parameter, slice, to, target, initial.seed, ranks);
                            });
          !failure.ok())
        return failure;
      ++drawn;
      if (!parameter.trainable())
        drawnFrozen.push_back(parameter.name());
    } else if (!has) {
      absent.push_back(parameter.name());
    } else if (Status failure = readInitial(executor, ranks, i, source, loader, roundings);
               !failure.ok()) {
      std::string context = text("weight '", parameter.name(), "'");
      if (failure.kind() == ErrorKind::Limit)
        return std::move(failure).withContext(context);
      if (seeded)
        return inputError(context, ": ", failure.message(),
                          "; it is not trained, so --init seed:N does not draw it: --model names "
                          "the model's file, --model-dir its folder");
      return inputError(
          context, ": ", failure.message(),
          "; --model-dir says where the model's files are, --init FILE.safetensors or "
          "--init seed:N gives other weights");
    }
  }
  if (!absent.empty())
    return inputError("the plan has no initial bytes for ", absent.size(), " weight",
                      absent.size() == 1 ? "" : "s", ": ", listOf(absent),
                      "; give them with --init FILE.safetensors or --init seed:N");
  if (drawn)
    notes.push_back(text(drawn, " weights drawn from seed ", initial.seed));
  if (!drawnFrozen.empty())
    notes.push_back(text("frozen weights without bytes were drawn too: ", listOf(drawnFrozen)));
  roundings.report(notes);
  return {};
}

Status readWeights(Executor &executor, const Ranks &ranks, const StoredTensors &file,
                   std::vector<std::string> *notes) {
  std::vector<std::string> missing;
  Roundings roundings;
  for (int i = 0; i < executor.plan().parameters_size(); ++i) {
    Expected<bool> found = readFrom(file, executor, ranks, i, roundings);
    if (!found.ok())
      return found.status();
    if (!*found)
      missing.push_back(executor.plan().parameters(i).name());
  }
  if (!missing.empty())
    return inputError(file.path(), ": ", missing.size(), " weight",
                      missing.size() == 1 ? " is" : "s are", " missing: ", listOf(missing));
  if (notes)
    roundings.report(*notes);
  return {};
}

} // namespace amc::rt
