// Reading a model file. Protobuf parses the message; a second, shallow walk over the wire format
// finds where the bytes of each initializer lie in the file, so that the plan can refer to them
// instead of copying them. External data is confined to the model's folder: no absolute path, no
// "..", no symbolic link that leads out.
#include "compiler/import/Model.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <google/protobuf/io/coded_stream.h>

using namespace mlir;

namespace amc::importer {

uint64_t elementBytes(int64_t dataType) {
  switch (dataType) {
  case onnx::TensorProto::BOOL:
  case onnx::TensorProto::INT8:
  case onnx::TensorProto::UINT8:
    return 1;
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
  case onnx::TensorProto::INT16:
  case onnx::TensorProto::UINT16:
    return 2;
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::INT32:
  case onnx::TensorProto::UINT32:
    return 4;
  case onnx::TensorProto::DOUBLE:
  case onnx::TensorProto::INT64:
  case onnx::TensorProto::UINT64:
    return 8;
  default:
    return 0;
  }
}

std::string dataTypeName(int64_t dataType) {
  if (dataType >= 0 && dataType <= INT_MAX &&
      onnx::TensorProto::DataType_IsValid(static_cast<int>(dataType)))
    return StringRef(onnx::TensorProto::DataType_Name(onnx::TensorProto::DataType(dataType)))
        .lower();
  // Types newer than the protobuf definitions that AMC is built with.
  static const char *const newer[] = {"float8e4m3fn",   "float8e4m3fnuz", "float8e5m2",
                                      "float8e5m2fnuz", "uint4",          "int4",
                                      "float4e2m1",     "float8e8m0"};
  if (dataType >= 17 && dataType < 25)
    return newer[dataType - 17];
  return "type " + std::to_string(dataType);
}

namespace {

/// One level of protobuf's wire format.
class Wire {
public:
  Wire(StringRef bytes, uint64_t base) : bytes(bytes), base(base) {}

  int field = 0, wireType = 0;
  StringRef payload;          ///< of a length-delimited field
  uint64_t payloadOffset = 0; ///< in the file
  std::string problem;        ///< set when the walk cannot go on

  bool next() {
    if (at == bytes.size())
      return false;
    uint64_t key, length;
    if (!varint(key))
      return false;
    field = static_cast<int>(key >> 3);
    wireType = key & 7;
    payload = {};
    switch (wireType) {
    case 0:
      return varint(length);
    case 1:
      return skip(8);
    case 5:
      return skip(4);
    case 2:
      if (!varint(length))
        return false;
      payloadOffset = base + at;
      payload = bytes.substr(at, length);
      return skip(length);
    default:
      problem = "an unknown wire type";
      return false;
    }
  }

private:
  bool varint(uint64_t &value) {
    value = 0;
    for (int shift = 0; shift < 64 && at < bytes.size(); shift += 7) {
      uint8_t byte = bytes[at++];
      value |= uint64_t(byte & 127) << shift;
      if (byte < 128)
        return true;
    }
    problem = "a number that is cut off";
    return false;
  }
  bool skip(uint64_t length) {
    if (length > bytes.size() - at) {
      problem = "field " + std::to_string(field) + " that needs " + std::to_string(length) +
                " bytes where " + std::to_string(bytes.size() - at) + " are left";
      return false;
    }
    at += length;
    return true;
  }

  StringRef bytes;
  uint64_t base;
  size_t at = 0;
};

constexpr int graphField = 7, initializerField = 5; // of ModelProto, of GraphProto
constexpr int floatData = 4, int32Data = 5, int64Data = 7, rawData = 9, doubleData = 10,
              uint64Data = 11;

bool looksLikeText(StringRef bytes) {
  StringRef head = bytes.take_front(512);
  return llvm::all_of(head,
                      [](char c) { return llvm::isPrint(c) || llvm::isSpace(c) || (c & 0x80); });
}

} // namespace

/// Finds the initializers' bytes. The message parsed, so this fails only on what protobuf tolerates
/// and we do not.
bool Model::scan(StringRef bytes, ErrorFn error) {
  Wire top(bytes, 0);
  while (top.next()) {
    if (top.field != graphField || top.wireType != 2)
      continue;
    Wire graph(top.payload, top.payloadOffset);
    while (graph.next()) {
      if (graph.field != initializerField || graph.wireType != 2)
        continue;
      Piece piece;
      Wire tensor(graph.payload, graph.payloadOffset);
      while (tensor.next()) {
        bool data = tensor.field == floatData || tensor.field == int32Data ||
                    tensor.field == int64Data || tensor.field == rawData ||
                    tensor.field == doubleData || tensor.field == uint64Data;
        if (!data)
          continue;
        piece.field = tensor.field;
        piece.offset = tensor.payloadOffset;
        piece.length = tensor.payload.size();
        // Unpacked elements come as one field each, not length-delimited.
        piece.pieces += tensor.wireType == 2 ? 1 : 2;
      }
      pieces.push_back(piece);
    }
  }
  if (top.problem.empty() && static_cast<int>(pieces.size()) == proto.graph().initializer_size())
    return true;
  error() << "is not an ONNX model: it holds "
          << (top.problem.empty() ? std::string("initializers that cannot be told apart")
                                  : top.problem);
  return false;
}

std::unique_ptr<Model> Model::read(StringRef path, const ImportOptions &options, ErrorFn error) {
  uint64_t size = 0;
  llvm::sys::fs::file_status status;
  if (std::error_code code = llvm::sys::fs::status(path, status)) {
    error() << "cannot be read: " << code.message();
    return nullptr;
  }
  if (llvm::sys::fs::is_directory(status)) {
    error() << "is a folder, should be an ONNX file";
    return nullptr;
  }
  if (!llvm::sys::fs::is_regular_file(status)) {
    error() << "is a pipe or a device, should be an ONNX file";
    return nullptr;
  }
  size = status.getSize();
  if (size > options.maxFileBytes || size > uint64_t(INT_MAX)) {
    auto diagnostic = error() << "is too large: " << size << " bytes, the limit is "
                              << std::min<uint64_t>(options.maxFileBytes, INT_MAX);
    diagnostic.attachNote()
        << "save the model with external data: onnx.save(..., save_as_external_data=True)";
    return nullptr;
  }
  auto buffer =
      llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer) {
    error() << "cannot be read: " << buffer.getError().message();
    return nullptr;
  }
  StringRef bytes = (*buffer)->getBuffer();
  if (bytes.empty()) {
    error() << "is empty, should be an ONNX model";
    return nullptr;
  }

  auto model = std::make_unique<Model>();
  model->path = path.str();
  model->fileName = llvm::sys::path::filename(path).str();
  SmallString<256> folder(path);
  llvm::sys::fs::make_absolute(folder);
  llvm::sys::path::remove_filename(folder);
  model->folder = folder.str().str();

  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const uint8_t *>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  stream.SetTotalBytesLimit(INT_MAX);
  stream.SetRecursionLimit(4 * options.maxNesting);
  // ParsePartial: what is missing is told in our own words, not on protobuf's stderr.
  bool parsed = model->proto.ParsePartialFromCodedStream(&stream) && stream.ConsumedEntireMessage();
  if (!parsed) {
    if (bytes.starts_with("version https://git-lfs")) {
      auto diagnostic = error() << "is a Git LFS pointer, should be an ONNX model";
      diagnostic.attachNote() << "fetch the file itself: git lfs pull";
    } else if (looksLikeText(bytes)) {
      error() << "is text, should be an ONNX model in protobuf's binary format";
    } else {
      Wire top(bytes, 0);
      while (top.next()) {
      }
      if (!top.problem.empty())
        error() << "is truncated or not an ONNX model: its " << bytes.size() << " bytes end in "
                << top.problem;
      else
        error() << "is not an ONNX model: it does not parse, or nests deeper than "
                << 4 * options.maxNesting << " levels";
    }
    return nullptr;
  }
  if (!model->proto.has_graph() || model->proto.ir_version() == 0) {
    error() << "is not an ONNX model: it has no "
            << (model->proto.has_graph() ? "IR version" : "graph");
    return nullptr;
  }
  if (!model->scan(bytes, error))
    return nullptr;
  return model;
}

static std::optional<std::string> externalEntry(const onnx::TensorProto &tensor, StringRef key) {
  for (const onnx::StringStringEntryProto &entry : tensor.external_data())
    if (StringRef(entry.key()) == key)
      return entry.value();
  return std::nullopt;
}

std::optional<DataRange> Model::locateExternal(const onnx::TensorProto &tensor, uint64_t bytes,
                                               ErrorFn error) const {
  std::optional<std::string> location = externalEntry(tensor, "location");
  if (!location || location->empty()) {
    error() << "refers to external data without a location";
    return std::nullopt;
  }
  DataRange range{*location, 0, bytes, true};
  auto bounded = [&](const Twine &why) {
    auto diagnostic = error() << "refers to external data '" << *location << "', " << why;
    diagnostic.attachNote() << "external data is read from the model's folder only";
    return std::nullopt;
  };
  if (location->find('\0') != std::string::npos)
    return bounded("which holds a zero byte");
  if (llvm::sys::path::is_absolute(*location))
    return bounded("an absolute path");
  for (auto part = llvm::sys::path::begin(*location), end = llvm::sys::path::end(*location);
       part != end; ++part)
    if (*part == "..")
      return bounded("which leads out of the model's folder");

  for (auto [key, field] : {std::pair{"offset", &range.offset}, std::pair{"length", &range.length}})
    if (std::optional<std::string> text = externalEntry(tensor, key))
      if (StringRef(*text).getAsInteger(10, *field)) {
        error() << "has external data with " << key << " '" << *text
                << "', should be a number of bytes";
        return std::nullopt;
      }
  if (range.length != bytes) {
    error() << "has " << range.length << " bytes of external data, its type and shape need "
            << bytes;
    return std::nullopt;
  }
  uint64_t end = range.offset + range.length;
  if (end < range.offset) {
    error() << "has external data at offset " << range.offset << " with length " << range.length
            << ", which is out of range";
    return std::nullopt;
  }

  SmallString<256> file(folder), real, realFolder;
  llvm::sys::path::append(file, *location);
  llvm::sys::fs::file_status status;
  if (llvm::sys::fs::status(file, status)) {
    // A dangling link would be followed as soon as its target appears.
    if (llvm::sys::fs::is_symlink_file(file))
      return bounded("a symbolic link to nowhere");
    range.present = false;
    return range;
  }
  if (llvm::sys::fs::real_path(file, real) ||
      llvm::sys::fs::real_path(folder.empty() ? "." : folder, realFolder))
    return bounded("which cannot be resolved");
  if (!realFolder.ends_with("/"))
    realFolder += '/';
  if (!StringRef(real).starts_with(realFolder))
    return bounded("a link that leads out of the model's folder");
  if (!llvm::sys::fs::is_regular_file(status)) {
    error() << "refers to external data '" << *location << "', which is not a file";
    return std::nullopt;
  }
  if (end > status.getSize()) {
    auto diagnostic = error() << "needs bytes " << range.offset << " to " << end << " of '"
                              << *location << "', which has " << status.getSize();
    diagnostic.attachNote() << "the file is truncated or belongs to another model";
    return std::nullopt;
  }
  return range;
}

std::optional<DataRange> Model::locate(int index, uint64_t bytes, ErrorFn error) const {
  const onnx::TensorProto &tensor = proto.graph().initializer(index);
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
    return locateExternal(tensor, bytes, error);
  const Piece &piece = pieces[index];
  // Half floats in int32_data are varints, one for each element: not bytes of the tensor.
  bool raw = piece.field == rawData ||
             (piece.field == floatData && tensor.data_type() == onnx::TensorProto::FLOAT) ||
             (piece.field == doubleData && tensor.data_type() == onnx::TensorProto::DOUBLE);
  if (piece.pieces != 1 || !raw) {
    auto diagnostic =
        error() << (piece.pieces == 0 ? "has no data" : "has its elements stored one by one");
    diagnostic.attachNote() << "weights should be raw data or external data; onnx.save after "
                               "numpy_helper.from_array writes them so";
    return std::nullopt;
  }
  if (piece.length != bytes) {
    error() << "has " << piece.length << " bytes of data, its type and shape need " << bytes;
    return std::nullopt;
  }
  return DataRange{fileName, piece.offset, piece.length, true};
}

template <typename T, typename Field> static std::string packed(const Field &field) {
  std::string bytes;
  bytes.reserve(field.size() * sizeof(T));
  for (auto element : field) {
    T value = static_cast<T>(element);
    bytes.append(reinterpret_cast<const char *>(&value), sizeof(T));
  }
  return bytes;
}

std::optional<std::string> Model::bytesOf(const onnx::TensorProto &tensor, uint64_t bytes,
                                          ErrorFn error) const {
  std::string data;
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL) {
    std::optional<DataRange> range = locateExternal(tensor, bytes, error);
    if (!range)
      return std::nullopt;
    if (!range->present) {
      auto diagnostic = error() << "needs '" << range->path << "', which is missing";
      diagnostic.attachNote()
          << "weights may be absent while compiling, but this tensor decides shapes or indices";
      return std::nullopt;
    }
    SmallString<256> file(folder);
    llvm::sys::path::append(file, range->path);
    if (range->length == 0)
      return data;
    auto buffer = llvm::MemoryBuffer::getFileSlice(file, range->length, range->offset);
    if (!buffer || (*buffer)->getBufferSize() != range->length) {
      error() << "cannot be read from '" << range->path << "'";
      return std::nullopt;
    }
    return (*buffer)->getBuffer().str();
  }
  if (tensor.has_raw_data()) {
    data = tensor.raw_data();
  } else {
    switch (tensor.data_type()) {
    case onnx::TensorProto::FLOAT:
      data = packed<float>(tensor.float_data());
      break;
    case onnx::TensorProto::DOUBLE:
      data = packed<double>(tensor.double_data());
      break;
    case onnx::TensorProto::INT64:
      data = packed<int64_t>(tensor.int64_data());
      break;
    case onnx::TensorProto::UINT64:
      data = packed<uint64_t>(tensor.uint64_data());
      break;
    case onnx::TensorProto::UINT32:
      data = packed<uint32_t>(tensor.uint64_data());
      break;
    default: // everything of 32 bits or less is kept in int32_data
      switch (elementBytes(tensor.data_type())) {
      case 1:
        data = packed<uint8_t>(tensor.int32_data());
        break;
      case 2:
        data = packed<uint16_t>(tensor.int32_data());
        break;
      default:
        data = packed<int32_t>(tensor.int32_data());
      }
    }
  }
  if (data.size() == bytes)
    return data;
  error() << "has " << data.size() << " bytes of data, its type and shape need " << bytes;
  return std::nullopt;
}

} // namespace amc::importer
