// Parameters and loss over the ranks of a mesh; data parallelism in its three strategies.
//
// Phases: check the request; find units (blocks of the forward graph, Blocks.h); replace each parameter by what this
// rank holds of it, with collectives where a unit uses it; make the loss the sum over ranks. Everything is an ordinary
// operation with a gradient (compiler/dialect/CollectiveOps.td), so that what happens to gradients follows from
// differentiating:
//   ddp                    a parameter is alike on all ranks: its gradient is an all_reduce
//   fsdp2, megatron_fsdp   a parameter's rows are spread over dp_shard and gathered where a unit uses it: its gradient
//                          is a reduce_scatter, right behind the unit's backward
//   with replicas (HSDP)   it is alike over dp_replicate: the scattered gradient is summed over the replicas
//   megatron_fsdp, zero    below 3 parameters are as with ddp; attach-optimizer spreads the gradients and states
//   experts (ep)           ranks share them (passes/ShardExperts.h); what a rank has of them is spread and gathered over
//                          ep_shard, the rest of dp_shard
// ZeRO (Rajbhandari et al., 2020); PyTorch FSDP (Zhao et al., 2023).
//
// Limits: a scalar stays whole, and so does a vector that tensor parallelism cuts in blocks. A frozen parameter of less than 64 KiB does, too: rotary tables and masks are needed in
// every layer and are nothing beside the latency of gathering them.
#include "compiler/analysis/Blocks.h"
#include "compiler/analysis/BytesText.h"
#include "compiler/analysis/GatherStep.h"
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "passes/ShardAxis.h"
#include "passes/ShardExperts.h"
#include "runtime/plan/Mesh.h"
#include "runtime/support/Counted.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

namespace amc {
#define GEN_PASS_DEF_SHARD
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

constexpr uint64_t leastFrozenBytes = 64 << 10;

// Who needs a parameter together: the operations of a block, or one operation outside of them.
struct Unit {
  Operation *first = nullptr; // in program order
  bool inBlock = false;
  bool varies = true; // in each rank's own work, with respect to cp
  SmallVector<OpOperand *> uses;
};

struct ShardPass : amc::impl::ShardBase<ShardPass> {
  using ShardBase::ShardBase;

  rt::MeshShape mesh() const {
    auto size = [](int64_t n) { return static_cast<uint64_t>(n); };
    return {{size(dpReplicate), size(dpShard), size(cp), size(tp)}, size(ep)};
  }

  LogicalResult checkOptions() {
    bool bad = false;
    auto error = [&](const Twine &message) {
      bad = true;
      return getOperation().emitError(message);
    };
    int64_t ranks = 1;
    for (auto [name, size] : {std::pair("dp-replicate", int64_t(dpReplicate)), std::pair("dp-shard", int64_t(dpShard)),
                              std::pair("cp", int64_t(cp)), std::pair("tp", int64_t(tp))}) {
      if (size < 1 || size > static_cast<int64_t>(rt::mostRanks) ||
          (ranks *= size) > static_cast<int64_t>(rt::mostRanks)) {
        error(Twine(name) + " is " + Twine(size) + ", should be at least 1, and all sizes together at most " +
              Twine(rt::mostRanks) + " ranks");
        return failure();
      }
    }
    if (strategy != "fsdp2" && strategy != "megatron_fsdp" && strategy != "ddp")
      error("strategy is \"" + strategy + "\", should be fsdp2, megatron_fsdp or ddp");
    if (zero < 0 || zero > 3)
      error("zero is " + Twine(zero) + ", should be 0 to 3");
    if (!contextAttentionNamed(std::string(cpAttention)))
      error("cp-attention is \"" + cpAttention + "\", should be auto, ring or all-gather");
    if (!deviceModel(std::string(target), std::string(precision)))
      error("target is \"" + target + "\", should be a device that is modelled: " + modelledTargets);
    if (reshard != "auto" && reshard != "always" && reshard != "never")
      error("reshard is \"" + reshard + "\", should be auto, always or never");
    if (strategy != "fsdp2" && dpReplicate > 1)
      error("dp-replicate is " + Twine(dpReplicate) + " with strategy \"" + strategy +
            "\", should be 1: replicas of sharded groups are fsdp2's");
    if (strategy == "ddp" && (tp > 1 || cp > 1))
      error("tp is " + Twine(tp) + " and cp is " + Twine(cp) + " with strategy \"ddp\", should be 1");
    if (strategy != "fsdp2" && ep > 1)
      error("ep is " + Twine(ep) + " with strategy \"" + strategy + "\", should be 1");
    if (ep < 1 || ep > static_cast<int64_t>(rt::mostRanks) || !rt::isRegrouped(mesh()))
      error("ep is " + Twine(ep) + ", should be cp times a part of dp-shard, or cp x tp times one");
    if (!(capacityFactor >= 0) || !std::isfinite(static_cast<double>(capacityFactor)))
      error("capacity-factor should be positive, or 0 for no limit");
    return failure(bad);
  }

  /// Whether parameters stay whole on every data-parallel rank.
  bool keepsWhole() const { return strategy == "ddp" || (strategy == "megatron_fsdp" && zero < 3); }

  /// Over which axes a parameter is spread.
  rt::Axes shardAxesOf(ParameterOp parameter) const {
    return experts.contains(parameter) ? rt::expertShardAxes : rt::unite(rt::shardAxes, rt::cpAxes);
  }

  bool isSharded(ParameterOp parameter, int64_t shards) const {
    if (keepsWhole() || shards == 1 || shapeOf(parameter.getResult()).empty() ||
        elementCount(shapeOf(parameter.getResult())) == 0 || !isa<FloatType>(elementOf(parameter.getResult())))
      return false;
    return (parameter.getTrainable() || byteSize(parameter.getType()) >= leastFrozenBytes) && splitDim(parameter, shards);
  }

  /// The units that use a parameter, in program order. What of it varies over cp is looked through if it is spread over
  /// cp: the gather does that.
  SmallVector<Unit> unitsOf(Value value, const BlockAnalysis &blocks, bool sharded) const {
    struct Use {
      uint32_t op;
      bool varies;
      OpOperand *operand;
    };
    SmallVector<Use> uses;
    for (OpOperand &use : value.getUses()) {
      auto vary = dyn_cast<VaryOp>(use.getOwner());
      if (!vary || vary.getGroup() != "cp" || !sharded) {
        uses.push_back({numberOf.lookup(use.getOwner()), cp == 1, &use});
        continue;
      }
      for (OpOperand &behind : vary.getY().getUses())
        uses.push_back({numberOf.lookup(behind.getOwner()), true, &behind});
    }
    llvm::sort(uses, [](const Use &a, const Use &b) {
      return std::pair(a.op, a.operand->getOperandNumber()) < std::pair(b.op, b.operand->getOperandNumber());
    });
    llvm::MapVector<uint64_t, Unit> units; // block, or blocks and operations behind them; twice, and one if it varies
    for (auto [op, varies, use] : uses) {
      uint32_t block = blocks.blockOfOp[op];
      Unit &unit = units[2 * (block == noIndex ? uint64_t(blocks.count) + op : block) + varies];
      unit.varies = varies;
      unit.inBlock = block != noIndex;
      unit.first = unit.first ? unit.first : use->getOwner();
      unit.uses.push_back(use);
    }
    SmallVector<Unit> result;
    for (auto &entry : units)
      result.push_back(std::move(entry.second));
    return result;
  }

  Value vary(OpBuilder &b, Location loc, Value value, const rt::Axes &axes) {
    std::string group = rt::groupName(axes, mesh());
    if (group.empty())
      return value;
    return VaryOp::create(b, loc, value, group, static_cast<int64_t>(rt::groupSize(mesh(), axes)));
  }

  void place(ParameterOp parameter, const BlockAnalysis &blocks) {
    Location loc = parameter.getLoc();
    // FSDP spreads over dp_shard and cp alike.
    const rt::Axes over = shardAxesOf(parameter);
    const auto shards = static_cast<int64_t>(rt::groupSize(mesh(), over));
    const std::string group = rt::groupName(over, mesh());
    const bool sharded = isSharded(parameter, shards), isExpert = experts.contains(parameter);
    SmallVector<Unit> units = unitsOf(parameter.getResult(), blocks, sharded);
    auto whole = tensorType(parameter.getResult());
    int64_t dim = 0;
    if (sharded) {
      dim = *splitDim(parameter, shards);
      SmallVector<int64_t> shape(whole.getShape());
      shape[dim] = static_cast<int64_t>(rt::pieceOf(static_cast<uint64_t>(shape[dim]), static_cast<uint64_t>(shards)));
      parameter.getResult().setType(RankedTensorType::get(shape, whole.getElementType()));
      SmallVector<Attribute> splits;
      if (parameter.getSplits())
        llvm::append_range(splits, parameter.getSplitsAttr());
      splits.push_back(SplitAttr::get(&getContext(), dim, group, shards, whole.getDimSize(dim), /*blocks=*/1));
      parameter.setSplitsAttr(ArrayAttr::get(&getContext(), splits));
      ++shardedParameters;
    }
    for (Unit &unit : units) {
      OpBuilder b(unit.first);
      Value value = parameter.getResult();
      if (parameter.getTrainable())
        value = vary(b, loc, value, rt::unite(rt::replicateAxes, sharded ? rt::Axes() : isExpert ? over : rt::shardAxes));
      if (sharded) {
        bool always = reshard == "always" && unit.inBlock, never = reshard == "never";
        // What ranks of cp do alike has a gradient that is alike: of that each takes its part.
        if (!unit.varies && !isExpert) {
          const int64_t part = parameter.getType().getDimSize(dim) * cp, padded = part * dpShard;
          value = AllGatherOp::create(b, loc, value, dim, part, "cp", cp, always, never, /*alike=*/true);
          if (dpShard > 1)
            value = AllGatherOp::create(b, loc, value, dim, padded, "dp_shard", dpShard, always, never, /*alike=*/false);
          if (padded != whole.getDimSize(dim))
            value = SliceOp::create(b, loc, value, SmallVector<int64_t>(whole.getRank(), 0), whole.getShape(),
                                    SmallVector<int64_t>(whole.getRank(), 1));
        } else {
          value = AllGatherOp::create(b, loc, value, dim, whole.getDimSize(dim), group, shards, always, never,
                                      /*alike=*/false);
        }
        ++gathers;
      }
      for (OpOperand *use : unit.uses)
        use->set(value);
    }
    for (Operation *user : llvm::to_vector(parameter.getResult().getUsers()))
      if (isa<VaryOp>(user) && user->use_empty())
        user->erase();
  }

  /// The loss of a data-parallel rank is its part of the sum; those of cp and tp have the same already.
  void sumLoss(StepOp step) {
    OutputOp loss = findOutput(step, "loss");
    OpBuilder b(loss);
    const rt::Axes axes = rt::dataAxes;
    std::string group = rt::groupName(axes, mesh());
    if (!group.empty())
      loss.getValueMutable().assign(AllReduceOp::create(b, loss.getLoc(), loss.getValue(), group,
                                                        static_cast<int64_t>(rt::groupSize(mesh(), axes))));
  }

  /// Random numbers are drawn by micro-batch: those of a rank are the micro-batches that one rank alone would run.
  void numberMicroBatches(StepOp step) {
    const int64_t data = dpReplicate * dpShard;
    for (InputOp input : llvm::to_vector(step.getOps<InputOp>())) {
      if (input.getRole() != "micro_batch" || data == 1 || input->use_empty())
        continue;
      OpBuilder b(step.getContext());
      b.setInsertionPointAfter(input);
      Location loc = input.getLoc();
      auto type = tensorType(input.getResult());
      Value rank = InputOp::create(b, loc, type, "data_rank", "data_rank");
      Value ranks = ConstantOp::create(b, loc, type, DenseElementsAttr::get(type, b.getI64IntegerAttr(data)));
      Value before = MulOp::create(b, loc, input, ranks);
      Value number = AddOp::create(b, loc, before, rank);
      input.getResult().replaceAllUsesExcept(number, before.getDefiningOp());
    }
  }

  LogicalResult shareExperts(StepOp step, const ExpertsRequest &request) {
    FailureOr<ExpertsOutcome> outcome = shardExperts(step, request);
    if (failed(outcome))
      return failure();
    if (outcome->products == 0)
      step.emitRemark("expert parallelism: no product is grouped by experts (train.grouped_matmul) that the ")
          << int64_t(ep) << " ranks of ep could share";
    else
      step.emitRemark("expert parallelism: ")
          << rt::counted(outcome->products, "grouped product") << " of " << rt::counted(outcome->layers, "layer")
          << "; a rank has " << rt::counted(static_cast<uint64_t>(outcome->slots), "slot") << " for rows of the " << int64_t(ep)
          << " ranks that share experts, " << rt::counted(static_cast<uint64_t>(outcome->rows), "row") << " each; "
          << (outcome->slots < outcome->rows * int64_t(ep) ? "rows without a slot are dropped, and counted"
                                                          : "no row can be dropped; a capacity factor takes less memory");
    experts = std::move(outcome->parameters);
    shardedParameters += experts.size();
    dividedOps += outcome->products;
    return success();
  }

  AxisRequest contextRequest() {
    return {"cp", cp, AxisRequest::Along::Sequence, *contextAttentionNamed(std::string(cpAttention)),
            *deviceModel(std::string(target), std::string(precision)),
            rt::groupSpan(mesh(), rt::cpAxes)};
  }

  /// How attention gets at keys and values, what that was decided by if it was decided here, and where it is not as it
  /// was asked for.
  void explain(StepOp step, const AxisOutcome &outcome) {
    auto milliseconds = [](const ContextCost &cost) { return llvm::formatv("{0:f3}", seconds(cost.picoseconds) * 1e3).str(); };
    if (outcome.rings + outcome.gathers > 0) {
      InFlightDiagnostic remark = step.emitRemark("context parallelism: attentions in a ring: ")
                                  << outcome.rings << ", with keys and values gathered: " << outcome.gathers;
      if (outcome.ring.picoseconds > 0)
        remark << "; for the first a ring is modelled to take " << milliseconds(outcome.ring) << " ms and "
               << bytesText(outcome.ring.bytes) << ", a gather " << milliseconds(outcome.gather) << " ms and "
               << bytesText(outcome.gather.bytes);
    }
    for (const auto &[reason, count] : outcome.noRing)
      step.emitRemark("context parallelism: attentions that cannot be in a ring: ") << count << " (" << reason << ")";
  }

  /// What tp would have been cut along, were it divisible, or were the loss.
  void explainWhole(StepOp step, const AxisOutcome &outcome) {
    if (!outcome.indivisible.empty())
      list(step.emitRemark("tensor parallelism: whole on every rank of tp, which cannot divide it by ") << int64_t(tp),
           outcome.indivisible);
    if (!outcome.readByLoss.empty())
      list(step.emitRemark("tensor parallelism: whole on every rank of tp, for the loss reads whole rows of logits "
                           "(linear cross-entropy does not)"),
           outcome.readByLoss);
  }
  static void list(InFlightDiagnostic &&remark, const std::vector<WholeDimension> &dimensions) {
    for (auto [number, whole] : llvm::enumerate(dimensions)) {
      remark << (number == 0 ? ": '" : "; '") << whole.parameter << "'";
      if (whole.others > 0)
        remark << " and " << rt::counted(whole.others, "parameter") << " like it";
      remark << ", dimension " << whole.dim << " of size " << whole.size;
      if (whole.parts != whole.size)
        remark << " (" << whole.parts << " parts of " << whole.size / whole.parts << ")";
    }
  }

  LogicalResult shard(StepOp step) {
    OutputOp loss = findOutput(step, "loss");
    if (!loss) {
      step.emitError("there is no output named loss to sum over ranks").attachNote() << "run attach-loss first";
      return failure();
    }
    for (ParameterOp parameter : step.getOps<ParameterOp>())
      if (parameter.getSplits()) {
        parameter.emitError("is spread over ranks already");
        return failure();
      }
    eraseDeadOps(step); // so that the grouped products that are there stay
    SmallVector<int64_t> rows = expertRows(step);
    ExpertsRequest request{mesh(), capacityFactor, std::vector<std::array<bool, 2>>(rows.size())};
    auto noteRows = [&](size_t axis) { // an axis that has cut a product's rows gave each of its ranks its own
      SmallVector<int64_t> now = expertRows(step);
      for (auto [before, after, divided] : llvm::zip_equal(rows, now, request.divided))
        divided[axis] = before != after;
      rows = std::move(now);
    };
    if (cp > 1) {
      AxisOutcome outcome = shardAxis(step, contextRequest());
      dividedOps += outcome.operations;
      rings += outcome.rings;
      explain(step, outcome);
      if (!outcome.tokens)
        step.emitRemark("context parallelism: there is no attention whose queries' positions can be divided by ")
            << int64_t(cp) << "; the ranks of axis cp do the same work";
      noteRows(0);
    }
    if (tp > 1) {
      AxisRequest axis{"tp", tp, sequenceParallel ? AxisRequest::Along::WeightsAndTokens : AxisRequest::Along::Weights};
      axis.experts = !rt::expertsTakeTp(mesh());
      AxisOutcome outcome = shardAxis(step, axis);
      shardedParameters += outcome.parameters;
      dividedOps += outcome.operations;
      if (outcome.dimensions == 0)
        step.emitRemark("tensor parallelism: no dimension of a weight can be divided by ")
            << int64_t(tp) << " along all that it goes through; the ranks of axis tp do the same work";
      else if (sequenceParallel && !outcome.tokens)
        step.emitRemark("sequence parallelism: tokens cannot be divided by ") << int64_t(tp) << "; they stay whole";
      explainWhole(step, outcome);
      noteRows(1);
    }
    if (ep > 1 && failed(shareExperts(step, request)))
      return failure();
    FailureOr<GatheredStep> gathered = gatherStep(step);
    if (failed(gathered))
      return failure();
    BlockAnalysis blocks = findBlocks(gathered->graph);
    numberOf.clear();
    for (auto [number, op] : llvm::enumerate(gathered->ops))
      numberOf[op] = number;
    for (ParameterOp parameter : llvm::to_vector(step.getOps<ParameterOp>()))
      if (isa<FloatType>(elementOf(parameter.getResult())))
        place(parameter, blocks);
    sumLoss(step);
    numberMicroBatches(step);
    Builder b(&getContext());
    setMesh(step, mesh());
    step->setAttr("train.strategy", b.getStringAttr(strategy));
    if (strategy == "megatron_fsdp" && (zero == 1 || zero == 2) && dpShard > 1)
      step->setAttr("train.zero", b.getI64IntegerAttr(zero));
    return success();
  }

  void runOnOperation() override {
    bool bad = failed(checkOptions());
    if (!bad && mesh().ranks() > 1)
      for (StepOp step : getOperation().getOps<StepOp>())
        bad = failed(shard(step)) || bad;
    if (bad)
      signalPassFailure();
  }

  DenseMap<Operation *, uint32_t> numberOf; // in program order; look-ups only
  DenseSet<Operation *> experts;            // parameters of which a rank has its experts; look-ups only
};

} // namespace
