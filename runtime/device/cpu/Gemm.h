// Matrix products of one tile, by a library on the calling thread, and the grid that cuts a product into tiles.
//
// fp32 and bf16 are oneDNN's, the fastest of Debian's libraries where measured (test/bench/kernels.cpp); f64, which it
// lacks, is OpenBLAS's. A processor whose AVX512-BF16 is faster than its fp32 multiplies bf16 as it is stored, summed
// in fp32; elsewhere bf16 is widened to panels of fp32 in scratch. Either way a sum is rounded once.
//
// The grid (runtime/plan/Workspace.h) is counted from the first row and column, so whole tiles of a slice of rows, which
// knows how many there are in all, get the bits they have in the product of all rows. The libraries do not promise that: a
// row's last bits depend on how many rows are multiplied at once. They depend on no address, nor on the rows' distance in
// the result.
//
// oneDNN asks malloc for the buffer a product is packed into and gives it back, every time, and has no other way. So
// glibc is told to keep such memory, every thread has it from the start (`libraryBytes`, in the device's scratchBytes),
// and inside a step it comes from what the process has already; a failure is noted, and ends the step.
#ifndef AMC_RUNTIME_DEVICE_CPU_GEMM_H
#define AMC_RUNTIME_DEVICE_CPU_GEMM_H

#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/Workspace.h"
#include <algorithm>

namespace amc::rt::cpu {

// c[m, n] = alpha * op(a)[m, k] * op(b)[k, n] + beta * c, row-major; with beta 0, c is not read.
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
          const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
          int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);

// bf16 operands, fp32 sums; only where multipliesBf16().
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, float alpha, const BFloat16 *a,
          int64_t lda, const BFloat16 *b, int64_t ldb, float beta, float *c, int64_t ldc);
// Has the processor instructions for that, do they pay, and may they be used (AMC_ISA)?
bool multipliesBf16();

// What the library asks for in one product at most, with every dimension as large as the grids and blocks of
// Workspace.h make it.
inline constexpr uint64_t libraryBytes = uint64_t(2) << 20;

// Has the library generate its code, and gives every thread of the pool the memory that products ask for. Returns the
// bytes; a limit error if they are not to be had.
Expected<uint64_t> prepareGemm(ThreadPool &pool);
// The same for f64, which nothing multiplies before: OpenBLAS is loaded and maps a buffer for each thread. Returns the bytes
// of address space.
Expected<uint64_t> prepareGemm64(ThreadPool &pool);
// An error if a product since it was cleared found no memory; its result is worthless.
Status gemmFailure();
void clearGemmFailure();

// Whether kernels, and oneDNN, run at level v4.
bool hasAvx512();

// An operand as it is stored: rows `stride` elements apart, taken in the order given if there is one.
template <class S> struct StoredMatrix {
  const S *data;
  int64_t stride;
  bool transposed = false;
  const int64_t *order = nullptr;
  const S *at(int64_t row, int64_t column) const { return data + (order ? order[row] : row) * stride + column; }
};

// op(a)[m, k] * op(b)[k, n] on the grid. `block`, a multiple of productDepth: the inner dimension is cut there, the
// blocks' products are added in ascending order in the arithmetic type; 0: not cut.
struct ProductGrid {
  int64_t m, n, k, block;
  int64_t tileM, tileN, down, across;
  static ProductGrid create(int64_t m, int64_t n, int64_t k, int64_t block = 0, int64_t rowTile = workspace::productRowTile,
                            int64_t columnTile = workspace::productColumnTile);
  // The grid of elements S. `allRows`: of the product that this one is a slice of, or of all of a batch of `products`.
  template <class S> static ProductGrid of(int64_t m, int64_t n, int64_t k, int64_t allRows, int64_t products = 1) {
    ProductGrid g = create(m, n, k, 0, rowTile<S>, columnTile<S>());
    if (isWide<S> && allRows < workspace::productFineRows)
      g.refine(products);
    return g;
  }
  template <class S> static ProductGrid of(int64_t m, int64_t n, int64_t k) { return of<S>(m, n, k, m); }
  // That of a weight's gradient, a sum over `rows` in blocks: its own rows are never sliced, so they are cut into equal
  // parts, multiples of 16.
  template <class S> static ProductGrid ofGradient(int64_t m, int64_t n, int64_t rows) {
    int64_t parts = std::max<int64_t>(ceilDiv(m, rowTile<S>), 1), part = ceilDiv(ceilDiv(m, parts), 16) * 16;
    ProductGrid g = create(m, n, rows, workspace::weightGradRowBlock, std::clamp<int64_t>(part, 16, rowTile<S>), columnTile<S>());
    if (isWide<S>)
      g.refine(1);
    return g;
  }
  // Halves tiles of small products, whose threads would have no work, until there are enough or they are as small as pays:
  // rows first, then columns.
  void refine(int64_t products);
  template <class S>
  static constexpr int64_t rowTile = isWide<S> ? workspace::productWideRowTile : workspace::productRowTile;
  // Kept to AVX2, oneDNN packs the operands of no product with 1/m + 1/n of 0.0038 and more (512 by 512), and reading them
  // where they are costs half its speed where rows are a power of two apart. Wider tiles are packed.
  template <class S> static int64_t columnTile() {
    return std::is_same_v<S, float> && !hasAvx512() ? workspace::productWideColumnTile : workspace::productColumnTile;
  }
  int64_t tiles() const { return down * across; }
  int64_t row(int64_t tile) const { return tile / across * tileM; }
  int64_t column(int64_t tile) const { return tile % across * tileN; }
  int64_t rows(int64_t tile) const { return std::min(tileM, m - row(tile)); }
  int64_t columns(int64_t tile) const { return std::min(tileN, n - column(tile)); }
};

// The parts of a slot of product scratch for a product of this shape: a panel of either operand, and with `sums` a
// tile's sum.
template <class T> struct ProductScratch {
  T *a = nullptr, *b = nullptr, *sum = nullptr;
  ProductScratch() = default;
  ProductScratch(std::byte *base, unsigned slot, int64_t rows, int64_t columns, int64_t inner, bool sums = true) {
    auto m = static_cast<uint64_t>(rows), n = static_cast<uint64_t>(columns), k = static_cast<uint64_t>(inner);
    std::byte *at = base + slot * workspace::productSlot(m, n, k, sizeof(T), sums);
    m = std::min(m, workspace::productRowTile);
    n = workspace::productTileColumns(n);
    k = std::min(k, workspace::productDepth);
    a = reinterpret_cast<T *>(at);
    b = reinterpret_cast<T *>(at += workspace::detail::pad(m * k * sizeof(T)));
    sum = sums ? reinterpret_cast<T *>(at + workspace::detail::pad(k * n * sizeof(T))) : nullptr;
  }
};

// Are elements S multiplied as they are stored?
template <class S> bool multipliesStored() {
  if constexpr (isWide<S>)
    return true;
  else
    return multipliesBf16();
}

// Rows [row, row + rows) and columns [column, column + columns) of a stored matrix as they are, or in `panel`, of S or of
// its arithmetic type.
template <class E, class S>
const E *loadPanel(const StoredMatrix<S> &x, int64_t row, int64_t column, int64_t rows, int64_t columns, E *panel,
                   int64_t &stride) {
  if constexpr (std::is_same_v<E, S>) {
    if (!x.order) {
      stride = x.stride;
      return x.at(row, column);
    }
  }
  for (int64_t r = 0; r < rows; ++r)
    if constexpr (std::is_same_v<E, S>)
      std::copy_n(x.at(row + r, column), columns, panel + r * columns);
    else
      widenRow(x.at(row + r, column), panel + r * columns, columns);
  stride = columns;
  return panel;
}

// sumTile with elements E for the library: S or its arithmetic type.
template <class E, class S>
void sumTileOf(const ProductGrid &g, int64_t tile, const StoredMatrix<S> &a, const StoredMatrix<S> &b, bool add,
               Wide<S> *sum, int64_t stride, const ProductScratch<Wide<S>> &s) {
  using T = Wide<S>;
  int64_t i = g.row(tile), j = g.column(tile), m = g.rows(tile), n = g.columns(tile), k = 0;
  E *panelA = reinterpret_cast<E *>(s.a), *panelB = reinterpret_cast<E *>(s.b);
  bool whole = std::is_same_v<E, S> && !a.order && !b.order;
  int64_t depth = whole ? (g.block ? g.block : g.k) : static_cast<int64_t>(workspace::productDepth);
  for (; k < g.k; k += depth, add = true) {
    int64_t d = std::min(depth, g.k - k), lda, ldb;
    const E *left = a.transposed ? loadPanel(a, k, i, d, m, panelA, lda) : loadPanel(a, i, k, m, d, panelA, lda);
    const E *right = b.transposed ? loadPanel(b, j, k, n, d, panelB, ldb) : loadPanel(b, k, j, d, n, panelB, ldb);
    gemm(a.transposed, b.transposed, m, n, d, T(1), left, lda, right, ldb, T(add ? 1 : 0), sum, stride);
  }
  for (int64_t r = 0; g.k == 0 && !add && r < m; ++r)
    std::fill_n(sum + r * stride, n, T(0));
}

// One tile of the product into, or with `add` onto, `sum`, whose rows are `stride` apart. Operands that are reordered, or
// widened, go through panels of productDepth.
template <class S>
void sumTile(const ProductGrid &g, int64_t tile, const StoredMatrix<S> &a, const StoredMatrix<S> &b, bool add,
             Wide<S> *sum, int64_t stride, const ProductScratch<Wide<S>> &s) {
  if (multipliesStored<S>())
    sumTileOf<S>(g, tile, a, b, add, sum, stride, s);
  else if constexpr (!isWide<S>)
    sumTileOf<Wide<S>>(g, tile, a, b, add, sum, stride, s);
}

// sum += bias in every row.
template <class S> void addBias(const S *bias, int64_t m, int64_t n, Wide<S> *sum, int64_t stride) {
  Block<Wide<S>> block;
  for (int64_t j = 0; j < n; j += blockElements) {
    int64_t columns = std::min<int64_t>(blockElements, n - j);
    widenRow(bias + j, block.data, columns);
    for (int64_t r = 0; r < m; ++r)
      addToRow(sum + r * stride + j, block.data, columns);
  }
}

// One tile of the product into y, [m, n]. Narrow elements are summed in scratch and rounded once. Of an empty inner
// dimension the product is zero. `bias` may be null.
template <class S>
void productTile(const ProductGrid &g, int64_t tile, const StoredMatrix<S> &a, const StoredMatrix<S> &b,
                 const S *bias, S *y, const ProductScratch<Wide<S>> &s) {
  int64_t i = g.row(tile), j = g.column(tile), m = g.rows(tile), n = g.columns(tile);
  auto form = [&](Wide<S> *sum, int64_t stride) {
    sumTile(g, tile, a, b, false, sum, stride, s);
    if (bias)
      addBias(bias + j, m, n, sum, stride);
  };
  if constexpr (isWide<S>) {
    form(y + i * g.n + j, g.n);
  } else {
    form(s.sum, n);
    for (int64_t r = 0; r < m; ++r)
      narrowRow(s.sum + r * n, y + (i + r) * g.n + j, n);
  }
}

// How many pieces of a product may run at once: there is scratch for no more. A thread may join late and find work all
// the same, so fewer pieces than slots have to be said, too.
inline unsigned productSlots(int64_t pieces) {
  return static_cast<unsigned>(std::clamp<int64_t>(pieces, 1, workspace::productSlots));
}

// Calls body(tile, scratch) for all tiles on the pool. `scratch` has workspace::product's bytes, with or without `sums`.
template <class S, class Body>
void forTiles(ThreadPool &pool, const ProductGrid &g, std::byte *scratch, bool sums, Body &&body) {
  if constexpr (isWide<S>)
    pool.parallelFor(g.tiles(), [&](int64_t tile, unsigned) { body(tile, ProductScratch<S>()); });
  else
    pool.parallelFor(g.tiles(), [&](int64_t tile, unsigned slot) {
      body(tile, ProductScratch<Wide<S>>(scratch, slot, g.m, g.n, g.k, sums));
    }, productSlots(g.tiles()));
}
// A whole product into y. `then` is called with each tile that is done.
template <class S, class Then>
void multiply(ThreadPool &pool, const ProductGrid &g, const StoredMatrix<S> &a, const StoredMatrix<S> &b,
              const S *bias, S *y, std::byte *scratch, Then &&then) {
  forTiles<S>(pool, g, scratch, true, [&](int64_t tile, const auto &s) {
    productTile(g, tile, a, b, bias, y, s);
    then(tile);
  });
}
template <class S>
void multiply(ThreadPool &pool, const ProductGrid &g, const StoredMatrix<S> &a, const StoredMatrix<S> &b,
              const S *bias, S *y, std::byte *scratch) {
  multiply(pool, g, a, b, bias, y, scratch, [](int64_t) {});
}
// The same into, or with `add` onto, sums of the arithmetic type that are rounded later, or never. `slotSums`: whether
// the scratch has room for the tiles' sums, which it does not need here.
template <class S>
void multiplySums(ThreadPool &pool, const ProductGrid &g, const StoredMatrix<S> &a, const StoredMatrix<S> &b,
                  bool add, Wide<S> *sums, std::byte *scratch, bool slotSums) {
  forTiles<S>(pool, g, scratch, slotSums, [&](int64_t tile, const auto &s) {
    sumTile(g, tile, a, b, add, sums + g.row(tile) * g.n + g.column(tile), g.n, s);
  });
}

// The kernel of `linear`, for `rows` of the rows of a product (ProductGrid::of).
std::unique_ptr<Kernel> createLinear(plan::DType dtype, int64_t rows, int64_t inner, int64_t columns, bool transpose,
                                     int64_t allRows);

} // namespace amc::rt::cpu

#endif
