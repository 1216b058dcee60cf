// A training step as plain numbers: what the memory decisions (blocks, checkpointing, order,
// lifetimes, offsets) look at. Knows no MLIR, so that deciding is unit-tested without it;
// gatherStep (GatherStep.h) fills it from a train.step. Operations and values are indices;
// operations stand in program order, which respects dependences.
#ifndef AMC_COMPILER_ANALYSIS_STEPGRAPH_H
#define AMC_COMPILER_ANALYSIS_STEPGRAPH_H

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace amc {

inline constexpr uint32_t noIndex = ~0u;

enum class OpKind : uint8_t {
  Source,  // brings a value into the step: no instruction
  Compute, // one instruction; updates operands in place if `updated` is not empty
  View,    // result 0 is the bytes of operand 0: no instruction
  Wait,    // one instruction; result 0 is the bytes of operand 0, written by a collective that reads operand 1 until now
  Output, // names values that leave the step: they live to the end of their section; no instruction
  MicroBatchEnd, // what stands before runs once per micro-batch; no instruction
};
enum class OpPhase : uint8_t { Forward, Backward, Recompute, Optimizer };
enum class KeepClass : uint8_t { Recompute, Save, Alternate };
// Numbered like amc.plan.Category.
enum class BufferCategory : uint8_t {
  Parameter = 1,
  Gradient,
  OptimizerState,
  Activation,
  Workspace,
  Input,
  Constant
};

// Whether a gathered parameter lives until backward: as the policy says, or whatever it says.
enum class GatheredFor : uint8_t { Policy, OneUse, Both };

// What runs in one go, `times` times one after the other; see train::Work.
struct GraphWork {
  uint64_t flops = 0, bytes = 0, times = 1, percent = 100;
};

struct GraphOp {
  OpKind kind = OpKind::Compute;
  OpPhase phase = OpPhase::Forward;
  KeepClass keep = KeepClass::Recompute;
  uint32_t name = 0; // index into StepGraph::names
  uint64_t signature =
      0; // equal for operations that do the same on the same types, whatever they are called
  uint64_t workspaceBytes = 0;
  uint64_t flops = 0;
  uint64_t bytesMoved = 0;      // read and written by one execution
  std::vector<GraphWork> parts; // of one execution; empty: `flops` and `bytesMoved` are one part
  uint64_t bytesSent = 0;       // by this rank in one execution
  uint64_t span = 0;            // of a collective: from its first rank to its last; 0: none
  uint64_t steps = 0;           // of one that computes in steps, beside what it sends; 0: it sends and nothing else
  GatheredFor gatheredFor = GatheredFor::Policy;
  // Of forward: run again, it becomes part of the kernel that reads it, which moves so many bytes more (JoinedRecomputation.h).
  bool joinsReaders = false;
  uint64_t joinedBytes = 0;
  std::vector<uint32_t> operands, results; // values
  std::vector<uint32_t> updated;           // positions in `operands` that are overwritten
  std::vector<uint32_t> reusable;          // positions whose buffer a result may take over
  std::vector<uint32_t> taken; // where that is decided: for each result the position, or noIndex; else empty
};

struct GraphValue {
  uint32_t producer = noIndex;
  uint64_t bytes = 0;
  uint32_t root = noIndex; // the value whose bytes these are: itself, unless made by a view
  BufferCategory category = BufferCategory::Activation; // of roots
  bool source = false;                                  // made by a source operation
  bool integer = false;                                 // of integers: indices, decisions
  bool persistent = false; // parameters, states, constants: the buffer lives for ever
};

struct StepGraph {
  std::vector<GraphOp> ops;
  std::vector<GraphValue> values;
  std::vector<std::string> names;

  /// Adds an operation with fresh results of the given byte counts and returns its index. Roots and
  /// categories follow from the kind.
  uint32_t addOp(GraphOp op, const std::vector<uint64_t> &resultBytes);

  uint32_t rootOf(uint32_t value) const { return values[value].root; }
  bool isInstruction(uint32_t op) const { return ops[op].kind == OpKind::Compute || ops[op].kind == OpKind::Wait; }
  /// The index of the first operation of kind MicroBatchEnd, or the number of operations.
  uint32_t microBatchEnd() const;
};

/// Lists of small integers by index, in one allocation: the readers of every value, for instance.
class IndexLists {
public:
  IndexLists() = default;
  /// `pairs` are (list, element); elements keep their order within a list.
  IndexLists(uint32_t lists, const std::vector<std::pair<uint32_t, uint32_t>> &pairs);
  const uint32_t *begin(uint32_t list) const { return elements.data() + starts[list]; }
  const uint32_t *end(uint32_t list) const { return elements.data() + starts[list + 1]; }
  uint32_t size(uint32_t list) const { return starts[list + 1] - starts[list]; }

  struct Range {
    const uint32_t *first, *last;
    const uint32_t *begin() const { return first; }
    const uint32_t *end() const { return last; }
    bool empty() const { return first == last; }
    uint32_t size() const { return static_cast<uint32_t>(last - first); }
    uint32_t operator[](uint32_t i) const { return first[i]; }
  };
  Range operator[](uint32_t list) const { return {begin(list), end(list)}; }

private:
  std::vector<uint32_t> starts{0}, elements;
};

/// For every root value: the operations that read it, directly or through views, in program order,
/// each once. View operations themselves are not readers.
IndexLists readersOfRoots(const StepGraph &graph);

/// For every operation: the roots of its operands, each once.
IndexLists operandRoots(const StepGraph &graph);

/// The order in which operations of the optimizer's phase, and those that accumulate gradients, run as
/// soon as they can: behind what they read and, where they overwrite, behind its readers, but on their
/// side of the micro-batch's end.
/// The order given where no update can run before backward ends (all wait for the gradients' norm).
std::vector<uint32_t> updatesWhenReady(const StepGraph &graph);

} // namespace amc

#endif
