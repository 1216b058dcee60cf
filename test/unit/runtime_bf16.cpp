// Every kernel that takes floats runs in bf16: arithmetic in fp32, one rounding at the result. The kernels come from the
// registry, their calls from the samples of runtime_mutations.cpp, the expected values from the same kernel in f64 on
// the operands as bf16 keeps them; f64 is tested against loops elsewhere.
#include "runtime/device/cpu/Registry.h"
#include "runtime_support.h"
#include <set>

namespace amc::rt::test {
namespace {

// Operands and results that are no data: statistics, losses and class weights (fp32 beside bf16, f64 beside f64), and
// scalars of one type whatever the data's. `inside`: what roundings within a kernel that stands for several operations
// may add, because it rounds where they would.
struct Exceptions {
  std::set<size_t> statisticInputs, statisticOutputs, fixedInputs;
  double inside = 0;
};
const std::map<std::string, Exceptions> exceptions = {
    {"rms_norm", {{}, {1}, {}}},
    {"rms_norm_backward", {{2}, {}, {}}},
    {"layer_norm", {{}, {1, 2}, {}}},
    {"layer_norm_backward", {{2, 3}, {}, {}}},
    {"attention", {{}, {1}, {}}},
    {"attention_backward", {{5}, {}, {}}},
    {"attention_dropout", {{}, {1}, {}}},
    {"attention_dropout_backward", {{5}, {}, {}}},
    {"cross_entropy", {{2}, {0, 1}, {}}},
    {"cross_entropy_backward", {{0, 3, 4}, {}, {}}},
    {"linear_cross_entropy", {{4}, {0, 1}, {}}},
    {"linear_cross_entropy_backward", {{0, 5, 6}, {}, {}}},
    {"adamw", {{}, {}, {4}}},
    {"sgd", {{}, {}, {2}}},
    {"gated_mlp", {{}, {}, {}, 2e-2}},
    {"gated_mlp_backward", {{}, {}, {}, 2e-2}},
};
// Float results, but of f64 scalars: nothing here is data.
const std::set<std::string> withoutData = {"clip_scale"};

// The sample with its f32 data in another type. `stored`: what the operands' values are rounded to.
Call inType(Call call, plan::DType data, plan::DType stored) {
  auto found = exceptions.find(call.kernel);
  const Exceptions none, &e = found == exceptions.end() ? none : found->second;
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    Array &a = call.inputs[i];
    if (a.dtype != plan::F32 || e.fixedInputs.count(i))
      continue;
    bool statistic = e.statisticInputs.count(i);
    for (double &v : a.values)
      v = rounded(statistic ? plan::F32 : stored, v);
    a.dtype = statistic ? statisticType(data) : data;
  }
  for (size_t i = 0; i < call.outputs.size(); ++i)
    if (call.outputs[i].dtype == plan::F32)
      call.outputs[i].dtype = e.statisticOutputs.count(i) ? statisticType(data) : data;
  for (plan::Attribute &a : call.attributes)
    if (a.value_case() == plan::Attribute::kS && a.s() == "f32")
      a.set_s(std::string(dtypeName(data)));
  // More scratch than is asked for is fine, but none may be there where none is asked for.
  call.workspace = 0;
  cpu::KernelRegistry registry;
  if (!verifyPlan(planOf(call), registry).ok())
    call.workspace = 8 << 20;
  return call;
}

bool hasFloatData(const Call &call) {
  auto isData = [](const auto &x) { return x.dtype == plan::F32; };
  return !withoutData.count(call.kernel) && (std::any_of(call.inputs.begin(), call.inputs.end(), isData) ||
                                             std::any_of(call.outputs.begin(), call.outputs.end(), isData));
}

TEST(RuntimeBf16, EveryKernelOfFloatsRunsInIt) {
  std::map<std::string, Call> all = samples();
  size_t ran = 0;
  for (const std::string &name : cpu::KernelRegistry().names()) {
    SCOPED_TRACE(name);
    if (!all.count(name) || !hasFloatData(all[name]) || !hasKernel(name))
      continue; // that there is no sample fails in runtime_mutations.cpp
    Outcome exact = run(inType(all[name], plan::F64, plan::BF16));
    ASSERT_TRUE(exact.status.ok()) << exact.status.message();
    std::vector<std::vector<double>> expected;
    for (const Array &a : exact.outputs)
      expected.push_back(a.values);
    auto found = exceptions.find(name);
    double inside = found == exceptions.end() ? 0 : found->second.inside;
    // These multiply what they have computed themselves.
    bool multiplies = name.starts_with("attention") || name.starts_with("linear_cross_entropy");
    expectCall(inType(all[name], plan::BF16, plan::BF16), expected,
               multiplies ? multiplied(plan::BF16, 1e-5 + inside) : 1e-5 + inside);
    ++ran;
  }
  EXPECT_GT(ran, 80u);
}

// The comparison above notices a result that is rounded twice or summed in bf16: both are off by more than half a unit
// in the last place of bf16, which is what it allows.
TEST(RuntimeBf16, TheComparisonNoticesAUnitInTheLastPlace) {
  double one = 1.0, unit = 0x1p-7;
  EXPECT_TRUE(close({one}, {one + unit / 2}, 1e-5, storageRounding(plan::BF16)));
  EXPECT_FALSE(close({one + unit}, {one}, 1e-5, storageRounding(plan::BF16)));
}

} // namespace
} // namespace amc::rt::test
