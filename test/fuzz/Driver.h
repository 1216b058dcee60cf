// A deterministic mutational fuzz driver. The targets are libFuzzer's shape (one function of bytes), so that either
// this driver or `clang -fsanitize=fuzzer` can run them; this one needs nothing but the compiler and repeats exactly:
// input i of seed s is always the same bytes.
#ifndef AMC_TEST_FUZZ_DRIVER_H
#define AMC_TEST_FUZZ_DRIVER_H

#include <cstddef>
#include <cstdint>
#include <string>

namespace amc::fuzz {

/// SplitMix64 (Steele et al., 2014).
class Random {
public:
  explicit Random(uint64_t seed) : state(seed) {}
  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t limit) { return limit ? next() % limit : 0; }

private:
  uint64_t state;
};

/// Flips bits, writes edge-case integers, cuts, repeats or removes ranges: one to eight changes.
std::string mutate(std::string bytes, Random &random);

/// Runs `target` on every corpus file unchanged, then on `--runs=N` mutations of them (default 500) drawn from
/// `--seed=S` (default 1). Before each call the input is written to `--keep=FILE`, so that a crash leaves it there.
/// Returns the exit code for main: 0, or 2 on wrong usage or an unreadable file.
int run(int argc, char **argv, void (*target)(const std::string &bytes));

} // namespace amc::fuzz

#endif
