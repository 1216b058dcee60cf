// Segments and their problems; see Segments.h.
#include "compiler/analysis/Segments.h"
#include "compiler/analysis/Liveness.h"
#include <algorithm>
#include <numeric>

namespace amc {
namespace {

bool isForward(const StepGraph &graph, uint32_t op) {
  return graph.ops[op].phase == OpPhase::Forward;
}

// Forward values that are made by instructions: what can be kept or dropped.
bool isActivationRoot(const StepGraph &graph, uint32_t root) {
  const GraphValue &value = graph.values[root];
  return !value.source && isForward(graph, value.producer);
}

} // namespace

namespace {

// Operations whose results one later segment alone reads are that segment's, so that it may run
// them again: the embedding, and what ends a block with nothing else of it in need of the operands
// (the norm behind BERT's sums; not the sum that ends a block of Llama, whose operand the norm
// before it reads, too: then two segments would share that). From the last to the first, so that
// chains follow.
void adoptMakers(const StepGraph &graph, const BlockAnalysis &blocks, Segmentation &segments) {
  constexpr uint32_t unread = noIndex - 1;
  const IndexLists readers = readersOfRoots(graph);
  std::vector<uint32_t> readBy(graph.values.size(), unread); // noIndex: several or an output
  auto readsAlone = [&](const GraphOp &op, uint32_t index, uint32_t segment) {
    for (uint32_t operand : op.operands)
      if (uint32_t root = graph.rootOf(operand); isActivationRoot(graph, root))
        for (uint32_t reader : readers[root])
          if (reader != index && isForward(graph, reader) &&
              segments.segmentOfOp[reader] != segment)
            return false;
    return true;
  };
  for (uint32_t i = static_cast<uint32_t>(graph.ops.size()); i-- > 0;) {
    const GraphOp &op = graph.ops[i];
    if (!isForward(graph, i))
      continue;
    uint32_t &segment = segments.segmentOfOp[i];
    if (segment != noIndex) {
      uint32_t reader = unread;
      for (uint32_t value : op.results)
        if (readBy[value] != unread)
          reader = reader == unread || reader == readBy[value] ? readBy[value] : noIndex;
      if (reader < unread && (blocks.blockOfOp[i] == noIndex || readsAlone(op, i, reader)))
        segment = reader;
    }
    for (uint32_t operand : op.operands) {
      uint32_t &by = readBy[operand];
      by = by == unread || by == segment ? segment : noIndex;
    }
  }
}

} // namespace

Segmentation findSegments(const StepGraph &graph, const BlockAnalysis &blocks) {
  const uint32_t n = static_cast<uint32_t>(graph.ops.size());
  Segmentation result;
  result.segmentOfOp.assign(n, noIndex);
  result.regionOfOp.assign(n, noIndex);
  std::vector<uint32_t> lastOfBlock(blocks.count, 0);
  for (uint32_t i = 0; i < n; ++i)
    if (blocks.blockOfOp[i] != noIndex)
      lastOfBlock[blocks.blockOfOp[i]] = i;

  // Places: 2 b + 1 is block b, 2 g what stands behind g blocks. Operands pull their readers along.
  std::vector<uint32_t> place(n, noIndex);
  std::vector<bool> used(2 * blocks.count + 1, false);
  uint32_t behind = 0;
  for (uint32_t i = 0; i < n; ++i) {
    while (behind < blocks.count && lastOfBlock[behind] < i)
      ++behind;
    const GraphOp &op = graph.ops[i];
    if (!isForward(graph, i) || (op.kind != OpKind::Compute && op.kind != OpKind::View))
      continue;
    uint32_t block = blocks.blockOfOp[i];
    place[i] = block != noIndex ? 2 * block + 1 : 2 * behind;
    for (uint32_t operand : op.operands)
      if (uint32_t from = place[graph.values[operand].producer]; from != noIndex)
        place[i] = std::max(place[i], from);
    used[place[i]] = true;
  }
  std::vector<uint32_t> number(used.size(), noIndex);
  for (uint32_t p = 0; p < used.size(); ++p)
    if (used[p])
      number[p] = result.count++;
  for (uint32_t i = 0; i < n; ++i)
    if (place[i] != noIndex)
      result.segmentOfOp[i] = number[place[i]];

  adoptMakers(graph, blocks, result);
  // Numbers without gaps: a segment may have lost all of its operations.
  std::vector<bool> left(result.count, false);
  for (uint32_t i = 0; i < n; ++i)
    if (result.segmentOfOp[i] != noIndex)
      left[result.segmentOfOp[i]] = true;
  std::vector<uint32_t> renumbered(result.count, 0);
  uint32_t count = 0;
  for (uint32_t s = 0; s < result.count; ++s)
    renumbered[s] = left[s] ? count++ : noIndex;
  result.count = count;
  for (uint32_t i = 0; i < n; ++i)
    if (result.segmentOfOp[i] != noIndex)
      result.segmentOfOp[i] = renumbered[result.segmentOfOp[i]];

  // The first segment that reads a value; its maker's if none does.
  std::vector<uint32_t> firstReader(graph.values.size(), noIndex);
  for (uint32_t i = 0; i < n; ++i)
    if (isForward(graph, i) && graph.ops[i].kind == OpKind::Compute)
      for (uint32_t operand : graph.ops[i].operands)
        firstReader[graph.rootOf(operand)] =
            std::min(firstReader[graph.rootOf(operand)], result.segmentOfOp[i]);

  uint32_t region = noIndex; // from the end: the latest segment that is read here or later
  for (uint32_t i = n; i-- > 0;) {
    if (isForward(graph, i))
      continue;
    for (uint32_t operand : graph.ops[i].operands) {
      uint32_t root = graph.rootOf(operand);
      if (!isActivationRoot(graph, root))
        continue;
      uint32_t by = firstReader[root] != noIndex ? firstReader[root]
                                                 : result.segmentOfOp[graph.values[root].producer];
      region = region == noIndex ? by : std::max(region, by);
    }
    result.regionOfOp[i] = region == noIndex ? result.count : region;
  }
  return result;
}

namespace {

// What is known about every forward value before the segments are looked at alone.
class ProblemMaker {
public:
  ProblemMaker(const StepGraph &graph, const Segmentation &segments)
      : graph(graph), segments(segments), values(graph.values.size()) {
    opsOfSegment.resize(segments.count);
    opsOfRegion.resize(segments.count + 1);
    for (uint32_t i = 0; i < graph.ops.size(); ++i) {
      if (uint32_t s = segments.segmentOfOp[i]; s != noIndex)
        opsOfSegment[s].push_back(i);
      if (uint32_t r = segments.regionOfOp[i]; r != noIndex)
        opsOfRegion[r].push_back(i);
    }
    findOwners();
    findBases();
  }

  SegmentProblem make(uint32_t segment) {
    SegmentProblem problem;
    problem.forwardBase = forwardBase;
    problem.backwardBase = backwardBase[segment];
    map.assign(graph.values.size(), noIndex);
    uint32_t nothing = addHelper(problem, OpKind::Source, OpPhase::Forward, {}, {0});
    nothingValue = problem.graph.ops[nothing].results[0];
    problem.graph.values[nothingValue].persistent = true;

    // Entering values: read here, made elsewhere, this segment's to keep.
    std::vector<uint32_t> entering, leaving;
    std::vector<uint64_t> bytes;
    // Sources that are updated here keep their identity, so that readers stay before the update.
    for (uint32_t op : opsOfRegion[segment])
      for (uint32_t at : graph.ops[op].updated) {
        uint32_t &number = map[graph.rootOf(graph.ops[op].operands[at])];
        if (number != noIndex)
          continue;
        uint32_t source = addHelper(problem, OpKind::Source, OpPhase::Forward, {}, {0});
        number = problem.graph.ops[source].results[0];
        problem.graph.values[number].persistent = true;
      }
    for (uint32_t op : opsOfSegment[segment])
      collect(op, segment, true, entering);
    for (uint32_t op : opsOfRegion[segment])
      collect(op, segment, true, entering);
    for (uint32_t root : entering)
      bytes.push_back(graph.values[root].bytes);
    bind(problem, addHelper(problem, OpKind::Compute, OpPhase::Forward, {}, bytes), entering);
    for (uint32_t op : opsOfSegment[segment])
      add(problem, op, true);
    for (uint32_t op : opsOfSegment[segment])
      for (uint32_t value : graph.ops[op].results)
        if (graph.ops[op].kind == OpKind::Compute && values[value].leaves)
          leaving.push_back(map[value]);
    addHelper(problem, OpKind::Compute, OpPhase::Forward, leaving, {});

    std::vector<uint32_t> gradients;
    bytes.clear();
    for (uint32_t op : opsOfRegion[segment])
      collect(op, segment, false, gradients);
    for (uint32_t root : gradients)
      bytes.push_back(graph.values[root].bytes);
    // Values that other regions read too are there when this one begins, read here or not.
    std::vector<uint32_t> kept;
    for (uint32_t root = 0; root < graph.values.size(); ++root)
      if (graph.rootOf(root) == root && map[root] < noIndex - 1 && values[root].shared &&
          values[root].owner == segment)
        kept.push_back(map[root]);
    bind(problem, addHelper(problem, OpKind::Compute, OpPhase::Backward, kept, bytes), gradients);
    for (uint32_t op : opsOfRegion[segment])
      add(problem, op, false);
    // What later regions read lives to the end of this one.
    std::vector<uint32_t> staying;
    for (uint32_t value = 0; value < graph.values.size(); ++value)
      if (graph.rootOf(value) == value && map[value] != noIndex && map[value] != nothingValue &&
          !isActivationRoot(graph, value) && !graph.values[value].source &&
          laterThan(values[value].lastRegion, segment))
        staying.push_back(map[value]);
    for (uint32_t op : opsOfSegment[segment])
      for (uint32_t value : graph.ops[op].results)
        if (values[value].output)
          staying.push_back(map[value]);
    addHelper(problem, OpKind::Output, OpPhase::Backward, staying, {});
    describe(problem);
    return problem;
  }

private:
  struct Facts {
    uint32_t owner = noIndex;      // the segment that keeps it, if it may be read again at all
    bool shared = false;           // several regions may read it
    bool leaves = false;           // read by later segments in forward
    bool output = false;           // of forward: leaves the step, so it is there to the end
    uint32_t lastRegion = noIndex; // of gradients: the last region that reads it; count: the tail
  };

  // Whether region `a` runs after region `b`.
  bool laterThan(uint32_t a, uint32_t b) const {
    if (a == noIndex)
      return false;
    return a == segments.count ? b != segments.count : a < b;
  }

  void findOwners() {
    auto reads = [&](uint32_t root, uint32_t segment, bool again) {
      Facts &facts = values[root];
      if (again) {
        facts.shared = facts.shared || (facts.owner != noIndex && facts.owner != segment);
        facts.owner = std::min(facts.owner, segment);
      }
    };
    for (uint32_t i = 0; i < graph.ops.size(); ++i)
      for (uint32_t operand : graph.ops[i].operands) {
        uint32_t root = graph.rootOf(operand);
        if (!isActivationRoot(graph, root)) {
          if (!isForward(graph, i) && !graph.values[root].source) {
            uint32_t region =
                graph.ops[i].kind == OpKind::Output ? segments.count : segments.regionOfOp[i];
            uint32_t &last = values[root].lastRegion;
            last = last == noIndex || laterThan(region, last) ? region : last;
          }
          continue;
        }
        if (!isForward(graph, i)) {
          reads(root, std::min(segments.regionOfOp[i], segments.count - 1), true);
        } else if (graph.ops[i].kind == OpKind::Compute) {
          // A copy of this operation would read it again.
          reads(root, segments.segmentOfOp[i], true);
          if (segments.segmentOfOp[i] != segments.segmentOfOp[graph.values[root].producer])
            values[root].leaves = true;
        } else if (graph.ops[i].kind == OpKind::Output) {
          values[root].leaves = values[root].output = true;
        }
      }
  }

  void findBases() {
    forwardBase = 0;
    for (uint32_t root = 0; root < graph.values.size(); ++root)
      if (graph.values[root].source)
        forwardBase += graph.values[root].bytes;
    // Gradients that pass a region untouched. Regions run from count - 1 down to 0.
    std::vector<std::vector<uint32_t>> touchedIn(graph.values.size());
    for (uint32_t r = 0; r < segments.count; ++r)
      for (uint32_t op : opsOfRegion[r])
        for (uint32_t operand : graph.ops[op].operands)
          if (uint32_t root = graph.rootOf(operand);
              touchedIn[root].empty() || touchedIn[root].back() != r)
            touchedIn[root].push_back(r);
    backwardBase.assign(segments.count, forwardBase);
    std::vector<int64_t> change(segments.count + 1, 0); // by region, ascending
    for (uint32_t root = 0; root < graph.values.size(); ++root)
      if (values[root].output) { // earlier segments' regions; later ones count it as kept
        change[0] += static_cast<int64_t>(graph.values[root].bytes);
        change[segments.segmentOfOp[graph.values[root].producer]] -=
            static_cast<int64_t>(graph.values[root].bytes);
      }
    for (uint32_t root = 0; root < graph.values.size(); ++root) {
      const GraphValue &value = graph.values[root];
      if (graph.rootOf(root) != root || value.source || isActivationRoot(graph, root) ||
          segments.regionOfOp[value.producer] >= segments.count)
        continue;
      uint32_t born = segments.regionOfOp[value.producer], last = values[root].lastRegion;
      if (last == noIndex || !laterThan(last, born))
        continue;
      uint32_t lowest = last == segments.count ? 0 : last; // alive through [lowest, born)
      change[lowest] += static_cast<int64_t>(value.bytes);
      change[born] -= static_cast<int64_t>(value.bytes);
      for (uint32_t r : touchedIn[root])
        if (r < born && r >= lowest)
          backwardBase[r] -= value.bytes;
    }
    int64_t sum = 0;
    for (uint32_t r = 0; r < segments.count; ++r) {
      sum += change[r];
      backwardBase[r] += static_cast<uint64_t>(sum);
    }
  }

  void collect(uint32_t op, uint32_t segment, bool forward, std::vector<uint32_t> &list) {
    for (uint32_t operand : graph.ops[op].operands) {
      uint32_t root = graph.rootOf(operand);
      if (graph.values[root].source || map[root] != noIndex)
        continue;
      if (isActivationRoot(graph, root) != forward)
        continue;
      uint32_t producer = graph.values[root].producer;
      if (forward ? segments.segmentOfOp[producer] == segment || values[root].owner != segment
                  : segments.regionOfOp[producer] == segment)
        continue;
      map[root] = noIndex - 1; // taken
      list.push_back(root);
    }
  }

  uint32_t addHelper(SegmentProblem &problem, OpKind kind, OpPhase phase,
                     std::vector<uint32_t> operands, const std::vector<uint64_t> &bytes) {
    GraphOp op;
    op.kind = kind;
    op.phase = phase;
    op.operands = std::move(operands);
    problem.opOf.push_back(noIndex);
    problem.mayDrop.push_back(false);
    return problem.graph.addOp(std::move(op), bytes);
  }

  void bind(SegmentProblem &problem, uint32_t helper, const std::vector<uint32_t> &roots) {
    for (size_t i = 0; i < roots.size(); ++i)
      map[roots[i]] = problem.graph.ops[helper].results[i];
  }

  void add(SegmentProblem &problem, uint32_t index, bool forward) {
    GraphOp op = graph.ops[index];
    op.results.clear();
    op.name = 0;
    bool drop = forward && op.kind == OpKind::Compute && op.gatheredFor != GatheredFor::Both;
    for (uint32_t &operand : op.operands) {
      // A view of bytes that count elsewhere, or a source: nothing here.
      uint32_t root = graph.rootOf(operand);
      if (map[operand] == noIndex && map[root] != noIndex)
        map[operand] = map[root];
      operand = map[operand] == noIndex ? nothingValue : map[operand];
    }
    std::vector<uint64_t> bytes;
    for (uint32_t value : graph.ops[index].results) {
      bytes.push_back(graph.values[value].bytes);
      drop =
          drop && !values[value].shared && !values[value].output &&
          !(values[value].owner != noIndex && values[value].owner != segments.segmentOfOp[index]);
    }
    uint32_t added = problem.graph.addOp(std::move(op), bytes);
    problem.opOf.push_back(index);
    problem.mayDrop.push_back(drop);
    for (size_t r = 0; r < bytes.size(); ++r)
      map[graph.ops[index].results[r]] = problem.graph.ops[added].results[r];
  }

  static void describe(SegmentProblem &problem) {
    std::vector<uint64_t> &key = problem.key;
    for (uint32_t i = 0; i < problem.graph.ops.size(); ++i) {
      const GraphOp &op = problem.graph.ops[i];
      key.insert(key.end(), {static_cast<uint64_t>(op.kind), static_cast<uint64_t>(op.phase),
                             problem.mayDrop[i], op.workspaceBytes, op.flops, op.bytesMoved,
                             static_cast<uint64_t>(op.keep), op.bytesSent, op.span,
                             static_cast<uint64_t>(op.gatheredFor), op.joinsReaders, op.joinedBytes});
      for (const std::vector<uint32_t> *list : {&op.operands, &op.reusable, &op.updated}) {
        key.push_back(list->size());
        key.insert(key.end(), list->begin(), list->end());
      }
      key.push_back(op.results.size());
      for (uint32_t value : op.results)
        key.push_back(problem.graph.values[value].bytes);
    }
  }

  const StepGraph &graph;
  const Segmentation &segments;
  std::vector<Facts> values;
  std::vector<std::vector<uint32_t>> opsOfSegment, opsOfRegion;
  uint64_t forwardBase = 0;
  std::vector<uint64_t> backwardBase;
  std::vector<uint32_t> map; // of every value of the step: the problem's
  uint32_t nothingValue = 0;
};

} // namespace

std::vector<SegmentProblem> makeSegmentProblems(const StepGraph &graph,
                                                const Segmentation &segments) {
  ProblemMaker maker(graph, segments);
  std::vector<SegmentProblem> problems;
  for (uint32_t s = 0; s < segments.count; ++s)
    problems.push_back(maker.make(s));
  return problems;
}

uint64_t tailBytes(const StepGraph &graph, const Segmentation &segments) {
  std::vector<uint32_t> order(graph.ops.size());
  std::iota(order.begin(), order.end(), 0);
  Liveness live = computeLiveness(graph, order);
  std::vector<int64_t> change(live.instructions.size() + 1, 0);
  for (const LiveBuffer &buffer : live.buffers)
    if (buffer.first < buffer.last) {
      change[buffer.first] += static_cast<int64_t>(buffer.bytes);
      change[buffer.last] -= static_cast<int64_t>(buffer.bytes);
    }
  int64_t sum = 0, most = 0;
  for (size_t i = 0; i < live.instructions.size(); ++i) {
    sum += change[i];
    if (segments.regionOfOp[live.instructions[i]] == segments.count)
      most = std::max(most, sum);
  }
  return static_cast<uint64_t>(most);
}

} // namespace amc
