// Reductions and softmax.
#include "compiler/import/Node.h"

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

/// What is reduced: over which axes, and whether they stay.
struct Reduction {
  Value x;
  Ints axes;
  bool keep;
};

/// Reads the common arguments. Axes became an input in opset 13 for ReduceSum, in 18 for the
/// others.
static std::optional<Reduction> arguments(Node &n, int64_t axesInputSince = 18) {
  Value x = n.in(0);
  bool keep = n.getFlag("keepdims", true), noop = n.getFlag("noop_with_empty_axes");
  std::optional<Ints> given = n.axes(1, axesInputSince);
  if (!x || !given)
    return std::nullopt;
  int64_t rank = shapeOf(x).size();
  if (given->empty() && !noop)
    for (int64_t i = 0; i < rank; ++i)
      given->push_back(i);
  std::optional<Ints> axes = n.axes(*given, rank);
  if (!axes)
    return std::nullopt;
  return Reduction{x, *axes, keep};
}

static Value sum(Node &n, Value x, const Reduction &r) {
  return n.reduce<ReduceSumOp>(x, r.axes, r.keep);
}

static void reduceSum(Node &n) {
  if (auto r = arguments(n, 13))
    n.set(0, sum(n, r->x, *r));
}
template <typename Op> static void reduceOp(Node &n) {
  if (auto r = arguments(n))
    n.set(0, n.reduce<Op>(r->x, r->axes, r->keep));
}
/// Booleans have an order, too: false before true (opset 20).
template <typename Op> static void reduceOrdered(Node &n) {
  auto r = arguments(n);
  if (!r)
    return;
  Type element = elementOf(r->x);
  bool boolean = element.isInteger(1);
  Value y = n.reduce<Op>(boolean ? n.cast(r->x, n.i64()) : r->x, r->axes, r->keep);
  n.set(0, boolean ? n.cast(y, element) : y);
}
static void reduceL1(Node &n) {
  if (auto r = arguments(n))
    n.set(0, sum(n, n.emit<AbsOp>({r->x}), *r));
}
/// Integers are allowed; their root is that of a float, rounded toward zero.
static void reduceL2(Node &n) {
  auto r = arguments(n);
  if (!r)
    return;
  Type element = elementOf(r->x);
  Value x = isa<FloatType>(element) ? r->x : n.cast(r->x, n.f32());
  n.set(0, n.cast(n.emit<SqrtOp>({sum(n, n.mul(x, x), *r)}), element));
}
static void reduceSumSquare(Node &n) {
  if (auto r = arguments(n))
    n.set(0, sum(n, n.mul(r->x, r->x), *r));
}
static void reduceLogSum(Node &n) {
  if (auto r = arguments(n))
    n.set(0, n.emit<LogOp>({sum(n, r->x, *r)}));
}
/// The maximum is subtracted; its own gradient contributions cancel.
static void reduceLogSumExp(Node &n) {
  auto r = arguments(n);
  if (!r)
    return;
  Value most = n.reduce<ReduceMaxOp>(r->x, r->axes, true);
  // Where everything is minus infinity, subtracting it would make NaN.
  Value infinite = n.emit<IsInfOp>({most});
  most = n.select(infinite, n.scalar(0, most), most);
  Value total = n.reduce<ReduceSumOp>(n.emit<ExpOp>({n.sub(r->x, most)}), r->axes, true);
  Value y = n.add(n.emit<LogOp>({total}), most);
  if (!y)
    return n.set(0, y);
  Ints to;
  for (auto [i, dim] : llvm::enumerate(shapeOf(y)))
    if (r->keep || !llvm::is_contained(r->axes, static_cast<int64_t>(i)))
      to.push_back(dim);
  n.set(0, n.reshape(y, to));
}

template <typename Op> static void softmax(Node &n) {
  Value x = n.in(0);
  if (!x)
    return;
  int64_t rank = shapeOf(x).size();
  if (rank == 0) // one element: a softmax over a dimension of one
    return n.set(0, n.reshape(n.emit<Op>({n.reshape(x, {1})}, {n.intAttr("axis", 0)}), {}));
  n.set(0, n.emit<Op>({x}, {n.intAttr("axis", n.axis(n.getInt("axis", -1), rank))}));
}

ArrayRef<OpEntry> reductionOps() {
  static const OpEntry table[] = {
      {"", "ReduceSum", 13, reduceSum},
      {"", "ReduceMean", 13, reduceOp<ReduceMeanOp>},
      {"", "ReduceProd", 13, reduceOp<ReduceProdOp>},
      {"", "ReduceMax", 13, reduceOrdered<ReduceMaxOp>},
      {"", "ReduceMin", 13, reduceOrdered<ReduceMinOp>},
      {"", "ReduceL1", 13, reduceL1},
      {"", "ReduceL2", 13, reduceL2},
      {"", "ReduceSumSquare", 13, reduceSumSquare},
      {"", "ReduceLogSum", 13, reduceLogSum},
      {"", "ReduceLogSumExp", 13, reduceLogSumExp},
      {"", "Softmax", 13, softmax<SoftmaxOp>},
      {"", "LogSoftmax", 13, softmax<LogSoftmaxOp>},
  };
  return table;
}

} // namespace amc::importer
