// What ranks say to each other. A communicator joins all ranks of a run; a group joins some of them.
//
// Every rank makes the same calls in the same order; a rank that does not is found out (see the implementations), and a
// call never waits for ever: a peer that dies, fails or stops making progress ends the call with an error that names
// the rank and why. Results do not depend on timing: sums are taken in ascending order of members, in fp32 (f64 for
// f64, 64-bit integers for integers), rounded once at the end.
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

  // Buffers lie in memory of the communicator (Communicator::allocate) or anywhere, the same on all members.
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
};

class Communicator {
public:
  virtual ~Communicator() = default;
  virtual unsigned size() const = 0;
  virtual unsigned rank() const = 0;
  // Called by all members with the same ascending ranks, which include this one. The communicator keeps it.
  virtual Expected<Group *> group(const std::vector<unsigned> &ranks) = 0;

  // Zeroed memory that peers may read directly; lives as long as the communicator. All ranks, the same size.
  virtual Expected<std::byte *> allocate(uint64_t bytes) = 0;
  // Bytes that it holds besides: staging, control.
  virtual uint64_t scratchBytes() const = 0;

  // Gives every rank the bytes of all, by rank; they may differ in length. For what is no tensor.
  virtual Expected<std::vector<std::string>> exchange(const std::string &mine) = 0;
  // Tells the others that this rank has failed, so that they end with a message that says so, and returns.
  virtual void abort(const Status &why) = 0;
  // A sign of life from a rank that computes; cheap, called for every instruction.
  virtual void progress() = 0;
};

} // namespace amc::rt

#endif
