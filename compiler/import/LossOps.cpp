// Losses that a model computes itself. The common case, a mean or sum of unweighted cross-entropy
// over classes in dimension 1, is the dialect's cross_entropy; weights and unreduced losses are
// computed from the log-probabilities.
#include "compiler/import/Node.h"

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

struct Loss {
  std::string reduction;
  std::optional<int64_t> ignore;
  Value labels, weight;
};

static std::optional<Loss> arguments(Node &n) {
  Loss loss;
  loss.reduction = n.getString("reduction", "mean");
  if (loss.reduction != "mean" && loss.reduction != "sum" && loss.reduction != "none")
    n.fail("attribute 'reduction' is '" + loss.reduction + "', should be mean, sum or none");
  if (n.hasAttr("ignore_index"))
    loss.ignore = n.getInt("ignore_index", 0);
  loss.labels = n.in(1);
  loss.weight = n.opt(2);
  if (loss.labels)
    loss.labels = n.cast(loss.labels, n.i64());
  return n.failed ? std::nullopt : std::optional<Loss>(loss);
}

/// [N, C, d1, …] with the classes last.
static Value classesLast(Node &n, Value x) {
  Ints permutation{0};
  for (size_t i = 2; i < shapeOf(x).size(); ++i)
    permutation.push_back(i);
  permutation.push_back(1);
  return n.transpose(x, permutation);
}

/// -weight[label] * logProbabilities[label], reduced. A mean divides by the weights that counted.
static Value pick(Node &n, Value logProbabilities, const Loss &loss) {
  Value last = classesLast(n, logProbabilities);
  if (!last)
    return last;
  Type element = elementOf(last);
  Value labels = loss.labels, counts;
  Value zero = n.full(0, {}, element), one = n.full(1, {}, element);
  if (loss.ignore) {
    Value ignored = n.emit<EqualOp>({labels, n.full(*loss.ignore, {}, n.i64())});
    labels = n.select(ignored, n.full(0, {}, n.i64()), labels);
    counts = n.select(ignored, zero, one);
  }
  if (loss.weight) {
    Value weights = n.emit<GatherOp>({loss.weight, labels}, {n.intAttr("axis", 0)});
    counts = counts ? n.mul(weights, counts) : weights;
  }
  if (!labels)
    return {};
  Ints column(shapeOf(labels));
  Ints rows = column;
  column.push_back(1);
  Value picked =
      n.reshape(n.emit<GatherElementsOp>({last, n.reshape(labels, column)},
                                         {n.intAttr("axis", static_cast<int64_t>(rows.size()))}),
                rows);
  Value each = n.emit<NegOp>({counts ? n.mul(picked, counts) : picked});
  Ints all = llvm::to_vector(llvm::seq<int64_t>(0, rows.size()));
  if (loss.reduction == "none")
    return each;
  if (loss.reduction == "mean" && !counts)
    return n.reduce<ReduceMeanOp>(each, all, false);
  Value sum = n.reduce<ReduceSumOp>(each, all, false);
  if (loss.reduction == "sum")
    return sum;
  return n.div(sum, n.reduce<ReduceSumOp>(n.broadcast(counts, rows), all, false));
}

static bool classes(Node &n, Value x) {
  if (x && shapeOf(x).size() < 2)
    n.fail("input should have rank 2 or more, classes in dimension 1");
  return x && !n.failed;
}

static void softmaxCrossEntropyLoss(Node &n) {
  Value scores = n.in(0);
  std::optional<Loss> loss = arguments(n);
  if (!loss || !classes(n, scores))
    return;
  Value logProbabilities;
  bool needsProbabilities = n.wants(1) || loss->weight || loss->reduction == "none";
  if (needsProbabilities)
    logProbabilities = n.emit<LogSoftmaxOp>({scores}, {n.intAttr("axis", 1)});
  if (n.wants(1))
    n.set(1, logProbabilities);
  if (loss->weight || loss->reduction == "none")
    return n.set(0, pick(n, logProbabilities, *loss));
  // No class has this number, so that nothing is ignored by accident.
  int64_t ignore = loss->ignore.value_or(INT64_MIN);
  Operation *made = n.build<CrossEntropyOp>({classesLast(n, scores), loss->labels},
                                            {n.intAttr("ignore_index", ignore)});
  if (!made)
    return n.set(0, {});
  Value sum = made->getResult(0);
  if (loss->reduction == "sum")
    return n.set(0, sum);
  Value count;
  if (loss->ignore) {
    Value counted =
        n.emit<NotOp>({n.emit<EqualOp>({loss->labels, n.full(*loss->ignore, {}, n.i64())})});
    Ints all = llvm::to_vector(llvm::seq<int64_t>(0, shapeOf(loss->labels).size()));
    count = n.reduce<ReduceSumOp>(n.cast(counted, elementOf(sum)), all, false);
  } else {
    count = n.scalar(elementCount(shapeOf(loss->labels)), sum);
  }
  n.set(0, n.div(sum, count));
}

static void negativeLogLikelihoodLoss(Node &n) {
  Value logProbabilities = n.in(0);
  std::optional<Loss> loss = arguments(n);
  if (loss && classes(n, logProbabilities))
    n.set(0, pick(n, logProbabilities, *loss));
}

ArrayRef<OpEntry> lossOps() {
  static const OpEntry table[] = {
      {"", "SoftmaxCrossEntropyLoss", 13, softmaxCrossEntropyLoss},
      {"", "NegativeLogLikelihoodLoss", 13, negativeLogLikelihoodLoss},
  };
  return table;
}

} // namespace amc::importer
