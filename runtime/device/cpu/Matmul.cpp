// matmul, linear, linear_weight_grad.
//
// f32, f64 and bf16 (summed in fp32, rounded once) by a library, a tile at a time on a grid that starts at the first
// row (Gemm.h). The inner dimension of f32 and f64 is not cut, so an element's sum runs in the library's order for its
// tile, but in linear_weight_grad: blocks of 1024 rows, ascending. Integers (matmul only) by three loops, modulo 2^64,
// in their own width. linear adds its bias to each tile after the product; then a generated kernel may work on the tile
// (Epilogue.h). No result overlaps an operand. Workspace: bf16 only, workspace::product; a `wide` linear_weight_grad is
// summed where it will stand. Reference: y[i, j] = sum over k of a[i, k] * b[k, j].
#include "runtime/device/cpu/Gemm.h"
#include <algorithm>
#include <climits>

namespace amc::rt::cpu {
namespace {

// The libraries are given 32 bits: OpenBLAS has no more.
Status expectBlasSizes(std::initializer_list<int64_t> sizes) {
  for (int64_t size : sizes)
    AMC_EXPECT(size <= INT_MAX, "dimension ", size, " should be at most ", INT_MAX);
  return Status();
}

uint64_t bytesOf(int64_t rows, int64_t columns, int64_t inner, plan::DType dtype, bool sums = true) {
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  return isFloat(dtype) ? workspace::product(u(rows), u(columns), u(inner), dtypeBytes(dtype), sums) : 0;
}

std::byte *scratchOf(const Operands &o, bool scratch) { return scratch ? o.workspaces[0] : nullptr; }

// ---- matmul

struct BatchedShape {
  int64_t m, n, k;
  bool transposeA, transposeB;
  int64_t batches = 1;
  size_t rank = 0; // batch dimensions
  int64_t dims[maxRank], stridesA[maxRank], stridesB[maxRank];

  void offsets(int64_t batch, int64_t &a, int64_t &b) const {
    a = b = 0;
    for (size_t d = rank; d-- > 0; batch /= dims[d]) {
      a += batch % dims[d] * stridesA[d];
      b += batch % dims[d] * stridesB[d];
    }
  }
};

Status checkMatmul(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"a", AcceptData | AcceptInteger}, {"b", AcceptData | AcceptInteger}},
                         {{"y", AcceptData | AcceptInteger}},
                         {{"transpose_a", Int, Optional}, {"transpose_b", Int, Optional}}));
  const TensorSpec &a = spec.inputs[0], &b = spec.inputs[1], &y = spec.outputs[0];
  AMC_TRY(expectDType("inputs[1]", b, a.dtype));
  AMC_TRY(expectDType("outputs[0]", y, a.dtype));
  AMC_EXPECT(a.rank() >= 2 && b.rank() >= 2, "inputs: ranks are ", a.rank(), " and ", b.rank(),
             " and should be at least 2");
  auto last = [](const TensorSpec &t, size_t i) { return t.shape[t.rank() - 1 - i]; };
  bool ta = spec.flag("transpose_a"), tb = spec.flag("transpose_b");
  AMC_EXPECT(last(a, ta ? 1 : 0) == last(b, tb ? 0 : 1), "inputs: inner dimensions are ", last(a, ta ? 1 : 0),
             " and ", last(b, tb ? 0 : 1), " and should be equal");
  std::vector<int64_t> shape(std::max(a.rank(), b.rank()));
  for (size_t i = 2; i < shape.size(); ++i) {
    int64_t da = i < a.rank() ? last(a, i) : 1, db = i < b.rank() ? last(b, i) : 1;
    AMC_EXPECT(da == db || da == 1 || db == 1, "inputs: leading dimensions ", da, " and ", db, " do not broadcast");
    shape[shape.size() - 1 - i] = da == 1 ? db : da;
  }
  shape[shape.size() - 2] = last(a, ta ? 0 : 1);
  shape[shape.size() - 1] = last(b, tb ? 1 : 0);
  AMC_TRY(expectShape("outputs[0]", y, shape));
  AMC_TRY(expectBlasSizes({shape[shape.size() - 2], shape[shape.size() - 1], last(a, ta ? 1 : 0)}));
  return expectWorkspace(spec, bytesOf(rowsOf(shape).rows, shape.back(), last(a, ta ? 1 : 0), y.dtype));
}

template <class T>
void integerProduct(const BatchedShape &s, int64_t row, const T *a, const T *b, T *y) {
  for (int64_t j = 0; j < s.n; ++j) {
    uint64_t sum = 0;
    for (int64_t k = 0; k < s.k; ++k)
      sum += static_cast<uint64_t>(s.transposeA ? a[k * s.m + row] : a[row * s.k + k]) *
             static_cast<uint64_t>(s.transposeB ? b[j * s.k + k] : b[k * s.n + j]);
    y[row * s.n + j] = static_cast<T>(sum);
  }
}

BatchedShape batchedShape(const InstructionSpec &spec) {
  const std::vector<int64_t> &a = spec.inputs[0].shape, &b = spec.inputs[1].shape, &y = spec.outputs[0].shape;
  BatchedShape s;
  s.transposeA = spec.flag("transpose_a");
  s.transposeB = spec.flag("transpose_b");
  s.m = y[y.size() - 2];
  s.n = y[y.size() - 1];
  s.k = a[a.size() - (s.transposeA ? 2 : 1)];
  s.rank = y.size() - 2;
  int64_t strideA = s.m * s.k, strideB = s.k * s.n;
  for (size_t i = s.rank; i-- > 0;) {
    size_t back = y.size() - i; // position from the end
    int64_t da = back <= a.size() ? a[a.size() - back] : 1, db = back <= b.size() ? b[b.size() - back] : 1;
    s.dims[i] = y[i];
    s.stridesA[i] = da == 1 ? 0 : strideA;
    s.stridesB[i] = db == 1 ? 0 : strideB;
    strideA *= da;
    strideB *= db;
    s.batches *= y[i];
  }
  // A plain matrix b under many batches of a: one tall product.
  bool together = s.rank > 0 && !s.transposeA && s.batches > 0;
  int64_t running = s.m * s.k;
  for (size_t i = s.rank; together && i-- > 0; running *= s.dims[i])
    together = s.dims[i] == 1 || (s.stridesB[i] == 0 && s.stridesA[i] == running);
  if (together && s.m * s.batches <= INT_MAX) {
    s.m *= s.batches;
    s.batches = 1;
    s.rank = 0;
  }
  return s;
}

template <class S> std::unique_ptr<Kernel> floatMatmul(const InstructionSpec &spec, const BatchedShape &s) {
  ProductGrid grid = ProductGrid::of<S>(s.m, s.n, s.k, s.batches * s.m, s.batches);
  // The workspace is that of one tall product; a matrix of the batch may need less for a slot.
  uint64_t bytes = bytesOf(s.batches * s.m, s.n, s.k, spec.inputs[0].dtype);
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  unsigned slots = ThreadPool::maxThreads;
  if (bytes)
    slots = static_cast<unsigned>(
        std::min(workspace::productSlots, bytes / workspace::productSlot(u(s.m), u(s.n), u(s.k), 4)));
  return makeKernel([=](const Operands &o, RunContext &c) {
    c.pool.parallelFor(s.batches * grid.tiles(), [&](int64_t piece, unsigned slot) {
      int64_t batch = piece / grid.tiles(), atA, atB;
      s.offsets(batch, atA, atB);
      StoredMatrix<S> a{o.in<S>(0) + atA, s.transposeA ? s.m : s.k, s.transposeA};
      StoredMatrix<S> b{o.in<S>(1) + atB, s.transposeB ? s.k : s.n, s.transposeB};
      ProductScratch<Wide<S>> scratch;
      if constexpr (!isWide<S>)
        scratch = {o.workspaces[0], slot, s.m, s.n, s.k};
      productTile<S>(grid, piece % grid.tiles(), a, b, nullptr, o.out<S>(0) + batch * s.m * s.n, scratch);
    }, slots);
  });
}

template <class T> std::unique_ptr<Kernel> integerMatmul(const BatchedShape &s) {
  return makeKernel([=](const Operands &o, RunContext &c) {
    c.pool.parallelFor(s.batches * s.m, [&](int64_t piece, unsigned) {
      int64_t batch = piece / s.m, atA, atB;
      s.offsets(batch, atA, atB);
      integerProduct(s, piece % s.m, o.in<T>(0) + atA, o.in<T>(1) + atB, o.out<T>(0) + batch * s.m * s.n);
    });
  });
}

std::unique_ptr<Kernel> createMatmul(const InstructionSpec &spec) {
  BatchedShape s = batchedShape(spec);
  plan::DType dtype = spec.inputs[0].dtype;
  if (isFloat(dtype))
    return withFloats(dtype, [&](auto type) { return floatMatmul<decltype(type)>(spec, s); });
  return withStorage(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    if constexpr (std::is_integral_v<decltype(type)>)
      return integerMatmul<decltype(type)>(s);
    else
      return nullptr; // floats went the other way
  });
}

// ---- linear

Status checkLinear(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptData}, {"w", AcceptData}, {"bias", AcceptData, Optional}},
                         {{"y", AcceptData}}, {{"transpose_w", Int, Optional}}));
  const TensorSpec &x = spec.inputs[0], &w = spec.inputs[1], &bias = spec.inputs[2];
  AMC_TRY(expectDType("inputs[1]", w, x.dtype));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  AMC_EXPECT(x.rank() >= 1 && w.rank() == 2, "inputs: ranks are ", x.rank(), " and ", w.rank(),
             " and should be at least 1, and 2");
  bool transpose = spec.flag("transpose_w");
  int64_t k = w.shape[transpose ? 1 : 0], n = w.shape[transpose ? 0 : 1];
  AMC_EXPECT(x.shape.back() == k, "inputs: inner dimensions are ", x.shape.back(), " and ", k,
             " and should be equal");
  if (bias.present()) {
    AMC_TRY(expectDType("inputs[2]", bias, x.dtype));
    AMC_TRY(expectShape("inputs[2]", bias, {n}));
  }
  std::vector<int64_t> shape = x.shape;
  shape.back() = n;
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], shape));
  AMC_TRY(expectBlasSizes({rowsOf(x.shape).rows, n, k}));
  return expectWorkspace(spec, bytesOf(rowsOf(x.shape).rows, n, k, x.dtype));
}

template <class S> class Linear final : public TiledKernel {
public:
  Linear(const ProductGrid &grid, bool transpose, bool scratch)
      : TiledKernel(grid.m, grid.n, grid.tileM, grid.across), grid(grid), transpose(transpose), scratch(scratch) {}

  void run(const Operands &o, RunContext &c, Then then, void *context) const override {
    StoredMatrix<S> x{o.in<S>(0), grid.k}, w{o.in<S>(1), transpose ? grid.k : grid.n, transpose};
    multiply<S>(c.pool, grid, x, w, o.in<S>(2), o.out<S>(0), scratchOf(o, scratch), [&](int64_t tile) {
      if (then)
        then(context, {grid.row(tile), grid.rows(tile), grid.column(tile), grid.columns(tile)});
    });
  }

private:
  ProductGrid grid;
  bool transpose, scratch;
};

std::unique_ptr<Kernel> createWholeLinear(const InstructionSpec &spec) {
  int64_t rows = rowsOf(spec.inputs[0].shape).rows, k = spec.inputs[0].shape.back(), n = spec.outputs[0].shape.back();
  return cpu::createLinear(spec.inputs[0].dtype, rows, k, n, spec.flag("transpose_w"), rows);
}

// ---- linear_weight_grad

Status checkWeightGrad(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptData}, {"dy", AcceptData}}, {{"dw", AcceptData}},
                         {{"transpose_w", Int, Optional}, {"wide", Int, Optional}}));
  const TensorSpec &x = spec.inputs[0], &dy = spec.inputs[1];
  AMC_TRY(expectDType("inputs[1]", dy, x.dtype));
  AMC_TRY(expectSumType("outputs[0]", spec, spec.outputs[0], x));
  AMC_EXPECT(x.rank() >= 1 && x.rank() == dy.rank() &&
                 std::equal(x.shape.begin(), x.shape.end() - 1, dy.shape.begin()),
             "inputs: shapes ", shapeText(x.shape), " and ", shapeText(dy.shape), " should have the same rows");
  int64_t k = x.shape.back(), n = dy.shape.back();
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0],
                      spec.flag("transpose_w") ? std::vector<int64_t>{n, k} : std::vector<int64_t>{k, n}));
  AMC_TRY(expectBlasSizes({rowsOf(x.shape).rows, k, n}));
  const std::vector<int64_t> &dw = spec.outputs[0].shape;
  return expectWorkspace(spec, bytesOf(dw[0], dw[1], rowsOf(x.shape).rows, x.dtype, !spec.flag("wide")));
}

std::unique_ptr<Kernel> createWeightGrad(const InstructionSpec &spec) {
  int64_t rows = rowsOf(spec.inputs[0].shape).rows, k = spec.inputs[0].shape.back(), n = spec.inputs[1].shape.back();
  bool transpose = spec.flag("transpose_w"), scratch = !spec.workspaces.empty(), wide = spec.flag("wide");
  int64_t down = transpose ? n : k, across = transpose ? k : n;
  size_t left = transpose ? 1 : 0, right = transpose ? 0 : 1;
  return withFloats(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    ProductGrid grid = ProductGrid::ofGradient<S>(down, across, rows);
    return makeKernel([=](const Operands &o, RunContext &c) {
      StoredMatrix<S> a{o.in<S>(left), down, true}, b{o.in<S>(right), across};
      if (wide)
        multiplySums<S>(c.pool, grid, a, b, false, o.out<Wide<S>>(0), scratchOf(o, scratch), false);
      else
        multiply<S>(c.pool, grid, a, b, nullptr, o.out<S>(0), scratchOf(o, scratch));
    });
  });
}

} // namespace

std::unique_ptr<Kernel> createLinear(plan::DType dtype, int64_t rows, int64_t inner, int64_t columns, bool transpose,
                                     int64_t allRows) {
  bool scratch = bytesOf(rows, columns, inner, dtype) > 0;
  return withFloats(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    return std::make_unique<Linear<S>>(ProductGrid::of<S>(rows, columns, inner, allRows), transpose, scratch);
  });
}

void registerMatmul(KernelRegistry &registry) {
  registry.addProduct("matmul", {checkMatmul, createMatmul, nullptr, false, true});
  registry.addProduct("linear", {checkLinear, createWholeLinear, nullptr, false, true});
  registry.addProduct("linear_weight_grad", {checkWeightGrad, createWeightGrad, nullptr, false, true});
}

} // namespace amc::rt::cpu
