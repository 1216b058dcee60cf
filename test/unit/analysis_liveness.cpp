// Lifetimes, sharing of buffers and the live sum.
#include "analysis_graphs.h"
#include "compiler/analysis/Liveness.h"
#include <gtest/gtest.h>

using namespace amc;
using namespace amc::test;

namespace {

struct LivenessTest : testing::Test {
  GraphBuilder b;
  Liveness run() { return computeLiveness(b.graph, b.programOrder()); }
  static LiveBuffer bufferOf(const Liveness &live, uint32_t value) {
    return live.buffers[live.bufferOfValue[value]];
  }
};

#define EXPECT_LIFE(buffer, from, to)                                                              \
  EXPECT_EQ((buffer).first, uint64_t(from));                                                       \
  EXPECT_EQ((buffer).last, uint64_t(to))

TEST_F(LivenessTest, LivesFromItsInstructionToBehindItsLastReader) {
  uint32_t x = b.input();
  uint32_t y = b.op("a", {x}); // instruction 0
  uint32_t z = b.op("b", {y}); // 1
  b.op("c", {y, z});           // 2
  Liveness live = run();
  EXPECT_LIFE(bufferOf(live, x), 0, 1);
  EXPECT_LIFE(bufferOf(live, y), 0, 3);
  EXPECT_LIFE(bufferOf(live, z), 1, 3);
  EXPECT_EQ(live.maxLiveBytes,
            300u); // y, z and the result of c at instruction 2; x, y at 0 are less
  EXPECT_EQ(live.peakInstruction, 2u);
}

TEST_F(LivenessTest, ViewsKeepTheirSourceAlive) {
  uint32_t y = b.op("a", {b.input()}); // 0
  uint32_t v = b.view(b.view(y));
  b.op("b", {b.input()}); // 1
  b.op("c", {v});         // 2
  Liveness live = run();
  EXPECT_EQ(live.bufferOfValue[v], live.bufferOfValue[y]);
  EXPECT_LIFE(bufferOf(live, y), 0, 3);
}

// What a collective reads lives until its wait, and what it writes from its start; a result that may stand on an operand
// does so if nothing but the wait reads that.
TEST_F(LivenessTest, WaitsKeepBothSides) {
  auto wait = [&](uint32_t result, uint32_t operand) {
    GraphOp op;
    op.kind = OpKind::Wait;
    op.operands = {result, operand};
    return b.graph.ops[b.graph.addOp(op, {100})].results[0];
  };
  uint32_t x = b.op("a", {b.input()}); // 0
  uint32_t y = b.op("gather", {x});    // 1
  b.op("b", {b.input()});              // 2
  uint32_t w = wait(y, x);             // 3
  uint32_t z = b.op("sum", {w});       // 4, which may work in place, and does
  b.last().reusable = {0};
  b.op("b", {b.input()});      // 5
  uint32_t v = wait(z, w);     // 6
  uint32_t u = b.op("c", {v}); // 7
  uint32_t t = b.op("sum", {u}); // 8 may, and does not: u is read again
  b.last().reusable = {0};
  wait(t, u);        // 9
  b.op("d", {u, t}); // 10
  Liveness live = run();
  EXPECT_LIFE(bufferOf(live, x), 0, 4);
  EXPECT_EQ(live.bufferOfValue[w], live.bufferOfValue[y]);
  EXPECT_EQ(live.bufferOfValue[z], live.bufferOfValue[y]);
  EXPECT_LIFE(bufferOf(live, v), 1, 8);
  EXPECT_NE(live.bufferOfValue[t], live.bufferOfValue[u]);
  EXPECT_LIFE(bufferOf(live, u), 7, 11);
  EXPECT_EQ(live.instructions.size(), 11u);
}

TEST_F(LivenessTest, PersistentSourcesLiveForTheWholeStepAndUnreadInputsAtItsStart) {
  uint32_t w = b.parameter(), unread = b.input();
  b.op("a", {b.input()});
  b.op("b", {b.input()});
  Liveness live = run();
  EXPECT_LIFE(bufferOf(live, w), 0, 2);
  EXPECT_TRUE(bufferOf(live, w).persistent);
  EXPECT_LIFE(bufferOf(live, unread), 0, 1);
}

TEST_F(LivenessTest, OutputsLiveToTheEndOfTheirSection) {
  uint32_t x = b.input();
  uint32_t loss = b.op("a", {x}); // 0
  b.output(loss);
  b.op("b", {x}); // 1
  b.microBatchEnd();
  uint32_t norm = b.op("c", {x}); // 2
  b.output(norm);
  b.op("d", {x}); // 3
  Liveness live = run();
  EXPECT_EQ(live.microBatchEnd, 2u);
  EXPECT_LIFE(bufferOf(live, loss), 0, 2);
  EXPECT_LIFE(bufferOf(live, norm), 2, 4);
}

TEST_F(LivenessTest, UnreadResultsAndWorkspacesLiveAtTheirInstructionOnly) {
  uint32_t y = b.op("a", {b.input()});
  b.last().workspaceBytes = 7;
  b.op("b", {b.input()});
  Liveness live = run();
  EXPECT_LIFE(bufferOf(live, y), 0, 1);
  LiveBuffer scratch = live.buffers[live.workspaceOfOp[b.graph.values[y].producer]];
  EXPECT_LIFE(scratch, 0, 1);
  EXPECT_EQ(scratch.bytes, 7u);
  EXPECT_EQ(scratch.category, BufferCategory::Workspace);
}

TEST_F(LivenessTest, ResultTakesOverADyingOperandThatTheOperationOffers) {
  uint32_t y = b.op("a", {b.input()}), z = b.op("b", {y});
  b.last().reusable = {0};
  b.op("c", {z});
  Liveness live = run();
  EXPECT_EQ(live.bufferOfValue[y], live.bufferOfValue[z]);
  EXPECT_LIFE(bufferOf(live, y), 0, 3);
}

TEST_F(LivenessTest, ResultDoesNotTakeOverWhatIsReadLaterOrElsewhereOrOfAnotherSizeOrASource) {
  uint32_t x = b.input(), y = b.op("a", {x}), v = b.view(y);
  uint32_t z = b.op("b", {y}); // y is read through v later
  b.last().reusable = {0};
  uint32_t big = b.op("c", {v, z}, 200); // of another size
  b.last().reusable = {0, 1};
  uint32_t once = b.op("d", {big, big}, 200); // read through an operand that may not be overwritten
  b.last().reusable = {0};
  uint32_t of = b.op("e", {x}); // a source
  b.last().reusable = {0};
  Liveness live = run();
  EXPECT_NE(live.bufferOfValue[z], live.bufferOfValue[y]);
  EXPECT_NE(live.bufferOfValue[big], live.bufferOfValue[v]);
  EXPECT_NE(live.bufferOfValue[big], live.bufferOfValue[z]);
  EXPECT_NE(live.bufferOfValue[once], live.bufferOfValue[big]);
  EXPECT_NE(live.bufferOfValue[of], live.bufferOfValue[x]);
}

TEST_F(LivenessTest, OneBufferIsTakenOverByOneResultOnly) {
  uint32_t y = b.op("a", {b.input()});
  GraphOp two;
  two.operands = {y};
  two.reusable = {0};
  std::vector<uint32_t> results = b.graph.ops[b.graph.addOp(two, {100, 100})].results;
  Liveness live = run();
  EXPECT_EQ(live.bufferOfValue[results[0]], live.bufferOfValue[y]);
  EXPECT_NE(live.bufferOfValue[results[1]], live.bufferOfValue[y]);
}

TEST_F(LivenessTest, ABufferThatEndsAsAGradientCountsAsOne) {
  uint32_t y = b.op("a", {b.input()}), g = b.op("b", {y});
  b.last().reusable = {0};
  b.graph.values[g].category = BufferCategory::Gradient;
  EXPECT_EQ(bufferOf(run(), y).category, BufferCategory::Gradient);
}

TEST_F(LivenessTest, SavedBytesCountForwardValuesReadByOthersOnce) {
  uint32_t x = b.input(), y = b.op("a", {x}, 40), v = b.view(y), z = b.op("b", {y}, 70);
  b.phase = OpPhase::Backward;
  uint32_t g = b.op("c", {v, x, z}, 500);
  b.op("d", {y, g});
  EXPECT_EQ(savedBytes(b.graph), 110u);
}

} // namespace
