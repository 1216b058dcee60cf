// Types of the IR as plans number them.
#ifndef AMC_COMPILER_DIALECT_PLANTYPES_H
#define AMC_COMPILER_DIALECT_PLANTYPES_H

#include "mlir/IR/BuiltinTypes.h"
#include "runtime/plan/plan.pb.h"

namespace amc {

/// DTYPE_UNSPECIFIED for types that no tensor of a plan has.
inline plan::DType dtypeOf(mlir::Type type) {
  if (mlir::isa<mlir::Float32Type>(type))
    return plan::F32;
  if (mlir::isa<mlir::BFloat16Type>(type))
    return plan::BF16;
  if (mlir::isa<mlir::Float16Type>(type))
    return plan::F16;
  if (mlir::isa<mlir::Float64Type>(type))
    return plan::F64;
  auto integer = mlir::dyn_cast<mlir::IntegerType>(type);
  if (!integer)
    return plan::DTYPE_UNSPECIFIED;
  switch (integer.getWidth()) {
  case 1:
    return plan::BOOL;
  case 8:
    return integer.isUnsigned() ? plan::U8 : plan::I8;
  case 16:
    return integer.isUnsigned() ? plan::U16 : plan::I16;
  case 32:
    return integer.isUnsigned() ? plan::U32 : plan::I32;
  case 64:
    return integer.isUnsigned() ? plan::U64 : plan::I64;
  default:
    return plan::DTYPE_UNSPECIFIED;
  }
}

} // namespace amc

#endif
