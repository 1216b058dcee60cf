// See Shards.h.
#include "runtime/trainer/Shards.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace amc::rt {
namespace {

using Json = nlohmann::ordered_json;
constexpr uint64_t indexVersion = 1;
constexpr uint64_t mostIndexBytes = 256 << 20;
// A checkpoint of many ranks has more files than a process may open.
constexpr size_t mostOpenFiles = 64;

std::string indexPath(const std::string &folder) { return folder + "/index.json"; }

// A whole number of the object; nothing if there is none of that name.
std::optional<uint64_t> numberOf(const Json &object, const char *key) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_number_unsigned())
    return std::nullopt;
  return object[key].get<uint64_t>();
}

std::optional<std::string> stringOf(const Json &object, const char *key) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_string())
    return std::nullopt;
  return object[key].get<std::string>();
}

Expected<MeshShape> parseMesh(const Json &json) {
  plan::Mesh mesh;
  std::array<uint64_t, meshAxes.size()> sizes;
  for (size_t axis = 0; axis < meshAxes.size(); ++axis) {
    std::optional<uint64_t> size = json.is_object() && json.contains("mesh")
                                       ? numberOf(json["mesh"], meshAxes[axis].data())
                                       : std::nullopt;
    if (!size || *size == 0)
      return inputError("its mesh should have ", meshAxes[axis], ", at least 1");
    sizes[axis] = *size;
  }
  mesh.set_dp_replicate(sizes[0]);
  mesh.set_dp_shard(sizes[1]);
  mesh.set_cp(sizes[2]);
  mesh.set_tp(sizes[3]);
  if (json["mesh"].contains("ep")) {
    std::optional<uint64_t> experts = numberOf(json["mesh"], "ep");
    if (!experts || *experts == 0)
      return inputError("its mesh's ep should be at least 1");
    mesh.set_ep(*experts);
  }
  return meshOf(mesh);
}

// A tensor of the index but its name: type, whole shape, splits.
Status parseTensor(const Json &json, const MeshShape &mesh, TensorInfo &info, Splits &splits) {
  std::optional<std::string> dtype = stringOf(json, "dtype");
  info.dtype = dtype ? dtypeFromName(*dtype) : plan::DTYPE_UNSPECIFIED;
  if (info.dtype == plan::DTYPE_UNSPECIFIED || !json.contains("shape") ||
      !json["shape"].is_array() || !json.contains("splits") || !json["splits"].is_array())
    return inputError("should have dtype, shape and splits");
  for (const Json &dimension : json["shape"]) {
    if (!dimension.is_number_unsigned())
      return inputError("a dimension is ", dimension.dump(), " and should be a number from 0");
    info.shape.push_back(dimension.get<uint64_t>());
  }
  std::optional<uint64_t> elements = elementCount(info.shape);
  if (!elements || __builtin_mul_overflow(*elements, dtypeBytes(info.dtype), &info.bytes))
    return inputError("shape ", shapeText(info.shape), " is too large");
  info.elements = *elements;
  for (const Json &entry : json["splits"]) {
    std::optional<uint64_t> dim = numberOf(entry, "dim"), size = numberOf(entry, "size");
    std::optional<std::string> group = stringOf(entry, "group");
    if (!dim || *dim >= info.shape.size() || !size || !group)
      return inputError("a split should have dim, group and size");
    plan::Split *split = splits.Add();
    split->set_dim(static_cast<uint32_t>(*dim));
    split->set_group(*group);
    split->set_size(*size);
    if (entry.contains("blocks")) { // in indices from before there were any it is absent, too
      std::optional<uint64_t> blocks = numberOf(entry, "blocks");
      if (!blocks || *blocks == 0)
        return inputError("a split's blocks should be a number from 1");
      split->set_blocks(*blocks);
    }
  }
  return localShape(info.shape, splits, mesh).status();
}

} // namespace

std::string shardName(std::string_view kind, uint64_t rank, uint64_t ranks) {
  return fmt::format("{}.rank-{:05}-of-{:05}.safetensors", kind, rank, ranks);
}

Status writeShard(const std::string &folder, std::string_view kind,
                  const std::vector<ShardedTensor> &tensors, const Executor &executor, const Ranks &ranks) {
  auto isMine = [&](const ShardedTensor &tensor) {
    return tensor.kind == kind && tensor.mine.lowestHolder() && tensor.mine.elements() > 0;
  };
  std::vector<SafetensorsWriter::Spec> specs;
  for (const ShardedTensor &tensor : tensors)
    if (isMine(tensor))
      specs.push_back({tensor.name, tensor.dtype, tensor.mine.counts()});
  if (specs.empty())
    return {};
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(
      folder + "/" + shardName(kind, ranks.rank(), ranks.size()), std::move(specs), {});
  if (!writer.ok())
    return writer.status();
  for (const ShardedTensor &tensor : tensors) {
    if (!isMine(tensor))
      continue;
    Expected<TensorBytes> held = executor.read(tensor.tensor);
    if (!held.ok())
      return held.status();
    uint64_t width = dtypeBytes(tensor.dtype);
    Status failure = writeSlice(
        tensor.mine.dense(), width, held->data(),
        [&](uint64_t first, std::span<const std::byte> bytes) {
          return writer->write(tensor.name, first * width, bytes);
        },
        [&] { ranks.progress(); });
    if (!failure.ok())
      return failure;
  }
  return writer->finish();
}

std::string indexToJson(const std::vector<ShardedTensor> &tensors, const MeshShape &mesh) {
  Json json;
  json["format"] = indexVersion;
  for (size_t axis = 0; axis < meshAxes.size(); ++axis)
    json["mesh"][meshAxes[axis]] = mesh.size[axis];
  if (mesh.ep > 1)
    json["mesh"]["ep"] = mesh.ep;
  for (std::string_view kind : {modelFiles, optimizerFiles})
    json["files"][kind] = fmt::format("{}.rank-RANK-of-{:05}.safetensors", kind, mesh.ranks());
  json["tensors"] = Json::array();
  for (const ShardedTensor &tensor : tensors) {
    Json entry;
    entry["name"] = tensor.name;
    entry["files"] = tensor.kind;
    entry["dtype"] = dtypeName(tensor.dtype);
    entry["shape"] = tensor.whole;
    entry["splits"] = Json::array();
    for (const plan::Split &split : tensor.splits) {
      Json spread = {{"dim", split.dim()}, {"group", split.group()}, {"size", split.size()}};
      if (blocksOf(split) > 1)
        spread["blocks"] = split.blocks();
      entry["splits"].push_back(std::move(spread));
    }
    json["tensors"].push_back(std::move(entry));
  }
  // As SafetensorsWriter writes names that are no UTF-8.
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

bool ShardedReader::isIn(const std::string &folder) {
  std::error_code ignored; // what cannot be looked at is not there; opening it says why
  return std::filesystem::exists(indexPath(folder), ignored);
}

Expected<std::unique_ptr<ShardedReader>> ShardedReader::open(const std::string &folder,
                                                             std::string_view kind) {
  Expected<std::string> json = readWholeFile(indexPath(folder), mostIndexBytes);
  if (!json.ok())
    return json.status();
  std::unique_ptr<ShardedReader> reader(new ShardedReader(folder, kind));
  if (Status failure = reader->parse(*json); !failure.ok())
    return std::move(failure).withContext(text(indexPath(folder), ": is no index of a checkpoint"));
  return reader;
}

Status ShardedReader::parse(const std::string &text_) {
  Json json = Json::parse(text_, nullptr, /*allow_exceptions=*/false);
  std::optional<uint64_t> version = numberOf(json, "format");
  if (version != indexVersion)
    return inputError("its format should be ", indexVersion);
  Expected<MeshShape> mesh = parseMesh(json);
  if (!mesh.ok())
    return mesh.status();
  shape = *mesh;
  if (!json.contains("tensors") || !json["tensors"].is_array())
    return inputError("it should list its tensors");
  for (const Json &entry : json["tensors"]) {
    std::optional<std::string> name = stringOf(entry, "name"), files = stringOf(entry, "files");
    if (!name || !files)
      return inputError("a tensor should have a name and files");
    if (*files != kind)
      continue;
    TensorInfo info;
    info.name = *name;
    Splits spread;
    if (Status failure = parseTensor(entry, shape, info, spread); !failure.ok())
      return std::move(failure).withContext(text("tensor '", *name, "'"));
    if (!splits.emplace(*name, std::move(spread)).second)
      return inputError("tensor '", *name, "' is there twice");
    entries.push_back(std::move(info));
  }
  std::sort(entries.begin(), entries.end(),
            [](const TensorInfo &a, const TensorInfo &b) { return a.name < b.name; });
  return {};
}

const TensorInfo *ShardedReader::find(std::string_view name) const {
  auto at = std::lower_bound(
      entries.begin(), entries.end(), name,
      [](const TensorInfo &info, std::string_view wanted) { return info.name < wanted; });
  return at != entries.end() && at->name == name ? &*at : nullptr;
}

Expected<const SafetensorsReader *> ShardedReader::fileOf(uint64_t rank) const {
  if (auto open = files.find(rank); open != files.end())
    return &open->second;
  if (files.size() >= mostOpenFiles)
    files.clear();
  Expected<SafetensorsReader> opened =
      SafetensorsReader::open(folder + "/" + shardName(kind, rank, shape.ranks()));
  if (!opened.ok())
    return opened.status();
  return &files.emplace(rank, std::move(opened).value()).first->second;
}

Status ShardedReader::read(const TensorInfo &tensor, uint64_t first, uint64_t count, DType to,
                           std::byte *target) const {
  if (!rangeFits(first, count, tensor.elements))
    return inputError(folder, ": elements [", first, ", ", first, " + ", count, ") of tensor '",
                      tensor.name, "' exceed its ", tensor.elements, " elements");
  if (current != &tensor) {
    Expected<PieceGrid> made = PieceGrid::of(tensor.shape, splits.find(tensor.name)->second, shape);
    if (!made.ok())
      return made.status();
    grid = std::move(made).value();
    current = &tensor;
  }
  while (count > 0) {
    PieceGrid::Place place = grid.find(first, count);
    Expected<const SafetensorsReader *> file = fileOf(place.rank);
    if (!file.ok())
      return file.status();
    const TensorInfo *part = (*file)->find(tensor.name);
    if (!part)
      return inputError((*file)->path(), ": tensor '", tensor.name,
                        "' is missing, which the index says is there");
    if (part->dtype != tensor.dtype || part->shape != place.counts)
      return inputError((*file)->path(), ": tensor '", tensor.name, "' is ", dtypeName(part->dtype),
                        " ", shapeText(part->shape), " and should be ", dtypeName(tensor.dtype),
                        " ", shapeText(place.counts));
    if (Status failure = (*file)->read(*part, place.at, place.elements, to, target); !failure.ok())
      return failure;
    first += place.elements;
    count -= place.elements;
    target += place.elements * dtypeBytes(to);
  }
  return {};
}

Expected<std::unique_ptr<StoredTensors>> openWeights(const std::string &path) {
  auto plain = [](const std::string &file) -> Expected<std::unique_ptr<StoredTensors>> {
    Expected<SafetensorsReader> opened = SafetensorsReader::open(file);
    if (!opened.ok())
      return opened.status();
    return std::make_unique<SafetensorsReader>(std::move(opened).value());
  };
  auto sharded = [](const std::string &folder) -> Expected<std::unique_ptr<StoredTensors>> {
    Expected<std::unique_ptr<ShardedReader>> opened = ShardedReader::open(folder, modelFiles);
    if (!opened.ok())
      return opened.status();
    return std::unique_ptr<StoredTensors>(std::move(opened).value());
  };
  std::error_code ignored; // what cannot be examined is found out by opening it
  if (!std::filesystem::is_directory(path, ignored)) {
    std::string folder = parentDirectory(path);
    if (!std::filesystem::exists(path, ignored) && ShardedReader::isIn(folder))
      return inputError(
          path,
          ": is not there: several ranks wrote this checkpoint, each a part; name its folder, ",
          folder);
    return plain(path);
  }
  for (const std::string &folder : {path + "/LATEST", path}) {
    if (ShardedReader::isIn(folder))
      return sharded(folder);
    if (std::string file = folder + "/model.safetensors"; std::filesystem::exists(file, ignored))
      return plain(file);
  }
  return inputError(
      path,
      ": holds no checkpoint: neither model.safetensors nor index.json is there, nor in LATEST");
}

} // namespace amc::rt
