#include "test/emulated_cuda/nccl/Turns.h"

namespace amc::emulated {

Turns::Ticket Turns::take(uint64_t capture) {
  std::lock_guard lock(mutex);
  if (!capture)
    return {direct, direct->issued++};
  if (captured->capture != capture) {
    captured = std::make_shared<Sequence>();
    captured->capture = capture;
  }
  captured->runs.push_back(0);
  return {captured, captured->issued++};
}

bool Turns::isTurnOf(const Ticket &ticket) {
  const Sequence &sequence = *ticket.sequence;
  if (!sequence.capture)
    return sequence.ran == ticket.index;
  return ticket.index == 0 || sequence.runs[ticket.index - 1] > sequence.runs[ticket.index];
}

bool Turns::begin(const Ticket &ticket, std::chrono::seconds patience) {
  std::unique_lock lock(mutex);
  if (!changed.wait_for(lock, patience, [&] { return !busy && isTurnOf(ticket); }))
    return false;
  busy = true;
  return true;
}

void Turns::end(const Ticket &ticket) {
  std::lock_guard lock(mutex);
  busy = false;
  if (ticket.sequence->capture)
    ++ticket.sequence->runs[ticket.index];
  else
    ++ticket.sequence->ran;
  changed.notify_all();
}

} // namespace amc::emulated
