// Block detection; see Blocks.h. Phases: classify values, lay the activation operations in a line,
// cut it, hash the segments, find repeated runs, number the blocks, hand auxiliary operations to
// the block that alone reads them.
#include "compiler/analysis/Blocks.h"
#include <algorithm>
#include <cmath>
#include <map>

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
    if (alive <= 1 || i + 1 == n) { // 0: what was ignored alone goes on
      segments.emplace_back(begin, i + 1);
      begin = i + 1;
    }
  }
  return segments;
}

// Equal for segments whose operations do the same and are connected alike, whatever their order: an
// operation is known by its signature and by those that made its operands.
uint64_t hashSegment(const StepGraph &graph, const Flow &flow, const Line &line,
                     std::pair<uint32_t, uint32_t> segment) {
  auto inside = [&](uint32_t root) {
    uint32_t at = line.positionOfOp[graph.values[root].producer];
    return at != noIndex && at >= segment.first && at < segment.second;
  };
  // An activation from outside is known by all that reads it here.
  std::map<uint32_t, uint64_t> entering;
  for (uint32_t i = segment.first; i < segment.second; ++i) {
    const GraphOp &op = graph.ops[line.ops[i]];
    for (uint64_t at = 0; at < op.operands.size(); ++at)
      if (uint32_t root = graph.rootOf(op.operands[at]); flow.isActivation(root) && !inside(root))
        entering[root] += mix(mix(3, op.signature), at);
  }
  std::vector<uint64_t> hashes;
  uint64_t sum = segment.second - segment.first;
  for (uint32_t i = segment.first; i < segment.second; ++i) {
    const GraphOp &op = graph.ops[line.ops[i]];
    uint64_t hash = mix(0, op.signature);
    for (uint32_t operand : op.operands) {
      uint32_t root = graph.rootOf(operand);
      const GraphValue &value = graph.values[root];
      if (inside(root)) {
        const std::vector<uint32_t> &results = graph.ops[value.producer].results;
        auto which = std::find(results.begin(), results.end(), root) - results.begin();
        hash = mix(mix(hash, hashes[line.positionOfOp[value.producer] - segment.first]),
                   16 + static_cast<uint64_t>(which));
      } else {
        hash = mix(hash, flow.isActivation(root) ? entering[root] : value.source ? 1 : 3);
      }
    }
    hashes.push_back(hash);
    sum += mix(1, hash); // commutes
  }
  return mix(2, sum);
}

// Blocks side by side: `repeats` times a period that is parted at `parts`.
struct Run {
  uint32_t begin = 0, period = 0, repeats = 0; // in segments
  std::vector<uint32_t> parts; // where blocks of a period begin, from 0; never empty
  uint32_t end() const { return begin + period * repeats; }
};

// Repeated runs in a list of hashed segments. A period has to hold an expensive operation.
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

  uint32_t opsIn(uint32_t begin, uint32_t end) const { return opsBefore[end] - opsBefore[begin]; }

  std::vector<Run> find() const {
    const uint32_t n = static_cast<uint32_t>(hashes.size());
    std::vector<Run> runs = cover(0, n, 0);
    uint32_t largest = 0, perBlock = 0;
    for (const Run &run : runs)
      if (opsIn(run.begin, run.end()) > largest) {
        largest = opsIn(run.begin, run.end());
        perBlock = largest / run.repeats;
      }
    if (runs.empty())
      return runs;
    // Runs of another kind have to be of a like size: at least half the operations of a block.
    const uint32_t minOps = (perBlock + 1) / 2;
    runs = cover(0, n, minOps);
    for (Run &run : runs)
      run.parts = partPeriod(run.begin, run.begin + run.period, minOps);
    return addSingles(runs, minOps);
  }

private:
  bool heavy(uint32_t begin, uint32_t end) const { return heavyBefore[end] > heavyBefore[begin]; }

  // The disjoint runs that cover most operations of [from, to); of equal covers the smallest
  // periods and the latest ends, so that what fills no period is left in front.
  std::vector<Run> cover(uint32_t from, uint32_t to, uint32_t minOps) const {
    const uint32_t n = to - from, most = std::min(maxPeriod, n / 2);
    struct Ending { // a run that ends here
      uint32_t ops = 0, repeats = 0;
    };
    std::vector<std::vector<Ending>> ring(most + 1); // by period and end modulo period
    std::vector<uint32_t> matched(most + 1,
                                  0); // segments up to here that equal those a period before
    for (uint32_t period = 1; period <= most; ++period)
      ring[period].resize(period);
    std::vector<uint32_t> best(n + 1, 0);
    std::vector<std::pair<uint32_t, uint32_t>> chosen(n + 1, {0, 0}); // period, repeats
    for (uint32_t end = 1; end <= n; ++end) {
      best[end] = best[end - 1];
      for (uint32_t period = 1; period <= most && period < end; ++period) {
        const uint32_t last = from + end - 1;
        matched[period] = hashes[last] == hashes[last - period] ? matched[period] + 1 : 0;
        Ending &ending = ring[period][end % period];
        const uint32_t ops = opsIn(from + end - period, from + end);
        if (matched[period] < period || ops < minOps || !heavy(from + end - period, from + end)) {
          ending = {};
          continue;
        }
        Ending fresh{best[end - 2 * period] + 2 * ops, 2};
        ending = ending.repeats > 0 && ending.ops + ops >= fresh.ops
                     ? Ending{ending.ops + ops, ending.repeats + 1}
                     : fresh;
        bool firstHere = chosen[end].first == 0;
        if (ending.ops > best[end] || (firstHere && ending.ops == best[end])) {
          best[end] = ending.ops;
          chosen[end] = {period, ending.repeats};
        }
      }
    }
    std::vector<Run> runs;
    for (uint32_t end = n; end > 0;) {
      auto [period, repeats] = chosen[end];
      if (period == 0) {
        --end;
        continue;
      }
      runs.push_back({from + end - period * repeats, period, repeats, {0}});
      end -= period * repeats;
    }
    std::reverse(runs.begin(), runs.end());
    return runs;
  }

  // A period of several layers (one of another kind among each few): where they begin. Layers
  // repeat inside the period, or begin alike with something expensive. Two expensive segments make
  // a layer, so that no layer is parted between attention and MLP.
  std::vector<uint32_t> partPeriod(uint32_t begin, uint32_t end, uint32_t minOps) const {
    const uint32_t least = (minOps + 7) / 8; // periods have a few layers
    std::vector<uint32_t> starts{begin};
    for (const Run &run : cover(begin, end, least))
      for (uint32_t at = run.begin; at <= run.end(); at += run.period)
        starts.push_back(at);
    if (starts.size() == 1 && heavy(begin, begin + 1))
      for (uint32_t at = begin + 1; at < end; ++at)
        if (hashes[at] == hashes[begin])
          starts.push_back(at);
    // Pieces that are no layers join the one before, the first the one behind.
    std::vector<uint32_t> parts{0};
    for (uint32_t at : starts)
      if (at > begin + parts.back() && at < end && isPart(begin + parts.back(), at, least) &&
          isPart(at, end, least))
        parts.push_back(at - begin);
    return parts;
  }
  bool isPart(uint32_t begin, uint32_t end, uint32_t minOps) const {
    uint32_t expensive = 0;
    for (uint32_t at = begin; at < end; ++at)
      expensive += heavy(at, at + 1);
    return expensive >= 2 && opsIn(begin, end) >= minOps;
  }
  bool isLayer(uint32_t begin, uint32_t end, uint32_t minOps) const {
    return heavy(begin, end) && opsIn(begin, end) >= minOps;
  }

  // A layer that nobody repeats beside those that are repeated (one dense layer before mixtures of
  // experts, a last layer without what the next one needs): it begins as they do.
  std::vector<Run> addSingles(const std::vector<Run> &runs, uint32_t minOps) const {
    std::vector<Run> all;
    auto fill = [&](uint32_t from, uint32_t to, uint64_t start) {
      std::vector<uint32_t> starts;
      for (uint32_t at = from; at < to; ++at)
        if (hashes[at] == start)
          starts.push_back(at);
      starts.push_back(to);
      for (size_t i = 0; i + 1 < starts.size(); ++i)
        if (isLayer(starts[i], starts[i + 1], minOps))
          all.push_back({starts[i], starts[i + 1] - starts[i], 1, {0}});
    };
    for (size_t i = 0; i < runs.size(); ++i) {
      fill(i == 0 ? 0 : runs[i - 1].end(), runs[i].begin, hashes[runs[i].begin]);
      all.push_back(runs[i]);
    }
    // Behind the last run a layer also has to end as they do, or the head would be one.
    const Run &last = runs.back();
    uint32_t to = static_cast<uint32_t>(hashes.size());
    while (to > last.end() && hashes[to - 1] != hashes[last.end() - 1])
      --to;
    fill(last.end(), to, hashes[last.begin]);
    return all;
  }

  std::vector<uint64_t> hashes;
  std::vector<uint32_t> opsBefore, heavyBefore; // prefix sums over segments
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
  RunFinder finder(graph, line, result.segments, std::move(hashes));
  result.runs = finder.find();
  for (const Run &run : result.runs)
    result.ops += finder.opsIn(run.begin, run.end());
  return result;
}

// Numbers the blocks of the runs. A run grows first by what is the same as its period although cuts
// fall differently there: the first layer of a decoder, while the encoder's result is still new.
void layDown(const StepGraph &graph, const Flow &flow, const Line &line, const Attempt &attempt,
             BlockAnalysis &blocks) {
  struct Place { // in operations of the line
    uint32_t begin, period, repeats;
    std::vector<uint32_t> parts;
    uint32_t end() const { return begin + period * repeats; }
  };
  std::vector<Place> repeated, singles;
  for (const Run &run : attempt.runs) {
    auto position = [&](uint32_t segment) {
      return segment < attempt.segments.size() ? attempt.segments[segment].first
                                               : static_cast<uint32_t>(line.ops.size());
    };
    Place place{position(run.begin),
                position(run.begin + run.period) - position(run.begin),
                run.repeats,
                {}};
    for (uint32_t part : run.parts)
      place.parts.push_back(position(run.begin + part) - place.begin);
    (run.repeats > 1 ? repeated : singles).push_back(std::move(place));
  }
  for (size_t i = 0; i < repeated.size(); ++i) {
    Place &place = repeated[i];
    const uint32_t from = i == 0 ? 0 : repeated[i - 1].end();
    const uint32_t to =
        i + 1 < repeated.size() ? repeated[i + 1].begin : static_cast<uint32_t>(line.ops.size());
    auto hash = [&](uint32_t begin) {
      return hashSegment(graph, flow, line, {begin, begin + place.period});
    };
    const uint64_t own = hash(place.begin);
    while (place.begin - from >= place.period && hash(place.begin - place.period) == own) {
      place.begin -= place.period;
      ++place.repeats;
    }
    while (to - place.end() >= place.period && hash(place.end()) == own)
      ++place.repeats;
  }
  for (Place &single : singles)
    if (std::none_of(repeated.begin(), repeated.end(), [&](const Place &place) {
          return single.begin < place.end() && place.begin < single.end();
        }))
      repeated.push_back(std::move(single));
  std::sort(repeated.begin(), repeated.end(),
            [](const Place &a, const Place &b) { return a.begin < b.begin; });
  // Layers that only looked different: they are cut elsewhere.
  std::vector<Place> places;
  for (Place &place : repeated) {
    auto hash = [&](uint32_t begin) {
      return hashSegment(graph, flow, line, {begin, begin + place.period});
    };
    if (!places.empty() && places.back().end() == place.begin &&
        places.back().period == place.period && places.back().parts == place.parts &&
        hash(places.back().begin) == hash(place.begin))
      places.back().repeats += place.repeats;
    else
      places.push_back(std::move(place));
  }
  for (const Place &place : places) {
    const uint32_t first = blocks.count, kinds = static_cast<uint32_t>(place.parts.size());
    for (uint32_t at = place.begin; at < place.end(); ++at) {
      const uint32_t inPeriod = (at - place.begin) % place.period;
      const uint32_t part =
          static_cast<uint32_t>(std::upper_bound(place.parts.begin(), place.parts.end(), inPeriod) -
                                place.parts.begin() - 1);
      blocks.blockOfOp[line.ops[at]] = first + (at - place.begin) / place.period * kinds + part;
    }
    blocks.count += place.repeats * kinds;
    blocks.runs.push_back({first, place.repeats * kinds, place.period / kinds, kinds});
    blocks.coveredOps += place.end() - place.begin;
  }
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
    blocks.runs.push_back({blocks.count, 1, best + 1 - begin, 1});
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

std::vector<bool> findActivations(const StepGraph &graph) {
  Flow flow = classify(graph);
  std::vector<bool> activations(graph.values.size());
  for (uint32_t value = 0; value < graph.values.size(); ++value)
    activations[value] = flow.isActivation(value);
  return activations;
}

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
  // Three quarters of the operations in blocks is enough: the rest is embedding, head and loss.
  auto enough = [&](const Attempt &a) { return 4 * a.ops >= 3 * line.ops.size(); };
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
      if (10 * next.ops > 11 * best.ops) { // what is ignored is always saved: for a tenth more
        best = std::move(next);
        blocks.ignoredValues = count;
      }
    }
  }
  layDown(graph, flow, line, best, blocks);
  if (blocks.count > 0)
    blocks.found = blocks.ignoredValues > 0 ? BlockAnalysis::Found::IgnoringLongLived
                                            : BlockAnalysis::Found::Repeated;
  else
    splitEvenly(graph, line, blocks);
  adoptAuxiliaries(graph, line, blocks);
  return blocks;
}

} // namespace amc
