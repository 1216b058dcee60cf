// attention_backward in a ring; see RingAttention.h. In every step a member has what its queries give to the gradients of
// another member's keys and values, added up from zero in fp32 (f64 for f64), and hands it to that member, which adds it to
// its own: after itself, of the member behind it, the one behind that, and so on. Rounded once, at the end; dq, too. So
// each product is computed once, and two buffers of sums are all that is under way.
#include "runtime/device/cpu/RingAttention.h"
#include "runtime/device/cpu/AttentionBackward.h"

namespace amc::rt::cpu {
namespace {

template <class S, class B> class RingBackward {
public:
  using T = Wide<S>;
  // Sums of one member's keys' and values' gradients: those of the values lie behind the keys', padded.
  struct Sums {
    T *dk, *dv;
  };

  RingBackward(const AttentionProblem &p, const RingShape &shape, Group &group, const Operands &o, RunContext &c)
      : p(p), shape(shape), group(group), o(o), c(c), dropout(p, o, false, 0), scratch{o.workspaces[0]} {
    delta = scratch.take<T>(p.batch * p.heads * p.queries);
    own = {o.out<T>(1), o.out<T>(2)};
    if constexpr (!isWide<S>) {
      dq = scratch.take<T>(p.batch * p.heads * p.queries * p.width);
      own = takeSums();
    }
    auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    heads = p.batch * p.keyHeads;
    slots = scratch.at;
    scratch.at += std::min(workspace::attentionSlots, u(heads)) *
                  workspace::attentionBackwardSlot(u(p.keys), 0, u(p.width), u(p.valueWidth), sizeof(S));
    given = takeSums();
    // What is fetched is done with when the others' sums come.
    pieces.emplace(group, shape, o.in<S>(2), o.in<S>(3), scratch.at);
    taken = takeSums();
  }

  Status run() {
    attend(p.member, o.in<S>(2), o.in<S>(3), own, true);
    if (shape.steps() > 0) {
      AMC_TRY(pieces->meet()); // all are here, and so are their keys
      for (uint64_t distance = 1; distance < shape.members; ++distance)
        if (shape.needs(distance)) {
          AMC_TRY(pieces->fetch(distance));
          if (unsigned owner = pieces->ownerAt(distance); p.sees(p.member, owner))
            attend(owner, pieces->k, pieces->v, given, false);
          AMC_TRY(exchange(distance));
        }
    }
    if constexpr (!isWide<S>) {
      narrow(dq, 0, p.batch * p.heads * p.queries * p.width);
      narrow(own.dk, 1, heads * p.keys * p.width);
      narrow(own.dv, 2, heads * p.keys * p.valueWidth);
    }
    return Status();
  }

private:
  Sums takeSums() {
    T *dk = scratch.take<T>(p.batch * p.keyHeads * p.keys * p.width);
    return {dk, scratch.take<T>(p.batch * p.keyHeads * p.keys * p.valueWidth)};
  }

  // What all queries give to one member's keys and values, and what those give to dq.
  void attend(int64_t owner, const S *k, const S *v, Sums sums, bool first) {
    c.pool.parallelFor(heads, [&](int64_t keyHead, unsigned slot) {
      HeadBackward<S, B> head(p, dropout, o, delta, slots, slot);
      head.sumsDq = dq;
      head.piece = owner;
      head.isFirst = first;
      head.kv = keyHead;
      head.k = k + keyHead * p.keys * p.width;
      head.v = v + keyHead * p.keys * p.valueWidth;
      head.dk = sums.dk + keyHead * p.keys * p.width;
      head.dv = sums.dv + keyHead * p.keys * p.valueWidth;
      head.heads();
    }, static_cast<unsigned>(std::clamp<int64_t>(heads, 1, workspace::attentionSlots)));
  }

  // Every member has given what it has for the member `distance` before it; takes from the one as far behind.
  Status exchange(uint64_t distance) {
    unsigned n = group.size(), from = (group.index() + static_cast<unsigned>(distance)) % n;
    const std::byte *there = reinterpret_cast<const std::byte *>(given.dk);
    const uint64_t bytes = shape.sums();
    if (pieces->isInPlace()) {
      AMC_TRY(group.barrier());
      there = group.peerOf(from, there, bytes);
    } else {
      std::byte *here = reinterpret_cast<std::byte *>(taken.dk);
      AMC_TRY(group.shift(there, here, bytes, n - static_cast<unsigned>(distance)));
      there = here;
    }
    if (p.sees(from, p.member)) {
      add(own.dk, reinterpret_cast<const T *>(there), heads * p.keys * p.width);
      add(own.dv, reinterpret_cast<const T *>(there + (reinterpret_cast<std::byte *>(given.dv) -
                                                       reinterpret_cast<std::byte *>(given.dk))),
          heads * p.keys * p.valueWidth);
    }
    return pieces->meet(); // all have taken
  }

  void add(T *to, const T *from, int64_t n) {
    parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) { addToRow(to + begin, from + begin, end - begin); });
  }
  void narrow(const T *from, size_t output, int64_t n) {
    parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
      narrowRow(from + begin, o.out<S>(output) + begin, end - begin);
    });
  }

  const AttentionProblem &p;
  const RingShape &shape;
  Group &group;
  const Operands &o;
  RunContext &c;
  ProbabilityDropout dropout;
  ScratchCursor scratch;
  T *delta, *dq = nullptr;
  Sums own, given, taken;
  int64_t heads;
  std::byte *slots;
  std::optional<RingPieces<S>> pieces;
};

} // namespace

std::unique_ptr<Kernel> makeRingAttentionBackward(const InstructionSpec &spec, Group &group) {
  AttentionProblem p = AttentionProblem::create(spec, 1, 6, /*drops=*/false, &group);
  RingShape shape = p.ringShape(dtypeBytes(spec.inputs[1].dtype));
  return withAttentionTypes(spec.inputs[1].dtype, spec.inputs[7].dtype, [&](auto data, auto bias) {
    return makeKernel([p, shape, &group, data, bias](const Operands &o, RunContext &c) {
      c.failure.report(RingBackward<std::decay_t<decltype(data)>, std::decay_t<decltype(bias)>>(p, shape, group, o, c).run());
    });
  });
}

} // namespace amc::rt::cpu
