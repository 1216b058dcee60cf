// Packing: valid on random instances, tight on easy ones, the same every time.
#include "compiler/analysis/Packing.h"
#include <gtest/gtest.h>
#include <random>

using namespace amc;

namespace {

// What every placement has to satisfy.
void expectValid(const std::vector<PackingItem> &items, const Placement &placement,
                 uint64_t alignment) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].first >= items[i].last)
      continue;
    EXPECT_EQ(placement.offsets[i] % alignment, 0u);
    EXPECT_LE(placement.offsets[i] + items[i].bytes, placement.height);
    for (size_t j = 0; j < i; ++j) {
      bool together = items[i].first < items[j].last && items[j].first < items[i].last;
      bool overlap = placement.offsets[i] < placement.offsets[j] + items[j].bytes &&
                     placement.offsets[j] < placement.offsets[i] + items[i].bytes;
      ASSERT_FALSE(together && overlap) << "items " << i << " and " << j;
    }
  }
  EXPECT_GE(placement.height, placement.bound);
}

std::vector<PackingItem> randomItems(unsigned seed, size_t count, uint64_t steps) {
  std::mt19937 random(seed);
  std::vector<PackingItem> items(count);
  for (PackingItem &item : items) {
    item.bytes = 1 + random() % 1000;
    item.first = random() % steps;
    item.last = item.first + 1 + random() % (steps - item.first);
  }
  return items;
}

TEST(Packing, TakesTheBytesOfWhatDiedTheMomentItIsBorn) {
  std::vector<PackingItem> items = {{100, 0, 2}, {200, 1, 3}, {100, 2, 4}};
  Placement placement = pack(items, 16);
  expectValid(items, placement, 16);
  EXPECT_EQ(placement.height, 320u); // 112 + 208, the third where the first was
  EXPECT_EQ(placement.bound, 320u);
}

TEST(Packing, StacksWhatLivesForEver) {
  std::vector<PackingItem> items = {{100, 0, 10}, {50, 3, 4}, {28, 0, 10}};
  Placement placement = pack(items, 4);
  EXPECT_EQ(placement.offsets, (std::vector<uint64_t>{0, 128, 100}));
  EXPECT_EQ(placement.height, 180u);
}

TEST(Packing, NothingTakesNoRoom) {
  EXPECT_EQ(pack({}, 64).height, 0u);
  EXPECT_EQ(pack({{100, 5, 5}, {0, 0, 3}}, 64).height, 0u);
}

TEST(Packing, IsValidOnRandomInstances) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::vector<PackingItem> items = randomItems(seed, 120, 40);
    Placement placement = pack(items, 64);
    expectValid(items, placement, 64);
    EXPECT_LE(static_cast<double>(placement.height), 1.15 * static_cast<double>(placement.bound))
        << seed;
  }
}

TEST(Packing, EveryMemberOfThePortfolioAloneIsValid) {
  // A limit that lets only the sweeps run, and one that lets in one more rule at a time.
  std::vector<PackingItem> items = randomItems(7, 100, 30);
  uint64_t height = ~uint64_t(0);
  for (uint64_t rules = 0; rules <= 20; ++rules) {
    Placement placement = pack(items, 32, rules * items.size() * items.size() / 2);
    expectValid(items, placement, 32);
    EXPECT_LE(placement.height, height) << "more rules never make it worse";
    height = placement.height;
  }
  EXPECT_TRUE(pack(items, 32, 0).limited);
  EXPECT_EQ(pack(items, 32, 0).tried, 2u);
}

TEST(Packing, NestedLifetimesReachTheBound) {
  // Saved activations: born in forward order, dead in reverse, with short-lived scratch between
  // them.
  std::vector<PackingItem> items;
  for (uint64_t i = 0; i < 50; ++i) {
    items.push_back({1000 + 16 * (i % 3), i, 200 - i});
    items.push_back({500, i, i + 1});
    items.push_back({700, 199 - i, 200 - i});
  }
  Placement placement = pack(items, 16);
  expectValid(items, placement, 16);
  EXPECT_EQ(placement.height, placement.bound);
}

TEST(Packing, IsTheSameEveryTime) {
  std::vector<PackingItem> items = randomItems(3, 300, 60);
  EXPECT_EQ(pack(items, 256).offsets, pack(items, 256).offsets);
}

TEST(Packing, TwentyThousandBuffersTakeSeconds) {
  std::vector<PackingItem> items;
  for (uint64_t i = 0; i < 10000; ++i) {
    items.push_back({4096 + 64 * (i % 7), i, i + 2 + i % 5});
    items.push_back({8192, i, i % 10 ? i + 1 : 20000 - i});
  }
  Placement placement = pack(items, 256);
  EXPECT_LE(static_cast<double>(placement.height), 1.05 * static_cast<double>(placement.bound));
}

} // namespace
