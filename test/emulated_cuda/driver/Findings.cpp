#include "test/emulated_cuda/driver/Findings.h"
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <unistd.h>
#include <utility>

namespace emu {
namespace {

constexpr size_t maxPrinted = 100;

struct Log {
  std::mutex mutex;
  std::map<std::string, size_t> seen;
  std::string untaken; // since takeFindings
  size_t count = 0, untakenCount = 0;
};

Log &log() {
  static Log *made = new Log; // outlives every destructor that may report
  return *made;
}

void append(const char *path, const std::string &line) {
  int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0)
    return;
  // One write a line: several ranks may share the file.
  if (write(file, line.data(), line.size()) != (ssize_t)line.size())
    fprintf(stderr, "emulated CUDA: cannot write %s\n", path);
  close(file);
}

} // namespace

void reportFinding(const std::string &once, const std::string &text) {
  Log &l = log();
  {
    std::lock_guard lock(l.mutex);
    ++l.count;
    ++l.untakenCount;
    if (l.seen[once]++ || l.seen.size() > maxPrinted)
      return;
    std::string line = "emulated CUDA: finding: " + text + "\n";
    l.untaken += line;
    fputs(line.c_str(), stderr);
    if (l.seen.size() == maxPrinted)
      fputs("emulated CUDA: further findings are counted only\n", stderr);
    if (const char *path = getenv("EMULATED_CUDA_REPORT"))
      append(path, line);
  }
  const char *stop = getenv("EMULATED_CUDA_ABORT");
  if (stop && *stop && *stop != '0') {
    fflush(nullptr);
    _exit(findingExitCode);
  }
}

std::string hex(unsigned long long value) {
  char text[24];
  snprintf(text, sizeof text, "0x%llx", value);
  return text;
}

size_t findingCount() {
  std::lock_guard lock(log().mutex);
  return log().count;
}

std::string takeFindings(size_t &count) {
  Log &l = log();
  std::lock_guard lock(l.mutex);
  count = l.untakenCount;
  l.count -= l.untakenCount;
  l.untakenCount = 0;
  l.seen.clear();
  return std::exchange(l.untaken, {});
}

} // namespace emu
