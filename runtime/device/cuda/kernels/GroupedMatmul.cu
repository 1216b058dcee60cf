// grouped_matmul and grouped_matmul_weight_grad. Rows are sorted by group, stably, by counting: each block of 1024 rows counts,
// one block turns counts into places, each row goes to its own. Then a group is a product of its own, whose rows are read at
// the order's places. How many rows a group has is known on the device only: as many blocks are launched as there may be
// tiles, and those beyond leave. Rows without a group become zeros.
//
// A block has a tile of a result and adds up all of its inner dimension, ascending, so a row's bits do not depend on which rows
// share its group. f32 and f64 by 16 x 16 threads of R x R elements; bf16 by tensor cores, 64 x 128 by four warps, with the next
// 64 of the inner dimension on their way while those before are multiplied (48 KiB).
#include "Mma.cuh"
#include "runtime/device/cuda/kernels/GroupedMatmul.h"

using namespace amc;

namespace {

// ---- sorting

constexpr int sortThreads = 1024; // rows of a block, too


// The group of a row, `groups` where it has none or one that there is not.
__device__ int validGroupOf(const Grouped &p, int row, bool reports) {
  const i64 id = p.wideIds ? static_cast<const i64 *>(p.ids)[row] : static_cast<const int *>(p.ids)[row];
  if (id >= 0 && id < p.groups)
    return static_cast<int>(id);
  if (reports && !(p.padded && id == p.groups))
    fail(p.failure, row, id);
  return p.groups;
}

// Exclusive sums over the block's threads of what each has; `total` becomes all of them.
__device__ int sumBefore(int x, int *shared, int &total) {
  shared[threadIdx.x] = x;
  __syncthreads();
  int sum = x;
  for (int step = 1; step < sortThreads; step *= 2) {
    const int other = static_cast<int>(threadIdx.x) >= step ? shared[threadIdx.x - step] : 0;
    __syncthreads();
    shared[threadIdx.x] = sum += other;
    __syncthreads();
  }
  total = shared[sortThreads - 1];
  __syncthreads();
  return sum - x;
}

} // namespace

extern "C" __global__ void __launch_bounds__(sortThreads) grouped_count(const Grouped p) {
  __shared__ int counts[sortThreads];
  const int row = static_cast<int>(globalThread()), group = row < p.rows ? validGroupOf(p, row, true) : -1;
  for (int first = 0; first <= p.groups; first += sortThreads) {
    const int mine = first + static_cast<int>(threadIdx.x);
    counts[threadIdx.x] = 0;
    __syncthreads();
    if (group >= first && group < first + sortThreads)
      atomicAdd(&counts[group - first], 1);
    __syncthreads();
    if (mine <= p.groups)
      p.counts[static_cast<i64>(blockIdx.x) * (p.groups + 1) + mine] = counts[threadIdx.x];
    __syncthreads();
  }
}

// counts of a block of rows become what blocks before it have. One block.
extern "C" __global__ void __launch_bounds__(sortThreads) grouped_starts(const Grouped p) {
  __shared__ int shared[sortThreads];
  const int blocks = (p.rows + sortThreads - 1) / sortThreads;
  int rowsBefore = 0, tilesBefore = 0;
  for (int first = 0; first <= p.groups; first += sortThreads) {
    const int group = first + static_cast<int>(threadIdx.x);
    int rows = 0, allRows, allTiles;
    for (int block = 0; block < blocks && group <= p.groups; ++block) {
      int *count = p.counts + static_cast<i64>(block) * (p.groups + 1) + group;
      const int here = *count;
      *count = rows;
      rows += here;
    }
    const int start = rowsBefore + sumBefore(rows, shared, allRows);
    const int tile = tilesBefore + sumBefore((rows + p.tileRows - 1) / p.tileRows, shared, allTiles);
    rowsBefore += allRows;
    tilesBefore += allTiles;
    if (group <= p.groups) {
      p.starts[group] = start;
      p.tiles[group] = tile;
    }
  }
  if (threadIdx.x == 0) {
    p.starts[p.groups + 1] = rowsBefore;
    p.tiles[p.groups + 1] = tilesBefore;
  }
}

extern "C" __global__ void __launch_bounds__(sortThreads) grouped_place(const Grouped p) {
  __shared__ int groups[sortThreads];
  const int row = static_cast<int>(globalThread()), group = row < p.rows ? validGroupOf(p, row, false) : -1;
  groups[threadIdx.x] = group;
  __syncthreads();
  if (row >= p.rows)
    return;
  int before = 0;
  for (int i = 0; i < static_cast<int>(threadIdx.x); ++i)
    before += groups[i] == group;
  p.order[p.starts[group] + p.counts[static_cast<i64>(blockIdx.x) * (p.groups + 1) + group] + before] = row;
}

namespace {

// ---- tiles

// Rows [first, first + count) of the order that a block works on, of a group or of none.
struct RowTile {
  int group, first, count = 0, columnTile;

  __device__ RowTile(const Grouped &p, int columnTiles) {
    const int tile = static_cast<int>(blockIdx.x / columnTiles);
    columnTile = static_cast<int>(blockIdx.x % columnTiles);
    if (tile >= p.tiles[p.groups + 1])
      return;
    int low = 0, high = p.groups; // the last group that begins at or before the tile: others there are empty
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (p.tiles[middle] <= tile)
        low = middle;
      else
        high = middle - 1;
    }
    group = low;
    first = p.starts[group] + (tile - p.tiles[group]) * p.tileRows;
    count = min(p.tileRows, p.starts[group + 1] - first);
  }
};

// A tile of the gradient of a group's matrix, as it is stored: left^T right.
template <int tileDown, int tileAcross> struct GradientTile {
  int group, down, across, row0, column0; // of the matrix; of the tile
  int first, count;                       // of the group's rows in the order
  __device__ explicit GradientTile(const Grouped &p)
      : down(p.transposeW ? p.columns : p.inner), across(p.transposeW ? p.inner : p.columns) {
    const int tilesDown = (down + tileDown - 1) / tileDown, tilesAcross = (across + tileAcross - 1) / tileAcross;
    unsigned rest = blockIdx.x;
    column0 = static_cast<int>(rest % tilesAcross) * tileAcross;
    rest /= tilesAcross;
    row0 = static_cast<int>(rest % tilesDown) * tileDown;
    group = static_cast<int>(rest / tilesDown);
    first = p.starts[group];
    count = p.starts[group + 1] - first;
  }
};

// ---- f32 and f64

constexpr int side = 16, plainThreads = side * side, depth = 16;

template <class T> struct Plain {
  static constexpr int R = sizeof(T) == 8 ? 2 : 4, tile = side * R, pitch = tile + 4;
};

// sums[r][c] = the sum over k of a(k, ty R + r) b(k, tx R + c). Neighbours in k stand side by side in an operand, or not.
template <class T, int R, class A, class B>
__device__ void multiplyTile(T (&sums)[R][R], int inner, bool alongA, bool alongB, A a, B b) {
  using G = Plain<T>;
  __shared__ T sa[depth * G::pitch], sb[depth * G::pitch];
  const int tx = threadIdx.x % side, ty = threadIdx.x / side;
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < R; ++c)
      sums[r][c] = T(0);
  for (int k0 = 0; k0 < inner; k0 += depth) {
    const int steps = min(depth, inner - k0);
    for (int e = threadIdx.x; e < depth * G::tile; e += plainThreads) {
      const int ka = alongA ? e % depth : e / G::tile, m = alongA ? e / depth : e % G::tile;
      const int kb = alongB ? e % depth : e / G::tile, n = alongB ? e / depth : e % G::tile;
      sa[ka * G::pitch + m] = ka < steps ? a(k0 + ka, m) : T(0);
      sb[kb * G::pitch + n] = kb < steps ? b(k0 + kb, n) : T(0);
    }
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < steps; ++k) {
      T x[R], y[R];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        x[r] = sa[k * G::pitch + ty * R + r];
        y[r] = sb[k * G::pitch + tx * R + r];
      }
#pragma unroll
      for (int r = 0; r < R; ++r)
#pragma unroll
        for (int c = 0; c < R; ++c)
          sums[r][c] += x[r] * y[c];
    }
    __syncthreads();
  }
}

template <class T> __device__ void multiplyGroups(const Grouped &p) {
  using G = Plain<T>;
  constexpr int R = G::R;
  __shared__ int rows[G::tile];
  const RowTile at(p, (p.columns + G::tile - 1) / G::tile);
  if (at.count == 0)
    return;
  for (int r = threadIdx.x; r < at.count; r += plainThreads)
    rows[r] = p.order[at.first + r];
  __syncthreads();
  const int column0 = at.columnTile * G::tile;
  const T *x = static_cast<const T *>(p.x), *w = static_cast<const T *>(p.w) + static_cast<i64>(at.group) * p.inner * p.columns;
  T sums[R][R];
  multiplyTile(
      sums, at.group < p.groups ? p.inner : 0, true, p.transposeW,
      [&](int k, int m) { return m < at.count ? x[static_cast<i64>(rows[m]) * p.inner + k] : T(0); },
      [&](int k, int n) {
        const int column = column0 + n;
        return column >= p.columns ? T(0)
               : p.transposeW      ? w[static_cast<i64>(column) * p.inner + k]
                                   : w[static_cast<i64>(k) * p.columns + column];
      });
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < R; ++c)
      if (const int row = static_cast<int>(threadIdx.x) / side * R + r, column = column0 + static_cast<int>(threadIdx.x) % side * R + c;
          row < at.count && column < p.columns)
        static_cast<T *>(p.y)[static_cast<i64>(rows[row]) * p.columns + column] = sums[r][c];
}

template <class T> __device__ void multiplyGradients(const Grouped &p) {
  using G = Plain<T>;
  constexpr int R = G::R;
  const GradientTile<G::tile, G::tile> at(p);
  const T *left = static_cast<const T *>(p.transposeW ? p.dy : p.x), *right = static_cast<const T *>(p.transposeW ? p.x : p.dy);
  T sums[R][R];
  multiplyTile(
      sums, at.count, false, false,
      [&](int k, int m) {
        return at.row0 + m < at.down ? left[static_cast<i64>(p.order[at.first + k]) * at.down + at.row0 + m] : T(0);
      },
      [&](int k, int n) {
        return at.column0 + n < at.across ? right[static_cast<i64>(p.order[at.first + k]) * at.across + at.column0 + n] : T(0);
      });
  T *dw = static_cast<T *>(p.dw) + static_cast<i64>(at.group) * at.down * at.across;
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < R; ++c)
      if (const int row = at.row0 + static_cast<int>(threadIdx.x) / side * R + r,
          column = at.column0 + static_cast<int>(threadIdx.x) % side * R + c;
          row < at.down && column < at.across)
        dw[static_cast<i64>(row) * at.across + column] = sums[r][c];
}

// ---- bf16

constexpr int mmaThreads = 128, mmaRows = 64, mmaColumns = 128, mmaDepth = 64;

// `count` rows of a tile of `columns`: row(r) is where its first element is, null for zeros; `left` elements are there.
template <int columns, int count, class Row> __device__ void copyRows(Bf16 *to, Row row, int left, bool aligned) {
  for (int e = threadIdx.x; e < count * columns / 8; e += mmaThreads) {
    const int r = e / (columns / 8), chunk = e % (columns / 8);
    const Bf16 *from = row(r);
    const int here = from ? left - 8 * chunk : 0;
    copyChunk(to + chunkAt<columns>(r, chunk), from + 8 * chunk, here, aligned && here >= 8);
  }
}

// The sums of a warp of 2 x 2: 32 rows and 64 columns of the block's.
using WarpSums = float[2][8][4];

// Left tiles are [rows, inner], or leftAcross [inner, rows]; right ones [columns, inner], or rightAcross [inner, columns].
// copyLeft(k0, to) and copyRight begin to copy the tiles of inner positions k0 to k0 + 63.
template <bool leftAcross, bool rightAcross, class Left, class Right>
__device__ void multiplyMma(WarpSums &sums, int inner, Left copyLeft, Right copyRight) {
  __shared__ alignas(128) Bf16 left[2][mmaRows * mmaDepth], right[2][mmaColumns * mmaDepth];
  const int warp = threadIdx.x / 32, row0 = warp / 2 * 32, column0 = warp % 2 * 64;
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x)
        sums[m][n][x] = 0;
  if (inner > 0) {
    copyLeft(0, left[0]);
    copyRight(0, right[0]);
  }
  commitCopies();
  for (int k0 = 0, stage = 0; k0 < inner; k0 += mmaDepth, stage ^= 1) {
    if (k0 + mmaDepth < inner) {
      copyLeft(k0 + mmaDepth, left[stage ^ 1]);
      copyRight(k0 + mmaDepth, right[stage ^ 1]);
    }
    commitCopies();
    waitForCopies<1>();
    __syncthreads();
#pragma unroll
    for (int step = 0; step < mmaDepth / 16; ++step) {
      Fragment4 a[2];
#pragma unroll
      for (int m = 0; m < 2; ++m)
        a[m] = leftAcross ? leftOperandTransposed<mmaRows>(left[stage], row0 + 16 * m, step)
                          : leftOperand<mmaDepth>(left[stage], row0 + 16 * m, step);
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        const Fragment4 b = rightAcross ? rightOperandsTransposed<mmaColumns>(right[stage], column0 + 8 * n, step)
                                        : rightOperands<mmaDepth>(right[stage], column0 + 8 * n, step);
#pragma unroll
        for (int m = 0; m < 2; ++m)
          multiplyAdd(sums[m][n], sums[m][n + 1], a[m], b);
      }
    }
    __syncthreads();
  }
}

// Calls store(row, column, low, high) for pairs of neighbours of the block's tile.
template <class Store> __device__ void eachPair(const WarpSums &sums, Store store) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        store(warp / 2 * 32 + 16 * m + lane / 4 + 8 * half, warp % 2 * 64 + 8 * n + lane % 4 * 2, sums[m][n][2 * half],
              sums[m][n][2 * half + 1]);
}

template <bool transposeW> __device__ void multiplyGroupsMma(const Grouped &p) {
  const RowTile at(p, (p.columns + mmaColumns - 1) / mmaColumns);
  if (at.count == 0)
    return;
  const int column0 = at.columnTile * mmaColumns;
  const Bf16 *x = static_cast<const Bf16 *>(p.x),
             *w = static_cast<const Bf16 *>(p.w) + static_cast<i64>(at.group) * p.inner * p.columns;
  WarpSums sums;
  multiplyMma<false, !transposeW>(
      sums, at.group < p.groups ? p.inner : 0,
      [&](int k0, Bf16 *to) {
        copyRows<mmaDepth, mmaRows>(
            to, [&](int r) { return r < at.count ? x + static_cast<i64>(p.order[at.first + r]) * p.inner + k0 : nullptr; }, p.inner - k0, p.aligned);
      },
      [&](int k0, Bf16 *to) {
        if (transposeW)
          copyRows<mmaDepth, mmaColumns>(
              to, [&](int n) { return column0 + n < p.columns ? w + static_cast<i64>(column0 + n) * p.inner + k0 : nullptr; },
              p.inner - k0, p.aligned);
        else
          copyRows<mmaColumns, mmaDepth>(
              to, [&](int k) { return k0 + k < p.inner ? w + static_cast<i64>(k0 + k) * p.columns + column0 : nullptr; },
              p.columns - column0, p.aligned);
      });
  eachPair(sums, [&](int row, int column, float low, float high) {
    if (row < at.count)
      storePair(static_cast<Bf16 *>(p.y) + static_cast<i64>(p.order[at.first + row]) * p.columns + column0 + column, low, high,
                p.columns - column0 - column, p.aligned);
  });
}

template <class R> __device__ void multiplyGradientsMma(const Grouped &p) {
  const GradientTile<mmaRows, mmaColumns> at(p);
  const Bf16 *left = static_cast<const Bf16 *>(p.transposeW ? p.dy : p.x),
             *right = static_cast<const Bf16 *>(p.transposeW ? p.x : p.dy);
  WarpSums sums;
  multiplyMma<true, true>(
      sums, at.count,
      [&](int k0, Bf16 *to) {
        copyRows<mmaRows, mmaDepth>(
            to,
            [&](int k) { return k0 + k < at.count ? left + static_cast<i64>(p.order[at.first + k0 + k]) * at.down + at.row0 : nullptr; },
            at.down - at.row0, p.aligned);
      },
      [&](int k0, Bf16 *to) {
        copyRows<mmaColumns, mmaDepth>(
            to,
            [&](int k) { return k0 + k < at.count ? right + static_cast<i64>(p.order[at.first + k0 + k]) * at.across + at.column0 : nullptr; },
            at.across - at.column0, p.aligned);
      });
  R *dw = static_cast<R *>(p.dw) + static_cast<i64>(at.group) * at.down * at.across;
  eachPair(sums, [&](int row, int column, float low, float high) {
    const int left = at.across - at.column0 - column;
    R *to = dw + static_cast<i64>(at.row0 + row) * at.across + at.column0 + column;
    if (at.row0 + row < at.down && left > 0)
      to[0] = narrow<R>(low);
    if (at.row0 + row < at.down && left > 1)
      to[1] = narrow<R>(high);
  });
}

} // namespace

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void __launch_bounds__(plainThreads) grouped_matmul_##suffix(const Grouped p) { multiplyGroups<T>(p); } \
  extern "C" __global__ void __launch_bounds__(plainThreads) grouped_gradient_##suffix(const Grouped p) {              \
    multiplyGradients<T>(p);                                                                                           \
  }
MAKE(float, f32)
MAKE(double, f64)
#undef MAKE

extern "C" __global__ void __launch_bounds__(mmaThreads) grouped_matmul_bf16(const Grouped p) { multiplyGroupsMma<false>(p); }
extern "C" __global__ void __launch_bounds__(mmaThreads) grouped_matmul_bf16_transposed(const Grouped p) {
  multiplyGroupsMma<true>(p);
}
extern "C" __global__ void __launch_bounds__(mmaThreads) grouped_gradient_bf16(const Grouped p) { multiplyGradientsMma<Bf16>(p); }
extern "C" __global__ void __launch_bounds__(mmaThreads) grouped_gradient_bf16_wide(const Grouped p) {
  multiplyGradientsMma<float>(p);
}
