// Which kernels a CUDA device has; AMC_TEST_TARGET says whether it is asked. What they compute is for the other tests.
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/CudaKernels.h"
#include "runtime_support.h"
#include <set>

namespace amc::rt::test {
namespace {

TEST(RuntimeCuda, HasTheKernelsThatTheCompilerKnows) {
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
