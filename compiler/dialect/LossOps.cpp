// Losses: shapes, oracle, gradients, cost. Constraints are labelled; test/dialect/loss-invalid.mlir
// has a case for each.
#include "compiler/dialect/OpSupport.h"
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
  return inferTensors(
      loc, {RankedTensorType::get({}, statistic), RankedTensorType::get(rows, statistic)}, types);
}

LogicalResult CrossEntropyOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &logits = *in[0], &labels = *in[1];
  int64_t columns = logits.shape().back();
  for (int64_t row = 0, rows = labels.size(); row < rows; ++row) {
    ArrayRef<double> values(logits.floats.data() + row * columns, columns);
    double lse = out[1].floats[row] = logSumExp(values);
    int64_t label = labels.ints[row];
    if (label == static_cast<int64_t>(getIgnoreIndex()))
      continue;
    if (label < 0 || label >= columns)
      return failure();
    out[0].floats[0] += lse - values[label];
  }
  return success();
}

LogicalResult CrossEntropyOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                       MutableArrayRef<Value> gradients) {
  if (cotangents[1])
    return failure();
  if (cotangents[0] && needed[0])
    gradients[0] = CrossEntropyBackwardOp::create(b, getLoc(), cotangents[0], getLogits(),
                                                  getLabels(), getLse(), getIgnoreIndex());
  return success();
}

uint64_t CrossEntropyOp::getFlops() { return flopsPerElement(getLogits(), 3); }

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
  return inferTensors(loc, {logits}, types);
}

LogicalResult CrossEntropyBackwardOp::evaluate(Inputs in, Outputs out) {
  const HostTensor &logits = *in[1], &labels = *in[2], &lse = *in[3];
  double dloss = in[0]->floats[0];
  int64_t columns = logits.shape().back();
  for (int64_t row = 0, rows = labels.size(); row < rows; ++row) {
    int64_t label = labels.ints[row];
    if (label == static_cast<int64_t>(getIgnoreIndex()))
      continue;
    if (label < 0 || label >= columns)
      return failure();
    for (int64_t i = 0; i < columns; ++i)
      out[0].floats[row * columns + i] =
          dloss * (std::exp(logits.floats[row * columns + i] - lse.floats[row]) - (i == label));
  }
  return success();
}

uint64_t CrossEntropyBackwardOp::getFlops() { return flopsPerElement(getLogits(), 3); }

// Element i of logits is read for element i of the result only: the other reads are of lse.
SmallVector<unsigned> CrossEntropyBackwardOp::getReusableOperands() { return {odsIndex_logits}; }
