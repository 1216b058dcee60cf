// grouped_matmul and grouped_matmul_weight_grad: mixture of experts.
//
// f32, f64 and bf16 (summed in fp32, rounded once). Rows are sorted by group, stably, by counting (workspace: group
// offsets, row order, product scratch), and gathered panel by panel. A group is one product on the grid of Gemm.h, so a
// row's result does not depend on which rows share its group beyond the library's tiling of that many rows. A weight
// gradient adds a group's rows in panels of 256, ascending; a group without rows gets zeros;
// a `wide` one is summed where it will stand. With `expected_rows` (how many, the kernel does not ask) rows of group E have
// none: their results are zeros, and they are added to nothing. No result overlaps an operand. Reference: y[i] = x[i] w[ids[i]].
#include "runtime/device/cpu/Gemm.h"
#include "runtime/device/cpu/Indices.h"
#include <algorithm>
#include <climits>

namespace amc::rt::cpu {
namespace {

struct Grouping {
  int64_t rows, inner, columns, groups;
  plan::DType idType;
  bool padded; // there may be rows without a group
};

// Group e's rows are order[starts[e]] to order[starts[e + 1]], those without a group order[starts[groups]] to order[rows];
// the parts of the workspace in front of the slots.
struct SortedRows {
  int64_t *starts, *order;
  std::byte *slots;
  SortedRows(const Grouping &g, std::byte *at) {
    auto take = [&](int64_t count) {
      std::byte *here = at;
      at += workspace::detail::pad(static_cast<uint64_t>(count) * 8);
      return reinterpret_cast<int64_t *>(here);
    };
    starts = take(g.groups + 1);
    order = take(g.rows);
    slots = at;
  }
  int64_t count(int64_t group) const { return starts[group + 1] - starts[group]; }
};

// Fills starts and order; false if an id is out of range.
bool sortRows(const Grouping &g, const Operands &o, SortedRows &s, RunContext &c) {
  Indices ids = Indices::of(o, 2, g.idType);
  std::fill_n(s.starts, g.groups + 1, 0);
  bool valid = true;
  for (int64_t i = 0; i < g.rows; ++i) {
    int64_t id = ids.raw(i);
    if (g.padded && id == g.groups)
      continue;
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
  // starts[e] serves as the cursor of group e and ends as its end, which is the start of the next; the last one is that of
  // rows without a group.
  for (int64_t i = 0; i < g.rows; ++i)
    s.order[s.starts[ids.raw(i)]++] = i;
  for (int64_t e = g.groups; e > 0; --e)
    s.starts[e] = s.starts[e - 1];
  s.starts[0] = 0;
  return true;
}

Status expectBlas(const Grouping &g) {
  AMC_EXPECT(g.rows <= INT_MAX && g.inner <= INT_MAX && g.columns <= INT_MAX, "inputs: rows are ", g.rows, ", inner ",
             g.inner, " and columns ", g.columns, " and should be at most ", INT_MAX);
  return Status();
}

Status checkGrouped(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptData}, {"w", AcceptData}, {"ids", AcceptIndex}}, {{"y", AcceptData}},
                         {{"transpose_w", Int, Optional}, {"expected_rows", Int, Optional}}));
  const TensorSpec &x = spec.inputs[0], &w = spec.inputs[1], &ids = spec.inputs[2];
  AMC_TRY(expectDType("inputs[1]", w, x.dtype));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  AMC_EXPECT(x.rank() == 2 && w.rank() == 3, "inputs: ranks are ", x.rank(), " and ", w.rank(),
             " and should be 2 and 3");
  bool transpose = spec.flag("transpose_w");
  Grouping g{x.shape[0], x.shape[1], w.shape[transpose ? 1 : 2], w.shape[0], ids.dtype, static_cast<bool>(spec.find("expected_rows"))};
  AMC_EXPECT(w.shape[transpose ? 2 : 1] == g.inner, "inputs: inner dimensions are ", g.inner, " and ",
             w.shape[transpose ? 2 : 1], " and should be equal");
  AMC_TRY(expectShape("inputs[2]", ids, {g.rows}));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], {g.rows, g.columns}));
  AMC_TRY(expectBlas(g));
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  return expectWorkspace(spec, workspace::groupedMatmul(u(g.rows), u(g.inner), u(g.columns), u(g.groups),
                                                        dtypeBytes(x.dtype)));
}

// Rows [first, first + rows) of a group's product: a tile for each range of columns.
template <class S>
void groupTile(const Grouping &g, const StoredMatrix<S> &x, const StoredMatrix<S> &w, int64_t rows, int64_t tile, S *y,
               const ProductScratch<Wide<S>> &s) {
  ProductGrid grid = ProductGrid::create(rows, g.columns, g.inner);
  int64_t i = grid.row(tile), j = grid.column(tile), n = grid.columns(tile);
  sumTile(grid, tile, x, w, false, s.sum, n, s);
  for (int64_t r = 0; r < grid.rows(tile); ++r)
    narrowRow(s.sum + r * n, y + x.order[i + r] * g.columns + j, n);
}

std::unique_ptr<Kernel> createGrouped(const InstructionSpec &spec) {
  bool transpose = spec.flag("transpose_w");
  const std::vector<int64_t> &x = spec.inputs[0].shape;
  Grouping g{x[0], x[1], spec.outputs[0].shape[1], spec.inputs[1].shape[0], spec.inputs[2].dtype,
             static_cast<bool>(spec.find("expected_rows"))};
  return withFloats(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      SortedRows s(g, o.workspaces[0]);
      if (!sortRows(g, o, s, c))
        return;
      if (const int64_t grouped = s.starts[g.groups]; grouped < g.rows)
        parallelRange(c.pool, g.rows - grouped, rowGrain(g.columns), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i)
            std::fill_n(o.out<S>(0) + s.order[grouped + i] * g.columns, g.columns, S{});
        });
      int64_t tiles = 0;
      for (int64_t e = 0; e < g.groups; ++e)
        tiles += ProductGrid::create(s.count(e), g.columns, g.inner).tiles();
      c.pool.parallelFor(tiles, [&](int64_t tile, unsigned slot) {
        int64_t e = 0;
        for (int64_t here; tile >= (here = ProductGrid::create(s.count(e), g.columns, g.inner).tiles()); ++e)
          tile -= here;
        groupTile<S>(g, {o.in<S>(0), g.inner, false, s.order + s.starts[e]},
                     {o.in<S>(1) + e * g.inner * g.columns, transpose ? g.inner : g.columns, transpose}, s.count(e),
                     tile, o.out<S>(0), {s.slots, slot, g.rows, g.columns, g.inner});
      }, productSlots(tiles));
    });
  });
}

Status checkWeightGrad(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptData}, {"dy", AcceptData}, {"ids", AcceptIndex}}, {{"dw", AcceptData}},
                         {{"groups", Int}, {"transpose_w", Int, Optional}, {"wide", Int, Optional}, {"expected_rows", Int, Optional}}));
  const TensorSpec &x = spec.inputs[0], &dy = spec.inputs[1], &ids = spec.inputs[2];
  AMC_TRY(expectDType("inputs[1]", dy, x.dtype));
  AMC_TRY(expectSumType("outputs[0]", spec, spec.outputs[0], x));
  AMC_EXPECT(x.rank() == 2 && dy.rank() == 2 && x.shape[0] == dy.shape[0], "inputs: shapes ", shapeText(x.shape),
             " and ", shapeText(dy.shape), " should be of rank 2 with the same rows");
  Grouping g{x.shape[0], x.shape[1], dy.shape[1], spec.integer("groups"), ids.dtype, static_cast<bool>(spec.find("expected_rows"))};
  AMC_TRY(expectShape("inputs[2]", ids, {g.rows}));
  bool transpose = spec.flag("transpose_w");
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0],
                      transpose ? std::vector<int64_t>{g.groups, g.columns, g.inner}
                                : std::vector<int64_t>{g.groups, g.inner, g.columns}));
  AMC_TRY(expectBlas(g));
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  return expectWorkspace(spec, workspace::groupedMatmulWeightGrad(u(g.rows), u(g.inner), u(g.columns), u(g.groups),
                                                                  dtypeBytes(x.dtype), spec.flag("wide")));
}

std::unique_ptr<Kernel> createWeightGrad(const InstructionSpec &spec) {
  bool transpose = spec.flag("transpose_w"), wide = spec.flag("wide");
  Grouping g{spec.inputs[0].shape[0], spec.inputs[0].shape[1], spec.inputs[1].shape[1], spec.integer("groups"),
             spec.inputs[2].dtype, static_cast<bool>(spec.find("expected_rows"))};
  int64_t down = transpose ? g.columns : g.inner, across = transpose ? g.inner : g.columns;
  return withFloats(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      SortedRows s(g, o.workspaces[0]);
      if (!sortRows(g, o, s, c))
        return;
      int64_t tiles = ProductGrid::create(down, across, 0).tiles();
      c.pool.parallelFor(g.groups * tiles, [&](int64_t piece, unsigned slot) {
        int64_t e = piece / tiles;
        const int64_t *order = s.order + s.starts[e];
        StoredMatrix<S> left{o.in<S>(transpose ? 1 : 0), down, true, order};
        StoredMatrix<S> right{o.in<S>(transpose ? 0 : 1), across, false, order};
        ProductGrid grid = ProductGrid::create(down, across, s.count(e));
        int64_t tile = piece % tiles, at = e * down * across;
        bool inPlace = wide && !isWide<S>;
        ProductScratch<Wide<S>> scratch(s.slots, slot, down, across, g.rows, !inPlace);
        if (inPlace)
          sumTile<S>(grid, tile, left, right, false,
                     o.out<Wide<S>>(0) + at + grid.row(tile) * across + grid.column(tile), across, scratch);
        else
          productTile<S>(grid, tile, left, right, nullptr, o.out<S>(0) + at, scratch);
      }, productSlots(g.groups * tiles));
    });
  });
}

} // namespace

void registerGroupedMatmul(KernelRegistry &registry) {
  registry.addProduct("grouped_matmul", {checkGrouped, createGrouped, nullptr, false, true});
  registry.addProduct("grouped_matmul_weight_grad", {checkWeightGrad, createWeightGrad, nullptr, false, true});
}

} // namespace amc::rt::cpu
