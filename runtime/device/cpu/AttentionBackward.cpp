// attention_backward: dq, dk, dv; f32 and f64, arithmetic in that type, and bf16, in fp32, each gradient rounded once;
// where the processor multiplies bf16, probabilities and the scores' gradient are rounded before they are multiplied.
//
// A piece of work is one key head of one batch entry: it alone writes that head's dk and dv and the dq of the query
// heads that share it. Query heads ascending, query blocks ascending, key blocks ascending, as they are stored; blocks
// that the band hides are left out. With a group dk and dv are of this member's queries. Probabilities come from the scores,
// computed again, and lse. Workspace: row sums of dy * y, and two blocks (probabilities, gradient of the scores) per slot;
// for bf16 also its operands' blocks, a block of dq and the head's dk and dv. No result overlaps an operand. Reference:
// AttentionBackwardOp::evaluate, three loops.
//
// Limit: threads beyond batch x key heads, or 16, have nothing to do: of a batch of 1 with 4 key heads four work.
//
// attention_dropout_backward draws the mask again, one row of a block at a time: it multiplies the gradient of the
// probabilities, and, once the scores' gradient is known, the probabilities that dv is made of. The sum of dy * y is
// that of probability and its gradient as before, since both have the mask in them.
#include "runtime/device/cpu/AttentionBackward.h"
#include "runtime/device/cpu/RingAttention.h"

namespace amc::rt::cpu {
namespace {

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
  if (const AttentionProblem p = AttentionProblem::create(spec, 1, 6, Drops, nullptr); p.ring)
    return expectWorkspace(spec, p.ringShape(dtypeBytes(q.dtype)).backwardWorkspace());
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
      ScratchCursor scratch{o.workspaces[0]};
      Wide<S> *sums = scratch.take<Wide<S>>(p.batch * p.heads * p.queries);
      std::byte *slots = scratch.at;
      c.pool.parallelFor(pieces, [&](int64_t piece, unsigned slot) {
        HeadBackward<S, B>(p, dropout, o, sums, slots, slot).run(piece);
      }, static_cast<unsigned>(std::clamp<int64_t>(pieces, 1, workspace::attentionSlots)));
    });
  });
}

template <bool Drops> std::unique_ptr<Kernel> create(const InstructionSpec &spec) { return make<Drops>(spec, nullptr); }
std::unique_ptr<Kernel> createInGroup(const InstructionSpec &spec, Group &group) {
  return spec.flag("ring") ? makeRingAttentionBackward(spec, group) : make<false>(spec, &group);
}

} // namespace

void registerAttentionBackward(KernelRegistry &registry) {
  registry.addProduct("attention_backward", {check<false>, create<false>, nullptr, false, true, createInGroup});
  registry.addProduct("attention_dropout_backward", {check<true>, create<true>, nullptr, false, true});
}

} // namespace amc::rt::cpu
