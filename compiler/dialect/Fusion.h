// How cheap operations say what they do with one element, so that a group of them becomes one kernel on any device
// (FusableOpInterface in TrainInterfaces.td; compiler/codegen is what asks).
//
// A group works on a domain: rows (all dimensions but the last) times columns (the last). Arithmetic is fp32 whatever is
// stored; an element is rounded to its tensor's type where an operation makes it, whether or not it is written to memory,
// so that a result does not depend on what shares a kernel with what.
#ifndef AMC_COMPILER_DIALECT_FUSION_H
#define AMC_COMPILER_DIALECT_FUSION_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/SmallVector.h"

namespace amc::train {

/// Operations of one kernel at most: more need too many registers.
inline constexpr size_t maxGroupOperations = 16;

/// What a result of an operation is made of.
enum class Makes : uint8_t {
  Element,   // one element for each of the domain
  Row,       // one for each row: a statistic of it
  ColumnSum, // one for each column: a sum over all rows, in blocks of normRowBlock rows, then over the blocks, ascending
};

/// How what a row's elements contribute becomes a statistic of it.
enum class Combine : uint8_t { Sum, Maximum };

/// Which elements of a row an operation mixes in pairs: one of either half, or neighbours.
enum class Pairs : uint8_t { None, Halves, Neighbours };

struct FusionRule {
  /// Empty where types or shapes are not ones that fused kernels handle.
  std::optional<llvm::SmallVector<int64_t>> domain;
  /// Of every operand: whether it has one element for each row. The others broadcast against the domain, as NumPy's do.
  llvm::SmallVector<bool> perRow;
  llvm::SmallVector<Makes> results;
  /// Of every result that is a row's: the statistic that it is.
  llvm::SmallVector<unsigned> statisticOf;
  /// Of every statistic of a row: how its terms, one of each element, are combined. NaN is no maximum.
  llvm::SmallVector<Combine> statistics;
  /// Whether their terms depend on those before them.
  bool chained = false;
  /// Columns are even in number where there are pairs.
  Pairs pairs = Pairs::None;

  int64_t columns() const { return domain->empty() ? 1 : domain->back(); }
};

/// Rows and columns of the domain, which the operations of one kernel have in common.
std::pair<int64_t, int64_t> rowsAndColumns(const FusionRule &rule);

/// What the operations of a kernel have to agree on beside their domain.
class KernelRules {
public:
  /// Null, and the operation is one of them; or why it cannot be.
  const char *add(const FusionRule &rule);
  Pairs pairs() const { return mixed; }

private:
  Pairs mixed = Pairs::None;
  bool ofRows = false, sums = false; // whether any has statistics or sums over columns; any has such sums
};
/// Whether an operation reads an element of `operand`, which another of its kernel makes, where it is made.
bool readsInPlace(const FusionRule &rule, mlir::OpOperand &operand);

/// Results are elements of operands that broadcast; the first result is the domain.
FusionRule elementwiseFusion(mlir::Operation *op);
/// … of an operation whose operands and results may all be stored in a fused kernel, with this domain.
FusionRule rowFusion(mlir::Operation *op, llvm::ArrayRef<int64_t> domain);

/// Whether an operation is a train.full of floats, which a group may hold: its elements are constants of the kernel.
bool isFusedConstant(mlir::Operation *op);

/// `element`, or a vector of it where `like` is a vector.
mlir::Type withElement(mlir::Type like, mlir::Type element);
/// A constant of `type`: the number, or a vector full of it.
mlir::Value splatConstant(mlir::OpBuilder &b, mlir::Location loc, mlir::Type type, mlir::TypedAttr value);

/// What an operation builds an element with. Values are fp32 (i1 where a tensor is): one element, or as many as the device
/// computes at once; within emitStatistic, one for the row.
class ElementEmitter {
public:
  ElementEmitter(mlir::OpBuilder &b, mlir::Location loc) : b(b), loc(loc) {}
  virtual ~ElementEmitter() = default;

  /// The element of an operand; of one that is per row, the row's.
  virtual mlir::Value element(mlir::Value operand) = 0;
  /// The element of an operand that makes a pair with this one (FusionRule::pairs).
  virtual mlir::Value partner(mlir::Value operand) = 0;
  /// A constant: `first` in the first element of a pair, `second` in the other.
  virtual mlir::Value ofPair(double first, double second) = 0;
  /// Statistic `k` of the row.
  virtual mlir::Value statistic(unsigned k) = 0;
  /// What a result's element is, or what is added to a column's sum.
  virtual void set(mlir::Value result, mlir::Value element) = 0;
  /// f32, or a vector of it.
  virtual mlir::Type type() = 0;

  mlir::Value constant(double value);
  mlir::Value add(mlir::Value a, mlir::Value b);
  mlir::Value sub(mlir::Value a, mlir::Value b);
  mlir::Value mul(mlir::Value a, mlir::Value b);
  mlir::Value div(mlir::Value a, mlir::Value b);
  mlir::Value neg(mlir::Value a);
  mlir::Value abs(mlir::Value a);
  mlir::Value sqrt(mlir::Value a);
  /// a * b + c, rounded once.
  mlir::Value fma(mlir::Value a, mlir::Value b, mlir::Value c);
  /// Ordered comparisons: false where either is NaN.
  mlir::Value less(mlir::Value a, mlir::Value b);
  mlir::Value lessEqual(mlir::Value a, mlir::Value b);
  mlir::Value greater(mlir::Value a, mlir::Value b) { return less(b, a); }
  mlir::Value isNan(mlir::Value a);
  mlir::Value select(mlir::Value condition, mlir::Value a, mlir::Value b);
  mlir::Value roundEven(mlir::Value a);
  mlir::Value floor(mlir::Value a);
  mlir::Value ceil(mlir::Value a);

  /// Accuracy against correctly rounded results: exp 1 ulp, tanh, erf and sigmoid 2 ulp (0 below 2^-127). The polynomials
  /// are those of runtime/device/cpu/hot/Vec.h, and give the same bits. log, 1 ulp, is of numbers from 2^-126 on, infinity
  /// and NaN.
  mlir::Value exp(mlir::Value x);
  mlir::Value tanh(mlir::Value x);
  mlir::Value sigmoid(mlir::Value x);
  mlir::Value erf(mlir::Value x);
  mlir::Value log(mlir::Value x);
  /// The magnitude, which is not negative, with the sign of a number that is not 0.
  mlir::Value withSign(mlir::Value magnitude, mlir::Value of);

  mlir::OpBuilder &builder() { return b; }
  mlir::Location location() const { return loc; }

protected:
  mlir::OpBuilder &b;
  mlir::Location loc;

private:
  mlir::Value bits(mlir::Value x);                            // fp32 as i32
  mlir::Value number(mlir::Value bits);                       // and back
  mlir::Value integer(int32_t value);                         // shaped as type()
  mlir::Value expOfRest(mlir::Value x, mlir::Value &sum);     // x = n ln 2 + r: e^r, and n + 1.5 * 2^23
  mlir::Value boundedExp(mlir::Value x); // never below 2^-126, infinite from 2^127.5 on: for what is added to 1
};

} // namespace amc::train

#endif
