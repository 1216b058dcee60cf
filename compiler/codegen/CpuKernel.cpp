// Rows one after the other: a pass over the row for each level of statistics, then one that makes the elements. What an
// earlier pass has made is made again: it is in the cache, and nothing is written before everything of the same element has
// been read, so that a result may stand in the bytes of an operand.
#include "compiler/codegen/CpuKernel.h"
#include "compiler/dialect/Fusion.h"
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/Workspace.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace amc::train;

namespace amc::codegen {
namespace {

constexpr int64_t lanes = 16;
constexpr int64_t accumulators = 4;    // of a sum over a row: vectors 0, 4, 8 … go into the first
constexpr int64_t elementGrain = 16384; // elements that are worth a piece of work of their own

class CpuKernel {
public:
  CpuKernel(const Group &group, StringRef name, ModuleOp module)
      : group(group), name(name), module(module), b(module.getContext()), loc(b.getUnknownLoc()),
        vector(VectorType::get(lanes, b.getF32Type())),
        pointer(LLVM::LLVMPointerType::get(b.getContext())) {}

  SmallVector<CpuFunction> emit() {
    SmallVector<CpuFunction> functions;
    if (group.flat) {
      functions.push_back({name.str(), static_cast<uint64_t>(group.columns), elementGrain});
      function(functions.back().name, [&](Value begin, Value end) { emitFlat(begin, end); });
      return functions;
    }
    uint64_t block = group.sums ? rt::workspace::normRowBlock : 1;
    uint64_t rowsOfPiece = std::max<int64_t>(1, (elementGrain + group.columns - 1) / group.columns);
    functions.push_back({name.str(), (group.rows + block - 1) / block, group.sums ? 1 : rowsOfPiece});
    function(functions.back().name, [&](Value begin, Value end) {
      if (group.sums)
        emitBlocks(begin, end);
      else
        loop(begin, end, 1, [&](Value row) { emitRow(row, {}); });
    });
    if (group.sums) {
      functions.push_back({(name + "_sums").str(), static_cast<uint64_t>(ceilDiv(group.columns, lanes)), 16});
      function(functions.back().name, [&](Value begin, Value end) { emitSums(begin, end); });
    }
    return functions;
  }

private:
  // Where a pass stands in its row: at a vector that begins at `column`, of which lanes [0, count) are there.
  struct Position {
    Value column;
    int64_t count = lanes;
  };
  struct Scope {
    explicit Scope(Position at) : at(at) {}
    Position at;
    DenseMap<Value, Value> values; // elements, and terms of sums over columns; look-ups only
    SmallVector<std::pair<std::pair<Value, Access>, Value>> loads; // by argument
  };

  class Emitter final : public ElementEmitter {
  public:
    Emitter(CpuKernel &kernel, Scope *scope, FusableOpInterface op)
        : ElementEmitter(kernel.b, kernel.loc), kernel(kernel), scope(scope), op(op) {}
    Value element(Value operand) override { return kernel.elementOf(scope, op, operand); }
    Value statistic(unsigned k) override {
      Value scalar = kernel.statisticOf(op, k);
      return scope ? kernel.splat(scalar) : scalar;
    }
    void set(Value result, Value element) override {
      const bool term = Group::makes(result) == Makes::ColumnSum; // added up before it is rounded
      scope->values[result] = term ? element : kernel.rounded(element, train::elementOf(result));
    }
    Type type() override { return scope ? Type(kernel.vector) : Type(b.getF32Type()); }

  private:
    CpuKernel &kernel;
    Scope *scope; // null: what is built is one for the row
    FusableOpInterface op;
  };

  //===--------------------------------------------------------------------===//
  // Functions and loops
  //===--------------------------------------------------------------------===//

  static int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

  template <class Body> void function(StringRef called, Body &&body) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(module.getBody());
    auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                            {pointer, b.getI64Type(), b.getI64Type()});
    auto made = LLVM::LLVMFuncOp::create(b, loc, called, type);
    // No exceptions, no unwinding tables; no loop becomes a call of the C library's.
    made.setPassthroughAttr(b.getStrArrayAttr({"nounwind", "no-builtins"}));
    entry = made.addEntryBlock(b);
    b.setInsertionPointToStart(entry);
    operands.clear();
    for (unsigned i = 0, n = group.body->getNumArguments() + static_cast<unsigned>(group.results.size()) + group.sums; i < n; ++i) {
      Value at = LLVM::GEPOp::create(b, loc, pointer, pointer, entry->getArgument(0),
                                     ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(i)});
      operands.push_back(LLVM::LoadOp::create(b, loc, pointer, at));
    }
    auto asIndex = [&](Value v) { return arith::IndexCastOp::create(b, loc, b.getIndexType(), v).getResult(); };
    body(asIndex(entry->getArgument(1)), asIndex(entry->getArgument(2)));
    LLVM::ReturnOp::create(b, loc, ValueRange());
  }

  Value index(int64_t value) { return arith::ConstantIndexOp::create(b, loc, value); }
  Value plus(Value a, Value c) { return arith::AddIOp::create(b, loc, a, c); }
  Value plus(Value a, int64_t c) { return c == 0 ? a : plus(a, index(c)); }
  Value times(Value a, int64_t c) { return c == 1 ? a : arith::MulIOp::create(b, loc, a, index(c)).getResult(); }

  // Hands values on from one time to the next.
  template <class Body> SmallVector<Value> loop(Value begin, Value end, int64_t step, ValueRange initial, Body &&body) {
    auto made = scf::ForOp::create(b, loc, begin, end, index(step), initial,
                                   [&](OpBuilder &inner, Location, Value at, ValueRange carried) {
                                     OpBuilder::InsertionGuard guard(b);
                                     b.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
                                     SmallVector<Value> next(carried);
                                     body(at, next);
                                     scf::YieldOp::create(b, loc, next);
                                   });
    return SmallVector<Value>(made.getResults().begin(), made.getResults().end());
  }
  template <class Body> void loop(Value begin, Value end, int64_t step, Body &&body) {
    loop(begin, end, step, ValueRange(), [&](Value at, SmallVector<Value> &) { body(at); });
  }

  // Lanes [0, count) of a vector.
  Value firstLanes(int64_t count) {
    SmallVector<bool> bits(lanes);
    std::fill_n(bits.begin(), count, true);
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(VectorType::get(lanes, b.getI1Type()), ArrayRef<bool>(bits)));
  }

  //===--------------------------------------------------------------------===//
  // Memory
  //===--------------------------------------------------------------------===//

  // Elements as they are stored: i1 as bytes, bf16 as its bits.
  Type storedType(Type element) {
    if (element.isInteger(1))
      return b.getI8Type();
    return element.isBF16() ? b.getI16Type() : element;
  }
  Value addressOf(Value base, Type stored, Value offset) {
    Value wide = arith::IndexCastOp::create(b, loc, b.getI64Type(), offset);
    return LLVM::GEPOp::create(b, loc, pointer, stored, base, ArrayRef<LLVM::GEPArg>{LLVM::GEPArg(wide)});
  }
  unsigned alignmentOf(Type stored) { return stored.getIntOrFloatBitWidth() / 8; }

  // A part of a vector goes through the stack, element by element. (Not masked: LLVM 22.1.8 stores four bytes for a single
  // lane of sixteen bits.)
  Value partOfVector(VectorType type) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(entry);
    Value one = arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(1));
    return LLVM::AllocaOp::create(b, loc, pointer, type, one, 64);
  }
  void copy(Value from, Value fromOffset, Value to, Value toOffset, Value count, Type stored) {
    loop(index(0), count, 1, [&](Value i) {
      Value x = LLVM::LoadOp::create(b, loc, stored, addressOf(from, stored, plus(fromOffset, i)), alignmentOf(stored));
      LLVM::StoreOp::create(b, loc, x, addressOf(to, stored, plus(toOffset, i)), alignmentOf(stored));
    });
  }

  Value loadVector(Value base, Type element, Value offset, int64_t count = lanes) {
    Type stored = storedType(element);
    auto type = VectorType::get(lanes, stored);
    if (count == lanes)
      return LLVM::LoadOp::create(b, loc, type, addressOf(base, stored, offset), alignmentOf(stored));
    Value part = partOfVector(type);
    LLVM::StoreOp::create(b, loc, arith::ConstantOp::create(b, loc, b.getZeroAttr(type)), part, 64);
    copy(base, offset, part, index(0), index(count), stored);
    return LLVM::LoadOp::create(b, loc, type, part, 64);
  }
  void storeVector(Value base, Type element, Value offset, Value x, int64_t count = lanes) {
    if (count < lanes)
      return storePart(base, element, offset, x, index(count));
    Type stored = storedType(element);
    LLVM::StoreOp::create(b, loc, narrowed(x, element), addressOf(base, stored, offset), alignmentOf(stored));
  }
  void storePart(Value base, Type element, Value offset, Value x, Value count) {
    Type stored = storedType(element);
    Value part = partOfVector(VectorType::get(lanes, stored));
    LLVM::StoreOp::create(b, loc, narrowed(x, element), part, 64);
    copy(part, index(0), base, offset, count, stored);
  }
  Value loadScalar(Value base, Type element, Value offset) {
    Type stored = storedType(element);
    return widened(LLVM::LoadOp::create(b, loc, stored, addressOf(base, stored, offset), alignmentOf(stored)), element);
  }

  Value integers(Type type, int64_t value) {
    return splatConstant(b, loc, type, b.getIntegerAttr(getElementTypeOrSelf(type), value));
  }

  // From what is stored to what is computed with.
  Value widened(Value x, Type element) {
    if (element.isInteger(1))
      return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, x, integers(x.getType(), 0));
    if (element.isF16())
      return arith::ExtFOp::create(b, loc, withElement(x.getType(), b.getF32Type()), x);
    if (!element.isBF16())
      return x;
    Type wide = withElement(x.getType(), b.getI32Type());
    Value bits = arith::ExtUIOp::create(b, loc, wide, x);
    bits = arith::ShLIOp::create(b, loc, bits, integers(wide, 16));
    return arith::BitcastOp::create(b, loc, withElement(x.getType(), b.getF32Type()), bits);
  }
  // … and back; bf16 to nearest even, NaN stays NaN.
  Value narrowed(Value x, Type element) {
    if (element.isInteger(1))
      return arith::ExtUIOp::create(b, loc, withElement(x.getType(), b.getI8Type()), x);
    if (element.isF16())
      return arith::TruncFOp::create(b, loc, withElement(x.getType(), b.getF16Type()), x);
    if (!element.isBF16())
      return x;
    Type wide = withElement(x.getType(), b.getI32Type());
    Value bits = arith::BitcastOp::create(b, loc, wide, x);
    Value odd = arith::AndIOp::create(b, loc, arith::ShRUIOp::create(b, loc, bits, integers(wide, 16)), integers(wide, 1));
    Value up = arith::AddIOp::create(b, loc, arith::AddIOp::create(b, loc, bits, integers(wide, 0x7fff)), odd);
    Value quiet = arith::OrIOp::create(b, loc, bits, integers(wide, 0x400000));
    Value nan = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, x, x);
    Value kept = arith::ShRUIOp::create(b, loc, arith::SelectOp::create(b, loc, nan, quiet, up), integers(wide, 16));
    return arith::TruncIOp::create(b, loc, withElement(x.getType(), b.getI16Type()), kept);
  }
  // What storing and loading would make of it.
  Value rounded(Value x, Type element) {
    return element.isBF16() || element.isF16() ? widened(narrowed(x, element), element) : x;
  }

  Value splat(Value scalar) {
    return vector::BroadcastOp::create(b, loc, VectorType::get(lanes, scalar.getType()), scalar);
  }

  //===--------------------------------------------------------------------===//
  // Elements
  //===--------------------------------------------------------------------===//

  static OpOperand &operandOf(Operation *op, Value value) {
    return *llvm::find_if(op->getOpOperands(), [&](OpOperand &operand) { return operand.get() == value; });
  }

  Value offsetOf(const Access &access) {
    Value offset = index(0);
    for (const Access::Term &term : access.terms) {
      Value at = row;
      if (term.divisor != 1)
        at = arith::DivUIOp::create(b, loc, at, index(term.divisor));
      if (term.divisor * term.size < group.rows)
        at = arith::RemUIOp::create(b, loc, at, index(term.size));
      offset = plus(offset, times(at, term.stride));
    }
    return offset;
  }

  // The element, or the row's one, of an operand; null scope: the row's one as a scalar.
  Value elementOf(Scope *scope, FusableOpInterface op, Value operand) {
    Value root = Group::rootOf(operand);
    if (auto argument = dyn_cast<BlockArgument>(root)) {
      Access access = group.accessOf(op, operandOf(op, operand));
      Type element = train::elementOf(argument);
      Value base = operands[argument.getArgNumber()];
      if (!scope)
        return loadScalar(base, element, offsetOf(access));
      for (auto &[key, value] : scope->loads)
        if (key.first == root && key.second == access)
          return value;
      Value value;
      if (access.columnStride == 0)
        value = splat(loadScalar(base, element, offsetOf(access)));
      else
        value = widened(loadVector(base, element, plus(offsetOf(access), scope->at.column), scope->at.count), element);
      scope->loads.push_back({{root, access}, value});
      return value;
    }
    return make(*scope, root);
  }

  Value make(Scope &scope, Value root) {
    auto found = scope.values.find(root);
    if (found == scope.values.end()) {
      auto op = cast<FusableOpInterface>(root.getDefiningOp());
      Emitter emitter(*this, &scope, op);
      op.emitElement(emitter);
      found = scope.values.find(root);
    }
    return found->second;
  }

  Value statisticOf(Operation *op, unsigned k) { return statistics.lookup({op, k}); }

  //===--------------------------------------------------------------------===//
  // Passes
  //===--------------------------------------------------------------------===//

  // Lanes are added in a fixed tree: the upper half to the lower.
  Value sumOfLanes(Value x) {
    for (int64_t half = lanes / 2; half >= 1; half /= 2) {
      SmallVector<int64_t> low, high;
      for (int64_t i = 0; i < half; ++i) {
        low.push_back(i);
        high.push_back(i + half);
      }
      x = arith::AddFOp::create(b, loc, vector::ShuffleOp::create(b, loc, x, x, low),
                                vector::ShuffleOp::create(b, loc, x, x, high));
    }
    return vector::ExtractOp::create(b, loc, x, 0);
  }

  void emitStatistics(unsigned level) {
    SmallVector<Statistic> now;
    for (const Statistic &statistic : group.statistics)
      if (statistic.level == level)
        now.push_back(statistic);
    // Terms of one vector of the row onto accumulator `part` of each statistic.
    auto accumulate = [&](Value column, int64_t count, MutableArrayRef<Value> sums, int64_t part) {
      Scope scope({column, count});
      for (auto [i, statistic] : llvm::enumerate(now)) {
        Emitter emitter(*this, &scope, statistic.op);
        Value term = statistic.op.emitTerm(emitter, statistic.k);
        if (count < lanes)
          term = arith::SelectOp::create(b, loc, firstLanes(count), term, emitter.constant(0));
        Value &sum = sums[static_cast<int64_t>(i) * accumulators + part];
        sum = arith::AddFOp::create(b, loc, sum, term);
      }
    };
    Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(vector));
    SmallVector<Value> sums(now.size() * accumulators, zero);
    int64_t unrolled = group.columns / (lanes * accumulators) * (lanes * accumulators), whole = group.columns / lanes * lanes;
    if (unrolled > 0)
      sums = loop(index(0), index(unrolled), lanes * accumulators, sums, [&](Value at, SmallVector<Value> &next) {
        for (int64_t part = 0; part < accumulators; ++part)
          accumulate(plus(at, part * lanes), lanes, next, part);
      });
    for (int64_t column = unrolled; column < whole; column += lanes)
      accumulate(index(column), lanes, sums, 0);
    if (whole < group.columns)
      accumulate(index(whole), group.columns - whole, sums, 1);
    for (auto [i, statistic] : llvm::enumerate(now)) {
      auto part = [&](int64_t p) { return sums[static_cast<int64_t>(i) * accumulators + p]; };
      Value all = arith::AddFOp::create(b, loc, arith::AddFOp::create(b, loc, part(0), part(1)),
                                        arith::AddFOp::create(b, loc, part(2), part(3)));
      Emitter emitter(*this, nullptr, statistic.op);
      statistics[{statistic.op.getOperation(), statistic.k}] =
          statistic.op.emitStatistic(emitter, statistic.k, sumOfLanes(all));
    }
  }

  unsigned resultOperand(size_t result) const { return group.body->getNumArguments() + static_cast<unsigned>(result); }

  // Makes all elements of a vector of the row, then writes them. `partial`: where sums over columns are, by result.
  void emitElements(Value column, int64_t count, ArrayRef<Value> partial) {
    Scope scope({column, count});
    SmallVector<Value> made(group.results.size());
    for (auto [value, root] : llvm::zip_equal(made, group.results))
      if (Group::makes(root) != Makes::Row)
        value = make(scope, root);
    Value from = row ? times(row, group.columns) : Value();
    for (auto [i, root] : llvm::enumerate(group.results)) {
      if (Group::makes(root) == Makes::Element) {
        Value offset = from ? plus(from, column) : column;
        storeVector(operands[resultOperand(i)], train::elementOf(root), offset, made[i], count);
      } else if (Group::makes(root) == Makes::ColumnSum) {
        // Rows of the workspace are padded to whole vectors.
        Value at = plus(partial[i], column);
        Value sum = arith::AddFOp::create(b, loc, loadVector(workspace(), b.getF32Type(), at), made[i]);
        storeVector(workspace(), b.getF32Type(), at, sum);
      }
    }
  }

  void emitRow(Value at, ArrayRef<Value> partial) {
    row = at;
    statistics.clear();
    for (unsigned level = 0; level < group.levels; ++level)
      emitStatistics(level);
    bool elements = false;
    for (auto [i, root] : llvm::enumerate(group.results)) {
      if (Group::makes(root) != Makes::Row) {
        elements = true;
        continue;
      }
      auto result = cast<OpResult>(root);
      FusionRule rule = cast<FusableOpInterface>(result.getOwner()).getFusionRule();
      Value value = statisticOf(result.getOwner(), rule.statisticOf[result.getResultNumber()]);
      Type stored = storedType(train::elementOf(root));
      LLVM::StoreOp::create(b, loc, narrowed(value, train::elementOf(root)),
                            addressOf(operands[resultOperand(i)], stored, row), alignmentOf(stored));
    }
    if (!elements)
      return;
    int64_t whole = group.columns / lanes * lanes;
    if (whole > 0)
      loop(index(0), index(whole), lanes, [&](Value column) { emitElements(column, lanes, partial); });
    if (whole < group.columns)
      emitElements(index(whole), group.columns - whole, partial);
    row = {};
  }

  // All elements are one row. Pieces begin at multiples of the grain, so only the last has a part of a vector.
  void emitFlat(Value begin, Value end) {
    int64_t whole = group.columns / lanes * lanes;
    Value limit = arith::MinUIOp::create(b, loc, end, index(whole));
    loop(begin, limit, lanes, [&](Value column) { emitElements(column, lanes, {}); });
    if (whole == group.columns)
      return;
    Value last = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt, end, index(whole));
    auto branch = scf::IfOp::create(b, loc, last, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    emitElements(index(whole), group.columns - whole, {});
  }

  // Sums over columns: `partial` sums of a block of rows, then the blocks, ascending. The workspace has a row for each block
  // of each result.
  Value workspace() { return operands.back(); }
  int64_t partialStride() const { return static_cast<int64_t>(rt::workspace::detail::pad(static_cast<uint64_t>(group.columns) * 4)) / 4; }
  int64_t blockCount() const { return ceilDiv(group.rows, static_cast<int64_t>(rt::workspace::normRowBlock)); }

  // Where the partial sums of a block begin, by result (null for results that are none).
  SmallVector<Value> partialOf(Value block) {
    SmallVector<Value> partial(group.results.size());
    int64_t number = 0;
    for (auto [i, root] : llvm::enumerate(group.results))
      if (Group::makes(root) == Makes::ColumnSum)
        partial[i] = plus(times(block, partialStride()), number++ * blockCount() * partialStride());
    return partial;
  }

  void emitBlocks(Value begin, Value end) {
    loop(begin, end, 1, [&](Value block) {
      SmallVector<Value> partial = partialOf(block);
      Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(vector));
      for (Value from : partial)
        if (from)
          loop(index(0), index(ceilDiv(group.columns, lanes) * lanes), lanes, [&](Value column) {
            storeVector(workspace(), b.getF32Type(), plus(from, column), zero);
          });
      Value first = times(block, static_cast<int64_t>(rt::workspace::normRowBlock));
      Value last = arith::MinUIOp::create(b, loc, plus(first, static_cast<int64_t>(rt::workspace::normRowBlock)), index(group.rows));
      loop(first, last, 1, [&](Value at) { emitRow(at, partial); });
    });
  }

  void emitSums(Value begin, Value end) {
    loop(begin, end, 1, [&](Value vectorIndex) {
      Value column = times(vectorIndex, lanes);
      SmallVector<Value> first = partialOf(index(0));
      for (auto [i, root] : llvm::enumerate(group.results)) {
        if (!first[i])
          continue;
        Value from = first[i];
        Value start = loadVector(workspace(), b.getF32Type(), plus(from, column));
        Value sum = loop(index(1), index(blockCount()), 1, start, [&](Value block, SmallVector<Value> &next) {
                      Value at = plus(plus(from, times(block, partialStride())), column);
                      next[0] = arith::AddFOp::create(b, loc, next[0], loadVector(workspace(), b.getF32Type(), at));
                    })[0];
        storeSum(operands[resultOperand(i)], train::elementOf(root), column, sum);
      }
    });
  }
  void storeSum(Value base, Type element, Value column, Value sum) {
    if (group.columns % lanes == 0)
      return storeVector(base, element, column, sum);
    Value rest = arith::SubIOp::create(b, loc, index(group.columns), column);
    storePart(base, element, column, sum, arith::MinUIOp::create(b, loc, rest, index(lanes)));
  }

  const Group &group;
  StringRef name;
  ModuleOp module;
  OpBuilder b;
  Location loc;
  VectorType vector;
  Block *entry = nullptr; // of the function that is built
  Type pointer;
  SmallVector<Value> operands; // addresses
  Value row;                   // of the row that is worked on; null: there are none
  DenseMap<std::pair<Operation *, unsigned>, Value> statistics; // scalars, look-ups only
};

} // namespace

SmallVector<CpuFunction> emitCpuKernel(const Group &group, StringRef name, ModuleOp module) {
  return CpuKernel(group, name, module).emit();
}

} // namespace amc::codegen
