// amrun --profile: which steps are looked at, the table of kernels, and the trace that Perfetto and Chrome show.
//
// The trace is one JSON object, {"traceEvents": [...], "displayTimeUnit": "ms", "otherData": {...}}. Processes are ranks,
// their threads the one that computes (0; the pool's others work for it) and the one that communicates (1). Complete
// events ("X"; ts and dur in microseconds) are instructions, with kernel, ONNX node, phase, FLOPs and bytes, inside
// micro-batches and the update, inside steps; a counter has the live bytes of the arena. "otherData" has the machine's
// limits and the table. Of several ranks there is one file: rank 0 gathers the events of all, and writes them. On one
// host ranks share a clock; those of several hosts stand as well beside each other as the hosts' clocks agree.
//
// Everything a step needs is allocated before it. By default the first step, which touches memory for the first time, is
// left out, unless it is the only one.
#ifndef AMC_RUNTIME_TRAINER_PROFILER_H
#define AMC_RUNTIME_TRAINER_PROFILER_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Ranks.h"
#include "runtime/trainer/Roofline.h"
#include "runtime/trainer/Trace.h"

#include <functional>
#include <memory>
#include <string>

namespace amc::rt {

class Profiler {
public:
  using Note = std::function<void(const std::string &line)>;

  // Measures what the machine can do, and takes room for the events of `wanted` steps of a run that has `rounds` steps,
  // or evaluates as many batches (`evaluates`). All ranks call it. `executor` and `ranks` outlive it.
  static Expected<std::unique_ptr<Profiler>> create(Executor &executor, const Ranks &ranks, std::string path,
                                                    uint64_t wanted, uint64_t rounds, bool evaluates);

  // Around a step, or a batch that is evaluated; they are counted here.
  void before();
  void after(uint64_t step);

  const DeviceLimits &limits() const { return machine; }
  uint64_t memoryBytes() const { return timeline->memoryBytes(); }
  // Behind the last step: writes the trace, and notes the table on rank 0. All ranks call it.
  Status finish(const Note &note);

private:
  Profiler(Executor &executor, const Ranks &ranks, std::string path, bool evaluates)
      : executor(executor), ranks(ranks), path(std::move(path)), evaluates(evaluates) {}
  Expected<std::vector<RankEvents>> gather() const;
  Status write(std::vector<RankEvents> events, const std::string &other) const;

  Executor &executor;
  const Ranks &ranks;
  const std::string path;
  const bool evaluates;
  std::unique_ptr<Timeline> timeline;
  DeviceLimits machine;
  uint64_t first = 1, last = 0; // rounds that are looked at
  uint64_t round = 0;
  Timeline::Clock::time_point begin;
  std::vector<uint64_t> steps; // that were
  double seconds = 0;          // they took
};

} // namespace amc::rt

#endif
