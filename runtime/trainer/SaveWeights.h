// Weights and gradients from the arenas of all ranks to one safetensors file, in the names and
// layouts of the ONNX file's initializers.
//
// Rank 0 creates the file, every rank writes what it holds to the places where that belongs (what
// several hold, the lowest of them), rank 0 puts the file in place once all have flushed. So
// nothing is gathered in memory: a rank needs a buffer of a mebibyte. It does need a file system
// that all ranks see.
#ifndef AMC_RUNTIME_TRAINER_SAVEWEIGHTS_H
#define AMC_RUNTIME_TRAINER_SAVEWEIGHTS_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Ranks.h"
#include "runtime/trainer/Safetensors.h"
#include "runtime/trainer/Slices.h"

#include <optional>

namespace amc::rt {

// One file, written by all ranks. All of them call create and finish; `ranks` outlives it.
class SharedWriter {
public:
  static Expected<SharedWriter> create(const Ranks &ranks, const std::string &path,
                                       std::vector<SafetensorsWriter::Spec> specs,
                                       const std::map<std::string, std::string> &metadata);
  Status write(std::string_view name, uint64_t offset, std::span<const std::byte> bytes) {
    return writer.write(name, offset, bytes);
  }
  // Every byte has to be written by some rank, by now. Agreed on by all.
  Status finish();

private:
  SharedWriter(const Ranks &ranks, std::string path, SafetensorsWriter writer)
      : ranks(&ranks), path(std::move(path)), writer(std::move(writer)) {}
  const Ranks *ranks;
  std::string path;
  SafetensorsWriter writer;
};

// The tensors that saveTensor writes for parameter `index`: its own name and the tied ones, each
// with `prefix`, whole and of this type.
Status appendSpecs(const Executor &executor, const Ranks &ranks, size_t index,
                   std::string_view prefix, DType dtype,
                   std::vector<SafetensorsWriter::Spec> &specs);

// Writes what this rank holds of `tensor`, the whole of which is shaped like parameter `index` (the
// weight, or its gradient), under all of its names.
Status saveTensor(const Executor &executor, const Ranks &ranks, size_t index, const Tensor &tensor,
                  const Splits &splits, std::string_view prefix, SharedWriter &writer);

// All parameters of the plan, tied names included. Called by all ranks.
Status saveWeights(const Executor &executor, const Ranks &ranks, const std::string &path);

} // namespace amc::rt

#endif
