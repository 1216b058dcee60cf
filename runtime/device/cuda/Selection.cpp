// top_k, arg_max, cumsum. The signatures are runtime/device/cpu/Selection.cpp's.
#include "runtime/device/cuda/Launches.h"

namespace amc::rt::cuda {
namespace {

// The axis, the type, the function of that name for it.
struct Along {
  cpu::Split split;
  int stored;
  CUfunction function;

  static Expected<Along> create(const InstructionSpec &spec, const std::string &name, Maker &maker) {
    const TensorSpec &x = spec.inputs[0];
    AMC_CUDA_TRY(function, maker.context.function(ptx::Selection, text(name, "_", computeSuffix(x.dtype))));
    return Along{cpu::splitAt(x.shape, static_cast<size_t>(spec.integer("axis"))), static_cast<int>(storedOf(x.dtype)),
                 function};
  }
  Grid lines() const { return {static_cast<uint64_t>(split.outer * split.inner)}; }
};

Expected<std::unique_ptr<Kernel>> createTopK(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(a, Along::create(spec, "top_k", maker));
  int64_t k = spec.integer("k");
  int largest = spec.flag("largest");
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(a.function, k ? a.lines() : Grid{0}, rowThreads(a.split.axis), 0, o.inputs[0], o.outputs[0],
                         o.outputs[1], a.split.axis, a.split.inner, k, largest, a.stored);
  });
}

Expected<std::unique_ptr<Kernel>> createArgMax(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(a, Along::create(spec, "arg_max", maker));
  int largest = !spec.flag("min"), last = spec.flag("last");
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(a.function, a.lines(), rowThreads(a.split.axis), 0, o.inputs[0], o.outputs[0], a.split.axis,
                         a.split.inner, largest, last, a.stored);
  });
}

Expected<std::unique_ptr<Kernel>> createCumsum(const InstructionSpec &spec, Maker &maker) {
  bool innermost = cpu::splitAt(spec.inputs[0].shape, static_cast<size_t>(spec.integer("axis"))).inner == 1;
  AMC_CUDA_TRY(a, Along::create(spec, innermost ? "cumsum_row" : "cumsum_line", maker));
  int exclusive = spec.flag("exclusive"), reverse = spec.flag("reverse");
  return makeKernel([=](const Operands &o, Stream &stream) {
    if (innermost)
      return stream.launch(a.function, a.lines(), rowThreads(a.split.axis), 0, o.inputs[0], o.outputs[0], a.split.axis,
                           exclusive, reverse, a.stored);
    int64_t lines = a.split.outer * a.split.inner;
    return stream.launch(a.function, gridOf(lines), blockThreads, 0, o.inputs[0], o.outputs[0], lines, a.split.axis,
                         a.split.inner, exclusive, reverse, a.stored);
  });
}

} // namespace

void registerSelection(KernelRegistry &registry) {
  registry.add("top_k", {createTopK});
  registry.add("arg_max", {createArgMax});
  registry.add("cumsum", {createCumsum});
}

} // namespace amc::rt::cuda
