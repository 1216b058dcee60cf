// Raise: softmax(scale * q k^T, softcapped, masked) v becomes attention, with dropout where there
// is one between softmax and the product.
//
// From the product with v one walks up through the exporter's guard against NaN, dropout, softmax,
// masks, softcap and scale to the product of q and k. Where q, k and v come from is found by
// following one element through reshapes, transposes and broadcasts, so that repeated key heads,
// flattened batches and transposed keys need no pattern of their own. The same following absorbs
// repeated heads into attention that was imported as such.
//
// Without the guard, minus infinity over a whole row gives NaN; raised, it gives zeros.
#include "passes/Raise.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace mlir;
using namespace amc::train;

namespace amc::raise {

// Steps from softmax to the product of q and k, or through one chain of shape operations.
static constexpr int maxSteps = 32;

namespace {
/// A mask on the way: added to scores, or replacing them by `number` where `condition` is `masked`.
struct MaskStep {
  Value addend, condition;
  bool isSubtracted = false;
  double number = 0;
  bool masked = false;
  bool allowBias = true;
};

struct Scores {
  MatmulOp product;
  double scale = 1, softcap = 0;
  bool isClamped = false; // from below, by a finite mask
  SmallVector<MaskStep> masks;
};

/// Where the operand of a product comes from, arranged as attention wants it.
struct Source {
  Value value;
  Indices at;   // what its dimensions are
  double scale; // that it was multiplied with
};
} // namespace

static bool isFloatCast(Operation *op) {
  auto cast = dyn_cast<CastOp>(op);
  return cast && isa<FloatType>(elementOf(cast.getX())) && isa<FloatType>(elementOf(cast.getY()));
}

/// Reshapes between [B, H, Sq, Sk] and [B * H, Sq, Sk].
static bool isHeadReshape(Operation *op) {
  auto reshape = dyn_cast<ReshapeOp>(op);
  if (!reshape)
    return false;
  ArrayRef<int64_t> from = shapeOf(reshape.getX()), to = shapeOf(reshape.getY());
  return from.size() >= 3 && to.size() >= 3 && from.size() <= 4 && to.size() <= 4 &&
         from.take_back(2) == to.take_back(2);
}

namespace {
struct Probabilities {
  SoftmaxOp softmax;
  DropoutOp dropout; // null: none
};
} // namespace

/// The softmax whose probabilities `value` is, NaN replaced by 0 perhaps, some dropped perhaps.
/// What stands around dropout leaves elements in their order, so that its mask is attention's.
static Probabilities matchProbabilities(Rewriter &r, Value value) {
  DropoutOp dropout;
  for (int step = 0; step < maxSteps; ++step) {
    Operation *op = value.getDefiningOp();
    if (!op)
      return {};
    if (auto softmax = dyn_cast<SoftmaxOp>(op))
      return static_cast<int64_t>(softmax.getAxis()) + 1 == tensorType(value).getRank()
                 ? Probabilities{softmax, dropout}
                 : Probabilities{};
    if (auto select = dyn_cast<SelectOp>(op)) {
      Value condition = select.getCondition(), guarded = select.getB(), other = select.getA();
      if (auto negation = definedBy<NotOp>(condition)) {
        condition = negation.getX();
        std::swap(guarded, other);
      }
      auto isNan = definedBy<IsNanOp>(condition);
      if (!isNan || isNan.getX() != guarded || r.scalar(other) != 0.0 ||
          guarded.getType() != value.getType())
        return {};
      value = guarded;
    } else if (auto drop = dyn_cast<DropoutOp>(op)) {
      if (dropout) // two masks are none of the two
        return {};
      dropout = drop;
      value = drop.getX();
    } else if (isFloatCast(op) || isHeadReshape(op)) {
      value = op->getOperand(0);
    } else {
      return {};
    }
  }
  return {};
}

/// True if a product of matrices is reached from `value` by what may stand between it and softmax.
static bool leadsToProduct(Rewriter &r, Value value) {
  SmallVector<Value> open = {value};
  for (int step = 0; !open.empty() && step < 2 * maxSteps; ++step) {
    Value next = open.pop_back_val();
    Operation *op = next.getDefiningOp();
    if (!op || shapeOf(next).size() < 3)
      continue;
    if (isa<MatmulOp>(op))
      return true;
    if (isa<AddOp, MulOp, DivOp, MaxOp>(op))
      open.append({op->getOperand(1), op->getOperand(0)});
    else if (isa<SelectOp>(op))
      open.append({op->getOperand(2), op->getOperand(1)});
    else if (isa<TanhOp, SubOp>(op) || isFloatCast(op) || isHeadReshape(op))
      open.push_back(op->getOperand(0));
  }
  return false;
}

static std::optional<Scores> matchScores(Rewriter &r, Value value) {
  Scores scores;
  bool isScaled = false;
  for (int step = 0; step < maxSteps; ++step) {
    Operation *op = value.getDefiningOp();
    if (!op)
      return std::nullopt;
    if (auto product = dyn_cast<MatmulOp>(op)) {
      scores.product = product;
      if (scores.softcap >
          0) // softcap * tanh(s / softcap): what stands inside includes the division
        scores.scale *= scores.softcap;
      return scores;
    }
    if (isFloatCast(op) || isHeadReshape(op)) {
      value = op->getOperand(0);
      continue;
    }
    if (auto scaled = r.scaled(value)) {
      auto tanh = definedBy<TanhOp>(scaled->first);
      if (tanh && (scores.softcap != 0 || isScaled || scaled->second <= 0))
        return std::nullopt;
      isScaled = true;
      if (tanh) {
        scores.softcap = scaled->second;
        value = tanh.getX();
      } else {
        scores.scale *= scaled->second;
        value = scaled->first;
      }
      continue;
    }
    if (auto max = dyn_cast<MaxOp>(op)) {
      bool isFirst = r.scalar(max.getA()).has_value();
      Value scored = isFirst ? max.getB() : max.getA();
      std::optional<double> floor = r.scalar(isFirst ? max.getA() : max.getB());
      if (!floor || *floor > -1e9 || isScaled || scored.getType() != max.getType())
        return std::nullopt;
      scores.isClamped = std::isfinite(*floor);
      value = scored;
      continue;
    }
    // A mask below a scale is scaled with it, which a mask survives and a bias does not.
    MaskStep mask;
    mask.allowBias = !isScaled;
    if (isScaled && (scores.softcap > 0 || scores.scale < 0.01))
      return std::nullopt;
    Value next;
    if (auto add = dyn_cast<AddOp>(op)) {
      for (auto [scored, addend] :
           {std::pair(add.getA(), add.getB()), std::pair(add.getB(), add.getA())})
        if (!next && scored.getType() == add.getType() && leadsToProduct(r, scored)) {
          next = scored;
          mask.addend = addend;
        }
    } else if (auto sub = dyn_cast<SubOp>(op)) {
      if (sub.getA().getType() == sub.getType()) {
        next = sub.getA();
        mask.addend = sub.getB();
        mask.isSubtracted = true;
      }
    } else if (auto select = dyn_cast<SelectOp>(op)) {
      for (bool masked : {true, false}) {
        std::optional<double> number = r.scalar(masked ? select.getA() : select.getB());
        Value scored = masked ? select.getB() : select.getA();
        if (!next && number && scored.getType() == select.getType()) {
          next = scored;
          mask.condition = select.getCondition();
          mask.number = *number;
          mask.masked = masked;
        }
      }
    }
    if (!next)
      return std::nullopt;
    scores.masks.push_back(mask);
    value = next;
  }
  return std::nullopt;
}

/// The dimensions of `at` that have more than one element.
static SmallVector<unsigned> openDims(Value value, ArrayRef<LinearIndex> at) {
  SmallVector<unsigned> open;
  for (auto [i, index] : llvm::enumerate(at))
    if (shapeOf(value)[i] != 1)
      open.push_back(i);
  return open;
}

/// Where each dimension of `wanted` (those of one element left out) is in `value`; empty if it is
/// not all of value.
static std::optional<SmallVector<int64_t>>
arrangement(const Source &source, ArrayRef<LinearIndex> wanted, ArrayRef<int64_t> sizes) {
  SmallVector<unsigned> open = openDims(source.value, source.at);
  SmallVector<int64_t> order;
  for (auto [index, size] : llvm::zip_equal(wanted, sizes)) {
    if (size == 1)
      continue;
    auto *found = llvm::find_if(open, [&, &index = index, &size = size](unsigned dim) {
      return source.at[dim] == index && shapeOf(source.value)[dim] == size;
    });
    if (found == open.end())
      return std::nullopt;
    order.push_back(found - open.begin());
  }
  return order.size() == open.size() ? std::optional(order) : std::nullopt;
}

/// Follows the element of `value` at `at` upwards to a tensor whose dimensions are `wanted`, best
/// in that order.
static std::optional<Source> follow(Rewriter &r, const IndexSpace &space, Value value, Indices at,
                                    ArrayRef<LinearIndex> wanted, ArrayRef<int64_t> sizes,
                                    bool mayScale) {
  std::optional<Source> best;
  Source here{value, std::move(at), 1};
  for (int step = 0; step < maxSteps; ++step) {
    std::optional<std::pair<Value, double>> scaled = mayScale ? r.scaled(here.value) : std::nullopt;
    if (scaled) {
      here.value = scaled->first;
      here.scale *= scaled->second;
      continue;
    }
    if (std::optional<SmallVector<int64_t>> order = arrangement(here, wanted, sizes)) {
      best = here;
      if (llvm::is_sorted(*order))
        break;
    }
    Operation *op = here.value.getDefiningOp();
    std::optional<Indices> source = isa_and_nonnull<ReshapeOp, TransposeOp, BroadcastOp>(op)
                                        ? throughView(space, op, here.at)
                                        : std::nullopt;
    if (!source)
      break;
    here.value = op->getOperand(0);
    here.at = std::move(*source);
  }
  return best;
}

/// The source as a tensor of dimensions `wanted`.
static Value arrange(OpBuilder &b, Location loc, const Source &source, ArrayRef<LinearIndex> wanted,
                     ArrayRef<int64_t> sizes) {
  SmallVector<int64_t> order = *arrangement(source, wanted, sizes);
  Value value = source.value;
  if (!llvm::is_sorted(order)) {
    SmallVector<int64_t> shape;
    for (unsigned dim : openDims(value, source.at))
      shape.push_back(shapeOf(value)[dim]);
    value = train::reshape(b, loc, value, shape);
    value = TransposeOp::create(b, loc, value, b.getDenseI64ArrayAttr(order));
  }
  return train::reshape(b, loc, value, sizes);
}

/// How often heads may be repeated on the way to `value`: what the first broadcast above
/// multiplies.
static int64_t repetition(Rewriter &r, Value value) {
  for (int step = 0; step < maxSteps; ++step) {
    Operation *op = value.getDefiningOp();
    if (!op)
      return 1;
    if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
      int64_t from = elementCount(shapeOf(broadcast.getX()));
      return from ? elementCount(shapeOf(broadcast.getY())) / from : 1;
    }
    if (auto scaled = r.scaled(value))
      value = scaled->first;
    else if (isa<ReshapeOp, TransposeOp>(op))
      value = op->getOperand(0);
    else
      return 1;
  }
  return 1;
}

namespace {
/// The sizes of attention and, of q, k and v, the sources and arrangements.
struct Heads {
  int64_t batch, heads, repeat, queries, keys, headSize, valueSize;
  Source q, k, v;
  Indices qAt, kAt, vAt;
  SmallVector<int64_t> qSizes, kSizes, vSizes;
};
/// One operand of a product: what it is and whether its last two dimensions are swapped when read.
struct Operand {
  Value value;
  bool isSwapped = false;
};
} // namespace

/// Finds q, k and v for one choice of batch and repetition; products are [B, H, …] or [B * H, …].
static bool findHeads(Rewriter &r, Heads &h, Operand q, Operand k, Operand v, bool mayScale) {
  struct Role {
    Operand operand;
    bool isQuery;
    int64_t rows, columns;
    Source &source;
    Indices &wanted;
    SmallVector<int64_t> &sizes;
    bool mayScale;
  } roles[] = {{q, true, h.queries, h.headSize, h.q, h.qAt, h.qSizes, mayScale},
               {k, false, h.keys, h.headSize, h.k, h.kAt, h.kSizes, mayScale},
               {v, false, h.keys, h.valueSize, h.v, h.vAt, h.vSizes, false}};
  for (Role &role : roles) {
    IndexSpace space;
    LinearIndex batch = space.add(h.batch), group = space.add(h.heads / h.repeat),
                member = space.add(h.repeat);
    LinearIndex row = space.add(role.rows), column = space.add(role.columns);
    LinearIndex head = *addScaled(member, group, h.repeat);
    if (role.isQuery)
      head = space.add(h.heads);
    ArrayRef<int64_t> shape = shapeOf(role.operand.value);
    Indices at;
    if (shape.size() == 4)
      at = {shape[0] == 1 ? LinearIndex() : batch, shape[1] == 1 ? LinearIndex() : head};
    else
      at = {shape[0] == 1 ? LinearIndex() : *addScaled(head, batch, h.heads)};
    at.append(role.operand.isSwapped ? Indices{column, row} : Indices{row, column});
    role.wanted = {batch, role.isQuery ? head : group, row, column};
    role.sizes = {h.batch, role.isQuery ? h.heads : h.heads / h.repeat, role.rows, role.columns};
    std::optional<Source> source =
        follow(r, space, role.operand.value, at, role.wanted, role.sizes, role.mayScale);
    if (!source)
      return false;
    role.source = std::move(*source);
  }
  return elementOf(h.q.value) == elementOf(h.k.value) &&
         elementOf(h.q.value) == elementOf(h.v.value);
}

/// Candidates for the batch of [B * H, …]: the first dimension of a tensor of rank 4 that it was
/// flattened from.
static int64_t flattenedBatch(Rewriter &r, Value value, int64_t joint) {
  for (int step = 0; step < maxSteps; ++step) {
    ArrayRef<int64_t> shape = shapeOf(value);
    Operation *op = value.getDefiningOp();
    if (shape.size() == 4 && shape[0] > 0 && joint % shape[0] == 0)
      return shape[0];
    if (auto scaled = r.scaled(value))
      value = scaled->first;
    else if (isa_and_nonnull<ReshapeOp, TransposeOp>(op))
      value = op->getOperand(0);
    else
      return joint;
  }
  return joint;
}

static std::optional<Heads> matchHeads(Rewriter &r, MatmulOp scores, MatmulOp values) {
  ArrayRef<int64_t> shape = shapeOf(scores.getY()), result = shapeOf(values.getY());
  if ((shape.size() != 4 && shape.size() != 3) || result.size() != shape.size() ||
      result.drop_back(2) != shape.drop_back(2) || shapeOf(scores.getA()).size() != shape.size() ||
      shapeOf(scores.getB()).size() != shape.size() ||
      shapeOf(values.getB()).size() != shape.size() || elementCount(shape) == 0 ||
      elementCount(result) == 0)
    return std::nullopt;
  Heads h;
  h.queries = shape[shape.size() - 2];
  h.keys = shape.back();
  h.headSize = shapeOf(scores.getA())[shape.size() - (scores.getTransposeA() ? 2 : 1)];
  h.valueSize = result.back();
  if (h.headSize == 0)
    return std::nullopt;
  Operand q{scores.getA(), scores.getTransposeA()}, k{scores.getB(), !scores.getTransposeB()},
      v{values.getB(), values.getTransposeB()};
  SmallVector<int64_t> batches = {shape[0]};
  if (shape.size() == 3)
    batches.insert(batches.begin(), flattenedBatch(r, q.value, shape[0]));
  for (int64_t batch : batches) {
    h.batch = batch;
    h.heads = shape.size() == 4 ? shape[1] : shape[0] / batch;
    int64_t repeat = repetition(r, k.value);
    // Repeated by a broadcast, one key head for all that the product broadcasts, or a head each.
    for (int64_t candidate : {repeat == repetition(r, v.value) ? repeat : 1, h.heads, int64_t(1)}) {
      h.repeat = candidate;
      if (candidate > 0 && h.heads % candidate == 0 && findHeads(r, h, q, k, v, true))
        return h;
    }
  }
  return std::nullopt;
}

/// A mask on [B * H, …] scores as one on [B, H, …]; one on the scores of heads that were taken apart before stays.
static Value unflattenMask(Rewriter &r, Value mask, const Heads &h, unsigned rank,
                           Operation *before) {
  ArrayRef<int64_t> shape = shapeOf(mask);
  if (rank == 4 || shape.size() != 3 || (shape[0] != 1 && shape[0] != h.batch * h.heads))
    return mask;
  SmallVector<int64_t> split = {shape[0] == 1 ? 1 : h.batch, shape[0] == 1 ? 1 : h.heads, shape[1],
                                shape[2]};
  return train::reshape(r.at(before), before->getLoc(), mask, split);
}

/// Operands and attributes of attention from a mask: padding and bias are null if there is none.
static Value joinPadding(OpBuilder &b, Location loc, ArrayRef<Value> paddings) {
  Value joint;
  for (Value padding : paddings)
    joint = joint ? Value(AndOp::create(b, loc, joint, padding)) : padding;
  return joint;
}

static Value joinBias(OpBuilder &b, Location loc, ArrayRef<Value> biases, Type element) {
  Value joint;
  for (Value bias : biases) {
    Value term = train::cast(b, loc, bias, element);
    joint = joint ? Value(AddOp::create(b, loc, joint, term)) : term;
  }
  return joint;
}

static IntegerAttr limit(OpBuilder &b, std::optional<int64_t> distance) {
  return distance ? b.getI64IntegerAttr(*distance) : IntegerAttr();
}

/// Every query may attend to the key at its own position.
static bool allRowsAttend(const Mask &mask, int64_t queries, int64_t keys) {
  return mask.padding.empty() && mask.biases.empty() && queries <= keys;
}

static bool raiseDecomposed(Rewriter &r, MaskReader &masks, MatmulOp root) {
  // The operations looked at most often first: a product with probabilities on the left.
  auto [softmax, dropout] =
      root.getTransposeA() ? Probabilities{} : matchProbabilities(r, root.getA());
  std::optional<Scores> scores = softmax ? matchScores(r, softmax.getX()) : std::nullopt;
  std::optional<Heads> h = scores ? matchHeads(r, scores->product, root) : std::nullopt;
  if (!h)
    return false;
  double scale = scores->scale * h->q.scale * h->k.scale;
  if (!std::isfinite(scale))
    return false;
  Mask mask;
  mask.isFinite = scores->isClamped;
  MaskReader::Scores shape{h->batch, h->heads, h->queries, h->keys, elementOf(softmax.getX())};
  unsigned rank = shapeOf(scores->product.getY()).size();
  // What masks build here stays without uses, and is swept, if a later one is refused.
  for (const MaskStep &step : scores->masks) {
    Value value = unflattenMask(r, step.addend ? step.addend : step.condition, *h, rank, root);
    if (step.isSubtracted)
      value = NegOp::create(r.at(root), root.getLoc(), value);
    bool isRead = step.addend ? masks.readAddend(mask, value, shape, step.allowBias, root)
                              : masks.readCondition(mask, value, step.masked, step.number, shape,
                                                    step.allowBias, root);
    if (!isRead)
      return false;
  }
  OpBuilder &b = r.at(root);
  Location loc = root.getLoc();
  Value q = arrange(b, loc, h->q, h->qAt, h->qSizes), k = arrange(b, loc, h->k, h->kAt, h->kSizes),
        v = arrange(b, loc, h->v, h->vAt, h->vSizes);
  bool isAverage = mask.isFinite && !allRowsAttend(mask, h->queries, h->keys);
  if (dropout && dropout.getProbability().isZero())
    dropout = nullptr;
  auto counter = [&](unsigned index) { return dropout ? dropout->getOperand(index) : Value(); };
  auto attention = AttentionOp::create(
      b, loc, q, k, v, joinPadding(b, loc, mask.padding),
      joinBias(b, loc, mask.biases, elementOf(q)), counter(1), counter(2), counter(3),
      b.getF64FloatAttr(scale), limit(b, mask.left), limit(b, mask.right),
      b.getF64FloatAttr(scores->softcap), b.getStringAttr(isAverage ? "average" : "zero"),
      dropout ? dropout.getProbabilityAttr() : FloatAttr(),
      dropout ? dropout.getStreamAttr() : IntegerAttr(), StringAttr(), IntegerAttr());
  Value y = train::cast(b, loc, attention.getY(), elementOf(root.getY()));
  r.replace(root, train::reshape(b, loc, y, shapeOf(root.getY())), Found::Attention);
  return true;
}

/// Repeated heads and readable masks of an attention that is one already.
static bool refine(Rewriter &r, MaskReader &masks, AttentionOp op) {
  ArrayRef<int64_t> q = shapeOf(op.getQ()), k = shapeOf(op.getK());
  Heads h;
  h.batch = q[0];
  h.heads = k[1]; // key heads: they are the ones that may be repeated
  h.queries = q[2];
  h.keys = k[2];
  h.headSize = k[3];
  h.valueSize = shapeOf(op.getV())[3];
  h.repeat = repetition(r, op.getK());
  bool isRepeated = h.repeat > 1 && h.heads % h.repeat == 0 && h.repeat == repetition(r, op.getV());
  if (isRepeated) {
    // The query takes no part: its place is filled by the key, which has one head for each of
    // `heads`.
    Heads keys = h;
    keys.queries = h.keys;
    isRepeated = findHeads(r, keys, {op.getK()}, {op.getK()}, {op.getV()}, false);
    h = keys;
  }
  Mask mask;
  if (op.getLeft())
    mask.left = *op.getLeft();
  if (op.getRight())
    mask.right = *op.getRight();
  MaskReader::Scores shape{q[0], q[1], q[2], k[2], elementOf(op.getQ())};
  Mask before = mask;
  bool isRead = op.getBias() && masks.readAddend(mask, op.getBias(), shape, true, op) &&
                !(mask.biases.size() == 1 && mask.biases[0] == op.getBias());
  if (!isRead)
    mask = before;
  if (!isRead && !isRepeated)
    return false;
  if (op.getPadding())
    mask.padding.push_back(op.getPadding());
  OpBuilder &b = r.at(op);
  Location loc = op.getLoc();
  Value key = isRepeated ? arrange(b, loc, h.k, h.kAt, h.kSizes) : op.getK();
  Value value = isRepeated ? arrange(b, loc, h.v, h.vAt, h.vSizes) : op.getV();
  Value bias = isRead ? joinBias(b, loc, mask.biases, elementOf(op.getQ())) : op.getBias();
  StringAttr maskedRows = mask.isFinite && !allRowsAttend(mask, q[2], k[2])
                              ? b.getStringAttr("average")
                              : op.getMaskedRowsAttr();
  auto attention =
      AttentionOp::create(b, loc, op.getQ(), key, value, joinPadding(b, loc, mask.padding), bias,
                          op.getSeed(), op.getStep(), op.getMicroBatch(), op.getScaleAttr(),
                          limit(b, mask.left), limit(b, mask.right), op.getSoftcapAttr(),
                          maskedRows, op.getDropoutAttr(), op.getStreamAttr(), op.getGroupAttr(),
                          op.getMembersAttr(), op.getZigzagAttr());
  r.replace(op, attention->getResults(), Found::Count);
  return true;
}

bool raiseAttention(Rewriter &r, MaskReader &masks, Operation *op) {
  if (auto matmul = dyn_cast<MatmulOp>(op))
    return raiseDecomposed(r, masks, matmul);
  if (auto attention = dyn_cast<AttentionOp>(op))
    return refine(r, masks, attention);
  return false;
}

} // namespace amc::raise
