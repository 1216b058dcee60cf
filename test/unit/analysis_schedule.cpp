// The list scheduler: valid orders, lower peaks, constraints kept.
#include "analysis_graphs.h"
#include "compiler/analysis/ListSchedule.h"
#include <algorithm>
#include <gtest/gtest.h>
#include <random>

using namespace amc;
using namespace amc::test;

namespace {

// Every operation once, operands first, updates behind the readers of what they overwrite, forward
// first.
void expectValid(const StepGraph &graph, const std::vector<uint32_t> &order) {
  std::vector<uint32_t> at(graph.ops.size(), noIndex);
  for (uint32_t i = 0; i < order.size(); ++i) {
    ASSERT_EQ(at[order[i]], noIndex);
    at[order[i]] = i;
  }
  ASSERT_EQ(order.size(), graph.ops.size());
  uint32_t end = graph.microBatchEnd();
  for (uint32_t op = 0; op < graph.ops.size(); ++op) {
    for (uint32_t operand : graph.ops[op].operands)
      ASSERT_LT(at[graph.values[operand].producer], at[op]);
    if (end < graph.ops.size() && op != end && graph.ops[op].kind == OpKind::Compute) {
      ASSERT_EQ(op < end, at[op] < at[end]);
    }
    for (uint32_t position : graph.ops[op].updated)
      for (uint32_t other = 0; other < graph.ops.size(); ++other)
        for (uint32_t operand : graph.ops[other].operands)
          if (other != op &&
              graph.rootOf(operand) == graph.rootOf(graph.ops[op].operands[position])) {
            ASSERT_EQ(at[other] < at[op], other < op);
          }
  }
  bool backward = false;
  for (uint32_t op : order)
    if (graph.ops[op].kind == OpKind::Compute) {
      backward = backward || graph.ops[op].phase != OpPhase::Forward;
      ASSERT_FALSE(backward && graph.ops[op].phase == OpPhase::Forward);
    }
}

TEST(ListSchedule, RunsWhatFreesMemoryFirst) {
  // Four wide values, each reduced to a small one: reducing each at once needs one wide value at a
  // time.
  GraphBuilder b;
  uint32_t x = b.input(8);
  b.phase = OpPhase::Backward;
  std::vector<uint32_t> wide, small;
  for (int i = 0; i < 4; ++i)
    wide.push_back(b.op("widen", {x}, 1000));
  for (uint32_t w : wide)
    small.push_back(b.op("reduce", {w}, 8));
  b.op("join", small, 8);
  ScheduleResult result = scheduleStep(b.graph);
  expectValid(b.graph, result.order);
  EXPECT_EQ(result.programBytes, 8u + 4 * 1000);
  EXPECT_EQ(result.maxLiveBytes, 8u + 3 * 8 + 1000);
}

TEST(ListSchedule, DelaysWhatAllocates) {
  // The wide value is made first and used last; making it late keeps it from meeting the other wide
  // one.
  GraphBuilder b;
  uint32_t x = b.input(8);
  b.phase = OpPhase::Backward;
  uint32_t early = b.op("widen", {x}, 1000), other = b.op("widen", {x}, 1000);
  uint32_t reduced = b.op("reduce", {other}, 8);
  b.op("join", {early, reduced}, 8);
  EXPECT_EQ(scheduleStep(b.graph).maxLiveBytes, 8u + 1000 + 8 + 8 - 8);
}

TEST(ListSchedule, UpdatesStayBehindReadersAndSectionsApart) {
  GraphBuilder b;
  uint32_t w = b.parameter(), x = b.input();
  uint32_t y = b.op("use", {w, x});
  b.phase = OpPhase::Backward;
  uint32_t g = b.op("grad", {y, w}, 900);
  b.phase = OpPhase::Optimizer;
  b.update(w, g);
  b.microBatchEnd();
  uint32_t norm = b.op("norm", {x});
  b.output(norm);
  expectValid(b.graph, scheduleStep(b.graph).order);
}

TEST(ListSchedule, UpdatesRunAsGradientsComeWhereTheyWaitForNothingElse) {
  // A chain of layers: each gradient is normed and consumed by the update of its weight, whose
  // other reader carries the chain on. In the order given all norms and updates stand at the end.
  GraphBuilder b;
  const int layers = 6;
  std::vector<uint32_t> weights, gradients;
  for (int i = 0; i < layers; ++i)
    weights.push_back(b.parameter(1000));
  uint32_t x = b.op("embed", {b.input(8)}, 8);
  b.phase = OpPhase::Backward;
  for (int i = layers; i-- > 0;) {
    gradients.push_back(b.op("weight_grad", {x}, 1000));
    x = b.op("carry", {x, weights[static_cast<size_t>(i)]}, 8);
  }
  b.phase = OpPhase::Optimizer;
  std::vector<uint32_t> norms;
  for (uint32_t gradient : gradients)
    norms.push_back(b.op("squared_norm", {gradient}, 8));
  b.output(b.op("norm", norms, 8));
  for (int i = 0; i < layers; ++i)
    b.update(weights[static_cast<size_t>(layers - 1 - i)], gradients[static_cast<size_t>(i)]);
  ScheduleResult result = scheduleStep(b.graph);
  expectValid(b.graph, result.order);
  EXPECT_GE(result.programBytes, 2u * layers * 1000);
  EXPECT_LE(result.maxLiveBytes, layers * 1000u + 1000 + 100) << "one gradient at a time";
}

TEST(ListSchedule, IsValidNeverWorseAndTheSameEveryTimeOnRandomGraphs) {
  unsigned turned = 0;
  for (unsigned seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    GraphBuilder b;
    std::vector<uint32_t> values = {b.input(), b.parameter(), b.parameter(64)};
    for (int i = 0; i < 60; ++i) {
      b.phase = i < 25 ? OpPhase::Forward : i < 50 ? OpPhase::Backward : OpPhase::Optimizer;
      if (i == 45 && seed % 2)
        b.microBatchEnd();
      std::vector<uint32_t> operands;
      for (unsigned k = 0; k <= random() % 3; ++k)
        operands.push_back(values[random() % values.size()]);
      if (random() % 6 == 0) {
        values.push_back(b.view(operands[0]));
        continue;
      }
      if (random() % 8 == 0)
        b.update(values[1 + random() % 2], values.back());
      values.push_back(b.op("op", operands, 1 + random() % 500));
      if (random() % 3 == 0)
        b.last().reusable = {0};
      if (random() % 5 == 0)
        b.last().workspaceBytes = random() % 300;
    }
    b.output(values.back());
    b.update(1, values.back());
    ScheduleResult result = scheduleStep(b.graph);
    expectValid(b.graph, result.order);
    EXPECT_LE(result.maxLiveBytes, result.programBytes);
    EXPECT_EQ(result.maxLiveBytes, computeLiveness(b.graph, result.order).maxLiveBytes);
    EXPECT_EQ(result.order, scheduleStep(b.graph).order);
    turned += result.rule.find("turned") != std::string::npos;
  }
  EXPECT_GT(turned, 0u) << "local search should find what no member does, now and then";
}

// The names of an order's operations.
std::string namesOf(const StepGraph &graph, const std::vector<uint32_t> &order) {
  std::string text;
  for (uint32_t op : order)
    text += graph.names[graph.ops[op].name] + " ";
  return text;
}

TEST(UpdatesWhenReady, FollowTheLastReaderOfWhatTheyOverwrite) {
  // Of the two layers' weights each is read by backward after its gradient is there.
  GraphBuilder b;
  uint32_t x = b.input(), v = b.parameter(), w = b.parameter();
  uint32_t y = b.op("f", {x, v}), z = b.op("g", {y, w});
  b.phase = OpPhase::Backward;
  uint32_t dz = b.op("start", {z}), dw = b.op("dw", {dz, y}), dy = b.op("dy", {dz, w}),
           dv = b.op("dv", {dy, x});
  b.phase = OpPhase::Optimizer;
  uint32_t rate = b.source(BufferCategory::Input);
  b.op("norm", {dw});
  b.update(v, dv);
  b.last().operands.push_back(rate);
  b.update(w, dw);
  std::vector<uint32_t> order = updatesWhenReady(b.graph);
  EXPECT_EQ(namesOf(b.graph, order),
            "source source source f g source start dw norm dy update dv update ");
  expectValid(b.graph, order);
}

TEST(UpdatesWhenReady, FollowTheUpdateOfWhatTheyRead) {
  // A weight that backward does not read is gathered from its shard once that has been updated.
  GraphBuilder b;
  uint32_t x = b.input(), w = b.parameter(), s = b.parameter();
  uint32_t y = b.op("f", {x, w});
  b.phase = OpPhase::Backward;
  uint32_t dy = b.op("start", {y}), dw = b.op("dw", {dy, x});
  b.op("dx", {dy, x});
  b.phase = OpPhase::Optimizer;
  b.op("norm", {dw});
  b.update(s, dw);
  b.update(w, s);
  std::vector<uint32_t> order = updatesWhenReady(b.graph);
  EXPECT_EQ(namesOf(b.graph, order), "source source source f start dw norm update update dx ");
  EXPECT_EQ(order[7] + 1, order[8]);
  expectValid(b.graph, order);
}

TEST(UpdatesWhenReady, LeavesWhatWaitsForTheNormOfAllGradients) {
  GraphBuilder b;
  uint32_t x = b.input(), w = b.parameter(), y = b.op("f", {x, w});
  b.phase = OpPhase::Backward;
  uint32_t dw = b.op("dw", {y}), dx = b.op("dx", {y, w});
  b.phase = OpPhase::Optimizer;
  uint32_t scale = b.op("clip", {b.op("norm", {dw}), b.op("norm", {dx})});
  b.update(w, dw);
  b.last().operands.push_back(scale);
  EXPECT_EQ(updatesWhenReady(b.graph), b.programOrder());
  // Nor is anything moved from behind the end of the micro-batch in front of it.
  GraphBuilder c;
  uint32_t v = c.parameter();
  c.phase = OpPhase::Backward;
  uint32_t dv = c.op("dv", {c.input()});
  c.op("other", {dv});
  c.microBatchEnd();
  c.phase = OpPhase::Optimizer;
  c.update(v, dv);
  EXPECT_EQ(updatesWhenReady(c.graph), c.programOrder());
}

} // namespace
