// Files as the trainer reads and writes them: bounded reads at an offset, output that appears under
// its name only when it is whole and on the disk.
#ifndef AMC_RUNTIME_TRAINER_FILES_H
#define AMC_RUNTIME_TRAINER_FILES_H

#include "runtime/support/Status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace amc::rt {

// What a failed system call means: a full disk, exhausted memory or too many files are limits of
// the machine (ErrorKind::Limit), everything else is the request's fault. "PATH: WHAT: No space
// left on device".
Status systemError(int error, std::string_view path, std::string_view what);

// True if [offset, offset + length) lies within `size` bytes. Cannot overflow.
constexpr bool rangeFits(uint64_t offset, uint64_t length, uint64_t size) {
  return length <= size && offset <= size - length;
}

// A regular file opened for reading. Movable.
class InputFile {
public:
  static Expected<InputFile> open(const std::string &path);
  InputFile(InputFile &&other) noexcept;
  InputFile &operator=(InputFile &&other) noexcept;
  ~InputFile();

  const std::string &path() const { return name; }
  uint64_t size() const { return bytes; }
  // Fills `target` from `offset`. A range past the end is an error that states both.
  Status readAt(uint64_t offset, std::span<std::byte> target) const;

private:
  InputFile(int descriptor, std::string path, uint64_t size)
      : descriptor(descriptor), name(std::move(path)), bytes(size) {}
  int descriptor = -1;
  std::string name;
  uint64_t bytes = 0;
};

// A file in the making, beside its target. Nothing exists under `path` until `commit` has flushed
// it to the disk and renamed it; without a commit it is removed.
class OutputFile {
public:
  static Expected<OutputFile> create(const std::string &path);
  // One more writer of the file that `create` makes elsewhere under the name `partialPath`: it
  // writes and flushes, and leaves putting in place and removing to the other.
  static Expected<OutputFile> join(const std::string &path, const std::string &partialPath);
  OutputFile(OutputFile &&other) noexcept;
  OutputFile &operator=(OutputFile &&) = delete;
  ~OutputFile();

  const std::string &partialPath() const { return partial; }
  Status writeAt(uint64_t offset, std::span<const std::byte> source);
  Status flush();
  Status commit();

private:
  OutputFile(int descriptor, std::string path, std::string partial)
      : descriptor(descriptor), name(std::move(path)), partial(std::move(partial)) {}
  int descriptor = -1;
  std::string name;
  std::string partial;
  bool owner = true;      // of the partial file
  uint64_t unflushed = 0; // bytes written since the last flush
};

// Writes a small file whole.
Status writeWholeFile(const std::string &path, std::string_view text);
// Reads a small file; more than `limit` bytes are an error.
Expected<std::string> readWholeFile(const std::string &path, uint64_t limit);

// Tells whether `path` could be written, without leaving anything there.
Status probeWritable(const std::string &path);

// Creates a directory and its parents; one that exists is fine.
Status makeDirectory(const std::string &path);
// Makes renames inside a directory durable.
Status syncDirectory(const std::string &path);
// Removes a file or a directory with all it holds; one that is absent is fine.
Status removeTree(const std::string &path);
Status renamePath(const std::string &from, const std::string &to);

// The folder a path lies in, "." for a bare name.
std::string parentDirectory(const std::string &path);

} // namespace amc::rt

#endif
