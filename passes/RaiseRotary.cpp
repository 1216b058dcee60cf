// Raise: rotary position embedding, x * cos + rotate(x) * sin, by halves or by neighbours; or each
// half by itself, (x1 * cos - x2 * sin, x2 * cos + x1 * sin), with tables half as wide, which are
// then doubled.
//
// No gradient flows to cos and sin, so they must be what rotary's are: computed by a cosine and a
// sine, taken from a table, or a table themselves whose bytes (where there are any) are those of a
// rotation. Partial rotary stays as slice, rotary, concat.
#include "passes/Raise.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace mlir;
using namespace amc::train;

namespace amc::raise {

/// `value` is elements start, start + step, … of x's last dimension, half as many as there are.
static Value matchHalf(Value value, int64_t start, int64_t step) {
  auto slice = definedBy<SliceOp>(value);
  if (!slice)
    return {};
  ArrayRef<int64_t> shape = shapeOf(slice.getX()), sizes = slice.getSizes();
  if (shape.empty() || shape.back() % 2 || slice.getStarts().back() != start ||
      slice.getSteps().back() != step || sizes.back() != shape.back() / 2)
    return {};
  for (size_t i = 0; i + 1 < shape.size(); ++i)
    if (slice.getStarts()[i] != 0 || slice.getSteps()[i] != 1 || sizes[i] != shape[i])
      return {};
  return slice.getX();
}

static Value negated(Rewriter &r, Value value) {
  if (auto neg = definedBy<NegOp>(value))
    return neg.getX();
  if (auto scaled = r.scaled(value); scaled && scaled->second == -1)
    return scaled->first;
  return {};
}

namespace {
struct Rotated {
  Value x;
  bool isInterleaved;
};
} // namespace

/// (-x2, x1) by halves, or by neighbours: a new last dimension joined and folded into the one
/// before.
static std::optional<Rotated> matchRotated(Rewriter &r, Value value) {
  auto reshape = definedBy<ReshapeOp>(value);
  auto concat = definedBy<ConcatOp>(reshape ? reshape.getX() : value);
  if (!concat || concat.getInputs().size() != 2)
    return std::nullopt;
  Value first = concat.getInputs()[0], second = concat.getInputs()[1];
  ArrayRef<int64_t> shape = shapeOf(concat.getY());
  if (shape.empty() || concat.getAxis() + 1 != shape.size())
    return std::nullopt;
  if (!reshape) {
    Value high = negated(r, first);
    Value x = matchHalf(second, 0, 1);
    if (high && x && x.getType() == value.getType() && matchHalf(high, shape.back() / 2, 1) == x)
      return Rotated{x, false};
    return std::nullopt;
  }
  // Each part is [..., D / 2, 1], joined to [..., D / 2, 2].
  auto inner = [](Value part) {
    auto unsqueeze = definedBy<ReshapeOp>(part);
    ArrayRef<int64_t> shape = shapeOf(part);
    return unsqueeze && shape.back() == 1 && shapeOf(unsqueeze.getX()) == shape.drop_back()
               ? unsqueeze.getX()
               : Value();
  };
  Value odd = inner(first), even = inner(second);
  if (Value below = negated(r, first); !odd && below) { // negated after the new dimension
    odd = inner(below);
  } else if (odd) {
    odd = negated(r, odd);
  }
  if (!odd || !even)
    return std::nullopt;
  Value x = matchHalf(even, 0, 2);
  if (x && x.getType() == value.getType() && matchHalf(odd, 1, 2) == x)
    return Rotated{x, true};
  return std::nullopt;
}

/// What cos (or sin) comes from: a cosine (a sine), or a table that rows are taken from.
static Operation *tableSource(Rewriter &r, Value value) {
  constexpr int maxSteps = 32;
  for (int step = 0; step < maxSteps; ++step) {
    Operation *op = value.getDefiningOp();
    if (!op || isa<CosOp, SinOp, ParameterOp, ConstantOp>(op))
      return op;
    if (auto scaled = r.scaled(value))
      value = scaled->first;
    else if (isa<ReshapeOp, TransposeOp, BroadcastOp, SliceOp, CastOp, GatherOp, GatherElementsOp,
                 GatherNdOp>(op))
      value = op->getOperand(0);
    else if (auto concat = dyn_cast<ConcatOp>(op); concat && llvm::all_equal(concat.getInputs()))
      value = concat.getInputs()[0];
    else
      return nullptr;
  }
  return nullptr;
}

/// Both tables are parameters: parts of one, or two whose bytes, where they are at hand, have cos^2
/// + sin^2 constant.
static bool isRotation(ParameterOp cos, ParameterOp sin) {
  constexpr int64_t maxElements = 1 << 24;
  if (cos == sin)
    return true;
  if (cos.getType() != sin.getType())
    return false;
  std::optional<HostTensor> c = readParameter(cos, maxElements),
                            s = readParameter(sin, maxElements);
  if (!c ||
      !s) // weights absent: no trained pair of this shape is known that is multiplied this way
    return true;
  double scale = 0;
  for (int64_t i = 0; i < c->size(); ++i) {
    double square = c->floats[i] * c->floats[i] + s->floats[i] * s->floats[i];
    if (i == 0)
      scale = square;
    if (!(std::abs(square - scale) <= 0.02 * scale)) // bf16 tables are this coarse
      return false;
  }
  return scale > 0;
}

namespace {
struct Rotary {
  Value x, cos, sin;
  bool isInterleaved;
  bool isDoubled; // cos and sin are for half of the last dimension and stand for both
};
} // namespace

/// cos and sin are what rotary's are, as far as it can be known.
static bool areTables(Rewriter &r, Value cos, Value sin) {
  Operation *cosSource = tableSource(r, cos), *sinSource = tableSource(r, sin);
  if (isa_and_nonnull<CosOp>(cosSource) && isa_and_nonnull<SinOp>(sinSource))
    return true;
  auto cosTable = dyn_cast_or_null<ParameterOp>(cosSource),
       sinTable = dyn_cast_or_null<ParameterOp>(sinSource);
  if (cosTable && sinTable)
    return isRotation(cosTable, sinTable);
  return isa_and_nonnull<ConstantOp>(cosSource) && isa_and_nonnull<ConstantOp>(sinSource);
}

static std::optional<Rotary> matchRotary(Rewriter &r, Operation *op) {
  auto add = dyn_cast<AddOp>(op);
  if (!add || !isa<FloatType>(elementOf(add.getY())) || shapeOf(add.getY()).size() != 4)
    return std::nullopt;
  for (auto [plain, turned] :
       {std::pair(add.getA(), add.getB()), std::pair(add.getB(), add.getA())}) {
    auto direct = definedBy<MulOp>(plain), rotated = definedBy<MulOp>(turned);
    if (!direct || !rotated)
      continue;
    for (auto [value, sin] :
         {std::pair(rotated.getA(), rotated.getB()), std::pair(rotated.getB(), rotated.getA())}) {
      std::optional<Rotated> match = matchRotated(r, value);
      if (!match || match->x.getType() != add.getType())
        continue;
      Value cos = direct.getA() == match->x   ? direct.getB()
                  : direct.getB() == match->x ? direct.getA()
                                              : Value();
      if (!cos || direct.getType() != add.getType() || rotated.getType() != add.getType())
        continue;
      if (areTables(r, cos, sin))
        return Rotary{match->x, cos, sin, match->isInterleaved, false};
    }
  }
  return std::nullopt;
}

/// The two factors of a product, the one that is `x` left out.
static Value otherFactor(Value product, Value x) {
  auto mul = definedBy<MulOp>(product);
  if (!mul || mul.getType() != x.getType())
    return {};
  return mul.getA() == x ? mul.getB() : mul.getB() == x ? mul.getA() : Value();
}

/// (x1 * cos - x2 * sin, x2 * cos + x1 * sin)
static std::optional<Rotary> matchSplit(Rewriter &r, Operation *op) {
  auto concat = dyn_cast<ConcatOp>(op);
  if (!concat || concat.getInputs().size() != 2 || shapeOf(concat.getY()).size() != 4 ||
      concat.getAxis() != 3 || !isa<FloatType>(elementOf(concat.getY())))
    return std::nullopt;
  auto low = definedBy<SubOp>(concat.getInputs()[0]);
  auto high = definedBy<AddOp>(concat.getInputs()[1]);
  auto first = low ? definedBy<MulOp>(low.getA()) : nullptr;
  if (!first || !high || low.getType() != high.getType())
    return std::nullopt;
  int64_t half = shapeOf(low.getY()).back();
  for (auto [x1, cos] :
       {std::pair(first.getA(), first.getB()), std::pair(first.getB(), first.getA())}) {
    Value x = matchHalf(x1, 0, 1);
    auto second = definedBy<MulOp>(low.getB());
    if (!x || x.getType() != concat.getType() || !second || first.getType() != low.getType())
      continue;
    for (Value x2 : second.getOperands()) {
      Value sin = otherFactor(low.getB(), x2);
      if (matchHalf(x2, half, 1) != x || !sin || shapeOf(cos).empty() ||
          shapeOf(cos) != shapeOf(sin) || shapeOf(cos).back() != half ||
          low.getType() != x1.getType())
        continue;
      for (auto [a, b] : {std::pair(high.getA(), high.getB()), std::pair(high.getB(), high.getA())})
        if (otherFactor(a, x2) == cos && otherFactor(b, x1) == sin && areTables(r, cos, sin))
          return Rotary{x, cos, sin, false, true};
    }
  }
  return std::nullopt;
}

bool raiseRotary(Rewriter &r, Operation *op) {
  std::optional<Rotary> match = matchRotary(r, op);
  if (!match)
    match = matchSplit(r, op);
  if (!match)
    return false;
  OpBuilder &b = r.at(op);
  for (Value *table : {&match->cos, &match->sin})
    if (match->isDoubled)
      *table = ConcatOp::create(b, op->getLoc(), ValueRange{*table, *table},
                                b.getI64IntegerAttr(shapeOf(*table).size() - 1));
  Value y =
      RotaryOp::create(b, op->getLoc(), match->x, match->cos, match->sin, match->isInterleaved);
  r.replace(op, y, Found::Rotary);
  return true;
}

} // namespace amc::raise
