// Backward's kernels first, then forward operations from the last to the first; see JoinedRecomputation.h.
#include "compiler/analysis/JoinedRecomputation.h"
#include "compiler/dialect/OpSupport.h"
#include <algorithm>

using namespace mlir;
using namespace amc::train;

namespace amc {
namespace {

class Marker {
public:
  explicit Marker(GatheredStep &step)
      : step(step), graph(step.graph), roots(operandRoots(graph)), readers(readersOfRoots(graph)),
        kernelOf(graph.ops.size(), noIndex), wanted(graph.ops.size(), false) {}

  void run() {
    findKernels();
    for (uint32_t op = static_cast<uint32_t>(graph.ops.size()); op-- > 0;)
      if (graph.ops[op].phase == OpPhase::Forward && graph.ops[op].kind == OpKind::Compute)
        consider(op);
  }

private:
  struct Kernel {
    std::pair<int64_t, int64_t> domain;
    KernelRules rules;
    size_t operations = 0;
    DenseSet<uint32_t> reads; // roots
    DenseSet<Value> inPlace;  // what is read element by element
  };

  // Nothing if the operation is no part of a kernel of groups.
  std::optional<FusionRule> ruleOf(uint32_t op) const {
    auto fusable = dyn_cast<FusableOpInterface>(step.ops[op]);
    if (!fusable || graph.ops[op].kind != OpKind::Compute)
      return std::nullopt;
    FusionRule rule = fusable.getFusionRule();
    return rule.domain ? std::optional(std::move(rule)) : std::nullopt;
  }

  // Runs of neighbours in backward, each related to those before it, as FuseElementwise joins them.
  void findKernels() {
    bool open = false;
    for (uint32_t op = 0; op < graph.ops.size(); ++op) {
      const GraphOp &node = graph.ops[op];
      if (node.kind == OpKind::View || node.kind == OpKind::Source || node.kind == OpKind::Output || isFusedConstant(step.ops[op]))
        continue;
      std::optional<FusionRule> rule = node.phase == OpPhase::Backward ? ruleOf(op) : std::nullopt;
      if (!rule) {
        open = false;
        continue;
      }
      if (!open || !extends(op, *rule)) {
        kernels.emplace_back();
        kernels.back().domain = rowsAndColumns(*rule);
        kernels.back().rules.add(*rule);
        open = true;
      }
      include(op, *rule, static_cast<uint32_t>(kernels.size() - 1));
    }
  }

  bool extends(uint32_t op, const FusionRule &rule) {
    Kernel &kernel = kernels.back();
    const auto number = static_cast<uint32_t>(kernels.size() - 1);
    if (kernel.operations == maxGroupOperations || kernel.domain != rowsAndColumns(rule))
      return false;
    bool related = false;
    for (OpOperand &operand : step.ops[op]->getOpOperands()) {
      bool inside = kernelOf[producerOf(operand.get())] == number;
      if (inside && !isElement(rule, operand))
        return false;
      related = related || inside || (readsInPlace(rule, operand) && kernel.inPlace.contains(operand.get()));
    }
    return related && !kernel.rules.add(rule);
  }

  void include(uint32_t op, const FusionRule &rule, uint32_t kernel) {
    kernelOf[op] = kernel;
    ++kernels[kernel].operations;
    kernels[kernel].reads.insert(roots.begin(op), roots.end(op));
    for (OpOperand &operand : step.ops[op]->getOpOperands())
      if (readsInPlace(rule, operand))
        kernels[kernel].inPlace.insert(operand.get());
  }

  uint32_t rootOf(Value value) const { return graph.rootOf(step.index(value)); }
  // A constant of the kernels that read it.
  bool isConstant(uint32_t root) const {
    uint32_t producer = graph.values[root].producer;
    return producer != noIndex && isFusedConstant(step.ops[producer]);
  }
  uint32_t producerOf(Value value) const { return graph.values[rootOf(value)].producer; }

  // Whether what makes an operand makes it element by element, and it is read so.
  bool isElement(const FusionRule &reader, OpOperand &operand) const {
    auto result = cast<OpResult>(step.values[rootOf(operand.get())]);
    std::optional<FusionRule> maker = ruleOf(producerOf(operand.get()));
    return maker && maker->results[result.getResultNumber()] == Makes::Element && readsInPlace(reader, operand);
  }

  void consider(uint32_t op) {
    GraphOp &node = graph.ops[op];
    std::optional<FusionRule> rule = ruleOf(op);
    uint32_t kernel = noIndex; // that of all readers
    bool joins = rule.has_value();
    for (uint32_t result : node.results)
      for (uint32_t reader : readers[result]) {
        const bool forward = graph.ops[reader].phase == OpPhase::Forward;
        if (forward && !wanted[reader])
          continue; // it never runs again
        wanted[op] = true;
        if (kernelOf[reader] != noIndex) {
          joins = joins && (kernel == noIndex || kernelOf[reader] == kernel) && readsElements(reader, result);
          kernel = kernelOf[reader];
        } else {
          // What is run again for another kernel's sake reads the operands where this one would have read the result.
          std::optional<FusionRule> other = forward ? ruleOf(reader) : std::nullopt;
          joins = joins && other && rowsAndColumns(*other) == rowsAndColumns(*rule);
        }
      }
    if (!joins || kernel == noIndex)
      return;
    Kernel &into = kernels[kernel];
    if (into.operations == maxGroupOperations || into.domain != rowsAndColumns(*rule) || into.rules.add(*rule))
      return;
    uint64_t more = 0, less = 0;
    for (uint32_t root : roots[op])
      more += isConstant(root) ? 0 : into.reads.contains(root) ? 0 : graph.values[root].bytes;
    for (uint32_t result : node.results)
      less += into.reads.contains(result) ? graph.values[result].bytes : 0;
    node.joinsReaders = true;
    node.joinedBytes = more - std::min(more, less);
    include(op, *rule, kernel);
  }

  bool readsElements(uint32_t reader, uint32_t root) const {
    std::optional<FusionRule> rule = ruleOf(reader);
    return rule && llvm::all_of(step.ops[reader]->getOpOperands(), [&](OpOperand &operand) {
      return rootOf(operand.get()) != root || isElement(*rule, operand);
    });
  }

  GatheredStep &step;
  StepGraph &graph;
  IndexLists roots, readers;
  std::vector<Kernel> kernels;
  std::vector<uint32_t> kernelOf; // of operations of backward, and of forward operations that join
  std::vector<bool> wanted;       // of forward operations: backward may need them again
};

} // namespace

void markJoinedRecomputation(GatheredStep &step) { Marker(step).run(); }

} // namespace amc
