// Which variant of a step is taken within a budget, and which are planned on the way.
#include "compiler/analysis/VariantChoice.h"
#include <gtest/gtest.h>
#include <random>

using namespace amc;

namespace {

// Plans are given; asking for one twice, or for one that is not given, fails.
struct Given {
  std::vector<StepVariant> variants;
  std::vector<VariantPlan> plans;
  std::vector<size_t> asked;

  void add(StepVariant variant, VariantPlan plan) {
    variants.push_back(variant);
    plans.push_back(plan);
  }
  VariantChoice choose(bool any = false) {
    asked.clear();
    return chooseVariant(
        variants,
        [&](size_t i) {
          EXPECT_EQ(std::count(asked.begin(), asked.end(), i), 0);
          asked.push_back(i);
          return plans.at(i);
        },
        any);
  }
};

constexpr VariantPlan fits(uint64_t recompute) { return {true, recompute, 0}; }
constexpr VariantPlan tooLarge(uint64_t arena) { return {false, 0, arena}; }

TEST(VariantChoice, TakesTheLeastTimeOfTheWholeStep) {
  Given given;
  given.add({0, 16, 100}, fits(20));
  given.add({1, 16, 110}, fits(5)); // tiled: more by itself, less run again
  VariantChoice choice = given.choose();
  EXPECT_TRUE(choice.fits);
  EXPECT_EQ(choice.taken, 1u);
  given.plans[1].recompute = 10; // a tie keeps the first
  EXPECT_EQ(given.choose().taken, 0u);
  EXPECT_EQ(given.asked, (std::vector<size_t>{0, 1}));
}

TEST(VariantChoice, DoesNotPlanWhatCannotBeFaster) {
  Given given;
  given.add({0, 16, 100}, fits(0));
  given.add({0, 8, 130}, fits(0));
  given.add({1, 16, 100}, fits(0)); // at best a tie
  VariantChoice choice = given.choose();
  EXPECT_EQ(choice.taken, 0u);
  EXPECT_EQ(given.asked, std::vector<size_t>{0});
  EXPECT_FALSE(choice.plans[1] || choice.plans[2]);
}

TEST(VariantChoice, PlansLessWorkspaceOnlyWhereItMayPay) {
  Given given;
  given.add({0, 16, 100}, fits(25));
  given.add({0, 8, 110}, fits(10));
  given.add({0, 4, 125}, fits(0)); // 100 + 25 is no more
  given.add({0, 32, 100}, fits(0)); // more workspace, no faster by itself
  VariantChoice choice = given.choose();
  EXPECT_EQ(choice.taken, 1u);
  EXPECT_EQ(given.asked, (std::vector<size_t>{0, 1}));
}

// Where one does not fit the smallest of its family is asked next; where that does not either, nobody else is.
TEST(VariantChoice, GivesAFamilyUpBySmallestMember) {
  Given given;
  given.add({0, 16, 100}, tooLarge(1000));
  given.add({0, 8, 110}, tooLarge(900));
  given.add({0, 1, 200}, tooLarge(800));
  given.add({1, 16, 120}, tooLarge(700));
  given.add({1, 8, 130}, fits(40));
  given.add({1, 1, 220}, fits(0));
  VariantChoice choice = given.choose();
  EXPECT_TRUE(choice.fits);
  EXPECT_EQ(choice.taken, 4u);
  EXPECT_EQ(given.asked, (std::vector<size_t>{0, 2, 3, 5, 4}));
}

TEST(VariantChoice, NamesTheSmallestArenaWhereNothingFits) {
  Given given;
  given.add({0, 16, 100}, tooLarge(1000));
  given.add({0, 1, 200}, tooLarge(800));
  given.add({1, 16, 120}, tooLarge(900));
  given.add({1, 1, 220}, tooLarge(800));
  VariantChoice choice = given.choose();
  EXPECT_FALSE(choice.fits);
  EXPECT_EQ(choice.taken, 1u); // of two alike the earlier
}

TEST(VariantChoice, AnyAsksTheSmallestMembersOnly) {
  Given given;
  given.add({0, 16, 100}, fits(0));
  given.add({0, 1, 200}, tooLarge(800));
  given.add({1, 16, 120}, fits(0));
  given.add({1, 1, 220}, fits(30));
  VariantChoice choice = given.choose(/*any=*/true);
  EXPECT_TRUE(choice.fits);
  EXPECT_EQ(choice.taken, 3u);
  EXPECT_EQ(given.asked, (std::vector<size_t>{1, 3}));
}

// Random variants whose plans get cheaper with the budget, as the planner's do, less workspace before more: the choice is
// the least of all, and never rises.
TEST(VariantChoice, IsTheLeastAndMonotoneInTheBudget) {
  for (uint32_t seed = 1; seed <= 500; ++seed) {
    std::mt19937 random(seed);
    auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    Given given;
    std::vector<uint64_t> least, most; // budgets: below `least` nothing fits, from `most` on nothing is run again
    for (uint32_t family = 0; family < 2; ++family)
      for (uint64_t tiles : {16, 8, 4, 2, 1}) {
        given.add({family, tiles, 1000 + 100 * family + (pick(2) ? 0 : (16 / tiles - 1) * pick(40))}, {});
        least.push_back(100 - 20 * family + 3 * tiles);
        most.push_back(250 - 80 * family + 3 * tiles);
      }
    uint64_t last = ~uint64_t(0);
    for (uint64_t budget = 60; budget <= 320; budget += 1 + pick(10)) {
      uint64_t best = ~uint64_t(0);
      for (size_t i = 0; i < given.variants.size(); ++i) {
        given.plans[i] = budget < least[i]  ? tooLarge(least[i])
                         : budget < most[i] ? fits((most[i] - budget) * 2)
                                            : fits(0);
        if (given.plans[i].fits)
          best = std::min(best, given.variants[i].stepCost + given.plans[i].recompute);
      }
      VariantChoice choice = given.choose();
      ASSERT_EQ(choice.fits, best != ~uint64_t(0));
      if (!choice.fits)
        continue;
      uint64_t cost = given.variants[choice.taken].stepCost + given.plans[choice.taken].recompute;
      EXPECT_EQ(cost, best) << "seed " << seed << " budget " << budget;
      EXPECT_LE(cost, last);
      last = cost;
    }
  }
}

} // namespace
