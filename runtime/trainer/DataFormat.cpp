// See DataFormat.h. Of a text no 8 bytes are the length of a header: letters make it 2^56 and more.
#include "runtime/trainer/DataFormat.h"

#include "runtime/trainer/Files.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace amc::rt {
namespace {

constexpr uint64_t longestHeader = uint64_t(1) << 32; // of a safetensors file, far more than any has

struct Magic {
  std::string_view bytes, name;
};
// No text in UTF-8 begins so, but for the last two, which are letters: they count where zeros follow.
constexpr Magic magics[] = {
    {"\x1f\x8b", "a gzip file"},
    {"\x28\xb5\x2f\xfd", "a zstd file"},
    {std::string_view("\xfd\x37zXZ\0", 6), "an xz file"},
    {"\x93NUMPY", "a NumPy array (.npy)"},
    {"\x89HDF\r\n", "an HDF5 file"},
    {"PK\x03\x04", "a zip archive, as .npz and PyTorch's .pt are"},
    {std::string_view("ARROW1\0", 7), "an Arrow file"},
    {"PAR1", "a Parquet file"},
    {"BZh91AY&SY", "a bzip2 file"},
};

bool isLetter(char c) { return c >= ' ' && c <= '~'; }

} // namespace

Expected<DataContent> recognizeData(const std::string &path) {
  Expected<InputFile> file = InputFile::open(path);
  if (!file.ok())
    return file.status();
  std::string head(std::min<uint64_t>(file->size(), 4096), '\0');
  if (Status failure = file->readAt(0, std::as_writable_bytes(std::span(head))); !failure.ok())
    return failure;
  DataContent content;
  uint64_t length = 0;
  if (head.size() > sizeof length) {
    std::memcpy(&length, head.data(), sizeof length);
    content.safetensors = length > 0 && length <= longestHeader && head[sizeof length] == '{';
  }
  content.zeros = head.find('\0') != head.npos;
  for (const Magic &magic : magics)
    if (head.starts_with(magic.bytes) &&
        (content.zeros || !std::all_of(magic.bytes.begin(), magic.bytes.end(), isLetter)))
      content.other = magic.name;
  return content;
}

} // namespace amc::rt
