// One key head of attention's gradients: what its queries' heads give, over all keys (AttentionBackward.cpp) or over those
// of one member of a ring (RingAttentionBackward.cpp). Query heads ascending, query blocks ascending, key blocks in the
// order in which they are stored.
#ifndef AMC_RUNTIME_DEVICE_CPU_ATTENTIONBACKWARD_H
#define AMC_RUNTIME_DEVICE_CPU_ATTENTIONBACKWARD_H

#include "runtime/device/cpu/AttentionProblem.h"

namespace amc::rt::cpu {


inline float dotRow(const float *a, const float *b, int64_t n) { return hot().dot(a, b, n); }
inline float dotRow(const BFloat16 *a, const BFloat16 *b, int64_t n) { return hot().bf16.dot(a, b, n); }
inline double dotRow(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += a[i] * b[i];
  return sum;
}

inline void probabilityRow(double *scores, double *dscores, int64_t columns, int64_t from, int64_t to, double lse,
                    double delta, double scale) {
  for (int64_t j = 0; j < columns; ++j) {
    bool seen = j >= from && j < to && lse != -std::numeric_limits<double>::infinity();
    scores[j] = seen ? std::exp(scores[j] - lse) : 0;
    dscores[j] = seen ? scores[j] * (dscores[j] - delta) * scale : 0;
  }
}

// See Hot::attentionBackwardBlock.
inline void probabilityBlock(float *scores, float *dscores, int64_t stride, int64_t rows, int64_t columns, const VisibleColumns &seen,
                             const float *lse, const float *delta, float scale, bool narrow) {
  hot().attentionBackwardBlock({scores, stride, rows, columns, seen.low, seen.high}, dscores, lse,
                               delta, scale, narrow);
}
inline void probabilityBlock(double *scores, double *dscores, int64_t stride, int64_t rows, int64_t columns, const VisibleColumns &seen,
                             const double *lse, const double *delta, double scale, bool) {
  for (int64_t r = 0; r < rows; ++r)
    probabilityRow(scores + r * stride, dscores + r * stride, columns, seen.low[r], seen.high[r], lse[r], delta[r], scale);
}

template <class S, class B> struct HeadBackward {
  using T = Wide<S>;
  using Rows = AttentionProblem::Rows;
  const AttentionProblem &p;
  const ProbabilityDropout &dropout;
  const Operands &o;
  T *delta, *scores, *dscores;
  T *wideQ = nullptr, *wideDy = nullptr, *wideK = nullptr, *wideV = nullptr, *wideDq = nullptr, *dk = nullptr,
    *dv = nullptr; // in the workspace for bf16
  T *sumsDq = nullptr; // in a ring, for bf16: all of dq, which is added to piece after piece
  int64_t b, h, kv;
  int64_t piece = 0;  // of the keys
  bool isFirst = true; // nothing has been added to dq
  const S *dy, *q, *k, *v, *y;
  const T *lse;
  S *dq;
  const uint8_t *padding;
  const B *bias;

  // `sums` are those of dy * y of all rows, `slots` what follows the workspace's other parts.
  HeadBackward(const AttentionProblem &p, const ProbabilityDropout &dropout, const Operands &o, T *sums,
               std::byte *slots, unsigned slot)
      : p(p), dropout(dropout), o(o), delta(sums) {
    ScratchCursor part{slots + slot * slotBytes()};
    scores = part.take<T>(p.queryBlock * p.keyBlock);
    dscores = part.take<T>(p.queryBlock * p.keyBlock);
    if constexpr (!isWide<S>) {
      wideQ = part.take<T>(p.queryBlock * p.width);
      wideDy = part.take<T>(p.queryBlock * p.valueWidth);
      wideDq = part.take<T>(p.queryBlock * p.width);
      wideK = part.take<T>(p.keyBlock * p.width);
      wideV = part.take<T>(p.keyBlock * p.valueWidth);
      dk = part.take<T>(p.ring ? 0 : p.keys * p.width);
      dv = part.take<T>(p.ring ? 0 : p.keys * p.valueWidth);
    }
    padding = o.in<uint8_t>(6);
    bias = o.in<B>(7);
  }

  uint64_t slotBytes() const {
    auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    return workspace::attentionBackwardSlot(u(p.keys), p.ring ? 0 : u(p.keys), u(p.width), u(p.valueWidth), sizeof(S));
  }

  // All of one key head.
  void run(int64_t keyHead) {
    kv = keyHead;
    k = o.in<S>(2) + kv * p.keys * p.width;
    v = o.in<S>(3) + kv * p.keys * p.valueWidth;
    S *dkResult = o.out<S>(1) + kv * p.keys * p.width, *dvResult = o.out<S>(2) + kv * p.keys * p.valueWidth;
    if constexpr (isWide<S>) {
      dk = dkResult;
      dv = dvResult;
    }
    heads();
    if constexpr (!isWide<S>) {
      narrowRow(dk, dkResult, p.keys * p.width);
      narrowRow(dv, dvResult, p.keys * p.valueWidth);
    }
  }

  // The query heads of key head `kv`, and one piece of the keys: k, v, dk and dv are that head's.
  void heads() {
    b = kv / p.keyHeads;
    std::fill_n(dk, p.keys * p.width, T{});
    std::fill_n(dv, p.keys * p.valueWidth, T{});
    for (int64_t g = 0; g < p.group(); ++g) {
      h = kv % p.keyHeads * p.group() + g;
      head();
    }
  }

  void head() {
    int64_t row0 = (b * p.heads + h) * p.queries;
    dy = o.in<S>(0) + row0 * p.valueWidth;
    q = o.in<S>(1) + row0 * p.width;
    y = o.in<S>(4) + row0 * p.valueWidth;
    lse = o.in<T>(5) + row0;
    dq = o.out<S>(0) + row0 * p.width;
    T *sums = delta + row0;
    for (int64_t i = 0; i < p.queries && isFirst; ++i)
      sums[i] = dotRow(dy + i * p.valueWidth, y + i * p.valueWidth, p.valueWidth);
    for (int64_t block = 0; block < p.queryBlocks(); ++block)
      queryBlock(p.queriesOf(block), sums);
    if (p.averages())
      averagedRows();
  }

  // A block of queries: their dq, and what they add to dk and dv.
  void queryBlock(const Rows &block, const T *sums) {
    if (multipliesStored<S>())
      queryBlockOf<S>(block, sums);
    else
      queryBlockOf<T>(block, sums);
  }
  template <class E> void queryBlockOf(const Rows &block, const T *sums) {
    int64_t begin = block.begin, rows = block.size();
    const E *queries = loadRows<E>(q + begin * p.width, rows * p.width, wideQ);
    const E *gradients = loadRows<E>(dy + begin * p.valueWidth, rows * p.valueWidth, wideDy);
    T *target = wideDq;
    if constexpr (isWide<S>)
      target = dq + begin * p.width;
    else if (sumsDq)
      target = sumsDq + ((b * p.heads + h) * p.queries + begin) * p.width;
    if (isFirst)
      std::fill_n(target, rows * p.width, T{});
    p.forKeysOf(block, piece, [&](const Rows &keys) { keyBlock(block, keys, queries, gradients, target, sums); });
    if constexpr (!isWide<S>)
      if (!sumsDq)
        narrowRow(target, dq + begin * p.width, rows * p.width);
  }

  // Contributions of a block of queries and a block of keys.
  template <class E>
  void keyBlock(const Rows &queryRows, const Rows &keyRows, const E *queries, const E *gradients, T *dqBlock,
                const T *sums) {
    const int64_t begin = queryRows.begin, rows = queryRows.size(), j = keyRows.begin, columns = keyRows.size(),
                  ld = p.keyBlock;
    const T scale = static_cast<T>(p.scale);
    const E *keys = loadRows<E>(k + j * p.width, columns * p.width, wideK);
    const E *values = loadRows<E>(v + j * p.valueWidth, columns * p.valueWidth, wideV);
    if (p.width)
      gemm(false, true, rows, columns, p.width, scale, queries, p.width, keys, p.width, T(0), scores, ld);
    else
      std::fill_n(scores, rows * ld, T{});
    if (p.valueWidth)
      gemm(false, true, rows, columns, p.valueWidth, T(1), gradients, p.valueWidth, values, p.valueWidth, T(0),
           dscores, ld);
    else
      std::fill_n(dscores, rows * ld, T{});
    VisibleColumns seen;
    uint32_t keep[AttentionProblem::queryBlock][AttentionProblem::mostKeys]; // where probabilities are dropped
    const bool drops = dropout.isActive();
    for (int64_t r = 0; r < rows; ++r) {
      int64_t i = begin + r, position = queryRows.position + r, from = p.low(position, keyRows),
              to = p.high(position, keyRows);
      if (p.averages() && !p.attends(b, h, i, position, padding, bias))
        from = to = 0; // averagedRows adds it
      seen.low[r] = static_cast<int32_t>(from);
      seen.high[r] = static_cast<int32_t>(to);
      T *row = scores + r * ld, *gradient = dscores + r * ld;
      if (drops && from < to) {
        dropout.draw(b, h, i, j + from, to - from, keep[r]);
        keepRow(gradient + from, keep[r], dropout.scale<T>(), gradient + from, to - from);
      }
      // With softcap the slope of tanh comes in; scores hold scale * q.k here.
      for (int64_t c = from; p.softcap > 0 && c < to; ++c) {
        T t = std::tanh(row[c] / static_cast<T>(p.softcap));
        gradient[c] = (gradient[c] - sums[i]) * (1 - t * t);
      }
      p.adjust(row, from, to, b, h, i, piece, j, padding, bias);
    }
    const T zeros[AttentionProblem::queryBlock] = {};
    probabilityBlock(scores, dscores, ld, rows, columns, seen, lse + begin, p.softcap > 0 ? zeros : sums + begin, scale,
                     !std::is_same_v<E, T> && !drops);
    for (int64_t r = 0; r < rows && drops; ++r)
      if (T *row = scores + r * ld + seen.low[r]; seen.low[r] < seen.high[r])
        keepRow(row, keep[r], dropout.scale<T>(), row, seen.high[r] - seen.low[r]);
    if (drops) {
      narrowScores<E>(scores, ld, rows, columns);
      narrowScores<E>(dscores, ld, rows, columns);
    }
    const E *probabilities = reinterpret_cast<const E *>(scores), *slopes = reinterpret_cast<const E *>(dscores);
    const int64_t stride = ld * sizeof(T) / sizeof(E);
    if (p.valueWidth)
      gemm(true, false, columns, p.valueWidth, rows, T(1), probabilities, stride, gradients, p.valueWidth, T(1),
           dv + j * p.valueWidth, p.valueWidth);
    if (p.width) {
      gemm(false, false, rows, p.width, columns, T(1), slopes, stride, keys, p.width, T(1), dqBlock, p.width);
      gemm(true, false, columns, p.width, rows, T(1), slopes, stride, queries, p.width, T(1), dk + j * p.width, p.width);
    }
  }

  // Rows with nothing to attend to are the mean of all values: only dv has a part of them.
  void averagedRows() {
    for (int64_t block = 0; block < p.queryBlocks(); ++block)
      averagedRows(p.queriesOf(block));
  }
  void averagedRows(const Rows &rows) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      if (p.attends(b, h, i, rows.position + i - rows.begin, padding, bias))
        continue;
      T share = dropout.scale<T>() / static_cast<T>(p.allKeys());
      uint32_t keep[AttentionProblem::mostKeys];
      std::fill_n(keep, p.keyBlock, ~uint32_t(0));
      for (int64_t block = 0; block < p.keys; block += p.keyBlock) {
        int64_t columns = std::min(p.keyBlock, p.keys - block);
        if (dropout.isActive())
          dropout.draw(b, h, i, block, columns, keep);
        for (int64_t j = 0; j < columns; ++j)
          for (int64_t d = 0; d < p.valueWidth && keep[j]; ++d)
            dv[(block + j) * p.valueWidth + d] += share * static_cast<T>(dy[i * p.valueWidth + d]);
      }
    }
  }
};

} // namespace amc::rt::cpu

#endif
