// What kernels of a group consist of on any device: which elements an operation reads and where they are, how they are
// stored and rounded, which values a pass over them has made, where sums over columns are collected. How many elements are
// worked on at a time, who does which of them and how a row is added up is the device's: CpuKernel.cpp, GpuKernel.cpp.
#ifndef AMC_COMPILER_CODEGEN_GROUPEMITTER_H
#define AMC_COMPILER_CODEGEN_GROUPEMITTER_H

#include "compiler/codegen/Group.h"
#include "compiler/dialect/Fusion.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/BuiltinOps.h"

namespace amc::codegen {

/// One function of a kernel, for items [0, extent) that are independent of each other. Where items are elements, not rows,
/// it is called on multiples of rt::fusedElementStep, but for the extent. `grain`: items that are worth a piece of work of
/// their own. On a CPU it is `void (ptr operands, i64 begin, i64 end)`; on a GPU, where `threads` is not 0, an
/// entry whose block i of `threads` does items [i * grain, (i + 1) * grain) and whose parameters are the operands. These
/// are the addresses of inputs, outputs and workspace, in this order.
struct KernelFunction {
  std::string name;
  uint64_t extent, grain, threads = 0;
};

class GroupEmitter {
protected:
  GroupEmitter(const Group &group, mlir::ModuleOp module, mlir::Type pointer);
  virtual ~GroupEmitter() = default;

  /// Where a pass stands in its row: at `lanes` elements from `column` on, of which the first `count` are there.
  struct Position {
    mlir::Value column;
    int64_t lanes, count;
  };
  /// What has been made of the elements at one position.
  struct Scope {
    explicit Scope(Position at) : at(at) {}
    Position at;
    Scope *partner = nullptr; // of a group with pairs of halves: where the pairs' other elements are
    bool second = false;      // whether these are the pairs' second ones
    llvm::DenseMap<mlir::Value, mlir::Value> values; // elements, and terms of sums over columns; look-ups only
    llvm::SmallVector<std::pair<std::pair<mlir::Value, Access>, mlir::Value>> loads; // by argument
  };

  /// What an operation builds an element with; null scope: one for the row.
  class Emitter final : public train::ElementEmitter {
  public:
    Emitter(GroupEmitter &kernel, Scope *scope, train::FusableOpInterface op)
        : ElementEmitter(kernel.b, kernel.loc), kernel(kernel), scope(scope), op(op) {}
    mlir::Value element(mlir::Value operand) override { return kernel.elementOf(scope, op, operand); }
    mlir::Value partner(mlir::Value operand) override;
    mlir::Value ofPair(double first, double second) override;
    mlir::Value statistic(unsigned k) override;
    void set(mlir::Value result, mlir::Value element) override;
    mlir::Type type() override;

  private:
    GroupEmitter &kernel;
    Scope *scope;
    train::FusableOpInterface op;
  };

  /// Elements of an operand at a position, as they are stored.
  virtual mlir::Value loadElements(mlir::Value base, mlir::Type stored, mlir::Value offset, const Position &at) = 0;

  //===--------------------------------------------------------------------===//
  // Numbers and loops
  //===--------------------------------------------------------------------===//

  static int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
  mlir::Value index(int64_t value);
  mlir::Value plus(mlir::Value a, mlir::Value c);
  mlir::Value plus(mlir::Value a, int64_t c) { return c == 0 ? a : plus(a, index(c)); }
  mlir::Value times(mlir::Value a, int64_t c);
  /// `value` in every element of a type.
  mlir::Value integers(mlir::Type type, int64_t value);
  mlir::Value zeros(mlir::Type type);
  /// `element`, or a vector of it.
  static mlir::Type shaped(mlir::Type element, int64_t lanes);
  mlir::Value splat(mlir::Value scalar, int64_t lanes);
  /// Terms of a statistic: what there is before the first, one onto another, and the lanes of a vector of them in a fixed
  /// tree, the upper half onto the lower.
  mlir::Value neutral(train::Combine how, int64_t lanes);
  mlir::Value combine(train::Combine how, mlir::Value a, mlir::Value b);
  mlir::Value combineLanes(train::Combine how, mlir::Value x);

  /// Hands values on from one time to the next.
  template <class Body>
  llvm::SmallVector<mlir::Value> loop(mlir::Value begin, mlir::Value end, int64_t step, mlir::ValueRange initial, Body &&body) {
    auto made = mlir::scf::ForOp::create(
        b, loc, begin, end, index(step), initial,
        [&](mlir::OpBuilder &inner, mlir::Location, mlir::Value at, mlir::ValueRange carried) {
          mlir::OpBuilder::InsertionGuard guard(b);
          b.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
          llvm::SmallVector<mlir::Value> next(carried);
          body(at, next);
          mlir::scf::YieldOp::create(b, loc, next);
        });
    return llvm::SmallVector<mlir::Value>(made.getResults().begin(), made.getResults().end());
  }
  template <class Body> void loop(mlir::Value begin, mlir::Value end, int64_t step, Body &&body) {
    loop(begin, end, step, mlir::ValueRange(), [&](mlir::Value at, llvm::SmallVector<mlir::Value> &) { body(at); });
  }
  template <class Body> void onlyIf(mlir::Value condition, Body &&body) {
    auto branch = mlir::scf::IfOp::create(b, loc, condition, /*withElseRegion=*/false);
    mlir::OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    body();
  }

  //===--------------------------------------------------------------------===//
  // Memory
  //===--------------------------------------------------------------------===//

  /// Elements as they are stored: i1 as bytes, bf16 as its bits.
  mlir::Type storedType(mlir::Type element);
  static unsigned bytesOf(mlir::Type stored) { return stored.getIntOrFloatBitWidth() / 8; }
  mlir::Value addressOf(mlir::Value base, mlir::Type stored, mlir::Value offset);
  /// One element, to compute with.
  mlir::Value loadScalar(mlir::Value base, mlir::Type element, mlir::Value offset);
  void storeScalar(mlir::Value base, mlir::Type element, mlir::Value offset, mlir::Value x);
  /// From what is stored to what is computed with …
  mlir::Value widened(mlir::Value x, mlir::Type element);
  /// … and back; bf16 to nearest even, NaN stays NaN.
  mlir::Value narrowed(mlir::Value x, mlir::Type element);
  /// What storing and loading would make of it.
  mlir::Value rounded(mlir::Value x, mlir::Type element);

  //===--------------------------------------------------------------------===//
  // Elements
  //===--------------------------------------------------------------------===//

  mlir::Value offsetOf(const Access &access);
  /// The element, or the row's one, of an operand; null scope: the row's one as a scalar.
  mlir::Value elementOf(Scope *scope, train::FusableOpInterface op, mlir::Value operand);
  mlir::Value make(Scope &scope, mlir::Value root);
  /// Makes two scopes the first and the second half of a row.
  static void pair(Scope &first, Scope &second) {
    first.partner = &second;
    second.partner = &first;
    second.second = true;
  }
  /// Of each result the element, or the term of its sum; null where it is the row's.
  llvm::SmallVector<mlir::Value> makeAll(Scope &scope);
  /// Those that are known after so many passes over a row.
  llvm::SmallVector<Statistic> statisticsOf(unsigned level) const;
  mlir::Value &statistic(Statistic of) { return statistics[{of.op.getOperation(), of.k}]; }
  /// Writes the results that are one for each row.
  void storeRowResults();

  unsigned operandCount() const;
  unsigned resultOperand(size_t result) const { return group.body->getNumArguments() + static_cast<unsigned>(result); }

  //===--------------------------------------------------------------------===//
  // Sums over columns
  //===--------------------------------------------------------------------===//

  // Partial sums of a block of rows, then the blocks, ascending. The workspace has a row for each block of each result.
  mlir::Value workspace() { return operands.back(); }
  int64_t partialStride() const;
  int64_t blockCount() const;
  /// Where the partial sums of a block begin, by result (null for results that are none).
  llvm::SmallVector<mlir::Value> partialOf(mlir::Value block);

  const Group &group;
  mlir::ModuleOp module;
  mlir::OpBuilder b;
  mlir::Location loc;
  mlir::Type pointer;
  llvm::SmallVector<mlir::Value> operands; // addresses
  mlir::Value row;                         // of the row that is worked on; null: there are none
  llvm::DenseMap<std::pair<mlir::Operation *, unsigned>, mlir::Value> statistics; // scalars, look-ups only
};

} // namespace amc::codegen

#endif
