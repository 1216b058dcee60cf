// The words of runtime/plan/Philox.h on the device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_PHILOX_CUH
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_PHILOX_CUH

#include "Common.cuh"

namespace amc {

__device__ inline u64 mixed(u64 x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

__device__ inline uint4 philox4x32(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned low0 = 0xD2511F53u * counter.x, high0 = __umulhi(0xD2511F53u, counter.x);
    const unsigned low1 = 0xCD9E8D57u * counter.z, high1 = __umulhi(0xCD9E8D57u, counter.z);
    counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return counter;
}

// One dropout's mask. A thread that asks for neighbours draws their words once.
struct DropoutMask {
  bool active; // else everything is kept
  unsigned lastDropped;

  // `threshold`: words below it drop, in training steps.
  __device__ DropoutMask(u64 threshold, unsigned stream, const i64 *const *counters) : active(false), lastDropped(0) {
    if (threshold == 0)
      return;
    const i64 at = *counters[1];
    active = at != 0;
    lastDropped = static_cast<unsigned>(threshold - 1);
    const u64 bits = mixed(mixed(static_cast<u64>(*counters[0])) + static_cast<u64>(*counters[2]));
    key = make_uint2(static_cast<unsigned>(bits), static_cast<unsigned>(bits >> 32));
    tail = make_uint2(stream, static_cast<unsigned>(at));
  }

  __device__ bool keeps(u64 element) {
    if (element / 4 != drawn) {
      drawn = element / 4;
      words = philox4x32(make_uint4(static_cast<unsigned>(drawn), static_cast<unsigned>(drawn >> 32), tail.x, tail.y), key);
    }
    const unsigned in = static_cast<unsigned>(element) % 4;
    return (in < 2 ? in == 0 ? words.x : words.y : in == 2 ? words.z : words.w) > lastDropped;
  }

private:
  uint2 key = {}, tail = {};
  u64 drawn = ~u64(0);
  uint4 words = {};
};

} // namespace amc

#endif
