// See Files.h. POSIX calls, so that every failure has its errno and a full disk is told from a
// wrong path.
#include "runtime/trainer/Files.h"
#include "runtime/plan/PlanFile.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace amc::rt {
namespace {

// A large file goes to the disk as it is written: at the end it would keep other ranks waiting for
// minutes without a sign of life.
constexpr uint64_t flushedTogether = 256 << 20;

} // namespace

Status systemError(int error, std::string_view path, std::string_view what) {
  switch (error) {
  case ENOSPC:
  case EDQUOT:
  case ENOMEM:
  case EMFILE:
  case ENFILE:
  case EIO:
  case EFBIG:
    return limitError(path, ": ", what, ": ", std::strerror(error));
  default:
    return inputError(path, ": ", what, ": ", std::strerror(error));
  }
}

//===--- InputFile
//---------------------------------------------------------------------------------------------===//

Expected<InputFile> InputFile::open(const std::string &path) {
  // Without O_NONBLOCK, opening a pipe would wait for a writer before fstat could refuse it.
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0)
    return systemError(errno, path, "cannot be opened");
  struct stat info;
  if (::fstat(descriptor, &info) != 0) {
    Status failure = systemError(errno, path, "cannot be examined");
    ::close(descriptor);
    return failure;
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(descriptor);
    return inputError(path, ": is no regular file");
  }
  return InputFile(descriptor, path, static_cast<uint64_t>(info.st_size));
}

InputFile::InputFile(InputFile &&other) noexcept
    : descriptor(std::exchange(other.descriptor, -1)), name(std::move(other.name)),
      bytes(other.bytes) {}

InputFile &InputFile::operator=(InputFile &&other) noexcept {
  std::swap(descriptor, other.descriptor);
  std::swap(name, other.name);
  std::swap(bytes, other.bytes);
  return *this;
}

InputFile::~InputFile() {
  if (descriptor >= 0)
    ::close(descriptor);
}

Status InputFile::readAt(uint64_t offset, std::span<std::byte> target) const {
  if (!rangeFits(offset, target.size(), bytes))
    return inputError(name, ": ", target.size(), " bytes at offset ", offset, " exceed the file's ",
                      bytes, " bytes");
  uint64_t done = 0;
  while (done < target.size()) {
    ssize_t count = ::pread(descriptor, target.data() + done, target.size() - done,
                            static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return systemError(errno, name, "cannot be read");
    if (count == 0)
      return inputError(name, ": ended at byte ", offset + done, " while it was being read");
    done += static_cast<uint64_t>(count);
  }
  return {};
}

//===--- OutputFile
//--------------------------------------------------------------------------------------------===//

Expected<OutputFile> OutputFile::create(const std::string &path) {
  Expected<OutputTarget> target = resolveOutput(path);
  if (!target.ok())
    return std::move(target).status();
  // Neither can be written at an offset or renamed onto.
  if (target->special)
    return inputError(path, ": cannot be written: is a device or a pipe, should be a file");
  std::string partial = target->path + ".partial-" + std::to_string(::getpid());
  int descriptor = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0)
    return systemError(errno, path, "cannot be written");
  return OutputFile(descriptor, std::move(target->path), std::move(partial));
}

OutputFile::OutputFile(OutputFile &&other) noexcept
    : descriptor(std::exchange(other.descriptor, -1)), name(std::move(other.name)),
      partial(std::move(other.partial)), owner(other.owner), unflushed(other.unflushed) {}

Expected<OutputFile> OutputFile::join(const std::string &path, const std::string &partialPath) {
  int descriptor = ::open(partialPath.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor < 0)
    return systemError(errno, partialPath, "cannot be written");
  OutputFile file(descriptor, path, partialPath);
  file.owner = false;
  return file;
}

OutputFile::~OutputFile() {
  if (descriptor < 0)
    return;
  ::close(descriptor);
  if (owner)
    ::unlink(partial.c_str());
}

Status OutputFile::writeAt(uint64_t offset, std::span<const std::byte> source) {
  uint64_t done = 0;
  while (done < source.size()) {
    ssize_t count = ::pwrite(descriptor, source.data() + done, source.size() - done,
                             static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return systemError(errno, name, "cannot be written");
    done += static_cast<uint64_t>(count);
  }
  unflushed += source.size();
  return unflushed < flushedTogether ? Status() : flush();
}

Status OutputFile::flush() {
  unflushed = 0;
  return ::fsync(descriptor) == 0 ? Status()
                                  : systemError(errno, name, "cannot be flushed to the disk");
}

Status OutputFile::commit() {
  if (Status failure = flush(); !failure.ok())
    return failure;
  // Some file systems report a full disk only here.
  int closed = ::close(std::exchange(descriptor, -1));
  int error = errno;
  if (closed == 0) {
    if (::rename(partial.c_str(), name.c_str()) == 0)
      return syncDirectory(parentDirectory(name));
    error = errno;
  }
  ::unlink(partial.c_str());
  return systemError(error, name, "cannot be written");
}

//===--- whole files and directories
//---------------------------------------------------------------------------===//

Status writeWholeFile(const std::string &path, std::string_view text) {
  Expected<OutputFile> file = OutputFile::create(path);
  if (!file.ok())
    return file.status();
  if (Status failure = file->writeAt(0, std::as_bytes(std::span(text))); !failure.ok())
    return failure;
  return file->commit();
}

Expected<std::string> readWholeFile(const std::string &path, uint64_t limit) {
  Expected<InputFile> file = InputFile::open(path);
  if (!file.ok())
    return file.status();
  if (file->size() > limit)
    return inputError(path, ": is ", file->size(), " bytes and should be at most ", limit);
  std::string text(file->size(), '\0');
  if (Status failure = file->readAt(0, std::as_writable_bytes(std::span(text))); !failure.ok())
    return failure;
  return text;
}

Status probeWritable(const std::string &path) {
  Expected<OutputFile> file = OutputFile::create(path);
  return file.ok() ? Status() : file.status();
}

Status makeDirectory(const std::string &path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    return systemError(error.value(), path, "cannot be created");
  if (!std::filesystem::is_directory(path, error))
    return inputError(path, ": is no directory");
  return {};
}

Status syncDirectory(const std::string &path) {
  int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0)
    return systemError(errno, path, "cannot be opened");
  // File systems that cannot flush a directory say EINVAL; their renames are as durable as they
  // get.
  bool failed = ::fsync(descriptor) != 0 && errno != EINVAL;
  int error = errno;
  ::close(descriptor);
  return failed ? systemError(error, path, "cannot be flushed to the disk") : Status();
}

Status removeTree(const std::string &path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error ? systemError(error.value(), path, "cannot be removed") : Status();
}

Status renamePath(const std::string &from, const std::string &to) {
  return ::rename(from.c_str(), to.c_str()) == 0 ? Status()
                                                 : systemError(errno, to, "cannot be renamed to");
}

std::string parentDirectory(const std::string &path) {
  std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

} // namespace amc::rt
