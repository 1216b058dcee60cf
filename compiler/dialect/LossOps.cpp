// Losses: shapes, oracle, gradients, cost. Constraints are labelled; test/dialect/loss-invalid.mlir
// and linear-cross-entropy-invalid.mlir have a case for each.
//
// cross_entropy and linear_cross_entropy differ in where the logits come from; what a row of them adds to the loss and
// its gradient are written once (RowLoss).
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/CudaWorkspace.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>
#include <limits>

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

static uint64_t flopsPerElement(Value x, uint64_t flops) {
  return llvm::SaturatingMultiply<uint64_t>(elementCount(shapeOf(x)), flops);
}

/// log(sum(e^row)), maximum subtracted; minus infinity for a row without finite elements.
static double logSumExp(ArrayRef<double> row) {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (double value : row)
    largest = std::max(largest, value);
  if (std::isinf(largest))
    return largest;
  for (double value : row)
    sum += std::exp(value - largest);
  return largest + std::log(sum);
}

namespace {

/// The loss of one row of logits and its gradient, from an operation's attributes.
class RowLoss {
public:
  template <typename Op>
  RowLoss(Op op, const HostTensor *classWeights)
      : ignored(static_cast<int64_t>(op.getIgnoreIndex())),
        smoothing(op.getLabelSmoothing().convertToDouble()), zLoss(op.getZLoss().convertToDouble()),
        weights(classWeights) {}

  bool ignores(int64_t label) const { return label == ignored; }
  double loss(ArrayRef<double> z, double lse, int64_t label) const {
    double sum = zLoss * lse * lse;
    for (int64_t c = 0, e = z.size(); c < e; ++c)
      sum += target(c, label, e) * (lse - z[c]);
    return sum;
  }
  /// Of the loss to each logit, times `dloss`.
  void gradient(ArrayRef<double> z, double lse, int64_t label, double dloss, double *dz) const {
    double total = 2 * zLoss * lse;
    for (int64_t c = 0, e = z.size(); c < e; ++c)
      total += target(c, label, e);
    for (int64_t c = 0, e = z.size(); c < e; ++c)
      dz[c] = dloss * (total * std::exp(z[c] - lse) - target(c, label, e));
  }

private:
  double weight(int64_t c) const { return weights ? weights->floats[c] : 1; }
  double target(int64_t c, int64_t label, int64_t classes) const {
    return (c == label ? (1 - smoothing) * weight(c) : 0) + smoothing * weight(c) / classes;
  }

  int64_t ignored;
  double smoothing, zLoss;
  const HostTensor *weights;
};

} // namespace

/// What cross_entropy, linear_cross_entropy and their backwards ask of the options they share: label smoothing, z-loss
/// and class weights. All carry each label.
template <typename Adaptor>
static LogicalResult checkOptions(std::optional<Location> loc, Adaptor op, int64_t classes, Type statistic) {
  // cross_entropy_c3, cross_entropy_backward_c5, linear_cross_entropy_c7, linear_cross_entropy_backward_c7
  if (op.getClassWeights() &&
      failed(inferExpect(loc, "class_weights", op.getClassWeights(), RankedTensorType::get({classes}, statistic))))
    return failure();
  // cross_entropy_c4, cross_entropy_backward_c6, linear_cross_entropy_c8, linear_cross_entropy_backward_c8
  double smoothing = op.getLabelSmoothing().convertToDouble();
  if (!(smoothing >= 0 && smoothing <= 1))
    return inferError(loc, "label_smoothing is " + numberString(op.getLabelSmoothing()) + ", should be in [0, 1]");
  // cross_entropy_c5, cross_entropy_backward_c7, linear_cross_entropy_c9, linear_cross_entropy_backward_c9
  if (!op.getZLoss().isFinite() || op.getZLoss().isNegative())
    return inferError(loc, "z_loss is " + numberString(op.getZLoss()) + ", should be 0 or more and finite");
  return success();
}

//===----------------------------------------------------------------------===//
// shift_labels
//===----------------------------------------------------------------------===//

LogicalResult ShiftLabelsOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                              ValueRange operands, DictionaryAttr attributes,
                                              OpaqueProperties properties, RegionRange regions,
                                              SmallVectorImpl<Type> &types) {
  RankedTensorType labels =
      tensorType(Adaptor(operands, attributes, properties, regions).getLabels());
  // shift_labels_c1
  if (labels.getRank() < 1)
    return inferError(loc, "labels is a scalar, should be of rank 1 or more");
  return inferTensors(loc, {labels}, types);
}

ShardingRule ShiftLabelsOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> shape = shapeOf(getLabels());
  SmallVector<unsigned> dims = r.each(shape.drop_back());
  dims.push_back(r.factor(shape.back(), FactorKind::Whole));
  r.operand(0, dims);
  r.result(0, dims);
  return std::move(r.rule);
}

LogicalResult ShiftLabelsOp::evaluate(Inputs in, Outputs out) {
  int64_t columns = out[0].shape().back();
  for (int64_t i = 0, e = out[0].size(); i < e; ++i)
    out[0].ints[i] =
        i % columns == columns - 1 ? static_cast<int64_t>(getIgnoreIndex()) : in[0]->ints[i + 1];
  return success();
}

//===----------------------------------------------------------------------===//
// cross_entropy
//===----------------------------------------------------------------------===//

LogicalResult CrossEntropyOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                               ValueRange operands, DictionaryAttr attributes,
                                               OpaqueProperties properties, RegionRange regions,
                                               SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  RankedTensorType logits = tensorType(op.getLogits());
  // cross_entropy_c1
  if (logits.getRank() < 1)
    return inferError(loc, "logits is a scalar, should be of rank 1 or more");
  ArrayRef<int64_t> rows = logits.getShape().drop_back();
  // cross_entropy_c2
  if (shapeOf(op.getLabels()) != rows)
    return inferError(loc, "labels is of shape " + shapeString(shapeOf(op.getLabels())) +
                               ", should be " + shapeString(rows) +
                               ", that of logits without the last dimension");
  Type statistic = statisticType(logits.getElementType());
  if (failed(checkOptions(loc, op, logits.getShape().back(), statistic)))
    return failure();
  return inferTensors(
      loc, {RankedTensorType::get({}, statistic), RankedTensorType::get(rows, statistic)}, types);
}

LogicalResult CrossEntropyOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &logits = *in[0], &labels = *in[1];
  RowLoss rowLoss(*this, in[2]);
  int64_t columns = logits.shape().back();
  for (int64_t row = 0, rows = labels.size(); row < rows; ++row) {
    ArrayRef<double> values(logits.floats.data() + row * columns, columns);
    double lse = out[1].floats[row] = logSumExp(values);
    int64_t label = labels.ints[row];
    if (rowLoss.ignores(label))
      continue;
    if (label < 0 || label >= columns)
      return failure();
    out[0].floats[0] += rowLoss.loss(values, lse, label);
  }
  return success();
}

LogicalResult CrossEntropyOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                       MutableArrayRef<Value> gradients) {
  if (cotangents[1] || (getClassWeights() && needed[2]))
    return failure();
  if (cotangents[0] && needed[0])
    gradients[0] = CrossEntropyBackwardOp::create(b, getLoc(), cotangents[0], getLogits(), getLabels(), getLse(),
                                                  getClassWeights(), getIgnoreIndexAttr(), getLabelSmoothingAttr(),
                                                  getZLossAttr());
  return success();
}

ShardingRule CrossEntropyOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> shape = shapeOf(getLogits());
  SmallVector<unsigned> rows = r.each(shape.drop_back(), FactorKind::Sum), logits = rows;
  logits.push_back(r.factor(shape.back(), FactorKind::Whole));
  r.operand(0, logits);
  r.operand(1, rows);
  if (getClassWeights())
    r.operand(2, logits.back());
  r.result(1, rows);
  return std::move(r.rule);
}

uint64_t CrossEntropyOp::getFlops() { return flopsPerElement(getLogits(), 3); }
uint64_t CrossEntropyOp::getCudaWorkspaceBytes() {
  return rt::workspace::cuda::crossEntropy(elementCount(shapeOf(getLse())), storageBytes(getLoss()));
}

LogicalResult CrossEntropyBackwardOp::inferReturnTypes(
    MLIRContext *, std::optional<Location> loc, ValueRange operands, DictionaryAttr attributes,
    OpaqueProperties properties, RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  RankedTensorType logits = tensorType(op.getLogits());
  // cross_entropy_backward_c1
  if (logits.getRank() < 1)
    return inferError(loc, "logits is a scalar, should be of rank 1 or more");
  ArrayRef<int64_t> rows = logits.getShape().drop_back();
  // cross_entropy_backward_c2
  if (shapeOf(op.getLabels()) != rows)
    return inferError(loc, "labels is of shape " + shapeString(shapeOf(op.getLabels())) +
                               ", should be " + shapeString(rows) +
                               ", that of logits without the last dimension");
  Type statistic = statisticType(logits.getElementType());
  // cross_entropy_backward_c3
  if (failed(inferExpect(loc, "dloss", op.getDloss(), RankedTensorType::get({}, statistic))))
    return failure();
  // cross_entropy_backward_c4
  if (failed(inferExpect(loc, "lse", op.getLse(), RankedTensorType::get(rows, statistic))))
    return failure();
  if (failed(checkOptions(loc, op, logits.getShape().back(), statistic)))
    return failure();
  return inferTensors(loc, {logits}, types);
}

LogicalResult CrossEntropyBackwardOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &logits = *in[1], &labels = *in[2], &lse = *in[3];
  RowLoss rowLoss(*this, in[4]);
  int64_t columns = logits.shape().back();
  for (int64_t row = 0, rows = labels.size(); row < rows; ++row) {
    int64_t label = labels.ints[row];
    if (rowLoss.ignores(label))
      continue;
    if (label < 0 || label >= columns)
      return failure();
    ArrayRef<double> values(logits.floats.data() + row * columns, columns);
    rowLoss.gradient(values, lse.floats[row], label, in[0]->floats[0], out[0].floats.data() + row * columns);
  }
  return success();
}

uint64_t CrossEntropyBackwardOp::getFlops() { return flopsPerElement(getLogits(), 3); }

// Element i of logits is read for element i of the result only: the other reads are of lse.
SmallVector<unsigned> CrossEntropyBackwardOp::getReusableOperands() { return {odsIndex_logits}; }

//===----------------------------------------------------------------------===//
// linear_cross_entropy
//===----------------------------------------------------------------------===//

/// Everything linear_cross_entropy and its backward ask of their operands and attributes. Both carry each label. `bias`
/// and `classWeights` are the segments that may be empty.
template <typename Adaptor>
static LogicalResult checkLinear(std::optional<Location> loc, Adaptor op, unsigned bias, unsigned classWeights) {
  // linear_cross_entropy_c1, linear_cross_entropy_backward_c1: the generated accessors trust the segments of required
  // operands.
  ArrayRef<int32_t> segments(op.getProperties().operandSegmentSizes);
  for (unsigned i = 0; i < segments.size(); ++i)
    if (i != bias && i != classWeights && segments[i] != 1)
      return inferError(loc, "operandSegmentSizes should give every required operand one value");
  ArrayRef<int64_t> hidden = shapeOf(op.getHidden()), weight = shapeOf(op.getWeight());
  // linear_cross_entropy_c2, linear_cross_entropy_backward_c2
  if (hidden.empty() || weight.size() != 2)
    return inferError(loc, "hidden and weight are of shapes " + shapeString(hidden) + " and " + shapeString(weight) +
                               ", should be of rank 1 or more and of rank 2");
  // linear_cross_entropy_c3, linear_cross_entropy_backward_c3
  int64_t inner = weight[op.getTransposeW() ? 1 : 0], classes = weight[op.getTransposeW() ? 0 : 1];
  if (hidden.back() != inner)
    return inferError(loc, "inner dimensions are " + Twine(hidden.back()) + " and " + Twine(inner) + ", should be equal");
  Type element = elementOf(op.getHidden()), statistic = statisticType(element);
  // linear_cross_entropy_c4, linear_cross_entropy_backward_c4
  if (elementOf(op.getWeight()) != element)
    return inferError(loc, "hidden and weight are of element types " + typeString(element) + " and " +
                               typeString(elementOf(op.getWeight())) + ", should be of one");
  // linear_cross_entropy_c5, linear_cross_entropy_backward_c5
  if (op.getBias() && failed(inferExpect(loc, "bias", op.getBias(), RankedTensorType::get({classes}, element))))
    return failure();
  // linear_cross_entropy_c6, linear_cross_entropy_backward_c6
  if (shapeOf(op.getLabels()) != hidden.drop_back())
    return inferError(loc, "labels is of shape " + shapeString(shapeOf(op.getLabels())) + ", should be " +
                               shapeString(hidden.drop_back()) + ", that of hidden without the last dimension");
  if (failed(checkOptions(loc, op, classes, statistic)))
    return failure();
  // linear_cross_entropy_c10, linear_cross_entropy_backward_c10
  if (!op.getSoftcap().isFinite() || op.getSoftcap().isNegative())
    return inferError(loc, "softcap is " + numberString(op.getSoftcap()) + ", should be 0 or more and finite");
  // linear_cross_entropy_c11, linear_cross_entropy_backward_c11
  int64_t tiles = op.getTokensInFlight();
  if (tiles < 1 || tiles > static_cast<int64_t>(rt::workspace::lceMostInFlight))
    return inferError(loc, "tokens_in_flight is " + Twine(tiles) + ", should be in [1, " +
                               Twine(rt::workspace::lceMostInFlight) + "]");
  return success();
}

/// The sizes that cost and workspace depend on.
template <typename Op> static rt::workspace::LceShape lceShape(Op op) {
  ArrayRef<int64_t> hidden = shapeOf(op.getHidden());
  Type element = elementOf(op.getHidden());
  rt::workspace::LceShape shape;
  shape.tokens = elementCount(hidden.drop_back());
  shape.width = hidden.back();
  shape.classes = shapeOf(op.getWeight())[op.getTransposeW() ? 0 : 1];
  shape.bytes = accumulatorBytes(op.getHidden());
  shape.converts = element != statisticType(element);
  shape.biased = static_cast<bool>(op.getBias());
  shape.inFlight = op.getTokensInFlight();
  shape.members = op.getMembers().value_or(1);
  return shape;
}

template <typename Op> static rt::workspace::cuda::LceShape cudaLceShape(Op op) {
  rt::workspace::LceShape s = lceShape(op);
  return {s.tokens, s.width, s.classes, s.bytes, s.converts, s.members};
}

/// `perLogit` operations for each element of the logits and `products` times the product that makes them.
static uint64_t lceFlops(const rt::workspace::LceShape &shape, uint64_t products, uint64_t perLogit) {
  uint64_t each = llvm::SaturatingMultiply(2 * products, shape.width) + perLogit;
  return llvm::SaturatingMultiply(llvm::SaturatingMultiply(shape.tokens, shape.classes), each);
}

/// Tiles in flight with which a device is taken to be busy: 16 threads, or 16 x 16 thread blocks of 128 x 64.
static constexpr uint64_t busyInFlight = 16;

/// How long what is done tile by tile takes, in percent of its time on a busy device; rounded up.
static uint64_t tilewisePercent(const rt::workspace::LceShape &shape) {
  uint64_t busy = std::min(busyInFlight, shape.tokenTiles()), slots = std::max<uint64_t>(1, shape.slots());
  return slots >= busy ? 100 : llvm::divideCeil(100 * busy, slots);
}

namespace {

/// The logits of one row, in double precision.
struct LogitRow {
  std::vector<double> z, slope; // the slope of the cap at each
  template <typename Op>
  LogitRow(Op op, int64_t row, const HostTensor &x, const HostTensor &w, const HostTensor *bias) {
    int64_t width = x.shape().back(), classes = w.shape()[op.getTransposeW() ? 0 : 1];
    double cap = op.getSoftcap().convertToDouble();
    for (int64_t c = 0; c < classes; ++c) {
      double sum = bias ? bias->floats[c] : 0;
      for (int64_t k = 0; k < width; ++k)
        sum += x.floats[row * width + k] * w.floats[op.getTransposeW() ? c * width + k : k * classes + c];
      double capped = cap > 0 ? std::tanh(sum / cap) : 0;
      z.push_back(cap > 0 ? cap * capped : sum);
      slope.push_back(cap > 0 ? 1 - capped * capped : 1);
    }
  }
};

} // namespace

LogicalResult LinearCrossEntropyOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                                     DictionaryAttr attributes, OpaqueProperties properties,
                                                     RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkLinear(loc, op, odsIndex_bias, odsIndex_class_weights)) ||
      failed(checkGroup(loc, op.getGroup(), op.getMembers())))
    return failure();
  Type statistic = statisticType(elementOf(op.getHidden()));
  return inferTensors(
      loc, {RankedTensorType::get({}, statistic), RankedTensorType::get(shapeOf(op.getLabels()), statistic)}, types);
}

LogicalResult LinearCrossEntropyOp::evaluate(Inputs in, Outputs out) {
  if (getMembers().value_or(1) != 1)
    return failure();
  const HostTensor &labels = *in[3];
  RowLoss rowLoss(*this, in[4]);
  for (int64_t row = 0, rows = labels.size(); row < rows; ++row) {
    LogitRow logits(*this, row, *in[0], *in[1], in[2]);
    double lse = out[1].floats[row] = logSumExp(logits.z);
    int64_t label = labels.ints[row];
    if (rowLoss.ignores(label))
      continue;
    if (label < 0 || label >= static_cast<int64_t>(logits.z.size()))
      return failure();
    out[0].floats[0] += rowLoss.loss(logits.z, lse, label);
  }
  return success();
}

LogicalResult LinearCrossEntropyOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                             MutableArrayRef<Value> gradients) {
  // Operands as they stand: hidden, weight, the bias if there is one, labels, class weights.
  if (cotangents[1] || (getClassWeights() && needed.back()))
    return failure();
  bool biased = static_cast<bool>(getBias());
  if (!cotangents[0] || !llvm::is_contained(needed, true))
    return success();
  auto wanted = [&](unsigned i, Value v) { return needed[i] ? v.getType() : Type(); };
  auto backward = LinearCrossEntropyBackwardOp::create(
      b, getLoc(), wanted(0, getHidden()), wanted(1, getWeight()), biased ? wanted(2, getBias()) : Type(),
      cotangents[0], getHidden(), getWeight(), getBias(), getLabels(), getClassWeights(), getLse(), getTransposeWAttr(),
      getIgnoreIndexAttr(), getLabelSmoothingAttr(), getZLossAttr(), getSoftcapAttr(), getTokensInFlightAttr(),
      getGroupAttr(), getMembersAttr(), /*wide=*/UnitAttr());
  gradients[0] = backward.getDhidden();
  gradients[1] = backward.getDweight();
  if (biased)
    gradients[2] = backward.getDbias();
  return success();
}

// A gather of what every member knows of a row: four doubles.
uint64_t LinearCrossEntropyOp::getBytesSent() {
  return static_cast<uint64_t>(getMembers().value_or(1) - 1) * 32 * static_cast<uint64_t>(elementCount(shapeOf(getLse())));
}
StringRef LinearCrossEntropyOp::getGroupName() { return getGroup().value_or(""); }

ShardingRule LinearCrossEntropyOp::getShardingRule() {
  RuleBuilder r(*this);
  ArrayRef<int64_t> shape = shapeOf(getHidden()), weight = shapeOf(getWeight());
  SmallVector<unsigned> rows = r.each(shape.drop_back(), FactorKind::Sum), hidden = rows;
  unsigned width = r.factor(shape.back(), FactorKind::Whole);
  // Classes that are divided already are not divided again.
  // Nor where a label's class weight would be another rank's to know.
  unsigned classes = r.factor(weight[getTransposeW() ? 0 : 1],
                              getGroup() || getClassWeights() ? FactorKind::Whole : FactorKind::Exchanged);
  hidden.push_back(width);
  r.operand(0, hidden);
  r.operand(1, getTransposeW() ? ArrayRef{classes, width} : ArrayRef{width, classes});
  unsigned next = 2;
  if (getBias())
    r.operand(next++, classes);
  r.operand(next++, rows);
  if (getClassWeights())
    r.operand(next++, classes);
  r.result(1, rows);
  return std::move(r.rule);
}

void LinearCrossEntropyOp::localize(FactorKind kind, StringRef group, int64_t members) {
  if (kind != FactorKind::Exchanged)
    return;
  setGroup(group);
  setMembers(members);
}

uint64_t LinearCrossEntropyOp::getFlops() { return lceFlops(lceShape(*this), 1, 4); }

SmallVector<Work> LinearCrossEntropyOp::getParts() {
  // Every group of tiles walks the whole vocabulary: it reads the weight once more.
  rt::workspace::LceShape s = lceShape(*this);
  uint64_t weight = byteSize(getWeight().getType()), groups = s.groups();
  uint64_t others = defaultBytesMoved(*this) - weight;
  return {{getFlops(), llvm::SaturatingMultiplyAdd(groups, weight, others), 1, tilewisePercent(s)}};
}

uint64_t LinearCrossEntropyOp::getBytesMoved() { return bytesMoved(getParts()); }

uint64_t LinearCrossEntropyOp::getWorkspaceBytes() { return rt::workspace::linearCrossEntropy(lceShape(*this)); }
uint64_t LinearCrossEntropyOp::getCudaWorkspaceBytes() { return rt::workspace::cuda::linearCrossEntropy(cudaLceShape(*this)); }

//===----------------------------------------------------------------------===//
// linear_cross_entropy_backward
//===----------------------------------------------------------------------===//

LogicalResult LinearCrossEntropyBackwardOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                                             ValueRange operands, DictionaryAttr attributes,
                                                             OpaqueProperties properties, RegionRange regions,
                                                             SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  if (failed(checkLinear(loc, op, odsIndex_bias, odsIndex_class_weights)) ||
      failed(checkGroup(loc, op.getGroup(), op.getMembers())))
    return failure();
  Type statistic = statisticType(elementOf(op.getHidden()));
  // linear_cross_entropy_backward_c12
  if (failed(inferExpect(loc, "dloss", op.getDloss(), RankedTensorType::get({}, statistic))))
    return failure();
  // linear_cross_entropy_backward_c13
  if (failed(inferExpect(loc, "lse", op.getLse(), RankedTensorType::get(shapeOf(op.getLabels()), statistic))))
    return failure();
  // linear_cross_entropy_backward_c14: results are told apart by their segments; there are those asked for.
  ArrayRef<int32_t> segments = op.getProperties().resultSegmentSizes;
  if (llvm::any_of(segments, [](int32_t size) { return size < 0 || size > 1; }) || (segments[2] && !op.getBias()))
    return inferError(loc, "resultSegmentSizes should be 0 or 1 each, that of dbias 0 without a bias");
  // linear_cross_entropy_backward_c15: of wide results, those of weight and bias are not rounded.
  Value of[] = {op.getHidden(), op.getWeight(), op.getBias()};
  for (unsigned i = 0; i < 3; ++i)
    if (segments[i])
      types.push_back(RankedTensorType::get(shapeOf(of[i]), sumType(elementOf(of[i]), i > 0 && op.getWide())));
  return success();
}

LogicalResult LinearCrossEntropyBackwardOp::evaluate(Inputs in, Outputs out) {
  if (getMembers().value_or(1) != 1)
    return failure();
  const HostTensor &x = *in[1], &w = *in[2], &labels = *in[4], &lse = *in[6];
  RowLoss rowLoss(*this, in[5]);
  int64_t width = x.shape().back(), classes = w.shape()[getTransposeW() ? 0 : 1];
  unsigned next = 0;
  auto result = [&](Value v) { return v ? out[next++].floats.data() : nullptr; };
  double *dx = result(getDhidden()), *dw = result(getDweight()), *db = result(getDbias());
  std::vector<double> dz(classes);
  for (int64_t row = 0, rows = labels.size(); row < rows; ++row) {
    int64_t label = labels.ints[row];
    if (rowLoss.ignores(label))
      continue;
    if (label < 0 || label >= classes)
      return failure();
    LogitRow logits(*this, row, x, w, in[3]);
    rowLoss.gradient(logits.z, lse.floats[row], label, in[0]->floats[0], dz.data());
    for (int64_t c = 0; c < classes; ++c) {
      double d = dz[c] * logits.slope[c];
      for (int64_t k = 0; k < width; ++k) {
        int64_t at = getTransposeW() ? c * width + k : k * classes + c;
        if (dx)
          dx[row * width + k] += d * w.floats[at];
        if (dw)
          dw[at] += d * x.floats[row * width + k];
      }
      if (db)
        db[c] += d;
    }
  }
  return success();
}

uint64_t LinearCrossEntropyBackwardOp::getFlops() {
  // The logits again, and a product for each gradient.
  return lceFlops(lceShape(*this), 1 + (getDhidden() ? 1 : 0) + (getDweight() ? 1 : 0), getDbias() ? 6 : 5);
}

SmallVector<Work> LinearCrossEntropyBackwardOp::getParts() {
  // Logits and what they add to dhidden, tile by tile; and what they add to dweight, of whose columns there are enough for
  // all threads. Each tile of the vocabulary reads the hidden states, and each group of tokens the weight.
  rt::workspace::LceShape s = lceShape(*this);
  const uint64_t groups = s.groups(), tiles = s.vocabularyTiles();
  const uint64_t hidden = byteSize(getHidden().getType()), weight = byteSize(getWeight().getType());
  auto sums = [&](Value of) { return llvm::SaturatingMultiply<uint64_t>(2 * s.bytes, elementCount(shapeOf(of))); };
  auto bytes = [&](uint64_t ofGroup, uint64_t ofTile) {
    return llvm::SaturatingMultiplyAdd(groups, ofGroup, llvm::SaturatingMultiply(tiles, ofTile));
  };
  SmallVector<Work> parts = {
      {lceFlops(s, getDhidden() ? 2 : 1, getDbias() ? 6 : 5),
       bytes(weight, llvm::SaturatingAdd(hidden, getDhidden() ? sums(getDhidden()) : 0)), 1, tilewisePercent(s)}};
  if (getDweight())
    parts.push_back({lceFlops(s, 1, 0), bytes(sums(getDweight()), hidden)});
  return parts;
}

uint64_t LinearCrossEntropyBackwardOp::getBytesMoved() { return bytesMoved(getParts()); }

uint64_t LinearCrossEntropyBackwardOp::getWorkspaceBytes() {
  return rt::workspace::linearCrossEntropyBackward(lceShape(*this), static_cast<bool>(getDhidden()),
                                                   static_cast<bool>(getDweight()), static_cast<bool>(getDbias()),
                                                   getWide());
}
uint64_t LinearCrossEntropyBackwardOp::getCudaWorkspaceBytes() {
  return rt::workspace::cuda::linearCrossEntropyBackward(cudaLceShape(*this), static_cast<bool>(getDhidden()),
                                                         static_cast<bool>(getDweight()), static_cast<bool>(getDbias()), getWide());
}

SmallVector<unsigned> LinearCrossEntropyBackwardOp::getReusableOperands() {
  // A tile of a narrow weight is widened before what becomes of it is rounded; tiles do not meet, and dhidden is rounded
  // when all have been read. A wide weight is read where it stands, again by every group of tokens.
  if (isNarrowFloat(getWeight()) && !getWide())
    return {odsIndex_weight};
  return {};
}

bool LinearCrossEntropyBackwardOp::isLargerWide() { return static_cast<bool>(getDweight()); }

SmallVector<OpResult> LinearCrossEntropyBackwardOp::getSums() {
  SmallVector<OpResult> sums;
  for (Value sum : {getDweight(), getDbias()})
    if (sum)
      sums.push_back(cast<OpResult>(sum));
  return sums;
}
