// attention and its gradients in bf16 by tensor cores, heads of at most 128 columns. The plan of work is Attention.cu's;
// probabilities and the scores' gradients are rounded to bf16 before they are multiplied, their sums are of what was there
// before.
//
// A block of four warps has 64 queries (forward, dq) or keys (dk and dv), of which each warp has 16 rows. Operands are copied
// to shared memory (at most 48 KiB), columns beyond a head's as zeros; scores never leave the registers, where the result of
// one product is the left operand of the next. Forward: while scores of a tile are computed its values are on their way, and
// while those are multiplied the next keys. Scores are in units of log 2, for ex2. Zigzag: runs are multiples of 64.
#include "Attention.cuh"
#include "Mma.cuh"

using namespace amc;

namespace {

constexpr int warps = 4, threads = 32 * warps, rowsOfBlock = 16 * warps;
constexpr float log2e = 1.4426950408889634f, ln2 = 0.6931471805599453f;

// exp2 of a float, 0 for minus infinity.
__device__ inline float exp2Of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline int warpRow() { return threadIdx.x / 32 * 16; } // first of this warp's rows
__device__ inline int laneRow() { return threadIdx.x % 32 / 4; }
__device__ inline int laneColumn() { return threadIdx.x % 4 * 2; }

// A tile of D columns: `rows` of `from`'s rows, of width elements, and zeros up to `count`.
template <int D, int count> __device__ void copyTile(Bf16 *to, const Bf16 *from, int rows, int width, bool aligned) {
  for (int e = threadIdx.x; e < count * D / 8; e += threads) {
    const int row = e / (D / 8), chunk = e % (D / 8), left = row < rows ? width - 8 * chunk : 0;
    copyChunk(to + chunkAt<D>(row, chunk), from + static_cast<i64>(row) * width + 8 * chunk, left, aligned && left >= 8);
  }
}

// sums of a warp's 16 rows of `left` and all rows of `right`, both [rows, D].
template <int D, int N> __device__ void multiplyRows(float (&sums)[N][4], const Bf16 *left, const Bf16 *right) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int x = 0; x < 4; ++x)
      sums[n][x] = 0;
#pragma unroll 4 // all of 128 columns would keep more addresses in registers than there are
  for (int step = 0; step < D / 16; ++step) {
    const Fragment4 a = leftOperand<D>(left, warpRow(), step);
#pragma unroll
    for (int n = 0; n < N; n += 2)
      multiplyAdd(sums[n], sums[n + 1], a, rightOperands<D>(right, 8 * n, step));
  }
}

// sums += weights m, m a tile [N * 8, D].
template <int D, int N> __device__ void addProduct(float (&sums)[D / 8][4], const float (&weights)[N][4], const Bf16 *m) {
#pragma unroll
  for (int k = 0; k < N; k += 2) {
    const Fragment4 a = asLeftOperand(weights[k], weights[k + 1]);
#pragma unroll
    for (int n = 0; n < D / 8; n += 2)
      multiplyAdd(sums[n], sums[n + 1], a, rightOperandsTransposed<D>(m, 8 * n, k / 2));
  }
}

template <int N> __device__ void clear(float (&sums)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int x = 0; x < 4; ++x)
      sums[n][x] = 0;
}

// `to`: the tile's first row in the result.
template <int N>
__device__ void storeRows(const float (&sums)[N][4], Bf16 *to, int rows, int width, float first, float second, bool aligned) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warpRow() + laneRow() + 8 * half;
    const float factor = half ? second : first;
    if (row < rows)
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const int column = 8 * n + laneColumn();
        storePair(to + static_cast<i64>(row) * width + column, sums[n][2 * half] * factor, sums[n][2 * half + 1] * factor,
                  width - column, aligned);
      }
  }
}

// A thread's part of a tile of scores, N times 16 x 8 with queries as rows, or with keys.
template <bool queriesDown> struct Part {
  Tile tile;
  __device__ int i(int n, int x) const {
    return tile.i0 + (queriesDown ? warpRow() + laneRow() + x / 2 * 8 : n * 8 + laneColumn() + x % 2);
  }
  __device__ int j(int n, int x) const {
    return tile.j0 + (queriesDown ? n * 8 + laneColumn() + x % 2 : warpRow() + laneRow() + x / 2 * 8);
  }
};

// Products become scores, in units of log 2. In backward `gradients` are multiplied with the softcap's derivative.
template <bool backward, bool queriesDown, int N>
__device__ void makeScores(float (&scores)[N][4], float (&gradients)[N][4], const Scores<Bf16> &of, const Part<queriesDown> &at) {
  const Attention &p = of.p;
  const float scale = of.softcap > 0 ? of.scale * of.inverseSoftcap : of.scale * log2e;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int x = 0; x < 4; ++x)
      scores[n][x] *= scale;
  if (of.softcap > 0) {
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const float t = 1 - __fdividef(2, 1 + exp2Of(scores[n][x] * (2 * log2e))); // within 2^-23 of tanh
        scores[n][x] = of.softcap * log2e * t;
        if (backward)
          gradients[n][x] *= 1 - t * t;
      }
  }
  if (of.bias) {
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x)
        if (const int i = at.i(n, x), j = at.j(n, x); i < p.queries && j < p.keys)
          scores[n][x] += of.biasAt(i, j) * log2e;
  }
  constexpr int keysOfTile = queriesDown ? 8 * N : rowsOfBlock;
  if (of.padding || at.tile.j1 - at.tile.j0 < keysOfTile || !at.tile.isWhole(p)) {
    const int ahead = keyPosition(p, at.tile.j0) - queryPosition(p, at.tile.i0) - at.tile.j0 + at.tile.i0;
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const int i = at.i(n, x), j = at.j(n, x), distance = ahead + j - i;
        if (j >= p.keys || distance > p.right || distance < -p.left || (of.padding && !of.padding[j]))
          scores[n][x] = negativeInfinity<float>();
      }
  }
}

// Which elements are kept, bit 4 n + x.
template <bool queriesDown, int N>
__device__ unsigned keptElements(const Attention &p, ProbabilityDropout &dropout, const Part<queriesDown> &at, i64 row0) {
  return dropout.kept(p, 4 * N, [&](int n) { return row0 + at.i(n / 4, n % 4); }, [&](int n) { return at.j(n / 4, n % 4); });
}

__device__ inline int nextKeys(const Attention &p, const QueryTile &at, int j0, int tile) {
  while (j0 < p.keys && Tile{at.i0, at.i0 + at.rows, j0, min(j0 + tile, p.keys)}.isHidden(p))
    j0 += tile;
  return j0;
}

// ---- forward

// The maxima and sums of a thread's two rows; scores become probabilities, `before` what has been added up is scaled with.
template <int N> __device__ void softmax(float (&scores)[N][4], float (&top)[2], float (&sum)[2], float (&before)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float highest = top[half], added = 0;
#pragma unroll
    for (int n = 0; n < N; ++n)
      highest = fmaxf(highest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    highest = fmaxf(highest, __shfl_xor_sync(wholeWarp, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(wholeWarp, highest, 2));
    const float from = finiteTop(highest);
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int x = 2 * half; x < 2 * half + 2; ++x)
        added += scores[n][x] = exp2Of(scores[n][x] - from);
    added += __shfl_xor_sync(wholeWarp, added, 1);
    added += __shfl_xor_sync(wholeWarp, added, 2);
    before[half] = exp2Of(top[half] - from);
    sum[half] = sum[half] * before[half] + added;
    top[half] = highest;
  }
}

template <int D, bool drops> __device__ void attend(const Attention &p) {
  constexpr int keys = 64, N = keys / 8;
  __shared__ alignas(128) Bf16 q[rowsOfBlock * D], k[keys * D], v[keys * D];
  const QueryTile at(p, rowsOfBlock);
  const Scores<Bf16> scoreOf(p, at.b, at.h);
  const Bf16 *allK = static_cast<const Bf16 *>(p.k) + at.keyHead(p) * p.keys * p.width;
  const Bf16 *allV = static_cast<const Bf16 *>(p.v) + at.keyHead(p) * p.keys * p.valueWidth;
  ProbabilityDropout dropout(p);
  auto copyKeys = [&](int j0) {
    if (j0 < p.keys)
      copyTile<D, keys>(k, allK + static_cast<i64>(j0) * p.width, min(keys, p.keys - j0), p.width, p.aligned);
    commitCopies();
  };
  copyTile<D, rowsOfBlock>(q, static_cast<const Bf16 *>(p.q) + (at.row0 + at.i0) * p.width, at.rows, p.width, p.aligned);
  int j0 = nextKeys(p, at, 0, keys);
  copyKeys(j0);
  float y[D / 8][4], top[2] = {negativeInfinity<float>(), negativeInfinity<float>()}, sum[2] = {0, 0}, before[2];
  clear(y);
  while (j0 < p.keys) {
    const int columns = min(keys, p.keys - j0), next = nextKeys(p, at, j0 + keys, keys);
    waitForCopies<0>();
    __syncthreads(); // keys are there, and nobody reads the values before
    copyTile<D, keys>(v, allV + static_cast<i64>(j0) * p.valueWidth, columns, p.valueWidth, p.aligned);
    commitCopies();
    float scores[N][4];
    multiplyRows<D>(scores, q, k);
    const Part<true> part{{at.i0, at.i0 + at.rows, j0, j0 + columns}};
    makeScores<false>(scores, scores, scoreOf, part);
    softmax(scores, top, sum, before);
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x)
        y[n][x] *= before[x / 2];
    if (drops) {
      const unsigned kept = keptElements<true, N>(p, dropout, part, at.row0);
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int x = 0; x < 4; ++x)
          if (!(kept >> (4 * n + x) & 1))
            scores[n][x] = 0;
    }
    waitForCopies<0>();
    __syncthreads(); // values are there, and nobody reads the keys
    copyKeys(next);
    addProduct<D>(y, scores, v);
    j0 = next;
  }
  // A sum of 0 (not NaN): nothing to attend to.
  const float keep = drops && dropout.active ? static_cast<float>(p.keepScale) : 1.0f;
  float factors[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    factors[half] = sum[half] == 0 ? 0.0f : keep / sum[half];
    const int row = warpRow() + laneRow() + 8 * half;
    if (threadIdx.x % 4 == 0 && row < at.rows)
      static_cast<float *>(p.lse)[at.row0 + at.i0 + row] =
          sum[half] == 0 ? negativeInfinity<float>() : finiteTop(top[half]) * ln2 + logf(sum[half]);
  }
  storeRows(y, static_cast<Bf16 *>(p.y) + (at.row0 + at.i0) * p.valueWidth, at.rows, p.valueWidth, factors[0], factors[1],
            p.aligned);
}

// ---- backward

// Products of q and k become probabilities as dy is multiplied with them, products of dy and v the scores' gradients but for
// `scale`. lseOf(n, x) is in units of log 2, and infinite for rows that there are not or that see nothing.
template <bool drops, bool queriesDown, int N, class Lse, class Delta>
__device__ void makeGradients(float (&scores)[N][4], float (&gradients)[N][4], const Scores<Bf16> &of,
                              const Part<queriesDown> &at, ProbabilityDropout &dropout, i64 row0, Lse lseOf, Delta deltaOf) {
  const Attention &p = of.p;
  const unsigned kept = drops ? keptElements<queriesDown, N>(p, dropout, at, row0) : ~0u;
  const float keep = drops && dropout.active ? static_cast<float>(p.keepScale) : 1.0f;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      if (drops)
        gradients[n][x] *= kept >> (4 * n + x) & 1 ? keep : 0.0f;
      gradients[n][x] -= deltaOf(n, x);
    }
  makeScores<true>(scores, gradients, of, at);
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      const float probability = exp2Of(scores[n][x] - lseOf(n, x));
      gradients[n][x] = probability == 0 ? 0.0f : probability * gradients[n][x];
      scores[n][x] = !drops ? probability : kept >> (4 * n + x) & 1 ? probability * keep : 0.0f;
    }
  if (!queriesDown && p.average) {
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x)
        if (const int i = at.i(n, x); i < p.queries && p.averaged[row0 + i])
          scores[n][x] = kept >> (4 * n + x) & 1 ? keep / static_cast<float>(p.keys) : 0.0f;
  }
}

__device__ inline float lseOfRow(const Attention &p, i64 row0, int i) {
  const float lse = i < p.queries ? static_cast<const float *>(p.lse)[row0 + i] : negativeInfinity<float>();
  return lse == negativeInfinity<float>() ? -lse : lse * log2e;
}
__device__ inline float deltaOfRow(const Attention &p, i64 row0, int i) {
  return i < p.queries ? static_cast<const float *>(p.delta)[row0 + i] : 0.0f;
}

// dk and dv of a tile of keys.
template <int D, bool drops> __device__ void keyGradients(const Attention &p) {
  constexpr int queries = D > 64 ? 32 : 64, N = queries / 8;
  __shared__ alignas(128) Bf16 k[rowsOfBlock * D], v[rowsOfBlock * D], q[queries * D], dy[queries * D];
  const KeyTile at(p, rowsOfBlock);
  ProbabilityDropout dropout(p);
  copyTile<D, rowsOfBlock>(k, static_cast<const Bf16 *>(p.k) + (at.row0 + at.j0) * p.width, at.rows, p.width, p.aligned);
  copyTile<D, rowsOfBlock>(v, static_cast<const Bf16 *>(p.v) + (at.row0 + at.j0) * p.valueWidth, at.rows, p.valueWidth, p.aligned);
  float dk[D / 8][4], dv[D / 8][4];
  clear(dk);
  clear(dv);
  const int group = p.heads / p.keyHeads;
  for (int h = at.kv * group; h < (at.kv + 1) * group; ++h) {
    const Scores<Bf16> scoreOf(p, at.b, h);
    const i64 row0 = (static_cast<i64>(at.b) * p.heads + h) * p.queries;
    for (int i0 = 0; i0 < p.queries; i0 += queries) {
      const int rows = min(queries, p.queries - i0);
      const Part<false> part{{i0, i0 + rows, at.j0, at.j0 + at.rows}};
      if (!p.average && part.tile.isHidden(p))
        continue;
      __syncthreads(); // nobody reads the tiles before
      copyTile<D, queries>(q, static_cast<const Bf16 *>(p.q) + (row0 + i0) * p.width, rows, p.width, p.aligned);
      copyTile<D, queries>(dy, static_cast<const Bf16 *>(p.dy) + (row0 + i0) * p.valueWidth, rows, p.valueWidth, p.aligned);
      commitCopies();
      waitForCopies<0>();
      __syncthreads();
      float scores[N][4], gradients[N][4];
      multiplyRows<D>(scores, k, q);
      multiplyRows<D>(gradients, v, dy);
      makeGradients<drops>(scores, gradients, scoreOf, part, dropout, row0,
                           [&](int n, int x) { return lseOfRow(p, row0, part.i(n, x)); },
                           [&](int n, int x) { return deltaOfRow(p, row0, part.i(n, x)); });
      addProduct<D>(dv, scores, dy);
      addProduct<D>(dk, gradients, q);
    }
  }
  const float scale = static_cast<float>(p.scale);
  storeRows(dk, static_cast<Bf16 *>(p.dk) + (at.row0 + at.j0) * p.width, at.rows, p.width, scale, scale, p.aligned);
  storeRows(dv, static_cast<Bf16 *>(p.dv) + (at.row0 + at.j0) * p.valueWidth, at.rows, p.valueWidth, 1, 1, p.aligned);
}

// dq of a tile of queries.
template <int D, bool drops> __device__ void queryGradients(const Attention &p) {
  constexpr int keys = D > 64 ? 32 : 64, N = keys / 8;
  __shared__ alignas(128) Bf16 q[rowsOfBlock * D], dy[rowsOfBlock * D], k[keys * D], v[keys * D];
  const QueryTile at(p, rowsOfBlock);
  const Scores<Bf16> scoreOf(p, at.b, at.h);
  ProbabilityDropout dropout(p);
  const Bf16 *allK = static_cast<const Bf16 *>(p.k) + at.keyHead(p) * p.keys * p.width;
  const Bf16 *allV = static_cast<const Bf16 *>(p.v) + at.keyHead(p) * p.keys * p.valueWidth;
  copyTile<D, rowsOfBlock>(q, static_cast<const Bf16 *>(p.q) + (at.row0 + at.i0) * p.width, at.rows, p.width, p.aligned);
  copyTile<D, rowsOfBlock>(dy, static_cast<const Bf16 *>(p.dy) + (at.row0 + at.i0) * p.valueWidth, at.rows, p.valueWidth, p.aligned);
  float dq[D / 8][4], lse[2], delta[2];
  clear(dq);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = at.i0 + warpRow() + laneRow() + 8 * half;
    lse[half] = lseOfRow(p, at.row0, i);
    delta[half] = deltaOfRow(p, at.row0, i);
  }
  for (int j0 = nextKeys(p, at, 0, keys); j0 < p.keys; j0 = nextKeys(p, at, j0 + keys, keys)) {
    const int columns = min(keys, p.keys - j0);
    __syncthreads(); // nobody reads the tiles before
    copyTile<D, keys>(k, allK + static_cast<i64>(j0) * p.width, columns, p.width, p.aligned);
    copyTile<D, keys>(v, allV + static_cast<i64>(j0) * p.valueWidth, columns, p.valueWidth, p.aligned);
    commitCopies();
    waitForCopies<0>();
    __syncthreads();
    float scores[N][4], gradients[N][4];
    multiplyRows<D>(scores, q, k);
    multiplyRows<D>(gradients, dy, v);
    makeGradients<drops>(scores, gradients, scoreOf, Part<true>{{at.i0, at.i0 + at.rows, j0, j0 + columns}}, dropout, at.row0,
                         [&](int, int x) { return lse[x / 2]; }, [&](int, int x) { return delta[x / 2]; });
    addProduct<D>(dq, gradients, k);
  }
  const float scale = static_cast<float>(p.scale);
  storeRows(dq, static_cast<Bf16 *>(p.dq) + (at.row0 + at.i0) * p.width, at.rows, p.width, scale, scale, p.aligned);
}

} // namespace

#define MAKE(D, drops, suffix)                                                                                         \
  extern "C" __global__ void __launch_bounds__(threads) attention_mma_##D##suffix(const Attention p) {                 \
    attend<D, drops>(p);                                                                                               \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(threads) attention_mma_dkv_##D##suffix(const Attention p) {             \
    keyGradients<D, drops>(p);                                                                                         \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(threads) attention_mma_dq_##D##suffix(const Attention p) {              \
    queryGradients<D, drops>(p);                                                                                       \
  }
// The number is columns of a head.
MAKE(64, false, )
MAKE(64, true, _dropout)
MAKE(128, false, )
MAKE(128, true, _dropout)
#undef MAKE
