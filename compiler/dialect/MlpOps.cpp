// gated_mlp: shapes, oracle, gradients, cost. Constraints are labelled;
// test/dialect/mlp-invalid.mlir has a case for each.
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/Activation.h"
#include "runtime/plan/Workspace.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace amc;
using namespace amc::train;

using Inputs = ArrayRef<const HostTensor *>;
using Outputs = MutableArrayRef<HostTensor>;

namespace {

/// Sizes of one MLP: rows, and the widths of its input, its activations and its output.
struct Sizes {
  int64_t rows, input, inner, output;

  Sizes(Value x, Value gate, bool transposeGate, Value down, bool transposeDown)
      : rows(elementCount(shapeOf(x).drop_back())), input(shapeOf(x).back()),
        inner(shapeOf(gate)[transposeGate ? 0 : 1]), output(shapeOf(down)[transposeDown ? 0 : 1]) {}

  /// A product of all rows with one of the weights, `columns` x inner.
  uint64_t productFlops(int64_t columns) const {
    uint64_t flops = 2;
    for (int64_t factor : {rows, inner, columns})
      flops = llvm::SaturatingMultiply<uint64_t>(flops, factor);
    return flops;
  }
};

/// The operations that a network is made of, on one tile of rows of average size; `times` tiles. An element of the data
/// takes `bytes`, one of a sum of weight gradients `wide`.
struct Parts {
  uint64_t rows, input, inner, output, bytes, wide, times;

  Parts(const Sizes &s, Type element)
      : input(s.input), inner(s.inner), output(s.output), bytes(element.getIntOrFloatBitWidth() / 8),
        wide(statisticType(element).getIntOrFloatBitWidth() / 8),
        times(llvm::divideCeil(static_cast<uint64_t>(s.rows), rt::workspace::mlpRowTile)) {
    rows = times ? llvm::divideCeil(static_cast<uint64_t>(s.rows), times) : 0;
  }
  static uint64_t of(uint64_t a, uint64_t b) { return llvm::SaturatingMultiply(a, b); }
  static uint64_t sum(std::initializer_list<uint64_t> list) {
    uint64_t result = 0;
    for (uint64_t summand : list)
      result = llvm::SaturatingAdd(result, summand);
    return result;
  }

  /// rows x `a` times a weight of `a` x `b`; `count` of them.
  Work product(uint64_t a, uint64_t b, uint64_t count) const {
    return {of(2 * rows, of(a, b)), of(bytes, sum({of(rows, a), of(a, b), of(rows, b)})), count * times};
  }
  /// `a` x `b`, summed over the rows, added to what is there.
  Work weightGradient(uint64_t a, uint64_t b, uint64_t count) const {
    return {of(2 * rows, of(a, b)), sum({of(bytes, sum({of(rows, a), of(rows, b)})), of(2 * wide, of(a, b))}),
            count * times};
  }
  /// Reads and writes `tensors` of rows x `width`, of which `made` are results.
  Work elementwise(uint64_t width, uint64_t tensors, uint64_t made) const {
    uint64_t elements = of(rows, width);
    return {of(made, elements), of(tensors * bytes, elements), times};
  }
};

/// A weight as [rows, columns], whichever way it is stored.
struct Weight {
  const std::vector<double> &data;
  int64_t rows, columns;
  bool transposed;
  double operator()(int64_t i, int64_t j) const {
    return data[transposed ? j * rows + i : i * columns + j];
  }
};

} // namespace

template <class Op> static Sizes sizesOf(Op op) {
  return Sizes(op.getX(), op.getGate(), op.getTransposeGate(), op.getDown(), op.getTransposeDown());
}

template <class Adaptor>
static LogicalResult checkMlp(std::optional<Location> loc, Adaptor &op,
                              SmallVectorImpl<int64_t> &output) {
  ArrayRef<int64_t> x = shapeOf(op.getX());
  // gated_mlp_c1
  if (x.empty())
    return inferError(loc, "x is a scalar, should be of rank 1 or more");
  // gated_mlp_c2
  if (!isActivation(op.getActivation()))
    return inferError(loc, "activation is \"" + op.getActivation() +
                               "\", should be silu, gelu, gelu_tanh or relu");
  struct Matrix {
    Value value;
    bool transposed;
    int64_t rows() const { return shapeOf(value)[transposed ? 1 : 0]; }
    int64_t columns() const { return shapeOf(value)[transposed ? 0 : 1]; }
  } gate{op.getGate(), op.getTransposeGate()}, up{op.getUp(), op.getTransposeUp()},
      down{op.getDown(), op.getTransposeDown()};
  for (const Matrix *weight : {&gate, &up, &down}) {
    // gated_mlp_c3
    if (shapeOf(weight->value).size() != 2)
      return inferError(loc, "a weight is of shape " + shapeString(shapeOf(weight->value)) +
                                 ", should be of rank 2");
    // gated_mlp_c4
    if (elementOf(weight->value) != elementOf(op.getX()))
      return inferError(loc, "x and weights should have one element type");
  }
  // gated_mlp_c5
  if (gate.rows() != x.back() || up.rows() != x.back())
    return inferError(loc, "gate and up have " + Twine(gate.rows()) + " and " + Twine(up.rows()) +
                               " rows, should have x's last dimension " + Twine(x.back()));
  // gated_mlp_c6
  if (up.columns() != gate.columns() || down.rows() != gate.columns())
    return inferError(loc, "gate, up and down have inner dimensions " + Twine(gate.columns()) +
                               ", " + Twine(up.columns()) + " and " + Twine(down.rows()) +
                               ", should be equal");
  output.assign(x.begin(), x.end());
  output.back() = down.columns();
  return success();
}

LogicalResult GatedMlpOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                           ValueRange operands, DictionaryAttr attributes,
                                           OpaqueProperties properties, RegionRange regions,
                                           SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  SmallVector<int64_t> shape;
  if (failed(checkMlp(loc, op, shape)))
    return failure();
  return inferTensor(loc, shape, elementOf(op.getX()), types);
}

LogicalResult GatedMlpOp::evaluate(Inputs in, Outputs out) {
  Sizes s = sizesOf(*this);
  Weight gate{in[1]->floats, s.input, s.inner, getTransposeGate()},
      up{in[2]->floats, s.input, s.inner, getTransposeUp()},
      down{in[3]->floats, s.inner, s.output, getTransposeDown()};
  for (int64_t row = 0; row < s.rows; ++row)
    for (int64_t i = 0; i < s.inner; ++i) {
      double g = 0, u = 0;
      for (int64_t k = 0; k < s.input; ++k) {
        g += in[0]->floats[row * s.input + k] * gate(k, i);
        u += in[0]->floats[row * s.input + k] * up(k, i);
      }
      for (int64_t j = 0; j < s.output; ++j)
        out[0].floats[row * s.output + j] += activate(getActivation(), g) * u * down(i, j);
    }
  return success();
}

LogicalResult GatedMlpOp::buildVjp(OpBuilder &b, ValueRange cotangents, ArrayRef<bool> needed,
                                   MutableArrayRef<Value> gradients) {
  if (!cotangents[0])
    return success();
  bool inputOnly = !needed[1] && !needed[2] && !needed[3];
  auto backward = GatedMlpBackwardOp::create(
      b, getLoc(), cotangents[0], getX(), getGate(), getUp(), getDown(), getActivation(),
      getTransposeGate(), getTransposeUp(), getTransposeDown(), inputOnly, /*wide=*/false);
  if (needed[0])
    gradients[0] = backward.getDx();
  for (unsigned i = 1; i < 4; ++i)
    if (needed[i])
      gradients[i] = backward.getWeightGradients()[i - 1];
  return success();
}

ShardingRule GatedMlpOp::getShardingRule() {
  RuleBuilder r(*this);
  SmallVector<unsigned> x = r.each(shapeOf(getX()).drop_back()), y = x;
  ArrayRef<int64_t> down = shapeOf(getDown());
  unsigned k = r.factor(shapeOf(getX()).back(), FactorKind::Whole),
           inner = r.factor(down[getTransposeDown() ? 1 : 0], FactorKind::Sum), n = r.factor(shapeOf(getY()).back());
  x.push_back(k);
  y.push_back(n);
  r.operand(0, x);
  r.operand(1, getTransposeGate() ? ArrayRef{inner, k} : ArrayRef{k, inner});
  r.operand(2, getTransposeUp() ? ArrayRef{inner, k} : ArrayRef{k, inner});
  r.operand(3, getTransposeDown() ? ArrayRef{n, inner} : ArrayRef{inner, n});
  r.result(0, y);
  return std::move(r.rule);
}

uint64_t GatedMlpOp::getFlops() {
  Sizes s = sizesOf(*this);
  return 2 * s.productFlops(s.input) + s.productFlops(s.output);
}

SmallVector<Work> GatedMlpOp::getParts() {
  Parts p(sizesOf(*this), elementOf(getX()));
  return {p.product(p.input, p.inner, 2), p.elementwise(p.inner, 3, 1), p.product(p.inner, p.output, 1)};
}

uint64_t GatedMlpOp::getBytesMoved() { return bytesMoved(getParts()); }

uint64_t GatedMlpOp::getWorkspaceBytes() {
  Sizes s = sizesOf(*this);
  return rt::workspace::gatedMlp(s.rows, s.input, s.inner, s.output,
                                 elementOf(getX()).getIntOrFloatBitWidth() / 8);
}
uint64_t GatedMlpOp::getCudaWorkspaceBytes() { return 0; } // no GPU has the kernel: runtime/plan/CudaKernels.h

LogicalResult GatedMlpBackwardOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                                   ValueRange operands, DictionaryAttr attributes,
                                                   OpaqueProperties properties, RegionRange regions,
                                                   SmallVectorImpl<Type> &types) {
  Adaptor op(operands, attributes, properties, regions);
  SmallVector<int64_t> shape;
  if (failed(checkMlp(loc, op, shape)))
    return failure();
  // gated_mlp_backward_c1
  if (failed(inferExpect(loc, "dy", op.getDy(), RankedTensorType::get(shape, elementOf(op.getX())))))
    return failure();
  types.push_back(op.getX().getType());
  // gated_mlp_backward_c2: weight gradients are rounded unless they are wide.
  if (!op.getInputOnly())
    for (Value weight : {op.getGate(), op.getUp(), op.getDown()})
      types.push_back(RankedTensorType::get(shapeOf(weight), sumType(elementOf(weight), op.getWide())));
  return success();
}

LogicalResult GatedMlpBackwardOp::evaluate(Inputs in, Outputs out) {
  Sizes s = sizesOf(*this);
  Weight gate{in[2]->floats, s.input, s.inner, getTransposeGate()},
      up{in[3]->floats, s.input, s.inner, getTransposeUp()},
      down{in[4]->floats, s.inner, s.output, getTransposeDown()};
  auto add = [&](size_t result, const Weight &like, int64_t i, int64_t j, double value) {
    out[result].floats[like.transposed ? j * like.rows + i : i * like.columns + j] += value;
  };
  for (int64_t row = 0; row < s.rows; ++row) {
    const double *dy = in[0]->floats.data() + row * s.output;
    const double *x = in[1]->floats.data() + row * s.input;
    for (int64_t i = 0; i < s.inner; ++i) {
      double g = 0, u = 0, dh = 0;
      for (int64_t k = 0; k < s.input; ++k) {
        g += x[k] * gate(k, i);
        u += x[k] * up(k, i);
      }
      for (int64_t j = 0; j < s.output; ++j)
        dh += dy[j] * down(i, j);
      double active = activate(getActivation(), g);
      double dg = dh * u * activateDerivative(getActivation(), g), du = dh * active;
      for (int64_t k = 0; k < s.input; ++k)
        out[0].floats[row * s.input + k] += du * up(k, i) + dg * gate(k, i);
      if (getInputOnly())
        continue;
      for (int64_t k = 0; k < s.input; ++k) {
        add(1, gate, k, i, x[k] * dg);
        add(2, up, k, i, x[k] * du);
      }
      for (int64_t j = 0; j < s.output; ++j)
        add(3, down, i, j, active * u * dy[j]);
    }
  }
  return success();
}

uint64_t GatedMlpBackwardOp::getFlops() {
  Sizes s = sizesOf(*this);
  uint64_t input = s.productFlops(s.input), output = s.productFlops(s.output);
  // gate and up again, dx; dh; with weights their three gradients.
  return getInputOnly() ? 4 * input + output : 6 * input + 2 * output;
}

SmallVector<Work> GatedMlpBackwardOp::getParts() {
  Parts p(sizesOf(*this), elementOf(getX()));
  SmallVector<Work> parts = {p.product(p.input, p.inner, 2),  // gate and up again
                             p.product(p.output, p.inner, 1), // dh
                             p.elementwise(p.inner, 5, 2), p.product(p.inner, p.input, 2), // dx
                             p.elementwise(p.input, 3, 1)};
  if (!getInputOnly())
    parts.append({p.elementwise(p.inner, 3, 1), p.weightGradient(p.input, p.inner, 2),
                  p.weightGradient(p.inner, p.output, 1)});
  return parts;
}

uint64_t GatedMlpBackwardOp::getBytesMoved() { return bytesMoved(getParts()); }

uint64_t GatedMlpBackwardOp::getWorkspaceBytes() {
  Sizes s = sizesOf(*this);
  return rt::workspace::gatedMlpBackward(s.rows, s.input, s.inner, s.output, !getInputOnly(),
                                         elementOf(getX()).getIntOrFloatBitWidth() / 8, getWide());
}
uint64_t GatedMlpBackwardOp::getCudaWorkspaceBytes() { return 0; }

SmallVector<OpResult> GatedMlpBackwardOp::getSums() {
  return llvm::map_to_vector(getWeightGradients(), [](Value sum) { return mlir::cast<OpResult>(sum); });
}
