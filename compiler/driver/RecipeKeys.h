// Keys of NeMo AutoModel's recipes that are not in the option table (Options.h), each with its fate.
#ifndef AMC_COMPILER_DRIVER_RECIPEKEYS_H
#define AMC_COMPILER_DRIVER_RECIPEKEYS_H

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace amc {

enum class Fate {
  Means,   // another spelling of an option
  Ignored, // changes nothing that AMC computes: listed in a remark
  Refused, // would change the result, and AMC does not have it: an error, except for values that ask for nothing
};

struct ForeignKey {
  // "rng.seed", or "wandb.*": the section and everything below it that has no line of its own.
  std::string_view key;
  Fate fate = Fate::Ignored;
  // Means: the key of the option table; empty: the value is checked and says nothing else.
  std::string_view option = {};
  // Means: "theirs=ours|…"; other texts go through as they are, but of a class (`_target_`, by its last component)
  // these are all. An empty "ours" says nothing. Refused: values that ask for nothing, "false|0"; none and null always
  // do.
  std::string_view values = {};
  // Refused: why, and what to do.
  std::string_view why = {};
};

const std::vector<ForeignKey> &foreignKeys();

// The line for a key: its own, else that of the nearest section around it; null if there is none.
const ForeignKey *findForeignKey(std::string_view key);

// "…loss.linear_ce.FusedLinearCrossEntropy" -> "FusedLinearCrossEntropy".
std::string lastComponent(std::string_view dotted);

// What `values` makes of a text: nothing if it is not there.
std::optional<std::string> ourValue(std::string_view values, std::string_view text);
// The left sides.
std::vector<std::string> theirValues(std::string_view values);

} // namespace amc

#endif
