// Norms, softmax, reductions, losses, rotary and the optimizer against loops in double.
#include "runtime/plan/Workspace.h"
#include "runtime_support.h"
#include <algorithm>

namespace amc::rt::test {
namespace {

using Values = std::vector<double>;

TEST(RuntimeRows, RmsNorm) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16})
    for (bool weighted : {true, false})
      for (uint64_t n : {uint64_t(7), uint64_t(64), uint64_t(515)}) {
        uint64_t rows = 3 * 50;
        Shape shape = {3, 50, n}, lines = {3, 50};
        Array x = random(dtype, shape, 1, -3, 3), dy = random(dtype, shape, 2), w = weighted ? random(dtype, {n}, 3) : Array{};
        Values y, rstd, dx, dw(n);
        for (uint64_t r = 0; r < rows; ++r) {
          double squares = 0, mean = 0;
          for (uint64_t i = 0; i < n; ++i)
            squares += x.values[r * n + i] * x.values[r * n + i];
          double s = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
          rstd.push_back(s);
          auto g = [&](uint64_t i) { return dy.values[r * n + i] * (weighted ? w.values[i] : 1); };
          for (uint64_t i = 0; i < n; ++i)
            mean += g(i) * x.values[r * n + i] / static_cast<double>(n);
          for (uint64_t i = 0; i < n; ++i) {
            double v = x.values[r * n + i];
            y.push_back(v * s * (weighted ? w.values[i] : 1));
            dx.push_back(s * (g(i) - v * s * s * mean));
            dw[i] += dy.values[r * n + i] * v * s;
          }
        }
        double allowed = dtype == plan::F64 ? 1e-11 : 5e-6;
        expectCall({"rms_norm", {x, w}, {{dtype, shape}, {statisticType(dtype), lines}}, {attribute("epsilon", 1e-5)}, 0, {}}, {y, rstd},
                   allowed);
        Result dweight = weighted ? Result{dtype, {n}} : Result{};
        Call backward{"rms_norm_backward", {dy, x, array(statisticType(dtype), lines, rstd), w}, {{dtype, shape}, dweight}, {},
                      workspace::rmsNormBackward(rows, n, weighted, dtypeBytes(statisticType(dtype))), {}};
        expectCall(backward, {dx, weighted ? dw : Values{}}, allowed);
        Outcome apart = run(backward);
        for (int replaced : {0, 1}) {
          backward.replaces = {replaced};
          EXPECT_EQ(apart.bytes, run(backward).bytes);
        }
      }
}

TEST(RuntimeRows, LayerNorm) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16})
    for (bool weighted : {true, false})
      for (uint64_t n : {uint64_t(7), uint64_t(64), uint64_t(515)}) {
        uint64_t rows = 150;
        plan::DType statistic = statisticType(dtype);
        Shape shape = {rows, n}, lines = {rows};
        Array x = random(dtype, shape, 1, 1, 4), dy = random(dtype, shape, 2);
        Array w = weighted ? random(dtype, {n}, 3) : Array{}, bias = weighted ? random(dtype, {n}, 4) : Array{};
        Values y, means, rstd, dx, dw(n), db(n);
        double count = static_cast<double>(n);
        for (uint64_t r = 0; r < rows; ++r) {
          const double *v = &x.values[r * n], *d = &dy.values[r * n];
          double mean = 0, variance = 0, meanG = 0, meanGh = 0;
          for (uint64_t i = 0; i < n; ++i)
            mean += v[i] / count;
          for (uint64_t i = 0; i < n; ++i)
            variance += (v[i] - mean) * (v[i] - mean) / count;
          double s = 1 / std::sqrt(variance + 1e-5);
          auto g = [&](uint64_t i) { return d[i] * (weighted ? w.values[i] : 1); };
          for (uint64_t i = 0; i < n; ++i) {
            meanG += g(i) / count;
            meanGh += g(i) * (v[i] - mean) * s / count;
          }
          for (uint64_t i = 0; i < n; ++i) {
            double h = (v[i] - mean) * s;
            y.push_back(h * (weighted ? w.values[i] : 1) + (weighted ? bias.values[i] : 0));
            dx.push_back(s * (g(i) - meanG - h * meanGh));
            dw[i] += d[i] * h;
            db[i] += d[i];
          }
          means.push_back(mean);
          rstd.push_back(s);
        }
        double allowed = dtype == plan::F64 ? 1e-11 : 1e-5;
        expectCall({"layer_norm", {x, w, bias}, {{dtype, shape}, {statistic, lines}, {statistic, lines}},
                    {attribute("epsilon", 1e-5)}, 0, {}}, {y, means, rstd}, allowed);
        Result column = weighted ? Result{dtype, {n}} : Result{};
        expectCall({"layer_norm_backward", {dy, x, array(statistic, lines, means), array(statistic, lines, rstd), w},
                    {{dtype, shape}, column, column}, {},
                    workspace::layerNormBackward(rows, n, weighted, dtypeBytes(statistic)), {}},
                   {dx, weighted ? dw : Values{}, weighted ? db : Values{}}, allowed);
      }
}

TEST(RuntimeRows, Softmax) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16})
    for (int axis : {0, 1, 2}) {
      Shape shape = {3, 19, 40};
      Array x = random(dtype, shape, 1, -9, 9), dy = random(dtype, shape, 2);
      uint64_t n = shape[axis], inner = axis == 0 ? 19 * 40 : axis == 1 ? 40 : 1, total = 3 * 19 * 40;
      Values soft(total), logSoft(total), dSoft(total), dLog(total);
      for (uint64_t line = 0; line < total / n; ++line) {
        uint64_t base = line / inner * n * inner + line % inner;
        auto at = [&](uint64_t i) { return base + i * inner; };
        double sum = 0, dot = 0, dSum = 0;
        for (uint64_t i = 0; i < n; ++i)
          sum += std::exp(x.values[at(i)]);
        for (uint64_t i = 0; i < n; ++i) {
          soft[at(i)] = std::exp(x.values[at(i)]) / sum;
          logSoft[at(i)] = x.values[at(i)] - std::log(sum);
          dot += dy.values[at(i)] * rounded(dtype, soft[at(i)]);
          dSum += dy.values[at(i)];
        }
        for (uint64_t i = 0; i < n; ++i) {
          dSoft[at(i)] = rounded(dtype, soft[at(i)]) * (dy.values[at(i)] - dot);
          dLog[at(i)] = dy.values[at(i)] - std::exp(rounded(dtype, logSoft[at(i)])) * dSum;
        }
      }
      Attributes a = {attribute("axis", axis)};
      double allowed = dtype == plan::F64 ? 1e-12 : 3e-6;
      expectCall({"softmax", {x}, {{dtype, shape}}, a, 0, {}}, {soft}, allowed);
      expectCall({"log_softmax", {x}, {{dtype, shape}}, a, 0, {}}, {logSoft}, allowed);
      expectCall({"softmax_backward", {dy, array(dtype, shape, soft)}, {{dtype, shape}}, a, 0, {}}, {dSoft}, allowed);
      expectCall({"log_softmax_backward", {dy, array(dtype, shape, logSoft)}, {{dtype, shape}}, a, 0, {}}, {dLog}, allowed);
      Call inPlace{"softmax", {x}, {{dtype, shape}}, a, 0, {}};
      Outcome apart = run(inPlace);
      inPlace.replaces = {0};
      EXPECT_EQ(apart.bytes, run(inPlace).bytes);
    }
}

TEST(RuntimeRows, Reductions) {
  Shape shape = {4, 3, 70, 33};
  for (plan::DType dtype : {plan::F32, plan::F64, plan::F16, plan::I64, plan::I8})
    for (const std::vector<int64_t> &axes :
         {std::vector<int64_t>{}, {0}, {1}, {3}, {0, 2}, {1, 3}, {0, 1}, {2, 3}, {0, 1, 2, 3}}) {
      Array x = random(dtype, shape, 1, dtype == plan::F32 ? -2 : -1.2, dtype == plan::F32 ? 2 : 1.2);
      Shape out;
      for (int64_t i = 0; i < 4; ++i)
        out.push_back(std::find(axes.begin(), axes.end(), i) != axes.end() ? 1 : shape[i]);
      uint64_t results = elements(out), terms = elements(shape) / results;
      Values sum(results), mean(results), product(results, 1), top(results, -infinity), low(results, infinity);
      for (uint64_t i = 0; i < elements(shape); ++i) {
        uint64_t rest = i, to = 0, stride = 1;
        for (size_t d = 4; d-- > 0; rest /= shape[d]) {
          to += out[d] == 1 ? 0 : rest % shape[d] * stride;
          stride *= out[d];
        }
        sum[to] += x.values[i];
        product[to] *= x.values[i];
        top[to] = std::max(top[to], x.values[i]);
        low[to] = std::min(low[to], x.values[i]);
      }
      bool whole = isInteger(dtype);
      for (uint64_t i = 0; i < results; ++i) {
        mean[i] = sum[i] / static_cast<double>(terms);
        mean[i] = whole ? std::trunc(mean[i]) : mean[i];
        sum[i] = dtype == plan::I8 ? static_cast<int8_t>(static_cast<int64_t>(sum[i])) : sum[i];
      }
      Attributes a = {attribute("axes", axes), attribute("keepdims", true)};
      double allowed = whole ? 0 : tolerance(dtype) * 10;
      auto expect = [&](const char *name, const Values &y) { expectCall({name, {x}, {{dtype, out}}, a, 0, {}}, {y}, allowed); };
      expect("reduce_sum", sum);
      expect("reduce_mean", mean);
      expect("reduce_max", top);
      expect("reduce_min", low);
      if (!whole)
        expect("reduce_prod", product);
    }
  Array longRow = random(plan::F32, {300000}, 5);
  double total = 0;
  for (double v : longRow.values)
    total += v;
  expectCall({"reduce_sum", {longRow}, {{plan::F32, {}}}, {attribute("axes", std::vector<int64_t>{0}), attribute("keepdims", false)}, 0, {}},
             {{total}}, 1e-5);
  Array withNan = array(plan::F32, {1, 3}, {1, nan, 2});
  expectCall({"reduce_max", {withNan}, {{plan::F32, {1}}}, {attribute("axes", std::vector<int64_t>{1}), attribute("keepdims", false)}, 0, {}},
             {{nan}}, 0);
}

TEST(RuntimeRows, CrossEntropy) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16}) {
    plan::DType statistic = statisticType(dtype);
    uint64_t rows = 2 * 70, n = 333;
    Array logits = random(dtype, {2, 70, n}, 1, -9, 9), labels = randomIndices(plan::I64, {2, 70}, 2, 0, 333);
    labels.values[3] = labels.values[77] = -100;
    Values lse, dlogits;
    double loss = 0, dloss = 0.25;
    for (uint64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (uint64_t i = 0; i < n; ++i)
        sum += std::exp(logits.values[r * n + i]);
      lse.push_back(std::log(sum));
      bool ignored = labels.values[r] == -100;
      if (!ignored)
        loss += lse[r] - logits.values[r * n + static_cast<uint64_t>(labels.values[r])];
      for (uint64_t i = 0; i < n; ++i)
        dlogits.push_back(ignored ? 0 : dloss * (std::exp(logits.values[r * n + i] - lse[r]) -
                                                 (static_cast<double>(i) == labels.values[r])));
    }
    Attributes a = {attribute("ignore_index", -100)};
    double allowed = dtype == plan::F64 ? 1e-12 : 3e-6;
    expectCall({"cross_entropy", {logits, labels, {}}, {{statistic, {}}, {statistic, {2, 70}}}, a, 0, {}}, {{loss}, lse}, allowed);
    Call backward{"cross_entropy_backward", {array(statistic, {}, {dloss}), logits, labels, array(statistic, {2, 70}, lse), {}},
                  {{dtype, {2, 70, n}}}, a, 0, {}};
    expectCall(backward, {dlogits}, allowed);
    Outcome apart = run(backward);
    backward.replaces = {1};
    EXPECT_EQ(apart.bytes, run(backward).bytes);
    for (auto [element, label] : {std::pair(90, 333), {50, -7}}) { // always the first of them
      labels.values[static_cast<size_t>(element)] = label;
      for (unsigned threads : {1u, 8u}) {
        Outcome bad = run({"cross_entropy", {logits, labels, {}}, {{statistic, {}}, {statistic, {2, 70}}}, a, 0, {}}, threads);
        ASSERT_FALSE(bad.status.ok());
        EXPECT_EQ(bad.status.message(), std::string(onCuda() ? "cross_entropy, node" : "instructions[0] (cross_entropy, node)") +
                                            ": label " + std::to_string(label) + " at element " + std::to_string(element) +
                                            " should be in [0, 333)");
      }
    }
  }
  Array labels = array(plan::I64, {2, 3}, {1, 2, 3, 4, 5, 6});
  expectCall({"shift_labels", {labels}, {{plan::I64, {2, 3}}}, {attribute("ignore_index", -1)}, 0, {}},
             {{2, 3, -1, 5, 6, -1}}, 0);
}

TEST(RuntimeRows, Rotary) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16})
    for (bool interleaved : {false, true})
      for (const Shape &table : {Shape{1, 1, 9, 24}, Shape{2, 1, 9, 24}, Shape{9, 1}}) {
        Shape shape = {2, 3, 9, 24};
        Array x = random(dtype, shape, 1), cos = random(dtype, table, 2), sin = random(dtype, table, 3);
        Values y(x.values.size()), dx(x.values.size());
        for (uint64_t i = 0; i < x.values.size(); ++i) {
          uint64_t d = i % 24, s = i / 24 % 9, b = i / 24 / 9 / 3;
          uint64_t at = table.size() == 2 ? s : (table[0] == 2 ? b * 9 + s : s) * 24;
          uint64_t step = table.size() == 2 ? 0 : 1;
          bool first = interleaved ? d % 2 == 0 : d < 12;
          uint64_t distance = interleaved ? 1 : 12, partner = first ? i + distance : i - distance;
          uint64_t dp = first ? d + distance : d - distance;
          double c = cos.values[at + d * step], sn = sin.values[at + d * step], snPartner = sin.values[at + dp * step];
          y[i] = x.values[i] * c + (first ? -x.values[partner] : x.values[partner]) * sn;
          dx[i] = x.values[i] * c + (first ? 1 : -1) * x.values[partner] * snPartner;
        }
        Attributes a;
        if (interleaved)
          a.push_back(attribute("interleaved", 1));
        Call call{"rotary", {x, cos, sin}, {{dtype, shape}}, a, 0, {}};
        expectCall(call, {y}, tolerance(dtype));
        Outcome apart = run(call);
        call.replaces = {0};
        EXPECT_EQ(apart.bytes, run(call).bytes);
        expectCall({"rotary_backward", {x, cos, sin}, {{dtype, shape}}, a, 0, {}}, {dx}, tolerance(dtype));
        if (dtype != plan::BF16)
          continue;
        // Tables in fp32 beside data in bf16: the same values, the same bits.
        Array wideCos = cos, wideSin = sin;
        wideCos.dtype = wideSin.dtype = plan::F32;
        for (const auto &[c, s] : {std::pair{wideCos, sin}, {cos, wideSin}, {wideCos, wideSin}})
          EXPECT_EQ(apart.bytes, run({"rotary", {x, c, s}, {{dtype, shape}}, a, 0, {}}).bytes);
      }
}

TEST(RuntimeRows, NormsOfGradientsAndClipping) {
  Array x = random(plan::F32, {3, 7001}, 1, -2, 2);
  double squares = 0;
  for (double v : x.values)
    squares += v * v;
  expectCall({"squared_norm", {x}, {{plan::F64, {}}}, {}, 0, {}}, {{squares}}, 1e-13);
  Array narrow = random(plan::BF16, {3, 7001}, 1, -2, 2);
  squares = 0;
  for (double v : narrow.values)
    squares += v * v;
  expectCall({"squared_norm", {narrow}, {{plan::F64, {}}}, {}, 0, {}}, {{squares}}, 1e-13);
  Array a = array(plan::F64, {}, {9}), b = array(plan::F64, {}, {16});
  auto clip = [&](double limit, double scale) {
    expectCall({"clip_scale", {a, b}, {{plan::F32, {}}, {plan::F32, {}}}, {attribute("max_norm", limit)}, 0, {}},
               {Values{5}, Values{scale}}, 1e-7);
  };
  clip(1.0, 1 / 5.000001);
  clip(100.0, 1);
  clip(0.0, 1);
}

TEST(RuntimeRows, Updates) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16}) {
    uint64_t n = 20011;
    Array p = random(dtype, {n}, 1), g = random(dtype, {n}, 2), m = random(dtype, {n}, 3), v = random(dtype, {n}, 4, 0, 1);
    Array scale = array(plan::F32, {}, {0.5}), lr = array(plan::F64, {}, {0.01}), step = array(plan::I64, {}, {3});
    Values p2, m2, v2, momentum, p3;
    for (uint64_t i = 0; i < n; ++i) {
      double gi = g.values[i] * 0.5;
      m2.push_back(m.values[i] + (gi - m.values[i]) * (1 - 0.9));
      v2.push_back(v.values[i] * 0.99 + gi * gi * (1 - 0.99));
      p2.push_back(p.values[i] * (1 - 0.01 * 0.1) -
                   0.01 / (1 - std::pow(0.9, 3)) * m2[i] / (std::sqrt(v2[i]) / std::sqrt(1 - std::pow(0.99, 3)) + 1e-8));
      double decayed = gi + 0.1 * p.values[i];
      momentum.push_back(0.9 * m.values[i] + decayed);
      p3.push_back(p.values[i] - 0.01 * (decayed + 0.9 * momentum[i]));
    }
    double allowed = dtype == plan::F64 ? 1e-12 : 1e-6;
    expectCall({"adamw", {p, g, m, v, scale, lr, step}, {{dtype, {n}}, {dtype, {n}}, {dtype, {n}}},
                {attribute("beta1", 0.9), attribute("beta2", 0.99), attribute("epsilon", 1e-8), attribute("weight_decay", 0.1)},
                0, {0, 2, 3}}, {p2, m2, v2}, allowed);
    expectCall({"sgd", {p, g, scale, lr, step, m}, {{dtype, {n}}, {dtype, {n}}},
                {attribute("momentum", 0.9), attribute("weight_decay", 0.1), attribute("nesterov", 1)}, 0, {0, 5}},
               {p3, momentum}, allowed);
    Values plain, sum;
    for (uint64_t i = 0; i < n; ++i) {
      plain.push_back(p.values[i] - 0.01 * 0.5 * g.values[i]);
      sum.push_back(p.values[i] + g.values[i]);
    }
    expectCall({"sgd", {p, g, scale, lr, step, {}}, {{dtype, {n}}}, {attribute("momentum", 0.0), attribute("weight_decay", 0.0)},
                0, {0}}, {plain}, allowed);
    expectCall({"accumulate", {p, g, array(plan::I64, {}, {0})}, {{dtype, {n}}}, {}, 0, {0}}, {g.values}, 0);
    expectCall({"accumulate", {p, g, array(plan::I64, {}, {2})}, {{dtype, {n}}}, {}, 0, {0}}, {sum}, allowed);
  }
}

// bf16 and fp32 in any mixture, and a master in fp32 that the bf16 parameter is the rounding of.
TEST(RuntimeRows, UpdatesOfMixedPrecision) {
  constexpr plan::DType narrow = plan::BF16, wide = plan::F32;
  uint64_t n = 20011;
  Array scale = array(wide, {}, {0.5}), lr = array(plan::F64, {}, {0.01}), step = array(plan::I64, {}, {3});
  struct Types {
    plan::DType p, g, m, v;
    bool master;
  };
  for (Types t : {Types{narrow, narrow, narrow, narrow, false}, {narrow, narrow, wide, wide, true}, {narrow, wide, wide, narrow, false},
                  {wide, narrow, narrow, wide, false}, {narrow, narrow, narrow, narrow, true}, {narrow, wide, wide, wide, true}}) {
    Array g = random(t.g, {n}, 2), m = random(t.m, {n}, 3), v = random(t.v, {n}, 4, 0, 1), master = random(wide, {n}, 1);
    Array p = array(t.p, {n}, t.master ? master.values : random(t.p, {n}, 1).values);
    const Values &from = t.master ? master.values : p.values;
    Values p2, m2, v2, p3, momentum, sum;
    for (uint64_t i = 0; i < n; ++i) {
      double gi = g.values[i] * 0.5, decayed = gi + 0.1 * from[i];
      m2.push_back(m.values[i] + (gi - m.values[i]) * (1 - 0.9));
      v2.push_back(v.values[i] * 0.99 + gi * gi * (1 - 0.99));
      p2.push_back(from[i] * (1 - 0.01 * 0.1) -
                   0.01 / (1 - std::pow(0.9, 3)) * m2[i] / (std::sqrt(v2[i]) / std::sqrt(1 - std::pow(0.99, 3)) + 1e-8));
      momentum.push_back(0.9 * m.values[i] + decayed);
      p3.push_back(from[i] - 0.01 * momentum[i]);
      sum.push_back(v.values[i] + g.values[i]);
    }
    Call adamw{"adamw", {p, g, m, v, scale, lr, step, {}}, {{t.p, {n}}, {t.m, {n}}, {t.v, {n}}},
               {attribute("beta1", 0.9), attribute("beta2", 0.99), attribute("epsilon", 1e-8), attribute("weight_decay", 0.1)},
               0, {0, 2, 3}};
    Call sgd{"sgd", {p, g, scale, lr, step, m, {}}, {{t.p, {n}}, {t.m, {n}}},
             {attribute("momentum", 0.9), attribute("weight_decay", 0.1)}, 0, {0, 5}};
    std::vector<Values> afterAdamw{p2, m2, v2}, afterSgd{p3, momentum};
    if (t.master) {
      adamw.inputs[7] = sgd.inputs[6] = master;
      adamw.outputs.push_back({wide, {n}});
      sgd.outputs.push_back({wide, {n}});
      adamw.replaces.push_back(7);
      sgd.replaces.push_back(6);
      afterAdamw.push_back(p2);
      afterSgd.push_back(p3);
    }
    expectCall(adamw, afterAdamw, 1e-6);
    expectCall(sgd, afterSgd, 1e-6);
    for (const Call *call : {&adamw, &sgd}) { // exactly the rounding of the master
      Outcome o = run(*call);
      for (uint64_t i = 0; t.master && i < n; ++i)
        ASSERT_EQ(o.outputs[0].values[i], rounded(narrow, o.outputs.back().values[i])) << i;
    }
    if (t.v == t.g || t.v == wide)
      expectCall({"accumulate", {v, g, array(plan::I64, {}, {2})}, {{t.v, {n}}}, {}, 0, {0}}, {sum}, 1e-6);
  }
  // A master of an fp32 parameter, and f64 beside fp32, are refused.
  Array p = random(wide, {9}, 1), other = random(plan::F64, {9}, 1);
  Attributes a = {attribute("momentum", 0.0), attribute("weight_decay", 0.0)};
  EXPECT_FALSE(run({"sgd", {p, p, scale, lr, step, {}, p}, {{wide, {9}}, {wide, {9}}}, a, 0, {0, 6}}).status.ok());
  EXPECT_FALSE(run({"sgd", {p, other, scale, lr, step, {}, {}}, {{wide, {9}}}, a, 0, {0}}).status.ok());
}

} // namespace
} // namespace amc::rt::test
