// What the tests of the emulated device share: a context with a stream, kernels from PTX text, and what has been found.
#ifndef AMC_TEST_EMULATED_CUDA_TEST_HARNESS_H
#define AMC_TEST_EMULATED_CUDA_TEST_HARNESS_H

#include "test/emulated_cuda/Emulation.h"
#include <cmath>
#include <cstdint>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <string>
#include <vector>

#define OK(call) ASSERT_EQ(call, CUDA_SUCCESS)
#define EXPECT_OK(call) EXPECT_EQ(call, CUDA_SUCCESS)

inline std::string fileText(const std::string &path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The kernels of test/*.cu, compiled by nvcc. EMULATED_CUDA_TEST_PTX is where they are.
inline std::string compiled(const std::string &name) {
  return fileText(std::string(EMULATED_CUDA_TEST_PTX) + "/" + name + ".ptx");
}

class Emulated : public testing::Test {
protected:
  void SetUp() override {
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  }

  void TearDown() override {
    for (CUdeviceptr pointer : pointers)
      cuMemFree(pointer);
    for (CUmodule module : modules)
      cuModuleUnload(module);
    if (stream)
      cuStreamDestroy(stream);
    EXPECT_EQ(takeFindings(), "");
    EXPECT_OK(cuDevicePrimaryCtxRelease(0));
    EXPECT_EQ(takeFindings(), "");
  }

  CUmodule load(const std::string &ptx) {
    CUmodule module = nullptr;
    EXPECT_OK(cuModuleLoadData(&module, ptx.c_str()));
    if (module)
      modules.push_back(module);
    return module;
  }
  CUfunction function(CUmodule module, const char *name) {
    CUfunction found = nullptr;
    EXPECT_OK(cuModuleGetFunction(&found, module, name)) << name;
    return found;
  }

  CUdeviceptr allocate(size_t bytes) {
    CUdeviceptr pointer = 0;
    EXPECT_OK(cuMemAlloc(&pointer, bytes));
    pointers.push_back(pointer);
    return pointer;
  }
  template <class T> CUdeviceptr upload(const std::vector<T> &values) {
    CUdeviceptr pointer = allocate(values.size() * sizeof(T));
    EXPECT_OK(cuMemcpyHtoD(pointer, values.data(), values.size() * sizeof(T)));
    return pointer;
  }
  template <class T> std::vector<T> download(CUdeviceptr pointer, size_t count) {
    std::vector<T> values(count);
    EXPECT_OK(cuMemcpyDtoH(values.data(), pointer, count * sizeof(T)));
    return values;
  }

  template <class... Arguments>
  CUresult launchIn(CUstream in, CUfunction f, unsigned blocks, unsigned threads, unsigned shared,
                    Arguments... arguments) {
    void *parameters[] = {&arguments..., nullptr};
    return cuLaunchKernel(f, blocks, 1, 1, threads, 1, 1, shared, in, parameters, nullptr);
  }
  // Runs to the end.
  template <class... Arguments> CUresult run(CUfunction f, unsigned blocks, unsigned threads, Arguments... arguments) {
    CUresult result = launchIn(stream, f, blocks, threads, 0, arguments...);
    CUresult end = cuStreamSynchronize(stream);
    return result != CUDA_SUCCESS ? result : end;
  }

  static std::string takeFindings() {
    static char text[1 << 16];
    text[0] = 0;
    emulatedCudaTakeFindings(text, sizeof text);
    return text;
  }
  // One finding of this kind and no other, which names what it is about.
  static void expectFinding(const std::string &kind, const std::string &about = "") {
    std::string text = takeFindings();
    EXPECT_EQ(text.find("emulated CUDA: finding: " + kind + ":"), 0u) << text;
    EXPECT_NE(text.find(about), std::string::npos) << text;
    EXPECT_EQ(text.find("finding:", text.find("finding:") + 1), std::string::npos) << text;
  }
  // After a launch that was aborted: the context is lost, as on a device.
  void renewContext() {
    pointers.clear();
    modules.clear();
    stream = nullptr;
    cuDevicePrimaryCtxRelease(0);
    takeFindings(); // what was lost with it
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  }

  CUcontext context = nullptr;
  CUstream stream = nullptr;

private:
  std::vector<CUdeviceptr> pointers;
  std::vector<CUmodule> modules;
};

// The first difference, empty where there is none. NaN differs from everything, itself included.
template <class T> std::string difference(const std::vector<T> &got, const std::vector<T> &want, double tolerance) {
  std::ostringstream text;
  if (got.size() != want.size())
    text << got.size() << " values should be " << want.size();
  for (size_t i = 0; i < got.size() && text.str().empty(); ++i)
    if (!(std::fabs((double)got[i] - (double)want[i]) <= tolerance))
      text << "[" << i << "]: " << (double)got[i] << " should be " << (double)want[i];
  return text.str();
}

#endif
