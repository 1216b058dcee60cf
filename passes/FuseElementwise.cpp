// Groups cheap operations of a placed step into kernels.
//
// Neighbours in the schedule are joined where one reads what the other makes, or both read one tensor, as long as no byte
// that the group writes is one that it may still read. Every operation that can be fused becomes a train.fused, also one
// alone: so a value has the same bits whatever stands beside it, whether it is computed or computed again. What is computed
// again joins the gradients that read it, and costs what the processor computes (compiler/analysis/JoinedRecomputation.h).
// Tensors of one number are constants of the kernels that read them.
//
// Behind AssignOffsets on purpose: order and places are those that the memory decisions chose for single operations, and
// their promises and bounds hold as they are; what is only used inside a group is no longer written at all.
#include "compiler/codegen/Group.h"
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "runtime/plan/FusedKernels.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/StringExtras.h"

namespace amc {
#define GEN_PASS_DEF_FUSEELEMENTWISE
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;
using codegen::Group;

namespace {

struct Range {
  int64_t begin, end;
  bool overlaps(const Range &other) const { return begin < other.end && other.begin < end; }
  bool operator==(const Range &) const = default;
};

// Members in program order, views between them included.
struct Candidate {
  SmallVector<Operation *> members;
  SmallVector<Value> inputs, outputs;
  SmallVector<int64_t> taken;
};

class Fuser {
public:
  explicit Fuser(StepOp step) : step(step) {}

  // Operations that have gone into kernels of several; kernels; those of backward that compute something again.
  uint64_t joined = 0, groups = 0, recomputed = 0;

  void run() {
    indexStep();
    for (Operation &op : llvm::make_early_inc_range(step.getBody().front())) {
      if (auto view = dyn_cast<ViewOpInterface>(op); view && !view.isInstruction()) {
        views.push_back(&op);
        continue;
      }
      if (isa<SourceOpInterface, OutputOp, GradientOp>(op))
        continue;
      if (isFusedConstant(&op)) {
        constants.push_back(&op); // runs before the group, if anything else reads it
        continue;
      }
      if (!isFusable(&op)) {
        close();
        continue;
      }
      if (!open.empty() && join(&op))
        continue;
      close();
      start(&op);
    }
    close();
    llvm::for_each(constantsRead, [&](Operation *constant) { eraseUnread(constant); });
  }

private:
  static bool isFusable(Operation *op) {
    auto fusable = dyn_cast<FusableOpInterface>(op);
    return fusable && fusable.getFusionRule().domain;
  }
  // What backward computes again on its way to a gradient moves no bytes of its own if it is in the same kernel.
  static Phase kernelPhase(Operation *op) {
    Phase phase = phaseOf(op);
    return phase == Phase::Recompute ? Phase::Backward : phase;
  }
  static Range rangeOf(Value value) {
    auto result = cast<OpResult>(Group::rootOf(value));
    int64_t at = result.getOwner()->getAttrOfType<DenseI64ArrayAttr>("train.offsets")[result.getResultNumber()];
    return {at, at + static_cast<int64_t>(byteSize(value.getType()))};
  }

  void start(Operation *op) {
    constants.clear();
    std::optional<Candidate> made = consider({op});
    if (!made)
      return; // its own kernel runs it
    open = {op};
    best = std::move(*made);
  }

  // Whether `op` may run in the kernel of the operations before it; if so, it does.
  bool join(Operation *op) {
    if (open.size() >= maxGroupOperations || kernelPhase(op) != kernelPhase(open.back()))
      return false;
    auto isMember = [&](Operation *other) { return other && llvm::is_contained(open, other); };
    const FusionRule rule = cast<FusableOpInterface>(op).getFusionRule();
    bool related = llvm::any_of(op->getOpOperands(), [&](OpOperand &operand) {
      return isMember(Group::rootOf(operand.get()).getDefiningOp()) ||
             (readsInPlace(rule, operand) && llvm::any_of(open, [&](Operation *member) {
               return llvm::is_contained(member->getOperands(), operand.get());
             }));
    });
    if (!related)
      return false;
    SmallVector<Operation *> longer = open;
    longer.push_back(op);
    std::optional<Candidate> made = consider(longer);
    if (!made)
      return false;
    open = std::move(longer);
    best = std::move(*made);
    return true;
  }

  // The group that `operations` would be, if they can be one.
  std::optional<Candidate> consider(ArrayRef<Operation *> operations) {
    Candidate made;
    DenseSet<Operation *> inside(operations.begin(), operations.end());
    std::optional<std::pair<int64_t, int64_t>> domain;
    for (Operation *op : operations) {
      std::pair<int64_t, int64_t> own = rowsAndColumns(cast<FusableOpInterface>(op).getFusionRule());
      if (domain && *domain != own)
        return std::nullopt;
      domain = own;
    }
    // Views of what members make that members read are in the group as well.
    DenseSet<Operation *> inner;
    for (Operation *op : operations)
      for (Value operand : op->getOperands())
        for (Value v = operand; v.getDefiningOp() && isa<ViewOpInterface>(v.getDefiningOp());
             v = v.getDefiningOp()->getOperand(0))
          if (inside.contains(Group::rootOf(operand).getDefiningOp()))
            inner.insert(v.getDefiningOp());
    for (Operation *op : operations)
      made.members.push_back(op);
    for (Operation *view : views)
      if (inner.contains(view))
        made.members.push_back(view);
    llvm::sort(made.members, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });

    for (Operation *op : operations)
      for (Value operand : op->getOperands()) {
        Operation *maker = Group::rootOf(operand).getDefiningOp();
        if (!inside.contains(maker) && !isFusedConstant(maker) && !llvm::is_contained(made.inputs, operand))
          made.inputs.push_back(operand);
      }
    auto leaves = [&](Value value) {
      return llvm::any_of(value.getUsers(), [&](Operation *user) { return !inside.contains(user) && !inner.contains(user); });
    };
    for (Operation *op : made.members)
      for (Value result : op->getResults())
        if (leaves(result)) {
          if (!inside.contains(op))
            return std::nullopt; // a view that is read elsewhere, too
          made.outputs.push_back(result);
        }
    if (made.inputs.size() + made.outputs.size() >= static_cast<size_t>(rt::maxFusedOperands) || !places(made, inside))
      return std::nullopt;
    return isKernel(made) ? std::optional(std::move(made)) : std::nullopt;
  }

  // Whether the group writes only where nothing is that it still reads: elsewhere, or element by element over an operand.
  bool places(Candidate &made, const DenseSet<Operation *> &inside) {
    std::optional<Range> scratch;
    for (Operation *op : made.members)
      if (auto compute = dyn_cast<ComputeOpInterface>(op); compute && workspaceBytes(compute) > 0) {
        int64_t at = op->getAttrOfType<IntegerAttr>("train.workspace_offset").getInt();
        if (scratch)
          return false;
        scratch = {at, at + static_cast<int64_t>(workspaceBytes(compute))};
      }
    for (Value input : made.inputs)
      if (scratch && scratch->overlaps(rangeOf(input)))
        return false;
    // What nobody reads is there at the first instruction, which the group may become, or a constant before it.
    auto overUnread = [&](const Range &range) {
      return llvm::any_of(unread, [&](const Range &other) { return other.overlaps(range); });
    };
    for (Operation *constant : constants) {
      if (readsRoot(inside, constant) && vanishes(constant, inside))
        continue;
      Range range = rangeOf(constant->getResult(0));
      auto overlaps = [&](Value value) { return rangeOf(value).overlaps(range); };
      if (overUnread(range) || (scratch && scratch->overlaps(range)) || llvm::any_of(made.inputs, overlaps) ||
          llvm::any_of(made.outputs, overlaps))
        return false;
    }
    if (scratch && inside.size() > 1 && overUnread(*scratch))
      return false;
    for (auto [i, output] : llvm::enumerate(made.outputs)) {
      Range range = rangeOf(output);
      int64_t from = -1;
      if ((scratch && scratch->overlaps(range)) || (inside.size() > 1 && overUnread(range)))
        return false;
      for (Value other : ArrayRef<Value>(made.outputs).take_front(i))
        if (range.overlaps(rangeOf(other)))
          return false;
      for (auto [k, input] : llvm::enumerate(made.inputs)) {
        if (!range.overlaps(rangeOf(input)))
          continue;
        if (from >= 0 || !(range == rangeOf(input)) || !replaceable(input, output, inside))
          return false;
        from = static_cast<int64_t>(k);
      }
      made.taken.push_back(from);
    }
    return true;
  }

  static bool readsRoot(const DenseSet<Operation *> &inside, Operation *root) {
    return llvm::any_of(inside, [&](Operation *op) {
      return llvm::any_of(op->getOperands(), [&](Value operand) { return Group::rootOf(operand).getDefiningOp() == root; });
    });
  }

  // Whether nothing but the group reads a constant, or views of it. The first instruction stays what it is: inputs that
  // nobody reads are there.
  bool vanishes(Operation *constant, const DenseSet<Operation *> &inside) {
    if (constant == first && !unread.empty())
      return false;
    return llvm::all_of(constant->getUsers(), [&](Operation *user) {
      return inside.contains(user) || (isa<ViewOpInterface>(user) && vanishes(user, inside));
    });
  }

  // Element i of `input` is read only where element i of `output` is made.
  static bool replaceable(Value input, Value output, const DenseSet<Operation *> &inside) {
    if (isa<SourceOpInterface>(Group::rootOf(input).getDefiningOp())) // its buffer is nobody else's
      return false;
    if (Group::makes(output) != Makes::Element || elementOf(input).getIntOrFloatBitWidth() != elementOf(output).getIntOrFloatBitWidth())
      return false;
    for (OpOperand &use : input.getUses()) {
      if (!inside.contains(use.getOwner()))
        continue;
      if (!readsInPlace(cast<FusableOpInterface>(use.getOwner()).getFusionRule(), use))
        return false;
    }
    return true;
  }

  // Asks what makes kernels, on a copy.
  static bool isKernel(const Candidate &made) {
    Block body;
    build(body, made);
    std::string why;
    bool possible = Group::analyze(body, why).has_value();
    body.dropAllReferences();
    return possible;
  }

  static void build(Block &body, const Candidate &made) {
    OpBuilder b(made.members.front()->getContext());
    b.setInsertionPointToStart(&body);
    IRMapping mapping;
    for (Value input : made.inputs)
      mapping.map(input, body.addArgument(input.getType(), made.members.front()->getLoc()));
    for (Operation *op : made.members) {
      for (Value operand : op->getOperands())
        if (auto full = Group::rootOf(operand).getDefiningOp<FullOp>(); isFusedConstant(full) && !mapping.contains(operand))
          mapping.map(operand, FullOp::create(b, full.getLoc(), full.getValueAttr(), b.getDenseI64ArrayAttr(shapeOf(operand)),
                                              full.getElementAttr())
                                   .getResult());
      Operation *copy = b.clone(*op, mapping);
      copy->setDiscardableAttrs(ArrayRef<NamedAttribute>());
    }
    SmallVector<Value> yielded;
    for (Value output : made.outputs)
      yielded.push_back(mapping.lookup(output));
    YieldOp::create(b, made.members.back()->getLoc(), yielded);
  }

  void close() {
    if (!open.empty())
      write();
    open.clear();
    views.clear();
    constants.clear();
  }

  // Instead of the members, where the last of them is. What stands between and names or views a result follows.
  void write() {
    Operation *last = open.back();
    OpBuilder b(last);
    SmallVector<int64_t> offsets;
    SmallVector<Type> types;
    for (Value output : best.outputs) {
      offsets.push_back(rangeOf(output).begin);
      types.push_back(output.getType());
    }
    auto fused = FusedOp::create(b, locationOf(open), types, best.inputs, b.getDenseI64ArrayAttr(best.taken));
    build(fused.getBody().emplaceBlock(), best);
    notePhase(fused);
    fused->setAttr("train.offsets", b.getDenseI64ArrayAttr(offsets));
    for (Operation *op : open) {
      if (auto at = op->getAttr("train.workspace_offset"))
        fused->setAttr("train.workspace_offset", at);
      if (auto block = blockAt.find(op->getLoc()); block != blockAt.end() && phaseOf(op) != Phase::Optimizer)
        fused->setAttr("train.block", b.getI64IntegerAttr(block->second));
    }
    SmallVector<Operation *> followers;
    for (Operation *op = best.members.front(); op != last; op = op->getNextNode())
      if (op != fused && !llvm::is_contained(best.members, op) && readsMember(op))
        followers.push_back(op);
    for (Operation *op : llvm::reverse(followers))
      op->moveAfter(fused);
    for (auto [output, result] : llvm::zip_equal(best.outputs, fused.getOutputs()))
      output.replaceAllUsesWith(result);
    for (Operation *op : llvm::reverse(best.members)) {
      for (Value operand : op->getOperands())
        if (Operation *maker = Group::rootOf(operand).getDefiningOp(); isFusedConstant(maker))
          constantsRead.insert(maker);
      erase(op);
    }
    groups += 1;
    joined += open.size() > 1 ? open.size() : 0;
  }

  // A kernel of which some operations are computed again is one of backward, which says how much of it that is.
  void notePhase(FusedOp fused) {
    auto isAgain = [](Operation *op) { return phaseOf(op) == Phase::Recompute; };
    if (llvm::all_of(open, isAgain))
      return setPhase(fused, Phase::Recompute);
    setPhase(fused, kernelPhase(open.back()));
    uint64_t flops = 0;
    for (Operation *op : llvm::make_filter_range(open, isAgain))
      flops += cast<ComputeOpInterface>(op).getFlops();
    if (flops == 0)
      return;
    fused->setAttr("train.joined_flops", Builder(fused.getContext()).getI64IntegerAttr(static_cast<int64_t>(flops)));
    recomputed += 1;
  }

  // A constant, and views of it, that only kernels have read.
  void eraseUnread(Operation *op) {
    for (Operation *user : llvm::make_early_inc_range(op->getUsers()))
      if (isa<ViewOpInterface>(user))
        eraseUnread(user);
    if (op->use_empty() && (op != first || unread.empty()))
      erase(op);
  }
  void erase(Operation *op) {
    first = op == first ? nullptr : first;
    op->erase();
  }

  // Whether it reads, through views that move as well, what a member makes.
  bool readsMember(Operation *op) {
    return llvm::any_of(op->getOperands(), [&](Value operand) {
      return llvm::is_contained(open, Group::rootOf(operand).getDefiningOp());
    });
  }

  static Location locationOf(ArrayRef<Operation *> operations) {
    SetVector<StringAttr> names;
    MLIRContext *context = operations.front()->getContext();
    for (Operation *op : operations)
      if (std::string name = locationName(op->getLoc()); name != "?")
        names.insert(StringAttr::get(context, name));
    if (names.empty() || operations.size() == 1)
      return operations.front()->getLoc();
    return NameLoc::get(StringAttr::get(context, llvm::join(llvm::map_range(names, [](StringAttr name) { return name.getValue(); }), " + ")));
  }

  // An operation of backward belongs to the block of the forward operation that it has its location from.
  void indexStep() {
    for (Operation &op : step.getBody().front())
      if (auto block = op.getAttrOfType<IntegerAttr>("train.block"))
        blockAt.try_emplace(op.getLoc(), block.getInt());
      else if (isa<InputOp>(op) && op.use_empty())
        unread.push_back(rangeOf(op.getResult(0)));
    auto isInstruction = [](Operation &op) {
      auto view = dyn_cast<ViewOpInterface>(op);
      return isa<ComputeOpInterface>(op) && (!view || view.isInstruction());
    };
    auto found = llvm::find_if(step.getBody().front(), isInstruction);
    first = found == step.getBody().front().end() ? nullptr : &*found;
  }

  StepOp step;
  SmallVector<Operation *> open, views, constants; // since the last kernel of another kind
  Candidate best;                                  // the group that open is
  SetVector<Operation *> constantsRead;            // by kernels
  Operation *first = nullptr;                      // instruction of the step, until it has gone into a kernel
  DenseMap<Location, int64_t> blockAt;             // look-ups only
  SmallVector<Range> unread;                       // inputs
};

// Whether everything has a place; what has none is reported.
bool isPlaced(StepOp step) {
  if (!step->hasAttr("train.arena_bytes")) {
    step.emitError("train.arena_bytes is missing; run assign-offsets first");
    return false;
  }
  bool all = true;
  for (Operation &op : step.getBody().front()) {
    auto view = dyn_cast<ViewOpInterface>(op);
    if ((view && !view.isInstruction()) || isa<OutputOp, GradientOp>(op))
      continue;
    auto offsets = op.getAttrOfType<DenseI64ArrayAttr>("train.offsets");
    if (op.getNumResults() > 0 && (!offsets || offsets.size() != op.getNumResults())) {
      op.emitError("has no offset for each of its results; run assign-offsets first");
      all = false;
    }
    auto compute = dyn_cast<ComputeOpInterface>(op);
    if (compute && workspaceBytes(compute) > 0 && !op.getAttrOfType<IntegerAttr>("train.workspace_offset")) {
      op.emitError("has no offset for its workspace; run assign-offsets first");
      all = false;
    }
  }
  return all;
}

struct FuseElementwisePass : amc::impl::FuseElementwiseBase<FuseElementwisePass> {
  using FuseElementwiseBase::FuseElementwiseBase;

  void runOnOperation() override {
    bool placed = true;
    for (StepOp step : getOperation().getOps<StepOp>())
      placed &= isPlaced(step);
    if (!placed)
      return signalPassFailure();
    for (StepOp step : getOperation().getOps<StepOp>()) {
      Fuser fuser(step);
      fuser.run();
      groups += fuser.groups;
      joinedOps += fuser.joined;
      recomputing += fuser.recomputed;
    }
  }
};

} // namespace
