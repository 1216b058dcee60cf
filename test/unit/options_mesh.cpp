// The rules of the mesh: what a request comes to, and every rule broken by itself, with the values it names.
#include "compiler/driver/MeshRules.h"
#include <gtest/gtest.h>

using namespace amc;

namespace {

using Shape = std::array<uint64_t, 4>;

CompileOptions sizes(int64_t dp, int64_t replicate, int64_t cp, int64_t tp, int64_t ep = 1) {
  CompileOptions options;
  options.dpSize = dp;
  options.dpReplicateSize = replicate;
  options.cpSize = cp;
  options.tpSize = tp;
  options.epSize = ep;
  return options;
}

Shape shapeOf(const CompileOptions &options) {
  MeshDecision decision = decideMesh(options);
  EXPECT_TRUE(decision.errors.empty()) << decision.errors.front();
  return decision.shape.size;
}

void expectOnly(const CompileOptions &options, const std::string &message) {
  MeshDecision decision = decideMesh(options);
  ASSERT_EQ(decision.errors.size(), 1u) << message;
  EXPECT_EQ(decision.errors[0], message);
}

} // namespace

TEST(MeshRules, Shapes) {
  EXPECT_EQ(shapeOf({}), (Shape{1, 1, 1, 1}));
  EXPECT_EQ(shapeOf(sizes(8, 1, 1, 1)), (Shape{1, 8, 1, 1}));
  EXPECT_EQ(shapeOf(sizes(4, 2, 1, 2)), (Shape{2, 2, 1, 2}));
  EXPECT_EQ(shapeOf(sizes(1024, 16, 2, 8)), (Shape{16, 64, 2, 8})); // 16,384 ranks
  EXPECT_EQ(shapeOf(sizes(2, 1, 1, 2, 4)), (Shape{1, 2, 1, 2}));    // ep regroups, it adds no axis
}

// Ranks that share experts are whole groups of cp inside a replica, or those with all of tp.
TEST(MeshRules, Experts) {
  EXPECT_EQ(decideMesh(sizes(8, 2, 2, 2, 4)).shape.ep, 4u);
  EXPECT_EQ(decideMesh(sizes(2, 1, 1, 2, 4)).shape.ep, 4u);
  expectOnly(sizes(4, 2, 1, 1, 4), "--ep-size is 4 and --dp-size is 4, --dp-replicate-size is 2, --cp-size is 1, --tp-size "
                                   "is 1: ranks that share experts should be of one replica, with all of cp, and all of tp "
                                   "or one of it; give --ep-size 1 or 2");
  expectOnly(sizes(2, 1, 4, 1, 2), "--ep-size is 2 and --dp-size is 2, --dp-replicate-size is 1, --cp-size is 4, --tp-size "
                                   "is 1: ranks that share experts should be of one replica, with all of cp, and all of tp "
                                   "or one of it; give --ep-size 1, 4 or 8");
  CompileOptions options = sizes(2, 1, 1, 1);
  options.epCapacityFactor = 1.5;
  expectOnly(options, "--ep-capacity-factor is given and --ep-size is 1: no row goes to another rank; leave it out, or give "
                      "--ep-size 2 or more");
}

// dp left open takes what the ranks leave; with their number unknown, one rank a replica.
TEST(MeshRules, DataParallelRanksLeftOpen) {
  CompileOptions options = sizes(0, 1, 2, 2);
  EXPECT_EQ(shapeOf(options), (Shape{1, 1, 2, 2}));
  options.ranks = 16;
  EXPECT_EQ(shapeOf(options), (Shape{1, 4, 2, 2}));
  EXPECT_EQ(decideMesh(options).dataParallel, 4);
  options.dpReplicateSize = 2;
  EXPECT_EQ(shapeOf(options), (Shape{2, 2, 2, 2}));
  options.ranks = 0;
  EXPECT_EQ(shapeOf(options), (Shape{2, 1, 2, 2}));
}

TEST(MeshRules, RanksThatTheSizesDoNotMake) {
  CompileOptions options = sizes(0, 1, 1, 3);
  options.ranks = 8;
  expectOnly(options,
             "--ranks is 8, --cp-size is 1 and --tp-size is 3: their product 3 should divide the ranks, the rest "
             "is data-parallel; give sizes that do, or another number of ranks");
  options = sizes(2, 1, 1, 2);
  options.ranks = 8;
  expectOnly(options,
             "--ranks is 8 and --dp-size is 2, --cp-size is 1 and --tp-size is 2, which make 4 ranks, should make "
             "as many; give --dp-size 4 or none, or start 4 ranks");
}

TEST(MeshRules, Replicas) {
  expectOnly(sizes(6, 4, 1, 1),
             "--dp-replicate-size is 4 and --dp-size is 6: the replicas should divide the data-parallel "
             "ranks; give --dp-replicate-size 1, 2, 3 or 6");
  CompileOptions options = sizes(4, 2, 1, 1);
  options.strategy = "ddp";
  expectOnly(options,
             "--strategy is ddp and --dp-replicate-size is 2: replicas of a sharded group are fsdp2's (HSDP); give "
             "--dp-replicate-size 1, or --strategy fsdp2");
  options.strategy = "megatron_fsdp";
  EXPECT_EQ(decideMesh(options).errors.size(), 1u);
}

TEST(MeshRules, StrategiesAndSizes) {
  CompileOptions options = sizes(2, 1, 1, 1);
  for (const char *strategy : {"ddp", "megatron_fsdp", "fsdp2"}) {
    options.strategy = strategy;
    EXPECT_TRUE(decideMesh(options).errors.empty()) << strategy;
  }
  options = sizes(2, 1, 2, 2, 2);
  EXPECT_TRUE(decideMesh(options).errors.empty());
  options.strategy = "megatron_fsdp";
  expectOnly(options,
             "--strategy is megatron_fsdp and --ep-size is 2, should be 1 there; give --ep-size 1, or --strategy "
             "fsdp2");
  options.strategy = "ddp"; // all three at once
  EXPECT_EQ(decideMesh(options).errors.size(), 3u);
  expectOnly(sizes(2, 1, 1, 1, 4),
             "--ep-size is 4 and --dp-size is 2, --cp-size is 1, --tp-size is 1: it should divide "
             "their product 2, whose ranks hold the experts; give --ep-size 1 or 2");
}

TEST(MeshRules, WhatAStrategyWouldNotRead) {
  CompileOptions options;
  options.activationCheckpointing = "selective";
  EXPECT_TRUE(decideMesh(options).errors.empty());
  options.strategy = "ddp";
  expectOnly(options,
             "--strategy is ddp and --ac is selective, which is fsdp2's; give --ac full or none, or --strategy fsdp2");
  options = {};
  options.zeroDpStrategy = 1;
  expectOnly(options, "--zero-dp-strategy is 1 and --strategy is fsdp2: it is megatron_fsdp's; leave it out, or give "
                      "--strategy megatron_fsdp");
  options.strategy = "megatron_fsdp";
  EXPECT_TRUE(decideMesh(options).errors.empty());
  options = {};
  options.sequenceParallel = true;
  expectOnly(options,
             "--sequence-parallel is given and --tp-size is 1: it divides work among tensor-parallel ranks; leave "
             "it out, or give --tp-size 2 or more");
  options = {};
  options.cpAttention = "ring";
  expectOnly(options, "--cp-attention is ring and --cp-size is 1: it says how context-parallel ranks get at each other's "
                      "keys; leave it out, or give --cp-size 2 or more");
  options.cpSize = 2;
  EXPECT_TRUE(decideMesh(options).errors.empty());
  options = {};
  options.reshardAfterForward = "never";
  EXPECT_TRUE(decideMesh(options).errors.empty());
  options.strategy = "ddp";
  EXPECT_EQ(decideMesh(options).errors.size(), 1u);
  options.strategy = "megatron_fsdp";
  EXPECT_TRUE(decideMesh(options).errors.empty());
  options.zeroDpStrategy = 2;
  expectOnly(options, "--reshard-after-forward is never and --zero-dp-strategy is 2, which keeps all parameters on every "
                      "rank; leave it out, or give --zero-dp-strategy 3");
}

// global = local x dp x accumulation.
TEST(MeshRules, Batches) {
  CompileOptions options = sizes(2, 1, 1, 1);
  options.globalBatchSize = 64;
  options.localBatchSize = 8;
  EXPECT_EQ(decideMesh(options).gradAccumulation, 4);
  options.gradAccumulation = 4;
  EXPECT_TRUE(decideMesh(options).errors.empty());
  options.gradAccumulation = 2;
  expectOnly(options, "--global-batch-size is 64, --local-batch-size is 8 and --dp-size 2 make 4 micro-batches a step, "
                      "--grad-accumulation is 2; leave one of them out");
  options.gradAccumulation = 1;
  options.globalBatchSize = 40;
  expectOnly(options,
             "--global-batch-size is 40, --local-batch-size is 8 and --dp-size 2: a step should be a whole number "
             "of micro-batches on every rank; give --global-batch-size 32 or 48, or another --local-batch-size");
  options.globalBatchSize = 8;
  expectOnly(options,
             "--global-batch-size is 8, --local-batch-size is 8 and --dp-size 2: a step should be a whole number of "
             "micro-batches on every rank; give a --global-batch-size of at least local batch x data-parallel "
             "ranks, 16, or a smaller local batch");
  options.localBatchSize = 0;
  EXPECT_EQ(decideMesh(options).errors.size(), 1u);
  options.localBatchSize = 1;
  options.globalBatchSize = int64_t(1) << 40; // more than a plan can hold
  EXPECT_EQ(decideMesh(options).errors.size(), 1u);
}

// All that is wrong, in one run.
TEST(MeshRules, EveryViolationAtOnce) {
  CompileOptions options = sizes(6, 4, 2, 1, 5);
  options.strategy = "ddp";
  options.activationCheckpointing = "selective";
  options.zeroDpStrategy = 0;
  options.sequenceParallel = true;
  options.globalBatchSize = 7;
  options.localBatchSize = 2;
  options.ranks = 5;
  EXPECT_EQ(decideMesh(options).errors.size(), 10u);
}

TEST(MeshRules, SizesBeyondAllMeshes) {
  EXPECT_EQ(decideMesh(sizes(int64_t(1) << 62, 1, 1, 1)).errors.size(), 1u);
  EXPECT_EQ(decideMesh(sizes(1 << 24, 1, 1 << 24, 1 << 24)).errors.size(), 1u);
  EXPECT_EQ(decideMesh(sizes(-1, 0, 1, 1)).errors.size(), 2u);
}

// settle puts numbers where none stood, and leaves what cannot be.
TEST(MeshRules, Settles) {
  CompileOptions options = sizes(0, 1, 1, 2);
  options.ranks = 8;
  options.globalBatchSize = 32;
  options.localBatchSize = 2;
  settle(options);
  EXPECT_EQ(options.dpSize, 4);
  EXPECT_EQ(options.gradAccumulation, 4);
  options = sizes(0, 1, 1, 3);
  options.ranks = 8;
  settle(options);
  EXPECT_EQ(options.dpSize, 0);
}
