#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/collective/Communicator.h"
#include "runtime/support/Threads.h"
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <immintrin.h>
#include <iterator>
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

// Whether this thread is one of a pool's: whoever called it shows progress for it.
thread_local bool isWorker = false;

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
  isWorker = true;
  static_cast<ThreadPool *>(pool)->work();
  return nullptr;
}

// There is something new to do.
void ThreadPool::announce() {
  generation.fetch_add(1);
  if (sleepers.load() > 0)
    futexWakeAll(generation);
}

void ThreadPool::showProgress() {
  if (!watcher)
    return;
  if (!isWorker)
    watcher->progress();
  else if (!advanced.load(std::memory_order_relaxed))
    advanced.store(true, std::memory_order_relaxed);
}

// ---- loops

void ThreadPool::Job::work(unsigned slot, ThreadPool &pool) {
  for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
    function(context, piece, slot);
    pool.showProgress();
  }
  open.store(false);
}

bool ThreadPool::isOpen(const Job &job) { return job.open.load() && job.joined.load() < job.maxSlots.load(); }

// Joins a job that is open and works until no piece is left. The order matters: a thread counts itself active before it
// looks whether the job is open, the caller closes it before it looks whether anybody is active; so one of the two sees
// the other, and the job's fields change only when nobody reads them.
bool ThreadPool::join(Job &job) {
  if (!isOpen(job))
    return false;
  bool worked = false;
  job.active.fetch_add(1);
  if (job.open.load()) {
    unsigned slot = job.joined.fetch_add(1);
    if (slot < job.maxSlots.load()) {
      job.work(slot, *this);
      worked = true;
    }
  }
  job.active.fetch_sub(1);
  return worked;
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
  Job *job = jobs;
  while (job->taken.exchange(true))
    if (++job == std::end(jobs))
      job = jobs;
  job->function = body;
  job->context = data;
  job->count = pieces;
  job->maxSlots.store(slots);
  job->next.store(0, std::memory_order_relaxed);
  job->joined.store(1); // the caller has slot 0
  job->open.store(true);
  announce();
  job->work(0, *this);
  waitFor([&] { return job->active.load() == 0; }, /*awaited=*/true);
  job->taken.store(false);
}

// ---- tasks

// Whether the next task may begin; under the mutex.
bool ThreadPool::mayBegin() const {
  if (begun == tasks.count || begun - undone == taskWindow)
    return false;
  const uint32_t behind = tasks.behind(tasks.context, begun);
  for (uint64_t d = 1; d <= begun - undone; ++d)
    if ((behind >> d & 1) && !done[(begun - d) % taskWindow])
      return false;
  return true;
}

// Does the next task, if it may begin, and those that may begin then, unless there are pieces to do for those before; only
// one where somebody waits for this thread.
bool ThreadPool::doTasks(bool awaited) {
  if (!hasTasks.load())
    return false;
  bool worked = false;
  std::unique_lock lock(mutex);
  while (mayBegin() && !(worked && (awaited || std::any_of(std::begin(jobs), std::end(jobs), isOpen)))) {
    worked = true;
    const Tasks all = tasks;
    const uint64_t task = begun++;
    done[task % taskWindow] = false;
    hasTasks.store(begun != tasks.count);
    bool another = mayBegin();
    lock.unlock();
    if (another)
      announce();
    const bool goOn = all.body(all.context, task);
    lock.lock();
    if (!goOn) {
      tasks.count = begun;
      hasTasks.store(false);
    }
    for (done[task % taskWindow] = true; undone < begun && done[undone % taskWindow];)
      ++undone;
    finished.store(undone == tasks.count);
  }
  bool left = worked && mayBegin();
  lock.unlock();
  if (left)
    announce();
  return worked;
}

void ThreadPool::run(const Tasks &all) {
  if (workers.empty()) {
    for (uint64_t task = 0; task < all.count && all.body(all.context, task); ++task)
      ;
    return;
  }
  {
    std::lock_guard lock(mutex);
    tasks = all;
    begun = undone = 0;
    finished.store(all.count == 0);
    hasTasks.store(all.count != 0);
  }
  waitFor([&] { return finished.load(); }, /*awaited=*/false);
}

// ---- threads that have nothing to do

// Works on a loop that is open, or else on tasks.
bool ThreadPool::help(bool awaited) {
  for (Job &job : jobs)
    if (join(job))
      return true;
  return doTasks(awaited);
}

// Helps until `done`. `awaited`: whether others may wait for what this thread does then.
template <class Done> void ThreadPool::waitFor(Done &&done, bool awaited) {
  uint32_t tried = generation.load() - 1;
  for (int spin = 0; !done(); ++spin) {
    if (uint32_t now = generation.load(); now != tried) {
      tried = now;
      if (help(awaited)) {
        tried = now - 1;
        spin = 0;
      }
      continue;
    }
    if (spin < spins) {
      _mm_pause();
      continue;
    }
    ::sched_yield();
    if (!isWorker && advanced.exchange(false, std::memory_order_relaxed))
      showProgress();
  }
}

void ThreadPool::work() {
  while (true) {
    uint32_t seen = generation.load();
    if (stop.load())
      return;
    if (help(/*awaited=*/false))
      continue;
    for (int i = 0; i < spins && generation.load(std::memory_order_relaxed) == seen; ++i)
      _mm_pause();
    if (generation.load() != seen)
      continue;
    sleepers.fetch_add(1);
    futexWait(generation, seen); // returns at once if the generation has moved on
    sleepers.fetch_sub(1);
  }
}

} // namespace amc::rt
