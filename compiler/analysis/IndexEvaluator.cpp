// Evaluates one element of a tensor symbolically; see IndexExpression.h. An operation that is not
// understood gives an opaque element, or an atom if its elements are truth values.
#include "compiler/analysis/IndexExpression.h"
#include "compiler/dialect/OpSupport.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>
#include <numeric>

using namespace mlir;
using namespace amc::train;

namespace amc {

using Expression = IndexExpression;
using Kind = IndexExpression::Kind;

static constexpr unsigned maxAtoms = 6;
static constexpr int maxVisits = 4096, maxDepth = 256;
static constexpr int64_t maxTensorElements = int64_t(1) << 24;
// Integers are exact in every float type wider than this many bits; f16 and bf16 are not used for
// indices.
static constexpr int64_t exactInFloat = int64_t(1) << 24;
// A factor of a mask, never of anything that is scaled.
static constexpr double maskFactor = 1e9;

Expression Expression::constant(double value) {
  Expression e;
  e.kind = Kind::Table;
  e.values = {value};
  return e;
}

Expression Expression::of(LinearIndex form) {
  if (form.isConstant())
    return constant(static_cast<double>(form.constant));
  Expression e;
  e.kind = Kind::Linear;
  e.linear = std::move(form);
  return e;
}

std::optional<double> Expression::asConstant() const {
  if (kind == Kind::Table && atoms.empty())
    return values[0];
  return std::nullopt;
}

/// The linear form of a linear expression or an integral constant.
static std::optional<LinearIndex> asLinear(const Expression &e) {
  if (e.kind == Kind::Linear)
    return e.linear;
  std::optional<double> number = e.asConstant();
  if (number && std::abs(*number) < 1e12 && *number == std::floor(*number))
    return LinearIndex(static_cast<int64_t>(*number));
  return std::nullopt;
}

Expression IndexEvaluator::linear(Type element, const std::optional<LinearIndex> &form) {
  if (!form)
    return {};
  unsigned bits = element.getIntOrFloatBitWidth();
  if (!element.isIntOrIndex() && bits < 32 && !form->isConstant())
    return {};
  int64_t limit = !element.isIntOrIndex() ? exactInFloat : int64_t(1) << (std::min(bits, 60u) - 1);
  if (variables.minimum(*form) <= -limit || variables.maximum(*form) >= limit)
    return {};
  return Expression::of(*form);
}

unsigned IndexEvaluator::atomNumber(MaskAtom atom) {
  for (auto [i, have] : llvm::enumerate(known))
    if (have.tensor == atom.tensor && have.at == atom.at && have.form == atom.form &&
        have.bound == atom.bound)
      return i;
  known.push_back(std::move(atom));
  return known.size() - 1;
}

Expression IndexEvaluator::element(Value tensor, ArrayRef<LinearIndex> at) {
  MaskAtom atom;
  atom.tensor = tensor;
  atom.at = Indices(at);
  Expression e;
  e.kind = elementOf(tensor).isInteger(1) ? Kind::Table : Kind::Load;
  e.atoms = {atomNumber(std::move(atom))};
  e.values = {0, 1};
  return e;
}

Expression IndexEvaluator::notPositive(const LinearIndex &form) {
  if (variables.maximum(form) <= 0)
    return Expression::constant(1);
  if (variables.minimum(form) > 0)
    return Expression::constant(0);
  // form = divisor * primitive + constant, the primitive form's first coefficient positive.
  int64_t divisor = 0;
  for (auto [variable, coefficient] : form.terms)
    divisor = std::gcd(divisor, std::abs(coefficient));
  bool flip = form.terms.front().second < 0;
  MaskAtom atom;
  for (auto [variable, coefficient] : form.terms)
    atom.form.terms.push_back({variable, coefficient / (flip ? -divisor : divisor)});
  // divisor * p + constant <= 0 is p <= floor(-constant / divisor); flipped, p >= -that, so not p
  // <= -that - 1.
  int64_t bound = llvm::divideFloorSigned(-form.constant, divisor);
  atom.bound = flip ? -bound - 1 : bound;
  Expression e;
  e.kind = Kind::Table;
  e.atoms = {atomNumber(std::move(atom))};
  e.values = flip ? SmallVector<double>{1, 0} : SmallVector<double>{0, 1};
  return e;
}

Expression IndexEvaluator::asTable(const Expression &e) {
  if (e.kind != Kind::Load)
    return e;
  // An input that a mask is computed from holds 0 or 1 (see the header).
  Expression table;
  table.kind = Kind::Table;
  table.atoms = e.atoms;
  table.values = {e.offset, e.scale + e.offset};
  return table;
}

Expression IndexEvaluator::combine(ArrayRef<Expression> inputs, const Pointwise &function) {
  Expression result;
  for (const Expression &input : inputs) {
    if (input.kind != Kind::Table)
      return {};
    for (unsigned atom : input.atoms)
      if (!llvm::is_contained(result.atoms, atom))
        result.atoms.push_back(atom);
  }
  if (result.atoms.size() > maxAtoms)
    return {};
  llvm::sort(result.atoms);
  result.kind = Kind::Table;
  SmallVector<double> arguments(inputs.size());
  for (unsigned world = 0; world < 1u << result.atoms.size(); ++world) {
    for (auto [argument, input] : llvm::zip_equal(arguments, inputs)) {
      unsigned position = 0;
      for (auto [i, atom] : llvm::enumerate(input.atoms))
        if (world >> (llvm::find(result.atoms, atom) - result.atoms.begin()) & 1)
          position |= 1u << i;
      argument = input.values[position];
    }
    result.values.push_back(function(arguments));
  }
  if (llvm::all_equal(
          result.values)) // also makes NaN differ from itself: a table of NaN stays a table
    return Expression::constant(result.values[0]);
  return result;
}

Expression IndexEvaluator::evaluate(Value value, ArrayRef<LinearIndex> at) {
  if (depth == 0)
    visits = 0;
  if (depth >= maxDepth || ++visits > maxVisits)
    return {};
  Operation *op = value.getDefiningOp();
  if (!op)
    return {};
  ++depth;
  llvm::scope_exit leave([&] { --depth; });
  Expression e = visit(op, value, at);
  if (e.kind != Kind::Table && elementOf(value).isInteger(1))
    e = element(value, at);
  return e;
}

Expression IndexEvaluator::operand(Operation *op, unsigned index, ArrayRef<LinearIndex> at) {
  Value value = op->getOperand(index);
  ArrayRef<int64_t> shape = shapeOf(value);
  Indices moved(at.take_back(shape.size()));
  for (auto [i, size] : llvm::zip_equal(moved, shape))
    if (size == 1)
      i = LinearIndex();
  return evaluate(value, moved);
}

const HostTensor *IndexEvaluator::tensorOf(Operation *op) {
  auto [entry, isNew] = tensors.try_emplace(op);
  if (!isNew)
    return entry->second.get();
  std::optional<HostTensor> tensor;
  if (auto parameter = dyn_cast<ParameterOp>(op)) {
    tensor = readParameter(parameter, maxTensorElements);
    if (tensor && tensor->isFloat() && !isTable(*tensor))
      tensor.reset();
  } else if (auto constant = dyn_cast<ConstantOp>(op)) {
    if (constant.getValue().getNumElements() <= maxTensorElements)
      tensor = HostTensor::fromAttr(constant.getValue());
  }
  if (tensor)
    entry->second = std::make_unique<HostTensor>(std::move(*tensor));
  return entry->second.get();
}

Expression IndexEvaluator::visit(Operation *op, Value value, ArrayRef<LinearIndex> at) {
  Type element = elementOf(value);
  if (tensorType(value).getNumElements() == 1)
    if (std::optional<double> number = constants.scalar(value))
      return Expression::constant(*number);
  return llvm::TypeSwitch<Operation *, Expression>(op)
      .Case<ConstantOp, ParameterOp>([&](Operation *source) -> Expression {
        const HostTensor *tensor = tensorOf(source);
        return tensor ? visitTensor(*tensor, at) : Expression();
      })
      .Case([&](InputOp input) {
        return input.getRole() == "data" ? this->element(value, at) : Expression();
      })
      .Case([&](FullOp full) { return Expression::constant(full.getValue().convertToDouble()); })
      .Case([&](IotaOp iota) -> Expression {
        double start = iota.getStart().convertToDouble(), step = iota.getStep().convertToDouble();
        if (start != std::floor(start) || step != std::floor(step) || std::abs(start) > 1e12 ||
            std::abs(step) > 1e12)
          return {};
        return linear(element, addScaled(LinearIndex(static_cast<int64_t>(start)),
                                         at[iota.getAxis()], static_cast<int64_t>(step)));
      })
      .Case<ReshapeOp, TransposeOp, BroadcastOp, SliceOp>([&](Operation *view) -> Expression {
        std::optional<Indices> source = throughView(variables, view, at);
        return source ? evaluate(view->getOperand(0), *source) : Expression();
      })
      .Case([&](CastOp cast) { return visitCast(cast, at); })
      .Case<GatherOp, GatherNdOp, GatherElementsOp>(
          [&](Operation *gather) { return visitGather(gather, at); })
      .Case([&](ConcatOp concat) { return visitConcat(concat, at); })
      .Case([&](CumsumOp cumsum) { return visitCumsum(cumsum, at); })
      .Case<EqualOp, LessOp, LessEqualOp>(
          [&](Operation *compare) { return visitCompare(compare, at); })
      .Case([&](TriangleOp triangle) -> Expression {
        // Upper keeps column - row >= k, lower column - row <= k.
        int64_t k = triangle.getK();
        std::optional<LinearIndex> distance = addScaled(at.back(), at[at.size() - 2], -1);
        if (!distance)
          return {};
        Expression keep = triangle.getUpper() ? band(*distance, k, std::nullopt)
                                              : band(*distance, std::nullopt, k);
        return combine({keep, asTable(operand(op, 0, at))},
                       [](ArrayRef<double> in) { return in[0] != 0 ? in[1] : 0.0; });
      })
      .Case([&](SelectOp) -> Expression {
        Expression condition = operand(op, 0, at);
        if (std::optional<double> known = condition.asConstant())
          return operand(op, *known != 0 ? 1 : 2, at);
        Expression a = operand(op, 1, at), b = operand(op, 2, at);
        return combine({condition, asTable(a), asTable(b)},
                       [](ArrayRef<double> in) { return in[0] != 0 ? in[1] : in[2]; });
      })
      .Case([&](NotOp) {
        return combine({operand(op, 0, at)},
                       [](ArrayRef<double> in) { return in[0] == 0 ? 1.0 : 0.0; });
      })
      .Case([&](AndOp) {
        return combine({operand(op, 0, at), operand(op, 1, at)},
                       [](ArrayRef<double> in) { return in[0] != 0 && in[1] != 0 ? 1.0 : 0.0; });
      })
      .Case([&](OrOp) {
        return combine({operand(op, 0, at), operand(op, 1, at)},
                       [](ArrayRef<double> in) { return in[0] != 0 || in[1] != 0 ? 1.0 : 0.0; });
      })
      .Case([&](XorOp) {
        return combine({operand(op, 0, at), operand(op, 1, at)}, [](ArrayRef<double> in) {
          return (in[0] != 0) != (in[1] != 0) ? 1.0 : 0.0;
        });
      })
      .Case<AddOp, SubOp, MulOp, NegOp, MaxOp, MinOp, DivOp>(
          [&](Operation *arithmetic) { return visitArithmetic(arithmetic, at); })
      .Default([](Operation *) { return Expression(); });
}

Expression IndexEvaluator::visitCast(Operation *op, ArrayRef<LinearIndex> at) {
  Expression e = operand(op, 0, at);
  Type to = elementOf(op->getResult(0));
  if (e.kind == Kind::Linear)
    return to.isInteger(1) ? Expression() : linear(to, e.linear);
  if (to.isInteger(1)) {
    if (e.kind == Kind::Load && e.offset == 0 && e.scale != 0) {
      e.kind = Kind::Table; // the atom itself: not 0
      e.values = {0, 1};
      return e;
    }
    return combine({asTable(e)}, [](ArrayRef<double> in) { return in[0] != 0 ? 1.0 : 0.0; });
  }
  if (to.isIntOrIndex() && e.kind == Kind::Table) {
    for (double number : e.values)
      if (!(std::abs(number) <
            1e9)) // no truncation to think about: masks cast to integers hold 0 and 1
        return {};
    return combine({e}, [](ArrayRef<double> in) { return std::trunc(in[0]); });
  }
  return e;
}

Expression IndexEvaluator::visitArithmetic(Operation *op, ArrayRef<LinearIndex> at) {
  Type element = elementOf(op->getResult(0));
  bool isUnary = op->getNumOperands() == 1;
  Expression a = operand(op, 0, at), b = isUnary ? Expression::constant(-1) : operand(op, 1, at);
  if (a.kind == Kind::Opaque || b.kind == Kind::Opaque)
    return {};
  bool isSum = isa<AddOp, SubOp>(op), isProduct = isa<MulOp, NegOp>(op);

  if ((a.kind == Kind::Linear || b.kind == Kind::Linear) && (isSum || isProduct)) {
    std::optional<LinearIndex> x = asLinear(a), y = asLinear(b);
    if (!x || !y)
      return {};
    if (isSum)
      return linear(element, addScaled(*x, *y, isa<SubOp>(op) ? -1 : 1));
    if (!x->isConstant())
      std::swap(x, y);
    if (!x->isConstant())
      return {};
    return linear(element, addScaled(LinearIndex(), *y, x->constant));
  }

  // An element of an input stays one while it is scaled and moved by constants.
  if ((a.kind == Kind::Load) != (b.kind == Kind::Load) && (isSum || isProduct)) {
    Expression load = a.kind == Kind::Load ? a : b;
    std::optional<double> number = (a.kind == Kind::Load ? b : a).asConstant();
    if (number && isProduct && std::abs(*number) < maskFactor) {
      load.scale *= *number;
      load.offset *= *number;
      return load;
    }
    if (number && isSum) {
      if (isa<SubOp>(op) && b.kind == Kind::Load) {
        load.scale = -load.scale;
        load.offset = -load.offset;
      }
      load.offset += isa<SubOp>(op) && a.kind == Kind::Load ? -*number : *number;
      return load;
    }
  }

  bool isInteger = element.isIntOrIndex();
  return combine({asTable(a), asTable(b)}, [&](ArrayRef<double> in) {
    double x = in[0], y = in[1];
    return llvm::TypeSwitch<Operation *, double>(op)
        .Case<AddOp>([&](auto) { return x + y; })
        .Case<SubOp>([&](auto) { return x - y; })
        .Case<MaxOp>(
            [&](auto) { return std::isnan(x) || std::isnan(y) ? std::nan("") : std::max(x, y); })
        .Case<MinOp>(
            [&](auto) { return std::isnan(x) || std::isnan(y) ? std::nan("") : std::min(x, y); })
        .Case<DivOp>([&](auto) { return !isInteger ? x / y
                                        : y == 0   ? 0.0
                                                   : std::trunc(x / y); })
        .Default([&](auto) { return x * y; });
  });
}

Expression IndexEvaluator::visitCompare(Operation *op, ArrayRef<LinearIndex> at) {
  Expression a = operand(op, 0, at), b = operand(op, 1, at);
  if (a.kind == Kind::Linear || b.kind == Kind::Linear) {
    std::optional<LinearIndex> x = asLinear(a), y = asLinear(b);
    std::optional<LinearIndex> difference = x && y ? addScaled(*x, *y, -1) : std::nullopt;
    if (!difference)
      return {};
    if (isa<EqualOp>(op))
      return band(*difference, 0, 0);
    return band(*difference, std::nullopt, isa<LessOp>(op) ? -1 : 0);
  }
  // Equality with 0 is the atom itself; any other comparison of an input's element is taken as it
  // stands.
  if ((a.kind == Kind::Load) != (b.kind == Kind::Load) && isa<EqualOp>(op)) {
    const Expression &load = a.kind == Kind::Load ? a : b;
    std::optional<double> number = (a.kind == Kind::Load ? b : a).asConstant();
    if (number && *number == load.offset && load.scale != 0) {
      Expression isZero;
      isZero.kind = Kind::Table;
      isZero.atoms = load.atoms;
      isZero.values = {1, 0};
      return isZero;
    }
    return {};
  }
  return combine({a, b}, [&](ArrayRef<double> in) {
    bool holds = isa<EqualOp>(op)  ? in[0] == in[1]
                 : isa<LessOp>(op) ? in[0] < in[1]
                                   : in[0] <= in[1];
    return holds ? 1.0 : 0.0;
  });
}

Expression IndexEvaluator::band(const LinearIndex &form, std::optional<int64_t> low,
                                std::optional<int64_t> high) {
  SmallVector<Expression, 2> sides;
  for (auto [bound, sign] : {std::pair(low, -1), std::pair(high, 1)}) {
    if (!bound)
      continue;
    if (*bound < -maxTensorElements * maxTensorElements ||
        *bound > maxTensorElements * maxTensorElements)
      return {};
    // sign * (form - bound) <= 0
    std::optional<LinearIndex> moved = addScaled(form, LinearIndex(1), -*bound);
    std::optional<LinearIndex> side = moved ? addScaled(LinearIndex(), *moved, sign) : std::nullopt;
    if (!side)
      return {};
    sides.push_back(notPositive(*side));
  }
  return combine(sides, [](ArrayRef<double> in) {
    return llvm::all_of(in, [](double side) { return side != 0; }) ? 1.0 : 0.0;
  });
}

Expression IndexEvaluator::visitGather(Operation *op, ArrayRef<LinearIndex> at) {
  Value x = op->getOperand(0), indices = op->getOperand(1);
  ArrayRef<int64_t> shape = shapeOf(x);
  // One coordinate; negative ones count from the end.
  auto coordinate = [&](ArrayRef<LinearIndex> where, int64_t size) -> std::optional<LinearIndex> {
    std::optional<LinearIndex> form = asLinear(evaluate(indices, where));
    if (form && variables.maximum(*form) < 0)
      form = addScaled(*form, LinearIndex(size), 1);
    return form && variables.isWithin(*form, size) ? form : std::nullopt;
  };
  Indices source;
  if (auto gather = dyn_cast<GatherOp>(op)) {
    int64_t axis = gather.getAxis(), count = shapeOf(indices).size();
    std::optional<LinearIndex> index = coordinate(at.slice(axis, count), shape[axis]);
    if (!index)
      return {};
    source.append(at.begin(), at.begin() + axis);
    source.push_back(*index);
    source.append(at.begin() + axis + count, at.end());
  } else if (auto gather = dyn_cast<GatherElementsOp>(op)) {
    std::optional<LinearIndex> index = coordinate(at, shape[gather.getAxis()]);
    if (!index)
      return {};
    source = Indices(at);
    source[gather.getAxis()] = *index;
  } else {
    int64_t batch = cast<GatherNdOp>(op).getBatchDims(), leading = shapeOf(indices).size() - 1;
    Indices where(at.take_front(leading));
    where.push_back(LinearIndex());
    source.append(at.begin(), at.begin() + batch);
    for (int64_t i = 0; i < shapeOf(indices).back(); ++i) {
      where.back() = LinearIndex(i);
      std::optional<LinearIndex> index = coordinate(where, shape[batch + i]);
      if (!index)
        return {};
      source.push_back(*index);
    }
    source.append(at.begin() + leading, at.end());
  }
  return source.size() == shape.size() ? evaluate(x, source) : Expression();
}

Expression IndexEvaluator::visitConcat(Operation *op, ArrayRef<LinearIndex> at) {
  int64_t axis = cast<ConcatOp>(op).getAxis(), start = 0;
  for (Value input : op->getOperands()) { // the whole range lies in one input
    int64_t size = shapeOf(input)[axis];
    std::optional<LinearIndex> local = addScaled(at[axis], LinearIndex(start), -1);
    if (local && variables.isWithin(*local, size)) {
      Indices inside(at);
      inside[axis] = *local;
      return evaluate(input, inside);
    }
    start += size;
  }
  // The range spans several inputs: linear as a whole if each is linear in the joint index t, all
  // by one form.
  LinearIndex t = variables.add(start);
  if (t.isConstant())
    return {};
  unsigned variable = t.terms[0].first;
  std::optional<LinearIndex> whole;
  SmallVector<std::pair<int64_t, LinearIndex>> points; // inputs of one element: what they hold at t
  start = 0;
  for (Value input : op->getOperands()) {
    int64_t size = shapeOf(input)[axis];
    if (size == 0)
      continue;
    Indices inside(at);
    LinearIndex local = size == 1 ? LinearIndex() : variables.add(size);
    inside[axis] = local;
    std::optional<LinearIndex> form = asLinear(evaluate(input, inside));
    if (!form)
      return {};
    if (size == 1) {
      points.push_back({start, *form});
    } else {
      // In t: local = t - start.
      LinearIndex joint;
      joint.constant = form->constant;
      for (auto [v, coefficient] : form->terms) {
        bool isLocal = v == local.terms[0].first;
        LinearIndex term;
        term.terms = {{isLocal ? variable : v, 1}};
        term.constant = isLocal ? -start : 0;
        std::optional<LinearIndex> sum = addScaled(joint, term, coefficient);
        if (!sum)
          return {};
        joint = *sum;
      }
      if (whole && !(*whole == joint))
        return {};
      whole = joint;
    }
    start += size;
  }
  if (!whole)
    return {};
  auto substitute = [&](const LinearIndex &by) -> std::optional<LinearIndex> {
    std::optional<LinearIndex> result = LinearIndex(whole->constant);
    for (auto [v, coefficient] : whole->terms) {
      LinearIndex term;
      term.terms = {{v, 1}};
      if (result)
        result = addScaled(*result, v == variable ? by : term, coefficient);
    }
    return result;
  };
  for (auto &[position, form] : points) {
    std::optional<LinearIndex> there = substitute(LinearIndex(position));
    if (!there || !(*there == form))
      return {};
  }
  return linear(elementOf(op->getResult(0)), substitute(at[axis]));
}

Expression IndexEvaluator::visitCumsum(Operation *op, ArrayRef<LinearIndex> at) {
  auto cumsum = cast<CumsumOp>(op);
  int64_t axis = cumsum.getAxis(), size = shapeOf(cumsum.getX())[axis];
  Indices inside(at);
  inside[axis] = variables.add(size);
  std::optional<LinearIndex> step = asLinear(evaluate(cumsum.getX(), inside));
  if (!step || !step->isConstant())
    return {};
  // Elements summed: i + 1, from the other end size - i; one less without the element itself.
  LinearIndex count(cumsum.getReverse() ? size : 1);
  if (cumsum.getExclusive())
    count.constant -= 1;
  std::optional<LinearIndex> elements = addScaled(count, at[axis], cumsum.getReverse() ? -1 : 1);
  return elements
             ? linear(elementOf(cumsum.getY()), addScaled(LinearIndex(), *elements, step->constant))
             : Expression();
}

} // namespace amc
