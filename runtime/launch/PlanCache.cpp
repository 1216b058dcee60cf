// See PlanCache.h.
#include "runtime/launch/PlanCache.h"

#include "runtime/launch/Process.h"
#include "runtime/plan/PlanFile.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

namespace amc::rt {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

std::string hashText(std::string_view bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::string hex;
  for (unsigned char byte : canonical.digest)
    hex += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
  return hex;
}

// Text in which no two different lists of words are alike.
std::string listed(const std::vector<std::string> &words) {
  std::string all;
  for (const std::string &word : words)
    all += text(word.size(), ":", word);
  return all;
}

Expected<std::string> cacheFolder(const std::string &asked) {
  std::string folder = asked;
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (folder.empty() && cache && *cache == '/') // others are to be ignored, says the standard
    folder = text(cache, "/amc");
  if (folder.empty() && home && *home)
    folder = text(home, "/.cache/amc");
  if (folder.empty())
    return inputError("no place for the plans of recipes: HOME is not set; name a folder with --plan-cache");
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder, error))
    return limitError(folder, ": cannot be used as the folder for plans",
                      error ? ": " + error.message() : std::string(", is no folder"),
                      "; name another with --plan-cache");
  return folder;
}

// Who makes an entry holds its lock, so that ranks that are started at the same time compile once.
class Lock {
public:
  explicit Lock(const std::string &path) : file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    while (file >= 0 && ::flock(file, LOCK_EX) != 0 && errno == EINTR)
      ;
  }
  ~Lock() {
    if (file >= 0)
      ::close(file);
  }
  Lock(const Lock &) = delete;
  Lock &operator=(const Lock &) = delete;

private:
  int file; // without a lock (a file system that has none) work is done twice, nothing worse
};

// An entry is its content's hash, a line end, the content.
std::optional<std::string> readEntry(const std::string &path) {
  Expected<std::string> bytes = readTextFile(path, "an entry of the plan cache");
  if (!bytes.ok() || bytes->size() < 33 || (*bytes)[32] != '\n')
    return std::nullopt;
  std::string content = bytes->substr(33);
  return hashText(content) == bytes->substr(0, 32) ? std::optional(content) : std::nullopt;
}

struct RecipeFacts {
  std::string model, pretrained;
  std::vector<std::string> run;
  bool dependsOnMachine = false;
};

std::optional<RecipeFacts> parseFacts(const std::string &content) {
  Json json = Json::parse(content, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("model") || !json["model"].is_string() ||
      !json.contains("pretrained_model") || !json["pretrained_model"].is_string() || !json.contains("run") ||
      !json["run"].is_array() || !json.contains("depends_on_machine") || !json["depends_on_machine"].is_boolean())
    return std::nullopt;
  RecipeFacts facts{json["model"].get<std::string>(),
                    json["pretrained_model"].get<std::string>(),
                    {},
                    json["depends_on_machine"].get<bool>()};
  for (const Json &word : json["run"]) {
    if (!word.is_string())
      return std::nullopt;
    facts.run.push_back(word.get<std::string>());
  }
  return facts;
}

// What amc ended with becomes this program's end; it has said why.
Status endOfCompiler(const ProgramEnd &end, const std::string &recipe) {
  if (end.signal)
    return limitError("amc: ended by signal ", end.signal, " (", ::strsignal(end.signal), ")");
  ErrorKind kind = end.code == 2 ? ErrorKind::Usage : end.code == 3 ? ErrorKind::Limit : ErrorKind::Input;
  return Status(kind, text(recipe, ": not compiled, see above"));
}

// Whether a kept plan is whole and still of these files. `why`: what is wrong with one that is there.
bool usable(const std::string &path, const std::string &model, const std::string &modelHash, std::string &why) {
  std::error_code ignored;
  if (!fs::exists(path, ignored))
    return false;
  Expected<plan::Plan> plan = readPlanFile(path);
  if (!plan.ok()) {
    why = plan.status().message();
    return false;
  }
  if (plan->model_hash() != modelHash) {
    why = text(path, ": is of another model");
    return false;
  }
  for (const plan::WeightFile &file : plan->weight_files()) {
    fs::path weights = file.path();
    if (weights.is_relative())
      weights = fs::path(model).parent_path() / weights;
    Expected<std::string> hash = hashFile(weights.string());
    if (!hash.ok() || *hash != file.hash()) {
      why = text(weights.string(), ": is another file by now");
      return false;
    }
  }
  return true;
}

bool traces(const RecipeRun &run) {
  for (const char *name : {"AMC_SELECTIVE_AC_TRACE", "NEMO_SELECTIVE_AC_TRACE"})
    if (const char *value = std::getenv(name); value && *value && std::strcmp(value, "0") != 0)
      return true;
  for (const std::string &word : run.compilerArguments)
    if (word == "--ac-trace")
      return true;
  return false;
}

Expected<RecipeFacts> factsOf(const RecipeRun &run, const std::string &amc, const std::string &entry,
                              const std::vector<std::string> &flags) {
  if (std::optional<std::string> kept = readEntry(entry))
    if (std::optional<RecipeFacts> facts = parseFacts(*kept))
      return *facts;
  std::vector<std::string> command = {amc, "recipe", run.recipe, "--json"};
  command.insert(command.end(), flags.begin(), flags.end());
  Expected<ProgramEnd> end = runCaptured(command);
  if (!end.ok())
    return end.status();
  if (end->code != 0 || end->signal) {
    if (!end->err.empty()) // what it says otherwise, amc compile says again
      std::fputs(end->err.c_str(), stderr);
    return endOfCompiler(*end, run.recipe);
  }
  std::optional<RecipeFacts> facts = parseFacts(end->out);
  if (!facts)
    return inputError(amc, ": says nothing about ", run.recipe,
                      " that this amrun understands; is it of another version?");
  if (Status failure = writeFileWhole(hashText(end->out) + "\n" + end->out, entry); !failure.ok())
    return failure;
  return *facts;
}

} // namespace

Expected<CompiledRecipe> compileRecipe(const RecipeRun &run, std::optional<uint64_t> ranks,
                                       const std::function<void(std::string_view)> &note) {
  Expected<std::string> recipe = readTextFile(run.recipe, "a recipe");
  if (!recipe.ok())
    return recipe.status();
  std::string amc = (fs::path(ownProgram()).parent_path() / "amc").string();
  if (::access(amc.c_str(), X_OK) != 0)
    amc = findInPath("amc");
  if (amc.empty())
    return inputError(run.recipe,
                      ": a recipe is compiled by amc, which is neither beside amrun nor in PATH; install it, "
                      "or compile a plan elsewhere and give that");
  Expected<std::string> folder = cacheFolder(run.planCache);
  if (!folder.ok())
    return folder.status();
  Expected<std::string> compiler = hashFile(amc);
  if (!compiler.ok())
    return compiler.status();
  std::vector<std::string> flags = run.compilerArguments;
  if (ranks)
    flags.insert(flags.end(), {"--ranks", std::to_string(*ranks)});
  const std::string recipeKey = hashText(listed({"1", *compiler, *recipe, listed(flags)}));
  Expected<RecipeFacts> facts = factsOf(run, amc, text(*folder, "/", recipeKey, ".recipe"), flags);
  if (!facts.ok())
    return facts.status();

  CompiledRecipe compiled;
  compiled.arguments = facts->run;
  compiled.model = run.model.empty() ? facts->model : run.model;
  if (compiled.model.empty() && !facts->pretrained.empty())
    return inputError(run.recipe, ": names the model '", facts->pretrained,
                      "' (model.pretrained_model_name_or_path), which AMC does not load; export it to ONNX "
                      "(models/export.py is a complete example) and give --model FILE.onnx");
  if (compiled.model.empty())
    return inputError(run.recipe, ": names no model; give --model FILE.onnx, or set model.path in the recipe");
  Expected<std::string> model = hashFile(compiled.model);
  if (!model.ok())
    return model.status();
  const std::string key = hashText(listed({recipeKey, *model}));
  compiled.plan = text(*folder, "/", key, ".amplan");
  Lock lock(text(*folder, "/", key, ".lock"));
  std::string why;
  if (!facts->dependsOnMachine && !traces(run) && usable(compiled.plan, compiled.model, *model, why)) {
    note(text(run.recipe, ": compiled before, ", compiled.plan));
    return compiled;
  }
  if (!why.empty())
    note(text(why, "; compiling again"));
  std::vector<std::string> command = {amc, "compile", compiled.model, "--config", run.recipe, "-o", compiled.plan};
  command.insert(command.end(), flags.begin(), flags.end());
  Expected<ProgramEnd> end = runForwarding(command, /*onlyNotes=*/true);
  if (!end.ok())
    return end.status();
  if (end->code != 0 || end->signal)
    return endOfCompiler(*end, run.recipe);
  return compiled;
}

} // namespace amc::rt
