// rotary and rotary_backward. The signatures are runtime/device/cpu/Rotary.cpp's.
#include "runtime/device/cuda/kernels/Rotary.h"
#include "runtime/device/cuda/Launches.h"

namespace amc::rt::cuda {
namespace {

RotaryTable tableOf(const TensorSpec &table) {
  RotaryTable made;
  made.narrow = table.dtype == plan::BF16;
  std::vector<int64_t> strides = stridesOf(table.shape);
  for (size_t i = 0; i < table.rank(); ++i)
    made.strides[i + 4 - table.rank()] = table.shape[i] == 1 ? 0 : strides[i];
  return made;
}

template <bool backward> Expected<std::unique_ptr<Kernel>> create(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(function, maker.context.function(ptx::Rotary, text("rotary_", suffixOf(spec.inputs[0].dtype))));
  const std::vector<int64_t> &shape = spec.inputs[0].shape;
  Rotary rotary;
  rotary.pairs = spec.inputs[0].elements / 2;
  rotary.heads = shape[1];
  rotary.length = shape[2];
  rotary.half = shape[3] / 2;
  rotary.interleaved = spec.flag("interleaved");
  rotary.backward = backward;
  rotary.cos = tableOf(spec.inputs[1]);
  rotary.sin = tableOf(spec.inputs[2]);
  return makeKernel([=](const Operands &o, Stream &stream) {
    Rotary r = rotary;
    r.cos.data = o.inputs[1];
    r.sin.data = o.inputs[2];
    return stream.launch(function, gridOf(r.pairs), blockThreads, 0, o.inputs[0], o.outputs[0], r);
  });
}

} // namespace

void registerRotary(KernelRegistry &registry) {
  registry.add("rotary", {create<false>});
  registry.add("rotary_backward", {create<true>});
}

} // namespace amc::rt::cuda
