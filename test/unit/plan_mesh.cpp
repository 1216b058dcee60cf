// The grid of ranks: names of groups, members, indices, pieces.
#include "runtime/plan/Mesh.h"
#include <gtest/gtest.h>
#include <numeric>
#include <set>

namespace amc::rt::test {
namespace {

using Axes = std::array<bool, 4>;

TEST(Mesh, GroupNamesListAxesInOrder) {
  EXPECT_EQ(groupAxes("dp_shard"), (Axes{false, true, false, false}));
  EXPECT_EQ(groupAxes("dp_replicate+tp"), (Axes{true, false, false, true}));
  EXPECT_EQ(groupAxes("dp_replicate+dp_shard+cp+tp"), (Axes{true, true, true, true}));
  for (const char *wrong :
       {"", "+", "dp", "dp_shard+", "+dp_shard", "tp+cp", "tp+tp", "dp_shard,cp", "dp_shard +cp", "TP"})
    EXPECT_FALSE(groupAxes(wrong)) << wrong;
}

TEST(Mesh, NamesLeaveOutAxesOfOneRank) {
  MeshShape mesh{{2, 4, 1, 2}};
  EXPECT_EQ(groupName({true, true, true, true}, mesh), "dp_replicate+dp_shard+tp");
  EXPECT_EQ(groupName({false, false, true, false}, mesh), "");
  EXPECT_EQ(groupAxes(groupName({false, true, true, true}, mesh)), (Axes{false, true, false, true}));
}

// rank = ((dp_replicate * 3 + dp_shard) * 1 + cp) * 2 + tp on a mesh of 2 x 3 x 1 x 2.
TEST(Mesh, MembersAreTheRanksThatAgreeElsewhere) {
  MeshShape mesh{{2, 3, 1, 2}};
  EXPECT_EQ(mesh.ranks(), 12u);
  EXPECT_EQ(groupMembers(mesh, *groupAxes("tp"), 9), (std::vector<uint64_t>{8, 9}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("dp_shard"), 9), (std::vector<uint64_t>{7, 9, 11}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("dp_replicate"), 9), (std::vector<uint64_t>{3, 9}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("dp_replicate+tp"), 9), (std::vector<uint64_t>{2, 3, 8, 9}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("cp"), 9), (std::vector<uint64_t>{9}));
}

// For every mesh and every choice of axes: the groups are a partition, and every rank knows its place.
TEST(Mesh, GroupsPartitionTheRanks) {
  for (MeshShape mesh :
       {MeshShape{{1, 1, 1, 1}}, MeshShape{{2, 2, 2, 2}}, MeshShape{{3, 1, 2, 4}}, MeshShape{{1, 5, 3, 1}}})
    for (unsigned bits = 0; bits < 16; ++bits) {
      Axes axes{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0};
      std::set<std::vector<uint64_t>> groups;
      for (uint64_t rank = 0; rank < mesh.ranks(); ++rank) {
        std::vector<uint64_t> members = groupMembers(mesh, axes, rank);
        ASSERT_EQ(members.size(), groupSize(mesh, axes));
        ASSERT_TRUE(std::is_sorted(members.begin(), members.end()));
        ASSERT_EQ(members[indexInGroup(mesh, axes, rank)], rank);
        groups.insert(members);
      }
      ASSERT_EQ(groups.size() * groupSize(mesh, axes), mesh.ranks());
    }
}

TEST(Mesh, PiecesCoverADimension) {
  EXPECT_EQ(pieceOf(10, 4), 3u);
  EXPECT_EQ(pieceOf(8, 4), 2u);
  EXPECT_EQ(pieceOf(1, 4), 1u);
  EXPECT_EQ(pieceOf(0, 4), 0u);
}

} // namespace
} // namespace amc::rt::test
