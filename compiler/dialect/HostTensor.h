// A tensor on the host with double-precision or 64-bit elements: what operations are evaluated on when the compiler
// folds constants and when tests need an oracle. Never used for weights: those stay in their files.
#ifndef AMC_COMPILER_DIALECT_HOSTTENSOR_H
#define AMC_COMPILER_DIALECT_HOSTTENSOR_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include <cstdint>
#include <vector>

namespace amc {

class HostTensor {
public:
  HostTensor() = default;
  /// Zeros of `type`'s shape. Floats live in `floats`, integers and i1 in `ints`; the other vector stays empty.
  explicit HostTensor(mlir::RankedTensorType type);

  /// The elements of a dense constant. Fails (empty optional) on element types the dialect does not have.
  static std::optional<HostTensor> fromAttr(mlir::ElementsAttr attr);
  /// A dense constant, elements rounded to the element type.
  mlir::DenseElementsAttr toAttr() const;

  mlir::RankedTensorType type;
  std::vector<double> floats;
  std::vector<int64_t> ints;

  bool isFloat() const { return mlir::isa<mlir::FloatType>(type.getElementType()); }
  llvm::ArrayRef<int64_t> shape() const { return type.getShape(); }
  int64_t rank() const { return type.getRank(); }
  int64_t size() const { return type.getNumElements(); }
  /// Element `i` in row-major order, converted.
  double number(int64_t i) const { return isFloat() ? floats[i] : static_cast<double>(ints[i]); }
  int64_t integer(int64_t i) const { return isFloat() ? static_cast<int64_t>(floats[i]) : ints[i]; }
  void set(int64_t i, double value) {
    if (isFloat())
      floats[i] = value;
    else
      ints[i] = static_cast<int64_t>(value);
  }
  /// Copies element `j` of `from`, which has the same kind (float or integer), to element `i`.
  void copyElement(int64_t i, const HostTensor &from, int64_t j) {
    if (isFloat())
      floats[i] = from.floats[j];
    else
      ints[i] = from.ints[j];
  }
};

/// Row-major strides in elements.
llvm::SmallVector<int64_t> rowMajorStrides(llvm::ArrayRef<int64_t> shape);

} // namespace amc

#endif
