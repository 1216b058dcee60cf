// A block of queries of one head on its way over the keys: attention's forward, as a whole (Attention.cpp) and in a ring
// (RingAttention.cpp). Maximum, sum and unnormalised result of each row are kept from one block of keys to the next,
// which is how partial results are merged, too: by their log-sum-exp.
#ifndef AMC_RUNTIME_DEVICE_CPU_ATTENTIONFORWARD_H
#define AMC_RUNTIME_DEVICE_CPU_ATTENTIONFORWARD_H

#include "runtime/device/cpu/AttentionProblem.h"

namespace amc::rt::cpu {

inline double softmaxRow(double *scores, int64_t columns, int64_t from, int64_t to, double *maximum, double *sum) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  double before = *maximum, top = before;
  for (int64_t j = from; j < to; ++j)
    top = scores[j] == scores[j] && top == top ? std::max(top, scores[j]) : scores[j] + top; // NaN wins
  double added = 0;
  for (int64_t j = 0; j < columns; ++j) {
    bool seen = j >= from && j < to && top != -infinity;
    scores[j] = seen ? std::exp(scores[j] - top) : 0;
    added += scores[j];
  }
  double correction = top == -infinity ? 1 : before == -infinity ? 0 : std::exp(before - top);
  *maximum = top;
  *sum = *sum * correction + added;
  return correction;
}

// See Hot::attentionBlock.
inline void softmaxBlock(float *scores, int64_t stride, int64_t rows, int64_t columns, const VisibleColumns &seen, float *maximum,
                         float *sum, float *factors, bool narrow) {
  hot().attentionBlock({scores, stride, rows, columns, seen.low, seen.high}, maximum, sum, factors,
                       narrow);
}
inline void softmaxBlock(double *scores, int64_t stride, int64_t rows, int64_t columns, const VisibleColumns &seen, double *maximum,
                         double *sum, double *factors, bool) {
  for (int64_t r = 0; r < rows; ++r)
    factors[r] = softmaxRow(scores + r * stride, columns, seen.low[r], seen.high[r], maximum + r,
                            sum + r);
}

inline void scaleRow(float *y, float factor, int64_t n) { hot().scale(y, factor, n); }
inline void scaleRow(double *y, double factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] *= factor;
}

// The parts of a slot of the workspace; the last four for bf16 only.
template <class S> struct AttentionSlot {
  using T = Wide<S>;
  T *scores, *maximum, *sum;
  T *q = nullptr, *k = nullptr, *v = nullptr, *y = nullptr;
  AttentionSlot(const AttentionProblem &p, std::byte *base, unsigned slot) {
    auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    ScratchCursor part{base + slot * workspace::attentionSlot(u(p.width), u(p.valueWidth), sizeof(S), u(p.keys))};
    scores = part.take<T>(p.queryBlock * p.keyBlock);
    maximum = part.take<T>(p.queryBlock);
    sum = part.take<T>(p.queryBlock);
    if constexpr (!isWide<S>) {
      q = part.take<T>(p.queryBlock * p.width);
      k = part.take<T>(p.keyBlock * p.width);
      v = part.take<T>(p.keyBlock * p.valueWidth);
      y = part.take<T>(p.queryBlock * p.valueWidth);
    }
  }
};

template <class S, class B> struct QueryBlock {
  using T = Wide<S>;
  using Rows = AttentionProblem::Rows;
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  const AttentionProblem &p;
  const ProbabilityDropout &dropout;
  Rows queries;
  int64_t bh, b, h, kv; // of batch and head; of batch and key head
  const uint8_t *padding;
  const B *bias;
  T *maximum = nullptr, *sum = nullptr, *y = nullptr; // of each row; what is kept

  // Piece of work `piece` of batch x heads x blocks of queries.
  QueryBlock(const AttentionProblem &p, const ProbabilityDropout &dropout, const Operands &o, int64_t piece)
      : p(p), dropout(dropout), queries(p.queriesOf(piece % p.queryBlocks())), bh(piece / p.queryBlocks()),
        b(bh / p.heads), h(bh % p.heads), kv(b * p.keyHeads + h / p.group()), padding(o.in<uint8_t>(3)),
        bias(o.in<B>(4)) {}

  int64_t firstRow() const { return bh * p.queries + queries.begin; } // of batch x heads x queries

  void begin() {
    std::fill_n(maximum, queries.size(), -infinity);
    std::fill_n(sum, queries.size(), T{});
    std::fill_n(y, queries.size() * p.valueWidth, T{});
  }

  // Attends to what it sees of a piece of the keys; `q` are the queries, `k` and `v` this key head's.
  void attend(const S *q, int64_t piece, const S *k, const S *v, AttentionSlot<S> s) {
    if (multipliesStored<S>())
      attendOf<S>(q, piece, k, v, s);
    else
      attendOf<T>(loadRows<T>(q, queries.size() * p.width, s.q), piece, k, v, s);
  }
  template <class E> void attendOf(const E *q, int64_t piece, const S *k, const S *v, AttentionSlot<S> s) {
    const int64_t rows = queries.size();
    p.forKeysOf(queries, piece, [&](const Rows &keys) {
      const int64_t j = keys.begin, columns = keys.size();
      if (p.width)
        gemm(false, true, rows, columns, p.width, static_cast<T>(p.scale), q, p.width,
             loadRows<E>(k + j * p.width, columns * p.width, s.k), p.width, T(0), s.scores, p.keyBlock);
      else
        std::fill_n(s.scores, rows * p.keyBlock, T{});
      VisibleColumns seen;
      for (int64_t r = 0; r < rows; ++r) {
        int64_t from = p.low(queries.position + r, keys), to = p.high(queries.position + r, keys);
        p.adjust(s.scores + r * p.keyBlock, from, to, b, h, queries.begin + r, piece, j, padding, bias);
        seen.low[r] = static_cast<int32_t>(from);
        seen.high[r] = static_cast<int32_t>(to);
      }
      T factors[AttentionProblem::queryBlock];
      softmaxBlock(s.scores, p.keyBlock, rows, columns, seen, maximum, sum, factors, !std::is_same_v<E, T> && !dropout.isActive());
      for (int64_t r = 0; r < rows; ++r)
        if (factors[r] != T(1))
          scaleRow(y + r * p.valueWidth, factors[r], p.valueWidth);
      if (dropout.isActive()) {
        drop(s.scores, j, seen);
        narrowScores<E>(s.scores, p.keyBlock, rows, columns);
      }
      if (p.valueWidth)
        gemm(false, false, rows, p.valueWidth, columns, T(1), reinterpret_cast<const E *>(s.scores), p.keyBlock * sizeof(T) / sizeof(E),
             loadRows<E>(v + j * p.valueWidth, columns * p.valueWidth, s.v), p.valueWidth, T(1), y, p.valueWidth);
    });
  }

  // Drops probabilities of keys from j on.
  void drop(T *scores, int64_t j, const VisibleColumns &seen) {
    for (int64_t r = 0; r < queries.size(); ++r) {
      const int64_t from = seen.low[r], to = seen.high[r];
      if (from >= to)
        continue;
      uint32_t keep[AttentionProblem::mostKeys];
      T *row = scores + r * p.keyBlock + from;
      dropout.draw(b, h, queries.begin + r, j + from, to - from, keep);
      keepRow(row, keep, T(1), row, to - from);
    }
  }

  // y += the values of a piece of the keys, in row r, which has nothing to attend to.
  void addValues(int64_t r, const S *v) {
    T *row = y + r * p.valueWidth;
    uint32_t keep[AttentionProblem::mostKeys];
    std::fill_n(keep, p.keyBlock, ~uint32_t(0));
    for (int64_t block = 0; block < p.keys; block += p.keyBlock) {
      int64_t columns = std::min(p.keyBlock, p.keys - block);
      if (dropout.isActive())
        dropout.draw(b, h, queries.begin + r, block, columns, keep);
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t d = 0; d < p.valueWidth && keep[j]; ++d)
          row[d] += static_cast<T>(v[(block + j) * p.valueWidth + d]);
    }
  }

  // The results, when all keys have been looked at. A row with nothing to attend to that is averaged has the sum of all
  // values in y.
  void finish(T *lse) {
    for (int64_t r = 0; r < queries.size(); ++r) {
      T *row = y + r * p.valueWidth;
      if (maximum[r] != -infinity) {
        scaleRow(row, dropout.scale<T>() / sum[r], p.valueWidth);
        lse[r] = maximum[r] + std::log(sum[r]);
      } else if (p.average && p.keys > 0) {
        for (int64_t d = 0; d < p.valueWidth; ++d)
          row[d] /= static_cast<T>(p.allKeys());
        if (dropout.isActive())
          scaleRow(row, dropout.scale<T>(), p.valueWidth);
        lse[r] = std::log(static_cast<T>(p.allKeys()));
      } else {
        std::fill_n(row, p.valueWidth, T{});
        lse[r] = -infinity;
      }
    }
  }
};

} // namespace amc::rt::cpu

#endif
