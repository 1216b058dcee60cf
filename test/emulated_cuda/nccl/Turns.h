// Whose turn it is. The operations of a communicator take place one after the other, in the order of their calls,
// whatever streams they are on, which is what the original sees to; those of a capture do so at each launch.
#ifndef AMC_TEST_EMULATED_CUDA_NCCL_TURNS_H
#define AMC_TEST_EMULATED_CUDA_NCCL_TURNS_H

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace amc::emulated {

class Turns {
  struct Sequence {
    uint64_t capture = 0; // 0: what is not captured, and takes place once
    uint64_t issued = 0;
    std::vector<uint64_t> runs; // of what is captured, how often each has run
    uint64_t ran = 0;           // of what is not, how many have
  };

public:
  struct Ticket {
    std::shared_ptr<Sequence> sequence;
    uint64_t index = 0;
  };
  // For an operation that is enqueued now, in a capture if it has an id.
  Ticket take(uint64_t capture);
  // False: the operation before it has not taken place in this time.
  bool begin(const Ticket &ticket, std::chrono::seconds patience);
  void end(const Ticket &ticket);

private:
  static bool isTurnOf(const Ticket &ticket);

  std::mutex mutex;
  std::condition_variable changed;
  bool busy = false;
  std::shared_ptr<Sequence> direct = std::make_shared<Sequence>(), captured = std::make_shared<Sequence>();
};

} // namespace amc::emulated

#endif
