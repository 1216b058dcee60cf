// Dropout by counter: y = x / (1 - p) where the mask keeps an element, else 0; f16 and bf16 in fp32, rounded once. A thread has
// the four elements that one draw decides on. y may be x.
#include "Philox.cuh"
#include "Stored.cuh"

using namespace amc;

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void dropout_##suffix(const void *x, void *y, i64 n, int stored, u64 threshold, double factor, \
                                              unsigned stream, const i64 *seed, const i64 *step,                       \
                                              const i64 *microBatch) {                                                 \
    const i64 first = globalThread() * 4;                                                                              \
    if (first >= n)                                                                                                    \
      return;                                                                                                          \
    const i64 *counters[] = {seed, step, microBatch};                                                                  \
    DropoutMask mask(threshold, stream, counters);                                                                     \
    const T scale = *step == 0 ? T(1) : static_cast<T>(factor);                                                        \
    for (i64 i = first; i < n && i < first + 4; ++i) {                                                                 \
      const bool kept = !mask.active || mask.keeps(static_cast<u64>(i));                                               \
      storeElement<T>(y, i, kept ? loadElement<T>(x, i, static_cast<Stored>(stored)) * scale : T(0),                   \
                      static_cast<Stored>(stored));                                                                    \
    }                                                                                                                  \
  }
AMC_FOR_WIDE(MAKE)
#undef MAKE
