// The guide's own keys: what each comes to, and what is refused. The option table's keys are options_table.cpp's.
#include "compiler/driver/Recipe.h"
#include "compiler/driver/RecipeKeys.h"
#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>
#include <set>

using namespace amc;

namespace {

struct Read {
  CompileOptions options;
  RecipeReport report;
};

Read read(const std::string &text, std::vector<RecipeOverride> overrides = {}) {
  std::string path = testing::TempDir() + "guide.yaml";
  std::ofstream(path) << text;
  Read result;
  result.report = applyRecipe({path, std::move(overrides)}, result.options);
  for (std::string &error : result.report.errors)
    if (error.starts_with(path))
      error = error.substr(path.size() + 1);
  std::remove(path.c_str());
  return result;
}

CompileOptions good(const std::string &text, std::vector<RecipeOverride> overrides = {}) {
  Read result = read(text, std::move(overrides));
  EXPECT_TRUE(result.report.errors.empty()) << text << ": " << result.report.errors.front();
  return result.options;
}

void expectError(const std::string &text, const std::string &error) {
  Read result = read(text);
  ASSERT_EQ(result.report.errors.size(), 1u) << text;
  EXPECT_EQ(result.report.errors[0], error);
}

} // namespace

// Every line of the table is well formed: an alias names an option, a refusal says why, no key stands twice.
TEST(ForeignKeys, Table) {
  std::set<std::string_view> seen, options;
  for (const OptionSpec &spec : optionTable())
    options.insert(spec.key);
  for (const ForeignKey &foreign : foreignKeys()) {
    EXPECT_TRUE(seen.insert(foreign.key).second) << foreign.key;
    if (foreign.fate == Fate::Means) {
      EXPECT_TRUE(foreign.option.empty() || options.count(foreign.option)) << foreign.key;
      EXPECT_FALSE(foreign.option.empty() && foreign.values.empty()) << foreign.key;
    } else {
      EXPECT_TRUE(foreign.option.empty()) << foreign.key;
      EXPECT_FALSE(options.count(foreign.key)) << foreign.key;
    }
    EXPECT_EQ(foreign.fate == Fate::Refused, !foreign.why.empty()) << foreign.key;
  }
}

TEST(ForeignKeys, Lookup) {
  EXPECT_EQ(findForeignKey("wandb.project")->key, "wandb.*");
  EXPECT_EQ(findForeignKey("wandb")->key, "wandb.*");
  EXPECT_EQ(findForeignKey("fp8.enabled")->key, "fp8.enabled");
  EXPECT_EQ(findForeignKey("model.config.hidden_size")->key, "model.config.*");
  EXPECT_EQ(findForeignKey("wandbx"), nullptr);
  EXPECT_EQ(lastComponent("a.b.Class"), "Class");
  EXPECT_EQ(lastComponent("dir/file.py:Class"), "Class");
  EXPECT_EQ(ourValue("a=b|c=", "a"), "b");
  EXPECT_EQ(ourValue("a=b|c=", "c"), "");
  EXPECT_EQ(ourValue("a=b|c=", "d"), std::nullopt);
}

TEST(GuideRecipe, Classes) {
  EXPECT_EQ(
      good("loss_fn: {_target_: nemo_automodel.components.loss.linear_ce.FusedLinearCrossEntropy}").lossImplementation,
      "linear-cross-entropy");
  for (const char *loss :
       {"masked_ce.MaskedCrossEntropy", "chunked_ce.ChunkedCrossEntropy", "x.TEParallelCrossEntropy"})
    EXPECT_EQ(good(std::string("loss_fn: {_target_: ") + loss + "}").lossImplementation, "unfused");
  EXPECT_EQ(good("optimizer: {_target_: torch.optim.SGD, momentum: 0.5}").optimizer, "sgd");
  EXPECT_EQ(good("distributed: {_target_: nemo_automodel.components.distributed.fsdp2.FSDP2Manager}").strategy,
            "fsdp2");
  EXPECT_EQ(good("distributed_config: {_target_: x.DDPConfig}").strategy, "ddp");
  expectError(
      "loss_fn: {_target_: x.FusedCrossEntropy}",
      "1:21: error: 'loss_fn._target_' is 'x.FusedCrossEntropy', should be one of FusedLinearCrossEntropy, "
      "MaskedCrossEntropy, ChunkedCrossEntropy, TEParallelCrossEntropy\nnote: a class is known by its last component");
  expectError(
      "recipe: KnowledgeDistillationRecipeForNextTokenPrediction",
      "1:9: error: 'recipe' is 'KnowledgeDistillationRecipeForNextTokenPrediction', should be one of "
      "TrainFinetuneRecipeForNextTokenPrediction, FinetuneRecipeForNextTokenPrediction, "
      "TrainFinetuneRecipeForSequenceClassification, BenchmarkingRecipeForNextTokenPrediction\nnote: a class is "
      "known by its last component");
}

// torch's Adam and SGD decay nothing unless told to; Adam's decay is no decay of AMC's.
TEST(GuideRecipe, WeightDecay) {
  EXPECT_EQ(good("optimizer: {_target_: torch.optim.AdamW}").weightDecay, 0.01);
  EXPECT_EQ(good("optimizer: {_target_: torch.optim.Adam}").weightDecay, 0);
  EXPECT_EQ(good("optimizer: {weight_decay: 0, _target_: torch.optim.Adam}").weightDecay, 0);
  EXPECT_EQ(good("optimizer: {_target_: torch.optim.SGD}").weightDecay, 0);
  EXPECT_EQ(good("optimizer: {_target_: torch.optim.SGD, weight_decay: 0.5}").weightDecay, 0.5);
  expectError(
      "optimizer: {_target_: torch.optim.Adam, weight_decay: 0.1}",
      "1:55: error: 'optimizer.weight_decay' is '0.1', should be 0 with optimizer._target_ torch.optim.Adam, which "
      "adds it to the gradient\nnote: AMC decays weights as torch.optim.AdamW does; name that class, or give 0");
}

// The guide's losses sum and its trainer divides, which is AMC's mean; AMC's own reduction is another key's meaning.
TEST(GuideRecipe, Reduction) {
  EXPECT_EQ(good("loss_fn: {_target_: x.MaskedCrossEntropy, reduction: sum}").lossReduction, "mean");
  EXPECT_EQ(good("loss_fn: {reduction: sum}").lossReduction, "sum");
  EXPECT_EQ(read("loss_fn: {_target_: x.MaskedCrossEntropy, reduction: mean}").report.errors.size(), 1u);
}

TEST(GuideRecipe, Spellings) {
  EXPECT_EQ(good("model: {torch_dtype: bf16}").precision, "bf16");
  EXPECT_EQ(good("model: {torch_dtype: torch.float32}").precision, "fp32");
  EXPECT_EQ(good("model: {torch_dtype: auto}").precision, "fp32");
  EXPECT_EQ(good("distributed: {reshard_after_forward: True}").reshardAfterForward, "always");
  EXPECT_EQ(good("distributed: {reshard_after_forward: false}").reshardAfterForward, "never");
  EXPECT_EQ(good("distributed: {reshard_after_forward: null}").reshardAfterForward, "auto");
  EXPECT_EQ(good("distributed: {sequence_parallel: True}").sequenceParallel, true);
  EXPECT_EQ(good("distributed: {cp_size: 2, cp_attention: all-gather}").cpAttention, "all-gather");
  EXPECT_EQ(good("distributed: {overlap: prefetch}").overlap, "prefetch");
  EXPECT_EQ(good("distributed: {dp_size: none, dp_replicate_size: None, tp_size: null}").dpSize, 0);
  EXPECT_EQ(good("distributed: {dp_size: 8}").dpSize, 8);
  EXPECT_EQ(good("optimizer: {lr: 1}").dpSize, 0) << "left out, it is what the others leave";
  EXPECT_EQ(good("optimizer: {master_weights: true}\nmodel: {torch_dtype: bf16}").masterWeights, "fp32");
  EXPECT_EQ(good("lr_scheduler: null\nvalidation_dataset: none\n").runArguments, std::vector<std::string>());
}

// What asks for nothing passes, what asks for something that AMC lacks does not.
TEST(GuideRecipe, Refused) {
  for (const char *nothing :
       {"peft: null", "peft: {}", "peft: none", "fp8: {enabled: false, recipe_name: x}",
        "quantization: {load_in_4bit: False}", "qat: {enabled: false}",
        "packed_sequence: {packed_sequence_size: 0, split_across_pack: false}", "distributed: {pp_size: 1}",
        "distributed: {pp_size: none}", "loss_fn: {logit_softcapping: 0}", "optimizer: {amsgrad: false, dampening: 0}",
        "checkpoint: {restore_from: null}"})
    EXPECT_TRUE(read(nothing).report.errors.empty()) << nothing;
  for (const char *something :
       {"peft: {dim: 8}", "fp8: {enabled: true}", "quantization: {load_in_4bit: true}", "qat: {enabled: true}",
        "packed_sequence: {packed_sequence_size: 4096}", "distributed: {pp_size: 2}",
        "loss_fn: {logit_softcapping: 30}", "optimizer: {amsgrad: true}", "checkpoint: {restore_from: LATEST}",
        "clip_grad_norm: {norm_type: 1}", "distributed: {activation_checkpointing_scope: vision}",
        "neftune: {noise_alpha: 5}", "distributed: {mp_policy: {reduce_dtype: bfloat16}}"})
    EXPECT_EQ(read(something).report.errors.size(), 1u) << something;
  expectError(
      "distributed:\n  pp_size: 2\n",
      "2:12: error: 'distributed.pp_size' is '2', should be 0 or 1 or none\nnote: AMC has no pipeline parallelism; "
      "give distributed.pp_size 1 and other sizes");
  expectError("peft:\n  dim: 8\n",
              "1:1: error: 'peft' is given, should be false or none\nnote: AMC trains whole weights, no "
              "adapters; leave it out (--frozen keeps weights)");
}

// One remark for all that says nothing here.
TEST(GuideRecipe, Remark) {
  Read result = read("wandb: {project: a, name: b}\nmodel: {use_liger_kernel: true}\ndataloader: {num_workers: 2}\n"
                     "_spare: {x: 1}\n");
  EXPECT_TRUE(result.report.errors.empty());
  EXPECT_EQ(result.report.ignored,
            (std::vector<std::string>{"wandb", "model.use_liger_kernel", "dataloader", "_spare"}));
  EXPECT_TRUE(result.report.remark.ends_with(
      "guide.yaml: remark: no meaning in AMC, ignored: wandb, model.use_liger_kernel, dataloader, _spare"))
      << result.report.remark;
  EXPECT_EQ(read("optimizer: {lr: 1}").report.remark, "");
}

TEST(GuideRecipe, UnknownKeysNameTheNearest) {
  expectError("model: {use_liger_kernl: true}",
              "1:9: error: unknown key 'model.use_liger_kernl'\nnote: the nearest known key "
              "is 'model.use_liger_kernel'");
}

// Where none is near, a wrong name would help nobody: what can stand there is listed.
TEST(GuideRecipe, KeysThatAreNearNothingListWhatThereIs) {
  Read result = read("lr_scheduler: {foo: 1}\n");
  ASSERT_EQ(result.report.errors.size(), 1u);
  EXPECT_TRUE(result.report.errors[0].starts_with("1:16: error: unknown key 'lr_scheduler.foo'\nnote: the keys of "
                                                  "'lr_scheduler' are _target_, "))
      << result.report.errors[0];
}

TEST(GuideRecipe, KeysOfOneOptionAgree) {
  EXPECT_EQ(good("rng: {seed: 3}\nseed: 3\n").runArguments, (std::vector<std::string>{"--seed", "3"}));
  expectError("rng: {seed: 3}\nseed: 4\n",
              "2:7: error: 'seed' says '4' and 'rng.seed' says '3', should be the same: both are dataset.seed");
  EXPECT_EQ(
      read("model: {torch_dtype: float32}\ndistributed: {mp_policy: {param_dtype: bfloat16}}\n").report.errors.size(),
      1u);
}

TEST(GuideRecipe, RunSettings) {
  CompileOptions options =
      good("lr_scheduler: {lr_decay_style: WSD, wsd_decay_steps: 3, lr_warmup_steps: 2, init_lr: 1e-6}\n"
           "step_scheduler: {max_steps: 9, num_epochs: 2}\nrng: {seed: 7}\ndataset: {path: d.txt}\n");
  EXPECT_EQ(options.runArguments, (std::vector<std::string>{"--data", "d.txt", "--seed", "7", "--steps", "9",
                                                            "--epochs", "2", "--lr-schedule", "WSD", "--warmup-steps",
                                                            "2", "--init-lr", "1e-6", "--wsd-decay-steps", "3"}));
  // The guide's defaults: cosine, checkpoints in ./checkpoints; a constant rate has no end.
  EXPECT_EQ(good("lr_scheduler: {min_lr: 0.5}").runArguments,
            (std::vector<std::string>{"--lr-schedule", "cosine", "--min-lr", "0.5"}));
  EXPECT_EQ(good("lr_scheduler: {lr_decay_style: constant, min_lr: 0.5}").runArguments,
            (std::vector<std::string>{"--lr-schedule", "constant"}));
  EXPECT_EQ(good("step_scheduler: {ckpt_every_steps: 5}").runArguments,
            (std::vector<std::string>{"--checkpoint-every", "5", "--checkpoint-dir", "checkpoints"}));
  EXPECT_EQ(
      good("step_scheduler: {ckpt_every_steps: 5}\ncheckpoint: {enabled: false, checkpoint_dir: c}\n").runArguments,
      std::vector<std::string>());
}

TEST(Overrides, AreTakenOutOfACommandLine) {
  std::vector<std::string> words = {"compile", "--a.b", "1", "m.onnx", "--c.d=x=y", "--lr", "0.5"};
  std::vector<RecipeOverride> found;
  EXPECT_EQ(takeOverrides(words, found), std::nullopt);
  EXPECT_EQ(words, (std::vector<std::string>{"compile", "m.onnx", "--lr", "0.5"}));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].key + " " + found[0].value, "a.b 1");
  EXPECT_EQ(found[1].key + " " + found[1].value, "c.d x=y");
  for (std::vector<std::string> wrong :
       {std::vector<std::string>{"--a.b"}, {"--a.b", "--lr"}, {"--a.b=1", "--a.b=2"}}) {
    found.clear();
    EXPECT_TRUE(takeOverrides(wrong, found));
  }
}

TEST(Overrides, BeatTheRecipe) {
  EXPECT_EQ(
      good("distributed: {activation_checkpointing: full}", {{"distributed.activation_checkpointing", "selective"}})
          .activationCheckpointing,
      "selective");
  EXPECT_EQ(good("wandb: {}", {{"optimizer.betas", "[0.5, 0.25]"}}).betas, (std::vector<double>{0.5, 0.25}));
  EXPECT_EQ(good("model: {shape: {input_ids: [1, 2]}}", {{"model.shape.input_ids", "[3, 4]"}}).shape,
            std::vector<std::string>{"input_ids=3x4"});
  // A class comes with its defaults as in the file.
  EXPECT_EQ(good("", {{"optimizer._target_", "torch.optim.Adam"}}).weightDecay, 0);
  EXPECT_EQ(read("a: 1", {{"optimizer.lr", "fast"}}).report.errors.back(),
            "--optimizer.lr: error: 'optimizer.lr' is 'fast', should be a number that is not negative");
  EXPECT_EQ(read("", {{"optimizer.lrr", "1"}}).report.errors.back(),
            "--optimizer.lrr: error: unknown key 'optimizer.lrr'\nnote: the nearest known key is 'optimizer.lr'");
  EXPECT_EQ(read("optimizer: 3", {{"optimizer.lr", "1"}}).report.errors.front(),
            "--optimizer.lr: error: 'optimizer' is a single value in the recipe");
}
