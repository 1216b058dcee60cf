// attention and attention_backward in a ring of ranks (compiler/dialect/AttentionOps.td): every member has a piece of the
// keys and values, which the others come to look at (Liu et al., 2023).
//
// In step d a member looks at the piece of the member d before it, d = 0, 1, 2 …: the order of its sums, which does not
// depend on timing or on how pieces come here. Where peers' memory can be read (Group::peerOf) pieces are read where
// they lie; else `shift` brings them into the workspace, from their owner at once, so that one buffer is enough. Steps
// in which no member sees anything (runtime/plan/Ring.h) are left out by all. The signatures are Attention.cpp's and
// AttentionBackward.cpp's.
#ifndef AMC_RUNTIME_DEVICE_CPU_RINGATTENTION_H
#define AMC_RUNTIME_DEVICE_CPU_RINGATTENTION_H

#include "runtime/device/cpu/AttentionProblem.h"
#include "runtime/device/cpu/Registry.h"

namespace amc::rt::cpu {

std::unique_ptr<Kernel> makeRingAttention(const InstructionSpec &spec, Group &group);
std::unique_ptr<Kernel> makeRingAttentionBackward(const InstructionSpec &spec, Group &group);

// Keys and values of the members, as one member comes by them.
template <class S> class RingPieces {
public:
  RingPieces(Group &group, const RingShape &shape, const S *k, const S *v, std::byte *scratch)
      : group(group), shape(shape), ownK(k), ownV(v), scratch(scratch),
        inPlace(group.peerOf(0, bytes(k), keyBytes()) && group.peerOf(0, bytes(v), valueBytes())) {}

  bool isInPlace() const { return inPlace; }
  unsigned ownerAt(uint64_t distance) const {
    unsigned n = group.size();
    return (group.index() + n - static_cast<unsigned>(distance)) % n;
  }
  // The piece that step `distance` is about is in k and v.
  Status fetch(uint64_t distance) {
    if (inPlace) {
      k = reinterpret_cast<const S *>(group.peerOf(ownerAt(distance), bytes(ownK), keyBytes()));
      v = reinterpret_cast<const S *>(group.peerOf(ownerAt(distance), bytes(ownV), valueBytes()));
      return Status();
    }
    std::byte *intoV = scratch + workspace::detail::pad(keyBytes());
    k = reinterpret_cast<const S *>(scratch);
    v = reinterpret_cast<const S *>(intoV);
    if (Status s = group.shift(bytes(ownK), scratch, keyBytes(), static_cast<unsigned>(distance)); !s.ok())
      return s;
    return group.shift(bytes(ownV), intoV, valueBytes(), static_cast<unsigned>(distance));
  }
  // Others' memory may be read after, and own may be written.
  Status meet() { return inPlace ? group.barrier() : Status(); }

  const S *k = nullptr, *v = nullptr;

private:
  static const std::byte *bytes(const S *data) { return reinterpret_cast<const std::byte *>(data); }
  uint64_t keyBytes() const { return shape.keyElements() * shape.bytes; }
  uint64_t valueBytes() const { return shape.valueElements() * shape.bytes; }

  Group &group;
  const RingShape &shape;
  const S *ownK, *ownV;
  std::byte *scratch;
  bool inPlace;
};

} // namespace amc::rt::cpu

#endif
