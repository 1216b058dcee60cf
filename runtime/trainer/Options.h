// amrun's command line. One definition of every flag: its type, its bounds, its help.
#ifndef AMC_RUNTIME_TRAINER_OPTIONS_H
#define AMC_RUNTIME_TRAINER_OPTIONS_H

#include "runtime/plan/DTypes.h"
#include "runtime/support/Status.h"
#include "runtime/trainer/Schedule.h"
#include "runtime/trainer/Weights.h"

#include <optional>
#include <string>
#include <vector>

namespace amc::rt {

// What the user asked for; whatever is absent comes from the checkpoint that is resumed, else from
// the plan, else from the default in the help.
struct TrainOptions {
  std::string plan;
  std::string data;
  std::optional<uint64_t> steps;
  std::optional<uint64_t> epochs; // with steps: what comes first

  bool eval = false;
  std::optional<uint64_t> evalSteps;
  uint64_t evalEvery = 0;
  double evalFraction = 0;

  std::optional<double> learningRate;
  std::optional<ScheduleKind> schedule;
  std::optional<uint64_t> warmupSteps;
  std::optional<double> minLearningRate;
  std::optional<double> initLearningRate;
  std::optional<uint64_t> decaySteps; // absent: steps
  std::optional<uint64_t> wsdSteps;
  std::optional<DecayStyle> wsdStyle;

  std::optional<uint64_t> seed;
  std::optional<plan::DType> tokenDType;
  std::optional<int64_t> documentSeparator;

  InitialWeights init;
  std::string model; // file
  std::optional<std::string> modelDir;

  std::string checkpointDir;
  uint64_t checkpointEvery = 0;
  uint64_t keep = 0;
  bool resume = false;

  std::string saveWeights;
  std::string dumpGradients;
  std::string logJson;
  std::string profile;
  uint64_t profileSteps = 2;
  unsigned threads = 0;
  bool verbose = false;
};

// A recipe in the place of the plan: what is compiled first, and how the run's flags are completed by it.
struct RecipeRun {
  std::string recipe;
  std::string model; // --model; empty: the recipe's
  std::string planCache;
  std::vector<std::string> compilerArguments; // flags of amc and `--section.key VALUE`
  std::vector<std::string> arguments;         // amrun's own, without the recipe, --model and what starts ranks
  std::vector<std::string> given;             // the flags among them, "--steps"
};

struct CommandLine {
  std::optional<TrainOptions> run; // absent, and no recipe: print `output` and be done
  std::string output;              // of --help and --version
  std::optional<RecipeRun> recipe; // instead of `run`
  // --nproc-per-node; 0: auto, as many as the plan is for.
  std::optional<uint64_t> ranksPerNode;
  // With it: the arguments without it, which each rank is given.
  std::vector<std::string> rankArguments;
  std::optional<double> rankTimeout; // seconds; of several ranks
};

// `arguments` without the program's name. Errors are of kind Usage; an unknown flag's names the
// nearest known one, if one is near.
Expected<CommandLine> parseCommandLine(const std::vector<std::string> &arguments);

// The run's arguments once the plan is there: what the recipe says ("--steps", "20", …) where no flag of the user's
// says otherwise.
std::vector<std::string> completeArguments(const RecipeRun &run, const std::string &plan, const std::string &model,
                                           const std::vector<std::string> &recipeArguments);

} // namespace amc::rt

#endif
