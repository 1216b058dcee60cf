// Dimensions as products of atoms: what unifying makes of them.
#include "compiler/analysis/Atoms.h"
#include <gtest/gtest.h>

using namespace amc;

namespace {

std::vector<int64_t> sizes(const Atoms &atoms, const AtomList &list) {
  std::vector<int64_t> result;
  for (uint32_t leaf : atoms.leaves(list))
    result.push_back(atoms.size(leaf));
  return result;
}

// Two dimensions of one size become one atom; a third joins them through either.
TEST(Atoms, EqualSizesMerge) {
  Atoms atoms;
  uint32_t a = atoms.add(6), b = atoms.add(6), c = atoms.add(6);
  atoms.unify({a}, {b});
  atoms.unify({b}, {c});
  EXPECT_EQ(atoms.leaves({a}), atoms.leaves({c}));
  EXPECT_FALSE(atoms.isFixed(atoms.leaves({a})[0]));
}

// A product's columns, 64, seen as 4 heads of 16, then as 2 groups of 2 heads: 2, 2, 16, everywhere.
TEST(Atoms, LargerAtomsArePartedWhereverTheyStand) {
  Atoms atoms;
  uint32_t columns = atoms.add(64), weight = atoms.add(64), heads = atoms.add(4), width = atoms.add(16);
  atoms.unify({weight}, {columns});
  atoms.unify({columns}, {heads, width});
  uint32_t groups = atoms.add(2), each = atoms.add(2);
  atoms.unify({groups, each}, {heads});
  EXPECT_EQ(sizes(atoms, {weight}), (std::vector<int64_t>{2, 2, 16}));
  EXPECT_EQ(atoms.leaves({weight})[0], atoms.leaves({groups})[0]);
  EXPECT_EQ(atoms.leaves({weight})[2], atoms.leaves({width})[0]);
}

// [2, 48, 64] flattened to [96, 64] keeps batch and sequence apart, and so does what comes back.
TEST(Atoms, FlatteningKeepsFactors) {
  Atoms atoms;
  uint32_t batch = atoms.add(2), sequence = atoms.add(48), hidden = atoms.add(64), rows = atoms.add(96), columns = atoms.add(64);
  atoms.unify({batch, sequence, hidden}, {rows, columns});
  EXPECT_EQ(atoms.leaves({rows}), (AtomList{atoms.leaves({batch})[0], atoms.leaves({sequence})[0]}));
  EXPECT_EQ(atoms.leaves({columns}), atoms.leaves({hidden}));
}

// Dimensions of size 1 are nobody's.
TEST(Atoms, OnesVanish) {
  Atoms atoms;
  uint32_t one = atoms.add(1), six = atoms.add(6), other = atoms.add(6);
  atoms.unify({one, six}, {other, atoms.add(1)});
  EXPECT_EQ(atoms.leaves({one, six}), atoms.leaves({other}));
  EXPECT_FALSE(atoms.isFixed(atoms.leaves({six})[0]));
}

// 4 x 9 against 6 x 6: neither divides, so nothing of it is ever cut. A prefix that fits stays free.
TEST(Atoms, WhatDoesNotDivideIsFixed) {
  Atoms atoms;
  uint32_t batch = atoms.add(5), a = atoms.add(4), b = atoms.add(9), batch2 = atoms.add(5), c = atoms.add(6), d = atoms.add(6);
  atoms.unify({batch, a, b}, {batch2, c, d});
  EXPECT_FALSE(atoms.isFixed(atoms.leaves({batch})[0]));
  for (uint32_t atom : {a, b, c, d})
    for (uint32_t leaf : atoms.leaves({atom}))
      EXPECT_TRUE(atoms.isFixed(leaf));
  // What is merged with something fixed is fixed, and so are its parts.
  uint32_t e = atoms.add(4), f = atoms.add(2), g = atoms.add(2);
  atoms.unify({e}, {a});
  atoms.unify({e}, {f, g});
  EXPECT_TRUE(atoms.isFixed(atoms.leaves({f})[0]));
  EXPECT_TRUE(atoms.isFixed(atoms.leaves({g})[0]));
}

// An atom that stands on both sides is parted on both.
TEST(Atoms, PartingReachesTheSameAtomFurtherOn) {
  Atoms atoms;
  uint32_t a = atoms.add(4), b = atoms.add(2), c = atoms.add(8);
  atoms.unify({a, a}, {b, c});
  std::vector<int64_t> left = sizes(atoms, {a, a}), right = sizes(atoms, {b, c});
  EXPECT_EQ(left, right);
  EXPECT_EQ(left, (std::vector<int64_t>{2, 2, 2, 2}));
}

} // namespace
