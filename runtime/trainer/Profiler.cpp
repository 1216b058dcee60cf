// See Profiler.h.
#include "runtime/trainer/Profiler.h"

#include "runtime/plan/PlanRanks.h"
#include "runtime/support/Counted.h"
#include "runtime/trainer/Files.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <span>

namespace amc::rt {
namespace {

constexpr uint64_t mostEvents = uint64_t(1) << 25; // 1 GiB

} // namespace

Expected<std::unique_ptr<Profiler>> Profiler::create(Executor &executor, const Ranks &ranks, std::string path,
                                                     uint64_t wanted, uint64_t rounds, bool evaluates) {
  std::unique_ptr<Profiler> profiler(new Profiler(executor, ranks, std::move(path), evaluates));
  profiler->first = rounds > 1 ? 2 : 1;
  const uint64_t steps = std::min(wanted, rounds - std::min(rounds, profiler->first - 1));
  profiler->last = profiler->first + steps - 1;
  const plan::Plan &plan = executor.plan();
  // With the enclosing events: data, each micro-batch, the update, the step.
  const uint64_t micros = evaluates ? 1 : std::max<uint64_t>(plan.accumulation(), 1);
  uint64_t a = evaluates ? plan.forward_end() : plan.micro_batch_end();
  uint64_t b = evaluates ? 0 : static_cast<uint64_t>(plan.instructions_size()) - plan.micro_batch_end();
  const uint64_t perStep = (a + 1) * micros + b + 3;
  if (steps > mostEvents / perStep)
    return inputError("--profile-steps is ", wanted, ", and a step has ", counted(perStep, "event"),
                      ": a trace has room for ", counted(mostEvents / perStep, "step"));
  const auto &all = plan.instructions();
  const bool anyAsync = std::any_of(all.begin(), all.end(), [](const auto &one) { return isAsync(one); });
  Expected<std::unique_ptr<Timeline>> timeline = Timeline::create(steps * perStep, anyAsync ? steps * perStep : 0);
  if (!timeline.ok())
    return timeline.status();
  profiler->timeline = std::move(*timeline);
  Expected<DeviceLimits> limits = executor.measureLimits();
  if (!limits.ok())
    return limits.status();
  profiler->machine = *limits;
  profiler->steps.reserve(steps);
  executor.enableProfile(true); // takes its memory now
  executor.enableProfile(false);
  return profiler;
}

void Profiler::before() {
  if (++round < first || round > last)
    return;
  executor.enableProfile(true, timeline.get());
  begin = Timeline::Clock::now();
}

void Profiler::after(uint64_t step) {
  if (round < first || round > last)
    return;
  auto end = Timeline::Clock::now();
  timeline->add(Timeline::Lane::Compute, evaluates ? Timeline::Kind::Evaluation : Timeline::Kind::Step, step, begin, end);
  seconds += std::chrono::duration<double>(end - begin).count();
  steps.push_back(step);
  executor.enableProfile(false);
}

// What every rank has recorded, by rank; a rank other than 0 gets nothing.
Expected<std::vector<RankEvents>> Profiler::gather() const {
  std::vector<RankEvents> events;
  if (ranks.alone()) {
    events.push_back(RankEvents::of(*timeline));
    return events;
  }
  Expected<std::vector<std::string>> packed = ranks.exchange(RankEvents::of(*timeline).pack());
  if (!packed.ok())
    return packed.status();
  for (const std::string &bytes : *packed)
    if (ranks.isFirst())
      events.push_back(RankEvents::unpack(bytes));
  return events;
}

// A rank at a time, for the text is several times what it is made from.
Status Profiler::write(std::vector<RankEvents> events, const std::string &other) const {
  Expected<OutputFile> file = OutputFile::create(path);
  if (!file.ok())
    return file.status();
  uint64_t at = 0;
  auto append = [&](const std::string &text) {
    Status status = file->writeAt(at, std::as_bytes(std::span(text)));
    at += text.size();
    return status;
  };
  int64_t origin = events.front().begin();
  for (const RankEvents &rank : events)
    origin = std::min(origin, rank.begin());
  if (Status failure = append("{\"traceEvents\": [\n"); !failure.ok())
    return failure;
  for (uint64_t rank = 0; rank < events.size(); ++rank) {
    std::string text = traceEvents(executor, std::move(events[rank]), rank, origin);
    if (Status failure = append((rank ? ",\n" : "") + text); !failure.ok())
      return failure;
    ranks.progress();
  }
  if (Status failure = append("\n],\n\"displayTimeUnit\": \"ms\",\n\"otherData\": " + other + "}\n"); !failure.ok())
    return failure;
  return file->commit();
}

Status Profiler::finish(const Note &note) {
  Expected<std::vector<RankEvents>> events = gather();
  if (!events.ok())
    return events.status();
  if (!ranks.isFirst())
    return {};
  std::vector<KernelTime> kernels = timesByKernel(executor.plan(), executor.profile(), machine);
  double inKernels = 0;
  nlohmann::ordered_json table = nlohmann::ordered_json::array();
  for (const KernelTime &kernel : kernels) {
    inKernels += kernel.beside ? 0 : kernel.seconds;
    table.push_back({{"kernel", kernel.kernel},
                     {"beside", kernel.beside},
                     {"calls", kernel.runs},
                     {"seconds", kernel.seconds},
                     {"flops", kernel.flops},
                     {"bytes", kernel.bytes},
                     {"seconds_at_product_peak", kernel.productSeconds},
                     {"seconds_at_stream_bandwidth", kernel.memorySeconds},
                     {"bound_by", boundOf(kernel)}});
  }
  nlohmann::ordered_json other = {
      {"model", executor.plan().model_path()},
      {"threads", executor.threads()},
      {"ranks", ranks.size()},
      {"limits", {{"fp32_flops", machine.fp32}, {"bf16_flops", machine.bf16}, {"stream_bytes", machine.stream}}},
      {evaluates ? "batches" : "steps", steps},
      {"seconds", seconds},
      {"kernels", std::move(table)}};
  if (Status failure =
          write(std::move(*events), other.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      !failure.ok())
    return failure;
  const char *what = evaluates ? "batch" : "step";
  std::string which = steps.empty() ? text("no ", what)
                      : steps.size() == 1
                          ? text(what, " ", steps.front())
                          : text(counted(steps.size(), what), ", ", steps.front(), " to ", steps.back());
  note(fmt::format("{}profile of {}: {:.3f} s, {:.1f} % of it in kernels; trace written to {}",
                   ranks.alone() ? "" : "rank 0's ", which, seconds, seconds > 0 ? 100 * inKernels / seconds : 0.0, path));
  if (timeline->lost())
    note(text(counted(timeline->lost(), "event"), " had no room in it"));
  for (const std::string &line : kernelTable(kernels, true))
    note(line);
  return {};
}

} // namespace amc::rt
