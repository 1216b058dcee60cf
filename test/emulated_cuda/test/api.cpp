// The driver's interface: limits, errors, what is left at the end.
#include "test/emulated_cuda/test/Harness.h"
#include <cstdlib>
#include <dlfcn.h>
#include <thread>

namespace {

class Api : public Emulated {};

const char *const empty = R"(.version 8.0
.target sm_80
.address_size 64
.global .align 4 .u32 table[3] = {1, 0x2, 3};
.const .align 4 .f32 factor = 0f40000000;
.visible .entry k() .maxntid 128, 1, 1 { ret; }
.visible .entry scaled(.param .u64 out) {
  .reg .b64 %d<3>;
  .reg .b32 %r<3>;
  .reg .f32 %f<3>;
  ld.param.u64 %d1, [out];
  ld.global.u32 %r1, [table+8];
  cvt.rn.f32.u32 %f1, %r1;
  ld.const.f32 %f2, [factor];
  mul.f32 %f1, %f1, %f2;
  st.global.f32 [%d1], %f1;
  ret;
}
)";

TEST_F(Api, Device) {
  int count = 0, major = 0, warp = 0, version = 0;
  OK(cuDeviceGetCount(&count));
  EXPECT_GE(count, 1);
  char name[64];
  OK(cuDeviceGetName(name, sizeof name, 0));
  EXPECT_STREQ(name, "Emulated CUDA device (CPU, PTX level)");
  OK(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
  OK(cuDeviceGetAttribute(&warp, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0));
  EXPECT_EQ(warp, 32);
  EXPECT_GE(major, 8);
  OK(cuDriverGetVersion(&version));
  EXPECT_GE(version, 12000);
  CUdevice device;
  EXPECT_EQ(cuDeviceGet(&device, count), CUDA_ERROR_INVALID_DEVICE);
  expectFinding("misuse", "device");
}

TEST_F(Api, Memory) {
  size_t free = 0, total = 0, after = 0;
  OK(cuMemGetInfo(&free, &total));
  EXPECT_LT(free, total);
  CUdeviceptr pointer;
  OK(cuMemAlloc(&pointer, 1000));
  OK(cuMemGetInfo(&after, &total));
  EXPECT_EQ(free - after, 1024u);
  EXPECT_EQ(cuMemFree(pointer + 256), CUDA_ERROR_INVALID_VALUE);
  expectFinding("misuse", "256 bytes into allocation");
  OK(cuMemFree(pointer));
  OK(cuMemGetInfo(&after, &total));
  EXPECT_EQ(after, free);
  EXPECT_EQ(cuMemFree(pointer), CUDA_ERROR_INVALID_VALUE);
  expectFinding("misuse", "has been freed");
  EXPECT_EQ(cuMemAlloc(&pointer, total), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(cuMemAlloc(&pointer, ~size_t(0)), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(cuMemAlloc(&pointer, 0), CUDA_ERROR_INVALID_VALUE);
  takeFindings();
  CUdeviceptr small = allocate(64);
  char bytes[65];
  EXPECT_EQ(cuMemcpyHtoD(small, bytes, 65), CUDA_ERROR_INVALID_VALUE);
  expectFinding("misuse", "65 bytes");
  EXPECT_EQ(cuMemcpyHtoDAsync(small, bytes, 64, nullptr), CUDA_ERROR_INVALID_HANDLE);
  expectFinding("misuse", "default stream");
}

TEST_F(Api, PinnedMemoryIsOneOfTheDevices) {
  void *host;
  OK(cuMemHostAlloc(&host, 4, CU_MEMHOSTALLOC_DEVICEMAP));
  CUdeviceptr mapped;
  OK(cuMemHostGetDevicePointer(&mapped, host, 0));
  OK(run(function(load(empty), "scaled"), 1, 1, mapped));
  EXPECT_EQ(*static_cast<float *>(host), 6.0f);
  unsigned kind = 0;
  OK(cuPointerGetAttribute(&kind, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, mapped));
  EXPECT_EQ(kind, (unsigned)CU_MEMORYTYPE_HOST);
  OK(cuMemFreeHost(host));
}

TEST_F(Api, Modules) {
  CUmodule module = load(empty);
  CUfunction f;
  EXPECT_EQ(cuModuleGetFunction(&f, module, "none"), CUDA_ERROR_NOT_FOUND);
  CUdeviceptr table;
  size_t bytes;
  OK(cuModuleGetGlobal(&table, &bytes, module, "table"));
  EXPECT_EQ(bytes, 12u);
  EXPECT_EQ(download<int>(table, 3), (std::vector<int>{1, 2, 3}));
  CUmodule none;
  EXPECT_EQ(cuModuleLoadData(&none, "\177ELF\2\1\1"), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_EQ(cuModuleLoadData(&none, ".version 8.0\n.target sm_120\n.address_size 64\n"), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_EQ(cuModuleLoadData(&none, ".version 99.0\n.target sm_80\n"), CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
  EXPECT_EQ(cuModuleLoadData(&none, ".version 8.0\n.target sm_80\n.sideways\n"), CUDA_ERROR_INVALID_PTX);
  expectFinding("module", "line 3");
}

TEST_F(Api, LaunchLimits) {
  CUmodule module = load(empty);
  CUfunction f = function(module, "k"), g = function(module, "scaled");
  OK(run(f, 1, 128));
  EXPECT_EQ(run(f, 1, 129), CUDA_ERROR_INVALID_VALUE);
  expectFinding("misuse", ".maxntid");
  EXPECT_EQ(run(f, 0, 32), CUDA_ERROR_INVALID_VALUE);
  expectFinding("misuse", "grid");
  EXPECT_EQ(run(g, 1, 1025, CUdeviceptr(0)), CUDA_ERROR_INVALID_VALUE);
  expectFinding("misuse", "block");
  EXPECT_EQ(cuLaunchKernel(f, 1, 65536, 1, 1, 1, 1, 0, stream, nullptr, nullptr), CUDA_ERROR_INVALID_VALUE);
  expectFinding("misuse", "65535");
  EXPECT_EQ(cuLaunchKernel(g, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr), CUDA_ERROR_INVALID_VALUE);
  expectFinding("misuse", "no parameters");
  EXPECT_EQ(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr), CUDA_ERROR_INVALID_HANDLE);
  expectFinding("misuse", "default stream");
  int blocks = 0;
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 128, 0));
  EXPECT_EQ(blocks, 16);
}

TEST_F(Api, ContextsBelongToThreads) {
  std::thread([&] {
    CUdeviceptr pointer;
    EXPECT_EQ(cuMemAlloc(&pointer, 64), CUDA_ERROR_INVALID_CONTEXT);
  }).join();
  expectFinding("misuse", "no context is current");
}

TEST_F(Api, Names) {
  const char *text = nullptr;
  OK(cuGetErrorName(CUDA_ERROR_ILLEGAL_ADDRESS, &text));
  EXPECT_STREQ(text, "CUDA_ERROR_ILLEGAL_ADDRESS");
  void *address = nullptr;
  CUdriverProcAddressQueryResult status;
  OK(cuGetProcAddress("cuMemAlloc", &address, 12000, 0, &status));
  EXPECT_EQ(address, reinterpret_cast<void *>(&cuMemAlloc));
  EXPECT_EQ(cuGetProcAddress("cuNothing", &address, 12000, 0, &status), CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
}

TEST_F(Api, DevicePointersAreNoHostAddresses) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  CUdeviceptr pointer = allocate(64);
  EXPECT_DEATH(*reinterpret_cast<volatile char *>(pointer) = 1, "");
}

// A process that leaves something behind ends with 86, though it meant to succeed.
void initialise() {
  cuInit(0);
  CUcontext context;
  cuDevicePrimaryCtxRetain(&context, 0);
  cuCtxSetCurrent(context);
}

TEST(Leaks, AreFoundAtTheEnd) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto leave = [](bool leaks) {
    initialise();
    CUdeviceptr pointer;
    cuMemAlloc(&pointer, 64);
    if (!leaks)
      cuMemFree(pointer);
    cuDevicePrimaryCtxRelease(0);
    exit(0);
  };
  EXPECT_EXIT(leave(false), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(leave(true), testing::ExitedWithCode(86), "leak: .* still has allocation 1");
}

TEST(Leaks, OfContextsAndStreams) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto leave = [](int code) {
    initialise();
    CUstream stream;
    cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
    exit(code);
  };
  EXPECT_EXIT(leave(0), testing::ExitedWithCode(86), "still retained 1 times");
  EXPECT_EXIT(leave(3), testing::ExitedWithCode(3), ""); // it has failed already
}

TEST(Leaks, FindingsEndTheProcessAtOnceWhereAsked) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto leave = [] {
    setenv("EMULATED_CUDA_ABORT", "1", 1);
    initialise();
    CUdeviceptr pointer;
    cuMemAlloc(&pointer, 0);
    exit(0);
  };
  EXPECT_EXIT(leave(), testing::ExitedWithCode(86), "no bytes are asked for");
}

} // namespace
