// From train.step to StepGraph; see GatherStep.h. Signatures are numbers in order of first
// appearance, so that nothing depends on addresses.
#include "compiler/analysis/GatherStep.h"
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "runtime/plan/Mesh.h"
#include "llvm/ADT/StringMap.h"
#include <numeric>

using namespace mlir;
using namespace amc::train;

namespace amc {
namespace {

// What tells isomorphic layers apart without changing what checkpointing should do with them:
// names, the streams of random numbers, and how far a sliding window reaches to the left (layers
// with windows alternate with layers without).
bool tellsLayersApart(StringRef attribute) {
  return attribute == "name" || attribute == "stream" || attribute == "left";
}

class Signatures {
public:
  uint64_t of(Operation *op) {
    NamedAttrList kept;
    if (auto properties = dyn_cast_if_present<DictionaryAttr>(op->getPropertiesAsAttribute()))
      for (NamedAttribute attribute : properties)
        if (!tellsLayersApart(attribute.getName()))
          kept.push_back(attribute);
    auto types = FunctionType::get(op->getContext(), op->getOperandTypes(), op->getResultTypes());
    auto key =
        std::make_pair(op->getName().getAsOpaquePointer(),
                       std::make_pair(types.getAsOpaquePointer(),
                                      kept.getDictionary(op->getContext()).getAsOpaquePointer()));
    return numbers.try_emplace(key, numbers.size() + 1).first->second;
  }

private:
  DenseMap<std::pair<const void *, std::pair<const void *, const void *>>, uint64_t> numbers;
};

OpPhase graphPhase(Phase phase) {
  switch (phase) {
  case Phase::Forward:
    return OpPhase::Forward;
  case Phase::Backward:
    return OpPhase::Backward;
  case Phase::Recompute:
    return OpPhase::Recompute;
  case Phase::Optimizer:
    return OpPhase::Optimizer;
  }
  llvm_unreachable("all phases are covered");
}

// From the first rank of rank 0's group to its last.
uint64_t spanOf(StepOp step, StringRef group) {
  std::optional<rt::MeshShape> mesh = meshOf(step);
  std::optional<rt::Axes> axes = mesh ? rt::groupAxes(group, *mesh) : std::nullopt;
  return axes ? rt::groupSpan(*mesh, *axes) : 1;
}

void describeSource(Operation *op, GraphValue &value) {
  value.source = true;
  value.persistent = !isa<InputOp>(op);
  if (isa<InputOp>(op))
    value.category = BufferCategory::Input;
  else if (isa<ConstantOp>(op))
    value.category = BufferCategory::Constant;
  else if (auto state = dyn_cast<StateOp>(op))
    value.category =
        state.getKind() == "gradient" ? BufferCategory::Gradient : BufferCategory::OptimizerState;
  else
    value.category = BufferCategory::Parameter;
}

// Values that are gradients of parameters: what optimizers read as such, also as a piece; what is named as one, and
// what is added into an accumulator.
void markGradients(GatheredStep &step) {
  auto mark = [&](Value value) {
    GraphValue &root = step.graph.values[step.graph.rootOf(step.index(value))];
    if (!root.source)
      root.category = BufferCategory::Gradient;
  };
  for (Operation *op : step.ops) {
    if (auto gradient = dyn_cast<GradientOp>(op)) {
      mark(gradient.getValue());
    } else if (auto optimizer = dyn_cast<OptimizerOpInterface>(op)) {
      mark(optimizer.getGradientValue());
      if (auto piece = optimizer.getGradientValue().getDefiningOp<TakePieceOp>())
        mark(piece.getWhole());
    } else if (auto update = dyn_cast<UpdateOpInterface>(op)) {
      for (unsigned at : update.getUpdatedOperands())
        if (auto state = op->getOperand(at).getDefiningOp<StateOp>();
            state && state.getKind() == "gradient")
          for (Value operand : op->getOperands())
            if (operand.getType() == state.getType())
              mark(operand);
    }
  }
}

} // namespace

KeepClass keepClass(SaveClass saveClass) {
  switch (saveClass) {
  case SaveClass::Save:
    return KeepClass::Save;
  case SaveClass::Alternate:
    return KeepClass::Alternate;
  case SaveClass::Recompute:
    return KeepClass::Recompute;
  }
  llvm_unreachable("all classes are covered");
}

std::vector<uint32_t> GatheredStep::programOrder() const {
  std::vector<uint32_t> order(ops.size());
  std::iota(order.begin(), order.end(), 0);
  return order;
}

FailureOr<GatheredStep> gatherStep(StepOp step) {
  GatheredStep gathered;
  Signatures signatures;
  llvm::StringMap<uint32_t> names;
  bool bad = false;
  for (Operation &op : step.getBody().front()) {
    GraphOp node;
    node.phase = graphPhase(phaseOf(&op));
    if (isa<SourceOpInterface>(op)) {
      node.kind = OpKind::Source;
    } else if (auto view = dyn_cast<ViewOpInterface>(op)) {
      node.kind = view.isInstruction() ? OpKind::Wait : OpKind::View;
    } else if (isa<MicroBatchEndOp>(op)) {
      node.kind = OpKind::MicroBatchEnd;
    } else if (isa<OutputOp, GradientOp>(op)) {
      node.kind = OpKind::Output;
      if (isa<GradientOp>(op))
        node.phase = OpPhase::Backward;
    } else if (auto compute = dyn_cast<ComputeOpInterface>(op)) {
      node.keep = keepClass(compute.getSaveClass());
      node.workspaceBytes = workspaceBytes(compute);
      node.flops = compute.getFlops();
      node.bytesMoved = compute.getBytesMoved();
      for (const Work &part : compute.getParts())
        node.parts.push_back({part.flops, part.bytes, part.times, part.percent});
      if (auto collective = dyn_cast<CollectiveOpInterface>(op); collective && !collective.getGroupName().empty()) {
        node.bytesSent = collective.getBytesSent();
        node.span = spanOf(step, collective.getGroupName());
        node.steps = collective.getSteps();
        if (std::optional<bool> kept = collective.getKept())
          node.gatheredFor = *kept ? GatheredFor::Both : GatheredFor::OneUse;
      }
      for (unsigned at : compute.getReusableOperands())
        node.reusable.push_back(at);
      if (std::optional<ArrayRef<int64_t>> taken = compute.getTakenOperands())
        for (int64_t at : *taken)
          node.taken.push_back(at < 0 ? noIndex : static_cast<uint32_t>(at));
      if (auto update = dyn_cast<UpdateOpInterface>(op))
        for (unsigned at : update.getUpdatedOperands())
          node.updated.push_back(at);
    } else {
      op.emitError(
          "is not part of a step: it is neither a computation, a source, an output nor a marker");
      bad = true;
      continue;
    }
    for (Value operand : op.getOperands())
      if (auto found = gathered.indexOf.find(operand); found != gathered.indexOf.end())
        node.operands.push_back(found->second);
    if (node.operands.size() != op.getNumOperands()) {
      if (!bad)
        op.emitError("reads a value that no operation of the step makes");
      bad = true;
      continue;
    }
    if (node.kind == OpKind::Output)
      for (uint32_t operand : node.operands)
        node.phase =
            std::max(node.phase, gathered.graph.ops[gathered.graph.values[operand].producer].phase);
    node.signature = signatures.of(&op);
    auto [name, fresh] = names.try_emplace(op.getName().getStringRef(), names.size());
    if (fresh)
      gathered.graph.names.push_back(op.getName().getStringRef().str());
    node.name = name->second;

    std::vector<uint64_t> bytes;
    for (Type type : op.getResultTypes())
      bytes.push_back(byteSize(type));
    uint32_t index = gathered.graph.addOp(std::move(node), bytes);
    gathered.ops.push_back(&op);
    for (auto [result, value] :
         llvm::zip_equal(op.getResults(), gathered.graph.ops[index].results)) {
      gathered.indexOf[result] = value;
      gathered.graph.values[value].integer =
          isa<IntegerType>(cast<RankedTensorType>(result.getType()).getElementType()) &&
          !cast<RankedTensorType>(result.getType()).getElementType().isInteger(1);
      gathered.values.push_back(result);
      if (gathered.graph.ops[index].kind == OpKind::Source)
        describeSource(&op, gathered.graph.values[value]);
    }
  }
  if (bad)
    return failure();
  markGradients(gathered);
  return gathered;
}

} // namespace amc
