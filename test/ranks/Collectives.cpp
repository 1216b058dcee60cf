// Every collective against a naive reference. Each rank makes the operands of all ranks itself, from their numbers, so
// that it knows the results without asking anybody.
#include "test/ranks/Worker.h"
#include "test/unit/runtime_support.h"
#include "xxhash.h"
#include <algorithm>
#include <numeric>

namespace amc::rt::test {
namespace {

double number(plan::DType dtype, uint64_t seed, unsigned rank, uint64_t i) {
  uint64_t x = seed * 0x9e3779b97f4a7c15 + rank * 0xbf58476d1ce4e5b9 + i * 0x94d049bb133111eb;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x ^= x >> 27;
  if (isFloat(dtype))
    return rounded(dtype, (static_cast<double>(x >> 11 & 0xfffff) / 0x100000 - 0.5) * 10);
  return isUnsigned(dtype)     ? static_cast<double>(x % 13)
         : dtype == plan::BOOL ? static_cast<double>(x & 1)
                               : static_cast<double>(x % 13) - 6;
}

class Checker {
public:
  Checker(Communicator &communicator) : communicator(communicator) { XXH3_128bits_reset(state); }
  ~Checker() { XXH3_freeState(state); }
  Checker(const Checker &) = delete;

  Status run() {
    Expected<std::byte *> allocated = communicator.allocate(arenaBytes);
    if (!allocated.ok())
      return allocated.status();
    arena = *allocated;
    for (uint64_t i = 0; i < arenaBytes; ++i)
      if (arena[i] != std::byte(0))
        return inputError("the arena is not zeroed at ", i);
    host.resize(arenaBytes);
    unsigned n = communicator.size(), rank = communicator.rank();
    std::vector<unsigned> world(n), parity, halves, pair{rank & ~1u, rank | 1u};
    std::iota(world.begin(), world.end(), 0u);
    for (unsigned r = 0; r < n; ++r) {
      if (r % 2 == rank % 2)
        parity.push_back(r);
      if (r / ((n + 1) / 2) == rank / ((n + 1) / 2))
        halves.push_back(r);
    }
    if (pair[1] >= n)
      pair = {rank};
    // Calls of several groups follow each other in any order, the same on all ranks.
    for (const std::vector<unsigned> &ranks : {world, parity, halves, world, pair, std::vector<unsigned>{rank}, parity})
      if (Status s = all(ranks); !s.ok())
        return s;
    // More than the tiles of any path.
    group = communicator.group(world).value();
    members = world;
    in = arena;
    out = in + half;
    if (Status s = one({3, 5, 60000, plan::F32}); !s.ok())
      return std::move(s).withContext("large");
    for (size_t length : {size_t(0), size_t(1), size_t(100), size_t(50000)})
      if (Status s = exchange(length); !s.ok())
        return s;
    return total();
  }

private:
  static constexpr uint64_t arenaBytes = uint64_t(8) << 20, half = arenaBytes / 2;

  Status all(const std::vector<unsigned> &ranks) {
    Expected<Group *> found = communicator.group(ranks);
    if (!found.ok())
      return found.status();
    group = *found;
    members = ranks;
    Expected<Group *> again = communicator.group(ranks);
    if (!again.ok() || *again != group)
      return inputError("a group is made twice");
    if (group->size() != ranks.size() || ranks[group->index()] != communicator.rank())
      return inputError("the group has another size or index");
    in = arena;
    out = in + half;
    if (Status s = look(); !s.ok())
      return std::move(s).withContext("barrier");
    const SpreadShape shapes[] = {{1, 0, 3, plan::F32},   {1, 1, 1, plan::F32},   {1, 8, 4, plan::F32},
                                  {3, 7, 5, plan::F32},   {2, 17, 3, plan::F32},  {1, 301, 33, plan::F32},
                                  {5, 65, 20, plan::F32}, {700, 9, 1, plan::F32}, {1, 3, 4000, plan::F32}};
    for (SpreadShape shape : shapes)
      for (int d = plan::F32; d <= plan::BOOL; ++d) {
        bool main = d == plan::F32 || d == plan::BF16 || d == plan::F64;
        if (!main && (shape.outer > 3 || shape.rows > 100))
          continue;
        shape.dtype = static_cast<plan::DType>(d);
        for (bool inArena : {true, false}) {
          if (!inArena && shape.outer * shape.rows * shape.inner > 12000)
            continue;
          in = inArena ? arena : host.data();
          out = in + half;
          if (Status s = one(shape); !s.ok())
            return std::move(s).withContext(text(communicator.kind(), ", ", members.size(), " of ", communicator.size(),
                                                 " ranks, ", dtypeName(shape.dtype), " ", shape.outer, " x ",
                                                 shape.rows, " x ", shape.inner, inArena ? ", arena" : ", host"));
        }
      }
    return Status();
  }

  Status one(const SpreadShape &shape) {
    if (Status s = gather(shape); !s.ok())
      return std::move(s).withContext("all_gather");
    if (Status s = move(shape); !s.ok())
      return s;
    if (!isNumber(shape.dtype))
      return Status();
    if (Status s = scatter(shape); !s.ok())
      return std::move(s).withContext("reduce_scatter");
    for (bool inPlace : {false, true})
      if (Status s = reduce(shape, inPlace); !s.ok())
        return std::move(s).withContext(inPlace ? "all_reduce in place" : "all_reduce");
    return Status();
  }

  void fill(plan::DType dtype, uint64_t count, uint64_t seed) {
    std::fill_n(out, std::min(half, members.size() * (count + 100) * 8), std::byte(0x77));
    for (uint64_t i = 0; i < count; ++i)
      encode(dtype, number(dtype, seed, communicator.rank(), i), in + i * dtypeBytes(dtype));
  }
  Status expect(plan::DType dtype, uint64_t i, double value) {
    unsigned char wanted[8];
    encode(dtype, value, wanted);
    if (std::memcmp(wanted, out + i * dtypeBytes(dtype), dtypeBytes(dtype)))
      return inputError("element ", i, " is ", decode(dtype, out + i * dtypeBytes(dtype)), " and should be ", value);
    return Status();
  }
  Status finish(plan::DType dtype, uint64_t count) {
    uint64_t bytes = count * dtypeBytes(dtype);
    if (out[bytes] != std::byte(0x77))
      return inputError("writes behind its result");
    XXH3_128bits_update(state, out, bytes);
    return Status();
  }
  double sumOf(plan::DType dtype, uint64_t i) {
    if (dtype == plan::F64 || !isFloat(dtype)) {
      double total = 0;
      for (unsigned r : members)
        total = r == members[0] ? number(dtype, seed, r, i) : total + number(dtype, seed, r, i);
      return total;
    }
    float total = 0;
    for (unsigned r : members)
      total = r == members[0] ? static_cast<float>(number(dtype, seed, r, i))
                              : total + static_cast<float>(number(dtype, seed, r, i));
    return total;
  }

  Status gather(const SpreadShape &s) {
    uint64_t piece = (s.rows + members.size() - 1) / members.size();
    fill(s.dtype, s.outer * piece * s.inner, ++seed);
    if (Status status = group->allGather(in, out, s); !status.ok())
      return status;
    for (uint64_t i = 0; i < s.outer * s.rows * s.inner; ++i) {
      uint64_t o = i / s.inner / s.rows, row = i / s.inner % s.rows, k = i % s.inner;
      unsigned from = members[row / piece];
      if (Status status = expect(s.dtype, i, number(s.dtype, seed, from, (o * piece + row % piece) * s.inner + k));
          !status.ok())
        return status;
    }
    return finish(s.dtype, s.outer * s.rows * s.inner);
  }

  Status scatter(const SpreadShape &s) {
    uint64_t piece = (s.rows + members.size() - 1) / members.size();
    fill(s.dtype, s.outer * s.rows * s.inner, ++seed);
    if (Status status = group->reduceScatter(in, out, s); !status.ok())
      return status;
    for (uint64_t i = 0; i < s.outer * piece * s.inner; ++i) {
      uint64_t o = i / s.inner / piece, row = group->index() * piece + i / s.inner % piece;
      double wanted = row < s.rows ? sumOf(s.dtype, (o * s.rows + row) * s.inner + i % s.inner) : 0;
      if (Status status = expect(s.dtype, i, wanted); !status.ok())
        return status;
    }
    return finish(s.dtype, s.outer * piece * s.inner);
  }

  Status reduce(const SpreadShape &s, bool inPlace) {
    uint64_t count = s.outer * s.rows * s.inner;
    fill(s.dtype, count, ++seed);
    std::byte *from = in;
    if (inPlace) {
      std::copy_n(in, count * dtypeBytes(s.dtype), out);
      from = out;
    }
    if (Status status = group->allReduce(from, out, count, s.dtype); !status.ok())
      return status;
    for (uint64_t i = 0; i < count; ++i)
      if (Status status = expect(s.dtype, i, sumOf(s.dtype, i)); !status.ok())
        return status;
    return finish(s.dtype, count);
  }

  // all_to_all and shift: bytes.
  Status move(const SpreadShape &s) {
    uint64_t n = members.size(), bytes = s.outer * s.rows * s.inner, self = group->index();
    if ((s.dtype != plan::F32 && s.dtype != plan::U8) || n * bytes >= half)
      return Status();
    fill(plan::U8, n * bytes, ++seed);
    if (Status status = group->allToAll(in, out, bytes); !status.ok())
      return std::move(status).withContext("all_to_all");
    for (uint64_t i = 0; i < n * bytes; ++i)
      if (Status status = expect(plan::U8, i, number(plan::U8, seed, members[i / bytes], self * bytes + i % bytes));
          !status.ok())
        return std::move(status).withContext("all_to_all");
    if (Status status = finish(plan::U8, n * bytes); !status.ok())
      return std::move(status).withContext("all_to_all");
    for (unsigned distance : {0u, 1u, 3u}) {
      fill(plan::U8, bytes, ++seed);
      if (Status status = group->shift(in, out, bytes, distance); !status.ok())
        return std::move(status).withContext("shift");
      for (uint64_t i = 0; i < bytes; ++i)
        if (Status status = expect(plan::U8, i, number(plan::U8, seed, members[(self + n - distance % n) % n], i));
            !status.ok())
          return std::move(status).withContext(text("shift by ", distance));
      if (Status status = finish(plan::U8, bytes); !status.ok())
        return std::move(status).withContext("shift");
    }
    return Status();
  }

  // Everybody writes and reads the others', as often as an odd call between two barriers would show.
  Status look() {
    for (int round = 0; round < 3; ++round) {
      fill(plan::U8, 1000, ++seed);
      const std::byte *own = group->peerOf(group->index(), in, 1000);
      if (own && own != in)
        return inputError("one's own is elsewhere");
      if (Status s = group->barrier(); !s.ok())
        return s;
      for (unsigned m = 0; m < members.size() && own; ++m) {
        const std::byte *there = group->peerOf(m, in, 1000);
        for (uint64_t i = 0; i < 1000; ++i)
          if (decode(plan::U8, there + i) != number(plan::U8, seed, members[m], i))
            return inputError("byte ", i, " of member ", m, " is another");
      }
      if (Status s = group->barrier(); !s.ok())
        return s;
    }
    return group->peerOf(0, host.data(), 8) && members.size() > 1 ? inputError("a peer's own memory can be read") : Status();
  }

  Status exchange(size_t length) {
    auto words = [&](unsigned rank) {
      return std::string(length * (rank + 1) / communicator.size(), static_cast<char>('a' + rank));
    };
    Expected<std::vector<std::string>> all = communicator.exchange(words(communicator.rank()));
    if (!all.ok())
      return all.status();
    for (unsigned r = 0; r < communicator.size(); ++r)
      if ((*all)[r] != words(r))
        return inputError("exchange: rank ", r, "'s words are others");
    return Status();
  }

  // One line: the hash of all results of all ranks.
  Status total() {
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    Expected<std::vector<std::string>> all =
        communicator.exchange(std::string(reinterpret_cast<char *>(&hash), sizeof hash));
    if (!all.ok())
      return all.status();
    std::string joined;
    for (const std::string &one : *all)
      joined += one;
    if (communicator.rank() == 0)
      std::printf("%s %016lx\n", std::string(communicator.kind()).c_str(),
                  static_cast<unsigned long>(XXH3_64bits(joined.data(), joined.size())));
    return Status();
  }

  Communicator &communicator;
  XXH3_state_t *state = XXH3_createState();
  std::byte *arena = nullptr, *in = nullptr, *out = nullptr;
  std::vector<std::byte> host;
  Group *group = nullptr;
  std::vector<unsigned> members;
  uint64_t seed = 0;
};

} // namespace

Status checkCollectives(Communicator &communicator) { return Checker(communicator).run(); }

} // namespace amc::rt::test
