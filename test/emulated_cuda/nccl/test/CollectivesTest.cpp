// What arrives: every collective, type and operation, over two and four ranks, through pieces and without.
#include "test/emulated_cuda/nccl/test/Harness.h"
#include <algorithm>

using namespace amc::emulated;
using namespace amc::emulated::test;

namespace {

// A rank's input, known to all.
std::vector<float> inputOf(int rank, size_t count) { return elements<float>(uniform(count, 100 + rank)); }

// The sum in the order that is promised.
std::vector<float> sumOf(int ranks, size_t count) {
  std::vector<float> sum = inputOf(0, count);
  for (int rank = 1; rank < ranks; ++rank) {
    std::vector<float> other = inputOf(rank, count);
    for (size_t i = 0; i < count; ++i)
      sum[i] += other[i];
  }
  return sum;
}

template <class T> std::vector<T> part(const std::vector<T> &values, size_t first, size_t count) {
  return std::vector<T>(values.begin() + first, values.begin() + first + count);
}

// Ranks, and elements of a rank: less than a piece, and several of where ranks have blocks (a slot has 512 K of fp32).
class Collectives : public testing::TestWithParam<std::tuple<int, size_t>> {
protected:
  const int ranks = std::get<0>(GetParam());
  const size_t count = std::get<1>(GetParam());
  void expectAllRight(const std::function<void(Rank &)> &body) { EXPECT_EQ(runRanks(ranks, body), all(ranks)); }
};

TEST_P(Collectives, AllReduce) {
  expectAllRight([&](Rank &self) {
    Buffer<float> in(inputOf(self.rank, count)), out(std::vector<float>(count, 0));
    ASSERT_EQ(ncclAllReduce(in.at(), out.at(), count, ncclFloat32, ncclSum, self.comm, self.stream()), ncclSuccess);
    ASSERT_EQ(ncclAllReduce(in.at(), in.at(), count, ncclFloat32, ncclSum, self.comm, self.stream()), ncclSuccess);
    self.synchronize();
    EXPECT_EQ(out.read(), sumOf(self.ranks, count));
    EXPECT_EQ(in.read(), sumOf(self.ranks, count));
  });
}

TEST_P(Collectives, ReduceAndBroadcast) {
  expectAllRight([&](Rank &self) {
    Buffer<float> in(inputOf(self.rank, count)), out(std::vector<float>(count, 0));
    const int root = self.ranks - 1;
    ASSERT_EQ(ncclReduce(in.at(), self.rank == root ? out.at() : nullptr, count, ncclFloat32, ncclSum, root, self.comm,
                         self.stream()),
              ncclSuccess);
    self.synchronize();
    EXPECT_EQ(out.read(), self.rank == root ? sumOf(self.ranks, count) : std::vector<float>(count, 0));
    ASSERT_EQ(ncclBroadcast(in.at(), out.at(), count, ncclFloat32, 1, self.comm, self.stream()), ncclSuccess);
    ASSERT_EQ(ncclBcast(in.at(), count, ncclFloat32, 1, self.comm, self.stream()), ncclSuccess);
    self.synchronize();
    EXPECT_EQ(out.read(), inputOf(1, count));
    EXPECT_EQ(in.read(), inputOf(1, count));
  });
}

TEST_P(Collectives, ReduceScatterAndAllGather) {
  expectAllRight([&](Rank &self) {
    const size_t whole = count * self.ranks;
    for (bool inPlace : {false, true}) {
      Buffer<float> in(inputOf(self.rank, whole)), out(std::vector<float>(count, 0)), all(std::vector<float>(whole, 0));
      void *mine = inPlace ? in.at(self.rank * count) : out.at();
      void *gathered = inPlace ? in.at() : all.at();
      ASSERT_EQ(ncclReduceScatter(in.at(), mine, count, ncclFloat32, ncclSum, self.comm, self.stream()), ncclSuccess);
      self.synchronize();
      std::vector<float> got = inPlace ? part(in.read(), self.rank * count, count) : out.read();
      EXPECT_EQ(got, part(sumOf(self.ranks, whole), self.rank * count, count));
      ASSERT_EQ(ncclAllGather(mine, gathered, count, ncclFloat32, self.comm, self.stream()), ncclSuccess);
      self.synchronize();
      EXPECT_EQ(inPlace ? in.read() : all.read(), sumOf(self.ranks, whole));
    }
  });
}

TEST_P(Collectives, GatherScatterAndAllToAll) {
  expectAllRight([&](Rank &self) {
    const size_t whole = count * self.ranks;
    const bool isRoot = self.rank == 1;
    Buffer<float> in(inputOf(self.rank, whole)), out(std::vector<float>(count, 0)), all(std::vector<float>(whole, 0));
    ASSERT_EQ(ncclAlltoAll(in.at(), all.at(), count, ncclFloat32, self.comm, self.stream()), ncclSuccess);
    self.synchronize();
    for (int rank = 0; rank < self.ranks; ++rank)
      EXPECT_EQ(part(all.read(), rank * count, count), part(inputOf(rank, whole), self.rank * count, count));
    ASSERT_EQ(ncclScatter(isRoot ? in.at() : nullptr, out.at(), count, ncclFloat32, 1, self.comm, self.stream()),
              ncclSuccess);
    self.synchronize();
    EXPECT_EQ(out.read(), part(inputOf(1, whole), self.rank * count, count));
    ASSERT_EQ(ncclGather(out.at(), isRoot ? all.at() : nullptr, count, ncclFloat32, 1, self.comm, self.stream()),
              ncclSuccess);
    self.synchronize();
    if (isRoot) {
      EXPECT_EQ(all.read(), inputOf(1, whole));
    }
  });
}

// A ring in a group, in both directions at once; a message to oneself.
TEST_P(Collectives, Messages) {
  expectAllRight([&](Rank &self) {
    const int next = (self.rank + 1) % self.ranks, previous = (self.rank + self.ranks - 1) % self.ranks;
    Buffer<float> in(inputOf(self.rank, count)), fromPrevious(std::vector<float>(count, 0)),
        fromNext(std::vector<float>(count, 0)), own(std::vector<float>(count, 0));
    ASSERT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(ncclSend(in.at(), count, ncclFloat32, next, self.comm, self.stream()), ncclSuccess);
    EXPECT_EQ(ncclRecv(fromPrevious.at(), count, ncclFloat32, previous, self.comm, self.stream()), ncclSuccess);
    EXPECT_EQ(ncclSend(in.at(), count, ncclFloat32, previous, self.comm, self.stream()), ncclSuccess);
    EXPECT_EQ(ncclRecv(fromNext.at(), count, ncclFloat32, next, self.comm, self.stream()), ncclSuccess);
    EXPECT_EQ(ncclSend(in.at(), count, ncclFloat32, self.rank, self.comm, self.stream()), ncclSuccess);
    EXPECT_EQ(ncclRecv(own.at(), count, ncclFloat32, self.rank, self.comm, self.stream()), ncclSuccess);
    ASSERT_EQ(ncclGroupEnd(), ncclSuccess);
    self.synchronize();
    EXPECT_EQ(fromPrevious.read(), inputOf(previous, count));
    EXPECT_EQ(fromNext.read(), inputOf(next, count));
    EXPECT_EQ(own.read(), inputOf(self.rank, count));
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, Collectives, testing::Combine(testing::Values(2, 4), testing::Values(1, 37, 300001)));

TEST(Pieces, AllReduceHasSeveral) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       const size_t count = 1200001;
                       Buffer<float> values(inputOf(self.rank, count));
                       ASSERT_EQ(ncclAllReduce(values.at(), values.at(), count, ncclFloat32, ncclSum, self.comm,
                                               self.stream()),
                                 ncclSuccess);
                       self.synchronize();
                       EXPECT_EQ(values.read(), sumOf(2, count));
                     }),
            all(2));
}

// Of each type its sum, product, minimum, maximum and average over three ranks, of values small enough to be exact.
template <class E>
void everyOperation(Rank &self, ncclDataType_t type, const std::function<E(double)> &make,
                    const std::function<double(E)> &read) {
  auto value = [](int rank, size_t i) { return double((rank + i) % 3 + 1); };
  std::vector<E> in;
  for (size_t i = 0; i < 9; ++i)
    in.push_back(make(value(self.rank, i)));
  for (ncclRedOp_t op : {ncclSum, ncclProd, ncclMin, ncclMax, ncclAvg}) {
    Buffer<E> from(in), to(in);
    ASSERT_EQ(ncclAllReduce(from.at(), to.at(), in.size(), type, op, self.comm, self.stream()), ncclSuccess);
    self.synchronize();
    std::vector<E> got = to.read();
    double want[] = {6, 6, 3, 1, 2}; // of 1, 2, 3 in any order; by ncclRedOp_t
    for (E one : got)
      EXPECT_EQ(read(one), want[op]) << type << " " << op;
  }
}

TEST(Types, AllOperations) {
  EXPECT_EQ(runRanks(3,
                     [](Rank &self) {
                       auto integers = [&]<class E>(E, ncclDataType_t type) {
                         everyOperation<E>(
                             self, type, [](double v) { return E(v); }, [](E v) { return double(v); });
                       };
                       auto floats = [&]<class E>(E, ncclDataType_t type) {
                         everyOperation<E>(
                             self, type, [](double v) { return element<E>(v); }, [](E v) { return double(widen(v)); });
                       };
                       integers(int8_t(), ncclInt8);
                       integers(uint8_t(), ncclUint8);
                       integers(int32_t(), ncclInt32);
                       integers(uint32_t(), ncclUint32);
                       integers(int64_t(), ncclInt64);
                       integers(uint64_t(), ncclUint64);
                       integers(__nv_fp8_e4m3(), ncclFloat8e4m3);
                       integers(__nv_fp8_e5m2(), ncclFloat8e5m2);
                       floats(float(), ncclFloat32);
                       floats(double(), ncclFloat64);
                       floats(Half(), ncclFloat16);
                       floats(BFloat16(), ncclBfloat16);
                     }),
            all(3));
}

// bf16 is added in fp32 and rounded once: 256 + 1 + 1 is 258, where rounding after each would stay at 256.
TEST(Types, Bf16IsRoundedOnce) {
  EXPECT_EQ(runRanks(3,
                     [](Rank &self) {
                       Buffer<BFloat16> values({element<BFloat16>(self.rank ? 1 : 256)});
                       ASSERT_EQ(
                           ncclAllReduce(values.at(), values.at(), 1, ncclBfloat16, ncclSum, self.comm, self.stream()),
                           ncclSuccess);
                       self.synchronize();
                       EXPECT_EQ(widen(values.read()[0]), 258);
                     }),
            all(3));
}

// Ascending ranks: (2^24 + 1) + -2^24 is 0, in any other order 1.
TEST(Types, RanksAreAddedInTheirOrder) {
  EXPECT_EQ(runRanks(3,
                     [](Rank &self) {
                       float mine[] = {0x1p24f, 1, -0x1p24f};
                       Buffer<float> values({mine[self.rank]});
                       ASSERT_EQ(
                           ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream()),
                           ncclSuccess);
                       self.synchronize();
                       EXPECT_EQ(values.read()[0], 0);
                     }),
            all(3));
}

// Halves of four ranks, ordered by key against their ranks; the last rank is in none.
TEST(Splits, MakeCommunicators) {
  EXPECT_EQ(runRanks(4,
                     [](Rank &self) {
                       ncclComm_t half = nullptr;
                       int color = self.rank == 3 ? NCCL_SPLIT_NOCOLOR : self.rank % 2;
                       ASSERT_EQ(ncclCommSplit(self.comm, color, -self.rank, &half, nullptr), ncclSuccess);
                       ASSERT_EQ(half == nullptr, self.rank == 3);
                       if (!half)
                         return;
                       int rank, ranks, device;
                       ASSERT_EQ(ncclCommUserRank(half, &rank), ncclSuccess);
                       ASSERT_EQ(ncclCommCount(half, &ranks), ncclSuccess);
                       ASSERT_EQ(ncclCommCuDevice(half, &device), ncclSuccess);
                       EXPECT_EQ(ranks, self.rank == 1 ? 1 : 2);
                       EXPECT_EQ(rank, self.rank == 0 ? 1 : 0);
                       EXPECT_EQ(device, self.rank);
                       Buffer<float> values({float(self.rank + 1)});
                       ASSERT_EQ(ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, half, self.stream()),
                                 ncclSuccess);
                       self.synchronize();
                       EXPECT_EQ(values.read()[0], self.rank == 1 ? 2 : 4);
                       EXPECT_EQ(ncclCommDestroy(half), ncclSuccess);
                     }),
            all(4));
}

// Two communicators on two streams, of which each rank waits for another one first: neither keeps the other waiting.
TEST(Splits, WorkSideBySide) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       ncclComm_t other = nullptr;
                       CUstream otherStream;
                       ASSERT_EQ(ncclCommSplit(self.comm, 0, self.rank, &other, nullptr), ncclSuccess);
                       MUST(cuStreamCreate(&otherStream, CU_STREAM_NON_BLOCKING));
                       Buffer<float> sums({1}), largest({float(self.rank)});
                       for (int i = 0; i < 2; ++i)
                         if (i == self.rank)
                           ncclAllReduce(sums.at(), sums.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream());
                         else
                           ncclAllReduce(largest.at(), largest.at(), 1, ncclFloat32, ncclMax, other, otherStream);
                       if (self.rank)
                         self.synchronize();
                       MUST(cuStreamSynchronize(otherStream));
                       self.synchronize();
                       EXPECT_EQ(sums.read()[0], 2);
                       EXPECT_EQ(largest.read()[0], 1);
                       EXPECT_EQ(ncclCommDestroy(other), ncclSuccess);
                       MUST(cuStreamDestroy(otherStream));
                     }),
            all(2));
}

// A captured collective takes place at every launch; nothing at the capture.
TEST(Graphs, CollectivesRunAgain) {
  EXPECT_EQ(runRanks(2,
                     [](Rank &self) {
                       Buffer<float> values({1});
                       MUST(cuStreamBeginCapture(self.device.stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
                       ASSERT_EQ(
                           ncclAllReduce(values.at(), values.at(), 1, ncclFloat32, ncclSum, self.comm, self.stream()),
                           ncclSuccess);
                       CUgraph graph;
                       CUgraphExec launchable;
                       MUST(cuStreamEndCapture(self.device.stream, &graph));
                       MUST(cuGraphInstantiate(&launchable, graph, 0));
                       for (int i = 0; i < 3; ++i)
                         MUST(cuGraphLaunch(launchable, self.device.stream));
                       self.synchronize();
                       EXPECT_EQ(values.read()[0], 8);
                       MUST(cuGraphExecDestroy(launchable));
                       MUST(cuGraphDestroy(graph));
                     }),
            all(2));
}

} // namespace
