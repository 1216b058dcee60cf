// A fused group seen as a kernel on any device: its domain, where each tensor's elements are, and in how many passes over a
// row its statistics come out. Knows no instruction set; compiler/codegen/CpuKernel.h makes vectors of it.
#ifndef AMC_COMPILER_CODEGEN_GROUP_H
#define AMC_COMPILER_CODEGEN_GROUP_H

#include "compiler/dialect/Train.h"

namespace amc::codegen {

/// Where an operand's element (row, column) is: base + sum of (row / divisor % size) * stride + column * columnStride, in
/// elements. A stride of 0 in columns: one element for the whole row.
struct Access {
  struct Term {
    int64_t divisor, size, stride;
    bool operator==(const Term &) const = default;
  };
  llvm::SmallVector<Term, 2> terms;
  int64_t columnStride = 1;
  bool operator==(const Access &) const = default;
};

/// A statistic of the rows: statistic `k` of an operation, and after how many passes over a row it is known.
struct Statistic {
  train::FusableOpInterface op;
  unsigned k, level;
  train::Combine how;
};

struct Group {
  mlir::Block *body;
  int64_t rows = 0, columns = 0;
  /// Every tensor is read and written element by element: rows do not matter, and all elements are one row.
  bool flat = false;
  /// What is mixed in pairs: of halves, both elements of a pair are made before either is written.
  train::Pairs pairs = train::Pairs::None;
  unsigned levels = 0; // passes over a row before the last, which makes the elements
  llvm::SmallVector<Statistic> statistics;
  llvm::SmallVector<mlir::Value> results; // what is yielded, behind views
  bool sums = false;                      // whether any result is a sum over rows

  /// Columns of a row that a kernel goes through: of pairs of halves the first half, which takes the second along.
  int64_t walkedColumns() const { return pairs == train::Pairs::Halves ? columns / 2 : columns; }

  /// Fails, without a diagnostic, where a kernel cannot be made of the body. `why` then says so.
  static std::optional<Group> analyze(mlir::Block &body, std::string &why);

  /// Of an operand of an operation of the body that comes from an argument of the block.
  Access accessOf(mlir::Operation *op, mlir::OpOperand &operand) const;
  /// What makes a value, behind views: an operation's result or an argument.
  static mlir::Value rootOf(mlir::Value value);
  static train::Makes makes(mlir::Value root);
};

/// What distinguishes kernels: groups with the same text are the same.
std::string kernelText(mlir::Block &body);
/// "add+rms_norm": what people call a kernel.
std::string kernelName(mlir::Block &body);

} // namespace amc::codegen

#endif
