// Rows one after the other: a pass over the row for each level of statistics, then one that makes the elements. What an
// earlier pass has made is made again: it is in the cache, and nothing is written before everything of the same element has
// been read, so that a result may stand in the bytes of an operand.
#include "compiler/codegen/CpuKernel.h"
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/Workspace.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace amc::train;

namespace amc::codegen {
namespace {

constexpr int64_t mostLanes = rt::fusedElementStep;
constexpr int64_t accumulators = 4;    // of a sum over a row: vectors 0, 4, 8 … go into the first
constexpr int64_t elementGrain = 16384; // elements that are worth a piece of work of their own

class CpuKernel final : public GroupEmitter {
public:
  CpuKernel(const Group &group, StringRef name, ModuleOp module)
      : GroupEmitter(group, module, LLVM::LLVMPointerType::get(module.getContext())), name(name), lanes(lanesOf(group)),
        vector(VectorType::get(lanes, b.getF32Type())) {}

  SmallVector<KernelFunction> emit() {
    SmallVector<KernelFunction> functions;
    if (group.flat) {
      functions.push_back({name.str(), static_cast<uint64_t>(group.columns), elementGrain});
      function(functions.back().name, [&](Value begin, Value end) { emitFlat(begin, end); });
      return functions;
    }
    if (group.sums)
      functions.push_back({name.str(), static_cast<uint64_t>(blockCount()), 1});
    else
      functions.push_back({name.str(), static_cast<uint64_t>(group.rows),
                           static_cast<uint64_t>(ceilDiv(elementGrain, group.columns))});
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
  // Halves of rows that are not whole vectors, as narrow heads have them, are cut into shorter ones.
  static int64_t lanesOf(const Group &group) {
    int64_t half = group.walkedColumns(), divisor = half & -half;
    return group.pairs == Pairs::Halves && divisor > 1 ? std::min(divisor, mostLanes) : mostLanes;
  }

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
    for (unsigned i = 0, n = operandCount(); i < n; ++i) {
      Value at = LLVM::GEPOp::create(b, loc, pointer, pointer, entry->getArgument(0),
                                     ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(i)});
      operands.push_back(LLVM::LoadOp::create(b, loc, pointer, at));
    }
    auto asIndex = [&](Value v) { return arith::IndexCastOp::create(b, loc, b.getIndexType(), v).getResult(); };
    body(asIndex(entry->getArgument(1)), asIndex(entry->getArgument(2)));
    LLVM::ReturnOp::create(b, loc, ValueRange());
  }

  //===--------------------------------------------------------------------===//
  // Memory
  //===--------------------------------------------------------------------===//

  // Lanes [0, count) of a vector.
  Value firstLanes(int64_t count) {
    SmallVector<bool> bits(lanes);
    std::fill_n(bits.begin(), count, true);
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(VectorType::get(lanes, b.getI1Type()), ArrayRef<bool>(bits)));
  }

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
      Value x = LLVM::LoadOp::create(b, loc, stored, addressOf(from, stored, plus(fromOffset, i)), bytesOf(stored));
      LLVM::StoreOp::create(b, loc, x, addressOf(to, stored, plus(toOffset, i)), bytesOf(stored));
    });
  }

  Value loadElements(Value base, Type stored, Value offset, const Position &at) override {
    return loadVector(base, stored, offset, at.count);
  }
  Value loadVector(Value base, Type stored, Value offset) { return loadVector(base, stored, offset, lanes); }
  Value loadVector(Value base, Type stored, Value offset, int64_t count) {
    auto type = VectorType::get(lanes, stored);
    if (count == lanes)
      return LLVM::LoadOp::create(b, loc, type, addressOf(base, stored, offset), bytesOf(stored));
    Value part = partOfVector(type);
    LLVM::StoreOp::create(b, loc, zeros(type), part, 64);
    copy(base, offset, part, index(0), index(count), stored);
    return LLVM::LoadOp::create(b, loc, type, part, 64);
  }
  void storeVector(Value base, Type element, Value offset, Value x) { storeVector(base, element, offset, x, lanes); }
  void storeVector(Value base, Type element, Value offset, Value x, int64_t count) {
    if (count < lanes)
      return storePart(base, element, offset, x, index(count));
    Type stored = storedType(element);
    LLVM::StoreOp::create(b, loc, narrowed(x, element), addressOf(base, stored, offset), bytesOf(stored));
  }
  void storePart(Value base, Type element, Value offset, Value x, Value count) {
    Type stored = storedType(element);
    Value part = partOfVector(VectorType::get(lanes, stored));
    LLVM::StoreOp::create(b, loc, narrowed(x, element), part, 64);
    copy(part, index(0), base, offset, count, stored);
  }

  //===--------------------------------------------------------------------===//
  // Passes
  //===--------------------------------------------------------------------===//

  void emitStatistics(unsigned level) {
    SmallVector<Statistic> now = statisticsOf(level);
    // Terms of one vector of the row onto accumulator `part` of each statistic.
    auto accumulate = [&](Value column, int64_t count, MutableArrayRef<Value> combined, int64_t part) {
      Scope scope({column, lanes, count});
      for (auto [i, statistic] : llvm::enumerate(now)) {
        Emitter emitter(*this, &scope, statistic.op);
        Value term = statistic.op.emitTerm(emitter, statistic.k);
        if (count < lanes)
          term = arith::SelectOp::create(b, loc, firstLanes(count), term, neutral(statistic.how, lanes));
        Value &all = combined[static_cast<int64_t>(i) * accumulators + part];
        all = combine(statistic.how, all, term);
      }
    };
    SmallVector<Value> combined;
    for (const Statistic &statistic : now)
      combined.append(accumulators, neutral(statistic.how, lanes));
    int64_t unrolled = group.columns / (lanes * accumulators) * (lanes * accumulators), whole = group.columns / lanes * lanes;
    if (unrolled > 0)
      combined = loop(index(0), index(unrolled), lanes * accumulators, combined, [&](Value at, SmallVector<Value> &next) {
        for (int64_t part = 0; part < accumulators; ++part)
          accumulate(plus(at, part * lanes), lanes, next, part);
      });
    for (int64_t column = unrolled; column < whole; column += lanes)
      accumulate(index(column), lanes, combined, 0);
    if (whole < group.columns)
      accumulate(index(whole), group.columns - whole, combined, 1);
    for (auto [i, statistic] : llvm::enumerate(now)) {
      auto part = [&](int64_t p) { return combined[static_cast<int64_t>(i) * accumulators + p]; };
      const Combine how = statistic.how;
      Value all = combineLanes(how, combine(how, combine(how, part(0), part(1)), combine(how, part(2), part(3))));
      Emitter emitter(*this, nullptr, statistic.op);
      this->statistic(statistic) = statistic.op.emitStatistic(emitter, statistic.k, all);
    }
  }

  // Makes all elements of a vector of the row, then writes them. `partial`: where sums over columns are, by result.
  void emitElements(Value column, int64_t count, ArrayRef<Value> partial) {
    Scope scope({column, lanes, count});
    write(makeAll(scope), column, count, partial);
  }
  // The same of a vector of the row's first half and one of its second.
  void emitPairs(Value column, int64_t count) {
    Value other = plus(column, group.walkedColumns());
    Scope first({column, lanes, count}), second({other, lanes, count});
    pair(first, second);
    SmallVector<Value> made = makeAll(first), madeOther = makeAll(second);
    write(made, column, count, {});
    write(madeOther, other, count, {});
  }
  void write(ArrayRef<Value> made, Value column, int64_t count, ArrayRef<Value> partial) {
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
    storeRowResults();
    if (llvm::all_of(group.results, [](Value root) { return Group::makes(root) == Makes::Row; }))
      return;
    auto emit = [&](Value column, int64_t count) {
      if (group.pairs == Pairs::Halves)
        emitPairs(column, count);
      else
        emitElements(column, count, partial);
    };
    int64_t columns = group.walkedColumns(), whole = columns / lanes * lanes;
    if (whole > 0)
      loop(index(0), index(whole), lanes, [&](Value column) { emit(column, lanes); });
    if (whole < columns)
      emit(index(whole), columns - whole);
    row = {};
  }

  // All elements are one row. Pieces begin and end at multiples of a vector, so only the last has a part of one.
  void emitFlat(Value begin, Value end) {
    int64_t whole = group.columns / lanes * lanes;
    Value limit = arith::MinUIOp::create(b, loc, end, index(whole));
    loop(begin, limit, lanes, [&](Value column) { emitElements(column, lanes, {}); });
    if (whole == group.columns)
      return;
    Value last = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt, end, index(whole));
    onlyIf(last, [&] { emitElements(index(whole), group.columns - whole, {}); });
  }

  void emitBlocks(Value begin, Value end) {
    loop(begin, end, 1, [&](Value block) {
      SmallVector<Value> partial = partialOf(block);
      for (Value from : partial)
        if (from)
          loop(index(0), index(ceilDiv(group.columns, lanes) * lanes), lanes, [&](Value column) {
            storeVector(workspace(), b.getF32Type(), plus(from, column), zeros(vector));
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

  StringRef name;
  const int64_t lanes;
  VectorType vector;
  Block *entry = nullptr; // of the function that is built
};

} // namespace

SmallVector<KernelFunction> emitCpuKernel(const Group &group, StringRef name, ModuleOp module) {
  return CpuKernel(group, name, module).emit();
}

} // namespace amc::codegen
