// The budget planner against enumeration, and what it promises on models.
#include "analysis_models.h"
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

// One second per FLOP, so that costs are what the test says.
const DeviceModel unitDevice{"unit", 1, 1e18, 0};

std::vector<uint32_t> counting(size_t n) {
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

// Forward operations with one or two results of random sizes, their gradients in reverse order: each
// reads the incoming gradients, some of its operation's operands and some of its results.
struct RandomModel : GraphBuilder {
  std::vector<uint32_t> forward; // operations

  explicit RandomModel(uint32_t seed) {
    std::mt19937 random(seed);
    auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    std::vector<uint32_t> values{input(8)};
    struct Node {
      std::vector<uint32_t> operands;
      uint32_t result;
    };
    std::vector<Node> nodes;
    const uint32_t count = 4 + pick(6);
    for (uint32_t i = 0; i < count; ++i) {
      Node node;
      node.operands.push_back(i == 0 ? values[0] : values[values.size() - 1 - pick(2) % values.size()]);
      if (i > 1 && pick(2))
        node.operands.push_back(values[1 + pick(static_cast<uint32_t>(values.size()) - 1)]);
      std::vector<uint32_t> operands = node.operands;
      operands.push_back(parameter(pick(30)));
      node.result = op("f" + std::to_string(i), operands, 20 + pick(400));
      last().flops = 1 + pick(50);
      if (pick(3) == 0)
        last().workspaceBytes = pick(100);
      forward.push_back(static_cast<uint32_t>(graph.ops.size() - 1));
      values.push_back(node.result);
      nodes.push_back(node);
    }
    output(values.back());
    phase = OpPhase::Backward;
    std::map<uint32_t, uint32_t> gradient;
    gradient[values.back()] = op("start", {values.back()}, 20);
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
      if (!gradient.count(node->result))
        continue;
      std::vector<uint32_t> reads{gradient[node->result]};
      for (uint32_t operand : node->operands)
        if (pick(3))
          reads.push_back(operand);
      if (pick(3) == 0)
        reads.push_back(node->result);
      for (uint32_t operand : node->operands) {
        uint32_t g = op("b", reads, graph.values[operand].bytes);
        last().flops = 30 + pick(30);
        last().reusable = {0};
        gradient[operand] = gradient.count(operand) ? op("add", {gradient[operand], g},
                                                         graph.values[operand].bytes)
                                                    : g;
      }
    }
  }
};

struct Outcome {
  uint64_t live, cost;
};

// Every set of values that is dropped, made again where they are read first and kept till the last.
std::vector<Outcome> enumerate(const RandomModel &model, const CostModel &costs) {
  RematDecision decision;
  const size_t n = model.graph.ops.size();
  decision.keep.assign(n, Keep::Saved);
  decision.region.assign(n, 0);
  decision.part.assign(n, 0);
  std::vector<Outcome> outcomes;
  for (uint32_t set = 0; set < 1u << model.forward.size(); ++set) {
    for (size_t i = 0; i < model.forward.size(); ++i)
      decision.keep[model.forward[i]] = set >> i & 1 ? Keep::Dropped : Keep::Saved;
    AppliedStep applied = *applyDecision(model.graph, decision);
    Outcome outcome{computeLiveness(applied.graph, counting(applied.graph.ops.size())).maxLiveBytes,
                    0};
    for (const GraphOp &op : applied.graph.ops)
      outcome.cost += op.phase == OpPhase::Recompute ? costs.of(op) : 0;
    outcomes.push_back(outcome);
  }
  return outcomes;
}

TEST(BudgetPlanner, IsNearTheOptimumOfEverySmallGraph) {
  // 200 graphs of 4 to 9 forward values, six budgets each: bound <= optimum, and the planner's cost
  // against it. The planner also orders operations and makes values twice, so it may win.
  std::vector<double> gaps, bounds;
  unsigned beaten = 0, cases = 0, missed = 0;
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    RandomModel model(seed);
    CostModel costs(model.graph, unitDevice);
    std::vector<Outcome> outcomes = enumerate(model, costs);
    uint64_t least = ~uint64_t(0);
    for (const Outcome &outcome : outcomes)
      least = std::min(least, outcome.live);
    EXPECT_GE(least, 1u);
    PlannerSettings settings{unitDevice, 1, {}};
    settings.packing.exactSteps = 100'000;
    BudgetPlanner planner(model.graph, findBlocks(model.graph), settings);
    LowerBound bound(model.graph, costs);
    for (uint64_t sixth = 0; sixth < 6; ++sixth) {
      uint64_t budget = least + (outcomes[0].live - least) * sixth / 6, optimum = ~uint64_t(0);
      for (const Outcome &outcome : outcomes)
        if (outcome.live <= budget)
          optimum = std::min(optimum, outcome.cost);
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
      if (!plan.feasible) { // the arena is not the live sum
        ++missed;
        EXPECT_GT(plan.result.arenaBytes, budget);
        EXPECT_LE(plan.peakBound, least) << "seed " << seed;
        continue;
      }
      EXPECT_LE(plan.result.arenaBytes, budget) << "seed " << seed;
      EXPECT_LE(plan.costBound, plan.result.cost) << "seed " << seed << " budget " << budget;
      if (getenv("V") && plan.result.cost > optimum)
        std::printf("seed %u budget %lu (least %lu none %lu) optimum %lu got %lu bound %lu/%lu arena %lu live %lu\n", seed, budget, least, outcomes[0].live, optimum, plan.result.cost, plan.costBound, proven, plan.result.arenaBytes, plan.result.maxLiveBytes);
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
  std::printf("%u cases, %u without a plan, %u better than the enumeration; cost above the optimum: "
              "median %.2f%%, 90%% %.2f%%, worst %.2f%%; bound below it: median %.2f%%, worst %.2f%%\n",
              cases, missed, beaten, share(gaps, 0.5), share(gaps, 0.9), share(gaps, 1),
              share(bounds, 0.5), share(bounds, 1));
  EXPECT_LE(share(gaps, 0.5), 0);
}

} // namespace
