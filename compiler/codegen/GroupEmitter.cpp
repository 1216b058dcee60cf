#include "compiler/codegen/GroupEmitter.h"
#include "compiler/dialect/OpSupport.h"
#include "runtime/plan/Workspace.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include <limits>

using namespace mlir;
using namespace amc::train;

namespace amc::codegen {

GroupEmitter::GroupEmitter(const Group &group, ModuleOp module, Type pointer)
    : group(group), module(module), b(module.getContext()), loc(b.getUnknownLoc()), pointer(pointer) {}

Value GroupEmitter::Emitter::statistic(unsigned k) {
  Value scalar = kernel.statistics.lookup({op, k});
  return scope ? kernel.splat(scalar, scope->at.lanes) : scalar;
}

Value GroupEmitter::Emitter::partner(Value operand) {
  if (scope->partner)
    return kernel.elementOf(scope->partner, op, operand);
  Value x = element(operand);
  SmallVector<int64_t> swapped;
  for (int64_t i = 0; i < scope->at.lanes; ++i)
    swapped.push_back(i ^ 1);
  return vector::ShuffleOp::create(b, loc, x, x, swapped);
}

Value GroupEmitter::Emitter::ofPair(double first, double second) {
  if (scope->partner)
    return constant(scope->second ? second : first);
  SmallVector<float> numbers;
  for (int64_t i = 0; i < scope->at.lanes; ++i)
    numbers.push_back(static_cast<float>(i % 2 ? second : first));
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(cast<VectorType>(type()), ArrayRef<float>(numbers)));
}

void GroupEmitter::Emitter::set(Value result, Value element) {
  const bool term = Group::makes(result) == Makes::ColumnSum; // added up before it is rounded
  scope->values[result] = term ? element : kernel.rounded(element, train::elementOf(result));
}

Type GroupEmitter::Emitter::type() { return scope ? shaped(b.getF32Type(), scope->at.lanes) : Type(b.getF32Type()); }

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

Value GroupEmitter::index(int64_t value) { return arith::ConstantIndexOp::create(b, loc, value); }
Value GroupEmitter::plus(Value a, Value c) { return arith::AddIOp::create(b, loc, a, c); }
Value GroupEmitter::times(Value a, int64_t c) {
  return c == 1 ? a : arith::MulIOp::create(b, loc, a, index(c)).getResult();
}
Value GroupEmitter::integers(Type type, int64_t value) {
  return splatConstant(b, loc, type, b.getIntegerAttr(getElementTypeOrSelf(type), value));
}
Value GroupEmitter::zeros(Type type) { return arith::ConstantOp::create(b, loc, b.getZeroAttr(type)); }

Type GroupEmitter::shaped(Type element, int64_t lanes) { return lanes == 1 ? element : VectorType::get(lanes, element); }
Value GroupEmitter::splat(Value scalar, int64_t lanes) {
  return lanes == 1 ? scalar : vector::BroadcastOp::create(b, loc, shaped(scalar.getType(), lanes), scalar).getResult();
}

Value GroupEmitter::neutral(Combine how, int64_t lanes) {
  const float none = how == Combine::Sum ? 0.0f : -std::numeric_limits<float>::infinity();
  return splatConstant(b, loc, shaped(b.getF32Type(), lanes), b.getF32FloatAttr(none));
}
Value GroupEmitter::combine(Combine how, Value x, Value y) {
  if (how == Combine::Sum)
    return arith::AddFOp::create(b, loc, x, y);
  Value larger = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, y, x);
  return arith::SelectOp::create(b, loc, larger, y, x);
}
Value GroupEmitter::combineLanes(Combine how, Value x) {
  auto type = dyn_cast<VectorType>(x.getType());
  if (!type)
    return x;
  for (int64_t half = type.getNumElements() / 2; half >= 1; half /= 2) {
    SmallVector<int64_t> low, high;
    for (int64_t i = 0; i < half; ++i) {
      low.push_back(i);
      high.push_back(i + half);
    }
    x = combine(how, vector::ShuffleOp::create(b, loc, x, x, low), vector::ShuffleOp::create(b, loc, x, x, high));
  }
  return vector::ExtractOp::create(b, loc, x, 0);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Type GroupEmitter::storedType(Type element) {
  if (element.isInteger(1))
    return b.getI8Type();
  return element.isBF16() ? b.getI16Type() : element;
}

Value GroupEmitter::addressOf(Value base, Type stored, Value offset) {
  Value wide = arith::IndexCastOp::create(b, loc, b.getI64Type(), offset);
  return LLVM::GEPOp::create(b, loc, base.getType(), stored, base, ArrayRef<LLVM::GEPArg>{LLVM::GEPArg(wide)});
}

Value GroupEmitter::loadScalar(Value base, Type element, Value offset) {
  Type stored = storedType(element);
  return widened(LLVM::LoadOp::create(b, loc, stored, addressOf(base, stored, offset), bytesOf(stored)), element);
}

void GroupEmitter::storeScalar(Value base, Type element, Value offset, Value x) {
  Type stored = storedType(element);
  LLVM::StoreOp::create(b, loc, narrowed(x, element), addressOf(base, stored, offset), bytesOf(stored));
}

Value GroupEmitter::widened(Value x, Type element) {
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

Value GroupEmitter::narrowed(Value x, Type element) {
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

Value GroupEmitter::rounded(Value x, Type element) {
  return element.isBF16() || element.isF16() ? widened(narrowed(x, element), element) : x;
}

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

static OpOperand &operandOf(Operation *op, Value value) {
  return *llvm::find_if(op->getOpOperands(), [&](OpOperand &operand) { return operand.get() == value; });
}

Value GroupEmitter::offsetOf(const Access &access) {
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

Value GroupEmitter::elementOf(Scope *scope, FusableOpInterface op, Value operand) {
  Value root = Group::rootOf(operand);
  if (isFusedConstant(root.getDefiningOp())) {
    auto full = root.getDefiningOp<FullOp>();
    Type type = scope ? shaped(b.getF32Type(), scope->at.lanes) : Type(b.getF32Type());
    return rounded(splatConstant(b, loc, type, b.getF32FloatAttr(static_cast<float>(full.getValue().convertToDouble()))),
                   full.getElement());
  }
  auto argument = dyn_cast<BlockArgument>(root);
  if (!argument)
    return make(*scope, root);
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
    value = splat(loadScalar(base, element, offsetOf(access)), scope->at.lanes);
  else
    value = widened(loadElements(base, storedType(element), plus(offsetOf(access), scope->at.column), scope->at), element);
  scope->loads.push_back({{root, access}, value});
  return value;
}

Value GroupEmitter::make(Scope &scope, Value root) {
  auto found = scope.values.find(root);
  if (found == scope.values.end()) {
    auto op = cast<FusableOpInterface>(root.getDefiningOp());
    Emitter emitter(*this, &scope, op);
    op.emitElement(emitter);
    found = scope.values.find(root);
  }
  return found->second;
}

SmallVector<Value> GroupEmitter::makeAll(Scope &scope) {
  SmallVector<Value> made(group.results.size());
  for (auto [value, root] : llvm::zip_equal(made, group.results))
    if (Group::makes(root) != Makes::Row)
      value = make(scope, root);
  return made;
}

SmallVector<Statistic> GroupEmitter::statisticsOf(unsigned level) const {
  SmallVector<Statistic> now;
  for (const Statistic &statistic : group.statistics)
    if (statistic.level == level)
      now.push_back(statistic);
  return now;
}

void GroupEmitter::storeRowResults() {
  for (auto [i, root] : llvm::enumerate(group.results)) {
    if (Group::makes(root) != Makes::Row)
      continue;
    auto result = cast<OpResult>(root);
    FusionRule rule = cast<FusableOpInterface>(result.getOwner()).getFusionRule();
    Value value = statistics.lookup({result.getOwner(), rule.statisticOf[result.getResultNumber()]});
    storeScalar(operands[resultOperand(i)], train::elementOf(root), row, value);
  }
}

unsigned GroupEmitter::operandCount() const {
  return group.body->getNumArguments() + static_cast<unsigned>(group.results.size()) + group.sums;
}

//===----------------------------------------------------------------------===//
// Sums over columns
//===----------------------------------------------------------------------===//

int64_t GroupEmitter::partialStride() const {
  return static_cast<int64_t>(rt::workspace::detail::pad(static_cast<uint64_t>(group.columns) * 4)) / 4;
}
int64_t GroupEmitter::blockCount() const { return ceilDiv(group.rows, static_cast<int64_t>(rt::workspace::normRowBlock)); }

SmallVector<Value> GroupEmitter::partialOf(Value block) {
  SmallVector<Value> partial(group.results.size());
  int64_t number = 0;
  for (auto [i, root] : llvm::enumerate(group.results))
    if (Group::makes(root) == Makes::ColumnSum)
      partial[i] = plus(times(block, partialStride()), number++ * blockCount() * partialStride());
  return partial;
}

} // namespace amc::codegen
