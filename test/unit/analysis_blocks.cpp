// Block detection on the shapes that models have.
#include "analysis_models.h"
#include "compiler/analysis/BlockFacts.h"
#include <algorithm>
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

TEST(Blocks, OperationsInAnotherOrderAreTheSameBlock) {
  // Every other layer computes the second branch before the first.
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()});
  for (int i = 0; i < 4; ++i) {
    uint32_t first = 0, second = 0;
    auto left = [&] { first = b.op("relu", {b.matmul(x, b.parameter())}); };
    auto right = [&] { second = b.op("tanh", {b.matmul(x, b.parameter())}); };
    if (i % 2 == 0)
      left(), right();
    else
      right(), left();
    x = b.op("sub", {first, second});
  }
  b.output(x);
  BlockAnalysis blocks = findBlocks(b.graph);
  EXPECT_EQ(blocks.count, 4u);
  ASSERT_EQ(blocks.runs.size(), 1u);
  EXPECT_EQ(blocks.runs[0].kinds, 1u);
}

TEST(Blocks, AnotherConnectionIsAnotherBlock) {
  // The same operations, but every other layer takes the square of the product and not the product
  // of the square.
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()});
  for (int i = 0; i < 6; ++i) {
    uint32_t y = i % 2 == 0 ? b.op("square", {b.matmul(x, b.parameter())})
                            : b.matmul(b.op("square", {x}), b.parameter());
    x = b.op("add", {x, y});
  }
  b.output(x);
  BlockAnalysis blocks = findBlocks(b.graph);
  ASSERT_EQ(blocks.runs.size(), 1u);
  EXPECT_EQ(blocks.count, 3u) << "two layers make a block: nothing says where the second begins";
}

TEST(Blocks, LayersThatShareTheirWeightsAreBlocks) {
  // ALBERT: one set of weights.
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()}), up = b.parameter(),
           down = b.parameter();
  for (int i = 0; i < 5; ++i)
    x = b.op("norm", {b.op("add", {x, b.matmul(b.op("gelu", {b.matmul(x, up)}), down)})});
  b.output(x);
  EXPECT_EQ(findBlocks(b.graph).count, 5u);
}

TEST(Blocks, ALayerOfAnotherKindAmongEachFewIsABlockOfItsOwn) {
  // Three plain layers, then one that looks at an image, three times. A block is a layer, not four.
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()}), image = b.input();
  std::vector<uint32_t> ends;
  for (int i = 0; i < 12; ++i) {
    uint32_t y = i % 4 == 3
                     ? b.op("cross", {b.matmul(x, b.parameter()), image}, 100, KeepClass::Save)
                     : b.op("self", {b.matmul(x, b.parameter())}, 100, KeepClass::Save);
    x = b.op("add", {x, b.op("norm", {y})});
    x = b.op("add", {x, b.op("gelu", {b.matmul(x, b.parameter(), 300)})});
    ends.push_back(x);
  }
  b.output(x);
  BlockAnalysis blocks = findBlocks(b.graph);
  EXPECT_EQ(blocks.count, 12u);
  ASSERT_EQ(blocks.runs.size(), 1u);
  EXPECT_EQ(blocks.runs[0].kinds, 4u);
  for (uint32_t i = 0; i < 12; ++i)
    EXPECT_EQ(blockOf(b, blocks, ends[i]), i);
}

TEST(Blocks, OneDenseLayerBeforeMixturesIsABlock) {
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()});
  uint32_t embedded = x;
  std::vector<uint32_t> ends;
  for (int i = 0; i < 4; ++i) {
    x = b.op("add", {x, b.op("attention", {b.matmul(x, b.parameter())}, 100, KeepClass::Save)});
    x = b.op("add", {x, b.op(i == 0 ? "gelu" : "experts", {b.matmul(x, b.parameter())})});
    ends.push_back(x);
  }
  uint32_t head = b.matmul(b.op("norm", {x}), b.parameter());
  b.output(head);
  BlockAnalysis blocks = findBlocks(b.graph);
  EXPECT_EQ(blocks.count, 4u);
  for (uint32_t i = 0; i < 4; ++i)
    EXPECT_EQ(blockOf(b, blocks, ends[i]), i);
  EXPECT_EQ(blockOf(b, blocks, embedded), noIndex);
  EXPECT_EQ(blockOf(b, blocks, head), noIndex);
}

TEST(Blocks, EncoderAndDecoderAreTwoRuns) {
  // Every decoder layer reads the encoder's result, which outlives them all.
  GraphBuilder b;
  uint32_t ids = b.input();
  uint32_t x = b.op("embedding", {b.parameter(), ids}), y = b.op("embedding", {b.parameter(), ids});
  auto attend = [&](uint32_t q, uint32_t kv) {
    return b.op("attention", {b.matmul(q, b.parameter()), b.matmul(kv, b.parameter())}, 100,
                KeepClass::Save);
  };
  auto mlp = [&](uint32_t in) { return b.op("gelu", {b.matmul(in, b.parameter())}); };
  for (int i = 0; i < 3; ++i) {
    x = b.op("add", {x, attend(x, x)});
    x = b.op("add", {x, mlp(x)});
  }
  for (int i = 0; i < 4; ++i) {
    y = b.op("add", {y, attend(y, y)});
    y = b.op("add", {y, attend(y, x)});
    y = b.op("add", {y, mlp(y)});
  }
  b.output(y);
  BlockAnalysis blocks = findBlocks(b.graph);
  EXPECT_EQ(blocks.count, 7u);
  ASSERT_EQ(blocks.runs.size(), 2u);
  EXPECT_EQ(blocks.runs[0].count, 3u);
  EXPECT_EQ(blocks.runs[1].count, 4u);
  EXPECT_TRUE(findBlockFacts(b.graph, blocks).sharedKeys.empty()) << "no projected keys are shared";
}

TEST(BlockFacts, KeysThatLaterLayersReadAreFound) {
  SharedKeyModel b;
  BlockAnalysis blocks = findBlocks(b.graph);
  EXPECT_EQ(blocks.count, 4u);
  BlockFacts facts = findBlockFacts(b.graph, blocks);
  EXPECT_EQ(facts.sharedKeys, (std::vector<uint32_t>{b.layers[1].k, b.layers[1].v}));
  EXPECT_EQ(facts.sharingBlocks, 2u);
  auto inAttention = [&](uint32_t value) {
    return facts.inAttention[b.graph.values[value].producer];
  };
  for (uint32_t value :
       {b.layers[2].q, b.layers[2].rotated, b.layers[2].attention, b.layers[2].o, b.layers[0].k})
    EXPECT_TRUE(inAttention(value)) << value;
  for (uint32_t value : {b.layers[2].norm, b.layers[2].mid, b.layers[2].up, b.layers[2].output})
    EXPECT_FALSE(inAttention(value)) << value;
}

TEST(BlockFacts, OrdinaryDecodersShareNoKeys) {
  Llama b(4);
  BlockFacts facts = findBlockFacts(b.graph, findBlocks(b.graph));
  EXPECT_TRUE(facts.sharedKeys.empty());
  EXPECT_EQ(std::count(facts.inAttention.begin(), facts.inAttention.end(), true), 0);
  EXPECT_FALSE(facts.hasRouting);
  // A layer's input and the rotary table.
  EXPECT_EQ(facts.inputBytes, (std::vector<uint64_t>(4, 107)));
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
