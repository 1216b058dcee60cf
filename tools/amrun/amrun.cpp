// amrun: runs a training plan. Parses the command line, hands it to the trainer, turns its Status
// into an exit code.
#include "runtime/trainer/Trainer.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>

namespace {

std::atomic<bool> stopRequested = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

void requestStop(int) { stopRequested = true; }

// The first signal ends the run after its step; a second one of the same kind ends the process.
void installHandlers() {
  struct sigaction action = {};
  action.sa_handler = requestStop;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
}

amc::rt::Status printResult(std::string_view line) {
  if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size() ||
      std::fputc('\n', stdout) == EOF || std::fflush(stdout) != 0)
    return amc::rt::limitError("standard output cannot be written: ", std::strerror(errno));
  return {};
}

void printNote(std::string_view line) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
}

int report(const amc::rt::Status &status) {
  if (!status.ok() && !status.message().empty()) // empty: another rank says it
    std::fprintf(stderr, "amrun: error: %s\n", status.message().c_str());
  return status.exitCode();
}

int run(int argc, char **argv) {
  auto line = amc::rt::parseCommandLine({argv + 1, argv + argc});
  if (!line.ok())
    return report(line.status());
  if (!line->run) {
    std::fputs(line->output.c_str(), stdout);
    return 0;
  }
  // A file-size limit is then an error of the write, like a full disk; so is a reader of the results that went away,
  // while notes that nobody reads matter to nobody.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  if (!line->run->eval)
    installHandlers();
  return report(amc::rt::runTrainer(*line->run, {printResult, printNote}, stopRequested));
}

} // namespace

int main(int argc, char **argv) {
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc &) {
    std::fputs("amrun: error: out of memory\n", stderr);
    return static_cast<int>(amc::rt::ErrorKind::Limit);
  }
}
