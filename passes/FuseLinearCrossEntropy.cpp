// Fuses the LM head with the loss, so that the logits never exist as a whole.
//
// Phases, for each cross_entropy: walk up from its logits to the product that makes them, through casts between floats,
// reshapes that keep the vocabulary, a bias, constant factors and softcap * tanh(x / softcap); decide; write one
// linear_cross_entropy. Whatever is in the way is reported, all of it in one run: nothing falls back silently.
//
// Factors move to the hidden states (and the bias), which are narrower than the logits. The logits are fp32 inside
// whatever the head's type, so this is another formula than the unfused one and agrees with it within tolerance only.
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "passes/Raise.h"
#include "runtime/plan/Workspace.h"
#include <cmath>

namespace amc {
#define GEN_PASS_DEF_FUSELINEARCROSSENTROPY
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

/// The head that a cross_entropy reads: logits = cap(scale * (hidden * weight + bias)).
struct Head {
  CrossEntropyOp loss;
  Operation *product = nullptr;
  Value hidden, weight, bias;
  bool transposeW = false;
  double scale = 1, softcap = 0;
};

bool isFloatCast(Operation *op) {
  auto cast = dyn_cast<CastOp>(op);
  return cast && isa<FloatType>(elementOf(cast.getX())) && isa<FloatType>(elementOf(cast.getY()));
}

/// Splits or folds rows; the vocabulary stays the last dimension.
bool keepsVocabulary(Operation *op) {
  auto reshape = dyn_cast<ReshapeOp>(op);
  return reshape && !shapeOf(reshape.getX()).empty() && !shapeOf(reshape.getY()).empty() &&
         shapeOf(reshape.getX()).back() == shapeOf(reshape.getY()).back();
}

class HeadFinder {
public:
  explicit HeadFinder(StepOp step) : reader(step) {}

  /// Reports what keeps the head from being fused.
  FailureOr<Head> find(CrossEntropyOp loss) {
    Head head;
    head.loss = loss;
    Operation *user = loss;
    bool bad = false, capped = false;
    for (Value value = loss.getLogits();;) {
      bad |= reportReaders(value, user);
      Operation *op = user = value.getDefiningOp();
      if (takeProduct(head, op))
        break;
      if (isFloatCast(op) || keepsVocabulary(op)) {
        value = op->getOperand(0);
        continue;
      }
      // What stands above the cap would scale capped logits, and a bias above a factor would be scaled with it.
      auto scaled = head.bias ? std::nullopt : reader.scaled(value);
      auto tanh = dyn_cast<TanhOp>(scaled ? scaled->first.getDefiningOp() : op);
      if (tanh && !capped && head.scale == 1 && !head.bias && (!scaled || scaled->second > 0)) {
        if (scaled)
          bad |= reportReaders(scaled->first, op);
        capped = true;
        head.softcap = scaled ? scaled->second : 1;
        user = tanh;
        value = tanh.getX();
        continue;
      }
      if (scaled && !tanh) {
        head.scale *= scaled->second;
        value = scaled->first;
        continue;
      }
      if (Value inner = takeBias(head, op)) {
        value = inner;
        continue;
      }
      return unknown(loss, op);
    }
    if (capped)
      head.scale *= head.softcap; // the division is part of the cap
    if (raise::isNearly(head.scale, 1, elementOf(head.hidden)))
      head.scale = 1;
    if (bad || !std::isfinite(head.scale) || !std::isfinite(head.softcap))
      return bad ? failure() : unknown(loss, head.product);
    return head;
  }

private:
  /// Every reader of `value` but the one that the walk came from. True if there is any.
  bool reportReaders(Value value, Operation *known) {
    bool any = false;
    for (Operation *user : value.getUsers()) {
      if (user == known)
        continue;
      auto error = user->emitError() << user->getName() << " reads the logits, which linear-cross-entropy never has in "
                                     << "memory";
      error.attachNote() << "--loss-impl=unfused keeps them";
      any = true;
    }
    return any;
  }

  LogicalResult unknown(CrossEntropyOp loss, Operation *op) {
    auto error = op->emitError() << op->getName() << " makes the logits, which linear-cross-entropy cannot compute tile by "
                                 << "tile; it should be a product with a weight, its bias, a constant factor or a softcap";
    error.attachNote(loss.getLoc()) << "this loss reads them; --loss-impl=unfused keeps them in memory";
    return failure();
  }

  static bool takeProduct(Head &head, Operation *op) {
    if (auto linear = dyn_cast<LinearOp>(op)) {
      if (linear.getBias() && head.bias)
        return false;
      head.hidden = linear.getX();
      head.weight = linear.getW();
      head.transposeW = linear.getTransposeW();
      if (linear.getBias())
        head.bias = linear.getBias();
    } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
      if (matmul.getTransposeA() || shapeOf(matmul.getB()).size() != 2 || !isa<FloatType>(elementOf(matmul.getB())))
        return false;
      head.hidden = matmul.getA();
      head.weight = matmul.getB();
      head.transposeW = matmul.getTransposeB();
    } else {
      return false;
    }
    if (auto transpose = head.weight.getDefiningOp<TransposeOp>(); transpose && transpose.getPermutation()[0] == 1) {
      head.weight = transpose.getX();
      head.transposeW = !head.transposeW;
    }
    head.product = op;
    return true;
  }

  /// What a vector over the vocabulary was added to; null if `op` is no such sum.
  static Value takeBias(Head &head, Operation *op) {
    auto add = dyn_cast<AddOp>(op);
    if (!add || head.bias)
      return {};
    for (auto [value, bias] : {std::pair(add.getA(), add.getB()), std::pair(add.getB(), add.getA())}) {
      ArrayRef<int64_t> shape = shapeOf(bias);
      if (value.getType() != add.getType() || shape.empty() || shape.back() != shapeOf(value).back() ||
          elementCount(shape) != shape.back())
        continue;
      head.bias = bias;
      return value;
    }
    return {};
  }

  raise::Rewriter reader; // for its eyes only
};

void write(const Head &head, int64_t tokensInFlight) {
  CrossEntropyOp loss = head.loss;
  OpBuilder b(loss);
  Location loc = head.product->getLoc();
  Type element = elementOf(head.hidden);
  SmallVector<int64_t> shape(shapeOf(loss.getLabels()));
  shape.push_back(shapeOf(head.hidden).back());
  Value hidden = reshape(b, loc, head.hidden, shape), bias = head.bias;
  if (bias)
    bias = cast(b, loc, reshape(b, loc, bias, shapeOf(bias).back()), element);
  if (head.scale != 1) {
    hidden = MulOp::create(b, loc, hidden, scalar(b, loc, head.scale, element));
    if (bias)
      bias = MulOp::create(b, loc, bias, scalar(b, loc, head.scale, element));
  }
  Value weights = loss.getClassWeights();
  if (weights)
    weights = cast(b, loc, weights, statisticType(element));
  auto fused = LinearCrossEntropyOp::create(
      b, loc, hidden, head.weight, bias, loss.getLabels(), weights, head.transposeW ? b.getUnitAttr() : UnitAttr(),
      loss.getIgnoreIndexAttr(), loss.getLabelSmoothingAttr(), loss.getZLossAttr(), b.getF64FloatAttr(head.softcap),
      b.getI64IntegerAttr(tokensInFlight), /*group=*/StringAttr(), /*members=*/IntegerAttr());
  loss.getLoss().replaceAllUsesWith(cast(b, loc, fused.getLoss(), elementOf(loss.getLoss())));
  if (!loss.getLse().use_empty())
    loss.getLse().replaceAllUsesWith(cast(b, loc, fused.getLse(), elementOf(loss.getLse())));
  loss.erase();
}

struct FuseLinearCrossEntropyPass : amc::impl::FuseLinearCrossEntropyBase<FuseLinearCrossEntropyPass> {
  using FuseLinearCrossEntropyBase::FuseLinearCrossEntropyBase;

  void runOnOperation() override {
    bool bad = false;
    int64_t tiles = tokensInFlight, most = rt::workspace::lceMostInFlight;
    if (tiles < 1 || tiles > most) {
      getOperation().emitError("tokens-in-flight is ") << tiles << ", should be in [1, " << most << "]";
      return signalPassFailure();
    }
    for (StepOp step : getOperation().getOps<StepOp>()) {
      SmallVector<Head> heads;
      HeadFinder finder(step);
      bool any = false, all = true;
      for (CrossEntropyOp loss : step.getOps<CrossEntropyOp>()) {
        any = true;
        FailureOr<Head> head = finder.find(loss);
        all &= succeeded(head);
        if (succeeded(head))
          heads.push_back(*head);
      }
      if (!any) {
        auto error = step.emitError("there is no cross-entropy that linear-cross-entropy could fuse with an LM head");
        error.attachNote() << "the loss is the model's own; --loss=causal-lm or cross-entropy attaches one, "
                              "--loss-impl=unfused leaves the model's as it is";
      }
      if (!any || !all) {
        bad = true;
        continue;
      }
      uint64_t tokenTiles = 0;
      for (const Head &head : heads) {
        rt::workspace::LceShape shape;
        shape.tokens = static_cast<uint64_t>(elementCount(shapeOf(CrossEntropyOp(head.loss).getLabels())));
        tokenTiles = std::max(tokenTiles, shape.tokenTiles());
        write(head, tiles);
      }
      step->setAttr("train.token_tiles", Builder(&getContext()).getI64IntegerAttr(static_cast<int64_t>(tokenTiles)));
      eraseDeadOps(step);
    }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
