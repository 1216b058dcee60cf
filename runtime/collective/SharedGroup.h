#ifndef AMC_RUNTIME_COLLECTIVE_SHAREDGROUP_H
#define AMC_RUNTIME_COLLECTIVE_SHAREDGROUP_H

#include "runtime/collective/SharedCommunicator.h"

namespace amc::rt::collective {

class SharedGroup final : public Group {
public:
  SharedGroup(SharedCommunicator &communicator, Meeting &meeting, std::vector<unsigned> ranks);
  unsigned size() const override { return members; }
  unsigned index() const override { return self; }
  Status allGather(const std::byte *piece, std::byte *whole, const SpreadShape &shape) override;
  Status reduceScatter(const std::byte *whole, std::byte *piece, const SpreadShape &shape) override;
  Status allReduce(const std::byte *in, std::byte *out, uint64_t elements, plan::DType dtype) override;
  Status allToAll(const std::byte *in, std::byte *out, uint64_t bytes) override;
  Status shift(const std::byte *in, std::byte *out, uint64_t bytes, unsigned distance) override;
  const std::byte *peerOf(unsigned member, const std::byte *own, uint64_t bytes) const override;
  Status barrier() override;

private:
  bool isLarge(const std::byte *in, uint64_t bytes) const;
  Status meet();
  // Tells the others what this member calls, waits for them, and compares.
  Status begin(Call call);
  std::byte *staging(unsigned member) { return meeting.member(member).staging[number & 1]; }
  // In the members' arenas, where this member has `own`.
  Status locate(uint64_t place, uint64_t bytes, std::vector<const std::byte *> &at);
  // begin() of a call whose members read each other's `in`, `bytes` long, where it lies: at `peers` afterwards.
  Status beginInPlace(Call call, const std::byte *in, uint64_t bytes);
  Call callOf(CallKind kind, const SpreadShape &shape) const;

  SharedCommunicator &communicator;
  Meeting &meeting;
  std::vector<unsigned> ranks;
  unsigned members, self = 0;
  uint64_t hash, number = 1;                     // 0: has not called yet
  std::vector<const std::byte *> peers, sources; // by member; kept, so that no call allocates
};

} // namespace amc::rt::collective

#endif
