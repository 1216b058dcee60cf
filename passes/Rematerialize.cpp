// Activation checkpointing: decides which forward values live until backward
// (compiler/analysis/Blocks and AcPolicy, which know no MLIR) and writes the decision: copies of
// the forward operations to run again, each just before its first reader, and attributes. Copies
// are exact clones and no gradient is added in another order, so that every policy gives the same
// bits. Schedule may move the copies; it never has to.
#include "compiler/analysis/AcPolicy.h"
#include "compiler/analysis/GatherStep.h"
#include "compiler/dialect/StepSupport.h"
#include "mlir/IR/IRMapping.h"
#include "passes/Passes.h"
#include "llvm/ADT/StringSwitch.h"

namespace amc {
#define GEN_PASS_DEF_REMATERIALIZE
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

struct Request {
  AcPolicy policy;
  AcMatmuls matmuls;
};

void remarkOnBlocks(StepOp step, const BlockAnalysis &blocks) {
  switch (blocks.found) {
  case BlockAnalysis::Found::Repeated:
    return;
  case BlockAnalysis::Found::IgnoringLongLived:
    step.emitRemark("checkpointing: the layers share ")
        << blocks.ignoredValues << " activations that outlive them; these are saved, and "
        << blocks.count << " blocks between them are checkpointed";
    return;
  case BlockAnalysis::Found::Segments:
    step.emitRemark(
        "checkpointing: no block repeats in this model; its forward pass is split into ")
        << blocks.count + 1
        << " segments where the fewest bytes are alive, and all but the last are checkpointed";
    return;
  case BlockAnalysis::Found::Nothing:
    step.emitRemark(
        "checkpointing: no block repeats in this model and it is too small to be split; everything "
        "that backward reads is saved");
    return;
  }
}

void printTrace(const StepGraph &graph, ArrayRef<AcDecision::TraceLine> lines) {
  for (const AcDecision::TraceLine &line : lines) {
    StringRef what = line.keep == KeepClass::Save ? "SAVE"
                     : line.keep == KeepClass::Recompute
                         ? "RECOMPUTE"
                         : "ALTERNATE (save/recompute every other call)";
    llvm::errs() << "[selective-ac] " << graph.names[line.name] << " -> " << what << "\n";
  }
}

/// For each operation to run again, the operation before which its copy goes: the first that reads
/// it.
std::vector<uint32_t> firstReaders(const StepGraph &graph, const AcDecision &decision) {
  std::vector<uint32_t> first(graph.ops.size(), noIndex), valueFirst(graph.values.size(), noIndex);
  std::vector<bool> again(graph.ops.size(), false);
  for (uint32_t op : decision.recompute)
    again[op] = true;
  for (uint32_t op = static_cast<uint32_t>(graph.ops.size()); op-- > 0;) {
    for (uint32_t result : graph.ops[op].results)
      if (!decision.saved[graph.rootOf(result)])
        first[op] = std::min(first[op], valueFirst[result]);
    bool forward = graph.ops[op].phase == OpPhase::Forward;
    if (forward && !again[op])
      continue;
    uint32_t at = forward ? first[op] : op;
    for (uint32_t operand : graph.ops[op].operands)
      valueFirst[operand] = std::min(valueFirst[operand], at);
  }
  return first;
}

void write(StepOp step, GatheredStep &gathered, const BlockAnalysis &blocks,
           const AcDecision &decision, StringRef policy) {
  const StepGraph &graph = gathered.graph;
  OpBuilder b(step.getContext());
  for (uint32_t op = 0; op < graph.ops.size(); ++op) {
    if (blocks.blockOfOp[op] != noIndex)
      gathered.ops[op]->setAttr("train.block", b.getI64IntegerAttr(blocks.blockOfOp[op]));
    for (uint32_t result : graph.ops[op].results)
      if (decision.saved[result])
        gathered.ops[op]->setAttr("train.saved", b.getUnitAttr());
  }
  std::vector<uint32_t> first = firstReaders(graph, decision);
  IRMapping copies;
  for (uint32_t op : decision.recompute) {
    b.setInsertionPoint(gathered.ops[first[op]]);
    Operation *copy = b.clone(*gathered.ops[op], copies);
    copy->removeAttr("train.saved");
    setPhase(copy, Phase::Recompute);
    // A result that is saved is read from there, although the copy makes it too.
    for (uint32_t result : graph.ops[op].results)
      if (decision.saved[graph.rootOf(result)])
        copies.erase(gathered.values[result]);
  }
  for (uint32_t op = 0; op < graph.ops.size(); ++op)
    if (graph.ops[op].phase != OpPhase::Forward)
      for (OpOperand &operand : gathered.ops[op]->getOpOperands())
        operand.set(copies.lookupOrDefault(operand.get()));
  step->setAttr("train.ac_policy", b.getStringAttr(policy));
  step->setAttr("train.saved_bytes",
                b.getI64IntegerAttr(static_cast<int64_t>(decision.savedBytes)));
  step->setAttr("train.recompute_flops",
                b.getI64IntegerAttr(static_cast<int64_t>(decision.recomputeFlops)));
  step->setAttr("train.blocks", b.getI64IntegerAttr(blocks.count));
}

struct RematerializePass : amc::impl::RematerializeBase<RematerializePass> {
  using RematerializeBase::RematerializeBase;

  FailureOr<Request> parseOptions() {
    auto known = llvm::StringSwitch<std::optional<AcPolicy>>(policy)
                     .Case("none", AcPolicy::None)
                     .Case("full", AcPolicy::Full)
                     .Case("selective", AcPolicy::Selective)
                     .Default(std::nullopt);
    auto products = llvm::StringSwitch<std::optional<AcMatmuls>>(matmuls)
                        .Case("alternate", AcMatmuls::Alternate)
                        .Case("all", AcMatmuls::All)
                        .Default(std::nullopt);
    if (!known)
      getOperation().emitError("checkpointing policy is \"" + policy +
                               "\", should be none, full or selective");
    if (!products)
      getOperation().emitError("matmuls is \"" + matmuls + "\", should be alternate or all");
    else if (*products == AcMatmuls::All && known && *known != AcPolicy::Selective)
      getOperation().emitError("matmuls is \"all\" with checkpointing policy \"" + policy +
                               "\", should be used with selective only");
    else if (known)
      return Request{*known, *products};
    return failure();
  }

  void runOnOperation() override {
    FailureOr<Request> request = parseOptions();
    bool bad = failed(request);
    if (!bad)
      for (StepOp step : getOperation().getOps<StepOp>()) {
        FailureOr<GatheredStep> gathered = gatherStep(step);
        if (failed(gathered)) {
          bad = true;
          continue;
        }
        BlockAnalysis blocks = findBlocks(gathered->graph);
        AcDecision decision =
            decideCheckpointing(gathered->graph, blocks, request->policy, request->matmuls);
        if (request->policy != AcPolicy::None)
          remarkOnBlocks(step, blocks);
        if (trace)
          printTrace(gathered->graph, decision.trace);
        write(step, *gathered, blocks, decision, policy);
        recomputedOps += decision.recompute.size();
        blocksFound += blocks.count;
      }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
