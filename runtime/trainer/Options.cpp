// See Options.h. CLI11 parses; what it would throw is turned into a Status here.
#include "runtime/trainer/Options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <limits>

namespace amc::rt {
namespace {

constexpr const char *version = "amrun 0.1.0 (plan format 1)";

// What is decided when the plan is compiled; test/tools/amrun-usage.test holds it against amc's help.
constexpr std::string_view flagsOfCompiler[] = {
    "-o", "--output", "--emit", "--report", "--embed-weights", "--shape", "--trainable", "--frozen",
    "--precision", "--loss", "--loss-impl", "--loss-tiles-in-flight", "--logits", "--ignore-index",
    "--label-smoothing", "--z-loss", "--class-weights", "--loss-reduction", "--ac", "--ac-matmuls", "--memory-budget",
    "--device-memory", "--ac-policy", "--ac-kv-sharing", "--tile-mlp", "--ac-trace", "--optimizer",
    "--betas", "--eps", "--weight-decay", "--weight-decay-on", "--momentum", "--nesterov",
    "--master-weights", "--optimizer-state", "--max-grad-norm", "--grad-accumulation",
    "--optimizer-in-backward", "--target", "--strategy", "--dp-size", "--dp-replicate-size",
    "--tp-size", "--cp-size", "--ep-size", "--config"};

Status usageError(std::string message) { return Status(ErrorKind::Usage, std::move(message)); }

uint64_t editDistance(const std::string &a, const std::string &b) {
  std::vector<uint64_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    uint64_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      uint64_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

// What CLI11 fills; texts that need more than a number are parsed afterwards.
struct Raw {
  TrainOptions options;
  std::string schedule, tokenDType, init;
  bool version = false;
};

// CLI11's own checks read "-3" as 2^64 - 3, let NaN pass and print bounds with 300 digits.
CLI::Validator integer(uint64_t low, uint64_t high) {
  auto check = [=](std::string &value) {
    uint64_t number = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    bool good = error == std::errc() && end == value.data() + value.size() && number >= low &&
                number <= high;
    return good ? ""
                : text("is '", value, "' and should be a whole number from ", low, " to ", high);
  };
  return CLI::Validator(check, "");
}

CLI::Validator real(double low, double high, std::string_view expected) {
  auto check = [=](std::string &value) {
    double number = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    bool good = error == std::errc() && end == value.data() + value.size() && number >= low &&
                number <= high;
    return good ? "" : text("is '", value, "' and should be ", expected);
  };
  return CLI::Validator(check, "");
}

void define(CLI::App &app, Raw &raw) {
  TrainOptions &options = raw.options;
  CLI::Validator natural = integer(0, std::numeric_limits<int64_t>::max());
  CLI::Validator positive = integer(1, std::numeric_limits<int64_t>::max());
  CLI::Validator rate = real(0, std::numeric_limits<double>::max(), "a finite number from 0");
  app.add_option("plan", options.plan, "the plan to run, as amc compile wrote it")
      ->type_name("PLAN");

  auto *what = app.add_option_group("What to do");
  what->add_option("--data", options.data,
                   "training data: *.safetensors: every model input and labels, stacked on axis 0, "
                   "used in that "
                   "order; *.bin: tokens; any other file: text, each byte a token")
      ->type_name("FILE");
  what->add_option("--steps", options.steps,
                   "steps of the whole run, resumed parts included; with --eval: evaluate that "
                   "many steps' data")
      ->type_name("N")
      ->check(natural);
  what->add_flag("--eval", options.eval, "forward only: print the loss over the data");
  what->add_option("--eval-steps", options.evalSteps, "micro-batches to evaluate (default: all)")
      ->type_name("N")
      ->check(positive);
  what->add_option("--eval-every", options.evalEvery,
                   "evaluate on the held-out share every N steps")
      ->type_name("N")
      ->check(positive);
  what->add_option(
          "--eval-fraction", options.evalFraction,
          "share of the data, at its end, that is held out (default: 0.05 with --eval-every)")
      ->type_name("SHARE")
      ->check(real(0, 0.99, "a share from 0 to 0.99"));

  auto *rates = app.add_option_group("Learning rate");
  rates->add_option("--lr", options.learningRate, "peak learning rate (default: the plan's)")
      ->type_name("RATE")
      ->check(rate);
  rates->add_option("--lr-schedule", raw.schedule, "constant, linear or cosine (default: constant)")
      ->type_name("KIND");
  rates->add_option("--warmup-steps", options.warmupSteps, "steps of linear warm-up (default: 0)")
      ->type_name("N")
      ->check(natural);
  rates
      ->add_option("--min-lr", options.minLearningRate,
                   "where linear and cosine end, one step past the last (default: 0)")
      ->type_name("RATE")
      ->check(rate);

  auto *data = app.add_option_group("Data");
  data->add_option("--seed", options.seed,
                   "of the data's order and of random operations (default: 0)")
      ->type_name("N")
      ->check(natural);
  data->add_option("--token-dtype", raw.tokenDType, "u16 or u32, of *.bin files (default: u16)")
      ->type_name("TYPE");
  data->add_option("--document-separator", options.documentSeparator,
                   "token that ends a document: the label after it is ignored")
      ->type_name("TOKEN");

  auto *weights = app.add_option_group("Weights");
  weights
      ->add_option("--init", raw.init,
                   "initial weights from FILE.safetensors or a checkpoint's folder, or drawn: "
                   "seed:N (rank 2 and above "
                   "normal(0, 0.02); "
                   "lower ranks ones if the name ends in weight, else zeros)")
      ->type_name("FROM");
  weights
      ->add_option("--model-dir", options.modelDir,
                   "folder of the model's weight files (default: the folder of the model the plan "
                   "was compiled from, else the plan's)")
      ->type_name("DIR");
  weights
      ->add_option("--model", options.model,
                   "the model the plan was compiled from, if it was moved or renamed since")
      ->type_name("FILE.onnx");
  weights
      ->add_option(
          "--save-weights", options.saveWeights,
          "write the trained weights: safetensors, in the names and layouts of the ONNX file")
      ->type_name("FILE");
  weights
      ->add_option("--dump-gradients", options.dumpGradients,
                   "write the first step's loss and grad.NAME, before clipping")
      ->type_name("FILE");

  auto *checkpoints = app.add_option_group("Checkpoints");
  checkpoints
      ->add_option("--checkpoint-dir", options.checkpointDir,
                   "folder for checkpoints: at the end, on SIGTERM and SIGINT, and every N steps")
      ->type_name("DIR");
  checkpoints
      ->add_option("--checkpoint-every", options.checkpointEvery, "steps between checkpoints")
      ->type_name("N")
      ->check(positive);
  checkpoints->add_option("--keep", options.keep, "newest checkpoints to keep (default: all)")
      ->type_name("N")
      ->check(positive);
  checkpoints->add_flag("--resume", options.resume,
                        "continue from the newest checkpoint of --checkpoint-dir");

  auto *machine = app.add_option_group("Machine and reports");
  machine->add_option("--threads", options.threads, "threads (default: the processors available)")
      ->type_name("N")
      ->check(integer(1, 4096));
  machine->add_option("--log-json", options.logJson, "write one JSON object a step")
      ->type_name("FILE");
  machine->add_flag("--verbose", options.verbose, "more about the plan, and where the time went");
  machine->add_flag("--version", raw.version, "print the version");
}

// "--steps", "--lr" … of the app and its groups.
std::vector<std::string> flagsOf(const CLI::App &app) {
  std::vector<std::string> flags;
  for (const CLI::Option *option : app.get_options())
    for (const std::string &name : option->get_lnames())
      flags.push_back("--" + name);
  for (const CLI::App *group : app.get_subcommands([](const CLI::App *) { return true; }))
    for (const std::string &flag : flagsOf(*group))
      flags.push_back(flag);
  return flags;
}

std::string inQuotes(std::string_view word) { return "'" + std::string(word) + "'"; }

// What is wrong with the combination, apart from single values.
Status checkTogether(const TrainOptions &options) {
  if (options.plan.empty())
    return usageError("no plan is given; usage: amrun PLAN --data FILE --steps N");
  if (options.data.empty())
    return usageError("no data is given; --data FILE names it");
  if (options.modelDir && !options.model.empty())
    return usageError("--model and --model-dir both say where the model is; give one of them");
  bool trains = options.steps || !options.dumpGradients.empty();
  if (!trains && !options.eval)
    return usageError("neither --steps N nor --eval is given");
  auto together = [](std::string_view flag, std::string_view needed) {
    return usageError(text(flag, " needs ", needed));
  };
  if (options.checkpointDir.empty()) {
    if (options.resume)
      return together("--resume", "--checkpoint-dir");
    if (options.checkpointEvery)
      return together("--checkpoint-every", "--checkpoint-dir");
    if (options.keep)
      return together("--keep", "--checkpoint-dir");
  }
  if (options.resume && options.init.from != InitialWeights::From::Plan)
    return usageError(
        "--resume takes the weights from the checkpoint, --init from elsewhere; give one of them");
  if (options.evalSteps && !options.eval && !options.evalEvery)
    return together("--eval-steps", "--eval or --eval-every");
  bool decays = options.schedule.value_or(ScheduleKind::Constant) != ScheduleKind::Constant;
  if (options.minLearningRate && !decays && !options.resume)
    return together("--min-lr", "--lr-schedule linear or cosine");
  if (!options.eval)
    return {};
  if (options.evalSteps && options.steps)
    return usageError("--steps and --eval-steps both say how much to evaluate; give one of them");
  const std::pair<bool, std::string_view> training[] = {
      {!options.dumpGradients.empty(), "--dump-gradients"},
      {!options.saveWeights.empty(), "--save-weights"},
      {!options.logJson.empty(), "--log-json"},
      {options.evalEvery != 0, "--eval-every"},
      {options.checkpointEvery != 0, "--checkpoint-every"},
      {options.keep != 0, "--keep"},
      {options.learningRate.has_value(), "--lr"},
      {options.schedule.has_value(), "--lr-schedule"},
      {options.warmupSteps.has_value(), "--warmup-steps"},
      {!options.checkpointDir.empty() && !options.resume, "--checkpoint-dir without --resume"}};
  for (auto [given, flag] : training)
    if (given)
      return usageError(text("--eval trains nothing, so ", flag, " does not apply"));
  return {};
}

} // namespace

std::string nearestWord(const std::string &word, const std::vector<std::string> &candidates) {
  std::string best;
  uint64_t bestDistance = std::max<uint64_t>(2, word.size() / 2);
  for (const std::string &candidate : candidates) {
    uint64_t distance = editDistance(word, candidate);
    if (distance < bestDistance) {
      bestDistance = distance;
      best = candidate;
    }
  }
  return best;
}

Expected<CommandLine> parseCommandLine(const std::vector<std::string> &arguments) {
  CLI::App app("Runs a training plan: trains a model, or evaluates it.\n\n"
               "Steps and results go to stdout, notes and progress to stderr. Exit codes: 0 done, "
               "1 the input or "
               "the request is at fault, 2 wrong usage, 3 a limit of the machine.",
               "amrun");
  app.allow_extras();
  app.set_help_flag("-h,--help", "print this help");
  app.get_formatter()->column_width(32);
  Raw raw;
  define(app, raw);
  CommandLine line;
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend()); // as CLI11 wants them
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp &) {
    line.output = app.help();
    return line;
  } catch (const CLI::ParseError &error) {
    std::string message = error.what();
    if (message.ends_with("missing")) // "--steps: 1 required N missing"
      message = text(message.substr(0, message.find(':')), " needs a value");
    return usageError(std::move(message));
  }
  // Unknown flags first: what follows one may have been taken for the plan.
  std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  for (const std::string &extra : extras)
    if (extra.starts_with("-") && extra != "-") {
      std::string flag = extra.substr(0, extra.find('='));
      if (std::ranges::find(flagsOfCompiler, flag) != std::end(flagsOfCompiler))
        return usageError(text(flag, " belongs to amc compile: it is part of the plan"));
      std::string nearest = flag == "--learning-rate" ? "--lr" : nearestWord(flag, flagsOf(app));
      return usageError(
          text("unknown flag ", inQuotes(flag),
               nearest.empty() ? "; amrun --help lists all" : "; did you mean " + nearest + "?"));
    }
  if (raw.version) {
    line.output = std::string(version) + "\n";
    return line;
  }
  if (!extras.empty())
    return usageError(
        text("unexpected argument ", inQuotes(extras.front()), "; a run takes one plan"));
  TrainOptions &options = raw.options;
  if (!raw.schedule.empty()) {
    options.schedule = scheduleFromName(raw.schedule);
    if (!options.schedule)
      return usageError(text("--lr-schedule is ", inQuotes(raw.schedule),
                             " and should be constant, linear or cosine"));
  }
  if (!raw.tokenDType.empty()) {
    if (raw.tokenDType != "u16" && raw.tokenDType != "u32" && raw.tokenDType != "uint16" &&
        raw.tokenDType != "uint32")
      return usageError(
          text("--token-dtype is ", inQuotes(raw.tokenDType), " and should be u16 or u32"));
    options.tokenDType = raw.tokenDType.ends_with("16") ? plan::U16 : plan::U32;
  }
  if (!raw.init.empty()) {
    Expected<InitialWeights> initial = parseInitialWeights(raw.init);
    if (!initial.ok())
      return initial.status();
    options.init = *initial;
  }
  if (Status failure = checkTogether(options); !failure.ok())
    return failure;
  if (!options.steps && !options.eval)
    options.steps = 1; // --dump-gradients alone is about the first step
  if (options.evalEvery && options.evalFraction == 0)
    options.evalFraction = 0.05;
  line.run = std::move(options);
  return line;
}

} // namespace amc::rt
