// attention: tiled, with online softmax (Dao et al., 2022); f32 and f64, arithmetic in that type, and bf16, y rounded
// once, lse fp32: with blocks of q, k, v and y in fp32, or, where the processor multiplies bf16, with probabilities rounded
// to bf16 before they are multiplied with v (their sums are of what was there before).
//
// A piece of work is one block of 64 queries of one head. It walks the key blocks of 256 (of 128 where there are no more
// than 256 keys) in the order they are stored in, leaving out those that the band (causal, window) hides altogether, and
// what it hides of the last one, and keeps maximum, sum and the unnormalised result of each row; scores live in one block
// of workspace per slot. No result overlaps an operand. Reference: AttentionOps.td, three loops.
//
// attention_dropout multiplies by dropout's mask what is multiplied with v; the sums of rows are of all probabilities.
#include "runtime/device/cpu/AttentionForward.h"
#include "runtime/device/cpu/RingAttention.h"
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
    attributes.insert(attributes.end(), {{"group", Text, Optional}, {"members", Int, Optional}, {"zigzag", Int, Optional},
                                         {"ring", Int, Optional}});
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
  const bool ring = spec.flag("ring");
  AMC_EXPECT(!ring || grouped, "attributes.ring: there should be a group");
  AMC_EXPECT(!ring || members <= static_cast<int64_t>(mostRingMembers), "attributes.ring: members are ", members,
             " and should be at most ", mostRingMembers);
  AMC_EXPECT(!ring || keys == queries, "attributes.ring: queries are ", queries, " and keys ", keys,
             " and should be as many");
  if (!spec.flag("zigzag"))
    return Status();
  AMC_EXPECT(grouped, "attributes.zigzag: there should be a group");
  AMC_EXPECT(queries % 2 == 0 && (ring || keys == queries * members), "attributes.zigzag: queries are ", queries,
             " and keys ", keys, " and should be even and ", members, " times as many");
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
  AMC_EXPECT(q.shape[3] <= INT_MAX && v.shape[3] <= INT_MAX, "inputs: widths are ", q.shape[3], " and ", v.shape[3],
             " and should be at most ", INT_MAX);
  const TensorSpec &padding = spec.inputs[masks], &bias = spec.inputs[masks + 1];
  AMC_TRY(checkMember(spec, q.shape[2], k.shape[2], bias));
  const int64_t allKeys = k.shape[2] * (!drops && spec.flag("ring") ? spec.integer("members") : 1);
  if (padding.present())
    AMC_TRY(expectShape("padding", padding, {q.shape[0], allKeys}));
  if (bias.present()) {
    if (q.dtype != plan::BF16 || bias.dtype != plan::F32)
      AMC_TRY(expectDType("bias", bias, q.dtype));
    AMC_EXPECT(bias.rank() == 4, "bias: rank is ", bias.rank(), " and should be 4");
    AMC_TRY(expectBroadcast("bias", bias, {q.shape[0], q.shape[1], q.shape[2], allKeys}));
  }
  AMC_EXPECT(std::isfinite(spec.real("scale")), "attributes.scale: should be finite");
  AMC_EXPECT(std::isfinite(spec.real("softcap")) && spec.real("softcap") >= 0,
             "attributes.softcap: should be finite and at least 0");
  if (drops)
    AMC_TRY(expectDropout(spec, masks + 2, "dropout"));
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
  p.keyBlock = static_cast<int64_t>(workspace::attentionKeyBlock(static_cast<uint64_t>(p.keys)));
  p.scale = spec.real("scale");
  p.softcap = spec.real("softcap");
  p.left = std::clamp(spec.integer("left", unlimited), -unlimited, unlimited);
  p.right = std::clamp(spec.integer("right", unlimited), -unlimited, unlimited);
  p.average = spec.string("masked_rows") == "average";
  p.dropout = drops ? spec.real("dropout") : 0;
  p.stream = drops ? spec.integer("stream") : 0;
  if (!drops) {
    p.members = spec.integer("members", 1);
    p.member = group ? group->index() : 0;
    p.zigzag = spec.flag("zigzag");
    p.ring = spec.flag("ring");
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

RingShape AttentionProblem::ringShape(uint64_t bytes) const {
  constexpr int64_t unlimited = int64_t(1) << 48;
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  RingShape ring{u(members), u(batch), u(heads), u(keyHeads), u(queries), u(width), u(valueWidth), bytes, {}, {}, zigzag,
                 averages()};
  if (left < unlimited)
    ring.left = left;
  if (right < unlimited)
    ring.right = right;
  return ring;
}

namespace {

template <class S, class B>
void queryBlockForward(const AttentionProblem &p, const ProbabilityDropout &dropout, const Operands &o, int64_t piece,
                       AttentionSlot<S> s) {
  using T = Wide<S>;
  QueryBlock<S, B> block(p, dropout, o, piece);
  const int64_t rows = block.queries.size(), first = block.firstRow();
  const S *k = o.in<S>(1) + block.kv * p.keys * p.width, *v = o.in<S>(2) + block.kv * p.keys * p.valueWidth;
  S *result = o.out<S>(0) + first * p.valueWidth;
  block.maximum = s.maximum;
  block.sum = s.sum;
  block.y = s.y;
  if constexpr (isWide<S>)
    block.y = result;
  block.begin();
  block.attend(o.in<S>(0) + first * p.width, 0, k, v, s);
  for (int64_t r = 0; r < rows && p.average; ++r)
    if (block.maximum[r] == -block.infinity) {
      std::fill_n(block.y + r * p.valueWidth, p.valueWidth, T{});
      block.addValues(r, v);
    }
  block.finish(o.out<T>(1) + first);
  if constexpr (!isWide<S>)
    narrowRow(block.y, result, rows * p.valueWidth);
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
  if (const AttentionProblem p = AttentionProblem::create(spec, 0, 3, Drops, nullptr); p.ring)
    return expectWorkspace(spec, p.ringShape(dtypeBytes(q.dtype)).forwardWorkspace());
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  return expectWorkspace(spec, workspace::attention(u(q.shape[0]), u(q.shape[1]), u(q.shape[2]), u(q.shape[3]),
                                                    u(spec.inputs[2].shape[3]), dtypeBytes(q.dtype),
                                                    u(spec.inputs[2].shape[2])));
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
        queryBlockForward<S, B>(p, dropout, o, pieces - 1 - piece, AttentionSlot<S>(p, o.workspaces[0], slot));
      }, static_cast<unsigned>(std::clamp<int64_t>(slots, 1, workspace::attentionSlots)));
    });
  });
}

template <bool Drops> std::unique_ptr<Kernel> create(const InstructionSpec &spec) { return make<Drops>(spec, nullptr); }
std::unique_ptr<Kernel> createInGroup(const InstructionSpec &spec, Group &group) {
  return spec.flag("ring") ? makeRingAttention(spec, group) : make<false>(spec, &group);
}

} // namespace

void registerAttention(KernelRegistry &registry) {
  registry.addProduct("attention", {check<false>, create<false>, nullptr, false, true, createInGroup});
  registry.addProduct("attention_dropout", {check<true>, create<true>, nullptr, false, true});
}

} // namespace amc::rt::cpu
