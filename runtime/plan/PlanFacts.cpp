// What a plan promises, computed from its buffers and instructions alone; and what is wrong with it, as one error.
#include "runtime/plan/PlanVerifier.h"
#include <algorithm>

namespace amc::rt {

LivePeak findLivePeak(const plan::Plan &plan) {
  // Bytes that come and go at each instruction, in the order of instructions.
  struct Change {
    uint64_t at;
    bool comes;
    const plan::Buffer *buffer;
  };
  std::vector<Change> changes;
  for (const plan::Buffer &b : plan.buffers()) {
    changes.push_back({b.first(), true, &b});
    changes.push_back({b.last(), false, &b});
  }
  std::stable_sort(changes.begin(), changes.end(), [](const Change &a, const Change &b) { return a.at < b.at; });
  LivePeak live, peak;
  for (size_t i = 0; i < changes.size();) {
    uint64_t at = changes[i].at;
    for (; i < changes.size() && changes[i].at == at; ++i) {
      const plan::Buffer &b = *changes[i].buffer;
      uint64_t delta = changes[i].comes ? b.bytes() : 0 - b.bytes(); // wraps around, the sum does not
      live.bytes += delta;
      if (plan::Category_IsValid(b.category()))
        live.byCategory[b.category()] += delta;
    }
    if (live.bytes > peak.bytes) {
      peak = live;
      peak.instruction = at;
    }
  }
  return peak;
}

uint64_t savedBytes(const plan::Plan &plan) {
  std::vector<bool> forward(static_cast<size_t>(plan.buffers_size())), saved = forward;
  auto there = [&](const plan::View &view) {
    return view.dtype() != plan::DTYPE_UNSPECIFIED && view.buffer() < forward.size();
  };
  for (const plan::Instruction &instruction : plan.instructions()) {
    if (instruction.phase() != plan::FORWARD)
      for (const plan::View &view : instruction.inputs())
        if (there(view) && forward[view.buffer()])
          saved[view.buffer()] = true;
    for (const plan::View &view : instruction.outputs())
      if (there(view))
        forward[view.buffer()] = instruction.phase() == plan::FORWARD;
  }
  uint64_t bytes = 0;
  for (int b = 0; b < plan.buffers_size(); ++b)
    bytes += saved[static_cast<size_t>(b)] ? plan.buffers(b).bytes() : 0;
  return bytes;
}

Status PlanDiagnostics::toStatus() const {
  if (ok())
    return Status();
  std::string all = text("the plan is invalid");
  for (const std::string &error : errors)
    all += "\n  " + error;
  if (suppressed)
    all += text("\n  and ", suppressed, " more");
  return Status(ErrorKind::Input, std::move(all));
}

} // namespace amc::rt
