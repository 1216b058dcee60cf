// The events of an executor: how many there is room for, and what a run leaves. And the limits of the device they are
// held against.
#include "runtime/executor/Timeline.h"
#include "runtime/device/Device.h"
#include <gtest/gtest.h>

using namespace amc::rt;

TEST(Timeline, KeepsWhatThereIsRoomFor) {
  auto made = Timeline::create(2, 1);
  ASSERT_TRUE(made.ok());
  Timeline &timeline = **made;
  auto at = [](int64_t nanoseconds) { return Timeline::Clock::time_point(std::chrono::nanoseconds(nanoseconds)); };
  for (uint64_t i = 0; i < 3; ++i)
    timeline.add(Timeline::Lane::Compute, Timeline::Kind::Instruction, i, at(10 * static_cast<int64_t>(i)), at(35));
  timeline.add(Timeline::Lane::Communication, Timeline::Kind::Instruction, 7, at(5), at(6));
  auto compute = timeline.events(Timeline::Lane::Compute), other = timeline.events(Timeline::Lane::Communication);
  ASSERT_EQ(compute.size(), 2u);
  EXPECT_EQ(compute[1].number, 1u);
  EXPECT_EQ(compute[1].begin, 10);
  EXPECT_EQ(compute[1].end, 35);
  ASSERT_EQ(other.size(), 1u);
  EXPECT_EQ(other[0].number, 7u);
  EXPECT_EQ(timeline.lost(), 1u);
  EXPECT_EQ(timeline.memoryBytes(), 3 * sizeof(Timeline::Event));
}

// More than any address space has.
TEST(Timeline, NoMemory) {
  auto made = Timeline::create(uint64_t(1) << 58, 0);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.status().kind(), ErrorKind::Limit);
}

// Positive and sane for any machine of today; what they are is no test's business.
TEST(Limits, AreMeasured) {
  auto device = createDevice("cpu", {2, false, nullptr, {}});
  ASSERT_TRUE(device.ok()) << device.status().message();
  Expected<DeviceLimits> limits = (*device)->measureLimits();
  ASSERT_TRUE(limits.ok()) << limits.status().message();
  for (double rate : {limits->fp32, limits->bf16, limits->stream}) {
    EXPECT_GT(rate, 1e6);
    EXPECT_LT(rate, 1e16);
  }
}
