// The option table: what it accepts, what it refuses and how, and the recipe reader on top of it.
#include "compiler/driver/Options.h"
#include "compiler/driver/Recipe.h"
#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>
#include <set>

using namespace amc;

namespace {

const OptionSpec &spec(std::string_view flag) {
  for (const OptionSpec &candidate : optionTable())
    if (candidate.flag == flag)
      return candidate;
  throw std::runtime_error("no such option");
}

// Applies a recipe given as text; the errors' file name is cut off.
std::vector<std::string> recipe(const std::string &text, CompileOptions &options) {
  std::string path = testing::TempDir() + "recipe.yaml";
  std::ofstream(path) << text;
  std::vector<std::string> errors = applyRecipe({path}, options).errors;
  for (std::string &error : errors)
    error = error.substr(path.size() + 1);
  std::remove(path.c_str());
  return errors;
}

// The defaults themselves must pass their own checks, or help would show what is refused.
TEST(OptionTable, DefaultsAreValid) {
  for (const OptionSpec &option : optionTable()) {
    std::string text = defaultText(option);
    if (text.empty() || option.flag == "--shape")
      continue;
    CompileOptions options;
    EXPECT_EQ(setOption(options, option, text), std::nullopt) << option.flag;
  }
}

TEST(OptionTable, FlagsAndKeysAreUnique) {
  std::set<std::string_view> flags, keys;
  for (const OptionSpec &option : optionTable()) {
    EXPECT_TRUE(option.flag.empty() || flags.insert(option.flag).second) << option.flag;
    EXPECT_TRUE(option.key.empty() || keys.insert(option.key).second) << option.key;
    EXPECT_FALSE(option.help.empty()) << option.flag;
  }
}

TEST(OptionTable, NoneIsWhatOthersLeave) {
  CompileOptions options;
  EXPECT_EQ(setOption(options, spec("--dp-size"), "none"), std::nullopt);
  EXPECT_EQ(options.dpSize, 0);
  EXPECT_EQ(valueText(options, spec("--dp-size")), "none");
  EXPECT_TRUE(setOption(options, spec("--ep-size"), "none"));
}

TEST(OptionTable, RefusesBadValues) {
  CompileOptions options;
  EXPECT_EQ(setOption(options, spec("--ac"), "selectiv"),
            "is 'selectiv', should be one of none|full|selective|budget|auto (nearest: selective)");
  EXPECT_EQ(setOption(options, spec("--target"), "cuda:sm_89"),
            "is 'cuda:sm_89', should be one of cpu|cuda:sm_80|cuda:sm_90|cuda:sm_100 (nearest: cuda:sm_80)");
  EXPECT_EQ(setOption(options, spec("--lr"), "-1"),
            "is '-1', should be a number that is not negative");
  EXPECT_EQ(setOption(options, spec("--lr"), "nan"),
            "is 'nan', should be a number that is not negative");
  EXPECT_EQ(setOption(options, spec("--lr"), "1e-3x"),
            "is '1e-3x', should be a number that is not negative");
  EXPECT_TRUE(setOption(options, spec("--betas"), "0.9"));
  EXPECT_TRUE(setOption(options, spec("--betas"), "0.9,1"));
  EXPECT_TRUE(setOption(options, spec("--grad-accumulation"), "0"));
  EXPECT_TRUE(setOption(options, spec("--shape"), "8x256"));
  EXPECT_TRUE(setOption(options, spec("--shape"), "input_ids=8x-1"));
  EXPECT_TRUE(setOption(options, spec("--ignore-index"), "1.5"));
}

// A choice that is like none of them is not said to be near one.
TEST(OptionTable, FarChoicesHaveNoNearest) {
  CompileOptions options;
  EXPECT_EQ(setOption(options, spec("--ac"), "everything"),
            "is 'everything', should be one of none|full|selective|budget|auto");
}

TEST(Recipe, SetsWhatItNames) {
  CompileOptions options;
  EXPECT_TRUE(recipe("model:\n  path: m.onnx\n  shape: {input_ids: [8, 256]}\n"
                     "optimizer:\n  _target_: torch.optim.SGD\n  lr: 0.5\n  betas: [0.8, 0.95]\n"
                     "distributed:\n  activation_checkpointing: true\n  dp_size: 1\n",
                     options)
                  .empty());
  EXPECT_EQ(options.model, "m.onnx");
  EXPECT_EQ(options.shape, std::vector<std::string>{"input_ids=8x256"});
  EXPECT_EQ(options.optimizer, "sgd");
  EXPECT_EQ(options.learningRate, 0.5);
  EXPECT_EQ(options.betas, (std::vector<double>{0.8, 0.95}));
  EXPECT_EQ(options.activationCheckpointing, "full");
}

TEST(Recipe, TakesEverySpellingOfCheckpointing) {
  for (auto [meaning, words] :
       std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"full", {"true", "True", "on", "ON", "full", "Full", "enabled", "yes", "Yes", "'TRUE'"}},
           {"none", {"false", "off", "Off", "none", "None", "disabled", "no", "NO", "null", "~", ""}},
           {"selective", {"selective", "Selective", "SELECTIVE"}}})
    for (const std::string &word : words) {
      CompileOptions options;
      options.activationCheckpointing = "unset";
      EXPECT_TRUE(
          recipe("distributed: {activation_checkpointing: " + word + "}\n", options).empty())
          << word;
      EXPECT_EQ(options.activationCheckpointing, meaning) << word;
    }
  CompileOptions options;
  for (const char *word : {"maybe", "1", "full-ish", "[full]"}) {
    std::vector<std::string> errors =
        recipe(std::string("distributed: {activation_checkpointing: ") + word + "}\n", options);
    ASSERT_EQ(errors.size(), 1u) << word;
    EXPECT_NE(errors[0].find("'distributed.activation_checkpointing' "), std::string::npos);
  }
  EXPECT_EQ(recipe("distributed: {activation_checkpointing: maybe}\n", options)[0],
            "1:41: error: 'distributed.activation_checkpointing' is 'maybe', should be one of true, on, "
            "full, enabled, yes; false, off, none, disabled, no, null; selective; budget; auto, in any "
            "case");
}

TEST(Recipe, TakesClassesOfOperations) {
  CompileOptions options;
  EXPECT_TRUE(recipe("distributed: {ac_policy: {train.softmax: save, linear: Recompute}}\n", options)
                  .empty());
  EXPECT_EQ(options.acPolicy,
            (std::vector<std::string>{"train.softmax=save", "linear=Recompute"}));
  EXPECT_EQ(recipe("distributed: {ac_policy: {softmax: keep}}\n", options),
            std::vector<std::string>{"1:36: error: 'distributed.ac_policy' is 'softmax=keep', should be "
                                     "an operation and save, recompute or alternate, as softmax=save"});
}

TEST(Recipe, HandsRunSettingsOn) {
  CompileOptions options;
  EXPECT_TRUE(
      recipe("dataset: {path: corpus.txt}\nstep_scheduler: {max_steps: 20}\n", options).empty());
  EXPECT_EQ(options.runArguments,
            (std::vector<std::string>{"--data", "corpus.txt", "--steps", "20"}));
}

TEST(Recipe, ReportsEveryErrorWithItsPlace) {
  CompileOptions options;
  std::vector<std::string> errors =
      recipe("optimizer:\n  weight_decy: 1\n  lr: fast\nmodle: {}\n", options);
  ASSERT_EQ(errors.size(), 3u);
  EXPECT_EQ(errors[0], "2:3: error: unknown key 'optimizer.weight_decy'\nnote: the nearest known "
                       "key is 'optimizer.weight_decay'");
  EXPECT_EQ(errors[1],
            "3:7: error: 'optimizer.lr' is 'fast', should be a number that is not negative");
  EXPECT_EQ(errors[2].rfind("4:1: error: unknown key 'modle'", 0), 0u) << errors[2];
}

TEST(Recipe, RefusesWrongShapesOfYaml) {
  CompileOptions options;
  EXPECT_EQ(recipe("optimizer: 3\n", options),
            std::vector<std::string>{"1:1: error: 'optimizer' should be a group of keys"});
  EXPECT_EQ(recipe("optimizer: {lr: [1, 2]}\n", options),
            std::vector<std::string>{"1:17: error: 'optimizer.lr' should be a single value"});
  EXPECT_EQ(recipe("- a\n", options),
            std::vector<std::string>{"1:1: error: the recipe should be a group of keys"});
  EXPECT_EQ(recipe("optimizer: {lr: 1, lr: 2}\n", options),
            std::vector<std::string>{"1:20: error: key 'optimizer.lr' is given twice"});
  EXPECT_EQ(recipe("optimizer: {lr: 1\n", options).size(), 1u);
}

} // namespace
