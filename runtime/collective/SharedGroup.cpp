#include "runtime/collective/SharedGroup.h"
#include <cstring>

namespace amc::rt::collective {
namespace {

void copyTo(std::byte *to, const std::byte *from, uint64_t bytes) {
  if (to != from && bytes)
    std::memmove(to, from, bytes);
}

} // namespace

SharedGroup::SharedGroup(SharedCommunicator &communicator, Meeting &meeting, std::vector<unsigned> ranks)
    : communicator(communicator), meeting(meeting), ranks(std::move(ranks)),
      members(static_cast<unsigned>(this->ranks.size())), hash(hashOf(this->ranks)), peers(members), sources(members) {
  while (this->ranks[self] != communicator.rank())
    ++self;
}

// Peers can read it, and it is worth another meeting.
bool SharedGroup::isLarge(const std::byte *in, uint64_t bytes) const {
  return bytes > stagingBytes / 2 && communicator.placeOf(in, bytes) != Call::elsewhere;
}

Status SharedGroup::meet() { return communicator.control->meet(meeting, self); }

Status SharedGroup::begin(Call call) {
  call.number = number;
  meeting.member(self).calls[number & 1] = call;
  communicator.control->called();
  if (Status s = meet(); !s.ok())
    return s;
  for (unsigned m = 0; m < members; ++m) {
    const Call &other = meeting.member(m).calls[number & 1];
    if (other == call)
      continue;
    // All members find the same pair: the first member, and the first that differs from it.
    const Call &first = meeting.member(0).calls[number & 1];
    for (unsigned k = 1; k < members; ++k)
      if (const Call &kth = meeting.member(k).calls[number & 1]; !(kth == first))
        return communicator.control->fail(Cause::Disagree, ranks[k],
                                          describeDifference(ranks[0], first, ranks[k], kth));
  }
  return Status();
}

Status SharedGroup::locate(uint64_t place, uint64_t bytes, std::vector<const std::byte *> &at) {
  for (unsigned m = 0; m < members; ++m) {
    at[m] = communicator.at(ranks[m], place, bytes);
    if (!at[m])
      return limitError("a collective reads ", bytes, " bytes at ", place, " of rank ", ranks[m],
                        ", which that has not shared");
  }
  return Status();
}

Status SharedGroup::beginInPlace(Call call, const std::byte *in, uint64_t bytes) {
  call.in = communicator.placeOf(in, bytes);
  if (Status s = begin(call); !s.ok())
    return s;
  ++number;
  return locate(call.in, bytes, peers);
}

Call SharedGroup::callOf(CallKind kind, const SpreadShape &shape) const {
  Call call;
  call.kind = kind;
  call.dtype = shape.dtype;
  call.outer = shape.outer;
  call.rows = shape.rows;
  call.inner = shape.inner;
  call.group = hash;
  return call;
}

Status SharedGroup::allGather(const std::byte *piece, std::byte *whole, const SpreadShape &shape) {
  if (Status s = checkCall(shape, members, false); !s.ok())
    return s;
  Spread spread(shape, members);
  Call call = callOf(CallKind::AllGather, shape);
  uint64_t bytes = spread.outer * spread.pieceBytes();
  // Bytes [begin, end) of a member's pieces, which lie at `from`, to their places; not what is padding.
  auto put = [&](unsigned m, const std::byte *from, uint64_t begin, uint64_t end) {
    uint64_t held = spread.rowsOf(m) * spread.rowBytes();
    for (uint64_t at = begin; at < end;) {
      uint64_t o = at / spread.pieceBytes(), within = at % spread.pieceBytes();
      uint64_t stop = std::min(end - at, spread.pieceBytes() - within);
      if (within < held)
        copyTo(whole + o * spread.wholeBytes() + spread.first(m) * spread.rowBytes() + within, from + (at - begin),
               std::min(stop, held - within));
      at += stop;
    }
  };
  if (isLarge(piece, bytes)) {
    if (Status s = beginInPlace(call, piece, bytes); !s.ok())
      return s;
    // Every member begins with its own piece, so that they do not all read the same one.
    for (unsigned i = 0; i < members; ++i) {
      unsigned m = (self + i) % members;
      put(m, peers[m], 0, bytes);
    }
    return meet();
  }
  for (uint64_t at = 0; at == 0 || at < bytes; at += stagingBytes) {
    uint64_t count = std::min(stagingBytes, bytes - at);
    copyTo(staging(self), piece + at, count);
    if (Status s = begin(call); !s.ok())
      return s;
    for (unsigned m = 0; m < members; ++m)
      put(m, staging(m), at, at + count);
    ++number;
  }
  return Status();
}

Status SharedGroup::reduceScatter(const std::byte *whole, std::byte *piece, const SpreadShape &shape) {
  if (Status s = checkCall(shape, members, true); !s.ok())
    return s;
  Spread spread(shape, members);
  Call call = callOf(CallKind::ReduceScatter, shape);
  uint64_t bytes = spread.outer * spread.wholeBytes();
  if (isLarge(whole, bytes)) {
    if (Status s = beginInPlace(call, whole, bytes); !s.ok())
      return s;
    uint64_t elements = spread.rowsOf(self) * spread.inner;
    for (uint64_t o = 0; o < spread.outer && elements; ++o) {
      uint64_t from = o * spread.wholeBytes() + spread.first(self) * spread.rowBytes();
      for (unsigned m = 0; m < members; ++m)
        sources[m] = peers[m] + from;
      sum(shape.dtype, sources.data(), members, piece + o * spread.pieceBytes(), elements);
    }
    spread.pad(self, piece);
    return meet();
  }
  // A tile holds the same part of every member's rows.
  uint64_t tile = stagingBytes / members / 8 * 8;
  if (tile == 0)
    return limitError("a group of ", members, " ranks on one host is too large");
  bool met = false;
  for (uint64_t o = 0; o < spread.outer; ++o)
    for (uint64_t at = 0; at < spread.pieceBytes(); at += tile) {
      auto part = [&](unsigned m) {
        uint64_t held = spread.rowsOf(m) * spread.rowBytes();
        return at < held ? std::min(tile, held - at) : 0;
      };
      for (unsigned m = 0; m < members; ++m)
        copyTo(staging(self) + m * tile, whole + o * spread.wholeBytes() + spread.first(m) * spread.rowBytes() + at,
               part(m));
      if (Status s = begin(call); !s.ok())
        return s;
      met = true;
      for (unsigned m = 0; m < members; ++m)
        sources[m] = staging(m) + self * tile;
      sum(shape.dtype, sources.data(), members, piece + o * spread.pieceBytes() + at, part(self) / spread.width);
      ++number;
    }
  if (!met) {
    if (Status s = begin(call); !s.ok())
      return s;
    ++number;
  }
  spread.pad(self, piece);
  return Status();
}

Status SharedGroup::allReduce(const std::byte *in, std::byte *out, uint64_t elements, plan::DType dtype) {
  SpreadShape shape{1, elements, 1, dtype};
  if (Status s = checkCall(shape, members, true); !s.ok())
    return s;
  Call call = callOf(CallKind::AllReduce, shape);
  uint64_t width = dtypeBytes(dtype), bytes = elements * width;
  if (isLarge(in, bytes) && communicator.placeOf(out, bytes) != Call::elsewhere) {
    call.out = communicator.placeOf(out, bytes);
    if (Status s = beginInPlace(call, in, bytes); !s.ok())
      return s;
    // Chunks of whole cache lines.
    uint64_t chunk = ((elements + members - 1) / members + 63) / 64 * 64;
    auto begins = [&](unsigned m) { return std::min(elements, m * chunk); };
    auto count = [&](unsigned m) { return std::min(elements - begins(m), chunk); };
    for (unsigned m = 0; m < members; ++m)
      sources[m] = peers[m] + begins(self) * width;
    sum(dtype, sources.data(), members, out + begins(self) * width, count(self));
    if (Status s = meet(); !s.ok())
      return s;
    if (Status s = locate(call.out, bytes, peers); !s.ok())
      return s;
    for (unsigned i = 1; i < members; ++i) {
      unsigned m = (self + i) % members;
      copyTo(out + begins(m) * width, peers[m] + begins(m) * width, count(m) * width);
    }
    return meet();
  }
  for (uint64_t at = 0; at == 0 || at < bytes; at += stagingBytes) {
    uint64_t part = std::min(stagingBytes, bytes - at);
    copyTo(staging(self), in + at, part);
    if (Status s = begin(call); !s.ok())
      return s;
    for (unsigned m = 0; m < members; ++m)
      sources[m] = staging(m);
    sum(dtype, sources.data(), members, out + at, part / width);
    ++number;
  }
  return Status();
}

Status SharedGroup::allToAll(const std::byte *in, std::byte *out, uint64_t bytes) {
  SpreadShape shape{1, bytes, members, plan::U8};
  if (Status s = checkCall(shape, members, false); !s.ok())
    return s;
  Call call = callOf(CallKind::AllToAll, shape);
  if (isLarge(in, members * bytes)) {
    if (Status s = beginInPlace(call, in, members * bytes); !s.ok())
      return s;
    for (unsigned i = 0; i < members; ++i) {
      unsigned m = (self + i) % members;
      copyTo(out + m * bytes, peers[m] + self * bytes, bytes);
    }
    return meet();
  }
  uint64_t tile = stagingBytes / members;
  if (tile == 0)
    return limitError("a group of ", members, " ranks on one host is too large");
  for (uint64_t at = 0; at == 0 || at < bytes; at += tile) {
    uint64_t part = std::min(tile, bytes - at);
    for (unsigned m = 0; m < members; ++m)
      copyTo(staging(self) + m * tile, in + m * bytes + at, part);
    if (Status s = begin(call); !s.ok())
      return s;
    for (unsigned m = 0; m < members; ++m)
      copyTo(out + m * bytes + at, staging(m) + self * tile, part);
    ++number;
  }
  return Status();
}

Status SharedGroup::shift(const std::byte *in, std::byte *out, uint64_t bytes, unsigned distance) {
  SpreadShape shape{distance % members, bytes, 1, plan::U8};
  if (Status s = checkCall({1, bytes, 1, plan::U8}, members, false); !s.ok())
    return s;
  Call call = callOf(CallKind::Shift, shape);
  unsigned from = (self + members - distance % members) % members;
  if (isLarge(in, bytes)) {
    if (Status s = beginInPlace(call, in, bytes); !s.ok())
      return s;
    copyTo(out, peers[from], bytes);
    return meet();
  }
  for (uint64_t at = 0; at == 0 || at < bytes; at += stagingBytes) {
    uint64_t part = std::min(stagingBytes, bytes - at);
    copyTo(staging(self), in + at, part);
    if (Status s = begin(call); !s.ok())
      return s;
    copyTo(out + at, staging(from), part);
    ++number;
  }
  return Status();
}

const std::byte *SharedGroup::peerOf(unsigned member, const std::byte *own, uint64_t bytes) const {
  uint64_t place = communicator.placeOf(own, bytes);
  return place == Call::elsewhere ? nullptr : communicator.at(ranks[member], place, bytes);
}

Status SharedGroup::barrier() {
  Status s = begin(callOf(CallKind::Barrier, {}));
  ++number;
  return s;
}

} // namespace amc::rt::collective
