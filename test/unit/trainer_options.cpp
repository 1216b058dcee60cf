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
              "constant, linear or cosine");
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
  expectUsage({"p", "--data", "d"}, "neither --steps N nor --eval");
  expectUsage({"p", "--data", "d", "--steps", "2", "--resume"}, "--resume needs --checkpoint-dir");
  expectUsage({"p", "--data", "d", "--steps", "2", "--keep", "2"}, "--keep needs --checkpoint-dir");
  expectUsage({"p", "--data", "d", "--eval", "--save-weights", "w"},
              "--save-weights does not apply");
  expectUsage({"p", "--data", "d", "--steps", "2", "--min-lr", "1"},
              "--min-lr needs --lr-schedule");
  expectUsage(
      {"p", "--data", "d", "--steps", "2", "--resume", "--checkpoint-dir", "c", "--init", "seed:1"},
      "give one of them");
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
