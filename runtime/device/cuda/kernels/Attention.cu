// attention and its gradients without tensor cores: f32, f64, and bf16 with heads that AttentionMma.cu does not take; also
// what both have in common, sums of dy * y and rows that are averages.
//
// A block of 16 x 16 threads has a tile of queries (forward, dq) or keys (dk and dv) and walks over tiles of the others, of
// which it leaves out those that the band hides: 64 x 64, in f64 32 x 32. Scores are in registers, R x R for each thread;
// what is multiplied next goes through shared memory. So no sum is shared by blocks, and all run in ascending order: query
// heads of a key head, queries, keys. Operands are widened, probabilities are not rounded. Forward: Dao, FlashAttention-2,
// 2023. Gradients come from two kernels, each of which computes the scores again: seven products instead of five, and no
// atomics.
#include "Attention.cuh"

using namespace amc;

namespace {

constexpr int side = 16, threads = side * side;

// T is what is computed in; C is the most columns of a result that a thread has.
template <class T, int C> struct Shape {
  static constexpr int R = sizeof(T) == 8 ? 2 : 4;
  static constexpr int tile = side * R;
  static constexpr int pitch = tile + 4;              // of rows of a tile in shared memory
  static constexpr int depth = sizeof(T) == 8 ? 16 : 32; // of the inner dimension of scores
  static constexpr int chunk = 16;                    // rows of what is multiplied with probabilities
  static constexpr int operands = 2 * depth * pitch > chunk * C * side ? 2 * depth * pitch : chunk * C * side;
};
template <class T, int C> struct Shared {
  using G = Shape<T, C>;
  T operands[G::operands];
  T scores[G::tile * G::pitch]; // [what is added up over][row of the result]
};

__device__ inline int tx() { return threadIdx.x % side; }
__device__ inline int ty() { return threadIdx.x / side; }

// scores[r][c] = a[ty R + r] . b[tx R + c]; rows beyond the last are zeros.
template <int C, class S, class T, int R>
__device__ void multiplyRows(T (&scores)[R][R], const S *a, int rowsA, const S *b, int rowsB, int width, Shared<T, C> &shared) {
  using G = Shape<T, C>;
  T *sa = shared.operands, *sb = sa + G::depth * G::pitch;
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < R; ++c)
      scores[r][c] = T(0);
  __syncthreads();
  for (int d0 = 0; d0 < width; d0 += G::depth) {
    const int steps = min(G::depth, width - d0);
    for (int e = threadIdx.x; e < G::tile * G::depth; e += threads) {
      const int d = e % G::depth, row = e / G::depth;
      const i64 at = static_cast<i64>(row) * width + d0 + d;
      sa[d * G::pitch + row] = row < rowsA && d < steps ? widen(a[at]) : T(0);
      sb[d * G::pitch + row] = row < rowsB && d < steps ? widen(b[at]) : T(0);
    }
    __syncthreads();
#pragma unroll 4
    for (int d = 0; d < steps; ++d) {
      T x[R], y[R];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        x[r] = sa[d * G::pitch + ty() * R + r];
        y[r] = sb[d * G::pitch + tx() * R + r];
      }
#pragma unroll
      for (int r = 0; r < R; ++r)
#pragma unroll
        for (int c = 0; c < R; ++c)
          scores[r][c] += x[r] * y[c];
    }
    __syncthreads();
  }
}

// Thread (ty, tx) has scores of rows ty R + r and columns tx R + c; they go to shared memory with columns outermost, as what
// sums over columns reads them.
template <int C, class T, int R> __device__ void shareScores(const T (&scores)[R][R], Shared<T, C> &shared) {
  __syncthreads();
#pragma unroll
  for (int c = 0; c < R; ++c)
#pragma unroll
    for (int r = 0; r < R; ++r)
      shared.scores[(tx() * R + c) * Shape<T, C>::pitch + ty() * R + r] = scores[r][c];
}

// sums[r][c] += the shared scores of row ty R + r times column tx + 16 c of m's `rows` rows.
template <int C, class S, class T, int R>
__device__ void addProduct(T (&sums)[R][C], const S *m, int rows, int width, Shared<T, C> &shared) {
  using G = Shape<T, C>;
  for (int k0 = 0; k0 < rows; k0 += G::chunk) {
    __syncthreads();
    for (int e = threadIdx.x; e < G::chunk * C * side; e += threads) {
      const int k = e / (C * side), d = e % (C * side);
      shared.operands[e] = k0 + k < rows && d < width ? widen(m[static_cast<i64>(k0 + k) * width + d]) : T(0);
    }
    __syncthreads();
    const int steps = min(G::chunk, rows - k0);
#pragma unroll 4
    for (int k = 0; k < steps; ++k) {
      T x[R];
#pragma unroll
      for (int r = 0; r < R; ++r)
        x[r] = shared.scores[(k0 + k) * G::pitch + ty() * R + r];
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const T y = shared.operands[k * C * side + tx() + c * side];
#pragma unroll
        for (int r = 0; r < R; ++r)
          sums[r][c] += x[r] * y;
      }
    }
  }
}

template <int C, class S, class T, int R>
__device__ void storeRows(const T (&sums)[R][C], S *to, int rows, int width, const T (&factors)[R]) {
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < C; ++c)
      if (const int row = ty() * R + r, column = tx() + c * side; row < rows && column < width)
        to[static_cast<i64>(row) * width + column] = narrow<S>(sums[r][c] * factors[r]);
}

template <int C, class S, class T, int R> __device__ void storeRows(const T (&sums)[R][C], S *to, int rows, int width) {
  T ones[R];
#pragma unroll
  for (int r = 0; r < R; ++r)
    ones[r] = T(1);
  storeRows<C, S>(sums, to, rows, width, ones);
}

template <int R, int C, class T> __device__ void clear(T (&sums)[R][C]) {
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < C; ++c)
      sums[r][c] = T(0);
}

// Over the 16 threads that have a row.
template <class T> __device__ T maxOfRow(T x) {
  for (int step = side / 2; step > 0; step /= 2)
    x = max(x, __shfl_xor_sync(wholeWarp, x, step));
  return x;
}
template <class T> __device__ T sumOfRow(T x) {
  for (int step = side / 2; step > 0; step /= 2)
    x += __shfl_xor_sync(wholeWarp, x, step);
  return x;
}

// A thread's rows or columns of a tile of scores, in the sequence.
template <int R> struct Positions {
  int first;      // of queries or keys
  bool there[R];
  int position[R];
  template <class Of> __device__ Positions(int skip, int tileFirst, int count, Of of) : first(tileFirst + skip) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      there[r] = skip + r < count;
      position[r] = there[r] ? of(first + r) : 0;
    }
  }
};

// The score of query r and key c of a thread's, minus infinity where there is none.
template <class S, class T, int R>
__device__ T scoreOrNone(const Scores<S> &of, T dot, const Positions<R> &queries, int r, const Positions<R> &keys, int c, T &slope) {
  slope = T(1);
  return queries.there[r] && keys.there[c]
             ? of(dot, queries.first + r, keys.first + c, keys.position[c] - queries.position[r], slope)
             : negativeInfinity<T>();
}

// The gradient of what is multiplied with dy, and of a score: `dp` is dy.v, `factor` is dropout's.
template <class T>
__device__ T slopeOf(const Attention &p, T score, T capSlope, T dp, T lse, T delta, T factor, T &probability) {
  probability = T(0);
  if (score == negativeInfinity<T>() || lse == negativeInfinity<T>())
    return T(0);
  const T exact = exp(score - lse);
  probability = exact * factor;
  return exact * (dp * factor - delta) * capSlope * static_cast<T>(p.scale);
}

// ---- forward: y and lse of a tile of queries

template <class S, int C> __device__ void attend(const Attention &p) {
  using T = WideOf<S>;
  using G = Shape<T, C>;
  constexpr int R = G::R;
  __shared__ Shared<T, C> shared;
  const QueryTile at(p, G::tile);
  const Scores<S> scoreOf(p, at.b, at.h);
  ProbabilityDropout dropout(p);
  const S *q = static_cast<const S *>(p.q) + (at.row0 + at.i0) * p.width;
  const S *k = static_cast<const S *>(p.k) + at.keyHead(p) * p.keys * p.width;
  const S *v = static_cast<const S *>(p.v) + at.keyHead(p) * p.keys * p.valueWidth;
  T top[R], sum[R], y[R][C];
  clear(y);
#pragma unroll
  for (int r = 0; r < R; ++r) {
    top[r] = negativeInfinity<T>();
    sum[r] = T(0);
  }
  for (int j0 = 0; j0 < p.keys; j0 += G::tile) {
    const int columns = min(G::tile, p.keys - j0);
    if (Tile{at.i0, at.i0 + at.rows, j0, j0 + columns}.isHidden(p))
      continue;
    T scores[R][R];
    multiplyRows<C>(scores, q, at.rows, k + static_cast<i64>(j0) * p.width, columns, p.width, shared);
    const Positions<R> queries(ty() * R, at.i0, at.rows, [&](int i) { return queryPosition(p, i); });
    const Positions<R> keys(tx() * R, j0, columns, [&](int j) { return keyPosition(p, j); });
    const unsigned kept = dropout.kept(p, R * R, [&](int n) { return at.row0 + at.i0 + ty() * R + n / R; },
                                       [&](int n) { return j0 + tx() * R + n % R; });
#pragma unroll
    for (int r = 0; r < R; ++r) {
      T highest = top[r], slope, added = T(0);
#pragma unroll
      for (int c = 0; c < R; ++c) {
        scores[r][c] = scoreOrNone(scoreOf, scores[r][c], queries, r, keys, c, slope);
        highest = max(highest, scores[r][c]);
      }
      highest = maxOfRow(highest);
      const T from = finiteTop(highest), before = exp(top[r] - from);
#pragma unroll
      for (int c = 0; c < R; ++c) {
        scores[r][c] = exp(scores[r][c] - from);
        added += scores[r][c];
        if (!(kept >> (r * R + c) & 1))
          scores[r][c] = T(0);
      }
      top[r] = highest;
      sum[r] = sum[r] * before + sumOfRow(added);
#pragma unroll
      for (int c = 0; c < C; ++c)
        y[r][c] *= before;
    }
    shareScores<C>(scores, shared);
    addProduct<C>(y, v + static_cast<i64>(j0) * p.valueWidth, columns, p.valueWidth, shared);
  }
  // A sum of 0 (not NaN): nothing to attend to.
  T factors[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = ty() * R + r;
    factors[r] = sum[r] == T(0) ? T(0) : (dropout.active ? static_cast<T>(p.keepScale) : T(1)) / sum[r];
    if (tx() == 0 && row < at.rows)
      static_cast<T *>(p.lse)[at.row0 + at.i0 + row] =
          sum[r] == T(0) ? negativeInfinity<T>() : finiteTop(top[r]) + log(sum[r]);
  }
  storeRows<C>(y, static_cast<S *>(p.y) + (at.row0 + at.i0) * p.valueWidth, at.rows, p.valueWidth, factors);
}

// ---- backward: dk and dv of a tile of keys

template <class S, int C> __device__ void keyGradients(const Attention &p) {
  using T = WideOf<S>;
  using G = Shape<T, C>;
  constexpr int R = G::R;
  __shared__ Shared<T, C> shared;
  const KeyTile at(p, G::tile);
  ProbabilityDropout dropout(p);
  const S *k = static_cast<const S *>(p.k) + (at.row0 + at.j0) * p.width;
  const S *v = static_cast<const S *>(p.v) + (at.row0 + at.j0) * p.valueWidth;
  const T keep = dropout.active ? static_cast<T>(p.keepScale) : T(1);
  T dk[R][C], dv[R][C];
  clear(dk);
  clear(dv);
  const int group = p.heads / p.keyHeads;
  for (int h = at.kv * group; h < (at.kv + 1) * group; ++h) {
    const Scores<S> scoreOf(p, at.b, h);
    const i64 row0 = (static_cast<i64>(at.b) * p.heads + h) * p.queries;
    for (int i0 = 0; i0 < p.queries; i0 += G::tile) {
      const int queries = min(G::tile, p.queries - i0);
      if (!p.average && Tile{i0, i0 + queries, at.j0, at.j0 + at.rows}.isHidden(p))
        continue;
      const S *q = static_cast<const S *>(p.q) + (row0 + i0) * p.width;
      const S *dy = static_cast<const S *>(p.dy) + (row0 + i0) * p.valueWidth;
      T scores[R][R], slopes[R][R]; // of keys and queries
      multiplyRows<C>(scores, k, at.rows, q, queries, p.width, shared);
      multiplyRows<C>(slopes, v, at.rows, dy, queries, p.valueWidth, shared);
      const Positions<R> keyRows(ty() * R, at.j0, at.rows, [&](int j) { return keyPosition(p, j); });
      const Positions<R> queryColumns(tx() * R, i0, queries, [&](int i) { return queryPosition(p, i); });
      const unsigned kept = dropout.kept(p, R * R, [&](int n) { return row0 + i0 + tx() * R + n % R; },
                                         [&](int n) { return at.j0 + ty() * R + n / R; });
#pragma unroll
      for (int c = 0; c < R; ++c) {
        const i64 row = row0 + queryColumns.first + c;
        const bool there = queryColumns.there[c], averaged = there && p.average && p.averaged[row];
        const T lse = there ? static_cast<const T *>(p.lse)[row] : negativeInfinity<T>();
        const T delta = there ? static_cast<const T *>(p.delta)[row] : T(0);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          T capSlope;
          const T score = scoreOrNone(scoreOf, scores[r][c], queryColumns, c, keyRows, r, capSlope);
          const T factor = kept >> (r * R + c) & 1 ? keep : T(0);
          slopes[r][c] = slopeOf(p, score, capSlope, slopes[r][c], lse, delta, factor, scores[r][c]);
          if (averaged) // every value has the same weight, whatever the scores are
            scores[r][c] = factor / static_cast<T>(p.keys);
        }
      }
      shareScores<C>(scores, shared);
      addProduct<C>(dv, dy, queries, p.valueWidth, shared);
      shareScores<C>(slopes, shared);
      addProduct<C>(dk, q, queries, p.width, shared);
    }
  }
  storeRows<C>(dk, static_cast<S *>(p.dk) + (at.row0 + at.j0) * p.width, at.rows, p.width);
  storeRows<C>(dv, static_cast<S *>(p.dv) + (at.row0 + at.j0) * p.valueWidth, at.rows, p.valueWidth);
}

// ---- backward: dq of a tile of queries

template <class S, int C> __device__ void queryGradients(const Attention &p) {
  using T = WideOf<S>;
  using G = Shape<T, C>;
  constexpr int R = G::R;
  __shared__ Shared<T, C> shared;
  const QueryTile at(p, G::tile);
  const Scores<S> scoreOf(p, at.b, at.h);
  ProbabilityDropout dropout(p);
  const S *q = static_cast<const S *>(p.q) + (at.row0 + at.i0) * p.width;
  const S *dy = static_cast<const S *>(p.dy) + (at.row0 + at.i0) * p.valueWidth;
  const S *k = static_cast<const S *>(p.k) + at.keyHead(p) * p.keys * p.width;
  const S *v = static_cast<const S *>(p.v) + at.keyHead(p) * p.keys * p.valueWidth;
  const T keep = dropout.active ? static_cast<T>(p.keepScale) : T(1);
  T lse[R], delta[R], dq[R][C];
  clear(dq);
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = ty() * R + r;
    lse[r] = row < at.rows ? static_cast<const T *>(p.lse)[at.row0 + at.i0 + row] : negativeInfinity<T>();
    delta[r] = row < at.rows ? static_cast<const T *>(p.delta)[at.row0 + at.i0 + row] : T(0);
  }
  for (int j0 = 0; j0 < p.keys; j0 += G::tile) {
    const int columns = min(G::tile, p.keys - j0);
    if (Tile{at.i0, at.i0 + at.rows, j0, j0 + columns}.isHidden(p))
      continue;
    T scores[R][R], slopes[R][R];
    multiplyRows<C>(scores, q, at.rows, k + static_cast<i64>(j0) * p.width, columns, p.width, shared);
    multiplyRows<C>(slopes, dy, at.rows, v + static_cast<i64>(j0) * p.valueWidth, columns, p.valueWidth, shared);
    const Positions<R> queries(ty() * R, at.i0, at.rows, [&](int i) { return queryPosition(p, i); });
    const Positions<R> keys(tx() * R, j0, columns, [&](int j) { return keyPosition(p, j); });
    const unsigned kept = dropout.kept(p, R * R, [&](int n) { return at.row0 + at.i0 + ty() * R + n / R; },
                                       [&](int n) { return j0 + tx() * R + n % R; });
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < R; ++c) {
        T capSlope, probability;
        const T score = scoreOrNone(scoreOf, scores[r][c], queries, r, keys, c, capSlope);
        slopes[r][c] = slopeOf(p, score, capSlope, slopes[r][c], lse[r], delta[r], kept >> (r * R + c) & 1 ? keep : T(0), probability);
      }
    shareScores<C>(slopes, shared);
    addProduct<C>(dq, k + static_cast<i64>(j0) * p.width, columns, p.width, shared);
  }
  storeRows<C>(dq, static_cast<S *>(p.dq) + (at.row0 + at.i0) * p.width, at.rows, p.width);
}

// ---- a warp for each row of [batch, heads, queries]

struct WarpRow {
  i64 row;
  int b, h, i, lane;
  __device__ explicit WarpRow(const Attention &p)
      : row(globalThread() / 32), b(static_cast<int>(row / p.queries / p.heads)),
        h(static_cast<int>(row / p.queries % p.heads)), i(static_cast<int>(row % p.queries)), lane(threadIdx.x % 32) {}
  __device__ bool isThere(const Attention &p) const { return row < static_cast<i64>(p.batch) * p.heads * p.queries; }
};

// delta, and which rows have nothing to attend to: a key with a bias of minus infinity is none.
template <class S> __device__ void sumRows(const Attention &p) {
  using T = WideOf<S>;
  const WarpRow at(p);
  if (!at.isThere(p))
    return;
  const S *dy = static_cast<const S *>(p.dy) + at.row * p.valueWidth, *y = static_cast<const S *>(p.y) + at.row * p.valueWidth;
  T sum = T(0);
  for (int d = at.lane; d < p.valueWidth; d += 32)
    sum += widen(dy[d]) * widen(y[d]);
  for (int step = 16; step > 0; step /= 2)
    sum += __shfl_xor_sync(wholeWarp, sum, step);
  bool found = !p.average;
  const Scores<S> scores(p, at.b, at.h);
  const int position = queryPosition(p, at.i);
  for (int j0 = 0; j0 < p.keys && !found; j0 += 32) {
    const int j = j0 + at.lane;
    const bool seen = j < p.keys && scores.sees(keyPosition(p, j) - position, j) && (!p.bias || scores.biasAt(at.i, j) != negativeInfinity<T>());
    found = __any_sync(wholeWarp, seen);
  }
  if (at.lane == 0) {
    static_cast<T *>(p.delta)[at.row] = sum;
    p.averaged[at.row] = !found;
  }
}

// Behind the forward kernel: rows with nothing to attend to become the mean of all values.
template <class S> __device__ void averageRows(const Attention &p) {
  using T = WideOf<S>;
  const WarpRow at(p);
  if (!at.isThere(p) || static_cast<const T *>(p.lse)[at.row] != negativeInfinity<T>())
    return;
  ProbabilityDropout dropout(p);
  const T keep = dropout.active ? static_cast<T>(p.keepScale) : T(1);
  const i64 keyHead = static_cast<i64>(at.b) * p.keyHeads + at.h / (p.heads / p.keyHeads);
  const S *v = static_cast<const S *>(p.v) + keyHead * p.keys * p.valueWidth;
  S *y = static_cast<S *>(p.y) + at.row * p.valueWidth;
  for (int d = at.lane; d < p.valueWidth; d += 32) {
    T sum = T(0);
    for (int j = 0; j < p.keys; ++j)
      if (!dropout.active || dropout.keeps(static_cast<u64>(at.row) * static_cast<u64>(p.keys) + static_cast<u64>(j)))
        sum += widen(v[static_cast<i64>(j) * p.valueWidth + d]);
    y[d] = narrow<S>(sum / static_cast<T>(p.keys) * keep);
  }
  __syncwarp();
  if (at.lane == 0)
    static_cast<T *>(p.lse)[at.row] = log(static_cast<T>(p.keys));
}

} // namespace

#define MAKE(S, suffix, C)                                                                                             \
  extern "C" __global__ void __launch_bounds__(threads) attention_##suffix##_##C(const Attention p) { attend<S, C>(p); } \
  extern "C" __global__ void __launch_bounds__(threads) attention_dkv_##suffix##_##C(const Attention p) {              \
    keyGradients<S, C>(p);                                                                                             \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(threads) attention_dq_##suffix##_##C(const Attention p) {               \
    queryGradients<S, C>(p);                                                                                           \
  }
// The number is columns by 16.
MAKE(float, f32, 4)
MAKE(float, f32, 8)
MAKE(float, f32, 16)
MAKE(double, f64, 4)
MAKE(double, f64, 16)
MAKE(__nv_bfloat16, bf16, 16)
#undef MAKE

#define MAKE(S, suffix)                                                                                                \
  extern "C" __global__ void attention_delta_##suffix(const Attention p) { sumRows<S>(p); }                            \
  extern "C" __global__ void attention_average_##suffix(const Attention p) { averageRows<S>(p); }
AMC_FOR_DATA(MAKE)
MAKE(double, f64)
#undef MAKE
