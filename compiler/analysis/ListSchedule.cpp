// The scheduling portfolio; see ListSchedule.h.
//
// A section is scheduled on its own dependence graph. Forwards, an operation's score is what it
// frees (buffers of which it is the last reader left) minus what it allocates; backwards, what it
// ends (its results, whose readers all stand behind it) minus the operands that would become alive.
// Both scores only rise while operations are placed, so a heap with stale entries skipped is
// enough; ties go to program order.
#include "compiler/analysis/ListSchedule.h"
#include <algorithm>
#include <queue>

namespace amc {
namespace {

struct Section {
  std::vector<uint32_t> ops;           // program order
  IndexLists successors, predecessors; // by position in ops, each neighbour once or more
};

// The dependences among `ops`: operands before readers; reads and updates of one root as they
// stand.
Section makeSection(const StepGraph &graph, std::vector<uint32_t> ops) {
  Section section;
  std::vector<uint32_t> position(graph.ops.size(), noIndex);
  for (uint32_t i = 0; i < ops.size(); ++i)
    position[ops[i]] = i;
  std::vector<std::pair<uint32_t, uint32_t>> edges;
  std::vector<bool> mutated(graph.values.size(), false);
  for (uint32_t op : ops)
    for (uint32_t at : graph.ops[op].updated)
      mutated[graph.rootOf(graph.ops[op].operands[at])] = true;
  std::vector<uint32_t> lastUpdate(graph.values.size(), noIndex);
  std::vector<std::vector<uint32_t>> readsSince(graph.values.size());
  for (uint32_t i = 0; i < ops.size(); ++i) {
    const GraphOp &op = graph.ops[ops[i]];
    for (uint32_t at = 0; at < op.operands.size(); ++at) {
      uint32_t operand = op.operands[at], producer = graph.values[operand].producer;
      if (position[producer] != noIndex)
        edges.emplace_back(position[producer], i);
      uint32_t root = graph.rootOf(operand);
      if (!mutated[root])
        continue;
      if (lastUpdate[root] != noIndex && lastUpdate[root] != i)
        edges.emplace_back(lastUpdate[root], i);
      if (std::find(op.updated.begin(), op.updated.end(), at) == op.updated.end()) {
        readsSince[root].push_back(i);
        continue;
      }
      for (uint32_t reader : readsSince[root])
        if (reader != i)
          edges.emplace_back(reader, i);
      readsSince[root].clear();
      lastUpdate[root] = i;
    }
  }
  section.successors = IndexLists(static_cast<uint32_t>(ops.size()), edges);
  for (auto &[from, to] : edges)
    std::swap(from, to);
  section.predecessors = IndexLists(static_cast<uint32_t>(ops.size()), edges);
  section.ops = std::move(ops);
  return section;
}

// One pass of list scheduling, forwards or (`backwards`) from the end.
class ListScheduler {
public:
  ListScheduler(const StepGraph &graph, const IndexLists &readers, const IndexLists &roots,
                const Section &section, bool backwards)
      : graph(graph), readers(readers), roots(roots), section(section), backwards(backwards) {}

  // `window`: how far from the first operation that has not run another may be chosen. `freeFirst`:
  // only operations that lower the live sum may overtake.
  std::vector<uint32_t> run(uint32_t window, bool freeFirst) {
    const uint32_t n = static_cast<uint32_t>(section.ops.size());
    start();
    std::vector<bool> done(n, false);
    std::vector<uint32_t> order;
    order.reserve(n);
    std::priority_queue<Entry> active;
    std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<uint32_t>> parked; // by rank
    uint32_t front = 0; // rank of the first that has not run
    auto offer = [&](uint32_t op) {
      // Window in wide arithmetic: it may be "everything".
      if (static_cast<uint64_t>(rank(op)) < static_cast<uint64_t>(front) + window)
        active.push({weigh(op, freeFirst), rank(op), op});
      else
        parked.push(rank(op));
    };
    for (uint32_t i = 0; i < n; ++i)
      if (waiting[i] == 0)
        offer(i);
    while (order.size() < n) {
      while (!active.empty() &&
             (done[active.top().op] || active.top().score != weigh(active.top().op, freeFirst)))
        active.pop();
      uint32_t op = active.top().op;
      active.pop();
      done[op] = true;
      order.push_back(section.ops[op]);
      place(op, [&](uint32_t risen) {
        if (!done[risen] && waiting[risen] == 0 &&
            static_cast<uint64_t>(rank(risen)) < static_cast<uint64_t>(front) + window)
          active.push({weigh(risen, freeFirst), rank(risen), risen});
      });
      while (front < n && done[unrank(front)])
        ++front;
      while (!parked.empty() &&
             static_cast<uint64_t>(parked.top()) < static_cast<uint64_t>(front) + window) {
        uint32_t next = unrank(parked.top());
        parked.pop();
        offer(next);
      }
      for (uint32_t next : (backwards ? section.predecessors : section.successors)[op])
        if (--waiting[next] == 0)
          offer(next);
    }
    if (backwards)
      std::reverse(order.begin(), order.end());
    return order;
  }

private:
  struct Entry {
    int64_t score;
    uint32_t rank, op;
    bool operator<(const Entry &other) const {
      return score != other.score ? score < other.score : rank > other.rank;
    }
  };

  uint32_t rank(uint32_t op) const {
    return backwards ? static_cast<uint32_t>(section.ops.size()) - 1 - op : op;
  }
  uint32_t unrank(uint32_t rank) const { return this->rank(rank); }

  void start() {
    const uint32_t n = static_cast<uint32_t>(section.ops.size());
    waiting.assign(n, 0);
    for (uint32_t i = 0; i < n; ++i)
      waiting[i] = (backwards ? section.successors : section.predecessors).size(i);
    positions.assign(graph.ops.size(), noIndex);
    for (uint32_t i = 0; i < n; ++i)
      positions[section.ops[i]] = i;
    // Forwards: readers still to come; readers outside the section never come, so such buffers are
    // not freed. Those of earlier sections have run. Backwards: whether the root is alive already,
    // as it is if read behind.
    const uint32_t firstOp = n == 0 ? 0 : *std::min_element(section.ops.begin(), section.ops.end());
    left.assign(graph.values.size(), 0);
    alive.assign(graph.values.size(), false);
    for (uint32_t root = 0; root < graph.values.size(); ++root)
      for (uint32_t reader : readers[root]) {
        if (positions[reader] != noIndex)
          ++left[root];
        else if (reader > firstOp)
          alive[root] = true; // read in a later section
      }
  }

  static constexpr uint64_t nextToNothing = 64;
  bool frees(uint32_t root) const { return !graph.values[root].persistent && !alive[root]; }

  int64_t score(uint32_t position) const {
    const GraphOp &op = graph.ops[section.ops[position]];
    if (op.kind != OpKind::Compute)
      return INT64_MAX; // costs nothing and may let others go on
    int64_t sum = 0;
    for (uint32_t result : op.results)
      if (!readers[result].empty())
        sum += (backwards ? 1 : -1) * static_cast<int64_t>(graph.values[result].bytes);
    for (uint32_t root : roots[section.ops[position]]) {
      if (!frees(root))
        continue;
      if (backwards)
        sum -= static_cast<int64_t>(graph.values[root].bytes);
      else if (left[root] == 1)
        sum += static_cast<int64_t>(graph.values[root].bytes);
    }
    return sum;
  }

  int64_t weigh(uint32_t position, bool freeFirst) const {
    int64_t value = score(position);
    if (!freeFirst)
      return value;
    return value > 0 ? value : opensWay(position) ? 1 : 0;
  }

  // Whether the operation makes next to nothing and leaves a buffer with one reader, which will
  // free it: a norm before the update of the same gradient.
  bool opensWay(uint32_t position) const {
    if (backwards)
      return false;
    const GraphOp &op = graph.ops[section.ops[position]];
    uint64_t made = 0;
    for (uint32_t result : op.results)
      made += graph.values[result].bytes;
    if (made > nextToNothing)
      return false;
    for (uint32_t root : roots[section.ops[position]])
      if (frees(root) && left[root] == 2 && graph.values[root].bytes > nextToNothing)
        return true;
    return false;
  }

  // Records that `position` has been placed; `risen` is called for operations whose score may have
  // gone up.
  template <class F> void place(uint32_t position, F risen) {
    if (graph.ops[section.ops[position]].kind == OpKind::View)
      return; // views are no readers
    for (uint32_t root : roots[section.ops[position]]) {
      bool tell = false;
      if (backwards) {
        tell = !alive[root];
        alive[root] = true;
      } else {
        tell = --left[root] <= 2;
      }
      if (tell)
        for (uint32_t reader : readers[root])
          if (positions[reader] != noIndex)
            risen(positions[reader]);
    }
  }

  const StepGraph &graph;
  const IndexLists &readers; // of every root
  const IndexLists &roots;   // of every operation
  const Section &section;
  bool backwards;
  std::vector<uint32_t> waiting, positions, left;
  std::vector<bool> alive;
};

// Moves what allocates without freeing anything (statistics, squared norms, recomputations from
// saved values) down to its first reader. No operand lives longer for it: each has another reader
// behind that place.
class Sinker {
public:
  Sinker(const StepGraph &graph, const IndexLists &readers, const IndexLists &roots,
         const std::vector<uint8_t> &partOf)
      : graph(graph), readers(readers), roots(roots), partOf(partOf) {
    std::vector<std::pair<uint32_t, uint32_t>> pairs;
    for (uint32_t op = 0; op < graph.ops.size(); ++op)
      for (uint32_t operand : graph.ops[op].operands)
        pairs.emplace_back(operand, op);
    users = IndexLists(static_cast<uint32_t>(graph.values.size()), pairs);
    pairs.clear();
    for (uint32_t op = 0; op < graph.ops.size(); ++op)
      for (uint32_t at : graph.ops[op].updated)
        pairs.emplace_back(graph.rootOf(graph.ops[op].operands[at]), op);
    updates = IndexLists(static_cast<uint32_t>(graph.values.size()), pairs);
  }

  std::vector<uint32_t> run(const std::vector<uint32_t> &order) {
    const uint32_t n = static_cast<uint32_t>(order.size());
    position.assign(graph.ops.size(), noIndex);
    for (uint32_t i = 0; i < n; ++i)
      position[order[i]] = i;
    place.assign(n, 0);
    for (uint32_t i = n; i-- > 0;) {
      place[i] = i;
      uint32_t target = firstUser(order[i]);
      if (target != noIndex && maySink(order[i], i, target))
        place[i] = target;
    }
    std::vector<uint32_t> sorted(n);
    for (uint32_t i = 0; i < n; ++i)
      sorted[i] = i;
    std::stable_sort(sorted.begin(), sorted.end(),
                     [&](uint32_t a, uint32_t b) { return place[a] < place[b]; });
    for (uint32_t &i : sorted)
      i = order[i];
    return sorted;
  }

private:
  uint32_t firstUser(uint32_t op) const {
    uint32_t target = noIndex;
    for (uint32_t result : graph.ops[op].results)
      for (uint32_t user : users[result])
        if (position[user] != noIndex)
          target = std::min(target, place[position[user]]);
    return target;
  }

  bool maySink(uint32_t op, uint32_t at, uint32_t target) const {
    if (graph.ops[op].kind == OpKind::Output)
      return false;
    for (uint32_t root : roots[op]) {
      for (uint32_t update : updates[root])
        if (position[update] != noIndex && position[update] >= at && position[update] < target)
          return false;
      if (graph.ops[op].kind == OpKind::View || graph.values[root].persistent)
        continue;
      bool aliveAnyway = false;
      for (uint32_t reader : readers[root])
        aliveAnyway =
            aliveAnyway || (position[reader] == noIndex
                                ? partOf[reader] > partOf[op]
                                : position[reader] > at && place[position[reader]] >= target);
      if (!aliveAnyway)
        return false;
    }
    return true;
  }

  const StepGraph &graph;
  const IndexLists &readers, &roots;
  const std::vector<uint8_t> &partOf;
  IndexLists users;               // of every value, views among them
  IndexLists updates;             // of every root
  std::vector<uint32_t> position; // of operations in the order given; noIndex: in another section
  std::vector<uint32_t> place;    // by position: the position before which it goes
};

// Rounds of local search, each near linear.
constexpr unsigned turns = 4;

} // namespace

ScheduleResult scheduleStep(const StepGraph &graph) {
  // An output belongs where its value is made, so that it never holds up a section.
  std::vector<uint32_t> sources, marker;
  std::vector<std::vector<uint32_t>> parts(3);
  std::vector<uint8_t> partOf(graph.ops.size(), 0);
  const uint32_t end = graph.microBatchEnd();
  for (uint32_t i = 0; i < graph.ops.size(); ++i) {
    const GraphOp &op = graph.ops[i];
    if (op.kind == OpKind::Source) {
      sources.push_back(i);
      continue;
    }
    if (op.kind == OpKind::MicroBatchEnd) {
      marker.push_back(i);
      continue;
    }
    uint8_t part = i > end ? 2 : op.phase == OpPhase::Forward ? 0 : 1;
    for (uint32_t operand : op.operands)
      part = std::max(part, partOf[graph.values[operand].producer]);
    partOf[i] = part;
    parts[part].push_back(i);
  }

  auto join = [&] {
    std::vector<uint32_t> order = sources;
    for (uint32_t part = 0; part < 3; ++part) {
      if (part == 2)
        order.insert(order.end(), marker.begin(), marker.end());
      order.insert(order.end(), parts[part].begin(), parts[part].end());
    }
    return order;
  };

  ScheduleResult result;
  result.order = join();
  result.maxLiveBytes = result.programBytes = computeLiveness(graph, result.order).maxLiveBytes;
  const IndexLists readers = readersOfRoots(graph), roots = operandRoots(graph);
  struct Member {
    const char *name;
    bool backwards, freeFirst;
    uint32_t window;
  };
  static constexpr Member portfolio[] = {
      {"free-first", false, true, noIndex}, {"greedy 8", false, false, 8},
      {"greedy 64", false, false, 64},      {"greedy", false, false, noIndex},
      {"late 8", true, false, 8},           {"late 64", true, false, 64},
      {"late", true, false, noIndex},
  };
  Sinker sinker(graph, readers, roots, partOf);
  for (uint32_t part = 0; part < 3; ++part) {
    std::string winner = "program";
    Section section = makeSection(graph, parts[part]);
    std::vector<uint32_t> best = parts[part];
    auto consider = [&](std::vector<uint32_t> candidate, const std::string &name) {
      parts[part] = std::move(candidate);
      std::vector<uint32_t> order = join();
      uint64_t bytes = computeLiveness(graph, order).maxLiveBytes;
      if (bytes < result.maxLiveBytes) {
        result.maxLiveBytes = bytes;
        result.order = std::move(order);
        best = parts[part];
        winner = name;
      }
    };
    consider(sinker.run(parts[part]), "program, sunk");
    for (const Member &member : portfolio) {
      std::vector<uint32_t> candidate =
          ListScheduler(graph, readers, roots, section, member.backwards)
              .run(member.window, member.freeFirst);
      consider(candidate, member.name);
      consider(sinker.run(candidate), std::string(member.name) + ", sunk");
    }
    // Local search: sinking makes room in which something else may free early, and the other way
    // round, so both take turns, from the order given and from the best, whether a turn alone gains
    // or not.
    const std::vector<uint32_t> given = section.ops;
    for (bool fromBest : {false, true}) {
      std::vector<uint32_t> order = fromBest ? best : given;
      const std::string from = fromBest ? winner : "program";
      for (unsigned turn = 0; turn < turns; ++turn) {
        const uint64_t before = result.maxLiveBytes;
        order = sinker.run(order);
        consider(order, from + ", turned");
        Section again = makeSection(graph, order);
        std::vector<uint32_t> next =
            ListScheduler(graph, readers, roots, again, false).run(noIndex, true);
        if (next == order && before == result.maxLiveBytes)
          break;
        order = std::move(next);
        consider(order, from + ", turned");
      }
    }
    parts[part] = std::move(best);
    result.rule += (part ? " / " : "") + winner;
  }
  return result;
}

} // namespace amc
