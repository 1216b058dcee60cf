// Persistent threads and a parallel loop over a grid of independent pieces.
//
// Pieces are handed out in any order to whoever is free; callers cut their work by shapes alone, so results do not
// depend on the number of threads. A dispatch allocates nothing. Idle threads spin for some microseconds, then
// sleep on a futex. Phases of a dispatch: the caller publishes the job and opens it; workers that come in time join
// (a late sleeper does not hold up the caller); the caller works too, closes the job when no piece is left, and
// waits for those that joined.
#ifndef AMC_RUNTIME_DEVICE_CPU_THREADPOOL_H
#define AMC_RUNTIME_DEVICE_CPU_THREADPOOL_H

#include "runtime/support/Status.h"
#include <atomic>
#include <cstdint>
#include <memory>
#include <pthread.h>
#include <type_traits>
#include <vector>

namespace amc::rt {

class Communicator;

class ThreadPool {
public:
  static constexpr unsigned maxThreads = 256;
  // 0: AMC_NUM_THREADS if set, else the processors in the affinity mask.
  static Expected<std::unique_ptr<ThreadPool>> create(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  // Whoever else waits for this process is shown a sign of life after each piece of the calling thread, so that a long
  // kernel does not look like one that hangs. It outlives the pool; null: nobody.
  void showProgressTo(Communicator *communicator) { watcher = communicator; }

  unsigned threads() const { return static_cast<unsigned>(workers.size()) + 1; }

  // Calls body(piece, slot) for pieces [0, count). Calls at the same time have different slots, all below maxSlots.
  template <class Body>
  void parallelFor(int64_t count, Body &&body, unsigned maxSlots = maxThreads) {
    using Plain = std::remove_reference_t<Body>;
    run(count, [](void *context, int64_t piece, unsigned slot) {
      (*static_cast<Plain *>(context))(piece, slot);
    }, const_cast<void *>(static_cast<const void *>(&body)), maxSlots);
  }

private:
  using Function = void (*)(void *, int64_t, unsigned);
  void showProgress();
  ThreadPool() = default;
  void run(int64_t count, Function function, void *context, unsigned maxSlots);
  void work();
  bool join();
  static void *entry(void *pool);

  std::vector<pthread_t> workers;
  Communicator *watcher = nullptr;
  // The job; written while it is closed and nobody is active.
  Function function = nullptr;
  void *context = nullptr;
  int64_t count = 0;
  unsigned maxSlots = 0;
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<bool> open{false};
  std::atomic<unsigned> active{0};
  std::atomic<unsigned> joined{0};
  alignas(64) std::atomic<uint32_t> generation{0};
  std::atomic<unsigned> sleepers{0};
  std::atomic<bool> stop{false};
};

} // namespace amc::rt

#endif
