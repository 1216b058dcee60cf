// Attention in a ring (compiler/dialect/AttentionOps.td): which members see anything of each other, what they send, and
// the scratch that takes. Positions follow from shapes and attributes alone, so that all members leave out the same
// steps. No dependencies but Workspace.h: compiler and runtime call these.
#ifndef AMC_RUNTIME_PLAN_RING_H
#define AMC_RUNTIME_PLAN_RING_H

#include "runtime/plan/Workspace.h"
#include <algorithm>
#include <optional>

namespace amc::rt {

// Whether a row may have nothing to attend to, where "average" makes it the mean of all values: every query sees its own
// key unless a mask or the band hides it.
constexpr bool ringAverages(bool masked, std::optional<int64_t> left, std::optional<int64_t> right) {
  return masked || left.value_or(0) < 0 || right.value_or(0) < 0;
}

// No ring has more members: what follows from them is found by looking at each.
inline constexpr uint64_t mostRingMembers = uint64_t(1) << 16;

struct RingShape {
  uint64_t members = 1, batch = 0, heads = 0, keyHeads = 0, rows = 0, width = 0, valueWidth = 0; // of one member
  uint64_t bytes = 4;                                                                           // of an element
  std::optional<int64_t> left, right;                                                           // absent: unlimited
  bool zigzag = false;
  bool everything = false; // rows may need keys outside of the band: those with nothing to attend to are averaged

  // In step `distance` a member has the keys of the one so far before it. Whether any member's queries see any of them.
  constexpr bool needs(uint64_t distance) const;
  // How many steps there are besides the first, which needs nobody.
  constexpr uint64_t steps() const {
    if (everything || !left || !right)
      return rows == 0 || members == 0 ? 0 : members - 1; // at an unlimited end all are seen
    uint64_t count = 0;
    for (uint64_t distance = 1; distance < members; ++distance)
      count += needs(distance);
    return count;
  }

  constexpr uint64_t wide() const { return workspace::detail::wide(bytes); }
  constexpr uint64_t keyElements() const { return batch * keyHeads * rows * width; }
  constexpr uint64_t valueElements() const { return batch * keyHeads * rows * valueWidth; }
  // Keys and values of a member, each padded; and what is added to their gradients, in the type of sums.
  constexpr uint64_t fetched() const {
    return workspace::detail::pad(keyElements() * bytes) + workspace::detail::pad(valueElements() * bytes);
  }
  constexpr uint64_t sums() const {
    return workspace::detail::pad(keyElements() * wide()) + workspace::detail::pad(valueElements() * wide());
  }
  // What a member sends: keys and values in every step; in backward also what it has for their owner's gradients.
  constexpr uint64_t sentForward() const { return steps() * (keyElements() + valueElements()) * bytes; }
  constexpr uint64_t sentBackward() const { return sentForward() + steps() * (keyElements() + valueElements()) * wide(); }

  // attention: its slots, the sums of rows (their maxima stand in lse), results in fp32 for bf16, and what is fetched.
  constexpr uint64_t forwardWorkspace() const {
    return workspace::attention(batch, heads, rows, width, valueWidth, bytes, rows) + rowSums() +
           (bytes < 4 ? workspace::detail::pad(batch * heads * rows * valueWidth * 4) : 0) + (steps() ? fetched() : 0);
  }
  constexpr uint64_t rowSums() const { return workspace::detail::pad(batch * heads * rows * wide()); }
  // attention_backward: row sums of dy * y; for bf16 dq, dk and dv in fp32; the slots; what is added to others'
  // gradients; and, in one place, what is fetched and what others have added.
  constexpr uint64_t backwardWorkspace() const {
    return rowSums() + (bytes < 4 ? workspace::detail::pad(batch * heads * rows * width * 4) + sums() : 0) +
           workspace::detail::least(workspace::attentionSlots, batch * keyHeads) *
               workspace::attentionBackwardSlot(rows, 0, width, valueWidth, bytes) +
           (steps() ? sums() + workspace::detail::most(fetched(), sums()) : 0);
  }
};

namespace detail {

using Wide = __int128;
constexpr Wide floorDiv(Wide a, Wide b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// Distances, in chunks, from a chunk of queries to a chunk of keys of which a query sees a key.
struct SeenChunks {
  Wide least, most;
  constexpr SeenChunks(const RingShape &s, Wide length)
      : least(-floorDiv(Wide(*s.left) + length - 1, length)), most(floorDiv(Wide(*s.right) + length - 1, length)) {}
  // Any of first, first + stride, …, last?
  constexpr bool any(Wide first, Wide last, Wide stride = 1) const {
    Wide at = first >= least ? first : first + (least - first + stride - 1) / stride * stride;
    return at <= std::min(last, most);
  }
};

} // namespace detail

constexpr bool RingShape::needs(uint64_t distance) const {
  if (everything || !left || !right)
    return rows > 0;
  using detail::Wide;
  Wide length = zigzag ? rows / 2 : rows, n = members, d = distance;
  if (length == 0 || Wide(*left) + *right < 0) // a band of nothing
    return false;
  const detail::SeenChunks seen(*this, length);
  // Member r has the keys of r - d, or, where that is below 0, of r - d + n. In order a member is one chunk.
  if (seen.any(-d, -d) || seen.any(n - d, n - d))
    return true;
  if (!zigzag)
    return false;
  // Late chunks lie in the opposite order. An early and a late one of r and o are 2 n - 1 - r - o apart: o = r - d for r in
  // [d, n), o = r - d + n for r in [0, d).
  return seen.any(d, d) || seen.any(d - n, d - n) || seen.any(d + 1, 2 * n - 1 - d, 2) ||
         seen.any(d + 1 - 2 * n, -d - 1, 2) || seen.any(n - d + 1, n + d - 1, 2) || seen.any(1 - n - d, d - n - 1, 2);
}

} // namespace amc::rt

#endif
