// The ranks of a run as a grid, and how a tensor is split over them. Shared by compiler and runtime.
//
// Ranks are numbered with dp_replicate outermost and tp innermost:
//   rank = ((dp_replicate * |dp_shard| + dp_shard) * |cp| + cp) * |tp| + tp
// A group is named by its axes, joined by '+' in mesh order ("dp_shard", "dp_shard+cp"): the ranks that agree in all
// other axes. There is one such group for each choice of those; a rank is in exactly one, and its members are numbered
// by rank.
//
// Expert parallelism regroups the same ranks. `ep` in a row share a set of experts: the inner part of dp_shard with all
// of cp, or, where they are more than dp_shard x cp allows, with all of tp, too. Such a group is named "ep"; the outer
// part of dp_shard, over which an expert's weights are sharded, is "ep_shard":
//   dp_shard x cp = ep_shard x ep, or dp_shard x cp x tp = ep_shard x ep
// (torchtitan's dp_shard_mod_ep and dp_shard_in_ep.)
//
// A split spreads a dimension of `size` elements over the members of a group in pieces of ceil(size / members): member
// i holds [i * piece, (i + 1) * piece). Behind the end of the dimension a piece is padding, which is zero.
//
// A split in blocks takes the dimension as so many equal blocks, one behind the other, and spreads each of them so:
// member i holds its piece of the first block, then of the second …, padding behind each. It is the only split of its
// dimension.
#ifndef AMC_RUNTIME_PLAN_MESH_H
#define AMC_RUNTIME_PLAN_MESH_H

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace amc::rt {

inline constexpr std::array<std::string_view, 4> meshAxes = {"dp_replicate", "dp_shard", "cp", "tp"};

struct MeshShape {
  std::array<uint64_t, 4> size = {1, 1, 1, 1}; // by axis, as meshAxes
  uint64_t ep = 1;                             // ranks that share a set of experts; isRegrouped says which there can be
  uint64_t ranks() const { return size[0] * size[1] * size[2] * size[3]; } // the verifier bounds it
  bool operator==(const MeshShape &) const = default;
};

// Whether `ep` is a number of ranks that can share a set of experts on this mesh.
bool isRegrouped(const MeshShape &mesh);
// Whether such ranks are all of tp, too.
bool expertsTakeTp(const MeshShape &mesh);

// What groups are made of: the axes, with dp_shard in two parts, of which the inner one is 1 without experts.
enum Axis { DpReplicate, DpShardOuter, DpShardInner, Cp, Tp, axisCount };
using Axes = std::array<bool, axisCount>;
inline constexpr Axes replicateAxes = {true, false, false, false, false}, shardAxes = {false, true, true, false, false},
                      dataAxes = {true, true, true, false, false}, cpAxes = {false, false, false, true, false},
                      tpAxes = {false, false, false, false, true};
// Those of groups "ep" and "ep_shard".
Axes expertAxes(const MeshShape &mesh);
inline constexpr Axes expertShardAxes = {false, true, false, false, false};
constexpr Axes unite(Axes a, const Axes &b) {
  for (size_t axis = 0; axis < a.size(); ++axis)
    a[axis] |= b[axis];
  return a;
}
constexpr bool overlap(const Axes &a, const Axes &b) {
  for (size_t axis = 0; axis < a.size(); ++axis)
    if (a[axis] && b[axis])
      return true;
  return false;
}

// No mesh is larger: 2^24 ranks.
inline constexpr uint64_t mostRanks = uint64_t(1) << 24;

// Whether a group may have that name on some mesh: known axes, in order, none twice, ep and ep_shard not beside dp_shard.
bool isGroupName(std::string_view group);

// The axes that a group's name lists; nothing if it is no name of a group of this mesh.
std::optional<Axes> groupAxes(std::string_view group, const MeshShape &mesh);

// "dp_shard+cp" of the axes that are set; without those of `mesh` that have one rank, empty if all are. Axes that no
// name is for (a part of dp_shard that is neither ep nor ep_shard) are the caller's mistake.
std::string groupName(const Axes &axes, const MeshShape &mesh);

// Members of each group of that name.
uint64_t groupSize(const MeshShape &mesh, const Axes &axes);

// The ranks of the group that `rank` is in, ascending.
std::vector<uint64_t> groupMembers(const MeshShape &mesh, const Axes &axes, uint64_t rank);

// From the first rank of rank 0's group to its last.
uint64_t groupSpan(const MeshShape &mesh, const Axes &axes);

// Which of them `rank` is.
uint64_t indexInGroup(const MeshShape &mesh, const Axes &axes, uint64_t rank);

// Elements of a dimension of `size` that each of `members` holds, padding included.
constexpr uint64_t pieceOf(uint64_t size, uint64_t members) { return (size + members - 1) / members; }

} // namespace amc::rt

#endif
