// Which kernels a CUDA device has. With AMC_TEST_TARGET alone: the other tests check what they compute.
#include "runtime/device/cpu/Registry.h"
#include "runtime_support.h"
#include <set>

namespace amc::rt::test {
namespace {

// README.md names them.
const std::set<std::string> withoutCuda = {};

TEST(RuntimeCuda, HasTheKernelsOfTheCpuButThose) {
  if (!onCuda())
    GTEST_SKIP() << "AMC_TEST_TARGET names no GPU";
  std::set<std::string> missing;
  for (const std::string &name : cpu::KernelRegistry().names())
    if (!hasKernel(name))
      missing.insert(name);
  EXPECT_EQ(missing, withoutCuda);
}

} // namespace
} // namespace amc::rt::test
