#include "runtime/collective/Control.h"
#include "runtime/support/Threads.h"
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <immintrin.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace amc::rt::collective {
namespace {

constexpr uint64_t magic = 0x636f6e74726f6c31;
constexpr double lookEvery = 0.1; // seconds

double now() {
  struct timespec time;
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}
void sleepFor(double seconds) {
  struct timespec time = {0, static_cast<long>(seconds * 1e9)};
  ::nanosleep(&time, nullptr);
}
void futexWait(std::atomic<uint32_t> &word, uint32_t value, double seconds) {
  struct timespec time = {0, static_cast<long>(seconds * 1e9)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, value, &time, nullptr, 0);
}
void futexWakeAll(std::atomic<uint32_t> &word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// "5" or "0.5"
std::string secondsText(double seconds) {
  std::string out = text(seconds);
  out.erase(out.find_last_not_of('0') + 1);
  return out.back() == '.' ? out.substr(0, out.size() - 1) : out;
}

void copyText(char *to, size_t size, const std::string &from) {
  size_t length = std::min(size - 1, from.size());
  std::memcpy(to, from.data(), length);
  to[length] = 0;
}

// The one it is in, or was in last.
const Call &lastCall(const Member &member) {
  return member.calls[0].number > member.calls[1].number ? member.calls[0] : member.calls[1];
}

uint64_t roundUp(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

} // namespace

enum State : uint32_t { Here = 1, Broken, Gone };

struct Control::Header {
  uint64_t magic;
  std::atomic<uint32_t> verdict; // 0: none; 1: being written; 2: there
  uint32_t culprit;
  Cause cause;
  std::atomic<uint32_t> said; // has a rank said the verdict for all?
  std::atomic<uint64_t> heapUsed;
  char text[4096];
};

struct alignas(64) Control::Slot {
  int pid;
  std::atomic<uint32_t> state;
  std::atomic<uint64_t> beats;
  alignas(64) std::atomic<uint64_t> progress, calls;
  std::atomic<uint64_t> waits; // place of the meeting, from the heap's start and plus 1; 0: does not wait
  std::atomic<uint32_t> told, said;
  char message[4096]; // of its own failure, once `told`
};

struct Control::Entry {
  std::atomic<uint64_t> key;   // hash of the members
  std::atomic<uint64_t> place; // of the meeting, as in Slot::waits; 0: not there yet
};

// A rank is in 15 groups of a mesh, in that of all, and in a few more.
static uint64_t entries(unsigned size) { return 64 * uint64_t(size); }
static uint64_t heapBytes(unsigned size) { return 64 * size * Meeting::bytes(1); }

Control::Control(unsigned rank, unsigned size, const JoinOptions &options) : rank(rank), size(size), options(options) {}

uint64_t Control::totalBytes(unsigned size) {
  return roundUp(sizeof(Header)) + roundUp(size * sizeof(Slot)) + roundUp(entries(size) * sizeof(Entry)) +
         heapBytes(size);
}
Control::Slot &Control::slot(unsigned other) const {
  return reinterpret_cast<Slot *>(base + roundUp(sizeof(Header)))[other];
}
Control::Entry *Control::table() const {
  return reinterpret_cast<Entry *>(base + roundUp(sizeof(Header)) + roundUp(size * sizeof(Slot)));
}
static std::byte *heapOf(std::byte *base, uint64_t mapped, unsigned size) { return base + mapped - heapBytes(size); }

// ---- joining and leaving

Status Control::map(const Bootstrap &bootstrap) {
  // Rank 0 makes the block, and keeps it open until all have mapped it.
  struct Hello {
    SharedMemory::Ticket ticket;
    char problem[512] = "";
  };
  std::vector<Hello> all(size);
  SharedMemory memory;
  auto gather = [&](const Status &status) -> Status {
    Hello mine;
    mine.ticket = memory.ticket();
    mine.ticket.pid = ::getpid();
    if (!status.ok())
      copyText(mine.problem, sizeof mine.problem, status.message());
    if (Status s = bootstrap.allGather(&mine, sizeof mine, all.data()); !s.ok())
      return s;
    for (unsigned r = 0; r < size; ++r)
      if (all[r].problem[0])
        return limitError("rank ", r, ": ", all[r].problem);
    return Status();
  };
  Status status;
  auto mapIt = [&] {
    Expected<std::byte *> at = memory.map(true);
    status = at.ok() ? Status() : at.status();
    base = at.ok() ? *at : nullptr;
  };
  mapped = totalBytes(size);
  if (rank == 0) {
    Expected<SharedMemory> created = SharedMemory::create("amc control", mapped);
    status = created.ok() ? Status() : created.status();
    if (created.ok()) {
      memory = std::move(*created);
      mapIt();
    }
    if (base)
      header().magic = magic;
  }
  if (Status s = gather(status); !s.ok())
    return s;
  if (rank != 0) {
    Expected<SharedMemory> opened = SharedMemory::open(all[0].ticket);
    status = opened.ok() ? Status() : opened.status();
    if (opened.ok()) {
      memory = std::move(*opened);
      mapIt();
    }
    if (base && (memory.ticket().bytes != mapped || header().magic != magic))
      status = limitError("the control block of rank 0 has another layout; all ranks have to be the same program");
  }
  if (base) {
    slot(rank).pid = ::getpid();
    slot(rank).state.store(Here);
  }
  return gather(status);
}

Status Control::watch() {
  seen.resize(size);
  for (unsigned r = 0; r < size; ++r)
    if (r != rank)
      seen[r].process = Process::watch(slot(r).pid);
  // Who spins takes a processor from a rank that works if there are more ranks than processors.
  cpu_set_t set;
  unsigned processors = ::sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
  spins = size <= processors ? 60 : 0;
  return Status();
}

Status Control::startHeart() {
  if (int error = startThread(heart, &Control::beat, this))
    return limitError("the thread that shows this rank's signs of life cannot be started: ", std::strerror(error));
  beating = true;
  return Status();
}

void *Control::beat(void *self) {
  Control &control = *static_cast<Control *>(self);
  double failed = 0;
  while (!control.ending.load()) {
    control.slot(control.rank).beats.fetch_add(1, std::memory_order_relaxed);
    sleepFor(lookEvery);
    if (!control.decided())
      continue;
    failed += lookEvery;
    if (failed > control.options.grace)
      ::_exit(static_cast<int>(ErrorKind::Limit));
  }
  return nullptr;
}

Expected<std::unique_ptr<Control>> Control::join(const Bootstrap &bootstrap, const JoinOptions &options) {
  std::unique_ptr<Control> control(new Control(bootstrap.rank, bootstrap.size, options));
  Status status = control->map(bootstrap);
  if (status.ok())
    status = control->watch();
  if (status.ok())
    status = control->startHeart();
  // On all or on none.
  char fine = status.ok();
  std::vector<char> all(bootstrap.size);
  if (Status s = bootstrap.allGather(&fine, 1, all.data()); !s.ok())
    return s;
  if (!status.ok())
    return status;
  for (unsigned r = 0; r < bootstrap.size; ++r)
    if (!all[r])
      return limitError("rank ", r, " could not join the others");
  control->used = sizeof(Slot) + sizeof(Header) / control->size + entries(1) * sizeof(Entry);
  return control;
}

Control::~Control() {
  if (beating) {
    ending.store(true);
    ::pthread_join(heart, nullptr);
  }
  if (base) {
    uint32_t here = Here;
    slot(rank).state.compare_exchange_strong(here, Gone);
    ::munmap(base, mapped);
  }
}

// ---- meetings

Expected<Meeting *> Control::meeting(const std::vector<unsigned> &ranks) {
  uint64_t key = hashOf(ranks), count = entries(size);
  std::byte *heap = heapOf(base, mapped, size);
  for (uint64_t probe = 0; probe < count; ++probe) {
    Entry &entry = table()[(key + probe) % count];
    uint64_t there = 0;
    if (entry.key.compare_exchange_strong(there, key)) {
      uint64_t bytes = Meeting::bytes(ranks.size()), place = header().heapUsed.fetch_add(bytes);
      if (place + bytes > heapBytes(size))
        return limitError("there are too many groups of ranks");
      auto *meeting = reinterpret_cast<Meeting *>(heap + place); // zeros
      meeting->size = static_cast<uint32_t>(ranks.size());
      std::copy(ranks.begin(), ranks.end(), meeting->ranks());
      entry.place.store(place + 1);
    } else if (there != key) {
      continue;
    }
    // Another member may be making it; or have died while it did.
    for (double begin = now(); entry.place.load() == 0; sleepFor(1e-4))
      if (decided())
        return verdict();
      else if (now() - begin > options.rankTimeout)
        return limitError("a rank failed while it made the group of ranks ", namesOf(ranks));
    auto *meeting = reinterpret_cast<Meeting *>(heap + entry.place.load() - 1);
    if (meeting->size != ranks.size() || !std::equal(ranks.begin(), ranks.end(), meeting->ranks()))
      continue; // two lists with one hash; all members pass it by
    used += sizeof(Member) + sizeof(Meeting) / ranks.size();
    return meeting;
  }
  return limitError("there are too many groups of ranks");
}

Status Control::meet(Meeting &meeting, unsigned index) {
  if (decided())
    return verdict();
  uint32_t generation = meeting.generation.load();
  Member &own = meeting.member(index);
  own.arrivals.store(own.arrivals.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  if (meeting.arrived.fetch_add(1) + 1 == meeting.size) {
    meeting.arrived.store(0);
    meeting.generation.fetch_add(1);
    if (meeting.sleepers.load() > 0)
      futexWakeAll(meeting.generation);
    return Status();
  }
  for (unsigned i = 0; i < spins; ++i) {
    if (meeting.generation.load() != generation)
      return Status();
    _mm_pause();
  }
  std::byte *heap = heapOf(base, mapped, size);
  slot(rank).waits.store(static_cast<uint64_t>(reinterpret_cast<std::byte *>(&meeting) - heap) + 1);
  Status status;
  double last = now();
  for (Seen &other : seen)
    other.crossed = 0;
  meeting.sleepers.fetch_add(1);
  while (status.ok() && meeting.generation.load() == generation) {
    futexWait(meeting.generation, generation, lookEvery);
    double time = now(), passed = time - last;
    if (passed < lookEvery * 0.9 || meeting.generation.load() != generation)
      continue;
    last = time;
    status = look(meeting, index, generation, std::min(passed, 2 * lookEvery));
  }
  meeting.sleepers.fetch_sub(1);
  slot(rank).waits.store(0);
  return status;
}

// ---- how the others fare

bool Control::decided() const { return header().verdict.load() == 2; }

Status Control::verdict() {
  derived = true;
  return Status(header().cause == Cause::Disagree ? ErrorKind::Input : ErrorKind::Limit, header().text);
}

Status Control::fail(Cause cause, unsigned culprit, const std::string &message) {
  uint32_t none = 0;
  if (header().verdict.compare_exchange_strong(none, 1)) {
    header().cause = cause;
    header().culprit = culprit;
    copyText(header().text, sizeof header().text, message);
    header().verdict.store(2);
    // A process that does not run cannot end itself, and its launcher would wait for it.
    if (cause == Cause::Stopped || cause == Cause::Hangs)
      seen[culprit].process.kill();
  }
  for (int i = 0; i < 1000 && !decided(); ++i) // its writer may have died on the way
    sleepFor(1e-3);
  return verdict();
}

Status Control::look(Meeting &meeting, unsigned index, uint32_t generation, double seconds) {
  if (decided())
    return verdict();
  uint64_t arrivals = meeting.member(index).arrivals.load();
  for (unsigned m = 0; m < meeting.size; ++m)
    if (meeting.member(m).arrivals.load() < arrivals)
      if (Status s = judge(meeting.ranks()[m], meeting, index, generation, seconds); !s.ok())
        return s;
  return Status();
}

Status Control::judge(unsigned other, Meeting &meeting, unsigned index, uint32_t generation, double seconds) {
  Slot &s = slot(other);
  Seen &before = seen[other];
  std::string who = text("rank ", other, " (pid ", s.pid, ")");
  bool alive = before.process.alive();
  uint32_t state = s.state.load();
  // It may have arrived, and ended, since it was seen to be missing.
  if ((!alive || state == Gone) && meeting.generation.load() != generation)
    return Status();
  if (!alive && state == Here)
    return decided() ? verdict() : fail(Cause::Died, other, who + " died");
  if (state == Gone)
    return fail(Cause::Left, other,
                text("rank ", other, " has ended, and rank ", rank, " waits for it in ",
                     describe(lastCall(meeting.member(index)))));
  uint64_t beats = s.beats.load(), signs = s.progress.load() + s.calls.load();
  before.silent = beats != before.beats ? 0 : before.silent + seconds;
  bool waits = s.waits.load() != 0;
  before.idle = signs != before.signs ? 0 : before.idle + seconds;
  before.beats = beats;
  before.signs = signs;
  if (before.silent >= options.stoppedTimeout)
    return fail(Cause::Stopped, other,
                text(who, " has stopped responding for ", secondsText(options.stoppedTimeout), " s; killed it"));
  std::string how;
  before.crossed = waits && waitsForMe(other, meeting, how) ? before.crossed + 1 : 0;
  if (before.crossed >= 2)
    return fail(Cause::Disagree, other, how);
  // One that waits itself is waited out by those it waits for; only a circle of them is left.
  if (before.idle >= options.rankTimeout * (waits ? 2 : 1))
    return fail(Cause::Hangs, other,
                text(who, " hangs: it has been in the same place for ",
                     secondsText(options.rankTimeout * (waits ? 2 : 1)), " s (", s.calls.load(), " collectives and ",
                     s.progress.load(), " signs of progress since the start",
                     waits ? "; it waits in a collective, too" : "", "); killed it"));
  return Status();
}

// Does it wait for this rank, in another meeting than the one that this rank waits in?
bool Control::waitsForMe(unsigned other, Meeting &meeting, std::string &how) const {
  uint64_t place = slot(other).waits.load();
  if (place == 0 || place > heapBytes(size))
    return false;
  auto &theirs = *reinterpret_cast<Meeting *>(heapOf(base, mapped, size) + place - 1);
  if (&theirs == &meeting)
    return false;
  Member *mine = nullptr, *its = nullptr, *here = nullptr;
  for (unsigned m = 0; m < theirs.size; ++m) {
    if (theirs.ranks()[m] == rank)
      mine = &theirs.member(m);
    if (theirs.ranks()[m] == other)
      its = &theirs.member(m);
  }
  for (unsigned m = 0; m < meeting.size; ++m)
    if (meeting.ranks()[m] == rank)
      here = &meeting.member(m);
  if (!mine || !its || mine->arrivals.load() >= its->arrivals.load())
    return false;
  auto with = [](Meeting &m) { return namesOf(std::vector<unsigned>(m.ranks(), m.ranks() + m.size)); };
  how = text("ranks disagree: rank ", rank, " is in ", describe(lastCall(*here)), " with ranks ", with(meeting),
             ", rank ", other, " in ", describe(lastCall(*its)), " with ranks ", with(theirs),
             "; all have to run the same plan with the same options");
  return true;
}

// Nobody else writes these.
static void count(std::atomic<uint64_t> &signs) {
  signs.store(signs.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}
void Control::progress() { count(slot(rank).progress); }
void Control::called() { count(slot(rank).calls); }

// ---- the end

bool Control::living(unsigned other) {
  return other == rank || (slot(other).state.load() != Gone && seen[other].process.alive());
}

void Control::tell(const std::string &message) {
  if (slot(rank).told.load())
    return;
  copyText(slot(rank).message, sizeof slot(rank).message, message);
  slot(rank).told.store(1);
  slot(rank).state.store(Broken);
}

void Control::abort(const Status &why) {
  if (why.ok())
    return;
  if (derived) { // the verdict is there, and this is it
    slot(rank).state.store(Broken);
    return;
  }
  tell(why.message());
  (void)fail(Cause::Failed, rank, text("rank ", rank, " failed: ", why.message()));
  derived = false;
}

std::string Control::lastWords(const Status &why) {
  if (why.ok())
    return "";
  abort(why);
  double begin = now();
  if (!derived) {
    // The same has often happened to all. A moment for them to say so.
    auto unheard = [&] {
      for (unsigned r = 0; r < size; ++r)
        if (!slot(r).told.load() && living(r))
          return true;
      return false;
    };
    while (unheard() && now() - begin < 0.3)
      sleepFor(0.01);
    std::vector<unsigned> alike;
    for (unsigned r = 0; r < size; ++r)
      if (r == rank || (slot(r).told.load() && !std::strcmp(slot(r).message, slot(rank).message)))
        alike.push_back(r);
    slot(rank).said.store(1);
    return sayTogether(rank, size, alike, why.message());
  }
  // Who failed says so itself, if it still can; what was found about a rank is said by the first of the others, or, if
  // that is busy with something else, by whoever is here.
  unsigned culprit = header().culprit;
  bool itself = header().cause == Cause::Failed;
  auto wait = [&] {
    if (header().said.load())
      return false;
    if (itself)
      return !slot(culprit).said.load() && living(culprit);
    for (unsigned r = 0; r < rank; ++r)
      if ((r != culprit || header().cause == Cause::Disagree) && living(r))
        return true;
    return false;
  };
  while (wait() && now() - begin < 1)
    sleepFor(0.01);
  if ((itself && slot(culprit).said.load()) || header().said.exchange(1))
    return "";
  return why.message();
}

} // namespace amc::rt::collective
