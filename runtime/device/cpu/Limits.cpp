// See Limits.h. Each limit is the best of several rounds: whatever else runs on the machine makes a round slower, never
// faster. Products are of square-like matrices, large enough that packing does not count. Memory is STREAM's triad
// (McCalpin, 1995), a = b + s c, whose bytes are those of a, b and c: that a line is read before it is written, as most
// processors do, is not counted, neither here nor in what instructions move.
#include "runtime/device/cpu/Limits.h"
#include "runtime/device/cpu/Gemm.h"
#include "runtime/device/cpu/Pages.h"
#include <algorithm>
#include <chrono>
#include <unistd.h>

namespace amc::rt::cpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char *measuring = "measuring this machine's limits, arrays";

// The shortest of the rounds that `least` seconds have room for, of two at least; a round before them is not counted.
template <class Body> double shortest(double least, Body &&body) {
  body();
  double best = 0, all = 0;
  for (int round = 0; round < 2 || all < least; ++round) {
    auto begin = Clock::now();
    body();
    double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    best = round == 0 ? seconds : std::min(best, seconds);
    all += seconds;
  }
  return best;
}

// As many tiles as every thread needs to have several.
template <class S> Expected<double> productRate(ThreadPool &pool) {
  constexpr int64_t k = 1024, n = 4 * static_cast<int64_t>(workspace::productColumnTile);
  const int64_t m = static_cast<int64_t>(workspace::productRowTile) * std::max<int64_t>(4, pool.threads());
  auto u = [](int64_t x) { return static_cast<uint64_t>(x); };
  const uint64_t scratch = workspace::product(u(m), u(n), u(k), sizeof(S));
  const int64_t elements = m * k + k * n + m * n;
  Pages pages;
  if (Status s = pages.map(u(elements) * sizeof(S) + 64 + scratch, measuring); !s.ok())
    return s;
  pages.adviseHuge();
  S *a = reinterpret_cast<S *>(pages.base), *b = a + m * k, *c = b + k * n;
  std::byte *aligned = pages.base + (u(elements) * sizeof(S) + 63) / 64 * 64;
  float row[blockElements];
  for (int64_t i = 0; i < blockElements; ++i)
    row[i] = 1 + static_cast<float>(i % 7) / 8;
  for (int64_t i = 0; i < m * k + k * n; i += blockElements) {
    int64_t count = std::min(blockElements, m * k + k * n - i);
    if constexpr (isWide<S>)
      std::copy_n(row, count, a + i);
    else
      narrowRow(row, a + i, count);
  }
  ProductGrid grid = ProductGrid::of<S>(m, n, k);
  double seconds = shortest(0.06, [&] {
    multiply<S>(pool, grid, {a, k}, {b, n}, static_cast<const S *>(nullptr), c, aligned);
  });
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / seconds;
}

// Three arrays that together are half as large again as the last cache, as far as a quarter of the free memory goes.
uint64_t streamElements() {
  auto positive = [](long value) { return value > 0 ? static_cast<uint64_t>(value) : 0; };
  uint64_t cache = positive(::sysconf(_SC_LEVEL3_CACHE_SIZE));
  uint64_t free = positive(::sysconf(_SC_AVPHYS_PAGES)) * positive(::sysconf(_SC_PAGESIZE));
  uint64_t bytes = std::min(std::clamp<uint64_t>(cache + cache / 2, uint64_t(192) << 20, uint64_t(768) << 20),
                            std::max<uint64_t>(free / 4, uint64_t(48) << 20));
  return bytes / (3 * sizeof(float));
}

Expected<double> streamRate(ThreadPool &pool) {
  constexpr int64_t piece = 1 << 16; // elements
  const int64_t pieces = static_cast<int64_t>(streamElements()) / piece, n = pieces * piece;
  Pages pages;
  if (Status s = pages.map(3 * static_cast<uint64_t>(n) * sizeof(float), measuring); !s.ok())
    return s;
  pages.adviseHuge();
  float *a = reinterpret_cast<float *>(pages.base), *b = a + n, *c = b + n;
  pool.parallelFor(pieces, [&](int64_t p, unsigned) { // pages that nobody has written are one page
    std::fill_n(b + p * piece, piece, 1.0f);
    std::fill_n(c + p * piece, piece, 2.0f);
  });
  double seconds = shortest(0.06, [&] {
    pool.parallelFor(pieces, [&](int64_t p, unsigned) {
      float *__restrict x = a + p * piece;
      const float *__restrict y = b + p * piece, *__restrict z = c + p * piece;
      for (int64_t i = 0; i < piece; ++i)
        x[i] = y[i] + 3 * z[i];
    });
  });
  return 3.0 * static_cast<double>(n) * sizeof(float) / seconds;
}

} // namespace

Expected<DeviceLimits> measureLimits(ThreadPool &pool) {
  DeviceLimits limits;
  for (auto [rate, measure] : {std::pair(&limits.fp32, &productRate<float>), {&limits.bf16, &productRate<BFloat16>},
                               {&limits.stream, &streamRate}}) {
    Expected<double> measured = measure(pool);
    if (!measured.ok())
      return measured.status();
    *rate = *measured;
  }
  return limits;
}

} // namespace amc::rt::cpu
