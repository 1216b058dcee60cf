// MPI's launcher and the ranks below it, watched from above.
//
// A launcher says badly how a run has ended: MPICH's names a rank that it has killed itself for the one that died,
// prints a page of its own on standard output, where results are, answers a second SIGINT with an assertion, and may end
// with 0 although a rank did not, once it has passed a signal on. So ranks meet the process that has started the
// launcher, at a socket: they tell it who they are, and get its standard output and error, in the place of the
// launcher's pipes. What the launcher prints is kept, and of use only where nothing else says what has happened. The
// process above is told by each rank what it ends with, sees the ranks and the launcher's processes end, in their order,
// and finds a signal in what /proc says of a process that its parent has not waited for yet; on a busy machine it may be
// too late for that, and the signal is what the launcher's exit code stands for.
#ifndef AMC_RUNTIME_LAUNCH_LAUNCHEDRANKS_H
#define AMC_RUNTIME_LAUNCH_LAUNCHEDRANKS_H

#include "runtime/launch/Process.h"

#include <functional>
#include <optional>
#include <string_view>

namespace amc::rt {

struct RankDeath {
  unsigned rank = 0;
  pid_t pid = 0;  // what the launcher started
  int signal = 0; // 0: it was too late to see how it ended
};

struct RanksEnd {
  ProgramEnd launcher;           // out: what it printed itself, to both outputs
  std::optional<RankDeath> died; // the first to end of ranks and launcher, if a rank, by a signal or nobody knows how
  std::optional<int> failed;     // the exit code that is not 0 of the first rank that has said one
  bool said = false;             // has a rank printed an error?
  bool vanished = false;         // has a rank ended without saying so?
  unsigned asked = 0;            // how often the ranks were asked to end
};

// Runs the launcher's command to its end. SIGTERM and SIGINT to this process ask the ranks to end, by a SIGTERM to the
// launcher, which passes it on; more signals within a second are the same request, the next one is passed on, too.
Expected<RanksEnd> runLauncher(const std::vector<std::string> &command);

// What a rank does first of all: meets runLauncher, if that has started it. Nothing where there is none above.
Status meetLauncher();
// A rank has printed an error, and will exit with this code, if nobody ends it before.
void tellLauncherOfError(int code);
// What a rank does last of all.
void tellLauncherOfEnd(int code);

} // namespace amc::rt

#endif
