// Construction and simple queries of StepGraph.
#include "compiler/analysis/StepGraph.h"
#include <cassert>

namespace amc {

uint32_t StepGraph::addOp(GraphOp op, const std::vector<uint64_t> &resultBytes) {
  uint32_t index = static_cast<uint32_t>(ops.size());
  assert(op.results.empty() && "results are made here");
  for (uint64_t bytes : resultBytes) {
    GraphValue value;
    value.producer = index;
    value.bytes = bytes;
    value.root = static_cast<uint32_t>(values.size());
    value.source = op.kind == OpKind::Source;
    if (op.kind == OpKind::View)
      value.root = values[op.operands[0]].root;
    op.results.push_back(static_cast<uint32_t>(values.size()));
    values.push_back(value);
  }
  ops.push_back(std::move(op));
  return index;
}

uint32_t StepGraph::microBatchEnd() const {
  for (uint32_t i = 0; i < ops.size(); ++i)
    if (ops[i].kind == OpKind::MicroBatchEnd)
      return i;
  return static_cast<uint32_t>(ops.size());
}

IndexLists::IndexLists(uint32_t lists, const std::vector<std::pair<uint32_t, uint32_t>> &pairs) {
  starts.assign(lists + 1, 0);
  for (auto [list, element] : pairs)
    ++starts[list + 1];
  for (uint32_t i = 0; i < lists; ++i)
    starts[i + 1] += starts[i];
  elements.resize(pairs.size());
  std::vector<uint32_t> fill(starts.begin(), starts.end() - 1);
  for (auto [list, element] : pairs)
    elements[fill[list]++] = element;
}

namespace {

// Calls `body` with every operation and each root that its operands have, once.
template <class F> void forEachRoot(const StepGraph &graph, F body) {
  std::vector<uint32_t> lastReader(graph.values.size(), noIndex);
  for (uint32_t i = 0; i < graph.ops.size(); ++i)
    for (uint32_t operand : graph.ops[i].operands) {
      uint32_t root = graph.rootOf(operand);
      if (lastReader[root] == i)
        continue;
      lastReader[root] = i;
      body(i, root);
    }
}

} // namespace

IndexLists readersOfRoots(const StepGraph &graph) {
  std::vector<std::pair<uint32_t, uint32_t>> pairs;
  forEachRoot(graph, [&](uint32_t op, uint32_t root) {
    if (graph.ops[op].kind != OpKind::View)
      pairs.emplace_back(root, op);
  });
  return IndexLists(static_cast<uint32_t>(graph.values.size()), pairs);
}

IndexLists operandRoots(const StepGraph &graph) {
  std::vector<std::pair<uint32_t, uint32_t>> pairs;
  forEachRoot(graph, [&](uint32_t op, uint32_t root) { pairs.emplace_back(op, root); });
  return IndexLists(static_cast<uint32_t>(graph.ops.size()), pairs);
}

} // namespace amc
