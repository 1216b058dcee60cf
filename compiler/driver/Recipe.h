// Recipes: the table of Options.h as a YAML file, in the keys that users of NeMo AutoModel know. What of the guide's
// own keys is not in the table is in RecipeKeys.h.
#ifndef AMC_COMPILER_DRIVER_RECIPE_H
#define AMC_COMPILER_DRIVER_RECIPE_H

#include "compiler/driver/Options.h"

namespace amc {

// A key path and its value as YAML, from the command line: `--distributed.activation_checkpointing true`.
struct RecipeOverride {
  std::string key, value;
};

struct RecipeRequest {
  std::string path; // empty: overrides alone
  std::vector<RecipeOverride> overrides = {};
};

struct RecipeReport {
  // Each "recipe.yaml:LINE:COLUMN: error: …" or "--key: error: …", possibly with a note on a line of its own.
  std::vector<std::string> errors;
  // "recipe.yaml: remark: no meaning in AMC, ignored: …", with notes; empty when there is nothing to say.
  std::string remark;
  std::vector<std::string> ignored; // the keys in it
};

// Applies a recipe. Every error is found; `options` holds what was valid.
RecipeReport applyRecipe(const RecipeRequest &request, CompileOptions &options);

// Takes `--a.b value` and `--a.b=value` out of a command line (no flag of AMC has a dot). Returns an error message, or
// nothing.
std::optional<std::string> takeOverrides(std::vector<std::string> &arguments, std::vector<RecipeOverride> &overrides);

} // namespace amc

#endif
