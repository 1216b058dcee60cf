#include "runtime/collective/SharedCommunicator.h"
#include "runtime/collective/SelfGroup.h"
#include "runtime/collective/SharedGroup.h"
#include "runtime/plan/Ranges.h"
#include <cstring>
#include <numeric>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

namespace amc::rt::collective {

Expected<std::unique_ptr<Communicator>> SharedCommunicator::join(const Bootstrap &bootstrap,
                                                                 const JoinOptions &options) {
  Expected<std::unique_ptr<Control>> control = Control::join(bootstrap, options);
  if (!control.ok())
    return control.status();
  return std::unique_ptr<Communicator>(new SharedCommunicator(std::move(*control)));
}

SharedCommunicator::~SharedCommunicator() {
  for (const Segment &segment : segments)
    for (std::byte *base : segment.of)
      if (base)
        ::munmap(base, segment.bytes);
}

Expected<Group *> SharedCommunicator::group(const std::vector<unsigned> &ranks) {
  auto found = groups.find(ranks);
  if (found != groups.end())
    return found->second.get();
  if (Status s = checkMembers(ranks, rank(), size()); !s.ok())
    return s;
  std::unique_ptr<Group> made;
  if (ranks.size() == 1) {
    made = std::make_unique<SelfGroup>();
  } else {
    Expected<Meeting *> meeting = control->meeting(ranks);
    if (!meeting.ok())
      return meeting.status();
    made = std::make_unique<SharedGroup>(*this, **meeting, ranks);
  }
  return groups.emplace(ranks, std::move(made)).first->second.get();
}

Expected<std::vector<std::string>> SharedCommunicator::exchange(const std::string &mine) {
  std::vector<unsigned> all(size());
  std::iota(all.begin(), all.end(), 0u);
  Expected<Group *> world = group(all);
  return world.ok() ? exchangeIn(**world, mine) : Expected<std::vector<std::string>>(world.status());
}

// ---- memory

Expected<std::byte *> SharedCommunicator::allocate(uint64_t wanted) {
  uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint64_t bytes = std::max((wanted + page - 1) / page * page, page);
  Status status;
  SharedMemory own;
  // Pages of a file are taken when they are touched, and one that is not there ends the process: ask before. As much as
  // the kernel refuses to a private mapping, too: more than there can be.
  struct sysinfo machine;
  if (::sysinfo(&machine) == 0) {
    uint64_t there = (machine.totalram + machine.totalswap) * uint64_t(machine.mem_unit);
    if (bytes < wanted || wanted > there / size())
      status = limitError("no memory for the plan's arena of ", wanted, " bytes on each of ", size(),
                          " ranks: this machine has ", there, " bytes");
  }
  if (status.ok()) {
    Expected<SharedMemory> created = SharedMemory::create("amc arena", bytes);
    if (created.ok())
      own = std::move(*created);
    else
      status = std::move(created).status().withContext("the plan's arena");
  }
  Segment segment;
  segment.of.resize(size());
  status = mapAll(segment, own, bytes, status);
  segments.push_back(std::move(segment)); // also to be unmapped after a failure
  if (!status.ok())
    return status;
  return segments.back().of[rank()];
}

// Every exchange is made by all, whatever happened to one of them before: so they fail together.
Status SharedCommunicator::mapAll(Segment &segment, const SharedMemory &own, uint64_t bytes, const Status &before) {
  struct Offer {
    SharedMemory::Ticket ticket;
    uint64_t bytes = 0;
  };
  Offer offer{own.ticket(), bytes};
  auto gather = [&](const Status &status, const std::string &facts) -> Expected<std::vector<std::string>> {
    Expected<std::vector<std::string>> all =
        exchange((status.ok() ? "+" : "-") + (status.ok() ? facts : status.message()));
    if (!all.ok() || !status.ok())
      return all.ok() ? status : all.status();
    for (unsigned r = 0; r < all->size(); ++r)
      if ((*all)[r].empty() || (*all)[r][0] != '+')
        return control->fail(Cause::Failed, r,
                             text("rank ", r, " failed: ", (*all)[r].empty() ? "" : (*all)[r].substr(1)));
    return all;
  };
  Expected<std::vector<std::string>> all = gather(before, std::string(reinterpret_cast<char *>(&offer), sizeof offer));
  if (!all.ok())
    return all.status();
  std::vector<Offer> offers(size());
  for (unsigned r = 0; r < size(); ++r) {
    std::memcpy(static_cast<void *>(&offers[r]), (*all)[r].data() + 1, std::min(sizeof offer, (*all)[r].size() - 1));
    if (offers[r].bytes != offers[0].bytes)
      return control->fail(Cause::Disagree, r, describeArenas(r, offers[r].bytes, offers[0].bytes));
  }
  Status status;
  segment.bytes = bytes;
  for (unsigned r = 0; r < size() && status.ok(); ++r) {
    Expected<SharedMemory> memory = r == rank() ? SharedMemory() : SharedMemory::open(offers[r].ticket);
    Expected<std::byte *> base = !memory.ok() ? memory.status() : r == rank() ? own.map(true) : memory->map(false);
    if (!base.ok()) {
      status = base.status();
      break;
    }
    segment.of[r] = *base;
    ::madvise(*base, bytes, MADV_HUGEPAGE); // advice: most systems have it off for shared memory
  }
  return gather(status, "").status();
}

uint64_t SharedCommunicator::placeOf(const std::byte *address, uint64_t bytes) const {
  uint64_t before = 0;
  for (const Segment &segment : segments) {
    const std::byte *base = segment.of[control->rank];
    if (base && address >= base && address < base + segment.bytes)
      return rangeFits(static_cast<uint64_t>(address - base), bytes, segment.bytes)
                 ? before + static_cast<uint64_t>(address - base)
                 : Call::elsewhere;
    before += segment.bytes;
  }
  return Call::elsewhere;
}

std::byte *SharedCommunicator::at(unsigned other, uint64_t place, uint64_t bytes) const {
  for (const Segment &segment : segments) {
    if (place < segment.bytes)
      return rangeFits(place, bytes, segment.bytes) && segment.of[other] ? segment.of[other] + place : nullptr;
    place -= segment.bytes;
  }
  return nullptr;
}

} // namespace amc::rt::collective
