// grouped_matmul and grouped_matmul_weight_grad: mixture of experts.
//
// f32 and f64. Rows are sorted by group, stably, by counting (workspace: group offsets, row order, gathered rows); a
// group is one product, cut along its columns only, so a row's result does not depend on which rows share its group
// beyond the library's tiling of that many rows. A weight gradient sums over a group's rows in ascending order of the
// library; a group without rows gets zeros. No result overlaps an operand. Reference: y[i] = x[i] w[ids[i]].
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Gemm.h"
#include "runtime/device/cpu/Indices.h"
#include "runtime/plan/Workspace.h"
#include <algorithm>
#include <climits>
#include <cstring>

namespace amc::rt::cpu {
namespace {

struct Grouping {
  int64_t rows, inner, columns, groups;
  plan::DType idType;
  static constexpr int64_t columnTile = 256;
};

// The parts of the workspace; sizes as in workspace::groupedMatmul.
template <class T> struct Scratch {
  int64_t *starts, *order;
  T *left, *right; // rows of `inner` and of `columns` elements
  Scratch(const Grouping &g, std::byte *at) {
    auto take = [&](int64_t bytes) {
      std::byte *here = at;
      at += workspace::detail::pad(static_cast<uint64_t>(bytes));
      return here;
    };
    starts = reinterpret_cast<int64_t *>(take((g.groups + 1) * 8));
    order = reinterpret_cast<int64_t *>(take(g.rows * 8));
    left = reinterpret_cast<T *>(take(g.rows * g.inner * static_cast<int64_t>(sizeof(T))));
    right = reinterpret_cast<T *>(take(g.rows * g.columns * static_cast<int64_t>(sizeof(T))));
  }
};

// Fills starts and order; false if an id is out of range.
template <class T> bool sortRows(const Grouping &g, const Operands &o, Scratch<T> &s, RunContext &c) {
  Indices ids = Indices::of(o, 2, g.idType);
  std::fill_n(s.starts, g.groups + 1, 0);
  bool valid = true;
  for (int64_t i = 0; i < g.rows; ++i) {
    int64_t id = ids.raw(i);
    if (id < 0 || id >= g.groups) {
      c.failure.report("group", static_cast<uint64_t>(i), id, 0, g.groups);
      valid = false;
    } else {
      ++s.starts[id + 1];
    }
  }
  if (!valid)
    return false;
  for (int64_t e = 0; e < g.groups; ++e)
    s.starts[e + 1] += s.starts[e];
  // starts[e] serves as the cursor of group e and ends as its end, which is the start of the next.
  for (int64_t i = 0; i < g.rows; ++i)
    s.order[s.starts[ids.raw(i)]++] = i;
  for (int64_t e = g.groups; e > 0; --e)
    s.starts[e] = s.starts[e - 1];
  s.starts[0] = 0;
  return true;
}

template <class T> void gatherRows(ThreadPool &pool, const Grouping &g, const int64_t *order, const T *x, T *y, int64_t width) {
  parallelRange(pool, g.rows, rowGrain(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(y + i * width, x + order[i] * width, static_cast<size_t>(width) * sizeof(T));
  });
}
template <class T> void scatterRows(ThreadPool &pool, const Grouping &g, const int64_t *order, const T *x, T *y, int64_t width) {
  parallelRange(pool, g.rows, rowGrain(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(y + order[i] * width, x + i * width, static_cast<size_t>(width) * sizeof(T));
  });
}

Status expectBlas(const Grouping &g) {
  AMC_EXPECT(g.rows <= INT_MAX && g.inner <= INT_MAX && g.columns <= INT_MAX, "dimensions should be at most ",
             INT_MAX);
  return Status();
}

Status checkGrouped(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptWide}, {"w", AcceptWide}, {"ids", AcceptIndex}}, {{"y", AcceptWide}},
                         {{"transpose_w", Int, Optional}}));
  const TensorSpec &x = spec.inputs[0], &w = spec.inputs[1], &ids = spec.inputs[2];
  AMC_TRY(expectDType("inputs[1]", w, x.dtype));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  AMC_EXPECT(x.rank() == 2 && w.rank() == 3, "inputs: ranks are ", x.rank(), " and ", w.rank(),
             " and should be 2 and 3");
  bool transpose = spec.flag("transpose_w");
  Grouping g{x.shape[0], x.shape[1], w.shape[transpose ? 1 : 2], w.shape[0], ids.dtype};
  AMC_EXPECT(w.shape[transpose ? 2 : 1] == g.inner, "inputs: inner dimensions are ", g.inner, " and ",
             w.shape[transpose ? 2 : 1], " and should be equal");
  AMC_TRY(expectShape("inputs[2]", ids, {g.rows}));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], {g.rows, g.columns}));
  AMC_TRY(expectBlas(g));
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  return expectWorkspace(spec, workspace::groupedMatmul(u(g.rows), u(g.inner), u(g.columns), u(g.groups),
                                                        dtypeBytes(x.dtype)));
}

std::unique_ptr<Kernel> createGrouped(const InstructionSpec &spec) {
  bool transpose = spec.flag("transpose_w");
  const std::vector<int64_t> &x = spec.inputs[0].shape;
  Grouping g{x[0], x[1], spec.outputs[0].shape[1], spec.inputs[1].shape[0], spec.inputs[2].dtype};
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      Scratch<T> s(g, o.workspaces[0]);
      if (g.rows == 0 || g.columns == 0 || !sortRows(g, o, s, c))
        return;
      if (g.inner == 0) {
        std::fill_n(o.out<T>(0), g.rows * g.columns, T{});
        return;
      }
      gatherRows(c.pool, g, s.order, o.in<T>(0), s.left, g.inner);
      int64_t tiles = ceilDiv(g.columns, Grouping::columnTile);
      c.pool.parallelFor(g.groups * tiles, [&](int64_t piece, unsigned) {
        int64_t e = piece / tiles, j = piece % tiles * Grouping::columnTile;
        int64_t m = s.starts[e + 1] - s.starts[e], n = std::min(Grouping::columnTile, g.columns - j);
        if (m == 0)
          return;
        const T *w = o.in<T>(1) + e * g.inner * g.columns + (transpose ? j * g.inner : j);
        gemm(false, transpose, m, n, g.inner, T(1), s.left + s.starts[e] * g.inner, g.inner, w,
             transpose ? g.inner : g.columns, T(0), s.right + s.starts[e] * g.columns + j, g.columns);
      });
      scatterRows(c.pool, g, s.order, s.right, o.out<T>(0), g.columns);
    });
  };
  return spec.inputs[0].dtype == plan::F64 ? make(double{}) : make(float{});
}

Status checkWeightGrad(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptWide}, {"dy", AcceptWide}, {"ids", AcceptIndex}}, {{"dw", AcceptWide}},
                         {{"groups", Int}, {"transpose_w", Int, Optional}}));
  const TensorSpec &x = spec.inputs[0], &dy = spec.inputs[1], &ids = spec.inputs[2];
  AMC_TRY(expectDType("inputs[1]", dy, x.dtype));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  AMC_EXPECT(x.rank() == 2 && dy.rank() == 2 && x.shape[0] == dy.shape[0], "inputs: shapes ", shapeText(x.shape),
             " and ", shapeText(dy.shape), " should be of rank 2 with the same rows");
  Grouping g{x.shape[0], x.shape[1], dy.shape[1], spec.integer("groups"), ids.dtype};
  AMC_TRY(expectShape("inputs[2]", ids, {g.rows}));
  bool transpose = spec.flag("transpose_w");
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0],
                      transpose ? std::vector<int64_t>{g.groups, g.columns, g.inner}
                                : std::vector<int64_t>{g.groups, g.inner, g.columns}));
  AMC_TRY(expectBlas(g));
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  return expectWorkspace(spec, workspace::groupedMatmulWeightGrad(u(g.rows), u(g.inner), u(g.columns), u(g.groups),
                                                                  dtypeBytes(x.dtype)));
}

std::unique_ptr<Kernel> createWeightGrad(const InstructionSpec &spec) {
  bool transpose = spec.flag("transpose_w");
  Grouping g{spec.inputs[0].shape[0], spec.inputs[0].shape[1], spec.inputs[1].shape[1], spec.integer("groups"),
             spec.inputs[2].dtype};
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      Scratch<T> s(g, o.workspaces[0]);
      if (!sortRows(g, o, s, c))
        return;
      gatherRows(c.pool, g, s.order, o.in<T>(0), s.left, g.inner);
      gatherRows(c.pool, g, s.order, o.in<T>(1), s.right, g.columns);
      int64_t down = transpose ? g.columns : g.inner, across = transpose ? g.inner : g.columns;
      int64_t tiles = ceilDiv(across, Grouping::columnTile);
      c.pool.parallelFor(down ? g.groups * tiles : 0, [&](int64_t piece, unsigned) {
        int64_t e = piece / tiles, j = piece % tiles * Grouping::columnTile;
        int64_t rows = s.starts[e + 1] - s.starts[e], n = std::min(Grouping::columnTile, across - j);
        T *dw = o.out<T>(0) + e * down * across + j;
        if (rows == 0) {
          for (int64_t i = 0; i < down; ++i)
            std::fill_n(dw + i * across, n, T{});
          return;
        }
        const T *left = (transpose ? s.right : s.left) + s.starts[e] * down;
        const T *right = (transpose ? s.left : s.right) + s.starts[e] * across + j;
        gemm(true, false, down, n, rows, T(1), left, down, right, across, T(0), dw, across);
      });
    });
  };
  return spec.inputs[0].dtype == plan::F64 ? make(double{}) : make(float{});
}

} // namespace

void registerGroupedMatmul(KernelRegistry &registry) {
  registry.add("grouped_matmul", {checkGrouped, createGrouped, nullptr, false, true});
  registry.add("grouped_matmul_weight_grad", {checkWeightGrad, createWeightGrad, nullptr, false, true});
}

} // namespace amc::rt::cpu
