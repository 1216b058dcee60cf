// Other programs: where they are, running them to their end.
#ifndef AMC_RUNTIME_LAUNCH_PROCESS_H
#define AMC_RUNTIME_LAUNCH_PROCESS_H

#include "runtime/support/Status.h"

#include <functional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace amc::rt {

// The path of the program that is running.
std::string ownProgram();

// An executable file of that name in PATH; empty if there is none.
std::string findInPath(const std::string &name);

struct ProgramEnd {
  int code = 0;   // of exit
  int signal = 0; // that ended it; 0: none did
  std::string out, err;
};

// Starts `command` (a path and its arguments), which gets a SIGTERM when this process ends before it; `prepare` runs in
// the child, before the program. The caller waits for it.
Expected<pid_t> startCommand(const std::vector<std::string> &command, const std::function<void()> &prepare);

// For `prepare`: a process group of its own, so that a terminal does not signal it too, and nothing to read.
void leaveTerminal();

// What a status that waitpid gave says.
ProgramEnd endOf(int status);

// All that is in `file`.
std::string contentsOf(int file);

// Runs `command` to its end, keeping what it prints.
Expected<ProgramEnd> runCaptured(const std::vector<std::string> &command);

// The same with this process's standard output and error, and nothing to read. Both print to standard error where
// `onlyNotes`. SIGTERM and SIGINT that reach this process meanwhile are passed on to the command alone: it is in a
// process group of its own, so that a terminal does not signal it a second time. It ends with this process.
Expected<ProgramEnd> runForwarding(const std::vector<std::string> &command, bool onlyNotes = false);

} // namespace amc::rt

#endif
