// Verifiers and folds of the step's sources. Constraints are labelled; test/dialect/step-invalid.mlir has a case each.
#include "compiler/dialect/OpSupport.h"

using namespace mlir;
using namespace amc::train;

LogicalResult StateOp::verify() {
  // state_c1
  if (getKind() != "optimizer" && getKind() != "gradient")
    return emitOpError("kind is \"") << getKind() << "\", should be \"optimizer\" or \"gradient\"";
  return success();
}

LogicalResult InputOp::verify() {
  auto type = cast<RankedTensorType>(getResult().getType());
  Type element = type.getElementType();
  StringRef role = getRole();
  if (role == "data")
    return success();
  if (role == "labels") {
    // input_c1
    if (!element.isInteger(64))
      return emitOpError("labels are of type ") << element << ", should be i64";
    return success();
  }
  Type expected;
  if (role == "loss_normalizer")
    expected = Float32Type::get(getContext());
  else if (role == "learning_rate")
    expected = Float64Type::get(getContext());
  else if (role == "step_number" || role == "micro_batch" || role == "seed" || role == "data_rank")
    expected = IntegerType::get(getContext(), 64);
  // input_c2
  if (!expected)
    return emitOpError("role is \"") << role
           << "\", should be data, labels, loss_normalizer, learning_rate, step_number, micro_batch, seed or data_rank";
  // input_c3
  if (type != RankedTensorType::get({}, expected))
    return emitOpError("of role ") << role << " is " << type << ", should be "
                                   << RankedTensorType::get({}, expected);
  return success();
}

LogicalResult ConstantOp::verify() {
  // constant_c1
  if (getValue().getType() != getResult().getType())
    return emitOpError("value is of type ") << getValue().getType() << ", result should be, too";
  return success();
}

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }
