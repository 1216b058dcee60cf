// Minimum cuts between two terminals (Dinic, 1970), for closure problems: a node on the source's
// side is "true", an arc u -> v of capacity c costs c if u is true and v is not.
#ifndef AMC_COMPILER_ANALYSIS_MAXFLOW_H
#define AMC_COMPILER_ANALYSIS_MAXFLOW_H

#include <cstdint>
#include <vector>

namespace amc {

class MaxFlow {
public:
  static constexpr uint64_t unlimited = ~uint64_t(0) / 8;

  explicit MaxFlow(uint32_t nodes) : heads(nodes + 2, ~0u), source(nodes), sink(nodes + 1) {}

  /// Returns the arc's number.
  uint32_t addArc(uint32_t from, uint32_t to, uint64_t capacity);
  uint32_t costIfTrue(uint32_t node, uint64_t cost) { return addArc(node, sink, cost); }
  uint32_t costIfFalse(uint32_t node, uint64_t cost) { return addArc(source, node, cost); }
  void makeTrue(uint32_t node) { addArc(source, node, unlimited); }
  void imply(uint32_t node, uint32_t implied) { addArc(node, implied, unlimited); }

  /// The cost of the cheapest cut: `unlimited` or more if there is none.
  uint64_t solve();
  /// After solve(): of the cheapest cuts the one with the fewest true nodes.
  bool isTrue(uint32_t node) const { return level[node] != 0; }

private:
  struct Arc {
    uint32_t to, next;
    uint64_t capacity;
  };
  bool layer();
  uint64_t augment();

  std::vector<uint32_t> heads, level, current;
  std::vector<Arc> arcs; // arc i ^ 1 is the reverse of arc i
  uint32_t source, sink;
};

} // namespace amc

#endif
