// See Weights.h.
#include "runtime/trainer/Weights.h"
#include "runtime/plan/PlanFile.h"

#include "runtime/trainer/Random.h"
#include "runtime/trainer/Transpose.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

namespace amc::rt {
namespace {

constexpr uint64_t bufferBytes = 1 << 20;
constexpr std::string_view masterState = "master"; // as passes/AttachOptimizer.cpp names it

Shape shapeOf(const plan::View &view) { return {view.shape().begin(), view.shape().end()}; }

std::vector<uint32_t> permutationOf(const plan::TiedName &tied) {
  return {tied.permutation().begin(), tied.permutation().end()};
}

std::byte *bytesOf(const Tensor &tensor) { return static_cast<std::byte *>(tensor.data); }

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

// The fp32 copy that the optimizer keeps of parameter `index`; no data if there is none.
Tensor masterOf(const Executor &executor, int index) {
  const plan::Parameter &parameter = executor.plan().parameters(index);
  for (int s = 0; s < parameter.states_size(); ++s)
    if (parameter.states(s).name() == masterState)
      return executor.state(static_cast<size_t>(index), static_cast<size_t>(s));
  return {};
}

// Fills parameter `index` by `fill`, which gets the tensor to write to: the master where there is
// one, so that it has every bit that the source has; the parameter then is its rounding.
template <typename Fill> auto fillParameter(const Executor &executor, int index, Fill &&fill) {
  Tensor tensor = executor.parameter(static_cast<size_t>(index)),
         master = masterOf(executor, index);
  auto result = fill(master.data ? master : tensor);
  if (master.data && result.ok())
    convertElements(master.dtype, bytesOf(master), tensor.dtype, bytesOf(tensor), tensor.elements);
  return result;
}

// A file's weights lie in the model's folder; a plan may not point out of it by "..".
bool leavesFolder(const std::string &path) {
  for (size_t at = 0; at <= path.size();) {
    size_t slash = std::min(path.find('/', at), path.size());
    if (std::string_view(path).substr(at, slash - at) == "..")
      return true;
    at = slash + 1;
  }
  return false;
}

// Loads what the plan embeds or points to. One open file at a time: weights of a model are in few
// files, in order.
class PlanSource {
public:
  PlanSource(const plan::Plan &compiled, std::string directory)
      : compiled(compiled), directory(std::move(directory)) {}

  Status load(const plan::Parameter &parameter, const plan::Source &source, const Tensor &tensor,
              Roundings &roundings) {
    DType stored = parameter.view().dtype();
    if (!parameter.initializer_dtype().empty())
      stored = dtypeFromName(parameter.initializer_dtype());
    if (!convertible(stored, tensor.dtype))
      return inputError("initializer_dtype '", parameter.initializer_dtype(),
                        "' does not convert to ", dtypeName(tensor.dtype));
    uint64_t width = dtypeBytes(stored);
    uint64_t given = source.has_file() ? source.file().length() : source.embedded().size();
    uint64_t wanted;
    if (__builtin_mul_overflow(tensor.elements, width, &wanted) || given != wanted)
      return inputError("its source has ", given, " bytes and should have ", tensor.elements,
                        " elements of ", dtypeName(stored));
    roundings.add(stored, parameter.view().dtype());
    if (source.has_embedded())
      return convert(stored, reinterpret_cast<const std::byte *>(source.embedded().data()), tensor,
                     0, tensor.elements);
    if (Status failure = checkModel(); !failure.ok())
      return failure;
    if (Status failure = openFile(source.file().path()); !failure.ok())
      return failure;
    uint64_t offset = source.file().offset();
    if (!rangeFits(offset, wanted, file->size()))
      return inputError(file->path(), ": ", wanted, " bytes at offset ", offset,
                        " exceed the file's ", file->size(), " bytes");
    if (stored == tensor.dtype && stored != plan::BOOL)
      return file->readAt(offset, std::span(bytesOf(tensor), wanted));
    std::vector<std::byte> buffer(std::min(bufferBytes, wanted));
    uint64_t atOnce = buffer.size() / width;
    for (uint64_t done = 0; done < tensor.elements; done += atOnce) {
      uint64_t count = std::min(atOnce, tensor.elements - done);
      if (Status failure =
              file->readAt(offset + done * width, std::span(buffer.data(), count * width));
          !failure.ok())
        return failure;
      if (Status failure = convert(stored, buffer.data(), tensor, done, count); !failure.ok())
        return failure;
    }
    return {};
  }

private:
  // Is the model's file, where it is at all, the one that the plan was compiled from? Asked before
  // the first weight is read by offset, and not at all where weights come from elsewhere.
  Status checkModel() {
    if (std::exchange(checked, true) || compiled.model_hash().empty())
      return {};
    std::filesystem::path path =
        std::filesystem::path(directory) / std::filesystem::path(compiled.model_path()).filename();
    std::error_code ignored; // weights in files of their own can be read without the model's
    if (!std::filesystem::is_regular_file(path, ignored))
      return {};
    return checkHash(path.string(), compiled.model_hash(), "is not the model that");
  }

  Status checkHash(const std::string &path, const std::string &hash, std::string_view fault) {
    Expected<std::string> found = hashFile(path);
    if (!found.ok())
      return found.status();
    return *found == hash ? Status()
                          : inputError(path, ": ", fault,
                                       " the plan was compiled from; compile the plan again");
  }

  static Status convert(DType stored, const std::byte *source, const Tensor &tensor, uint64_t first,
                        uint64_t count) {
    uint64_t good = convertElements(stored, source, tensor.dtype,
                                    bytesOf(tensor) + first * dtypeBytes(tensor.dtype), count);
    return good == count
               ? Status()
               : inputError("element ", first + good, " does not fit ", dtypeName(tensor.dtype));
  }

  Status openFile(const std::string &path) {
    if (leavesFolder(path))
      return inputError(path, ": should not leave the model's folder by '..'");
    std::string full = path.starts_with('/') ? path : directory + "/" + path;
    if (file && file->path() == full)
      return {};
    Expected<InputFile> opened = InputFile::open(full);
    if (!opened.ok())
      return opened.status();
    for (const plan::WeightFile &known : compiled.weight_files())
      if (known.path() == path && verified.insert(path).second)
        if (Status failure = checkHash(full, known.hash(), "does not hold the weights that");
            !failure.ok())
          return failure;
    file.emplace(std::move(opened.value()));
    return {};
  }

  const plan::Plan &compiled;
  std::string directory;
  bool checked = false;
  std::set<std::string> verified; // weight files whose hash was right
  std::optional<InputFile> file;
};

// Rounds a double to the tensor's type and stores it.
void store(const Tensor &tensor, uint64_t index, double value) {
  convertElements(plan::F64, reinterpret_cast<const std::byte *>(&value), tensor.dtype,
                  bytesOf(tensor) + index * dtypeBytes(tensor.dtype), 1);
}

// Numbers are drawn in fp32 whatever the plan's type, so that a weight is the same with a master
// and without.
void draw(const plan::Parameter &parameter, const Tensor &tensor, uint64_t seed) {
  if (parameter.view().shape_size() >= 2) {
    uint64_t stream = streamOf(parameter.name());
    for (uint64_t i = 0; i < tensor.elements; ++i)
      store(tensor, i, static_cast<float>(0.02 * randomNormal(seed, stream, i)));
    return;
  }
  double value = parameter.name().ends_with("weight") ? 1.0 : 0.0;
  for (uint64_t i = 0; i < tensor.elements; ++i)
    store(tensor, i, value);
}

// Reads parameter `index` from `file` under its own name or one it is tied to. False: there is none
// of them.
Expected<bool> readFrom(const SafetensorsReader &file, const plan::Parameter &parameter,
                        const Tensor &tensor, Roundings &roundings) {
  Shape shape = shapeOf(parameter.view());
  const TensorInfo *info = file.find(parameter.name());
  std::vector<uint32_t> permutation;
  for (int i = 0; !info && i < parameter.tied_size(); ++i) {
    info = file.find(parameter.tied(i).name());
    permutation = permutationOf(parameter.tied(i));
  }
  if (!info)
    return false;
  if (!TransposedLayout::valid(shape, permutation))
    return inputError("the plan's permutation for '", info->name, "' is none of its axes");
  TransposedLayout layout(shape, permutation);
  if (info->shape != layout.storedShape())
    return inputError(file.path(), ": tensor '", info->name, "' is ", shapeText(info->shape),
                      " and should be ", shapeText(layout.storedShape()));
  roundings.add(info->dtype, parameter.view().dtype());
  if (layout.identical()) {
    Status failure = file.read(*info, 0, tensor.elements, tensor.dtype, bytesOf(tensor));
    return failure.ok() ? Expected<bool>(true) : Expected<bool>(failure);
  }
  uint64_t width = dtypeBytes(tensor.dtype);
  std::vector<std::byte> buffer(bufferBytes / width * width);
  uint64_t atOnce = buffer.size() / width;
  for (uint64_t done = 0; done < tensor.elements; done += atOnce) {
    uint64_t count = std::min(atOnce, tensor.elements - done);
    if (Status failure = file.read(*info, done, count, tensor.dtype, buffer.data()); !failure.ok())
      return failure;
    for (uint64_t i = 0; i < count; ++i)
      std::memcpy(bytesOf(tensor) + layout.weightIndex(done + i) * width, buffer.data() + i * width,
                  width);
  }
  return true;
}

} // namespace

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
  if (!value.ends_with(".safetensors"))
    return Status(ErrorKind::Usage,
                  text("--init: '", value, "' should be FILE.safetensors or seed:N"));
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

Status loadWeights(Executor &executor, const InitialWeights &initial,
                   std::vector<plan::Source> sources, const std::string &modelDirectory,
                   std::vector<std::string> &notes) {
  if (initial.from == InitialWeights::From::File) {
    Expected<SafetensorsReader> file = SafetensorsReader::open(initial.path);
    return file.ok() ? readWeights(executor, *file, &notes) : file.status();
  }
  Roundings roundings;
  PlanSource loader(executor.plan(), modelDirectory);
  std::vector<std::string> absent, drawnFrozen;
  uint64_t drawn = 0;
  for (int i = 0; i < executor.plan().parameters_size(); ++i) {
    const plan::Parameter &parameter = executor.plan().parameters(i);
    Tensor tensor = executor.parameter(i);
    const plan::Source &source = sources[static_cast<size_t>(i)];
    bool has = source.where_case() != plan::Source::WHERE_NOT_SET;
    bool seeded = initial.from == InitialWeights::From::Seed;
    if (seeded && isFloat(tensor.dtype) && (parameter.trainable() || !has)) {
      fillParameter(executor, i, [&](const Tensor &target) {
        draw(parameter, target, initial.seed);
        return Status();
      });
      ++drawn;
      if (!parameter.trainable())
        drawnFrozen.push_back(parameter.name());
    } else if (!has) {
      absent.push_back(parameter.name());
    } else if (Status failure = fillParameter(executor, i,
                                              [&](const Tensor &target) {
                                                return loader.load(parameter, source, target,
                                                                   roundings);
                                              });
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

Status readWeights(Executor &executor, const SafetensorsReader &file,
                   std::vector<std::string> *notes) {
  std::vector<std::string> missing;
  Roundings roundings;
  for (int i = 0; i < executor.plan().parameters_size(); ++i) {
    const plan::Parameter &parameter = executor.plan().parameters(i);
    Expected<bool> found = fillParameter(executor, i, [&](const Tensor &target) {
      return readFrom(file, parameter, target, roundings);
    });
    if (!found.ok())
      return found.status();
    if (!*found)
      missing.push_back(parameter.name());
  }
  if (!missing.empty())
    return inputError(file.path(), ": ", missing.size(), " weight",
                      missing.size() == 1 ? " is" : "s are", " missing: ", listOf(missing));
  if (notes)
    roundings.report(*notes);
  return {};
}

void appendSpecs(const Executor &executor, size_t index, std::string_view prefix,
                 std::vector<SafetensorsWriter::Spec> &specs) {
  const plan::Parameter &parameter = executor.plan().parameters(static_cast<int>(index));
  Shape shape = shapeOf(parameter.view());
  DType dtype = parameter.view().dtype();
  specs.push_back({text(prefix, parameter.name()), dtype, shape});
  for (const plan::TiedName &tied : parameter.tied())
    if (TransposedLayout::valid(shape, permutationOf(tied)))
      specs.push_back({text(prefix, tied.name()), dtype,
                       TransposedLayout(shape, permutationOf(tied)).storedShape()});
}

Status saveTensor(const Executor &executor, size_t index, const Tensor &tensor,
                  std::string_view prefix, SafetensorsWriter &writer) {
  const plan::Parameter &parameter = executor.plan().parameters(static_cast<int>(index));
  std::span<const std::byte> whole(bytesOf(tensor), tensor.bytes);
  if (Status failure = writer.write(text(prefix, parameter.name()), 0, whole); !failure.ok())
    return failure;
  uint64_t width = dtypeBytes(tensor.dtype);
  for (const plan::TiedName &tied : parameter.tied()) {
    std::string name = text(prefix, tied.name());
    Shape shape = shapeOf(parameter.view());
    if (!TransposedLayout::valid(shape, permutationOf(tied)))
      return inputError("the plan's permutation for '", tied.name(), "' is none of its axes");
    TransposedLayout layout(shape, permutationOf(tied));
    if (layout.identical()) {
      if (Status failure = writer.write(name, 0, whole); !failure.ok())
        return failure;
      continue;
    }
    std::vector<std::byte> buffer(std::min(tensor.bytes, bufferBytes / width * width));
    uint64_t atOnce = buffer.size() / width;
    for (uint64_t done = 0; done < tensor.elements; done += atOnce) {
      uint64_t count = std::min(atOnce, tensor.elements - done);
      for (uint64_t i = 0; i < count; ++i)
        std::memcpy(buffer.data() + i * width, whole.data() + layout.weightIndex(done + i) * width,
                    width);
      if (Status failure =
              writer.write(name, done * width, std::span(buffer.data(), count * width));
          !failure.ok())
        return failure;
    }
  }
  return {};
}

Status saveWeights(const Executor &executor, const std::string &path) {
  std::vector<SafetensorsWriter::Spec> specs;
  size_t count = static_cast<size_t>(executor.plan().parameters_size());
  for (size_t i = 0; i < count; ++i)
    appendSpecs(executor, i, "", specs);
  Expected<SafetensorsWriter> writer =
      SafetensorsWriter::create(path, std::move(specs), {{"format", "pt"}});
  if (!writer.ok())
    return writer.status();
  for (size_t i = 0; i < count; ++i)
    if (Status failure = saveTensor(executor, i, executor.parameter(i), "", *writer); !failure.ok())
      return failure;
  return writer->finish();
}

} // namespace amc::rt
