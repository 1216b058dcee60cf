#include "runtime/collective/mpi/MpiCommunicator.h"
#include "runtime/collective/SelfGroup.h"
#include "runtime/collective/Supervisor.h"
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <numeric>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

namespace amc::rt::collective {
namespace {

constexpr uint64_t stagingTotal = uint64_t(2) << 20;
constexpr uint64_t mostMessage = uint64_t(64) << 20; // bytes

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
void sleepFor(double seconds) {
  struct timespec time = {0, static_cast<long>(seconds * 1e9)};
  ::nanosleep(&time, nullptr);
}

} // namespace

// Messages under way, by the rank at the other end.
class MpiCommunicator::Requests {
public:
  explicit Requests(MpiCommunicator &communicator) : communicator(communicator) {}
  void reserve(size_t n) { open.reserve(n); }
  Status send(const std::byte *from, uint64_t blocks, uint64_t blockBytes, uint64_t stride, unsigned to, Tag tag) {
    open.push_back({nullptr, to});
    return communicator.failed(
        communicator.mpi.send(from, blocks, blockBytes, stride, static_cast<int>(to), tag, &open.back().request));
  }
  Status receive(std::byte *to, uint64_t blocks, uint64_t blockBytes, uint64_t stride, unsigned from, Tag tag) {
    open.push_back({nullptr, from});
    return communicator.failed(
        communicator.mpi.receive(to, blocks, blockBytes, stride, static_cast<int>(from), tag, &open.back().request));
  }
  // The rank of a message that is not done; none: all are.
  Expected<const unsigned *> test() {
    for (; !open.empty(); open.pop_back()) {
      if (const char *wrong = communicator.mpi.test(&open.back().request))
        return communicator.failed(wrong);
      if (open.back().request)
        return const_cast<const unsigned *>(&open.back().rank);
    }
    return static_cast<const unsigned *>(nullptr);
  }
  // Until all are done. `what` is what the others do not come to: a failure names the one that is late.
  Status wait(const Call &what) {
    double begin = now(), heard = begin;
    for (unsigned tries = 0;; ++tries) {
      Expected<const unsigned *> late = test();
      if (!late.ok() || !*late)
        return late.ok() ? Status() : late.status();
      if (tries < 20) {
        ::sched_yield();
        continue;
      }
      // Longer and longer: a message that is under way is there in microseconds, a rank that computes is not.
      sleepFor(tries < 200 ? 2e-5 : tries < 1000 ? 2e-4 : 1e-3);
      double time = now();
      if (time - heard < 0.02)
        continue;
      heard = time;
      communicator.showLife(!communicator.progressed.exchange(false));
      if (Status s = communicator.hear(); !s.ok())
        return s;
      unsigned other = **late;
      const Life &life = communicator.lives[other];
      // One that waits itself is waited out by those it waits for; only a circle of them is left.
      double limit = communicator.options.rankTimeout * (life.waits ? 2 : 1);
      if (time - std::max(begin, life.waits ? begin : life.last) > limit)
        return communicator.fail(other,
                                 text(communicator.nameOf(other), " hangs or is stopped: others wait for it in ", describe(what),
                                      ", and it has shown no progress for ", static_cast<uint64_t>(limit), " s"));
      int left = -1;
      if (what.kind != CallKind::None)
        if (const char *wrong = communicator.mpi.probe(static_cast<int>(other), GoodbyeTag, &left))
          return communicator.failed(wrong);
      if (left < 0)
        continue;
      // What it sent before its goodbye is here, too, and may have come since the test above.
      size_t before = open.size();
      if (Expected<const unsigned *> again = test(); !again.ok())
        return again.status();
      if (open.size() == before)
        return communicator.fail(other, text(communicator.nameOf(other), " has ended, and others wait for it in ", describe(what)));
    }
  }

private:
  struct Open {
    void *request;
    unsigned rank;
  };
  MpiCommunicator &communicator;
  std::vector<Open> open;
};

class MpiGroup final : public Group {
public:
  MpiGroup(MpiCommunicator &communicator, std::vector<unsigned> ranks)
      : communicator(communicator), ranks(std::move(ranks)), members(static_cast<unsigned>(this->ranks.size())),
        hash(hashOf(this->ranks)), calls(members), sources(members), requests(communicator) {
    requests.reserve(4 * members);
    while (this->ranks[self] != communicator.self)
      ++self;
  }
  unsigned size() const override { return members; }
  unsigned index() const override { return self; }

  Status allGather(const std::byte *piece, std::byte *whole, const SpreadShape &shape) override {
    std::lock_guard alone(communicator.entered);
    if (Status s = checkCall(shape, members, false); !s.ok())
      return s;
    if (Status s = begin(CallKind::AllGather, shape); !s.ok())
      return s;
    Spread spread(shape, members);
    uint64_t own = spread.rowsOf(self) * spread.rowBytes();
    for (uint64_t o = 0; own && o < spread.outer; ++o)
      std::memmove(whole + o * spread.wholeBytes() + spread.first(self) * spread.rowBytes(),
                   piece + o * spread.pieceBytes(), own);
    return inTiles(
        spread.outer, spread.pieceBytes(),
        [&](uint64_t o, uint64_t count, uint64_t at, uint64_t bytes) {
          auto part = [&](unsigned m) { return partOf(spread, m, at, bytes); };
          for (unsigned m = 0; m < members; ++m) {
            if (m == self)
              continue;
            if (part(m))
              if (Status s =
                      requests.receive(whole + o * spread.wholeBytes() + spread.first(m) * spread.rowBytes() + at,
                                       count, part(m), spread.wholeBytes(), ranks[m], MpiCommunicator::DataTag);
                  !s.ok())
                return s;
            if (part(self))
              if (Status s = requests.send(piece + o * spread.pieceBytes() + at, count, part(self), spread.pieceBytes(),
                                           ranks[m], MpiCommunicator::DataTag);
                  !s.ok())
                return s;
          }
          return requests.wait(current);
        },
        mostMessage);
  }

  Status reduceScatter(const std::byte *whole, std::byte *piece, const SpreadShape &shape) override {
    std::lock_guard alone(communicator.entered);
    if (Status s = checkCall(shape, members, true); !s.ok())
      return s;
    if (Status s = begin(CallKind::ReduceScatter, shape); !s.ok())
      return s;
    Spread spread(shape, members);
    Status status = inTiles(
        spread.outer, spread.pieceBytes(),
        [&](uint64_t o, uint64_t count, uint64_t at, uint64_t bytes) {
          auto part = [&](unsigned m) { return partOf(spread, m, at, bytes); };
          auto from = [&](unsigned m, uint64_t index) {
            return whole + index * spread.wholeBytes() + spread.first(m) * spread.rowBytes() + at;
          };
          for (unsigned m = 0; m < members; ++m) {
            if (m == self)
              continue;
            if (part(self))
              if (Status s = requests.receive(tile(m), 1, count * part(self), 0, ranks[m], MpiCommunicator::DataTag);
                  !s.ok())
                return s;
            if (part(m))
              if (Status s = requests.send(from(m, o), count, part(m), spread.wholeBytes(), ranks[m],
                                           MpiCommunicator::DataTag);
                  !s.ok())
                return s;
          }
          if (Status s = requests.wait(current); !s.ok())
            return s;
          for (uint64_t k = 0; part(self) && k < count; ++k) {
            for (unsigned m = 0; m < members; ++m)
              sources[m] = m == self ? from(self, o + k) : tile(m) + k * part(self);
            sum(shape.dtype, sources.data(), members, piece + (o + k) * spread.pieceBytes() + at,
                part(self) / spread.width);
          }
          return Status();
        },
        tileBytes());
    spread.pad(self, piece);
    return status;
  }

  Status allReduce(const std::byte *in, std::byte *out, uint64_t elements, plan::DType dtype) override {
    std::lock_guard alone(communicator.entered);
    SpreadShape shape{1, elements, 1, dtype};
    if (Status s = checkCall(shape, members, true); !s.ok())
      return s;
    if (Status s = begin(CallKind::AllReduce, shape); !s.ok())
      return s;
    // Tile by tile: every member adds up its chunk of it, then sends that to all.
    uint64_t width = dtypeBytes(dtype), chunk = tileBytes() / width;
    for (uint64_t at = 0; at < elements; at += chunk * members) {
      uint64_t there = std::min(elements - at, chunk * members);
      Spread spread({1, there, 1, dtype}, members);
      auto begins = [&](unsigned m) { return (at + spread.first(m)) * width; };
      auto bytes = [&](unsigned m) { return spread.rowsOf(m) * width; };
      for (unsigned m = 0; m < members; ++m) {
        if (m == self)
          continue;
        if (bytes(self))
          if (Status s = requests.receive(tile(m), 1, bytes(self), 0, ranks[m], MpiCommunicator::DataTag); !s.ok())
            return s;
        if (bytes(m))
          if (Status s = requests.send(in + begins(m), 1, bytes(m), 0, ranks[m], MpiCommunicator::DataTag); !s.ok())
            return s;
      }
      if (Status s = requests.wait(current); !s.ok())
        return s;
      for (unsigned m = 0; m < members; ++m)
        sources[m] = m == self ? in + begins(self) : tile(m);
      sum(dtype, sources.data(), members, out + begins(self), spread.rowsOf(self));
      for (unsigned m = 0; m < members; ++m) {
        if (m == self)
          continue;
        if (bytes(m))
          if (Status s = requests.receive(out + begins(m), 1, bytes(m), 0, ranks[m], MpiCommunicator::DataTag); !s.ok())
            return s;
        if (bytes(self))
          if (Status s = requests.send(out + begins(self), 1, bytes(self), 0, ranks[m], MpiCommunicator::DataTag);
              !s.ok())
            return s;
      }
      if (Status s = requests.wait(current); !s.ok())
        return s;
    }
    return Status();
  }

  Status allToAll(const std::byte *in, std::byte *out, uint64_t bytes) override {
    std::lock_guard alone(communicator.entered);
    SpreadShape shape{1, bytes, members, plan::U8};
    if (Status s = checkCall(shape, members, false); !s.ok())
      return s;
    if (Status s = begin(CallKind::AllToAll, shape); !s.ok())
      return s;
    if (bytes && in != out)
      std::memcpy(out + self * bytes, in + self * bytes, bytes);
    return inTiles(
        1, bytes,
        [&](uint64_t, uint64_t, uint64_t at, uint64_t part) {
          for (unsigned m = 0; m < members; ++m) {
            if (m == self)
              continue;
            if (Status s = requests.receive(out + m * bytes + at, 1, part, 0, ranks[m], MpiCommunicator::DataTag);
                !s.ok())
              return s;
            if (Status s = requests.send(in + m * bytes + at, 1, part, 0, ranks[m], MpiCommunicator::DataTag); !s.ok())
              return s;
          }
          return requests.wait(current);
        },
        mostMessage);
  }

  Status shift(const std::byte *in, std::byte *out, uint64_t bytes, unsigned distance) override {
    std::lock_guard alone(communicator.entered);
    distance %= members;
    if (Status s = checkCall({1, bytes, 1, plan::U8}, members, false); !s.ok())
      return s;
    if (Status s = begin(CallKind::Shift, {distance, bytes, 1, plan::U8}); !s.ok())
      return s;
    if (distance == 0) {
      if (bytes && in != out)
        std::memcpy(out, in, bytes);
      return Status();
    }
    unsigned to = ranks[(self + distance) % members], from = ranks[(self + members - distance) % members];
    return inTiles(
        1, bytes,
        [&](uint64_t, uint64_t, uint64_t at, uint64_t part) {
          if (Status s = requests.receive(out + at, 1, part, 0, from, MpiCommunicator::DataTag); !s.ok())
            return s;
          if (Status s = requests.send(in + at, 1, part, 0, to, MpiCommunicator::DataTag); !s.ok())
            return s;
          return requests.wait(current);
        },
        mostMessage);
  }

  // Every member hears from every other what it calls.
  Status barrier() override {
    std::lock_guard alone(communicator.entered);
    return begin(CallKind::Barrier, {});
  }

private:
  uint64_t tileBytes() const { return std::max<uint64_t>(64, stagingTotal / communicator.ranks / 64 * 64); }
  std::byte *tile(unsigned member) { return communicator.staging.get() + member * tileBytes(); }
  // Of `bytes` bytes at `at` of a piece, those that `member` has.
  static uint64_t partOf(const Spread &spread, unsigned member, uint64_t at, uint64_t bytes) {
    uint64_t held = spread.rowsOf(member) * spread.rowBytes();
    return at < held ? std::min(bytes, held - at) : 0;
  }
  // body(first row, rows, first byte of a row, bytes of it): whole rows together while `most` bytes hold several, else
  // a row in parts, of multiples of 64 bytes.
  template <class Body> static Status inTiles(uint64_t rows, uint64_t rowBytes, Body &&body, uint64_t most) {
    if (rowBytes == 0)
      return Status();
    uint64_t together = std::max<uint64_t>(1, most / rowBytes), part = std::min(rowBytes, most);
    for (uint64_t row = 0; row < rows; row += together)
      for (uint64_t at = 0; at < rowBytes; at += part)
        if (Status s = body(row, std::min(together, rows - row), at, std::min(part, rowBytes - at)); !s.ok())
          return s;
    return Status();
  }

  Status begin(CallKind kind, const SpreadShape &shape) {
    current = Call();
    current.kind = kind;
    current.dtype = shape.dtype;
    current.outer = shape.outer;
    current.rows = shape.rows;
    current.inner = shape.inner;
    current.group = hash;
    current.number = number++;
    if (Status s = communicator.hear(); !s.ok())
      return s;
    for (unsigned m = 0; m < members; ++m) {
      if (m == self)
        continue;
      if (Status s = requests.receive(reinterpret_cast<std::byte *>(&calls[m]), 1, sizeof(Call), 0, ranks[m],
                                      MpiCommunicator::CallTag);
          !s.ok())
        return s;
      if (Status s = requests.send(reinterpret_cast<const std::byte *>(&current), 1, sizeof(Call), 0, ranks[m],
                                   MpiCommunicator::CallTag);
          !s.ok())
        return s;
    }
    if (Status s = requests.wait(current); !s.ok())
      return s;
    calls[self] = current;
    for (unsigned m = 0; m < members; ++m)
      if (!(calls[m] == calls[0])) // of other groups, too: all calls come with one tag
        return communicator.fail(ranks[m], describeDifference(ranks[0], calls[0], ranks[m], calls[m]));
    return Status();
  }

  MpiCommunicator &communicator;
  std::vector<unsigned> ranks;
  unsigned members, self = 0;
  uint64_t hash, number = 1;
  Call current;
  std::vector<Call> calls;
  std::vector<const std::byte *> sources;
  MpiCommunicator::Requests requests;
};

// ---- the communicator

MpiCommunicator::MpiCommunicator(const AmcMpi &mpi, unsigned rank, unsigned size, std::unique_ptr<Heart> heart,
                                 const JoinOptions &options)
    : mpi(mpi), self(rank), ranks(size), heart(std::move(heart)), options(options), lives(size) {
  tellSupervisor(RankState::Joined);
  staging.reset(new std::byte[std::max(stagingTotal, 64 * uint64_t(size))]);
}

MpiCommunicator::~MpiCommunicator() {
  for (auto [base, bytes] : mapped)
    ::munmap(base, bytes);
  // MPI_Finalize waits for all, so first hear from all that they come to it.
  bool together = failures.empty();
  if (together) {
    Requests requests(*this);
    requests.reserve(2 * ranks);
    std::vector<char> theirs(ranks);
    char mine = 1;
    for (unsigned r = 0; r < ranks && together; ++r)
      if (r != self)
        together = requests.receive(reinterpret_cast<std::byte *>(&theirs[r]), 1, 1, 0, r, GoodbyeTag).ok() &&
                   requests.send(reinterpret_cast<std::byte *>(&mine), 1, 1, 0, r, GoodbyeTag).ok();
    Call goodbye;
    Status waited = together ? requests.wait(goodbye) : Status();
    quiet = !together || (!waited.ok() && failures.back().from != self);
    together = together && waited.ok();
    if (!together && !quiet) // the caller is through
      std::fprintf(stderr, "%s: error: %s\n", program_invocation_short_name, waited.message().c_str());
  }
  for (Life &life : lives)
    while (together && life.request && !mpi.test(&life.request))
      ;
  tellSupervisor(RankState::Told);
  if (together) {
    (void)mpi.finish(heart->severalHosts());
    return;
  }
  // What is under way cannot be called back: the rank that has said why ends all; another does if that does not.
  // The launcher passes on what has been said a moment later.
  for (int tenths = quiet ? 20 : 2; tenths > 0; --tenths)
    sleepFor(0.1);
  mpi.end(static_cast<int>(ErrorKind::Limit));
}

Expected<Group *> MpiCommunicator::group(const std::vector<unsigned> &members) {
  auto found = groups.find(members);
  if (found != groups.end())
    return found->second.get();
  if (Status s = checkMembers(members, self, ranks); !s.ok())
    return s;
  std::unique_ptr<Group> made;
  if (members.size() == 1)
    made = std::make_unique<SelfGroup>();
  else
    made = std::make_unique<MpiGroup>(*this, members);
  return groups.emplace(members, std::move(made)).first->second.get();
}

Expected<std::byte *> MpiCommunicator::allocate(uint64_t wanted) {
  uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint64_t bytes = std::max((wanted + page - 1) / page * page, page);
  void *base =
      bytes < wanted ? MAP_FAILED : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Status status;
  if (base == MAP_FAILED) {
    status = limitError("no memory for the plan's arena of ", wanted, " bytes: ", std::strerror(errno));
  } else {
    mapped.push_back({static_cast<std::byte *>(base), bytes});
    ::madvise(base, bytes, MADV_HUGEPAGE); // advice: a kernel without huge pages may refuse it
  }
  Expected<std::vector<std::string>> all = exchange(text(status.ok() ? bytes : 0));
  if (!status.ok() || !all.ok())
    return status.ok() ? all.status() : status;
  for (unsigned r = 0; r < ranks; ++r) {
    uint64_t theirs = std::strtoull((*all)[r].c_str(), nullptr, 10),
             first = std::strtoull((*all)[0].c_str(), nullptr, 10);
    if (theirs == 0)
      return limitError("rank ", r, " has no memory for its arena");
    if (theirs != first)
      return fail(r, describeArenas(r, theirs, first));
  }
  return mapped.back().first;
}

uint64_t MpiCommunicator::scratchBytes() const { return std::max(stagingTotal, 64 * uint64_t(ranks)); }

Expected<std::vector<std::string>> MpiCommunicator::exchange(const std::string &mine) {
  std::vector<unsigned> all(ranks);
  std::iota(all.begin(), all.end(), 0u);
  Expected<Group *> world = group(all);
  return world.ok() ? exchangeIn(**world, mine) : Expected<std::vector<std::string>>(world.status());
}

// ---- failures

Status MpiCommunicator::failed(const char *wrong) {
  if (!wrong)
    return Status();
  return fail(self, text("rank ", self, ": MPI failed: ", wrong));
}

Status MpiCommunicator::fail(unsigned culprit, const std::string &message) {
  derived = true;
  Failure failure;
  failure.from = self;
  failure.culprit = culprit;
  std::strncpy(failure.text, message.c_str(), sizeof failure.text - 1);
  failures.push_back(failure);
  tell(failure);
  return Status(ErrorKind::Limit, message);
}

void MpiCommunicator::progress() {
  if (std::unique_lock alone(entered, std::try_to_lock); alone)
    showLife(false);
  else
    progressed.store(true, std::memory_order_relaxed);
}

std::string MpiCommunicator::nameOf(unsigned other) const {
  return heart->severalHosts() ? text("rank ", other, " (on ", heart->host(other), ")") : text("rank ", other);
}

void MpiCommunicator::showLife(bool waiting) {
  double time = now();
  if (time - shown < options.rankTimeout / 8)
    return;
  shown = time;
  for (unsigned r = 0; r < ranks; ++r) {
    if (r == self)
      continue;
    void *&request = lives[r].request;
    (void)mpi.test(&request);
    if (!request) // else the last one has not gone yet, and a failure will show elsewhere
      (void)mpi.send(&lifeSign[waiting], 1, 1, 0, static_cast<int>(r), LifeTag, &request);
  }
}

Status MpiCommunicator::hear() {
  while (true) {
    int from = -1;
    char sign = 0;
    void *request = nullptr;
    if (mpi.probe(-1, LifeTag, &from) || from < 0 || mpi.receive(&sign, 1, 1, 0, from, LifeTag, &request))
      break;
    for (double begin = now(); request && now() - begin < 1;)
      if (mpi.test(&request))
        break;
    if (request)
      break;
    lives[static_cast<size_t>(from)].last = now();
    lives[static_cast<size_t>(from)].waits = sign;
  }
  Status told = hearFailures();
  if (!told.ok() || !heart->anyLost())
    return told;
  unsigned culprit = self;
  std::string lost = heart->describeLost(culprit);
  return lost.empty() ? Status() : fail(culprit, lost);
}

Status MpiCommunicator::hearFailures() {
  while (true) {
    int from;
    if (const char *wrong = mpi.probe(-1, FailureTag, &from))
      return limitError("rank ", self, ": MPI failed: ", wrong);
    if (from < 0)
      break;
    Failure heard;
    void *request;
    if (mpi.receive(&heard, 1, sizeof heard, 0, from, FailureTag, &request))
      break;
    for (double begin = now(); request && now() - begin < 1;)
      if (mpi.test(&request))
        break;
    if (request)
      break;
    heard.text[sizeof heard.text - 1] = 0;
    failures.push_back(heard);
  }
  if (failures.empty())
    return Status();
  derived = true;
  const Failure &first = failures.front();
  if (first.culprit == first.from)
    return limitError("rank ", first.from, " failed: ", first.text);
  return limitError(first.text);
}

void MpiCommunicator::tell(const Failure &failure) {
  farewell = failure;
  for (unsigned r = 0; r < ranks; ++r) {
    if (r == self)
      continue;
    void *request = nullptr;
    if (mpi.send(&farewell, 1, sizeof farewell, 0, static_cast<int>(r), FailureTag, &request))
      continue;
    for (double begin = now(); request && now() - begin < 0.1;)
      if (mpi.test(&request))
        break;
  }
}

void MpiCommunicator::abort(const Status &why) {
  if (why.ok() || derived)
    return;
  for (const Failure &f : failures)
    if (f.from == self)
      return;
  Failure failure;
  failure.from = failure.culprit = self;
  std::strncpy(failure.text, why.message().c_str(), sizeof failure.text - 1);
  failures.push_back(failure);
  tell(failure);
}

std::string MpiCommunicator::lastWords(const Status &why) {
  if (why.ok())
    return "";
  bool own = !derived;
  abort(why);
  // A moment for the others to say the same.
  for (double begin = now(); now() - begin < 0.3; sleepFor(0.01))
    (void)hearFailures();
  derived = !own;
  const Failure *mine = nullptr;
  for (const Failure &f : failures)
    if (f.from == self)
      mine = &f;
  quiet = true;
  if (!mine)
    return ""; // who found it says it
  std::vector<unsigned> alike;
  for (const Failure &f : failures)
    if (!std::strcmp(f.text, mine->text) && std::find(alike.begin(), alike.end(), f.from) == alike.end())
      alike.push_back(f.from);
  std::sort(alike.begin(), alike.end());
  std::string words = own                     ? sayTogether(self, ranks, alike, why.message())
                      : alike.front() == self ? why.message()
                                              : std::string();
  quiet = words.empty();
  return words;
}

} // namespace amc::rt::collective
