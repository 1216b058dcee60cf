// Random groups of operations: run as generated kernels, joined as the pass joins them, and one by one by the device's own
// kernels. Elements have the same bits either way; what goes through a statistic of a row agrees closely. Both levels of
// the instruction set give the same bits.
#include "runtime/device/cpu/Code.h"
#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/executor/Executor.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/Ranges.h"
#include "test/unit/random_groups.h"
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <stdexcept>

using namespace amc;
using namespace amc::test;

namespace {

rt::Executor runPlan(const plan::Plan &plan) {
  rt::ExecutorOptions options;
  options.threads = 2;
  rt::Expected<rt::Executor> made = rt::Executor::create(plan, options);
  if (!made.ok())
    throw std::runtime_error(std::string(made.status().message()));
  for (int i = 0; i < plan.inputs_size(); ++i) {
    rt::Tensor tensor = made->input(static_cast<size_t>(i));
    fill(tensor.dtype, tensor.data, tensor.elements, static_cast<uint64_t>(i));
  }
  rt::Status status = made->runMicroBatch();
  EXPECT_TRUE(status.ok()) << status.message();
  return std::move(*made);
}

// One NaN is as good as another: which of two operands' an addition passes on is up to the order of its operands.
bool sameBits(const rt::Tensor &a, const rt::Tensor &b, uint64_t i) {
  double x = readAt(a.dtype, a.data, i), y = readAt(b.dtype, b.data, i);
  return (std::isnan(x) && std::isnan(y)) || std::memcmp(&x, &y, sizeof x) == 0;
}

TEST(Groups, EqualSingleOperations) {
  uint64_t joined = 0;
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    Made step = randomStep(seed);
    plan::Plan fusedPlan = compileStep(step.text, true), plainPlan = compileStep(step.text, false);
    ASSERT_FALSE(testing::Test::HasFailure()) << seed;
    EXPECT_EQ(fusedPlan.arena_bytes(), plainPlan.arena_bytes());
    joined += static_cast<uint64_t>(plainPlan.instructions_size() - fusedPlan.instructions_size());
    SCOPED_TRACE(std::to_string(seed) + step.text);
    rt::Executor fused = runPlan(fusedPlan), plain = runPlan(plainPlan);
    ASSERT_EQ(fusedPlan.outputs_size(), plainPlan.outputs_size());
    for (int o = 0; o < fusedPlan.outputs_size(); ++o) {
      rt::Tensor a = fused.output(static_cast<size_t>(o)), b = plain.output(static_cast<size_t>(o));
      ASSERT_EQ(a.elements, b.elements);
      for (uint64_t i = 0; i < a.elements && !step.rows; ++i)
        ASSERT_TRUE(sameBits(a, b, i)) << "seed " << seed << " output " << o << " element " << i << ": "
                                       << readAt(a.dtype, a.data, i) << " and " << readAt(b.dtype, b.data, i) << "\n"
                                       << step.text;
    }
  }
  EXPECT_GT(joined, 100u);
}

// Norms, softmaxes and their gradients, alone and with neighbours: what changes against the single kernels is the order of
// sums.
class Rows : public testing::TestWithParam<std::string (*)(const Shape &, const std::string &)> {};
INSTANTIATE_TEST_SUITE_P(Groups, Rows, testing::Values(normStep, softmaxStep),
                         [](const auto &info) { return info.index == 0 ? "Norms" : "Softmaxes"; });

TEST_P(Rows, AgreeClosely) {
  for (const char *element : {"f32", "bf16"})
    for (const Shape &domain : {Shape{3, 70, 48}, Shape{130, 20}, Shape{65, 768}, Shape{2, 1}, Shape{70, 7}, Shape{3, 2500}}) {
      const std::string text = GetParam()(domain, element);
      plan::Plan fusedPlan = compileStep(text, true), plainPlan = compileStep(text, false);
      ASSERT_FALSE(testing::Test::HasFailure());
      EXPECT_LT(fusedPlan.instructions_size(), plainPlan.instructions_size());
      rt::Executor fused = runPlan(fusedPlan), plain = runPlan(plainPlan);
      for (int o = 0; o < fusedPlan.outputs_size(); ++o) {
        rt::Tensor a = fused.output(static_cast<size_t>(o)), b = plain.output(static_cast<size_t>(o));
        double largest = 1;
        for (uint64_t i = 0; i < b.elements; ++i)
          largest = std::max(largest, std::fabs(readAt(b.dtype, b.data, i)));
        for (uint64_t i = 0; i < a.elements; ++i)
          ASSERT_NEAR(readAt(a.dtype, a.data, i), readAt(b.dtype, b.data, i), largest * (a.dtype == plan::F32 ? 3e-6 : 1.0 / 64))
              << fusedPlan.outputs(o).name() << " element " << i << "\n" << text;
      }
    }
}

constexpr size_t guard = 64;

// Both levels, and any number of threads.
TEST(Groups, LevelsAndThreadsGiveTheSameBits) {
  if (!__builtin_cpu_supports("avx512f"))
    GTEST_SKIP() << "this processor runs one level only";
  std::vector<std::unique_ptr<rt::ThreadPool>> pools;
  for (unsigned threads : {1u, 3u}) {
    auto pool = rt::ThreadPool::create(threads);
    ASSERT_TRUE(pool.ok());
    pools.push_back(std::move(*pool));
  }
  for (uint32_t seed = 1; seed <= 120; ++seed) {
    Made step = randomStep(seed);
    plan::Plan plan = compileStep(step.text, true);
    for (const plan::Instruction &instruction : plan.instructions()) {
      if (instruction.kernel() != rt::fusedKernel)
        continue;
      std::vector<std::vector<std::vector<std::byte>>> results;
      for (const char *level : {"x86-64-v3", "x86-64-v4"})
        for (auto &pool : pools) {
          auto code = rt::cpu::Code::load(plan, level);
          ASSERT_TRUE(code.ok());
          auto spec = rt::InstructionSpec::create(instruction);
          ASSERT_TRUE(spec.ok());
          std::vector<std::vector<std::byte>> buffers;
          auto take = [&](const auto &views, bool filled) {
            std::vector<std::byte *> at;
            for (const plan::View &view : views) {
              uint64_t bytes = *rt::viewBytes(view);
              buffers.emplace_back(bytes + guard, std::byte(0xa5)); // nothing behind a tensor may change
              if (filled)
                fill(view.dtype(), buffers.back().data(), bytes / rt::dtypeBytes(view.dtype()), buffers.size());
              at.push_back(buffers.back().data());
            }
            return at;
          };
          std::vector<std::byte *> inputs = take(instruction.inputs(), true), outputs = take(instruction.outputs(), false),
                                   workspaces = take(instruction.workspaces(), false);
          rt::RunFailure failure;
          rt::cpu::RunContext context{*pool, failure};
          (*code)->prepare(*spec)->run({inputs.data(), outputs.data(), workspaces.data()}, context);
          for (const std::vector<std::byte> &buffer : buffers)
            for (size_t i = buffer.size() - guard; i < buffer.size(); ++i)
              ASSERT_EQ(buffer[i], std::byte(0xa5)) << "seed " << seed << " " << level << "\n" << step.text;
          buffers.resize(inputs.size() + outputs.size());
          results.push_back(std::move(buffers));
        }
      for (size_t i = 1; i < results.size(); ++i)
        for (size_t buffer = 0; buffer < results[i].size(); ++buffer)
          for (size_t byte = 0; byte < results[i][buffer].size(); ++byte)
            ASSERT_EQ(results[i][buffer][byte], results[0][buffer][byte])
                << "seed " << seed << " run " << i << " operand " << buffer << " byte " << byte << "\n" << step.text;
    }
  }
}

// Neighbours that read one tensor, and together more than one kernel can be given: two kernels.
TEST(Groups, HaveAsManyOperandsAsAKernelCanBeGiven) {
  const std::string type = typeText({2, 32}, "f32");
  std::string text = "train.step @step attributes {train.loss = \"none\"} {\n%x = train.input {name = \"x\"} : " + type + "\n", outputs;
  for (int i = 0; i < 32; ++i) {
    outputs += "train.output %i" + std::to_string(i) + " {name = \"kept" + std::to_string(i) + "\"} : " + type + "\n"; // in its place
    text += "%i" + std::to_string(i) + " = train.input {name = \"i" + std::to_string(i) + "\"} : " + type + "\n";
  }
  for (int i = 0; i < 16; ++i) {
    std::string name = "%v" + std::to_string(i);
    text += name + ":2 = train.gated_activation_backward %x, %i" + std::to_string(2 * i) + ", %i" + std::to_string(2 * i + 1) +
            " {activation = \"silu\"} : (" + type + ", " + type + ", " + type + ") -> (" + type + ", " + type + ")\n";
    for (int k = 0; k < 2; ++k)
      outputs += "train.output " + name + "#" + std::to_string(k) + " {name = \"o" + std::to_string(2 * i + k) + "\"} : " + type + "\n";
  }
  plan::Plan plan = compileStep(text + outputs + "}\n", true);
  ASSERT_FALSE(testing::Test::HasFailure());
  EXPECT_EQ(plan.instructions_size(), 2);
  runPlan(plan);
}

TEST(Groups, HaveAsManyOperationsAsRegistersAllow) {
  const std::string type = typeText({2, 32}, "f32");
  std::string text = "train.step @step attributes {train.loss = \"none\"} {\n%v0 = train.input {name = \"x\"} : " + type + "\n";
  const size_t count = train::maxGroupOperations + 1;
  for (size_t i = 0; i < count; ++i)
    text += "%v" + std::to_string(i + 1) + " = train.neg %v" + std::to_string(i) + " : (" + type + ") -> " + type + "\n";
  plan::Plan plan = compileStep(text + "train.output %v" + std::to_string(count) + " {name = \"o\"} : " + type + "\n}\n", true);
  ASSERT_FALSE(testing::Test::HasFailure());
  EXPECT_EQ(plan.instructions_size(), 2);
  runPlan(plan);
}

// The same step gives the same code.
TEST(Groups, AreDeterministic) {
  Made step = randomStep(4);
  EXPECT_EQ(compileStep(step.text, true).SerializeAsString(), compileStep(step.text, true).SerializeAsString());
}

TEST(Groups, CodeOfAnotherLevelIsRefused) {
  plan::Plan plan = compileStep(randomStep(1).text, true);
  for (int i = 0; i < plan.code_size(); ++i)
    plan.mutable_code(i)->set_level("x86-64-v" + std::to_string(7 + i));
  auto code = rt::cpu::Code::load(plan, "x86-64-v3");
  ASSERT_FALSE(code.ok());
  EXPECT_NE(code.status().message().find("compiled for x86-64-v7"), std::string::npos) << code.status().message();
}

// Whatever is changed in the tables of kernels, or in a byte of their code, the plan is not run.
TEST(Groups, ChangedCodeIsRefused) {
  const plan::Plan whole = compileStep(randomStep(1).text, true);
  ASSERT_GT(whole.fused_kernels_size(), 0);
  auto refused = [&](auto change, const char *what) {
    plan::Plan plan = whole;
    change(plan);
    rt::Expected<rt::Executor> made = rt::Executor::create(plan, {});
    ASSERT_FALSE(made.ok()) << what;
    EXPECT_NE(made.status().message().find(what), std::string::npos) << made.status().message();
  };
  const char *hash = "code_hash: does not fit";
  refused([](plan::Plan &p) { (*p.mutable_code(0)->mutable_image())[3] ^= 1; }, hash);
  refused([](plan::Plan &p) { p.mutable_code(1)->set_entries(0, 1); }, hash);
  refused([](plan::Plan &p) { p.mutable_code(0)->set_entries(0, p.code(0).image().size()); }, "code[0].entries[0]");
  refused([](plan::Plan &p) { p.mutable_code(0)->add_entries(0); }, "code[1].entries: are");
  refused([](plan::Plan &p) { p.mutable_code(0)->set_level(p.code(1).level()); }, "is there already");
  refused([](plan::Plan &p) { p.mutable_fused_kernels(0)->mutable_launches(0)->set_extent(1 << 20); }, hash);
  refused([](plan::Plan &p) { p.mutable_fused_kernels(0)->mutable_launches(0)->set_grain(0); }, "grain 0 should not be 0");
  refused([](plan::Plan &p) { p.mutable_fused_kernels(0)->mutable_launches(0)->set_function(99); }, "function: is 99");
  refused([](plan::Plan &p) { p.mutable_fused_kernels(0)->mutable_outputs(0)->set_shape(0, 1 << 20); }, "outputs[0]: is");
  refused([](plan::Plan &p) { p.mutable_fused_kernels(0)->set_replaces(0, 40); }, "replaces: 40 is no input");
  refused([](plan::Plan &p) { p.mutable_fused_kernels(0)->set_workspace_bytes(1 << 20); }, "workspaces: have 0 bytes");
  refused([](plan::Plan &p) { p.mutable_instructions(0)->mutable_attributes(0)->set_i(99); }, "should be `number`");
  refused([](plan::Plan &p) { p.mutable_instructions(0)->clear_attributes(); }, "should be `number`");
  refused([](plan::Plan &p) { p.mutable_instructions(0)->mutable_inputs()->RemoveLast(); }, "inputs and should have");
  refused([](plan::Plan &p) { p.clear_code(); }, hash);
}

} // namespace
