// Dropout's mask on consecutive elements: what the dropout kernel and attention share.
#ifndef AMC_RUNTIME_DEVICE_CPU_DROPOUTROW_H
#define AMC_RUNTIME_DEVICE_CPU_DROPOUTROW_H

#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/Philox.h"

namespace amc::rt::cpu {

class DropoutRows {
public:
  explicit DropoutRows(const DropoutMask &mask)
      : factor(mask.scale()), all(mask.keepsAll()),
        words{{mask.keyWords()[0], mask.keyWords()[1]}, mask.streamWord(), mask.stepWord(), mask.lastDropped()} {}

  bool keepsAll() const { return all; }
  double scale() const { return factor; }
  // keep[i]: all ones if element first + i is kept, else 0. Only where not everything is kept.
  void draw(uint64_t first, int64_t n, uint32_t *keep) const { hot().dropoutMask(words, first, n, keep); }

private:
  double factor;
  bool all;
  DropoutDraw words;
};

// y = x * factor where it is kept, else 0; y may be x.
inline void keepRow(const float *x, const uint32_t *keep, float factor, float *y, int64_t n) {
  hot().keepScaled(x, keep, factor, y, n);
}
inline void keepRow(const double *x, const uint32_t *keep, double factor, double *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = keep[i] ? x[i] * factor : 0;
}

// Inputs `counters` … + 2 are seed, step and micro-batch; the attribute called `probability`, and the stream.
inline Status expectDropout(const InstructionSpec &spec, size_t counters, const char *probability) {
  for (size_t i = 0; i < 3; ++i)
    AMC_TRY(expectShape("a counter", spec.inputs[counters + i], {}));
  double value = spec.real(probability);
  AMC_EXPECT(value >= 0 && value < 1, probability, " is ", value, ", should be at least 0 and below 1");
  int64_t stream = spec.integer("stream");
  AMC_EXPECT(stream >= 0 && stream <= UINT32_MAX, "stream is ", stream, ", should be in [0, 2^32)");
  return Status();
}

} // namespace amc::rt::cpu

#endif
