// Tensors of several ranks in a folder: a file for each rank with what it holds, and an index of
// the whole.
//
//   model.rank-00003-of-00008.safetensors      its parts of the weights, by initializer name
//   optimizer.rank-00003-of-00008.safetensors  … of the optimizer's states, by STATE.NAME
//   index.json                                 mesh; for each tensor which of the two files, type,
//   whole shape, splits: dim, group, size and, if not 1, blocks
//
// A part has the elements that the rank holds, without padding, as a tensor of its own. Which they
// are follows from mesh, splits and rank (see Slices.h); what several ranks hold, the lowest of
// them writes; a rank that writes nothing has no file. So the index grows with the tensors, not
// with the ranks, and any mesh can read what any other wrote.
#ifndef AMC_RUNTIME_TRAINER_SHARDS_H
#define AMC_RUNTIME_TRAINER_SHARDS_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Ranks.h"
#include "runtime/trainer/Safetensors.h"
#include "runtime/trainer/Slices.h"

#include <memory>

namespace amc::rt {

// The two files of a rank.
inline constexpr std::string_view modelFiles = "model", optimizerFiles = "optimizer";

// "model.rank-00003-of-00008.safetensors".
std::string shardName(std::string_view kind, uint64_t rank, uint64_t ranks);

// A tensor that ranks hold in parts.
struct ShardedTensor {
  std::string name;
  std::string_view kind = modelFiles;
  DType dtype = plan::DTYPE_UNSPECIFIED;
  Shape whole;
  Splits splits;
  Slice mine;    // what this rank holds of it …
  Tensor tensor; // … and where
};

// Writes this rank's file of one kind, if it has anything to write. Only tensors of that kind are
// looked at.
Status writeShard(const std::string &folder, std::string_view kind,
                  const std::vector<ShardedTensor> &tensors, const Executor &executor, const Ranks &ranks);

std::string indexToJson(const std::vector<ShardedTensor> &tensors, const MeshShape &mesh);

// Reads whole tensors out of such a folder, opening files as they are needed. Trusts neither index
// nor files.
class ShardedReader final : public StoredTensors {
public:
  static Expected<std::unique_ptr<ShardedReader>> open(const std::string &folder,
                                                       std::string_view kind);
  static bool isIn(const std::string &folder); // does the folder have an index?

  const std::string &path() const override { return folder; }
  const MeshShape &mesh() const { return shape; }
  const TensorInfo *find(std::string_view name) const override;
  Status read(const TensorInfo &tensor, uint64_t first, uint64_t count, DType to,
              std::byte *target) const override;

private:
  ShardedReader(std::string folder, std::string_view kind)
      : folder(std::move(folder)), kind(kind) {}
  Status parse(const std::string &json);
  Expected<const SafetensorsReader *> fileOf(uint64_t rank) const;

  std::string folder;
  std::string kind;
  MeshShape shape;
  std::vector<TensorInfo> entries; // by name; without offsets
  std::map<std::string, Splits, std::less<>> splits;
  // Open files, and the grid of the tensor that was read last.
  mutable std::map<uint64_t, SafetensorsReader> files;
  mutable const TensorInfo *current = nullptr;
  mutable PieceGrid grid;
};

// The weights at `path`: a safetensors file, the folder of a checkpoint, of one rank or of several,
// or a folder of checkpoints, of which the newest is taken.
Expected<std::unique_ptr<StoredTensors>> openWeights(const std::string &path);

} // namespace amc::rt

#endif
