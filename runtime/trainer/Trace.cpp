// See Trace.h.
#include "runtime/plan/FusedKernels.h"
#include "runtime/trainer/Trace.h"

#include "runtime/support/Counted.h"
#include "runtime/trainer/Roofline.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>

namespace amc::rt {
namespace {

using Lane = Timeline::Lane;
using Kind = Timeline::Kind;

const char *phaseText(plan::Phase phase) {
  switch (phase) {
  case plan::FORWARD: return "forward";
  case plan::BACKWARD: return "backward";
  case plan::RECOMPUTE: return "recompute";
  case plan::OPTIMIZER: return "optimizer";
  default: return "other";
  }
}

std::string quoted(const std::string &text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string enclosingName(Kind kind, uint64_t number) {
  switch (kind) {
  case Kind::Data: return "data";
  case Kind::MicroBatch: return fmt::format("micro-batch {}", number);
  case Kind::Update: return "update";
  case Kind::Evaluation: return fmt::format("evaluation {}", number);
  default: return fmt::format("step {}", number);
  }
}

// Live bytes of the arena at each instruction.
std::vector<uint64_t> liveBytes(const plan::Plan &plan) {
  std::vector<uint64_t> live(static_cast<size_t>(plan.instructions_size()) + 1);
  for (const plan::Buffer &buffer : plan.buffers()) { // lifetimes are verified
    live[std::min<uint64_t>(buffer.first(), live.size() - 1)] += buffer.bytes();
    live[std::min<uint64_t>(buffer.last(), live.size() - 1)] -= buffer.bytes(); // wraps around, the sum does not
  }
  for (size_t i = 1; i < live.size(); ++i)
    live[i] += live[i - 1];
  return live;
}

class Writer {
public:
  Writer(const Executor &executor, uint64_t rank, int64_t origin)
      : plan(executor.plan()), bytes(instructionBytes(plan)), live(liveBytes(plan)), rank(rank), origin(origin) {}

  std::string write(unsigned threads, RankEvents events) {
    meta("process_name", 0, fmt::format("{{\"name\": \"rank {}\"}}", rank));
    meta("process_sort_index", 0, fmt::format("{{\"sort_index\": {}}}", rank));
    meta("thread_name", 0, fmt::format("{{\"name\": \"compute ({})\"}}", rt::counted(threads, "thread")));
    meta("thread_name", 1, "{\"name\": \"communication\"}");
    for (Lane lane : {Lane::Compute, Lane::Communication}) {
      std::vector<Timeline::Event> &list = events.lanes[static_cast<size_t>(lane)];
      // What encloses others stands before them.
      std::stable_sort(list.begin(), list.end(), [](const Timeline::Event &a, const Timeline::Event &b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
      });
      for (const Timeline::Event &event : list)
        if (event.kind != Kind::Instruction || event.number < bytes.size())
          add(lane, event);
    }
    return std::move(out);
  }

private:
  void begin() { out += out.empty() ? "" : ",\n"; }
  void meta(const char *name, int thread, const std::string &arguments) {
    begin();
    fmt::format_to(std::back_inserter(out), R"({{"name": "{}", "ph": "M", "pid": {}, "tid": {}, "args": {}}})", name,
                   rank, thread, arguments);
  }
  double microseconds(int64_t nanoseconds) const { return static_cast<double>(nanoseconds) / 1e3; }

  void add(Lane lane, const Timeline::Event &event) {
    const bool isInstruction = event.kind == Kind::Instruction;
    if (isInstruction && lane == Lane::Compute && live[event.number] != shown) {
      shown = live[event.number];
      begin();
      fmt::format_to(std::back_inserter(out),
                     R"({{"name": "live arena bytes", "ph": "C", "pid": {}, "ts": {:.3f}, "args": {{"bytes": {}}}}})",
                     rank, microseconds(event.begin - origin), shown);
    }
    begin();
    auto head = [&](const std::string &name, const char *category) {
      fmt::format_to(std::back_inserter(out),
                     R"({{"name": {}, "cat": "{}", "ph": "X", "pid": {}, "tid": {}, "ts": {:.3f}, "dur": {:.3f})",
                     quoted(name), category, rank, static_cast<int>(lane), microseconds(event.begin - origin),
                     microseconds(event.end - event.begin));
    };
    if (!isInstruction) {
      head(enclosingName(event.kind, event.number), "step");
      out += "}";
      return;
    }
    const plan::Instruction &instruction = plan.instructions(static_cast<int>(event.number));
    const char *phase = phaseText(instruction.phase());
    const std::string title = kernelTitle(plan, instruction);
    head(title, phase);
    fmt::format_to(std::back_inserter(out),
                   R"(, "args": {{"kernel": {}, "node": {}, "phase": "{}", "flops": {}, "bytes": {}, "instruction": {}}}}})",
                   quoted(title), quoted(instruction.location()), phase, instruction.flops(),
                   bytes[event.number], event.number);
  }

  const plan::Plan &plan;
  const std::vector<uint64_t> bytes, live;
  const uint64_t rank;
  const int64_t origin;
  uint64_t shown = ~uint64_t(0);
  std::string out;
};

} // namespace

int64_t RankEvents::begin() const {
  int64_t first = std::numeric_limits<int64_t>::max();
  for (const std::vector<Timeline::Event> &lane : lanes)
    for (const Timeline::Event &event : lane)
      first = std::min(first, event.begin);
  return first;
}

RankEvents RankEvents::of(const Timeline &timeline) {
  auto nanoseconds = [](auto t) { return std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count(); };
  const int64_t ahead = nanoseconds(std::chrono::system_clock::now()) - nanoseconds(Timeline::Clock::now());
  RankEvents events;
  for (Lane lane : {Lane::Compute, Lane::Communication}) {
    std::vector<Timeline::Event> &list = events.lanes[static_cast<size_t>(lane)] = timeline.events(lane);
    for (Timeline::Event &event : list) {
      event.begin += ahead;
      event.end += ahead;
    }
  }
  return events;
}

std::string RankEvents::pack() const {
  static_assert(std::is_trivially_copyable_v<Timeline::Event>);
  std::string bytes;
  for (const std::vector<Timeline::Event> &lane : lanes) {
    const uint64_t count = lane.size();
    bytes.append(reinterpret_cast<const char *>(&count), sizeof count);
    bytes.append(reinterpret_cast<const char *>(lane.data()), count * sizeof(Timeline::Event));
  }
  return bytes;
}

RankEvents RankEvents::unpack(std::string_view bytes) {
  RankEvents events;
  for (std::vector<Timeline::Event> &lane : events.lanes) {
    uint64_t count = 0;
    if (bytes.size() < sizeof count)
      return {};
    std::memcpy(&count, bytes.data(), sizeof count);
    bytes.remove_prefix(sizeof count);
    if (count > bytes.size() / sizeof(Timeline::Event))
      return {};
    lane.resize(count);
    std::memcpy(lane.data(), bytes.data(), count * sizeof(Timeline::Event));
    bytes.remove_prefix(count * sizeof(Timeline::Event));
  }
  return events;
}

std::string traceEvents(const Executor &executor, RankEvents events, uint64_t rank, int64_t origin) {
  return Writer(executor, rank, origin).write(executor.threads(), std::move(events));
}

} // namespace amc::rt
