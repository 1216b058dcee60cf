// A request to end that comes while a product runs changes neither the product nor the heap.
#include "runtime/device/cpu/Gemm.h"
#include "runtime/trainer/StopSignals.h"
#include <atomic>
#include <csignal>
#include <gtest/gtest.h>
#include <random>
#include <sys/wait.h>
#include <unistd.h>

namespace amc::rt {
namespace {

std::atomic<bool> requested = false;

enum Outcome { Fine, Wrong, NotCaught };

// Products of ones, and blocks of the heap that come and go between them, until some time after the request.
Outcome multiplyUntilAsked(int ready, unsigned seed) {
  if (!catchStopSignals(requested).ok())
    return NotCaught;
  std::mt19937 random(seed);
  std::vector<float> a(1 << 16, 1), b(1 << 16, 1), c(1 << 16);
  std::vector<std::vector<char>> blocks(64);
  auto some = [&](unsigned n) { return 1 + static_cast<int64_t>(random() % n); };
  for (int after = 0; after < 50; after += requested.load()) {
    int64_t m = some(256), n = some(256), k = some(256);
    const bool ta = random() % 2, tb = random() % 2;
    cpu::gemm(ta, tb, m, n, k, 1.0f, a.data(), ta ? m : k, b.data(), tb ? k : n, 0.0f, c.data(), n);
    for (int64_t i = 0; i < m * n; ++i)
      if (c[static_cast<size_t>(i)] != static_cast<float>(k))
        return Wrong;
    blocks[random() % blocks.size()].assign(static_cast<size_t>(some(5000)), 'x');
    if (ready >= 0 && ::write(ready, "r", 1) == 1)
      ready = (::close(ready), -1);
  }
  return Fine;
}

TEST(StopSignals, LeaveProductsAndHeapAlone) {
  for (unsigned round = 0; round < 40; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0)
      ::_exit(multiplyUntilAsked(ends[1], round));
    ::close(ends[1]);
    char said;
    ASSERT_EQ(::read(ends[0], &said, 1), 1);
    ::close(ends[0]);
    ::usleep(round * 37 % 1000);
    ASSERT_EQ(::kill(child, round % 2 ? SIGTERM : SIGINT), 0);
    int status;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status)) << "round " << round << ": ended by signal " << WTERMSIG(status);
    ASSERT_EQ(WEXITSTATUS(status), Fine) << "round " << round;
  }
}

// The second one of a kind ends the process as it would have without us.
TEST(StopSignals, EndTheProcessTheSecondTime) {
  EXPECT_EXIT(
      {
        std::atomic<bool> asked = false;
        if (!catchStopSignals(asked).ok())
          std::_Exit(1);
        ::raise(SIGTERM);
        ::raise(SIGINT);
        if (!asked)
          std::_Exit(2);
        ::raise(SIGTERM);
        std::_Exit(3);
      },
      testing::KilledBySignal(SIGTERM), "");
}

// Threads that work have no stack for handlers, so no signal is delivered to them.
TEST(StopSignals, AreNotForThreadsOfThePool) {
  auto pool = ThreadPool::create(3);
  ASSERT_TRUE(pool.ok());
  std::atomic<int> arrived = 0;
  std::atomic<bool> allBlocked = true;
  (*pool)->parallelFor(3, [&](int64_t, unsigned) {
    sigset_t blocked;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    if (::gettid() != ::getpid() && !(::sigismember(&blocked, SIGTERM) && ::sigismember(&blocked, SIGINT)))
      allBlocked = false;
    ++arrived;
    while (arrived < 3) // each on a thread of its own
      ;
  });
  EXPECT_TRUE(allBlocked);
}

} // namespace
} // namespace amc::rt
