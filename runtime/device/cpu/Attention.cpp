// attention: tiled, with online softmax (Dao et al., 2022); f32 and f64, arithmetic in that type, and bf16, with blocks
// of q, k, v and y in fp32, y rounded once, lse fp32.
//
// A piece of work is one block of 64 queries of one head. It walks the key blocks of 128 in the order they are stored in,
// leaving out those that the band (causal, window) hides altogether, and keeps maximum, sum and the unnormalised result of each
// row; scores live in one block of workspace per slot. No result overlaps an operand. Reference: AttentionOps.td,
// three loops.
//
// attention_dropout multiplies by dropout's mask what is multiplied with v; the sums of rows are of all probabilities.
#include "runtime/device/cpu/AttentionProblem.h"
#include "runtime/plan/Mesh.h"
#include <climits>

namespace amc::rt::cpu {

Status AttentionProblem::expectOperands(const InstructionSpec &spec, std::vector<OperandRule> inputs,
                                        const std::vector<OperandRule> &outputs, bool drops) {
  std::vector<AttributeRule> attributes = {{"scale", Real},
                                           {"left", Int, Optional},
                                           {"right", Int, Optional},
                                           {"softcap", Real},
                                           {"masked_rows", Text}};
  inputs.insert(inputs.end(), {{"padding", AcceptBool, Optional}, {"bias", AcceptData, Optional}});
  if (drops) {
    inputs.insert(inputs.end(), {{"seed", AcceptI64}, {"step", AcceptI64}, {"micro_batch", AcceptI64}});
    attributes.insert(attributes.end(), {{"dropout", Real}, {"stream", Int}});
  } else {
    attributes.insert(attributes.end(), {{"group", Text, Optional}, {"members", Int, Optional}, {"zigzag", Int, Optional}});
  }
  return cpu::expectOperands(spec, inputs, outputs, attributes);
}

// What a group, of which q is one member's, asks for.
static Status checkMember(const InstructionSpec &spec, int64_t queries, int64_t keys, const TensorSpec &bias) {
  bool grouped = spec.find("group");
  AMC_EXPECT(grouped == (spec.find("members") != nullptr), "attributes: group and members should be there both or not");
  int64_t members = spec.integer("members", 1);
  AMC_EXPECT(members >= 1 && members <= static_cast<int64_t>(mostRanks) && queries <= (int64_t(1) << 46) / members,
             "attributes.members: is ", members, ", of which each has ", queries, " queries");
  if (grouped && bias.present())
    AMC_EXPECT(bias.shape[2] == 1 && bias.shape[3] == 1, "bias: shape is ", shapeText(bias.shape),
               " and should have dimensions 2 and 3 of size 1 beside a group");
  if (!spec.flag("zigzag"))
    return Status();
  AMC_EXPECT(grouped, "attributes.zigzag: there should be a group");
  AMC_EXPECT(queries % 2 == 0 && keys == queries * members, "attributes.zigzag: queries are ", queries, " and keys ",
             keys, " and should be even and ", members, " times as many");
  return Status();
}

Status AttentionProblem::check(const InstructionSpec &spec, size_t first, size_t masks, bool drops) {
  const TensorSpec &q = spec.inputs[first], &k = spec.inputs[first + 1], &v = spec.inputs[first + 2];
  AMC_EXPECT(q.rank() == 4 && k.rank() == 4 && v.rank() == 4, "inputs: q, k and v should be of rank 4");
  AMC_TRY(expectDType("k", k, q.dtype));
  AMC_TRY(expectDType("v", v, q.dtype));
  AMC_EXPECT(k.shape[0] == q.shape[0] && k.shape[3] == q.shape[3], "k: shape is ", shapeText(k.shape),
             " and should have batch and width of q's ", shapeText(q.shape));
  AMC_TRY(expectShape("v", v, {k.shape[0], k.shape[1], k.shape[2], v.shape[3]}));
  AMC_EXPECT(k.shape[1] > 0 && q.shape[1] % k.shape[1] == 0, "inputs: key heads are ", k.shape[1],
             " and should divide the query heads ", q.shape[1]);
  AMC_EXPECT(q.shape[3] <= INT_MAX && v.shape[3] <= INT_MAX, "inputs: widths should be at most ", INT_MAX);
  const TensorSpec &padding = spec.inputs[masks], &bias = spec.inputs[masks + 1];
  if (padding.present())
    AMC_TRY(expectShape("padding", padding, {q.shape[0], k.shape[2]}));
  if (bias.present()) {
    if (q.dtype != plan::BF16 || bias.dtype != plan::F32)
      AMC_TRY(expectDType("bias", bias, q.dtype));
    AMC_EXPECT(bias.rank() == 4, "bias: rank is ", bias.rank(), " and should be 4");
    AMC_TRY(expectBroadcast("bias", bias, {q.shape[0], q.shape[1], q.shape[2], k.shape[2]}));
  }
  AMC_EXPECT(std::isfinite(spec.real("scale")), "attributes.scale: should be finite");
  AMC_EXPECT(std::isfinite(spec.real("softcap")) && spec.real("softcap") >= 0,
             "attributes.softcap: should be finite and at least 0");
  if (drops)
    AMC_TRY(expectDropout(spec, masks + 2, "dropout"));
  AMC_TRY(checkMember(spec, q.shape[2], k.shape[2], bias));
  return expectOneOf(spec, "masked_rows", {"zero", "average"});
}

AttentionProblem AttentionProblem::create(const InstructionSpec &spec, size_t first, size_t masks, bool drops,
                                          const Group *group) {
  const std::vector<int64_t> &q = spec.inputs[first].shape, &v = spec.inputs[first + 2].shape;
  constexpr int64_t unlimited = int64_t(1) << 48;
  AttentionProblem p{};
  p.batch = q[0];
  p.heads = q[1];
  p.queries = q[2];
  p.width = q[3];
  p.keyHeads = v[1];
  p.keys = v[2];
  p.valueWidth = v[3];
  p.scale = spec.real("scale");
  p.softcap = spec.real("softcap");
  p.left = std::clamp(spec.integer("left", unlimited), -unlimited, unlimited);
  p.right = std::clamp(spec.integer("right", unlimited), -unlimited, unlimited);
  p.average = spec.string("masked_rows") == "average";
  p.dropout = drops ? spec.real("dropout") : 0;
  p.stream = drops ? spec.integer("stream") : 0;
  if (group) {
    p.members = spec.integer("members");
    p.member = group->index();
    p.zigzag = spec.flag("zigzag");
  }
  p.padded = spec.inputs[masks].present();
  p.biased = spec.inputs[masks + 1].present();
  if (p.biased) {
    int64_t stride = 1;
    for (int i = 3; i >= 0; --i) {
      int64_t dim = spec.inputs[masks + 1].shape[static_cast<size_t>(i)];
      p.biasStrides[i] = dim == 1 ? 0 : stride;
      stride *= dim;
    }
  }
  return p;
}

namespace {

float softmaxRow(float *scores, int64_t columns, int64_t from, int64_t to, float *maximum, float *sum) {
  return hot().attentionRow(scores, columns, from, to, maximum, sum);
}
double softmaxRow(double *scores, int64_t columns, int64_t from, int64_t to, double *maximum, double *sum) {
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

void scaleRow(float *y, float factor, int64_t n) { hot().scale(y, factor, n); }
void scaleRow(double *y, double factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] *= factor;
}

// The parts of a slot of the workspace; the last four for bf16 only.
template <class S> struct Slot {
  using T = Wide<S>;
  T *scores, *maximum, *sum;
  T *q = nullptr, *k = nullptr, *v = nullptr, *y = nullptr;
  Slot(const AttentionProblem &p, std::byte *base, unsigned slot) {
    auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    ScratchCursor part{base + slot * workspace::attentionSlot(u(p.width), u(p.valueWidth), sizeof(S))};
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

// The mean of all values, for query (b, h, i) with nothing to attend to.
template <class S>
void averageRow(const AttentionProblem &p, const ProbabilityDropout &dropout, int64_t b, int64_t h, int64_t i,
                const S *v, Wide<S> *y) {
  using T = Wide<S>;
  std::fill_n(y, p.valueWidth, T{});
  uint32_t keep[AttentionProblem::keyBlock];
  std::fill_n(keep, p.keyBlock, ~uint32_t(0));
  for (int64_t block = 0; block < p.keys; block += p.keyBlock) {
    int64_t columns = std::min(p.keyBlock, p.keys - block);
    if (dropout.isActive())
      dropout.draw(b, h, i, block, columns, keep);
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t d = 0; d < p.valueWidth && keep[j]; ++d)
        y[d] += static_cast<T>(v[(block + j) * p.valueWidth + d]);
  }
  for (int64_t d = 0; d < p.valueWidth; ++d)
    y[d] /= static_cast<T>(p.keys);
  if (dropout.isActive())
    scaleRow(y, dropout.scale<T>(), p.valueWidth);
}

template <class S, class B>
void queryBlockForward(const AttentionProblem &p, const ProbabilityDropout &dropout, const Operands &o, int64_t piece,
                       Slot<S> s) {
  using T = Wide<S>;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  int64_t blocks = p.queryBlocks();
  const AttentionProblem::Rows queries = p.queriesOf(piece % blocks);
  int64_t begin = queries.begin, rows = queries.size();
  int64_t bh = piece / blocks, b = bh / p.heads, h = bh % p.heads;
  int64_t kv = b * p.keyHeads + h / p.group();
  const T *q = wideRows(o.in<S>(0) + (bh * p.queries + begin) * p.width, rows * p.width, s.q);
  const S *k = o.in<S>(1) + kv * p.keys * p.width, *v = o.in<S>(2) + kv * p.keys * p.valueWidth;
  const uint8_t *padding = o.in<uint8_t>(3);
  const B *bias = o.in<B>(4);
  S *result = o.out<S>(0) + (bh * p.queries + begin) * p.valueWidth;
  T *lse = o.out<T>(1) + bh * p.queries + begin, *y = s.y;
  if constexpr (isWide<S>)
    y = result;
  std::fill_n(s.maximum, rows, -infinity);
  std::fill_n(s.sum, rows, T{});
  std::fill_n(y, rows * p.valueWidth, T{});

  p.forKeysOf(queries, [&](const AttentionProblem::Rows &keys) {
    int64_t j = keys.begin, columns = keys.size();
    if (p.width)
      gemm(false, true, rows, columns, p.width, static_cast<T>(p.scale), q, p.width,
           wideRows(k + j * p.width, columns * p.width, s.k), p.width, T(0), s.scores, p.keyBlock);
    else
      std::fill_n(s.scores, rows * p.keyBlock, T{});
    for (int64_t r = 0; r < rows; ++r) {
      T *row = s.scores + r * p.keyBlock;
      int64_t from = p.low(queries.position + r, keys), to = p.high(queries.position + r, keys);
      p.adjust(row, from, to, b, h, begin + r, j, padding, bias);
      T correction = softmaxRow(row, columns, from, to, s.maximum + r, s.sum + r);
      if (correction != T(1))
        scaleRow(y + r * p.valueWidth, correction, p.valueWidth);
      if (dropout.isActive() && from < to) {
        uint32_t keep[AttentionProblem::keyBlock];
        dropout.draw(b, h, begin + r, j + from, to - from, keep);
        keepRow(row + from, keep, T(1), row + from, to - from);
      }
    }
    if (p.valueWidth)
      gemm(false, false, rows, p.valueWidth, columns, T(1), s.scores, p.keyBlock,
           wideRows(v + j * p.valueWidth, columns * p.valueWidth, s.v), p.valueWidth, T(1), y, p.valueWidth);
  });

  for (int64_t r = 0; r < rows; ++r) {
    if (s.maximum[r] != -infinity) {
      scaleRow(y + r * p.valueWidth, dropout.scale<T>() / s.sum[r], p.valueWidth);
      lse[r] = s.maximum[r] + std::log(s.sum[r]);
    } else if (p.average && p.keys > 0) {
      averageRow(p, dropout, b, h, begin + r, v, y + r * p.valueWidth);
      lse[r] = std::log(static_cast<T>(p.keys));
    } else {
      std::fill_n(y + r * p.valueWidth, p.valueWidth, T{});
      lse[r] = -infinity;
    }
  }
  if constexpr (!isWide<S>)
    narrowRow(y, result, rows * p.valueWidth);
}

template <bool Drops> Status check(const InstructionSpec &spec) {
  AMC_TRY(AttentionProblem::expectOperands(spec, {{"q", AcceptData}, {"k", AcceptData}, {"v", AcceptData}},
                                           {{"y", AcceptData}, {"lse", AcceptWide}}, Drops));
  AMC_TRY(AttentionProblem::check(spec, 0, 3, Drops));
  const TensorSpec &q = spec.inputs[0];
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], q.dtype));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], {q.shape[0], q.shape[1], q.shape[2], spec.inputs[2].shape[3]}));
  AMC_TRY(expectStatisticType("outputs[1]", spec.outputs[1], q));
  AMC_TRY(expectShape("outputs[1]", spec.outputs[1], {q.shape[0], q.shape[1], q.shape[2]}));
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  return expectWorkspace(spec, workspace::attention(u(q.shape[0]), u(q.shape[1]), u(q.shape[2]), u(q.shape[3]),
                                                    u(spec.inputs[2].shape[3]), dtypeBytes(q.dtype)));
}

template <bool Drops> std::unique_ptr<Kernel> make(const InstructionSpec &spec, const Group *group) {
  AttentionProblem p = AttentionProblem::create(spec, 0, 3, Drops, group);
  return withAttentionTypes(spec.inputs[0].dtype, spec.inputs[4].dtype, [&](auto data, auto bias) {
    using S = decltype(data);
    using B = decltype(bias);
    return makeKernel([=](const Operands &o, RunContext &c) {
      const ProbabilityDropout dropout(p, o, Drops, 5);
      int64_t pieces = p.batch * p.heads * p.queryBlocks();
      // As Workspace.h counts them: zigzag makes more pieces of few queries.
      int64_t slots = p.batch * p.heads * ceilDiv(p.queries, p.queryBlock);
      c.pool.parallelFor(pieces, [&](int64_t piece, unsigned slot) {
        // The last query blocks see most keys: they come first, the short ones fill up the end.
        queryBlockForward<S, B>(p, dropout, o, pieces - 1 - piece, Slot<S>(p, o.workspaces[0], slot));
      }, static_cast<unsigned>(std::clamp<int64_t>(slots, 1, workspace::attentionSlots)));
    });
  });
}

template <bool Drops> std::unique_ptr<Kernel> create(const InstructionSpec &spec) { return make<Drops>(spec, nullptr); }
std::unique_ptr<Kernel> createInGroup(const InstructionSpec &spec, Group &group) { return make<false>(spec, &group); }

} // namespace

void registerAttention(KernelRegistry &registry) {
  registry.add("attention", {check<false>, create<false>, nullptr, false, true, createInGroup});
  registry.add("attention_dropout", {check<true>, create<true>, nullptr, false, true});
}

} // namespace amc::rt::cpu
