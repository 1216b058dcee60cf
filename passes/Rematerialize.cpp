// Activation checkpointing: decides which forward values live until backward
// (compiler/analysis/Blocks, BlockFacts and AcPolicy, which know no MLIR) and writes the decision:
// copies of the forward operations to run again, each just before its first reader, and attributes.
// Copies are exact clones and no gradient is added in another order, so that every policy gives the
// same bits. Schedule may move the copies; it never has to.
#include "compiler/analysis/AcPolicy.h"
#include "compiler/analysis/GatherStep.h"
#include "compiler/dialect/SaveClasses.h"
#include "compiler/dialect/StepSupport.h"
#include "mlir/IR/IRMapping.h"
#include "passes/BlockReport.h"
#include "passes/Passes.h"
#include "runtime/support/Nearest.h"
#include "llvm/ADT/StringSwitch.h"
#include <map>

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
  bool subModules;                          // for models that share keys and values
  std::map<std::string, KeepClass> classOf; // by operation; what is not in it is as its table says
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

void warnOfSharing(StepOp step, const BlockAnalysis &blocks, const BlockFacts &facts,
                   uint64_t subModules, uint64_t whole) {
  InFlightDiagnostic warning = step.emitWarning("checkpointing: ");
  warning
      << facts.sharingBlocks << " of " << blocks.count
      << " blocks read keys and values of earlier ones, so submodules are checkpointed instead of "
         "blocks: MLPs and norms are recomputed, attention and the shared keys and values are kept";
  warning.attachNote()
      << "--ac-kv-sharing=block checkpoints whole blocks, with the same results; it "
      << (whole <= subModules ? "saves " : "takes ")
      << (whole <= subModules ? subModules - whole : whole - subModules) << " bytes: " << whole
      << " are kept for backward instead of " << subModules;
}

void printTrace(const GatheredStep &gathered, const AcDecision &decision) {
  const StepGraph &graph = gathered.graph;
  for (const AcDecision::TraceLine &line : decision.trace) {
    StringRef what = line.keep == KeepClass::Save ? "SAVE"
                     : line.keep == KeepClass::Recompute
                         ? "RECOMPUTE"
                         : "ALTERNATE (save/recompute every other call)";
    llvm::errs() << "[selective-ac] " << graph.names[line.name] << " -> " << what << "\n";
  }
  for (auto [op, count] : decision.recomputedExperts)
    llvm::errs() << "[selective-ac] " << graph.names[graph.ops[op].name] << " '"
                 << locationName(gathered.ops[op]->getLoc()) << "' -> RECOMPUTE (expert matmul, in "
                 << count << (count == 1 ? " block)\n" : " blocks)\n");
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
           const BlockFacts &facts, const AcDecision &decision, StringRef policy) {
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
  describeBlocks(step, graph, blocks, facts);
}

struct RematerializePass : amc::impl::RematerializeBase<RematerializePass> {
  using RematerializeBase::RematerializeBase;

  FailureOr<Request> parseOptions() {
    bool bad = false;
    auto error = [&](const Twine &message) {
      bad = true;
      return getOperation().emitError(message);
    };
    auto known = llvm::StringSwitch<std::optional<AcPolicy>>(policy)
                     .Case("none", AcPolicy::None)
                     .Case("full", AcPolicy::Full)
                     .Case("selective", AcPolicy::Selective)
                     .Default(std::nullopt);
    auto products = llvm::StringSwitch<std::optional<AcMatmuls>>(matmuls)
                        .Case("alternate", AcMatmuls::Alternate)
                        .Case("all", AcMatmuls::All)
                        .Default(std::nullopt);
    Request request{known.value_or(AcPolicy::None),
                    products.value_or(AcMatmuls::Alternate),
                    kvSharing == "submodule",
                    {}};
    if (!known)
      error("checkpointing policy is \"" + policy + "\", should be none, full or selective");
    if (!products)
      error("matmuls is \"" + matmuls + "\", should be alternate or all");
    else if (*products == AcMatmuls::All && known && *known != AcPolicy::Selective)
      error("matmuls is \"all\" with checkpointing policy \"" + policy +
            "\", should be used with selective only");
    if (kvSharing != "submodule" && kvSharing != "block")
      error("kv-sharing is \"" + kvSharing + "\", should be submodule or block");
    if (!classes.empty() && known && *known != AcPolicy::Selective)
      error("operations are given classes with checkpointing policy \"" + policy +
            "\", should be with selective only");
    SmallVector<StringRef> operations = forwardOperations(&getContext());
    for (StringRef entry : classes) {
      auto [name, className] = entry.split('=');
      std::string op = (name.starts_with("train.") ? name : "train." + name.str()).str();
      std::optional<SaveClass> saveClass = saveClassNamed(className);
      if (!llvm::is_contained(operations, op)) {
        std::string near = rt::nearest(op, {operations.begin(), operations.end()});
        error("'" + op + "' is no operation of a forward pass" +
              (near.empty() ? "" : "; the nearest is '" + near + "'"))
                .attachNote()
            << "amc inspect --ac-policy lists them all";
      } else if (!saveClass) {
        error("class of '" + op + "' is '" + className +
              "', should be save, recompute or alternate");
      } else {
        request.classOf[op] = keepClass(*saveClass);
      }
    }
    if (bad)
      return failure();
    return request;
  }

  LogicalResult checkpoint(StepOp step, const Request &request) {
    FailureOr<GatheredStep> gathered = gatherStep(step);
    if (failed(gathered))
      return failure();
    StepGraph &graph = gathered->graph;
    bool checkpoints = request.policy != AcPolicy::None;
    if (checkpoints &&
        llvm::none_of(graph.ops, [](const GraphOp &op) { return op.phase == OpPhase::Backward; })) {
      step.emitError("checkpointing policy is \"" + policy +
                     "\", but nothing is trained here: "
                     "there is no backward pass to keep values for")
              .attachNote()
          << "checkpoint nothing (none), or train some weights";
      return failure();
    }
    BlockAnalysis blocks = findBlocks(graph);
    BlockFacts facts = findBlockFacts(graph, blocks);
    for (GraphOp &op : graph.ops)
      if (auto given = request.classOf.find(graph.names[op.name]); given != request.classOf.end())
        op.keep = given->second;
    AcDecision decision =
        decideCheckpointing(graph, blocks, facts, request.policy, request.matmuls);
    if (checkpoints) {
      remarkOnBlocks(step, blocks);
      if (request.policy == AcPolicy::Selective && !facts.experts.empty())
        step.emitRemark("checkpointing: this is a mixture of experts; selective works, but full is "
                        "preferred to it with expert parallelism");
    }
    if (checkpoints && request.subModules && !facts.sharedKeys.empty()) {
      uint64_t whole = decision.savedBytes;
      decision = decideCheckpointing(graph, blocks, facts, AcPolicy::SubModules, request.matmuls);
      warnOfSharing(step, blocks, facts, decision.savedBytes, whole);
    }
    if (trace)
      printTrace(*gathered, decision);
    write(step, *gathered, blocks, facts, decision, policy);
    recomputedOps += decision.recompute.size();
    blocksFound += blocks.count;
    return success();
  }

  void runOnOperation() override {
    FailureOr<Request> request = parseOptions();
    bool bad = failed(request);
    if (!bad)
      for (StepOp step : getOperation().getOps<StepOp>())
        bad = failed(checkpoint(step, *request)) || bad;
    if (bad)
      signalPassFailure();
  }
};

} // namespace
