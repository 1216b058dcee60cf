// The last rank goes wrong; the others find out.
#include "test/ranks/Worker.h"
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <numeric>
#include <sstream>
#include <unistd.h>

namespace amc::rt::test {

namespace {

volatile std::sig_atomic_t stopped = 0;

void pause(double seconds) {
  struct timespec time = {0, static_cast<long>(seconds * 1e9)};
  ::nanosleep(&time, nullptr);
}

// mpirun: parent of the proxy, which is the parent of the supervisor, which is this rank's.
pid_t launcher() {
  pid_t pid = ::getppid();
  for (int i = 0; i < 2; ++i) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(stat, line);
    std::istringstream fields(line.substr(line.rfind(')') + 1));
    std::string state;
    fields >> state >> pid;
  }
  return pid;
}

} // namespace

Status goWrong(Communicator &communicator, const std::string &how) {
  unsigned n = communicator.size(), rank = communicator.rank();
  std::vector<unsigned> all(n);
  std::iota(all.begin(), all.end(), 0u);
  bool last = rank == n - 1;
  if (how == "all-alike")
    return inputError("the plan is no plan");
  if (how == "first-and-last" && (rank == 0 || last))
    return inputError(rank == 0 ? "the first has a problem" : "the last has a problem");
  Expected<std::byte *> arena = communicator.allocate(uint64_t(1) << (how == "arena" && last ? 21 : 20));
  Expected<Group *> world = communicator.group(all);
  if (!arena.ok() || !world.ok())
    return arena.ok() ? world.status() : arena.status();
  auto large = reinterpret_cast<std::byte *>(*arena);
  for (int round = 0; round < 20; ++round) {
    communicator.progress();
    if (Status s = (*world)->allReduce(large, large, 50000, plan::F32); !s.ok())
      return s;
  }
  if (how == "busy") {
    if (last)
      return inputError("the data ends");
    for (int i = 0; i < 600; ++i) {
      pause(0.1);
      communicator.progress();
    }
  }
  if (how == "term") {
    std::signal(SIGTERM, [](int) { stopped = stopped + 1; });
    if (Status s = (*world)->allReduce(large, large, 1, plan::F32); !s.ok()) // all have a handler
      return s;
    if (last)
      ::kill(launcher(), SIGTERM);
    for (int i = 0; i < 100 && !stopped; ++i)
      pause(0.1);
    pause(0.3); // a second one would come now
    std::printf("%s\n", stopped == 1 ? "stopped by a signal" : "not one signal");
    return Status();
  }
  if (last) {
    if (how == "exit")
      ::_exit(0);
    if (how == "leave")
      return Status();
    if (how == "abort")
      return inputError("the data has 3 entries and should have 4");
    if (how == "kill")
      ::raise(SIGKILL);
    if (how == "crash") {
      std::signal(SIGSEGV, SIG_DFL);
      ::raise(SIGSEGV);
    }
    if (how == "stop")
      ::raise(SIGSTOP);
    if (how == "spin")
      for (volatile bool forever = true; forever;)
        ;
    if (how == "other-call")
      return (*world)->reduceScatter(large, large + (1 << 19), {1, 50000, 1, plan::F32});
    if (how == "other-place")
      return (*world)->allReduce(large + 64, large + 64, 50000, plan::F32);
    if (how == "other-group") {
      Expected<Group *> pair = communicator.group({0, n - 1});
      return pair.ok() ? (*pair)->allReduce(large, large, 50000, plan::F32) : pair.status();
    }
  }
  // Slow is not dead: signs of life, longer than the time limit.
  if (how == "slow") {
    for (int i = 0; last && i < 30; ++i) {
      pause(0.1);
      communicator.progress();
    }
  }
  for (int round = 0; round < (how == "slow" ? 20 : 100000000); ++round)
    if (Status s = (*world)->allReduce(large, large, 50000, plan::F32); !s.ok())
      return s;
  return Status();
}

} // namespace amc::rt::test
