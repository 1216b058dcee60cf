// Normalisations. Over trailing dimensions they are one operation of the dialect; over groups or
// batches (instance, group and batch normalisation) they are reshaped to that or computed from
// running statistics.
#include "compiler/import/Node.h"

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

static int64_t product(ArrayRef<int64_t> dims) { return elementCount(dims); }

/// A scale or bias of the normalised dimensions, flat; null if it has another shape and must be
/// applied separately.
static Value flatFactor(Node &n, Value factor, ArrayRef<int64_t> normalised) {
  if (!factor)
    return {};
  ArrayRef<int64_t> shape = shapeOf(factor);
  while (shape.size() > normalised.size() && shape.front() == 1)
    shape = shape.drop_front();
  return shape == normalised ? n.reshape(factor, {product(normalised)}) : Value();
}

/// x seen with its normalised dimensions as one.
static Value flatten(Node &n, Value x, int64_t axis) {
  Ints to(shapeOf(x).take_front(axis));
  to.push_back(product(shapeOf(x).drop_front(axis)));
  return n.reshape(x, to);
}

/// Statistics come without the normalised dimensions; ONNX keeps them as ones.
static void setStatistic(Node &n, int output, Operation *made, int result, ArrayRef<int64_t> shape,
                         int64_t axis) {
  if (!n.wants(output) || !made)
    return;
  Ints to(shape);
  std::fill(to.begin() + axis, to.end(), 1);
  n.set(output, n.reshape(made->getResult(result), to));
}

static void layerNormalization(Node &n) {
  Value x = n.in(0), scale = n.in(1), bias = n.opt(2);
  double epsilon = n.getFloat("epsilon", 1e-5f);
  n.ignore("stash_type"); // statistics are at least fp32 in any case
  if (!x || !scale)
    return;
  Ints shape(shapeOf(x));
  int64_t axis = n.axis(n.getInt("axis", -1), shape.size());
  if (n.failed)
    return;
  ArrayRef<int64_t> normalised = ArrayRef(shape).drop_front(axis);
  Value flatScale = flatFactor(n, scale, normalised), flatBias = flatFactor(n, bias, normalised);
  bool direct = flatScale && (!bias || flatBias);
  Operation *made = nullptr;
  Value y = n.layerNorm(flatten(n, x, axis), direct ? flatScale : Value(),
                        direct ? flatBias : Value(), epsilon, &made);
  y = n.reshape(y, shape);
  if (!direct) {
    y = n.mul(y, scale);
    if (bias)
      y = n.add(y, bias);
  }
  n.set(0, y);
  setStatistic(n, 1, made, 1, shape, axis);
  setStatistic(n, 2, made, 2, shape, axis);
}

static void rmsNormalization(Node &n) {
  Value x = n.in(0), scale = n.in(1);
  double epsilon = n.getFloat("epsilon", 1e-5f);
  n.ignore("stash_type");
  if (!x || !scale)
    return;
  Ints shape(shapeOf(x));
  int64_t axis = n.axis(n.getInt("axis", -1), shape.size());
  if (n.failed)
    return;
  Value flat = flatFactor(n, scale, ArrayRef(shape).drop_front(axis));
  Operation *made = nullptr;
  Value y = n.reshape(n.rmsNorm(flatten(n, x, axis), flat, epsilon, &made), shape);
  n.set(0, flat ? y : n.mul(y, scale));
  // ONNX Runtime's SimplifiedLayerNormalization also gives the inverse deviation.
  setStatistic(n, 1, made, 1, shape, axis);
}

/// com.microsoft: the sum of input and skip (and bias) is normalised, and handed on as output 3.
template <bool Simplified> static void skipNorm(Node &n) {
  Value x = n.in(0), skip = n.in(1), gamma = n.in(2), beta = Simplified ? Value() : n.opt(3);
  Value bias = n.opt(Simplified ? 3 : 4);
  double epsilon = n.getFloat("epsilon", 1e-12f);
  Value sum = n.add(x, skip);
  if (bias)
    sum = n.add(sum, bias);
  n.set(0, Simplified ? n.rmsNorm(sum, gamma, epsilon) : n.layerNorm(sum, gamma, beta, epsilon));
  n.set(3, sum);
}

/// A vector of channels, shaped to broadcast against [N, C, ...].
static Value channels(Node &n, Value vector, int64_t rank) {
  if (!vector)
    return vector;
  Ints to(rank, 1);
  to[1] = product(shapeOf(vector));
  return n.reshape(vector, to);
}

/// Normalises groups of channels: each is one row.
static Value groupNorm(Node &n, Value x, int64_t groups, double epsilon) {
  Ints shape(shapeOf(x));
  Value rows =
      n.reshape(x, {shape[0] * groups, product(shape) / std::max<int64_t>(1, shape[0] * groups)});
  return n.reshape(n.layerNorm(rows, {}, {}, epsilon), shape);
}

static bool channelled(Node &n, Value x) {
  if (x && shapeOf(x).size() < 2)
    n.fail("input should have rank 2 or more");
  return x && !n.failed;
}

static void instanceNormalization(Node &n) {
  Value x = n.in(0), scale = n.in(1), bias = n.in(2);
  double epsilon = n.getFloat("epsilon", 1e-5f);
  if (!channelled(n, x))
    return;
  int64_t rank = shapeOf(x).size();
  Value y = groupNorm(n, x, shapeOf(x)[1], epsilon);
  n.set(0, n.add(n.mul(y, channels(n, scale, rank)), channels(n, bias, rank)));
}

static void groupNormalization(Node &n) {
  Value x = n.in(0), scale = n.in(1), bias = n.in(2);
  double epsilon = n.getFloat("epsilon", 1e-5f);
  int64_t groups = n.needInt("num_groups");
  n.ignore("stash_type");
  if (!channelled(n, x) || !scale || !bias)
    return;
  int64_t rank = shapeOf(x).size(), channelCount = shapeOf(x)[1];
  if (groups <= 0 || channelCount % groups)
    return n.fail(Twine(channelCount) + " channels do not divide into " + Twine(groups) +
                  " groups");
  // Scale and bias belong to groups in opset 18, to channels since 21.
  for (Value *factor : {&scale, &bias})
    if (product(shapeOf(*factor)) == groups && groups != channelCount) {
      int64_t each = channelCount / groups;
      *factor =
          n.reshape(n.broadcast(n.reshape(*factor, {groups, 1}), {groups, each}), {channelCount});
    }
  Value y = groupNorm(n, x, groups, epsilon);
  n.set(0, n.add(n.mul(y, channels(n, scale, rank)), channels(n, bias, rank)));
}

static void batchNormalization(Node &n) {
  if (n.getFlag("training_mode"))
    return n.unsupported(
        "training_mode is 1: batch statistics; export the model in evaluation mode");
  if (n.opset < 14 && n.outputs() > 1) // how training was asked for before there was an attribute for it
    return n.unsupported("it has outputs of training: batch statistics; export the model in evaluation mode");
  n.ignore("momentum");
  Value x = n.in(0), scale = n.in(1), bias = n.in(2), mean = n.in(3), variance = n.in(4);
  double epsilon = n.getFloat("epsilon", 1e-5f);
  if (!x)
    return;
  // Running statistics are kept by training frameworks, not trained.
  for (Value statistic : {mean, variance})
    if (auto parameter = statistic ? statistic.getDefiningOp<ParameterOp>() : ParameterOp())
      parameter->setAttr("train.buffer", n.importer.builder.getUnitAttr());
  int64_t rank = std::max<int64_t>(2, shapeOf(x).size());
  auto column = [&](Value v) { return channels(n, v, rank); };
  Value deviation = n.emit<RsqrtOp>({n.add(column(variance), n.scalar(epsilon, x))});
  Value y = n.mul(n.sub(x, column(mean)), n.mul(deviation, column(scale)));
  n.set(0, n.reshape(n.add(y, column(bias)), shapeOf(x)));
}

static void lpNormalization(Node &n) {
  Value x = n.in(0);
  int64_t p = n.getInt("p", 2);
  if (!x)
    return;
  int64_t axis = n.axis(n.getInt("axis", -1), shapeOf(x).size());
  if (p != 1 && p != 2)
    return n.fail("attribute 'p' is " + Twine(p) + ", should be 1 or 2");
  Value norm = p == 1 ? n.reduce<ReduceSumOp>(n.emit<AbsOp>({x}), {axis}, true)
                      : n.emit<SqrtOp>({n.reduce<ReduceSumOp>(n.mul(x, x), {axis}, true)});
  // A row of zeros stays zero.
  Value zero = n.scalar(0, x), empty = n.emit<EqualOp>({norm, zero});
  n.set(0, n.select(empty, zero, n.div(x, n.select(empty, n.scalar(1, x), norm))));
}

static void meanVarianceNormalization(Node &n) {
  Value x = n.in(0);
  std::optional<Ints> axes =
      n.axes(n.getInts("axes").value_or(Ints{0, 2, 3}), x ? shapeOf(x).size() : 0);
  if (!x || !axes)
    return;
  Value centred = n.sub(x, n.reduce<ReduceMeanOp>(x, *axes, true));
  Value deviation = n.emit<SqrtOp>({n.reduce<ReduceMeanOp>(n.mul(centred, centred), *axes, true)});
  n.set(0, n.div(centred, n.add(deviation, n.scalar(1e-9, x))));
}

ArrayRef<OpEntry> normOps() {
  static const OpEntry table[] = {
      {"", "LayerNormalization", 17, layerNormalization},
      {"", "RMSNormalization", 23, rmsNormalization},
      {"", "SimplifiedLayerNormalization", 1,
       rmsNormalization}, // ONNX Runtime's, in the standard domain by accident
      {"", "InstanceNormalization", 6, instanceNormalization},
      {"", "GroupNormalization", 18, groupNormalization},
      {"", "BatchNormalization", 9, batchNormalization},
      {"", "LpNormalization", 1, lpNormalization},
      {"", "MeanVarianceNormalization", 13, meanVarianceNormalization},
      {"com.microsoft", "SimplifiedLayerNormalization", 1, rmsNormalization},
      {"com.microsoft", "SkipLayerNormalization", 1, skipNorm<false>},
      {"com.microsoft", "SkipSimplifiedLayerNormalization", 1, skipNorm<true>},
  };
  return table;
}

} // namespace amc::importer
