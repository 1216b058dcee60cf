// Options of a segment; see BlockOptions.h.
#include "compiler/analysis/BlockOptions.h"
#include "compiler/analysis/ListSchedule.h"
#include "compiler/analysis/MaxFlow.h"
#include "llvm/Support/MathExtras.h"
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

// What keeps everything first, then by bytes kept, descending.
void sortOptions(std::vector<BlockOption> &options) {
  std::stable_sort(options.begin(), options.end(), [](const BlockOption &a, const BlockOption &b) {
    if (a.exact == 0 || b.exact == 0)
      return a.exact < b.exact;
    return a.saved != b.saved ? a.saved > b.saved : a.cost < b.cost;
  });
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
        constexpr auto most = static_cast<double>(MaxFlow::unlimited);
        auto scaled = [&](double x) { return static_cast<uint64_t>(std::llround(std::min(x, most))); };
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
        costs(unitCosts(problem.graph, costModel)), readers(readersOfRoots(problem.graph)),
        places(findPlaces()) {}

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
    neighbours(/*late=*/false, maxTried);
    // On top of that, so that what is found without is found with it.
    neighbours(/*late=*/true, tried + maxTried / 2);
    BlockOptions result;
    result.tried = tried;
    result.options = std::move(archive);
    sortOptions(result.options);
    return result;
  }

private:
  using Key = std::pair<std::vector<Keep>, std::vector<uint32_t>>;

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

  // Changes one thing at a time, starting from every option that stands, in order of discovery:
  // whether one operation more is kept, dropped, or run again in each part, and where parts begin;
  // or (`late`) keeps one through the first part alone.
  void neighbours(bool late, unsigned limit) {
    std::set<Key> expanded;
    while (tried < limit) {
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
      if (late)
        keepLate(from, limit);
      else
        changeOne(from, limit);
    }
  }

  void changeOne(const BlockOption &from, unsigned limit) {
    for (uint32_t i = 0; i < from.keep.size() && tried < limit; ++i) {
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
    if (from.split.empty() && from.exact > 0)
      for (uint32_t place : places)
        tryOption(inEveryPart(from.keep), {place});
  }

  // Only where something of the operation is read on both sides of the place.
  void keepLate(const BlockOption &from, unsigned limit) {
    for (uint32_t place : from.split.empty() ? places : from.split)
      for (uint32_t i = 0; i < from.keep.size() && tried < limit; ++i) {
        if (!problem.mayDrop[i] || from.keep[i] == Keep::Late || !readOnBothSides(i, place))
          continue;
        std::vector<Keep> keep = from.split.empty() ? inEveryPart(from.keep) : from.keep;
        keep[i] = Keep::Late;
        tryOption(std::move(keep), {place});
      }
  }

  // Where a part may begin: operations that read what may be dropped.
  std::vector<uint32_t> findPlaces() const {
    std::vector<uint32_t> result;
    for (uint32_t i = 0; i < problem.graph.ops.size(); ++i) {
      const GraphOp &op = problem.graph.ops[i];
      if (op.phase != OpPhase::Forward && op.kind == OpKind::Compute &&
          std::any_of(op.operands.begin(), op.operands.end(), [&](uint32_t operand) {
            return problem.mayDrop[problem.graph.values[problem.graph.rootOf(operand)].producer];
          }))
        result.push_back(i);
    }
    return result;
  }

  bool readOnBothSides(uint32_t op, uint32_t place) const {
    bool before = false, after = false;
    for (uint32_t value : problem.graph.ops[op].results)
      for (uint32_t reader : readers[value]) {
        before = before || (reader < place && problem.graph.ops[reader].phase != OpPhase::Forward);
        after = after || reader >= place;
      }
    return before && after;
  }

  static std::vector<Keep> inEveryPart(std::vector<Keep> keep) {
    for (Keep &k : keep)
      k = k == Keep::Dropped ? Keep::Twice : k;
    return keep;
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
    archive.erase(
        std::remove_if(archive.begin(), archive.end(),
                       [&](const BlockOption &other) { return dominates(*option, other); }),
        archive.end());
    archive.push_back(*option);
    return option;
  }

  const SegmentProblem &problem;
  const CostModel &costModel;
  unsigned maxTried, tried = 0;
  std::vector<uint64_t> costs;
  IndexLists readers;
  std::vector<uint32_t> places;
  std::vector<BlockOption> archive;
  std::set<Key> seen;
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
  for (const GraphOp &op : graph.ops)
    if (op.phase == OpPhase::Recompute) {
      option.cost = llvm::SaturatingAdd(option.cost, costModel.of(op));
      option.exact = llvm::SaturatingAdd(option.exact, recomputeCost(op, costModel.device));
    }
  option.keep = std::move(keep);
  option.split = std::move(split);
  return option;
}

namespace {

// The order of the problem's operations in a schedule of what a decision makes of it.
std::vector<uint32_t> scheduledOrder(const SegmentProblem &problem, const std::vector<Keep> &keep) {
  std::vector<uint32_t> order;
  std::optional<AppliedStep> applied = applyDecision(problem.graph, toDecision(problem, keep, {}));
  if (!applied)
    return order;
  const std::vector<uint32_t> schedule = scheduleStep(applied->graph).order;
  // Forward stays as it is, and so do the ends of the sections, which stand for what is around.
  const uint32_t n = static_cast<uint32_t>(problem.graph.ops.size());
  uint32_t gradients = 0;
  while (problem.graph.ops[gradients].phase == OpPhase::Forward)
    order.push_back(gradients++);
  order.push_back(gradients);
  for (uint32_t at : schedule) {
    uint32_t op = applied->originOf[at];
    if (applied->graph.ops[at].phase != OpPhase::Recompute && op > gradients && op + 1 < n)
      order.push_back(op);
  }
  order.push_back(n - 1);
  return order;
}

SegmentProblem reorderProblem(const SegmentProblem &problem, const std::vector<uint32_t> &order) {
  SegmentProblem result;
  result.graph = reorderStep(problem.graph, order).graph;
  for (uint32_t op : order) {
    result.opOf.push_back(problem.opOf[op]);
    result.mayDrop.push_back(problem.mayDrop[op]);
  }
  return result;
}

} // namespace

BlockOptions findOptions(const SegmentProblem &problem, const CostModel &costModel,
                         unsigned maxTried) {
  BlockOptions result = OptionSearch(problem, costModel, maxTried).run();
  std::vector<Keep> all(problem.graph.ops.size(), Keep::Saved), none = all;
  for (size_t i = 0; i < none.size(); ++i)
    if (problem.mayDrop[i])
      none[i] = Keep::Dropped;
  std::vector<uint32_t> given(problem.graph.ops.size());
  std::iota(given.begin(), given.end(), 0);
  std::set<std::vector<uint32_t>> orders{{}, given};
  for (const std::vector<Keep> &keep : {all, none}) {
    std::vector<uint32_t> order = scheduledOrder(problem, keep);
    if (!orders.insert(order).second)
      continue;
    BlockOptions more = OptionSearch(reorderProblem(problem, order), costModel, maxTried).run();
    result.tried += more.tried;
    for (BlockOption &option : more.options) {
      // In the numbers of the problem as it stands. Forward has the same.
      for (uint32_t &op : option.split)
        op = order[op];
      option.order = order;
      result.options.push_back(std::move(option));
    }
  }
  // What another option beats goes; of equals the earlier stays.
  std::vector<BlockOption> kept;
  for (size_t i = 0; i < result.options.size(); ++i) {
    bool beaten = false;
    for (size_t j = 0; j < result.options.size() && !beaten; ++j)
      beaten = j != i && dominates(result.options[j], result.options[i]) &&
               (j < i || !dominates(result.options[i], result.options[j]));
    if (!beaten)
      kept.push_back(std::move(result.options[i]));
  }
  result.options = std::move(kept);
  sortOptions(result.options);
  return result;
}

} // namespace amc
