// Which collectives run beside computation: their windows, their order, and the bytes that they may take.
#include "analysis_graphs.h"
#include "compiler/analysis/Liveness.h"
#include "compiler/analysis/Overlap.h"
#include <gtest/gtest.h>
#include <set>

using namespace amc;
using namespace amc::test;

namespace {

struct OverlapTest : testing::Test {
  GraphBuilder b;
  std::map<uint32_t, int64_t> unitOf;                      // of collectives, by operation
  const PackingLimits limits{1'000'000'000, 2000, 20'000}; // a short search, for many steps

  uint32_t collective(const std::string &what, uint32_t x, uint64_t bytes, int64_t unit = -1) {
    uint32_t result = b.op(what, {x}, bytes);
    b.last().span = 2;
    b.last().bytesSent = 5'000'000; // a millisecond
    unitOf[static_cast<uint32_t>(b.graph.ops.size() - 1)] = unit;
    return result;
  }
  // Two milliseconds of work.
  uint32_t work(std::vector<uint32_t> operands, uint64_t bytes = 100) {
    uint32_t result = b.op("work", std::move(operands), bytes);
    b.last().flops = 400'000'000;
    return result;
  }

  OverlapRequest request() const {
    OverlapRequest r;
    r.device = *deviceModel("cpu", "fp32");
    r.alignment = 1;
    r.packing = limits;
    for (uint32_t i = 0; i < b.graph.ops.size(); ++i) {
      auto found = unitOf.find(i);
      r.splittable.push_back(found != unitOf.end());
      r.unitOf.push_back(found == unitOf.end() ? -1 : found->second);
    }
    return r;
  }

  uint64_t arenaOf(const StepGraph &graph, const std::vector<uint32_t> &order) const {
    return pack(packingItems(computeLiveness(graph, order)), 1, limits).height;
  }
  uint64_t arena() const { return arenaOf(b.graph, b.programOrder()); }

  // What every plan has to be: all operations once, each behind what it reads; waits behind their starts, and nothing in
  // between reads the result or writes either.
  uint64_t check(const OverlapPlan &plan) const {
    StepGraph graph = b.graph;
    const auto count = static_cast<uint32_t>(graph.ops.size());
    for (const OverlapWindow &window : plan.windows) {
      GraphOp wait;
      wait.kind = OpKind::Wait;
      wait.operands = {graph.ops[window.collective].results[0], graph.ops[window.collective].operands[0]};
      graph.addOp(wait, {0});
    }
    std::vector<uint32_t> place(graph.ops.size(), noIndex);
    for (uint32_t i = 0; i < plan.order.size(); ++i) {
      EXPECT_EQ(place[plan.order[i]], noIndex);
      place[plan.order[i]] = i;
    }
    EXPECT_EQ(plan.order.size(), graph.ops.size());
    for (uint32_t op = 0; op < graph.ops.size(); ++op)
      for (uint32_t operand : graph.ops[op].operands)
        EXPECT_LT(place[graph.values[operand].producer], place[op]) << "operation " << op;
    for (uint32_t w = 0; w < plan.windows.size(); ++w) {
      uint32_t start = plan.windows[w].collective, result = graph.ops[start].results[0],
               operand = graph.rootOf(graph.ops[start].operands[0]);
      for (uint32_t i = place[start] + 1; i < place[count + w]; ++i) {
        const GraphOp &op = graph.ops[plan.order[i]];
        for (uint32_t read : op.operands)
          EXPECT_NE(graph.rootOf(read), result) << "operation " << plan.order[i];
        for (uint32_t at : op.updated)
          EXPECT_NE(graph.rootOf(op.operands[at]), operand) << "operation " << plan.order[i];
      }
    }
    return arenaOf(graph, plan.order);
  }
  static std::set<uint32_t> split(const OverlapPlan &plan) {
    std::set<uint32_t> ops;
    for (const OverlapWindow &window : plan.windows)
      ops.insert(window.collective);
    return ops;
  }
};

// Units of two weights and two products; each is gathered when the unit before begins.
TEST_F(OverlapTest, GathersStartAUnitAhead) {
  uint32_t x = b.input();
  std::vector<uint32_t> weights;
  for (int i = 0; i < 6; ++i)
    weights.push_back(b.parameter()); // operations 1 to 6
  for (int u = 0; u < 3; ++u)
    for (int i = 0; i < 2; ++i)
      x = work({x, collective("all_gather", weights[static_cast<size_t>(2 * u + i)], 200, u)});
  b.output(x); // operations: 7 gather, 8 work, 9 gather, 10 work; 11 … 14; 15 … 18; 19 output
  OverlapPlan plan = planOverlap(b.graph, request());
  check(plan);
  // The first has nothing to run beside; the other of its unit starts with it.
  EXPECT_EQ(split(plan), (std::set<uint32_t>{9, 11, 13, 15, 17}));
  std::vector<uint32_t> starts;
  for (uint32_t op : plan.order)
    if (op < 20 && op >= 7)
      starts.push_back(op);
  EXPECT_EQ(starts, (std::vector<uint32_t>{7, 9, 11, 13, 8, 10, 15, 17, 12, 14, 16, 18, 19}));
  EXPECT_EQ(plan.hidden, 5 * plan.windows[0].hidden);
}

// A sum is waited for a unit later; the cast that passes it on, and the update, wait with it, and the update of what the
// cast reads stays behind the cast.
TEST_F(OverlapTest, GradientsAreWaitedForAUnitLater) {
  uint32_t w = b.parameter(), x = b.input();
  b.phase = OpPhase::Backward;
  for (int u = 0; u < 3; ++u) { // operations 2 … 5, 6 … 9, 10 … 13
    x = work({x});
    uint32_t sum = collective("reduce_scatter", x, 50, u);
    uint32_t cast = b.op("cast", {sum}, 50);
    b.last().bytesMoved = 100;
    b.update(w, cast);
  }
  b.output(x);
  OverlapPlan plan = planOverlap(b.graph, request());
  check(plan);
  EXPECT_EQ(split(plan), (std::set<uint32_t>{3, 7})); // the last has nothing behind it
  std::vector<uint32_t> rest;
  for (uint32_t op : plan.order)
    if (op >= 2)
      rest.push_back(op);
  EXPECT_EQ(rest, (std::vector<uint32_t>{2, 3, 6, 15, 4, 5, 7, 10, 16, 8, 9, 11, 12, 13, 14}));
}

// What a product reads next waits for nothing: nothing could run meanwhile.
TEST_F(OverlapTest, WhatIsReadAtOnceIsNotSplit) {
  uint32_t x = b.input();
  b.phase = OpPhase::Backward;
  for (int u = 0; u < 3; ++u)
    x = work({collective("all_reduce", work({x}), 100, u)});
  b.output(x);
  EXPECT_TRUE(planOverlap(b.graph, request()).windows.empty());
}

// Nothing crosses the end of a micro-batch.
TEST_F(OverlapTest, WindowsStayInTheirSection) {
  uint32_t x = work({b.input()});
  b.phase = OpPhase::Backward;
  uint32_t g = collective("reduce_scatter", x, 50);
  work({x});
  b.microBatchEnd();
  b.phase = OpPhase::Optimizer;
  work({x});
  b.update(b.parameter(), g);
  OverlapPlan plan = planOverlap(b.graph, request());
  check(plan);
  ASSERT_EQ(plan.windows.size(), 1u);
  auto at = [&](uint32_t op) { return std::find(plan.order.begin(), plan.order.end(), op); };
  EXPECT_LT(at(static_cast<uint32_t>(b.graph.ops.size())), at(b.graph.microBatchEnd()));
}

// With no byte more: of twelve units those where more is alive anyway elsewhere get their windows.
TEST_F(OverlapTest, BoundedNoByteIsAdded) {
  uint32_t x = b.input();
  std::vector<uint32_t> weights;
  for (int i = 0; i < 12; ++i)
    weights.push_back(b.parameter());
  for (int u = 0; u < 12; ++u) // each layer keeps more for backward
    x = work({x, collective("all_gather", weights[static_cast<size_t>(u)], 500, u)}, 100 + 60 * static_cast<uint64_t>(u));
  b.output(x);
  OverlapRequest bounded = request();
  OverlapPlan free = planOverlap(b.graph, bounded);
  EXPECT_EQ(free.windows.size(), 11u);
  EXPECT_GT(check(free), arena());
  bounded.arenaLimit = arena();
  OverlapPlan plan = planOverlap(b.graph, bounded);
  EXPECT_LE(check(plan), arena());
  EXPECT_GT(plan.windows.size(), 4u);
  EXPECT_LT(plan.windows.size(), 11u);
  EXPECT_FALSE(plan.limited);
  bounded.arenaLimit = arena() / 2; // nothing fits, not even the step without windows
  plan = planOverlap(b.graph, bounded);
  EXPECT_TRUE(plan.windows.empty());
  EXPECT_EQ(check(plan), arena());
}

// Many steps, many limits: the limit is kept, and a plan without one has all windows.
TEST_F(OverlapTest, RandomStepsKeepTheirLimits) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    b = GraphBuilder();
    unitOf.clear();
    uint64_t state = seed;
    auto roll = [&](uint64_t sides) {
      state = state * 6364136223846793005 + 1442695040888963407;
      return (state >> 33) % sides;
    };
    std::vector<uint32_t> weights, values{b.input()};
    for (int i = 0; i < 20; ++i)
      weights.push_back(b.parameter(64 + roll(500)));
    for (int i = 0; i < 20; ++i) {
      uint32_t w = collective("all_gather", weights[static_cast<size_t>(i)], 128 + roll(1000), i / 3);
      values.push_back(work({values[values.size() - 1 - roll(std::min<uint64_t>(values.size(), 3))], w}, 1 + roll(900)));
    }
    b.phase = OpPhase::Backward;
    for (int i = 0; i < 20; ++i) {
      uint32_t gradient = work({values[values.size() - 1 - roll(3)]}, 128 + roll(1000));
      values.push_back(gradient);
      uint32_t sum = collective("reduce_scatter", gradient, 64 + roll(500), i / 3);
      b.update(weights[static_cast<size_t>(i)], sum);
    }
    OverlapRequest r = request();
    OverlapPlan free = planOverlap(b.graph, r);
    check(free);
    const uint64_t before = arena();
    for (uint64_t extra : {uint64_t(0), uint64_t(300), uint64_t(100'000)}) {
      r.arenaLimit = before + extra;
      OverlapPlan plan = planOverlap(b.graph, r);
      EXPECT_LE(check(plan), before + extra) << "seed " << seed;
      EXPECT_LE(plan.windows.size(), free.windows.size());
      if (extra == 100'000) {
        EXPECT_EQ(plan.windows.size(), free.windows.size()) << "seed " << seed;
      }
    }
  }
}

} // namespace
