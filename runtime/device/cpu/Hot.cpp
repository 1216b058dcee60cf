#include "runtime/device/cpu/Hot.h"
#include <cstdlib>
#include <cstring>

namespace amc::rt::cpu {
namespace {

struct Choice {
  const Hot *table = nullptr;
  const char *error = nullptr;
};

Choice choose() {
  __builtin_cpu_init();
  bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
            __builtin_cpu_supports("f16c");
  bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl");
  if (!v3)
    return {nullptr, "this processor lacks AVX2, FMA, BMI2 or F16C (x86-64-v3), which the cpu device needs"};
  const char *asked = std::getenv("AMC_ISA");
  if (!asked || !*asked)
    return {v4 ? &v4::hot : &v3::hot, nullptr};
  if (std::strcmp(asked, "v3") == 0)
    return {&v3::hot, nullptr};
  if (std::strcmp(asked, "v4") != 0)
    return {nullptr, "AMC_ISA should be 'v3' or 'v4'"};
  if (!v4)
    return {nullptr, "AMC_ISA is 'v4' and this processor has no AVX-512 (x86-64-v4)"};
  return {&v4::hot, nullptr};
}

const Choice &choice() {
  static const Choice made = choose();
  return made;
}

} // namespace

const Hot &hot() { return *choice().table; }
const char *hotError() { return choice().error; }

} // namespace amc::rt::cpu
