// linear_cross_entropy and its backward, and cross_entropy with the options they share, against loops in double; that
// the number of tiles in flight changes no bit.
#include "runtime/plan/CudaWorkspace.h"
#include "runtime_support.h"
#include <optional>

namespace amc::rt::test {
namespace {

using Values = std::vector<double>;

struct Problem {
  plan::DType dtype;
  bool transposeW = true, biased = false, weighted = false;
  double smoothing = 0, zLoss = 0, softcap = 0;
  // 6 tiles of 48 tokens and a part of one, a tile of the vocabulary and a part of one, pieces of 64 and 6 columns.
  uint64_t rows = 2, columns = 151, width = 70, classes = 700;
  int64_t inFlight = 16;
  bool wants[3] = {true, true, true}; // dhidden, dweight, dbias

  uint64_t tokens() const { return rows * columns; }
  plan::DType statistic() const { return dtype == plan::F64 ? plan::F64 : plan::F32; }
  workspace::LceShape shape() const {
    return {tokens(), width, classes, dtypeBytes(statistic()), dtype != statistic(), biased, uint64_t(inFlight)};
  }
  Shape weightShape() const { return transposeW ? Shape{classes, width} : Shape{width, classes}; }

  Array hidden() const { return random(dtype, {rows, columns, width}, 1); }
  Array weight() const { return random(dtype, weightShape(), 2); }
  Array bias() const { return biased ? random(dtype, {classes}, 3) : Array(); }
  Array labels() const {
    Array labels = randomIndices(plan::I64, {rows, columns}, 4, 0, static_cast<int64_t>(classes));
    labels.values[3] = labels.values[tokens() - 1] = -100;
    return labels;
  }
  Array classWeights() const { return weighted ? random(statistic(), {classes}, 5, 0.1, 2) : Array(); }
};

// What the formulas of LossOps.td give.
struct Answer {
  double loss = 0;
  Values lse, logits, dlogits, dhidden, dweight, dbias;
  Answer(const Problem &p, double dloss) {
    Array x = p.hidden(), w = p.weight(), bias = p.bias(), labels = p.labels(), weights = p.classWeights();
    uint64_t h = p.width, v = p.classes;
    dhidden.resize(p.tokens() * h);
    dweight.resize(h * v);
    dbias.resize(v);
    for (uint64_t r = 0; r < p.tokens(); ++r) {
      Values z(v), slope(v, 1);
      double sum = 0, target = 0;
      for (uint64_t c = 0; c < v; ++c) {
        z[c] = p.biased ? bias.values[c] : 0;
        for (uint64_t k = 0; k < h; ++k)
          z[c] += x.values[r * h + k] * w.values[p.transposeW ? c * h + k : k * v + c];
        logits.push_back(z[c]);
        if (p.softcap > 0) {
          double t = std::tanh(z[c] / p.softcap);
          z[c] = p.softcap * t;
          slope[c] = 1 - t * t;
        }
        sum += std::exp(z[c]);
      }
      lse.push_back(std::log(sum));
      bool ignored = labels.values[r] == -100;
      auto share = [&](uint64_t c) {
        double weight = p.weighted ? weights.values[c] : 1;
        return (double(c) == labels.values[r] ? (1 - p.smoothing) * weight : 0) + p.smoothing * weight / double(v);
      };
      for (uint64_t c = 0; c < v && !ignored; ++c) {
        loss += share(c) * (lse[r] - z[c]);
        target += share(c);
      }
      loss += ignored ? 0 : p.zLoss * lse[r] * lse[r];
      for (uint64_t c = 0; c < v; ++c) {
        double d = ignored ? 0
                           : dloss * ((target + 2 * p.zLoss * lse[r]) * std::exp(z[c] - lse[r]) - share(c)) * slope[c];
        dlogits.push_back(d);
        dbias[c] += d;
        for (uint64_t k = 0; k < h && d != 0; ++k) {
          uint64_t at = p.transposeW ? c * h + k : k * v + c;
          dhidden[r * h + k] += d * w.values[at];
          dweight[at] += d * x.values[r * h + k];
        }
      }
    }
  }
};

Attributes attributes(const Problem &p) {
  Attributes all = {attribute("ignore_index", -100), attribute("label_smoothing", p.smoothing),
                    attribute("softcap", p.softcap), attribute("tokens_in_flight", p.inFlight),
                    attribute("z_loss", p.zLoss)};
  if (p.transposeW)
    all.push_back(attribute("transpose_w", 1));
  return all;
}

Call forward(const Problem &p) {
  return {"linear_cross_entropy",
          {p.hidden(), p.weight(), p.bias(), p.labels(), p.classWeights()},
          {{p.statistic(), {}}, {p.statistic(), {p.rows, p.columns}}},
          attributes(p),
          workspace::linearCrossEntropy(p.shape()),
          {}};
}

Call backward(const Problem &p, double dloss, const Values &lse) {
  auto result = [&](int i, Shape shape) { return p.wants[i] ? Result{p.dtype, std::move(shape)} : Result(); };
  return {"linear_cross_entropy_backward",
          {array(p.statistic(), {}, {dloss}), p.hidden(), p.weight(), p.bias(), p.labels(), p.classWeights(),
           array(p.statistic(), {p.rows, p.columns}, lse)},
          {result(0, {p.rows, p.columns, p.width}), result(1, p.weightShape()),
           p.biased ? result(2, {p.classes}) : Result()},
          attributes(p),
          workspace::linearCrossEntropyBackward(p.shape(), p.wants[0], p.wants[1], p.biased && p.wants[2]),
          {}};
}

// In fp32 the sums over 302 rows or 700 classes; expectCall allows for the one rounding to bf16.
double allowed(plan::DType dtype) { return dtype == plan::F64 ? 1e-11 : 1e-5; }

void expectProblem(const Problem &p) {
  double dloss = 1;
  Answer answer(p, dloss);
  double statistic = p.dtype == plan::F64 ? 1e-11 : 4e-6;
  expectCall(forward(p), {{answer.loss}, answer.lse}, statistic);
  std::vector<Values> gradients;
  for (int i = 0; i < 3; ++i)
    if (bool there = p.wants[i] && (i < 2 || p.biased); there)
      gradients.push_back(i == 0 ? answer.dhidden : i == 1 ? answer.dweight : answer.dbias);
    else
      gradients.push_back({});
  expectCall(backward(p, dloss, answer.lse), gradients, multiplied(p.dtype, allowed(p.dtype)));
}

TEST(RuntimeLinearLoss, AgreesWithLoops) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16}) {
    expectProblem({.dtype = dtype});
    expectProblem({.dtype = dtype, .transposeW = false, .biased = true});
    expectProblem({.dtype = dtype, .biased = true, .weighted = true, .smoothing = 0.1, .zLoss = 1e-3, .softcap = 3});
    expectProblem({.dtype = dtype, .transposeW = false, .smoothing = 0.2, .softcap = 5});
  }
}

// Beyond the tiles of a GPU, in both directions (workspace::cuda::LceShape), as well as the CPU's.
TEST(RuntimeLinearLoss, SeveralTilesOfAnyDevice) {
  constexpr uint64_t tokens = workspace::cuda::lceTokenTile + 50, classes = workspace::cuda::lceVocabularyTile + 30;
  expectProblem({.dtype = plan::F32, .transposeW = false, .biased = true, .smoothing = 0.1, .softcap = 3, .rows = 1, .columns = tokens, .width = 6, .classes = classes});
  expectProblem({.dtype = plan::BF16, .biased = true, .rows = 1, .columns = tokens, .width = 8, .classes = classes});
}

TEST(RuntimeLinearLoss, AnyResultMayBeAbsent) {
  for (plan::DType dtype : {plan::F32, plan::BF16})
    for (int absent = 0; absent < 3; ++absent) {
      Problem p{.dtype = dtype, .biased = true, .columns = 20};
      p.wants[absent] = false;
      expectProblem(p);
    }
}

TEST(RuntimeLinearLoss, TilesInFlightChangeNoBit) {
  for (plan::DType dtype : {plan::F32, plan::BF16})
    for (bool transposeW : {false, true}) {
      Problem p{.dtype = dtype, .transposeW = transposeW, .biased = true, .smoothing = 0.1, .inFlight = 1};
      Answer answer(p, 1);
      std::vector<std::string> loss = run(forward(p)).bytes, gradients = run(backward(p, 1, answer.lse)).bytes;
      ASSERT_EQ(loss.size(), 2u);
      ASSERT_EQ(gradients.size(), 3u);
      for (int64_t inFlight : {2, 3, 7, 16, 256})
        for (unsigned threads : {1u, 2u, 8u}) {
          p.inFlight = inFlight;
          EXPECT_EQ(run(forward(p), threads).bytes, loss) << inFlight << " tiles, " << threads << " threads";
          EXPECT_EQ(run(backward(p, 1, answer.lse), threads).bytes, gradients)
              << inFlight << " tiles, " << threads << " threads";
        }
    }
}

// dweight in the place of the weight, whose tiles have been read by then; wide ones are read again by the next tokens.
TEST(RuntimeLinearLoss, NarrowWeightMayBeReplacedByItsGradient) {
  for (bool transposeW : {false, true}) {
    Problem p{.dtype = plan::BF16, .transposeW = transposeW, .biased = true, .inFlight = 2};
    Answer answer(p, 1);
    Call apart = backward(p, 1, answer.lse), inPlace = apart;
    inPlace.replaces = {-1, 2, -1};
    Outcome expected = run(apart);
    for (unsigned threads : {1u, 3u}) {
      Outcome actual = run(inPlace, threads);
      ASSERT_TRUE(actual.status.ok()) << actual.status.message();
      EXPECT_EQ(actual.bytes, expected.bytes);
    }
    p.dtype = plan::F32;
    inPlace = backward(p, 1, answer.lse);
    inPlace.replaces = {-1, 2, -1};
    EXPECT_FALSE(run(inPlace).status.ok());
  }
}

TEST(RuntimeLinearLoss, EmptyDimensions) {
  expectProblem({.dtype = plan::F32, .biased = true, .columns = 3, .width = 0, .classes = 5});
  Problem none{.dtype = plan::BF16, .biased = true, .columns = 0, .width = 4, .classes = 5};
  Array labels = array(plan::I64, {2, 0}, {});
  Call call = backward({.dtype = plan::BF16, .biased = true, .columns = 2, .width = 4, .classes = 5}, 1, Values(4));
  call.inputs[1] = none.hidden();
  call.inputs[4] = labels;
  call.inputs[6] = array(plan::F32, {2, 0}, {});
  call.outputs[0].shape = {2, 0, 4};
  call.workspace = workspace::linearCrossEntropyBackward(none.shape(), true, true, true);
  expectCall(call, {{}, Values(20), Values(5)}, 0);
}

// A label that is no class is found whatever the number of threads, the first of them named.
TEST(RuntimeLinearLoss, BadLabels) {
  Problem p{.dtype = plan::F32};
  Call calls[] = {forward(p), backward(p, 1, Values(p.tokens(), 5))};
  for (Call &call : calls) {
    Array &labels = call.inputs[call.kernel == "linear_cross_entropy" ? 3 : 4];
    for (auto [element, label] : {std::pair(290, 700), {140, -7}}) {
      labels.values[static_cast<size_t>(element)] = label;
      for (unsigned threads : {1u, 8u}) {
        Outcome bad = run(call, threads);
        ASSERT_FALSE(bad.status.ok());
        // A GPU is asked at the end of a section which of its instructions failed.
        std::string where = onCuda() ? call.kernel + ", node" : "instructions[0] (" + call.kernel + ", node)";
        EXPECT_EQ(bad.status.message(), where + ": label " + std::to_string(label) + " at element " + std::to_string(element) +
                                            " should be in [0, 700)");
      }
    }
  }
}

// What a diverged weight makes NaN is NaN in the loss, also where all logits of a tile of the vocabulary are.
TEST(RuntimeLinearLoss, NanIsSeen) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16}) {
    Problem p{.dtype = dtype, .columns = 3, .width = 4};
    for (uint64_t from : {uint64_t(0), uint64_t(699), workspace::lceVocabularyTile}) {
      Call call = forward(p);
      for (uint64_t i = from * p.width; i < p.classes * p.width; ++i)
        call.inputs[1].values[i] = NAN;
      Outcome outcome = run(call);
      ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
      EXPECT_TRUE(std::isnan(outcome.outputs[0].values[0])) << from;
    }
  }
}

// The unfused loss with the same options on the same logits.
TEST(RuntimeLinearLoss, UnfusedHasTheSameOptions) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16})
    for (bool weighted : {false, true}) {
      Problem p{.dtype = plan::F64, .weighted = weighted, .smoothing = 0.1, .zLoss = 1e-3, .columns = 40};
      Answer wide(p, 1);
      Array logits = array(dtype, {2, 40, 700}, wide.logits);
      // One class of width 1 per logit would be a matrix of 80 x 700; the logits as rounded are the answer's problem.
      Values lse, dlogits;
      double loss = 0;
      plan::DType statistic = dtype == plan::F64 ? plan::F64 : plan::F32;
      Array labels = p.labels(), weights = p.classWeights();
      weights = weighted ? array(statistic, {700}, weights.values) : Array();
      for (uint64_t r = 0; r < 80; ++r) {
        const double *z = logits.values.data() + r * 700;
        double sum = 0, target = 0;
        for (uint64_t c = 0; c < 700; ++c)
          sum += std::exp(z[c]);
        lse.push_back(std::log(sum));
        bool ignored = labels.values[r] == -100;
        auto share = [&](uint64_t c) {
          return (weighted ? weights.values[c] : 1) * ((double(c) == labels.values[r] ? 0.9 : 0) + 0.1 / 700);
        };
        for (uint64_t c = 0; c < 700 && !ignored; ++c) {
          loss += share(c) * (lse[r] - z[c]);
          target += share(c);
        }
        loss += ignored ? 0 : 1e-3 * lse[r] * lse[r];
        for (uint64_t c = 0; c < 700; ++c)
          dlogits.push_back(
              ignored ? 0 : ((target + 2e-3 * lse[r]) * std::exp(z[c] - lse[r]) - share(c)));
      }
      Attributes a = {attribute("ignore_index", -100), attribute("label_smoothing", 0.1), attribute("z_loss", 1e-3)};
      double statisticBound = dtype == plan::F64 ? 1e-11 : 4e-6;
      expectCall({"cross_entropy", {logits, labels, weights}, {{statistic, {}}, {statistic, {2, 40}}}, a, 0, {}},
                 {{loss}, lse}, statisticBound);
      Call call{"cross_entropy_backward",
                {array(statistic, {}, {1}), logits, labels, array(statistic, {2, 40}, lse), weights},
                {{dtype, {2, 40, 700}}}, a, 0, {}};
      expectCall(call, {dlogits}, allowed(dtype));
      Outcome apart = run(call);
      call.replaces = {1};
      EXPECT_EQ(apart.bytes, run(call).bytes);
    }
}

} // namespace
} // namespace amc::rt::test
