// Streams, events and graphs: what is ordered, and what only seems to be.
#include "test/emulated_cuda/test/Harness.h"
#include <array>
#include <cstdio>
#include <memory>
#include <unistd.h>

namespace {

class Order : public Emulated {
protected:
  void SetUp() override {
    Emulated::SetUp();
    CUmodule module = load(compiled("checks"));
    fill = function(module, "fill");
    scale = function(module, "scale");
    noteOrder = function(module, "note_order");
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    x = allocate(4 * count);
    y = allocate(4 * count);
  }
  void TearDown() override {
    cuEventDestroy(event);
    cuStreamDestroy(other);
    Emulated::TearDown();
  }

  // x = value in one stream, y = 3 x + 1 in another, and back.
  void twoStreams(int value, bool there, bool back) {
    OK(launchIn(stream, fill, count / 64, 64, 0, x, value));
    if (there) {
      OK(cuEventRecord(event, stream));
      OK(cuStreamWaitEvent(other, event, 0));
    }
    OK(launchIn(other, scale, count / 64, 64, 0, x, y));
    if (back) {
      OK(cuEventRecord(event, other));
      OK(cuStreamWaitEvent(stream, event, 0));
    }
    OK(launchIn(stream, fill, count / 64, 64, 0, x, -1));
  }

  static constexpr int count = 256;
  CUfunction fill, scale, noteOrder;
  CUstream other = nullptr;
  CUevent event = nullptr;
  CUdeviceptr x, y;
};

TEST_F(Order, EventsOrderStreams) {
  for (int i = 0; i < 10; ++i) {
    twoStreams(i, true, true);
    OK(cuStreamSynchronize(stream));
    ASSERT_EQ(download<int>(y, count), std::vector<int>(count, 3 * i + 1));
    ASSERT_EQ(takeFindings(), "");
  }
}

TEST_F(Order, MissingEventThere) {
  OK(cuMemsetD32Async(x, 5, count, stream));
  OK(cuStreamSynchronize(stream));
  twoStreams(7, false, true);
  OK(cuCtxSynchronize());
  std::string text = takeFindings();
  EXPECT_NE(text.find("finding: order: "), std::string::npos) << text;
  EXPECT_NE(text.find("no event, stream order or host orders the two"), std::string::npos) << text;
}

TEST_F(Order, MissingEventBack) {
  twoStreams(7, true, false);
  OK(cuCtxSynchronize());
  std::string text = takeFindings();
  EXPECT_NE(text.find("finding: order: "), std::string::npos) << text;
}

TEST_F(Order, HostWaitsOrder) {
  OK(launchIn(stream, fill, count / 64, 64, 0, x, 4));
  OK(cuStreamSynchronize(stream));
  OK(launchIn(other, scale, count / 64, 64, 0, x, y));
  OK(cuStreamSynchronize(other));
  EXPECT_EQ(download<int>(y, 1)[0], 13);
  OK(launchIn(stream, fill, count / 64, 64, 0, x, 4));
  OK(cuEventRecord(event, stream));
  while (cuEventQuery(event) == CUDA_ERROR_NOT_READY)
    ;
  OK(launchIn(other, scale, count / 64, 64, 0, x, y));
  OK(cuStreamSynchronize(other));
}

TEST_F(Order, CopiesAreLate) {
  void *host = nullptr;
  OK(cuMemHostAlloc(&host, 4 * count, 0));
  auto values = static_cast<int *>(host);
  std::fill_n(values, count, 1);
  OK(cuMemcpyHtoDAsync(x, host, 4 * count, stream));
  std::fill_n(values, count, 2); // too early: pinned memory is read when the copy runs
  OK(cuStreamSynchronize(stream));
  EXPECT_EQ(download<int>(x, 1)[0], 2);
  OK(cuMemFreeHost(host));
  std::vector<int> pageable(count, 3);
  OK(cuMemcpyHtoDAsync(x, pageable.data(), 4 * count, stream));
  std::fill(pageable.begin(), pageable.end(), 4);
  OK(cuStreamSynchronize(stream));
  EXPECT_EQ(download<int>(x, 1)[0], 3);
}

TEST_F(Order, CopyToTheHostBeforeTheStreamIsThere) {
  OK(launchIn(stream, fill, count / 64, 64, 0, x, 4));
  std::vector<int> host(count);
  EXPECT_OK(cuMemcpyDtoH(host.data(), x, 4 * count)); // does not wait for a stream that does not block
  OK(cuStreamSynchronize(stream));
  std::string text = takeFindings();
  EXPECT_NE(text.find("finding: "), std::string::npos) << text;
}

TEST_F(Order, GraphsDoWhatTheirStreamsWereTold) {
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  twoStreams(7, true, true);
  OK(cuMemcpyDtoDAsync(x, y, 4 * count, stream));
  EXPECT_EQ(emulatedCudaCapturing(stream), 1);
  CUgraph graph;
  OK(cuStreamEndCapture(stream, &graph));
  size_t nodes = 0;
  OK(cuGraphGetNodes(graph, nullptr, &nodes));
  EXPECT_EQ(nodes, 4u);
  CUgraphExec exec;
  OK(cuGraphInstantiate(&exec, graph, 0));
  OK(cuGraphDestroy(graph));
  EXPECT_EQ(emulatedCudaCapturing(stream), 0);
  for (int i = 0; i < 5; ++i) {
    OK(launchIn(stream, fill, count / 64, 64, 0, y, 0));
    OK(cuGraphLaunch(exec, stream));
    OK(launchIn(stream, scale, count / 64, 64, 0, x, y));
    OK(cuStreamSynchronize(stream));
    ASSERT_EQ(download<int>(y, count), std::vector<int>(count, 67));
  }
  OK(cuGraphExecDestroy(exec));
}

TEST_F(Order, MissingEventInAGraph) {
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  OK(cuEventRecord(event, stream));
  OK(cuStreamWaitEvent(other, event, 0));
  OK(launchIn(stream, fill, count / 64, 64, 0, x, 1));
  OK(launchIn(other, scale, count / 64, 64, 0, x, y)); // beside the other
  OK(cuEventRecord(event, other));
  OK(cuStreamWaitEvent(stream, event, 0));
  CUgraph graph;
  OK(cuStreamEndCapture(stream, &graph));
  CUgraphExec exec;
  OK(cuGraphInstantiate(&exec, graph, 0));
  OK(cuMemsetD32Async(x, 0, count, stream));
  OK(cuGraphLaunch(exec, stream));
  OK(cuStreamSynchronize(stream));
  std::string text = takeFindings();
  EXPECT_NE(text.find("finding: order: "), std::string::npos) << text;
  OK(cuGraphExecDestroy(exec));
  OK(cuGraphDestroy(graph));
}

TEST_F(Order, CallsThatMayNotBeCaptured) {
  CUgraph graph;
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CUdeviceptr pointer;
  EXPECT_EQ(cuMemAlloc(&pointer, 64), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  expectFinding("capture", "cuMemAlloc");
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  OK(cuMemAlloc(&pointer, 64));
  OK(cuMemFree(pointer));
  EXPECT_EQ(cuStreamSynchronize(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  expectFinding("capture", "cuStreamSynchronize");
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  OK(cuEventRecord(event, stream));
  OK(cuStreamWaitEvent(other, event, 0));
  OK(launchIn(other, fill, 1, 64, 0, x, 1));
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
  expectFinding("misuse", "not waited for");
}

struct Work {
  CUdeviceptr from, to;
  int *drops;
};

TEST_F(Order, WorkOfLibraries) {
  int drops = 0;
  auto run = [](void *state) {
    auto &work = *static_cast<Work *>(state);
    auto from = static_cast<int *>(emulatedCudaAddress(work.from)),
         to = static_cast<int *>(emulatedCudaAddress(work.to));
    for (int i = 0; i < count; ++i)
      to[i] = from[i] + 1;
  };
  auto drop = [](void *state) {
    ++*static_cast<Work *>(state)->drops;
    delete static_cast<Work *>(state);
  };
  EmulatedRange reads[] = {{x, 4 * count}}, writes[] = {{y, 4 * 16, 16, 4 * 16}};
  for (auto enqueue : {emulatedCudaEnqueue, emulatedCudaEnqueueBlocking}) {
    OK(launchIn(stream, fill, count / 64, 64, 0, x, 5));
    OK(enqueue(stream, "a library's work", reads, 1, writes, 1, run, new Work{x, y, &drops}, drop));
    OK(cuStreamSynchronize(stream));
    EXPECT_EQ(download<int>(y, count), std::vector<int>(count, 6));
  }
  EXPECT_EQ(drops, 2);
  OK(launchIn(other, fill, count / 64, 64, 0, x, 5));
  OK(emulatedCudaEnqueue(stream, "a library's work", reads, 1, writes, 1, run, new Work{x, y, &drops}, drop));
  OK(cuCtxSynchronize());
  expectFinding("order", "a library's work");
  emulatedCudaForget(x, 4);
  OK(emulatedCudaEnqueue(stream, "a library's work", reads, 1, writes, 1, run, new Work{x, y, &drops}, drop));
  OK(cuStreamSynchronize(stream));
  expectFinding("uninitialised", "a library's work");
  EXPECT_EQ(drops, 4);
  emulatedCudaFinding("library: %d", 7);
  expectFinding("library", "7");
  EXPECT_EQ(emulatedCudaAddress(0x1234), nullptr);
  expectFinding("out of bounds", "0x1234");
  EXPECT_EQ(emulatedCudaDevice(), 0);
}

TEST_F(Order, UseAfterFree) {
  CUdeviceptr gone;
  OK(cuMemAlloc(&gone, 4 * count));
  OK(cuMemFree(gone));
  OK(launchIn(stream, fill, count / 64, 64, 0, gone, 1));
  EXPECT_EQ(cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  expectFinding("out of bounds", "which has been freed");
  renewContext();
  OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
  OK(cuEventCreate(&event, 0));
}

// The order of blocks, for the test below.
TEST_F(Order, DISABLED_PrintBlockOrder) {
  CUdeviceptr next = upload(std::vector<int>{0}), order = allocate(4 * 32);
  OK(run(noteOrder, 32, 1, next, order));
  std::vector<int> got = download<int>(order, 32);
  printf("order:");
  for (int block : got)
    printf(" %d", block);
  std::sort(got.begin(), got.end());
  for (int i = 0; i < 32; ++i)
    EXPECT_EQ(got[i], i);
  printf("\n");
}

std::string blockOrder(int seed) {
  std::string command = "EMULATED_CUDA_SEED=" + std::to_string(seed) + " /proc/" + std::to_string(getpid()) +
                        "/exe --gtest_also_run_disabled_tests --gtest_filter=Order.DISABLED_PrintBlockOrder";
  std::unique_ptr<FILE, int (*)(FILE *)> output(popen(command.c_str(), "r"), pclose);
  std::array<char, 4096> line;
  while (fgets(line.data(), line.size(), output.get()))
    if (std::string(line.data()).find("order:") == 0)
      return line.data();
  return "";
}

TEST(Seeds, ChangeTheOrderOfBlocks) {
  std::string one = blockOrder(1), two = blockOrder(2);
  EXPECT_NE(one, "");
  EXPECT_NE(two, "");
  EXPECT_NE(one, two);
  EXPECT_EQ(one, blockOrder(1));
}

} // namespace
