// The one definition of what a user may ask of the compiler: options.cpp's table gives every option
// its flag, its recipe key, type, default, help and check. The command line (tools/amc), the recipe
// reader (Recipe.h) and the help text are all made from it.
#ifndef AMC_COMPILER_DRIVER_OPTIONS_H
#define AMC_COMPILER_DRIVER_OPTIONS_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace amc {

// What one compilation is asked for. A default-constructed object holds the defaults.
struct CompileOptions {
  std::string model;  // ONNX file
  std::string output; // plan file; or the text of --emit's stage, standard output when empty
  std::string emit = "plan";
  std::string report; // HTML file
  bool embedWeights = false;

  std::vector<std::string> shape;             // "input_ids=8x256"
  std::vector<std::string> trainable, frozen; // globs over initializer names
  std::vector<std::string> untied;            // the same: trained apart, whatever else holds their numbers

  std::string loss = "auto";
  std::string lossImplementation = "unfused";
  std::string lossTilesInFlight = "auto"; // or a number
  std::string logits;
  int64_t ignoreIndex = -100;
  double labelSmoothing = 0, zLoss = 0;
  std::string lossReduction = "mean";
  std::vector<double> classWeights;

  std::string activationCheckpointing = "none";
  std::string acMatmuls = "alternate";
  std::vector<std::string> acPolicy; // "train.softmax=save"
  std::string acKvSharing = "submodule";
  std::string memoryBudget, deviceMemory;
  std::string tileMlp = "auto";
  bool acTrace = false;

  std::string optimizer = "adamw";
  double learningRate = 1e-3;
  std::vector<double> betas = {0.9, 0.999};
  double epsilon = 1e-8;
  double weightDecay = 0.01;
  std::string weightDecayOn = "all";
  double momentum = 0;
  bool nesterov = false;
  double maxGradNorm = 1.0;
  int64_t gradAccumulation = 1;
  std::string optimizerInBackward = "auto";

  std::string precision = "fp32";
  std::string masterWeights = "none";
  std::string optimizerState = "precision";
  std::string target = "cpu";
  std::string strategy = "fsdp2";
  int64_t dpSize = 1, dpReplicateSize = 1, tpSize = 1, cpSize = 1, epSize = 1; // dpSize 0: what the others leave
  double epCapacityFactor = 0;                                                 // 0: no row is dropped
  int64_t ranks = 0;                                                           // of the run; 0: not known
  int64_t zeroDpStrategy = 3;
  std::string cpAttention = "auto";
  bool sequenceParallel = false;
  std::string reshardAfterForward = "auto";
  std::string overlap = "auto";
  std::string fusion = "on"; // of cheap operations into generated kernels
  int64_t globalBatchSize = 0, localBatchSize = 0; // 0: not given
  std::string pretrainedModel;                     // what a recipe calls the model where it has no ONNX file

  // Settings of a recipe that amrun takes, as its flags in the table's order: the compiler hands
  // them on.
  std::vector<std::string> runArguments;

  bool operator==(const CompileOptions &) const = default;
};

struct OptionSpec {
  using Member = std::variant<std::monostate, std::string CompileOptions::*, bool CompileOptions::*,
                              int64_t CompileOptions::*, double CompileOptions::*,
                              std::vector<std::string> CompileOptions::*,
                              std::vector<double> CompileOptions::*>;
  std::string_view flag;  // of amc; of amrun when there is no member
  std::string_view key;   // in a recipe; empty: a flag only
  Member member;          // none: the option is amrun's
  std::string_view value; // what help calls the value; "a|b|c" lists the choices
  std::string_view group; // heading in the help text
  std::string_view help;
  // Empty if `text` is a valid value, else what it should be.
  std::string (*check)(std::string_view text) = nullptr;
};

const std::vector<OptionSpec> &optionTable();

// A spelling of the guide that users come from ("True", "enabled", "off", any case) as the value of
// --ac it stands for; other texts as they are.
std::string checkpointingSpelling(std::string_view text);

// Sets one option from text. Lists are replaced by the first call for an option and extended by
// later ones when `append` is set. Returns an error message ("… is … should be …"), or nothing.
std::optional<std::string> setOption(CompileOptions &options, const OptionSpec &spec,
                                     std::string_view text, bool append = false);

// The value as text; empty when there is none.
std::string valueText(const CompileOptions &options, const OptionSpec &spec);
// The default as text, for help; empty when there is none.
std::string defaultText(const OptionSpec &spec);

// What no single option can judge: choices that exclude each other. Empty when all is well.
std::vector<std::string> checkTogether(const CompileOptions &options);
// The same without what a compilation needs besides: a model, an output.
std::vector<std::string> checkChoices(const CompileOptions &options);

// Puts numbers in the place of what is left open: the data-parallel ranks, accumulation from batch sizes. What cannot
// be settled stays, and checkChoices says why.
void settle(CompileOptions &options);

// "8x256" as dimensions; nothing if it is no shape.
std::optional<std::vector<int64_t>> parseShape(std::string_view text);

// "7.3GiB", "512MiB", "80GB", "4096" as bytes; units up to TiB and TB, spaces before them allowed.
// Nothing if it is no such text, negative, no finite number, or 2^63 and more.
std::optional<uint64_t> parseBytes(std::string_view text);

} // namespace amc

#endif
