// Dropout by counter: y = x / (1 - p) where the mask keeps an element, else 0.
//
// The mask is drawn again wherever it is needed (runtime/plan/Philox.h) and never stored. fp32 arithmetic for bf16 and
// f16, rounded once. A result may replace its operand. Reference: DropoutOp::evaluate.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/Philox.h"
#include <algorithm>

namespace amc::rt::cpu {
namespace {

Status checkDropout(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec,
                         {{"x", AcceptFloat}, {"seed", AcceptI64}, {"step", AcceptI64}, {"micro_batch", AcceptI64}},
                         {{"y", AcceptFloat}}, {{"probability", Real}, {"stream", Int}}));
  for (size_t i = 1; i < 4; ++i)
    AMC_TRY(expectShape("a counter", spec.inputs[i], {}));
  AMC_TRY(expectDType("y", spec.outputs[0], spec.inputs[0].dtype));
  AMC_TRY(expectShape("y", spec.outputs[0], spec.inputs[0].shape));
  double probability = spec.real("probability");
  AMC_EXPECT(probability >= 0 && probability < 1, "probability is ", probability, ", should be at least 0 and below 1");
  int64_t stream = spec.integer("stream");
  AMC_EXPECT(stream >= 0 && stream <= UINT32_MAX, "stream is ", stream, ", should be in [0, 2^32)");
  return Status();
}

bool aliasFirst(const InstructionSpec &spec, size_t output, size_t input) {
  return input == 0 && aliasElementwise(spec, output, input);
}

std::unique_ptr<Kernel> createDropout(const InstructionSpec &spec) {
  plan::DType dtype = spec.inputs[0].dtype;
  int64_t n = spec.inputs[0].elements, stream = spec.integer("stream");
  double probability = spec.real("probability");
  return makeKernel([=](const Operands &o, RunContext &c) {
    const DropoutMask mask(probability, stream, *o.in<int64_t>(1), *o.in<int64_t>(2), *o.in<int64_t>(3));
    parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
      withCompute(dtype, [&](auto type) {
        using T = decltype(type);
        if constexpr (std::is_floating_point_v<T>) {
          const T scale = static_cast<T>(mask.scale());
          for (int64_t at = begin; at < end; at += blockElements) { // a multiple of 4, as begin is
            const int64_t count = std::min(blockElements, end - at);
            Block<T> in, out;
            const T *x = loadBlock(dtype, o.inputs[0], at, count, in);
            T *y = blockTarget(dtype, o.outputs[0], at, out);
            for (int64_t i = 0; i < count; i += 4) {
              const auto keeps = mask.keeps(static_cast<uint64_t>(at + i) / 4);
              for (int64_t k = 0; k < 4 && i + k < count; ++k)
                y[i + k] = keeps[static_cast<size_t>(k)] ? x[i + k] * scale : T(0);
            }
            storeBlock(dtype, o.outputs[0], at, count, out);
          }
        }
      });
    });
  });
}

} // namespace

void registerDropout(KernelRegistry &registry) {
  registry.add("dropout", {checkDropout, createDropout, aliasFirst});
}

} // namespace amc::rt::cpu
