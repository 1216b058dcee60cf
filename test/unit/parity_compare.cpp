// The comparisons behind the parity table: what must not pass does not.
#include "test/parity/Compare.h"
#include <gtest/gtest.h>

using namespace amc::parity;

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 infinity = std::numeric_limits<double>::infinity();

TEST(Compare, GradientIsMeasuredByItsLargestElement) {
  // 1e-4 of 2 is 2e-4; half of that is half the bound.
  EXPECT_NEAR(gradientShare({2, 1 + 1e-4}, {2, 1}, 1).share, 0.5, 1e-9);
  EXPECT_FALSE(gradientShare({2, 1 + 3e-4}, {2, 1}, 1).share <= 1);
}

TEST(Compare, VanishingGradientIsMeasuredByTheGlobalNorm) {
  Share noise = gradientShare({4e-7}, {1e-9}, 1);
  EXPECT_TRUE(noise.vanishing);
  EXPECT_NEAR(noise.share, 0.4, 1e-9);
  EXPECT_FALSE(gradientShare({2e-6}, {1e-9}, 1).share <= 1);
}

TEST(Compare, NanInfinityAndSizesNeverPass) {
  for (double bad : {nan, infinity, -infinity}) {
    EXPECT_FALSE(gradientShare({bad}, {1}, 1).share <= 1);
    EXPECT_FALSE(gradientShare({bad}, {1e-9}, 1).share <= 1);
    EXPECT_FALSE(gradientShare({1}, {bad}, 1).share <= 1);
    EXPECT_FALSE(weightShare({bad}, {1}, {0}) <= 1);
    EXPECT_FALSE(weightShare({1}, {bad}, {0}) <= 1);
    EXPECT_FALSE(relative(bad, 1) <= lossBound);
    EXPECT_FALSE(relative(1, bad) <= lossBound);
  }
  EXPECT_FALSE(gradientShare({1, 1}, {1}, 1).share <= 1);
  EXPECT_FALSE(weightShare({1}, {1, 1}, {0, 0}) <= 1);
}

// A weight that did not move in the reference must not move here.
TEST(Compare, WeightThatStaysMustStay) {
  EXPECT_EQ(weightShare({3}, {3}, {3}), 0);
  EXPECT_FALSE(weightShare({3.0001}, {3}, {3}) <= 1);
  EXPECT_NEAR(weightShare({4.005}, {4}, {3}), 0.5, 1e-9);
}

TEST(Compare, WorstKeepsNan) {
  Worst worst;
  worst.add(0.5, "a");
  worst.add(nan, "b");
  worst.add(0.7, "c");
  EXPECT_EQ(worst.name, "b");
  EXPECT_FALSE(worst.holds());
}

} // namespace
