// How the bytes go from rank to rank. A collective goes in pieces: each rank copies its piece into its slot, all meet,
// each takes what it needs from the slots, all meet again. The first meeting also shows whether all are in the same
// collective. Messages go in pieces through a mailbox for each pair of ranks, whichever can go on; a message has been
// sent when it has been taken, so that a program which relies on buffers waits here for ever.
#include "test/emulated_cuda/nccl/Work.h"
#include <algorithm>
#include <cstring>

namespace amc::emulated {
namespace {

// Every rank compares all with rank 0, so that all come to the same conclusion.
Outcome compare(const Segment &segment) {
  for (int rank = 1; rank < segment.ranks(); ++rank)
    if (!(segment.announced(rank) == segment.announced(0)))
      return {ncclInvalidUsage, true,
              "ranks disagree: rank 0 is in " + describe(segment.announced(0)) + ", rank " + std::to_string(rank) +
                  " in " + describe(segment.announced(rank))};
  return {};
}

// A collective as its pieces see it.
class Collective {
public:
  explicit Collective(const Work &work)
      : work(work), segment(*work.comm->segment), kind(work.signature.kind), type(ncclDataType_t(work.signature.type)),
        bytes(elementBytes(type)), count(work.signature.count),
        slotBlocks(kind == Kind::reduceScatter || kind == Kind::allToAll || kind == Kind::scatter ? segment.ranks()
                                                                                                  : 1),
        send(work.send && count ? static_cast<const char *>(emulatedCudaAddress(work.send)) : nullptr),
        receive(work.receive && count ? static_cast<char *>(emulatedCudaAddress(work.receive)) : nullptr) {}

  Outcome run() {
    const uint64_t most = slotBytes / bytes / slotBlocks;
    uint64_t done = 0;
    do {
      uint64_t length = std::min(most, count - done);
      put(done, length);
      Outcome outcome = segment.meetOnDevice();
      if (!outcome && done == 0)
        outcome = compare(segment);
      if (outcome)
        return outcome;
      take(done, length);
      if ((outcome = segment.meetOnDevice()))
        return outcome;
      done += length;
    } while (done < count);
    return {};
  }

private:
  void put(uint64_t done, uint64_t length) {
    if (!send || !length)
      return;
    for (uint64_t block = 0; block < slotBlocks; ++block)
      std::memcpy(segment.slot(segment.rank()) + block * length * bytes, send + (block * count + done) * bytes,
                  length * bytes);
  }

  // A rank's piece that is for this rank.
  const char *piece(int rank, uint64_t length) const {
    return segment.slot(rank) + (slotBlocks > 1 ? segment.rank() * length * bytes : 0);
  }

  void take(uint64_t done, uint64_t length) {
    if (!receive || !length)
      return;
    switch (kind) {
    case Kind::allReduce:
    case Kind::reduce:
    case Kind::reduceScatter: {
      std::vector<const void *> inputs;
      for (int rank = 0; rank < segment.ranks(); ++rank)
        inputs.push_back(piece(rank, length));
      return reduce(type, ncclRedOp_t(work.signature.op), inputs, receive + done * bytes, length);
    }
    case Kind::broadcast:
    case Kind::scatter:
      std::memcpy(receive + done * bytes, piece(work.signature.root, length), length * bytes);
      return;
    default: // those that keep ranks apart
      for (int rank = 0; rank < segment.ranks(); ++rank)
        std::memcpy(receive + (rank * count + done) * bytes, piece(rank, length), length * bytes);
    }
  }

  const Work &work;
  Segment &segment;
  const Kind kind;
  const ncclDataType_t type;
  const size_t bytes;
  const uint64_t count, slotBlocks;
  const char *const send;
  char *const receive;
};

// A message on its way.
struct Parcel {
  const Message *message;
  char *bytes;
  uint64_t total, gone = 0;
  bool posted = false, done = false;
};

class Messages {
public:
  explicit Messages(const Work &work) : segment(*work.comm->segment) {
    for (const Message &message : work.messages)
      parcels.push_back({&message, message.count ? static_cast<char *>(emulatedCudaAddress(message.buffer)) : nullptr,
                         message.count * elementBytes(message.type)});
  }

  Outcome run() {
    while (true) {
      bool moved = false;
      for (Parcel &parcel : parcels)
        if (mayMove(parcel)) {
          if (Outcome outcome = move(parcel)) {
            segment.breakUp(outcome.message);
            return outcome;
          }
          moved = true;
        }
      if (std::all_of(parcels.begin(), parcels.end(), [](const Parcel &parcel) { return parcel.done; }))
        return {};
      if (moved)
        continue;
      auto movable = [&] {
        return std::any_of(parcels.begin(), parcels.end(), [&](const Parcel &parcel) { return mayMove(parcel); });
      };
      auto concerns = [&](int rank) {
        return std::any_of(parcels.begin(), parcels.end(),
                           [&](const Parcel &parcel) { return !parcel.done && parcel.message->peer == rank; });
      };
      if (Outcome outcome = segment.waitForMail(movable, concerns))
        return outcome;
    }
  }

private:
  Segment::Mailbox &mailbox(const Message &message) const {
    return message.sends ? segment.mailbox(segment.rank(), message.peer)
                         : segment.mailbox(message.peer, segment.rank());
  }

  // Messages between the same two ranks go one after the other.
  bool mayMove(const Parcel &parcel) const {
    if (parcel.done)
      return false;
    for (const Parcel &before : parcels) {
      if (&before == &parcel)
        break;
      if (!before.done && before.message->sends == parcel.message->sends &&
          before.message->peer == parcel.message->peer)
        return false;
    }
    return mailbox(*parcel.message).full == !parcel.message->sends;
  }

  Outcome move(Parcel &parcel) {
    const Message &message = *parcel.message;
    Segment::Mailbox &box = mailbox(message);
    if (message.sends && parcel.posted && parcel.gone == parcel.total) { // the last piece has been taken
      parcel.done = true;
      return {};
    }
    size_t length = std::min<uint64_t>(mailboxBytes, parcel.total - parcel.gone);
    if (message.sends) {
      box.type = message.type;
      box.count = message.count;
      if (length)
        std::memcpy(box.bytes, parcel.bytes + parcel.gone, length);
      parcel.posted = true;
      box.full = 1;
    } else {
      if (box.type != uint32_t(message.type) || box.count != message.count)
        return {ncclInvalidUsage, true,
                "ranks disagree: rank " + std::to_string(message.peer) + " sends " + std::to_string(box.count) + " " +
                    typeName(ncclDataType_t(box.type)) + ", rank " + std::to_string(segment.rank()) + " receives " +
                    std::to_string(message.count) + " " + typeName(message.type)};
      if (length)
        std::memcpy(parcel.bytes + parcel.gone, box.bytes, length);
      box.full = 0;
    }
    parcel.gone += length;
    parcel.done = !message.sends && parcel.gone == parcel.total;
    segment.wake(message.peer);
    return {};
  }

  Segment &segment;
  std::vector<Parcel> parcels;
};

} // namespace

Outcome exchange(const Work &work) {
  return work.signature.kind == Kind::messages ? Messages(work).run() : Collective(work).run();
}

} // namespace amc::emulated
