// From a step and a decision to the step that carries it out; see ApplyDecision.h. Linear in the
// size of the result.
#include "compiler/analysis/ApplyDecision.h"
#include <algorithm>

namespace amc {
namespace {

class Applier {
public:
  Applier(const StepGraph &graph, const RematDecision &decision)
      : graph(graph), decision(decision), original(graph.values.size(), noIndex),
        copy(graph.values.size(), noIndex), wanted(graph.ops.size(), false),
        overwritten(graph.values.size(), false) {
    result.graph.names = graph.names;
    result.graph.ops.reserve(graph.ops.size());
    result.graph.values.reserve(graph.values.size());
  }

  std::optional<AppliedStep> run() {
    uint32_t region = noIndex, part = noIndex;
    for (uint32_t i = 0; i < graph.ops.size(); ++i) {
      if (graph.ops[i].phase == OpPhase::Forward) {
        emit(i, false);
        continue;
      }
      if (decision.region[i] != region) {
        forget(/*all=*/true);
        firstPart = true;
      } else if (decision.part[i] != part) {
        forget(/*all=*/false);
        firstPart = false;
      }
      region = decision.region[i];
      part = decision.part[i];
      if (!demand(i))
        return std::nullopt;
      emit(i, true);
      for (uint32_t at : graph.ops[i].updated)
        overwritten[graph.rootOf(graph.ops[i].operands[at])] = true;
    }
    return std::move(result);
  }

private:
  bool drops(uint32_t op) const {
    if (graph.ops[op].gatheredFor == GatheredFor::OneUse)
      return true;
    return decision.keep[op] != Keep::Saved && !(decision.keep[op] == Keep::Late && firstPart);
  }

  // Whether `value` has to be made again: its operation is dropped, or it is a view of such bytes.
  bool isDropped(uint32_t value) const {
    const GraphValue &root = graph.values[graph.rootOf(value)];
    return !root.source && graph.ops[root.producer].phase == OpPhase::Forward &&
           drops(root.producer);
  }

  // Makes what operation `reader` reads and is not there.
  bool demand(uint32_t reader) {
    pending.clear();
    todo.assign(1, reader);
    while (!todo.empty()) {
      uint32_t op = todo.back();
      todo.pop_back();
      for (uint32_t operand : graph.ops[op].operands) {
        uint32_t producer = graph.values[operand].producer;
        if (!isDropped(operand) || copy[operand] != noIndex || wanted[producer])
          continue;
        wanted[producer] = true;
        pending.push_back(producer);
        todo.push_back(producer);
      }
    }
    std::sort(pending.begin(), pending.end());
    for (uint32_t op : pending) {
      wanted[op] = false;
      for (uint32_t operand : graph.ops[op].operands)
        if (overwritten[graph.rootOf(operand)])
          return false;
      emit(op, true);
      made.push_back(op);
    }
    return true;
  }

  void forget(bool all) {
    auto goes = [&](uint32_t op) {
      // A view goes with the bytes it shows.
      const GraphValue &root = graph.values[graph.rootOf(graph.ops[op].results[0])];
      if (!all && decision.keep[root.producer] != Keep::Twice)
        return false;
      for (uint32_t value : graph.ops[op].results)
        copy[value] = noIndex;
      return true;
    };
    made.erase(std::remove_if(made.begin(), made.end(), goes), made.end());
  }

  void emit(uint32_t index, bool afterForward) {
    const GraphOp &op = graph.ops[index];
    bool again = afterForward && op.phase == OpPhase::Forward;
    GraphOp node = op;
    node.results.clear();
    if (again)
      node.phase = OpPhase::Recompute;
    for (uint32_t &operand : node.operands)
      operand =
          afterForward && copy[operand] != noIndex ? copy[operand] : original[operand];
    bytes.clear();
    for (uint32_t value : op.results)
      bytes.push_back(graph.values[value].bytes);
    result.copies += again && op.kind == OpKind::Compute;
    uint32_t added = result.graph.addOp(std::move(node), bytes);
    result.originOf.push_back(index);
    for (size_t r = 0; r < op.results.size(); ++r) {
      uint32_t value = result.graph.ops[added].results[r];
      const GraphValue &from = graph.values[op.results[r]];
      GraphValue &to = result.graph.values[value];
      to.category = from.category;
      to.source = from.source;
      to.persistent = from.persistent;
      (again ? copy : original)[op.results[r]] = value;
    }
  }

  const StepGraph &graph;
  const RematDecision &decision;
  AppliedStep result;
  bool firstPart = true; // of the region
  std::vector<uint32_t> original, copy; // of every value: its number in the result
  std::vector<bool> wanted, overwritten;
  std::vector<uint32_t> pending, todo, made;
  std::vector<uint64_t> bytes;
};

} // namespace

std::optional<AppliedStep> applyDecision(const StepGraph &graph, const RematDecision &decision) {
  return Applier(graph, decision).run();
}

AppliedStep reorderStep(const StepGraph &graph, const std::vector<uint32_t> &order) {
  AppliedStep result;
  result.graph.names = graph.names;
  std::vector<uint32_t> renumbered(graph.values.size(), noIndex);
  for (uint32_t index : order) {
    GraphOp node = graph.ops[index];
    std::vector<uint64_t> bytes;
    for (uint32_t value : node.results)
      bytes.push_back(graph.values[value].bytes);
    node.results.clear();
    for (uint32_t &operand : node.operands)
      operand = renumbered[operand];
    uint32_t added = result.graph.addOp(std::move(node), bytes);
    result.originOf.push_back(index);
    for (size_t r = 0; r < bytes.size(); ++r) {
      uint32_t from = graph.ops[index].results[r], to = result.graph.ops[added].results[r];
      renumbered[from] = to;
      result.graph.values[to].category = graph.values[from].category;
      result.graph.values[to].source = graph.values[from].source;
      result.graph.values[to].persistent = graph.values[from].persistent;
    }
  }
  return result;
}

} // namespace amc
