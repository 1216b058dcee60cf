// Dropout. The signature is runtime/device/cpu/Dropout.cpp's, the mask runtime/plan/Philox.h's.
#include "runtime/device/cuda/Launches.h"
#include <cmath>

namespace amc::rt::cuda {
namespace {

Expected<std::unique_ptr<Kernel>> createDropout(const InstructionSpec &spec, Maker &maker) {
  plan::DType dtype = spec.inputs[0].dtype;
  AMC_CUDA_TRY(function, maker.context.function(ptx::Dropout, text("dropout_", computeSuffix(dtype))));
  double probability = spec.real("probability"), factor = 1 / (1 - probability);
  auto threshold = static_cast<uint64_t>(std::llround(probability * 0x1p32));
  auto number = static_cast<uint32_t>(spec.integer("stream"));
  int stored = static_cast<int>(storedOf(dtype));
  return makeKernel([=, n = spec.inputs[0].elements](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(ceilDiv(n, 4)), blockThreads, 0, o.inputs[0], o.outputs[0], n, stored,
                         threshold, factor, number, o.inputs[1], o.inputs[2], o.inputs[3]);
  });
}

} // namespace

void registerDropout(KernelRegistry &registry) { registry.add("dropout", {createDropout}); }

} // namespace amc::rt::cuda
