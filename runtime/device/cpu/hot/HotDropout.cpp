// The mask of dropout (runtime/plan/Philox.h), 8 or 16 words of Philox4x32-10 at a time. See Hot.h.
//
// A lane of 64 bits holds a word of the counter in its lower half; the upper half is whatever is left there, since the
// multiplication of lower halves never reads it. Each group of lanes gives 4 elements a lane.
#include "runtime/device/cpu/hot/HotParts.h"

namespace amc::rt::cpu::AMC_ISA {

typedef uint64_t VL __attribute__((vector_size(W * 4)));
static constexpr int64_t lanes = W / 2, groupElements = 4 * lanes;

#ifdef __AVX512F__
static constexpr VL laneNumbers = {0, 1, 2, 3, 4, 5, 6, 7};
static inline VL multiplyLow(VL a, VL b) { return (VL)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
static inline VL pairsLow(VL a, VL b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
static inline VL pairsHigh(VL a, VL b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
static constexpr VL laneNumbers = {0, 1, 2, 3};
static inline VL multiplyLow(VL a, VL b) { return (VL)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
static inline VL pairsLow(VL a, VL b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
static inline VL pairsHigh(VL a, VL b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// keep[0 … 2 W) for the 4 * lanes elements from 4 * block on.
static inline void drawGroup(const DropoutDraw &draw, uint64_t block, uint32_t *keep) {
  const VL a = VL{} + 0xD2511F53u, b = VL{} + 0xCD9E8D57u;
  VL c0 = laneNumbers + block, c1 = c0 >> 32, c2 = VL{} + draw.stream, c3 = VL{} + draw.step;
  uint32_t key0 = draw.key[0], key1 = draw.key[1];
  for (int round = 0; round < 10; ++round) {
    VL x = multiplyLow(c0, a), y = multiplyLow(c2, b);
    c0 = (y >> 32) ^ c1 ^ (VL{} + key0);
    c1 = y;
    c2 = (x >> 32) ^ c3 ^ (VL{} + key1);
    c3 = x;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  // Words in the order of elements: 0 and 1, 2 and 3 of each lane side by side, then the lanes.
  VL front = (c0 & 0xffffffffu) | c1 << 32, back = (c2 & 0xffffffffu) | c3 << 32;
  VU first = (VU)pairsLow(front, back), second = (VU)pairsHigh(front, back);
  VU keepFirst = (VU)(first > VU{} + draw.lastDropped), keepSecond = (VU)(second > VU{} + draw.lastDropped);
  __builtin_memcpy(keep, &keepFirst, sizeof keepFirst);
  __builtin_memcpy(keep + W, &keepSecond, sizeof keepSecond);
}

void dropoutMask(const DropoutDraw &draw, uint64_t first, int64_t n, uint32_t *keep) {
  uint64_t block = first / 4;
  for (int64_t at = -(int64_t)(first % 4); at < n; at += groupElements, block += (uint64_t)lanes) {
    if (at >= 0 && at + groupElements <= n) {
      drawGroup(draw, block, keep + at);
      continue;
    }
    uint32_t part[groupElements];
    drawGroup(draw, block, part);
    int64_t from = at < 0 ? -at : 0, to = n - at < groupElements ? n - at : groupElements;
    __builtin_memcpy(keep + at + from, part + from, (unsigned long)(to - from) * sizeof *part);
  }
}

void keepScaled(const float *x, const uint32_t *keep, float factor, float *y, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    VU kept;
    __builtin_memcpy(&kept, keep + i, sizeof kept);
    store(y + i, (V)((VU)(load(x + i) * factor) & kept));
  }
  for (; i < n; ++i)
    y[i] = keep[i] ? x[i] * factor : 0.0f;
}

} // namespace amc::rt::cpu::AMC_ISA
