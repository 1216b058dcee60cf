// Random groups of operations: run as generated kernels, joined as the pass joins them, and one by one by the device's own
// kernels. Elements have the same bits either way; what goes through a statistic of a row agrees closely. Both levels of
// the instruction set give the same bits.
#include "compiler/emit/EmitPlan.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include "runtime/device/cpu/Code.h"
#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/executor/Executor.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/Ranges.h"
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <set>
#include <stdexcept>

using namespace amc;

namespace {

using Shape = std::vector<int64_t>;

std::string typeText(const Shape &shape, const std::string &element) {
  std::string text = "tensor<";
  for (int64_t size : shape)
    text += std::to_string(size) + "x";
  return text + element + ">";
}

struct Made {
  std::string text;
  bool rows = false; // whether a statistic of rows is in it
};

// A step of operations on one domain, each on random values made before; every value that nothing reads leaves it.
Made randomStep(uint32_t seed) {
  std::mt19937 random(seed);
  auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  static const Shape domains[] = {{3, 5, 7}, {2, 33}, {64}, {4, 16, 48}, {130, 20}, {1, 1}, {7, 1}, {2, 3, 2, 160}, {5, 100}};
  const Shape domain = domains[pick(std::size(domains))];
  const std::string element = pick(3) == 0 ? "bf16" : pick(8) == 0 ? "f16" : "f32";
  Made made;
  std::vector<std::string> names, types;
  auto line = [&](const std::string &text) { made.text += "  " + text + "\n"; };
  auto input = [&](const Shape &shape) {
    std::string name = "%i" + std::to_string(names.size()), type = typeText(shape, element);
    line(name + " = train.input {name = \"" + name.substr(1) + "\"} : " + type);
    names.push_back(name);
    types.push_back(type);
  };
  const std::string full = typeText(domain, element);
  for (int i = 0; i < 3; ++i)
    input(domain);
  Shape column = {domain.back()}, row = domain, outer = domain;
  row.back() = 1;
  outer.front() = 1;
  for (const Shape &shape : {column, row, outer, Shape()})
    input(shape);
  std::set<std::string> unread;
  auto any = [&] { return static_cast<size_t>(pick(static_cast<int>(names.size()))); };
  auto whole = [&] {
    for (;;)
      if (size_t at = any(); types[at] == full)
        return at;
  };
  auto add = [&](const std::string &op, std::vector<size_t> operands, const std::string &attributes, unsigned results,
                 const std::string &resultTypes) {
    std::string name = "%v" + std::to_string(names.size()), text, of;
    for (size_t at : operands) {
      text += (text.empty() ? "" : ", ") + names[at];
      of += (of.empty() ? "" : ", ") + types[at];
      unread.erase(names[at]);
    }
    line(name + (results > 1 ? ":" + std::to_string(results) : "") + " = train." + op + " " + text + " " + attributes + " : (" +
         of + ") -> " + resultTypes);
    names.push_back(results > 1 ? name + "#0" : name);
    types.push_back(full);
    unread.insert(names.back());
  };
  const int operations = 1 + pick(9);
  for (int i = 0; i < operations; ++i) {
    static const char *unary[] = {"abs", "neg", "exp", "tanh", "sigmoid", "erf", "relu", "silu", "gelu", "ceil", "floor", "round"};
    static const char *binary[] = {"add", "sub", "mul", "max", "min", "div"};
    static const char *gates[] = {"silu", "gelu", "gelu_tanh", "relu"};
    switch (int kind = pick(8); kind == 6 && element == "f16" ? 7 : kind) { // norms of f16 are fused only
    case 0: case 1: add(unary[pick(std::size(unary))], {whole()}, "", 1, full); break;
    case 2: case 3: case 4: add(binary[pick(std::size(binary))], {whole(), any()}, "", 1, full); break;
    case 5: {
      std::string gate = gates[pick(std::size(gates))];
      if (pick(2))
        add("gated_activation", {whole(), whole()}, "{activation = \"" + gate + "\"}", 1, full);
      else
        add("gated_activation_backward", {whole(), whole(), whole()}, "{activation = \"" + gate + "\"}", 2,
            "(" + full + ", " + full + ")");
      break;
    }
    case 6: {
      Shape statistics(domain.begin(), domain.end() - 1);
      made.rows = true;
      if (pick(2))
        add("rms_norm", {whole(), 3}, "{epsilon = 1.0e-3 : f64}", 2, "(" + full + ", " + typeText(statistics, "f32") + ")");
      else
        add("layer_norm", {whole(), 3, 3},
            "{epsilon = 1.0e-3 : f64, operandSegmentSizes = array<i32: 1, 1, 1>}", 3,
            "(" + full + ", " + typeText(statistics, "f32") + ", " + typeText(statistics, "f32") + ")");
      break;
    }
    case 7: add("neg", {whole()}, "", 1, full); break;
    }
    if (pick(5) == 0) // a value that is used inside and outside
      line("train.output " + names.back() + " {name = \"kept" + std::to_string(i) + "\"} : " + full);
  }
  for (const std::string &name : unread)
    line("train.output " + name + " {name = \"" + name + "\"} : " + full);
  made.text = "train.step @step attributes {train.loss = \"none\"} {\n" + made.text + "}\n";
  return made;
}

plan::Plan compileStep(const std::string &text, bool fuse) {
  mlir::MLIRContext context;
  context.loadDialect<train::TrainDialect, plan::PlanDialect>();
  context.disableMultithreading();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module) {
    ADD_FAILURE() << "does not parse:\n" << text;
    return {};
  }
  mlir::PassManager passes(&context);
  passes.addPass(createAssignOffsets());
  passes.addPass(createVerifyPlan());
  if (fuse)
    passes.addPass(createFuseElementwise());
  passes.addPass(createLowerToPlan());
  if (failed(passes.run(*module))) {
    ADD_FAILURE() << "does not compile:\n" << text;
    return {};
  }
  mlir::FailureOr<plan::Plan> plan = emitPlan(*module, {});
  if (failed(plan)) {
    ADD_FAILURE() << "does not emit:\n" << text;
    return {};
  }
  return *plan;
}

// Values that are stored exactly in every type, some of them large or zero.
float valueAt(uint64_t i) {
  uint64_t mixed = (i + 1) * 0x9e3779b97f4a7c15u;
  return static_cast<float>(static_cast<int64_t>(mixed >> 57) - 64) / 32.0f;
}
void fill(plan::DType dtype, void *data, uint64_t elements, uint64_t seed) {
  for (uint64_t i = 0; i < elements; ++i) {
    float value = valueAt(i + seed * 7919);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (dtype == plan::F32)
      static_cast<float *>(data)[i] = value;
    else if (dtype == plan::BF16)
      static_cast<uint16_t *>(data)[i] = static_cast<uint16_t>(bits >> 16);
    else if (dtype == plan::F16)
      static_cast<_Float16 *>(data)[i] = static_cast<_Float16>(value);
    else
      static_cast<uint8_t *>(data)[i] = value > 0;
  }
}
double readAt(plan::DType dtype, const void *data, uint64_t i) {
  if (dtype == plan::F32)
    return static_cast<const float *>(data)[i];
  if (dtype == plan::F16)
    return static_cast<double>(static_cast<const _Float16 *>(data)[i]);
  uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(data)[i]) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

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

// Norms and their gradients, alone and with neighbours: what changes against the single kernels is the order of sums.
TEST(Groups, StatisticsOfRowsAgreeClosely) {
  for (const char *element : {"f32", "bf16"})
    for (const Shape &domain : {Shape{3, 70, 48}, Shape{130, 20}, Shape{65, 768}, Shape{2, 1}, Shape{70, 7}}) {
      std::string full = typeText(domain, element), column = typeText({domain.back()}, element);
      std::string row = typeText(Shape(domain.begin(), domain.end() - 1), "f32");
      std::string text =
          "train.step @step attributes {train.loss = \"none\"} {\n"
          "%x = train.input {name = \"x\"} : " + full + "\n%d = train.input {name = \"d\"} : " + full +
          "\n%w = train.input {name = \"w\"} : " + column + "\n%b = train.input {name = \"b\"} : " + column +
          "\n%h = train.add %x, %d : (" + full + ", " + full + ") -> " + full +
          "\n%y, %r = train.rms_norm %h, %w {epsilon = 1.0e-3 : f64} : (" + full + ", " + column + ") -> (" + full + ", " + row +
          ")\n%g, %gw = train.rms_norm_backward %d, %h, %r, %w : (" + full + ", " + full + ", " + row + ", " + column + ") -> (" +
          full + ", " + column + ")\n%s = train.add %g, %x : (" + full + ", " + full + ") -> " + full +
          "\n%l, %m, %q = train.layer_norm %h, %w, %b {epsilon = 1.0e-3 : f64, operandSegmentSizes = array<i32: 1, 1, 1>} : (" + full +
          ", " + column + ", " + column + ") -> (" + full + ", " + row + ", " + row +
          ")\n%k, %kw, %kb = train.layer_norm_backward %d, %h, %m, %q, %w {resultSegmentSizes = array<i32: 1, 1, 1>} : (" + full + ", " +
          full + ", " + row + ", " + row + ", " + column + ") -> (" + full + ", " + column + ", " + column + ")\n";
      for (auto [name, type] : {std::pair("y", full), {"r", row}, {"s", full}, {"gw", column}, {"l", full}, {"m", row}, {"q", row}, {"k", full}, {"kw", column}, {"kb", column}})
        text += std::string("train.output %") + name + " {name = \"" + name + "\"} : " + type + "\n";
      text += "}\n";
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
