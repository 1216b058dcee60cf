// Recipes: the table of Options.h as a YAML file, with the keys that users of NeMo AutoModel know.
#ifndef AMC_COMPILER_DRIVER_RECIPE_H
#define AMC_COMPILER_DRIVER_RECIPE_H

#include "compiler/driver/Options.h"

namespace amc {

// Applies the recipe at `path`. Returns every error found, each "recipe.yaml:LINE:COLUMN: error:
// …", possibly with a note on a line of its own; `options` holds what was valid.
std::vector<std::string> applyRecipe(const std::string &path, CompileOptions &options);

} // namespace amc

#endif
