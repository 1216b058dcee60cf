// Adds the training loss to the forward graph.
//
// Decides which output holds the logits and which loss they get. Labels stay as the data has them: causal-LM shifts
// the labels, not the logits, which costs eight bytes a token instead of a copy of the logits. The sum over labelled
// positions is divided by their number in the whole step, which the runtime knows before it starts, so micro-batches
// and ranks add up to the mean over all of them; with class weights by the sum of the labels' weights, which the runtime
// counts alike (train.class_weights). A loss of reduction `sum` is divided by nothing.
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include <cmath>

namespace amc {
#define GEN_PASS_DEF_ATTACHLOSS
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

enum class Loss { CausalLm, CrossEntropy, Model };

/// What to do for one step; made by `decide`, carried out by `write`.
struct Decision {
  Loss loss;
  Value value; // the logits, or the model's own loss
};

bool isFloatOutput(OutputOp output) { return isa<FloatType>(elementOf(output.getValue())); }

/// A float scalar output named like a loss.
OutputOp modelLoss(StepOp step) {
  for (OutputOp output : step.getOps<OutputOp>())
    if (isFloatOutput(output) && elementCount(shapeOf(output.getValue())) == 1 &&
        output.getName().contains_insensitive("loss"))
      return output;
  return nullptr;
}

/// Encoders let every token see those after it, so predicting the next one teaches nothing. Answers no when in doubt:
/// no attention in the model (a recurrent one, or one that was not raised), or a bias that may hold a causal mask.
bool looksBothWays(StepOp step) {
  auto attention = step.getOps<AttentionOp>();
  return !attention.empty() && llvm::none_of(attention, [](AttentionOp op) { return op.getRight() == 0 || op.getBias(); });
}

std::string outputNames(StepOp step) {
  std::string names;
  for (OutputOp output : step.getOps<OutputOp>())
    names += (names.empty() ? "" : ", ") + output.getName().str() + " (" +
             shapeString(shapeOf(output.getValue())) + ")";
  return names.empty() ? "none" : names;
}

struct AttachLossPass : amc::impl::AttachLossBase<AttachLossPass> {
  using AttachLossBase::AttachLossBase;

  FailureOr<OutputOp> findLogits(StepOp step) {
    std::string wanted = logits;
    if (!wanted.empty() || findOutput(step, "logits")) {
      if (OutputOp output = findOutput(step, wanted.empty() ? "logits" : wanted))
        return output;
      auto error = step.emitError("no output is named ") << wanted;
      error.attachNote() << "outputs: " << outputNames(step);
      return failure();
    }
    SmallVector<OutputOp> candidates;
    for (OutputOp output : step.getOps<OutputOp>())
      if (isFloatOutput(output) && shapeOf(output.getValue()).size() >= 2)
        candidates.push_back(output);
    if (candidates.size() == 1)
      return candidates[0];
    auto error = step.emitError("which output holds the logits is ")
                 << (candidates.empty() ? "unknown: none is a float tensor of rank 2 or more" : "ambiguous");
    error.attachNote() << "outputs: " << outputNames(step) << "; name one with --logits";
    return failure();
  }

  LogicalResult checkOptions(StepOp step) {
    bool bad = false;
    auto complain = [&](const Twine &message) {
      step.emitError(message);
      bad = true;
    };
    if (reduction != "mean" && reduction != "sum")
      complain("reduction is \"" + reduction + "\", should be mean or sum");
    if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
      complain("label-smoothing is " + Twine(std::to_string(labelSmoothing)) + ", should be in [0, 1]");
    if (!(zLoss >= 0) || !std::isfinite(zLoss))
      complain("z-loss is " + Twine(std::to_string(zLoss)) + ", should be 0 or more and finite");
    if (llvm::any_of(classWeights, [](double weight) { return !(weight >= 0) || !std::isfinite(weight); }))
      complain("class-weights should be 0 or more and finite");
    if (!classWeights.empty() && llvm::none_of(classWeights, [](double weight) { return weight > 0; }))
      complain("class-weights are all 0, one should be more");
    return failure(bad);
  }

  /// The model's own loss has been computed already: what would change its formula is refused.
  FailureOr<Decision> checkOwn(OutputOp own) {
    std::string given;
    for (auto [isGiven, name] : {std::pair(labelSmoothing != 0, "label-smoothing"), std::pair(zLoss != 0, "z-loss"),
                                 std::pair(!classWeights.empty(), "class-weights"),
                                 std::pair(reduction != "mean", "reduction")})
      if (isGiven)
        given += (given.empty() ? "" : ", ") + std::string(name);
    if (given.empty())
      return Decision{Loss::Model, own.getValue()};
    auto error = own.emitError("the loss is the model's own and has no ") << given;
    error.attachNote() << "choose --loss=causal-lm or cross-entropy, or leave out the option";
    return failure();
  }

  FailureOr<Decision> decide(StepOp step) {
    std::string kind = loss;
    if (kind != "auto" && kind != "causal-lm" && kind != "cross-entropy" && kind != "model") {
      step.emitError("loss is \"") << kind << "\", should be auto, causal-lm, cross-entropy or model";
      return failure();
    }
    if (failed(checkOptions(step)))
      return failure();
    OutputOp own = modelLoss(step);
    if (kind == "model" || (kind == "auto" && own)) {
      if (own) {
        FailureOr<Decision> decision = checkOwn(own);
        if (succeeded(decision) && kind == "auto")
          step.emitRemark() << "the loss is the model's own output '" << own.getName() << "'; --loss chooses";
        return decision;
      }
      auto error = step.emitError("the model has no loss of its own: no float scalar output is named like one");
      error.attachNote() << "outputs: " << outputNames(step) << "; choose --loss=causal-lm or cross-entropy";
      return failure();
    }
    FailureOr<OutputOp> output = findLogits(step);
    if (failed(output))
      return failure();
    Value value = output->getValue();
    size_t rank = shapeOf(value).size();
    if (!isFloatOutput(*output) || rank < 2) {
      output->emitError("logits are ") << value.getType() << ", should be a float tensor of rank 2 or more";
      return failure();
    }
    if (kind == "causal-lm" && rank != 3) {
      output->emitError("causal-lm needs logits of rank 3 (batch, sequence, vocabulary), these have rank ") << rank;
      return failure();
    }
    if (int64_t classes = shapeOf(value).back();
        !classWeights.empty() && static_cast<int64_t>(classWeights.size()) != classes) {
      output->emitError("class-weights are ") << classWeights.size() << " numbers, should be " << classes
                                              << ", one for each class";
      return failure();
    }
    bool causal = kind == "causal-lm" || (kind == "auto" && rank == 3 && !looksBothWays(step));
    // The guess fails for decoders of translation models, whose labels are shifted already.
    if (kind == "auto")
      step.emitRemark() << "the loss is "
                        << (causal      ? "causal-lm: a position is scored by the label after it"
                            : rank == 2 ? "cross-entropy: a row is scored by its label"
                                        : "cross-entropy: a position is scored by the label at it")
                        << "; --loss chooses";
    return Decision{causal ? Loss::CausalLm : Loss::CrossEntropy, value};
  }

  /// The class weights as a constant; null if there are none.
  Value weights(OpBuilder &b, Value logits) {
    if (classWeights.empty())
      return {};
    auto type = RankedTensorType::get(static_cast<int64_t>(classWeights.size()), statisticType(elementOf(logits)));
    HostTensor values(type);
    values.floats.assign(classWeights.begin(), classWeights.end());
    return ConstantOp::create(b, NameLoc::get(b.getStringAttr("class_weights")), type, values.toAttr());
  }

  void write(StepOp step, const Decision &decision) {
    Location loc = step.getLoc();
    OpBuilder b = OpBuilder::atBlockEnd(&step.getBody().front());
    auto scalarF32 = RankedTensorType::get({}, b.getF32Type());
    auto source = [&](StringRef name, StringRef role, Type type) -> Value {
      return InputOp::create(b, NameLoc::get(b.getStringAttr(name)), type, name, role);
    };
    Value sum, normalizer;
    if (decision.loss == Loss::Model || reduction == "mean")
      normalizer = source("num_label_tokens", "loss_normalizer", scalarF32);
    StringRef name;
    if (decision.loss == Loss::Model) {
      name = "model";
      sum = reshape(b, loc, decision.value, {});
    } else {
      ArrayRef<int64_t> shape = shapeOf(decision.value).drop_back();
      Value labels = source("labels", "labels", RankedTensorType::get(shape, b.getI64Type()));
      name = decision.loss == Loss::CausalLm ? "causal-lm" : "cross-entropy";
      auto ignore = b.getI64IntegerAttr(ignoreIndex);
      Location lossLoc = NameLoc::get(b.getStringAttr("loss"));
      if (decision.loss == Loss::CausalLm)
        labels = ShiftLabelsOp::create(b, lossLoc, labels, ignore);
      sum = CrossEntropyOp::create(b, lossLoc, decision.value, labels, weights(b, decision.value), ignore,
                                   b.getF64FloatAttr(labelSmoothing), b.getF64FloatAttr(zLoss))
                .getLoss();
      step->setAttr("train.ignore_index", ignore);
      if (!classWeights.empty() && normalizer)
        step->setAttr("train.class_weights", b.getDenseF64ArrayAttr(classWeights));
      loc = lossLoc;
    }
    if (normalizer)
      sum = DivOp::create(b, loc, sum, cast(b, loc, normalizer, elementOf(sum)));
    for (OutputOp output : llvm::make_early_inc_range(step.getOps<OutputOp>()))
      output.erase();
    OutputOp::create(b, loc, cast(b, loc, sum, b.getF32Type()), "loss", /*sum=*/true);
    step->setAttr("train.loss", b.getStringAttr(name));
    eraseDeadOps(step);
  }

  void runOnOperation() override {
    bool bad = false;
    for (StepOp step : getOperation().getOps<StepOp>()) {
      FailureOr<Decision> decision = decide(step);
      if (failed(decision))
        bad = true;
      else
        write(step, *decision);
    }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
