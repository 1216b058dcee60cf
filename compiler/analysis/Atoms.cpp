#include "compiler/analysis/Atoms.h"

namespace amc {

uint32_t Atoms::add(int64_t size) {
  auto number = static_cast<uint32_t>(nodes.size());
  nodes.push_back({size, number, {}, false});
  return number;
}

uint32_t Atoms::find(uint32_t atom) const {
  while (nodes[atom].alias != atom)
    atom = nodes[atom].alias = nodes[nodes[atom].alias].alias;
  return atom;
}

void Atoms::collect(uint32_t atom, AtomList &into) const {
  atom = find(atom);
  if (nodes[atom].parts.empty()) {
    if (nodes[atom].size != 1)
      into.push_back(atom);
    return;
  }
  for (uint32_t part : nodes[atom].parts)
    collect(part, into);
}

AtomList Atoms::leaves(const AtomList &list) const {
  AtomList result;
  for (uint32_t atom : list)
    collect(atom, result);
  return result;
}

void Atoms::part(uint32_t leaf, int64_t slow) {
  uint32_t first = add(slow), second = add(nodes[leaf].size / slow);
  nodes[first].fixed = nodes[second].fixed = nodes[leaf].fixed;
  nodes[leaf].parts = {first, second};
}

void Atoms::merge(uint32_t a, uint32_t b) {
  nodes[a].fixed = nodes[a].fixed || nodes[b].fixed;
  nodes[b].alias = a;
}

void Atoms::unify(const AtomList &a, const AtomList &b) {
  // What is still to be matched, the next at the end; parting an atom may part others that stand further on.
  AtomList left(a.rbegin(), a.rend()), right(b.rbegin(), b.rend());
  auto next = [&](AtomList &list) -> int64_t {
    while (!list.empty()) {
      AtomList now = leaves({list.back()});
      list.pop_back();
      if (now.empty())
        continue;
      list.insert(list.end(), now.rbegin(), now.rend());
      return list.back();
    }
    return -1;
  };
  while (true) {
    int64_t x = next(left), y = next(right);
    if (x < 0 || y < 0)
      break;
    auto p = static_cast<uint32_t>(x), q = static_cast<uint32_t>(y);
    if (p == q || nodes[p].size == nodes[q].size) {
      if (p != q)
        merge(p, q);
      left.pop_back();
      right.pop_back();
    } else if (nodes[p].size > nodes[q].size && nodes[q].size > 0 && nodes[p].size % nodes[q].size == 0) {
      part(p, nodes[q].size);
    } else if (nodes[q].size > nodes[p].size && nodes[p].size > 0 && nodes[q].size % nodes[p].size == 0) {
      part(q, nodes[p].size);
    } else {
      break;
    }
  }
  for (const AtomList *list : {&left, &right})
    for (uint32_t leaf : leaves(*list))
      nodes[leaf].fixed = true;
}

} // namespace amc
