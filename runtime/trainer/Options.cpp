// See Options.h. CLI11 parses; what it would throw is turned into a Status here.
#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/support/Nearest.h"
#include "runtime/trainer/Options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <limits>

namespace amc::rt {
namespace {

constexpr const char *version = "amrun 0.1.0 (plan format 1)";

// What is decided when the plan is compiled, and whether it takes a value; test/tools/amrun-usage.test holds it against
// amc's help. With a recipe they are handed on to amc, but for those that say what it writes.
struct CompilerFlag {
  std::string_view flag;
  enum Takes { Value, Nothing, NotHere } takes = Value;
};
constexpr CompilerFlag flagsOfCompiler[] = {
    {"-o", CompilerFlag::NotHere},
    {"--output", CompilerFlag::NotHere},
    {"--emit", CompilerFlag::NotHere},
    {"--report", CompilerFlag::NotHere},
    {"--config", CompilerFlag::NotHere},
    {"--embed-weights", CompilerFlag::Nothing},
    {"--ac-trace", CompilerFlag::Nothing},
    {"--nesterov", CompilerFlag::Nothing},
    {"--sequence-parallel", CompilerFlag::Nothing},
    {"--shape"}, {"--trainable"}, {"--frozen"}, {"--untied"}, {"--precision"}, {"--loss"}, {"--loss-impl"},
    {"--loss-tiles-in-flight"}, {"--logits"}, {"--ignore-index"}, {"--label-smoothing"}, {"--z-loss"},
    {"--class-weights"}, {"--loss-reduction"}, {"--ac"}, {"--ac-matmuls"}, {"--memory-budget"}, {"--device-memory"},
    {"--ac-policy"}, {"--ac-kv-sharing"}, {"--fusion"}, {"--tile-mlp"}, {"--optimizer"}, {"--betas"}, {"--eps"}, {"--weight-decay"},
    {"--weight-decay-on"}, {"--momentum"}, {"--master-weights"}, {"--optimizer-state"}, {"--max-grad-norm"},
    {"--grad-accumulation"}, {"--optimizer-in-backward"}, {"--target"}, {"--strategy"}, {"--dp-size"},
    {"--dp-replicate-size"}, {"--tp-size"}, {"--cp-size"}, {"--cp-attention"}, {"--ep-size"}, {"--ep-capacity-factor"}, {"--ranks"}, {"--zero-dp-strategy"},
    {"--reshard-after-forward"}, {"--overlap"}, {"--global-batch-size"}, {"--local-batch-size"}};

const CompilerFlag *compilerFlag(std::string_view flag) {
  auto at = std::ranges::find(flagsOfCompiler, flag, &CompilerFlag::flag);
  return at == std::end(flagsOfCompiler) ? nullptr : &*at;
}

Status usageError(std::string message) { return Status(ErrorKind::Usage, std::move(message)); }

// What CLI11 fills; texts that need more than a number are parsed afterwards.
struct Raw {
  TrainOptions options;
  std::string schedule, wsdStyle, tokenDType, init, planCache, ranks;
  std::optional<double> rankTimeout;
  std::optional<uint64_t> profileSteps;
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
  app.add_option("plan", options.plan,
                 "the plan to run, as amc compile wrote it; or a recipe (*.yaml), which is compiled first, by amc beside "
                 "amrun or in PATH: then flags of amc compile and --section.key VALUE may be given, too")
      ->type_name("PLAN|RECIPE.yaml");

  auto *what = app.add_option_group("What to do");
  what->add_option("--data", options.data,
                   "training data: *.safetensors (also by its content): every model input and labels, stacked on "
                   "axis 0, used in that order; *.bin: tokens; any other file: text, each byte a token")
      ->type_name("FILE");
  what->add_option("--steps", options.steps,
                   "steps of the whole run, resumed parts included; with --eval: evaluate that "
                   "many steps' data")
      ->type_name("N")
      ->check(natural);
  what->add_option("--epochs", options.epochs, "passes over the data; with --steps: whichever ends first")
      ->type_name("N")
      ->check(positive);
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
  rates->add_option("--lr-schedule", raw.schedule, scheduleNames() + " (default: constant)")
      ->type_name("KIND");
  rates->add_option("--warmup-steps", options.warmupSteps, "steps of linear warm-up (default: 0)")
      ->type_name("N")
      ->check(natural);
  rates
      ->add_option("--min-lr", options.minLearningRate,
                   "where all but constant end, one step past the last (default: 0)")
      ->type_name("RATE")
      ->check(rate);
  rates->add_option("--init-lr", options.initLearningRate, "rate that the warm-up starts from (default: 0)")
      ->type_name("RATE")
      ->check(rate);
  rates->add_option("--lr-decay-steps", options.decaySteps, "step at which the schedule ends (default: the last)")
      ->type_name("N")
      ->check(positive);
  rates->add_option("--wsd-decay-steps", options.wsdSteps, "steps of WSD's decay, the last ones of the schedule")
      ->type_name("N")
      ->check(positive);
  rates->add_option("--wsd-decay-style", raw.wsdStyle, decayNames() + " (default: exponential)")->type_name("STYLE");

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
                   "seed:N (matrices normal(0, 0.02); vectors ones if the name ends in weight, else zeros)")
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
      ->check(integer(1, ThreadPool::maxThreads));
  machine->add_option("--log-json", options.logJson, "write one JSON object a step")
      ->type_name("FILE");
  machine->add_option("--profile", options.profile,
                      "measure what the machine can do, print how much of it each kernel gets, and write a trace that "
                      "ui.perfetto.dev and chrome://tracing show; of several ranks one for all")
      ->type_name("FILE.json");
  machine->add_option("--profile-steps", raw.profileSteps,
                      "steps to profile, after the first; with --eval: micro-batches (default: 2)")
      ->type_name("N")
      ->check(positive);
  machine->add_flag("--verbose", options.verbose,
                    "more about the plan, and where the time went: instructions run one after the other for that");
  machine->add_option("--nproc-per-node", raw.ranks,
                      "ranks to start on this machine, through mpirun; auto: as many as the plan is for")
      ->type_name("N|auto");
  machine->add_option("--rank-timeout", raw.rankTimeout,
                      "of several ranks: seconds without a sign of life after which a rank that others wait for is taken "
                      "to hang, and the run ends (default: 60)")
      ->type_name("SECONDS")
      ->check(real(0.1, 1e6, "a number of seconds from 0.1 to 1000000"));
  machine->add_option("--plan-cache", raw.planCache,
                      "where plans of recipes are kept (default: $XDG_CACHE_HOME/amc, else ~/.cache/amc)")
      ->type_name("DIR");
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
    return usageError("no plan is given; usage: amrun PLAN|RECIPE.yaml --data FILE --steps N");
  if (options.data.empty())
    return usageError("no data is given; --data FILE names it");
  if (options.modelDir && !options.model.empty())
    return usageError("--model and --model-dir both say where the model is; give one of them");
  bool trains = options.steps || options.epochs || !options.dumpGradients.empty();
  if (!trains && !options.eval)
    return usageError("neither --steps N, --epochs N nor --eval is given");
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
  if (options.resume && !options.dumpGradients.empty() && !options.steps && !options.epochs)
    return together("--dump-gradients with --resume", "--steps or --epochs");
  if (options.evalSteps && !options.eval && !options.evalEvery)
    return together("--eval-steps", "--eval or --eval-every");
  bool decays = options.schedule.value_or(ScheduleKind::Constant) != ScheduleKind::Constant;
  const std::string decaying = "an --lr-schedule other than constant";
  if (options.minLearningRate && !decays && !options.resume)
    return together("--min-lr", decaying);
  if (options.decaySteps && !decays && !options.resume)
    return together("--lr-decay-steps", decaying);
  if (options.initLearningRate && options.warmupSteps.value_or(0) == 0 && !options.resume)
    return together("--init-lr", "--warmup-steps");
  const bool isWsd = options.schedule == ScheduleKind::WarmupStableDecay;
  if (options.wsdSteps && !isWsd && !options.resume)
    return together("--wsd-decay-steps", "--lr-schedule WSD");
  if (options.wsdStyle && !isWsd && !options.resume)
    return together("--wsd-decay-style", "--lr-schedule WSD");
  if (isWsd && !options.wsdSteps && !options.resume)
    return together("--lr-schedule WSD", "--wsd-decay-steps");
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
      {options.minLearningRate.has_value(), "--min-lr"},
      {options.initLearningRate.has_value(), "--init-lr"},
      {options.decaySteps.has_value(), "--lr-decay-steps"},
      {options.wsdSteps.has_value(), "--wsd-decay-steps"},
      {options.wsdStyle.has_value(), "--wsd-decay-style"},
      {options.epochs.has_value(), "--epochs"},
      {!options.checkpointDir.empty() && !options.resume, "--checkpoint-dir without --resume"}};
  for (auto [given, flag] : training)
    if (given)
      return usageError(text("--eval trains nothing, so ", flag, " does not apply"));
  return {};
}

// A command line as words: amrun's own, the compiler's, and the first that is neither a flag nor a flag's value.
struct Words {
  std::vector<std::string> own, compiler;
  std::string subject;
  std::string notHere; // a flag of amc that makes no sense here
};

bool takesValue(const CLI::App &app, const std::string &flag) {
  const CLI::Option *option = app.get_option_no_throw(flag);
  return option && option->get_items_expected_max() > 0;
}

Words wordsOf(const CLI::App &app, const std::vector<std::string> &arguments) {
  Words words;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string &word = arguments[i];
    const size_t equals = word.find('=');
    const std::string flag = word.substr(0, equals);
    const bool alone = equals == word.npos && i + 1 < arguments.size();
    const CompilerFlag *compiler = compilerFlag(flag);
    const bool isKey = flag.starts_with("--") && flag.find('.') != flag.npos;
    if (compiler && compiler->takes == CompilerFlag::NotHere && words.notHere.empty())
      words.notHere = flag;
    if (isKey || compiler) {
      words.compiler.push_back(word);
      if (alone && (isKey || compiler->takes != CompilerFlag::Nothing))
        words.compiler.push_back(arguments[++i]);
    } else if (word.starts_with("-") && word != "-") {
      words.own.push_back(word);
      if (alone && takesValue(app, flag))
        words.own.push_back(arguments[++i]);
    } else if (words.subject.empty()) {
      words.subject = word;
    } else {
      words.own.push_back(word);
    }
  }
  return words;
}

// Without a flag and its value.
std::vector<std::string> without(const std::vector<std::string> &arguments, std::string_view flag) {
  std::vector<std::string> rest;
  for (size_t i = 0; i < arguments.size(); ++i)
    if (arguments[i] == flag)
      ++i;
    else if (!arguments[i].starts_with(std::string(flag) + "="))
      rest.push_back(arguments[i]);
  return rest;
}

bool isRecipe(std::string_view path) { return path.ends_with(".yaml") || path.ends_with(".yml"); }

// The texts that CLI11 could not judge.
Status finishOptions(Raw &raw) {
  TrainOptions &options = raw.options;
  if (raw.profileSteps && options.profile.empty())
    return usageError("--profile-steps needs --profile");
  options.profileSteps = raw.profileSteps.value_or(options.profileSteps);
  if (!raw.schedule.empty()) {
    options.schedule = scheduleFromName(raw.schedule);
    if (!options.schedule)
      return usageError(text("--lr-schedule is ", inQuotes(raw.schedule), " and should be ", scheduleNames()));
  }
  if (!raw.wsdStyle.empty()) {
    options.wsdStyle = decayFromName(raw.wsdStyle);
    if (!options.wsdStyle)
      return usageError(text("--wsd-decay-style is ", inQuotes(raw.wsdStyle), " and should be ", decayNames()));
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
  return {};
}

Status parseRanks(const std::string &given, std::optional<uint64_t> &ranks) {
  if (given.empty())
    return {};
  uint64_t number = 0;
  auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), number);
  bool good = error == std::errc() && end == given.data() + given.size() && number >= 1 && number <= 4096;
  if (!good && given != "auto")
    return usageError(text("--nproc-per-node is ", inQuotes(given), " and should be a whole number from 1 to 4096, or auto"));
  ranks = good ? number : 0;
  return {};
}

// Unknown flags first: what follows one may have been taken for the plan.
Status unexpected(const CLI::App &app) {
  std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  for (const std::string &extra : extras)
    if (extra.starts_with("-") && extra != "-") {
      std::string flag = extra.substr(0, extra.find('='));
      if (compilerFlag(flag))
        return usageError(text(flag, " belongs to amc compile: it is part of the plan"));
      if (flag.find('.') != flag.npos)
        return usageError(text(flag, " is a key of a recipe, and a plan is run; it belongs to amc compile"));
      std::string near = flag == "--learning-rate" ? "--lr" : nearest(flag, flagsOf(app));
      return usageError(
          text("unknown flag ", inQuotes(flag),
               near.empty() ? "; amrun --help lists all" : "; did you mean " + near + "?"));
    }
  return {};
}

std::vector<std::string> givenFlags(const CLI::App &app) {
  std::vector<std::string> flags;
  for (const CLI::Option *option : app.get_options())
    if (option->count() > 0 && !option->get_lnames().empty())
      flags.push_back("--" + option->get_lnames().front());
  for (const CLI::App *group : app.get_subcommands([](const CLI::App *) { return true; }))
    for (const std::string &flag : givenFlags(*group))
      flags.push_back(flag);
  return flags;
}

} // namespace

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
  Words words = wordsOf(app, arguments);
  const bool compiles = isRecipe(words.subject);
  std::vector<std::string> reversed = compiles ? words.own : arguments;
  std::reverse(reversed.begin(), reversed.end()); // as CLI11 wants them
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
  if (Status failure = unexpected(app); !failure.ok())
    return failure;
  if (raw.version) {
    line.output = std::string(version) + "\n";
    return line;
  }
  std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  if (compiles && !raw.options.plan.empty())
    extras.insert(extras.begin(), raw.options.plan); // behind the recipe
  if (!extras.empty())
    return usageError(
        text("unexpected argument ", inQuotes(extras.front()), "; a run takes one plan"));
  if (Status failure = parseRanks(raw.ranks, line.ranksPerNode); !failure.ok())
    return failure;
  if (Status failure = finishOptions(raw); !failure.ok())
    return failure;
  TrainOptions &options = raw.options;
  line.rankTimeout = raw.rankTimeout;
  if (compiles) {
    if (!words.notHere.empty())
      return usageError(text(words.notHere, " belongs to amc compile: amrun decides where the plan of a recipe goes"));
    if (options.modelDir)
      return usageError("--model-dir is for plans, a recipe's model is named by --model");
    RecipeRun run;
    run.recipe = words.subject;
    run.model = options.model;
    run.planCache = raw.planCache;
    run.compilerArguments = std::move(words.compiler);
    run.arguments = words.own;
    for (const char *flag : {"--model", "--plan-cache", "--nproc-per-node"})
      run.arguments = without(run.arguments, flag);
    run.given = givenFlags(app);
    line.recipe = std::move(run);
    return line;
  }
  if (!raw.planCache.empty())
    return usageError("--plan-cache is for recipes, and a plan is run");
  if (Status failure = checkTogether(options); !failure.ok())
    return failure;
  if (!options.steps && !options.epochs && !options.eval)
    options.steps = 1; // --dump-gradients alone is about the first step
  if (options.evalEvery && options.evalFraction == 0)
    options.evalFraction = 0.05;
  line.rankArguments = without(arguments, "--nproc-per-node");
  line.run = std::move(options);
  return line;
}

std::vector<std::string> completeArguments(const RecipeRun &run, const std::string &plan, const std::string &model,
                                           const std::vector<std::string> &recipeArguments) {
  auto given = [&](std::string_view flag) { return std::ranges::find(run.given, flag) != run.given.end(); };
  auto valueOf = [&](std::string_view flag) -> std::string {
    for (size_t i = 0; i < run.arguments.size(); ++i) {
      if (run.arguments[i] == flag && i + 1 < run.arguments.size())
        return run.arguments[i + 1];
      if (run.arguments[i].starts_with(std::string(flag) + "="))
        return run.arguments[i].substr(flag.size() + 1);
    }
    return "";
  };
  std::vector<std::string> all = {plan, "--model", model};
  for (size_t i = 0; i + 1 < recipeArguments.size(); i += 2) {
    const std::string &flag = recipeArguments[i];
    if (given(flag))
      continue;
    // What goes with a choice that a flag has replaced, goes with it.
    if (given("--lr-schedule") && (flag.starts_with("--wsd-") || valueOf("--lr-schedule") == "constant") &&
        (flag.starts_with("--wsd-") || flag == "--min-lr" || flag == "--lr-decay-steps"))
      continue;
    if (given("--warmup-steps") && valueOf("--warmup-steps") == "0" && flag == "--init-lr")
      continue;
    if (given("--eval") && flag != "--data" && flag != "--seed")
      continue; // an evaluation trains nothing
    if ((given("--steps") && flag == "--epochs") || (given("--epochs") && flag == "--steps"))
      continue;
    all.insert(all.end(), {flag, recipeArguments[i + 1]});
  }
  all.insert(all.end(), run.arguments.begin(), run.arguments.end());
  return all;
}

} // namespace amc::rt
