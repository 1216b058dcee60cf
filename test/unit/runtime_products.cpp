// matmul, linear, grouped_matmul and attention against loops in double.
#include "runtime/device/cpu/Gemm.h"
#include "runtime/plan/Philox.h"
#include "runtime_support.h"

namespace amc::rt::test {
namespace {

double widened(plan::DType dtype, double terms) { return tolerance(dtype) * std::max(1.0, std::sqrt(terms)); }

// [rows, inner] x [inner, columns], transposed as stored.
std::vector<double> product(const double *a, bool ta, const double *b, bool tb, uint64_t m, uint64_t n, uint64_t k) {
  std::vector<double> y;
  for (uint64_t i = 0; i < m; ++i)
    for (uint64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (uint64_t l = 0; l < k; ++l)
        sum += (ta ? a[l * m + i] : a[i * k + l]) * (tb ? b[j * k + l] : b[l * n + j]);
      y.push_back(sum);
    }
  return y;
}

uint64_t scratch(plan::DType dtype, uint64_t m, uint64_t n, uint64_t k) {
  return isFloat(dtype) ? workspace::product(m, n, k, dtypeBytes(dtype)) : 0;
}

Attributes flags(std::initializer_list<std::pair<const char *, bool>> all) {
  Attributes attributes;
  for (auto [name, set] : all)
    if (set)
      attributes.push_back(attribute(name, 1));
  return attributes;
}

TEST(RuntimeProducts, Matmul) {
  struct Size {
    uint64_t m, n, k;
  };
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16, plan::I32}) {
    if (onCuda() && !isFloat(dtype))
      continue; // refused
    for (const Size &s : {Size{3, 5, 7}, Size{1, 1, 1}, Size{33, 450, 65}, Size{400, 390, 40}, Size{40, 530, 600}, Size{4, 4, 0}, Size{0, 3, 2}})
      for (bool ta : {false, true})
        for (bool tb : {false, true}) {
          Array a = random(dtype, ta ? Shape{s.k, s.m} : Shape{s.m, s.k}, 1, -3, 3);
          Array b = random(dtype, tb ? Shape{s.n, s.k} : Shape{s.k, s.n}, 2, -3, 3);
          expectCall({"matmul", {a, b}, {{dtype, {s.m, s.n}}}, flags({{"transpose_a", ta}, {"transpose_b", tb}}), scratch(dtype, s.m, s.n, s.k), {}},
                     {product(a.values.data(), ta, b.values.data(), tb, s.m, s.n, s.k)},
                     widened(dtype, 9 * static_cast<double>(s.k)));
        }
  }
}

// Leading dimensions broadcast: [2, 1, m, k] x [3, k, n] and [2, 3, m, k] x [k, n].
TEST(RuntimeProducts, MatmulBatches) {
  for (plan::DType dtype : {plan::F32, plan::BF16})
    for (uint64_t m : {5, 300}) {
      uint64_t n = 4, k = 6;
      Array a = random(dtype, {2, 1, m, k}, 1), b = random(dtype, {3, k, n}, 2);
      std::vector<double> y;
      for (uint64_t i = 0; i < 2; ++i)
        for (uint64_t j = 0; j < 3; ++j) {
          std::vector<double> one = product(&a.values[i * m * k], false, &b.values[j * k * n], false, m, n, k);
          y.insert(y.end(), one.begin(), one.end());
        }
      expectCall({"matmul", {a, b}, {{dtype, {2, 3, m, n}}}, {}, scratch(dtype, 6 * m, n, k), {}}, {y}, 2e-6);
      Array tall = random(dtype, {2, 3, m, k}, 3), plain = random(dtype, {k, n}, 4);
      expectCall({"matmul", {tall, plain}, {{dtype, {2, 3, m, n}}}, {}, scratch(dtype, 6 * m, n, k), {}},
                 {product(tall.values.data(), false, plain.values.data(), false, 6 * m, n, k)}, 2e-6);
    }
}

std::vector<std::byte> encoded(const Array &x) {
  std::vector<std::byte> bytes(x.values.size() * dtypeBytes(x.dtype));
  for (size_t i = 0; i < x.values.size(); ++i)
    encode(x.dtype, x.values[i], bytes.data() + i * dtypeBytes(x.dtype));
  return bytes;
}

// What a product tiled over tokens stands on: the rows of a slice that starts at a multiple of the row tile, and knows how
// many there are in all, get the bits they have in the whole, whatever the library does with the number of rows.
TEST(RuntimeProducts, SlicesOfRowsHaveTheBitsOfTheWhole) {
  constexpr uint64_t tile = workspace::productWideRowTile; // of bf16 it is two
  Expected<std::unique_ptr<ThreadPool>> pool = ThreadPool::create(3);
  ASSERT_TRUE(pool.ok());
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16})
    for (bool transpose : {false, true})
      for (uint64_t n : {7, 100, 700})
        for (uint64_t k : {64, 333}) {
          const uint64_t rows = 3 * tile + 33, bytes = dtypeBytes(dtype);
          std::vector<std::byte> x = encoded(random(dtype, {rows, k}, 1)), w = encoded(random(dtype, {k, n}, 2));
          auto linear = [&](uint64_t begin, uint64_t end) {
            std::vector<std::byte> y((end - begin) * n * bytes), room(workspace::product(end - begin, n, k, bytes));
            std::byte *inputs[] = {x.data() + begin * k * bytes, w.data(), nullptr}, *result = y.data(), *scratch = room.data();
            RunFailure failure;
            cpu::RunContext context{**pool, failure};
            auto size = [](uint64_t number) { return static_cast<int64_t>(number); };
            cpu::createLinear(dtype, size(end - begin), size(k), size(n), transpose, size(rows))
                ->run({inputs, &result, &scratch}, context);
            return y;
          };
          std::vector<std::byte> slices;
          for (auto [begin, end] : {std::pair<uint64_t, uint64_t>{0, tile}, {tile, 3 * tile}, {3 * tile, rows}}) {
            std::vector<std::byte> slice = linear(begin, end);
            slices.insert(slices.end(), slice.begin(), slice.end());
          }
          EXPECT_EQ(linear(0, rows), slices) << dtypeName(dtype) << " " << n << " " << k;
        }
}

// A gradient summed over slices of weightGradRowBlock rows has the bits of the whole, if it is added up in fp32.
TEST(RuntimeProducts, SlicesOfRowsAddUpToTheWholeWeightGradient) {
  constexpr int64_t block = workspace::weightGradRowBlock, rows = 2 * block + 100, down = 300, across = 530;
  Expected<std::unique_ptr<ThreadPool>> pool = ThreadPool::create(3);
  ASSERT_TRUE(pool.ok());
  std::vector<cpu::BFloat16> x(rows * down), dy(rows * across), whole(down * across), sliced(down * across);
  std::vector<float> wideX(rows * down), wideDy(rows * across), wideWhole(down * across), sums(down * across);
  auto fill = [](std::vector<cpu::BFloat16> &narrow, std::vector<float> &wide, uint64_t seed) {
    Array values = random(plan::BF16, {narrow.size()}, seed);
    for (size_t i = 0; i < narrow.size(); ++i) {
      encode(plan::BF16, values.values[i], &narrow[i]);
      wide[i] = static_cast<float>(values.values[i]);
    }
  };
  fill(x, wideX, 1);
  fill(dy, wideDy, 2);
  std::vector<std::byte> scratch(workspace::product(down, across, rows, 2));
  auto add = [&](const auto *left, const auto *right, auto *result, bool narrow) {
    using S = std::remove_const_t<std::remove_pointer_t<decltype(left)>>;
    cpu::multiply<S>(**pool, cpu::ProductGrid::ofGradient<S>(down, across, rows), {left, down, true}, {right, across},
                     nullptr, result, scratch.data());
    for (int64_t row = 0; row < rows; row += block)
      cpu::multiplySums<S>(**pool, cpu::ProductGrid::ofGradient<S>(down, across, std::min(block, rows - row)),
                           {left + row * down, down, true}, {right + row * across, across}, row > 0, sums.data(),
                           scratch.data(), true);
    if (narrow)
      cpu::narrowRow(sums.data(), sliced.data(), down * across);
  };
  add(x.data(), dy.data(), whole.data(), true);
  EXPECT_EQ(std::memcmp(whole.data(), sliced.data(), whole.size() * 2), 0);
  add(wideX.data(), wideDy.data(), wideWhole.data(), false);
  EXPECT_EQ(std::memcmp(wideWhole.data(), sums.data(), sums.size() * 4), 0);
}

TEST(RuntimeProducts, LinearAndItsWeightGradient) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16})
    for (bool transpose : {false, true})
      for (bool biased : {false, true}) {
        uint64_t rows = 2 * 150, k = 70, n = 410;
        Array x = random(dtype, {2, 150, k}, 1), w = random(dtype, transpose ? Shape{n, k} : Shape{k, n}, 2);
        Array bias = biased ? random(dtype, {n}, 3) : Array{}, dy = random(dtype, {2, 150, n}, 4);
        std::vector<double> y = product(x.values.data(), false, w.values.data(), transpose, rows, n, k);
        for (uint64_t i = 0; biased && i < y.size(); ++i)
          y[i] += bias.values[i % n];
        expectCall({"linear", {x, w, bias}, {{dtype, {2, 150, n}}}, flags({{"transpose_w", transpose}}), scratch(dtype, rows, n, k), {}}, {y},
                   widened(dtype, k));
        const Array &left = transpose ? dy : x, &right = transpose ? x : dy;
        uint64_t down = transpose ? n : k, across = transpose ? k : n;
        expectCall({"linear_weight_grad", {x, dy}, {{dtype, {down, across}}}, flags({{"transpose_w", transpose}}),
                    scratch(dtype, down, across, rows), {}},
                   {product(left.values.data(), true, right.values.data(), false, down, across, rows)},
                   widened(dtype, rows));
      }
}

TEST(RuntimeProducts, Grouped) {
  uint64_t rows = 700, n = 600, groups = 5;
  for (auto [dtype, k] : {std::pair<plan::DType, uint64_t>(plan::F32, 12), {plan::F64, 12}, {plan::BF16, 12}, {plan::BF16, 136}})
    for (bool transpose : {false, true}) {
      Array x = random(dtype, {rows, k}, 1), dy = random(dtype, {rows, n}, 2);
      Array w = random(dtype, transpose ? Shape{groups, n, k} : Shape{groups, k, n}, 3);
      Array ids = randomIndices(plan::I64, {rows}, 4, 0, 4); // group 4 stays empty
      std::vector<double> y, dw(groups * k * n);
      for (uint64_t i = 0; i < rows; ++i) {
        auto e = static_cast<uint64_t>(ids.values[i]);
        auto one = product(&x.values[i * k], false, &w.values[e * k * n], transpose, 1, n, k);
        y.insert(y.end(), one.begin(), one.end());
        for (uint64_t a = 0; a < k; ++a)
          for (uint64_t b = 0; b < n; ++b)
            dw[e * k * n + (transpose ? b * k + a : a * n + b)] += x.values[i * k + a] * dy.values[i * n + b];
      }
      uint64_t bytes = workspace::groupedMatmul(rows, k, n, groups, dtypeBytes(dtype));
      uint64_t gradientBytes = workspace::groupedMatmulWeightGrad(rows, k, n, groups, dtypeBytes(dtype));
      expectCall({"grouped_matmul", {x, w, ids}, {{dtype, {rows, n}}}, flags({{"transpose_w", transpose}}), bytes, {}},
                 {y}, widened(dtype, k));
      Attributes attributes = flags({{"transpose_w", transpose}});
      attributes.push_back(attribute("groups", int64_t(groups)));
      expectCall({"grouped_matmul_weight_grad", {x, dy, ids}, {{dtype, w.shape}}, attributes, gradientBytes, {}}, {dw},
                 widened(dtype, rows));
      // A row without a group is zeros, and is added to nothing.
      Array some = ids;
      std::vector<double> someY = y, someDw = dw;
      for (uint64_t i = 0; i < rows; i += 3) {
        auto e = static_cast<uint64_t>(some.values[i]);
        some.values[i] = static_cast<double>(groups);
        std::fill_n(someY.begin() + static_cast<long>(i * n), n, 0.0);
        for (uint64_t a = 0; a < k; ++a)
          for (uint64_t b = 0; b < n; ++b)
            someDw[e * k * n + (transpose ? b * k + a : a * n + b)] -= x.values[i * k + a] * dy.values[i * n + b];
      }
      Attributes padded = flags({{"transpose_w", transpose}});
      padded.insert(padded.begin(), attribute("expected_rows", int64_t(rows / 2)));
      expectCall({"grouped_matmul", {x, w, some}, {{dtype, {rows, n}}}, padded, bytes, {}}, {someY}, widened(dtype, k));
      padded.push_back(attribute("groups", int64_t(groups)));
      expectCall({"grouped_matmul_weight_grad", {x, dy, some}, {{dtype, w.shape}}, padded, gradientBytes, {}}, {someDw},
                 widened(dtype, rows));
      for (int none : {9, 5}) { // 5 stands for no group only where ids are said to be padded
        ids.values[7] = none;
        Outcome bad = run({"grouped_matmul", {x, w, ids}, {{dtype, {rows, n}}}, flags({{"transpose_w", transpose}}), bytes, {}});
        ASSERT_FALSE(bad.status.ok());
        EXPECT_NE(bad.status.message().find("group " + std::to_string(none) + " at element 7 should be in [0, 5)"), std::string::npos)
            << bad.status.message();
      }
    }
}

// ---- attention

struct AttentionCase {
  const char *what;
  uint64_t batch, heads, keyHeads, queries, keys, width, valueWidth;
  int64_t left = -1, right = -1; // -1: absent
  double softcap = 0;
  bool padded = false, biased = false, average = false;
  double dropout = 0;
};

const AttentionCase attentions[] = {
    {"plain", 2, 3, 3, 5, 7, 8, 8},
    {"causal over several blocks", 1, 2, 2, 300, 300, 16, 16, -1, 0},
    {"grouped queries, causal", 2, 4, 2, 130, 130, 8, 8, -1, 0},
    {"sliding window", 1, 2, 1, 200, 200, 8, 8, 20, 0},
    {"window on both sides, other widths", 1, 2, 2, 90, 140, 8, 12, 9, 11},
    {"softcap", 1, 2, 2, 70, 70, 8, 8, -1, 0, 3.0},
    {"padding", 2, 2, 2, 66, 150, 8, 8, -1, -1, 0, true},
    {"padding and causal, masked rows zero", 2, 2, 2, 80, 80, 8, 8, -1, 0, 0, true},
    {"padding and causal, masked rows averaged", 2, 2, 2, 80, 80, 8, 8, -1, 0, 0, true, false, true},
    {"bias with softcap", 2, 2, 2, 70, 70, 8, 8, -1, 0, 2.0, false, true},
    {"bias, averaged", 2, 2, 1, 33, 140, 8, 8, -1, -1, 0, false, true, true},
    {"dropout", 2, 3, 3, 70, 132, 8, 8, -1, -1, 0, false, false, false, 0.3},
    {"dropout, causal, rows that start within a draw", 2, 4, 2, 131, 131, 8, 12, -1, 0, 0, false, false, false, 0.1},
    {"dropout, window, softcap, padding", 1, 2, 2, 90, 141, 8, 8, 9, 11, 2.0, true, false, false, 0.5},
    {"dropout, bias, averaged", 2, 2, 1, 33, 142, 8, 8, -1, -1, 0, false, true, true, 0.6},
    {"wide heads, grouped queries, causal", 1, 4, 2, 97, 97, 96, 128, -1, 0},
    {"wide heads, dropout", 1, 2, 2, 40, 70, 128, 72, -1, -1, 0, false, false, false, 0.3},
    {"the widest heads, window", 1, 2, 1, 70, 90, 256, 200, 30, 4},
};

// Seed, step and micro-batch of those that drop.
constexpr double dropoutCounters[] = {42, 3, 1};
constexpr int64_t dropoutStream = 7;

struct AttentionData {
  Array q, k, v, dy, padding, bias;
  std::vector<double> y, lse, dq, dk, dv;
};

AttentionData attend(const AttentionCase &c, plan::DType dtype) {
  AttentionData d;
  d.q = random(dtype, {c.batch, c.heads, c.queries, c.width}, 1, -2, 2);
  d.k = random(dtype, {c.batch, c.keyHeads, c.keys, c.width}, 2, -2, 2);
  d.v = random(dtype, {c.batch, c.keyHeads, c.keys, c.valueWidth}, 3, -2, 2);
  d.dy = random(dtype, {c.batch, c.heads, c.queries, c.valueWidth}, 4, -2, 2);
  if (c.padded) {
    d.padding = randomIndices(plan::BOOL, {c.batch, c.keys}, 5, 0, 2);
    for (uint64_t j = 0; j < 20; ++j)
      d.padding.values[j] = 0; // the first rows of a causal mask see nothing
  }
  if (c.biased) {
    d.bias = random(dtype, {1, c.heads, c.queries, c.keys}, 6, -1, 1);
    for (uint64_t i = 0; i < d.bias.values.size(); ++i)
      if (i % 7 == 0 || i / c.keys % 31 == 3) // every seventh, and whole rows
        d.bias.values[i] = -infinity;
  }
  d.y.resize(d.dy.values.size());
  d.dq.resize(d.q.values.size());
  d.dk.resize(d.k.values.size());
  d.dv.resize(d.v.values.size());
  double scale = 0.3;
  for (uint64_t b = 0; b < c.batch; ++b)
    for (uint64_t h = 0; h < c.heads; ++h)
      for (uint64_t i = 0; i < c.queries; ++i) {
        uint64_t kv = b * c.keyHeads + h / (c.heads / c.keyHeads), row = (b * c.heads + h) * c.queries + i;
        std::vector<double> score(c.keys, -infinity), cap(c.keys, 1), p(c.keys);
        double top = -infinity, sum = 0;
        for (uint64_t j = 0; j < c.keys; ++j) {
          int64_t ahead = static_cast<int64_t>(j) - static_cast<int64_t>(i);
          if ((c.right >= 0 && ahead > c.right) || (c.left >= 0 && -ahead > c.left) ||
              (c.padded && d.padding.values[b * c.keys + j] == 0))
            continue;
          double s = 0;
          for (uint64_t w = 0; w < c.width; ++w)
            s += d.q.values[row * c.width + w] * d.k.values[(kv * c.keys + j) * c.width + w];
          s *= scale;
          if (c.softcap > 0) {
            double t = std::tanh(s / c.softcap);
            s = c.softcap * t;
            cap[j] = 1 - t * t;
          }
          score[j] = c.biased ? s + d.bias.values[(h * c.queries + i) * c.keys + j] : s;
          top = std::max(top, score[j]);
        }
        bool masked = top == -infinity;
        if (masked && !c.average) {
          d.lse.push_back(-infinity);
          continue;
        }
        for (uint64_t j = 0; j < c.keys; ++j)
          sum += p[j] = masked ? 1 : std::exp(score[j] - top);
        d.lse.push_back((masked ? 0 : top) + std::log(sum));
        double delta = 0;
        std::vector<double> kept(c.keys, 1);
        DropoutMask mask(c.dropout, dropoutStream, dropoutCounters[0], dropoutCounters[1], dropoutCounters[2]);
        for (uint64_t j = 0; j < c.keys && c.dropout > 0; ++j)
          kept[j] = mask.keeps((row * c.keys + j) / 4)[(row * c.keys + j) % 4] ? mask.scale() : 0;
        for (uint64_t j = 0; j < c.keys; ++j) {
          p[j] /= sum;
          for (uint64_t w = 0; w < c.valueWidth; ++w)
            d.y[row * c.valueWidth + w] += kept[j] * p[j] * d.v.values[(kv * c.keys + j) * c.valueWidth + w];
        }
        for (uint64_t w = 0; w < c.valueWidth; ++w)
          delta += d.dy.values[row * c.valueWidth + w] * rounded(dtype, d.y[row * c.valueWidth + w]);
        for (uint64_t j = 0; j < c.keys; ++j) {
          double slope = -delta;
          for (uint64_t w = 0; w < c.valueWidth; ++w) {
            uint64_t at = (kv * c.keys + j) * c.valueWidth + w;
            slope += kept[j] * d.dy.values[row * c.valueWidth + w] * d.v.values[at];
            d.dv[at] += kept[j] * p[j] * d.dy.values[row * c.valueWidth + w];
          }
          slope *= masked ? 0 : p[j] * cap[j] * scale;
          for (uint64_t w = 0; w < c.width; ++w) {
            d.dq[row * c.width + w] += slope * d.k.values[(kv * c.keys + j) * c.width + w];
            d.dk[(kv * c.keys + j) * c.width + w] += slope * d.q.values[row * c.width + w];
          }
        }
      }
  return d;
}

void addDropout(Call &call, const char *kernel, double dropout, double step) {
  call.kernel = kernel;
  for (double counter : {dropoutCounters[0], step, dropoutCounters[2]})
    call.inputs.push_back(array(plan::I64, {}, {counter}));
  call.attributes.insert(call.attributes.end(), {attribute("dropout", dropout), attribute("stream", dropoutStream)});
}

TEST(RuntimeAttention, ForwardAndBackward) {
  for (const AttentionCase &c : attentions)
    for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16}) {
      SCOPED_TRACE(c.what);
      AttentionData d = attend(c, dtype);
      Attributes attributes = {attribute("masked_rows", c.average ? "average" : "zero"), attribute("scale", 0.3),
                               attribute("softcap", c.softcap)};
      if (c.left >= 0)
        attributes.push_back(attribute("left", c.left));
      if (c.right >= 0)
        attributes.push_back(attribute("right", c.right));
      uint64_t width = dtypeBytes(dtype);
      Shape rows = {c.batch, c.heads, c.queries}, values = d.dy.shape;
      // Wide heads' scores are far apart: a key takes most of several queries, whose probabilities round by 2^-9.
      double allowed = multiplied(dtype, dtype == plan::F64 ? 1e-10 : 2e-5) * (c.width > 64 ? 4 : 1);
      plan::DType statistic = statisticType(dtype);
      Call forward{"attention", {d.q, d.k, d.v, d.padding, d.bias}, {{dtype, values}, {statistic, rows}}, attributes,
                   workspace::attention(c.batch, c.heads, c.queries, c.width, c.valueWidth, width), {}};
      Call backward{"attention_backward",
                    {d.dy, d.q, d.k, d.v, array(dtype, values, d.y), array(statistic, rows, d.lse), d.padding, d.bias},
                    {{dtype, d.q.shape}, {dtype, d.k.shape}, {dtype, d.v.shape}}, attributes,
                    workspace::attentionBackward(c.batch, c.heads, c.keyHeads, c.queries, c.keys, c.width,
                                                 c.valueWidth, width), {}};
      if (c.dropout > 0) {
        addDropout(forward, "attention_dropout", c.dropout, dropoutCounters[1]);
        addDropout(backward, "attention_dropout_backward", c.dropout, dropoutCounters[1]);
      }
      expectCall(forward, {d.y, d.lse}, allowed);
      expectCall(backward, {d.dq, d.dk, d.dv}, allowed);
    }
}

// With one-hot values the result is the probabilities as they were dropped: the zeros and numbers that the dropout kernel
// makes of the softmax kernel's. Queries, keys and heads are no multiples of 4.
TEST(RuntimeAttention, DropsTheElementsThatDropoutDrops) {
  constexpr uint64_t batch = 2, heads = 3, queries = 67, keys = 133, width = 8;
  Array q = random(plan::F32, {batch, heads, queries, width}, 1, -2, 2),
        k = random(plan::F32, {batch, heads, keys, width}, 2, -2, 2);
  std::vector<double> scores, oneHot;
  for (uint64_t row = 0; row < batch * heads * queries; ++row)
    for (uint64_t j = 0; j < keys; ++j) {
      double s = 0;
      for (uint64_t w = 0; w < width; ++w)
        s += q.values[row * width + w] * k.values[(row / queries * keys + j) * width + w];
      scores.push_back(0.3 * s);
    }
  for (uint64_t i = 0; i < batch * heads * keys * keys; ++i)
    oneHot.push_back(i / keys % keys == i % keys);
  Shape full = {batch, heads, queries, keys}, rows = {batch, heads, queries};
  Call softmax{"softmax", {array(plan::F32, full, scores)}, {{plan::F32, full}}, {attribute("axis", 3)}, 0, {}};
  Call dropout{"dropout", {run(softmax).outputs[0]}, {{plan::F32, full}}, {attribute("probability", 0.4)}, 0, {}};
  for (double counter : dropoutCounters)
    dropout.inputs.push_back(array(plan::I64, {}, {counter}));
  dropout.attributes.push_back(attribute("stream", dropoutStream));
  Call attention{"attention", {q, k, array(plan::F32, {batch, heads, keys, keys}, oneHot), {}, {}}, {{plan::F32, full}, {plan::F32, rows}},
                 {attribute("masked_rows", "zero"), attribute("scale", 0.3), attribute("softcap", 0.0)},
                 workspace::attention(batch, heads, queries, width, keys, 4), {}};
  addDropout(attention, "attention_dropout", 0.4, dropoutCounters[1]);
  std::vector<double> decomposed = run(dropout).outputs[0].values, fused = run(attention).outputs[0].values;
  EXPECT_TRUE(close(fused, decomposed, 1e-6));
  uint64_t different = 0, zeros = 0;
  for (uint64_t i = 0; i < fused.size(); ++i) {
    different += (fused[i] == 0) != (decomposed[i] == 0);
    zeros += fused[i] == 0;
  }
  EXPECT_EQ(different, 0u);
  EXPECT_NEAR(static_cast<double>(zeros) / static_cast<double>(fused.size()), 0.4, 0.02);
}

// In evaluation (step 0), and with a probability of 0, the bits are those of attention without dropout.
TEST(RuntimeAttention, WithoutADropTheBitsArePlain) {
  for (plan::DType dtype : {plan::F32, plan::BF16}) {
    const AttentionCase &c = attentions[8];
    AttentionData d = attend(c, dtype);
    Shape rows = {c.batch, c.heads, c.queries};
    Attributes attributes = {attribute("masked_rows", "average"), attribute("right", 0), attribute("scale", 0.3),
                             attribute("softcap", c.softcap)};
    uint64_t bytes = dtypeBytes(dtype);
    Call forward{"attention", {d.q, d.k, d.v, d.padding, {}}, {{dtype, d.dy.shape}, {plan::F32, rows}}, attributes,
                 workspace::attention(c.batch, c.heads, c.queries, c.width, c.valueWidth, bytes), {}};
    Call backward{"attention_backward",
                  {d.dy, d.q, d.k, d.v, array(dtype, d.dy.shape, d.y), array(plan::F32, rows, d.lse), d.padding, {}},
                  {{dtype, d.q.shape}, {dtype, d.k.shape}, {dtype, d.v.shape}}, attributes,
                  workspace::attentionBackward(c.batch, c.heads, c.keyHeads, c.queries, c.keys, c.width, c.valueWidth, bytes), {}};
    std::vector<std::string> plain = run(forward).bytes, plainBackward = run(backward).bytes;
    for (auto [dropout, step] : {std::pair(0.4, 0.0), std::pair(0.0, 3.0), std::pair(0.4, 3.0)}) {
      Call f = forward, g = backward;
      addDropout(f, "attention_dropout", dropout, step);
      addDropout(g, "attention_dropout_backward", dropout, step);
      EXPECT_EQ(run(f).bytes == plain, dropout * step == 0);
      EXPECT_EQ(run(g).bytes == plainBackward, dropout * step == 0);
    }
  }
}

// A bias in fp32 beside data in bf16: the same values, the same bits.
TEST(RuntimeAttention, WideBiasOfNarrowData) {
  const AttentionCase &c = attentions[9];
  ASSERT_TRUE(c.biased);
  AttentionData d = attend(c, plan::BF16);
  Shape rows = {c.batch, c.heads, c.queries};
  Attributes attributes = {attribute("masked_rows", "zero"), attribute("scale", 0.3), attribute("softcap", c.softcap)};
  Call forward{"attention", {d.q, d.k, d.v, {}, d.bias}, {{plan::BF16, d.dy.shape}, {plan::F32, rows}}, attributes,
               workspace::attention(c.batch, c.heads, c.queries, c.width, c.valueWidth, 2), {}};
  Call backward{"attention_backward",
                {d.dy, d.q, d.k, d.v, array(plan::BF16, d.dy.shape, d.y), array(plan::F32, rows, d.lse), {}, d.bias},
                {{plan::BF16, d.q.shape}, {plan::BF16, d.k.shape}, {plan::BF16, d.v.shape}}, attributes,
                workspace::attentionBackward(c.batch, c.heads, c.keyHeads, c.queries, c.keys, c.width, c.valueWidth, 2), {}};
  std::vector<std::string> narrow = run(forward).bytes, narrowBackward = run(backward).bytes;
  ASSERT_EQ(narrow.size(), 2u);
  ASSERT_EQ(narrowBackward.size(), 3u);
  forward.inputs[4].dtype = backward.inputs[7].dtype = plan::F32;
  EXPECT_EQ(run(forward).bytes, narrow);
  EXPECT_EQ(run(backward).bytes, narrowBackward);
}

// A NaN in a query must not pass for a row with nothing to attend to.
TEST(RuntimeAttention, NaNStaysVisible) {
  Array q = random(plan::F32, {1, 1, 4, 8}, 1), k = random(plan::F32, {1, 1, 4, 8}, 2);
  q.values[8] = nan;
  Outcome o = run({"attention", {q, k, k, {}, {}}, {{plan::F32, {1, 1, 4, 8}}, {plan::F32, {1, 1, 4}}},
                   {attribute("masked_rows", "zero"), attribute("scale", 1.0), attribute("softcap", 0.0),
                    attribute("right", 0)}, workspace::attention(1, 1, 4, 8, 8, 4), {}});
  ASSERT_TRUE(o.status.ok()) << o.status.message();
  EXPECT_TRUE(std::isnan(o.outputs[0].values[8]));
  EXPECT_TRUE(std::isfinite(o.outputs[0].values[0]));
}

} // namespace
} // namespace amc::rt::test
