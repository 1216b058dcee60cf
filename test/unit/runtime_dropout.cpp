// Dropout: the generator against published vectors, the mask's statistics, and that it is one mask however it is drawn.
#include "runtime/device/cpu/DropoutRow.h"
#include "runtime/plan/Philox.h"
#include "runtime_support.h"

namespace amc::rt::test {
namespace {

// Random123's known answers for philox4x32-10.
TEST(Philox, GivesThePublishedNumbers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

Call dropoutCall(Array x, double probability, int64_t stream, double seed, double step, double microBatch) {
  auto counter = [](double value) { return array(plan::I64, {}, {value}); };
  plan::DType dtype = x.dtype;
  Shape shape = x.shape;
  return {"dropout",
          {std::move(x), counter(seed), counter(step), counter(microBatch)},
          {{dtype, shape}},
          {attribute("probability", probability), attribute("stream", stream)}};
}

std::vector<double> expected(const Array &x, const DropoutMask &mask) {
  std::vector<double> y;
  for (uint64_t i = 0; i < x.values.size(); ++i)
    y.push_back(mask.keeps(i / 4)[i % 4] ? x.values[i] * mask.scale() : 0);
  return y;
}

// Sizes that are no multiple of 4, of a block or of what a thread takes; the same bytes from any number of threads.
TEST(Dropout, DropsByTheMaskInEveryType) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16, plan::F16})
    for (uint64_t n : {1u, 6u, 513u, 40001u}) {
      Array x = random(dtype, {n}, n);
      SCOPED_TRACE(testing::Message() << plan::DType_Name(dtype) << " " << n);
      expectCall(dropoutCall(x, 0.25, 7, 42, 3, 1), {expected(x, DropoutMask(0.25, 7, 42, 3, 1))}, tolerance(dtype));
    }
}

// Rows that start and end within a draw of four or of a vector, blocks beyond 32 bits, probabilities at both ends: what
// vectors draw, in every table this machine runs, is what the mask says, and nothing beside the row is written.
TEST(Dropout, VectorsDrawTheMask) {
  std::vector<const cpu::Hot *> tables = {&cpu::v3::hot};
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    tables.push_back(&cpu::v4::hot);
  for (double probability : {1e-9, 0.3, 1 - 1e-12}) {
    const DropoutMask mask(probability, 4000000000, -5, 3000000000, 2);
    const cpu::DropoutDraw draw{{mask.keyWords()[0], mask.keyWords()[1]}, mask.streamWord(), mask.stepWord(), mask.lastDropped()};
    for (const cpu::Hot *table : tables)
      for (uint64_t first : {uint64_t(0), uint64_t(1), uint64_t(6), uint64_t(35), (uint64_t(1) << 34) - 3, uint64_t(1) << 40})
        for (int64_t n : {0, 1, 3, 31, 32, 33, 64, 127, 200}) {
          SCOPED_TRACE(testing::Message() << table->isa << ", " << n << " from " << first);
          std::vector<uint32_t> keep(static_cast<size_t>(n) + 2, 5);
          table->dropoutMask(draw, first, n, keep.data() + 1);
          EXPECT_EQ(keep.front(), 5u);
          EXPECT_EQ(keep.back(), 5u);
          for (uint64_t i = 0; i < static_cast<uint64_t>(n); ++i)
            ASSERT_EQ(keep[i + 1], mask.keeps((first + i) / 4)[(first + i) % 4] ? ~0u : 0u) << i;
        }
  }
}

TEST(Dropout, KeepsTheShareAskedFor) {
  for (double probability : {0.1, 0.5, 0.9}) {
    DropoutMask mask(probability, 1, 0, 1, 0);
    constexpr uint64_t blocks = 50000; // 200000 draws: a standard deviation of 0.0011 at most
    double kept = 0;
    for (uint64_t block = 0; block < blocks; ++block)
      for (bool keeps : mask.keeps(block))
        kept += keeps;
    EXPECT_NEAR(kept / (4.0 * blocks), 1 - probability, 0.006);
  }
}

// Each number that the mask depends on gives another one: half the elements differ.
TEST(Dropout, EveryCounterMatters) {
  const DropoutMask first(0.5, 1, 2, 3, 4);
  const DropoutMask others[] = {{0.5, 2, 2, 3, 4}, {0.5, 1, 3, 3, 4}, {0.5, 1, 2, 4, 4}, {0.5, 1, 2, 3, 5}};
  for (const DropoutMask &other : others) {
    int same = 0;
    for (uint64_t block = 0; block < 1000; ++block)
      for (int k = 0; k < 4; ++k)
        same += first.keeps(block)[k] == other.keeps(block)[k];
    EXPECT_NEAR(same, 2000, 200);
  }
}

TEST(Dropout, StepZeroKeepsEverything) {
  Array x = random(plan::F32, {100}, 1);
  expectCall(dropoutCall(x, 0.5, 0, 1, 0, 0), {x.values}, 0);
}

TEST(Dropout, MayReplaceItsOperand) {
  Array x = random(plan::F32, {1000}, 1);
  Call call = dropoutCall(x, 0.5, 0, 1, 1, 0);
  call.replaces = {0};
  expectCall(call, {expected(x, DropoutMask(0.5, 0, 1, 1, 0))}, tolerance(plan::F32));
}

TEST(Dropout, RefusesWhatIsNoProbability) {
  for (double probability : {-0.1, 1.0, 2.0, nan})
    EXPECT_FALSE(run(dropoutCall(random(plan::F32, {4}, 1), probability, 0, 1, 1, 0)).status.ok()) << probability;
  EXPECT_FALSE(run(dropoutCall(random(plan::F32, {4}, 1), 0.5, -1, 1, 1, 0)).status.ok());
}

} // namespace
} // namespace amc::rt::test
