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

  bool eval = false;
  std::optional<uint64_t> evalSteps;
  uint64_t evalEvery = 0;
  double evalFraction = 0;

  std::optional<double> learningRate;
  std::optional<ScheduleKind> schedule;
  std::optional<uint64_t> warmupSteps;
  std::optional<double> minLearningRate;

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
  unsigned threads = 0;
  bool verbose = false;
};

struct CommandLine {
  std::optional<TrainOptions> run; // absent: print `output` and be done
  std::string output;              // of --help and --version
};

// `arguments` without the program's name. Errors are of kind Usage; an unknown flag's names the
// nearest known one.
Expected<CommandLine> parseCommandLine(const std::vector<std::string> &arguments);

// The candidate nearest to `word` by edit distance; empty if none is near.
std::string nearestWord(const std::string &word, const std::vector<std::string> &candidates);

} // namespace amc::rt

#endif
