#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/collective/Communicator.h"
#include "runtime/support/Threads.h"
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <immintrin.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace amc::rt {
namespace {

// Some ten microseconds: longer than the gap between two instructions, shorter than anybody else's patience on a
// shared machine.
constexpr int spins = 1500;

void futexWait(std::atomic<uint32_t> &word, uint32_t seen) {
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}
void futexWakeAll(std::atomic<uint32_t> &word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

Expected<unsigned> chooseThreads(unsigned asked) {
  if (asked == 0) {
    if (const char *value = std::getenv("AMC_NUM_THREADS")) {
      char *end = nullptr;
      errno = 0;
      unsigned long parsed = std::strtoul(value, &end, 10);
      if (errno || end == value || *end || value[0] == '-' || parsed == 0 || parsed > ThreadPool::maxThreads)
        return Status(ErrorKind::Usage, text("AMC_NUM_THREADS is '", value, "' and should be a number from 1 to ",
                                             ThreadPool::maxThreads));
      return static_cast<unsigned>(parsed);
    }
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof set, &set) == 0)
      asked = static_cast<unsigned>(CPU_COUNT(&set));
    else
      asked = static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
    return std::clamp(asked, 1u, ThreadPool::maxThreads);
  }
  if (asked > ThreadPool::maxThreads)
    return Status(ErrorKind::Usage,
                  text("the number of threads is ", asked, " and should be at most ", ThreadPool::maxThreads));
  return asked;
}

} // namespace

Expected<std::unique_ptr<ThreadPool>> ThreadPool::create(unsigned threads) {
  Expected<unsigned> chosen = chooseThreads(threads);
  if (!chosen.ok())
    return chosen.status();
  std::unique_ptr<ThreadPool> pool(new ThreadPool());
  pool->workers.reserve(*chosen);
  for (unsigned i = 1; i < *chosen; ++i) {
    pthread_t thread;
    if (int error = startThread(thread, &ThreadPool::entry, pool.get()))
      return limitError("thread ", i, " of ", *chosen, " cannot be started: ", std::strerror(error));
    pool->workers.push_back(thread);
  }
  return pool;
}

ThreadPool::~ThreadPool() {
  stop.store(true);
  generation.fetch_add(1);
  futexWakeAll(generation);
  for (pthread_t thread : workers)
    ::pthread_join(thread, nullptr);
}

void *ThreadPool::entry(void *pool) {
  static_cast<ThreadPool *>(pool)->work();
  return nullptr;
}

// Joins the job that is open, if any, and works until no piece is left. The order matters: a worker counts itself
// active before it looks whether the job is open, the caller closes it before it looks whether anybody is active;
// so one of the two sees the other, and the job's fields change only when nobody reads them.
bool ThreadPool::join() {
  active.fetch_add(1);
  bool worked = false;
  if (open.load()) {
    unsigned slot = joined.fetch_add(1);
    if (slot < maxSlots) {
      for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < count;)
        function(context, piece, slot);
      worked = true;
    }
  }
  active.fetch_sub(1);
  return worked;
}

void ThreadPool::work() {
  while (true) {
    uint32_t seen = generation.load();
    if (stop.load())
      return;
    join();
    for (int i = 0; i < spins && generation.load(std::memory_order_relaxed) == seen; ++i)
      _mm_pause();
    if (generation.load() != seen)
      continue;
    sleepers.fetch_add(1);
    futexWait(generation, seen); // returns at once if the generation has moved on
    sleepers.fetch_sub(1);
  }
}

void ThreadPool::showProgress() {
  if (watcher)
    watcher->progress();
}

void ThreadPool::run(int64_t pieces, Function body, void *data, unsigned slots) {
  if (pieces <= 0)
    return;
  if (pieces == 1 || slots <= 1 || workers.empty()) {
    for (int64_t piece = 0; piece < pieces; ++piece) {
      body(data, piece, 0);
      showProgress();
    }
    return;
  }
  function = body;
  context = data;
  count = pieces;
  maxSlots = slots;
  next.store(0, std::memory_order_relaxed);
  joined.store(1, std::memory_order_relaxed); // the caller has slot 0
  open.store(true);
  generation.fetch_add(1);
  if (sleepers.load() > 0)
    futexWakeAll(generation);
  for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
    body(data, piece, 0);
    showProgress();
  }
  open.store(false);
  for (int spin = 0; active.load() != 0; ++spin) {
    if (spin < spins)
      _mm_pause();
    else
      ::sched_yield();
  }
}

} // namespace amc::rt
