// Attention: shapes, oracle, gradients, cost.
//
// Attention counts the work of query-key pairs inside the band of `left` and `right` only; padding
// and bias are known at run time and count as if they masked nothing. A member of a group counts
// the mean of all members. The oracle knows groups of one only. Constraints are labelled;
// test/dialect/attention-invalid.mlir has a case for each.
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/CudaWorkspace.h"
#include "runtime/plan/Philox.h"
#include "runtime/plan/Ring.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>
#include <limits>

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

//===----------------------------------------------------------------------===//
// What attention and its backward share
//===----------------------------------------------------------------------===//

namespace {

/// Dimensions and masking of one attention, for the oracle and for costs.
struct Problem {
  int64_t batch, heads, keyHeads, queries, keys, width, valueWidth; // keys of all members
  int64_t members; // that have so many queries each; positions below are those of a group of one
  double scale, softcap;
  std::optional<int64_t> left, right;
  bool average;

  template <typename Op> explicit Problem(Op op) {
    ArrayRef<int64_t> q = shapeOf(op.getQ()), v = shapeOf(op.getV());
    batch = q[0], heads = q[1], queries = q[2], width = q[3];
    keyHeads = v[1], keys = v[2], valueWidth = v[3];
    members = static_cast<int64_t>(op.getMembers().value_or(1));
    if (op.getRing())
      keys *= members;
    scale = op.getScale().convertToDouble();
    softcap = op.getSoftcap().convertToDouble();
    if (std::optional<uint64_t> value = op.getLeft())
      left = static_cast<int64_t>(*value);
    if (std::optional<uint64_t> value = op.getRight())
      right = static_cast<int64_t>(*value);
    average = op.getMaskedRows() == "average";
  }

  int64_t keyHead(int64_t head) const { return head / (heads / keyHeads); }
  bool inBand(int64_t i, int64_t j) const {
    return (!right || j - i <= *right) && (!left || i - j <= *left);
  }

  /// Queries of all members together.
  __int128 allQueries() const {
    return std::min<__int128>(static_cast<__int128>(queries) * members, std::numeric_limits<int64_t>::max());
  }
  /// Pairs (i, j) of them with j - i <= limit.
  __int128 pairsUpTo(__int128 limit) const {
    __int128 queries = allQueries();
    if (limit < -queries)
      limit = -queries;
    if (limit > keys - 1)
      limit = keys - 1;
    // Query i sees min(max(i + limit + 1, 0), keys) keys; i + limit + 1 runs over (limit, queries +
    // limit].
    __int128 low = limit + 1 < 0 ? 0 : limit + 1, high = queries + limit,
             cut = high < keys ? high : keys;
    __int128 pairs = (low + cut) * (cut - low + 1) / 2;
    return high > keys ? pairs + (high - keys) * keys : pairs;
  }
  /// Query-key pairs of one head inside the band; of several members the mean. For causal attention with zigzag that is
  /// what each has; without it the last has nearly twice as much.
  uint64_t pairs() const {
    if (queries == 0 || keys == 0)
      return 0;
    __int128 pairs = right ? pairsUpTo(*right) : allQueries() * keys;
    if (left)
      pairs -= pairsUpTo(-static_cast<__int128>(*left) - 1);
    pairs /= members;
    return pairs < 0 ? 0 : static_cast<uint64_t>(std::min<__int128>(pairs, UINT64_MAX));
  }
  uint64_t flops(uint64_t perPair) const {
    uint64_t flops = llvm::SaturatingMultiply(pairs(), perPair);
    return llvm::SaturatingMultiply(flops, llvm::SaturatingMultiply<uint64_t>(batch, heads));
  }
};

/// Scores of one query over all keys.
struct Row {
  std::vector<double> scores;    // masked: minus infinity
  std::vector<double> capSlopes; // derivative of the capped score by the scaled one
  bool masked = true;            // nothing to attend to

  Row(const Problem &p, int64_t b, int64_t h, int64_t i, const HostTensor &q, const HostTensor &k,
      const HostTensor *padding, const HostTensor *bias)
      : scores(p.keys, -std::numeric_limits<double>::infinity()), capSlopes(p.keys, 1) {
    const double *query = q.floats.data() + ((b * p.heads + h) * p.queries + i) * p.width;
    for (int64_t j = 0; j < p.keys; ++j) {
      if (!p.inBand(i, j) || (padding && !padding->ints[b * p.keys + j]))
        continue;
      const double *key =
          k.floats.data() + ((b * p.keyHeads + p.keyHead(h)) * p.keys + j) * p.width;
      double score = 0;
      for (int64_t d = 0; d < p.width; ++d)
        score += query[d] * key[d];
      score *= p.scale;
      if (p.softcap > 0) {
        double t = std::tanh(score / p.softcap);
        score = p.softcap * t;
        capSlopes[j] = 1 - t * t;
      }
      if (bias) {
        SmallVector<int64_t> index = {b, h, i, j}, strides = rowMajorStrides(bias->shape());
        int64_t flat = 0;
        for (int d = 0; d < 4; ++d)
          flat += bias->shape()[d] == 1 ? 0 : index[d] * strides[d];
        score += bias->floats[flat];
      }
      scores[j] = score;
      masked &= score == -std::numeric_limits<double>::infinity();
    }
  }
};

} // namespace

/// Does it differ from query to query, or from key to key?
static bool hasScoreDims(Value bias) { return shapeOf(bias)[2] != 1 || shapeOf(bias)[3] != 1; }

/// Everything attention and its backward ask of their operands and attributes. Both carry each
/// label.
template <typename Adaptor>
static LogicalResult checkAttention(std::optional<Location> loc, Adaptor op, unsigned required) {
  // attention_c1, attention_backward_c1: the generated accessors trust the segments of required
  // operands.
  for (int32_t size :
       ArrayRef<int32_t>(op.getProperties().operandSegmentSizes).take_front(required))
    if (size != 1)
      return inferError(loc, "operandSegmentSizes should give every required operand one value");
  ArrayRef<int64_t> q = shapeOf(op.getQ()), k = shapeOf(op.getK()), v = shapeOf(op.getV());
  std::string shapes = shapeString(q) + ", " + shapeString(k) + " and " + shapeString(v);
  // attention_c2, attention_backward_c2
  if (q.size() != 4 || k.size() != 4 || v.size() != 4)
    return inferError(loc, "q, k and v are of shapes " + shapes + ", should be of rank 4");
  // attention_c3, attention_backward_c3
  if (q[0] != k[0] || k[0] != v[0])
    return inferError(loc, "q, k and v are of shapes " + shapes + ", should have one batch size");
  // attention_c4, attention_backward_c4
  if (k[1] != v[1] || k[2] != v[2])
    return inferError(loc, "k and v are of shapes " + shapeString(k) + " and " + shapeString(v) +
                               ", should have the same heads and length");
  // attention_c5, attention_backward_c5
  if (k[1] == 0 || q[1] % k[1])
    return inferError(loc, "key heads are " + Twine(k[1]) + ", should divide the query heads " +
                               Twine(q[1]));
  // attention_c6, attention_backward_c6
  if (q[3] != k[3])
    return inferError(loc, "head sizes of q and k are " + Twine(q[3]) + " and " + Twine(k[3]) +
                               ", should be equal");
  Type element = elementOf(op.getQ());
  // attention_c7, attention_backward_c7
  if (elementOf(op.getK()) != element || elementOf(op.getV()) != element ||
      (op.getBias() && elementOf(op.getBias()) != element &&
       elementOf(op.getBias()) != statisticType(element)))
    return inferError(loc, "q, k, v and bias should have one element type");
  // attention_c20, attention_backward_c22
  if (op.getRing() && !op.getGroup())
    return inferError(loc, "is in a ring without a group, should have one");
  // attention_c21, attention_backward_c23
  const int64_t members = op.getRing() ? static_cast<int64_t>(op.getMembers().value_or(1)) : 1;
  if (members < 1 || members > static_cast<int64_t>(rt::mostRingMembers))
    return inferError(loc, "members of the ring are " + Twine(members) + ", should be in [1, " +
                               Twine(rt::mostRingMembers) + "]");
  // attention_c22, attention_backward_c24
  if (op.getRing() && (q[2] != k[2] || q[2] > maxElements / members))
    return inferError(loc, "queries and keys of a ring's member are " + Twine(q[2]) + " and " + Twine(k[2]) +
                               ", should be as many, and at most " + Twine(maxElements / members));
  const int64_t keys = k[2] * members;
  // attention_c8, attention_backward_c8
  if (Value padding = op.getPadding())
    if (shapeOf(padding) != ArrayRef<int64_t>({q[0], keys}))
      return inferError(loc, "padding is of shape " + shapeString(shapeOf(padding)) +
                                 ", should be " + shapeString({q[0], keys}));
  // attention_c9, attention_backward_c9
  if (Value bias = op.getBias()) {
    ArrayRef<int64_t> shape = shapeOf(bias);
    int64_t full[] = {q[0], q[1], q[2], keys};
    bool fits = shape.size() == 4;
    for (size_t i = 0; fits && i < 4; ++i)
      fits = shape[i] == 1 || shape[i] == full[i];
    if (!fits)
      return inferError(loc, "bias is of shape " + shapeString(shape) +
                                 ", should be of rank 4 and broadcast to " + shapeString(full));
  }
  // attention_c10, attention_backward_c10
  if (!op.getScale().isFinite())
    return inferError(loc, "scale is " + numberString(op.getScale()) + ", should be finite");
  // attention_c11, attention_backward_c11
  if (!op.getSoftcap().isFinite() || op.getSoftcap().isNegative())
    return inferError(loc, "softcap is " + numberString(op.getSoftcap()) +
                               ", should be 0 or more and finite");
  // attention_c12, attention_backward_c12
  if (op.getMaskedRows() != "zero" && op.getMaskedRows() != "average")
    return inferError(loc, "masked_rows is \"" + op.getMaskedRows() +
                               "\", should be \"zero\" or \"average\"");
  // attention_c13, attention_backward_c15
  bool drops = op.getDropout().has_value();
  if (drops != static_cast<bool>(op.getSeed()) || drops != static_cast<bool>(op.getStep()) ||
      drops != static_cast<bool>(op.getMicroBatch()) || drops != op.getStream().has_value())
    return inferError(loc,
                      "seed, step, micro_batch, dropout and stream should be there all or none");
  if (failed(checkGroup(loc, op.getGroup(), op.getMembers())))
    return failure();
  // attention_c16, attention_backward_c18: positions of a group's member are not those of the mask.
  if (op.getGroup() && drops)
    return inferError(loc, "has dropout and a group, should have one of them");
  // attention_c17, attention_backward_c19
  if (op.getGroup() && op.getBias() && hasScoreDims(op.getBias()))
    return inferError(loc, "bias is of shape " + shapeString(shapeOf(op.getBias())) +
                               ", should have dimensions 2 and 3 of size 1 beside a group");
  // attention_c18, attention_backward_c20
  if (op.getZigzag() && !op.getGroup())
    return inferError(loc, "is zigzag without a group, should have one");
  // attention_c19, attention_backward_c21
  if (int64_t all = static_cast<int64_t>(op.getMembers().value_or(1));
      op.getZigzag() && (q[2] % 2 || keys % all || keys / all != q[2]))
    return inferError(loc, "zigzag queries are " + Twine(q[2]) + " and keys " + Twine(keys) + ", should be even and " +
                               Twine(all) + " times as many");
  if (!drops)
    return success();
  // attention_c14, attention_backward_c16
  double probability = op.getDropout()->convertToDouble();
  if (!(probability >= 0 && probability < 1))
    return inferError(loc, "dropout is " + numberString(*op.getDropout()) +
                               ", should be at least 0 and below 1");
  // attention_c15, attention_backward_c17
  int64_t stream = static_cast<int64_t>(*op.getStream());
  if (stream < 0 || stream > UINT32_MAX)
    return inferError(loc, "stream is " + Twine(stream) + ", should be in [0, 2^32)");
  return success();
}

/// What dropout makes of a probability: a factor for each key of a query. All ones without dropout.
template <typename Op> class ProbabilityFactors {
public:
  ProbabilityFactors(Op op, Inputs counters, int64_t keys) : factors(keys, 1), keys(keys) {
    if (op.getDropout())
      mask.emplace(op.getDropout()->convertToDouble(), static_cast<int64_t>(*op.getStream()),
                   counters[0]->integer(0), counters[1]->integer(0), counters[2]->integer(0));
  }
  /// Those of one row of [B, H, Sq, Sk].
  ArrayRef<double> of(int64_t row) {
    for (int64_t j = 0; mask && j < keys; ++j) {
      auto element = static_cast<uint64_t>(row * keys + j);
      factors[j] = mask->keeps(element / 4)[element % 4] ? mask->scale() : 0;
    }
    return factors;
  }

private:
  std::optional<rt::DropoutMask> mask;
  SmallVector<double> factors;
  int64_t keys;
};

/// What the ring's steps, and their scratch, follow from.
template <typename Op> static rt::RingShape ringShape(Op op) {
  ArrayRef<int64_t> q = shapeOf(op.getQ()), v = shapeOf(op.getV());
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  auto limit = [](std::optional<uint64_t> n) {
    return n ? std::optional<int64_t>(static_cast<int64_t>(*n)) : std::nullopt;
  };
  std::optional<int64_t> left = limit(op.getLeft()), right = limit(op.getRight());
  bool masked = op.getPadding() || op.getBias();
  return {u(op.getMembers().value_or(1)), u(q[0]), u(q[1]), u(v[1]), u(q[2]), u(q[3]), u(v[3]), storageBytes(op.getQ()),
          left, right, op.getZigzag(), op.getMaskedRows() == "average" && rt::ringAverages(masked, left, right)};
}

template <typename Op> static StringRef ringGroup(Op op) { return op.getRing() ? *op.getGroup() : ""; }
template <typename Op> static uint64_t ringSteps(Op op) { return op.getRing() ? ringShape(op).steps() : 0; }

/// The kernel's inputs: those of the kernel without dropout know nothing of counters.
template <typename Op> static SmallVector<Value> kernelInputs(Op op) {
  SmallVector<Value> inputs = operandSlots(op);
  if (!op.getDropout())
    inputs.truncate(Op::odsIndex_seed);
  return inputs;
}

static RankedTensorType resultType(Value q, Value v) {
  return RankedTensorType::get({shapeOf(q)[0], shapeOf(q)[1], shapeOf(q)[2], shapeOf(v)[3]},
                               elementOf(q));
}
static RankedTensorType lseType(Value q) {
  return RankedTensorType::get(shapeOf(q).drop_back(), statisticType(elementOf(q)));
}

//===----------------------------------------------------------------------===//
// attention
//===----------------------------------------------------------------------===//

LogicalResult AttentionOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                            ValueRange operands, DictionaryAttr attributes,
                                            OpaqueProperties properties, RegionRange regions,
                                            SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkAttention(loc, op, odsIndex_padding)))
    return failure();
  return inferTensors(loc, {resultType(op.getQ(), op.getV()), lseType(op.getQ())}, types);
}

LogicalResult AttentionOp::evaluate(Inputs in, Outputs out) {
  Problem p(*this);
  if (p.members != 1)
    return failure();
  ProbabilityFactors factors(*this, in.drop_front(odsIndex_seed), p.keys);
  const HostTensor &v = *in[2];
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t h = 0; h < p.heads; ++h)
      for (int64_t i = 0; i < p.queries; ++i) {
        Row row(p, b, h, i, *in[0], *in[1], in[3], in[4]);
        int64_t flat = (b * p.heads + h) * p.queries + i;
        if (row.masked && !p.average) {
          out[1].floats[flat] = -std::numeric_limits<double>::infinity();
          continue;
        }
        if (row.masked)
          std::fill(row.scores.begin(), row.scores.end(), 0);
        double largest = -std::numeric_limits<double>::infinity(), sum = 0;
        for (double score : row.scores)
          largest = std::max(largest, score);
        for (double score : row.scores)
          sum += std::exp(score - largest);
        out[1].floats[flat] = largest + std::log(sum);
        ArrayRef<double> factor = factors.of(flat);
        for (int64_t j = 0; j < p.keys; ++j) {
          double probability = factor[j] * std::exp(row.scores[j] - largest) / sum;
          int64_t value = ((b * p.keyHeads + p.keyHead(h)) * p.keys + j) * p.valueWidth;
          for (int64_t d = 0; d < p.valueWidth; ++d)
            out[0].floats[flat * p.valueWidth + d] += probability * v.floats[value + d];
        }
      }
  return success();
}

/// y as backward reads it. Heads are joined by a transpose behind the attention, whose result the
/// next product keeps for its weight's gradient: moved back from there, y itself need not be kept.
static Value heldResult(OpBuilder &b, AttentionOp op) {
  Value y = op.getY();
  auto join = y.hasOneUse() ? dyn_cast<TransposeOp>(*y.user_begin()) : TransposeOp();
  if (!join)
    return y;
  SmallVector<int64_t> inverse(join.getPermutation().size());
  for (auto [to, from] : llvm::enumerate(join.getPermutation()))
    inverse[from] = to;
  return TransposeOp::create(b, op.getLoc(), join.getResult(), b.getDenseI64ArrayAttr(inverse));
}

LogicalResult AttentionOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                    MutableArrayRef<Value> gradients) {
  if (cotangents[1])
    return failure();
  if (!cotangents[0])
    return success();
  // Neither padding nor bias has a gradient, and counters are no floats.
  if (llvm::is_contained(needed.drop_front(odsIndex_padding), true))
    return failure();
  auto backward = AttentionBackwardOp::create(
      b, getLoc(), {getQ().getType(), getK().getType(), getV().getType()}, cotangents[0], getQ(),
      getK(), getV(), heldResult(b, *this), getLse(), getPadding(), getBias(), getSeed(), getStep(),
      getMicroBatch(), getScaleAttr(), getLeftAttr(), getRightAttr(), getSoftcapAttr(),
      getMaskedRowsAttr(), getDropoutAttr(), getStreamAttr(), getGroupAttr(), getMembersAttr(),
      getZigzagAttr(), getRingAttr());
  for (unsigned i = 0; i < 3; ++i)
    if (needed[i])
      gradients[i] = backward.getResult(i);
  return success();
}

// Dropout's mask is drawn by the position in the whole [B, H, Sq, Sk]. Queries that are divided already are not divided
// again.
ShardingRule AttentionOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> q = shapeOf(getQ()), k = shapeOf(getK()), v = shapeOf(getV());
  FactorKind part = getDropout() ? FactorKind::Whole : FactorKind::Parallel, whole = FactorKind::Whole;
  bool placed = !getDropout() && !getGroup() && !(getBias() && hasScoreDims(getBias()));
  unsigned batch = r.factor(q[0], part), heads = r.factor(k[1], part), group = r.factor(q[1] / std::max<int64_t>(k[1], 1), part),
           rows = r.factor(q[2], placed ? FactorKind::Placed : whole), keys = r.factor(k[2], whole), width = r.factor(q[3], whole),
           values = r.factor(v[3], whole);
  r.operand(0, {batch, heads, rows, width});
  r.operand(1, {batch, heads, keys, width});
  r.operand(2, {batch, heads, keys, values});
  r.result(0, {batch, heads, rows, values});
  r.result(1, {batch, heads, rows});
  for (ShardingRule::Dims *dims : {&r.rule.operands[0], &r.rule.results[0], &r.rule.results[1]})
    r.split(*dims, 1, {heads, group});
  unsigned next = 3;
  if (getPadding()) // all keys, of all members of a ring
    r.operand(next++, {batch, getRing() ? r.factor(shapeOf(getPadding())[1], whole) : keys});
  if (getBias()) {
    SmallVector<unsigned> dims{batch, heads, rows, keys};
    SmallVector<int64_t> shape{q[0], q[1], q[2], k[2]};
    r.broadcastOperand(next, shape, dims);
    if (ArrayRef<int64_t> bias = shapeOf(getBias()); bias.size() >= 3 && bias[bias.size() - 3] == q[1])
      r.split(r.rule.operands[next], bias.size() - 3, {heads, group});
  }
  return std::move(r.rule);
}

void AttentionOp::localize(FactorKind kind, StringRef group, int64_t members) {
  if (kind != FactorKind::Placed)
    return;
  setGroup(group);
  setMembers(members);
}

uint64_t AttentionOp::getFlops() {
  Problem p(*this);
  return p.flops(2 * static_cast<uint64_t>(p.width + p.valueWidth) +
                 (getDropout() ? dropoutFlops : 0));
}

StringRef AttentionOp::getKernelName() { return getDropout() ? "attention_dropout" : "attention"; }
SmallVector<Value> AttentionOp::getKernelInputs() { return kernelInputs(*this); }

rt::RingShape AttentionOp::ringShape() { return ::ringShape(*this); }

// In a ring the others' keys and values are read, too.
uint64_t AttentionOp::getBytesMoved() {
  return defaultBytesMoved(*this) + (getRing() ? ringShape().sentForward() : 0);
}
uint64_t AttentionOp::getBytesSent() { return getRing() ? ringShape().sentForward() : 0; }
StringRef AttentionOp::getGroupName() { return ringGroup(*this); }
uint64_t AttentionOp::getSteps() { return ringSteps(*this); }

uint64_t AttentionOp::getWorkspaceBytes() {
  if (getRing())
    return ringShape().forwardWorkspace();
  ArrayRef<int64_t> q = shapeOf(getQ()), v = shapeOf(getV());
  return rt::workspace::attention(q[0], q[1], q[2], q[3], v[3], storageBytes(getQ()), v[2]);
}
uint64_t AttentionOp::getCudaWorkspaceBytes() { return 0; }

//===----------------------------------------------------------------------===//
// attention_backward
//===----------------------------------------------------------------------===//

LogicalResult AttentionBackwardOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                                    ValueRange operands, DictionaryAttr attributes,
                                                    OpaqueProperties properties,
                                                    RegionRange regions,
                                                    SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkAttention(loc, op, odsIndex_padding)))
    return failure();
  Type y = resultType(op.getQ(), op.getV());
  // attention_backward_c13
  if (failed(inferExpect(loc, "dy", op.getDy(), y)) || failed(inferExpect(loc, "y", op.getY(), y)))
    return failure();
  // attention_backward_c14
  if (failed(inferExpect(loc, "lse", op.getLse(), lseType(op.getQ()))))
    return failure();
  return inferTensors(loc, {tensorType(op.getQ()), tensorType(op.getK()), tensorType(op.getV())},
                      types);
}

LogicalResult AttentionBackwardOp::evaluate(Inputs in, Outputs out) {
  Problem p(*this);
  if (p.members != 1)
    return failure();
  ProbabilityFactors factors(*this, in.drop_front(odsIndex_seed), p.keys);
  const HostTensor &dy = *in[0], &q = *in[1], &k = *in[2], &v = *in[3], &y = *in[4], &lse = *in[5];
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t h = 0; h < p.heads; ++h)
      for (int64_t i = 0; i < p.queries; ++i) {
        Row row(p, b, h, i, q, k, in[6], in[7]);
        if (row.masked && !p.average)
          continue;
        int64_t flat = (b * p.heads + h) * p.queries + i;
        const double *dys = dy.floats.data() + flat * p.valueWidth,
                     *ys = y.floats.data() + flat * p.valueWidth;
        ArrayRef<double> factor = factors.of(flat);
        double delta = 0; // sum of dy * y, which is the sum of probability * dprobability
        for (int64_t d = 0; d < p.valueWidth; ++d)
          delta += dys[d] * ys[d];
        for (int64_t j = 0; j < p.keys; ++j) {
          double probability =
              row.masked ? 1.0 / p.keys : std::exp(row.scores[j] - lse.floats[flat]);
          int64_t key = (b * p.keyHeads + p.keyHead(h)) * p.keys + j;
          double slope = -delta;
          for (int64_t d = 0; d < p.valueWidth; ++d) {
            slope += factor[j] * dys[d] * v.floats[key * p.valueWidth + d];
            out[2].floats[key * p.valueWidth + d] += factor[j] * probability * dys[d];
          }
          if (row.masked) // its scores are constants
            continue;
          slope *= probability * row.capSlopes[j] * p.scale;
          for (int64_t d = 0; d < p.width; ++d) {
            out[0].floats[flat * p.width + d] += slope * k.floats[key * p.width + d];
            out[1].floats[key * p.width + d] += slope * q.floats[flat * p.width + d];
          }
        }
      }
  return success();
}

uint64_t AttentionBackwardOp::getFlops() {
  // Scores again, dq and dk over the head size; probabilities' gradients and dv over the values'
  // size.
  Problem p(*this);
  return p.flops(6 * static_cast<uint64_t>(p.width) + 4 * static_cast<uint64_t>(p.valueWidth) +
                 (getDropout() ? dropoutFlops + 2 : 0)); // the mask is drawn once and applied twice
}

StringRef AttentionBackwardOp::getKernelName() {
  return getDropout() ? "attention_dropout_backward" : "attention_backward";
}
SmallVector<Value> AttentionBackwardOp::getKernelInputs() { return kernelInputs(*this); }

// Of what is sent keys and values are read, as in forward; what is given to others' gradients is written and read again.
uint64_t AttentionBackwardOp::getBytesMoved() {
  if (!getRing())
    return defaultBytesMoved(*this);
  rt::RingShape ring = ringShape(*this);
  return defaultBytesMoved(*this) + 2 * ring.sentBackward() - ring.sentForward();
}
uint64_t AttentionBackwardOp::getBytesSent() { return getRing() ? ringShape(*this).sentBackward() : 0; }
StringRef AttentionBackwardOp::getGroupName() { return ringGroup(*this); }
uint64_t AttentionBackwardOp::getSteps() { return ringSteps(*this); }

uint64_t AttentionBackwardOp::getWorkspaceBytes() {
  if (getRing())
    return ringShape(*this).backwardWorkspace();
  Problem p(*this);
  return rt::workspace::attentionBackward(p.batch, p.heads, p.keyHeads, p.queries, p.keys, p.width,
                                          p.valueWidth, storageBytes(getQ()));
}
uint64_t AttentionBackwardOp::getCudaWorkspaceBytes() {
  ArrayRef<int64_t> q = shapeOf(getQ());
  return rt::workspace::cuda::attentionBackward(q[0], q[1], q[2], storageBytes(getQ()));
}
