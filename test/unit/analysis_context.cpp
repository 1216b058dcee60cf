// The choice between a ring and a gather (compiler/analysis/ContextAttention.h).
#include "compiler/analysis/ContextAttention.h"
#include <gtest/gtest.h>

namespace amc {
namespace {

// Causal, heads of 64, 4 query heads for each of 8 key heads; `rows` of one member.
ContextCase caseOf(uint64_t members, uint64_t rows, uint64_t bytes = 4) {
  ContextCase c;
  c.ring = {members, 1, 32, 8, rows, 64, 64, bytes, {}, 0, true, false};
  c.forwardFlops = members * rows * rows / 2 * 32 * 4 * 64;
  c.span = members;
  return c;
}

bool isRing(const ContextCase &c, const char *device = "cpu") {
  DeviceModel model = *deviceModel(device, c.ring.bytes == 2 ? "bf16" : "fp32");
  return isRingBetter(ringCost(c, model), gatherCost(c, model));
}

TEST(ContextAttention, Names) {
  EXPECT_EQ(contextAttentionNamed("auto"), ContextAttention::Auto);
  EXPECT_EQ(contextAttentionNamed("ring"), ContextAttention::Ring);
  EXPECT_EQ(contextAttentionNamed("all-gather"), ContextAttention::AllGather);
  EXPECT_EQ(contextAttentionNamed("gather"), std::nullopt);
}

// Time decides: a short sequence of many members begins too many transfers (2 x 7 of 20 us against four), a longer one
// hides what a gather waits for.
TEST(ContextAttention, TimeDecides) {
  EXPECT_FALSE(isRing(caseOf(8, 4)));
  EXPECT_TRUE(isRing(caseOf(8, 256)));
  EXPECT_TRUE(isRing(caseOf(2, 16))); // one step each way
  EXPECT_FALSE(isRing(caseOf(8, 256), "cuda:sm_90"));
  EXPECT_TRUE(isRing(caseOf(8, 16384, 2), "cuda:sm_90"));
}

// Beyond a host MPI does not send while the CPU computes: the ring sends more, and waits for it.
TEST(ContextAttention, WhatIsNotHiddenCounts) {
  ContextCase c = caseOf(16, 256);
  EXPECT_FALSE(isRing(c));
  c.span = 8;
  EXPECT_TRUE(isRing(c));
}

// Where time is as good as equal the bytes decide: long sequences are mostly computed.
TEST(ContextAttention, BytesDecideBetweenEquals) {
  ContextCase c = caseOf(4, 8192);
  DeviceModel cpu = *deviceModel("cpu", "fp32");
  ContextCost ring = ringCost(c, cpu), gather = gatherCost(c, cpu);
  EXPECT_LT(static_cast<double>(gather.picoseconds), 1.05 * static_cast<double>(ring.picoseconds));
  EXPECT_LT(ring.bytes, gather.bytes);
  EXPECT_TRUE(isRingBetter(ring, gather));
  // Two members of four query heads a key head in bf16: sums of dq in fp32 are more than what is gathered.
  c = caseOf(2, 8192, 2);
  c.ring.heads = 128;
  c.forwardFlops *= 4;
  DeviceModel bf16 = *deviceModel("cpu", "bf16");
  ring = ringCost(c, bf16);
  gather = gatherCost(c, bf16);
  EXPECT_LT(static_cast<double>(gather.picoseconds), 1.05 * static_cast<double>(ring.picoseconds));
  EXPECT_GT(ring.bytes, gather.bytes);
  EXPECT_FALSE(isRingBetter(ring, gather));
  EXPECT_TRUE(isRingBetter({100, 10}, {104, 11}));
  EXPECT_FALSE(isRingBetter({106, 10}, {100, 11}));
  EXPECT_TRUE(isRingBetter({100, 12}, {106, 11}));
  EXPECT_FALSE(isRingBetter({100, 12}, {104, 11}));
}

// Layers that share keys share the gather.
TEST(ContextAttention, ASharedGatherIsCheaper) {
  ContextCase c = caseOf(4, 512);
  DeviceModel cpu = *deviceModel("cpu", "fp32");
  ContextCost one = gatherCost(c, cpu);
  c.readers = 4;
  EXPECT_LT(gatherCost(c, cpu).picoseconds, one.picoseconds);
}

} // namespace
} // namespace amc
