// The thread that communicates: runs collectives one after the other, in the order in which they are started, while the
// thread that has started them computes. It is all that calls the communicator then, but for `settled` moments, at which
// the caller may do so itself.
//
// Whoever waits here sleeps on a futex after a few dozen cycles, so that it takes no processor from a thread that computes.
// Starting and joining allocate nothing. One caller. The first failure ends it: what was started behind it is passed
// over, and joining anything from there on returns it.
#ifndef AMC_RUNTIME_EXECUTOR_CHANNEL_H
#define AMC_RUNTIME_EXECUTOR_CHANNEL_H

#include "runtime/support/Status.h"
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <pthread.h>
#include <vector>

namespace amc::rt {

class Channel {
public:
  using Run = std::function<Status(uint64_t instruction)>;
  // At most `capacity` are under way at a time. `run` is called on the thread.
  static Expected<std::unique_ptr<Channel>> create(uint64_t capacity, Run run);
  ~Channel(); // waits for what is under way
  Channel(const Channel &) = delete;
  Channel &operator=(const Channel &) = delete;

  // A number to join it by: starts are counted, around 2^32.
  uint32_t start(uint64_t instruction);
  // Returns when that one, and all before it, have ended.
  Status join(uint32_t number);
  // All that has been started.
  Status settle() { return join(asked.load(std::memory_order_relaxed)); }

private:
  explicit Channel(uint64_t capacity, Run run) : run(std::move(run)), ring(capacity) {}
  static void *entry(void *channel);
  void work();
  void signal();

  const Run run;
  std::vector<uint64_t> ring; // instructions, by their numbers
  pthread_t thread{};
  bool running = false;
  alignas(64) std::atomic<uint32_t> asked{0}; // started
  std::atomic<uint32_t> signals{0};           // what the thread sleeps on
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<uint32_t> done{0}; // ended
  // Of the thread; read behind `done`.
  Status failure;
  std::atomic<bool> failed{false};
  uint32_t failedAt = 0;
};

} // namespace amc::rt

#endif
