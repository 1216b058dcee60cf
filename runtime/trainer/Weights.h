// Weights between files and the arena, in the names and layouts of the ONNX file's initializers.
//
// A type that the plan does not keep is converted, floats to the nearest, ties to even. An
// optimizer state named "master" starts as the parameter's value in fp32, as exact as the source
// has it.
//
// Nothing is held in memory twice: bytes go from the file to the arena, or from the arena to the
// file, through a buffer of a mebibyte where type or layout differ. A tied name is stored as
// transpose(weight, permutation), numpy's convention: stored.shape[i] =
// weight.shape[permutation[i]].
#ifndef AMC_RUNTIME_TRAINER_WEIGHTS_H
#define AMC_RUNTIME_TRAINER_WEIGHTS_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Safetensors.h"

#include <string>
#include <vector>

namespace amc::rt {

// Where the first weights come from.
//   Plan   the bytes that the plan embeds or points to
//   File   a safetensors file that has every weight under its initializer name, or under one it is
//   tied to Seed   drawn: rank 2 and above normal(0, 0.02); lower ranks ones if the name ends in
//   "weight" (norms), zeros
//          otherwise (biases). Replaces every trained weight; frozen ones keep the plan's bytes and
//          are drawn only if those are absent. The n-th element of a weight depends on the seed,
//          its name and n only.
struct InitialWeights {
  enum class From { Plan, File, Seed } from = From::Plan;
  std::string path;
  uint64_t seed = 0;
};

// "FILE.safetensors" or "seed:N".
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

// Fills every parameter, `sources` being the plan's. Paths in it are relative to `modelDirectory`.
// All weights that cannot be had are named in one error. `notes` receives lines for people.
Status loadWeights(Executor &executor, const InitialWeights &initial,
                   std::vector<plan::Source> sources, const std::string &modelDirectory,
                   std::vector<std::string> &notes);

// Reads every parameter of the plan from `file`; the shapes have to agree. `notes`, if given,
// receives lines for people.
Status readWeights(Executor &executor, const SafetensorsReader &file,
                   std::vector<std::string> *notes = nullptr);

// The tensors that saveTensor writes for parameter `index`: its own name and the tied ones, each
// with `prefix`.
void appendSpecs(const Executor &executor, size_t index, std::string_view prefix,
                 std::vector<SafetensorsWriter::Spec> &specs);

// Writes `tensor`, shaped like parameter `index` (the weight, or its gradient), under all of its
// names.
Status saveTensor(const Executor &executor, size_t index, const Tensor &tensor,
                  std::string_view prefix, SafetensorsWriter &writer);

// All parameters of the plan, tied names included.
Status saveWeights(const Executor &executor, const std::string &path);

} // namespace amc::rt

#endif
