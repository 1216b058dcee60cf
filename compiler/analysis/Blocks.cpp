// Block detection; see Blocks.h. Phases: classify values, lay the activation operations in a line,
// cut it, hash the segments, find repeated runs, number the blocks, hand auxiliary operations to
// the block that alone reads them.
#include "compiler/analysis/Blocks.h"
#include <algorithm>
#include <cmath>

namespace amc {
namespace {

constexpr uint32_t maxPeriod = 512;

uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15ull + (hash << 6) + (hash >> 2);
  hash *= 0xff51afd7ed558ccdull;
  return hash ^ (hash >> 33);
}

// The activation operations in program order and how long their results live, in positions of that
// line.
struct Line {
  std::vector<uint32_t> ops;
  std::vector<uint32_t> positionOfOp; // noIndex: not on the line
  struct Span {
    uint32_t root, born, lastUse;
  };
  std::vector<Span> spans; // of the activations that live across a boundary
};

struct Flow {
  std::vector<bool> parameter, input; // of values: what they depend on
  bool isActivation(uint32_t value) const { return parameter[value] && input[value]; }
};

Flow classify(const StepGraph &graph) {
  Flow flow;
  flow.parameter.assign(graph.values.size(), false);
  flow.input.assign(graph.values.size(), false);
  for (const GraphOp &op : graph.ops) {
    bool parameter = false, input = false;
    for (uint32_t operand : op.operands) {
      parameter = parameter || flow.parameter[operand];
      input = input || flow.input[operand];
    }
    for (uint32_t result : op.results) {
      bool source = op.kind == OpKind::Source;
      BufferCategory category = graph.values[result].category;
      flow.parameter[result] = source ? category == BufferCategory::Parameter : parameter;
      flow.input[result] = source ? category == BufferCategory::Input : input;
    }
  }
  return flow;
}

// Forward operations from which an output is reached; all of them if the graph names no output.
std::vector<bool> reachOutput(const StepGraph &graph) {
  std::vector<bool> useful(graph.ops.size(), false);
  bool any = false;
  for (size_t i = graph.ops.size(); i-- > 0;) {
    const GraphOp &op = graph.ops[i];
    if (op.phase != OpPhase::Forward)
      continue;
    if (op.kind == OpKind::Output)
      useful[i] = any = true;
    if (useful[i])
      for (uint32_t operand : op.operands)
        useful[graph.values[operand].producer] = true;
  }
  if (!any)
    useful.assign(graph.ops.size(), true);
  return useful;
}

Line makeLine(const StepGraph &graph, const Flow &flow) {
  Line line;
  line.positionOfOp.assign(graph.ops.size(), noIndex);
  std::vector<bool> useful = reachOutput(graph);
  std::vector<uint32_t> lastUse(graph.values.size(), 0);
  for (uint32_t i = 0; i < graph.ops.size(); ++i) {
    const GraphOp &op = graph.ops[i];
    if (op.phase != OpPhase::Forward || !useful[i] ||
        (op.kind != OpKind::Compute && op.kind != OpKind::Output))
      continue;
    bool touches = false;
    for (uint32_t value : op.operands)
      touches = touches || flow.isActivation(value);
    for (uint32_t value : op.results)
      touches = touches || flow.isActivation(value);
    if (!touches)
      continue;
    line.positionOfOp[i] = static_cast<uint32_t>(line.ops.size());
    for (uint32_t value : op.operands)
      lastUse[graph.rootOf(value)] = line.positionOfOp[i];
    line.ops.push_back(i);
  }
  for (uint32_t i = 0; i < line.ops.size(); ++i)
    for (uint32_t result : graph.ops[line.ops[i]].results)
      if (flow.isActivation(result) && lastUse[result] > i)
        line.spans.push_back({result, i, lastUse[result]});
  return line;
}

// Segments of a line as half-open position ranges.
using Segments = std::vector<std::pair<uint32_t, uint32_t>>;

Segments cutLine(const Line &line, const std::vector<bool> &ignored) {
  const uint32_t n = static_cast<uint32_t>(line.ops.size());
  std::vector<int32_t> change(n + 1, 0);
  for (const Line::Span &span : line.spans)
    if (!ignored[span.root]) {
      ++change[span.born];
      --change[span.lastUse];
    }
  Segments segments;
  int32_t alive = 0;
  uint32_t begin = 0;
  for (uint32_t i = 0; i < n; ++i) {
    alive += change[i];
    if (alive == 1 || i + 1 == n) {
      segments.emplace_back(begin, i + 1);
      begin = i + 1;
    }
  }
  return segments;
}

uint64_t hashSegment(const StepGraph &graph, const Flow &flow, const Line &line,
                     std::pair<uint32_t, uint32_t> segment) {
  uint64_t hash = segment.second - segment.first;
  for (uint32_t i = segment.first; i < segment.second; ++i) {
    const GraphOp &op = graph.ops[line.ops[i]];
    hash = mix(hash, op.signature);
    for (uint32_t operand : op.operands) {
      uint32_t root = graph.rootOf(operand);
      const GraphValue &value = graph.values[root];
      uint32_t at = line.positionOfOp[value.producer];
      if (at != noIndex && at >= segment.first && at < segment.second) {
        const std::vector<uint32_t> &results = graph.ops[value.producer].results;
        auto which = std::find(results.begin(), results.end(), root) - results.begin();
        hash = mix(hash, 16 + (uint64_t(at - segment.first) << 8) + static_cast<uint64_t>(which));
      } else {
        hash = mix(hash, value.source ? 1 : flow.isActivation(root) ? 2 : 3);
      }
    }
  }
  return hash;
}

struct Run {
  uint32_t begin = 0, period = 0, repeats = 0; // in segments
  uint32_t ops = 0;                            // operations covered
};

// Repeated runs in a list of hashed segments.
class RunFinder {
public:
  RunFinder(const StepGraph &graph, const Line &line, const Segments &segments,
            std::vector<uint64_t> hashes)
      : hashes(std::move(hashes)), opsBefore(1, 0), heavyBefore(1, 0) {
    for (auto [begin, end] : segments) {
      uint32_t heavy = 0;
      for (uint32_t i = begin; i < end; ++i)
        heavy += graph.ops[line.ops[i]].keep != KeepClass::Recompute;
      opsBefore.push_back(opsBefore.back() + end - begin);
      heavyBefore.push_back(heavyBefore.back() + heavy);
    }
  }

  std::vector<Run> find() {
    search(0, static_cast<uint32_t>(hashes.size()), 0);
    std::sort(runs.begin(), runs.end(),
              [](const Run &a, const Run &b) { return a.begin < b.begin; });
    return runs;
  }

private:
  // The run covering most operations in [begin, end), the smallest period of those. A period has to
  // hold an expensive operation and at least `minOps` operations.
  Run longest(uint32_t begin, uint32_t end, uint32_t minOps) const {
    Run best;
    for (uint32_t period = 1; period <= std::min(maxPeriod, (end - begin) / 2); ++period) {
      uint32_t matched = 0; // segments up to i that equal the one a period later
      for (uint32_t i = begin; i + period <= end; ++i) {
        if (i + period < end && hashes[i] == hashes[i + period]) {
          ++matched;
          continue;
        }
        if (matched >= period) {
          // The run ends before i + period; what does not fill a period is left at its front.
          uint32_t repeats = (matched + period) / period;
          uint32_t first = i + period - repeats * period;
          uint32_t ops = opsBefore[i + period] - opsBefore[first];
          bool heavy = heavyBefore[first + period] > heavyBefore[first];
          if (heavy && ops > best.ops && opsBefore[first + period] - opsBefore[first] >= minOps)
            best = {first, period, repeats, ops};
        }
        matched = 0;
      }
    }
    return best;
  }

  void search(uint32_t begin, uint32_t end, uint32_t minOps) {
    // An explicit list instead of recursion: models may alternate between kinds of layers many
    // times.
    std::vector<std::pair<uint32_t, uint32_t>> todo{{begin, end}};
    while (!todo.empty()) {
      auto [from, to] = todo.back();
      todo.pop_back();
      Run run = longest(from, to, minOps);
      if (run.repeats < 2)
        continue;
      // Later runs have to be of a similar kind: at least half the operations a block of the first
      // has.
      if (runs.empty())
        minOps = (run.ops / run.repeats + 1) / 2;
      runs.push_back(run);
      todo.emplace_back(run.begin + run.period * run.repeats, to);
      todo.emplace_back(from, run.begin);
    }
  }

  std::vector<uint64_t> hashes;
  std::vector<uint32_t> opsBefore, heavyBefore; // prefix sums over segments
  std::vector<Run> runs;
};

struct Attempt {
  Segments segments;
  std::vector<Run> runs;
  uint32_t ops = 0;
};

Attempt attempt(const StepGraph &graph, const Flow &flow, const Line &line,
                const std::vector<bool> &ignored) {
  Attempt result;
  result.segments = cutLine(line, ignored);
  std::vector<uint64_t> hashes;
  for (const auto &segment : result.segments)
    hashes.push_back(hashSegment(graph, flow, line, segment));
  result.runs = RunFinder(graph, line, result.segments, std::move(hashes)).find();
  for (const Run &run : result.runs)
    result.ops += run.ops;
  return result;
}

// About sqrt(expensive operations) pieces of like cost, parted where the fewest bytes are alive.
// The last piece is no block: its backward follows at once.
void splitEvenly(const StepGraph &graph, const Line &line, BlockAnalysis &blocks) {
  const uint32_t n = static_cast<uint32_t>(line.ops.size());
  uint32_t heavy = 0;
  uint64_t total = 0;
  for (uint32_t op : line.ops) {
    heavy += graph.ops[op].keep != KeepClass::Recompute;
    total += graph.ops[op].flops + 1;
  }
  uint32_t pieces = static_cast<uint32_t>(std::lround(std::sqrt(static_cast<double>(heavy))));
  if (pieces < 2 || n < 2 * pieces)
    return;
  std::vector<int64_t> alive(n + 1, 0);
  for (const Line::Span &span : line.spans) {
    alive[span.born] += static_cast<int64_t>(graph.values[span.root].bytes);
    alive[span.lastUse] -= static_cast<int64_t>(graph.values[span.root].bytes);
  }
  std::vector<double> share(n); // of the cost, up to and including i
  uint64_t cost = 0;
  for (uint32_t i = 0; i < n; ++i) {
    if (i > 0)
      alive[i] += alive[i - 1];
    cost += graph.ops[line.ops[i]].flops + 1;
    share[i] = static_cast<double>(cost) / static_cast<double>(total) * pieces;
  }
  uint32_t begin = 0;
  for (uint32_t piece = 1; piece < pieces; ++piece) {
    uint32_t best = noIndex;
    for (uint32_t i = begin; i + 1 < n && share[i] < piece + 0.5; ++i)
      if (share[i] >= piece - 0.5 && (best == noIndex || alive[i] < alive[best]))
        best = i;
    if (best == noIndex)
      continue; // one operation costs more than a whole piece
    for (uint32_t i = begin; i <= best; ++i)
      blocks.blockOfOp[line.ops[i]] = blocks.count;
    blocks.runs.push_back({blocks.count, 1, best + 1 - begin});
    blocks.coveredOps += best + 1 - begin;
    ++blocks.count;
    begin = best + 1;
  }
  if (blocks.count > 0)
    blocks.found = BlockAnalysis::Found::Segments;
}

// Operations off the line (views, masks, reshaped weights) belong to the block that alone reads
// them.
void adoptAuxiliaries(const StepGraph &graph, const Line &line, BlockAnalysis &blocks) {
  constexpr uint32_t unread = noIndex - 1;
  std::vector<uint32_t> readBy(graph.values.size(), unread); // block, noIndex if several or outside
  for (uint32_t i = static_cast<uint32_t>(graph.ops.size()); i-- > 0;) {
    const GraphOp &op = graph.ops[i];
    if (op.phase != OpPhase::Forward)
      continue;
    if (line.positionOfOp[i] == noIndex &&
        (op.kind == OpKind::Compute || op.kind == OpKind::View)) {
      uint32_t block = unread;
      for (uint32_t result : op.results)
        if (readBy[result] != unread)
          block = block == unread || block == readBy[result] ? readBy[result] : noIndex;
      blocks.blockOfOp[i] = block == unread ? noIndex : block;
    }
    for (uint32_t operand : op.operands) {
      uint32_t &by = readBy[operand];
      by = by == unread || by == blocks.blockOfOp[i] ? blocks.blockOfOp[i] : noIndex;
    }
  }
}

} // namespace

BlockAnalysis findBlocks(const StepGraph &graph) {
  BlockAnalysis blocks;
  blocks.blockOfOp.assign(graph.ops.size(), noIndex);
  Flow flow = classify(graph);
  Line line = makeLine(graph, flow);
  blocks.activationOps = static_cast<uint32_t>(line.ops.size());
  if (line.ops.empty())
    return blocks;

  std::vector<bool> ignored(graph.values.size(), false);
  Attempt best = attempt(graph, flow, line, ignored);
  // Half of the operations in blocks is enough: the rest is embedding, head and loss.
  auto enough = [&](const Attempt &a) { return 2 * a.ops >= line.ops.size(); };
  if (!enough(best)) {
    std::vector<Line::Span> byLength = line.spans;
    std::stable_sort(byLength.begin(), byLength.end(),
                     [](const Line::Span &a, const Line::Span &b) {
                       return a.lastUse - a.born > b.lastUse - b.born;
                     });
    uint32_t done = 0;
    for (uint32_t count : {1u, 2u, 3u, 4u, 6u, 8u, 12u, 16u, 24u, 32u, 48u, 64u}) {
      if (enough(best) || count > byLength.size())
        break;
      for (; done < count; ++done)
        ignored[byLength[done].root] = true;
      Attempt next = attempt(graph, flow, line, ignored);
      if (next.ops > best.ops) {
        best = std::move(next);
        blocks.ignoredValues = count;
      }
    }
  }
  for (const Run &run : best.runs) {
    uint32_t perBlock = run.ops / run.repeats;
    blocks.runs.push_back({blocks.count, run.repeats, perBlock});
    for (uint32_t repeat = 0; repeat < run.repeats; ++repeat, ++blocks.count)
      for (uint32_t s = 0; s < run.period; ++s) {
        auto [begin, end] = best.segments[run.begin + repeat * run.period + s];
        for (uint32_t i = begin; i < end; ++i)
          blocks.blockOfOp[line.ops[i]] = blocks.count;
      }
    blocks.coveredOps += run.ops;
  }
  if (blocks.count > 0)
    blocks.found = blocks.ignoredValues > 0 ? BlockAnalysis::Found::IgnoringLongLived
                                            : BlockAnalysis::Found::Repeated;
  else
    splitEvenly(graph, line, blocks);
  adoptAuxiliaries(graph, line, blocks);
  return blocks;
}

} // namespace amc
