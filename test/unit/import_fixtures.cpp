// Imports every fixture and compares what assign-roles trains with what its meta.json says PyTorch
// trained; imports the big graphs, whose weights are absent. Both before and after raise: roles
// must not depend on patterns being found.
#include "compiler/dialect/Train.h"
#include "compiler/import/Import.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include <gtest/gtest.h>
#include <set>

using namespace mlir;

namespace {

const std::string fixtures = AMC_TEST_DIR "/fixtures/";

std::set<std::string> trainedByPyTorch(const std::string &name) {
  auto file = llvm::MemoryBuffer::getFile(fixtures + name + "/meta.json");
  EXPECT_TRUE(static_cast<bool>(file)) << "no meta.json for " << name;
  std::set<std::string> names;
  if (!file)
    return names;
  llvm::Expected<llvm::json::Value> meta = llvm::json::parse((*file)->getBuffer());
  EXPECT_TRUE(static_cast<bool>(meta));
  for (const auto &entry : *meta->getAsObject()->getObject("initializers"))
    names.insert(entry.first.str());
  return names;
}

std::set<std::string> trainedByUs(ModuleOp module) {
  std::set<std::string> names;
  module.walk([&](amc::train::ParameterOp parameter) {
    if (!parameter.getTrainable())
      return;
    names.insert(parameter.getName().str());
    if (ArrayAttr tied = parameter.getTiedAttr())
      for (auto name : tied.getAsRange<amc::train::TiedNameAttr>())
        names.insert(name.getInitializer().str());
  });
  return names;
}

struct Imported {
  MLIRContext context{MLIRContext::Threading::DISABLED};
  amc::ImportReport report;
  OwningOpRef<ModuleOp> module;
  std::string messages;
};

std::unique_ptr<Imported> import(const std::string &path, amc::ImportOptions options = {}) {
  auto result = std::make_unique<Imported>();
  Imported *target = result.get();
  result->context.getDiagEngine().registerHandler([target](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
      target->messages +=
          amc::describeLocation(diagnostic.getLocation()) + ": " + diagnostic.str() + "\n";
    return success();
  });
  FailureOr<OwningOpRef<ModuleOp>> module =
      amc::importOnnx(&result->context, path, options, result->report);
  EXPECT_TRUE(succeeded(module)) << result->messages;
  if (succeeded(module))
    result->module = std::move(*module);
  return result;
}

class Fixture : public testing::TestWithParam<std::string> {
protected:
  void compare(bool raise) {
    amc::ImportOptions options;
    if (GetParam() == "llama-tied-ts17")
      options.shapes = {{"input_ids", {2, 48}}, {"attention_mask", {2, 48}}};
    std::unique_ptr<Imported> imported = import(fixtures + GetParam() + "/model.onnx", options);
    ASSERT_TRUE(imported->module);
    ASSERT_TRUE(succeeded(verify(*imported->module)));
    PassManager passes(&imported->context);
    if (raise)
      passes.addPass(amc::createRaise());
    passes.addPass(amc::createAssignRoles());
    ASSERT_TRUE(succeeded(passes.run(*imported->module))) << imported->messages;
    EXPECT_EQ(trainedByUs(*imported->module), trainedByPyTorch(GetParam()));
  }
};

TEST_P(Fixture, TrainsWhatPyTorchTrainsAsImported) { compare(false); }
TEST_P(Fixture, TrainsWhatPyTorchTrainsRaised) { compare(true); }

INSTANTIATE_TEST_SUITE_P(All, Fixture,
                         testing::Values("bert-classify", "bert-mlm", "gemma3", "gemma3n", "gpt2",
                                         "llama", "llama-opset23", "llama-padded",
                                         "llama-tied-ts17", "mixtral", "qwen3"),
                         [](const auto &info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

/// Node counts are those that `onnx` counts in the files.
TEST(Graphs, ImportWithoutWeights) {
  for (auto [name, nodes] : {std::pair<const char *, int64_t>{"llama-3.2-1b", 1275},
                             {"mixtral-8x7b", 8595},
                             {"llama-3.1-405b", 24999}}) {
    amc::ImportOptions options;
    options.shapes = {{"input_ids", {2, 256}}};
    std::unique_ptr<Imported> imported =
        import(fixtures + "graphs/" + name + "/model.onnx", options);
    ASSERT_TRUE(imported->module) << name;
    EXPECT_EQ(imported->report.nodes, nodes);
    ASSERT_EQ(imported->report.remarks.size(), 1u);
    EXPECT_NE(imported->report.remarks[0].find("weights absent"), std::string::npos);
  }
}

} // namespace
