// Learning-rate schedules, the log line and its JSON, the memory table's reading of smaps.
#include "runtime/trainer/MemoryTable.h"
#include "runtime/trainer/Metrics.h"
#include "runtime/trainer/Schedule.h"
#include "test/unit/trainer_support.h"

#include <cmath>

using namespace amc::rt;
using namespace amc::rt::test;

TEST(Schedule, ConstantWithWarmup) {
  Schedule schedule{ScheduleKind::Constant, 1e-3, 0, 4, 100};
  EXPECT_DOUBLE_EQ(schedule.at(1), 0.25e-3);
  EXPECT_DOUBLE_EQ(schedule.at(4), 1e-3);
  EXPECT_EQ(schedule.at(5), 1e-3);
  EXPECT_EQ(schedule.at(1000), 1e-3);
  EXPECT_EQ((Schedule{ScheduleKind::Constant, 0.5, 0, 0, 10}.at(1)), 0.5);
}

// Ten steps from 1 to 0.1, no warm-up: step s has 0.1 + 0.9 * (1 - (s - 1) / 10).
TEST(Schedule, Linear) {
  Schedule schedule{ScheduleKind::Linear, 1, 0.1, 0, 10};
  EXPECT_DOUBLE_EQ(schedule.at(1), 1);
  EXPECT_DOUBLE_EQ(schedule.at(6), 0.55);
  EXPECT_DOUBLE_EQ(schedule.at(10), 0.19);
  EXPECT_DOUBLE_EQ(schedule.at(11), 0.1);
}

// Two steps of warm-up, eight of decay: step 3 is full, step 7 is half way down.
TEST(Schedule, CosineAfterWarmup) {
  Schedule schedule{ScheduleKind::Cosine, 2, 0, 2, 10};
  EXPECT_DOUBLE_EQ(schedule.at(1), 1);
  EXPECT_DOUBLE_EQ(schedule.at(2), 2);
  EXPECT_DOUBLE_EQ(schedule.at(3), 2);
  EXPECT_DOUBLE_EQ(schedule.at(7), 1);
  EXPECT_NEAR(schedule.at(10), 1 + std::cos(M_PI * 7 / 8), 1e-15);
  EXPECT_EQ(schedule.at(11), 0);
}

// A warm-up longer than the run never divides by zero.
TEST(Schedule, WarmupBeyondTheHorizon) {
  Schedule schedule{ScheduleKind::Cosine, 1, 0, 20, 10};
  EXPECT_DOUBLE_EQ(schedule.at(10), 0.5);
  EXPECT_EQ(schedule.at(21), 0);
}

// Megatron's, at W = 4: rate * sqrt(4 / finished steps), no lower than min.
TEST(Schedule, InverseSquareRoot) {
  Schedule schedule{ScheduleKind::InverseSquareRoot, 1, 0.25, 4, 100};
  EXPECT_DOUBLE_EQ(schedule.at(2), 0.5);
  EXPECT_DOUBLE_EQ(schedule.at(5), 1);        // sqrt(4 / 4)
  EXPECT_DOUBLE_EQ(schedule.at(17), 0.5);     // sqrt(4 / 16)
  EXPECT_DOUBLE_EQ(schedule.at(65), 0.25);    // sqrt(4 / 64)
  EXPECT_DOUBLE_EQ(schedule.at(90), 0.25);    // min
  EXPECT_DOUBLE_EQ(schedule.at(101), 0.25);
  Schedule without{ScheduleKind::InverseSquareRoot, 1, 0, 0, 100};
  EXPECT_EQ(without.at(1), 1);
  EXPECT_EQ(without.at(2), 1);
  EXPECT_DOUBLE_EQ(without.at(5), 0.5);
}

// Flat until D = 4 steps before the end N = 12, then down; finished steps 8 to 12 are progress 0 to 1.
TEST(Schedule, WarmupStableDecay) {
  Schedule schedule{ScheduleKind::WarmupStableDecay, 1, 0.1, 2, 12};
  schedule.wsdSteps = 4;
  for (uint64_t step : {2, 3, 8, 9})
    EXPECT_DOUBLE_EQ(schedule.at(step), 1) << step;
  const std::tuple<DecayStyle, double> at11[] = {{DecayStyle::Linear, 0.5},
                                                 {DecayStyle::Cosine, 0.5},
                                                 {DecayStyle::Exponential, 2 * std::sqrt(0.5) - 1},
                                                 {DecayStyle::MinusSqrt, 1 - std::sqrt(0.5)}};
  for (auto [style, share] : at11) {
    schedule.wsdStyle = style;
    EXPECT_NEAR(schedule.at(11), 0.1 + 0.9 * share, 1e-15) << decayName(style);
    EXPECT_EQ(schedule.at(13), 0.1);
  }
  schedule.wsdSteps = 40; // longer than the run: it decays all along
  schedule.wsdStyle = DecayStyle::Linear;
  EXPECT_NEAR(schedule.at(11), 0.1 + 0.9 * (1 - 10.0 / 40), 1e-15);
}

TEST(Schedule, WarmupFromARate) {
  Schedule schedule{ScheduleKind::Constant, 1, 0, 4, 100};
  schedule.initRate = 0.2;
  EXPECT_DOUBLE_EQ(schedule.at(1), 0.4);
  EXPECT_DOUBLE_EQ(schedule.at(4), 1);
}

TEST(Schedule, Names) {
  EXPECT_EQ(scheduleFromName("WSD"), ScheduleKind::WarmupStableDecay);
  EXPECT_EQ(scheduleFromName("inverse-square-root"), ScheduleKind::InverseSquareRoot);
  EXPECT_EQ(decayFromName("minus_sqrt"), DecayStyle::MinusSqrt);
  EXPECT_EQ(scheduleNames(), "constant, linear, cosine, inverse-square-root or WSD");
  EXPECT_EQ(decayNames(), "linear, cosine, exponential or minus_sqrt");

  EXPECT_EQ(scheduleFromName("cosine"), ScheduleKind::Cosine);
  EXPECT_EQ(scheduleFromName("cosin"), std::nullopt);
  EXPECT_EQ(scheduleName(ScheduleKind::Linear), "linear");
}

// The design's own example, to the character.
TEST(Metrics, LogLine) {
  StepRecord record;
  record.step = 10;
  record.loss = 5.1234;
  record.gradNorm = 1.2345;
  record.learningRate = 1e-5;
  record.memoryBytes = 7838315315; // 7.30 GiB
  record.tokensPerSecond = 5123.45;
  record.ranks = 8;
  record.labelTokens = 16384;
  EXPECT_EQ(logLine(record), "step 10 | epoch 0 | loss 5.1234 | grad_norm 1.2345 | lr 1.00e-05 | "
                             "mem 7.30 GiB | tps 5123.45(640.43/rank) | num_label_tokens 16384");
}

// Two digits of a GiB say nothing about a small model.
TEST(Metrics, SmallMemory) {
  EXPECT_EQ(gibibytes(4237056), "4.04 MiB");
  EXPECT_EQ(gibibytes(uint64_t(102) << 20), "102.00 MiB");
  EXPECT_EQ(gibibytes(uint64_t(103) << 20), "0.10 GiB");
}

TEST(Metrics, LogJson) {
  StepRecord record;
  record.step = 2;
  record.epoch = 1;
  record.loss = 0.1;
  record.gradNorm = 2.5;
  record.learningRate = 1e-3;
  record.memoryBytes = 4096;
  record.tokensPerSecond = 8;
  record.labelTokens = 3;
  EXPECT_EQ(logJson(record),
            R"({"step":2,"epoch":1,"loss":0.1,"grad_norm":2.5,"lr":0.001,"mem":4096,)"
            R"("tps":8.0,"num_label_tokens":3})");
  record.gradNorm.reset();
  record.loss = std::nan("");
  EXPECT_EQ(logJson(record),
            R"({"step":2,"epoch":1,"loss":null,"grad_norm":null,"lr":0.001,"mem":4096,)"
            R"("tps":8.0,"num_label_tokens":3})");
}

// One mapping of each kind: program 4 kB, heap 8 kB, a guard page and the thread stack above it 16
// kB, the arena in two pieces 32 + 64 kB, main stack 128 kB, other anonymous memory 256 kB.
TEST(MemoryTable, EveryMappingHasALine) {
  std::string smaps =
      "00400000-00500000 r-xp 00000000 08:01 12   /usr/bin/amrun\nSize: 9 kB\nRss:   4 kB\n"
      "01000000-01100000 rw-p 00000000 00:00 0    [heap]\nRss:   8 kB\n"
      "7f0000000000-7f0000001000 ---p 00000000 00:00 0 \nRss: 0 kB\n"
      "7f0000001000-7f0000801000 rw-p 00000000 00:00 0 \nRss: 16 kB\n"
      "7f1000000000-7f1000200000 rw-p 00000000 00:00 0 \nRss: 32 kB\n"
      "7f1000200000-7f1000300000 rw-p 00000000 00:00 0 \nRss: 64 kB\n"
      "7f2000000000-7f2000100000 rw-p 00000000 00:00 0 \nRss: 256 kB\n"
      "7ffe00000000-7ffe00100000 rw-p 00000000 00:00 0 [stack]\nRss: 128 kB\n";
  ResidentMemory memory = parseSmaps(smaps, 0x7f1000000000, 0x7f1000300000);
  EXPECT_EQ(memory.files, 4 * 1024u);
  EXPECT_EQ(memory.heap, (8 + 256) * 1024u);
  EXPECT_EQ(memory.stacks, (16 + 128) * 1024u);
  EXPECT_EQ(memory.arena, (32 + 64) * 1024u);
  EXPECT_EQ(parseSmaps(smaps, 0, 0).arena, 0u);
  EXPECT_EQ(parseSmaps("", 0, 0).total(), 0u);
}

// Of several ranks: this one's arena 32 kB of a mapping that has another's as well, 96 kB in all; a
// peer's 128 kB; what MPI shares 8 kB. Only the first is this rank's, besides a library's 4 kB.
TEST(MemoryTable, SharedMemoryIsNotThisRanks) {
  std::string smaps =
      "7f0000000000-7f0000100000 r-xp 00000000 08:01 12   /usr/lib/libm.so\nRss:   4 kB\n"
      "7f1000000000-7f1000010000 rw-s 00000000 00:01 7    /memfd:amc-arena (deleted)\nRss: 96 kB\n"
      "7f2000000000-7f2000100000 rw-s 00000000 00:01 8    /memfd:amc-arena (deleted)\nRss: 128 kB\n"
      "7f3000000000-7f3000100000 rw-s 00000000 00:01 9    /dev/shm/vader\nRss: 8 kB\n";
  ResidentMemory memory = parseSmaps(smaps, 0x7f1000000000, 0x7f1000008000);
  EXPECT_EQ(memory.arena, 32 * 1024u);
  EXPECT_EQ(memory.files, 4 * 1024u);
  EXPECT_EQ(memory.shared, (64 + 128 + 8) * 1024u);
  EXPECT_EQ(memory.total(), (32 + 4) * 1024u);
}
