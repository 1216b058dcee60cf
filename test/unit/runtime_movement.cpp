// Kernels that move elements or are driven by indices, against index formulas; dtypes of every width.
#include "runtime/plan/Workspace.h"
#include "runtime_support.h"
#include <algorithm>
#include <numeric>

namespace amc::rt::test {
namespace {

using Values = std::vector<double>;
using Index = std::vector<uint64_t>;

Index indexOf(uint64_t flat, const Shape &shape) {
  Index index(shape.size());
  for (size_t d = shape.size(); d-- > 0; flat /= shape[d])
    index[d] = flat % shape[d];
  return index;
}
uint64_t flatOf(const Index &index, const Shape &shape) {
  uint64_t flat = 0;
  for (size_t d = 0; d < shape.size(); ++d)
    flat = flat * shape[d] + index[d];
  return flat;
}
// Values of a tensor by index.
Values generate(const Shape &shape, const std::function<double(Index)> &f) {
  Values y;
  for (uint64_t i = 0; i < elements(shape); ++i)
    y.push_back(f(indexOf(i, shape)));
  return y;
}

const plan::DType widths[] = {plan::F32, plan::F64, plan::BF16, plan::I8, plan::BOOL};
Array sample(plan::DType dtype, const Shape &shape, uint64_t seed) {
  return dtype == plan::BOOL ? randomIndices(dtype, shape, seed, 0, 2) : random(dtype, shape, seed, -100, 100);
}

TEST(RuntimeMovement, Transpose) {
  struct Case {
    Shape shape;
    std::vector<int64_t> permutation;
  };
  for (const Case &c : {Case{{130, 67}, {1, 0}}, Case{{2, 65, 3, 16}, {0, 2, 1, 3}}, Case{{2, 3, 70, 20}, {0, 1, 3, 2}},
                        Case{{5, 6, 7}, {2, 0, 1}}, Case{{3, 4, 5, 6}, {3, 2, 1, 0}}, Case{{2, 1, 3}, {1, 0, 2}},
                        Case{{}, {}}, Case{{0, 4}, {1, 0}}, Case{{9, 33, 8, 1}, {2, 3, 0, 1}}})
    for (plan::DType dtype : widths) {
      Array x = sample(dtype, c.shape, 1);
      Shape out;
      for (int64_t p : c.permutation)
        out.push_back(c.shape[static_cast<size_t>(p)]);
      Values y = generate(out, [&](Index index) {
        Index from(index.size());
        for (size_t d = 0; d < index.size(); ++d)
          from[static_cast<size_t>(c.permutation[d])] = index[d];
        return x.values[flatOf(from, c.shape)];
      });
      expectCall({"transpose", {x}, {{dtype, out}}, {attribute("permutation", c.permutation)}, 0, {}}, {y}, 0);
    }
}

TEST(RuntimeMovement, SliceConcatBroadcast) {
  struct Case {
    Shape shape;
    std::vector<int64_t> starts, sizes, steps;
  };
  for (plan::DType dtype : widths) {
    for (const Case &c : {Case{{10, 20}, {2, 3}, {4, 5}, {2, 3}}, Case{{10, 20}, {9, 19}, {5, 20}, {-2, -1}},
                          Case{{4, 5, 60000}, {1, 0, 7}, {2, 5, 50000}, {1, 1, 1}}, Case{{3}, {0}, {0}, {1}},
                          Case{{3, 8}, {2, 0}, {1, 8}, {1000000, 1}}}) {
      if (dtype != plan::F32 && elements(c.shape) > 1000)
        continue;
      Array x = sample(dtype, c.shape, 1);
      Shape out(c.sizes.begin(), c.sizes.end());
      Values y = generate(out, [&](Index index) {
        for (size_t d = 0; d < index.size(); ++d)
          index[d] = static_cast<uint64_t>(c.starts[d] + static_cast<int64_t>(index[d]) * c.steps[d]);
        return x.values[flatOf(index, c.shape)];
      });
      expectCall({"slice", {x}, {{dtype, out}},
                  {attribute("starts", c.starts), attribute("sizes", c.sizes), attribute("steps", c.steps)}, 0, {}}, {y}, 0);
    }
    Array a = sample(dtype, {3, 2, 5}, 2), b = sample(dtype, {3, 4, 5}, 3), c = sample(dtype, {3, 0, 5}, 4);
    Values joined = generate({3, 6, 5}, [&](Index i) {
      return i[1] < 2 ? a.values[flatOf(i, a.shape)] : b.values[flatOf({i[0], i[1] - 2, i[2]}, b.shape)];
    });
    expectCall({"concat", {a, c, b}, {{dtype, {3, 6, 5}}}, {attribute("axis", 1)}, 0, {}}, {joined}, 0);
    Array row = sample(dtype, {4, 1, 3}, 5);
    Values wide = generate({2, 4, 5, 3}, [&](Index i) { return row.values[flatOf({i[1], 0, i[3]}, row.shape)]; });
    expectCall({"broadcast", {row}, {{dtype, {2, 4, 5, 3}}}, {attribute("shape", std::vector<int64_t>{2, 4, 5, 3})}, 0, {}}, {wide}, 0);
  }
}

TEST(RuntimeMovement, PadFullIotaTriangle) {
  for (plan::DType dtype : widths) {
    Array x = sample(dtype, {3, 4, 5}, 1);
    std::vector<int64_t> low = {1, 0, 2}, high = {0, 3, 1}, interior = {0, 1, 2};
    Shape out = {4, 10, 16};
    double padding = dtype == plan::BOOL ? 1 : 7;
    Values y = generate(out, [&](Index index) {
      Index from(3);
      for (size_t d = 0; d < 3; ++d) {
        int64_t at = static_cast<int64_t>(index[d]) - low[d], step = interior[d] + 1;
        if (at < 0 || at % step || at / step >= static_cast<int64_t>(x.shape[d]))
          return padding;
        from[d] = static_cast<uint64_t>(at / step);
      }
      return x.values[flatOf(from, x.shape)];
    });
    expectCall({"pad", {x}, {{dtype, out}},
                {attribute("low", low), attribute("high", high), attribute("interior", interior), attribute("value", padding)}, 0, {}}, {y}, 0);
    std::string name(dtypeName(dtype));
    expectCall({"full", {}, {{dtype, {2, 3}}},
                {attribute("value", 1.0), attribute("shape", std::vector<int64_t>{2, 3}), attribute("element", name.c_str())}, 0, {}},
               {Values(6, 1)}, 0);
    if (dtype != plan::BOOL)
      expectCall({"iota", {}, {{dtype, {2, 4, 3}}},
                  {attribute("start", 5.0), attribute("step", -2.0), attribute("axis", 1),
                   attribute("shape", std::vector<int64_t>{2, 4, 3}), attribute("element", name.c_str())}, 0, {}},
                 {generate({2, 4, 3}, [](Index i) { return 5 - 2 * static_cast<double>(i[1]); })}, 0);
    for (bool upper : {false, true})
      for (int64_t k : {-9, -1, 0, 2, 9}) {
        Values kept = generate(x.shape, [&](Index i) {
          int64_t d = static_cast<int64_t>(i[2]) - static_cast<int64_t>(i[1]);
          return (upper ? d >= k : d <= k) ? x.values[flatOf(i, x.shape)] : 0;
        });
        expectCall({"triangle", {x}, {{dtype, x.shape}}, {attribute("upper", upper), attribute("k", k)}, 0, {}}, {kept}, 0);
      }
  }
}

bool isNarrow(plan::DType dtype) { return dtype == plan::BF16 || dtype == plan::F16; }
uint64_t sortedSources(plan::DType dtype, uint64_t destinations, uint64_t sources) {
  return isNarrow(dtype) ? workspace::sortedSources(destinations, sources) : 0;
}

TEST(RuntimeIndices, GatherAndItsGradient) {
  for (auto [dtype, idType] : {std::pair{plan::F32, plan::I64}, {plan::F32, plan::I32}, {plan::F64, plan::I64},
                               {plan::BF16, plan::I64}, {plan::F16, plan::I32}})
    for (int axis : {0, 1, 2}) {
      Shape shape = {6, 7, 130}, out = shape;
      Array x = random(dtype, shape, 1), ids = randomIndices(idType, {2, 3}, 2, -6, 6);
      out.erase(out.begin() + axis);
      out.insert(out.begin() + axis, {2, 3});
      auto source = [&](const Index &i) {
        Index from(i.begin(), i.begin() + axis);
        int64_t id = static_cast<int64_t>(ids.values[i[axis] * 3 + i[axis + 1]]);
        from.push_back(static_cast<uint64_t>(id < 0 ? id + static_cast<int64_t>(shape[axis]) : id));
        from.insert(from.end(), i.begin() + axis + 2, i.end());
        return flatOf(from, shape);
      };
      Values y = generate(out, [&](Index i) { return x.values[source(i)]; });
      expectCall({"gather", {x, ids}, {{dtype, out}}, {attribute("axis", axis)}, 0, {}}, {y}, 0);
      Array dy = random(dtype, out, 3);
      Values dx(elements(shape));
      for (uint64_t i = 0; i < elements(out); ++i)
        dx[source(indexOf(i, out))] += dy.values[i];
      expectCall({"gather_backward", {dy, ids}, {{dtype, shape}},
                  {attribute("axis", axis), attribute("shape", std::vector<int64_t>{6, 7, 130})},
                  sortedSources(dtype, shape[static_cast<size_t>(axis)], 6), {}}, {dx}, 1e-6);
    }
}

TEST(RuntimeIndices, Embedding) {
  for (auto [dtype, width] : {std::pair{plan::F32, uint64_t(3)}, {plan::F32, 600}, {plan::F64, 3}, {plan::BF16, 3},
                              {plan::BF16, 600}, {plan::F16, 600}}) {
    Array table = random(dtype, {40, width}, 1), ids = randomIndices(plan::I64, {4, 25}, 2, 0, 40);
    Array dy = random(dtype, {4, 25, width}, 3);
    Values y, dtable(40 * width);
    for (uint64_t i = 0; i < 100; ++i)
      for (uint64_t d = 0; d < width; ++d) {
        uint64_t at = static_cast<uint64_t>(ids.values[i]) * width + d;
        y.push_back(table.values[at]);
        dtable[at] += dy.values[i * width + d];
      }
    expectCall({"embedding", {table, ids}, {{dtype, {4, 25, width}}}, {}, 0, {}}, {y}, 0);
    expectCall({"embedding_backward", {dy, ids}, {{dtype, {40, width}}}, {attribute("rows", 40)}, sortedSources(dtype, 40, 100), {}},
               {dtable}, 1e-5);
    ids.values[60] = 40;
    ids.values[61] = 41;
    Outcome bad = run({"embedding", {table, ids}, {{dtype, {4, 25, width}}}, {}, 0, {}}, 8);
    ASSERT_FALSE(bad.status.ok());
    EXPECT_NE(bad.status.message().find("index 40 at element 60 should be in [-40, 40)"), std::string::npos)
        << bad.status.message();
  }
}

TEST(RuntimeIndices, ElementsAndTuples) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16, plan::F16}) {
    Array x = random(dtype, {4, 5, 6}, 1), ids = randomIndices(plan::I64, {3, 5, 2}, 2, -6, 6);
    auto at = [&](uint64_t i) {
      Index index = indexOf(i, ids.shape);
      int64_t id = static_cast<int64_t>(ids.values[i]);
      index[2] = static_cast<uint64_t>(id < 0 ? id + 6 : id);
      return flatOf(index, x.shape);
    };
    Values gathered;
    for (uint64_t i = 0; i < 30; ++i)
      gathered.push_back(x.values[at(i)]);
    expectCall({"gather_elements", {x, ids}, {{dtype, ids.shape}}, {attribute("axis", 2)}, 0, {}}, {gathered}, 0);
    Array updates = random(dtype, ids.shape, 3);
    for (const char *reduction : {"none", "add", "mul", "max", "min"}) {
      Values y = x.values;
      for (uint64_t i = 0; i < 30; ++i) {
        double &old = y[at(i)], u = updates.values[i];
        std::string r = reduction;
        old = r == "none" ? u : r == "add" ? old + u : r == "mul" ? old * u : r == "max" ? std::max(old, u) : std::min(old, u);
      }
      Attributes a = {attribute("axis", 2), attribute("reduction", reduction)};
      Call call{"scatter_elements", {x, ids, updates}, {{dtype, x.shape}}, a, 0, {}};
      if (isNarrow(dtype) && (!std::strcmp(reduction, "add") || !std::strcmp(reduction, "mul")))
        call.workspace = workspace::scatterLines(15, 6);
      expectCall(call, {y}, 1e-6);
      Outcome apart = run(call);
      call.replaces = {0};
      EXPECT_EQ(apart.bytes, run(call).bytes);
    }
    Array tuples = array(plan::I64, {3, 2}, {0, 1, 3, -1, 0, 1}), rows = random(dtype, {3, 6}, 4);
    uint64_t places[] = {1, 19, 1};
    Values slices, scattered = x.values, added(120);
    for (uint64_t t = 0; t < 3; ++t)
      for (uint64_t d = 0; d < 6; ++d) {
        slices.push_back(x.values[places[t] * 6 + d]);
        scattered[places[t] * 6 + d] = rows.values[t * 6 + d];
        added[places[t] * 6 + d] += rows.values[t * 6 + d];
      }
    expectCall({"gather_nd", {x, tuples}, {{dtype, {3, 6}}}, {attribute("batch_dims", 0)}, 0, {}}, {slices}, 0);
    expectCall({"scatter_nd", {x, tuples, rows}, {{dtype, x.shape}}, {attribute("reduction", "none")}, 0, {}}, {scattered}, 0);
    expectCall({"gather_nd_backward", {rows, tuples}, {{dtype, x.shape}},
                {attribute("batch_dims", 0), attribute("shape", std::vector<int64_t>{4, 5, 6})}, sortedSources(dtype, 20, 3), {}}, {added}, 1e-6);
    for (const char *reduction : {"add", "mul"}) {
      Values y = x.values;
      for (uint64_t i = 0; i < 18; ++i) {
        double &old = y[places[i / 6] * 6 + i % 6];
        old = reduction[0] == 'a' ? old + rows.values[i] : old * rows.values[i];
      }
      Call call{"scatter_nd", {x, tuples, rows}, {{dtype, x.shape}}, {attribute("reduction", reduction)},
                sortedSources(dtype, 20, 3), {}};
      expectCall(call, {y}, 1e-6);
      Outcome apart = run(call);
      call.replaces = {0};
      EXPECT_EQ(apart.bytes, run(call).bytes);
    }
    Array perBatch = array(plan::I32, {4, 1, 1}, {1, 0, 4, -1}); // one of five rows of each of four batches
    Values picked;
    for (uint64_t b = 0; b < 4; ++b)
      for (uint64_t d = 0; d < 6; ++d)
        picked.push_back(x.values[(b * 5 + std::vector<uint64_t>{1, 0, 4, 4}[b]) * 6 + d]);
    expectCall({"gather_nd", {x, perBatch}, {{dtype, {4, 1, 6}}}, {attribute("batch_dims", 1)}, 0, {}}, {picked}, 0);
    Array back = random(dtype, {4, 1, 6}, 5);
    Values spread(120);
    for (uint64_t b = 0; b < 4; ++b)
      for (uint64_t d = 0; d < 6; ++d)
        spread[(b * 5 + std::vector<uint64_t>{1, 0, 4, 4}[b]) * 6 + d] = back.values[b * 6 + d];
    expectCall({"gather_nd_backward", {back, perBatch}, {{dtype, x.shape}},
                {attribute("batch_dims", 1), attribute("shape", std::vector<int64_t>{4, 5, 6})},
                sortedSources(dtype, 20, 4), {}}, {spread}, 0);
  }
}

// Many rows into one: a sum kept in bf16 would stop at 256 (256 + 1 rounds to 256), one in fp32 does not.
TEST(RuntimeIndices, ManyNarrowRowsIntoOne) {
  constexpr uint64_t count = 3000, width = 520;
  Array ones = array(plan::BF16, {count, width}, Values(count * width, 1.0));
  Array ids = array(plan::I64, {count}, Values(count, 2.0)), tuples = array(plan::I64, {count, 1}, Values(count, 2.0));
  Array zeros = array(plan::BF16, {4, width}, Values(4 * width));
  Values sum(4 * width);
  std::fill_n(sum.begin() + 2 * width, width, double(count));
  Result out{plan::BF16, {4, width}};
  uint64_t sorted = sortedSources(plan::BF16, 4, count);
  std::vector<int64_t> shape = {4, width};
  expectCall({"embedding_backward", {ones, ids}, {out}, {attribute("rows", 4)}, sorted, {}}, {sum}, 0);
  expectCall({"gather_backward", {ones, ids}, {out}, {attribute("axis", 0), attribute("shape", shape)}, sorted, {}}, {sum}, 0);
  expectCall({"gather_nd_backward", {ones, tuples}, {out}, {attribute("batch_dims", 0), attribute("shape", shape)}, sorted, {}},
             {sum}, 0);
  expectCall({"scatter_nd", {zeros, tuples, ones}, {out}, {attribute("reduction", "add")}, sorted, {}}, {sum}, 0);
  Array columns = array(plan::I64, {count, width}, Values(count * width, 2.0));
  expectCall({"scatter_elements", {zeros, columns, ones}, {out}, {attribute("axis", 0), attribute("reduction", "add")},
              workspace::scatterLines(width, 4), {}}, {sum}, 0);
}

TEST(RuntimeIndices, OneHotTopKArgMaxCumsum) {
  Array ids = array(plan::I64, {2, 2}, {0, 2, -1, 7});
  expectCall({"one_hot", {ids}, {{plan::F32, {2, 3, 2}}}, {attribute("depth", 3), attribute("axis", 1), attribute("element", "f32")}, 0, {}},
             {{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}}, 0);
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16, plan::I32})
    for (int axis : {0, 1, 2}) {
      Shape shape = {5, 9, 11}, kept = shape, one = shape;
      Array x = random(dtype, shape, 1, -4, 4); // integers tie
      uint64_t n = shape[axis], inner = axis == 0 ? 99 : axis == 1 ? 11 : 1;
      uint64_t k = 4;
      kept[axis] = k;
      one[axis] = 1;
      for (bool largest : {true, false}) {
        Values values(elements(kept)), indices(elements(kept)), first(elements(one));
        for (uint64_t line = 0; line < elements(one); ++line) {
          uint64_t base = line / inner * n * inner + line % inner, to = line / inner * k * inner + line % inner;
          std::vector<uint64_t> order(n);
          std::iota(order.begin(), order.end(), 0);
          std::stable_sort(order.begin(), order.end(), [&](uint64_t a, uint64_t b) {
            double va = x.values[base + a * inner], vb = x.values[base + b * inner];
            return largest ? va > vb : va < vb;
          });
          for (uint64_t i = 0; i < k; ++i) {
            values[to + i * inner] = x.values[base + order[i] * inner];
            indices[to + i * inner] = static_cast<double>(order[i]);
          }
          first[line] = static_cast<double>(order[0]);
        }
        expectCall({"top_k", {x}, {{dtype, kept}, {plan::I64, kept}},
                    {attribute("k", int64_t(k)), attribute("axis", axis), attribute("largest", largest)}, 0, {}},
                   {values, indices}, 0);
        Attributes a = {attribute("axis", axis), attribute("keepdims", true)};
        if (!largest)
          a.push_back(attribute("min", 1));
        expectCall({"arg_max", {x}, {{plan::I64, one}}, a, 0, {}}, {first}, 0);
      }
      if (dtype == plan::BF16)
        continue;
      for (bool exclusive : {false, true})
        for (bool reverse : {false, true}) {
          Values y(x.values.size());
          for (uint64_t line = 0; line < elements(one); ++line) {
            uint64_t base = line / inner * n * inner + line % inner;
            double sum = 0;
            for (uint64_t i = 0; i < n; ++i) {
              uint64_t at = base + (reverse ? n - 1 - i : i) * inner;
              y[at] = exclusive ? sum : sum + x.values[at];
              sum += x.values[at];
            }
          }
          Attributes a = {attribute("axis", axis)};
          if (exclusive)
            a.push_back(attribute("exclusive", 1));
          if (reverse)
            a.push_back(attribute("reverse", 1));
          expectCall({"cumsum", {x}, {{dtype, shape}}, a, 0, {}}, {y}, tolerance(dtype));
        }
    }
  Array ties = array(plan::F32, {1, 4}, {1, nan, 2, nan}); // NaN counts as the largest
  expectCall({"arg_max", {ties}, {{plan::I64, {1}}}, {attribute("axis", 1), attribute("keepdims", false)}, 0, {}}, {{1}}, 0);
  expectCall({"arg_max", {ties}, {{plan::I64, {1}}}, {attribute("axis", 1), attribute("keepdims", false), attribute("last", 1)}, 0, {}}, {{3}}, 0);
}

} // namespace
} // namespace amc::rt::test
