// The planner; see BudgetPlanner.h.
//
// The sweep is exact: costs are whole quanta (CostModel.h), so a table with one entry for each cost
// holds the fewest bytes kept at that cost. A larger model budget admits every label of a smaller
// one, so its cheapest is never dearer; the budgets of the grid are tried from above and the first
// whose arena fits is taken, so that what a request gets is no dearer than what a smaller one got.
#include "compiler/analysis/BudgetPlanner.h"
#include "compiler/analysis/ListSchedule.h"
#include "compiler/analysis/LowerBound.h"
#include "llvm/Support/MathExtras.h"
#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

namespace amc {

double BudgetPlan::gapOfStep() const {
  return stepCost == 0
             ? 0
             : static_cast<double>(result.cost - costBound) / static_cast<double>(stepCost);
}

double BudgetPlan::gap() const {
  return result.cost == 0
             ? 0
             : static_cast<double>(result.cost - costBound) / static_cast<double>(result.cost);
}

namespace {

// Where nothing repeats, segments are arbitrary, and what crosses them has to be kept: a small
// graph is better looked at as a whole.
BlockAnalysis asOneIfSmall(const StepGraph &graph, const BlockAnalysis &blocks) {
  constexpr uint32_t small = 60; // forward operations
  if (blocks.found != BlockAnalysis::Found::Segments || blocks.activationOps > small)
    return blocks;
  BlockAnalysis one;
  one.blockOfOp.assign(graph.ops.size(), noIndex);
  return one;
}

// What buffers take in an arena: bounds may count that.
void roundBytes(StepGraph &graph, uint64_t alignment) {
  auto round = [&](uint64_t &bytes) { bytes = (bytes + alignment - 1) / alignment * alignment; };
  for (GraphValue &value : graph.values)
    round(value.bytes);
  for (GraphOp &op : graph.ops)
    round(op.workspaceBytes);
}

} // namespace

class BudgetPlanner::Impl {
public:
  // Updates stand where they can run: gradients that the model takes to live to the end would hide
  // what recomputation saves. Forward operations, which alone are in blocks, keep their numbers.
  Impl(const StepGraph &step, const BlockAnalysis &blocks, PlannerSettings given)
      : ready(reorderStep(step, updatesWhenReady(step))), graph(ready.graph),
        settings(std::move(given)), costs(graph, settings.device),
        segments(findSegments(graph, asOneIfSmall(graph, blocks))),
        tail(tailBytes(graph, segments)), problems(makeSegmentProblems(graph, segments)) {
    std::map<std::vector<uint64_t>, uint32_t> kinds;
    for (const SegmentProblem &problem : problems) {
      auto [at, fresh] = kinds.try_emplace(problem.key, static_cast<uint32_t>(options.size()));
      if (fresh)
        options.push_back(findOptions(problem, costs));
      kindOf.push_back(at->second);
    }
    keepAll = peakOf(std::vector<uint32_t>(problems.size(), 0));
    smallest = smallestModelBudget();
  }

  BudgetPlan plan(uint64_t budget) {
    BudgetPlan result;
    result.stepCost = costs.stepCost;
    CarriedOut *found = cheapestWithin(budget);
    result.feasible = found != nullptr;
    if (found)
      place(*found, searchLimits(*found));
    else
      found = &smallestArena(); // as it is: asked for it, the planner has to find it again
    result.result = *found;
    for (uint32_t &origin : result.result.applied.originOf)
      origin = ready.originOf[origin];
    if (result.feasible) {
      result.costBound = costBound(*found, budget);
    } else {
      StepGraph rounded = graph;
      roundBytes(rounded, settings.alignment);
      result.peakBound = peakBound(rounded);
    }
    result.alive = aliveAtPeak(*found);
    return result;
  }

  ParetoCurve curve(unsigned points) {
    ParetoCurve result;
    points = std::max(points, 2u);
    for (unsigned i = 0; i < points; ++i) {
      CarriedOut &plan = carryOut(static_cast<uint32_t>(uint64_t(gridPoints) * i / (points - 1)));
      CurvePoint point{plan.arenaBytes, plan.cost, plan.flops};
      // Rising cost, falling bytes: what saves nothing is left out.
      if (result.empty() || point.arenaBytes < result.back().arenaBytes)
        result.push_back(point);
    }
    std::reverse(result.begin(), result.end());
    return result;
  }

private:
  static constexpr uint32_t gridPoints = 2048; // model budgets k = 0 (keep everything) … 2048

  const std::vector<BlockOption> &optionsOf(uint32_t segment) const {
    return options[kindOf[segment]].options;
  }

  uint64_t peakOf(const std::vector<uint32_t> &choice) const {
    uint64_t kept = 0, peak = tail;
    for (uint32_t s = 0; s < problems.size(); ++s) {
      const BlockOption &option = optionsOf(s)[choice[s]];
      peak = std::max({peak, kept + option.forward + problems[s].forwardBase,
                       kept + option.backward + problems[s].backwardBase});
      kept += option.saved;
    }
    return peak;
  }

  bool fits(uint32_t segment, const BlockOption &option, uint64_t kept, uint64_t budget) const {
    return kept + option.forward + problems[segment].forwardBase <= budget &&
           kept + option.backward + problems[segment].backwardBase <= budget;
  }

  // Whether any choice fits: keeping least is best for all that follows.
  bool feasible(uint64_t budget) const {
    if (tail > budget)
      return false;
    uint64_t kept = 0;
    for (uint32_t s = 0; s < problems.size(); ++s) {
      uint64_t least = ~uint64_t(0);
      for (const BlockOption &option : optionsOf(s))
        if (fits(s, option, kept, budget))
          least = std::min(least, option.saved);
      if (least == ~uint64_t(0))
        return false;
      kept += least;
    }
    return true;
  }

  uint64_t smallestModelBudget() const {
    uint64_t low = 0, high = keepAll; // high fits
    while (low < high) {
      uint64_t middle = low + (high - low) / 2;
      if (feasible(middle))
        high = middle;
      else
        low = middle + 1;
    }
    return high;
  }

  uint64_t gridBudget(uint32_t k) const {
    // 128-bit arithmetic is not needed: differences are below 2^53.
    return keepAll -
           static_cast<uint64_t>(static_cast<double>(keepAll - smallest) * k / gridPoints);
  }

  // Where the search starts for a budget. The model counts regions in the order given, so
  // scheduling lowers its peaks: by as much as for the plan that keeps everything, and a sixteenth
  // of the range. (A constant of the step: were it the plan's, a larger budget might start below a
  // smaller one.)
  uint32_t firstOnGrid(uint64_t budget) {
    const uint64_t scheduled = carryOut(0).maxLiveBytes;
    const uint64_t slack = (keepAll - std::min(keepAll, scheduled)) + (keepAll - smallest) / 16;
    uint64_t start = budget + slack;
    uint32_t k = 0;
    while (k < gridPoints && gridBudget(k) > start)
      ++k;
    return k;
  }

  // The cheapest choice within a model budget, which is feasible.
  std::vector<uint32_t> choose(uint64_t budget) const {
    constexpr uint64_t none = ~uint64_t(0);
    std::vector<uint64_t> kept{0}; // by cost in quanta: the fewest bytes
    std::vector<std::vector<uint16_t>> taken;
    for (uint32_t s = 0; s < problems.size(); ++s) {
      uint64_t most = 0;
      for (const BlockOption &option : optionsOf(s))
        most = std::max(most, option.cost / costs.quantum);
      std::vector<uint64_t> next(kept.size() + most, none);
      std::vector<uint16_t> by(next.size(), 0);
      for (uint16_t o = 0; o < optionsOf(s).size(); ++o) {
        const BlockOption &option = optionsOf(s)[o];
        uint64_t cost = option.cost / costs.quantum;
        uint64_t used = std::max(option.forward + problems[s].forwardBase,
                                 option.backward + problems[s].backwardBase);
        if (used > budget)
          continue;
        const uint64_t room = budget - used;
        for (size_t c = 0; c < kept.size(); ++c)
          if (kept[c] <= room && kept[c] + option.saved < next[c + cost]) {
            next[c + cost] = kept[c] + option.saved;
            by[c + cost] = o;
          }
      }
      // What costs more and keeps no less is no use.
      uint64_t least = none;
      size_t end = 0;
      for (size_t c = 0; c < next.size(); ++c)
        if (next[c] < least) {
          least = next[c];
          end = c + 1;
        } else {
          next[c] = none;
        }
      next.resize(end);
      kept = std::move(next);
      taken.push_back(std::move(by));
    }
    size_t cost = 0;
    while (kept[cost] == none)
      ++cost;
    std::vector<uint32_t> choice(problems.size());
    for (uint32_t s = static_cast<uint32_t>(problems.size()); s-- > 0;) {
      choice[s] = taken[s][cost];
      cost -= optionsOf(s)[choice[s]].cost / costs.quantum;
    }
    return choice;
  }

  // What costs less than a quantum is free to the sweep: of equal sums take the least real cost.
  std::vector<uint32_t> dropNoMoreThanNeeded(std::vector<uint32_t> choice, uint64_t budget) const {
    for (uint32_t s = 0; s < problems.size(); ++s) {
      const std::vector<BlockOption> &list = optionsOf(s);
      for (uint32_t o = 0; o < list.size(); ++o) {
        const BlockOption &now = list[choice[s]];
        if (list[o].cost != now.cost || list[o].exact >= now.exact)
          continue;
        uint32_t before = std::exchange(choice[s], o);
        if (peakOf(choice) > budget)
          choice[s] = before;
      }
    }
    return choice;
  }

  CarriedOut &carryOut(uint32_t k) {
    auto [at, fresh] = choiceAt.try_emplace(k);
    if (fresh && k == 0)
      at->second.assign(problems.size(), 0);
    else if (fresh)
      at->second = dropNoMoreThanNeeded(choose(gridBudget(k)), gridBudget(k));
    auto [plan, isNew] = carried.try_emplace(at->second);
    if (isNew)
      plan->second = carryOut(at->second);
    return plan->second;
  }

  CarriedOut carryOut(const std::vector<uint32_t> &choice) const {
    // The order of each region as its option has it, in the places that the region has.
    std::vector<uint32_t> order(graph.ops.size());
    std::iota(order.begin(), order.end(), 0);
    std::vector<std::vector<uint32_t>> places(segments.count + 1);
    for (uint32_t i = 0; i < graph.ops.size(); ++i)
      if (segments.regionOfOp[i] != noIndex)
        places[segments.regionOfOp[i]].push_back(i);
    for (uint32_t s = 0; s < problems.size(); ++s) {
      uint32_t next = 0;
      for (uint32_t i : optionsOf(s)[choice[s]].order)
        if (uint32_t op = problems[s].opOf[i];
            op != noIndex && graph.ops[op].phase != OpPhase::Forward)
          order[places[s][next++]] = op;
    }
    AppliedStep base = reorderStep(graph, order);
    std::vector<uint32_t> placeOf(graph.ops.size());
    for (uint32_t i = 0; i < order.size(); ++i)
      placeOf[order[i]] = i;

    CarriedOut result;
    RematDecision decision;
    decision.keep.assign(graph.ops.size(), Keep::Saved);
    decision.part.assign(graph.ops.size(), noIndex);
    for (uint32_t op : order)
      decision.region.push_back(segments.regionOfOp[op]);
    for (uint32_t s = 0; s < problems.size(); ++s) {
      const BlockOption &option = optionsOf(s)[choice[s]];
      uint32_t part = 0;
      for (uint32_t at = 0; at < problems[s].opOf.size(); ++at) {
        uint32_t i = option.order.empty() ? at : option.order[at], op = problems[s].opOf[i];
        part += std::find(option.split.begin(), option.split.end(), i) != option.split.end();
        if (op == noIndex)
          continue;
        if (graph.ops[op].phase == OpPhase::Forward)
          decision.keep[placeOf[op]] = option.keep[i];
        else
          decision.part[placeOf[op]] = part;
      }
    }
    std::optional<AppliedStep> applied = applyDecision(base.graph, decision);
    if (!applied) { // an update between the readers of what would run again: keep everything
      std::fill(decision.keep.begin(), decision.keep.end(), Keep::Saved);
      applied = applyDecision(base.graph, decision);
    }
    for (uint32_t &origin : applied->originOf)
      origin = base.originOf[origin];
    result.applied = std::move(*applied);
    const StepGraph &plan = result.applied.graph;
    for (const GraphOp &op : plan.ops)
      if (op.phase == OpPhase::Recompute) {
        result.cost = llvm::SaturatingAdd(result.cost, costs.of(op));
        result.flops += op.flops;
      }
    result.order = scheduleStep(plan).order;
    Liveness live = computeLiveness(plan, result.order);
    result.maxLiveBytes = live.maxLiveBytes;
    PackingLimits quick = searchLimits(result);
    quick.exactSteps = 0;
    place(result, quick);
    return result;
  }

  // Longer searches only ever find lower arenas.
  void place(CarriedOut &plan, const PackingLimits &limits) const {
    if (plan.arenaBytes != 0 && plan.arenaBytes == plan.arenaBound)
      return;
    Liveness live = computeLiveness(plan.applied.graph, plan.order);
    Placement placement = pack(packingItems(live), settings.alignment, limits);
    plan.arenaBytes =
        plan.arenaBytes == 0 ? placement.height : std::min(plan.arenaBytes, placement.height);
    plan.arenaBound = std::max(plan.arenaBound, placement.bound);
  }

  // Whether the arena can be made to fit: searched for long only where that may be, and once. The
  // search is not told the budget: what a plan needs must not depend on who asks, or a larger
  // budget might miss a packing that a smaller one has found.
  bool fits(CarriedOut &plan, uint64_t budget) {
    if (plan.arenaBytes > budget && plan.arenaBound <= budget && searched.insert(&plan).second) {
      PackingLimits limits = settings.packing;
      // Half a second, for each restart of the search looks at all pairs of buffers first. Keeping
      // everything, one plan of many, gets what AssignOffsets would give it.
      if (const uint64_t ops = plan.applied.graph.ops.size(); plan.applied.copies > 0) {
        limits.exactSteps = std::min<uint64_t>(
            {limits.exactSteps, 10'000'000, 1'000'000'000'000 / (ops * ops + 1)});
        limits.work = std::min<uint64_t>(limits.work, 100'000'000);
      }
      place(plan, limits);
    }
    return plan.arenaBytes <= budget;
  }

  // A short search for each of many plans.
  PackingLimits searchLimits(const CarriedOut &plan) const {
    PackingLimits limits = settings.packing;
    limits.work = std::min<uint64_t>(limits.work, 10'000'000);
    limits.exactSteps =
        std::min<uint64_t>(limits.exactSteps, 400'000'000 / (plan.applied.graph.ops.size() + 1));
    return limits;
  }

  // Nothing if no plan of the grid fits.
  CarriedOut *cheapestWithin(uint64_t budget) {
    // Keeping everything costs nothing, so it is looked at first. The model knows neither the
    // alignment nor what scheduling gains: the search starts a little above the budget.
    CarriedOut *found = &carryOut(0);
    for (uint32_t k = firstOnGrid(budget); found && !fits(*found, budget); ++k)
      found = k <= gridPoints ? &carryOut(k) : nullptr;
    return found;
  }

  // What is named as the least that will do has to do, and a byte less must not.
  CarriedOut &smallestArena() {
    CarriedOut *best = &carryOut(gridPoints);
    while (best->arenaBytes > 0) {
      CarriedOut *lower = cheapestWithin(best->arenaBytes - 1);
      if (!lower)
        break;
      best = lower;
    }
    return *best;
  }

  // The bound for the order that the plan's gradient operations have.
  uint64_t costBound(const CarriedOut &plan, uint64_t budget) const {
    std::vector<uint32_t> order;
    for (uint32_t op : plan.order)
      if (plan.applied.graph.ops[op].phase != OpPhase::Recompute)
        order.push_back(plan.applied.originOf[op]);
    AppliedStep given = reorderStep(graph, order);
    roundBytes(given.graph, settings.alignment);
    std::vector<uint32_t> place(graph.ops.size());
    for (uint32_t i = 0; i < order.size(); ++i)
      place[order[i]] = i;
    std::vector<uint32_t> instants = bindingInstants(plan);
    for (uint32_t &op : instants)
      op = place[op];
    std::sort(instants.begin(), instants.end());
    return LowerBound(given.graph, costs).cost(budget, instants, plan.cost);
  }

  // The operations at which most is alive: of each segment's forward and backward the fullest, of
  // those the fullest; in small graphs more.
  std::vector<uint32_t> bindingInstants(const CarriedOut &plan) const {
    const size_t few = 6, many = graph.values.size() <= 400 ? 16 : few;
    Liveness live = computeLiveness(plan.applied.graph, plan.order);
    std::vector<int64_t> change(live.instructions.size() + 1, 0);
    for (const LiveBuffer &buffer : live.buffers)
      if (buffer.first < buffer.last) {
        change[buffer.first] += static_cast<int64_t>(buffer.bytes);
        change[buffer.last] -= static_cast<int64_t>(buffer.bytes);
      }
    struct Instant {
      int64_t bytes;
      uint32_t op, place;
    };
    std::vector<Instant> all;
    int64_t sum = 0;
    for (size_t i = 0; i < live.instructions.size(); ++i) {
      sum += change[i];
      uint32_t op = plan.applied.originOf[live.instructions[i]];
      if (plan.applied.graph.ops[live.instructions[i]].phase == OpPhase::Forward)
        all.push_back({sum, op, segments.segmentOfOp[op]});
      else if (plan.applied.graph.ops[live.instructions[i]].phase != OpPhase::Recompute &&
               segments.regionOfOp[op] < segments.count)
        all.push_back({sum, op, segments.count + segments.regionOfOp[op]});
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const Instant &a, const Instant &b) { return a.bytes > b.bytes; });
    std::vector<uint32_t> instants;
    std::vector<bool> seen(2 * segments.count, false);
    for (const Instant &instant : all)
      if (instants.size() < few && !seen[instant.place]) {
        seen[instant.place] = true;
        instants.push_back(instant.op);
      }
    for (const Instant &instant : all)
      if (instants.size() < many &&
          std::find(instants.begin(), instants.end(), instant.op) == instants.end())
        instants.push_back(instant.op);
    return instants;
  }

  std::vector<uint32_t> aliveAtPeak(const CarriedOut &plan) const {
    Liveness live = computeLiveness(plan.applied.graph, plan.order);
    std::vector<uint32_t> values;
    for (const LiveBuffer &buffer : live.buffers)
      if (buffer.value != noIndex && (buffer.persistent || (buffer.first <= live.peakInstruction &&
                                                            live.peakInstruction < buffer.last)))
        values.push_back(buffer.value);
    std::stable_sort(values.begin(), values.end(), [&](uint32_t a, uint32_t b) {
      return plan.applied.graph.values[a].bytes > plan.applied.graph.values[b].bytes;
    });
    return values;
  }

  const AppliedStep ready; // the step given, updates when they are ready
  const StepGraph &graph;  // of `ready`
  PlannerSettings settings;
  CostModel costs;
  Segmentation segments;
  uint64_t tail;
  std::vector<SegmentProblem> problems;
  std::vector<BlockOptions> options;  // by kind
  std::vector<uint32_t> kindOf;       // of every segment
  uint64_t keepAll = 0, smallest = 0; // model peaks
  std::map<uint32_t, std::vector<uint32_t>> choiceAt;
  std::map<std::vector<uint32_t>, CarriedOut> carried;
  std::set<const CarriedOut *> searched; // for long, that is
};

BudgetPlanner::BudgetPlanner(const StepGraph &graph, const BlockAnalysis &blocks,
                             PlannerSettings settings)
    : impl(std::make_unique<Impl>(graph, blocks, std::move(settings))) {}
BudgetPlanner::~BudgetPlanner() = default;
BudgetPlan BudgetPlanner::plan(uint64_t budget) { return impl->plan(budget); }
ParetoCurve BudgetPlanner::curve(unsigned points) { return impl->curve(points); }

ParetoCurve planCurve(const StepGraph &graph, const BlockAnalysis &blocks,
                      const PlannerSettings &settings, unsigned points) {
  return BudgetPlanner(graph, blocks, settings).curve(points);
}

} // namespace amc
