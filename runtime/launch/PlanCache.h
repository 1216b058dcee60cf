// From a recipe to a plan: amc is started, and what it made is kept by content.
//
// Two things are kept in the folder: what a recipe comes to (KEY.recipe: its model, amrun's arguments, the ranks; KEY
// is the hash of amc itself, the recipe's bytes, the flags for amc and the number of ranks), and the plan (KEY.amplan:
// that and the model's file, as hashFile knows it). Both appear whole or not at all and carry their own hash: what is
// damaged is made again, never trusted. A plan is also made again when a file with weights that it names is another one
// by now. The hash of amc does not see the libraries it loads.
#ifndef AMC_RUNTIME_LAUNCH_PLANCACHE_H
#define AMC_RUNTIME_LAUNCH_PLANCACHE_H

#include "runtime/support/Status.h"
#include "runtime/trainer/Options.h"

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace amc::rt {

struct CompiledRecipe {
  std::string plan, model;            // files
  std::vector<std::string> arguments; // "--steps", "20", …: what the recipe says of the run
};

// `ranks`: how many the run will have, where that is known.
Expected<CompiledRecipe> compileRecipe(const RecipeRun &run, std::optional<uint64_t> ranks,
                                       const std::function<void(std::string_view)> &note);

} // namespace amc::rt

#endif
