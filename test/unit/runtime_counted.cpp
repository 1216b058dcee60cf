// A number of things, as messages say it.
#include "runtime/support/Counted.h"
#include <gtest/gtest.h>

using amc::rt::counted;

TEST(Counted, OneAndMany) {
  EXPECT_EQ(counted(0, "rank"), "0 ranks");
  EXPECT_EQ(counted(1, "rank"), "1 rank");
  EXPECT_EQ(counted(2, "micro-batch"), "2 micro-batches");
  EXPECT_EQ(counted(1, "micro-batch"), "1 micro-batch");
}
