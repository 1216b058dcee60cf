// rms_norm, layer_norm and their gradients. The signatures are runtime/device/cpu/Norms.cpp's, and so are the workspaces: a row
// of partial sums of dweight (and dbias) for each block of rows.
#include "runtime/device/cuda/Ptx.h"
#include "runtime/device/cuda/Registry.h"
#include "runtime/plan/Workspace.h"

namespace amc::rt::cuda {
namespace {

constexpr unsigned threads = 256;

struct NormShape {
  int64_t rows, columns;
  plan::DType dtype;
  explicit NormShape(const TensorSpec &x) : rows(cpu::rowsOf(x.shape).rows), columns(cpu::rowsOf(x.shape).columns), dtype(x.dtype) {}
  uint64_t wideBytes() const { return workspace::detail::wide(dtypeBytes(dtype)); }
};

template <size_t x> Status checkShape(const InstructionSpec &spec) {
  NormShape s(spec.inputs[x]);
  AMC_EXPECT(s.rows <= INT32_MAX && s.columns <= INT32_MAX, "inputs: ", s.rows, " rows of ", s.columns, " elements should be at most ",
             INT32_MAX, " each on a CUDA device");
  return Status();
}

Expected<std::unique_ptr<Kernel>> createRms(const InstructionSpec &spec, Maker &maker) {
  NormShape s(spec.inputs[0]);
  double epsilon = spec.real("epsilon");
  AMC_CUDA_TRY(function, maker.context.function(ptx::Norms, text("rms_norm_", suffixOf(s.dtype))));
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, {static_cast<uint64_t>(s.rows)}, threads, 0, o.inputs[0], o.inputs[1], o.outputs[0], o.outputs[1],
                         static_cast<int>(s.columns), epsilon);
  });
}

Expected<std::unique_ptr<Kernel>> createLayer(const InstructionSpec &spec, Maker &maker) {
  NormShape s(spec.inputs[0]);
  double epsilon = spec.real("epsilon");
  AMC_CUDA_TRY(function, maker.context.function(ptx::Norms, text("layer_norm_", suffixOf(s.dtype))));
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, {static_cast<uint64_t>(s.rows)}, threads, 0, o.inputs[0], o.inputs[1], o.inputs[2], o.outputs[0],
                         o.outputs[1], o.outputs[2], static_cast<int>(s.columns), epsilon);
  });
}

// What backward of either is cut into: blocks of rows where sums over rows are asked for, single rows where not.
struct Backward {
  NormShape shape;
  bool weighted;
  int64_t each, blocks, pitch;
  plan::DType result; // of the sums
  CUfunction rows = nullptr, sums = nullptr;

  Backward(const InstructionSpec &spec, size_t weight)
      : shape(spec.inputs[1]), weighted(spec.inputs[weight].present()),
        each(weighted ? static_cast<int64_t>(workspace::normRowBlock) : 1), blocks(ceilDiv(shape.rows, each)),
        pitch(static_cast<int64_t>(workspace::detail::pad(static_cast<uint64_t>(shape.columns) * shape.wideBytes()) / shape.wideBytes())),
        result(weighted ? spec.outputs[1].dtype : shape.dtype) {}

  Status prepare(const char *name, Maker &maker) {
    AMC_CUDA_TRY(rowFunction, maker.context.function(ptx::Norms, text(name, "_backward_", suffixOf(shape.dtype))));
    AMC_CUDA_TRY(sumFunction, maker.context.function(ptx::Norms, text("norm_sums_", suffixOf(result))));
    rows = rowFunction;
    sums = sumFunction;
    return Status();
  }
  // Null without sums.
  std::byte *parts(const Operands &o) const { return weighted && blocks && shape.columns ? o.workspaces[0] : nullptr; }
  Status addBlocks(const std::byte *parts, std::byte *result, Stream &stream) const {
    return stream.launch(sums, {static_cast<uint64_t>(ceilDiv(shape.columns, threads))}, threads, 0, parts,
                         static_cast<long long>(blocks), static_cast<long long>(pitch), static_cast<int>(shape.columns), result);
  }
};

uint64_t rmsWorkspace(const InstructionSpec &spec) {
  NormShape s(spec.inputs[1]);
  return workspace::rmsNormBackward(static_cast<uint64_t>(s.rows), static_cast<uint64_t>(s.columns), spec.inputs[3].present(), s.wideBytes());
}

Expected<std::unique_ptr<Kernel>> createRmsBackward(const InstructionSpec &spec, Maker &maker) {
  Backward b(spec, 3);
  AMC_TRY(b.prepare("rms_norm", maker));
  return makeKernel([=](const Operands &o, Stream &stream) -> Status {
    std::byte *parts = b.parts(o);
    AMC_TRY(stream.launch(b.rows, {static_cast<uint64_t>(b.blocks)}, threads, 0, o.inputs[0], o.inputs[1], o.inputs[2], o.inputs[3],
                          o.outputs[0], parts, static_cast<long long>(b.shape.rows), static_cast<int>(b.each),
                          static_cast<int>(b.shape.columns), static_cast<long long>(b.pitch)));
    return b.weighted ? b.addBlocks(parts, o.outputs[1], stream) : Status();
  });
}

uint64_t layerWorkspace(const InstructionSpec &spec) {
  NormShape s(spec.inputs[1]);
  return workspace::layerNormBackward(static_cast<uint64_t>(s.rows), static_cast<uint64_t>(s.columns), spec.inputs[4].present(), s.wideBytes());
}

Expected<std::unique_ptr<Kernel>> createLayerBackward(const InstructionSpec &spec, Maker &maker) {
  Backward b(spec, 4);
  AMC_TRY(b.prepare("layer_norm", maker));
  return makeKernel([=](const Operands &o, Stream &stream) -> Status {
    std::byte *parts = b.parts(o);
    AMC_TRY(stream.launch(b.rows, {static_cast<uint64_t>(b.blocks)}, threads, 0, o.inputs[0], o.inputs[1], o.inputs[2], o.inputs[3],
                          o.inputs[4], o.outputs[0], parts, static_cast<long long>(b.shape.rows), static_cast<int>(b.each),
                          static_cast<int>(b.shape.columns), static_cast<long long>(b.pitch)));
    if (!b.weighted)
      return Status();
    AMC_TRY(b.addBlocks(parts, o.outputs[1], stream));
    uint64_t weightBytes = static_cast<uint64_t>(b.blocks * b.pitch) * b.shape.wideBytes();
    return b.addBlocks(parts ? parts + weightBytes : nullptr, o.outputs[2], stream);
  });
}

} // namespace

void registerNorms(KernelRegistry &registry) {
  registry.add("rms_norm", {createRms, nullptr, checkShape<0>});
  registry.add("rms_norm_backward", {createRmsBackward, rmsWorkspace, checkShape<1>});
  registry.add("layer_norm", {createLayer, nullptr, checkShape<0>});
  registry.add("layer_norm_backward", {createLayerBackward, layerWorkspace, checkShape<1>});
}

} // namespace amc::rt::cuda
