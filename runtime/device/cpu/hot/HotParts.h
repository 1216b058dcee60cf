// The functions of the table in Hot.h, for the files in hot/ that define them.
#ifndef AMC_RUNTIME_DEVICE_CPU_HOT_HOTPARTS_H
#define AMC_RUNTIME_DEVICE_CPU_HOT_HOTPARTS_H

#include "runtime/device/cpu/Hot.h"
#include "runtime/device/cpu/hot/Vec.h"

namespace amc::rt::cpu::AMC_ISA {

void unary(HotUnary, const float *, float *, int64_t);
void binary(HotBinary, const float *, int, const float *, int, float *, int64_t);
void gated(HotActivation, const float *, const float *, float *, int64_t);
void gatedBackward(HotActivation, const float *, const float *, const float *, float *, float *, int64_t);
void activationBackward(HotActivation, const float *, const float *, float *, int64_t);
void addTo(float *, const float *, int64_t);
void addRowsTo(float *, const float *, int64_t, int64_t, int64_t);
void scale(float *, float, int64_t);
void bf16ToF32(const uint16_t *, float *, int64_t);
void f32ToBf16(const float *, uint16_t *, int64_t);
void f16ToF32(const uint16_t *, float *, int64_t);
void f32ToF16(const float *, uint16_t *, int64_t);
void adamw(float *, const float *, float *, float *, int64_t, const AdamWScalars &);
void sgd(float *, const float *, float *, int64_t, const SgdScalars &);

float sum(const float *, int64_t);
float max(const float *, int64_t);
float dot(const float *, const float *, int64_t);
double sumOfSquares(const float *, int64_t);
void softmax(const float *, float *, int64_t);
float logSumExp(const float *, int64_t, const float *);
void crossEntropyBackward(const float *, float, float, float *, int64_t);
void rotary(const float *, const float *, const float *, float *, int64_t);
void rotaryBackward(const float *, const float *, const float *, float *, int64_t);
void attentionBlock(const ScoreBlock &, float *, float *, float *, bool);
void attentionBackwardBlock(const ScoreBlock &, float *, const float *, const float *, float, bool);
void dropoutMask(const DropoutDraw &, uint64_t, int64_t, uint32_t *);
void keepScaled(const float *, const uint32_t *, float, float *, int64_t);
void transpose32(const uint32_t *, int64_t, uint32_t *, int64_t, int64_t, int64_t);

} // namespace amc::rt::cpu::AMC_ISA

#endif
