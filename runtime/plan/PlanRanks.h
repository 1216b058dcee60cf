// What a plan says about ranks, computed from it: the mesh and its collectives. What of a tensor a rank has: Splits.h.
#ifndef AMC_RUNTIME_PLAN_PLANRANKS_H
#define AMC_RUNTIME_PLAN_PLANRANKS_H

#include "runtime/plan/Mesh.h"
#include "runtime/plan/plan.pb.h"
#include <memory>
#include <string>
#include <string_view>

namespace amc::rt {

// The plan's mesh; one rank if it has none. Sane in a verified plan only.
MeshShape meshOf(const plan::Plan &plan);
// "8 ranks (dp_replicate 2 x dp_shard 4)", "1 rank"
std::string describeMesh(const MeshShape &mesh);

// Does it run together with other ranks? all_gather, reduce_scatter, all_reduce, all_to_all, shift,
// linear_cross_entropy in a group, and attention in a ring.
bool isCollective(const plan::Instruction &instruction);

// Is it only started by its instruction, to be finished by a `wait`?
bool isAsync(const plan::Instruction &instruction);
// Does it wait for such a collective: its inputs are what that writes and what that reads.
bool isWait(const plan::Instruction &instruction);

// Bytes that a rank sends to others in a collective of its `members`, by ring algorithms: of a gather, a scatter and an
// all_to_all (n - 1) / n of the whole tensor, of a sum twice that, of a shift all; rounded down. Attention in a ring:
// runtime/plan/Ring.h.
uint64_t bytesSent(const plan::Instruction &instruction);

// How often attention in a ring waits for another member's keys; 0: it is none, or needs nobody's.
uint64_t ringSteps(const plan::Instruction &instruction);

// A sequence of collectives, as Promise.collectives, .collective_bytes and .collective_sequence state it.
struct CollectiveFacts {
  uint64_t count = 0, bytes = 0;
  std::string sequence; // XXH3-128 of its lines, hexadecimal; empty if there are none
  bool operator==(const CollectiveFacts &) const = default;
};

// Adds them up, one after the other; adding allocates nothing.
class CollectiveTrace {
public:
  CollectiveTrace();
  CollectiveTrace(CollectiveTrace &&) noexcept;
  CollectiveTrace &operator=(CollectiveTrace &&) noexcept;
  ~CollectiveTrace();
  // "kernel group bytes\n" of a collective, empty for another instruction.
  static std::string lineOf(const plan::Instruction &instruction);
  void add(std::string_view line, uint64_t bytes);
  void restart();
  CollectiveFacts facts() const;

private:
  struct State;
  std::unique_ptr<State> state;
  uint64_t count = 0, bytes = 0;
};

// Those of a step of `microBatches`; of one, what the plan promises.
CollectiveFacts collectiveFacts(const plan::Plan &plan, uint64_t microBatches = 1);
void promiseCollectives(const plan::Plan &plan, plan::Promise &promise);

} // namespace amc::rt

#endif
