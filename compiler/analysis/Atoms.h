// The dimensions of a graph's tensors as products of atoms. Plain C++.
//
// Two dimensions that have to be cut alike are unified; where one is a product of several of the other's (a reshape of
// heads times width into heads and width), the larger atom is parted. What cannot be reconciled, 6 and 4, is fixed: it is
// never cut. Atoms are listed slowest first. Near linear: union-find with parts.
#ifndef AMC_COMPILER_ANALYSIS_ATOMS_H
#define AMC_COMPILER_ANALYSIS_ATOMS_H

#include <cstdint>
#include <vector>

namespace amc {

using AtomList = std::vector<uint32_t>;

class Atoms {
public:
  /// An atom that nothing shares yet.
  uint32_t add(int64_t size);
  /// What a list consists of: atoms that have no parts and stand for themselves. Those of size 1 are left out.
  AtomList leaves(const AtomList &list) const;
  /// Makes both lists the same. If sizes do not divide, what is left of both is fixed.
  void unify(const AtomList &a, const AtomList &b);
  int64_t size(uint32_t leaf) const { return nodes[leaf].size; }
  bool isFixed(uint32_t leaf) const { return nodes[leaf].fixed; }

private:
  struct Node {
    int64_t size;
    uint32_t alias;
    AtomList parts;
    bool fixed;
  };
  uint32_t find(uint32_t atom) const;
  void collect(uint32_t atom, AtomList &into) const;
  void part(uint32_t leaf, int64_t slow);
  void merge(uint32_t a, uint32_t b);
  mutable std::vector<Node> nodes; // aliases are shortened when they are looked up
};

} // namespace amc

#endif
