// Persistent threads, a parallel loop over independent pieces, and tasks of which some may run side by side.
//
// Pieces are handed out in any order to whoever is free; callers cut their work by shapes alone, so results do not
// depend on the number of threads. Nothing here allocates once the pool is made. Idle threads spin for some
// microseconds, then sleep on a futex.
//
// A loop (parallelFor) is a job: its caller publishes and opens it; threads that come in time join (a late sleeper holds
// up nobody); the caller works too, and whoever finds no piece left closes the job. The caller then waits for those that
// joined, and so does a step's next instruction, if it needs what they make. What does not need it need not wait: tasks
// (runTasks) are begun in their order by whoever finds nothing else to do, workers and waiting callers alike, each as soon
// as the tasks that it is behind are done. (A caller that has begun another task is done with its own after that, which is
// no later than one after the other.)
#ifndef AMC_RUNTIME_DEVICE_CPU_THREADPOOL_H
#define AMC_RUNTIME_DEVICE_CPU_THREADPOOL_H

#include "runtime/support/Status.h"
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <type_traits>
#include <vector>

namespace amc::rt {

class Communicator;

class ThreadPool {
public:
  static constexpr unsigned maxThreads = 256;
  // Tasks that are begun and not done, at most, counted from the first that is not done.
  static constexpr uint64_t taskWindow = 8;
  // 0: AMC_NUM_THREADS if set, else the processors in the affinity mask.
  static Expected<std::unique_ptr<ThreadPool>> create(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  // Whoever else waits for this process is shown a sign of life, by the thread that has called runTasks or parallelFor,
  // when a piece has been done, so that a long kernel does not look like one that hangs. It outlives the pool; null: nobody.
  void showProgressTo(Communicator *communicator) { watcher = communicator; }

  unsigned threads() const { return static_cast<unsigned>(workers.size()) + 1; }

  // Calls body(piece, slot) for pieces [0, count). Calls at the same time have different slots, all below maxSlots. From one
  // thread outside the pool, or from tasks; not from a piece.
  template <class Body>
  void parallelFor(int64_t count, Body &&body, unsigned maxSlots = maxThreads) {
    using Plain = std::remove_reference_t<Body>;
    run(count, [](void *context, int64_t piece, unsigned slot) {
      (*static_cast<Plain *>(context))(piece, slot);
    }, const_cast<void *>(static_cast<const void *>(&body)), maxSlots);
  }

  // Calls body(task), which may call parallelFor, for tasks [0, count), on any thread. Task t begins when all before it have
  // begun and those are done that behind(t) names: bit d for task t - d, d from 1 to taskWindow - 1. When a body returns
  // false, no further task begins. Returns when what has begun is done.
  template <class Behind, class Body> void runTasks(uint64_t count, Behind &&behind, Body &&body) {
    struct Functions {
      std::remove_reference_t<Behind> &behind;
      std::remove_reference_t<Body> &body;
    } functions{behind, body};
    run(Tasks{[](void *context, uint64_t task) -> uint32_t { return static_cast<Functions *>(context)->behind(task); },
              [](void *context, uint64_t task) -> bool { return static_cast<Functions *>(context)->body(task); },
              &functions, count});
  }

private:
  using Function = void (*)(void *, int64_t, unsigned);
  // Written by who has taken it, while it is closed and nobody is active; but for `maxSlots`, which anybody may look at.
  struct alignas(64) Job {
    Function function = nullptr;
    void *context = nullptr;
    int64_t count = 0;
    std::atomic<unsigned> maxSlots{0};
    std::atomic<bool> taken{false};
    std::atomic<bool> open{false};
    std::atomic<unsigned> active{0}, joined{0};
    alignas(64) std::atomic<int64_t> next{0};
    void work(unsigned slot, ThreadPool &pool);
  };
  struct Tasks {
    uint32_t (*behind)(void *, uint64_t) = nullptr;
    bool (*body)(void *, uint64_t) = nullptr;
    void *context = nullptr;
    uint64_t count = 0;
  };

  ThreadPool() = default;
  void run(int64_t count, Function function, void *context, unsigned maxSlots);
  void run(const Tasks &tasks);
  void work();
  static bool isOpen(const Job &job); // to one thread more
  bool join(Job &job);
  bool mayBegin() const;
  bool doTasks(bool awaited);
  bool help(bool awaited);
  template <class Done> void waitFor(Done &&done, bool awaited);
  void announce();
  void showProgress();
  static void *entry(void *pool);

  std::vector<pthread_t> workers;
  Communicator *watcher = nullptr;
  Job jobs[taskWindow + 1]; // a task has one at a time; the last is for loops outside tasks
  std::mutex mutex;         // of the tasks
  Tasks tasks;
  uint64_t begun = 0, undone = 0; // tasks before these
  bool done[taskWindow] = {};     // of tasks from `undone` on, by number modulo the window
  std::atomic<bool> hasTasks{false}, finished{true}; // some have not begun; all are done
  alignas(64) std::atomic<uint32_t> generation{0}; // of what there is to do
  std::atomic<unsigned> sleepers{0};
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<bool> advanced{false}; // a worker has done a piece
};

} // namespace amc::rt

#endif
