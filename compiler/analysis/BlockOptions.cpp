// Options of a segment; see BlockOptions.h.
#include "compiler/analysis/BlockOptions.h"
#include "compiler/analysis/Liveness.h"
#include "compiler/analysis/MaxFlow.h"
#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>
#include <set>

namespace amc {
namespace {

bool dominates(const BlockOption &a, const BlockOption &b) {
  return a.saved <= b.saved && a.forward <= b.forward && a.backward <= b.backward &&
         a.cost <= b.cost && a.exact <= b.exact;
}

std::vector<uint64_t> unitCosts(const StepGraph &graph, const CostModel &costModel) {
  std::vector<uint64_t> costs;
  for (const GraphOp &op : graph.ops)
    costs.push_back(costModel.of(op));
  return costs;
}

RematDecision toDecision(const SegmentProblem &problem, const std::vector<Keep> &keep,
                         const std::vector<uint32_t> &split) {
  RematDecision decision;
  const uint32_t n = static_cast<uint32_t>(problem.graph.ops.size());
  decision.keep = keep;
  decision.region.assign(n, noIndex);
  decision.part.assign(n, noIndex);
  uint32_t part = 0;
  for (uint32_t i = 0; i < n; ++i) {
    if (problem.graph.ops[i].phase == OpPhase::Forward)
      continue;
    part += std::find(split.begin(), split.end(), i) != split.end();
    decision.region[i] = 0;
    decision.part[i] = part;
  }
  return decision;
}

// The least cost of running again plus `price` for every byte kept plus `price * weight` for every
// byte that backward needs, kept or not: a minimum cut.
class PricedCut {
public:
  PricedCut(const SegmentProblem &problem, const std::vector<uint64_t> &costs)
      : problem(problem), costs(costs), readers(readersOfRoots(problem.graph)),
        roots(operandRoots(problem.graph)) {
    const StepGraph &graph = problem.graph;
    direct.assign(graph.values.size(), false);
    for (uint32_t i = 0; i < graph.ops.size(); ++i)
      if (graph.ops[i].phase != OpPhase::Forward)
        for (uint32_t root : roots[i])
          direct[root] = true;
  }

  std::vector<Keep> solve(double price, double weight) const {
    const StepGraph &graph = problem.graph;
    const uint32_t values = static_cast<uint32_t>(graph.values.size()),
                   ops = static_cast<uint32_t>(graph.ops.size());
    MaxFlow flow(values + ops); // values: needed; operations: dropped
    for (uint32_t i = 0; i < ops; ++i) {
      const GraphOp &op = graph.ops[i];
      if (op.phase != OpPhase::Forward || op.kind != OpKind::Compute)
        continue;
      if (problem.mayDrop[i]) {
        flow.costIfTrue(values + i, costs[i]);
        for (uint32_t root : roots[i])
          flow.imply(values + i, root);
      }
      for (uint32_t value : op.results) {
        auto bytes = static_cast<double>(graph.values[value].bytes);
        auto scaled = [](double x) { return static_cast<uint64_t>(std::llround(x)); };
        if (problem.mayDrop[i])
          flow.addArc(value, values + i, scaled(price * bytes));
        else
          flow.costIfTrue(value, scaled(price * bytes));
        if (weight > 0)
          flow.costIfTrue(value, scaled(price * weight * bytes));
        if (direct[value])
          flow.makeTrue(value);
      }
    }
    flow.solve();
    std::vector<Keep> keep(ops, Keep::Saved);
    for (uint32_t i = 0; i < ops; ++i)
      if (problem.mayDrop[i] && flow.isTrue(values + i))
        keep[i] = Keep::Dropped;
    return keep;
  }

private:
  const SegmentProblem &problem;
  const std::vector<uint64_t> &costs;
  IndexLists readers, roots;
  std::vector<bool> direct;
};

class OptionSearch {
public:
  OptionSearch(const SegmentProblem &problem, const CostModel &costModel, unsigned maxTried)
      : problem(problem), costModel(costModel), maxTried(maxTried),
        costs(unitCosts(problem.graph, costModel)) {}

  BlockOptions run() {
    const size_t n = problem.graph.ops.size();
    std::vector<Keep> all(n, Keep::Saved), none(n, Keep::Saved);
    for (size_t i = 0; i < n; ++i)
      if (problem.mayDrop[i])
        none[i] = Keep::Dropped;
    tryOption(all, {});
    tryOption(none, {});
    PricedCut cut(problem, costs);
    for (double weight : {0.0, 0.25, 1.0, 4.0})
      hull(cut, weight);
    neighbours();
    BlockOptions result;
    result.tried = tried;
    std::stable_sort(archive.begin(), archive.end(),
                     [](const BlockOption &a, const BlockOption &b) {
                       return a.exact == 0 || b.exact == 0 ? a.exact < b.exact
                              : a.saved != b.saved            ? a.saved > b.saved
                                                              : a.cost < b.cost;
                     });
    result.options = std::move(archive);
    return result;
  }

private:
  // Every price at which the cut changes, between "a byte costs nothing" and "nothing is dearer".
  void hull(const PricedCut &cut, double weight) {
    struct Point {
      double bytes, cost;
    };
    auto measure = [&](const std::vector<Keep> &keep) -> std::optional<Point> {
      std::optional<BlockOption> option = tryOption(keep, {});
      if (!option)
        return std::nullopt;
      return Point{static_cast<double>(option->saved) +
                       weight * static_cast<double>(std::max(option->backward, option->saved)),
                   static_cast<double>(option->cost)};
    };
    double total = 1;
    for (uint64_t cost : costs)
      total += static_cast<double>(cost);
    std::optional<Point> cheap = measure(cut.solve(1e-9, weight)),
                         small = measure(cut.solve(std::min(total, 1e15), weight));
    if (!cheap || !small)
      return;
    std::vector<std::pair<Point, Point>> todo{{*cheap, *small}};
    for (unsigned rounds = 0; !todo.empty() && rounds < 200; ++rounds) {
      auto [a, b] = todo.back();
      todo.pop_back();
      if (a.bytes <= b.bytes || b.cost <= a.cost)
        continue;
      double price = (b.cost - a.cost) / (a.bytes - b.bytes);
      std::optional<Point> c = measure(cut.solve(price, weight));
      if (!c || c->cost + price * c->bytes >= (a.cost + price * a.bytes) * (1 - 1e-9))
        continue;
      todo.emplace_back(a, *c);
      todo.emplace_back(*c, b);
    }
  }

  // Changes one thing at a time, starting from every option that stands, in order of discovery.
  void neighbours() {
    const uint32_t n = static_cast<uint32_t>(problem.graph.ops.size());
    std::vector<uint32_t> places; // where a part may begin: operations that read forward values
    for (uint32_t i = 0; i < n; ++i) {
      const GraphOp &op = problem.graph.ops[i];
      if (op.phase == OpPhase::Forward || op.kind != OpKind::Compute)
        continue;
      for (uint32_t operand : op.operands) {
        uint32_t producer = problem.graph.values[problem.graph.rootOf(operand)].producer;
        if (problem.mayDrop[producer]) {
          places.push_back(i);
          break;
        }
      }
    }
    while (tried < maxTried) {
      // The unexpanded option that costs least, so that cheap ones are explored first and all are.
      auto next = archive.end();
      for (auto at = archive.begin(); at != archive.end(); ++at)
        if (!expanded.count({at->keep, at->split}) &&
            (next == archive.end() || at->cost < next->cost))
          next = at;
      if (next == archive.end())
        return;
      BlockOption from = *next;
      expanded.insert({from.keep, from.split});
      for (uint32_t i = 0; i < n && tried < maxTried; ++i) {
        if (!problem.mayDrop[i])
          continue;
        for (Keep to : {Keep::Saved, Keep::Dropped, Keep::Twice}) {
          if (to == from.keep[i] || (to == Keep::Twice && from.split.empty()))
            continue;
          std::vector<Keep> keep = from.keep;
          keep[i] = to;
          tryOption(std::move(keep), from.split);
        }
      }
      if (from.split.empty() && from.cost > 0)
        for (uint32_t place : places) {
          std::vector<Keep> keep = from.keep;
          for (Keep &k : keep)
            k = k == Keep::Dropped ? Keep::Twice : k;
          tryOption(std::move(keep), {place});
        }
    }
  }

  std::optional<BlockOption> tryOption(std::vector<Keep> keep, std::vector<uint32_t> split) {
    if (!seen.insert({keep, split}).second)
      return evaluateOption(problem, costModel, std::move(keep), std::move(split));
    ++tried;
    std::optional<BlockOption> option =
        evaluateOption(problem, costModel, std::move(keep), std::move(split));
    if (!option)
      return option;
    for (const BlockOption &other : archive)
      if (dominates(other, *option))
        return option;
    archive.erase(std::remove_if(archive.begin(), archive.end(),
                                 [&](const BlockOption &other) {
                                   return dominates(*option, other);
                                 }),
                  archive.end());
    archive.push_back(*option);
    return option;
  }

  using Key = std::pair<std::vector<Keep>, std::vector<uint32_t>>;
  const SegmentProblem &problem;
  const CostModel &costModel;
  unsigned maxTried, tried = 0;
  std::vector<uint64_t> costs;
  std::vector<BlockOption> archive;
  std::set<Key> seen, expanded;
};

} // namespace

std::optional<BlockOption> evaluateOption(const SegmentProblem &problem, const CostModel &costModel,
                                          std::vector<Keep> keep, std::vector<uint32_t> split) {
  std::optional<AppliedStep> applied =
      applyDecision(problem.graph, toDecision(problem, keep, split));
  if (!applied)
    return std::nullopt;
  const StepGraph &graph = applied->graph;
  std::vector<uint32_t> order(graph.ops.size());
  std::iota(order.begin(), order.end(), 0);
  Liveness live = computeLiveness(graph, order);
  const size_t n = live.instructions.size();
  // The helper operations are at the ends of the sections: the gradients' is the first of backward.
  uint64_t gradients = 0;
  while (gradients < n && graph.ops[live.instructions[gradients]].phase == OpPhase::Forward)
    ++gradients;
  std::vector<int64_t> change(n + 1, 0);
  BlockOption option;
  for (const LiveBuffer &buffer : live.buffers) {
    if (buffer.first >= buffer.last)
      continue;
    change[buffer.first] += static_cast<int64_t>(buffer.bytes);
    change[buffer.last] -= static_cast<int64_t>(buffer.bytes);
    if (buffer.first < gradients && buffer.last > gradients)
      option.saved += buffer.bytes;
  }
  int64_t sum = 0;
  for (size_t i = 0; i < n; ++i) {
    sum += change[i];
    uint64_t &most = i < gradients ? option.forward : option.backward;
    most = std::max(most, static_cast<uint64_t>(sum));
  }
  for (uint32_t i = 0; i < graph.ops.size(); ++i)
    if (graph.ops[i].phase == OpPhase::Recompute)
      option.cost += costModel.of(graph.ops[i]);
  for (const GraphOp &op : graph.ops)
    if (op.phase == OpPhase::Recompute)
      option.exact += opCost(op, costModel.device);
  option.keep = std::move(keep);
  option.split = std::move(split);
  return option;
}

BlockOptions findOptions(const SegmentProblem &problem, const CostModel &costModel,
                         unsigned maxTried) {
  return OptionSearch(problem, costModel, maxTried).run();
}

} // namespace amc
