// What the implementations share: a call as ranks compare it, how rows are spread, and the sums.
#ifndef AMC_RUNTIME_COLLECTIVE_CALLS_H
#define AMC_RUNTIME_COLLECTIVE_CALLS_H

#include "runtime/collective/Communicator.h"
#include "runtime/plan/DTypes.h"
#include <algorithm>
#include <type_traits>

namespace amc::rt::collective {

enum class CallKind : uint32_t { None, AllGather, ReduceScatter, AllReduce, AllToAll, Shift, Barrier };

// A call, told to all members before any data moves: they have to be equal. Plain data, it lies in shared memory and
// goes over the network.
struct Call {
  static constexpr uint64_t elsewhere = ~uint64_t(0);
  CallKind kind = CallKind::None;
  uint32_t dtype = 0;
  uint64_t outer = 1, rows = 1, inner = 1;  // as SpreadShape; rows alone for elements and bytes; outer is a distance
  uint64_t in = elsewhere, out = elsewhere; // in the communicator's memory, where peers read there
  uint64_t group = 0;                       // hash of the members
  uint64_t number = 0;                      // of the group's calls
  bool operator==(const Call &) const = default;
};
static_assert(std::is_trivially_copyable_v<Call>);

uint64_t hashOf(const std::vector<unsigned> &ranks); // never 0
// "0", "0, 2 and 5", "0 to 7"
std::string namesOf(const std::vector<unsigned> &ranks);
// "all_gather of 2 x 100 x 64 f32"
std::string describe(const Call &call);
// Of two ranks of a group that should have made the same call.
std::string describeDifference(unsigned rank, const Call &call, unsigned other, const Call &otherCall);

std::string describeArenas(unsigned rank, uint64_t bytes, uint64_t first);

// Pieces of a dimension, as Communicator.h says.
struct Spread {
  Spread(const SpreadShape &shape, unsigned members)
      : outer(shape.outer), rows(shape.rows), width(dtypeBytes(shape.dtype)), inner(shape.inner),
        piece((shape.rows + members - 1) / members) {}
  uint64_t outer, rows, width, inner, piece;
  uint64_t first(unsigned member) const { return std::min(rows, member * piece); }
  uint64_t rowsOf(unsigned member) const { return std::min(rows - first(member), piece); }
  // Bytes of a row, of a piece and of all rows, at one index of `outer`.
  uint64_t rowBytes() const { return inner * width; }
  uint64_t pieceBytes() const { return piece * rowBytes(); }
  uint64_t wholeBytes() const { return rows * rowBytes(); }
  // Zeros behind the rows that `member` has in its piece.
  void pad(unsigned member, std::byte *pieces) const;
};

// Are they ranks of a run of `size`, ascending, `rank` among them?
Status checkMembers(const std::vector<unsigned> &ranks, unsigned rank, unsigned size);
// Is it a dtype, with a sum if there is one, and of a size that can be?
Status checkCall(const SpreadShape &shape, unsigned members, bool sums);

// target = the sum of n sources, ascending, as Communicator.h says. The target may be one of the sources.
void sum(plan::DType dtype, const std::byte *const *sources, unsigned n, std::byte *target, uint64_t elements);

// Communicator::exchange by means of the group of all ranks.
Expected<std::vector<std::string>> exchangeIn(Group &world, const std::string &mine);

// Adds up all ranks of `who` that say the same, for lastWords: what the rank `self`, one of them, should print.
std::string sayTogether(unsigned self, unsigned size, const std::vector<unsigned> &who, const std::string &message);

} // namespace amc::rt::collective

#endif
