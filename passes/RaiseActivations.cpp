// Raise: SiLU, GELU by erf and by tanh, and activations that gate another tensor.
//
// GELU is written in many associations of 0.5, x, 1 + f(u). So both u and what multiplies f are
// read as polynomials in x (degree 3 at most), and compared with what GELU asks for. x *
// sigmoid(1.702 x) is not SiLU and stays.
#include "passes/Raise.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace mlir;
using namespace amc::train;

namespace amc::raise {

// Associations of the known forms need at most six levels; the rest is room.
static constexpr int maxDepth = 12, maxCandidates = 16;

namespace {
/// A polynomial by ascending powers.
using Polynomial = std::array<double, 4>;
} // namespace

static std::optional<Polynomial> product(const Polynomial &a, const Polynomial &b) {
  Polynomial result{};
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < b.size(); ++j) {
      if (a[i] == 0 || b[j] == 0)
        continue;
      if (i + j >= result.size())
        return std::nullopt;
      result[i + j] += a[i] * b[j];
    }
  return result;
}

/// `value` as a polynomial in x, all of x's type on the way.
static std::optional<Polynomial> polynomial(Rewriter &r, Value value, Value x, int depth = 0) {
  if (value == x)
    return Polynomial{0, 1, 0, 0};
  if (std::optional<double> number = r.scalar(value))
    return Polynomial{*number, 0, 0, 0};
  Operation *op = value.getDefiningOp();
  if (!op || depth == maxDepth || value.getType() != x.getType())
    return std::nullopt;
  if (auto pow = dyn_cast<PowOp>(op)) {
    std::optional<double> exponent = r.scalar(pow.getB());
    std::optional<Polynomial> base = polynomial(r, pow.getA(), x, depth + 1);
    if (!base || (exponent != 2.0 && exponent != 3.0))
      return std::nullopt;
    std::optional<Polynomial> result = product(*base, *base);
    return result && exponent == 3.0 ? product(*result, *base) : result;
  }
  if (auto div = dyn_cast<DivOp>(op)) {
    std::optional<double> divisor = r.scalar(div.getB());
    std::optional<Polynomial> result = polynomial(r, div.getA(), x, depth + 1);
    if (!divisor || *divisor == 0 || !result)
      return std::nullopt;
    for (double &coefficient : *result)
      coefficient /= *divisor;
    return result;
  }
  if (!isa<AddOp, MulOp>(op))
    return std::nullopt;
  std::optional<Polynomial> a = polynomial(r, op->getOperand(0), x, depth + 1);
  std::optional<Polynomial> b = a ? polynomial(r, op->getOperand(1), x, depth + 1) : std::nullopt;
  if (!b || isa<MulOp>(op))
    return b ? product(*a, *b) : std::nullopt;
  for (size_t i = 0; i < a->size(); ++i)
    (*a)[i] += (*b)[i];
  return a;
}

namespace {
/// value = (1 + f) * p, p a polynomial in x, f the value of one erf or tanh; or value = p without
/// f.
struct Gate {
  bool hasFunction;
  Polynomial p;
};
} // namespace

static std::optional<Gate> gate(Rewriter &r, Value value, Value function, Value x, int depth = 0) {
  if (std::optional<Polynomial> p = polynomial(r, value, x))
    return Gate{false, *p};
  Operation *op = value.getDefiningOp();
  if (!op || depth == maxDepth || value.getType() != x.getType())
    return std::nullopt;
  if (auto add = dyn_cast<AddOp>(op)) { // c + c * f
    for (auto [constant, term] :
         {std::pair(add.getA(), add.getB()), std::pair(add.getB(), add.getA())}) {
      std::optional<double> c = r.scalar(constant);
      if (!c)
        continue;
      double factor = 1;
      if (term != function) {
        std::optional<std::pair<Value, double>> scaled = r.scaled(term);
        if (!scaled || scaled->first != function)
          return std::nullopt;
        factor = scaled->second;
      }
      if (!isNearly(factor, *c, elementOf(x)))
        return std::nullopt;
      return Gate{true, {*c, 0, 0, 0}};
    }
    return std::nullopt;
  }
  if (auto scaled = r.scaled(value)) {
    std::optional<Gate> inner = gate(r, scaled->first, function, x, depth + 1);
    if (inner)
      for (double &coefficient : inner->p)
        coefficient *= scaled->second;
    return inner;
  }
  if (auto mul = dyn_cast<MulOp>(op)) {
    std::optional<Gate> a = gate(r, mul.getA(), function, x, depth + 1);
    std::optional<Gate> b = a ? gate(r, mul.getB(), function, x, depth + 1) : std::nullopt;
    std::optional<Polynomial> p = b ? product(a->p, b->p) : std::nullopt;
    if (!p || (a->hasFunction && b->hasFunction))
      return std::nullopt;
    return Gate{a->hasFunction || b->hasFunction, *p};
  }
  return std::nullopt;
}

/// The erf or tanh in the product that `op` computes.
static Operation *findFunction(Rewriter &r, Operation *op) {
  SmallVector<std::pair<Value, int>> open = {{op->getResult(0), 0}};
  for (int visits = 0; !open.empty() && visits < maxCandidates; ++visits) {
    auto [value, depth] = open.pop_back_val();
    Operation *producer = value.getDefiningOp();
    if (!producer || depth > 4)
      continue;
    if (isa<ErfOp, TanhOp>(producer))
      return producer;
    if (isa<MulOp, AddOp, DivOp>(producer))
      for (Value operand : producer->getOperands())
        open.push_back({operand, depth + 1});
  }
  return nullptr;
}

namespace {
struct Gelu {
  Value x;
  bool isTanh;
};
} // namespace

static std::optional<Gelu> matchGelu(Rewriter &r, Operation *op) {
  Operation *function = findFunction(r, op);
  if (!function || function->getResult(0).getType() != op->getResult(0).getType())
    return std::nullopt;
  Value u = function->getOperand(0), y = op->getResult(0);
  Type element = elementOf(u);
  bool isTanh = isa<TanhOp>(function);
  // x is somewhere in u's polynomial.
  SmallVector<Value> candidates = {u};
  for (size_t i = 0; i < candidates.size() && candidates.size() < maxCandidates; ++i)
    if (Operation *producer = candidates[i].getDefiningOp();
        producer && isa<MulOp, AddOp, DivOp, PowOp>(producer))
      for (Value operand : producer->getOperands())
        if (operand.getType() == u.getType() && !llvm::is_contained(candidates, operand) &&
            !r.scalar(operand))
          candidates.push_back(operand);
  for (Value x : candidates) {
    std::optional<Polynomial> inner = polynomial(r, u, x);
    if (!inner || (*inner)[0] != 0 || (*inner)[2] != 0)
      continue;
    double slope = isTanh ? std::sqrt(2 / M_PI) : std::sqrt(0.5),
           cubic = isTanh ? slope * 0.044715 : 0;
    if (!isNearly((*inner)[1], slope, element) || !isNearly((*inner)[3], cubic, element))
      continue;
    std::optional<Gate> outer = gate(r, y, function->getResult(0), x);
    if (outer && outer->hasFunction && outer->p == Polynomial{0, 0.5, 0, 0})
      return Gelu{x, isTanh};
  }
  return std::nullopt;
}

static Value matchSilu(MulOp mul) {
  for (auto [x, gate] : {std::pair(mul.getA(), mul.getB()), std::pair(mul.getB(), mul.getA())})
    if (auto sigmoid = definedBy<SigmoidOp>(gate);
        sigmoid && sigmoid.getX() == x && x.getType() == mul.getType())
      return x;
  return {};
}

/// The name that gated_activation has for the activation `value` is, which nothing else reads.
static std::pair<StringRef, Value> matchActivated(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op || !value.hasOneUse() || !isa<FloatType>(elementOf(value)))
    return {};
  if (isa<SiluOp>(op))
    return {"silu", op->getOperand(0)};
  if (isa<ReluOp>(op))
    return {"relu", op->getOperand(0)};
  if (auto gelu = dyn_cast<GeluOp>(op))
    return {gelu.getApproximate() == "tanh" ? "gelu_tanh" : "gelu", gelu.getX()};
  return {};
}

bool raiseActivation(Rewriter &r, Operation *op) {
  auto mul = dyn_cast<MulOp>(op);
  if (!mul || !isa<FloatType>(elementOf(mul.getY())))
    return false;
  if (Value x = matchSilu(mul)) {
    r.replace(op, SiluOp::create(r.at(op), op->getLoc(), x).getY(), Found::Activation);
    return true;
  }
  if (std::optional<Gelu> gelu = matchGelu(r, op)) {
    OpBuilder &b = r.at(op);
    StringAttr kind = b.getStringAttr(gelu->isTanh ? "tanh" : "none");
    r.replace(op, GeluOp::create(b, op->getLoc(), gelu->x, kind).getY(), Found::Activation);
    return true;
  }
  for (auto [activated, up] :
       {std::pair(mul.getA(), mul.getB()), std::pair(mul.getB(), mul.getA())}) {
    auto [name, gate] = matchActivated(activated);
    if (!gate || up == activated || gate.getType() != up.getType() || up.getType() != mul.getType())
      continue;
    OpBuilder &b = r.at(op);
    r.replace(op,
              GatedActivationOp::create(b, op->getLoc(), gate, up, b.getStringAttr(name)).getY(),
              Found::Gated);
    return true;
  }
  return false;
}

} // namespace amc::raise
