// Which kernels a CUDA device has. With AMC_TEST_TARGET alone: the other tests check what they compute.
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/CudaKernels.h"
#include "runtime_support.h"
#include <set>

namespace amc::rt::test {
namespace {

TEST(RuntimeCuda, HasTheKernelsOfTheCpuButThose) {
  if (!onCuda())
    GTEST_SKIP() << "AMC_TEST_TARGET names no GPU";
  std::set<std::string> missing;
  for (const std::string &name : cpu::KernelRegistry().names())
    if (!hasKernel(name))
      missing.insert(name);
  EXPECT_EQ(missing, std::set<std::string>(onlyOnCpu.begin(), onlyOnCpu.end()));
}

} // namespace
} // namespace amc::rt::test
