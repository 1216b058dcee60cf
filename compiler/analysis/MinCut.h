// Smallest weighted set of vertices that separates the source from the sink (Dinic, 1970, on the
// split graph).
#ifndef AMC_COMPILER_ANALYSIS_MINCUT_H
#define AMC_COMPILER_ANALYSIS_MINCUT_H

#include <cstdint>
#include <utility>
#include <vector>

namespace amc {

class VertexCut {
public:
  explicit VertexCut(uint32_t vertices) : vertices(vertices), heads(2 * vertices + 2, ~0u) {}

  /// What it costs to cut at `vertex`; call once for each.
  void setWeight(uint32_t vertex, uint64_t weight) { addArc(2 * vertex, 2 * vertex + 1, weight); }
  void addEdge(uint32_t from, uint32_t to) { addArc(2 * from + 1, 2 * to, unlimited); }
  void fromSource(uint32_t vertex) { addArc(2 * vertices, 2 * vertex, unlimited); }
  void toSink(uint32_t vertex) { addArc(2 * vertex + 1, 2 * vertices + 1, unlimited); }

  /// The cheapest cut; of several the one nearest the sink. Ascending.
  std::vector<uint32_t> solve();

private:
  static constexpr uint64_t unlimited = ~uint64_t(0) / 4;
  struct Arc {
    uint32_t to, next;
    uint64_t capacity;
  };
  void addArc(uint32_t from, uint32_t to, uint64_t capacity);
  bool layer();
  uint64_t push(uint32_t node, uint64_t amount);

  uint32_t vertices;
  std::vector<uint32_t> heads, level, current;
  std::vector<Arc> arcs; // arc i ^ 1 is the reverse of arc i
};

} // namespace amc

#endif
