// What happens to gradients: norms, accumulation, optimizer updates.
//
// The updates have no results: they overwrite what a `train.parameter` or `train.state` holds.
// Constraints are labelled; test/dialect/optimizer-invalid.mlir has a case for each.
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/CudaWorkspace.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

static uint64_t flopsPerElement(Value x, uint64_t flops) {
  return llvm::SaturatingMultiply<uint64_t>(elementCount(shapeOf(x)), flops);
}

//===----------------------------------------------------------------------===//
// squared_norm, sum_scalars, clip_scale
//===----------------------------------------------------------------------===//

LogicalResult SquaredNormOp::inferReturnTypes(MLIRContext *context, std::optional<Location>,
                                              ValueRange, DictionaryAttr, OpaqueProperties,
                                              RegionRange, SmallVectorImpl<Type> &types) {
  types.push_back(RankedTensorType::get({}, Float64Type::get(context)));
  return success();
}

LogicalResult SquaredNormOp::evaluate(Inputs in, Outputs out) {
  for (double value : in[0]->floats)
    out[0].floats[0] += value * value;
  return success();
}

uint64_t SquaredNormOp::getFlops() { return flopsPerElement(getX(), 2); }
uint64_t SquaredNormOp::getCudaWorkspaceBytes() { return rt::workspace::cuda::squaredNorm(elementCount(shapeOf(getX()))); }

LogicalResult SumScalarsOp::inferReturnTypes(MLIRContext *context, std::optional<Location>,
                                             ValueRange, DictionaryAttr, OpaqueProperties,
                                             RegionRange, SmallVectorImpl<Type> &types) {
  types.push_back(RankedTensorType::get({}, Float64Type::get(context)));
  return success();
}

LogicalResult SumScalarsOp::evaluate(Inputs in, Outputs out) {
  for (const HostTensor *input : in)
    out[0].floats[0] += input->floats[0];
  return success();
}

LogicalResult ClipScaleOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc,
                                            ValueRange operands, DictionaryAttr attributes,
                                            OpaqueProperties properties, RegionRange regions,
                                            SmallVectorImpl<Type> &types) {
  APFloat maxNorm = Adaptor(operands, attributes, properties, regions).getMaxNorm();
  // clip_scale_c1
  if (maxNorm.isNaN() || maxNorm.isNegative())
    return inferError(loc, "max_norm is " + numberString(maxNorm) + ", should be 0 or more");
  types.append(2, RankedTensorType::get({}, Float32Type::get(context)));
  return success();
}

uint64_t ClipScaleOp::getCudaWorkspaceBytes() { return rt::workspace::cuda::clipScale(getSquaredNorms().size()); }
LogicalResult ClipScaleOp::evaluate(Inputs in, Outputs out) {
  double sum = 0, maxNorm = getMaxNorm().convertToDouble();
  for (const HostTensor *norm : in)
    sum += norm->floats[0];
  double norm = out[0].floats[0] = std::sqrt(sum);
  double scale = maxNorm == 0 ? 1 : maxNorm / (norm + 1e-6);
  out[1].floats[0] = scale > 1 ? 1 : scale; // a NaN stays one
  return success();
}

//===----------------------------------------------------------------------===//
// Updates
//===----------------------------------------------------------------------===//

/// Whether the value is memory that lives from step to step.
static LogicalResult checkUpdated(Operation *op, StringRef name, Value value) {
  if (isa_and_nonnull<ParameterOp, StateOp>(value.getDefiningOp()))
    return success();
  return op->emitOpError() << name
                           << " is not the result of train.parameter or train.state, should be";
}

static LogicalResult checkType(Operation *op, StringRef name, Value value, Type expected) {
  if (value.getType() == expected)
    return success();
  return op->emitOpError() << name << " is " << value.getType() << ", should be " << expected;
}

/// States keep the parameter's shape, in its element type or in that of statistics.
static LogicalResult checkState(Operation *op, StringRef name, Value state, Value parameter) {
  RankedTensorType type = tensorType(parameter),
                   wide = type.clone(statisticType(type.getElementType()));
  return state.getType() == type ? success() : checkType(op, name, state, wide);
}

/// A master copy is memory of its own, in the type of statistics, of a parameter that is narrower.
static LogicalResult checkMaster(Operation *op, Value master, Value parameter) {
  if (!master)
    return success();
  RankedTensorType type = tensorType(parameter);
  if (failed(checkUpdated(op, "master", master)) ||
      failed(checkType(op, "master", master, type.clone(statisticType(type.getElementType())))))
    return failure();
  if (master.getType() == type)
    return op->emitOpError() << "has a master of the parameter's own type, should have none";
  return success();
}

static LogicalResult checkNotNegative(Operation *op, StringRef name, const APFloat &value) {
  if (value.isFinite() && !value.isNegative())
    return success();
  return op->emitOpError() << name << " is " << numberString(value)
                           << ", should be 0 or more and finite";
}

static LogicalResult checkBeta(Operation *op, StringRef name, const APFloat &value) {
  double beta = value.convertToDouble();
  if (beta >= 0 && beta < 1)
    return success();
  return op->emitOpError() << name << " is " << numberString(value)
                           << ", should be 0 or more and less than 1";
}

LogicalResult AccumulateOp::verify() {
  // accumulate_c1
  if (failed(checkUpdated(*this, "accumulator", getAccumulator())))
    return failure();
  // accumulate_c2
  return checkState(*this, "accumulator", getAccumulator(), getX());
}

LogicalResult AccumulateOp::evaluate(Inputs in, Outputs out) {
  bool first = in[2]->ints[0] == 0;
  for (int64_t i = 0, e = out[0].size(); i < e; ++i)
    out[0].floats[i] = (first ? 0 : in[0]->floats[i]) + in[1]->floats[i];
  return success();
}

uint64_t AccumulateOp::getFlops() { return flopsPerElement(getX(), 1); }

SmallVector<unsigned> AccumulateOp::getUpdatedOperands() { return {odsIndex_accumulator}; }

LogicalResult AdamWOp::verify() {
  // adamw_c1
  if (failed(checkUpdated(*this, "parameter", getParameter())))
    return failure();
  // adamw_c2
  if (failed(checkUpdated(*this, "exp_avg", getExpAvg())) ||
      failed(checkUpdated(*this, "exp_avg_sq", getExpAvgSq())))
    return failure();
  // adamw_c3
  if (failed(checkType(*this, "gradient", getGradient(), getParameter().getType())))
    return failure();
  // adamw_c4
  if (failed(checkState(*this, "exp_avg", getExpAvg(), getParameter())))
    return failure();
  // adamw_c5
  if (failed(checkType(*this, "exp_avg_sq", getExpAvgSq(), getExpAvg().getType())))
    return failure();
  // adamw_c6
  if (failed(checkBeta(*this, "beta1", getBeta1())) ||
      failed(checkBeta(*this, "beta2", getBeta2())))
    return failure();
  // adamw_c7
  if (failed(checkNotNegative(*this, "epsilon", getEpsilon())))
    return failure();
  // adamw_c8
  if (failed(checkNotNegative(*this, "weight_decay", getWeightDecay())))
    return failure();
  // adamw_c9: one buffer cannot hold two of them.
  if (getExpAvg() == getExpAvgSq() || getExpAvg() == getParameter() ||
      getExpAvgSq() == getParameter())
    return emitOpError("updates one value twice, should update three");
  // adamw_c10
  if (failed(checkMaster(*this, getMaster(), getParameter())))
    return failure();
  // adamw_c11: nor a moment and the master.
  if (getMaster() && (getMaster() == getExpAvg() || getMaster() == getExpAvgSq()))
    return emitOpError("updates one value twice, should update four");
  return success();
}

LogicalResult AdamWOp::evaluate(Inputs in, Outputs out) {
  double scale = in[4]->floats[0], rate = in[5]->floats[0];
  int64_t step = in[6]->ints[0];
  if (step < 1)
    return failure();
  double beta1 = getBeta1().convertToDouble(), beta2 = getBeta2().convertToDouble();
  double decay = getWeightDecay().convertToDouble(), epsilon = getEpsilon().convertToDouble();
  double correction1 = 1 - std::pow(beta1, step),
         correction2 = std::sqrt(1 - std::pow(beta2, step));
  for (int64_t i = 0, e = out[0].size(); i < e; ++i) {
    double g = in[1]->floats[i] * scale, m = in[2]->floats[i], v = in[3]->floats[i];
    double p = (getMaster() ? in[7] : in[0])->floats[i] * (1 - rate * decay);
    m += (g - m) * (1 - beta1);
    v = v * beta2 + g * g * (1 - beta2);
    p -= rate / correction1 * m / (std::sqrt(v) / correction2 + epsilon);
    out[0].floats[i] = p;
    out[1].floats[i] = m;
    out[2].floats[i] = v;
    if (getMaster())
      out[3].floats[i] = p;
  }
  return success();
}

uint64_t AdamWOp::getFlops() { return flopsPerElement(getParameter(), 15); }

SmallVector<unsigned> AdamWOp::getUpdatedOperands() {
  SmallVector<unsigned> updated{odsIndex_parameter, odsIndex_exp_avg, odsIndex_exp_avg_sq};
  if (getMaster())
    updated.push_back(odsIndex_master);
  return updated;
}
Value AdamWOp::getParameterValue() { return getParameter(); }
Value AdamWOp::getGradientValue() { return getGradient(); }
SmallVector<Value> AdamWOp::getStateValues() {
  SmallVector<Value> states{getExpAvg(), getExpAvgSq()};
  if (getMaster())
    states.push_back(getMaster());
  return states;
}

LogicalResult SgdOp::verify() {
  // sgd_c12: the generated accessors trust the segments of required operands.
  for (int32_t size : ArrayRef<int32_t>(getProperties().operandSegmentSizes).take_front(odsIndex_buffer))
    if (size != 1)
      return emitOpError("operandSegmentSizes should give every required operand one value");
  // sgd_c1
  if (failed(checkUpdated(*this, "parameter", getParameter())))
    return failure();
  // sgd_c2
  if (failed(checkType(*this, "gradient", getGradient(), getParameter().getType())))
    return failure();
  // sgd_c3
  if (failed(checkNotNegative(*this, "momentum", getMomentum())))
    return failure();
  // sgd_c4
  if (failed(checkNotNegative(*this, "weight_decay", getWeightDecay())))
    return failure();
  // sgd_c5
  if (static_cast<bool>(getBuffer()) != !getMomentum().isZero())
    return emitOpError("buffer is ") << (getBuffer() ? "there" : "absent")
                                     << ", should be there exactly when momentum is not 0";
  // sgd_c6
  if (getNesterov() && !getBuffer())
    return emitOpError("nesterov is set without momentum, should be set with one");
  // sgd_c10
  if (failed(checkMaster(*this, getMaster(), getParameter())))
    return failure();
  if (!getBuffer())
    return success();
  // sgd_c7
  if (failed(checkUpdated(*this, "buffer", getBuffer())))
    return failure();
  // sgd_c8
  if (failed(checkState(*this, "buffer", getBuffer(), getParameter())))
    return failure();
  // sgd_c9: one buffer cannot hold both.
  if (getBuffer() == getParameter())
    return emitOpError("updates one value twice, should update two");
  // sgd_c11
  if (getBuffer() == getMaster())
    return emitOpError("updates one value twice, should update three");
  return success();
}

LogicalResult SgdOp::evaluate(Inputs in, Outputs out) {
  double scale = in[2]->floats[0], rate = in[3]->floats[0];
  bool first = in[4]->ints[0] == 1;
  double momentum = getMomentum().convertToDouble(), decay = getWeightDecay().convertToDouble();
  for (int64_t i = 0, e = out[0].size(); i < e; ++i) {
    double p = (getMaster() ? in[6] : in[0])->floats[i], g = in[1]->floats[i] * scale + decay * p;
    if (getBuffer()) {
      double buffer = out[1].floats[i] = first ? g : momentum * in[5]->floats[i] + g;
      g = getNesterov() ? g + momentum * buffer : buffer;
    }
    out[0].floats[i] = p - rate * g;
    if (getMaster())
      out.back().floats[i] = out[0].floats[i];
  }
  return success();
}

uint64_t SgdOp::getFlops() { return flopsPerElement(getParameter(), getBuffer() ? 7 : 5); }

SmallVector<unsigned> SgdOp::getUpdatedOperands() {
  // Operand numbers, not places in the op's definition: an absent operand has none.
  SmallVector<unsigned> updated{odsIndex_parameter};
  if (getBuffer())
    updated.push_back(odsIndex_buffer);
  if (getMaster())
    updated.push_back(odsIndex_buffer + (getBuffer() ? 1 : 0));
  return updated;
}
Value SgdOp::getParameterValue() { return getParameter(); }
Value SgdOp::getGradientValue() { return getGradient(); }
SmallVector<Value> SgdOp::getStateValues() {
  SmallVector<Value> states;
  for (Value state : {getBuffer(), getMaster()})
    if (state)
      states.push_back(state);
  return states;
}
