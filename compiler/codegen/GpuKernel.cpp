// Three kinds of kernels:
//
//   elements  no row is added up: each thread makes neighbours in memory, as many as it reads and writes at once
//   rows      a team of threads for each row, a warp or a block: a pass over the row for each level of statistics, then
//             one that makes the elements; a thread does the same columns in every pass, and where they are few keeps what
//             it has read of them
//   blocks    sums over columns: a block of threads for each normRowBlock rows; teams find the rows' statistics, which
//             wait in shared memory; then each thread goes down columns of its own, row by row. A second launch adds up
//             the blocks' sums, ascending.
//
// Whatever is read of an element is read before it is written, by the thread that writes it or behind a barrier, so that a
// result may stand in the bytes of an operand. Nothing is atomic: no result depends on who comes first.
//
// The tree of a row's statistic: vectors of columns go round robin to the threads of the team, which combine theirs
// ascending; then lanes of the vector, then threads of a warp (butterfly), then warps, the upper half to the lower each time.
#include "compiler/codegen/GpuKernel.h"
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/Workspace.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace amc::train;

namespace amc::codegen {
namespace {

constexpr int64_t warp = 32;
constexpr int64_t blockThreads = 256;
constexpr int64_t warps = blockThreads / warp;
constexpr int64_t warpColumns = 1024; // rows of at most so many are a warp's
constexpr int64_t threadElements = 4; // at least, of a kernel of elements
constexpr int64_t keptRegisters = 64; // of a thread, for what it has read of a row
constexpr int64_t sumThreads = 64;    // of the launch that adds up blocks: few columns, so small blocks
constexpr int64_t rowBlock = static_cast<int64_t>(rt::workspace::normRowBlock);
constexpr unsigned globalSpace = 1, sharedSpace = 3; // PTX's state spaces, as LLVM numbers them

class GpuKernel final : public GroupEmitter {
public:
  GpuKernel(const Group &group, StringRef name, ModuleOp module)
      : GroupEmitter(group, module, LLVM::LLVMPointerType::get(module.getContext(), globalSpace)), name(name),
        rowLanes(group.columns % 4 == 0 ? 4 : 1), team(group.columns <= warpColumns ? warp : blockThreads) {}

  SmallVector<KernelFunction> emit() {
    if (group.sums) {
      function("", blockCount(), 1, blockThreads, [&] { emitBlocks(); });
      function("_sums", group.columns, sumThreads, sumThreads, [&] { emitSums(); });
    } else if (!group.statistics.empty()) {
      function("", group.rows, blockThreads / team, blockThreads, [&] { emitRows(); });
    } else {
      int64_t lanes = elementLanes();
      int64_t steps = std::max<int64_t>(1, threadElements / lanes);
      function("", group.rows * group.walkedColumns(), blockThreads * lanes * steps, blockThreads, [&] { emitElements(lanes, steps); });
    }
    return std::move(functions);
  }

private:
  //===--------------------------------------------------------------------===//
  // Functions, threads, shared memory
  //===--------------------------------------------------------------------===//

  template <class Body> void function(StringRef suffix, int64_t extent, int64_t grain, int64_t threads, Body &&body) {
    functions.push_back({(name + suffix).str(), static_cast<uint64_t>(extent), static_cast<uint64_t>(grain),
                         static_cast<uint64_t>(threads)});
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(module.getBody());
    SmallVector<Type> parameters(operandCount(), pointer);
    auto made = LLVM::LLVMFuncOp::create(b, loc, functions.back().name,
                                         LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()), parameters));
    made.setPassthroughAttr(b.getStrArrayAttr({"nounwind", "no-builtins"}));
    made->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), b.getUnitAttr());
    made->setAttr(NVVM::NVVMDialect::getReqntidAttrName(), b.getDenseI32ArrayAttr({static_cast<int32_t>(threads)}));
    for (unsigned i = 0; i < parameters.size(); ++i)
      made.setArgAttr(i, LLVM::LLVMDialect::getAlignAttrName(), b.getI64IntegerAttr(rt::gpuAlignment));
    Block *entry = made.addEntryBlock(b);
    b.setInsertionPointToStart(entry);
    operands.assign(entry->args_begin(), entry->args_end());
    thread = asIndex(NVVM::ThreadIdXOp::create(b, loc, b.getI32Type()));
    block = asIndex(NVVM::BlockIdXOp::create(b, loc, b.getI32Type()));
    row = {};
    statistics.clear();
    body();
    LLVM::ReturnOp::create(b, loc, ValueRange());
  }

  Value asIndex(Value x) { return arith::IndexCastUIOp::create(b, loc, b.getIndexType(), x); }
  Value quotient(Value a, int64_t c) { return c == 1 ? a : arith::DivUIOp::create(b, loc, a, index(c)).getResult(); }
  Value remainder(Value a, int64_t c) { return arith::RemUIOp::create(b, loc, a, index(c)); }
  Value below(Value a, int64_t limit) {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, a, index(limit));
  }
  Value isZero(Value a) { return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, a, index(0)); }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
  void barrier() { NVVM::Barrier0Op::create(b, loc); }

  // Room for fp32 numbers of the block; the function's name and what it is for make its name.
  Value shared(StringRef what, int64_t numbers) {
    Type type = LLVM::LLVMArrayType::get(b.getF32Type(), static_cast<uint64_t>(numbers));
    LLVM::GlobalOp global;
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(module.getBody());
      global = LLVM::GlobalOp::create(b, loc, type, /*isConstant=*/false, LLVM::Linkage::Internal,
                                      (functions.back().name + "_" + what).str(), Attribute(), /*alignment=*/32, sharedSpace);
    }
    return LLVM::AddressOfOp::create(b, loc, global);
  }

  //===--------------------------------------------------------------------===//
  // Memory
  //===--------------------------------------------------------------------===//

  // Offsets of vectors are multiples of their length.
  static unsigned alignmentOf(Type stored, int64_t lanes) {
    return std::min<unsigned>(rt::gpuAlignment, static_cast<unsigned>(lanes) * bytesOf(stored));
  }
  Value load(Value base, Type stored, Value offset, int64_t lanes) {
    return LLVM::LoadOp::create(b, loc, shaped(stored, lanes), addressOf(base, stored, offset), alignmentOf(stored, lanes));
  }
  void store(Value base, Type element, Value offset, Value x, int64_t lanes) {
    Type stored = storedType(element);
    LLVM::StoreOp::create(b, loc, narrowed(x, element), addressOf(base, stored, offset), alignmentOf(stored, lanes));
  }
  Value loadElements(Value base, Type stored, Value offset, const Position &at) override {
    return load(base, stored, offset, at.lanes);
  }

  // Makes the elements at a position, then writes those that leave the group to `offset`. Terms of sums over columns are
  // handed back, by result.
  SmallVector<Value> elements(Scope &scope, Value offset) {
    SmallVector<Value> made = makeAll(scope);
    write(scope, made, offset);
    return made;
  }
  void write(const Scope &scope, ArrayRef<Value> made, Value offset) {
    for (auto [i, root] : llvm::enumerate(group.results))
      if (Group::makes(root) == Makes::Element)
        store(operands[resultOperand(i)], train::elementOf(root), offset, made[i], scope.at.lanes);
  }

  //===--------------------------------------------------------------------===//
  // Elements
  //===--------------------------------------------------------------------===//

  // Vectors do not cross rows where rows matter, or halves, and hold pairs of neighbours. Sixteen bytes at once, of the
  // widest.
  int64_t elementLanes() const {
    unsigned widest = 1;
    auto consider = [&](Value tensor) {
      Type element = train::elementOf(tensor);
      widest = std::max(widest, element.isInteger(1) ? 1u : element.getIntOrFloatBitWidth() / 8);
    };
    llvm::for_each(group.body->getArguments(), consider);
    llvm::for_each(group.results, consider);
    for (int64_t lanes : {widest <= 2 ? 8 : 4, 4})
      if (group.flat || group.walkedColumns() % lanes == 0)
        return lanes;
    return group.pairs == Pairs::Neighbours ? 2 : 1;
  }

  void emitElements(int64_t lanes, int64_t steps) {
    int64_t total = group.rows * group.walkedColumns();
    Value first = plus(times(block, blockThreads * lanes * steps), times(thread, lanes));
    for (int64_t step = 0; step < steps; ++step) {
      Value at = plus(first, step * blockThreads * lanes);
      auto run = [&] { emitElementsAt(at, lanes); };
      if (total % (blockThreads * lanes * steps) == 0) {
        run();
        continue;
      }
      int64_t whole = total / lanes * lanes;
      onlyIf(below(at, whole), run);
      // One thread stands at what is less than a vector.
      if (whole < total)
        onlyIf(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, at, index(whole)), [&] {
          loop(at, index(total), 1, [&](Value one) { emitElementsAt(one, 1); });
        });
    }
  }
  void emitElementsAt(Value at, int64_t lanes) {
    row = group.flat ? Value() : quotient(at, group.walkedColumns());
    Scope scope({group.flat ? at : remainder(at, group.walkedColumns()), lanes, lanes});
    if (group.pairs != Pairs::Halves) {
      elements(scope, at);
      return;
    }
    Scope second({plus(scope.at.column, group.walkedColumns()), lanes, lanes});
    pair(scope, second);
    SmallVector<Value> made = makeAll(scope), madeOther = makeAll(second);
    Value from = times(row, group.columns);
    write(scope, made, plus(from, scope.at.column));
    write(second, madeOther, plus(from, second.at.column));
  }

  //===--------------------------------------------------------------------===//
  // Rows
  //===--------------------------------------------------------------------===//

  // The thread's place in its team.
  Value place() { return team == blockThreads ? thread : remainder(thread, warp); }

  // `x` of all threads of the warp combined, in all of them.
  Value combineWarp(Combine how, Value x) {
    auto number = [&](int32_t value) { return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(value)).getResult(); };
    for (int32_t distance = warp / 2; distance >= 1; distance /= 2)
      x = combine(how, x, NVVM::ShflOp::create(b, loc, b.getF32Type(), number(-1), x, number(distance), number(warp - 1),
                                               NVVM::ShflKind::bfly, UnitAttr()));
    return x;
  }

  // Does `body` at each of the thread's places in the row, ascending; values are handed on from one to the next. `kept`: of
  // the first, all of which are there.
  template <class Body> SmallVector<Value> overRow(MutableArrayRef<Scope> kept, SmallVector<Value> carried, Body &&body) {
    const int64_t step = team * rowLanes, done = static_cast<int64_t>(kept.size()) * step;
    for (Scope &scope : kept)
      body(scope, carried);
    if (done == group.columns)
      return carried;
    return loop(plus(times(place(), rowLanes), done), index(group.columns), step, carried,
                [&](Value column, SmallVector<Value> &next) {
                  Scope scope({column, rowLanes, rowLanes});
                  body(scope, next);
                });
  }
  // Places whose elements stay in registers from pass to pass: as many as are whole, if that is not too much.
  SmallVector<Scope> keptPlaces() {
    SmallVector<Scope> kept;
    const int64_t places = group.columns / (team * rowLanes);
    if (places * rowLanes * std::max(1u, group.body->getNumArguments()) > keptRegisters)
      return kept;
    for (int64_t i = 0; i < places; ++i)
      kept.push_back(Scope({plus(times(place(), rowLanes), i * team * rowLanes), rowLanes, rowLanes}));
    return kept;
  }

  // All statistics of the row, in all threads of its team. Where that is the block, `exchange` has room for `warps` numbers
  // for each.
  void emitStatistics(Value exchange, MutableArrayRef<Scope> kept) {
    statistics.clear();
    int64_t number = 0;
    for (unsigned level = 0; level < group.levels; ++level) {
      SmallVector<Statistic> now = statisticsOf(level);
      SmallVector<Value> all = llvm::map_to_vector(now, [&](const Statistic &s) { return neutral(s.how, rowLanes); });
      all = overRow(kept, std::move(all), [&](Scope &scope, SmallVector<Value> &next) {
        for (auto [one, statistic] : llvm::zip_equal(next, now)) {
          Emitter emitter(*this, &scope, statistic.op);
          one = combine(statistic.how, one, statistic.op.emitTerm(emitter, statistic.k));
        }
      });
      for (auto [one, statistic] : llvm::zip_equal(all, now))
        one = combineWarp(statistic.how, combineLanes(statistic.how, one));
      if (team == blockThreads) {
        auto slot = [&](size_t i) { return index((number + static_cast<int64_t>(i)) * warps); };
        onlyIf(isZero(remainder(thread, warp)), [&] {
          for (auto [i, one] : llvm::enumerate(all))
            store(exchange, b.getF32Type(), plus(slot(i), quotient(thread, warp)), one, 1);
        });
        barrier();
        for (auto [i, one] : llvm::enumerate(all))
          one = combineLanes(now[i].how, load(exchange, b.getF32Type(), slot(i), warps));
      }
      number += static_cast<int64_t>(now.size());
      for (auto [one, statistic] : llvm::zip_equal(all, now)) {
        Emitter emitter(*this, nullptr, statistic.op);
        this->statistic(statistic) = statistic.op.emitStatistic(emitter, statistic.k, one);
      }
    }
  }
  Value exchangeRoom() {
    return team == blockThreads ? shared("exchange", static_cast<int64_t>(group.statistics.size()) * warps) : Value();
  }

  void emitRows() {
    Value exchange = exchangeRoom();
    if (team == blockThreads) {
      row = block; // as many as rows
      emitRow(exchange);
      return;
    }
    Value at = plus(times(block, warps), quotient(thread, warp));
    auto run = [&] {
      row = at;
      emitRow(exchange);
    };
    if (group.rows % warps == 0)
      run();
    else
      onlyIf(below(at, group.rows), run); // a warp as a whole
  }
  void emitRow(Value exchange) {
    SmallVector<Scope> kept = keptPlaces();
    emitStatistics(exchange, kept);
    onlyIf(isZero(place()), [&] { storeRowResults(); });
    if (llvm::all_of(group.results, [](Value root) { return Group::makes(root) == Makes::Row; }))
      return;
    Value from = times(row, group.columns);
    overRow(kept, {}, [&](Scope &scope, SmallVector<Value> &) { elements(scope, plus(from, scope.at.column)); });
  }

  //===--------------------------------------------------------------------===//
  // Sums over columns
  //===--------------------------------------------------------------------===//

  void emitBlocks() {
    Value first = times(block, rowBlock), count = index(rowBlock);
    if (group.rows % rowBlock != 0)
      count = arith::MinUIOp::create(b, loc, count, arith::SubIOp::create(b, loc, index(group.rows), first));
    Value waiting;
    if (!group.statistics.empty()) {
      waiting = shared("statistics", static_cast<int64_t>(group.statistics.size()) * rowBlock);
      emitStatisticsOfBlock(first, count, waiting);
      barrier();
    }
    SmallVector<Value> partial = partialOf(block);
    SmallVector<size_t> sums; // results
    for (size_t i = 0; i < partial.size(); ++i)
      if (partial[i])
        sums.push_back(i);
    loop(times(thread, rowLanes), index(group.columns), blockThreads * rowLanes, [&](Value column) {
      SmallVector<Value> all(sums.size(), zeros(shaped(b.getF32Type(), rowLanes)));
      all = loop(index(0), count, 1, all, [&](Value number, SmallVector<Value> &next) {
        row = plus(first, number);
        statistics.clear();
        for (auto [i, one] : llvm::enumerate(group.statistics))
          statistic(one) = load(waiting, b.getF32Type(), plus(number, static_cast<int64_t>(i) * rowBlock), 1);
        Scope scope({column, rowLanes, rowLanes});
        SmallVector<Value> made = elements(scope, plus(times(row, group.columns), column));
        for (auto [sum, i] : llvm::zip_equal(next, sums))
          sum = add(sum, made[i]);
      });
      for (auto [sum, i] : llvm::zip_equal(all, sums))
        store(workspace(), b.getF32Type(), plus(partial[i], column), sum, rowLanes);
    });
  }

  // Statistic k of row r of the block to number k * rowBlock + r of `waiting`.
  void emitStatisticsOfBlock(Value first, Value count, Value waiting) {
    Value exchange = exchangeRoom();
    Value begin = team == blockThreads ? index(0) : quotient(thread, warp);
    loop(begin, count, blockThreads / team, [&](Value number) {
      row = plus(first, number);
      SmallVector<Scope> kept = keptPlaces();
      emitStatistics(exchange, kept);
      onlyIf(isZero(place()), [&] {
        for (auto [i, one] : llvm::enumerate(group.statistics))
          store(waiting, b.getF32Type(), plus(number, static_cast<int64_t>(i) * rowBlock), statistic(one), 1);
        storeRowResults();
      });
      if (team == blockThreads)
        barrier(); // what was exchanged has been read
    });
  }

  void emitSums() {
    Value column = plus(times(block, sumThreads), thread);
    auto run = [&] {
      SmallVector<Value> first = partialOf(index(0));
      for (auto [i, root] : llvm::enumerate(group.results)) {
        if (!first[i])
          continue;
        Value from = plus(first[i], column);
        auto partialSum = [&](Value of) {
          return load(workspace(), b.getF32Type(), plus(from, times(of, partialStride())), 1);
        };
        Value start = partialSum(index(0));
        Value sum = loop(index(1), index(blockCount()), 1, start, [&](Value of, SmallVector<Value> &next) {
                      next[0] = add(next[0], partialSum(of));
                    })[0];
        store(operands[resultOperand(i)], train::elementOf(root), column, sum, 1);
      }
    };
    if (group.columns % sumThreads == 0)
      run();
    else
      onlyIf(below(column, group.columns), run);
  }

  StringRef name;
  const int64_t rowLanes; // columns that a thread does at once, where rows are added up
  const int64_t team;     // threads of a row
  SmallVector<KernelFunction> functions;
  Value thread, block; // their numbers
};

} // namespace

SmallVector<KernelFunction> emitGpuKernel(const Group &group, StringRef name, ModuleOp module) {
  return GpuKernel(group, name, module).emit();
}

} // namespace amc::codegen
