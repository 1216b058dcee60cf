#include "runtime/plan/Mesh.h"

namespace amc::rt {

std::optional<std::array<bool, 4>> groupAxes(std::string_view group) {
  std::array<bool, 4> axes = {};
  size_t next = 0; // the first axis that may follow
  while (true) {
    size_t end = group.find('+');
    std::string_view name = group.substr(0, end);
    while (next < meshAxes.size() && meshAxes[next] != name)
      ++next;
    if (next == meshAxes.size())
      return std::nullopt;
    axes[next++] = true;
    if (end == group.npos)
      return axes;
    group.remove_prefix(end + 1);
  }
}

std::string groupName(const std::array<bool, 4> &axes, const MeshShape &mesh) {
  std::string name;
  for (size_t axis = 0; axis < axes.size(); ++axis)
    if (axes[axis] && mesh.size[axis] > 1)
      name.append(name.empty() ? "" : "+").append(meshAxes[axis]);
  return name;
}

uint64_t groupSize(const MeshShape &mesh, const std::array<bool, 4> &axes) {
  uint64_t size = 1;
  for (size_t axis = 0; axis < axes.size(); ++axis)
    size *= axes[axis] ? mesh.size[axis] : 1;
  return size;
}

std::vector<uint64_t> groupMembers(const MeshShape &mesh, const std::array<bool, 4> &axes, uint64_t rank) {
  // Axis by axis from the outermost: each choice of a coordinate adds its share to the rank.
  std::vector<uint64_t> members{0};
  uint64_t stride = mesh.ranks();
  for (size_t axis = 0; axis < axes.size(); ++axis) {
    stride /= mesh.size[axis];
    uint64_t own = rank / stride % mesh.size[axis];
    std::vector<uint64_t> longer;
    for (uint64_t member : members)
      for (uint64_t at = 0; at < mesh.size[axis]; ++at)
        if (axes[axis] || at == own)
          longer.push_back(member + at * stride);
    members = std::move(longer);
  }
  return members;
}

uint64_t indexInGroup(const MeshShape &mesh, const std::array<bool, 4> &axes, uint64_t rank) {
  uint64_t index = 0, stride = mesh.ranks();
  for (size_t axis = 0; axis < axes.size(); ++axis) {
    stride /= mesh.size[axis];
    if (axes[axis])
      index = index * mesh.size[axis] + rank / stride % mesh.size[axis];
  }
  return index;
}

} // namespace amc::rt
