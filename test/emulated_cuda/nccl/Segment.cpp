#include "test/emulated_cuda/nccl/Segment.h"
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace amc::emulated {

// Zero when it is made. Every atomic word may be waited on.
struct Segment::Meeting {
  std::atomic<uint32_t> arrived, generation;
};

struct Segment::Shared {
  enum State : uint32_t { absent, joined, left };
  struct Rank {
    std::atomic<uint32_t> state, mail, busy;
    uint64_t number;
    Signature signature;
    char uuid[16];
    char post[postBytes];
  };
  std::atomic<uint32_t> rankCount, joinedCount;
  std::atomic<uint32_t> broken; // 1: somebody is writing why, 2: it is written
  char why[postBytes];
  Meeting device, host;
  Rank ranks[maxRanks];
  alignas(4096) char slots[maxRanks][slotBytes];
  Mailbox mailboxes[maxRanks][maxRanks];
};

namespace {

static_assert(std::atomic<uint32_t>::is_always_lock_free);

constexpr int yields = 100;           // before a wait sleeps
constexpr int sleepMilliseconds = 20; // before it looks whether the others are still there

void sleepOn(std::atomic<uint32_t> &word, uint32_t seen) {
  timespec limit{0, sleepMilliseconds * 1000000L};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &limit, nullptr, 0);
}

void wakeAll(std::atomic<uint32_t> &word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));
std::string text(const char *format, ...) {
  char buffer[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return buffer;
}

} // namespace

std::chrono::seconds timeout() {
  const char *seconds = std::getenv("EMULATED_NCCL_TIMEOUT");
  return std::chrono::seconds(seconds ? std::atol(seconds) : 120);
}

std::string describe(const Signature &signature) {
  constexpr const char *names[] = {"nothing",    "all-reduce", "reduce", "broadcast", "reduce-scatter",
                                   "all-gather", "all-to-all", "gather", "scatter",   "sending and receiving"};
  std::string said = names[int(signature.kind)];
  if (signature.kind == Kind::none || signature.kind == Kind::messages)
    return said;
  said += text(" of %llu %s", (unsigned long long)signature.count, typeName(ncclDataType_t(signature.type)));
  bool reduces =
      signature.kind == Kind::allReduce || signature.kind == Kind::reduce || signature.kind == Kind::reduceScatter;
  if (reduces)
    said += text(", %s", operationName(ncclRedOp_t(signature.op)));
  if (signature.root >= 0)
    said += text(", root %d", signature.root);
  return said;
}

Segment::Segment(Shared *shared, int file, int ranks, int rank)
    : shared(shared), file(file), rankCount(ranks), me(rank) {}

Segment::~Segment() {
  munmap(shared, sizeof(Shared));
  close(file); // and with it go the locks
}

Outcome Segment::join(const std::string &name, int ranks, int rank, const void *uuid,
                      std::unique_ptr<Segment> &joined) {
  int file = shm_open(name.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) {
    if (file >= 0)
      close(file);
    return {ncclSystemError, false, text("no shared memory: %s", strerror(errno))};
  }
  struct flock mine = {F_WRLCK, SEEK_SET, rank, 1, 0};
  if (fcntl(file, F_SETLK, &mine) != 0) {
    close(file);
    return {ncclInvalidUsage, true, text("two processes are rank %d of one communicator", rank)};
  }
  void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (memory == MAP_FAILED) {
    close(file);
    return {ncclSystemError, false, text("shared memory cannot be mapped: %s", strerror(errno))};
  }
  std::unique_ptr<Segment> made(new Segment(static_cast<Shared *>(memory), file, ranks, rank));
  Shared &shared = *made->shared;
  uint32_t none = 0;
  if (!shared.rankCount.compare_exchange_strong(none, ranks) && none != uint32_t(ranks)) {
    shm_unlink(name.c_str());
    std::string message = text("rank %d makes a communicator of %d ranks, another rank one of %u", rank, ranks, none);
    made->breakUp(message);
    return {ncclInvalidArgument, true, message};
  }
  std::memcpy(shared.ranks[rank].uuid, uuid, sizeof shared.ranks[rank].uuid);
  shared.ranks[rank].state = Shared::joined;
  bool last = shared.joinedCount.fetch_add(1) + 1 == uint32_t(ranks);
  wakeAll(shared.joinedCount);
  Outcome outcome = made->wait(
      shared.joinedCount, [&] { return shared.joinedCount == uint32_t(ranks); }, [](int) { return true; });
  if (last || outcome)
    shm_unlink(name.c_str());
  if (outcome)
    return outcome;
  for (int one = 0; one < ranks; ++one)
    for (int other = 0; other < one; ++other)
      if (!std::memcmp(shared.ranks[one].uuid, shared.ranks[other].uuid, sizeof shared.ranks[one].uuid))
        return {ncclInvalidUsage, true, text("ranks %d and %d use the same device", other, one)};
  joined = std::move(made);
  return {};
}

void Segment::announce(const Signature &signature, uint64_t number) {
  shared->ranks[me].signature = signature;
  shared->ranks[me].number = number;
  shared->ranks[me].busy = 1;
}

void Segment::rest() { shared->ranks[me].busy = 0; }

const Signature &Segment::announced(int rank) const { return shared->ranks[rank].signature; }
char *Segment::slot(int rank) const { return shared->slots[rank]; }
char *Segment::post(int rank) const { return shared->ranks[rank].post; }
Segment::Mailbox &Segment::mailbox(int from, int to) const { return shared->mailboxes[from][to]; }

Outcome Segment::meetOnDevice() { return meet(shared->device); }
Outcome Segment::meetOnHost() { return meet(shared->host); }

Outcome Segment::meet(Meeting &meeting) {
  if (shared->broken == 2)
    return broken();
  uint32_t generation = meeting.generation;
  if (meeting.arrived.fetch_add(1) + 1 == uint32_t(rankCount)) {
    meeting.arrived = 0;
    meeting.generation = generation + 1;
    wakeAll(meeting.generation);
    return {};
  }
  return wait(
      meeting.generation, [&] { return meeting.generation != generation; }, [](int) { return true; });
}

void Segment::wake(int rank) {
  ++shared->ranks[rank].mail;
  wakeAll(shared->ranks[rank].mail);
}

Outcome Segment::waitForMail(const std::function<bool()> &ready, const std::function<bool(int rank)> &concerns) {
  return wait(shared->ranks[me].mail, ready, concerns);
}

// Whoever finds that it cannot go on ends the waits of all, because nobody could meet again.
Outcome Segment::wait(std::atomic<uint32_t> &word, const std::function<bool()> &ready,
                      const std::function<bool(int rank)> &concerns) {
  for (int i = 0; i < yields; ++i) {
    if (ready())
      return {};
    sched_yield();
  }
  auto end = std::chrono::steady_clock::now() + timeout();
  while (true) {
    uint32_t seen = word;
    if (ready())
      return {};
    if (shared->broken == 2)
      return broken();
    sleepOn(word, seen);
    Outcome outcome = missing(concerns);
    if (outcome && shared->broken == 2)
      return ready() ? Outcome() : broken(); // who gave up may have gone since
    if (!outcome && std::chrono::steady_clock::now() > end)
      outcome = late(concerns);
    if (outcome && ready())
      return {};
    if (outcome) {
      breakUp(outcome.message);
      return outcome;
    }
  }
}

Outcome Segment::missing(const std::function<bool(int rank)> &concerns) const {
  for (int rank = 0; rank < rankCount; ++rank) {
    const Shared::Rank &other = shared->ranks[rank];
    if (rank == me || !concerns(rank) || other.state == Shared::absent)
      continue;
    std::string mine = describe(shared->ranks[me].signature);
    if (other.state == Shared::left)
      return {ncclRemoteError, true,
              text("rank %d has destroyed the communicator, of which rank %d is in %s", rank, me, mine.c_str())};
    if (processEnded(rank))
      return {ncclRemoteError, false, text("the process of rank %d has ended", rank)};
  }
  return {};
}

Outcome Segment::late(const std::function<bool(int rank)> &concerns) const {
  const Shared::Rank &mine = shared->ranks[me];
  std::string said =
      text("rank %d has waited for %lld s in %s (its operation %llu)", me, (long long)timeout().count(),
           mine.busy ? describe(mine.signature).c_str() : "a call of the host", (unsigned long long)mine.number);
  for (int rank = 0; rank < rankCount; ++rank) {
    const Shared::Rank &other = shared->ranks[rank];
    if (rank == me || !concerns(rank))
      continue;
    if (other.state == Shared::absent)
      said += text("; rank %d has not come", rank);
    else
      said += text("; rank %d is in %s (its operation %llu)", rank,
                   other.busy ? describe(other.signature).c_str() : "none", (unsigned long long)other.number);
  }
  return {ncclSystemError, true, said};
}

bool Segment::processEnded(int rank) const {
  struct flock its = {F_WRLCK, SEEK_SET, rank, 1, 0};
  return fcntl(file, F_GETLK, &its) == 0 && its.l_type == F_UNLCK;
}

Outcome Segment::broken() const {
  return {ncclRemoteError, false, std::string("another rank gave up: ") + shared->why};
}

void Segment::breakUp(const std::string &why) {
  uint32_t whole = 0;
  if (!shared->broken.compare_exchange_strong(whole, 1))
    return; // the first reason stands
  snprintf(shared->why, sizeof shared->why, "%s", why.c_str());
  shared->broken = 2;
  wakeAll(shared->joinedCount);
  for (Meeting *meeting : {&shared->device, &shared->host})
    wakeAll(meeting->generation);
  for (Shared::Rank &rank : shared->ranks)
    wakeAll(rank.mail);
}

void Segment::leave() { shared->ranks[me].state = Shared::left; }

} // namespace amc::emulated
