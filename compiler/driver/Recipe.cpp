// Reads a recipe. Every leaf of the document is looked up under its path ("optimizer.lr"): among the guide's foreign
// keys (RecipeKeys.h), then in the option table; a leaf that is in neither is an error with the nearest key, or all.
// Overrides of the command line are put into the document first, so that they are judged like what stands there.
//
// Three things need more than their own key and are decided when all is read: the optimizer's class with its weight
// decay, what the guide's defaults are where a section leaves things out, and what to say in the one remark.
//
// Beside scalars and lists, a mapping stands where the flag has NAME=VALUE: inputs to dimensions under model.shape,
// operations to classes under distributed.ac_policy.
#include "compiler/driver/Recipe.h"
#include "compiler/driver/RecipeKeys.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/support/Nearest.h"
#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <yaml-cpp/yaml.h>

namespace amc {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

bool isNone(const YAML::Node &node) {
  return node.IsNull() || (node.IsScalar() && (lower(node.Scalar()) == "none" || lower(node.Scalar()) == "null"));
}

// "true" for True and TRUE; other texts as they are.
std::string scalarText(const YAML::Node &node) {
  std::string small = lower(node.Scalar());
  return small == "true" || small == "false" ? small : node.Scalar();
}

std::string joined(const std::vector<std::string> &words, const char *separator = ", ") {
  std::string text;
  for (const std::string &word : words)
    text += (text.empty() ? "" : separator) + word;
  return text;
}

class Reader {
public:
  Reader(const RecipeRequest &request, CompileOptions &options) : request(request), options(options) {
    for (const OptionSpec &spec : optionTable())
      if (!spec.key.empty())
        keys.emplace_back(spec.key);
    for (const ForeignKey &foreign : foreignKeys())
      if (std::find(keys.begin(), keys.end(), foreign.key) == keys.end())
        keys.emplace_back(foreign.key.ends_with(".*") ? foreign.key.substr(0, foreign.key.size() - 2) : foreign.key);
    for (const RecipeOverride &entry : request.overrides)
      overridden.insert(entry.key);
  }

  void read(const YAML::Node &document) {
    if (!document.IsDefined() || document.IsNull() || !document.IsMap()) {
      if (!request.path.empty())
        error(document, "", "the recipe should be a group of keys");
      return;
    }
    guideLoss = document["loss_fn"] && document["loss_fn"].IsMap() && document["loss_fn"]["_target_"];
    // Left out in a recipe, dp_size is what the others leave, as the guide has it.
    if (!request.path.empty())
      options.dpSize = 0;
    section(document, "");
    optimizerDefaults();
    runDefaults(document);
    sortRunArguments();
  }

  RecipeReport report;

  std::string remark() const {
    if (report.ignored.empty() && notes.empty())
      return "";
    std::string text = (request.path.empty() ? "command line" : request.path) + ": remark: ";
    text += report.ignored.empty() ? "not as in the guide" : "no meaning in AMC, ignored: " + joined(report.ignored);
    for (const std::string &note : notes)
      text += "\n  note: " + note;
    return text;
  }

  void error(const YAML::Node &at, const std::string &key, const std::string &message, const std::string &note = "") {
    report.errors.push_back(placeOf(at, key) + ": error: " + message + (note.empty() ? "" : "\nnote: " + note));
  }

private:
  // A value from the command line has no line and column there.
  std::string placeOf(const YAML::Node &at, const std::string &key) const {
    for (std::string part = key; !part.empty(); part = part.substr(0, std::max<size_t>(part.rfind('.') + 1, 1) - 1))
      if (overridden.count(part))
        return "--" + part;
    YAML::Mark mark = at.Mark();
    if (mark.is_null()) // a section that only overrides have made
      for (const std::string &entry : overridden)
        if (entry.starts_with(key + "."))
          return "--" + entry;
    return request.path + (mark.is_null()
                               ? "" // an empty document has none
                               : ":" + std::to_string(mark.line + 1) + ":" + std::to_string(mark.column + 1));
  }

  bool isSection(const std::string &key) const {
    return std::any_of(keys.begin(), keys.end(),
                       [&](const std::string &known) { return known.starts_with(key + "."); });
  }

  // Beside a key that is not known: the nearest one, or those with a meaning in AMC that could stand in its place.
  std::string whatIsKnown(const std::string &key) const {
    if (std::string near = rt::nearest(key, keys); !near.empty())
      return "the nearest known key is '" + near + "'";
    const size_t dot = key.rfind('.');
    const std::string inside = dot == key.npos ? "" : key.substr(0, dot + 1);
    std::set<std::string> names;
    auto hasMeaning = [&](const std::string &known) {
      const ForeignKey *foreign = find(known) ? nullptr : findForeignKey(known);
      return !foreign || (foreign->fate != Fate::Ignored && foreign->fate != Fate::Refused);
    };
    for (const std::string &known : keys)
      if (known.starts_with(inside) && hasMeaning(known))
        names.insert(known.substr(inside.size(), known.find('.', inside.size()) - inside.size()));
    if (names.empty())
      return "";
    std::string list;
    for (const std::string &name : names)
      list += (list.empty() ? "" : ", ") + name;
    return (dot == key.npos ? "the keys of a recipe are " : "the keys of '" + key.substr(0, dot) + "' are ") + list;
  }

  void section(const YAML::Node &node, const std::string &key) {
    std::set<std::string> seen;
    for (const auto &entry : node) {
      std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "?";
      std::string inner = key.empty() ? name : key + "." + name;
      if (inner == "distributed_config") // another name of the section; what both have has to agree
        inner = "distributed";
      if (!seen.insert(name).second)
        error(entry.first, inner, "key '" + inner + "' is given twice");
      else if (key.empty() && name.starts_with("_")) // the guide's recipes keep variants and anchors so
        report.ignored.push_back(inner);
      else
        visit(entry.first, entry.second, inner);
    }
  }

  void visit(const YAML::Node &at, const YAML::Node &node, const std::string &key) {
    const ForeignKey *foreign = findForeignKey(key);
    const OptionSpec *spec = find(key);
    const bool own = foreign && foreign->key == key;
    if (node.IsMap() && !isMapping(key) && isSection(key) && !(foreign && foreign->fate == Fate::Refused))
      section(node, key);
    else if (own || (foreign && !spec && !isSection(key)))
      apply(*foreign, at, node, key);
    else if (spec)
      leaf(node, key, *spec);
    else if (isSection(key) && isNone(node))
      return; // a section that is not given
    else if (isSection(key))
      error(at, key, "'" + key + "' should be a group of keys");
    else
      error(at, key, "unknown key '" + key + "'", whatIsKnown(key));
  }

  void apply(const ForeignKey &foreign, const YAML::Node &at, const YAML::Node &node, const std::string &key) {
    if (foreign.fate == Fate::Ignored) {
      report.ignored.push_back(key);
      return;
    }
    if (foreign.fate == Fate::Refused) {
      refuse(foreign, at, node, key);
      return;
    }
    const OptionSpec *spec = foreign.option.empty() ? nullptr : find(foreign.option);
    if (!node.IsScalar() && !node.IsNull()) {
      if (spec && foreign.values.empty())
        leaf(node, key, *spec);
      else
        error(at, key, "'" + key + "' should be a single value");
      return;
    }
    if (spec && spec->key == "distributed.activation_checkpointing") {
      leaf(node, key, *spec);
      return;
    }
    if (isNone(node) && !(spec && ourValue(foreign.values, "none")))
      return; // not given
    const bool isClass = key.ends_with("_target_") || key == "recipe";
    std::string text = isClass ? lastComponent(node.Scalar()) : scalarText(node);
    std::optional<std::string> ours = foreign.values.empty() ? text : ourValue(foreign.values, text);
    if (!ours && (isClass || !spec)) {
      error(node, key,
            "'" + key + "' is '" + node.Scalar() + "', should be one of " + joined(theirValues(foreign.values)),
            isClass ? "a class is known by its last component" : "");
      return;
    }
    if (isClass)
      classes[key] = text;
    if (ours && ours->empty()) {
      if (key == "checkpoint.enabled")
        checkpoints = text;
      else
        report.ignored.push_back(key);
      return;
    }
    set(node, key, *spec, ours.value_or(text), false);
  }

  void refuse(const ForeignKey &foreign, const YAML::Node &at, const YAML::Node &node, const std::string &key) {
    if (isNone(node) || (node.IsScalar() && ourValue(foreign.values, scalarText(node))) ||
        ((node.IsMap() || node.IsSequence()) && node.size() == 0))
      return;
    if (node.IsMap() && node["enabled"] && node["enabled"].IsScalar() && scalarText(node["enabled"]) == "false")
      return;
    std::string should;
    for (const std::string &value : theirValues(foreign.values))
      should += value + " or ";
    error(node.IsScalar() ? node : at, key,
          "'" + key + "' is " + (node.IsScalar() ? "'" + node.Scalar() + "'" : "given") + ", should be " + should +
              "none",
          std::string(foreign.why));
  }

  static bool isMapping(const std::string &key) { return key == "model.shape" || key == "distributed.ac_policy"; }

  void mapping(const YAML::Node &node, const std::string &key, const OptionSpec &spec) {
    options.*std::get<std::vector<std::string> CompileOptions::*>(spec.member) = {};
    for (const auto &entry : node) {
      std::string text = entry.first.Scalar() + "=";
      if (entry.second.IsSequence())
        for (const YAML::Node &dim : entry.second)
          text += (text.back() == '=' ? "" : "x") + (dim.IsScalar() ? dim.Scalar() : std::string("?"));
      else
        text += entry.second.IsScalar() ? entry.second.Scalar() : "?";
      set(entry.second, key, spec, text, true);
    }
  }

  void leaf(const YAML::Node &node, const std::string &key, const OptionSpec &spec) {
    if (isMapping(key) && node.IsMap()) {
      mapping(node, key, spec);
      return;
    }
    if (spec.key == "distributed.activation_checkpointing" && (node.IsScalar() || node.IsNull())) {
      std::string text = checkpointingSpelling(node.IsNull() ? "null" : node.Scalar());
      if (text != "none" && text != "full" && text != "selective" && text != "budget" && text != "auto")
        error(node, key,
              "'" + key + "' is '" + text +
                  "', should be one of true, on, full, enabled, yes; false, off, none, disabled, no, null; "
                  "selective; budget; auto, in any case");
      else
        set(node, key, spec, text, false);
      return;
    }
    const bool list = std::holds_alternative<std::vector<std::string> CompileOptions::*>(spec.member);
    const bool numbers = std::holds_alternative<std::vector<double> CompileOptions::*>(spec.member);
    if (isNone(node)) {
      // "none" may be a value of the option; else the key is not given.
      CompileOptions ignored;
      if (!std::holds_alternative<std::string CompileOptions::*>(spec.member) ||
          spec.value.find('|') != spec.value.npos) {
        if (!setOption(ignored, spec, "none", false))
          set(node, key, spec, "none", false);
      }
    } else if (node.IsSequence() && (list || numbers)) {
      std::string all;
      bool append = false;
      for (const YAML::Node &element : node) {
        std::string text = element.IsScalar() ? element.Scalar() : "?";
        if (list)
          set(element, key, spec, text, append);
        append = true;
        all += (all.empty() ? "" : ",") + text;
      }
      if (numbers)
        set(node, key, spec, all, false);
    } else if (!node.IsScalar()) {
      error(node, key, "'" + key + "' should be a single value" + (list || numbers ? " or a list" : ""));
    } else if (key == "loss_fn.reduction" && guideLoss) {
      // The guide's losses sum, and the trainer divides by the labelled tokens of the step.
      if (node.Scalar() != "sum")
        error(node, key, "'" + key + "' is '" + node.Scalar() + "', should be sum",
              "the guide's losses are summed and divided by the labelled tokens of a step; without loss_fn._target_ "
              "it is AMC's own mean or sum");
      else
        set(node, key, spec, "mean", false);
    } else {
      set(node, key, spec, scalarText(node), false);
    }
  }

  const OptionSpec *find(std::string_view key) const {
    auto at = std::find_if(optionTable().begin(), optionTable().end(),
                           [&](const OptionSpec &spec) { return !spec.key.empty() && spec.key == key; });
    return at == optionTable().end() ? nullptr : &*at;
  }

  // Several keys of the guide may say one option; then they have to agree.
  void set(const YAML::Node &at, const std::string &key, const OptionSpec &spec, const std::string &text, bool append) {
    if (text.find("${") != text.npos) {
      error(at, key, "'" + key + "' is '" + text + "', should be a value: variables are not expanded");
      return;
    }
    if (std::optional<std::string> wrong = setOption(options, spec, text, append)) {
      error(at, key, "'" + key + "' " + *wrong);
      return;
    }
    auto [before, fresh] = given.try_emplace(std::string(spec.key), Given{key, text, at});
    const bool list = std::holds_alternative<std::vector<std::string> CompileOptions::*>(spec.member);
    if (!fresh && !list && before->second.text != text)
      error(at, key,
            "'" + key + "' says '" + text + "' and '" + before->second.key + "' says '" + before->second.text +
                "', should be the same: both are " + std::string(spec.key),
            spec.key == "model.precision"
                ? "fp32 weights with bf16 arithmetic are model.precision bf16 with optimizer.master_weights fp32"
                : "");
  }

  // torch's classes differ in their default and in what the decay does.
  void optimizerDefaults() {
    auto name = classes.find("optimizer._target_");
    if (name == classes.end() || name->second == "AdamW")
      return;
    auto decay = given.find("optimizer.weight_decay");
    if (decay == given.end())
      options.weightDecay = 0;
    else if (name->second == "Adam" && options.weightDecay > 0)
      error(decay->second.at, decay->second.key,
            "'" + decay->second.key + "' is '" + decay->second.text + "', should be 0 with optimizer._target_ " +
                "torch.optim.Adam, which adds it to the gradient",
            "AMC decays weights as torch.optim.AdamW does; name that class, or give 0");
  }

  std::string run(std::string_view flag) const {
    for (size_t i = 0; i < options.runArguments.size(); i += 2)
      if (options.runArguments[i] == flag)
        return options.runArguments[i + 1];
    return "";
  }
  void setRun(std::string_view flag, const std::string &text) {
    options.runArguments.emplace_back(flag);
    options.runArguments.push_back(text);
  }
  void dropRun(std::string_view flag) {
    for (size_t i = 0; i < options.runArguments.size(); i += 2)
      if (options.runArguments[i] == flag) {
        options.runArguments.erase(options.runArguments.begin() + i, options.runArguments.begin() + i + 2);
        for (const OptionSpec &spec : optionTable())
          if (spec.flag == flag)
            report.ignored.emplace_back(spec.key);
        return;
      }
  }

  // What amrun is told where the recipe leaves things to the guide's defaults.
  void runDefaults(const YAML::Node &document) {
    if (checkpoints == "false") {
      dropRun("--checkpoint-every");
      dropRun("--checkpoint-dir");
    } else if ((!run("--checkpoint-every").empty() || checkpoints == "true") && run("--checkpoint-dir").empty()) {
      setRun("--checkpoint-dir", "checkpoints");
      notes.push_back("checkpoints go to the folder 'checkpoints', as in the guide; checkpoint.checkpoint_dir names "
                      "another, checkpoint.enabled: false turns them off");
    }
    const YAML::Node schedule = document["lr_scheduler"];
    if (schedule && schedule.IsMap() && schedule.size() > 0) {
      std::string differs;
      auto differ = [&](const char *what) { differs += (differs.empty() ? "" : ", ") + std::string(what); };
      if (run("--lr-schedule").empty())
        setRun("--lr-schedule", "cosine"); // the guide's
      if (run("--warmup-steps").empty())
        differ("no warm-up without lr_warmup_steps (there a tenth of the steps, at most 1000)");
      else if (run("--init-lr").empty() && run("--warmup-steps") != "0")
        differ("warm-up from 0 without init_lr (there a tenth of lr)");
      if (run("--lr-schedule") == "constant")
        for (const char *flag : {"--min-lr", "--lr-decay-steps"})
          dropRun(flag);
      else if (run("--min-lr").empty())
        differ("down to 0 without min_lr (there a hundredth of lr)");
      if (run("--lr-schedule") != "WSD")
        for (const char *flag : {"--wsd-decay-steps", "--wsd-decay-style"})
          dropRun(flag);
      if (run("--warmup-steps").empty() || run("--warmup-steps") == "0")
        dropRun("--init-lr");
      if (!differs.empty())
        notes.push_back("lr_scheduler: other defaults than the guide's: " + differs);
    }
    if (!run("--eval-every").empty())
      notes.push_back("step_scheduler.val_every_steps: evaluates on a share of the training data that is held out "
                      "(amrun --eval-fraction)");
  }

  void sortRunArguments() {
    std::vector<std::string> sorted;
    for (const OptionSpec &spec : optionTable())
      if (std::holds_alternative<std::monostate>(spec.member))
        for (size_t i = 0; i < options.runArguments.size(); i += 2)
          if (options.runArguments[i] == spec.flag)
            sorted.insert(sorted.end(), {options.runArguments[i], options.runArguments[i + 1]});
    options.runArguments = std::move(sorted);
  }

  struct Given {
    std::string key, text;
    YAML::Node at;
  };
  const RecipeRequest &request;
  CompileOptions &options;
  std::vector<std::string> keys;      // all known, for the nearest
  std::set<std::string> overridden;   // key paths from the command line
  std::map<std::string, Given> given; // by the option's key
  std::map<std::string, std::string> classes;
  std::vector<std::string> notes;
  std::string checkpoints; // checkpoint.enabled
  bool guideLoss = false;
};

// Puts an override in its place. Returns what is in the way, or nothing.
std::optional<std::string> putInto(YAML::Node document, const RecipeOverride &entry) {
  YAML::Node at = document;
  size_t begin = 0;
  while (true) {
    size_t end = entry.key.find('.', begin);
    std::string name = entry.key.substr(begin, end - begin);
    if (name.empty())
      return "is no key path";
    if (begin == 0 && name == "distributed" && document["distributed_config"] && !document["distributed"])
      name = "distributed_config";
    if (end == entry.key.npos) {
      at[name] = YAML::Load(entry.value);
      return std::nullopt;
    }
    YAML::Node next = at[name];
    if (next.IsDefined() && !next.IsMap() && !isNone(next))
      return "'" + entry.key.substr(0, end) + "' is a single value in the recipe";
    if (!next.IsDefined() || !next.IsMap())
      at[name] = YAML::Node(YAML::NodeType::Map);
    at.reset(at[name]);
    begin = end + 1;
  }
}

} // namespace

RecipeReport applyRecipe(const RecipeRequest &request, CompileOptions &options) {
  const std::string &path = request.path;
  std::string text;
  if (!path.empty()) {
    rt::Expected<std::string> content = rt::readTextFile(path, "a YAML file");
    if (!content.ok()) {
      std::string wrong(content.status().message()); // "PATH: …", but for "out of memory"
      if (wrong.starts_with(path + ": "))
        wrong.erase(0, path.size() + 2);
      return {{path + ": error: " + wrong + "\nnote: --config names a YAML file"}, "", {}};
    }
    text = std::move(*content);
  }
  Reader reader(request, options);
  std::string reading; // which override, when something is no YAML
  // yaml-cpp reports by exceptions; they end here.
  try {
    std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1)
      return {{path + ": error: holds " + std::to_string(documents.size()) +
               " documents, should hold one\nnote: a line '---' begins another document"},
              "",
              {}};
    YAML::Node document = documents.empty() ? YAML::Node() : documents.front();
    if (document.IsNull() && !request.overrides.empty())
      document = YAML::Node(YAML::NodeType::Map);
    if (document.IsMap())
      for (const RecipeOverride &entry : request.overrides) {
        reading = entry.key;
        if (std::optional<std::string> wrong = putInto(document, entry))
          reader.error(document, entry.key, *wrong);
      }
    reading.clear();
    reader.read(document);
  } catch (const YAML::Exception &e) {
    if (!reading.empty())
      return {{"--" + reading + ": error: is not valid YAML: " + e.msg}, "", {}};
    return {{path + ":" + std::to_string(e.mark.line + 1) + ":" + std::to_string(e.mark.column + 1) +
             ": error: is not valid YAML: " + e.msg},
            "",
            {}};
  }
  reader.report.remark = reader.remark();
  return reader.report;
}

std::optional<std::string> takeOverrides(std::vector<std::string> &arguments, std::vector<RecipeOverride> &overrides) {
  std::vector<std::string> rest;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string &argument = arguments[i];
    size_t equals = argument.find('=');
    std::string name = argument.substr(0, equals);
    if (!name.starts_with("--") || name.find('.') == name.npos) {
      rest.push_back(argument);
      continue;
    }
    RecipeOverride entry{name.substr(2), equals == argument.npos ? "" : argument.substr(equals + 1)};
    if (equals == argument.npos) {
      if (i + 1 == arguments.size() || arguments[i + 1].starts_with("--"))
        return name + " needs a value";
      entry.value = arguments[++i];
    }
    for (const RecipeOverride &other : overrides)
      if (other.key == entry.key)
        return name + " is given twice, should be given once";
    overrides.push_back(std::move(entry));
  }
  arguments = std::move(rest);
  return std::nullopt;
}

} // namespace amc
