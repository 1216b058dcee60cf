// See PlanSource.h.
#include "runtime/trainer/PlanSource.h"

#include "runtime/plan/PlanFile.h"

#include <algorithm>
#include <filesystem>
#include <utility>

namespace amc::rt {
namespace {

// Conversions go through a buffer of this size.
constexpr uint64_t bufferBytes = 1 << 20;

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

} // namespace

Status PlanSource::open(const plan::Parameter &parameter, const plan::Source &source,
                        uint64_t elements, DType to) {
  stored = parameter.view().dtype();
  if (!parameter.initializer_dtype().empty())
    stored = dtypeFromName(parameter.initializer_dtype());
  if (!convertible(stored, to))
    return inputError("initializer_dtype '", parameter.initializer_dtype(),
                      "' does not convert to ", dtypeName(to));
  uint64_t given = source.has_file() ? source.file().length() : source.embedded().size();
  uint64_t wanted;
  if (__builtin_mul_overflow(elements, dtypeBytes(stored), &wanted) || given != wanted)
    return inputError("its source has ", given, " bytes and should have ", elements,
                      " elements of ", dtypeName(stored));
  current = &source;
  if (source.has_embedded())
    return {};
  if (Status failure = checkModel(); !failure.ok())
    return failure;
  if (Status failure = openFile(source.file().path()); !failure.ok())
    return failure;
  uint64_t offset = source.file().offset();
  if (!rangeFits(offset, wanted, file->size()))
    return inputError(file->path(), ": ", wanted, " bytes at offset ", offset,
                      " exceed the file's ", file->size(), " bytes");
  return {};
}

Status PlanSource::read(uint64_t first, uint64_t count, DType to, std::byte *target) const {
  uint64_t width = dtypeBytes(stored);
  auto convert = [&](const std::byte *bytes, uint64_t done, uint64_t batch) {
    uint64_t good = convertElements(stored, bytes, to, target + done * dtypeBytes(to), batch);
    return good == batch
               ? Status()
               : inputError("element ", first + done + good, " does not fit ", dtypeName(to));
  };
  if (current->has_embedded())
    return convert(reinterpret_cast<const std::byte *>(current->embedded().data()) + first * width,
                   0, count);
  uint64_t offset = current->file().offset() + first * width;
  if (stored == to && stored != plan::BOOL)
    return file->readAt(offset, std::span(target, count * width));
  std::vector<std::byte> buffer(std::min(bufferBytes, count * width));
  uint64_t atOnce = buffer.size() / width;
  for (uint64_t done = 0; done < count; done += atOnce) {
    uint64_t batch = std::min(atOnce, count - done);
    if (Status failure =
            file->readAt(offset + done * width, std::span(buffer.data(), batch * width));
        !failure.ok())
      return failure;
    if (Status failure = convert(buffer.data(), done, batch); !failure.ok())
      return failure;
  }
  return {};
}

// Is the model's file, where it is at all, the one that the plan was compiled from? Asked before
// the first weight is read by offset, and not at all where weights come from elsewhere.
Status PlanSource::checkModel() {
  if (std::exchange(checked, true) || compiled.model_hash().empty())
    return {};
  std::filesystem::path path =
      std::filesystem::path(directory) / std::filesystem::path(compiled.model_path()).filename();
  std::error_code ignored; // weights in files of their own can be read without the model's
  if (!std::filesystem::is_regular_file(path, ignored))
    return {};
  return checkHash(path.string(), compiled.model_hash(), "is not the model that");
}

Status PlanSource::checkHash(const std::string &path, const std::string &hash,
                             std::string_view fault) {
  Expected<std::string> found = hashFile(path);
  if (!found.ok())
    return found.status();
  return *found == hash
             ? Status()
             : inputError(path, ": ", fault, " the plan was compiled from; compile the plan again");
}

Status PlanSource::openFile(const std::string &path) {
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

} // namespace amc::rt
