// Sums that are rounded and widened again are not rounded; or, if they are, not widened.
//
// Over ranks, contributions to a gradient are summed in fp32: the gradient of a gathered weight in bf16 is a cast to
// fp32, then a reduce_scatter (compiler/dialect/CollectiveOps.cpp). What makes the contribution has it in fp32 and
// rounds it, so the rounded and the cast one are both alive for nothing but a less exact sum.
//
// Phases: gather what each widening cast in backward would have to make wide (sums, and the additions and views that
// stand between them and the cast); decide: drop those of which an operation has another sum that is read as it is,
// until none is left; write. A sum that takes more memory wide than with the cast (WideningOpInterface) is left unless
// `exact`: of Llama 3.2 1B over 8 ranks, the fused head would hold 501 MiB of weight beside 1002 MiB of gradient and
// its scratch, 3.69 GiB at the peak.
//
// What is left contributes narrow values to a sum that collectives take in fp32 and round once, whatever they are
// given: where the sum is rounded to the same type anyway, both casts go, and half the bytes travel. The bits are the
// same.
//
// Limits: additions are of two values with nothing but sums behind both, and a value with more readers than the cast
// stays as it is.
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"

namespace amc {
#define GEN_PASS_DEF_WIDENGRADIENTS
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

/// A cast, and what becomes wide so that it can go.
struct Chain {
  CastOp widening;
  SmallVector<OpResult> sums; // of WideningOpInterface
  SmallVector<Value> derived; // results of additions and views, which take the type that comes in
};

/// Adds what is behind `value`, which one operation reads, to the chain; false if something there is no sum, or unless
/// `exact` one that is better cast.
bool gather(Value value, bool exact, Chain &chain) {
  Operation *op = value.getDefiningOp();
  if (!op || !value.hasOneUse())
    return false;
  if (auto sum = dyn_cast<WideningOpInterface>(op)) {
    chain.sums.push_back(mlir::cast<OpResult>(value));
    return !sum.isWide() && llvm::is_contained(sum.getSums(), value) && (exact || !sum.isLargerWide());
  }
  if (!isa<AddOp, ViewOpInterface>(op))
    return false;
  chain.derived.push_back(value);
  return llvm::all_of(op->getOperands(), [&](Value operand) { return gather(operand, exact, chain); });
}

/// The casts whose chains are whole, in program order.
SmallVector<Chain> gatherChains(StepOp step, bool exact) {
  SmallVector<Chain> chains;
  for (auto widening : step.getOps<CastOp>()) {
    Value x = widening.getX();
    if (phaseOf(widening) != Phase::Backward || !isNarrowFloat(x) ||
        elementOf(widening.getResult()) != statisticType(elementOf(x)))
      continue;
    if (Chain chain{widening, {}, {}}; gather(x, exact, chain))
      chains.push_back(std::move(chain));
  }
  return chains;
}

/// Keeps the chains whose operations have no other sum that is read narrow. All sums of an operation become wide
/// together, so one chain that falls may take another with it.
void decide(SmallVector<Chain> &chains) {
  size_t before;
  do {
    before = chains.size();
    DenseSet<Value> widened;
    for (const Chain &chain : chains)
      widened.insert(chain.sums.begin(), chain.sums.end());
    llvm::erase_if(chains, [&](const Chain &chain) {
      return llvm::any_of(chain.sums, [&](OpResult sum) {
        return llvm::any_of(mlir::cast<WideningOpInterface>(sum.getOwner()).getSums(),
                            [&](OpResult other) { return !other.use_empty() && !widened.contains(other); });
      });
    });
  } while (chains.size() < before);
}

/// A collective between a cast to fp32 and one back to the type from before.
struct NarrowSum {
  CastOp widening;
  Operation *collective;
  CastOp rounding;
};

SmallVector<NarrowSum> gatherNarrowSums(StepOp step) {
  SmallVector<NarrowSum> sums;
  for (auto widening : step.getOps<CastOp>()) {
    if (phaseOf(widening) != Phase::Backward || !isNarrowFloat(widening.getX()) ||
        !elementOf(widening.getResult()).isF32() || !widening->hasOneUse())
      continue;
    Operation *collective = *widening->user_begin();
    if (!isa<CollectiveOpInterface>(collective) || collective->getNumOperands() != 1 || !collective->hasOneUse())
      continue;
    auto rounding = dyn_cast<CastOp>(*collective->user_begin());
    if (rounding && elementOf(rounding.getResult()) == elementOf(widening.getX()))
      sums.push_back({widening, collective, rounding});
  }
  return sums;
}

struct WidenGradientsPass : amc::impl::WidenGradientsBase<WidenGradientsPass> {
  using WidenGradientsBase::WidenGradientsBase;

  void write(const Chain &chain) {
    for (OpResult sum : chain.sums)
      if (auto op = mlir::cast<WideningOpInterface>(sum.getOwner()); !op.isWide()) {
        op.makeWide();
        ++widened;
      }
    for (Value value : chain.derived)
      widenType(value);
    CastOp widening = chain.widening;
    widening.getResult().replaceAllUsesWith(widening.getX());
    widening.erase();
    ++castsRemoved;
  }

  void write(const NarrowSum &sum) {
    auto [widening, collective, rounding] = sum;
    collective->setOperand(0, widening.getX());
    collective->getResult(0).setType(rounding.getResult().getType());
    rounding.getResult().replaceAllUsesWith(collective->getResult(0));
    rounding.erase();
    widening.erase();
    castsRemoved += 2;
    ++narrowSums;
  }

  void runOnOperation() override {
    for (StepOp step : getOperation().getOps<StepOp>()) {
      SmallVector<Chain> chains = gatherChains(step, exact);
      decide(chains);
      for (const Chain &chain : chains)
        write(chain);
      for (const NarrowSum &sum : gatherNarrowSums(step))
        write(sum);
    }
  }
};

} // namespace
