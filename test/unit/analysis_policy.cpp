// Which values each checkpointing policy saves and recomputes, on a decoder whose numbers can be
// added by hand.
#include "analysis_models.h"
#include "compiler/analysis/AcPolicy.h"
#include "compiler/analysis/MinCut.h"
#include <algorithm>
#include <gtest/gtest.h>

using namespace amc;
using namespace amc::test;

namespace {

AcDecision decideOn(const StepGraph &graph, AcPolicy policy,
                    AcMatmuls matmuls = AcMatmuls::Alternate) {
  BlockAnalysis blocks = findBlocks(graph);
  return decideCheckpointing(graph, blocks, findBlockFacts(graph, blocks), policy, matmuls);
}

struct Decided {
  Llama b;
  AcDecision decision;
  explicit Decided(AcPolicy policy, AcMatmuls matmuls = AcMatmuls::Alternate, unsigned layers = 3)
      : b(layers), decision(decideOn(b.graph, policy, matmuls)) {}
  bool saved(uint32_t value) const { return decision.saved[value]; }
  bool again(uint32_t value) const {
    return std::find(decision.recompute.begin(), decision.recompute.end(),
                     b.graph.values[value].producer) != decision.recompute.end();
  }
};

// Outside the blocks backward reads the table, the last layer's output, its norm and the logits: 7
// + 100 + 100 + 500.
constexpr uint64_t outside = 707;

TEST(AcPolicy, NoneSavesWhatBackwardReads) {
  Decided d(AcPolicy::None);
  EXPECT_TRUE(d.decision.recompute.empty());
  // A layer: input, norm1, qr 100 each, kr, v 50 each, attention, mid, norm2 100 each, gate, up,
  // act 300 each.
  EXPECT_EQ(d.decision.savedBytes, outside + 3 * (600 + 100 + 900));
  EXPECT_FALSE(d.saved(d.b.layers[1].q)) << "rotary's gradient does not read it";
  EXPECT_FALSE(d.saved(d.b.layers[1].down));
}

TEST(AcPolicy, FullSavesBlockInputsOnly) {
  Decided d(AcPolicy::Full);
  EXPECT_EQ(d.decision.savedBytes, outside + 3 * 100);
  for (const Layer &l : d.b.layers) {
    EXPECT_TRUE(d.saved(l.input));
    for (uint32_t value : {l.norm1, l.q, l.k, l.v, l.qr, l.kr, l.attention, l.o, l.mid, l.norm2,
                           l.gate, l.up, l.act})
      EXPECT_TRUE(d.again(value)) << value;
    EXPECT_FALSE(d.again(l.down)) << "the last projection is read by nobody in backward";
    EXPECT_FALSE(d.again(l.output));
  }
}

TEST(AcPolicy, SelectiveSavesAttentionAndEveryOtherProduct) {
  Decided d(AcPolicy::Selective);
  for (const Layer &l : d.b.layers) {
    for (uint32_t value : {l.input, l.q, l.v, l.attention, l.gate})
      EXPECT_TRUE(d.saved(value)) << value;
    for (uint32_t value : {l.norm1, l.k, l.qr, l.kr, l.o, l.mid, l.norm2, l.up, l.act})
      EXPECT_TRUE(d.again(value)) << value;
    for (uint32_t value : {l.q, l.v, l.attention, l.gate, l.down, l.output})
      EXPECT_FALSE(d.again(value)) << value;
  }
  EXPECT_EQ(d.decision.savedBytes, outside + 3 * (100 + 100 + 50 + 100 + 300));
}

TEST(AcPolicy, BytesAreOrdered) {
  uint64_t none = Decided(AcPolicy::None).decision.savedBytes,
           full = Decided(AcPolicy::Full).decision.savedBytes,
           selective = Decided(AcPolicy::Selective).decision.savedBytes;
  EXPECT_LT(full, selective);
  EXPECT_LT(selective, none);
}

TEST(AcPolicy, AllMatmulsRunsNoExpensiveOperationTwice) {
  Decided d(AcPolicy::Selective, AcMatmuls::All);
  for (uint32_t op : d.decision.recompute)
    EXPECT_EQ(d.b.graph.ops[op].keep, KeepClass::Recompute);
  for (const Layer &l : d.b.layers) {
    // Rotated q and k cost what q and k do and need no rotation again; mid costs what o does and
    // needs no sum again.
    for (uint32_t value : {l.qr, l.kr, l.v, l.attention, l.mid, l.gate, l.up})
      EXPECT_TRUE(d.saved(value)) << value;
    for (uint32_t value : {l.norm1, l.norm2, l.act})
      EXPECT_TRUE(d.again(value)) << value;
  }
}

TEST(AcPolicy, TraceNamesEachDistinctOperationOnce) {
  Decided d(AcPolicy::Selective);
  std::vector<std::string> names;
  for (const AcDecision::TraceLine &line : d.decision.trace)
    names.push_back(d.b.graph.names[line.name]);
  EXPECT_EQ(names,
            (std::vector<std::string>{"norm", "matmul", "rotary", "attention", "add", "gated"}));
  EXPECT_TRUE(Decided(AcPolicy::Full).decision.trace.empty());
}

TEST(AcPolicy, ProductsThatNobodyNeedsAreNotCounted) {
  // Per block: a product whose result only a saved operation reads, then two whose inputs backward
  // reads. The first takes no part in the alternation, so the second is saved and the third is not.
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()});
  struct Block {
    uint32_t input, unneeded, kept, first, second;
  };
  std::vector<Block> blocks;
  for (int i = 0; i < 3; ++i) {
    Block k;
    k.input = x;
    k.unneeded = b.matmul(x, b.parameter());
    k.kept = b.op("top", {k.unneeded}, 100, KeepClass::Save);
    k.first = b.matmul(k.kept, b.parameter());
    k.second = b.matmul(k.first, b.parameter());
    x = b.op("add", {k.input, b.op("square", {k.second})});
    blocks.push_back(k);
  }
  b.output(x);
  b.phase = OpPhase::Backward;
  uint32_t g = b.op("start", {x});
  for (auto k = blocks.rbegin(); k != blocks.rend(); ++k)
    g = b.op("backward", {g, k->second, k->first, k->kept, k->input});
  AcDecision decision = decideOn(b.graph, AcPolicy::Selective);
  for (const Block &k : blocks) {
    EXPECT_FALSE(decision.saved[k.unneeded]);
    EXPECT_TRUE(decision.saved[k.kept]);
    EXPECT_TRUE(decision.saved[k.first]);
    EXPECT_FALSE(decision.saved[k.second]);
  }
}

TEST(AcPolicy, ValuesThatOtherBlocksReadAreSaved) {
  // Keys made in the first block are read by all (shared between layers): a boundary, never
  // recomputed.
  GraphBuilder b;
  uint32_t x = b.op("embedding", {b.parameter(), b.input()}), keys = noIndex;
  std::vector<uint32_t> inputs;
  for (int i = 0; i < 4; ++i) {
    inputs.push_back(x);
    uint32_t y = b.matmul(x, b.parameter());
    if (i == 0)
      keys = y;
    x = b.op("add", {x, b.op("mix", {y, keys})});
  }
  b.output(x);
  b.phase = OpPhase::Backward;
  uint32_t g = b.op("start", {x});
  for (size_t i = inputs.size(); i-- > 0;)
    g = b.op("backward", {g, inputs[i], keys});
  AcDecision decision = decideOn(b.graph, AcPolicy::Full);
  EXPECT_TRUE(decision.saved[keys]);
  EXPECT_EQ(std::count(decision.recompute.begin(), decision.recompute.end(),
                       b.graph.values[keys].producer),
            0);
}

TEST(AcPolicy, SubModulesKeepAttentionAndRunTheRestAgain) {
  SharedKeyModel b;
  AcDecision decision = decideOn(b.graph, AcPolicy::SubModules);
  auto again = [&](uint32_t value) {
    return std::count(decision.recompute.begin(), decision.recompute.end(),
                      b.graph.values[value].producer) == 1;
  };
  for (const auto &l : b.layers) {
    for (uint32_t value : {l.input, l.rotated, l.k, l.v, l.attention})
      EXPECT_TRUE(decision.saved[value] && !again(value)) << value;
    EXPECT_TRUE(decision.saved[l.o]) << "the sum after it is made again from it";
    EXPECT_FALSE(decision.saved[l.q]) << "rotary's gradient does not read it";
    for (uint32_t value : {l.norm, l.mid, l.up, l.act})
      EXPECT_TRUE(again(value) && !decision.saved[value]) << value;
  }
  // A layer saves input, rotated q, attention, o; the first two also keys and values. And the last
  // layer's output is read by the loss.
  EXPECT_EQ(decision.savedBytes, 4u * 400 + 2 * 200 + 100);
  // Whole blocks: the inputs, and what crosses between blocks.
  EXPECT_EQ(decideOn(b.graph, AcPolicy::Full).savedBytes, 4u * 100 + 200 + 100);
}

TEST(AcPolicy, FullNeverRoutesTwice) {
  MixtureModel b;
  BlockAnalysis blocks = findBlocks(b.graph);
  ASSERT_EQ(blocks.count, 3u);
  BlockFacts facts = findBlockFacts(b.graph, blocks);
  EXPECT_TRUE(facts.hasRouting);
  EXPECT_EQ(facts.experts.size(), 6u);
  AcDecision decision = decideOn(b.graph, AcPolicy::Full);
  for (const auto &l : b.layers) {
    for (uint32_t value : {l.router, l.choices, l.weights})
      EXPECT_TRUE(decision.saved[value]) << value;
    for (uint32_t value : {l.router, l.choices})
      EXPECT_EQ(std::count(decision.recompute.begin(), decision.recompute.end(),
                           b.graph.values[value].producer),
                0);
    EXPECT_FALSE(decision.saved[l.softmax]) << "cheap: made again from what the router gave";
    EXPECT_FALSE(decision.saved[l.gate]);
  }
  EXPECT_TRUE(decision.recomputedExperts.empty()) << "selective's affair";
}

TEST(AcPolicy, SelectiveNamesExpertsThatRunAgain) {
  // Alternating: q, router, gate, down. So the router and down run again, q and gate are saved.
  MixtureModel b;
  AcDecision decision = decideOn(b.graph, AcPolicy::Selective);
  ASSERT_EQ(decision.recomputedExperts.size(), 1u);
  EXPECT_EQ(decision.recomputedExperts[0].first, b.graph.values[b.layers[0].down].producer);
  EXPECT_EQ(decision.recomputedExperts[0].second, 3u);
  for (const auto &l : b.layers)
    EXPECT_TRUE(decision.saved[l.gate] && decision.saved[l.choices] && !decision.saved[l.down]);
}

TEST(AcPolicy, InferenceSavesNothing) {
  Llama b(3, /*backward=*/false);
  AcDecision decision = decideOn(b.graph, AcPolicy::Full);
  EXPECT_EQ(decision.savedBytes, 0u);
  EXPECT_TRUE(decision.recompute.empty());
}

TEST(VertexCut, TakesTheNarrowPlaceNearestTheSink) {
  // 0 -> 1 -> 2 -> 3 with weights 5, 3, 3, 9: 1 and 2 cost the same, 2 is nearer the sink.
  const uint64_t weights[] = {5, 3, 3, 9};
  VertexCut cut(4);
  for (uint32_t v = 0; v < 4; ++v) {
    cut.setWeight(v, weights[v]);
    if (v > 0)
      cut.addEdge(v - 1, v);
  }
  cut.fromSource(0);
  cut.toSink(3);
  EXPECT_EQ(cut.solve(), std::vector<uint32_t>{2});
}

TEST(VertexCut, EqualsEnumerationOnSmallGraphs) {
  // Every directed graph on four vertices with edges upwards (64), source at 0 and 1, sink at 3.
  const uint64_t weights[] = {5, 3, 4, 8};
  for (unsigned edges = 0; edges < 64; ++edges) {
    VertexCut cut(4);
    std::vector<std::pair<uint32_t, uint32_t>> arcs;
    for (uint32_t v = 0, bit = 0; v < 4; ++v) {
      cut.setWeight(v, weights[v]);
      for (uint32_t to = v + 1; to < 4; ++to, ++bit)
        if (edges >> bit & 1) {
          cut.addEdge(v, to);
          arcs.emplace_back(v, to);
        }
    }
    cut.fromSource(0);
    cut.fromSource(1);
    cut.toSink(3);
    auto cost = [&](unsigned set) {
      uint64_t sum = 0;
      for (uint32_t v = 0; v < 4; ++v)
        sum += set >> v & 1 ? weights[v] : 0;
      return sum;
    };
    auto separates = [&](unsigned set) {
      unsigned reached = 3u & ~set;
      for (int round = 0; round < 4; ++round)
        for (auto [from, to] : arcs)
          if (reached >> from & 1 && !(set >> to & 1))
            reached |= 1u << to;
      return !(reached >> 3 & 1);
    };
    uint64_t best = ~uint64_t(0);
    for (unsigned set = 0; set < 16; ++set)
      if (separates(set))
        best = std::min(best, cost(set));
    unsigned found = 0;
    for (uint32_t v : cut.solve())
      found |= 1u << v;
    EXPECT_TRUE(separates(found)) << edges;
    EXPECT_EQ(cost(found), best) << edges;
  }
}

} // namespace
