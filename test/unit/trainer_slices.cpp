// Slices against the definition in Mesh.h, element by element; and the numbers of some splits by
// hand.
#include "runtime/trainer/Slices.h"
#include "test/unit/trainer_ranks.h"

#include <cstring>
#include <map>
#include <random>
#include <set>

using namespace amc::rt;
using namespace amc::rt::test;

namespace {

struct Case {
  Shape whole;
  std::vector<SplitSpec> splits;
  MeshShape mesh;
  Splits made() const { return splitsOf(whole, splits, mesh); }
  Shape local() const { return take(localShape(whole, made(), mesh)); }
  Slice slice(uint64_t rank) const { return take(Slice::of(local(), made(), mesh, rank)); }
};

// Elements of the whole tensor that a rank holds, and where: the definition, one split after the
// other.
std::map<uint64_t, uint64_t> byDefinition(const Case &c, uint64_t rank) {
  Shape local = c.local();
  std::map<uint64_t, uint64_t> held;
  Splits splits = c.made();
  uint64_t elements = *elementCount(c.whole);
  for (uint64_t element = 0; element < elements; ++element) {
    Shape index(c.whole.size());
    uint64_t rest = element;
    for (size_t dim = c.whole.size(); dim > 0; --dim) {
      index[dim - 1] = rest % c.whole[dim - 1];
      rest /= c.whole[dim - 1];
    }
    bool mine = true;
    for (const amc::plan::Split &split : splits) {
      auto axes = *groupAxes(split.group(), c.mesh);
      uint64_t size = split.size() / blocksOf(split), block = index[split.dim()] / size;
      uint64_t within = index[split.dim()] % size, piece = pieceOf(size, groupSize(c.mesh, axes));
      mine &= within / piece == indexInGroup(c.mesh, axes, rank);
      index[split.dim()] = block * piece + within % piece;
    }
    uint64_t at = 0;
    for (size_t dim = 0; dim < local.size(); ++dim)
      at = at * local[dim] + index[dim];
    if (mine)
      held[element] = at;
  }
  return held;
}

std::vector<ElementRun> runsOf(const Slice &slice) {
  std::vector<ElementRun> runs;
  expectOk(slice.forEachRun([&](const ElementRun &run) {
    runs.push_back(run);
    return Status();
  }));
  return runs;
}

std::map<uint64_t, uint64_t> byRuns(const Slice &slice) {
  std::map<uint64_t, uint64_t> held;
  for (const ElementRun &run : runsOf(slice))
    for (uint64_t i = 0; i < run.elements; ++i)
      EXPECT_TRUE(held.emplace(run.whole + i, run.local + i * run.step).second) << "twice";
  return held;
}

// Some hundred cases of up to three dimensions, uneven ones, nested splits, splits in blocks, ranks
// that hold nothing.
std::vector<Case> manyCases() {
  std::mt19937 random(7);
  auto below = [&](uint64_t n) { return random() % n; };
  const std::vector<std::string> groups = {"dp_shard",     "tp", "dp_shard+cp",
                                           "dp_replicate", "cp", "dp_replicate+dp_shard",
                                           "ep",           "ep_shard"};
  std::vector<Case> cases;
  for (int i = 0; i < 400; ++i) {
    Case c;
    for (uint64_t &size : c.mesh.size)
      size = 1 + below(3);
    c.mesh.ep = 1 + below(6);
    if (!isRegrouped(c.mesh))
      c.mesh.ep = 1;
    for (uint64_t dims = 1 + below(3); dims > 0; --dims)
      c.whole.push_back(1 + below(9));
    Axes taken = {};
    for (int s = 0; s < 3; ++s) {
      const std::string &group = groups[below(groups.size())];
      std::optional<Axes> axes = groupAxes(group, c.mesh);
      if (!axes || overlap(*axes, taken))
        continue;
      taken = unite(taken, *axes);
      c.splits.push_back({static_cast<uint32_t>(below(c.whole.size())), group});
    }
    // A dimension that is split once may as well be of several blocks.
    for (SplitSpec &split : c.splits) {
      auto same = [&](const SplitSpec &other) { return other.dim == split.dim; };
      if (std::count_if(c.splits.begin(), c.splits.end(), same) == 1 && below(2)) {
        split.blocks = 2 + below(3);
        c.whole[split.dim] = split.blocks * (1 + below(5));
      }
    }
    cases.push_back(c);
  }
  return cases;
}

} // namespace

// 10 rows over 4 ranks: three of 3, one of 1, whose other two are padding.
TEST(Slices, UnevenRows) {
  Case c{{10, 4}, {{0, "dp_shard"}}, meshShape({1, 4, 1, 1})};
  EXPECT_EQ(c.local(), (Shape{3, 4}));
  EXPECT_EQ(runsOf(c.slice(1)), (std::vector<ElementRun>{{12, 0, 12, 1}}));
  EXPECT_FALSE(c.slice(1).padded());
  EXPECT_EQ(runsOf(c.slice(3)), (std::vector<ElementRun>{{36, 0, 4, 1}}));
  EXPECT_TRUE(c.slice(3).padded());
  EXPECT_EQ(c.slice(3).counts(), (Shape{1, 4}));
}

// 5 rows over 4 ranks: 2, 2, 1 and none.
TEST(Slices, ARankWithoutElements) {
  Case c{{5}, {{0, "dp_shard"}}, meshShape({1, 4, 1, 1})};
  EXPECT_EQ(c.slice(3).elements(), 0u);
  EXPECT_TRUE(runsOf(c.slice(3)).empty());
  EXPECT_TRUE(c.slice(3).padded());
}

// 10 rows over tp 2, then dp_shard 2: 5 and 5, each as 3 and 2. Rank 1 is tp 1 of dp_shard 0.
TEST(Slices, TwoSplitsOfOneDimension) {
  Case c{{10}, {{0, "tp"}, {0, "dp_shard"}}, meshShape({1, 2, 1, 2})};
  EXPECT_EQ(runsOf(c.slice(0)), (std::vector<ElementRun>{{0, 0, 3, 1}}));
  EXPECT_EQ(runsOf(c.slice(1)), (std::vector<ElementRun>{{5, 0, 3, 1}}));
  EXPECT_EQ(runsOf(c.slice(2)), (std::vector<ElementRun>{{3, 0, 2, 1}}));
  EXPECT_EQ(runsOf(c.slice(3)), (std::vector<ElementRun>{{8, 0, 2, 1}}));
}

// One weight for queries, keys and values, 2 rows of 3 x 5 columns over tp 2: columns 0 1 2 of each
// third, and 3 4 with one of padding behind each. A bias of it is the same without rows.
TEST(Slices, Blocks) {
  Case c{{2, 15}, {{1, "tp", 3}}, meshShape({1, 1, 1, 2})};
  EXPECT_EQ(c.local(), (Shape{2, 9}));
  EXPECT_EQ(runsOf(c.slice(0)),
            (std::vector<ElementRun>{
                {0, 0, 3, 1}, {5, 3, 3, 1}, {10, 6, 3, 1}, {15, 9, 3, 1}, {20, 12, 3, 1}, {25, 15, 3, 1}}));
  EXPECT_EQ(runsOf(c.slice(1)),
            (std::vector<ElementRun>{
                {3, 0, 2, 1}, {8, 3, 2, 1}, {13, 6, 2, 1}, {18, 9, 2, 1}, {23, 12, 2, 1}, {28, 15, 2, 1}}));
  EXPECT_EQ(c.slice(1).counts(), (Shape{2, 6}));
  EXPECT_TRUE(c.slice(1).padded());
  EXPECT_EQ(c.slice(1).elements(), 12u);
  // Transposed: 15 rows of 2. What lies in a row in the file is 9 apart here.
  EXPECT_EQ(runsOf(c.slice(1).stored({1, 0})),
            (std::vector<ElementRun>{
                {6, 0, 2, 9}, {8, 1, 2, 9}, {16, 3, 2, 9}, {18, 4, 2, 9}, {26, 6, 2, 9}, {28, 7, 2, 9}}));
  // As a tensor of its own it is dense: 6 of 9 columns here, all of 6 there.
  EXPECT_EQ(c.slice(1).dense().whole(), (Shape{2, 6}));
  EXPECT_EQ(runsOf(c.slice(1).dense()).front(), (ElementRun{0, 0, 2, 1}));
  EXPECT_EQ(runsOf(c.slice(1).dense()).back(), (ElementRun{10, 15, 2, 1}));
  // Even and of rows: a run for each block.
  Case rows{{12, 4}, {{0, "tp", 3}, {1, "dp_shard"}}, meshShape({1, 1, 1, 2})};
  EXPECT_EQ(runsOf(rows.slice(1)),
            (std::vector<ElementRun>{{8, 0, 8, 1}, {24, 8, 8, 1}, {40, 16, 8, 1}}));
  EXPECT_EQ(runsOf(rows.slice(1).dense()), (std::vector<ElementRun>{{0, 0, 24, 1}}));
}

// Columns: a run for each row; and in the transposed file, where they are rows, one run for each of
// them.
TEST(Slices, ColumnsAndTransposes) {
  Case c{{2, 6}, {{1, "tp"}}, meshShape({1, 1, 1, 2})};
  EXPECT_EQ(runsOf(c.slice(1)), (std::vector<ElementRun>{{3, 0, 3, 1}, {9, 3, 3, 1}}));
  EXPECT_EQ(runsOf(c.slice(1).stored({1, 0})),
            (std::vector<ElementRun>{{6, 0, 2, 3}, {8, 1, 2, 3}, {10, 2, 2, 3}}));
}

TEST(Slices, FollowTheDefinition) {
  for (const Case &c : manyCases()) {
    std::set<uint64_t> written;
    for (uint64_t rank = 0; rank < c.mesh.ranks(); ++rank) {
      Slice slice = c.slice(rank);
      std::map<uint64_t, uint64_t> held = byRuns(slice);
      ASSERT_EQ(held, byDefinition(c, rank));
      EXPECT_EQ(held.size(), slice.elements());
      EXPECT_EQ(slice.padded(), held.size() != *elementCount(c.local()));
      if (!slice.lowestHolder())
        continue;
      for (const auto &[element, at] : held)
        EXPECT_TRUE(written.insert(element).second) << "two ranks write one element";
    }
    EXPECT_EQ(written.size(), *elementCount(c.whole)) << "every element has a rank that writes it";
  }
}

// The grid finds for each element the rank that writes it, and its place among what that rank
// writes.
TEST(Slices, GridFindsTheWriter) {
  for (const Case &c : manyCases()) {
    PieceGrid grid = take(PieceGrid::of(c.whole, c.made(), c.mesh));
    uint64_t elements = *elementCount(c.whole);
    for (uint64_t first = 0; first < elements; ++first) {
      PieceGrid::Place place = grid.find(first, elements);
      Slice slice = c.slice(place.rank);
      ASSERT_TRUE(slice.lowestHolder());
      EXPECT_EQ(place.counts, slice.counts());
      std::map<uint64_t, uint64_t> held = byRuns(slice);
      uint64_t index = static_cast<uint64_t>(std::distance(held.begin(), held.find(first)));
      EXPECT_EQ(place.at, index);
      ASSERT_GE(place.elements, 1u);
      for (uint64_t i = 0; i < place.elements; ++i)
        EXPECT_TRUE(held.contains(first + i));
      EXPECT_EQ(grid.find(first, 1).elements, 1u);
    }
  }
}

// Reading a slice and writing it elsewhere gives its elements; in every permutation of the file,
// padding zero.
TEST(Slices, ReadAndWrite) {
  for (const Case &c : manyCases()) {
    std::vector<uint32_t> permutation(c.whole.size());
    for (size_t dim = 0; dim < permutation.size(); ++dim)
      permutation[dim] = static_cast<uint32_t>((dim + 1) % permutation.size());
    uint64_t elements = *elementCount(c.whole);
    std::vector<int32_t> file(elements), copy(elements, -1);
    for (uint64_t i = 0; i < elements; ++i)
      file[i] = static_cast<int32_t>(i) + 1;
    for (uint64_t rank = 0; rank < c.mesh.ranks(); ++rank) {
      Slice slice = c.slice(rank).stored(permutation);
      std::vector<int32_t> local(*elementCount(c.local()), -7);
      auto read = [&](uint64_t first, uint64_t count, std::byte *target) {
        std::memcpy(target, file.data() + first, count * 4);
        return Status();
      };
      expectOk(readSlice(slice, 4, reinterpret_cast<std::byte *>(local.data()), read, [] {}));
      EXPECT_EQ(std::count(local.begin(), local.end(), 0),
                int64_t(local.size() - slice.elements()));
      EXPECT_EQ(std::count(local.begin(), local.end(), -7), 0) << "all of it is written";
      auto write = [&](uint64_t first, std::span<const std::byte> bytes) {
        std::memcpy(copy.data() + first, bytes.data(), bytes.size());
        return Status();
      };
      expectOk(
          writeSlice(slice, 4, reinterpret_cast<const std::byte *>(local.data()), write, [] {}));
    }
    EXPECT_EQ(copy, file);
  }
}

TEST(Slices, SplitsAreChecked) {
  MeshShape mesh = meshShape({1, 2, 1, 2});
  auto wrong = [&](Splits splits, const std::string &part) {
    expectError(wholeShape(Shape{5, 3}, splits, mesh).status(), ErrorKind::Input, part);
  };
  Splits good = splitsOf({10, 3}, {{0, "tp"}}, mesh);
  EXPECT_EQ(take(wholeShape(Shape{5, 3}, good, mesh)), (Shape{10, 3}));
  Splits splits = good;
  splits[0].set_group("pp");
  wrong(splits, "splits[0].group: 'pp' is no group of ranks");
  splits = good;
  splits[0].set_dim(2);
  wrong(splits, "splits[0].dim: is 2 and the tensor has 2 dimensions");
  splits = good;
  splits[0].set_size(11);
  wrong(splits, "leave 6 elements of dimension 0, and the tensor has 5");
  splits = good;
  *splits.Add() = good[0];
  wrong(splits, "splits[1].group: an earlier split spreads over ranks of tp, too");
  splits[1].set_group("dp_shard");
  wrong(splits, "splits[1].size: is 10 and should be 5");
  expectError(Slice::of(Shape{5, 3}, good, mesh, 4).status(), ErrorKind::Input, "rank 4 is none");
  splits = good;
  splits[0].set_blocks(1);
  EXPECT_EQ(take(wholeShape(Shape{5, 3}, splits, mesh)), (Shape{10, 3}));
  splits[0].set_blocks(2); // 2 x 5: 2 x 3
  EXPECT_EQ(take(wholeShape(Shape{6, 3}, splits, mesh)), (Shape{10, 3}));
  wrong(splits, "leave 6 elements of dimension 0, and the tensor has 5");
  splits[0].set_blocks(4);
  wrong(splits, "splits[0].blocks: is 4, which does not divide the size 10");
  splits[0].set_blocks(~uint64_t(0));
  wrong(splits, "splits[0].blocks: is 18446744073709551615, which does not divide the size 10");
  // Nothing splits it besides, neither after it nor before it.
  splits[0].set_blocks(2);
  amc::plan::Split *second = splits.Add();
  second->set_group("dp_shard");
  second->set_size(6);
  wrong(splits, "splits[1].dim: splits[0] spreads dimension 0, too, and one of them is in blocks");
  splits[0].set_blocks(0);
  splits[1].set_size(5);
  splits[1].set_blocks(5);
  wrong(splits, "splits[1].dim: splits[0] spreads dimension 0, too, and one of them is in blocks");
}
