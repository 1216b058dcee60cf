// The windows; see Overlap.h. Positions are indices of operations in the order given: what stands "at" position p stands
// in front of operation p, waits and what follows them first, then what starts there.
#include "compiler/analysis/Overlap.h"
#include "compiler/analysis/Liveness.h"
#include <algorithm>
#include <array>
#include <numeric>

namespace amc {
namespace {

// How much of its window a collective gets.
enum Level : uint8_t { Whole, AsLongAsItTakes, HalfOfThat, NotSplit };

struct Candidate {
  uint32_t op = noIndex;
  bool early = false;  // starts before its place, else is waited for behind it
  uint32_t bound = 0;  // position: the earliest start, or the latest wait
  uint32_t wait = 0;   // position, of what starts early
  uint64_t bytes = 0;  // what it keeps alive for longer
  Level level = Whole;
};

class Planner {
public:
  Planner(const StepGraph &graph, const OverlapRequest &request)
      : graph(graph), request(request), count(static_cast<uint32_t>(graph.ops.size())) {
    findSections();
    findLimits();
    sumTime();
    findCandidates();
    withWaits = graph;
    for (const Candidate &c : candidates) {
      GraphOp wait;
      wait.kind = OpKind::Wait;
      wait.phase = graph.ops[c.op].phase;
      wait.operands = {graph.ops[c.op].results[0], graph.ops[c.op].operands[0]};
      withWaits.addOp(std::move(wait), {graph.values[graph.ops[c.op].results[0]].bytes});
    }
  }

  OverlapPlan plan() {
    build();
    OverlapPlan result;
    result.possible = static_cast<uint32_t>(candidates.size());
    if (request.arenaLimit && !candidates.empty())
      result.limited = !fit(*request.arenaLimit);
    std::vector<uint32_t> numberOf(candidates.size(), noIndex);
    for (uint32_t i = 0; i < candidates.size(); ++i) {
      result.reduced += candidates[i].level != Whole || !split[i];
      if (!split[i])
        continue;
      numberOf[i] = count + static_cast<uint32_t>(result.windows.size());
      result.windows.push_back({candidates[i].op, hidden(i)});
      result.hidden += result.windows.back().hidden;
    }
    for (uint32_t op : order)
      result.order.push_back(op < count ? op : numberOf[op - count]);
    return result;
  }

private:
  bool isCollective(uint32_t op) const { return graph.ops[op].span > 0; }

  // time[p]: picoseconds of what computes in front of position p, and does not wait for collectives itself.
  void sumTime() {
    time.assign(count + 1, 0);
    cost.resize(count);
    for (uint32_t i = 0; i < count; ++i) {
      cost[i] = opCost(graph.ops[i], request.device);
      time[i + 1] = time[i] + (isCollective(i) || mayWait[i] ? 0 : cost[i]);
    }
  }

  // [0, ends[0]) is forward, [ends[0], ends[1]) the rest of a micro-batch, [ends[1], ends[2]) runs once a step, or is
  // the optimizer's work at the end, which a caller may run apart.
  void findSections() {
    uint32_t forward = 0;
    while (forward < count && !(graph.isInstruction(forward) && graph.ops[forward].phase != OpPhase::Forward))
      ++forward;
    uint32_t once = graph.microBatchEnd();
    if (once == count) {
      once = count;
      for (uint32_t i = count; i-- > 0;)
        if (graph.isInstruction(i)) {
          if (graph.ops[i].phase != OpPhase::Optimizer)
            break;
          once = i;
        }
    }
    ends = {std::min(forward, once), once, count};
  }
  unsigned sectionOf(uint32_t op) const { return op < ends[0] ? 0 : op < ends[1] ? 1 : 2; }
  uint32_t beginOf(unsigned section) const { return section == 0 ? 0 : ends[section - 1]; }

  // Which operations may wait for a collective as well, and up to where every value may be missing.
  void findLimits() {
    std::vector<bool> onlyMovable(graph.values.size(), true); // all its readers are
    limitOf.assign(graph.values.size(), count);
    mayWait.assign(count, false);
    for (uint32_t i = count; i-- > 0;) {
      const GraphOp &op = graph.ops[i];
      uint32_t limit = count;
      bool movable = op.kind == OpKind::View || op.kind == OpKind::Output;
      if (op.kind == OpKind::Compute && op.phase != OpPhase::Forward) {
        // Not what a layer's gradient is made of: a product reads it at last.
        movable = !op.updated.empty() || op.flops <= op.bytesMoved;
        for (uint32_t result : op.results)
          movable = movable && onlyMovable[result];
      }
      mayWait[i] = movable;
      for (uint32_t result : op.results)
        limit = std::min(limit, limitOf[result]);
      for (uint32_t operand : op.operands) {
        limitOf[operand] = std::min(limitOf[operand], movable ? limit : i);
        if (!movable || (op.kind == OpKind::View && !onlyMovable[op.results[0]]))
          onlyMovable[operand] = false;
      }
    }
  }

  // Runs of candidates of one unit, in one section: `first` of each, and behind the last the number of all.
  std::vector<uint32_t> unitsOf(const std::vector<uint32_t> &list) const {
    const bool blocks = std::any_of(request.unitOf.begin(), request.unitOf.end(), [](int64_t u) { return u >= 0; });
    std::vector<uint32_t> firsts;
    for (uint32_t i = 0; i < list.size(); ++i) {
      uint32_t op = candidates[list[i]].op, before = i ? candidates[list[i - 1]].op : op;
      if (i == 0 || !blocks || request.unitOf[op] != request.unitOf[before] || sectionOf(op) != sectionOf(before))
        firsts.push_back(i);
    }
    firsts.push_back(static_cast<uint32_t>(list.size()));
    return firsts;
  }

  void findCandidates() {
    std::vector<uint32_t> early, late;
    for (uint32_t i = 0; i < count; ++i) {
      const GraphOp &op = graph.ops[i];
      if (!request.splittable[i] || op.kind != OpKind::Compute || !isCollective(i) || op.operands.size() != 1 ||
          op.results.size() != 1)
        continue;
      Candidate c;
      c.op = i;
      const GraphValue &root = graph.values[graph.rootOf(op.operands[0])];
      c.early = root.source && root.persistent;
      c.wait = std::min(limitOf[op.results[0]], ends[sectionOf(i)]);
      c.bytes = graph.values[c.early ? op.results[0] : graph.rootOf(op.operands[0])].bytes;
      (c.early ? early : late).push_back(static_cast<uint32_t>(candidates.size()));
      candidates.push_back(c);
    }
    // Starts with the first wait of the unit before: what that gathers has been started then.
    std::vector<uint32_t> units = unitsOf(early);
    for (size_t u = 0; u + 1 < units.size(); ++u)
      for (uint32_t i = units[u]; i < units[u + 1]; ++i) {
        Candidate &c = candidates[early[i]];
        unsigned section = sectionOf(c.op);
        const Candidate &first = candidates[early[units[u]]];
        uint32_t bound = beginOf(section);
        if (u > 0 && sectionOf(candidates[early[units[u - 1]]].op) == section)
          bound = candidates[early[units[u - 1]]].wait;
        else if (i > units[u] && time[first.op] == time[bound])
          bound = first.wait; // nothing is to be queued before what everything waits for
        bound = std::max(bound, graph.values[graph.rootOf(graph.ops[c.op].operands[0])].producer + 1);
        c.bound = std::min(bound, c.op);
      }
    units = unitsOf(late);
    for (size_t u = 0; u + 1 < units.size(); ++u) {
      for (uint32_t i = units[u]; i < units[u + 1]; ++i) {
        Candidate &c = candidates[late[i]];
        // What reads another's result can start only where that is waited for: it has the unit behind that.
        size_t next = u + (chained(c.op) ? 3 : 2);
        uint32_t bound = ends[sectionOf(c.op)];
        if (next < units.size())
          bound = std::min(bound, candidates[late[units[next] - 1]].op);
        c.bound = std::min(c.wait, bound);
      }
    }
    std::erase_if(candidates, [&](const Candidate &c) {
      return (c.early ? time[c.wait] - time[c.bound] : time[std::max(c.bound, c.op)] - time[c.op]) == 0;
    });
  }

  // Does it read, through what may wait, what another collective gives?
  bool chained(uint32_t op) const {
    uint32_t producer = graph.values[graph.ops[op].operands[0]].producer;
    for (unsigned steps = 0; steps < 4 && !graph.ops[producer].operands.empty(); ++steps) {
      if (isCollective(producer))
        return true;
      producer = graph.values[graph.ops[producer].operands[0]].producer;
    }
    return false;
  }

  // Position where it starts, if it starts early: as late as `level` asks for.
  uint32_t startOf(const Candidate &c) const {
    if (c.level == Whole)
      return c.bound;
    uint64_t wanted = c.level == AsLongAsItTakes ? cost[c.op] : cost[c.op] / 2, behind = time[c.op];
    uint64_t until = behind > wanted ? behind - wanted : 0;
    auto at = std::upper_bound(time.begin() + c.bound, time.begin() + c.op, until);
    return std::max(c.bound, static_cast<uint32_t>(at - time.begin()) - (at != time.begin()));
  }
  // Position where it is waited for, if it starts at position `from`.
  uint32_t waitOf(const Candidate &c, uint32_t from) const {
    if (c.early)
      return c.wait;
    if (c.level == Whole || from >= c.bound)
      return c.bound;
    uint64_t wanted = time[from] + (c.level == AsLongAsItTakes ? cost[c.op] : cost[c.op] / 2);
    auto at = std::lower_bound(time.begin() + from, time.begin() + c.bound, wanted);
    return static_cast<uint32_t>(at - time.begin());
  }

  // Places everything: each operation where it was, or behind what it has to wait for.
  void build() {
    std::vector<uint32_t> available(graph.values.size(), 0); // position where a value is there
    std::vector<uint32_t> readUntil(graph.values.size(), 0), updatedAt(graph.values.size(), 0); // of roots
    std::vector<std::pair<uint32_t, uint32_t>> moved;        // position, operation or wait
    split.assign(candidates.size(), false);
    starts.assign(candidates.size(), 0);
    waits.assign(candidates.size(), 0);
    std::vector<bool> stays(count, true);
    uint32_t next = 0; // candidate
    for (uint32_t i = 0; i < count; ++i) {
      const GraphOp &op = graph.ops[i];
      const bool candidate = next < candidates.size() && candidates[next].op == i;
      const Candidate *c = candidate && candidates[next].level != NotSplit ? &candidates[next] : nullptr;
      uint32_t place = i;
      for (uint32_t operand : op.operands)
        place = std::max({place, available[operand], updatedAt[graph.rootOf(operand)]});
      // Views of what is there from the beginning go there, so that they do not hold a gather up.
      if (const GraphValue *root = op.kind == OpKind::View ? &graph.values[graph.rootOf(op.operands[0])] : nullptr;
          root && root->source && root->persistent)
        place = root->producer + 1;
      for (uint32_t at : op.updated)
        place = std::max(place, readUntil[graph.rootOf(op.operands[at])]);
      uint32_t done = place;
      if (c) {
        if (c->early && place == i)
          place = startOf(*c);
        uint32_t wait = waitOf(*c, place);
        split[next] = wait > place && time[wait] > time[place];
        done = split[next] ? wait : std::max(place, done);
        if (!split[next])
          place = done;
        starts[next] = place;
        waits[next] = done;
      }
      if (place != i) {
        moved.emplace_back(place, i);
        stays[i] = false;
      }
      if (candidate && split[next])
        moved.emplace_back(done, count + next);
      next += candidate;
      for (uint32_t result : op.results)
        available[result] = done;
      for (uint32_t operand : op.operands) {
        uint32_t &until = readUntil[graph.rootOf(operand)];
        until = std::max(until, done);
      }
      for (uint32_t at : op.updated) {
        uint32_t &updated = updatedAt[graph.rootOf(op.operands[at])];
        updated = std::max(updated, place);
      }
    }
    // In the order of operations within a position: those from before it come first.
    std::stable_sort(moved.begin(), moved.end(), [](auto &a, auto &b) { return a.first < b.first; });
    order.clear();
    auto from = moved.begin();
    for (uint32_t p = 0; p <= count; ++p) {
      for (; from != moved.end() && from->first == p; ++from)
        order.push_back(from->second);
      if (p < count && stays[p])
        order.push_back(p);
    }
  }

  uint64_t hidden(uint32_t i) const {
    return split[i] ? std::min(cost[candidates[i].op], time[waits[i]] - time[starts[i]]) : 0;
  }

  // ---- memory

  bool fit(uint64_t limit) {
    constexpr unsigned attempts = 8;
    for (unsigned attempt = 0; attempt < attempts; ++attempt) {
      if (!reduceTo(limit))
        break;
      Liveness live = computeLiveness(withWaits, order);
      std::vector<PackingItem> items = packingItems(live);
      Placement placement = pack(items, request.alignment, attemptLimits(attempt));
      // At the bound a longer search finds the same; above it, only that says what AssignOffsets will find.
      if (placement.height <= limit && placement.height > placement.bound)
        placement = pack(items, request.alignment, request.packing);
      if (placement.height <= limit)
        return true;
      if (!reduceAround(live, items, placement, limit))
        break;
      build();
    }
    for (Candidate &c : candidates)
      c.level = NotSplit;
    build();
    return false;
  }

  // What is alive fits, and its packing does not: the windows at a buffer that sticks out become smaller. If there is none,
  // or the buffer is there all the time, all do.
  bool reduceAround(const Liveness &live, const std::vector<PackingItem> &items, const Placement &placement,
                    uint64_t limit) {
    std::vector<int32_t> change(live.instructions.size() + 2, 0);
    for (size_t i = 0; i < items.size(); ++i)
      if (placement.offsets[i] + items[i].bytes > limit && items[i].last - items[i].first < live.instructions.size()) {
        ++change[items[i].first];
        --change[items[i].last];
      }
    std::vector<uint32_t> before(change.size() + 1, 0); // instructions at which something sticks out
    int32_t sum = 0;
    for (size_t i = 0; i < change.size(); ++i)
      before[i + 1] = before[i] + ((sum += change[i]) > 0);
    bool changed = false;
    for (bool everywhere : {false, true}) {
      if (changed)
        break;
      for (const Span &span : spansOf(live)) {
        Candidate &c = candidates[span.candidate];
        if (c.level == NotSplit || (!everywhere && before[span.end + 1] == before[span.begin]))
          continue;
        c.level = static_cast<Level>(c.level + 1);
        changed = true;
      }
    }
    return changed;
  }

  // Each shorter than the one that places the step (a longer search only finds lower arenas), the first least: a second,
  // and a quarter of one.
  PackingLimits attemptLimits(unsigned attempt) const {
    PackingLimits limits = request.packing;
    limits.exactSteps = std::min<uint64_t>(limits.exactSteps, attempt < 2 ? 20'000'000 : 5'000'000);
    return limits;
  }

  // Reduces windows until no more than `aim` bytes are alive anywhere. False if that does not end.
  bool reduceTo(uint64_t aim) {
    constexpr unsigned rounds = 100;
    for (unsigned round = 0; round < rounds; ++round) {
      Liveness live = computeLiveness(withWaits, order);
      std::vector<uint64_t> alive = aliveBytes(live);
      std::vector<std::pair<uint64_t, uint64_t>> over = peaksAbove(alive, aim); // instruction, bytes too many
      if (over.empty())
        return true;
      bool changed = false;
      size_t first = 0;
      std::vector<std::pair<double, uint32_t>> covering;
      std::vector<Span> spans = spansOf(live);
      for (auto [at, excess] : over) {
        while (first < spans.size() && spans[first].latest < at)
          ++first;
        covering.clear();
        for (size_t s = first; s < spans.size() && spans[s].begin <= at; ++s)
          if (at <= spans[s].end)
            covering.emplace_back(static_cast<double>(hidden(spans[s].candidate)) /
                                      static_cast<double>(std::max<uint64_t>(1, candidates[spans[s].candidate].bytes)),
                                  spans[s].candidate);
        std::stable_sort(covering.begin(), covering.end(), [](auto &a, auto &b) { return a.first < b.first; });
        uint64_t freed = 0;
        for (auto [gain, i] : covering) {
          if (freed >= excess)
            break;
          if (candidates[i].level == NotSplit)
            continue; // two peaks had it
          candidates[i].level = static_cast<Level>(candidates[i].level + 1);
          freed += candidates[i].bytes;
          changed = true;
        }
      }
      if (!changed)
        return false;
      build();
    }
    return false;
  }

  std::vector<uint64_t> aliveBytes(const Liveness &live) const {
    std::vector<int64_t> change(live.instructions.size() + 2, 0);
    for (const LiveBuffer &buffer : live.buffers) {
      auto bytes = static_cast<int64_t>((buffer.bytes + request.alignment - 1) / request.alignment * request.alignment);
      change[buffer.first] += bytes;
      change[std::max(buffer.last, buffer.first + 1)] -= bytes;
    }
    std::vector<uint64_t> alive(live.instructions.size());
    int64_t sum = 0;
    for (size_t i = 0; i < alive.size(); ++i)
      alive[i] = static_cast<uint64_t>(sum += change[i]);
    return alive;
  }

  // The highest instruction of each run that is above the limit.
  static std::vector<std::pair<uint64_t, uint64_t>> peaksAbove(const std::vector<uint64_t> &alive, uint64_t limit) {
    std::vector<std::pair<uint64_t, uint64_t>> peaks;
    for (size_t i = 0; i < alive.size(); ++i) {
      if (alive[i] <= limit)
        continue;
      if (i == 0 || alive[i - 1] <= limit)
        peaks.emplace_back(i, 0);
      if (alive[i] - limit > peaks.back().second)
        peaks.back() = {i, alive[i] - limit};
    }
    return peaks;
  }

  // Instructions [begin, end] at which a window may keep more alive, by their beginning; `latest` is the largest end up
  // to there.
  struct Span {
    uint64_t begin, end, latest;
    uint32_t candidate;
  };
  std::vector<Span> spansOf(const Liveness &live) const {
    // What has waited with a collective stands behind the wait, up to the operation that it stands in front of.
    std::vector<uint64_t> at(count + 1, live.instructions.size());
    for (uint32_t i = count; i-- > 0;)
      at[i] = live.instructionOfOp[i] == noIndex ? at[i + 1] : live.instructionOfOp[i];
    std::vector<Span> spans;
    for (uint32_t i = 0; i < candidates.size(); ++i)
      if (split[i])
        spans.push_back({live.instructionOfOp[candidates[i].op],
                         std::max<uint64_t>(live.instructionOfOp[count + i], at[waits[i]]), 0, i});
    std::stable_sort(spans.begin(), spans.end(), [](const Span &a, const Span &b) { return a.begin < b.begin; });
    uint64_t latest = 0;
    for (Span &span : spans)
      span.latest = latest = std::max(latest, span.end);
    return spans;
  }

  const StepGraph &graph;
  const OverlapRequest &request;
  const uint32_t count; // operations
  StepGraph withWaits;  // operation count + i is the wait of candidate i
  std::vector<uint64_t> time, cost;
  std::array<uint32_t, 3> ends{};
  std::vector<bool> mayWait;     // of every operation
  std::vector<uint32_t> limitOf; // of every value: the first operation that cannot do without, as a position
  std::vector<Candidate> candidates; // in the order of their operations
  // As `build` has left them.
  std::vector<bool> split;
  std::vector<uint32_t> starts, waits; // of candidates, positions
  std::vector<uint32_t> order;
};

} // namespace

OverlapPlan planOverlap(const StepGraph &graph, const OverlapRequest &request) {
  return Planner(graph, request).plan();
}

} // namespace amc
