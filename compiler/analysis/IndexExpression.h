// What one element of a tensor is, as a function of where it stands: masks are read this way,
// without ever being computed. An element at indices that are linear in a few variables (batch,
// head, query, key) is a linear form of them, a table over truth values of atoms (half-planes of
// the indices; elements of run-time tensors), an element of an input, or opaque.
//
// Limits: at most six atoms in a table, a bounded number of visits, integers below 2^40, constant
// tensors of at most 2^24 elements. Beyond a limit the answer is opaque, never wrong. One reading
// is a convention: an input from which a float mask is computed (`(1 - mask) * -1e9`) holds 0 or 1.
#ifndef AMC_COMPILER_ANALYSIS_INDEXEXPRESSION_H
#define AMC_COMPILER_ANALYSIS_INDEXEXPRESSION_H

#include "compiler/analysis/ConstantValue.h"
#include "llvm/ADT/SmallVector.h"
#include <functional>
#include <optional>

namespace amc {

/// constant + sum of coefficient * variable; terms ascend by variable and have no zero coefficient.
struct LinearIndex {
  int64_t constant = 0;
  llvm::SmallVector<std::pair<unsigned, int64_t>, 4> terms;

  LinearIndex() = default;
  LinearIndex(int64_t constant) : constant(constant) {}
  bool isConstant() const { return terms.empty(); }
  bool operator==(const LinearIndex &other) const {
    return constant == other.constant && terms == other.terms;
  }
  bool uses(unsigned variable) const;
};

/// a + factor * b; empty when a number leaves the allowed range.
std::optional<LinearIndex> addScaled(const LinearIndex &a, const LinearIndex &b, int64_t factor);

/// The variables of linear forms: variable v takes the values 0 … sizes[v] - 1.
class IndexSpace {
public:
  /// Adds a variable and returns it as a form; one of a single value is the constant 0.
  LinearIndex add(int64_t size);
  unsigned size() const { return sizes.size(); }
  int64_t minimum(const LinearIndex &form) const { return extreme(form, false); }
  int64_t maximum(const LinearIndex &form) const { return extreme(form, true); }
  /// Every value of `form` lies in [0, bound).
  bool isWithin(const LinearIndex &form, int64_t bound) const;

private:
  int64_t extreme(const LinearIndex &form, bool largest) const;
  llvm::SmallVector<int64_t> sizes;
};

using Indices = llvm::SmallVector<LinearIndex, 6>;

/// The indices in a tensor of `shape` of the element with row-major position `flat`; empty if they
/// are not linear.
std::optional<Indices> unflatten(const IndexSpace &space, LinearIndex flat,
                                 llvm::ArrayRef<int64_t> shape);
/// Where operand 0 of a reshape, transpose, broadcast, slice or cast holds the result's element at
/// `at`.
std::optional<Indices> throughView(const IndexSpace &space, mlir::Operation *op,
                                   llvm::ArrayRef<LinearIndex> at);

/// A fact that is true or false for given indices and run-time tensors.
struct MaskAtom {
  /// With `tensor`: that tensor's element at `at` is true (i1) or not 0. Without: `form` <=
  /// `bound`, the form having no constant, coefficients without common divisor and a positive first
  /// one.
  mlir::Value tensor;
  Indices at;
  LinearIndex form;
  int64_t bound = 0;
};

struct IndexExpression {
  enum class Kind { Opaque, Linear, Table, Load };
  Kind kind = Kind::Opaque;
  LinearIndex linear;
  /// Table: values[m] where bit i of m says whether atoms[i] holds. Load: element * scale + offset,
  /// atoms[0] saying that the element is not 0.
  llvm::SmallVector<unsigned, 6> atoms;
  llvm::SmallVector<double> values;
  double scale = 1, offset = 0;

  static IndexExpression constant(double value);
  static IndexExpression of(LinearIndex form);
  std::optional<double> asConstant() const;
};

class IndexEvaluator {
public:
  /// `isTable`: whether the elements of a float parameter are constants, which a weight's are not.
  IndexEvaluator(ConstantEvaluator &constants, llvm::function_ref<bool(const HostTensor &)> isTable)
      : constants(constants), isTable(isTable) {}

  IndexSpace &space() { return variables; }
  const std::vector<MaskAtom> &atoms() const { return known; }
  /// The element of `value` at `at`.
  IndexExpression evaluate(mlir::Value value, llvm::ArrayRef<LinearIndex> at);

private:
  using Expression = IndexExpression;
  using Pointwise = std::function<double(llvm::ArrayRef<double>)>;

  Expression visit(mlir::Operation *op, mlir::Value value, llvm::ArrayRef<LinearIndex> at);
  Expression visitArithmetic(mlir::Operation *op, llvm::ArrayRef<LinearIndex> at);
  Expression visitCompare(mlir::Operation *op, llvm::ArrayRef<LinearIndex> at);
  Expression visitCast(mlir::Operation *op, llvm::ArrayRef<LinearIndex> at);
  Expression visitGather(mlir::Operation *op, llvm::ArrayRef<LinearIndex> at);
  Expression visitConcat(mlir::Operation *op, llvm::ArrayRef<LinearIndex> at);
  Expression visitCumsum(mlir::Operation *op, llvm::ArrayRef<LinearIndex> at);
  Expression visitTensor(const HostTensor &tensor, llvm::ArrayRef<LinearIndex> at);
  Expression element(mlir::Value tensor, llvm::ArrayRef<LinearIndex> at);
  Expression operand(mlir::Operation *op, unsigned index, llvm::ArrayRef<LinearIndex> at);
  /// A number or truth value computed element by element from tables; opaque beyond six atoms.
  Expression combine(llvm::ArrayRef<Expression> inputs, const Pointwise &function);
  /// form <= 0.
  Expression notPositive(const LinearIndex &form);
  /// low <= form <= high, either side optional.
  Expression band(const LinearIndex &form, std::optional<int64_t> low, std::optional<int64_t> high);
  Expression asTable(const Expression &e);
  /// The form, unless `element` cannot hold all of its values exactly.
  Expression linear(mlir::Type element, const std::optional<LinearIndex> &form);
  unsigned atomNumber(MaskAtom atom);
  const HostTensor *tensorOf(mlir::Operation *op);

  ConstantEvaluator &constants;
  llvm::function_ref<bool(const HostTensor &)> isTable;
  IndexSpace variables;
  std::vector<MaskAtom> known;
  llvm::DenseMap<mlir::Operation *, std::unique_ptr<HostTensor>>
      tensors; ///< looked up, never iterated
  int visits = 0, depth = 0;
};

} // namespace amc

#endif
