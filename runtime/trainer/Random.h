// Counter-based random numbers: the n-th of a stream is a function of (seed, stream, n), so nothing
// has to be kept or replayed. splitmix64's finaliser (Steele, Lea and Flood, 2014).
#ifndef AMC_RUNTIME_TRAINER_RANDOM_H
#define AMC_RUNTIME_TRAINER_RANDOM_H

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace amc::rt {

constexpr uint64_t mixBits(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

constexpr uint64_t randomBits(uint64_t seed, uint64_t stream, uint64_t counter) {
  return mixBits(mixBits(mixBits(seed) ^ stream) ^ counter);
}

// A stream of its own for every name (FNV-1a).
constexpr uint64_t streamOf(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : name)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

// In (0, 1], a multiple of 2^-53.
constexpr double unitInterval(uint64_t bits) {
  return static_cast<double>((bits >> 11) + 1) * 0x1p-53;
}

// Standard normal, by Box and Muller.
inline double randomNormal(uint64_t seed, uint64_t stream, uint64_t counter) {
  double radius = std::sqrt(-2.0 * std::log(unitInterval(randomBits(seed, stream, 2 * counter))));
  return radius *
         std::cos(2.0 * std::numbers::pi * unitInterval(randomBits(seed, stream, 2 * counter + 1)));
}

} // namespace amc::rt

#endif
