// Kernels for GPUs as text: LLVM's verifier and ptxas accept every one of them, for every architecture; none has an
// instruction that rounds otherwise than the CPU's code; the same step gives the same bytes; a plan with anything changed in
// its tables is refused. What they compute is in ptx_groups.cpp.
#include "compiler/codegen/PtxObject.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/PlanVerifier.h"
#include "test/unit/random_groups.h"
#include <regex>

using namespace amc;
using namespace amc::test;

namespace {

std::string targetOf(llvm::StringRef architecture) { return "cuda:" + architecture.str(); }

// Sets a variable of the environment while it lives.
class Environment {
public:
  Environment(const char *name, const char *value) : name(name) {
    if (const char *was = std::getenv(name))
      before = was;
    setenv(name, value, 1);
  }
  ~Environment() {
    if (before)
      setenv(name, before->c_str(), 1);
    else
      unsetenv(name);
  }

private:
  const char *name;
  std::optional<std::string> before;
};

const plan::Code *codeOf(const plan::Plan &plan, const std::string &level) {
  for (const plan::Code &code : plan.code())
    if (code.level() == level)
      return &code;
  return nullptr;
}

// What the step's kernels are made of has been verified, assembled if ptxas is there, and is described.
void check(const std::string &text, llvm::StringRef architecture) {
  SCOPED_TRACE(architecture.str() + "\n" + text);
  plan::Plan plan = compileStep(text, true, targetOf(architecture));
  ASSERT_FALSE(testing::Test::HasFailure());
  ASSERT_GT(plan.fused_kernels_size(), 0);
  const plan::Code *ptx = codeOf(plan, rt::ptxLevel), *cubin = codeOf(plan, architecture.str());
  ASSERT_TRUE(ptx);
  for (const std::string &name : ptx->names())
    EXPECT_NE(ptx->image().find(".entry " + name + "("), std::string::npos) << name;
  // ptxas may fuse what has no rounding, and divides approximately what it is not told to divide exactly.
  static const std::regex loose(R"((add|sub|mul|fma|div|sqrt|rcp|ex2|tanh)(\.(approx|ftz|full))*\.f(32|16)|\.ftz|\.approx)");
  std::smatch found;
  EXPECT_FALSE(std::regex_search(ptx->image(), found, loose)) << found.str();
  EXPECT_EQ(ptx->image().find("call"), std::string::npos);
  EXPECT_EQ(ptx->image().find(".local"), std::string::npos); // nothing goes through a thread's own memory
  std::vector<std::string> errors;
  rt::checkCode(plan, [&](const std::string &error) { errors.push_back(error); });
  EXPECT_EQ(errors, std::vector<std::string>());
  if (!codegen::findPtxas())
    return;
  ASSERT_TRUE(cubin);
  ASSERT_EQ(cubin->resources_size(), cubin->names_size());
  for (const plan::Code::Resources &resources : cubin->resources()) {
    EXPECT_GT(resources.registers(), 0u);
    EXPECT_LE(resources.spill_bytes(), 64u); // what ptxas finds cheaper than a register
  }
}

class Ptx : public testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(Architectures, Ptx, testing::Values("sm_80", "sm_90", "sm_100"),
                         [](const auto &info) { return std::string(info.param); });

TEST(Ptx, IsMadeForTheArchitecturesThatAreTested) {
  EXPECT_EQ(codegen::gpuArchitectures(), (llvm::ArrayRef<llvm::StringRef>{"sm_80", "sm_90", "sm_100"}));
}

TEST_P(Ptx, OfRandomGroupsIsAccepted) {
  for (uint32_t seed = 1; seed <= 24 && !HasFailure(); ++seed)
    check(randomStep(seed).text, GetParam());
}

TEST_P(Ptx, OfRowsAndMixedTypesIsAccepted) {
  for (auto *step : {normStep, softmaxStep})
    for (const char *element : {"f32", "bf16", "f16"})
      for (const Shape &domain : {Shape{130, 20}, Shape{65, 2048}, Shape{70, 1027}})
        check(step(domain, element), GetParam());
  for (const Shape &domain : {Shape{16}, Shape{3, 33}})
    check(mixedStep(domain), GetParam());
}

TEST(Ptx, IsTheSameForTheSameStep) {
  for (const std::string &text : {normStep({65, 2048}, "bf16"), mixedStep({3, 33})})
    EXPECT_EQ(compileStep(text, true, "cuda:sm_90").SerializeAsString(),
              compileStep(text, true, "cuda:sm_90").SerializeAsString());
}

TEST(Ptx, WithoutAssemblerIsAllThatAPlanHas) {
  Environment off("AMC_PTXAS", "off");
  plan::Plan plan = compileStep(normStep({3, 48}, "f32"), true, "cuda:sm_90");
  ASSERT_EQ(plan.code_size(), 1);
  EXPECT_EQ(plan.code(0).level(), rt::ptxLevel);
  EXPECT_EQ(plan.code(0).resources_size(), 0);
}

TEST(Ptx, IsLaunchedInBlocksOfWhatTheCodeSays) {
  plan::Plan plan = compileStep(normStep({130, 20}, "f32"), true, "cuda:sm_90");
  bool sums = false;
  for (const plan::FusedKernel &kernel : plan.fused_kernels())
    for (const plan::FusedKernel::Launch &launch : kernel.launches()) {
      const std::string &name = plan.code(0).names(static_cast<int>(launch.function()));
      const std::string &ptx = plan.code(0).image();
      size_t entry = ptx.find(".entry " + name + "(");
      ASSERT_NE(entry, std::string::npos);
      EXPECT_LT(ptx.find(".reqntid " + std::to_string(launch.threads()), entry), ptx.find(".entry ", entry + 1)) << name;
      sums = sums || name.find("_sums") != std::string::npos;
    }
  EXPECT_TRUE(sums);
}

// Whatever is changed in the tables of kernels, or in a byte of their code, the plan is not run.
TEST(Ptx, ChangedCodeIsRefused) {
  static const rt::cpu::KernelRegistry registry;
  const plan::Plan whole = compileStep(normStep({130, 20}, "f32"), true, "cuda:sm_90");
  ASSERT_GT(whole.fused_kernels_size(), 0);
  auto refused = [&](auto change, const char *what, bool rehash = true) {
    plan::Plan plan = whole;
    change(plan);
    if (rehash)
      plan.set_code_hash(rt::codeHash(plan));
    rt::PlanDiagnostics said = rt::verifyPlan(plan, registry);
    ASSERT_FALSE(said.ok()) << what;
    EXPECT_NE(said.toStatus().message().find(what), std::string::npos) << said.toStatus().message();
  };
  ASSERT_TRUE(rt::verifyPlan(whole, registry).ok()) << rt::verifyPlan(whole, registry).toStatus().message();
  auto launch = [](plan::Plan &p) { return p.mutable_fused_kernels(0)->mutable_launches(0); };
  const char *hash = "code_hash: does not fit";
  refused([](plan::Plan &p) { (*p.mutable_code(0)->mutable_image())[3] ^= 1; }, hash, false);
  refused([&](plan::Plan &p) { launch(p)->set_threads(128); }, hash, false);
  refused([](plan::Plan &p) { p.mutable_code(0)->set_names(0, "other"); }, hash, false);
  refused([](plan::Plan &p) { p.set_target("cpu"); }, hash, false);
  refused([&](plan::Plan &p) { launch(p)->set_threads(0); }, ".threads: is 0 and should be in [1, 1024]");
  refused([&](plan::Plan &p) { launch(p)->set_threads(1025); }, ".threads: is 1025");
  refused([&](plan::Plan &p) { launch(p)->set_extent(0); }, "extent 0 in pieces of");
  auto many = [&](plan::Plan &p) {
    launch(p)->set_extent(uint64_t(1) << 40);
    launch(p)->set_grain(1);
  };
  refused(many, "2^31 - 1 blocks");
  refused([&](plan::Plan &p) { launch(p)->set_grain(0); }, "grain 0 should not be 0");
  refused([&](plan::Plan &p) { launch(p)->set_function(99); }, "function: is 99");
  refused([](plan::Plan &p) { p.mutable_code(0)->set_level("sm_80"); }, "'sm_80' is none of this target's");
  refused([](plan::Plan &p) { p.mutable_code(0)->set_level("sm_80"); }, "has no 'ptx'");
  refused([](plan::Plan &p) { p.mutable_code(0)->set_level("x86-64-v3"); }, "'x86-64-v3' is none of this target's");
  refused([](plan::Plan &p) { p.mutable_code(0)->clear_image(); }, "image: is empty");
  refused([](plan::Plan &p) { p.mutable_code(0)->add_entries(0); }, "entries: are 1 and should be none");
  refused([](plan::Plan &p) { p.mutable_code(0)->set_names(0, "a(b"); }, "'a(b' is no name of a function");
  refused([](plan::Plan &p) { p.mutable_code(0)->set_names(1, p.code(0).names(0)); }, "is no name of a function, or another's");
  refused([](plan::Plan &p) { p.clear_code(); }, "code: has no 'ptx'");
  auto other = [](plan::Plan &p) {
    while (p.code_size() > 1)
      p.mutable_code()->RemoveLast();
    plan::Code &code = *p.add_code();
    code = p.code(0);
    code.set_level("sm_90");
    code.set_names(0, "b");
  };
  refused(other, "names: should be those of code[0]");
  refused([](plan::Plan &p) { p.mutable_code(0)->add_resources(); }, "resources: are 1 and should be one for each");
  // Of a GPU in a plan for a CPU.
  refused([](plan::Plan &p) { p.set_target("cpu"); }, "'ptx' is none of this target's");
  refused([](plan::Plan &p) { p.set_target("cpu"); }, "has names or resources of a GPU's functions");
  refused([](plan::Plan &p) { p.set_target("cpu"); }, "and should be 0, the target has no blocks");
}

// Generated code reads sixteen bytes at once.
TEST(Ptx, OperandsBeginAtMultiplesOfSixteenBytes) {
  static const rt::cpu::KernelRegistry registry;
  plan::Plan plan = compileStep(normStep({130, 20}, "f32"), true, "cuda:sm_90");
  plan::Instruction instruction = plan.instructions(0);
  ASSERT_EQ(instruction.kernel(), rt::fusedKernel);
  rt::PlanSignatures signatures(plan, registry);
  EXPECT_TRUE(signatures.check(instruction).ok()) << signatures.check(instruction).message();
  instruction.mutable_inputs(0)->set_byte_offset(20);
  EXPECT_NE(signatures.check(instruction).message().find("begins 20 bytes into its buffer and should at a multiple of 16"),
            std::string::npos);
  plan.set_target("cpu");
  EXPECT_TRUE(signatures.check(instruction).ok());
}

} // namespace
