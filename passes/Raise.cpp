// Decomposed subgraphs, as exporters write them, become one named operation each.
//
// The operations of a step are visited in order, so that a pattern finds its parts already raised.
// First everything that needs no mask: shapes, normalisations, activations, rotary, linear. Then
// attention, experts and embeddings, which read what the first visit left (an embedding must know
// which tables are rotary's). At last transposes that no attention took are folded into products.
// Between visits equal operations are joined and dead ones erased, so that the graphs that computed
// masks disappear. Each visit is linear in the operations; every pattern looks at a bounded
// neighbourhood.
#include "passes/Raise.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"
#include "passes/Passes.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

namespace amc {
#define GEN_PASS_DEF_RAISE
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace amc::raise {

void Rewriter::retire(Operation *op) {
  SmallVector<Operation *> open = {op};
  while (!open.empty()) {
    Operation *next = open.pop_back_val();
    if (!retired.insert(next).second) // an operand that it was twice
      continue;
    SmallVector<Operation *> producers;
    for (Value operand : next->getOperands())
      if (Operation *producer = operand.getDefiningOp())
        producers.push_back(producer);
    next->dropAllReferences();
    graveyard.push_back(next);
    for (Operation *producer : producers)
      if (!retired.contains(producer) && producer->use_empty() && isa<ComputeOpInterface>(producer))
        open.push_back(producer);
  }
}

void Rewriter::replace(Operation *op, ValueRange by, Found kind) {
  for (auto [result, value] : llvm::zip(op->getResults(), by))
    result.replaceAllUsesWith(value);
  retire(op);
  if (kind != Found::Count)
    count(kind);
}

void Rewriter::sweep() {
  for (Operation *op : graveyard)
    op->erase();
  graveyard.clear();
  retired.clear();
  constants.clear();
  Block &block = step->getRegion(0).front();
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (isOpTriviallyDead(&op) && !isa<InputOp>(op))
      op.erase();
}

std::optional<double> Rewriter::scalar(Value value) {
  // A broadcast of a number is that number; a few shape operations may stand around it.
  for (int step = 0; step < 4; ++step) {
    if (auto full = definedBy<FullOp>(value))
      return full.getValue().convertToDouble();
    if (tensorType(value).getNumElements() == 1)
      break;
    if (auto constant = definedBy<ConstantOp>(value)) {
      std::optional<HostTensor> tensor;
      if (constant.getValue().isSplat())
        tensor = HostTensor::fromAttr(constant.getValue());
      return tensor ? std::optional(tensor->number(0)) : std::nullopt;
    }
    Operation *op = value.getDefiningOp();
    if (!isa_and_nonnull<BroadcastOp, ReshapeOp>(op))
      return std::nullopt;
    value = op->getOperand(0);
  }
  return constants.scalar(value);
}

std::optional<std::pair<Value, double>> Rewriter::scaled(Value value) {
  Operation *op = value.getDefiningOp();
  if (!isa_and_nonnull<MulOp, DivOp>(op) || !isa<FloatType>(elementOf(value)))
    return std::nullopt;
  for (unsigned i : {0u, 1u}) {
    Value x = op->getOperand(i);
    if (x.getType() != value.getType() || (i == 1 && isa<DivOp>(op)))
      continue;
    std::optional<double> factor = scalar(op->getOperand(1 - i));
    if (factor && isa<DivOp>(op))
      factor = *factor == 0 ? std::nullopt : std::optional(1 / *factor);
    if (factor && std::isfinite(*factor))
      return std::pair(x, *factor);
  }
  return std::nullopt;
}

bool isNearly(double number, double exact, Type element) {
  double tolerance = element.getIntOrFloatBitWidth() >= 32 ? 1e-4 : 1e-2;
  return std::abs(number - exact) <= tolerance * std::abs(exact);
}

} // namespace amc::raise

namespace {

using namespace amc::raise;

class Raise : public amc::impl::RaiseBase<Raise> {
  void raiseStep(StepOp step, IRRewriter &rewriter) {
    raise::Rewriter r(step);
    auto visit = [&](llvm::function_ref<bool(Operation *)> pattern) {
      // Joining equal operations first lets patterns compare values.
      DominanceInfo dominance(step);
      eliminateCommonSubExpressions(rewriter, dominance, step);
      for (Operation &op : llvm::make_early_inc_range(step.getBody().front()))
        if (!r.isRetired(&op) && isa<ComputeOpInterface>(op))
          pattern(&op);
      r.sweep();
    };
    visit([&](Operation *op) {
      return simplifyShape(r, op) || raiseNorm(r, op) || raiseActivation(r, op) ||
             raiseRotary(r, op) || raiseLinear(r, op);
    });
    MaskReader masks(r);
    visit([&](Operation *op) {
      return raiseAttention(r, masks, op) || raiseExperts(r, op) || raiseEmbedding(r, op);
    });
    visit([&](Operation *op) {
      return simplifyShape(r, op) || raiseLinear(r, op) || foldTransposes(r, op);
    });
    norms += r.found(Found::Norm);
    activations += r.found(Found::Activation);
    gatedActivations += r.found(Found::Gated);
    linears += r.found(Found::Linear);
    rotaries += r.found(Found::Rotary);
    attentions += r.found(Found::Attention);
    masksRead += r.found(Found::Mask);
    experts += r.found(Found::Experts);
    embeddings += r.found(Found::Embedding);
    shapes += r.found(Found::Shape);
  }

  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    for (StepOp step : getOperation().getOps<StepOp>())
      raiseStep(step, rewriter);
  }
};

} // namespace
