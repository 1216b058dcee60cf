// The memory that the ranks of a communicator share: who is there, what each of them is doing, and the bytes on their
// way. It is found by a name made from the unique id, and loses the name as soon as all have it, so that nothing stays
// behind whatever becomes of the processes.
//
// Nobody waits for a rank that is gone: each process holds a lock on a byte of the segment, which its end releases, be
// it killed or not yet waited for by its parent. Nor for one that never comes: a wait ends after EMULATED_NCCL_TIMEOUT
// seconds (120), which is for ranks that do not make the same calls.
#ifndef AMC_TEST_EMULATED_CUDA_NCCL_SEGMENT_H
#define AMC_TEST_EMULATED_CUDA_NCCL_SEGMENT_H

#include "test/emulated_cuda/nccl/Types.h"
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace amc::emulated {

inline constexpr int maxRanks = 32;
inline constexpr size_t slotBytes = 2 << 20;     // a rank's part of a collective at a time; all elements divide it
inline constexpr size_t mailboxBytes = 64 << 10; // of a message at a time
inline constexpr size_t postBytes = 256;

enum class Kind : uint32_t {
  none,
  allReduce,
  reduce,
  broadcast,
  reduceScatter,
  allGather,
  allToAll,
  gather,
  scatter,
  messages
};

// What a rank is about to do, as the others have to see it.
struct Signature {
  Kind kind = Kind::none;
  uint32_t type = 0;
  uint32_t op = 0;   // 0 where nothing is reduced
  int32_t root = -1; // -1 where there is none
  uint64_t count = 0;
  bool operator==(const Signature &) const = default;
};
std::string describe(const Signature &signature);

// How long a wait may take.
std::chrono::seconds timeout();

// How a wait or a step ended. Its message names ranks.
struct Outcome {
  ncclResult_t result = ncclSuccess;
  bool finding = false; // a defect of the program rather than the fate of a peer
  std::string message;
  explicit operator bool() const { return result != ncclSuccess; }
};

class Segment {
public:
  // Blocks until all ranks have it. `uuid` (16 bytes) tells devices apart: two ranks may not have the same one.
  static Outcome join(const std::string &name, int ranks, int rank, const void *uuid, std::unique_ptr<Segment> &joined);
  ~Segment();

  int ranks() const { return rankCount; }
  int rank() const { return me; }

  // Says what this rank is in, as its `number`th; `rest` that it is in nothing.
  void announce(const Signature &signature, uint64_t number);
  void rest();
  const Signature &announced(int rank) const;

  // All ranks are in it before one is out of it. Collectives and host calls have rounds of their own.
  Outcome meetOnDevice();
  Outcome meetOnHost();

  char *slot(int rank) const;
  char *post(int rank) const; // for host calls: postBytes

  // A chunk of a message on its way from one rank to another; one side at a time has the bytes.
  struct Mailbox {
    std::atomic<uint32_t> full;
    uint32_t type;
    uint64_t count; // of the whole message
    char bytes[mailboxBytes];
  };
  Mailbox &mailbox(int from, int to) const;
  // After a mailbox has changed hands.
  void wake(int rank);
  // Until `ready`, which is asked whenever somebody wakes this rank.
  Outcome waitForMail(const std::function<bool()> &ready, const std::function<bool(int rank)> &concerns);

  // The others' waits end, now and later, and say why.
  void breakUp(const std::string &why);
  // This rank will not come any more.
  void leave();

private:
  struct Shared;
  struct Meeting;
  Segment(Shared *shared, int file, int ranks, int rank);
  Outcome meet(Meeting &meeting);
  Outcome broken() const;
  Outcome wait(std::atomic<uint32_t> &word, const std::function<bool()> &ready,
               const std::function<bool(int rank)> &concerns);
  Outcome missing(const std::function<bool(int rank)> &concerns) const;
  Outcome late(const std::function<bool(int rank)> &concerns) const;
  bool processEnded(int rank) const;

  Shared *shared;
  int file;
  int rankCount, me;
};

} // namespace amc::emulated

#endif
