// The budget planner against enumeration, and what it promises on models.
#include "analysis_models.h"
#include "analysis_random.h"
#include "compiler/analysis/BudgetPlanner.h"
#include "compiler/analysis/Liveness.h"
#include "compiler/analysis/LowerBound.h"
#include "compiler/analysis/MaxFlow.h"
#include <algorithm>
#include <gtest/gtest.h>
#include <numeric>
#include <random>

using namespace amc;
using namespace amc::test;

namespace {

std::vector<uint32_t> counting(size_t n) {
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

struct Outcome {
  uint64_t live, cost;
  uint32_t set;
};

RematDecision dropping(const RandomModel &model, uint32_t set) {
  RematDecision decision;
  const size_t n = model.graph.ops.size();
  decision.keep.assign(n, Keep::Saved);
  decision.region.assign(n, 0);
  decision.part.assign(n, 0);
  for (size_t i = 0; i < model.forward.size(); ++i)
    if (set >> i & 1)
      decision.keep[model.forward[i]] = Keep::Dropped;
  return decision;
}

Liveness liveness(const AppliedStep &applied) {
  return computeLiveness(applied.graph, counting(applied.graph.ops.size()));
}

PackingLimits quickPacking() {
  PackingLimits limits;
  limits.exactSteps = 100'000;
  return limits;
}

// Every set of values that is dropped, made again where they are read first and kept till the last;
// the cheapest first.
std::vector<Outcome> enumerate(const RandomModel &model, const CostModel &costs) {
  std::vector<Outcome> outcomes;
  for (uint32_t set = 0; set < 1u << model.forward.size(); ++set) {
    AppliedStep applied = *applyDecision(model.graph, dropping(model, set));
    Outcome outcome{liveness(applied).maxLiveBytes, 0, set};
    for (const GraphOp &op : applied.graph.ops)
      outcome.cost += op.phase == OpPhase::Recompute ? costs.of(op) : 0;
    outcomes.push_back(outcome);
  }
  std::stable_sort(outcomes.begin(), outcomes.end(),
                   [](const Outcome &a, const Outcome &b) { return a.cost < b.cost; });
  return outcomes;
}

// The least cost whose arena is within the budget; the largest number if there is none.
uint64_t cheapest(const RandomModel &model, const std::vector<Outcome> &outcomes,
                  uint64_t budget) {
  for (const Outcome &outcome : outcomes) {
    if (outcome.live > budget)
      continue;
    Liveness live = liveness(*applyDecision(model.graph, dropping(model, outcome.set)));
    std::vector<PackingItem> items;
    for (const LiveBuffer &buffer : live.buffers)
      items.push_back({buffer.bytes, buffer.first, buffer.last});
    if (pack(items, 1, quickPacking()).height <= budget)
      return outcome.cost;
  }
  return ~uint64_t(0);
}

TEST(BudgetPlanner, IsNearTheOptimumOfEverySmallGraph) {
  // 200 graphs of 4 to 9 forward values, six budgets each: bound <= optimum, and the planner's cost
  // against it. The planner also orders operations and makes values twice, so it may win.
  std::vector<double> gaps, bounds;
  unsigned beaten = 0, cases = 0;
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    RandomModel model(seed);
    CostModel costs(model.graph, unitDevice);
    std::vector<Outcome> outcomes = enumerate(model, costs);
    uint64_t least = ~uint64_t(0);
    for (const Outcome &outcome : outcomes)
      least = std::min(least, outcome.live);
    EXPECT_GE(least, 1u);
    PlannerSettings settings{unitDevice, 1, {}};
    settings.packing = quickPacking();
    BudgetPlanner planner(model.graph, findBlocks(model.graph), settings);
    LowerBound bound(model.graph, costs);
    for (uint64_t sixth = 0; sixth < 6; ++sixth) {
      uint64_t budget = least + (outcomes[0].live - least) * sixth / 6;
      uint64_t optimum = cheapest(model, outcomes, budget);
      if (optimum == ~uint64_t(0))
        continue; // fits as a sum, but not side by side
      BudgetPlan plan = planner.plan(budget);
      ++cases;
      std::vector<uint32_t> instants;
      for (uint32_t i = 0; i < model.graph.ops.size(); ++i)
        if (model.graph.isInstruction(i))
          instants.push_back(i);
      uint64_t proven = bound.cost(budget, instants, optimum);
      EXPECT_LE(proven, optimum) << "seed " << seed << " budget " << budget;
      if (optimum > 0)
        bounds.push_back(1 - static_cast<double>(proven) / static_cast<double>(optimum));
      ASSERT_TRUE(plan.feasible) << "seed " << seed << " budget " << budget;
      EXPECT_LE(plan.result.arenaBytes, budget) << "seed " << seed;
      EXPECT_LE(plan.costBound, plan.result.cost) << "seed " << seed << " budget " << budget;
      beaten += plan.result.cost < optimum;
      gaps.push_back(optimum == 0 ? 0
                                  : static_cast<double>(plan.result.cost) /
                                            static_cast<double>(optimum) -
                                        1);
    }
  }
  std::sort(gaps.begin(), gaps.end());
  std::sort(bounds.begin(), bounds.end());
  auto share = [](const std::vector<double> &list, double at) {
    return 100 * list[static_cast<size_t>(at * static_cast<double>(list.size() - 1))];
  };
  std::printf("%u cases, %u better than the enumeration; cost above the optimum: "
              "median %.2f%%, 90%% %.2f%%, worst %.2f%%; bound below it: median %.2f%%, worst %.2f%%\n",
              cases, beaten, share(gaps, 0.5), share(gaps, 0.9), share(gaps, 1),
              share(bounds, 0.5), share(bounds, 1));
  EXPECT_GE(cases, 1000u);
  EXPECT_EQ(share(gaps, 0.95), 0); // where it is not the optimum, the optimum is hard to pack
}

TEST(BudgetPlanner, KeepsEveryBudgetAndNeverCostsMoreForMore) {
  Llama model(5);
  BudgetPlanner planner(model.graph, findBlocks(model.graph), {unitDevice, 1, quickPacking()});
  BudgetPlan none = planner.plan(1'000'000), least = planner.plan(0);
  EXPECT_TRUE(none.feasible);
  EXPECT_EQ(none.result.cost, 0u);
  EXPECT_EQ(none.result.applied.copies, 0u);
  EXPECT_FALSE(least.feasible);
  EXPECT_GT(least.peakBound, 0u);
  EXPECT_LE(least.peakBound, least.result.arenaBytes);
  EXPECT_LT(least.result.arenaBytes, none.result.arenaBytes);
  uint64_t last = ~uint64_t(0), distinct = 0;
  for (uint64_t budget = least.result.arenaBytes; budget <= none.result.arenaBytes; budget += 40) {
    BudgetPlan plan = planner.plan(budget);
    ASSERT_TRUE(plan.feasible) << budget;
    EXPECT_LE(plan.result.arenaBytes, budget);
    EXPECT_LE(plan.result.cost, last) << budget;
    EXPECT_LE(plan.costBound, plan.result.cost) << budget;
    distinct += plan.result.cost != last;
    last = plan.result.cost;
  }
  EXPECT_GT(distinct, 12u);
}

TEST(BudgetPlanner, TakesTheSamePlanTwice) {
  Llama model(4);
  auto run = [&] {
    BudgetPlanner planner(model.graph, findBlocks(model.graph), {unitDevice, 1, quickPacking()});
    uint64_t none = planner.plan(1'000'000).result.arenaBytes;
    return planner.plan(none * 4 / 5).result.applied.originOf;
  };
  EXPECT_EQ(run(), run());
}

TEST(BudgetPlanner, CurveRisesInBytesAndFallsInCost) {
  Llama model(4);
  ParetoCurve curve =
      planCurve(model.graph, findBlocks(model.graph), {unitDevice, 1, quickPacking()}, 16);
  ASSERT_GE(curve.size(), 8u);
  for (size_t i = 1; i < curve.size(); ++i) {
    EXPECT_GT(curve[i].arenaBytes, curve[i - 1].arenaBytes);
    EXPECT_LT(curve[i].cost, curve[i - 1].cost);
  }
  EXPECT_EQ(curve.back().cost, 0u);
}

TEST(BudgetPlanner, PlansInferenceAndEmptySteps) {
  // Nothing can be recomputed without backward: what is asked for fits or does not.
  Llama model(3, /*backward=*/false);
  BudgetPlanner planner(model.graph, findBlocks(model.graph), {unitDevice, 1, quickPacking()});
  BudgetPlan plan = planner.plan(1'000'000);
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.result.cost, 0u);
  EXPECT_FALSE(planner.plan(1).feasible);
  StepGraph empty;
  EXPECT_TRUE(BudgetPlanner(empty, findBlocks(empty), {unitDevice, 1, {}}).plan(0).feasible);
}

// x, y = f(x), z = g(y); backward reads z, then y twice.
struct Chain : GraphBuilder {
  uint32_t x = input(), y = op("f", {x}), z = op("g", {y}), g, h, i;
  Chain() {
    phase = OpPhase::Backward;
    g = op("dz", {z});
    h = op("dy", {g, y});
    i = op("dx", {h, y});
  }
  std::string applied(std::vector<Keep> keep, std::vector<uint32_t> part) {
    std::optional<AppliedStep> step =
        applyDecision(graph, {std::move(keep), {noIndex, noIndex, noIndex, 0, 0, 0},
                              {noIndex, noIndex, noIndex, part[0], part[1], part[2]}});
    if (!step)
      return "none";
    std::string text;
    for (const GraphOp &op : step->graph.ops)
      text += graph.names[op.name] + (op.phase == OpPhase::Recompute ? "' " : " ");
    return text;
  }
};

TEST(ApplyDecision, CopiesStandJustBeforeTheirFirstReader) {
  const Keep s = Keep::Saved, d = Keep::Dropped, t = Keep::Twice;
  EXPECT_EQ(Chain().applied({s, s, s, s, s, s}, {0, 0, 0}), "source f g dz dy dx ");
  EXPECT_EQ(Chain().applied({s, d, s, s, s, s}, {0, 0, 0}), "source f g dz f' dy dx ");
  EXPECT_EQ(Chain().applied({s, d, d, s, s, s}, {0, 0, 0}), "source f g f' g' dz dy dx ");
  EXPECT_EQ(Chain().applied({s, d, d, s, s, s}, {0, 1, 1}), "source f g f' g' dz dy dx ");
  EXPECT_EQ(Chain().applied({s, t, d, s, s, s}, {0, 1, 1}), "source f g f' g' dz f' dy dx ");
  EXPECT_EQ(Chain().applied({s, t, s, s, s, s}, {0, 1, 2}), "source f g dz f' dy f' dx ");
}

TEST(ApplyDecision, RefusesToReadWhatAnUpdateHasOverwritten) {
  GraphBuilder b;
  uint32_t w = b.parameter(), x = b.input(), y = b.op("f", {x, w});
  b.phase = OpPhase::Backward;
  uint32_t g = b.op("start", {});
  b.update(w, g);
  b.op("late", {y});
  const size_t n = b.graph.ops.size();
  RematDecision decision{std::vector<Keep>(n, Keep::Saved), std::vector<uint32_t>(n, 0),
                         std::vector<uint32_t>(n, 0)};
  EXPECT_TRUE(applyDecision(b.graph, decision));
  decision.keep[b.graph.values[y].producer] = Keep::Dropped;
  EXPECT_FALSE(applyDecision(b.graph, decision));
}

TEST(Segments, FollowTheLayersBackwards) {
  Llama model(3);
  Segmentation segments = findSegments(model.graph, findBlocks(model.graph));
  // The rotary tables, three layers (the embedding belongs to the first), the head.
  EXPECT_EQ(segments.count, 5u);
  uint32_t last = segments.count;
  for (uint32_t i = 0; i < model.graph.ops.size(); ++i) {
    for (uint32_t operand : model.graph.ops[i].operands) {
      uint32_t s = segments.segmentOfOp[i],
               from = segments.segmentOfOp[model.graph.values[operand].producer];
      EXPECT_TRUE(s == noIndex || from == noIndex || from <= s);
    }
    uint32_t region = segments.regionOfOp[i];
    if (region == noIndex || region == segments.count)
      continue;
    EXPECT_LE(region, last);
    last = region;
  }
  EXPECT_EQ(segments.segmentOfOp[model.graph.values[model.embedded].producer],
            segments.segmentOfOp[model.graph.values[model.layers[0].q].producer]);
}

TEST(MaxFlow, EqualsEnumerationOfClosures) {
  // Four nodes with random costs of being true, false, and of arcs; all 16 assignments.
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    uint64_t ifTrue[4], ifFalse[4], arc[4][4] = {};
    MaxFlow flow(4);
    for (uint32_t i = 0; i < 4; ++i) {
      flow.costIfTrue(i, ifTrue[i] = random() % 10);
      flow.costIfFalse(i, ifFalse[i] = random() % 10);
      for (uint32_t j = 0; j < 4; ++j)
        if (i != j && random() % 2)
          flow.addArc(i, j, arc[i][j] = random() % 8);
    }
    auto cost = [&](unsigned set) {
      uint64_t sum = 0;
      for (uint32_t i = 0; i < 4; ++i) {
        sum += set >> i & 1 ? ifTrue[i] : ifFalse[i];
        for (uint32_t j = 0; j < 4; ++j)
          sum += set >> i & 1 && !(set >> j & 1) ? arc[i][j] : 0;
      }
      return sum;
    };
    uint64_t best = ~uint64_t(0);
    for (unsigned set = 0; set < 16; ++set)
      best = std::min(best, cost(set));
    EXPECT_EQ(flow.solve(), best);
    unsigned found = 0;
    for (uint32_t i = 0; i < 4; ++i)
      found |= flow.isTrue(i) ? 1u << i : 0;
    EXPECT_EQ(cost(found), best);
  }
}

TEST(CostModel, IsARooflineInWholeQuanta) {
  GraphBuilder b;
  b.op("f", {b.input()});
  b.last().flops = 1000;
  b.last().bytesMoved = 4000;
  DeviceModel device{"test", 1e3, 1e3, 1}; // 1 s + max(1 s, 4 s)
  EXPECT_EQ(opCost(b.last(), device), 5'000'000'000'000u);
  CostModel costs(b.graph, device);
  EXPECT_EQ(costs.stepCost, 5'000'000'000'000u);
  EXPECT_EQ(costs.of(b.last()) % costs.quantum, 0u);
  EXPECT_TRUE(deviceModel("cpu", "fp32"));
  EXPECT_GT(deviceModel("cuda:sm_90", "bf16")->flopsPerSecond,
            deviceModel("cuda:sm_90", "fp32")->flopsPerSecond);
  EXPECT_FALSE(deviceModel("abacus", "fp32"));
}

} // namespace
