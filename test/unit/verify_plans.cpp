// The runtime's verifier against broken plans: plans of real models are changed in one way at a time, at many places,
// and every change has to be found. Promises are made true again after a change that is not about them, so that what
// finds it is the check of the thing itself. What no verifier of a plan can see is not among the kinds: another value of
// an attribute, or two instructions that write the same bytes in place in another order (VerifyPlan, which has the
// values, is tested against that in verify_mutations.cpp).
#include "compiler/driver/Compile.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/PlanVerifier.h"
#include "test/unit/verify_mutator.h"
#include <cstdio>
#include <gtest/gtest.h>

namespace amc::rt::test {
namespace {

void makePromisesTrue(Plan &p) {
  plan::Promise &promise = *p.mutable_promise();
  LivePeak peak = findLivePeak(p);
  promise.set_arena_bytes(p.arena_bytes());
  promise.set_max_live_bytes(peak.bytes);
  promise.set_peak_instruction(peak.instruction);
  promise.set_parameter_bytes(peak.byCategory[plan::PARAMETER]);
  promise.set_gradient_bytes(peak.byCategory[plan::GRADIENT]);
  promise.set_optimizer_state_bytes(peak.byCategory[plan::OPTIMIZER_STATE]);
  promise.set_activation_bytes(peak.byCategory[plan::ACTIVATION]);
  promise.set_workspace_bytes(peak.byCategory[plan::WORKSPACE]);
  promise.set_input_bytes(peak.byCategory[plan::INPUT]);
  promise.set_constant_bytes(peak.byCategory[plan::CONSTANT]);
  uint64_t flops[5] = {};
  for (const plan::Instruction &i : p.instructions()) {
    flops[i.phase() < 5 ? i.phase() : 0] += i.flops() - i.recompute_flops();
    flops[plan::RECOMPUTE] += i.recompute_flops();
  }
  promise.set_flops_forward(flops[plan::FORWARD]);
  promise.set_flops_backward(flops[plan::BACKWARD]);
  promise.set_flops_recompute(flops[plan::RECOMPUTE]);
  promise.set_flops_optimizer(flops[plan::OPTIMIZER]);
  promise.set_saved_bytes(savedBytes(p));
}

std::vector<Plan> compiledPlans() {
  std::vector<Plan> plans;
  auto add = [&](const char *model, const char *policy, double maxNorm, int64_t accumulation, int64_t zero = 3) {
    CompileOptions options;
    if (zero < 3) {
      options.strategy = "megatron_fsdp";
      options.zeroDpStrategy = zero;
      options.dpSize = 2;
    }
    options.model = std::string(AMC_TEST_DIR "/fixtures/") + model + "/model.onnx";
    options.output = "not written";
    options.activationCheckpointing = policy;
    options.maxGradNorm = maxNorm;
    options.gradAccumulation = accumulation;
    CompileResult result = compile(options, [](const Message &) {});
    ASSERT_TRUE(result.plan) << model;
    plans.push_back(*result.plan);
  };
  add("llama", "full", 1, 1);
  add("llama", "full", 0, 1); // updates in backward
  add("llama", "none", 1, 3);
  add("gpt2", "selective", 1, 1);
  add("mixtral", "full", 1, 1);
  add("gemma3", "selective", 1, 2);
  add("llama", "full", 0, 1, 2); // two ranks, each of which updates a part
  add("llama", "none", 1, 2, 1);
  return plans;
}

TEST(VerifyPlans, EveryMutantIsCaught) {
  std::vector<Plan> plans = compiledPlans();
  cpu::KernelRegistry kernels;
  for (Plan &p : plans) {
    PlanDiagnostics found = verifyPlan(p, kernels);
    ASSERT_TRUE(found.ok()) << found.errors[0];
    Plan again = p;
    makePromisesTrue(again);
    ASSERT_EQ(again.promise().SerializeAsString(), p.promise().SerializeAsString());
  }
  constexpr unsigned seeds = 12;
  std::vector<Kind> all = kinds();
  EXPECT_GE(all.size(), 30u);
  std::printf("%-36s %6s %6s\n", "kind", "tried", "caught");
  for (const Kind &kind : all) {
    unsigned tried = 0, caught = 0;
    for (size_t at = 0; at < plans.size(); ++at)
      for (unsigned seed = 0; seed < seeds; ++seed) {
        std::mt19937 random(seed);
        Plan mutant = plans[at];
        Mutator mutator{mutant, random};
        if (!kind.change(mutator))
          continue;
        if (!kind.promise)
          makePromisesTrue(mutant);
        ++tried;
        bool found = !verifyPlan(mutant, kernels).ok();
        caught += found;
        EXPECT_TRUE(found) << kind.name << ", plan " << at << ", seed " << seed;
      }
    std::printf("%-36s %6u %6u\n", kind.name, tried, caught);
    EXPECT_GE(tried, seeds) << kind.name << " should have a place in some plan";
  }
}

} // namespace
} // namespace amc::rt::test
