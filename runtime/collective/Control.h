// The block of memory that all ranks on one host share, besides their arenas: who they are and how they fare, what
// became of the run, and a meeting place for every group. Plus how a rank waits: never for ever.
//
//   Header      the verdict: the first failure anybody found, as one text that all ranks end with
//   Slot        one per rank: process, heartbeat, signs of progress, what it waits for, its last message
//   Table, heap meeting places by the hash of their members; the first member to come makes one
//   Meeting     arrivals and a futex; per member what it calls (two, by the parity of the call) and staging for tensors
//               that peers cannot read
//
// A rank that waits looks at the others every 100 ms: has the run failed, is somebody it waits for gone, stopped,
// without progress, or waiting for this very rank in another call? A thread of every rank beats the heart, and ends the
// process if it is still there some seconds after the run has failed. Times are added up from the watcher's own looks,
// so that a machine that was asleep, or a run that was stopped as a whole and continued, finds nobody guilty.
//
// Memory order: what a member wrote before it met the others is visible to all behind the meeting.
#ifndef AMC_RUNTIME_COLLECTIVE_CONTROL_H
#define AMC_RUNTIME_COLLECTIVE_CONTROL_H

#include "runtime/collective/Calls.h"
#include "runtime/collective/Join.h"
#include "runtime/collective/Processes.h"
#include <atomic>
#include <functional>
#include <pthread.h>

namespace amc::rt::collective {

// How ranks talk while they do not share memory yet.
struct Bootstrap {
  unsigned rank = 0, size = 1;
  std::function<Status(const void *mine, size_t bytes, void *all)> allGather;
};

// What ended the run.
enum class Cause : uint32_t { Failed, Died, Stopped, Hangs, Disagree, Left };

inline constexpr uint64_t stagingBytes = 16384; // of a member, for each of two calls

struct alignas(64) Member {
  std::atomic<uint64_t> arrivals;
  Call calls[2];
  alignas(64) std::byte staging[2][stagingBytes];
};

struct alignas(64) Meeting {
  std::atomic<uint32_t> arrived;
  alignas(64) std::atomic<uint32_t> generation; // futex; moves on when all have arrived
  std::atomic<uint32_t> sleepers;
  uint32_t size; // ranks and members follow
  unsigned *ranks() { return reinterpret_cast<unsigned *>(this + 1); }
  Member &member(unsigned i) {
    return reinterpret_cast<Member *>(reinterpret_cast<std::byte *>(this + 1) +
                                      (size * sizeof(unsigned) + 63) / 64 * 64)[i];
  }
  static uint64_t bytes(uint64_t size) {
    return sizeof(Meeting) + (size * sizeof(unsigned) + 63) / 64 * 64 + size * sizeof(Member);
  }
};

class Control {
public:
  // All ranks together. Fails on all or on none.
  static Expected<std::unique_ptr<Control>> join(const Bootstrap &bootstrap, const JoinOptions &options);
  ~Control(); // leaves the run

  // This rank's meeting place with others; made if there is none yet.
  Expected<Meeting *> meeting(const std::vector<unsigned> &ranks);

  // Returns when all members have come to this meeting as often as this one, which is number `index` of them.
  Status meet(Meeting &meeting, unsigned index);

  // Ends the run: writes the verdict, if there is none yet, and returns it as an error.
  Status fail(Cause cause, unsigned culprit, const std::string &text);
  void abort(const Status &why);
  std::string lastWords(const Status &why);
  void progress();
  void called(); // another sign of progress

  // Of the block, as far as this rank's parts of it go.
  uint64_t bytes() const { return used; }

  const unsigned rank, size;

private:
  struct Slot;
  struct Header;
  struct Entry;
  Control(unsigned rank, unsigned size, const JoinOptions &options);
  static uint64_t totalBytes(unsigned size);
  Header &header() const { return *reinterpret_cast<Header *>(base); }
  Slot &slot(unsigned other) const;
  Entry *table() const;
  Status map(const Bootstrap &bootstrap);
  Status watch();
  Status startHeart();
  static void *beat(void *self);
  bool decided() const;
  Status verdict();
  Status look(Meeting &meeting, unsigned index, uint32_t generation, double seconds);
  Status judge(unsigned other, Meeting &meeting, unsigned index, uint32_t generation, double seconds);
  bool waitsForMe(unsigned other, Meeting &meeting, std::string &how) const;
  bool living(unsigned other);
  void tell(const std::string &message);

  // What this rank has seen of another.
  struct Seen {
    Process process;
    uint64_t beats = 0, signs = 0;
    double silent = 0, idle = 0; // seconds
    unsigned crossed = 0;        // looks in a row
  };

  JoinOptions options;
  std::byte *base = nullptr;
  uint64_t mapped = 0, used = 0;
  std::vector<Seen> seen;
  bool derived = false; // has this rank got an error that others have, too?
  std::atomic<bool> ending{false};
  bool beating = false;
  pthread_t heart;
  unsigned spins = 0;
};

} // namespace amc::rt::collective

#endif
