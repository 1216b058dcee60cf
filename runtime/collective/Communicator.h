// What ranks say to each other. A communicator joins all ranks of a run; a group joins some of them.
//
// Every rank makes the same calls in the same order; a rank that does not is found out (see the implementations), and a
// call never waits for ever: a peer that dies, fails or stops making progress ends the call with an error of kind Limit
// that names the rank and why. After an error the communicator is good for nothing but lastWords and its destructor.
// Results do not depend on timing: sums are taken in ascending order of members, in fp32 (f64 for f64, 64-bit integers
// for integers), rounded once at the end; all implementations give the same bits. i1 has no sum.
//
// One caller at a time, of whichever thread; `progress` alone may be called beside it. Calls allocate nothing, but for
// `group`, `allocate`, `exchange` and errors. How ranks find each other, and the implementations: runtime/collective/Join.h.
//
// Tensors are taken as [outer, rows, inner]: `rows` are spread in pieces of ceil(rows / members), and what a piece has
// behind the end of the dimension is padding: written as zeros, never sent.
#ifndef AMC_RUNTIME_COLLECTIVE_COMMUNICATOR_H
#define AMC_RUNTIME_COLLECTIVE_COMMUNICATOR_H

#include "runtime/plan/plan.pb.h"
#include "runtime/support/Status.h"
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace amc::rt {

// The whole tensor, as one dimension of it is spread. `inner` in elements.
struct SpreadShape {
  uint64_t outer = 1, rows = 1, inner = 1;
  plan::DType dtype = plan::F32;
};

class Group {
public:
  virtual ~Group() = default;
  virtual unsigned size() const = 0;
  virtual unsigned index() const = 0; // of this rank among the members

  // Buffers lie in memory of the communicator (Communicator::allocate), at the same place on all members, or anywhere
  // else on all members; the latter is slower (staged in small tiles), meant for what the trainer has on the side. A
  // result overlaps no operand unless said.
  // `piece` is [outer, ceil(rows / size), inner], `whole` is [outer, rows, inner].
  virtual Status allGather(const std::byte *piece, std::byte *whole, const SpreadShape &shape) = 0;
  // piece = this member's rows of the sum of all members' `whole`.
  virtual Status reduceScatter(const std::byte *whole, std::byte *piece, const SpreadShape &shape) = 0;
  // `out` may be `in`.
  virtual Status allReduce(const std::byte *in, std::byte *out, uint64_t elements, plan::DType dtype) = 0;
  // in is [size, bytes]: row i goes to member i; out's row i comes from member i.
  virtual Status allToAll(const std::byte *in, std::byte *out, uint64_t bytes) = 0;
  // Sends `in` to member (index + distance) mod size and receives `out` from (index - distance) mod size.
  virtual Status shift(const std::byte *in, std::byte *out, uint64_t bytes, unsigned distance) = 0;

  // Where `member` has what lies at `own` here, `bytes` long, if it can be read there; null, for all members, if not. That
  // it is there, and stays, is what the caller has barriers for.
  virtual const std::byte *peerOf(unsigned member, const std::byte *own, uint64_t bytes) const {
    return (void)member, (void)own, (void)bytes, nullptr;
  }
  // Returns when all members have called it.
  virtual Status barrier() = 0;
};

class Communicator {
public:
  virtual ~Communicator() = default;
  virtual unsigned size() const = 0;
  virtual unsigned rank() const = 0;
  // Where the others are from here, for reports: "shm" or "mpi".
  virtual std::string_view kind() const { return "none"; }
  // Called by all members with the same ascending ranks, which include this one. The communicator keeps it.
  virtual Expected<Group *> group(const std::vector<unsigned> &ranks) = 0;

  // Zeroed memory that peers may read directly; lives as long as the communicator. All ranks, the same size.
  virtual Expected<std::byte *> allocate(uint64_t bytes) = 0;
  // Bytes that it holds besides: staging, control.
  virtual uint64_t scratchBytes() const = 0;

  // Gives every rank the bytes of all, by rank; they may differ in length. For what is no tensor.
  virtual Expected<std::vector<std::string>> exchange(const std::string &mine) = 0;
  // Tells the others that this rank has failed, so that they end with a message that says so, and returns. Once is
  // enough; telling them what a call here has returned is harmless.
  virtual void abort(const Status &why) = 0;
  // For the end of a program that has failed: aborts, and returns what this rank should print, with "rank 3: " in front
  // where that helps; empty if another rank says it, so that one cause makes one line. Takes at most a second or two.
  virtual std::string lastWords(const Status &why) {
    abort(why);
    return why.message();
  }
  // A sign of life from a rank that computes; cheap, called for every instruction and every piece of one. Whoever keeps others waiting longer
  // than the time limit without calling it (reading large files, say) is taken to hang.
  virtual void progress() = 0;
};

} // namespace amc::rt

#endif
