// What goes wrong: each kind of disagreement, misuse and death, beside what is right. A rank that is alone may wait for
// two seconds here.
#include "test/emulated_cuda/nccl/test/Harness.h"
#include <csignal>

using namespace amc::emulated;
using namespace amc::emulated::test;

namespace {

class Misuse : public testing::Test {
protected:
  void SetUp() override { setenv("EMULATED_NCCL_TIMEOUT", "2", 1); }
  void TearDown() override { unsetenv("EMULATED_NCCL_TIMEOUT"); }
};

// An all-reduce of four fp32, to be made wrong in one way by one rank.
struct AllReduce {
  size_t count = 4;
  ncclDataType_t type = ncclFloat32;
  ncclRedOp_t op = ncclSum;
};

class Disagreement : public Misuse, public testing::WithParamInterface<std::pair<AllReduce, const char *>> {};

TEST_P(Disagreement, IsFoundByBoth) {
  const auto &[other, says] = GetParam();
  EXPECT_EQ(
      runRanks(2,
               [&](Rank &self) {
                 AllReduce call = self.rank ? other : AllReduce();
                 Buffer<float> values(std::vector<float>(8, 1));
                 EXPECT_EQ(
                     ncclAllReduce(values.at(), values.at(), call.count, call.type, call.op, self.comm, self.stream()),
                     ncclSuccess);
                 self.synchronize();
                 std::string text = takeFindings();
                 EXPECT_EQ(text.empty(), !*says);
                 EXPECT_NE(text.find(says), std::string::npos) << text;
                 EXPECT_EQ(self.asyncError(), *says ? ncclInvalidUsage : ncclSuccess);
                 EXPECT_EQ(std::string(ncclGetLastError(self.comm)).find("ranks disagree") == 0, *says != 0);
                 EXPECT_EQ(std::isnan(values.read()[0]), *says != 0); // nobody takes it for a result
                 EXPECT_EQ(ncclAllReduce(values.at(), values.at(), 4, ncclFloat32, ncclSum, self.comm, self.stream()),
                           *says ? ncclInvalidUsage : ncclSuccess);
               }),
      all(2));
}

INSTANTIATE_TEST_SUITE_P(
    Ways, Disagreement,
    testing::Values(std::pair(AllReduce{}, ""),
                    std::pair(AllReduce{5},
                              "rank 0 is in all-reduce of 4 f32, sum, rank 1 in all-reduce of 5 f32, sum"),
                    std::pair(AllReduce{4, ncclInt32}, "rank 1 in all-reduce of 4 i32"),
                    std::pair(AllReduce{4, ncclFloat32, ncclMax}, "rank 1 in all-reduce of 4 f32, max")));

TEST_F(Misuse, CollectivesInAnotherOrder) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> values(std::vector<float>(4, 1)), all(std::vector<float>(8, 0));
                       for (int i = 0; i < 2; ++i)
                         if (i == self.rank)
                           ncclAllReduce(values.at(), values.at(), 4, ncclFloat32, ncclSum, self.comm, self.stream());
                         else
                           ncclAllGather(values.at(), all.at(), 4, ncclFloat32, self.comm, self.stream());
                       self.synchronize();
                       expectFinding("rank 0 is in all-reduce of 4 f32, sum, rank 1 in all-gather of 4 f32");
                     }),
            all(2));
}

TEST_F(Misuse, RootsThatDiffer) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> values(std::vector<float>(4, 1));
                       ncclBroadcast(values.at(), values.at(), 4, ncclFloat32, self.rank, self.comm, self.stream());
                       self.synchronize();
                       expectFinding("rank 0 is in broadcast of 4 f32, root 0, rank 1 in broadcast of 4 f32, root 1");
                     }),
            all(2));
}

TEST_F(Misuse, CollectiveThatOneRankLeavesOut) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> values({1});
                       if (self.rank == 0) {
                         ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream());
                         self.synchronize();
                         expectFinding(
                             "rank 0 has waited for 2 s in all-reduce of 1 f32, sum (its operation 1); rank 1 "
                             "is in none (its operation 0)");
                         EXPECT_EQ(self.asyncError(), ncclSystemError);
                       } else {
                         sleep(3);
                       }
                     }),
            all(2));
}

TEST_F(Misuse, CommunicatorDestroyedByOthers) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> values({1});
                       if (self.rank == 1)
                         return;
                       ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream());
                       self.synchronize();
                       expectFinding("rank 1 has destroyed the communicator, of which rank 0 is in all-reduce");
                     }),
            all(2));
}

// A dead rank ends the others at once, and is nobody's mistake.
TEST_F(Misuse, PeerThatDies) {
  setenv("EMULATED_NCCL_TIMEOUT", "30", 1);
  auto begin = std::time(nullptr);
  std::vector<int> codes = runRanks(4, [](Rank &self) {
    Buffer<float> values({1});
    ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream());
    self.synchronize();
    if (self.rank == 2)
      raise(SIGKILL);
    ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream());
    self.synchronize();
    EXPECT_EQ(self.asyncError(), ncclRemoteError);
    EXPECT_NE(std::string(ncclGetLastError(self.comm)).find("the process of rank 2 has ended"), std::string::npos);
    EXPECT_EQ(ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream()),
              ncclRemoteError);
  });
  EXPECT_EQ(codes, (std::vector<int>{0, 0, 128 + SIGKILL, 0}));
  EXPECT_LT(std::time(nullptr) - begin, 10);
}

TEST_F(Misuse, PeerThatDiesBeforeItHasJoined) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::vector<int> codes = runProcesses(2, [&](int rank) {
    if (rank == 1)
      raise(SIGKILL);
    Device device(rank);
    ncclComm_t comm;
    EXPECT_EQ(ncclCommInitRank(&comm, 2, id, rank), ncclSystemError); // it never came
    expectFinding("rank 1 has not come");
  });
  EXPECT_EQ(codes, (std::vector<int>{0, 128 + SIGKILL}));
}

TEST_F(Misuse, AbortEndsTheOthers) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> values({1});
                       if (self.rank == 1) {
                         EXPECT_EQ(ncclCommAbort(self.comm), ncclSuccess);
                         self.comm = nullptr;
                         return;
                       }
                       ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream());
                       self.synchronize();
                       EXPECT_EQ(self.asyncError(), ncclRemoteError);
                     }),
            all(2));
}

TEST_F(Misuse, InPlaceMeansItsOwnBlock) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> values(std::vector<float>(16, 1));
                       auto expectRefused = [](ncclResult_t result) {
                         EXPECT_EQ(result, ncclInvalidArgument);
                         expectFinding("not in place");
                       };
                       expectRefused(ncclAllReduce(values.at(0), values.at(1), 4, ncclFloat32, ncclSum, self.comm,
                                                   self.stream()));
                       expectRefused(ncclAllGather(values.at(4 * (1 - self.rank)), values.at(), 4, ncclFloat32,
                                                   self.comm, self.stream()));
                       expectRefused(ncclReduceScatter(values.at(), values.at(4 * (1 - self.rank)), 4, ncclFloat32,
                                                       ncclSum, self.comm, self.stream()));
                       expectRefused(ncclAlltoAll(values.at(), values.at(), 4, ncclFloat32, self.comm, self.stream()));
                       EXPECT_EQ(ncclAllReduce(reinterpret_cast<char *>(values.at()) + 2, values.at(8), 1, ncclFloat32,
                                               ncclSum, self.comm, self.stream()),
                                 ncclInvalidArgument);
                       expectFinding("is not aligned");
                     }),
            all(2));
}

TEST_F(Misuse, CountBeyondTheAllocation) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       const size_t count = 1 << 20;
                       Buffer<float> values(std::vector<float>(self.rank ? count : count - 64, 1));
                       ncclResult_t result = ncclAllReduce(values.at(), values.at(), count, ncclFloat32, ncclSum,
                                                           self.comm, self.stream());
                       EXPECT_EQ(result, self.rank ? ncclSuccess : ncclUnhandledCudaError);
                       EXPECT_EQ(takeFindings().empty(), self.rank == 1);
                       if (self.rank)
                         self.synchronize();
                       EXPECT_EQ(self.asyncError(), self.rank ? ncclRemoteError : ncclUnhandledCudaError);
                     }),
            all(2));
}

TEST_F(Misuse, InputThatWasNeverWritten) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> sums(std::vector<float>(128, 0));
                       for (size_t written : {512, 508}) { // of 512 bytes
                         CUdeviceptr values;
                         MUST(cuMemAlloc(&values, 512));
                         MUST(cuMemsetD8(values, 0, written));
                         ncclAllReduce(reinterpret_cast<void *>(values), sums.at(), 128, ncclFloat32, ncclSum,
                                       self.comm, self.stream());
                         self.synchronize();
                         EXPECT_EQ(takeFindings().empty(), written == 512);
                         MUST(cuMemFree(values));
                       }
                     }),
            all(2));
}

TEST_F(Misuse, MessagesThatDoNotFit) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> values(std::vector<float>(8, 1));
                       if (self.rank == 0)
                         ncclSend(values.at(), 8, ncclFloat32, 1, self.comm, self.stream());
                       else
                         ncclRecv(values.at(), 4, ncclFloat32, 0, self.comm, self.stream());
                       self.synchronize();
                       EXPECT_EQ(self.asyncError(), self.rank ? ncclInvalidUsage : ncclRemoteError);
                       if (self.rank)
                         expectFinding("rank 0 sends 8 f32, rank 1 receives 4 f32");
                     }),
            all(2));
}

// Two sends that wait for each other: only a group lets them go on side by side.
TEST_F(Misuse, MessagesThatRelyOnBuffers) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> out({1}), in({0});
                       ncclSend(out.at(), 1, ncclFloat32, 1 - self.rank, self.comm, self.stream());
                       ncclRecv(in.at(), 1, ncclFloat32, 1 - self.rank, self.comm, self.stream());
                       self.synchronize();
                       EXPECT_NE(self.asyncError(), ncclSuccess);
                       takeFindings(); // of the first to give up
                     }),
            all(2));
}

TEST_F(Misuse, Groups) {
  EXPECT_EQ(runRanks(1,
                     [](Rank &self) {
                       Buffer<float> values({1});
                       EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
                       expectFinding("no group has been begun");
                       EXPECT_EQ(ncclSend(values.at(), 1, ncclFloat32, 0, self.comm, self.stream()), ncclInvalidUsage);
                       expectFinding("in one group");
                       CUstream other;
                       MUST(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
                       ncclGroupStart();
                       ncclGroupStart(); // they nest
                       ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream());
                       EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
                       ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, other);
                       EXPECT_EQ(ncclCommDestroy(self.comm), ncclInvalidUsage);
                       expectFinding("ncclCommDestroy: in a group");
                       EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
                       expectFinding("on different streams");
                       MUST(cuStreamDestroy(other));
                     }),
            all(1));
}

// Operations of one communicator keep the order of their calls on whatever streams, as with the original.
TEST_F(Misuse, StreamsOfOneCommunicator) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       CUstream other;
                       MUST(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
                       Buffer<float> sums(std::vector<float>(20, 1)), largest(std::vector<float>(20, 1));
                       for (int i = 0; i < 20; ++i) {
                         ncclAllReduce(sums.at(i), sums.at(i), 1, ncclFloat32, ncclSum, self.comm, self.stream());
                         ncclAllReduce(largest.at(i), largest.at(i), 1, ncclFloat32, ncclMax, self.comm, other);
                       }
                       MUST(cuStreamSynchronize(other));
                       self.synchronize();
                       EXPECT_EQ(sums.read(), std::vector<float>(20, 2));
                       EXPECT_EQ(largest.read(), std::vector<float>(20, 1));
                       MUST(cuStreamDestroy(other));
                     }),
            all(2));
}

TEST_F(Misuse, UseAfterDestroy) {
  EXPECT_EQ(runRanks(1,
                     [](Rank &self) {
                       Buffer<float> values({1});
                       ncclComm_t comm = std::exchange(self.comm, nullptr);
                       ASSERT_EQ(ncclCommFinalize(comm), ncclSuccess);
                       EXPECT_EQ(ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, comm, self.stream()),
                                 ncclInvalidUsage);
                       expectFinding("has been finalized");
                       ASSERT_EQ(ncclCommDestroy(comm), ncclSuccess);
                       EXPECT_EQ(ncclCommDestroy(comm), ncclInvalidArgument);
                       expectFinding("has been destroyed");
                       EXPECT_EQ(ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, comm, self.stream()),
                                 ncclInvalidArgument);
                       expectFinding("has been destroyed");
                     }),
            all(1));
}

TEST_F(Misuse, CommunicatorOfAnotherDevice) {
  EXPECT_EQ(runRanks(1,
                     [](Rank &self) {
                       Buffer<float> values({1});
                       {
                         Device other(1);
                         EXPECT_EQ(
                             ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, other.stream),
                             ncclInvalidUsage);
                         expectFinding("a communicator of device 0 while the current context is of device 1");
                       }
                       MUST(cuCtxSetCurrent(self.device.context));
                     }),
            all(1));
}

TEST_F(Misuse, TwoRanksOnOneDevice) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  EXPECT_EQ(runProcesses(2,
                         [&](int rank) {
                           Device device(0);
                           ncclComm_t comm;
                           EXPECT_EQ(ncclCommInitRank(&comm, 2, id, rank), ncclInvalidUsage);
                           expectFinding("ranks 0 and 1 use the same device");
                         }),
            all(2));
}

TEST_F(Misuse, CommunicatorLeftBehind) {
  EXPECT_EQ(runRanks(2, [](Rank &self) { self.comm = self.rank ? nullptr : self.comm; }), (std::vector<int>{0, found}));
}

} // namespace
