// Raising must not change what a model computes. Every case of test/passes/raise-*.mlir and every
// fixture is run by the interpreter before and after, in double precision; what is left after
// raising is counted for the fixtures.
#include "compiler/analysis/ConstantValue.h"
#include "compiler/analysis/Interpreter.h"
#include "compiler/import/Import.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <cmath>
#include <gtest/gtest.h>
#include <map>
#include <random>

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

/// Small numbers for floats and, along the last dimension, 1 before anything else for masks: a
/// causal row then always has a key, so that conventions for rows without one stay out of the
/// comparison. Ids are below `idLimit`.
HostTensor fill(Operation *source, StringRef name, int64_t idLimit) {
  HostTensor tensor(cast<RankedTensorType>(source->getResult(0).getType()));
  std::mt19937 random(static_cast<unsigned>(name.size()) * 7919u +
                      static_cast<unsigned>(name.front()));
  std::uniform_real_distribution<double> real(-1, 1);
  for (int64_t i = 0; i < tensor.size(); ++i)
    if (tensor.isFloat())
      tensor.floats[i] = real(random);
    else if (tensor.type.getElementType().isInteger(1) || name.contains("mask") || name == "m")
      tensor.ints[i] = i % tensor.shape().back() == 0 || random() % 3 != 0;
    else
      tensor.ints[i] = static_cast<int64_t>(random() % static_cast<unsigned>(idLimit));
  return tensor;
}

Interpreter interpreterFor(int64_t idLimit) {
  return Interpreter([=](Operation *source, int64_t) -> std::optional<HostTensor> {
    if (auto parameter = dyn_cast<ParameterOp>(source)) {
      if (std::optional<HostTensor> tensor = readParameter(parameter, int64_t(1) << 30))
        return tensor;
      return fill(source, parameter.getName(), idLimit);
    }
    if (auto input = dyn_cast<InputOp>(source))
      return fill(source, input.getName(), idLimit);
    return std::nullopt;
  });
}

bool raiseModule(ModuleOp module) {
  PassManager passes(module.getContext());
  passes.addPass(createRaise());
  return succeeded(passes.run(module));
}

/// True if there was something to compare: an output that is not all zero.
bool expectEqual(ModuleOp before, ModuleOp after, int64_t idLimit, double tolerance) {
  bool isTelling = false;
  auto second = after.getOps<StepOp>().begin();
  for (StepOp step : before.getOps<StepOp>()) {
    Interpreter a = interpreterFor(idLimit), b = interpreterFor(idLimit);
    if (failed(a.runStep(step)) || failed(b.runStep(*second++)) ||
        a.outputs().size() != b.outputs().size()) {
      ADD_FAILURE() << "the step does not run";
      return false;
    }
    for (const auto &entry : a.outputs()) {
      const HostTensor &x = entry.second, &y = b.outputs().find(entry.first())->second;
      if (x.type != y.type) {
        ADD_FAILURE() << entry.first().str() << " has another type";
        continue;
      }
      double largest = 0, difference = 0;
      for (int64_t i = 0; i < x.size(); ++i) {
        EXPECT_FALSE(std::isnan(x.number(i)) || std::isnan(y.number(i)))
            << entry.first().str() << " " << i;
        largest = std::max(largest, std::abs(x.number(i)));
        difference = std::max(difference, std::abs(x.number(i) - y.number(i)));
      }
      isTelling |= largest > 0;
      EXPECT_LE(difference, tolerance * largest)
          << step.getSymName().str() << " " << entry.first().str();
    }
  }
  return isTelling;
}

std::map<std::string, int> countOps(ModuleOp module) {
  std::map<std::string, int> counts;
  module.walk([&](Operation *op) { ++counts[op->getName().stripDialect().str()]; });
  return counts;
}

// Tests that each case of the lit tests computes the same after raising.
TEST(Raise, CasesKeepTheirMeaning) {
  int cases = 0;
  std::error_code error;
  std::vector<std::string> files;
  for (llvm::sys::fs::directory_iterator file(AMC_TEST_DIR "/passes", error), end;
       file != end && !error; file.increment(error))
    if (llvm::sys::path::filename(file->path()).starts_with("raise"))
      files.push_back(file->path());
  llvm::sort(files);
  for (const std::string &file : files) {
    auto buffer = llvm::MemoryBuffer::getFile(file);
    ASSERT_TRUE(buffer);
    SmallVector<StringRef> parts;
    (*buffer)->getBuffer().split(parts, "// -----");
    for (StringRef part : parts) {
      MLIRContext context;
      context.loadDialect<TrainDialect>();
      OwningOpRef<ModuleOp> before = parseSourceString<ModuleOp>(part, ParserConfig(&context));
      ASSERT_TRUE(before) << file;
      OwningOpRef<ModuleOp> after = before->clone();
      ASSERT_TRUE(raiseModule(*after)) << file;
      // Constants of GELU are rounded to f32 in the graphs and exact in the operation; bf16 values
      // are not rounded.
      cases += expectEqual(*before, *after, 2, 1e-6);
    }
  }
  EXPECT_GE(cases, 30);
}

struct Fixture {
  const char *name;
  std::map<std::string, int> expected; ///< operations after raising
};

void PrintTo(const Fixture &fixture, std::ostream *out) { *out << fixture.name; }

class RaiseFixture : public testing::TestWithParam<Fixture> {};

TEST_P(RaiseFixture, KeepsItsMeaningAndLeavesNothing) {
  std::string path = std::string(AMC_TEST_DIR) + "/fixtures/" + GetParam().name + "/model.onnx";
  MLIRContext context;
  context.loadDialect<TrainDialect>();
  ImportOptions options;
  if (StringRef(GetParam().name).ends_with("ts17")) // the only one with open dimensions
    options.shapes = {{"input_ids", {2, 24}}, {"attention_mask", {2, 24}}};
  ImportReport report;
  FailureOr<OwningOpRef<ModuleOp>> before = importOnnx(&context, path, options, report);
  ASSERT_TRUE(succeeded(before));
  OwningOpRef<ModuleOp> after = (*before)->clone();
  ASSERT_TRUE(raiseModule(*after));
  std::map<std::string, int> counts = countOps(*after);
  for (auto &[op, expected] : GetParam().expected)
    EXPECT_EQ(counts[op], expected) << op;
  // What decompositions are made of.
  for (const char *leftover : {"pow", "sqrt", "rsqrt", "reciprocal", "sigmoid", "erf", "is_nan",
                               "softmax", "select", "neg"})
    if (!GetParam().expected.contains(leftover)) {
      EXPECT_EQ(counts[leftover], 0) << leftover;
    }
  EXPECT_TRUE(expectEqual(**before, *after, 64, 1e-5));
}

// Layers: llama and its relatives 3, gemma3 6, gemma3n 4, bert 3, gpt2 3. Norms: two a layer and
// one at the end; qwen3 has two more a layer, gemma3 four more. Linear: seven a layer and the head.
// gemma3n keeps what AltUp computes.
INSTANTIATE_TEST_SUITE_P(All, RaiseFixture,
                         testing::Values(Fixture{"llama",
                                                 {{"attention", 3},
                                                  {"rms_norm", 7},
                                                  {"rotary", 6},
                                                  {"gated_activation", 3},
                                                  {"linear", 22},
                                                  {"embedding", 1},
                                                  {"broadcast", 0},
                                                  {"matmul", 0}}},
                                         Fixture{"llama-padded",
                                                 {{"attention", 3},
                                                  {"rms_norm", 7},
                                                  {"rotary", 6},
                                                  {"gated_activation", 3},
                                                  {"linear", 22},
                                                  {"embedding", 1},
                                                  {"broadcast", 0},
                                                  {"matmul", 0},
                                                  {"gather_nd", 0}}},
                                         Fixture{"llama-tied-ts17",
                                                 {{"attention", 3},
                                                  {"rms_norm", 7},
                                                  {"rotary", 6},
                                                  {"gated_activation", 3},
                                                  {"linear", 22},
                                                  {"embedding", 1},
                                                  {"broadcast", 0},
                                                  {"matmul", 0},
                                                  {"gather", 0}}},
                                         Fixture{"llama-opset23",
                                                 {{"attention", 3},
                                                  {"rms_norm", 7},
                                                  {"rotary", 6},
                                                  {"gated_activation", 3},
                                                  {"linear", 22},
                                                  {"embedding", 1},
                                                  {"broadcast", 0},
                                                  {"matmul", 0}}},
                                         Fixture{"gpt2",
                                                 {{"attention", 3},
                                                  {"layer_norm", 7},
                                                  {"gelu", 3},
                                                  {"linear", 13},
                                                  {"embedding", 2},
                                                  {"matmul", 0},
                                                  {"transpose", 12}}},
                                         Fixture{"qwen3",
                                                 {{"attention", 3},
                                                  {"rms_norm", 13},
                                                  {"rotary", 6},
                                                  {"gated_activation", 3},
                                                  {"linear", 22},
                                                  {"embedding", 1},
                                                  {"broadcast", 0},
                                                  {"matmul", 0}}},
                                         Fixture{"gemma3",
                                                 {{"attention", 6},
                                                  {"rms_norm", 37},
                                                  {"rotary", 12},
                                                  {"gated_activation", 6},
                                                  {"linear", 43},
                                                  {"embedding", 1},
                                                  {"broadcast", 0},
                                                  {"matmul", 0}}},
                                         Fixture{"gemma3n",
                                                 {{"attention", 4},
                                                  {"pow", 6},
                                                  {"sqrt", 2},
                                                  {"select", 3},
                                                  {"rotary", 6},
                                                  {"gated_activation", 8},
                                                  {"embedding", 2},
                                                  {"matmul", 4}}},
                                         Fixture{"mixtral",
                                                 {{"attention", 3},
                                                  {"rms_norm", 7},
                                                  {"rotary", 6},
                                                  {"gated_activation", 3},
                                                  {"linear", 16},
                                                  {"grouped_matmul", 6},
                                                  {"embedding", 1},
                                                  {"matmul", 0},
                                                  {"softmax", 3}}},
                                         Fixture{"bert-mlm",
                                                 {{"attention", 3},
                                                  {"layer_norm", 8},
                                                  {"gelu", 4},
                                                  {"linear", 20},
                                                  {"embedding", 3},
                                                  {"matmul", 0}}},
                                         Fixture{"bert-classify",
                                                 {{"attention", 3},
                                                  {"layer_norm", 7},
                                                  {"gelu", 3},
                                                  {"linear", 20},
                                                  {"embedding", 3},
                                                  {"matmul", 0}}}));

struct Graph {
  const char *name;
  int layers;
  bool isMixture;
};

void PrintTo(const Graph &graph, std::ostream *out) { *out << graph.name; }

class RaiseGraph : public testing::TestWithParam<Graph> {};

// Tests big models whose weights are absent: their masks are computed from ranges and disappear. A
// layer has two norms, one attention, seven products (two of them by experts and two with a router
// in a mixture).
TEST_P(RaiseGraph, RaisesEveryLayer) {
  std::string path =
      std::string(AMC_TEST_DIR) + "/fixtures/graphs/" + GetParam().name + "/model.onnx";
  MLIRContext context;
  context.loadDialect<TrainDialect>();
  ImportOptions options;
  options.shapes = {{"input_ids", {1, 512}}};
  ImportReport report;
  FailureOr<OwningOpRef<ModuleOp>> module = importOnnx(&context, path, options, report);
  ASSERT_TRUE(succeeded(module));
  ASSERT_TRUE(raiseModule(**module));
  std::map<std::string, int> counts = countOps(**module);
  int layers = GetParam().layers;
  EXPECT_EQ(counts["attention"], layers);
  EXPECT_EQ(counts["rms_norm"], 2 * layers + 1);
  EXPECT_EQ(counts["rotary"], 2 * layers);
  EXPECT_EQ(counts["gated_activation"], layers);
  EXPECT_EQ(counts["linear"], (GetParam().isMixture ? 5 : 7) * layers + 1);
  EXPECT_EQ(counts["grouped_matmul"], GetParam().isMixture ? 2 * layers : 0);
  EXPECT_EQ(counts["embedding"], 1);
  for (const char *leftover : {"matmul", "select", "gather_nd", "gather", "less_equal", "and",
                               "cumsum", "is_nan", "pow", "sigmoid"})
    EXPECT_EQ(counts[leftover], 0) << leftover;
  (*module)->walk([](AttentionOp attention) {
    EXPECT_EQ(attention.getRight(), 0u);
    EXPECT_FALSE(attention.getBias() || attention.getPadding() || attention.getLeft());
  });
}

INSTANTIATE_TEST_SUITE_P(All, RaiseGraph,
                         testing::Values(Graph{"llama-3.2-1b", 16, false},
                                         Graph{"llama-3.1-405b", 126, false},
                                         Graph{"mixtral-8x7b", 32, true}));

} // namespace
