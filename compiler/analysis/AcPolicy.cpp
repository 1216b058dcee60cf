// Activation checkpointing; see AcPolicy.h. Phases: which roots leave their block, what backward
// needs directly, which roots the policy keeps, what then has to run again.
#include "compiler/analysis/AcPolicy.h"
#include "compiler/analysis/MinCut.h"
#include <algorithm>

namespace amc {
namespace {

class Decider {
public:
  Decider(const StepGraph &graph, const BlockAnalysis &blocks, const BlockFacts &facts)
      : graph(graph), blocks(blocks), facts(facts), readers(readersOfRoots(graph)),
        roots(operandRoots(graph)) {
    const size_t values = graph.values.size();
    direct.assign(values, false);
    boundary.assign(values, false);
    keep.assign(values, true);
    opsOfBlock.resize(blocks.count);
    for (uint32_t i = 0; i < graph.ops.size(); ++i)
      if (inBlock(i) && graph.ops[i].kind == OpKind::Compute)
        opsOfBlock[blocks.blockOfOp[i]].push_back(i);
    for (uint32_t root = 0; root < values; ++root)
      for (uint32_t reader : readers[root]) {
        if (!isForward(reader))
          direct[root] = true;
        else if (graph.ops[reader].kind == OpKind::Output ||
                 blocks.blockOfOp[reader] != blocks.blockOfOp[graph.values[root].producer])
          boundary[root] = true;
      }
  }

  AcDecision decide(AcPolicy policy, AcMatmuls matmuls) {
    AcDecision decision;
    if (policy != AcPolicy::None)
      for (const std::vector<uint32_t> &ops : opsOfBlock) {
        for (uint32_t op : ops)
          for (uint32_t result : graph.ops[op].results)
            keep[result] = boundary[result] ||
                           (policy != AcPolicy::Selective && facts.routing[result]) ||
                           (policy == AcPolicy::SubModules && facts.inAttention[op]);
        if (policy != AcPolicy::Selective)
          continue;
        if (matmuls == AcMatmuls::All)
          keepByCut(ops);
        else
          keepAlternating(ops);
        trace(ops, decision);
      }
    for (uint32_t op = 0; op < graph.ops.size(); ++op)
      if (isForward(op) && graph.ops[op].gatheredFor != GatheredFor::Policy)
        for (uint32_t result : graph.ops[op].results)
          keep[result] = graph.ops[op].gatheredFor == GatheredFor::Both;
    close(decision);
    if (policy == AcPolicy::Selective)
      nameExperts(decision);
    return decision;
  }

private:
  bool isForward(uint32_t op) const { return graph.ops[op].phase == OpPhase::Forward; }
  bool inBlock(uint32_t op) const { return isForward(op) && blocks.blockOfOp[op] != noIndex; }

  void keepAlternating(const std::vector<uint32_t> &ops) {
    // From the end: is a value needed directly, or by a later one that may be recomputed?
    std::vector<bool> wanted(ops.size(), false);
    for (size_t i = ops.size(); i-- > 0;) {
      const GraphOp &op = graph.ops[ops[i]];
      for (uint32_t result : op.results)
        wanted[i] =
            wanted[i] || (!boundary[result] && (direct[result] || neededToRecompute.count(result)));
      if (wanted[i] && op.keep != KeepClass::Save)
        for (uint32_t root : roots[ops[i]])
          neededToRecompute.insert(root);
    }
    bool save = true;
    for (size_t i = 0; i < ops.size(); ++i) {
      const GraphOp &op = graph.ops[ops[i]];
      if (op.keep == KeepClass::Recompute || !wanted[i])
        continue;
      bool saved = op.keep == KeepClass::Save || save;
      if (op.keep == KeepClass::Alternate)
        save = !save;
      if (saved)
        for (uint32_t result : op.results)
          keep[result] = true;
    }
  }

  void keepByCut(const std::vector<uint32_t> &ops) {
    // Vertices are the block's values; boundaries are saved anyway and take no part.
    std::vector<uint32_t> values;
    std::vector<std::pair<uint32_t, uint32_t>> vertexOf; // (value, vertex), values ascending
    for (uint32_t op : ops)
      for (uint32_t result : graph.ops[op].results)
        if (!boundary[result]) {
          vertexOf.emplace_back(result, static_cast<uint32_t>(values.size()));
          values.push_back(result);
        }
    auto find = [&](uint32_t value) {
      auto at = std::lower_bound(vertexOf.begin(), vertexOf.end(), std::make_pair(value, 0u));
      return at != vertexOf.end() && at->first == value ? at->second : noIndex;
    };
    VertexCut cut(static_cast<uint32_t>(values.size()));
    for (uint32_t index : ops) {
      const GraphOp &op = graph.ops[index];
      for (uint32_t result : op.results) {
        uint32_t vertex = find(result);
        if (vertex == noIndex)
          continue;
        cut.setWeight(vertex, graph.values[result].bytes);
        if (direct[result])
          cut.toSink(vertex);
        if (op.keep != KeepClass::Recompute) {
          cut.fromSource(vertex);
          continue; // what it is made of is not needed again
        }
        for (uint32_t root : roots[index])
          if (uint32_t from = find(root); from != noIndex)
            cut.addEdge(from, vertex);
      }
    }
    for (uint32_t vertex : cut.solve())
      keep[values[vertex]] = true;
  }

  void trace(const std::vector<uint32_t> &ops, AcDecision &decision) const {
    for (uint32_t op : ops) {
      AcDecision::TraceLine line{graph.ops[op].name, graph.ops[op].keep};
      if (std::find(decision.trace.begin(), decision.trace.end(), line) == decision.trace.end())
        decision.trace.push_back(line);
    }
  }

  void nameExperts(AcDecision &decision) const {
    std::vector<uint32_t> before(blocks.count, 0); // experts' products of the block so far
    std::vector<uint32_t> entry;                   // by place in the block
    for (uint32_t op : facts.experts) {
      uint32_t place = before[blocks.blockOfOp[op]]++;
      if (!std::binary_search(decision.recompute.begin(), decision.recompute.end(), op))
        continue;
      if (place >= entry.size())
        entry.resize(place + 1, noIndex);
      if (entry[place] == noIndex) {
        entry[place] = static_cast<uint32_t>(decision.recomputedExperts.size());
        decision.recomputedExperts.emplace_back(op, 0);
      }
      ++decision.recomputedExperts[entry[place]].second;
    }
  }

  // What is read by backward but not kept is recomputed, and what that reads in turn.
  void close(AcDecision &decision) const {
    std::vector<bool> again(graph.ops.size(), false);
    decision.saved.assign(graph.values.size(), false);
    std::vector<uint32_t> todo; // values that have to be there in backward
    for (const GraphOp &op : graph.ops)
      if (op.phase != OpPhase::Forward)
        todo.insert(todo.end(), op.operands.begin(), op.operands.end());
    while (!todo.empty()) {
      uint32_t value = todo.back();
      todo.pop_back();
      uint32_t root = graph.rootOf(value);
      const GraphValue &bytes = graph.values[root];
      if (bytes.source || !isForward(bytes.producer))
        continue;
      if (keep[root]) {
        decision.saved[root] = true;
        continue;
      }
      uint32_t producer = graph.values[value].producer;
      if (again[producer])
        continue;
      again[producer] = true;
      todo.insert(todo.end(), graph.ops[producer].operands.begin(),
                  graph.ops[producer].operands.end());
    }
    for (uint32_t op = 0; op < graph.ops.size(); ++op)
      if (again[op]) {
        decision.recompute.push_back(op);
        decision.recomputeFlops += graph.ops[op].flops;
      }
    for (uint32_t root = 0; root < graph.values.size(); ++root)
      if (decision.saved[root])
        decision.savedBytes += graph.values[root].bytes;
  }

  struct Marks {
    std::vector<bool> bits;
    void insert(uint32_t i) {
      if (i >= bits.size())
        bits.resize(i + 1, false);
      bits[i] = true;
    }
    bool count(uint32_t i) const { return i < bits.size() && bits[i]; }
  };

  const StepGraph &graph;
  const BlockAnalysis &blocks;
  const BlockFacts &facts;
  IndexLists readers, roots;
  std::vector<bool> direct;   // of roots: read by another phase
  std::vector<bool> boundary; // of roots: read by another block, outside blocks, or an output
  std::vector<bool> keep;     // of roots: lives until backward if it is read there
  std::vector<std::vector<uint32_t>> opsOfBlock;
  Marks neededToRecompute;
};

} // namespace

AcDecision decideCheckpointing(const StepGraph &graph, const BlockAnalysis &blocks,
                               const BlockFacts &facts, AcPolicy policy, AcMatmuls matmuls) {
  return Decider(graph, blocks, facts).decide(policy, matmuls);
}

} // namespace amc
