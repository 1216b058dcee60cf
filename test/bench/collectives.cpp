// How long collectives take between processes of this machine.
//   ninja -C build bench-collectives
//   mpirun -n 4 build/bin/bench-collectives [MIB]
//   AMC_COLLECTIVES=mpi mpirun -n 4 build/bin/bench-collectives [MIB]
// Small all_reduces, then all_gather, reduce_scatter and all_reduce of MIB (64) MiB of f32: the whole tensor. The
// answer of each is checked on all ranks before its time is printed: the median of some rounds, on rank 0, and the
// bytes of the whole tensor divided by it. Memory is touched before anything is timed.
#include "runtime/collective/Join.h"
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>

using namespace amc::rt;
namespace plan = amc::plan;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Status measure(Communicator &communicator, uint64_t mib) {
  unsigned n = communicator.size(), rank = communicator.rank();
  uint64_t elements = (mib << 20) / 4 / n * n, piece = elements / n;
  std::vector<unsigned> all(n);
  std::iota(all.begin(), all.end(), 0u);
  Expected<Group *> world = communicator.group(all);
  Expected<std::byte *> arena = communicator.allocate(2 * elements * 4);
  if (!arena.ok() || !world.ok())
    return arena.ok() ? world.status() : arena.status();
  auto *x = reinterpret_cast<float *>(*arena), *y = x + elements;
  auto bytes = [](float *p) { return reinterpret_cast<std::byte *>(p); };
  auto report = [&](const char *what, uint64_t size, int rounds, const std::function<Status()> &call,
                    const std::function<bool()> &right) -> Status {
    if (Status s = call(); !s.ok())
      return s;
    if (!right())
      return inputError(what, ": the answer is wrong");
    std::vector<double> times;
    for (int i = 0; i < rounds; ++i) {
      double begin = now();
      if (Status s = call(); !s.ok())
        return s;
      times.push_back(now() - begin);
    }
    std::nth_element(times.begin(), times.begin() + rounds / 2, times.end());
    double median = times[static_cast<size_t>(rounds / 2)];
    if (rank == 0)
      std::printf("%s %u ranks %-14s %9lu bytes %10.1f us %6.2f GB/s\n", std::string(communicator.kind()).c_str(), n,
                  what, static_cast<unsigned long>(size), median * 1e6, static_cast<double>(size) / median * 1e-9);
    return Status();
  };
  for (uint64_t i = 0; i < elements; ++i)
    x[i] = static_cast<float>(rank + 1) + static_cast<float>(i % 7);
  float ranksSum = static_cast<float>(n * (n + 1) / 2);
  auto sumAt = [&](uint64_t i) { return ranksSum + static_cast<float>(n) * static_cast<float>(i % 7); };
  auto isSum = [&](uint64_t first, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i)
      if (y[i] != sumAt(first + i))
        return false;
    return true;
  };
  SpreadShape shape{1, elements, 1, plan::F32};
  for (uint64_t small : {uint64_t(1), uint64_t(256), uint64_t(16384)})
    if (Status s = report(
            "all_reduce", small * 4, 2000, [&] { return (*world)->allReduce(bytes(x), bytes(y), small, plan::F32); },
            [&] { return isSum(0, small); });
        !s.ok())
      return s;
  if (Status s = report(
          "all_gather", elements * 4, 15, [&] { return (*world)->allGather(bytes(x), bytes(y), shape); },
          [&] {
            for (uint64_t i = 0; i < elements; ++i)
              if (y[i] != static_cast<float>(i / piece + 1) + static_cast<float>(i % piece % 7))
                return false;
            return true;
          });
      !s.ok())
    return s;
  if (Status s = report(
          "reduce_scatter", elements * 4, 15, [&] { return (*world)->reduceScatter(bytes(x), bytes(y), shape); },
          [&] { return isSum(rank * piece, piece); });
      !s.ok())
    return s;
  return report(
      "all_reduce", elements * 4, 15, [&] { return (*world)->allReduce(bytes(x), bytes(y), elements, plan::F32); },
      [&] { return isSum(0, elements); });
}

} // namespace

int main(int argc, char **argv) {
  uint64_t mib = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 64;
  Expected<std::unique_ptr<Communicator>> joined = joinRanks();
  Communicator *communicator = joined.ok() ? joined->get() : nullptr;
  Status status = joined.status();
  if (joined.ok() && (!communicator || mib < 1 || mib > 4096))
    status = Status(ErrorKind::Usage, "usage: mpirun -n RANKS bench-collectives [MIB, 1 to 4096]");
  if (status.ok())
    status = measure(*communicator, mib);
  std::string words = status.ok() ? "" : communicator ? communicator->lastWords(status) : status.message();
  if (!words.empty())
    std::fprintf(stderr, "bench-collectives: error: %s\n", words.c_str());
  return status.exitCode();
}
