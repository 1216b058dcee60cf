// Fuzzes the plan's way into the runtime: bytes as a file (the checksum stops nearly all of them) and, with a checksum
// that fits, as a payload that only the verifier stands before. A plan that it accepts is run for one step: verified
// plans do not crash the runtime.
#include "runtime/executor/Executor.h"
#include "runtime/plan/PlanFile.h"
#include "test/fuzz/Driver.h"
#include <google/protobuf/stubs/logging.h>

using namespace amc;

// An arena beyond this is refused by the operating system sooner or later, which is not what is looked for.
static constexpr uint64_t maxArenaBytes = uint64_t(1) << 28;

static void runBytes(const std::string &bytes) {
  (void)rt::parsePlan(bytes);
  if (bytes.size() < rt::planHeaderBytes)
    return;
  plan::Plan plan;
  if (!plan.ParseFromString(bytes.substr(rt::planHeaderBytes)) || plan.arena_bytes() > maxArenaBytes)
    return;
  rt::ExecutorOptions options;
  options.threads = 1;
  rt::Expected<rt::Executor> executor = rt::Executor::create(std::move(plan), options);
  if (!executor.ok())
    return;
  // Inputs and weights are zeros. A kernel may refuse them; it may not crash.
  if (executor->runMicroBatch().ok())
    (void)executor->runUpdate();
}

int main(int argc, char **argv) {
  // What protobuf thinks of names that are no UTF-8 is of no interest thousands of times.
  google::protobuf::SetLogHandler(nullptr);
  return fuzz::run(argc, argv, runBytes);
}
