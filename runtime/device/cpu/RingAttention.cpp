// attention in a ring; see RingAttention.h. Rows' maxima (in lse), sums and results are kept from step to step, in fp32 (f64
// for f64), and are what the next piece is added to: merging by log-sum-exp, without a buffer for what is merged.
#include "runtime/device/cpu/RingAttention.h"
#include "runtime/device/cpu/AttentionForward.h"

namespace amc::rt::cpu {
namespace {

template <class S, class B> class RingForward {
public:
  using T = Wide<S>;
  RingForward(const AttentionProblem &p, const RingShape &shape, Group &group, const Operands &o, RunContext &c)
      : p(p), shape(shape), o(o), c(c), dropout(p, o, false, 0), scratch{o.workspaces[0]},
        work(p.batch * p.heads * p.queryBlocks()), slots(scratch.at),
        slotCount(std::clamp<int64_t>(p.batch * p.heads * ceilDiv(p.queries, p.queryBlock), 1, workspace::attentionSlots)),
        results(o.out<T>(0)) {
    auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    scratch.at += u(slotCount) * workspace::attentionSlot(u(p.width), u(p.valueWidth), sizeof(S), u(p.keys));
    sums = scratch.take<T>(p.batch * p.heads * p.queries);
    if constexpr (!isWide<S>)
      results = scratch.take<T>(p.batch * p.heads * p.queries * p.valueWidth);
    pieces.emplace(group, shape, o.in<S>(1), o.in<S>(2), scratch.at);
  }

  Status run() {
    const uint64_t steps = shape.steps();
    attend(p.member, o.in<S>(1), o.in<S>(2), true, steps == 0);
    if (steps == 0)
      return Status();
    AMC_TRY(pieces->meet()); // all are here, and so are their keys
    uint64_t left = steps;
    for (uint64_t distance = 1; distance < shape.members; ++distance)
      if (shape.needs(distance)) {
        AMC_TRY(pieces->fetch(distance));
        attend(pieces->ownerAt(distance), pieces->k, pieces->v, false, --left == 0);
      }
    return pieces->meet(); // all have read
  }

private:
  // All queries, to one member's keys.
  void attend(int64_t owner, const S *k, const S *v, bool first, bool last) {
    const bool sees = p.sees(p.member, owner);
    if (!sees && !first && !last)
      return;
    c.pool.parallelFor(work, [&](int64_t piece, unsigned slot) {
      // The last query blocks see most keys: they come first, the short ones fill up the end.
      QueryBlock<S, B> block(p, dropout, o, work - 1 - piece);
      const int64_t row = block.firstRow(), rows = block.queries.size();
      T *lse = block.maximum = o.out<T>(1) + row;
      block.sum = sums + row;
      block.y = results + row * p.valueWidth;
      if (first)
        block.begin();
      if (sees) {
        AttentionSlot<S> s(p, slots, slot);
        const S *values = v + block.kv * p.keys * p.valueWidth;
        block.attend(o.in<S>(0) + row * p.width, owner, k + block.kv * p.keys * p.width, values, s);
        for (int64_t r = 0; r < rows && p.averages(); ++r)
          if (!p.attends(block.b, block.h, block.queries.begin + r, block.queries.position + r, block.padding, block.bias))
            block.addValues(r, values);
      }
      if (!last)
        return;
      block.finish(lse);
      if constexpr (!isWide<S>)
        narrowRow(block.y, o.out<S>(0) + row * p.valueWidth, rows * p.valueWidth);
    }, static_cast<unsigned>(slotCount));
  }

  const AttentionProblem &p;
  const RingShape &shape;
  const Operands &o;
  RunContext &c;
  ProbabilityDropout dropout;
  ScratchCursor scratch;
  int64_t work;
  std::byte *slots;
  int64_t slotCount;
  T *results, *sums;
  std::optional<RingPieces<S>> pieces;
};

} // namespace

std::unique_ptr<Kernel> makeRingAttention(const InstructionSpec &spec, Group &group) {
  AttentionProblem p = AttentionProblem::create(spec, 0, 3, /*drops=*/false, &group);
  RingShape shape = p.ringShape(dtypeBytes(spec.inputs[0].dtype));
  return withAttentionTypes(spec.inputs[0].dtype, spec.inputs[4].dtype, [&](auto data, auto bias) {
    return makeKernel([p, shape, &group, data, bias](const Operands &o, RunContext &c) {
      c.failure.report(RingForward<std::decay_t<decltype(data)>, std::decay_t<decltype(bias)>>(p, shape, group, o, c).run());
    });
  });
}

} // namespace amc::rt::cpu
