// softmax, log_softmax and their gradients. The signatures are runtime/device/cpu/Softmax.cpp's.
#include "runtime/device/cuda/Launches.h"

namespace amc::rt::cuda {
namespace {

Expected<std::unique_ptr<Kernel>> create(const InstructionSpec &spec, Maker &maker) {
  cpu::Split split = cpu::splitAt(spec.inputs[0].shape, static_cast<size_t>(spec.integer("axis")));
  bool rows = split.inner == 1;
  AMC_CUDA_TRY(function, maker.context.function(ptx::Softmax, text(spec.kernel, rows ? "_row_" : "_line_",
                                                                   suffixOf(spec.inputs[0].dtype))));
  int64_t lines = split.axis ? split.outer * split.inner : 0;
  return makeKernel([=, second = spec.inputs.size() - 1](const Operands &o, Stream &stream) {
    if (rows)
      return stream.launch(function, {static_cast<uint64_t>(lines)}, rowThreads(split.axis, 512), 0, o.inputs[0],
                           o.inputs[second], o.outputs[0], split.axis);
    return stream.launch(function, gridOf(lines), blockThreads, 0, o.inputs[0], o.inputs[second], o.outputs[0], lines,
                         split.axis, split.inner);
  });
}

} // namespace

void registerSoftmax(KernelRegistry &registry) {
  for (const char *name : {"softmax", "log_softmax", "softmax_backward", "log_softmax_backward"})
    registry.add(name, {create});
}

} // namespace amc::rt::cuda
