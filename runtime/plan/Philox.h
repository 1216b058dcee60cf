// Random numbers by counter: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
// Compiler (oracle) and runtime (kernel) draw the same ones.
#ifndef AMC_RUNTIME_PLAN_PHILOX_H
#define AMC_RUNTIME_PLAN_PHILOX_H

#include <array>
#include <cmath>
#include <cstdint>

namespace amc::rt {

inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    uint64_t a = uint64_t(0xD2511F53u) * counter[0], b = uint64_t(0xCD9E8D57u) * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

// The mask of one dropout: a function of seed, step, micro-batch, stream (one for each dropout of a model) and element,
// so that it is the same mask in forward, recomputation and backward, after a resume and for any number of threads.
class DropoutMask {
public:
  // `probability` in [0, 1). Step 0 is no training step: everything is kept.
  DropoutMask(double probability, int64_t stream, int64_t seed, int64_t step, int64_t microBatch)
      : threshold(step == 0 ? 0 : static_cast<uint64_t>(std::llround(probability * 0x1p32))),
        factor(step == 0 ? 1 : 1 / (1 - probability)), stream(static_cast<uint32_t>(stream)),
        step(static_cast<uint32_t>(step)) {
    // The seed's bits and the micro-batch's are mixed (splitmix64), so that neighbours have unlike keys.
    uint64_t mixed = mix(mix(static_cast<uint64_t>(seed)) + static_cast<uint64_t>(microBatch));
    key = {static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32)};
  }

  double scale() const { return factor; }
  bool keepsAll() const { return threshold == 0; }
  // Words up to this one drop their element, unless everything is kept.
  uint32_t lastDropped() const { return static_cast<uint32_t>(threshold - 1); }
  std::array<uint32_t, 2> keyWords() const { return key; }
  uint32_t streamWord() const { return stream; }
  uint32_t stepWord() const { return step; }
  // Whether the elements 4 * block … 4 * block + 3 are kept.
  std::array<bool, 4> keeps(uint64_t block) const {
    auto words = philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), stream, step}, key);
    return {words[0] >= threshold, words[1] >= threshold, words[2] >= threshold, words[3] >= threshold};
  }

private:
  static uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }

  uint64_t threshold;
  double factor;
  uint32_t stream, step;
  std::array<uint32_t, 2> key;
};

} // namespace amc::rt

#endif
