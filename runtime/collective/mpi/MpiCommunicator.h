// Ranks on any hosts: MPI moves bytes, without waiting, and nothing else.
//
// Before the data of a call every member tells every other what it calls; that they come is what shows who is late, and
// that they are equal, that all run the same. Data goes straight from operand to result. Where there is a sum, a tile
// of the others' operands comes into a staging area of fixed size and is added up in ascending order.
//
// MPI_Test and short sleeps in turns, so that what another rank tells is noticed: that it has failed, that it has
// ended, and, several times within the time limit, that it goes on (by `progress`, perhaps of another thread) or waits,
// too. Who tells nothing for so long, and is waited for, hangs or is stopped: there is no telling which. A rank that dies
// is noticed by its supervisor (Supervisor.h), a host that does, or its network, by the others' hearts (Heart.h).
#ifndef AMC_RUNTIME_COLLECTIVE_MPI_MPICOMMUNICATOR_H
#define AMC_RUNTIME_COLLECTIVE_MPI_MPICOMMUNICATOR_H

#include "runtime/collective/Calls.h"
#include "runtime/collective/Join.h"
#include "runtime/collective/mpi/Heart.h"
#include "runtime/collective/mpi/MpiApi.h"
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>

namespace amc::rt::collective {

class MpiCommunicator final : public Communicator {
public:
  // Of an MPI that has been started. The communicator finishes it.
  MpiCommunicator(const AmcMpi &mpi, unsigned rank, unsigned size, std::unique_ptr<Heart> heart,
                  const JoinOptions &options);
  ~MpiCommunicator() override;

  unsigned size() const override { return ranks; }
  unsigned rank() const override { return self; }
  std::string_view kind() const override { return "mpi"; }
  Expected<Group *> group(const std::vector<unsigned> &ranks) override;
  Expected<std::byte *> allocate(uint64_t bytes) override;
  uint64_t scratchBytes() const override;
  Expected<std::vector<std::string>> exchange(const std::string &mine) override;
  void abort(const Status &why) override;
  std::string lastWords(const Status &why) override;
  void progress() override;

private:
  friend class MpiGroup;
  enum Tag : int { CallTag = 1, DataTag, FailureTag, GoodbyeTag, LifeTag };
  struct Failure {
    unsigned from = 0, culprit = 0;
    char text[2000] = "";
  };
  class Requests;
  Status failed(const char *wrong); // an error of MPI itself
  Status hear();                    // what others have told; an error if the run has failed, or a rank is lost
  Status hearFailures();
  std::string nameOf(unsigned other) const; // "rank 3 (on h1)"
  Status fail(unsigned culprit, const std::string &text);
  void tell(const Failure &failure);
  void showLife(bool waiting); // to all, a few times within the time limit

  const AmcMpi &mpi;
  unsigned self, ranks;
  std::unique_ptr<Heart> heart;
  JoinOptions options;
  std::unique_ptr<std::byte[]> staging; // of all groups: there is one call at a time
  std::vector<std::pair<std::byte *, uint64_t>> mapped;
  std::map<std::vector<unsigned>, std::unique_ptr<Group>> groups;
  std::vector<Failure> failures; // told or heard of, the first first
  bool derived = false, quiet = false;
  // MPI is entered by one thread at a time. Whoever computes beside a call does not wait for it: the call shows that it
  // lives.
  std::mutex entered;
  std::atomic<bool> progressed{false};
  Failure farewell; // what is being sent to others
  struct Life {
    double last = 0; // when it was heard of
    bool waits = false;
    void *request = nullptr; // to it
  };
  std::vector<Life> lives;
  double shown = 0;
  char lifeSign[2] = {0, 1};
};

} // namespace amc::rt::collective

#endif
