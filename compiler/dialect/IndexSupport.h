// Index arithmetic of the operations that move, gather and reduce elements, for their naive evaluation and for the
// checks they have in common.
#ifndef AMC_COMPILER_DIALECT_INDEXSUPPORT_H
#define AMC_COMPILER_DIALECT_INDEXSUPPORT_H

#include "compiler/dialect/OpSupport.h"

namespace amc::train {

/// A shape cut at one dimension: element (o, i, k) is at (o * n + i) * inner + k.
struct AxisSplit {
  AxisSplit(llvm::ArrayRef<int64_t> shape, int64_t axis)
      : outer(elementCount(shape.take_front(axis))), n(shape[axis]),
        inner(elementCount(shape.drop_front(axis + 1))) {}
  int64_t at(int64_t o, int64_t i, int64_t k) const { return (o * n + i) * inner + k; }
  int64_t outer, n, inner;
};

/// Calls `visit(flat, coordinates)` for every index of `shape`, row-major; stops and fails when visit does.
llvm::LogicalResult
forEachIndex(llvm::ArrayRef<int64_t> shape,
             llvm::function_ref<llvm::LogicalResult(int64_t, llvm::ArrayRef<int64_t>)> visit);

/// Row-major position of `coordinates`.
int64_t flatten(llvm::ArrayRef<int64_t> coordinates, llvm::ArrayRef<int64_t> strides);

/// `index` counted from the start of a dimension of `size`; nothing if it is out of range.
std::optional<int64_t> wrapIndex(int64_t index, int64_t size);

/// Two's complement arithmetic: integers wrap, as they do in the kernels.
inline int64_t wrapAdd(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
inline int64_t wrapMul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

/// Reports an axis outside [0, rank).
llvm::LogicalResult checkAxis(std::optional<mlir::Location> loc, int64_t axis, int64_t rank);

/// Reports `name` unless it has one number for each dimension.
llvm::LogicalResult checkLength(std::optional<mlir::Location> loc, llvm::StringRef name,
                                llvm::ArrayRef<int64_t> numbers, int64_t rank);

/// Reports a value that no element of an integer type equals. Floats take every value.
llvm::LogicalResult checkRepresentable(std::optional<mlir::Location> loc, llvm::StringRef name,
                                       double value, mlir::Type element);

} // namespace amc::train

#endif
