// gated_activation and its gradients, silu_backward, gelu_backward. The signatures are
// runtime/device/cpu/Activations.cpp's.
#include "runtime/device/cuda/Launches.h"

namespace amc::rt::cuda {
namespace {

Expected<std::unique_ptr<Kernel>> createGated(const InstructionSpec &spec, Maker &maker) {
  plan::DType dtype = spec.inputs[0].dtype;
  AMC_CUDA_TRY(function, maker.context.function(ptx::Activations, text(spec.kernel, "_", spec.string("activation"), "_",
                                                                       computeSuffix(dtype))));
  int stored = static_cast<int>(storedOf(dtype));
  return makeKernel(
      [=, n = spec.inputs[0].elements, backward = spec.outputs.size() == 2](const Operands &o, Stream &stream) {
        if (backward)
          return stream.launch(function, gridOf(n), blockThreads, 0, o.inputs[0], o.inputs[1], o.inputs[2],
                               o.outputs[0], o.outputs[1], n, stored);
        return stream.launch(function, gridOf(n), blockThreads, 0, o.inputs[0], o.inputs[1], o.outputs[0], n, stored);
      });
}

Expected<std::unique_ptr<Kernel>> createBackward(const InstructionSpec &spec, Maker &maker) {
  const char *activation = spec.kernel == "silu_backward"         ? "silu"
                           : spec.string("approximate") == "tanh" ? "gelu_tanh"
                                                                  : "gelu";
  plan::DType dtype = spec.inputs[0].dtype;
  AMC_CUDA_TRY(function,
               maker.context.function(ptx::Activations, text("backward_", activation, "_", computeSuffix(dtype))));
  int stored = static_cast<int>(storedOf(dtype));
  return makeKernel([=, n = spec.inputs[0].elements](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(n), blockThreads, 0, o.inputs[0], o.inputs[1], o.outputs[0], n, stored);
  });
}

} // namespace

void registerActivations(KernelRegistry &registry) {
  registry.add("gated_activation", {createGated});
  registry.add("gated_activation_backward", {createGated});
  registry.add("silu_backward", {createBackward});
  registry.add("gelu_backward", {createBackward});
}

} // namespace amc::rt::cuda
