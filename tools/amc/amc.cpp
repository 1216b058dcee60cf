// amc: the compiler's command line. Thin: options come from the table in compiler/driver/Options.h,
// work is done by amc::compile and amc::check, printing by compiler/report.
#include "compiler/driver/AcTable.h"
#include "compiler/driver/Compile.h"
#include "compiler/driver/MeshRules.h"
#include "compiler/driver/Recipe.h"
#include "compiler/report/Report.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/PlanVerifier.h"
#include "runtime/support/Nearest.h"
#include "tools/amc/Export.h"
#include "tools/amc/Table.h"
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <unistd.h>

using namespace amc;

namespace {

// What stands on a command line, in the order of the table: applied after the recipe, so that a
// flag beats it.
struct Given {
  std::string model, config;
  std::vector<RecipeOverride> overrides;
  std::vector<std::pair<const OptionSpec *, std::vector<std::string>>> values;
  bool json = false;
};

// Which options of the table a subcommand has.
enum class Takes { Everything, ModelOnly, NoModel };

void addOption(CLI::App &command, Given &given, const OptionSpec &spec) {
  given.values.emplace_back(&spec, std::vector<std::string>());
  std::vector<std::string> &texts = given.values.back().second;
  std::string flag = spec.flag == "--output" ? "-o,--output" : std::string(spec.flag);
  std::string help(spec.help);
  if (std::string text = defaultText(spec); !text.empty())
    help += " [" + text + "]";
  if (!spec.key.empty())
    help += " (recipe: " + std::string(spec.key) + ")";
  CLI::Option *option;
  if (std::holds_alternative<bool CompileOptions::*>(spec.member))
    option = command.add_flag_function(
        flag, [&texts](int64_t given) { texts.push_back(given > 0 ? "true" : "false"); }, help);
  else
    option = command.add_option(flag, texts, help)
                 ->type_name(std::string(spec.value))
                 ->allow_extra_args(false);
  option->group(std::string(spec.group));
}

void addOption(CLI::App &command, Given &given, std::string_view flag) {
  given.values.reserve(optionTable().size());
  for (const OptionSpec &spec : optionTable())
    if (spec.flag == flag)
      addOption(command, given, spec);
}

void addTable(CLI::App &command, Given &given, Takes takes) {
  if (takes != Takes::NoModel)
    command.add_option("model", given.model, "ONNX file")->type_name("MODEL.onnx");
  // An empty name, as an unset variable of a shell makes it, is not "no recipe".
  command.add_option("--config", given.config, "recipe; flags beat it")
      ->type_name("RECIPE.yaml")
      ->check([](const std::string &path) {
        return path.empty() ? std::string("names no file") : std::string();
      });
  given.values.reserve(optionTable().size());
  for (const OptionSpec &spec : optionTable()) {
    if (spec.flag.empty() || std::holds_alternative<std::monostate>(spec.member))
      continue;
    if ((takes == Takes::ModelOnly && spec.flag == "--ac") || (takes != Takes::Everything && spec.group == "Result"))
      continue;
    addOption(command, given, spec);
  }
  if (takes == Takes::Everything) {
    std::string others = "Any key of a recipe can be given as --section.key VALUE, too, and beats the recipe. Keys that "
                         "are no flags of amc compile: model.path, and a run's, which are printed as flags for amrun:\n";
    for (const OptionSpec &spec : optionTable())
      if (std::holds_alternative<std::monostate>(spec.member))
        others += "  " + std::string(spec.flag) + " (recipe: " + std::string(spec.key) + ")\n";
    command.footer(others);
  }
  command.allow_extras();
}

int usage(const std::string &message) {
  std::cerr << "amc: error: " << message << "\n";
  return BadUsage;
}

// A flag that no option has, or an argument too many. Empty when there is none.
std::string unexpected(const CLI::App &command) {
  std::vector<std::string> known;
  for (const CLI::Option *option : command.get_options())
    for (const std::string &name : option->get_lnames())
      known.push_back("--" + name);
  std::string message;
  for (const std::string &extra : command.remaining()) {
    std::string flag = extra.substr(0, extra.find('='));
    // What others call it; by its letters, --trainable would be nearer.
    bool isRate = flag == "--learning-rate" && std::find(known.begin(), known.end(), "--lr") != known.end();
    std::string near = isRate ? "--lr" : rt::nearest(flag, known);
    message += message.empty() ? "" : "\namc: error: ";
    message += flag.rfind('-', 0) == 0
                   ? "unknown flag " + flag + "; " +
                         (near.empty() ? "amc " + command.get_name() + " --help lists all"
                                       : "the nearest known one is " + near)
                   : "unexpected argument '" + extra + "'";
  }
  return message;
}

// Recipe and overrides first, then flags. Prints what is wrong and returns the exit code.
int resolve(const Given &given, CompileOptions &options, RecipeReport *report = nullptr) {
  if (!given.config.empty() || !given.overrides.empty()) {
    RecipeReport said = applyRecipe({given.config, given.overrides}, options);
    for (const std::string &error : said.errors)
      std::cerr << error << "\n";
    if (!said.errors.empty())
      return BadInput;
    if (!said.remark.empty())
      std::cerr << said.remark << "\n";
    if (report)
      *report = std::move(said);
  }
  if (!given.model.empty())
    options.model = given.model;
  int code = Done;
  for (const auto &[spec, texts] : given.values) {
    bool list = std::holds_alternative<std::vector<std::string> CompileOptions::*>(spec->member);
    if (texts.size() > 1 && !list && !std::holds_alternative<bool CompileOptions::*>(spec->member))
      code = usage(std::string(spec->flag) + " is given " + std::to_string(texts.size()) +
                   " times, should be given once");
    for (const RecipeOverride &entry : given.overrides)
      if (!texts.empty() && entry.key == spec->key)
        code = usage(std::string(spec->flag) + " and --" + entry.key + " are given, which are the same; give one of them");
    bool append = false;
    for (const std::string &text : texts) {
      if (std::optional<std::string> wrong = setOption(options, *spec, text, append))
        code = usage(std::string(spec->flag) + " " + *wrong);
      append = true;
    }
  }
  settle(options);
  return code;
}

// The list of weights of a big model is cut; amc inspect has it.
void printShortened(const Message &message) {
  constexpr size_t shown = 24;
  Message shorter = message;
  size_t end = 0, lines = 0, left = 0;
  for (size_t at = 0; (at = message.text.find('\n', at)) != message.text.npos; ++at)
    if (++lines == shown)
      end = at;
    else if (lines > shown)
      ++left;
  if (message.severity == Message::Remark && left > 1)
    shorter.text = message.text.substr(0, end) + "\n  and " + std::to_string(left + 1) +
                   " more; all of them with --verbose or by amc inspect";
  printMessage(shorter);
}

int runCompile(const Given &given, bool verbose) {
  CompileOptions options;
  if (int code = resolve(given, options))
    return code;
  for (const std::string *path : {&options.output, &options.report})
    if (std::error_code missing; !path->empty() && !given.config.empty() && std::filesystem::equivalent(*path, given.config, missing)) {
      printMessage({Message::Error, "", *path + ": is the recipe itself, should be another file", {}});
      return BadInput;
    }
  int code = compileToFile(options, verbose ? printMessage : printShortened);
  if (code == Done && !options.runArguments.empty() && options.emit == "plan") {
    std::cerr << "the recipe's run: amrun " << options.output;
    for (const std::string &argument : options.runArguments)
      std::cerr << " " << argument;
    std::cerr << "\n";
  }
  return code;
}

// What a recipe comes to, without a model: every option that is not at its default, what amrun is told, the mesh.
int runRecipe(const Given &given, const std::string &path) {
  Given asked = given;
  if (!path.empty() && !given.config.empty())
    return usage("a recipe and --config are given, should be one of them");
  if (!path.empty())
    asked.config = path;
  if (asked.config.empty())
    return usage("no recipe is given; name a YAML file");
  CompileOptions options;
  RecipeReport said;
  if (int code = resolve(asked, options, &said))
    return code;
  std::vector<std::string> wrong = checkChoices(options);
  for (const std::string &message : wrong)
    printMessage({Message::Error, "", message, {}});
  if (!wrong.empty())
    return BadUsage;
  const rt::MeshShape mesh = decideMesh(options).shape;
  const CompileOptions defaults;
  std::vector<std::pair<std::string, std::string>> set;
  for (const OptionSpec &spec : optionTable())
    if (!spec.key.empty() && !std::holds_alternative<std::monostate>(spec.member))
      if (std::string text = valueText(options, spec); text != valueText(defaults, spec))
        set.emplace_back(spec.key, text);
  if (given.json) {
    nlohmann::ordered_json chosen = nlohmann::ordered_json::object(), grid = nlohmann::ordered_json::object();
    for (const auto &[key, text] : set)
      chosen[key] = text;
    for (size_t axis = 0; axis < mesh.size.size(); ++axis)
      grid[std::string(rt::meshAxes[axis])] = mesh.size[axis];
    // What this machine has decides such a plan, so another machine's is not reused.
    bool local = options.activationCheckpointing == "auto" && options.deviceMemory.empty();
    std::cout << nlohmann::ordered_json({{"recipe", asked.config},
                                         {"model", options.model},
                                         {"pretrained_model", options.pretrainedModel},
                                         {"options", chosen},
                                         {"run", options.runArguments},
                                         {"mesh", grid},
                                         {"ranks", mesh.ranks()},
                                         {"depends_on_machine", local},
                                         {"ignored", said.ignored}})
                     .dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
              << "\n";
    return Done;
  }
  std::printf("%s: %s\n", asked.config.c_str(), options.model.empty() ? "no model" : options.model.c_str());
  for (const auto &[key, text] : set)
    std::printf("  %-38s %s\n", key.c_str(), text.c_str());
  std::printf("  %-38s %llu:", "ranks", static_cast<unsigned long long>(mesh.ranks()));
  for (size_t axis = 0; axis < mesh.size.size(); ++axis)
    std::printf(" %s %llu", std::string(rt::meshAxes[axis]).c_str(), static_cast<unsigned long long>(mesh.size[axis]));
  std::printf("\n  %-38s", "amrun");
  for (const std::string &argument : options.runArguments)
    std::printf(" %s", argument.c_str());
  std::printf(options.runArguments.empty() ? " nothing\n" : "\n");
  return Done;
}

int runCheck(const Given &given) {
  CompileOptions options;
  if (int code = resolve(given, options))
    return code;
  options.emit = "backward";
  if (options.model.empty())
    return usage("no model is given; name an ONNX file");
  CheckReport report = check(options);
  if (given.json) {
    nlohmann::ordered_json operations = nlohmann::ordered_json::object(),
                           errors = nlohmann::ordered_json::array();
    for (const auto &[name, count] : report.operations)
      operations[name] = count;
    auto missing = [](const std::vector<CheckReport::Missing> &list) {
      nlohmann::ordered_json out = nlohmann::ordered_json::array();
      for (const CheckReport::Missing &entry : list)
        out.push_back({{"what", entry.what},
                       {"reason", entry.reason},
                       {"first_node", entry.firstNode},
                       {"count", entry.count}});
      return out;
    };
    for (const Message &message : report.otherErrors)
      errors.push_back(message.describe());
    nlohmann::ordered_json json = {{"model", options.model},
                                   {"opset", report.opset},
                                   {"nodes", report.nodes},
                                   {"operations", operations},
                                   {"missing_operations", missing(report.missingOperations)},
                                   {"missing_gradients", missing(report.missingGradients)},
                                   {"not_judged", report.notJudged},
                                   {"errors", errors},
                                   {"trains", report.trains()}};
    std::cout << json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
    return report.trains() ? Done : BadInput;
  }
  std::printf("%s: opset %lld, %lld nodes of %zu kinds\n", options.model.c_str(),
              static_cast<long long>(report.opset), static_cast<long long>(report.nodes),
              report.operations.size());
  auto print = [](const char *title, const std::vector<CheckReport::Missing> &list) {
    if (!list.empty())
      std::printf("%s\n", title);
    for (const CheckReport::Missing &entry : list)
      std::printf("  %6lld x %s%s%s, first at %s\n", static_cast<long long>(entry.count),
                  entry.what.c_str(), entry.reason.empty() ? "" : ": ", entry.reason.c_str(),
                  entry.firstNode.c_str());
  };
  print("missing operations", report.missingOperations);
  print(report.missingOperations.empty()
            ? "missing gradients"
            : "missing gradients, the missing operations taken as differentiable",
        report.missingGradients);
  if (!report.notJudged.empty())
    std::printf("not judged\n");
  for (const std::string &line : report.notJudged)
    std::printf("  %s\n", line.c_str());
  for (const Message &message : report.otherErrors)
    std::printf("%s\n", message.describe().c_str());
  std::printf(report.trains() ? "this model can be trained\n"
                              : "this model cannot be trained as it is\n");
  return report.trains() ? Done : BadInput;
}

int runTable(const Given &given, TableOptions table) {
  CompileOptions options;
  if (int code = resolve(given, options))
    return code;
  if (options.model.empty())
    return usage("no model is given; name an ONNX file");
  for (const auto &[spec, texts] : given.values)
    if (!texts.empty())
      table.given.emplace_back(spec->flag);
  table.json = given.json;
  return printTable(options, table);
}

int printAcTable(bool json) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  if (!json)
    std::printf("%-28s %-22s %s\n", "operation", "use", "class");
  for (const AcTableRow &row : acTable())
    if (json)
      rows.push_back({{"operation", row.operation}, {"use", row.form}, {"class", row.saveClass}});
    else
      std::printf("%-28s %-22s %s\n", row.operation.c_str(), row.form.c_str(),
                  row.saveClass.c_str());
  if (json)
    std::cout << nlohmann::ordered_json({{"operations", rows}}).dump(1, ' ') << "\n";
  return Done;
}

// A plan; with --ac-policy also a model, which is then compiled, or nothing.
int runInspect(const Given &given, bool acPolicy, const std::string &reportPath) {
  if (acPolicy && given.model.empty() && given.config.empty())
    return printAcTable(given.json);
  bool isModel = given.model.empty() || std::filesystem::path(given.model).extension() == ".onnx";
  std::optional<plan::Plan> plan;
  if (acPolicy && isModel) {
    CompileOptions options;
    if (int code = resolve(given, options))
      return code;
    options.output = "-"; // compile() writes nothing
    CompileResult result = compile(options, [](const Message &message) {
      if (message.severity != Message::Remark)
        printMessage(message);
    });
    if (result.code != Done)
      return result.code;
    plan = std::move(result.plan);
  } else {
    if (given.model.empty())
      return usage("no plan is given; name a plan file");
    rt::Expected<plan::Plan> read = rt::readPlanFile(given.model);
    if (!read.ok()) {
      printMessage({Message::Error, "", read.status().message(), {}});
      return read.status().exitCode();
    }
    plan = std::move(read).value();
    if (rt::PlanDiagnostics found = rt::verifyPlanStructure(*plan); !found.ok()) {
      printMessage({Message::Error, "", given.model + ": " + found.toStatus().message(), {}});
      return BadInput;
    }
  }
  if (!reportPath.empty()) {
    std::error_code missing; // a report that is not there yet is none of these
    if (std::filesystem::equivalent(reportPath, given.model, missing)) {
      printMessage({Message::Error, "", reportPath + ": is the plan itself, should be another file", {}});
      return BadInput;
    }
    if (ExitCode code = writeFile(reportPath, report::html(*plan), printMessage); code != Done)
      return code;
    if (reportPath == "-")
      return Done;
  }
  if (acPolicy)
    std::cout << (given.json ? report::acPolicyJson(*plan) : report::acPolicyText(*plan));
  else
    std::cout << (given.json ? report::inspectJson(*plan) : report::inspectText(*plan));
  return Done;
}

// A result that could not be printed is no success, whatever the command came to. A reader that has seen enough (head)
// ends this process as it ends any other.
int afterPrinting(int code) {
  std::cout.flush();
  bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) || !std::cout;
  if (!failed)
    return code;
  // Not errno: the write that failed may be long past.
  pollfd out{STDOUT_FILENO, POLLOUT, 0};
  if (poll(&out, 1, 0) == 1 && (out.revents & POLLERR)) {
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  printMessage({Message::Error, "", "standard output cannot be written", {}});
  return MachineLimit;
}

} // namespace

int main(int argc, char **argv) {
  // Nobody reading the messages must not end a compilation half-way; results are looked after where they are written.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN); // a limit on file sizes is an error of the write, then
  CLI::App app(
      "AMC: compiles an ONNX model and its whole training step into a plan that amrun executes.\n"
      "`amc SUBCOMMAND --help` lists the flags of each.",
      "amc");
  app.set_version_flag("--version",
                       "amc " AMC_VERSION ", plan format " + std::to_string(rt::planFormatVersion));
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 1 the input or the request is at fault, 2 wrong usage, 3 a limit "
             "of the machine.");

  std::vector<std::string> arguments(argv + 1, argv + argc);
  std::vector<RecipeOverride> overrides;
  if (std::optional<std::string> wrong = takeOverrides(arguments, overrides))
    return usage(*wrong);

  Given compiled, checked, tabled, resolved;
  CLI::App *compileCommand =
      app.add_subcommand("compile", "compile a model's training step into a plan");
  addTable(*compileCommand, compiled, Takes::Everything);
  bool verbose = false;
  compileCommand->add_flag("--verbose", verbose, "do not shorten lists");
  CLI::App *checkCommand =
      app.add_subcommand("check", "report every operation or gradient that AMC lacks for a model");
  addTable(*checkCommand, checked, Takes::ModelOnly);
  checkCommand->add_flag("--json", checked.json, "for programs");
  CLI::App *tableCommand =
      app.add_subcommand("table", "planned peak memory and recomputation, technique by technique");
  tableCommand->footer("With --dp-size N --strategy megatron_fsdp there are rows for --zero-dp-strategy 0, 1, 2 and "
                       "3, unless one is given.");
  addTable(*tableCommand, tabled, Takes::ModelOnly);
  tableCommand->add_flag("--json", tabled.json, "for programs");
  TableOptions table;
  tableCommand
      ->add_option("--budget", table.budgets,
                   "a row planned within this arena; several with commas or repeated")
      ->type_name("BYTES")
      ->delimiter(',');
  tableCommand
      ->add_option("--budget-points", table.budgetPoints,
                   "without --budget: as many budgets between the smallest peak and keeping all")
      ->type_name("N")
      ->capture_default_str();

  std::string recipe;
  CLI::App *recipeCommand = app.add_subcommand("recipe", "what a recipe comes to, without compiling");
  recipeCommand->add_option("recipe", recipe, "the recipe")->type_name("RECIPE.yaml");
  addTable(*recipeCommand, resolved, Takes::NoModel);
  recipeCommand->add_flag("--json", resolved.json, "for programs");

  std::string plan, checkpoint, output, model, reportPath;
  bool acPolicy = false, externalData = false;
  Given inspected;
  CLI::App *inspectCommand =
      app.add_subcommand("inspect", "what a plan promises: memory at the peak, saved, recomputed");
  inspectCommand->add_option("plan", inspected.model, "plan file; with --ac-policy also a model");
  inspectCommand->add_flag("--json", inspected.json, "for programs");
  inspectCommand->add_flag("--ac-policy", acPolicy,
                           "what selective checkpointing does with each operation: of the plan, of a "
                           "model, or of all there are");
  inspectCommand->add_option("--report", reportPath, "also write the report: one HTML page with pictures")
      ->type_name("FILE");
  inspectCommand->add_option("--config", inspected.config, "with a model: its recipe")
      ->type_name("RECIPE.yaml");
  addOption(*inspectCommand, inspected, "--shape");
  inspectCommand->allow_extras();
  CLI::App *exportCommand =
      app.add_subcommand("export", "write trained weights back into the ONNX model");
  exportCommand->add_option("plan", plan, "plan that the weights were trained with")->required();
  exportCommand
      ->add_option("--checkpoint", checkpoint, "checkpoint folder of amrun, or its weights file")
      ->type_name("DIR|FILE.safetensors")
      ->required();
  exportCommand->add_option("-o,--output", output, "the trained model")
      ->type_name("FILE.onnx")
      ->required();
  exportCommand
      ->add_option("--model", model, "the original model, if it has moved since it was compiled")
      ->type_name("FILE.onnx");
  exportCommand->add_flag("--external-data", externalData,
                          "put the weights into a file beside the model");
  exportCommand->allow_extras();

  std::string first = arguments.empty() ? "" : arguments.front();
  std::reverse(arguments.begin(), arguments.end()); // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
  } catch (const std::invalid_argument &) { // CLI11 2.1 hands it on
    return usage("a flag that takes no value is given one that is neither true nor false");
  } catch (const CLI::ParseError &error) {
    if (error.get_exit_code() == 0)
      return app.exit(error); // --help, --version
    for (CLI::App *command : app.get_subcommands())
      if (std::string message = unexpected(*command); !message.empty())
        return usage(message);
    std::vector<std::string> names;
    for (const CLI::App *command : app.get_subcommands([](const CLI::App *) { return true; }))
      names.push_back(command->get_name());
    if (!first.empty() && first[0] != '-' && app.get_subcommands().empty()) {
      std::string near = rt::nearest(first, names);
      return usage("unknown subcommand '" + first + "'; " +
                   (near.empty() ? "amc --help lists all" : "the nearest is " + near));
    }
    return usage(error.what() + std::string("; see amc --help"));
  }
  for (CLI::App *command : app.get_subcommands())
    if (std::string message = unexpected(*command); !message.empty())
      return usage(message);

  for (Given *given : {&compiled, &checked, &tabled, &resolved})
    given->overrides = overrides;
  inspected.overrides = overrides;
  if (!overrides.empty() && (*exportCommand || (*inspectCommand && !acPolicy)))
    return usage("--" + overrides.front().key + " is a key of a recipe, and this command compiles nothing");

  if (*compileCommand)
    return runCompile(compiled, verbose);
  if (*recipeCommand)
    return afterPrinting(runRecipe(resolved, recipe));
  if (*checkCommand)
    return afterPrinting(runCheck(checked));
  if (*tableCommand)
    return afterPrinting(runTable(tabled, table));
  if (*inspectCommand)
    return afterPrinting(runInspect(inspected, acPolicy, reportPath));
  return exportModel({plan, checkpoint, output, model, externalData});
}
