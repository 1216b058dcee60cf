// The ranks of a run as a grid, and how a tensor is split over them. Shared by compiler and runtime.
//
// Ranks are numbered with dp_replicate outermost and tp innermost:
//   rank = ((dp_replicate * |dp_shard| + dp_shard) * |cp| + cp) * |tp| + tp
// A group is named by its axes, joined by '+' in mesh order ("dp_shard", "dp_shard+cp"): the ranks that agree in all
// other axes. There is one such group for each choice of those; a rank is in exactly one, and its members are numbered
// by rank.
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
  uint64_t ranks() const { return size[0] * size[1] * size[2] * size[3]; } // the verifier bounds it
  bool operator==(const MeshShape &) const = default;
};

// No mesh is larger: 2^24 ranks.
inline constexpr uint64_t mostRanks = uint64_t(1) << 24;

// The axes that a group's name lists; nothing if it is no such name (unknown, twice, out of order, empty).
std::optional<std::array<bool, 4>> groupAxes(std::string_view group);

// "dp_shard+cp" of the axes that are set; without those of `mesh` that have one rank, empty if all are.
std::string groupName(const std::array<bool, 4> &axes, const MeshShape &mesh);

// Members of each group of that name.
uint64_t groupSize(const MeshShape &mesh, const std::array<bool, 4> &axes);

// The ranks of the group that `rank` is in, ascending.
std::vector<uint64_t> groupMembers(const MeshShape &mesh, const std::array<bool, 4> &axes, uint64_t rank);

// Which of them `rank` is.
uint64_t indexInGroup(const MeshShape &mesh, const std::array<bool, 4> &axes, uint64_t rank);

// Elements of a dimension of `size` that each of `members` holds, padding included.
constexpr uint64_t pieceOf(uint64_t size, uint64_t members) { return (size + members - 1) / members; }

} // namespace amc::rt

#endif
