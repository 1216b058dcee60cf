// Reads a recipe. Every leaf of the document is looked up in the option table under its path
// ("optimizer.lr"); a leaf that is not there is an error that names the nearest key. Three
// spellings of the guide that users come from are understood beside the table's:
// `activation_checkpointing: true` and its like, `_target_: torch.optim.AdamW`, and mappings where
// the flag has NAME=VALUE: inputs to dimensions under model.shape, operations to classes under
// distributed.ac_policy.
#include "compiler/driver/Recipe.h"
#include "runtime/plan/PlanFile.h"
#include <algorithm>
#include <set>
#include <yaml-cpp/yaml.h>

namespace amc {
namespace {

class Reader {
public:
  Reader(const std::string &path, CompileOptions &options) : path(path), options(options) {
    for (const OptionSpec &spec : optionTable())
      if (!spec.key.empty())
        keys.emplace_back(spec.key);
  }

  void visit(const YAML::Node &node, const std::string &key) {
    if (isMapping(key) && node.IsMap()) {
      mapping(node, key);
    } else if (node.IsMap()) {
      std::set<std::string> seen;
      for (const auto &entry : node) {
        std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "?";
        std::string inner = key.empty() ? name : key + "." + name;
        if (!seen.insert(name).second)
          error(entry.first, "key '" + inner + "' is given twice");
        else if (section(inner) != entry.second.IsMap() && section(inner))
          error(entry.first, "'" + inner + "' should be a group of keys");
        else if (known(inner))
          visit(entry.second, inner);
        else
          error(entry.first, "unknown key '" + inner + "'",
                "the nearest known key is '" + nearest(inner, keys) + "'");
      }
    } else if (key.empty()) {
      error(node, "the recipe should be a group of keys");
    } else {
      leaf(node, key);
    }
  }

  std::vector<std::string> errors;

private:
  void error(const YAML::Node &at, const std::string &message, const std::string &note = "") {
    YAML::Mark mark = at.Mark();
    std::string place = mark.is_null() ? "" // an empty document has none
                                       : ":" + std::to_string(mark.line + 1) + ":" +
                                             std::to_string(mark.column + 1);
    errors.push_back(path + place + ": error: " + message +
                     (note.empty() ? "" : "\nnote: " + note));
  }

  static bool isMapping(const std::string &key) {
    return key == "model.shape" || key == "distributed.ac_policy";
  }
  bool section(const std::string &key) const {
    return !isMapping(key) && std::any_of(keys.begin(), keys.end(), [&](const std::string &known) {
      return known.rfind(key + ".", 0) == 0;
    });
  }
  bool known(const std::string &key) const {
    return section(key) || key == "optimizer._target_" ||
           std::find(keys.begin(), keys.end(), key) != keys.end();
  }

  void mapping(const YAML::Node &node, const std::string &key) {
    const OptionSpec &spec = find(key);
    options.*std::get<std::vector<std::string> CompileOptions::*>(spec.member) = {};
    for (const auto &entry : node) {
      std::string text = entry.first.Scalar() + "=";
      if (entry.second.IsSequence())
        for (const YAML::Node &dim : entry.second)
          text +=
              (text.back() == '=' ? "" : "x") + (dim.IsScalar() ? dim.Scalar() : std::string("?"));
      else
        text += entry.second.IsScalar() ? entry.second.Scalar() : "?";
      set(entry.second, spec, text, true);
    }
  }

  void leaf(const YAML::Node &node, std::string key) {
    if (key == "distributed.activation_checkpointing" && (node.IsScalar() || node.IsNull())) {
      std::string text = checkpointingSpelling(node.IsNull() ? "null" : node.Scalar());
      if (text != "none" && text != "full" && text != "selective" && text != "budget" &&
          text != "auto")
        error(node, "'" + key + "' is '" + text +
                        "', should be one of true, on, full, enabled, yes; false, off, none, "
                        "disabled, no, null; selective; budget; auto, in any case");
      else
        set(node, find(key), text, false);
      return;
    }
    if (key == "optimizer._target_") {
      std::string target = node.IsScalar() ? node.Scalar() : "";
      if (target != "torch.optim.AdamW" && target != "torch.optim.SGD") {
        error(node, "'optimizer._target_' is '" + target +
                        "', should be torch.optim.AdamW or torch.optim.SGD");
        return;
      }
      set(node, find("optimizer.name"), target == "torch.optim.SGD" ? "sgd" : "adamw", false);
      return;
    }
    const OptionSpec &spec = find(key);
    bool list = std::holds_alternative<std::vector<std::string> CompileOptions::*>(spec.member);
    bool numbers = std::holds_alternative<std::vector<double> CompileOptions::*>(spec.member);
    if (node.IsSequence() && (list || numbers)) {
      std::string joined;
      bool append = false;
      for (const YAML::Node &element : node) {
        std::string text = element.IsScalar() ? element.Scalar() : "?";
        if (list)
          set(element, spec, text, append);
        append = true;
        joined += (joined.empty() ? "" : ",") + text;
      }
      if (numbers)
        set(node, spec, joined, false);
    } else if (node.IsScalar()) {
      std::string text = node.Scalar();
      set(node, spec, text, false);
    } else {
      error(node, "'" + key + "' should be a single value" + (list || numbers ? " or a list" : ""));
    }
  }

  const OptionSpec &find(std::string_view key) const {
    return *std::find_if(optionTable().begin(), optionTable().end(),
                         [&](const OptionSpec &spec) { return spec.key == key; });
  }

  void set(const YAML::Node &at, const OptionSpec &spec, const std::string &text, bool append) {
    if (std::optional<std::string> wrong = setOption(options, spec, text, append))
      error(at, "'" + std::string(spec.key) + "' " + *wrong);
  }

  const std::string &path;
  CompileOptions &options;
  std::vector<std::string> keys;
};

} // namespace

std::vector<std::string> applyRecipe(const std::string &path, CompileOptions &options) {
  rt::Expected<std::string> text = rt::readTextFile(path, "a YAML file");
  if (!text.ok())
    return {path + ": error: " + text.status().message().substr(path.size() + 2) +
            "\nnote: --config names a YAML file"};
  Reader reader(path, options);
  // yaml-cpp reports by exceptions; they end here.
  try {
    std::vector<YAML::Node> documents = YAML::LoadAll(*text);
    if (documents.size() > 1)
      return {path + ": error: holds " + std::to_string(documents.size()) +
              " documents, should hold one\nnote: a line '---' begins another document"};
    reader.visit(documents.empty() ? YAML::Node() : documents.front(), "");
  } catch (const YAML::Exception &e) {
    return {path + ":" + std::to_string(e.mark.line + 1) + ":" + std::to_string(e.mark.column + 1) +
            ": error: is not valid YAML: " + e.msg};
  }
  return reader.errors;
}

} // namespace amc
