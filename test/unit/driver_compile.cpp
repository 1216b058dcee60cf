// amc::compile as a library: results and messages, nothing printed, nothing written.
#include "compiler/driver/Compile.h"
#include "runtime/plan/PlanFile.h"
#include <gtest/gtest.h>
#include <map>

using namespace amc;

namespace {

CompileOptions fixture(const std::string &name) {
  CompileOptions options;
  options.model = AMC_TEST_DIR "/fixtures/" + name + "/model.onnx";
  options.output = "not written";
  return options;
}

TEST(Compile, GivesAPlanAndSaysWhatIsTrained) {
  std::vector<Message> messages;
  CompileResult result =
      compile(fixture("llama"), [&](const Message &message) { messages.push_back(message); });
  ASSERT_EQ(result.code, Done);
  ASSERT_TRUE(result.plan);
  EXPECT_EQ(result.plan->parameters_size(), 32);
  EXPECT_EQ(result.plan->arena_bytes(), result.plan->promise().arena_bytes());
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].severity, Message::Remark);
  EXPECT_NE(messages[0].text.find("30 of 32 parameters are trained"), std::string::npos)
      << messages[0].text;
  EXPECT_EQ(messages[1].severity, Message::Remark);
  EXPECT_NE(messages[1].text.find("the loss is causal-lm"), std::string::npos) << messages[1].text;
}

TEST(Compile, EveryOptionOfTheOptimizerReachesThePlan) {
  CompileOptions options = fixture("llama");
  options.learningRate = 0.25;
  options.maxGradNorm = 0.5;
  options.betas = {0.7, 0.8};
  options.epsilon = 1e-6;
  options.weightDecay = 0.3;
  options.gradAccumulation = 4;
  CompileResult result = compile(options, [](const Message &) {});
  ASSERT_TRUE(result.plan);
  EXPECT_EQ(result.plan->default_learning_rate(), 0.25);
  EXPECT_EQ(result.plan->max_grad_norm(), 0.5);
  EXPECT_EQ(result.plan->accumulation(), 4u);
  size_t updates = 0;
  for (const plan::Instruction &instruction : result.plan->instructions()) {
    if (instruction.kernel() != "adamw")
      continue;
    ++updates;
    const std::map<std::string, double> expected{
        {"beta1", 0.7}, {"beta2", 0.8}, {"epsilon", 1e-6}, {"weight_decay", 0.3}};
    size_t found = 0;
    for (const plan::Attribute &attribute : instruction.attributes())
      if (auto wanted = expected.find(attribute.name()); wanted != expected.end()) {
        EXPECT_EQ(attribute.f(), wanted->second) << attribute.name();
        ++found;
      }
    EXPECT_EQ(found, expected.size());
  }
  EXPECT_EQ(updates, 30u);
}

TEST(Compile, StopsAtAStage) {
  CompileOptions options = fixture("llama");
  options.emit = "loss";
  CompileResult result = compile(options, [](const Message &) {});
  EXPECT_EQ(result.code, Done);
  EXPECT_FALSE(result.plan);
  EXPECT_NE(result.text.find("train.cross_entropy"), std::string::npos);
  EXPECT_EQ(result.text.find("train.adamw"), std::string::npos);
}

TEST(Compile, FailsWithAMessageAndACode) {
  std::vector<Message> messages;
  auto sink = [&](const Message &message) { messages.push_back(message); };
  CompileOptions options = fixture("absent");
  EXPECT_EQ(compile(options, sink).code, BadInput);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].severity, Message::Error);

  messages.clear();
  EXPECT_EQ(compile(CompileOptions(), sink).code, BadUsage);
  EXPECT_EQ(messages.size(), 2u); // no model, no output
}

// The same input gives the same bytes, also when other compilations ran before in the same process.
TEST(Compile, IsDeterministicWithinAProcess) {
  auto bytes = [](const std::string &name) {
    CompileResult result = compile(fixture(name), [](const Message &) {});
    EXPECT_TRUE(result.plan);
    return *rt::serializePlan(*result.plan);
  };
  std::string first = bytes("gpt2");
  bytes("llama");
  EXPECT_EQ(bytes("gpt2"), first);
}

} // namespace
