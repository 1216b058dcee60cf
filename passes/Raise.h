// What the files of the raise pass share. Each Raise*.cpp holds patterns of one family: a function
// that looks at the last operation of a subgraph and either leaves everything as it is or replaces
// that operation. Looking decides and never changes; what is replaced is certain to be equal (see
// each file's limits).
#ifndef AMC_PASSES_RAISE_H
#define AMC_PASSES_RAISE_H

#include "compiler/analysis/ConstantValue.h"
#include "compiler/analysis/IndexExpression.h"
#include "compiler/dialect/OpSupport.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/DenseSet.h"

namespace amc::raise {

/// How often each kind of subgraph was found.
enum class Found {
  Norm,
  Activation,
  Gated,
  Linear,
  Rotary,
  Attention,
  Mask,
  Experts,
  Embedding,
  Shape,
  Count
};

/// Replaces operations within one step. Replaced operations lose their operands at once, so that
/// uses are counted right, but keep their memory until `sweep`: what is known by address stays
/// true.
class Rewriter {
public:
  explicit Rewriter(mlir::Operation *step) : step(step), builder(step->getContext()) {}

  mlir::OpBuilder &at(mlir::Operation *op) {
    builder.setInsertionPoint(op);
    return builder;
  }
  /// Replaces the results of `op` and retires it.
  void replace(mlir::Operation *op, mlir::ValueRange by, Found kind);
  bool isRetired(mlir::Operation *op) const { return retired.contains(op); }
  /// Erases what was retired and all pure operations without uses; inputs stay.
  void sweep();
  int64_t found(Found kind) const { return counts[static_cast<size_t>(kind)]; }
  void count(Found kind) { ++counts[static_cast<size_t>(kind)]; }

  /// The value of a constant of one element, or of a tensor full of it.
  std::optional<double> scalar(mlir::Value value);
  /// value = x * factor with x of value's type: a product with, or quotient by, a constant number.
  std::optional<std::pair<mlir::Value, double>> scaled(mlir::Value value);

  /// What is trained is decided behind this pass, so float parameters are not constant, whatever they hold.
  ConstantEvaluator constants{4096, /*floatParameters=*/false};

private:
  void retire(mlir::Operation *op);

  mlir::Operation *step;
  mlir::OpBuilder builder;
  llvm::DenseSet<mlir::Operation *> retired; ///< membership only
  std::vector<mlir::Operation *> graveyard;
  std::array<int64_t, static_cast<size_t>(Found::Count)> counts{};
};

/// True if a number that a graph holds in `element` precision stands for `exact`.
bool isNearly(double number, double exact, mlir::Type element);
/// The axes of a reduction are the last dimension of its operand alone.
template <typename Reduction> bool isOverLast(Reduction op) {
  return op.getAxes().size() == 1 && op.getAxes()[0] == train::tensorType(op.getX()).getRank() - 1;
}
/// The operation that defines `value`, if it is an Op.
template <typename Op> Op definedBy(mlir::Value value) { return value.getDefiningOp<Op>(); }

bool raiseNorm(Rewriter &rewriter, mlir::Operation *op);
bool raiseActivation(Rewriter &rewriter, mlir::Operation *op);
bool raiseRotary(Rewriter &rewriter, mlir::Operation *op);
bool raiseLinear(Rewriter &rewriter, mlir::Operation *op);
bool raiseExperts(Rewriter &rewriter, mlir::Operation *op);
bool raiseEmbedding(Rewriter &rewriter, mlir::Operation *op);
bool simplifyShape(Rewriter &rewriter, mlir::Operation *op);
bool foldTransposes(Rewriter &rewriter, mlir::Operation *op);

/// Which keys a query may attend to, and what else is added to the scores.
struct Mask {
  std::optional<int64_t> left, right;
  llvm::SmallVector<mlir::Value> padding; ///< [B, Sk] i1 each; a key must be allowed by all
  llvm::SmallVector<mlir::Value> biases; ///< float, each of rank 4 or less, broadcast to the scores
  bool isFinite = false;                 ///< masked by a finite number rather than minus infinity
};

/// Reads masks; remembers what it has read, because layers share them.
class MaskReader {
public:
  explicit MaskReader(Rewriter &rewriter) : rewriter(rewriter) {}

  /// The shape of scores, [batch, heads, queries, keys], and their element type.
  struct Scores {
    int64_t batch, heads, queries, keys;
    mlir::Type element;
  };
  /// Adds to `mask` what adding `addend` to scores means. Fails if it stays a bias that would need
  /// a gradient.
  bool readAddend(Mask &mask, mlir::Value addend, const Scores &scores, bool allowBias,
                  mlir::Operation *before);
  /// Scores become `number` where `condition` is `masked`.
  bool readCondition(Mask &mask, mlir::Value condition, bool masked, double number,
                     const Scores &scores, bool allowBias, mlir::Operation *before);
  /// True if no trained value can flow into `value`: nothing from a parameter but masks.
  bool isUntrained(mlir::Value value);

private:
  struct Literal {
    MaskAtom atom;
    bool isNegated;
  };
  /// A conjunction of literals that allows a pair of query and key.
  struct Facts {
    bool isMask = false, isFinite = false;
    std::optional<int64_t> left, right;
    std::vector<Literal> padding;
    llvm::SmallVector<unsigned>
        batchAndKey; ///< per literal: dimension of batch, of key in its tensor, plus 1; or 0
    llvm::SmallVector<mlir::Value>
        built; ///< padding as operands, once the first attention has asked
  };
  Facts &facts(mlir::Value value, bool isCondition, bool masked, const Scores &scores);
  Facts decide(mlir::Value value, bool isCondition, bool masked, const Scores &scores);
  mlir::Value buildPadding(const Literal &literal, unsigned batchDim, unsigned keyDim,
                           const Scores &scores, mlir::Operation *before);
  void apply(Mask &mask, Facts &facts, const Scores &scores, mlir::Operation *before);
  /// Somewhere under `value` is a finite number that masks.
  bool hasFiniteMask(mlir::Value value);
  bool addBias(Mask &mask, mlir::Value bias, const Scores &scores, mlir::Operation *before);

  Rewriter &rewriter;
  struct Known {
    bool isCondition, masked;
    Scores scores;
    std::unique_ptr<Facts> facts;
  };
  llvm::DenseMap<mlir::Value, llvm::SmallVector<Known, 1>> known; ///< looked up, never iterated
  llvm::DenseMap<mlir::Value, bool> untrained;                    ///< looked up, never iterated
};

bool raiseAttention(Rewriter &rewriter, MaskReader &masks, mlir::Operation *op);

} // namespace amc::raise

#endif
