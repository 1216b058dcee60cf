// Widths and names of element types.
#ifndef AMC_RUNTIME_PLAN_DTYPES_H
#define AMC_RUNTIME_PLAN_DTYPES_H

#include "runtime/plan/plan.pb.h"
#include <string_view>

namespace amc::rt {

// Bytes of one element; 0 for DTYPE_UNSPECIFIED and for numbers that are no DType.
constexpr uint64_t dtypeBytes(plan::DType dtype) {
  switch (dtype) {
  case plan::F64: case plan::I64: case plan::U64: return 8;
  case plan::F32: case plan::I32: case plan::U32: return 4;
  case plan::BF16: case plan::F16: case plan::I16: case plan::U16: return 2;
  case plan::I8: case plan::U8: case plan::BOOL: return 1;
  default: return 0;
  }
}

// As MLIR spells them: f32, bf16, …, i64, …, ui8, …, i1.
constexpr std::string_view dtypeName(plan::DType dtype) {
  switch (dtype) {
  case plan::F32: return "f32";
  case plan::BF16: return "bf16";
  case plan::F16: return "f16";
  case plan::F64: return "f64";
  case plan::I64: return "i64";
  case plan::I32: return "i32";
  case plan::I16: return "i16";
  case plan::I8: return "i8";
  case plan::U8: return "ui8";
  case plan::U16: return "ui16";
  case plan::U32: return "ui32";
  case plan::U64: return "ui64";
  case plan::BOOL: return "i1";
  default: return "absent";
  }
}
constexpr plan::DType dtypeFromName(std::string_view name) {
  for (int i = plan::F32; i <= plan::BOOL; ++i)
    if (dtypeName(static_cast<plan::DType>(i)) == name)
      return static_cast<plan::DType>(i);
  return plan::DTYPE_UNSPECIFIED;
}

constexpr bool isFloat(plan::DType d) {
  return d == plan::F32 || d == plan::BF16 || d == plan::F16 || d == plan::F64;
}
constexpr bool isUnsigned(plan::DType d) {
  return d == plan::U8 || d == plan::U16 || d == plan::U32 || d == plan::U64;
}
constexpr bool isInteger(plan::DType d) {
  return isUnsigned(d) || d == plan::I64 || d == plan::I32 || d == plan::I16 || d == plan::I8;
}
constexpr bool isNumber(plan::DType d) { return isFloat(d) || isInteger(d); }
constexpr bool isIndex(plan::DType d) { return d == plan::I64 || d == plan::I32; }

} // namespace amc::rt

#endif
