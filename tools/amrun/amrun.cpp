// amrun: runs a training plan. Parses the command line, hands it to the trainer, turns its Status
// into an exit code. A recipe in the place of the plan is compiled first (runtime/launch/PlanCache); --nproc-per-node
// starts this program again, as ranks (runtime/launch/Ranks), which first of all meet the process that has started them.
#include "runtime/collective/Join.h"
#include "runtime/launch/LaunchedRanks.h"
#include "runtime/launch/PlanCache.h"
#include "runtime/launch/Process.h"
#include "runtime/launch/Ranks.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/trainer/StopSignals.h"
#include "runtime/trainer/Trainer.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <stop_token>
#include <thread>

namespace {

std::atomic<bool> stopRequested = false;

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
  if (!status.ok() && !status.message().empty()) { // empty: another rank says it
    std::fprintf(stderr, "amrun: error: %s\n", status.message().c_str());
    amc::rt::tellLauncherOfError(status.exitCode());
  }
  return status.exitCode();
}

// What a recipe's plan is run with, as if it had been given on the command line.
amc::rt::Expected<amc::rt::CommandLine> compiled(const amc::rt::CommandLine &line) {
  std::optional<uint64_t> ranks = amc::rt::ranksOfLauncher();
  if (!ranks && line.ranksPerNode.value_or(0) != 0)
    ranks = line.ranksPerNode;
  auto plan = amc::rt::compileRecipe(*line.recipe, ranks, printNote);
  if (!plan.ok())
    return std::move(plan).status();
  auto complete = amc::rt::parseCommandLine(
      amc::rt::completeArguments(*line.recipe, plan->plan, plan->model, plan->arguments));
  if (!complete.ok())
    return std::move(complete).status().withContext(line.recipe->recipe);
  complete->ranksPerNode = line.ranksPerNode;
  return complete;
}

amc::rt::Expected<amc::rt::CommandLine> parse(const std::vector<std::string> &arguments) {
  auto line = amc::rt::parseCommandLine(arguments);
  std::optional<uint64_t> among = amc::rt::ranksOfLauncher();
  if (line.ok() && line->ranksPerNode && among)
    return amc::rt::Status(amc::rt::ErrorKind::Usage,
                           amc::rt::text("--nproc-per-node starts ranks, and this is one of ", *among,
                                         " that an MPI launcher has started; leave it out"));
  return line;
}

// While it lives, a rank is seen to be at work: compiling a recipe and hashing its weights take as long as they take, rank
// after rank where each has to, and others wait.
class AtWork {
public:
  explicit AtWork(amc::rt::Communicator *communicator) {
    if (communicator)
      beats = std::jthread([communicator](std::stop_token stop) {
        std::mutex mutex;
        std::condition_variable_any stopped;
        std::unique_lock lock(mutex);
        while (!stopped.wait_for(lock, stop, std::chrono::milliseconds(200), [&] { return stop.stop_requested(); }))
          communicator->progress();
      });
  }

private:
  std::jthread beats;
};

// The exit code of the ranks; nothing if this process is to do it alone.
amc::rt::Expected<std::optional<int>> asRanks(const amc::rt::CommandLine &line) {
  if (!line.ranksPerNode)
    return std::optional<int>();
  auto plan = amc::rt::readPlanFile(line.run->plan);
  if (!plan.ok())
    return std::move(plan).status();
  auto ranks = amc::rt::ranksToStart(*plan, line.run->plan, *line.ranksPerNode);
  if (!ranks.ok())
    return std::move(ranks).status();
  if (*ranks == 1)
    return std::optional<int>();
  std::vector<std::string> arguments = line.rankArguments;
  if (line.run->threads == 0 && !std::getenv("AMC_NUM_THREADS")) {
    arguments.push_back("--threads");
    arguments.push_back(std::to_string(amc::rt::threadsPerRank(*ranks)));
  }
  auto code = amc::rt::runRanks(*ranks, amc::rt::ownProgram(), arguments, printNote);
  if (!code.ok())
    return std::move(code).status();
  return std::optional<int>(*code);
}

int run(int argc, char **argv) {
  // A file-size limit is then an error of the write, like a full disk; so is a reader of the results that went away,
  // while notes that nobody reads matter to nobody.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  if (amc::rt::Status met = amc::rt::meetLauncher(); !met.ok())
    return report(met);
  auto line = parse({argv + 1, argv + argc});
  if (line.ok() && !line->run && !line->recipe) {
    std::fputs(line->output.c_str(), stdout);
    return 0;
  }
  // Before anything that one rank alone may fail at, be it its own command line.
  amc::rt::JoinOptions joinOptions;
  if (line.ok())
    joinOptions.rankTimeout = line->rankTimeout.value_or(joinOptions.rankTimeout);
  auto joined = amc::rt::joinRanks(joinOptions);
  if (!joined.ok())
    return report(line.ok() ? joined.status() : line.status());
  auto fail = [&](const amc::rt::Status &status) {
    return report(*joined ? amc::rt::Status(status.kind(), (*joined)->lastWords(status)) : status);
  };
  if (!line.ok())
    return fail(line.status());
  if (line->recipe) {
    AtWork seen(joined->get());
    line = compiled(*line);
    if (!line.ok())
      return fail(line.status());
  }
  auto ended = asRanks(*line);
  if (!ended.ok())
    return fail(ended.status());
  if (*ended)
    return **ended;
  if (!line->run->eval)
    if (amc::rt::Status caught = amc::rt::catchStopSignals(stopRequested); !caught.ok())
      return fail(caught);
  return report(amc::rt::runTrainer(*line->run, {printResult, printNote}, stopRequested, joined->get()));
}

} // namespace

int main(int argc, char **argv) {
  int code;
  try {
    code = run(argc, argv);
  } catch (const std::bad_alloc &) {
    std::fputs("amrun: error: out of memory\n", stderr);
    code = static_cast<int>(amc::rt::ErrorKind::Limit);
    amc::rt::tellLauncherOfError(code);
  }
  amc::rt::tellLauncherOfEnd(code);
  return code;
}
