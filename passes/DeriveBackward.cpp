// Reverse-mode differentiation of the forward graph.
//
// Phases: find the values that depend on a trainable parameter (varied); walk the operations backwards, asking each
// for its vector-Jacobian product; name the parameters' gradients. A contribution is added to its value's gradient as
// soon as it exists, so that it can die at once; the order is that of the walk and part of the result's bits.
// Failure reports every use without a gradient, once for each kind of operation.
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "llvm/ADT/MapVector.h"

namespace amc {
#define GEN_PASS_DEF_DERIVEBACKWARD
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

struct Missing {
  Location first;
  unsigned count = 0;
};

class Derivation {
public:
  explicit Derivation(StepOp step)
      : step(step), tagger(Phase::Backward), builder(OpBuilder::atBlockEnd(&step.getBody().front(), &tagger)) {}

  LogicalResult run(OutputOp loss) {
    SmallVector<Operation *> forward;
    for (Operation &op : step.getBody().front())
      forward.push_back(&op);
    findVaried(forward);

    Value value = loss.getValue();
    if (!varied.contains(value)) {
      auto error = step.emitError("the loss depends on no trainable parameter");
      error.attachNote() << "parameters that neither --trainable nor --frozen names are trained by what they do: amc compile --verbose "
                            "lists what each is taken for";
      auto isVaried = [&](Value v) { return varied.contains(v); };
      for (Operation *op : forward)
        if (op->getNumResults() && llvm::any_of(op->getOperands(), isVaried) && llvm::none_of(op->getResults(), isVaried)) {
          error.attachNote(op->getLoc()) << op->getName() << " lets no gradient through";
          break;
        }
      return error;
    }
    gradients[value] = full(builder, loss.getLoc(), 1, tensorType(value));
    for (Operation *op : llvm::reverse(forward))
      visit(op);
    if (!missing.empty())
      return report();
    nameGradients(forward);
    eraseDeadOps(step);
    return success();
  }

private:
  void findVaried(ArrayRef<Operation *> forward) {
    for (Operation *op : forward) {
      if (auto parameter = dyn_cast<ParameterOp>(op)) {
        if (parameter.getTrainable() && isa<FloatType>(elementOf(parameter.getResult())))
          varied.insert(parameter.getResult());
        continue;
      }
      if (op->hasTrait<ZeroGradient>() || llvm::none_of(op->getOperands(), [&](Value v) { return varied.contains(v); }))
        continue;
      for (Value result : op->getResults())
        if (isa<FloatType>(elementOf(result)))
          varied.insert(result);
    }
  }

  void visit(Operation *op) {
    SmallVector<Value> cotangents;
    for (Value result : op->getResults())
      cotangents.push_back(gradients.lookup(result));
    if (isa<SourceOpInterface>(op) || llvm::none_of(cotangents, [](Value v) { return v != nullptr; }))
      return;
    SmallVector<bool> needed;
    for (Value operand : op->getOperands())
      needed.push_back(varied.contains(operand));
    SmallVector<Value> contributions(op->getNumOperands());
    auto differentiable = dyn_cast<DifferentiableOpInterface>(op);
    if (!differentiable || failed(differentiable.buildVjp(builder, cotangents, needed, contributions))) {
      auto [entry, isNew] = missing.try_emplace(op->getName().getStringRef(), Missing{op->getLoc()});
      // The walk is backwards: the last one seen is the first of the model.
      entry->second.first = op->getLoc();
      ++entry->second.count;
      // The walk goes on behind it, to find what else is missing.
      for (auto [operand, wanted] : llvm::zip_equal(op->getOperands(), needed))
        if (wanted)
          accumulate(operand, full(builder, op->getLoc(), 0, tensorType(operand)), op->getLoc());
      return;
    }
    for (auto [operand, contribution] : llvm::zip_equal(op->getOperands(), contributions))
      if (contribution && varied.contains(operand))
        accumulate(operand, contribution, op->getLoc());
  }

  void accumulate(Value value, Value contribution, Location loc) {
    Value &sum = gradients[value];
    if (!sum)
      sum = contribution;
    else if (Value joined = join(sum, contribution, loc))
      sum = joined;
    else
      sum = AddOp::create(builder, loc, sum, contribution);
  }

  /// Gradients of slices side by side (queries, keys and values of one product) are one tensor: no zeros are added to
  /// either. Null if the two are not such.
  Value join(Value a, Value b, Location loc) {
    auto first = a.getDefiningOp<PadOp>(), second = b.getDefiningOp<PadOp>();
    auto isZeros = [](PadOp pad) {
      return pad && pad.getValue().isZero() && llvm::all_of(pad.getInterior(), [](int64_t n) { return n == 0; });
    };
    if (!isZeros(first) || !isZeros(second))
      return {};
    std::optional<unsigned> axis; // the only one along which they are padded
    for (unsigned dim = 0, rank = shapeOf(a).size(); dim < rank; ++dim) {
      if (first.getLow()[dim] == 0 && first.getHigh()[dim] == 0 && second.getLow()[dim] == 0 && second.getHigh()[dim] == 0)
        continue;
      if (axis)
        return {};
      axis = dim;
    }
    if (!axis)
      return {};
    if (second.getLow()[*axis] < first.getLow()[*axis])
      std::swap(first, second);
    if (first.getLow()[*axis] + shapeOf(first.getX())[*axis] != second.getLow()[*axis])
      return {};
    SmallVector<Value> parts;
    for (Value part : {first.getX(), second.getX()})
      if (auto concat = part.getDefiningOp<ConcatOp>(); concat && concat.getAxis() == *axis)
        llvm::append_range(parts, concat.getInputs());
      else
        parts.push_back(part);
    Value both = ConcatOp::create(builder, loc, parts, *axis);
    if (first.getLow()[*axis] == 0 && second.getHigh()[*axis] == 0)
      return both;
    return PadOp::create(builder, loc, both, first.getLow(), second.getHigh(), first.getInterior(), llvm::APFloat(0.0));
  }

  LogicalResult report() {
    for (auto &[name, use] : missing) {
      auto error = emitError(use.first) << name << " has no gradient here (" << use.count
                                        << (use.count == 1 ? " use)" : " uses, this is the first)");
      error.attachNote() << "freeze the parameters that it depends on with --frozen, or use another form of it";
    }
    return failure();
  }

  void nameGradients(ArrayRef<Operation *> forward) {
    for (Operation *op : forward) {
      auto parameter = dyn_cast<ParameterOp>(op);
      if (!parameter || !parameter.getTrainable())
        continue;
      if (Value gradient = gradients.lookup(parameter.getResult()))
        GradientOp::create(builder, parameter.getLoc(), gradient, parameter.getName());
      else
        parameter.emitRemark("parameter ") << parameter.getName() << " is not trained: the loss does not depend on it";
    }
  }

  StepOp step;
  PhaseTagger tagger;
  OpBuilder builder;
  DenseSet<Value> varied;
  DenseMap<Value, Value> gradients;
  llvm::MapVector<StringRef, Missing> missing;
};

struct DeriveBackwardPass : amc::impl::DeriveBackwardBase<DeriveBackwardPass> {
  void runOnOperation() override {
    bool bad = false;
    for (StepOp step : getOperation().getOps<StepOp>()) {
      OutputOp loss = findOutput(step, "loss");
      if (!loss || !isa<FloatType>(elementOf(loss.getValue())) || !shapeOf(loss.getValue()).empty()) {
        auto error = step.emitError("there is no float scalar output named loss");
        error.attachNote() << "run attach-loss first";
        bad = true;
        continue;
      }
      if (llvm::any_of(step.getBody().front(), [](Operation &op) { return phaseOf(&op) != Phase::Forward; })) {
        step.emitError("the step has a backward pass already");
        bad = true;
        continue;
      }
      bad |= failed(Derivation(step).run(loss));
    }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
