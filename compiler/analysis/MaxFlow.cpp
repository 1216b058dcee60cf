// Dinic's algorithm with an explicit path, so that depth is no limit; see MaxFlow.h.
#include "compiler/analysis/MaxFlow.h"
#include <algorithm>

namespace amc {

uint32_t MaxFlow::addArc(uint32_t from, uint32_t to, uint64_t capacity) {
  uint32_t index = static_cast<uint32_t>(arcs.size());
  arcs.push_back({to, heads[from], capacity});
  heads[from] = index;
  arcs.push_back({from, heads[to], 0});
  heads[to] = index + 1;
  return index;
}

bool MaxFlow::layer() {
  level.assign(heads.size(), 0);
  std::vector<uint32_t> queue{source};
  level[source] = 1;
  for (size_t i = 0; i < queue.size(); ++i)
    for (uint32_t arc = heads[queue[i]]; arc != ~0u; arc = arcs[arc].next)
      if (arcs[arc].capacity > 0 && level[arcs[arc].to] == 0) {
        level[arcs[arc].to] = level[queue[i]] + 1;
        queue.push_back(arcs[arc].to);
      }
  return level[sink] != 0;
}

uint64_t MaxFlow::augment() {
  std::vector<uint32_t> path; // arcs
  uint64_t sum = 0;
  uint32_t node = source;
  while (true) {
    if (node == sink) {
      uint64_t amount = unlimited;
      for (uint32_t arc : path)
        amount = std::min(amount, arcs[arc].capacity);
      size_t first = path.size(); // where the path breaks
      for (size_t i = path.size(); i-- > 0;) {
        arcs[path[i]].capacity -= amount;
        arcs[path[i] ^ 1].capacity += amount;
        if (arcs[path[i]].capacity == 0)
          first = i;
      }
      sum += amount;
      if (sum >= unlimited)
        return sum;
      node = arcs[path[first] ^ 1].to;
      path.resize(first);
      continue;
    }
    uint32_t &arc = current[node];
    while (arc != ~0u &&
           (arcs[arc].capacity == 0 || level[arcs[arc].to] != level[node] + 1))
      arc = arcs[arc].next;
    if (arc != ~0u) {
      path.push_back(arc);
      node = arcs[arc].to;
      continue;
    }
    if (path.empty())
      return sum;
    level[node] = ~0u; // a dead end
    node = arcs[path.back() ^ 1].to;
    path.pop_back();
  }
}

uint64_t MaxFlow::solve() {
  uint64_t flow = 0;
  while (flow < unlimited && layer()) {
    current = heads;
    flow += augment();
  }
  return flow;
}

} // namespace amc
