#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Hash.h"
#include "runtime/plan/Splits.h"
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <memory>
#include <new>
#include <poll.h>
#include <stdexcept>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace amc::rt {
namespace {

constexpr char magic[8] = {'A', 'M', 'P', 'L', 'A', 'N', '\r', '\n'};
constexpr uint64_t versionAt = 8, lengthAt = 12, checksumAt = 20;

template <class T> void putLittleEndian(char *out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    out[i] = static_cast<char>(value >> (8 * i));
}
template <class T> T getLittleEndian(const char *in) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value |= static_cast<T>(static_cast<unsigned char>(in[i])) << (8 * i);
  return value;
}

XXH128_canonical_t checksum(const char *payload, uint64_t bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(payload, bytes));
  return canonical;
}

std::string systemError() { return std::strerror(errno); }

// Disk and memory are the machine's limits, everything else is the request's fault.
ErrorKind kindOfErrno() {
  return errno == ENOSPC || errno == EDQUOT || errno == ENOMEM || errno == EIO || errno == EFBIG
             ? ErrorKind::Limit
             : ErrorKind::Input;
}

Status fileError(const std::string &path, const char *what) {
  ErrorKind kind = kindOfErrno();
  return Status(kind, text(path, ": ", what, ": ", systemError()));
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0)
      ::close(fd);
  }
};

Expected<std::string> serialize(const plan::Plan &plan) {
  uint64_t length = plan.ByteSizeLong();
  if (length > INT_MAX)
    return limitError("the plan has ", length, " bytes and should have at most ", INT_MAX,
                      "; leave weights in their files instead of embedding them");
  std::string bytes(planHeaderBytes + length, '\0');
  std::memcpy(bytes.data(), magic, sizeof magic);
  putLittleEndian<uint32_t>(&bytes[versionAt], planFormatVersion);
  putLittleEndian<uint64_t>(&bytes[lengthAt], length);
  char *payload = bytes.data() + planHeaderBytes;
  google::protobuf::io::ArrayOutputStream stream(payload, static_cast<int>(length));
  {
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    if (!plan.SerializeToCodedStream(&coded))
      return inputError("the plan cannot be serialised");
  }
  XXH128_canonical_t sum = checksum(payload, length);
  std::memcpy(&bytes[checksumAt], &sum, sizeof sum);
  return bytes;
}

Expected<plan::Plan> parse(std::string_view bytes) {
  if (bytes.size() < sizeof magic || std::memcmp(bytes.data(), magic, sizeof magic) != 0)
    return inputError(bytes.empty() ? "the file is empty; a plan was expected, as `amc compile` writes it"
                                    : "not a plan file; a plan starts with the bytes AMPLAN, as `amc "
                                      "compile` writes it");
  if (bytes.size() < planHeaderBytes)
    return inputError("the plan is truncated: ", bytes.size(), " bytes, and its header alone has ",
                      planHeaderBytes);
  uint32_t version = getLittleEndian<uint32_t>(&bytes[versionAt]);
  if (version > planFormatVersion)
    return inputError("the plan has format version ", version, " and this program reads up to ",
                      planFormatVersion, "; compile the model again or use a newer program");
  if (version == 0)
    return inputError("the plan has format version 0, which does not exist; the file is damaged");
  uint64_t length = getLittleEndian<uint64_t>(&bytes[lengthAt]);
  uint64_t present = bytes.size() - planHeaderBytes;
  if (present < length)
    return inputError("the plan is truncated: its payload has ", present, " bytes and should have ", length);
  if (present > length)
    return inputError("the plan has ", present - length, " bytes behind its payload of ", length);
  const char *payload = bytes.data() + planHeaderBytes;
  XXH128_canonical_t sum = checksum(payload, length);
  if (std::memcmp(&bytes[checksumAt], &sum, sizeof sum) != 0)
    return inputError("the plan's checksum is wrong: the file is damaged; compile the model again");
  if (length > INT_MAX)
    return inputError("the plan's payload has ", length, " bytes and should have at most ", INT_MAX);
  plan::Plan plan;
  if (!plan.ParseFromArray(payload, static_cast<int>(length)))
    return inputError("the plan's payload is no plan message; compile the model again");
  return plan;
}

Expected<std::string> readAll(const std::string &path, const char *expected) {
  // Without O_NONBLOCK, opening a named pipe would wait for a writer that may never come.
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0)
    return fileError(path, "cannot be opened");
  struct stat info;
  if (::fstat(file.fd, &info) != 0)
    return fileError(path, "cannot be examined");
  if (S_ISDIR(info.st_mode))
    return inputError(path, ": is a directory; ", expected, " was expected");
  const bool pipe = S_ISFIFO(info.st_mode); // `<(command)` of a shell
  if (!S_ISREG(info.st_mode) && !pipe)
    return inputError(path, ": is a device; ", expected, " was expected");
  std::string bytes;
  bytes.resize(static_cast<uint64_t>(info.st_size));
  uint64_t done = 0;
  while (true) {
    if (done == bytes.size())
      bytes.resize(done + 65536); // the file grew, is a pipe, or this reads its end
    ssize_t got = ::read(file.fd, bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0 && errno == EAGAIN) {
      pollfd writer = {file.fd, POLLIN, 0};
      ::poll(&writer, 1, -1);
      continue;
    }
    if (got < 0)
      return fileError(path, "cannot be read");
    if (got == 0)
      break;
    done += static_cast<uint64_t>(got);
  }
  if (pipe && done == 0)
    return inputError(path, ": is a pipe that nobody writes to; ", expected, " was expected");
  bytes.resize(done);
  return bytes;
}

// Writes everything, flushes it and closes the file; false leaves the reason in errno.
bool writeAndClose(Descriptor &file, std::string_view bytes) {
  uint64_t done = 0;
  while (done < bytes.size()) {
    ssize_t put = ::write(file.fd, bytes.data() + done, bytes.size() - done);
    if (put < 0 && errno == EINTR)
      continue;
    if (put <= 0)
      return false;
    done += static_cast<uint64_t>(put);
  }
  // The disk may turn out to be full only now. Devices and pipes have nothing to flush: EINVAL.
  if (::fsync(file.fd) != 0 && errno != EINVAL)
    return false;
  return ::close(std::exchange(file.fd, -1)) == 0;
}

// Running out of memory is an error like any other to callers.
template <class F> auto guarded(F &&body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc &) {
    return Status::outOfMemory();
  } catch (const std::length_error &) {
    return Status::outOfMemory();
  }
}

} // namespace

Expected<OutputTarget> resolveOutput(const std::string &path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0)
    return OutputTarget{path, false}; // opening or renaming tells what is wrong, if anything is
  if (S_ISDIR(info.st_mode)) {
    errno = EISDIR;
    return fileError(path, "cannot be written");
  }
  char *real = ::realpath(path.c_str(), nullptr);
  OutputTarget target{real ? real : path, !S_ISREG(info.st_mode)};
  std::free(real);
  return target;
}

Expected<PendingFile> PendingFile::write(std::string_view bytes, const std::string &path) {
  Expected<OutputTarget> target = resolveOutput(path);
  if (!target.ok())
    return std::move(target).status();
  PendingFile pending;
  if (target->special) {
    Descriptor file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
    if (file.fd < 0 || !writeAndClose(file, bytes))
      return fileError(path, "cannot be written");
    return pending;
  }
  std::string temporary = text(target->path, ".tmp.", ::getpid());
  Descriptor file{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
  if (file.fd < 0)
    return fileError(path, "cannot be written");
  pending.name = path;
  pending.target = std::move(target->path);
  pending.temporary = std::move(temporary);
  if (!writeAndClose(file, bytes))
    return fileError(path, "cannot be written");
  return pending;
}

Status PendingFile::commit() {
  if (temporary.empty())
    return Status();
  if (::rename(temporary.c_str(), target.c_str()) != 0)
    return fileError(name, "cannot be written");
  temporary.clear();
  return Status();
}

PendingFile::PendingFile(PendingFile &&other) noexcept
    : name(std::move(other.name)), target(std::move(other.target)),
      temporary(std::exchange(other.temporary, {})) {}

PendingFile::~PendingFile() {
  if (!temporary.empty())
    ::unlink(temporary.c_str());
}

Status writeFileWhole(std::string_view bytes, const std::string &path) {
  Expected<PendingFile> pending = PendingFile::write(bytes, path);
  return pending.ok() ? pending->commit() : std::move(pending).status();
}

Expected<std::string> serializePlan(const plan::Plan &plan) {
  return guarded([&] { return serialize(plan); });
}

Expected<plan::Plan> parsePlan(std::string_view bytes) {
  return guarded([&] { return parse(bytes); });
}

Status writePlanFile(const plan::Plan &plan, const std::string &path) {
  return guarded([&]() -> Status {
    Expected<std::string> bytes = serialize(plan);
    if (!bytes.ok())
      return std::move(bytes).status().withContext(path);
    return writeFileWhole(*bytes, path);
  });
}

Expected<std::string> readTextFile(const std::string &path, const char *expected) {
  return guarded([&] { return readAll(path, expected); });
}

Expected<plan::Plan> readPlanFile(const std::string &path) {
  return guarded([&]() -> Expected<plan::Plan> {
    Expected<std::string> bytes = readAll(path, "a plan file");
    if (!bytes.ok())
      return bytes.status();
    Expected<plan::Plan> plan = parse(*bytes);
    if (!plan.ok())
      return std::move(plan).status().withContext(path);
    // Whoever reads a plan asks for its ranks, long before anybody verifies it.
    if (Expected<MeshShape> mesh = meshOf(plan->mesh()); !mesh.ok())
      return std::move(mesh).status().withContext(path);
    return plan;
  });
}

Expected<std::string> hashFile(const std::string &path) {
  return guarded([&]() -> Expected<std::string> {
    std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file)
      return inputError(path, ": cannot be opened: ", std::strerror(errno));
    std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t *)> state(XXH3_createState(), XXH3_freeState);
    if (!state)
      throw std::bad_alloc();
    struct stat info;
    if (::fstat(::fileno(file.get()), &info) != 0)
      return inputError(path, ": cannot be examined: ", std::strerror(errno));
    XXH3_128bits_reset(state.get());
    std::vector<char> buffer(size_t(1) << 20);
    auto hashNext = [&](size_t most) {
      size_t got = std::fread(buffer.data(), 1, most, file.get());
      XXH3_128bits_update(state.get(), buffer.data(), got);
      return got != 0;
    };
    constexpr uint64_t wholeBytes = uint64_t(1) << 32, blocks = 4096, blockBytes = 65536;
    const uint64_t size = static_cast<uint64_t>(info.st_size);
    if (size <= wholeBytes) {
      while (hashNext(buffer.size())) {
      }
    } else {
      XXH3_128bits_update(state.get(), &size, sizeof size);
      for (uint64_t i = 0; i < blocks; ++i)
        if (::fseeko(file.get(), static_cast<off_t>((size - blockBytes) / (blocks - 1) * i), SEEK_SET) != 0 ||
            !hashNext(blockBytes))
          break;
    }
    if (std::ferror(file.get()))
      return inputError(path, ": cannot be read: ", std::strerror(errno));
    return hexadecimal(XXH3_128bits_digest(state.get()));
  });
}

} // namespace amc::rt
