// Construction and simple queries of StepGraph.
#include "compiler/analysis/StepGraph.h"
#include <algorithm>
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
    if (op.kind == OpKind::View || op.kind == OpKind::Wait)
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

std::vector<uint32_t> updatesWhenReady(const StepGraph &graph) {
  const uint32_t n = static_cast<uint32_t>(graph.ops.size());
  uint32_t lastForward = 0, lastBackward = 0;
  for (uint32_t i = 0; i < n; ++i)
    if (graph.ops[i].phase == OpPhase::Backward)
      lastBackward = i;
    else if (graph.ops[i].phase == OpPhase::Forward && graph.ops[i].kind == OpKind::Compute)
      lastForward = i;
  // What the optimizer brings in stands in front of backward then. Of backward's operations those move
  // that add to the gradients of other micro-batches: nothing reads what they added until it ends.
  auto moves = [&](uint32_t i) {
    const GraphOp &op = graph.ops[i];
    return i > lastForward &&
           (op.kind == OpKind::Source ||
            (op.kind == OpKind::Compute && (op.phase == OpPhase::Optimizer || !op.updated.empty())));
  };
  // Where each operation stands now: itself, or the operation that one which moves follows.
  std::vector<uint32_t> place(n), lastReader(graph.values.size(), 0), lastUpdate(graph.values.size(), 0);
  std::vector<std::vector<uint32_t>> behind(n);
  const uint32_t sectionEnd = graph.microBatchEnd();
  bool early = false;
  for (uint32_t i = 0; i < n; ++i) {
    const GraphOp &op = graph.ops[i];
    place[i] = i;
    if (moves(i)) {
      uint32_t after =
          graph.ops[i].kind == OpKind::Compute && i > sectionEnd ? sectionEnd : lastForward;
      for (uint32_t operand : op.operands)
        after = std::max({after, place[graph.values[operand].producer], lastUpdate[graph.rootOf(operand)]});
      for (uint32_t at : op.updated)
        after = std::max(after, lastReader[graph.rootOf(op.operands[at])]);
      early = early || (!op.updated.empty() && after < lastBackward);
      place[i] = after;
      behind[after].push_back(i);
    }
    for (uint32_t operand : op.operands)
      lastReader[graph.rootOf(operand)] = std::max(lastReader[graph.rootOf(operand)], place[i]);
    for (uint32_t at : op.updated)
      lastUpdate[graph.rootOf(op.operands[at])] = place[i];
  }
  std::vector<uint32_t> order;
  order.reserve(n);
  for (uint32_t i = 0; i < n; ++i) {
    if (!early || !moves(i))
      order.push_back(i);
    if (early && !moves(i))
      order.insert(order.end(), behind[i].begin(), behind[i].end());
  }
  return order;
}

} // namespace amc
