// Block detection on the shapes that models have.
#include "analysis_models.h"
#include "compiler/analysis/Blocks.h"
#include <gtest/gtest.h>

using namespace amc;
using namespace amc::test;

namespace {

uint32_t blockOf(const GraphBuilder &b, const BlockAnalysis &blocks, uint32_t value) {
  return blocks.blockOfOp[b.graph.values[value].producer];
}

TEST(Blocks, DecoderLayersAreBlocksAndEmbeddingAndHeadAreNot) {
  Llama b(4);
  BlockAnalysis blocks = findBlocks(b.graph);
  EXPECT_EQ(blocks.found, BlockAnalysis::Found::Repeated);
  ASSERT_EQ(blocks.count, 4u);
  ASSERT_EQ(blocks.runs.size(), 1u);
  EXPECT_EQ(blocks.runs[0].count, 4u);
  EXPECT_EQ(blocks.runs[0].opsPerBlock, 15u);
  for (uint32_t i = 0; i < 4; ++i)
    for (uint32_t value :
         {b.layers[i].norm1, b.layers[i].attention, b.layers[i].mid, b.layers[i].output})
      EXPECT_EQ(blockOf(b, blocks, value), i);
  EXPECT_EQ(blockOf(b, blocks, b.embedded), noIndex);
  EXPECT_EQ(blockOf(b, blocks, b.normed), noIndex);
  EXPECT_EQ(blockOf(b, blocks, b.table), noIndex) << "shared by all layers";
}

TEST(Blocks, AuxiliariesThatOneBlockReadsBelongToIt) {
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()});
  std::vector<uint32_t> weights;
  for (int i = 0; i < 3; ++i) {
    weights.push_back(b.op("transpose", {b.parameter()}));
    x = b.op("add", {x, b.matmul(x, weights.back())});
  }
  b.output(x);
  BlockAnalysis blocks = findBlocks(b.graph);
  ASSERT_EQ(blocks.count, 3u);
  for (uint32_t i = 0; i < 3; ++i)
    EXPECT_EQ(blockOf(b, blocks, weights[i]), i);
}

TEST(Blocks, PeriodIsTheWholeLayerWhenNormsStandBehindTheResidual) {
  // Encoder layers: attention, add, norm, mlp, add, norm; the embedding ends in a norm too, which
  // is no layer's.
  GraphBuilder b;
  uint32_t x = b.op("norm", {b.op("embedding", {b.parameter(), b.input()})});
  uint32_t embedded = x;
  std::vector<uint32_t> ends;
  for (int i = 0; i < 3; ++i) {
    x = b.op(
        "norm",
        {b.op("add", {x, b.op("attention", {b.matmul(x, b.parameter())}, 100, KeepClass::Save)})});
    x = b.op("norm", {b.op("add", {x, b.matmul(x, b.parameter())})});
    ends.push_back(x);
  }
  b.output(x);
  BlockAnalysis blocks = findBlocks(b.graph);
  ASSERT_EQ(blocks.count, 3u);
  EXPECT_EQ(blockOf(b, blocks, embedded), noIndex);
  for (uint32_t i = 0; i < 3; ++i)
    EXPECT_EQ(blockOf(b, blocks, ends[i]), i);
}

TEST(Blocks, TwoKindsOfLayersAreTwoRuns) {
  // Dense layers before wider ones, as in mixtures of experts that start dense.
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()});
  auto layer = [&](const char *mlp) {
    uint32_t y = b.op(mlp, {b.matmul(x, b.parameter())});
    x = b.op("add", {x, b.matmul(y, b.parameter())});
  };
  for (int i = 0; i < 2; ++i)
    layer("gelu");
  for (int i = 0; i < 5; ++i)
    layer("experts");
  b.output(x);
  BlockAnalysis blocks = findBlocks(b.graph);
  EXPECT_EQ(blocks.count, 7u);
  ASSERT_EQ(blocks.runs.size(), 2u);
  EXPECT_EQ(blocks.runs[0].count, 2u);
  EXPECT_EQ(blocks.runs[1].count, 5u);
}

TEST(Blocks, LayersThatShareALongLivedValueAreFoundWithoutIt) {
  GraphBuilder b;
  uint32_t ids = b.input();
  uint32_t shared = b.op("embedding", {b.parameter(), ids}),
           x = b.op("embedding", {b.parameter(), ids});
  for (int i = 0; i < 4; ++i)
    x = b.op("add", {x, b.op("gate", {b.matmul(x, b.parameter()), shared})});
  b.output(x);
  BlockAnalysis blocks = findBlocks(b.graph);
  EXPECT_EQ(blocks.found, BlockAnalysis::Found::IgnoringLongLived);
  EXPECT_EQ(blocks.ignoredValues, 1u);
  EXPECT_EQ(blocks.count, 4u);
  EXPECT_EQ(blockOf(b, blocks, shared), noIndex);
}

TEST(Blocks, NothingRepeatedIsSplitIntoSegments) {
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()});
  for (uint64_t i = 0; i < 9; ++i)
    x = b.op("act" + std::to_string(i), {b.matmul(x, b.parameter(), 100 + i)}, 200 + i);
  b.output(x);
  BlockAnalysis blocks = findBlocks(b.graph);
  EXPECT_EQ(blocks.found, BlockAnalysis::Found::Segments);
  EXPECT_EQ(blocks.count, 2u) << "three segments, the last is no block";
  EXPECT_EQ(blockOf(b, blocks, x), noIndex);
}

TEST(Blocks, TinyGraphsHaveNone) {
  GraphBuilder b;
  b.output(b.matmul(b.input(), b.parameter()));
  EXPECT_EQ(findBlocks(b.graph).found, BlockAnalysis::Found::Nothing);
  EXPECT_EQ(findBlocks(StepGraph()).found, BlockAnalysis::Found::Nothing);
}

TEST(Blocks, RepeatedCheapOperationsAreNoBlocks) {
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()});
  for (int i = 0; i < 20; ++i)
    x = b.op("relu", {x});
  b.output(b.matmul(x, b.parameter()));
  EXPECT_EQ(findBlocks(b.graph).count, 0u);
}

TEST(Blocks, ManyLayersTakeSeconds) {
  Llama b(2000);
  EXPECT_EQ(findBlocks(b.graph).count, 2000u);
}

} // namespace
