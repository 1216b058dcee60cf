// How an operation may be divided among ranks, stated by the operation itself (ShardingOpInterface).
//
// Every dimension of operands and results is a product of factors, the slowest first; a factor that stands in several
// places has to be cut alike in all of them. `y = x w` has the factors rows, K and N:  [rows, K] [K, N] -> [rows, N].
// Cutting a factor among the members of a group gives each its own part of the work; what that makes of the results
// depends on the factor's kind. The notation is einsum's, as Shardy's sharding rules have it.
#ifndef AMC_COMPILER_DIALECT_SHARDING_H
#define AMC_COMPILER_DIALECT_SHARDING_H

#include "mlir/IR/Operation.h"
#include "llvm/ADT/SmallVector.h"

namespace amc::train {

enum class FactorKind : uint8_t {
  Parallel,  // results are spread as the factor is
  Sum,       // results are partial: their sum over members is the result
  Indexed,   // as Sum, and the operation has to know its member (an embedding's rows)
  Placed,    // as Parallel, and the operation has to know its member (attention's queries, which have positions)
  Exchanged, // results are alike: the operation exchanges what it takes, and has to know its group (a loss' classes)
  Whole,     // cannot be cut here
};

struct ShardingRule {
  struct Factor {
    int64_t size = 1;
    FactorKind kind = FactorKind::Parallel;
  };
  using Dims = llvm::SmallVector<llvm::SmallVector<unsigned, 2>, 4>; // factors of each dimension
  llvm::SmallVector<Factor> factors;
  llvm::SmallVector<Dims> operands, results; // as the operation has them
  // Operand 0 and result 0 have the same elements in row-major order: their factors, written one behind the other, are
  // the same list. Factors are whatever that needs; `factors` is empty.
  bool flat = false;
};

class RuleBuilder {
public:
  static constexpr unsigned none = ~0u; // a dimension that repeats (of size 1) or that nothing else shares

  explicit RuleBuilder(mlir::Operation *op);
  unsigned factor(int64_t size, FactorKind kind = FactorKind::Parallel);
  /// One factor for each dimension of `shape`.
  llvm::SmallVector<unsigned> each(llvm::ArrayRef<int64_t> shape, FactorKind kind = FactorKind::Parallel);
  /// The factors of an operand's or a result's dimensions, one each.
  void operand(unsigned number, llvm::ArrayRef<unsigned> dims);
  void result(unsigned number, llvm::ArrayRef<unsigned> dims);
  /// Operand `number` broadcasts to a tensor of `shape` with these factors.
  void broadcastOperand(unsigned number, llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<unsigned> dims);
  /// Of one dimension, several factors.
  void split(ShardingRule::Dims &dims, unsigned dim, llvm::ArrayRef<unsigned> factors);
  ShardingRule rule;

private:
  mlir::Operation *op;
};

/// Elementwise with NumPy's broadcasting: every dimension of the results is parallel.
ShardingRule broadcastRule(mlir::Operation *op);

} // namespace amc::train

#endif
