// Dinic's algorithm; graphs here are one block each, tens to a few hundred vertices, so recursion
// depth is small.
#include "compiler/analysis/MinCut.h"
#include <algorithm>

namespace amc {

void VertexCut::addArc(uint32_t from, uint32_t to, uint64_t capacity) {
  arcs.push_back({to, heads[from], capacity});
  heads[from] = static_cast<uint32_t>(arcs.size() - 1);
  arcs.push_back({from, heads[to], 0});
  heads[to] = static_cast<uint32_t>(arcs.size() - 1);
}

bool VertexCut::layer() {
  level.assign(heads.size(), ~0u);
  std::vector<uint32_t> queue{2 * vertices};
  level[2 * vertices] = 0;
  for (size_t i = 0; i < queue.size(); ++i)
    for (uint32_t a = heads[queue[i]]; a != ~0u; a = arcs[a].next)
      if (arcs[a].capacity > 0 && level[arcs[a].to] == ~0u) {
        level[arcs[a].to] = level[queue[i]] + 1;
        queue.push_back(arcs[a].to);
      }
  return level[2 * vertices + 1] != ~0u;
}

uint64_t VertexCut::push(uint32_t node, uint64_t amount) {
  if (node == 2 * vertices + 1)
    return amount;
  for (uint32_t &a = current[node]; a != ~0u; a = arcs[a].next) {
    if (arcs[a].capacity == 0 || level[arcs[a].to] != level[node] + 1)
      continue;
    uint64_t pushed = push(arcs[a].to, std::min(amount, arcs[a].capacity));
    if (pushed == 0)
      continue;
    arcs[a].capacity -= pushed;
    arcs[a ^ 1].capacity += pushed;
    return pushed;
  }
  return 0;
}

std::vector<uint32_t> VertexCut::solve() {
  while (layer()) {
    current = heads;
    while (push(2 * vertices, unlimited) > 0) {
    }
  }
  // Nodes from which the sink can still be reached, found backwards along arcs with room left.
  std::vector<bool> reaches(heads.size(), false);
  std::vector<uint32_t> queue{2 * vertices + 1};
  reaches[2 * vertices + 1] = true;
  for (size_t i = 0; i < queue.size(); ++i)
    for (uint32_t a = heads[queue[i]]; a != ~0u; a = arcs[a].next)
      if (arcs[a ^ 1].capacity > 0 && !reaches[arcs[a].to]) {
        reaches[arcs[a].to] = true;
        queue.push_back(arcs[a].to);
      }
  std::vector<uint32_t> cut;
  for (uint32_t v = 0; v < vertices; ++v)
    if (!reaches[2 * v] && reaches[2 * v + 1])
      cut.push_back(v);
  return cut;
}

} // namespace amc
