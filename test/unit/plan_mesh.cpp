// The grid of ranks: names of groups, members, indices, pieces.
#include "runtime/plan/Mesh.h"
#include <gtest/gtest.h>
#include <numeric>
#include <set>

namespace amc::rt::test {
namespace {

TEST(Mesh, GroupNamesListAxesInOrder) {
  MeshShape mesh{{2, 4, 2, 2}};
  EXPECT_EQ(groupAxes("dp_shard", mesh), shardAxes);
  EXPECT_EQ(groupAxes("dp_replicate+tp", mesh), unite(replicateAxes, tpAxes));
  EXPECT_EQ(groupAxes("dp_replicate+dp_shard+cp+tp", mesh), (Axes{true, true, true, true, true}));
  for (const char *wrong : {"", "+", "dp", "dp_shard+", "+dp_shard", "tp+cp", "tp+tp", "dp_shard,cp", "dp_shard +cp", "TP",
                            "dp_shard+ep", "ep_shard+ep", "ep+cp", "ep_shard+cp"})
    EXPECT_FALSE(isGroupName(wrong)) << wrong;
  // Names, but of no group where no ranks share experts.
  for (const char *expert : {"ep", "ep_shard", "dp_replicate+ep+tp"}) {
    EXPECT_TRUE(isGroupName(expert)) << expert;
    EXPECT_FALSE(groupAxes(expert, mesh)) << expert;
  }
}

TEST(Mesh, NamesLeaveOutAxesOfOneRank) {
  MeshShape mesh{{2, 4, 1, 2}};
  EXPECT_EQ(groupName({true, true, true, true, true}, mesh), "dp_replicate+dp_shard+tp");
  EXPECT_EQ(groupName(cpAxes, mesh), "");
  EXPECT_EQ(groupAxes(groupName(unite(unite(shardAxes, cpAxes), tpAxes), mesh), mesh), unite(shardAxes, tpAxes));
}

// rank = ((dp_replicate * 3 + dp_shard) * 1 + cp) * 2 + tp on a mesh of 2 x 3 x 1 x 2.
TEST(Mesh, MembersAreTheRanksThatAgreeElsewhere) {
  MeshShape mesh{{2, 3, 1, 2}};
  EXPECT_EQ(mesh.ranks(), 12u);
  EXPECT_EQ(groupMembers(mesh, *groupAxes("tp", mesh), 9), (std::vector<uint64_t>{8, 9}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("dp_shard", mesh), 9), (std::vector<uint64_t>{7, 9, 11}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("dp_replicate", mesh), 9), (std::vector<uint64_t>{3, 9}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("dp_replicate+tp", mesh), 9), (std::vector<uint64_t>{2, 3, 8, 9}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("cp", mesh), 9), (std::vector<uint64_t>{9}));
}

// For every mesh and every choice of axes: the groups are a partition, and every rank knows its place.
TEST(Mesh, GroupsPartitionTheRanks) {
  for (MeshShape mesh :
       {MeshShape{{1, 1, 1, 1}}, MeshShape{{2, 2, 2, 2}}, MeshShape{{3, 1, 2, 4}}, MeshShape{{1, 5, 3, 1}}, MeshShape{{2, 4, 2, 1}, 4},
        MeshShape{{1, 4, 2, 3}, 12}})
    for (unsigned bits = 0; bits < 32; ++bits) {
      Axes axes{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0, (bits & 16) != 0};
      std::set<std::vector<uint64_t>> groups;
      for (uint64_t rank = 0; rank < mesh.ranks(); ++rank) {
        std::vector<uint64_t> members = groupMembers(mesh, axes, rank);
        ASSERT_EQ(members.size(), groupSize(mesh, axes));
        ASSERT_TRUE(std::is_sorted(members.begin(), members.end()));
        ASSERT_EQ(members[indexInGroup(mesh, axes, rank)], rank);
        if (rank == 0) {
          ASSERT_EQ(groupSpan(mesh, axes), members.back() + 1);
        }
        groups.insert(members);
      }
      ASSERT_EQ(groups.size() * groupSize(mesh, axes), mesh.ranks());
    }
}

// Ranks in a row share experts: all of cp with a part of dp_shard, and all of tp where cp and dp_shard do not make as many.
TEST(Mesh, ExpertsRegroupRanks) {
  MeshShape mesh{{2, 4, 2, 3}, 4}; // rank = ((dp_replicate * 4 + dp_shard) * 2 + cp) * 3 + tp
  ASSERT_TRUE(isRegrouped(mesh));
  EXPECT_FALSE(expertsTakeTp(mesh));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("ep", mesh), 0), (std::vector<uint64_t>{0, 3, 6, 9}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("ep_shard", mesh), 0), (std::vector<uint64_t>{0, 12}));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("ep+tp", mesh), 14).front(), 12u);
  EXPECT_EQ(groupSize(mesh, *groupAxes("ep+tp", mesh)), 12u);
  EXPECT_EQ(groupSize(mesh, *groupAxes("dp_shard", mesh)), 4u);
  // What both make together has the name that it has without experts.
  EXPECT_EQ(groupName(expertAxes(mesh), mesh), "ep");
  EXPECT_EQ(groupName(unite(expertShardAxes, tpAxes), mesh), "ep_shard+tp");
  EXPECT_EQ(groupName(unite(expertAxes(mesh), expertShardAxes), mesh), "dp_shard+cp");
  EXPECT_EQ(groupName(unite(replicateAxes, expertAxes(mesh)), mesh), "dp_replicate+ep");
  // cp alone, and then dp_shard alone.
  mesh.ep = 2;
  EXPECT_EQ(groupName(expertAxes(mesh), mesh), "cp");
  EXPECT_EQ(groupName(expertShardAxes, mesh), "dp_shard");
  // With tp.
  mesh.ep = 12;
  ASSERT_TRUE(isRegrouped(mesh));
  EXPECT_TRUE(expertsTakeTp(mesh));
  EXPECT_EQ(groupMembers(mesh, *groupAxes("ep", mesh), 13).front(), 12u);
  EXPECT_EQ(groupSize(mesh, *groupAxes("ep", mesh)), 12u);
  EXPECT_FALSE(groupAxes("ep+tp", mesh));
  for (uint64_t wrong : {3, 5, 16, 48}) {
    mesh.ep = wrong;
    EXPECT_FALSE(isRegrouped(mesh)) << wrong;
    EXPECT_FALSE(groupAxes("ep", mesh)) << wrong;
    EXPECT_EQ(groupSize(mesh, *groupAxes("dp_shard", mesh)), 4u);
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
