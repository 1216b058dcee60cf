// Reads folders and packs of test cases; the pack's layout is in pack.py.
#include "test/conformance/Cases.h"
#include "llvm/Support/Compression.h"
#include "llvm/Support/Error.h"
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <onnx/onnx_pb.h>
#include <sstream>

namespace amc::conformance {
namespace {

std::string readFile(const std::filesystem::path &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

/// Takes numbers and strings off the front; `sound` turns false where the bytes end too early.
class Reader {
public:
  explicit Reader(llvm::StringRef bytes) : bytes(bytes) {}
  bool sound = true;

  template <typename T> T number() {
    T value = 0;
    llvm::StringRef taken = take(sizeof(T));
    if (sound)
      std::memcpy(&value, taken.data(), sizeof(T));
    return value;
  }
  llvm::StringRef take(uint64_t size) {
    sound &= size <= bytes.size();
    if (!sound)
      return {};
    llvm::StringRef front = bytes.take_front(size);
    bytes = bytes.drop_front(size);
    return front;
  }

private:
  llvm::StringRef bytes;
};

template <typename To, typename Field> std::string convert(const Field &field) {
  std::string bytes;
  for (auto value : field) {
    To element = static_cast<To>(value);
    bytes.append(reinterpret_cast<const char *>(&element), sizeof(To));
  }
  return bytes;
}

} // namespace

std::vector<Case> readFolder(const std::string &folder, const std::string &source) {
  std::vector<Case> cases;
  std::error_code error;
  for (const auto &entry : std::filesystem::directory_iterator(folder, error)) {
    if (!std::filesystem::exists(entry.path() / "model.onnx"))
      continue;
    Case read{source, entry.path().filename(), {}};
    for (const auto &file : std::filesystem::recursive_directory_iterator(entry.path()))
      if (file.is_regular_file())
        read.files[std::filesystem::relative(file.path(), entry.path())] = readFile(file.path());
    cases.push_back(std::move(read));
  }
  std::sort(cases.begin(), cases.end(),
            [](const Case &a, const Case &b) { return a.name < b.name; });
  return cases;
}

std::optional<std::vector<Case>> readPack(const std::string &path, const std::string &source,
                                          std::string &why) {
  std::string file = readFile(path);
  Reader header(file);
  bool magic = header.take(8) == "AMCCASES";
  uint64_t size = header.number<uint64_t>();
  if (!magic || !header.sound || size > (uint64_t(1) << 30)) {
    why = path + " is not a pack of cases";
    return std::nullopt;
  }
  llvm::SmallVector<uint8_t> raw;
  llvm::Error error = llvm::compression::zlib::decompress(
      llvm::ArrayRef(reinterpret_cast<const uint8_t *>(file.data()) + 16, file.size() - 16), raw,
      size);
  if (error) {
    why = path + ": " + llvm::toString(std::move(error));
    return std::nullopt;
  }

  Reader reader(llvm::StringRef(reinterpret_cast<const char *>(raw.data()), raw.size()));
  std::vector<llvm::StringRef> blobs;
  for (uint32_t i = 0, e = reader.number<uint32_t>(); i < e && reader.sound; ++i)
    blobs.push_back(reader.take(reader.number<uint64_t>()));
  std::vector<Case> cases;
  for (uint32_t i = 0, e = reader.number<uint32_t>(); i < e && reader.sound; ++i) {
    auto [name, file] = reader.take(reader.number<uint32_t>()).split('/');
    uint32_t blob = reader.number<uint32_t>();
    if (!reader.sound || blob >= blobs.size())
      break;
    if (cases.empty() || cases.back().name != name) // files of a case stand together
      cases.push_back({source, name.str(), {}});
    cases.back().files[file.str()] = blobs[blob].str();
  }
  if (!reader.sound || cases.empty()) {
    why = path + " ends too early";
    return std::nullopt;
  }
  return cases;
}

std::optional<Tensor> readTensor(const onnx::TensorProto &proto) {
  Tensor tensor;
  tensor.dataType = proto.data_type();
  tensor.shape.assign(proto.dims().begin(), proto.dims().end());
  int64_t elements = 1;
  for (int64_t dim : tensor.shape)
    if (dim < 0 || __builtin_mul_overflow(elements, dim, &elements))
      return std::nullopt;

  using T = onnx::TensorProto;
  const bool raw = proto.has_raw_data();
  int64_t width = 0;
  switch (proto.data_type()) {
  case T::FLOAT:
    width = 4, tensor.bytes = raw ? proto.raw_data() : convert<float>(proto.float_data());
    break;
  case T::DOUBLE:
    width = 8, tensor.bytes = raw ? proto.raw_data() : convert<double>(proto.double_data());
    break;
  case T::INT64:
    width = 8, tensor.bytes = raw ? proto.raw_data() : convert<int64_t>(proto.int64_data());
    break;
  case T::UINT64:
    width = 8, tensor.bytes = raw ? proto.raw_data() : convert<uint64_t>(proto.uint64_data());
    break;
  case T::UINT32:
    width = 4, tensor.bytes = raw ? proto.raw_data() : convert<uint32_t>(proto.uint64_data());
    break;
  case T::INT32:
    width = 4, tensor.bytes = raw ? proto.raw_data() : convert<int32_t>(proto.int32_data());
    break;
  case T::INT16:
  case T::UINT16:
  case T::FLOAT16:
  case T::BFLOAT16: // halves stand in int32_data as their bits
    width = 2, tensor.bytes = raw ? proto.raw_data() : convert<uint16_t>(proto.int32_data());
    break;
  case T::INT8:
  case T::UINT8:
  case T::BOOL:
    width = 1, tensor.bytes = raw ? proto.raw_data() : convert<uint8_t>(proto.int32_data());
    break;
  default:
    return std::nullopt;
  }
  if (static_cast<int64_t>(tensor.bytes.size()) != elements * width)
    return std::nullopt;
  return tensor;
}

} // namespace amc::conformance
