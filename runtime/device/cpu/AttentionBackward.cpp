// attention_backward: dq, dk, dv; f32 and f64, arithmetic in that type, and bf16, in fp32, each gradient rounded once.
//
// A piece of work is one key head of one batch entry: it alone writes that head's dk and dv and the dq of the query
// heads that share it. Query heads ascending, query blocks ascending, key blocks ascending, as they are stored; blocks
// that the band hides are left out. With a group dk and dv are of this member's queries. Probabilities come from the scores, computed again, and lse. Workspace: row sums of dy * y, and two
// blocks (probabilities, gradient of the scores) per slot; for bf16 also its operands' blocks, a block of dq and the
// head's dk and dv. No result overlaps an operand. Reference: AttentionBackwardOp::evaluate, three loops.
//
// attention_dropout_backward draws the mask again, one row of a block at a time: it multiplies the gradient of the
// probabilities, and, once the scores' gradient is known, the probabilities that dv is made of. The sum of dy * y is
// that of probability and its gradient as before, since both have the mask in them.
#include "runtime/device/cpu/AttentionProblem.h"

namespace amc::rt::cpu {
namespace {

float dotRow(const float *a, const float *b, int64_t n) { return hot().dot(a, b, n); }
float dotRow(const BFloat16 *a, const BFloat16 *b, int64_t n) { return hot().bf16.dot(a, b, n); }
double dotRow(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += a[i] * b[i];
  return sum;
}

void probabilityRow(float *scores, float *dscores, int64_t columns, int64_t from, int64_t to, float lse, float delta,
                    float scale) {
  hot().attentionBackwardRow(scores, dscores, columns, from, to, lse, delta, scale);
}
void probabilityRow(double *scores, double *dscores, int64_t columns, int64_t from, int64_t to, double lse,
                    double delta, double scale) {
  for (int64_t j = 0; j < columns; ++j) {
    bool seen = j >= from && j < to && lse != -std::numeric_limits<double>::infinity();
    scores[j] = seen ? std::exp(scores[j] - lse) : 0;
    dscores[j] = seen ? scores[j] * (dscores[j] - delta) * scale : 0;
  }
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
  int64_t b, h, kv;
  const S *dy, *q, *k, *v, *y;
  const T *lse;
  S *dq;
  const uint8_t *padding;
  const B *bias;

  HeadBackward(const AttentionProblem &p, const ProbabilityDropout &dropout, const Operands &o, unsigned slot)
      : p(p), dropout(dropout), o(o) {
    ScratchCursor part{o.workspaces[0]};
    delta = part.take<T>(p.batch * p.heads * p.queries);
    part.at += slot * slotBytes();
    scores = part.take<T>(p.queryBlock * p.keyBlock);
    dscores = part.take<T>(p.queryBlock * p.keyBlock);
    if constexpr (!isWide<S>) {
      wideQ = part.take<T>(p.queryBlock * p.width);
      wideDy = part.take<T>(p.queryBlock * p.valueWidth);
      wideDq = part.take<T>(p.queryBlock * p.width);
      wideK = part.take<T>(p.keyBlock * p.width);
      wideV = part.take<T>(p.keyBlock * p.valueWidth);
      dk = part.take<T>(p.keys * p.width);
      dv = part.take<T>(p.keys * p.valueWidth);
    }
    padding = o.in<uint8_t>(6);
    bias = o.in<B>(7);
  }

  uint64_t slotBytes() const {
    auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    return workspace::attentionBackwardSlot(u(p.keys), u(p.width), u(p.valueWidth), sizeof(S));
  }

  void run(int64_t piece) {
    b = piece / p.keyHeads;
    kv = piece;
    k = o.in<S>(2) + kv * p.keys * p.width;
    v = o.in<S>(3) + kv * p.keys * p.valueWidth;
    S *dkResult = o.out<S>(1) + kv * p.keys * p.width, *dvResult = o.out<S>(2) + kv * p.keys * p.valueWidth;
    if constexpr (isWide<S>) {
      dk = dkResult;
      dv = dvResult;
    }
    std::fill_n(dk, p.keys * p.width, T{});
    std::fill_n(dv, p.keys * p.valueWidth, T{});
    for (int64_t g = 0; g < p.group(); ++g) {
      h = piece % p.keyHeads * p.group() + g;
      head();
    }
    if constexpr (!isWide<S>) {
      narrowRow(dk, dkResult, p.keys * p.width);
      narrowRow(dv, dvResult, p.keys * p.valueWidth);
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
    for (int64_t i = 0; i < p.queries; ++i)
      sums[i] = dotRow(dy + i * p.valueWidth, y + i * p.valueWidth, p.valueWidth);
    for (int64_t block = 0; block < p.queryBlocks(); ++block)
      queryBlock(p.queriesOf(block), sums);
    if (p.average)
      averagedRows();
  }

  // A block of queries: their dq, and what they add to dk and dv.
  void queryBlock(const Rows &block, const T *sums) {
    int64_t begin = block.begin, rows = block.size();
    const T *queries = wideRows(q + begin * p.width, rows * p.width, wideQ);
    const T *gradients = wideRows(dy + begin * p.valueWidth, rows * p.valueWidth, wideDy);
    T *target = wideDq;
    if constexpr (isWide<S>)
      target = dq + begin * p.width;
    std::fill_n(target, rows * p.width, T{});
    p.forKeysOf(block, [&](const Rows &keys) { keyBlock(block, keys, queries, gradients, target, sums); });
    if constexpr (!isWide<S>)
      narrowRow(target, dq + begin * p.width, rows * p.width);
  }

  // Contributions of a block of queries and a block of keys.
  void keyBlock(const Rows &queryRows, const Rows &keyRows, const T *queries, const T *gradients, T *dqBlock,
                const T *sums) {
    int64_t begin = queryRows.begin, rows = queryRows.size(), j = keyRows.begin, columns = keyRows.size(),
            ld = p.keyBlock;
    T scale = static_cast<T>(p.scale);
    const T *keys = wideRows(k + j * p.width, columns * p.width, wideK);
    const T *values = wideRows(v + j * p.valueWidth, columns * p.valueWidth, wideV);
    if (p.width)
      gemm(false, true, rows, columns, p.width, scale, queries, p.width, keys, p.width, T(0), scores, ld);
    else
      std::fill_n(scores, rows * ld, T{});
    if (p.valueWidth)
      gemm(false, true, rows, columns, p.valueWidth, T(1), gradients, p.valueWidth, values, p.valueWidth, T(0),
           dscores, ld);
    else
      std::fill_n(dscores, rows * ld, T{});
    for (int64_t r = 0; r < rows; ++r) {
      int64_t i = begin + r, position = queryRows.position + r, from = p.low(position, keyRows),
              to = p.high(position, keyRows);
      if (p.average && !p.attends(b, h, i, position, padding, bias))
        from = to = 0; // averagedRows adds it
      T *row = scores + r * ld, *gradient = dscores + r * ld;
      uint32_t keep[AttentionProblem::keyBlock];
      const bool drops = dropout.isActive() && from < to;
      if (drops) {
        dropout.draw(b, h, i, j + from, to - from, keep);
        keepRow(gradient + from, keep, dropout.scale<T>(), gradient + from, to - from);
      }
      if (p.softcap > 0)
        cappedRow(row, gradient, from, to, columns, i, j, sums[i]);
      else {
        p.adjust(row, from, to, b, h, i, j, padding, bias);
        probabilityRow(row, gradient, columns, from, to, lse[i], sums[i], scale);
      }
      if (drops)
        keepRow(row + from, keep, dropout.scale<T>(), row + from, to - from);
    }
    if (p.valueWidth)
      gemm(true, false, columns, p.valueWidth, rows, T(1), scores, ld, gradients, p.valueWidth, T(1),
           dv + j * p.valueWidth, p.valueWidth);
    if (p.width) {
      gemm(false, false, rows, p.width, columns, T(1), dscores, ld, keys, p.width, T(1), dqBlock, p.width);
      gemm(true, false, columns, p.width, rows, T(1), dscores, ld, queries, p.width, T(1), dk + j * p.width, p.width);
    }
  }

  // With softcap the slope of tanh comes in; scores hold scale * q.k here.
  void cappedRow(T *row, T *gradient, int64_t from, int64_t to, int64_t columns, int64_t i, int64_t j, T sum) {
    for (int64_t c = from; c < to; ++c) {
      T t = std::tanh(row[c] / static_cast<T>(p.softcap));
      gradient[c] = (gradient[c] - sum) * (1 - t * t);
    }
    p.adjust(row, from, to, b, h, i, j, padding, bias);
    probabilityRow(row, gradient, columns, from, to, lse[i], T(0), static_cast<T>(p.scale));
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
      T share = dropout.scale<T>() / static_cast<T>(p.keys);
      uint32_t keep[AttentionProblem::keyBlock];
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

template <bool Drops> Status check(const InstructionSpec &spec) {
  AMC_TRY(AttentionProblem::expectOperands(spec,
                                           {{"dy", AcceptData},
                                            {"q", AcceptData},
                                            {"k", AcceptData},
                                            {"v", AcceptData},
                                            {"y", AcceptData},
                                            {"lse", AcceptWide}},
                                           {{"dq", AcceptData}, {"dk", AcceptData}, {"dv", AcceptData}}, Drops));
  AMC_TRY(AttentionProblem::check(spec, 1, 6, Drops));
  const TensorSpec &q = spec.inputs[1];
  std::vector<int64_t> rows = {q.shape[0], q.shape[1], q.shape[2]}, values = rows;
  values.push_back(spec.inputs[3].shape[3]);
  AMC_TRY(expectShape("inputs[0]", spec.inputs[0], values));
  AMC_TRY(expectShape("inputs[4]", spec.inputs[4], values));
  AMC_TRY(expectShape("inputs[5]", spec.inputs[5], rows));
  AMC_TRY(expectStatisticType("inputs[5]", spec.inputs[5], q));
  for (size_t i : {0, 4})
    AMC_TRY(expectDType(text("inputs[", i, "]").c_str(), spec.inputs[i], q.dtype));
  for (size_t i = 0; i < 3; ++i) {
    std::string name = text("outputs[", i, "]");
    AMC_TRY(expectDType(name.c_str(), spec.outputs[i], q.dtype));
    AMC_TRY(expectShape(name.c_str(), spec.outputs[i], spec.inputs[1 + i].shape));
  }
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  const std::vector<int64_t> &v = spec.inputs[3].shape;
  return expectWorkspace(spec, workspace::attentionBackward(u(rows[0]), u(rows[1]), u(v[1]), u(rows[2]), u(v[2]),
                                                            u(q.shape[3]), u(v[3]), dtypeBytes(q.dtype)));
}

template <bool Drops> std::unique_ptr<Kernel> make(const InstructionSpec &spec, const Group *group) {
  AttentionProblem p = AttentionProblem::create(spec, 1, 6, Drops, group);
  return withAttentionTypes(spec.inputs[1].dtype, spec.inputs[7].dtype, [&](auto data, auto bias) {
    using S = decltype(data);
    using B = decltype(bias);
    return makeKernel([=](const Operands &o, RunContext &c) {
      const ProbabilityDropout dropout(p, o, Drops, 8);
      int64_t pieces = p.batch * p.keyHeads;
      c.pool.parallelFor(pieces, [&](int64_t piece, unsigned slot) {
        HeadBackward<S, B>(p, dropout, o, slot).run(piece);
      }, static_cast<unsigned>(std::clamp<int64_t>(pieces, 1, workspace::attentionSlots)));
    });
  });
}

template <bool Drops> std::unique_ptr<Kernel> create(const InstructionSpec &spec) { return make<Drops>(spec, nullptr); }
std::unique_ptr<Kernel> createInGroup(const InstructionSpec &spec, Group &group) { return make<false>(spec, &group); }

} // namespace

void registerAttentionBackward(KernelRegistry &registry) {
  registry.add("attention_backward", {check<false>, create<false>, nullptr, false, true, createInGroup});
  registry.add("attention_dropout_backward", {check<true>, create<true>, nullptr, false, true});
}

} // namespace amc::rt::cpu
