#include "runtime/plan/Mesh.h"
#include <cassert>

namespace amc::rt {
namespace {

// The inner part of dp_shard: of a group of experts what cp, and tp where it takes that, leave.
uint64_t innerOf(const MeshShape &mesh) {
  return mesh.ep / mesh.size[2] / (expertsTakeTp(mesh) ? mesh.size[3] : 1);
}

// By Axis, from the outermost to the innermost of a rank's number.
std::array<uint64_t, axisCount> sizesOf(const MeshShape &mesh) {
  const uint64_t inner = mesh.ep > 1 && isRegrouped(mesh) ? innerOf(mesh) : 1;
  return {mesh.size[0], mesh.size[1] / inner, inner, mesh.size[2], mesh.size[3]};
}

constexpr std::array<std::string_view, 6> names = {"dp_replicate", "dp_shard", "ep_shard", "ep", "cp", "tp"};
using Named = std::array<bool, names.size()>;
enum { Replicate, Shard, ExpertShard, Expert, ContextParallel, TensorParallel };

std::optional<Named> parse(std::string_view group) {
  Named named = {};
  size_t next = 0; // the first name that may follow
  while (true) {
    size_t end = group.find('+');
    std::string_view name = group.substr(0, end);
    while (next < names.size() && names[next] != name)
      ++next;
    if (next == names.size())
      return std::nullopt;
    named[next++] = true;
    if (end == group.npos)
      break;
    group.remove_prefix(end + 1);
  }
  // ep with ep_shard is dp_shard with cp; ep has cp in it.
  if (named[Shard] + named[ExpertShard] + named[Expert] > 1 ||
      (named[ContextParallel] && (named[Expert] || named[ExpertShard])))
    return std::nullopt;
  return named;
}

} // namespace

bool expertsTakeTp(const MeshShape &mesh) {
  return mesh.ep > 1 && (mesh.ep % mesh.size[2] != 0 || mesh.size[1] % (mesh.ep / mesh.size[2]) != 0);
}

bool isRegrouped(const MeshShape &mesh) {
  if (mesh.ep <= 1)
    return mesh.ep == 1;
  const uint64_t inside = mesh.size[2] * (expertsTakeTp(mesh) ? mesh.size[3] : 1);
  return mesh.ep % inside == 0 && mesh.size[1] % (mesh.ep / inside) == 0;
}

Axes expertAxes(const MeshShape &mesh) { return {false, false, true, true, expertsTakeTp(mesh)}; }

bool isGroupName(std::string_view group) { return parse(group).has_value(); }

std::optional<Axes> groupAxes(std::string_view group, const MeshShape &mesh) {
  std::optional<Named> named = parse(group);
  if (!named)
    return std::nullopt;
  if (((*named)[Expert] || (*named)[ExpertShard]) &&
      (mesh.ep == 1 || !isRegrouped(mesh) || ((*named)[TensorParallel] && expertsTakeTp(mesh))))
    return std::nullopt;
  Axes axes = {};
  const std::array<Axes, names.size()> each = {replicateAxes, shardAxes, expertShardAxes, expertAxes(mesh), cpAxes, tpAxes};
  for (size_t i = 0; i < names.size(); ++i)
    if ((*named)[i])
      axes = unite(axes, each[i]);
  return axes;
}

std::string groupName(const Axes &given, const MeshShape &mesh) {
  const std::array<uint64_t, axisCount> sizes = sizesOf(mesh);
  Axes axes = given;
  for (size_t axis = 0; axis < axes.size(); ++axis)
    axes[axis] = axes[axis] && sizes[axis] > 1;
  Axes rest = axes; // without a name yet
  std::string name;
  auto take = [&](std::string_view named, const Axes &part) {
    bool any = false;
    for (size_t axis = 0; axis < rest.size(); ++axis) {
      any |= rest[axis] && part[axis];
      rest[axis] = rest[axis] && !part[axis];
    }
    if (any)
      name.append(name.empty() ? "" : "+").append(named);
  };
  auto has = [&](Axis axis) { return axes[axis] || sizes[axis] == 1; };
  take(names[Replicate], replicateAxes);
  if (has(DpShardOuter) && has(DpShardInner))
    take(names[Shard], shardAxes);
  else if (axes[DpShardOuter])
    take(names[ExpertShard], expertShardAxes);
  else if (axes[DpShardInner]) {
    [[maybe_unused]] const bool whole = has(Cp) && (!expertsTakeTp(mesh) || has(Tp));
    assert(whole && "a part of the ranks that share experts has no name");
    take(names[Expert], expertAxes(mesh));
  }
  take(names[ContextParallel], cpAxes);
  take(names[TensorParallel], tpAxes);
  return name;
}

uint64_t groupSize(const MeshShape &mesh, const Axes &axes) {
  const std::array<uint64_t, axisCount> sizes = sizesOf(mesh);
  uint64_t size = 1;
  for (size_t axis = 0; axis < axes.size(); ++axis)
    size *= axes[axis] ? sizes[axis] : 1;
  return size;
}

std::vector<uint64_t> groupMembers(const MeshShape &mesh, const Axes &axes, uint64_t rank) {
  // Axis by axis from the outermost: each choice of a coordinate adds its share to the rank.
  const std::array<uint64_t, axisCount> sizes = sizesOf(mesh);
  std::vector<uint64_t> members{0};
  uint64_t stride = mesh.ranks();
  for (size_t axis = 0; axis < axes.size(); ++axis) {
    stride /= sizes[axis];
    uint64_t own = rank / stride % sizes[axis];
    std::vector<uint64_t> longer;
    for (uint64_t member : members)
      for (uint64_t at = 0; at < sizes[axis]; ++at)
        if (axes[axis] || at == own)
          longer.push_back(member + at * stride);
    members = std::move(longer);
  }
  return members;
}

uint64_t groupSpan(const MeshShape &mesh, const Axes &axes) {
  const std::array<uint64_t, axisCount> sizes = sizesOf(mesh);
  uint64_t last = 0, stride = mesh.ranks();
  for (size_t axis = 0; axis < axes.size(); ++axis) {
    stride /= sizes[axis];
    last += axes[axis] ? (sizes[axis] - 1) * stride : 0;
  }
  return last + 1;
}

uint64_t indexInGroup(const MeshShape &mesh, const Axes &axes, uint64_t rank) {
  const std::array<uint64_t, axisCount> sizes = sizesOf(mesh);
  uint64_t index = 0, stride = mesh.ranks();
  for (size_t axis = 0; axis < axes.size(); ++axis) {
    stride /= sizes[axis];
    if (axes[axis])
      index = index * sizes[axis] + rank / stride % sizes[axis];
  }
  return index;
}

} // namespace amc::rt
