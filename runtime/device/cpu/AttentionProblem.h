// What attention and its backward share: dimensions, masks, blocks of scores. Data is S as stored (f32, f64, bf16), T
// is what it is computed in, B is what the bias is stored as: T or S.
//
// With a group (AttentionOps.td) queries are one member's of a longer sequence. Queries and keys are then cut into runs,
// in which positions ascend by one: one run of either, or, zigzag, two of queries and two of keys for each member. A
// block of queries or keys lies in one run, so that what the band hides of it follows from its ends.
//
// In a ring keys and values are in pieces, one for each member, as many as its queries and cut into runs like them. What
// is looked at is one piece at a time; `keys` are those of a piece, and padding has all of them, piece behind piece.
#ifndef AMC_RUNTIME_DEVICE_CPU_ATTENTIONPROBLEM_H
#define AMC_RUNTIME_DEVICE_CPU_ATTENTIONPROBLEM_H

#include "runtime/collective/Communicator.h"
#include "runtime/device/cpu/DropoutRow.h"
#include "runtime/device/cpu/Gemm.h"
#include "runtime/plan/Ring.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {

struct AttentionProblem {
  static constexpr int64_t queryBlock = workspace::attentionQueryBlock;
  static constexpr int64_t mostKeys = workspace::attentionMostKeys; // of a block

  int64_t batch, heads, keyHeads, queries, keys, width, valueWidth;
  int64_t keyBlock; // keys of a block; rows of its scores are so far apart
  double scale, softcap;
  int64_t left, right; // clamped to [-2^48, 2^48]: the latter is unlimited
  bool average;        // what a row with nothing to attend to gives
  bool padded, biased;
  int64_t biasStrides[4];
  double dropout; // of probabilities; only kernels with dropout look at it
  int64_t stream;
  int64_t members = 1, member = 0; // of the group
  bool zigzag = false, ring = false;

  // `first` is the position of q among the operands; padding and bias stand at `masks`, behind them, in kernels with
  // dropout, the counters.
  static Status expectOperands(const InstructionSpec &spec, std::vector<OperandRule> inputs, // those before the masks
                               const std::vector<OperandRule> &outputs, bool drops);
  static Status check(const InstructionSpec &spec, size_t first, size_t masks, bool drops);
  static AttentionProblem create(const InstructionSpec &spec, size_t first, size_t masks, bool drops,
                                 const Group *group);
  // What the steps of a ring and its scratch follow from.
  RingShape ringShape(uint64_t bytes) const;

  int64_t group() const { return heads / keyHeads; }
  int64_t pieces() const { return ring ? members : 1; }
  int64_t allKeys() const { return keys * pieces(); }
  const uint8_t *paddingOf(const uint8_t *padding, int64_t b, int64_t piece) const {
    return padding + (b * pieces() + piece) * keys;
  }
  // Can a row have nothing to attend to, and be the mean of all values?
  bool averages() const { return average && (padded || biased || left < 0 || right < 0 || !ring); }

  // Rows [begin, end) of queries or keys whose positions ascend by one from `position` on.
  struct Rows {
    int64_t begin, end, position;
    int64_t size() const { return end - begin; }
  };
  int64_t runLength() const { return zigzag ? queries / 2 : queries; }
  Rows queryRun(int64_t run) const {
    int64_t length = runLength();
    return {run * length, (run + 1) * length, zigzag ? chunk(member, run) * length : member * length};
  }
  int64_t keyRuns() const { return !zigzag ? 1 : ring ? 2 : 2 * members; } // of a piece
  Rows keyRun(int64_t run, int64_t piece) const {
    if (!zigzag)
      return {0, keys, piece * keys};
    int64_t length = runLength();
    return {run * length, (run + 1) * length, chunk(ring ? piece : run / 2, run % 2) * length};
  }

  // Blocks of at most queryBlock queries.
  int64_t queryBlocks() const { return (zigzag ? 2 : 1) * ceilDiv(runLength(), queryBlock); }
  Rows queriesOf(int64_t block) const {
    int64_t blocks = ceilDiv(runLength(), queryBlock);
    Rows run = queryRun(block / blocks);
    int64_t skip = block % blocks * queryBlock;
    return {run.begin + skip, std::min(run.begin + skip + queryBlock, run.end), run.position + skip};
  }

  // Keys [low, high) of a run that the query at a position may attend to as far as left and right say, counted from the
  // run's first.
  int64_t low(int64_t position, const Rows &run) const {
    return std::clamp<int64_t>(position - left - run.position, 0, run.size());
  }
  int64_t high(int64_t position, const Rows &run) const {
    return std::clamp<int64_t>(position + right + 1 - run.position, 0, run.size());
  }
  // Calls f(Rows) with the blocks of at most keyBlock keys of a piece that some of `queries` can see anything of, ascending.
  // Blocks are counted from the first key of a run; what is hidden from all at the first one's begin (but for whole
  // vectors) and at the last one's end is left out.
  template <class F> void forKeysOf(const Rows &queries, int64_t piece, F &&f) const {
    for (int64_t n = 0; n < keyRuns(); ++n) {
      Rows run = keyRun(n, piece);
      int64_t from = low(queries.position, run), to = high(queries.position + queries.size() - 1, run);
      for (int64_t begin = from / 16 * 16, end; begin < to && from < to; begin = end) {
        end = std::min((begin / keyBlock + 1) * keyBlock, to);
        f(Rows{run.begin + begin, run.begin + end, run.position + begin});
      }
    }
  }

  // Has the piece of `owner` anything that member `who` looks at?
  bool sees(int64_t who, int64_t owner) const {
    if (averages())
      return true;
    AttentionProblem p = *this;
    p.member = who;
    for (int64_t q = 0; q < (zigzag ? 2 : 1); ++q)
      for (int64_t n = 0; n < keyRuns(); ++n) {
        Rows queries = p.queryRun(q), run = keyRun(n, owner);
        if (queries.size() && low(queries.position, run) < high(queries.position + queries.size() - 1, run))
          return true;
      }
    return false;
  }

  template <class B> const B *biasRow(const B *bias, int64_t b, int64_t h, int64_t i) const {
    return bias + b * biasStrides[0] + h * biasStrides[1] + i * biasStrides[2];
  }

  // Is there a key that query i, at a position, may attend to? A key with a bias of minus infinity is none.
  template <class B>
  bool attends(int64_t b, int64_t h, int64_t i, int64_t position, const uint8_t *padding, const B *bias) const {
    using T = Wide<B>;
    const B *row = biased ? biasRow(bias, b, h, i) : nullptr;
    for (int64_t piece = 0; piece < pieces(); ++piece)
      for (int64_t n = 0; n < keyRuns(); ++n) {
        Rows run = keyRun(n, piece);
        const uint8_t *kept = padded ? paddingOf(padding, b, piece) : nullptr;
        for (int64_t j = run.begin + low(position, run), end = run.begin + high(position, run); j < end; ++j)
          if ((!kept || kept[j]) &&
              (!row || static_cast<T>(row[j * biasStrides[3]]) != -std::numeric_limits<T>::infinity()))
            return true;
      }
    return false;
  }

  // Softcap, bias and padding on columns [from, to) of one row of scaled scores, of the keys from `block` on of a piece.
  template <class T, class B>
  void adjust(T *scores, int64_t from, int64_t to, int64_t b, int64_t h, int64_t i, int64_t piece, int64_t block,
              const uint8_t *padding, const B *bias) const {
    if (softcap > 0) {
      T cap = static_cast<T>(softcap);
      for (int64_t j = from; j < to; ++j)
        scores[j] = cap * std::tanh(scores[j] / cap);
    }
    if (biased) {
      const B *row = biasRow(bias, b, h, i) + block * biasStrides[3];
      for (int64_t j = from; j < to; ++j)
        scores[j] += static_cast<T>(row[j * biasStrides[3]]);
    }
    if (padded) {
      const uint8_t *row = paddingOf(padding, b, piece) + block;
      for (int64_t j = from; j < to; ++j)
        if (!row[j])
          scores[j] = -std::numeric_limits<T>::infinity();
    }
  }

private:
  // Which of the 2 * members chunks a member stores first, and which second.
  int64_t chunk(int64_t of, int64_t second) const { return second ? 2 * members - 1 - of : of; }
};

// What drops probabilities: element (b, h, i, j) of the dropout of a tensor [batch, heads, queries, keys] that is never
// there. Rows are drawn a block of keys at a time, on the stack.
class ProbabilityDropout {
public:

  // Drops nothing if there are no counters, and if everything is kept.
  ProbabilityDropout(const AttentionProblem &p, const Operands &o, bool drops, size_t counters)
      : p(p), rows(drops ? DropoutMask(p.dropout, p.stream, *o.in<int64_t>(counters), *o.in<int64_t>(counters + 1),
                                       *o.in<int64_t>(counters + 2))
                         : DropoutMask(0, 0, 0, 0, 0)) {}

  bool isActive() const { return !rows.keepsAll(); }
  template <class T> T scale() const { return static_cast<T>(rows.scale()); }
  // Of keys [from, from + count) of a query; count is at most a block.
  void draw(int64_t b, int64_t h, int64_t i, int64_t from, int64_t count, uint32_t *keep) const {
    auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    uint64_t row = (u(b) * u(p.heads) + u(h)) * u(p.queries) + u(i);
    rows.draw(row * u(p.keys) + u(from), count, keep);
  }

private:
  const AttentionProblem &p;
  DropoutRows rows;
};

// Calls f(S{}, B{}) with the storage types of data and bias.
template <class F> auto withAttentionTypes(plan::DType data, plan::DType bias, F &&f) {
  switch (data) {
  case plan::F64: return f(double{}, double{});
  case plan::BF16: return bias == plan::F32 ? f(BFloat16{}, float{}) : f(BFloat16{}, BFloat16{});
  default: return f(float{}, float{});
  }
}

// Takes parts of a workspace, each padded as the formulas in Workspace.h pad it.
struct ScratchCursor {
  std::byte *at;
  template <class T> T *take(int64_t elements) {
    std::byte *here = at;
    at += workspace::detail::pad(static_cast<uint64_t>(elements) * sizeof(T));
    return reinterpret_cast<T *>(here);
  }
};

// Rows as elements E, S or its arithmetic type: as they stand, or widened into `block`.
template <class E, class S> const E *loadRows(const S *x, int64_t elements, Wide<S> *block) {
  if constexpr (std::is_same_v<E, S>) {
    return x;
  } else {
    widenRow(x, block, elements);
    return block;
  }
}

// Which columns of a block of scores its rows may attend to.
struct VisibleColumns {
  int32_t low[AttentionProblem::queryBlock], high[AttentionProblem::queryBlock];
};

// Brings rows of T, `stride` apart, to E where they are.
template <class E, class T> void narrowScores(T *scores, int64_t stride, int64_t rows, int64_t columns) {
  if constexpr (!std::is_same_v<E, T>)
    for (int64_t r = 0; r < rows; ++r) {
      T *row = scores + r * stride;
      narrowRow(row, reinterpret_cast<E *>(row), columns);
    }
}

} // namespace amc::rt::cpu

#endif
