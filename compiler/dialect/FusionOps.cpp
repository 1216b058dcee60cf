// train.fused: what it may hold, what it costs, what it means; and the building blocks that operations describe an element
// with.
#include "compiler/dialect/Fusion.h"
#include "compiler/dialect/OpSupport.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include <limits>

using namespace mlir;
using namespace amc;
using namespace amc::train;

//===----------------------------------------------------------------------===//
// Rules
//===----------------------------------------------------------------------===//

/// Whether fused kernels read and write elements of this type.
static bool isFusedElement(Type type) { return type.isF32() || type.isBF16() || type.isF16() || type.isInteger(1); }

FusionRule amc::train::rowFusion(Operation *op, ArrayRef<int64_t> domain) {
  FusionRule rule;
  rule.perRow.assign(op->getNumOperands(), false);
  rule.results.assign(op->getNumResults(), Makes::Element);
  rule.statisticOf.assign(op->getNumResults(), 0);
  auto stored = [](Type type) { return isFusedElement(cast<RankedTensorType>(type).getElementType()); };
  if (llvm::all_of(op->getOperandTypes(), stored) && llvm::all_of(op->getResultTypes(), stored) &&
      !llvm::is_contained(domain, 0))
    rule.domain = llvm::to_vector(domain);
  return rule;
}

std::pair<int64_t, int64_t> amc::train::rowsAndColumns(const FusionRule &rule) {
  return {elementCount(*rule.domain) / rule.columns(), rule.columns()};
}

const char *KernelRules::add(const FusionRule &rule) {
  const bool addsColumns = llvm::is_contained(rule.results, Makes::ColumnSum);
  const bool addsUp = addsColumns || !rule.statistics.empty();
  if (rule.pairs != Pairs::None && mixed != Pairs::None && rule.pairs != mixed)
    return "halves and neighbours are mixed";
  if ((rule.pairs != Pairs::None && ofRows) || (mixed != Pairs::None && addsUp) || (rule.pairs != Pairs::None && addsUp))
    return "pairs are mixed in rows or columns that are added up";
  if (addsColumns && sums)
    return "two operations add up columns";
  mixed = rule.pairs == Pairs::None ? mixed : rule.pairs;
  ofRows = ofRows || addsUp;
  sums = sums || addsColumns;
  return nullptr;
}

bool amc::train::readsInPlace(const FusionRule &rule, OpOperand &operand) {
  return !rule.perRow[operand.getOperandNumber()] && shapeOf(operand.get()) == ArrayRef<int64_t>(*rule.domain);
}

bool amc::train::isFusedConstant(Operation *op) {
  auto full = dyn_cast_if_present<FullOp>(op);
  return full && isFusedElement(full.getElement()) && isa<FloatType>(full.getElement());
}

FusionRule amc::train::elementwiseFusion(Operation *op) { return rowFusion(op, shapeOf(op->getResult(0))); }

//===----------------------------------------------------------------------===//
// fused
//===----------------------------------------------------------------------===//

ParseResult FusedOp::parse(OpAsmParser &parser, OperationState &state) {
  SmallVector<OpAsmParser::Argument> arguments;
  SmallVector<OpAsmParser::UnresolvedOperand> operands;
  auto parseAssignment = [&]() -> ParseResult {
    return failure(parser.parseArgument(arguments.emplace_back()) || parser.parseEqual() ||
                   parser.parseOperand(operands.emplace_back()));
  };
  FunctionType type;
  if (parser.parseCommaSeparatedList(OpAsmParser::Delimiter::Paren, parseAssignment) ||
      parser.parseOptionalAttrDict(state.attributes) || parser.parseColonType(type))
    return failure();
  if (type.getNumInputs() != arguments.size())
    return parser.emitError(parser.getNameLoc(), "operands and types should be as many");
  for (auto [argument, of] : llvm::zip_equal(arguments, type.getInputs()))
    argument.type = of;
  state.addTypes(type.getResults());
  if (parser.resolveOperands(operands, type.getInputs(), parser.getNameLoc(), state.operands))
    return failure();
  return parser.parseRegion(*state.addRegion(), arguments);
}

void FusedOp::print(OpAsmPrinter &p) {
  p << '(';
  llvm::interleaveComma(llvm::zip_equal(getBody().getArguments(), getInputs()), p, [&](auto pair) {
    p << std::get<0>(pair) << " = " << std::get<1>(pair);
  });
  p << ')';
  p.printOptionalAttrDict((*this)->getAttrs());
  p << " : ";
  p.printFunctionalType(getInputs().getTypes(), getResultTypes());
  p << ' ';
  p.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

LogicalResult FusedOp::verifyRegions() {
  Block &block = getBody().front();
  // fused_c1
  if (block.getArgumentTypes() != getInputs().getTypes())
    return emitOpError("arguments of the body should be of the operands' types");
  auto yield = dyn_cast<YieldOp>(block.getTerminator());
  // fused_c2
  if (!yield || yield.getOperandTypes() != getResultTypes())
    return emitOpError("the body should yield values of the results' types");
  // fused_c3
  if (getTaken().size() != getNumResults())
    return emitOpError("taken has ") << getTaken().size() << " entries, should have one for each of " << getNumResults()
                                     << " results";
  for (auto [result, from] : llvm::zip_equal(getOutputs(), getTaken()))
    // fused_c4
    if (from < -1 || from >= static_cast<int64_t>(getNumOperands()) ||
        (from >= 0 && byteSize(getOperand(static_cast<unsigned>(from)).getType()) != byteSize(result.getType())))
      return emitOpError("taken has ") << from << ", should be -1 or the number of an operand with as many bytes";
  std::optional<std::pair<int64_t, int64_t>> domain;
  for (Operation &op : block.without_terminator()) {
    if (isa<ViewOpInterface>(op) || isFusedConstant(&op))
      continue;
    auto fusable = dyn_cast<FusableOpInterface>(op);
    FusionRule rule = fusable ? fusable.getFusionRule() : FusionRule();
    // fused_c5
    if (!rule.domain)
      return op.emitOpError("should be one that can be fused, with elements of f32, bf16, f16 or i1");
    std::pair<int64_t, int64_t> own = rowsAndColumns(rule);
    // fused_c6
    if (domain && *domain != own)
      return op.emitOpError("works on ") << own.first << " rows of " << own.second << ", the group on " << domain->first
                                         << " of " << domain->second;
    domain = own;
  }
  // fused_c7
  if (!domain)
    return emitOpError("should hold an operation");
  return success();
}

LogicalResult FusedOp::evaluate(ArrayRef<const HostTensor *> inputs, MutableArrayRef<HostTensor> outputs) {
  DenseMap<Value, const HostTensor *> values;
  std::vector<std::unique_ptr<HostTensor>> made;
  for (auto [argument, input] : llvm::zip_equal(getBody().getArguments(), inputs))
    values[argument] = input;
  for (Operation &op : getBody().front().without_terminator()) {
    SmallVector<const HostTensor *> operands;
    for (Value operand : operandSlots(&op))
      operands.push_back(operand ? values.lookup(operand) : nullptr);
    SmallVector<HostTensor> results;
    for (Type type : op.getResultTypes())
      results.emplace_back(cast<RankedTensorType>(type));
    if (isa<ViewOpInterface>(op)) {
      for (int64_t i = 0, e = results[0].size(); i < e; ++i)
        results[0].set(i, operands[0]->number(i));
    } else if (failed(cast<ComputeOpInterface>(op).evaluate(operands, results))) {
      return failure();
    }
    for (auto [result, tensor] : llvm::zip_equal(op.getResults(), results)) {
      made.push_back(std::make_unique<HostTensor>(std::move(tensor)));
      values[result] = made.back().get();
    }
  }
  for (auto [output, value] : llvm::zip_equal(outputs, getBody().front().getTerminator()->getOperands()))
    output = *values.lookup(value);
  return success();
}

uint64_t FusedOp::getFlops() {
  uint64_t flops = 0;
  for (auto op : getBody().getOps<ComputeOpInterface>())
    flops += isFusedConstant(op) ? 0 : op.getFlops();
  return flops;
}

uint64_t FusedOp::getWorkspaceBytes() {
  uint64_t bytes = 0;
  for (auto op : getBody().getOps<ComputeOpInterface>())
    bytes = std::max(bytes, op.getWorkspaceBytes());
  return bytes;
}
uint64_t FusedOp::getCudaWorkspaceBytes() { return getWorkspaceBytes(); }

SmallVector<unsigned> FusedOp::getReusableOperands() {
  SmallVector<unsigned> operands;
  for (int64_t from : getTaken())
    if (from >= 0)
      operands.push_back(static_cast<unsigned>(from));
  return operands;
}

std::optional<ArrayRef<int64_t>> FusedOp::getTakenOperands() { return getTaken(); }

//===----------------------------------------------------------------------===//
// ElementEmitter
//===----------------------------------------------------------------------===//

Type amc::train::withElement(Type like, Type element) {
  if (auto shaped = dyn_cast<ShapedType>(like))
    return shaped.clone(element);
  return element;
}
Value amc::train::splatConstant(OpBuilder &b, Location loc, Type type, TypedAttr value) {
  if (auto shaped = dyn_cast<ShapedType>(type))
    value = DenseElementsAttr::get(shaped, Attribute(value));
  return arith::ConstantOp::create(b, loc, value);
}

Value ElementEmitter::constant(double value) { return splatConstant(b, loc, type(), b.getF32FloatAttr(static_cast<float>(value))); }
Value ElementEmitter::integer(int32_t value) {
  return splatConstant(b, loc, withElement(type(), b.getI32Type()), b.getI32IntegerAttr(value));
}
Value ElementEmitter::add(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
Value ElementEmitter::sub(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
Value ElementEmitter::mul(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
Value ElementEmitter::div(Value x, Value y) { return arith::DivFOp::create(b, loc, x, y); }
Value ElementEmitter::neg(Value x) { return arith::NegFOp::create(b, loc, x); }
Value ElementEmitter::abs(Value x) { return math::AbsFOp::create(b, loc, x); }
Value ElementEmitter::sqrt(Value x) { return math::SqrtOp::create(b, loc, x); }
Value ElementEmitter::fma(Value x, Value y, Value z) { return math::FmaOp::create(b, loc, x, y, z); }
Value ElementEmitter::less(Value x, Value y) {
  return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, y);
}
Value ElementEmitter::lessEqual(Value x, Value y) {
  return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLE, x, y);
}
Value ElementEmitter::isNan(Value x) { return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, x, x); }
Value ElementEmitter::select(Value condition, Value x, Value y) {
  return arith::SelectOp::create(b, loc, condition, x, y);
}
Value ElementEmitter::roundEven(Value x) { return math::RoundEvenOp::create(b, loc, x); }
Value ElementEmitter::floor(Value x) { return math::FloorOp::create(b, loc, x); }
Value ElementEmitter::ceil(Value x) { return math::CeilOp::create(b, loc, x); }

Value ElementEmitter::bits(Value x) {
  return arith::BitcastOp::create(b, loc, withElement(x.getType(), b.getI32Type()), x);
}
Value ElementEmitter::number(Value x) {
  return arith::BitcastOp::create(b, loc, withElement(x.getType(), b.getF32Type()), x);
}

// By a comparison and not by bits: the X86 back end of LLVM 22.1.8 makes a wrong vpternlog of
// select(c, (x & sign) | magnitude, x) for AVX-512.
Value ElementEmitter::withSign(Value magnitude, Value of) {
  return select(less(of, constant(0)), neg(magnitude), magnitude);
}

// |r| <= ln 2 / 2, polynomial of Cephes' expf. A sum with 1.5 * 2^23 is rounded to an integer, which is the low bits of its
// mantissa: no conversion, which NaN would not have.
Value ElementEmitter::expOfRest(Value x, Value &sum) {
  sum = fma(x, constant(1.44269504088896341), constant(12582912));
  Value n = sub(sum, constant(12582912));
  Value r = fma(n, constant(-0.693359375), x);
  r = fma(n, constant(2.12194440e-4f), r);
  Value p = fma(constant(1.9875691500e-4f), r, constant(1.3981999507e-3f));
  for (float coefficient : {8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = fma(p, r, constant(coefficient));
  return add(fma(p, mul(r, r), r), constant(1));
}

// NaN passes both comparisons and the polynomial; its exponent is any. By 2^n in two steps: neither factor overflows or is
// denormal, the product may be.
Value ElementEmitter::exp(Value x) {
  Value c = select(less(x, constant(-104)), constant(-104), x), sum;
  c = select(greater(c, constant(89)), constant(89), c);
  Value p = expOfRest(c, sum);
  Value whole = arith::SubIOp::create(b, loc, bits(sum), integer(0x4b400000)); // 1.5 * 2^23
  Value first = arith::ShRSIOp::create(b, loc, whole, integer(1));
  Value second = arith::SubIOp::create(b, loc, whole, first);
  auto power = [&](Value exponent) {
    Value biased = arith::AddIOp::create(b, loc, exponent, integer(127));
    return number(arith::ShLIOp::create(b, loc, biased, integer(23)));
  };
  return mul(mul(p, power(first)), power(second));
}

// 1.5 * 2^23 has no bit that stays after the shift.
Value ElementEmitter::boundedExp(Value x) {
  Value c = select(less(x, constant(-87)), constant(-87), x), sum;
  c = select(greater(c, constant(89)), constant(89), c);
  Value p = expOfRest(c, sum);
  Value exponent = arith::ShLIOp::create(b, loc, bits(sum), integer(23));
  return mul(p, number(arith::AddIOp::create(b, loc, exponent, integer(0x3f800000))));
}

// Small arguments by Cephes' polynomial, the rest by e^(2|x|).
Value ElementEmitter::tanh(Value x) {
  Value a = abs(x), s = mul(x, x);
  Value p = fma(constant(-5.70498872745e-3f), s, constant(2.06390887954e-2f));
  for (float coefficient : {-5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f})
    p = fma(p, s, constant(coefficient));
  Value small = fma(mul(p, s), x, x);
  Value large = withSign(sub(constant(1), div(constant(2), add(boundedExp(add(a, a)), constant(1)))), x);
  return select(lessEqual(constant(0.625), a), large, small); // of NaN, which is NaN
}

// x = 2^n m with m from sqrt(1/2) on, polynomial of Cephes' logf in m - 1.
Value ElementEmitter::log(Value x) {
  Value in = bits(x);
  Value n = arith::SubIOp::create(b, loc, arith::ShRUIOp::create(b, loc, in, integer(23)), integer(126));
  Value m = number(arith::OrIOp::create(b, loc, arith::AndIOp::create(b, loc, in, integer(0x7fffff)), integer(0x3f000000)));
  Value isSmall = less(m, constant(0.70710678118654752440));
  Value e = arith::SIToFPOp::create(b, loc, x.getType(), n);
  e = select(isSmall, sub(e, constant(1)), e);
  m = sub(select(isSmall, add(m, m), m), constant(1));
  Value p = fma(constant(7.0376836292e-2f), m, constant(-1.1514610310e-1f));
  for (float coefficient : {1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f,
                            -2.4999993993e-1f, 3.3333331174e-1f})
    p = fma(p, m, constant(coefficient));
  Value s = mul(m, m);
  Value y = fma(e, constant(-2.12194440e-4f), mul(mul(p, m), s));
  y = add(fma(constant(-0.5), s, y), m);
  y = fma(e, constant(0.693359375), y);
  return select(less(x, constant(std::numeric_limits<double>::infinity())), y, x); // infinity and NaN
}

Value ElementEmitter::sigmoid(Value x) { return div(constant(1), add(constant(1), boundedExp(neg(x)))); }

// Two polynomials that meet at 475/512, the outer one in the exponent (N. Juffa's single-precision erf).
Value ElementEmitter::erf(Value x) {
  Value t = abs(x), s = mul(x, x);
  Value r = fma(constant(-1.72853470e-5f), t, constant(3.83197126e-4f));
  Value u = fma(constant(-3.88396438e-3f), t, constant(2.42546219e-2f));
  r = fma(r, s, u);
  for (float coefficient : {-1.06777877e-1f, -6.34846687e-1f, -1.28717512e-1f})
    r = fma(r, t, constant(coefficient));
  r = fma(r, t, neg(t));
  Value outer = withSign(sub(constant(1), boundedExp(r)), x);
  // Far out the polynomial of the exponent turns around; erf is 1 there.
  outer = select(greater(t, constant(4)), withSign(constant(1), x), outer);
  Value q = fma(constant(-5.96761703e-4f), s, constant(4.99119423e-3f));
  for (float coefficient : {-2.67681349e-2f, 1.12819925e-1f, -3.76125336e-1f, 1.28379166e-1f})
    q = fma(q, s, constant(coefficient));
  Value inner = fma(q, x, x);
  return select(greater(t, constant(0.927734375)), outer, inner); // of NaN, which is NaN
}
