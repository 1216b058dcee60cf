// Conversion between HostTensor and dense attributes.
#include "compiler/dialect/HostTensor.h"
#include "mlir/IR/Builders.h"

using namespace mlir;

namespace amc {

HostTensor::HostTensor(RankedTensorType type) : type(type) {
  if (isFloat())
    floats.resize(type.getNumElements());
  else
    ints.resize(type.getNumElements());
}

std::optional<HostTensor> HostTensor::fromAttr(ElementsAttr attr) {
  auto type = dyn_cast<RankedTensorType>(attr.getType());
  if (!type)
    return std::nullopt;
  HostTensor tensor(type);
  int64_t i = 0;
  if (auto floatType = dyn_cast<FloatType>(type.getElementType())) {
    auto values = attr.tryGetValues<APFloat>();
    if (!values)
      return std::nullopt;
    for (APFloat value : *values) {
      bool lost;
      value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
      tensor.floats[i++] = value.convertToDouble();
    }
    return tensor;
  }
  auto integer = dyn_cast<IntegerType>(type.getElementType());
  auto values = attr.tryGetValues<APInt>();
  if (!integer || !values)
    return std::nullopt;
  bool zeroExtend = integer.isUnsigned() || integer.getWidth() == 1;
  for (const APInt &value : *values)
    tensor.ints[i++] = zeroExtend ? static_cast<int64_t>(value.getZExtValue()) : value.getSExtValue();
  return tensor;
}

DenseElementsAttr HostTensor::toAttr() const {
  if (auto floatType = dyn_cast<FloatType>(type.getElementType())) {
    std::vector<APFloat> values;
    values.reserve(floats.size());
    for (double number : floats) {
      APFloat value(number);
      bool lost;
      value.convert(floatType.getFloatSemantics(), APFloat::rmNearestTiesToEven, &lost);
      values.push_back(value);
    }
    return DenseElementsAttr::get(type, values);
  }
  unsigned width = type.getElementType().getIntOrFloatBitWidth();
  std::vector<APInt> values;
  values.reserve(ints.size());
  for (int64_t number : ints)
    values.push_back(APInt(64, static_cast<uint64_t>(number)).trunc(width));
  return DenseElementsAttr::get(type, values);
}

SmallVector<int64_t> rowMajorStrides(ArrayRef<int64_t> shape) {
  SmallVector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i];
  return strides;
}

} // namespace amc
