// Sums of bf16 and f16 by destination: what is added (or multiplied) into one place is combined in fp32, in ascending
// order of the sources, and rounded once. The sources are sorted by destination in the workspace (32 bits each), so no
// destination needs a sum that outlives a block of 512 elements.
#ifndef AMC_RUNTIME_DEVICE_CPU_SORTEDSOURCES_H
#define AMC_RUNTIME_DEVICE_CPU_SORTEDSOURCES_H

#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/Workspace.h"
#include <algorithm>
#include <climits>

namespace amc::rt::cpu {

inline bool isNarrowFloat(plan::DType dtype) { return dtype == plan::BF16 || dtype == plan::F16; }

inline constexpr auto addRows = [](float *y, const float *x, int64_t n) { addToRow(y, x, n); };

// At most INT_MAX, which is one more than SortedSources takes: tensors without elements may have any other dimensions.
inline int64_t boundedProduct(const int64_t *first, const int64_t *last) {
  int64_t n = 1;
  for (; first != last; ++first)
    if (__builtin_mul_overflow(n, *first, &n) || n > INT_MAX)
      n = INT_MAX; // a factor of 0 may follow
  return n;
}

class SortedSources {
public:
  // `destination(source)` is in [0, destinations), or negative: left out. It is called twice for each source.
  template <class F> SortedSources(std::byte *at, int64_t destinations, int64_t sources, F &&destination) {
    starts = reinterpret_cast<uint32_t *>(at);
    order = reinterpret_cast<uint32_t *>(at + workspace::detail::pad(static_cast<uint64_t>(destinations + 1) * 4));
    std::fill_n(starts, destinations + 1, 0);
    for (int64_t i = 0; i < sources; ++i)
      if (int64_t to = destination(i); to >= 0)
        ++starts[to + 1];
    for (int64_t to = 0; to < destinations; ++to)
      starts[to + 1] += starts[to];
    // starts[to] serves as the cursor of `to` and ends as its end, which is the start of the next.
    for (int64_t i = 0; i < sources; ++i)
      if (int64_t to = destination(i); to >= 0)
        order[starts[to]++] = static_cast<uint32_t>(i);
    for (int64_t to = destinations; to > 0; --to)
      starts[to] = starts[to - 1];
    starts[0] = 0;
  }
  const uint32_t *begin(int64_t destination) const { return order + starts[destination]; }
  const uint32_t *end(int64_t destination) const { return order + starts[destination + 1]; }

  static Status expectSizes(int64_t destinations, int64_t sources) {
    AMC_EXPECT(destinations < INT_MAX && sources < INT_MAX, "there are ", destinations, " destinations and ", sources,
               " sources and should be less than ", INT_MAX, " of either");
    return Status();
  }

private:
  uint32_t *starts, *order;
};

// For destinations [begin, end) of slices of `width` elements: y = start combined with its sources' slices of x, each
// in turn, by combine(sum, addend, count). Without sources it is the start alone; a null `start` is zero. The slices of
// destination d are start and y at (first + d) * width, those of source s are x at (firstSource + s) * width. start and
// x are of `dtype`, y of `result`: that, or F32 for what is not rounded.
template <class Combine>
void combineSources(const SortedSources &sources, plan::DType dtype, plan::DType result, int64_t begin, int64_t end,
                    int64_t width, const std::byte *start, std::byte *y, int64_t first, const std::byte *x,
                    int64_t firstSource, Combine &&combine) {
  Block<float> sum, addend, loaded;
  for (int64_t d = begin; d < end; ++d)
    for (int64_t at = 0; at < width; at += blockElements) {
      int64_t n = std::min(blockElements, width - at), place = (first + d) * width + at;
      float *to = blockTarget(result, y, place, sum);
      if (start)
        std::copy_n(loadBlock(dtype, start, place, n, loaded), n, to);
      else
        std::fill_n(to, n, 0.0f);
      for (const uint32_t *s = sources.begin(d); s != sources.end(d); ++s)
        combine(to, loadBlock(dtype, x, (firstSource + *s) * width + at, n, addend), n);
      storeBlock(result, y, place, n, sum);
    }
}

} // namespace amc::rt::cpu

#endif
