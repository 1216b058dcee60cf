// squared_norm, sum_scalars, clip_scale, accumulate, adamw, sgd. The signatures are runtime/device/cpu/Optimizer.cpp's.
#include "runtime/device/cuda/kernels/Optimizer.h"
#include "runtime/device/cuda/Launches.h"
#include "runtime/plan/CudaWorkspace.h"

namespace amc::rt::cuda {
namespace {

// Blocks that fill a GPU, where each goes over the elements in strides.
Grid filling(int64_t n) { return {static_cast<uint64_t>(std::min<int64_t>(ceilDiv(n, blockThreads), 4096))}; }

// ---- squared_norm

uint64_t normWorkspace(const InstructionSpec &spec) {
  return workspace::cuda::squaredNorm(static_cast<uint64_t>(spec.inputs[0].elements));
}

Expected<std::unique_ptr<Kernel>> createSquaredNorm(const InstructionSpec &spec, Maker &maker) {
  int64_t n = spec.inputs[0].elements;
  auto blocks = static_cast<int64_t>(workspace::cuda::squaredNormBlocks(static_cast<uint64_t>(n)));
  int64_t each = ceilDiv(n, blocks);
  AMC_CUDA_TRY(squares, maker.context.function(ptx::Optimizer, text("squared_norm_", suffixOf(spec.inputs[0].dtype))));
  AMC_CUDA_TRY(sum, maker.context.function(ptx::Optimizer, "sum_doubles"));
  return makeKernel([=](const Operands &o, Stream &stream) {
    std::byte *sums = blocks > 1 ? o.workspaces[0] : o.outputs[0];
    AMC_TRY(stream.launch(squares, {static_cast<uint64_t>(blocks)}, blockThreads, 0, o.inputs[0], sums, n, each));
    return blocks > 1 ? stream.launch(sum, {}, blockThreads, 0, sums, o.outputs[0], blocks) : Status();
  });
}

// ---- sum_scalars, clip_scale

// All scalars but those that the last launch takes are added up in `carry`, which then is not null.
template <class Last>
Status addScalars(CUfunction add, Stream &stream, const Operands &o, size_t count, std::byte *carry, Last last) {
  const std::byte *carried = nullptr;
  for (size_t first = 0;; first += Scalars::most) {
    Scalars part;
    part.count = static_cast<int>(std::min<size_t>(Scalars::most, count - first));
    for (int i = 0; i < part.count; ++i)
      part.at[i] = o.in<double>(first + static_cast<size_t>(i));
    if (first + Scalars::most >= count)
      return last(part, carried);
    AMC_TRY(stream.launch(add, {}, blockThreads, 0, part, carried, carry));
    carried = carry;
  }
}

Expected<std::unique_ptr<Kernel>> createSum(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(add, maker.context.function(ptx::Optimizer, "sum_scalars"));
  return makeKernel([add, count = spec.inputs.size()](const Operands &o, Stream &stream) {
    return addScalars(add, stream, o, count, o.outputs[0], [&](const Scalars &rest, const std::byte *carried) {
      return stream.launch(add, {}, blockThreads, 0, rest, carried, o.outputs[0]);
    });
  });
}

uint64_t clipWorkspace(const InstructionSpec &spec) { return workspace::cuda::clipScale(spec.inputs.size()); }
static_assert(workspace::cuda::clipScale(Scalars::most) == 0 && workspace::cuda::clipScale(Scalars::most + 1) > 0);

Expected<std::unique_ptr<Kernel>> createClip(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(add, maker.context.function(ptx::Optimizer, "sum_scalars"));
  AMC_CUDA_TRY(clip, maker.context.function(ptx::Optimizer, "clip_scale"));
  double limit = spec.real("max_norm");
  bool carries = clipWorkspace(spec) > 0;
  return makeKernel([=, count = spec.inputs.size()](const Operands &o, Stream &stream) {
    return addScalars(
        add, stream, o, count, carries ? o.workspaces[0] : nullptr, [&](const Scalars &rest, const std::byte *carried) {
          return stream.launch(clip, {}, blockThreads, 0, rest, carried, o.outputs[0], o.outputs[1], limit);
        });
  });
}

// ---- updates

bool present(const InstructionSpec &spec, size_t input) {
  return spec.inputs.size() > input && spec.inputs[input].present();
}

// Where an operand of an update is, once its addresses are known.
struct Place {
  size_t input = 0;
  bool present = false, narrow = false;
  Updated in(const Operands &o) const { return {present ? o.inputs[input] : nullptr, narrow}; }
};
Place placeOf(const InstructionSpec &spec, size_t input) {
  bool there = present(spec, input);
  return {input, there, there && spec.inputs[input].dtype == plan::BF16};
}

Expected<CUfunction> updateFunction(const InstructionSpec &spec, Maker &maker) {
  return maker.context.function(ptx::Optimizer, spec.kernel + (spec.inputs[0].dtype == plan::F64 ? "_f64" : "_f32"));
}

Expected<std::unique_ptr<Kernel>> createAccumulate(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(function, updateFunction(spec, maker));
  int64_t n = spec.inputs[0].elements;
  Place sum = placeOf(spec, 0), added = placeOf(spec, 1);
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, filling(n), blockThreads, 0, sum.in(o), added.in(o), o.inputs[2], n);
  });
}

Expected<std::unique_ptr<Kernel>> createAdamW(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(function, updateFunction(spec, maker));
  Place parameter = placeOf(spec, 0), gradient = placeOf(spec, 1), first = placeOf(spec, 2), second = placeOf(spec, 3),
        master = placeOf(spec, 7);
  AdamW adamw{};
  adamw.beta1 = spec.real("beta1");
  adamw.beta2 = spec.real("beta2");
  adamw.epsilon = spec.real("epsilon");
  adamw.weightDecay = spec.real("weight_decay");
  adamw.n = spec.inputs[0].elements;
  return makeKernel([=](const Operands &o, Stream &stream) {
    AdamW a = adamw;
    a.parameter = parameter.in(o);
    a.gradient = gradient.in(o);
    a.first = first.in(o);
    a.second = second.in(o);
    a.master = master.in(o);
    a.scale = o.in<float>(4);
    a.learningRate = o.in<double>(5);
    a.step = o.in<long long>(6);
    return stream.launch(function, filling(a.n), blockThreads, 0, a);
  });
}

Expected<std::unique_ptr<Kernel>> createSgd(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(function, updateFunction(spec, maker));
  Place parameter = placeOf(spec, 0), gradient = placeOf(spec, 1), buffer = placeOf(spec, 5), master = placeOf(spec, 6);
  Sgd sgd{};
  sgd.momentum = spec.real("momentum");
  sgd.weightDecay = spec.real("weight_decay");
  sgd.nesterov = spec.flag("nesterov");
  sgd.n = spec.inputs[0].elements;
  return makeKernel([=](const Operands &o, Stream &stream) {
    Sgd s = sgd;
    s.parameter = parameter.in(o);
    s.gradient = gradient.in(o);
    s.buffer = buffer.in(o);
    s.master = master.in(o);
    s.scale = o.in<float>(2);
    s.learningRate = o.in<double>(3);
    s.step = o.in<long long>(4);
    return stream.launch(function, filling(s.n), blockThreads, 0, s);
  });
}

} // namespace

void registerOptimizer(KernelRegistry &registry) {
  registry.add("squared_norm", {createSquaredNorm, normWorkspace});
  registry.add("sum_scalars", {createSum});
  registry.add("clip_scale", {createClip, clipWorkspace});
  registry.add("accumulate", {createAccumulate});
  registry.add("adamw", {createAdamW});
  registry.add("sgd", {createSgd});
}

} // namespace amc::rt::cuda
