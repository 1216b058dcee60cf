// Dropout by counter: y = x / (1 - p) where the mask keeps an element, else 0.
//
// The mask is drawn again wherever it is needed (runtime/plan/Philox.h) and never stored. fp32 arithmetic for bf16 and
// f16, rounded once. A result may replace its operand. Reference: DropoutOp::evaluate.
#include "runtime/device/cpu/DropoutRow.h"
#include <algorithm>

namespace amc::rt::cpu {
namespace {

Status checkDropout(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec,
                         {{"x", AcceptFloat}, {"seed", AcceptI64}, {"step", AcceptI64}, {"micro_batch", AcceptI64}},
                         {{"y", AcceptFloat}}, {{"probability", Real}, {"stream", Int}}));
  AMC_TRY(expectDType("y", spec.outputs[0], spec.inputs[0].dtype));
  AMC_TRY(expectShape("y", spec.outputs[0], spec.inputs[0].shape));
  return expectDropout(spec, 1, "probability");
}

bool aliasFirst(const InstructionSpec &spec, size_t output, size_t input) {
  return input == 0 && aliasElementwise(spec, output, input);
}

std::unique_ptr<Kernel> createDropout(const InstructionSpec &spec) {
  plan::DType dtype = spec.inputs[0].dtype;
  int64_t n = spec.inputs[0].elements, stream = spec.integer("stream");
  double probability = spec.real("probability");
  return makeKernel([=](const Operands &o, RunContext &c) {
    const DropoutRows mask(
        DropoutMask(probability, stream, *o.in<int64_t>(1), *o.in<int64_t>(2), *o.in<int64_t>(3)));
    parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
      withCompute(dtype, [&](auto type) {
        using T = decltype(type);
        if constexpr (std::is_floating_point_v<T>) {
          const T scale = static_cast<T>(mask.scale());
          uint32_t keep[blockElements];
          std::fill_n(keep, blockElements, ~uint32_t(0));
          for (int64_t at = begin; at < end; at += blockElements) {
            const int64_t count = std::min(blockElements, end - at);
            Block<T> in, out;
            const T *x = loadBlock(dtype, o.inputs[0], at, count, in);
            T *y = blockTarget(dtype, o.outputs[0], at, out);
            if (!mask.keepsAll())
              mask.draw(static_cast<uint64_t>(at), count, keep);
            keepRow(x, keep, scale, y, count);
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
