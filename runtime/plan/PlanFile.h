// Reads and writes plan files.
//
// Layout, little-endian:
//   bytes  0..7   magic "AMPLAN\r\n" (a text-mode copy destroys it)
//   bytes  8..11  u32 format version
//   bytes 12..19  u64 payload length
//   bytes 20..35  XXH3-128 of the payload, canonical byte order
//   bytes 36..    payload: amc.plan.Plan (plan.proto), serialised deterministically
// The file ends with the payload. Every truncation and every flipped bit is an error; whether the plan makes sense
// is PlanVerifier's question. Writing goes to a temporary file beside the target that is renamed when complete, except
// onto a device or a pipe: renaming would replace /dev/null itself by a file.
#ifndef AMC_RUNTIME_PLAN_PLANFILE_H
#define AMC_RUNTIME_PLAN_PLANFILE_H

#include "runtime/plan/plan.pb.h"
#include "runtime/support/Status.h"
#include <string>
#include <string_view>

namespace amc::rt {

inline constexpr uint32_t planFormatVersion = 1;
inline constexpr uint64_t planHeaderBytes = 36;

// The complete bytes of a plan file.
Expected<std::string> serializePlan(const plan::Plan &plan);
Expected<plan::Plan> parsePlan(std::string_view bytes);

// What an output path stands for: symbolic links are followed, so that a link stays one. `special` is anything that
// exists and is no regular file; a directory is an error.
struct OutputTarget {
  std::string path;
  bool special;
};
Expected<OutputTarget> resolveOutput(const std::string &path);
// Bytes beside the file that they are to become, so that several files can appear together or not at all. A device or
// pipe is written to at once, in place. Destroyed without commit(), it leaves nothing behind.
class PendingFile {
public:
  static Expected<PendingFile> write(std::string_view bytes, const std::string &path);
  PendingFile(PendingFile &&other) noexcept;
  PendingFile &operator=(PendingFile &&) = delete;
  ~PendingFile();
  Status commit();

private:
  PendingFile() = default;
  std::string name, target, temporary; // temporary: empty when there is nothing (more) to rename
};

// A regular file gets all of `bytes` or stays as it was; a device or pipe is written to in place.
Status writeFileWhole(std::string_view bytes, const std::string &path);

Status writePlanFile(const plan::Plan &plan, const std::string &path);
Expected<plan::Plan> readPlanFile(const std::string &path);
// A file or a pipe that somebody writes to, to its end; `expected` ("a recipe") is for the messages that refuse anything
// else, never waiting.
Expected<std::string> readTextFile(const std::string &path, const char *expected);

// How a plan knows the files it was made from: XXH3-128 of a file's bytes, 32 hexadecimal digits. Of a file above 4 GiB
// its size and 4096 evenly spaced blocks of 64 KiB (256 MiB) are hashed: that sees other weights, though not every
// single changed byte, and compiling for a model of 800 GB still takes seconds.
Expected<std::string> hashFile(const std::string &path);

} // namespace amc::rt

#endif
