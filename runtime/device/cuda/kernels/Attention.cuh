// What attention's kernels share: which scores of a tile of queries and keys exist, and what becomes of them before they are
// exponents. The formulas are those of runtime/device/cpu/AttentionProblem.h.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_ATTENTION_CUH
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_ATTENTION_CUH

#include "Philox.cuh"
#include "runtime/device/cuda/kernels/Attention.h"

namespace amc {

template <class T> __device__ inline T negativeInfinity() { return -T(__int_as_float(0x7f800000)); }

// Where a query and a key of the sequence stand. Zigzag: the sequence is cut into 2 * members chunks, of which member m has
// chunk m and chunk 2 * members - 1 - m.
__device__ inline int chunkOf(const Attention &p, int member, int second) {
  return second ? 2 * p.members - 1 - member : member;
}
__device__ inline int queryPosition(const Attention &p, int i) {
  if (!p.zigzag)
    return p.member * p.queries + i;
  const int length = p.queries / 2;
  return chunkOf(p, p.member, i / length) * length + i % length;
}
__device__ inline int keyPosition(const Attention &p, int j) {
  if (!p.zigzag)
    return j;
  const int length = p.queries / 2, run = j / length;
  return chunkOf(p, run / 2, run % 2) * length + j % length;
}

// Queries [i0, i1) and keys [j0, j1), neither empty.
struct Tile {
  int i0, i1, j0, j1;

  // Positions ascend by one in both.
  __device__ bool isStraight(const Attention &p) const {
    const int length = p.queries / 2;
    return !p.zigzag || (i0 / length == (i1 - 1) / length && j0 / length == (j1 - 1) / length);
  }
  // Is all of it beyond what left and right say? Not: possibly.
  __device__ bool isHidden(const Attention &p) const {
    return isStraight(p) && (keyPosition(p, j0) > queryPosition(p, i1 - 1) + p.right ||
                             keyPosition(p, j1 - 1) < queryPosition(p, i0) - p.left);
  }
  // Is nothing of it? Not: possibly.
  __device__ bool isWhole(const Attention &p) const {
    return isStraight(p) && keyPosition(p, j1 - 1) <= queryPosition(p, i0) + p.right &&
           keyPosition(p, j0) >= queryPosition(p, i1 - 1) - p.left;
  }
};

// Scores of one head of a batch entry, of data S.
template <class S> struct Scores {
  using T = WideOf<S>;
  const Attention &p;
  const unsigned char *padding;
  const void *bias;
  T scale, softcap, inverseSoftcap;

  __device__ Scores(const Attention &p, int b, int h)
      : p(p), padding(p.padding ? p.padding + static_cast<i64>(b) * p.keys : nullptr), bias(p.bias),
        scale(static_cast<T>(p.scale)), softcap(static_cast<T>(p.softcap)), inverseSoftcap(T(1) / softcap) {
    const i64 at = b * p.biasStrides[0] + h * p.biasStrides[1];
    if (bias)
      bias = p.wideBias ? static_cast<const void *>(static_cast<const T *>(bias) + at)
                        : static_cast<const void *>(static_cast<const S *>(bias) + at);
  }

  __device__ bool isPlain() const { return !padding && !bias && softcap == T(0); }
  // `ahead`: by how much the position of key j is above a query's.
  __device__ bool sees(int ahead, int j) const { return ahead <= p.right && ahead >= -p.left && (!padding || padding[j]); }
  __device__ T biasAt(int i, int j) const {
    const i64 at = i * p.biasStrides[2] + j * p.biasStrides[3];
    return p.wideBias ? static_cast<const T *>(bias)[at] : widen(static_cast<const S *>(bias)[at]);
  }

  // What q.k of query i and key j becomes, minus infinity where the query does not attend to the key; `slope` becomes the
  // derivative of the softcap.
  __device__ T operator()(T dot, int i, int j, int ahead, T &slope) const {
    T score = dot * scale;
    slope = T(1);
    if (!sees(ahead, j))
      return negativeInfinity<T>();
    if (softcap > T(0)) {
      const T t = tanh(score * inverseSoftcap);
      slope = T(1) - t * t;
      score = softcap * t;
    }
    return bias ? score + biasAt(i, j) : score;
  }
};

// Element (b, h, i, j) of a tensor [batch, heads, queries, keys] that is never there is what dropout counts.
struct ProbabilityDropout : DropoutMask {
  __device__ explicit ProbabilityDropout(const Attention &p) : DropoutMask(p.threshold, p.stream, p.counters) {}
  // Which of `count` elements are kept, a bit each, all if this is not active; rowOf gives rows of [batch, heads, queries].
  template <class Row, class Column> __device__ unsigned kept(const Attention &p, int count, Row rowOf, Column columnOf) {
    unsigned all = ~0u;
    if (active)
#pragma unroll 1 // a draw is long
      for (int n = 0; n < count; ++n)
        if (!keeps(static_cast<u64>(rowOf(n)) * static_cast<u64>(p.keys) + static_cast<u64>(columnOf(n))))
          all &= ~(1u << n);
    return all;
  }
};

// What a score of minus infinity is subtracted from has to be finite.
template <class T> __device__ inline T finiteTop(T top) { return top == negativeInfinity<T>() ? T(0) : top; }

// Batch entry, head and tile of a block. The last tiles of queries, which see most keys in causal attention, come first.
struct QueryTile {
  int b, h, i0, rows;
  i64 row0; // of [batch, heads, queries]
  __device__ QueryTile(const Attention &p, int tile) {
    const int all = p.batch * p.heads, tiles = (p.queries + tile - 1) / tile, bh = static_cast<int>(blockIdx.x) % all;
    b = bh / p.heads;
    h = bh % p.heads;
    i0 = (tiles - 1 - static_cast<int>(blockIdx.x) / all) * tile;
    rows = min(tile, p.queries - i0);
    row0 = static_cast<i64>(bh) * p.queries;
  }
  __device__ i64 keyHead(const Attention &p) const { return static_cast<i64>(b) * p.keyHeads + h / (p.heads / p.keyHeads); }
};

// The same of keys. The first ones are seen by most queries, and come first.
struct KeyTile {
  int b, kv, j0, rows;
  i64 row0; // of [batch, keyHeads, keys]
  __device__ KeyTile(const Attention &p, int tile) {
    const int all = p.batch * p.keyHeads, bkv = static_cast<int>(blockIdx.x) % all;
    b = bkv / p.keyHeads;
    kv = bkv % p.keyHeads;
    j0 = static_cast<int>(blockIdx.x) / all * tile;
    rows = min(tile, p.keys - j0);
    row0 = static_cast<i64>(bkv) * p.keys;
  }
};

} // namespace amc

#endif
