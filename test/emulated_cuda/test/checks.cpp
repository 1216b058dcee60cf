// What the emulated device finds in kernels: each check with a kernel that is right, and one with a single mistake.
#include "test/emulated_cuda/test/Harness.h"
#include <numeric>

namespace {

class Checks : public Emulated {
protected:
  void SetUp() override {
    Emulated::SetUp();
    module = load(compiled("checks"));
  }
  CUfunction kernel(const char *name) { return function(module, name); }
  CUmodule module;

  std::vector<float> rows(int count) {
    std::vector<float> values(256 * count);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = (i * 7919) % 101 - 50;
    return values;
  }
  // Runs a kernel of sumRows; the sums it makes.
  CUresult sums(const char *name, std::vector<float> &got) {
    CUdeviceptr in = upload(rows(4)), out = allocate(4 * sizeof(float));
    CUresult result = run(kernel(name), 4, 256, in, out);
    if (result == CUDA_SUCCESS)
      got = download<float>(out, 4);
    return result;
  }
};

TEST_F(Checks, SumOfRows) {
  std::vector<float> got, want, in = rows(4);
  for (int row = 0; row < 4; ++row)
    want.push_back(std::accumulate(in.begin() + 256 * row, in.begin() + 256 * (row + 1), 0.0f));
  OK(sums("sum_rows", got));
  EXPECT_EQ(difference(got, want, 0), "");
}

TEST_F(Checks, MissingFirstBarrier) {
  std::vector<float> got;
  EXPECT_OK(sums("sum_no_first", got));
  std::string text = takeFindings(); // and what was not written yet, in some orders
  EXPECT_NE(text.find("finding: race: kernel 'sum_no_first'"), std::string::npos) << text;
}

TEST_F(Checks, MissingSecondBarrier) {
  std::vector<float> got;
  EXPECT_OK(sums("sum_no_second", got));
  std::string text = takeFindings();
  EXPECT_NE(text.find("finding: race: kernel 'sum_no_second'"), std::string::npos) << text;
}

TEST_F(Checks, DivergentBarrier) {
  std::vector<float> got;
  EXPECT_EQ(sums("sum_divergent", got), CUDA_ERROR_LAUNCH_FAILED);
  expectFinding("divergent barrier", "kernel 'sum_divergent'");
  renewContext();
}

TEST_F(Checks, HalfWarpShuffle) {
  std::vector<float> got;
  CUresult result = sums("sum_half_warp", got);
  EXPECT_EQ(result, CUDA_ERROR_LAUNCH_FAILED); // the other half never comes
  expectFinding("divergence", "wait here for others");
  renewContext();
}

TEST_F(Checks, SharedIndexOutOfRange) {
  std::vector<float> got;
  EXPECT_EQ(sums("sum_out_of_range", got), CUDA_ERROR_ILLEGAL_ADDRESS);
  expectFinding("out of bounds", "partial");
  renewContext();
}

TEST_F(Checks, GlobalOutOfBounds) {
  CUdeviceptr x = upload(std::vector<float>(100, 1.0f));
  OK(run(kernel("add_one"), 1, 128, x, 100));
  EXPECT_EQ(difference(download<float>(x, 100), std::vector<float>(100, 2.0f), 0), "");
  EXPECT_EQ(run(kernel("add_one_past"), 1, 128, x, 100), CUDA_ERROR_ILLEGAL_ADDRESS);
  expectFinding("out of bounds", "0 bytes past the end of allocation");
  renewContext();
}

TEST_F(Checks, Misaligned) {
  CUdeviceptr in = upload(std::vector<float>(256, 3.0f)), out = allocate(128 * 4);
  OK(run(kernel("copy4"), 1, 32, in, out, 0));
  OK(run(kernel("copy4"), 1, 32, in, out, 4));
  EXPECT_EQ(run(kernel("copy4"), 1, 32, in, out, 2), CUDA_ERROR_MISALIGNED_ADDRESS);
  expectFinding("misaligned", "aligned to 16 bytes");
  renewContext();
}

TEST_F(Checks, NonAtomicAdd) {
  CUdeviceptr counter = upload(std::vector<int>{0});
  OK(run(kernel("count_atomic"), 4, 64, counter));
  EXPECT_EQ(download<int>(counter, 1)[0], 256);
  EXPECT_OK(run(kernel("count_plain"), 4, 1, counter));
  std::string text = takeFindings();
  EXPECT_NE(text.find("nothing orders blocks of one launch"), std::string::npos) << text;
  EXPECT_OK(run(kernel("count_plain"), 1, 2, counter));
  text = takeFindings();
  EXPECT_NE(text.find("no barrier stands between"), std::string::npos) << text;
}

TEST_F(Checks, RaceBetweenBlocks) {
  CUdeviceptr x = upload(std::vector<int>(16, 0));
  EXPECT_OK(run(kernel("neighbours"), 8, 1, x));
  std::string text = takeFindings();
  EXPECT_NE(text.find("finding: race: kernel 'neighbours'"), std::string::npos) << text;
  EXPECT_OK(run(kernel("neighbours"), 1, 1, x)); // alone
}

TEST_F(Checks, RaceInGlobalMemoryOfABlock) {
  CUdeviceptr x = allocate(512 * 4);
  EXPECT_OK(run(kernel("one_block_exchange"), 1, 256, x, 1));
  EXPECT_EQ(download<int>(x, 512)[256], 1);
  EXPECT_EQ(takeFindings(), "");
  EXPECT_OK(run(kernel("one_block_exchange"), 1, 256, x, 0));
  std::string text = takeFindings();
  EXPECT_NE(text.find("finding: race"), std::string::npos) << text;
}

TEST_F(Checks, RaceWithinAWarp) {
  CUdeviceptr out = allocate(32 * 4);
  EXPECT_OK(run(kernel("warp_exchange"), 1, 32, out, 1));
  EXPECT_EQ(takeFindings(), "");
  EXPECT_OK(run(kernel("warp_exchange"), 1, 32, out, 0));
  expectFinding("race", "no barrier stands between");
}

TEST_F(Checks, BlocksOrderedByFences) {
  std::vector<float> in(40);
  std::iota(in.begin(), in.end(), 1.0f);
  CUdeviceptr from = upload(in), partial = allocate(160), counter = upload(std::vector<unsigned>{0}), out = allocate(4);
  for (int i = 0; i < 2; ++i) // the counter is left as it was
    OK(run(kernel("last_block"), 40, 32, from, partial, counter, out, 1));
  EXPECT_EQ(download<float>(out, 1)[0], 820);
  EXPECT_EQ(takeFindings(), "");
  EXPECT_OK(run(kernel("last_block"), 40, 32, from, partial, counter, out, 0));
  std::string text = takeFindings();
  EXPECT_NE(text.find("finding: race"), std::string::npos) << text;
}

TEST_F(Checks, UninitialisedGlobal) {
  CUdeviceptr x = allocate(400), set = allocate(400);
  OK(cuMemsetD32Async(set, 0, 100, stream));
  OK(run(kernel("add_one"), 1, 128, set, 100));
  EXPECT_EQ(takeFindings(), "");
  OK(cuMemsetD32Async(x, 0, 99, stream));
  OK(run(kernel("add_one"), 1, 128, x, 100));
  expectFinding("uninitialised", "thread (99, 0, 0)");
  emulatedCudaForget(set + 4, 4);
  OK(run(kernel("add_one"), 1, 128, set, 100));
  expectFinding("uninitialised", "thread (1, 0, 0)");
}

TEST_F(Checks, UninitialisedThroughCopies) {
  CUdeviceptr from = allocate(64), to = allocate(64);
  OK(cuMemsetD8Async(from, 1, 32, stream));
  OK(cuMemcpyDtoDAsync(to, from, 64, stream)); // no use yet
  OK(cuStreamSynchronize(stream));
  EXPECT_EQ(takeFindings(), "");
  std::vector<char> host(64);
  OK(cuMemcpyDtoH(host.data(), to, 32));
  EXPECT_EQ(takeFindings(), "");
  OK(cuMemcpyDtoH(host.data(), to, 33));
  expectFinding("uninitialised", "byte 32 has not been written");
}

TEST_F(Checks, UninitialisedShared) {
  CUdeviceptr out = allocate(256);
  OK(run(kernel("uninitialised_shared"), 1, 64, out, 1));
  EXPECT_EQ(takeFindings(), "");
  OK(run(kernel("uninitialised_shared"), 1, 64, out, 0));
  expectFinding("uninitialised", "shared address");
}

// Its end is its own, however the block's memory is rounded.
TEST_F(Checks, OneSharedVariable) {
  CUdeviceptr out = allocate(32 * 4);
  OK(run(kernel("one_shared_variable"), 1, 32, out, 62));
  EXPECT_EQ(download<int>(out, 32)[0], 62);
  EXPECT_EQ(takeFindings(), "");
  EXPECT_EQ(run(kernel("one_shared_variable"), 1, 32, out, 63), CUDA_ERROR_ILLEGAL_ADDRESS);
  expectFinding("out of bounds", "(252 bytes)");
  renewContext();
}

TEST_F(Checks, DynamicSharedMemory) {
  CUdeviceptr out = allocate(256 * 4);
  CUfunction f = kernel("dynamic_shared");
  EXPECT_EQ(launchIn(stream, f, 1, 256, 65536, out), CUDA_ERROR_INVALID_VALUE);
  expectFinding("misuse", "MAX_DYNAMIC_SHARED_SIZE_BYTES");
  OK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 65536));
  OK(launchIn(stream, f, 1, 256, 65536, out));
  OK(cuStreamSynchronize(stream));
  EXPECT_EQ(download<int>(out, 256)[1], 16382);
  EXPECT_EQ(takeFindings(), "");
  OK(launchIn(stream, f, 1, 256, 65532, out));
  EXPECT_EQ(cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  expectFinding("out of bounds", "dynamic at");
  renewContext();
}

TEST_F(Checks, AsynchronousCopies) {
  std::vector<int> in(256);
  std::iota(in.begin(), in.end(), 0);
  CUdeviceptr from = upload(in), out = allocate(1024);
  OK(run(kernel("copy_async"), 1, 256, from, out, 1));
  EXPECT_EQ(download<int>(out, 256)[0], 255);
  EXPECT_EQ(takeFindings(), "");
  OK(run(kernel("copy_async"), 1, 256, from, out, 0));
  expectFinding("uninitialised", "kernel 'copy_async'");
}

TEST_F(Checks, HangsAndTraps) {
  CUdeviceptr x = upload(std::vector<int>{0});
  EXPECT_EQ(run(kernel("asserts"), 1, 1, x), CUDA_ERROR_LAUNCH_FAILED);
  expectFinding("trap", "kernel 'asserts'");
  renewContext();
}

TEST_F(Checks, LanesAdvanceIndependently) {
  CUdeviceptr lock = upload(std::vector<int>{0}), count = upload(std::vector<int>{0});
  OK(run(kernel("spin_lock"), 2, 64, lock, count));
  EXPECT_EQ(download<int>(count, 1)[0], 128);
}

TEST_F(Checks, NamedBarriers) {
  CUdeviceptr out = allocate(256);
  OK(run(kernel("named_barriers"), 1, 128, out, 0));
  std::vector<int> got = download<int>(out, 64);
  EXPECT_EQ(got[0], 31);
  EXPECT_EQ(got[32], 62);
  EXPECT_EQ(takeFindings(), "");
  OK(run(kernel("named_barriers"), 1, 128, out, 1));
  std::string text = takeFindings();
  EXPECT_NE(text.find("finding:"), std::string::npos) << text;
}

} // namespace
