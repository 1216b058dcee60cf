// Weights between files and the arena, in the names and layouts of the ONNX file's initializers.
//
// A type that the plan does not keep is converted, floats to the nearest, ties to even. An
// optimizer state named "master" starts as the parameter's value in fp32, as exact as the source
// has it.
//
// Of several ranks each reads what it holds (see Slices.h) and no more. Saving is SaveWeights.h's.
//
// Nothing is held in memory twice: bytes go from the file to the arena, or from the arena to the
// file, through a buffer of a mebibyte where type or layout differ. A tied name is stored as
// transpose(weight, permutation), numpy's convention: stored.shape[i] =
// weight.shape[permutation[i]].
#ifndef AMC_RUNTIME_TRAINER_WEIGHTS_H
#define AMC_RUNTIME_TRAINER_WEIGHTS_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Ranks.h"
#include "runtime/trainer/Safetensors.h"
#include "runtime/trainer/Slices.h"

#include <string>
#include <vector>

namespace amc::rt {

// Where the first weights come from.
//   Plan   the bytes that the plan embeds or points to
//   File   a safetensors file, or a checkpoint's folder, that has every weight under its
//   initializer
//          name, or under one it is tied to
//   Seed   drawn: rank 2 and above normal(0, 0.02); lower ranks ones if the name ends in "weight"
//          (norms), zeros otherwise (biases). Replaces every trained weight; frozen ones keep the
//          plan's bytes and are drawn only if those are absent. The n-th element of a weight depends
//          on the seed, its name and n only: n of the whole weight, so every mesh draws the same.
struct InitialWeights {
  enum class From { Plan, File, Seed } from = From::Plan;
  std::string path;
  uint64_t seed = 0;
};

// "FILE.safetensors", the folder of a checkpoint or of checkpoints, or "seed:N".
Expected<InitialWeights> parseInitialWeights(const std::string &value);

// Takes the sources of all parameters out of a plan, so that embedded bytes can be freed once they
// are in the arena.
std::vector<plan::Source> takeSources(plan::Plan &plan);

// Where the model's files are: the folder that the plan names, as seen from here or, when it is
// relative, from the plan's own folder; else the plan's folder, for a plan and a model that moved
// together; else the folder it was in when the plan was compiled. The first that holds the model's file, or the folder
// that the plan names if none does.
std::string findModelDirectory(const std::string &planPath, const plan::Plan &plan);

// The plan's model is `path` now. Weights that lie in the model's file are read from there, the others from its folder.
void moveModel(plan::Plan &plan, const std::string &path);

// Fills this rank's part of every parameter, `sources` being the plan's. Paths in it are relative
// to `modelDirectory`. All weights that cannot be had are named in one error. `notes` receives
// lines for people.
Status loadWeights(Executor &executor, const Ranks &ranks, const InitialWeights &initial,
                   std::vector<plan::Source> sources, const std::string &modelDirectory,
                   std::vector<std::string> &notes);

// Reads every parameter of the plan from `file`; the shapes have to agree. `notes`, if given,
// receives lines for people.
Status readWeights(Executor &executor, const Ranks &ranks, const StoredTensors &file,
                   std::vector<std::string> *notes = nullptr);

// An optimizer state of this name is the parameter's value in its type, split in another way; it is
// read from where the parameter is, and never saved.
inline constexpr std::string_view shardState = "shard";

inline Shape shapeOf(const plan::View &view) { return {view.shape().begin(), view.shape().end()}; }
inline std::vector<uint32_t> permutationOf(const plan::TiedName &tied) {
  return {tied.permutation().begin(), tied.permutation().end()};
}
// The whole tensor of a view, and what this rank holds of it.
Expected<Shape> wholeShapeOf(const plan::View &view, const Splits &splits, const Ranks &ranks);
Expected<Slice> sliceOf(const plan::View &view, const Splits &splits, const Ranks &ranks);

} // namespace amc::rt

#endif
