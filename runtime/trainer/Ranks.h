// The ranks of a run as the trainer sees them: which this one is, which share of the data it takes,
// and what they have to agree on. A run of one rank has no communicator; everything here then does
// nothing and costs nothing.
//
// Two kinds of failure. One that a rank meets by itself is told to the others by abort(), wherever
// they are; their next call ends with "rank N failed: …". One that is found together (agree,
// sameOnAll) is known to all: every rank returns it, and rank 0 alone reports it.
#ifndef AMC_RUNTIME_TRAINER_RANKS_H
#define AMC_RUNTIME_TRAINER_RANKS_H

#include "runtime/collective/Communicator.h"
#include "runtime/plan/Mesh.h"
#include "runtime/support/Status.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace amc::rt {

class Ranks {
public:
  explicit Ranks(Communicator *communicator = nullptr) : communicator(communicator) {}

  // The plan's mesh has to have as many ranks as there are.
  Status setMesh(const MeshShape &mesh);

  uint64_t size() const { return communicator ? communicator->size() : 1; }
  uint64_t rank() const { return communicator ? communicator->rank() : 0; }
  bool alone() const { return size() == 1; }
  bool isFirst() const { return rank() == 0; }
  const MeshShape &mesh() const { return shape; }

  // Ranks that take different data, and which of them this is. Neighbours along cp and tp take the
  // same data: they share an index.
  uint64_t dataRanks() const;
  uint64_t dataIndex() const;
  // One rank of each data index, by index: the lowest.
  std::vector<uint64_t> dataLeaders() const;

  // Gives every rank the texts of all, by rank.
  Expected<std::vector<std::string>> exchange(const std::string &mine) const;
  // The first failure by rank, on all of them: "rank 3: MESSAGE". Ok if no rank failed.
  Status agree(const Status &mine) const;
  // Facts by name that have to be the same on all ranks. An error names the rank and the first fact
  // that differs from rank 0's; `advice` follows it.
  Status sameOnAll(const std::vector<std::pair<std::string, std::string>> &facts,
                   std::string_view advice) const;

  // A sign of life during work that others wait for.
  void progress() const {
    if (communicator)
      communicator->progress();
  }
  // Ends a failed run: tells the others unless they know, and gives what this rank reports. An
  // empty message: rank 0 does.
  Status end(Status failure) const;

private:
  Communicator *communicator;
  MeshShape shape;
  mutable bool agreed = false; // on a failure
};

} // namespace amc::rt

#endif
