// Dropout by counter: shape rule, oracle, gradient. The numbers are runtime/plan/Philox.h's.
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/Philox.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace amc::train {

LogicalResult DropoutOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, ValueRange operands,
                                          DictionaryAttr attributes, OpaqueProperties properties,
                                          RegionRange regions, SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  double probability = op.getProbability().convertToDouble();
  // dropout_c1
  if (!(probability >= 0 && probability < 1))
    return inferError(loc, "probability is " + numberString(op.getProbability()) +
                               ", should be at least 0 and below 1");
  // dropout_c2
  int64_t stream = static_cast<int64_t>(op.getStream());
  if (stream < 0 || stream > UINT32_MAX)
    return inferError(loc, "stream is " + Twine(stream) + ", should be in [0, 2^32)");
  types.push_back(op.getX().getType());
  return success();
}

LogicalResult DropoutOp::evaluate(ArrayRef<const HostTensor *> in, MutableArrayRef<HostTensor> out) {
  rt::DropoutMask mask(getProbability().convertToDouble(), getStream(), in[1]->integer(0), in[2]->integer(0),
                       in[3]->integer(0));
  for (int64_t i = 0, e = out[0].size(); i < e; i += 4) {
    auto keeps = mask.keeps(static_cast<uint64_t>(i / 4));
    for (int64_t k = 0; k < 4 && i + k < e; ++k)
      out[0].floats[i + k] = keeps[k] ? in[0]->floats[i + k] * mask.scale() : 0;
  }
  return success();
}

// The mask is drawn by the position in the whole tensor.
ShardingRule DropoutOp::getShardingRule() {
  RuleBuilder r(*this);
  SmallVector<unsigned> dims = r.each(shapeOf(getX()), FactorKind::Whole);
  r.operand(0, dims);
  r.result(0, dims);
  return std::move(r.rule);
}

SmallVector<unsigned> DropoutOp::getReusableOperands() { return {0}; }

uint64_t DropoutOp::getFlops() {
  return llvm::SaturatingMultiply<uint64_t>(elementCount(shapeOf(getX())), dropoutFlops);
}

LogicalResult DropoutOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                  MutableArrayRef<Value> gradients) {
  if (needed[0] && cotangents[0])
    gradients[0] = DropoutOp::create(b, getLoc(), cotangents[0], getSeed(), getStep(), getMicroBatch(),
                                     getProbabilityAttr(), getStreamAttr());
  return success();
}

} // namespace amc::train
