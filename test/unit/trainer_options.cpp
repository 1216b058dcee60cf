// amrun's command line: values, combinations, mistakes and what they are told.
#include "runtime/trainer/Options.h"
#include "test/unit/trainer_support.h"

using namespace amc::rt;
using namespace amc::rt::test;

namespace {

TrainOptions parsed(const std::vector<std::string> &arguments) {
  CommandLine line = take(parseCommandLine(arguments));
  EXPECT_TRUE(line.run.has_value());
  return line.run.value_or(TrainOptions());
}

void expectUsage(const std::vector<std::string> &arguments, const std::string &part) {
  Expected<CommandLine> line = parseCommandLine(arguments);
  ASSERT_FALSE(line.ok()) << part;
  expectError(line.status(), ErrorKind::Usage, part);
}

} // namespace

// Of the process, not of the run: known before the plan is; ranks are given it, too.
TEST(Options, RankTimeout) {
  EXPECT_FALSE(take(parseCommandLine({"m.amplan", "--data", "d", "--steps", "1"})).rankTimeout);
  CommandLine line = take(parseCommandLine(
      {"m.amplan", "--data", "d", "--steps", "1", "--nproc-per-node", "2", "--rank-timeout", "7.5"}));
  EXPECT_EQ(line.rankTimeout, 7.5);
  EXPECT_EQ(line.rankArguments,
            (std::vector<std::string>{"m.amplan", "--data", "d", "--steps", "1", "--rank-timeout", "7.5"}));
  line = take(parseCommandLine({"r.yaml", "--rank-timeout=7.5", "--nproc-per-node", "2"}));
  EXPECT_EQ(line.rankTimeout, 7.5);
  ASSERT_TRUE(line.recipe);
  CommandLine complete = take(parseCommandLine(
      completeArguments(*line.recipe, "m.amplan", "m.onnx", {"--data", "d", "--steps", "1"})));
  EXPECT_EQ(complete.rankTimeout, 7.5);
  for (const char *wrong : {"0", "-1", "nan", "soon", "1e9"})
    expectUsage({"m.amplan", "--data", "d", "--steps", "1", "--rank-timeout", wrong},
                std::string("--rank-timeout: is '") + wrong + "' and should be a number of seconds");
}

TEST(Options, Values) {
  TrainOptions options = parsed({"m.amplan",
                                 "--data",
                                 "c.txt",
                                 "--steps",
                                 "7",
                                 "--lr",
                                 "1e-3",
                                 "--lr-schedule",
                                 "cosine",
                                 "--warmup-steps=2",
                                 "--min-lr",
                                 "1e-5",
                                 "--seed",
                                 "3",
                                 "--init",
                                 "seed:4",
                                 "--checkpoint-dir",
                                 "d",
                                 "--checkpoint-every",
                                 "5",
                                 "--keep",
                                 "2",
                                 "--threads",
                                 "2",
                                 "--document-separator",
                                 "0",
                                 "--log-json",
                                 "l",
                                 "--verbose"});
  EXPECT_EQ(options.plan, "m.amplan");
  EXPECT_EQ(options.steps, 7u);
  EXPECT_EQ(options.learningRate, 1e-3);
  EXPECT_EQ(options.schedule, ScheduleKind::Cosine);
  EXPECT_EQ(options.warmupSteps, 2u);
  EXPECT_EQ(options.minLearningRate, 1e-5);
  EXPECT_EQ(options.seed, 3u);
  EXPECT_EQ(options.init.from, InitialWeights::From::Seed);
  EXPECT_EQ(options.init.seed, 4u);
  EXPECT_EQ(options.documentSeparator, 0);
  EXPECT_EQ(options.keep, 2u);
  EXPECT_TRUE(options.verbose);
  EXPECT_FALSE(options.resume);
}

TEST(Options, Defaults) {
  EXPECT_EQ(parsed({"p", "--data", "d", "--dump-gradients", "g"}).steps, 1u);
  EXPECT_EQ(parsed({"p", "--data", "d", "--steps", "2", "--eval-every", "1"}).evalFraction, 0.05);
  EXPECT_EQ(parsed({"p", "--data", "d", "--eval"}).evalFraction, 0);
  EXPECT_FALSE(parsed({"p", "--data", "d", "--steps", "2"}).learningRate);
}

TEST(Options, UnknownFlagNamesTheNearest) {
  expectUsage({"p", "--data", "d", "--stpes", "2"},
              "unknown flag '--stpes'; did you mean --steps?");
  expectUsage({"--stpes", "2", "p", "--data", "d"},
              "unknown flag '--stpes'; did you mean --steps?");
  expectUsage({"p", "--dump-gradient=x"}, "did you mean --dump-gradients?");
  expectUsage({"p", "--hlep"}, "did you mean --help?");
  expectUsage({"p", "--zzzzzzzzzzzzzzz"}, "amrun --help lists all");
  expectUsage({"p", "q", "--data", "d", "--steps", "2"}, "unexpected argument 'q'");
}

TEST(Options, BadValues) {
  expectUsage({"p", "--data", "d", "--steps", "many"}, "--steps");
  expectUsage({"p", "--data", "d", "--steps", "-3"}, "--steps");
  expectUsage({"p", "--data", "d", "--steps", "2", "--lr", "-1"}, "--lr");
  expectUsage({"p", "--data", "d", "--steps", "2", "--lr-schedule", "cosin"},
              "constant, linear, cosine, inverse-square-root or WSD");
  expectUsage({"p", "--data", "d", "--steps", "2", "--token-dtype", "u8"}, "u16 or u32");
  expectUsage({"p", "--data", "d", "--steps", "2", "--init", "seed:x"}, "seed:N");
  expectUsage({"p", "--data", "d", "--steps", "2", "--init", "w.bin"},
              "FILE.safetensors or seed:N");
  expectUsage({"p", "--data", "d", "--steps", "2", "--eval-fraction", "1.5"}, "--eval-fraction");
  expectUsage({"p", "--data", "d", "--steps"}, "--steps");
}

TEST(Options, Combinations) {
  expectUsage({}, "no plan is given");
  expectUsage({"p"}, "no data is given");
  expectUsage({"p", "--data", "d"}, "neither --steps N, --epochs N nor --eval");
  expectUsage({"p", "--data", "d", "--steps", "2", "--resume"}, "--resume needs --checkpoint-dir");
  expectUsage({"p", "--data", "d", "--steps", "2", "--keep", "2"}, "--keep needs --checkpoint-dir");
  expectUsage({"p", "--data", "d", "--eval", "--save-weights", "w"},
              "--save-weights does not apply");
  expectUsage({"p", "--data", "d", "--steps", "2", "--min-lr", "1"},
              "--min-lr needs an --lr-schedule");
  for (auto [flag, value] : {std::pair("--min-lr", "1"), {"--init-lr", "1"}, {"--lr-decay-steps", "2"},
                             {"--wsd-decay-steps", "2"}, {"--wsd-decay-style", "linear"}})
    expectUsage({"p", "--data", "d", "--eval", "--resume", "--checkpoint-dir", "c", flag, value},
                std::string(flag) + " does not apply");
  expectUsage({"p", "--data", "d", "--resume", "--checkpoint-dir", "c", "--dump-gradients", "g"},
              "--dump-gradients with --resume needs --steps or --epochs");
  expectUsage({"p", "--data", "d", "--steps", "2", "--threads", "257"}, "--threads");
  expectUsage(
      {"p", "--data", "d", "--steps", "2", "--resume", "--checkpoint-dir", "c", "--init", "seed:1"},
      "give one of them");
}

TEST(Options, Schedules) {
  std::vector<std::string> wsd = {"p", "--data", "d", "--epochs", "2", "--lr-schedule", "WSD"};
  expectUsage(wsd, "--lr-schedule WSD needs --wsd-decay-steps");
  wsd.insert(wsd.end(), {"--wsd-decay-steps", "5", "--wsd-decay-style", "cosine", "--lr-decay-steps", "50"});
  TrainOptions options = parsed(wsd);
  EXPECT_EQ(options.wsdSteps, 5u);
  EXPECT_EQ(options.wsdStyle, DecayStyle::Cosine);
  EXPECT_EQ(options.decaySteps, 50u);
  EXPECT_EQ(options.epochs, 2u);
  std::vector<std::string> plain = {"p", "--data", "d", "--steps", "2"};
  for (auto [flag, value, part] : {std::tuple("--wsd-decay-steps", "2", "--wsd-decay-steps needs --lr-schedule WSD"),
                                   {"--wsd-decay-style", "cosine", "--wsd-decay-style needs --lr-schedule WSD"},
                                   {"--wsd-decay-style", "cosin", "and should be linear, cosine"},
                                   {"--lr-decay-steps", "2", "--lr-decay-steps needs"},
                                   {"--init-lr", "1", "--init-lr needs --warmup-steps"}}) {
    std::vector<std::string> arguments = plain;
    arguments.insert(arguments.end(), {flag, value});
    expectUsage(arguments, part);
  }
  expectUsage({"p", "--data", "d", "--eval", "--epochs", "1"}, "--epochs does not apply");
}

// In the place of the plan, a recipe: words are the compiler's, amrun's own, or the launcher's.
TEST(Options, Recipe) {
  CommandLine line = take(parseCommandLine({"--nproc-per-node", "8", "r.yaml", "--model=m.onnx", "--data", "d", "--ac=full",
                                            "--shape", "x=1x2", "--nesterov", "--optimizer.lr", "1", "--steps=3",
                                            "--plan-cache", "c"}));
  ASSERT_TRUE(line.recipe);
  EXPECT_FALSE(line.run);
  EXPECT_EQ(line.ranksPerNode, 8u);
  EXPECT_EQ(line.recipe->recipe, "r.yaml");
  EXPECT_EQ(line.recipe->model, "m.onnx");
  EXPECT_EQ(line.recipe->planCache, "c");
  EXPECT_EQ(line.recipe->compilerArguments,
            (std::vector<std::string>{"--ac=full", "--shape", "x=1x2", "--nesterov", "--optimizer.lr", "1"}));
  EXPECT_EQ(line.recipe->arguments, (std::vector<std::string>{"--data", "d", "--steps=3"}));
  // A flag beats the recipe, the rest is the recipe's.
  EXPECT_EQ(completeArguments(*line.recipe, "p", "m", {"--data", "e", "--seed", "1", "--steps", "9", "--epochs", "2"}),
            (std::vector<std::string>{"p", "--model", "m", "--seed", "1", "--data", "d", "--steps=3"}));
}

TEST(Options, RecipeCompletions) {
  auto complete = [](std::vector<std::string> arguments, const std::vector<std::string> &recipe) {
    arguments.insert(arguments.begin(), "r.yml");
    CommandLine line = take(parseCommandLine(arguments));
    std::vector<std::string> all = completeArguments(line.recipe.value_or(RecipeRun()), "p", "m", recipe);
    all.erase(all.begin(), all.begin() + 3);
    return all;
  };
  using List = std::vector<std::string>;
  const List wsd = {"--lr-schedule", "WSD", "--min-lr", "1e-6", "--wsd-decay-steps", "3"};
  EXPECT_EQ(complete({"--lr-schedule=constant"}, wsd), (List{"--lr-schedule=constant"}));
  EXPECT_EQ(complete({"--lr-schedule", "cosine"}, wsd), (List{"--min-lr", "1e-6", "--lr-schedule", "cosine"}));
  EXPECT_EQ(complete({"--eval"}, {"--data", "d", "--seed", "1", "--steps", "9", "--lr-schedule", "cosine"}),
            (List{"--data", "d", "--seed", "1", "--eval"}));
}

TEST(Options, RecipeMistakes) {
  expectUsage({"r.yaml", "-o", "x"}, "-o belongs to amc compile: amrun decides where");
  expectUsage({"r.yaml", "--model-dir", "x"}, "a recipe's model is named by --model");
  expectUsage({"r.yaml", "p"}, "unexpected argument 'p'");
  expectUsage({"r.yaml", "--stpes", "1"}, "did you mean --steps?");
  expectUsage({"p", "--data", "d", "--steps", "1", "--plan-cache", "c"}, "--plan-cache is for recipes");
  expectUsage({"p", "--data", "d", "--steps", "1", "--optimizer.lr", "1"}, "is a key of a recipe, and a plan is run");
  expectUsage({"p", "--data", "d", "--steps", "1", "--nproc-per-node", "0"}, "should be a whole number from 1 to 4096, or auto");
  CommandLine line = take(parseCommandLine({"p", "--nproc-per-node=auto", "--data", "d", "--steps", "1"}));
  EXPECT_EQ(line.ranksPerNode, 0u);
  EXPECT_EQ(line.rankArguments, (std::vector<std::string>{"p", "--data", "d", "--steps", "1"}));
}

// The help has every flag that is accepted.
TEST(Options, HelpAndVersion) {
  CommandLine help = take(parseCommandLine({"--help"}));
  EXPECT_FALSE(help.run);
  for (const char *flag : {"--data",
                           "--steps",
                           "--eval",
                           "--eval-steps",
                           "--eval-every",
                           "--eval-fraction",
                           "--lr",
                           "--lr-schedule",
                           "--warmup-steps",
                           "--min-lr",
                           "--epochs",
                           "--init-lr",
                           "--lr-decay-steps",
                           "--wsd-decay-steps",
                           "--wsd-decay-style",
                           "--nproc-per-node",
                           "--plan-cache",
                           "--seed",
                           "--token-dtype",
                           "--document-separator",
                           "--init",
                           "--model-dir",
                           "--save-weights",
                           "--dump-gradients",
                           "--checkpoint-dir",
                           "--checkpoint-every",
                           "--keep",
                           "--resume",
                           "--threads",
                           "--log-json",
                           "--verbose",
                           "--version",
                           "--help"})
    EXPECT_NE(help.output.find(flag), std::string::npos) << flag;
  EXPECT_EQ(take(parseCommandLine({"-h"})).output, help.output);
  EXPECT_NE(take(parseCommandLine({"--version"})).output.find("amrun"), std::string::npos);
}
