// Rematerialization within a memory budget: gathers, asks compiler/analysis/BudgetPlanner, which
// knows no MLIR, and writes its decision: copies of the forward operations to run again, each just
// before its first reader, and attributes. Copies are exact clones and no gradient is added in
// another order, so that every budget gives the same bits.
#include "passes/PlanBudget.h"
#include "compiler/analysis/BytesText.h"
#include "compiler/analysis/JoinedRecomputation.h"
#include "compiler/dialect/StepSupport.h"
#include "mlir/IR/IRMapping.h"
#include "passes/BlockReport.h"
#include "llvm/Support/Format.h"

namespace amc {
#define GEN_PASS_DEF_PLANBUDGET
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

std::string percent(double part, double whole) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.2f%%", whole > 0 ? 100 * part / whole : 0);
  return text;
}

/// The largest tensors of a list, with their shapes and where they come from.
void describeBinding(InFlightDiagnostic &error, const GatheredStep &gathered,
                     const BudgetPlan &plan) {
  constexpr size_t shown = 5;
  const StepGraph &graph = plan.result.applied.graph;
  for (size_t i = 0; i < std::min(shown, plan.alive.size()); ++i) {
    const GraphValue &value = graph.values[plan.alive[i]];
    const GraphOp &op = graph.ops[value.producer];
    Operation *origin = gathered.ops[plan.result.applied.originOf[value.producer]];
    auto at = llvm::find(op.results, plan.alive[i]) - op.results.begin();
    error.attachNote(origin->getLoc())
        << "alive at the smallest peak: " << bytesText(value.bytes) << ", "
        << origin->getResult(static_cast<unsigned>(at)).getType() << " of "
        << origin->getName().getStringRef() << (op.phase == OpPhase::Recompute ? ", run again" : "");
  }
}

void write(StepOp step, GatheredStep &gathered, const BlockAnalysis &blocks,
           const CarriedOut &plan) {
  const StepGraph &graph = plan.applied.graph;
  OpBuilder b(step.getContext());
  Block *block = &step.getBody().front();
  std::vector<Value> values(graph.values.size());
  for (uint32_t i = 0; i < graph.ops.size(); ++i) {
    Operation *origin = gathered.ops[plan.applied.originOf[i]], *op = origin;
    if (graph.ops[i].phase == OpPhase::Recompute) {
      b.setInsertionPointToEnd(block);
      op = b.clone(*origin);
      setPhase(op, Phase::Recompute);
    } else {
      op->moveBefore(block, block->end());
      if (uint32_t number = blocks.blockOfOp[plan.applied.originOf[i]]; number != noIndex)
        op->setAttr("train.block", b.getI64IntegerAttr(number));
    }
    for (auto [operand, value] : llvm::zip_equal(op->getOpOperands(), graph.ops[i].operands))
      operand.set(values[value]);
    for (auto [result, value] : llvm::zip_equal(op->getResults(), graph.ops[i].results))
      values[value] = result;
  }
  for (const GraphOp &op : graph.ops) {
    if (op.phase == OpPhase::Forward || op.kind != OpKind::Compute)
      continue;
    for (uint32_t operand : op.operands) {
      const GraphValue &root = graph.values[graph.rootOf(operand)];
      if (!root.source && graph.ops[root.producer].phase == OpPhase::Forward)
        values[graph.rootOf(operand)].getDefiningOp()->setAttr("train.saved", b.getUnitAttr());
    }
  }
}

struct PlanBudgetPass : amc::impl::PlanBudgetBase<PlanBudgetPass> {
  using PlanBudgetBase::PlanBudgetBase;
  PlanBudgetPass(const PlanBudgetOptions &options, std::shared_ptr<PlannedStep> planned)
      : PlanBudgetBase(options), planned(std::move(planned)) {}

  std::shared_ptr<PlannedStep> planned; // of one step, if its plan has been made

  uint64_t budget() const { return static_cast<uint64_t>(int64_t(memoryBudget)); }

  bool optionsAreValid() {
    bool bad = false;
    auto wrong = [&]() {
      bad = true;
      return getOperation().emitError();
    };
    if (!deviceModel(target, precision))
      wrong() << "target is \"" << target << "\", should be " << modelledTargets;
    if (memoryBudget < 0)
      wrong() << "memory-budget is " << int64_t(memoryBudget) << ", should not be negative";
    if (policy != "budget" && policy != "auto")
      wrong() << "policy is \"" << policy << "\", should be budget or auto";
    if (alignment < 1 || alignment > (int64_t(1) << 30) || (alignment & (alignment - 1)) != 0)
      wrong() << "alignment is " << int64_t(alignment) << ", should be a power of two up to 2^30";
    if (curvePoints < 0 || curvePoints == 1 || curvePoints > 1024)
      wrong() << "curve-points is " << int64_t(curvePoints) << ", should be 0 or in [2, 1024]";
    for (auto [name, limit] : {std::pair("work-limit", int64_t(workLimit)),
                               std::pair("exact-items", int64_t(exactItems)),
                               std::pair("exact-steps", int64_t(exactSteps))})
      if (limit < 0)
        wrong() << name << " is " << limit << ", should not be negative";
    return !bad;
  }

  /// The plan made before, or a new one; null, with a diagnostic, if the step cannot be gathered.
  std::shared_ptr<PlannedStep> planOf(StepOp step) {
    if (planned && planned->step == step)
      return std::exchange(planned, nullptr);
    PlanBudgetOptions options;
    options.target = target;
    options.precision = precision;
    options.fusion = fusion;
    options.alignment = alignment;
    options.workLimit = workLimit;
    options.exactItems = exactItems;
    options.exactSteps = exactSteps;
    FailureOr<std::shared_ptr<PlannedStep>> made = PlannedStep::gather(step, options);
    if (failed(made))
      return nullptr;
    (*made)->makePlan(budget());
    return *made;
  }

  void refuse(const PlannedStep &step) {
    const BudgetPlan &plan = step.plan;
    InFlightDiagnostic error = StepOp(step.step).emitError("the memory budget is ")
                               << int64_t(memoryBudget) << " bytes (" << bytesText(budget())
                               << (origin.empty() ? "" : ", " + origin)
                               << "), should be at least " << plan.result.arenaBytes << " ("
                               << bytesText(plan.result.arenaBytes)
                               << "), the smallest arena found";
    if (!step.variant.empty())
      error.attachNote() << "that is of the step with " << step.variant;
    error.attachNote() << "no plan of this step, in whatever order, needs less than "
                       << plan.peakBound << " bytes (" << bytesText(plan.peakBound) << ")";
    describeBinding(error, step.gathered, plan);
  }

  void report(StepOp step, const BudgetPlan &plan) {
    const CarriedOut &result = plan.result;
    Builder b(&getContext());
    auto integer = [&](uint64_t value) { return b.getI64IntegerAttr(static_cast<int64_t>(value)); };
    step->setAttr("train.ac_policy", b.getStringAttr(policy));
    step->setAttr("train.memory_budget", b.getI64IntegerAttr(memoryBudget));
    step->setAttr("train.saved_bytes", integer(savedBytes(result.applied.graph)));
    step->setAttr("train.recompute_flops", integer(result.flops));
    step->setAttr("train.recompute_seconds", b.getF64FloatAttr(seconds(result.cost)));
    step->setAttr("train.recompute_bound_seconds", b.getF64FloatAttr(seconds(plan.costBound)));
    step->setAttr("train.step_seconds", b.getF64FloatAttr(seconds(plan.stepCost)));
    std::string text;
    llvm::raw_string_ostream(text) << llvm::format("%.4g s", seconds(result.cost)) << " ("
                                   << percent(seconds(result.cost), seconds(plan.stepCost))
                                   << " of a modelled step, "
                                   << llvm::format("%.3f", static_cast<double>(result.flops) * 1e-9)
                                   << " GFLOP)";
    std::string bound;
    llvm::raw_string_ostream(bound) << llvm::format("%.4g s", seconds(plan.costBound)) << ", a gap of "
                                    << llvm::format("%.2f%%", 100 * plan.gap());
    step.emitRemark("memory budget: ")
        << bytesText(budget())
        << (origin.empty() ? "" : ", " + origin) << "; arena at most " << result.arenaBytes
        << " bytes (" << bytesText(result.arenaBytes) << "); recomputation " << text
        << "; no plan with this order of gradient operations recomputes for less than " << bound;
  }

  void noteCurve(StepOp step, BudgetPlanner &planner) {
    SmallVector<int64_t> numbers;
    for (const CurvePoint &point : planner.curve(static_cast<unsigned>(int64_t(curvePoints))))
      numbers.append({static_cast<int64_t>(point.arenaBytes), static_cast<int64_t>(point.cost)});
    step->setAttr("train.pareto_curve", DenseI64ArrayAttr::get(&getContext(), numbers));
  }

  void runOnOperation() override {
    bool bad = !optionsAreValid();
    if (!bad)
      for (StepOp step : getOperation().getOps<StepOp>()) {
        std::shared_ptr<PlannedStep> made = planOf(step);
        if (!made || !made->plan.feasible) {
          if (made)
            refuse(*made);
          bad = true;
          continue;
        }
        write(step, made->gathered, made->blocks, made->plan.result);
        describeBlocks(step, made->gathered.graph, made->blocks, findBlockFacts(made->gathered.graph, made->blocks));
        step->setAttr("train.blocks", Builder(&getContext()).getI64IntegerAttr(made->blocks.count));
        report(step, made->plan);
        if (curvePoints > 0)
          noteCurve(step, *made->planner);
        recomputedOps += made->plan.result.applied.copies;
        blocksFound += made->blocks.count;
      }
    if (bad)
      signalPassFailure();
  }
};

} // namespace

FailureOr<std::shared_ptr<PlannedStep>> PlannedStep::gather(StepOp step, const PlanBudgetOptions &options) {
  std::optional<DeviceModel> device = deviceModel(options.target, options.precision);
  FailureOr<GatheredStep> gathered = gatherStep(step);
  if (!device || failed(gathered))
    return failure();
  if (options.fusion)
    markJoinedRecomputation(*gathered);
  auto made = std::make_shared<PlannedStep>();
  made->step = step;
  made->gathered = std::move(*gathered);
  made->settings = {*device, static_cast<uint64_t>(options.alignment), {}};
  made->settings.packing.work = static_cast<uint64_t>(options.workLimit);
  made->settings.packing.exactItems = static_cast<uint64_t>(options.exactItems);
  made->settings.packing.exactSteps = static_cast<uint64_t>(options.exactSteps);
  made->stepCost = CostModel(made->gathered.graph, *device).stepCost;
  return made;
}

const BudgetPlan &PlannedStep::makePlan(uint64_t budget) {
  blocks = findBlocks(gathered.graph);
  planner = std::make_unique<BudgetPlanner>(gathered.graph, blocks, settings);
  plan = planner->plan(budget);
  return plan;
}

std::unique_ptr<Pass> amc::createPlanBudget(const PlanBudgetOptions &options, std::shared_ptr<PlannedStep> planned) {
  return std::make_unique<PlanBudgetPass>(options, std::move(planned));
}
