// See Safetensors.h. The format's own limit on the header is 100 MB; so is ours.
#include "runtime/trainer/Safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

static_assert(std::endian::native == std::endian::little,
              "safetensors and plans are little-endian");

namespace amc::rt {
namespace {

using Json = nlohmann::ordered_json;
constexpr uint64_t maxHeaderBytes = 100'000'000;
// Conversions go through a buffer of this size, so that no tensor is in memory twice.
constexpr uint64_t conversionBytes = 1 << 20;

struct FormatType {
  std::string_view name;
  DType dtype;
};
constexpr FormatType formatTypes[] = {{"F32", plan::F32},  {"BF16", plan::BF16}, {"F16", plan::F16},
                                      {"F64", plan::F64},  {"I64", plan::I64},   {"I32", plan::I32},
                                      {"I16", plan::I16},  {"I8", plan::I8},     {"U8", plan::U8},
                                      {"U16", plan::U16},  {"U32", plan::U32},   {"U64", plan::U64},
                                      {"BOOL", plan::BOOL}};

DType fromFormat(std::string_view name) {
  for (const FormatType &type : formatTypes)
    if (type.name == name)
      return type.dtype;
  return plan::DTYPE_UNSPECIFIED;
}

std::string_view toFormat(DType dtype) {
  for (const FormatType &type : formatTypes)
    if (type.dtype == dtype)
      return type.name;
  return {};
}

// Parses JSON without exceptions; nothing if it is none, or if an object of the first two levels
// repeats a key (the library would keep the last one without a word).
std::optional<Json> parseDistinct(const std::string &text) {
  std::set<std::string> seen[2];
  bool repeated = false;
  auto callback = [&](int depth, Json::parse_event_t event, Json &parsed) {
    if (event == Json::parse_event_t::object_start && depth == 1)
      seen[1].clear();
    if (event == Json::parse_event_t::key && depth >= 1 && depth <= 2)
      repeated |= !seen[depth - 1].insert(parsed.get<std::string>()).second;
    return true;
  };
  Json json = Json::parse(text, callback, /*allow_exceptions=*/false);
  if (json.is_discarded() || repeated)
    return std::nullopt;
  return json;
}

bool isUnsignedPair(const Json &value) {
  return value.is_array() && value.size() == 2 && value[0].is_number_unsigned() &&
         value[1].is_number_unsigned();
}

// Reads one header entry; `dataBytes` is what follows the header.
Expected<TensorInfo> parseEntry(const std::string &name, const Json &value, uint64_t dataBytes) {
  if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
      !value.contains("shape") || !value["shape"].is_array() || !value.contains("data_offsets") ||
      !isUnsignedPair(value["data_offsets"]))
    return inputError("tensor '", name, "' should have dtype, shape and two data_offsets");
  TensorInfo info;
  info.name = name;
  for (const Json &dimension : value["shape"]) {
    if (!dimension.is_number_unsigned())
      return inputError("tensor '", name, "': a dimension is ", dimension.dump(),
                        " and should be a number from 0");
    info.shape.push_back(dimension.get<uint64_t>());
  }
  uint64_t begin = value["data_offsets"][0].get<uint64_t>();
  uint64_t end = value["data_offsets"][1].get<uint64_t>();
  if (begin > end || end > dataBytes)
    return inputError("tensor '", name, "': data_offsets [", begin, ", ", end,
                      ") should be within the ", dataBytes, " bytes of data");
  info.offset = begin;
  info.bytes = end - begin;
  info.dtype = fromFormat(value["dtype"].get_ref<const std::string &>());
  std::optional<uint64_t> elements = elementCount(info.shape);
  if (!elements)
    return inputError("tensor '", name, "': shape ", shapeText(info.shape), " is too large");
  info.elements = *elements;
  uint64_t expected;
  if (info.dtype != plan::DTYPE_UNSPECIFIED &&
      (__builtin_mul_overflow(info.elements, dtypeBytes(info.dtype), &expected) ||
       expected != info.bytes))
    return inputError("tensor '", name, "': ", shapeText(info.shape), " of ", dtypeName(info.dtype),
                      " is not ", info.bytes, " bytes");
  return info;
}

} // namespace

Expected<SafetensorsReader> SafetensorsReader::open(const std::string &path) {
  Expected<InputFile> file = InputFile::open(path);
  if (!file.ok())
    return file.status();
  SafetensorsReader reader(std::move(file.value()));
  if (Status failure = reader.parseHeader(); !failure.ok())
    return std::move(failure).withContext(text(path, ": is no valid safetensors file"));
  return reader;
}

Status SafetensorsReader::parseHeader() {
  uint64_t length = 0;
  if (file.size() < sizeof(length))
    return inputError("it has ", file.size(), " bytes and should have at least 8");
  if (Status failure = file.readAt(0, std::as_writable_bytes(std::span(&length, 1))); !failure.ok())
    return failure;
  if (length > maxHeaderBytes || !rangeFits(sizeof(length), length, file.size()))
    return inputError("its header is said to have ", length, " bytes; the file has ", file.size(),
                      " and a header at most ", maxHeaderBytes);
  std::string header(length, '\0');
  if (Status failure = file.readAt(8, std::as_writable_bytes(std::span(header))); !failure.ok())
    return failure;
  std::optional<Json> json = parseDistinct(header);
  if (!json || !json->is_object())
    return inputError("its header should be a JSON object without repeated names");
  uint64_t dataBytes = file.size() - sizeof(length) - length;
  for (const auto &[name, value] : json->items()) {
    if (name == "__metadata__") {
      if (!value.is_object())
        return inputError("its __metadata__ should be an object");
      for (const auto &[key, entry] : value.items()) {
        if (!entry.is_string())
          return inputError("its __metadata__ should hold strings only");
        pairs[key] = entry.get<std::string>();
      }
      continue;
    }
    Expected<TensorInfo> info = parseEntry(name, value, dataBytes);
    if (!info.ok())
      return info.status();
    entries.push_back(std::move(info.value()));
  }
  // In order of their bytes the tensors have to follow each other without gap or overlap, to the
  // file's end.
  std::sort(entries.begin(), entries.end(), [](const TensorInfo &a, const TensorInfo &b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  uint64_t end = 0;
  for (const TensorInfo &info : entries) {
    if (info.offset != end)
      return inputError("tensor '", info.name, "' begins at byte ", info.offset,
                        " of the data and should begin at ", end);
    end += info.bytes; // within dataBytes: offset + bytes was checked to be
  }
  if (end != dataBytes)
    return inputError("its tensors have ", end, " bytes, but ", dataBytes, " follow the header");
  for (TensorInfo &info : entries)
    info.offset += sizeof(length) + length;
  std::sort(entries.begin(), entries.end(),
            [](const TensorInfo &a, const TensorInfo &b) { return a.name < b.name; });
  return {};
}

const TensorInfo *SafetensorsReader::find(std::string_view name) const {
  auto at = std::lower_bound(
      entries.begin(), entries.end(), name,
      [](const TensorInfo &info, std::string_view wanted) { return info.name < wanted; });
  return at != entries.end() && at->name == name ? &*at : nullptr;
}

Status SafetensorsReader::read(const TensorInfo &tensor, uint64_t first, uint64_t count, DType to,
                               std::byte *target) const {
  if (!convertible(tensor.dtype, to))
    return inputError(path(), ": tensor '", tensor.name, "' is ", dtypeName(tensor.dtype),
                      ", which does not convert to ", dtypeName(to));
  if (!rangeFits(first, count, tensor.elements))
    return inputError(path(), ": elements [", first, ", ", first, " + ", count, ") of tensor '",
                      tensor.name, "' exceed its ", tensor.elements, " elements");
  uint64_t width = dtypeBytes(tensor.dtype);
  if (tensor.dtype == to && to != plan::BOOL)
    return file.readAt(tensor.offset + first * width, std::span(target, count * width));
  std::vector<std::byte> buffer(std::min(conversionBytes, count * width));
  uint64_t atOnce = buffer.size() / std::max<uint64_t>(width, 1);
  for (uint64_t done = 0; done < count;) {
    uint64_t batch = std::min(atOnce, count - done);
    if (Status failure = file.readAt(tensor.offset + (first + done) * width,
                                     std::span(buffer.data(), batch * width));
        !failure.ok())
      return failure;
    uint64_t good =
        convertElements(tensor.dtype, buffer.data(), to, target + done * dtypeBytes(to), batch);
    if (good != batch)
      return inputError(path(), ": element ", first + done + good, " of tensor '", tensor.name,
                        "' is ", text(elementAsDouble(tensor.dtype, buffer.data(), good)),
                        ", which ", dtypeName(to), " cannot hold");
    done += batch;
  }
  return {};
}

Expected<std::string>
SafetensorsWriter::layOut(const std::string &path, std::vector<Spec> specs,
                          const std::map<std::string, std::string> &metadata) {
  std::sort(specs.begin(), specs.end(), [](const Spec &a, const Spec &b) {
    uint64_t aWidth = dtypeBytes(a.dtype), bWidth = dtypeBytes(b.dtype);
    return aWidth != bWidth ? aWidth > bWidth : a.name < b.name;
  });
  Json header = Json::object();
  if (!metadata.empty())
    header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const Spec &spec : specs) {
    std::optional<uint64_t> elements = elementCount(spec.shape);
    uint64_t bytes, end;
    if (toFormat(spec.dtype).empty() || !elements ||
        __builtin_mul_overflow(*elements, dtypeBytes(spec.dtype), &bytes) ||
        __builtin_add_overflow(offset, bytes, &end))
      return inputError(path, ": tensor '", spec.name, "' of ", dtypeName(spec.dtype), " ",
                        shapeText(spec.shape), " cannot be stored");
    if (!slots.emplace(spec.name, Slot{offset, bytes, 0}).second)
      return inputError(path, ": tensor '", spec.name, "' would be there twice");
    header[spec.name] = {
        {"dtype", toFormat(spec.dtype)}, {"shape", spec.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  // Names come from model files: bytes that are no UTF-8 are replaced rather than thrown at.
  std::string json = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  json.append((8 - json.size() % 8) % 8, ' '); // data begins aligned
  uint64_t length = json.size();
  for (auto &[name, slot] : slots)
    slot.offset += sizeof(length) + length;
  return json.insert(0, reinterpret_cast<const char *>(&length), sizeof(length));
}

Expected<SafetensorsWriter>
SafetensorsWriter::create(const std::string &path, std::vector<Spec> specs,
                          const std::map<std::string, std::string> &metadata) {
  Expected<OutputFile> file = OutputFile::create(path);
  if (!file.ok())
    return file.status();
  SafetensorsWriter writer(std::move(file.value()));
  Expected<std::string> header = writer.layOut(path, std::move(specs), metadata);
  if (!header.ok())
    return header.status();
  if (Status failure = writer.file.writeAt(0, std::as_bytes(std::span(*header))); !failure.ok())
    return failure;
  return writer;
}

Expected<SafetensorsWriter>
SafetensorsWriter::join(const std::string &path, const std::string &partialPath,
                        std::vector<Spec> specs,
                        const std::map<std::string, std::string> &metadata) {
  Expected<OutputFile> file = OutputFile::join(path, partialPath);
  if (!file.ok())
    return file.status();
  SafetensorsWriter writer(std::move(file.value()));
  Expected<std::string> header = writer.layOut(path, std::move(specs), metadata);
  if (!header.ok())
    return header.status();
  return writer;
}

uint64_t SafetensorsWriter::writtenBytes() const {
  uint64_t bytes = 0;
  for (const auto &[name, slot] : slots)
    bytes += slot.written;
  return bytes;
}

uint64_t SafetensorsWriter::dataBytes() const {
  uint64_t bytes = 0;
  for (const auto &[name, slot] : slots)
    bytes += slot.bytes;
  return bytes;
}

Status SafetensorsWriter::write(std::string_view name, uint64_t offset,
                                std::span<const std::byte> bytes) {
  auto at = slots.find(name);
  if (at == slots.end() || !rangeFits(offset, bytes.size(), at->second.bytes))
    return inputError("tensor '", name, "': ", bytes.size(), " bytes at ", offset,
                      " are not part of the file");
  at->second.written += bytes.size();
  return file.writeAt(at->second.offset + offset, bytes);
}

Status SafetensorsWriter::finish() {
  for (const auto &[name, slot] : slots)
    if (slot.written != slot.bytes)
      return inputError("tensor '", name, "' has ", slot.written, " bytes written and should have ",
                        slot.bytes);
  return file.commit();
}

} // namespace amc::rt
