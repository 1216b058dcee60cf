// See Splits.h. Both directions walk the splits in order and keep each dimension's size before the next split; what they
// share is the check of a split by itself.
#include "runtime/plan/Splits.h"

namespace amc::rt {

Expected<MeshShape> meshOf(const plan::Mesh &mesh) {
  MeshShape shape;
  const uint64_t given[] = {mesh.dp_replicate(), mesh.dp_shard(), mesh.cp(), mesh.tp()};
  uint64_t ranks = 1;
  for (size_t axis = 0; axis < shape.size.size(); ++axis) {
    shape.size[axis] = given[axis] ? given[axis] : 1;
    if (__builtin_mul_overflow(ranks, shape.size[axis], &ranks) || ranks > mostRanks)
      return inputError("mesh: has more than ", mostRanks, " ranks");
  }
  shape.ep = mesh.ep() ? mesh.ep() : 1;
  if (!isRegrouped(shape))
    return inputError("mesh: ep is ", shape.ep, ", which is no regrouping of ", meshText(shape));
  return shape;
}

std::string meshText(const MeshShape &mesh) {
  std::string line;
  for (size_t axis = 0; axis < mesh.size.size(); ++axis)
    if (mesh.size[axis] > 1)
      line += text(line.empty() ? "" : ", ", meshAxes[axis], " ", mesh.size[axis]);
  if (mesh.ep > 1)
    line += text(line.empty() ? "" : ", ", "ep ", mesh.ep);
  return line.empty() ? "1 rank" : line;
}

namespace {

// Calls `apply` with each split and the ranks of its group.
template <class Apply>
Status forEachSplit(const Splits &splits, size_t rank, const MeshShape &mesh, Apply &&apply) {
  Axes taken = {};
  for (int i = 0; i < splits.size(); ++i) {
    const plan::Split &split = splits[i];
    std::optional<Axes> axes = groupAxes(split.group(), mesh);
    if (!axes)
      return inputError("splits[", i, "].group: '", split.group(), "' is no group of ranks");
    // Ranks that differ in one axis only hold different pieces of one split; of two they would hold the diagonal.
    if (overlap(*axes, taken))
      return inputError("splits[", i, "].group: an earlier split spreads over ranks of ", split.group(), ", too");
    taken = unite(taken, *axes);
    if (split.dim() >= rank)
      return inputError("splits[", i, "].dim: is ", split.dim(), " and the tensor has ", rank, " dimensions");
    if (Status failure = apply(i, split, groupSize(mesh, *axes)); !failure.ok())
      return failure;
  }
  return {};
}

} // namespace

Expected<std::vector<uint64_t>> localShape(std::span<const uint64_t> whole, const Splits &splits,
                                           const MeshShape &mesh) {
  std::vector<uint64_t> shape(whole.begin(), whole.end());
  std::vector<int> first(whole.size(), -1); // split of each dimension
  Status failure = forEachSplit(splits, shape.size(), mesh, [&](int i, const plan::Split &split, uint64_t members) {
    uint64_t &size = shape[split.dim()];
    if (split.size() != size)
      return inputError("splits[", i, "].size: is ", split.size(), " and should be ", size);
    const uint64_t blocks = blocksOf(split);
    if (size % blocks != 0)
      return inputError("splits[", i, "].blocks: is ", blocks, ", which does not divide the size ", size);
    int &before = first[split.dim()];
    if (before >= 0 && (blocks > 1 || blocksOf(splits[before]) > 1))
      return inputError("splits[", i, "].dim: splits[", before, "] spreads dimension ", split.dim(),
                        ", too, and one of them is in blocks");
    before = before >= 0 ? before : i;
    size = blocks * pieceOf(size / blocks, members);
    return Status();
  });
  if (!failure.ok())
    return failure;
  return shape;
}

Expected<std::vector<uint64_t>> wholeShape(std::span<const uint64_t> local, const Splits &splits,
                                           const MeshShape &mesh) {
  // A split says the size before it, so the first of a dimension says the whole.
  std::vector<uint64_t> whole(local.begin(), local.end());
  std::vector<bool> seen(local.size());
  for (const plan::Split &split : splits)
    if (split.dim() < whole.size() && !seen[split.dim()]) {
      whole[split.dim()] = split.size();
      seen[split.dim()] = true;
    }
  Expected<std::vector<uint64_t>> back = localShape(whole, splits, mesh);
  if (!back.ok())
    return back;
  for (size_t dim = 0; dim < local.size(); ++dim)
    if ((*back)[dim] != local[dim])
      return inputError("splits: leave ", (*back)[dim], " elements of dimension ", dim, ", and the tensor has ",
                        local[dim]);
  return whole;
}

} // namespace amc::rt
