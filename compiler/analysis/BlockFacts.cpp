// See BlockFacts.h. Phases: who reads what within blocks, routing, shared keys, attention around
// them, bytes that enter blocks.
#include "compiler/analysis/BlockFacts.h"
#include <algorithm>
#include <set>

namespace amc {
namespace {

class Finder {
public:
  Finder(const StepGraph &graph, const BlockAnalysis &blocks)
      : graph(graph), blocks(blocks), activation(findActivations(graph)),
        readers(readersOfRoots(graph)), roots(operandRoots(graph)) {}

  BlockFacts find() {
    facts.inAttention.assign(graph.ops.size(), false);
    facts.routing.assign(graph.values.size(), false);
    for (uint32_t op = 0; op < graph.ops.size(); ++op)
      if (block(op) != noIndex && graph.ops[op].kind == OpKind::Compute) {
        findRouting(op);
        findExperts(op);
      }
    std::vector<bool> shares(blocks.count, false);
    std::set<uint32_t> names; // of attention's operations
    for (uint32_t root = 0; root < graph.values.size(); ++root)
      if (isSharedKey(root, shares, names))
        facts.sharedKeys.push_back(root);
    facts.sharingBlocks = static_cast<uint32_t>(std::count(shares.begin(), shares.end(), true));
    for (uint32_t op = 0; op < graph.ops.size(); ++op)
      if (block(op) != noIndex && isProductOfActivations(op) && names.count(graph.ops[op].name))
        markAttention(op);
    countInputs();
    return std::move(facts);
  }

private:
  // Of forward operations in a block.
  uint32_t block(uint32_t op) const {
    return op != noIndex && graph.ops[op].phase == OpPhase::Forward ? blocks.blockOfOp[op]
                                                                    : noIndex;
  }
  bool isCheap(uint32_t op) const { return graph.ops[op].keep == KeepClass::Recompute; }
  uint32_t producer(uint32_t root) const { return graph.values[root].producer; }

  bool isProductOfActivations(uint32_t op) const {
    if (graph.ops[op].kind != OpKind::Compute || graph.ops[op].keep != KeepClass::Save)
      return false;
    uint32_t count = 0;
    for (uint32_t operand : graph.ops[op].operands)
      count += activation[operand];
    return count >= 2;
  }

  // Calls `body` with every operation of block `in` that is not cheap and from which `root` is
  // reached; `cheap` with those in between.
  template <class Heavy, class Cheap>
  void walkBack(uint32_t root, uint32_t in, Heavy heavy, Cheap cheap) const {
    std::set<uint32_t> seen;
    std::vector<uint32_t> todo{root};
    while (!todo.empty()) {
      uint32_t op = producer(todo.back());
      todo.pop_back();
      if (block(op) != in || graph.ops[op].kind != OpKind::Compute || !seen.insert(op).second)
        continue;
      if (!isCheap(op)) {
        heavy(op);
        continue;
      }
      cheap(op);
      for (uint32_t operand : roots[op])
        if (activation[operand])
          todo.push_back(operand);
    }
  }

  // The operations of block `in` that are not cheap and that `root` reaches, each with the operand.
  template <class Heavy, class Cheap>
  void walkForward(uint32_t root, uint32_t in, Heavy heavy, Cheap cheap) const {
    std::set<uint32_t> seen;
    std::vector<uint32_t> todo{root};
    while (!todo.empty()) {
      uint32_t value = todo.back();
      todo.pop_back();
      for (uint32_t op : readers[value]) {
        if (block(op) != in || graph.ops[op].kind != OpKind::Compute)
          continue;
        if (!isCheap(op)) {
          heavy(op, value);
        } else if (seen.insert(op).second) {
          cheap(op);
          todo.insert(todo.end(), graph.ops[op].results.begin(), graph.ops[op].results.end());
        }
      }
    }
  }

  void findRouting(uint32_t op) {
    bool decides = graph.ops[op].keep == KeepClass::Save;
    bool integer = false;
    for (uint32_t result : graph.ops[op].results)
      integer = integer || graph.values[result].integer;
    if (!decides || !integer)
      return;
    for (uint32_t operand : roots[op])
      if (activation[operand]) {
        facts.hasRouting = true;
        walkBack(
            operand, block(op),
            [&](uint32_t router) {
              for (uint32_t result : graph.ops[router].results)
                facts.routing[result] = true;
            },
            [](uint32_t) {});
      }
    for (uint32_t result : graph.ops[op].results)
      facts.routing[result] = true;
  }

  void findExperts(uint32_t op) {
    if (graph.ops[op].keep != KeepClass::Alternate)
      return;
    for (uint32_t operand : roots[op])
      if (graph.values[operand].integer) {
        facts.experts.push_back(op);
        return;
      }
  }

  // (operation's name, operand) of the products of activations of one block that `root` reaches.
  std::set<std::pair<uint32_t, uint32_t>> attentionOperands(uint32_t root, uint32_t in) const {
    std::set<std::pair<uint32_t, uint32_t>> found;
    walkForward(
        root, in,
        [&](uint32_t op, uint32_t value) {
          if (!isProductOfActivations(op))
            return;
          for (uint32_t at = 0; at < graph.ops[op].operands.size(); ++at)
            if (graph.rootOf(graph.ops[op].operands[at]) == value)
              found.insert({graph.ops[op].name, at});
        },
        [](uint32_t) {});
    return found;
  }

  bool isSharedKey(uint32_t root, std::vector<bool> &shares, std::set<uint32_t> &names) const {
    const uint32_t owner = graph.rootOf(root) == root ? block(producer(root)) : noIndex;
    if (owner == noIndex || !activation[root])
      return false;
    std::set<uint32_t> others;
    for (uint32_t reader : readers[root])
      if (block(reader) != noIndex && block(reader) != owner)
        others.insert(block(reader));
    if (others.empty())
      return false;
    bool projected = false;
    walkBack(
        root, owner, [&](uint32_t) { projected = true; }, [](uint32_t) {});
    auto own =
        projected ? attentionOperands(root, owner) : std::set<std::pair<uint32_t, uint32_t>>();
    bool shared = false;
    for (uint32_t other : others)
      for (const auto &operand : attentionOperands(root, other))
        if (own.count(operand)) {
          shared = shares[other] = true;
          names.insert(operand.first);
        }
    return shared;
  }

  void markAttention(uint32_t attention) {
    auto mark = [&](uint32_t op) { facts.inAttention[op] = true; };
    mark(attention);
    for (uint32_t operand : roots[attention])
      if (activation[operand])
        walkBack(operand, block(attention), mark, mark);
    for (uint32_t result : graph.ops[attention].results)
      walkForward(
          result, block(attention), [&](uint32_t op, uint32_t) { mark(op); }, mark);
  }

  void countInputs() {
    facts.inputBytes.assign(blocks.count, 0);
    std::vector<uint32_t> countedFor(graph.values.size(), noIndex);
    for (uint32_t op = 0; op < graph.ops.size(); ++op)
      if (block(op) != noIndex)
        for (uint32_t root : roots[op])
          if (!graph.values[root].source && block(producer(root)) != block(op) &&
              countedFor[root] != block(op)) {
            countedFor[root] = block(op);
            facts.inputBytes[block(op)] += graph.values[root].bytes;
          }
  }

  const StepGraph &graph;
  const BlockAnalysis &blocks;
  std::vector<bool> activation; // of values
  IndexLists readers, roots;
  BlockFacts facts;
};

} // namespace

BlockFacts findBlockFacts(const StepGraph &graph, const BlockAnalysis &blocks) {
  return Finder(graph, blocks).find();
}

} // namespace amc
