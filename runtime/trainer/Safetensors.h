// Reads and writes safetensors files: u64 header length, JSON header, data. The reader keeps the
// header and an open file; tensor bytes are read when asked for, into memory of the caller's. It
// trusts nothing: header size, JSON, shapes, offsets, gaps and overlaps are checked before a tensor
// is handed out.
//
// The writer lays tensors out by descending element width, then by name, as the format's own
// library does; the bytes of a file depend on names, types, shapes, values and metadata only.
// Tensors may be written in any order and in pieces.
#ifndef AMC_RUNTIME_TRAINER_SAFETENSORS_H
#define AMC_RUNTIME_TRAINER_SAFETENSORS_H

#include "runtime/trainer/Elements.h"
#include "runtime/trainer/Files.h"

#include <map>
#include <string>
#include <vector>

namespace amc::rt {

struct TensorInfo {
  std::string name;
  DType dtype =
      plan::DTYPE_UNSPECIFIED; // unspecified: a type of the format that AMC has not (f8 …)
  Shape shape;
  uint64_t elements = 0;
  uint64_t offset = 0; // in the file
  uint64_t bytes = 0;
};

// Whole tensors by name, in one file or in many (see Shards.h).
class StoredTensors {
public:
  virtual ~StoredTensors() = default;
  virtual const std::string &path() const = 0;
  virtual const TensorInfo *find(std::string_view name) const = 0;
  // Reads elements [first, first + count) of a tensor, converted to `to`. Integers that `to` cannot
  // hold, types that do not convert and ranges outside the tensor are errors. Without conversion
  // the bytes go straight to `target`.
  virtual Status read(const TensorInfo &tensor, uint64_t first, uint64_t count, DType to,
                      std::byte *target) const = 0;
};

class SafetensorsReader final : public StoredTensors {
public:
  static Expected<SafetensorsReader> open(const std::string &path);

  const std::string &path() const override { return file.path(); }
  const std::map<std::string, std::string> &metadata() const { return pairs; }
  const std::vector<TensorInfo> &tensors() const { return entries; } // by name
  const TensorInfo *find(std::string_view name) const override;
  Status read(const TensorInfo &tensor, uint64_t first, uint64_t count, DType to,
              std::byte *target) const override;

private:
  explicit SafetensorsReader(InputFile file) : file(std::move(file)) {}
  Status parseHeader();
  InputFile file;
  std::map<std::string, std::string> pairs;
  std::vector<TensorInfo> entries;
};

class SafetensorsWriter {
public:
  struct Spec {
    std::string name;
    DType dtype;
    Shape shape;
  };
  // Names are distinct. Nothing exists at `path` before `finish`.
  static Expected<SafetensorsWriter> create(const std::string &path, std::vector<Spec> specs,
                                            const std::map<std::string, std::string> &metadata);
  // Writes to a file that another process has created and will finish, given the same arguments and
  // what partialPath() says there. `path` is for messages.
  static Expected<SafetensorsWriter> join(const std::string &path, const std::string &partialPath,
                                          std::vector<Spec> specs,
                                          const std::map<std::string, std::string> &metadata);
  const std::string &partialPath() const { return file.partialPath(); }

  // Writes bytes of the tensor `name` from `offset` within it.
  Status write(std::string_view name, uint64_t offset, std::span<const std::byte> bytes);
  // All bytes of all tensors have to be written by now.
  Status finish();

  // For several writers, instead: each flushes what it wrote, and the one that created the file
  // puts it in place.
  Status flush() { return file.flush(); }
  Status commit() { return file.commit(); }
  uint64_t writtenBytes() const; // by this writer
  uint64_t dataBytes() const;    // of all tensors

private:
  struct Slot {
    uint64_t offset, bytes, written;
  };
  explicit SafetensorsWriter(OutputFile file) : file(std::move(file)) {}
  // Lays the tensors out and gives the file's header.
  Expected<std::string> layOut(const std::string &path, std::vector<Spec> specs,
                               const std::map<std::string, std::string> &metadata);
  OutputFile file;
  std::map<std::string, Slot, std::less<>> slots;
};

} // namespace amc::rt

#endif
