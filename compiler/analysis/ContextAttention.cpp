// See ContextAttention.h.
#include "compiler/analysis/ContextAttention.h"

namespace amc {
namespace {

// Scores again, dq and dk over the head size, probabilities' gradients and dv over the values' size: five products for
// forward's two.
uint64_t backwardFlops(const ContextCase &c) {
  double forward = static_cast<double>(c.ring.width + c.ring.valueWidth);
  double backward = static_cast<double>(3 * c.ring.width + 2 * c.ring.valueWidth);
  return forward == 0 ? 0 : static_cast<uint64_t>(static_cast<double>(c.forwardFlops) * backward / forward);
}

// What operands move in memory is alike in both, and little beside the products.
GraphOp attention(uint64_t flops) {
  GraphOp op;
  op.flops = flops;
  return op;
}

} // namespace

std::optional<ContextAttention> contextAttentionNamed(std::string_view name) {
  if (name == "auto")
    return ContextAttention::Auto;
  if (name == "ring")
    return ContextAttention::Ring;
  if (name == "all-gather")
    return ContextAttention::AllGather;
  return std::nullopt;
}

ContextCost ringCost(const ContextCase &c, const DeviceModel &device) {
  GraphOp forward = attention(c.forwardFlops), backward = attention(backwardFlops(c));
  forward.span = backward.span = c.span;
  forward.steps = backward.steps = c.ring.steps();
  forward.bytesSent = c.ring.sentForward();
  backward.bytesSent = c.ring.sentBackward();
  return {opCost(forward, device) + opCost(backward, device), c.ring.backwardWorkspace()};
}

ContextCost gatherCost(const ContextCase &c, const DeviceModel &device) {
  const rt::RingShape &r = c.ring;
  uint64_t seconds = opCost(attention(c.forwardFlops), device) + opCost(attention(backwardFlops(c)), device), bytes = 0;
  for (uint64_t elements : {r.keyElements(), r.valueElements()}) {
    GraphOp collective; // all_gather, and reduce_scatter of what has been rounded
    collective.bytesSent = (r.members - 1) * elements * r.bytes;
    collective.bytesMoved = 2 * r.members * elements * r.bytes;
    collective.span = c.span;
    seconds += opCost(collective, device) / c.readers + opCost(collective, device);
    bytes += 2 * r.members * elements * r.bytes;
  }
  return {seconds, bytes + rt::workspace::attentionBackward(r.batch, r.heads, r.keyHeads, r.rows, r.rows * r.members,
                                                            r.width, r.valueWidth, r.bytes)};
}

bool isRingBetter(const ContextCost &ring, const ContextCost &gather) {
  double less = static_cast<double>(std::min(ring.picoseconds, gather.picoseconds)),
         more = static_cast<double>(std::max(ring.picoseconds, gather.picoseconds));
  return more > less * 1.05 ? ring.picoseconds < gather.picoseconds : ring.bytes < gather.bytes;
}

} // namespace amc
