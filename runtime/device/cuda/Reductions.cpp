// reduce_sum, reduce_mean, reduce_prod, reduce_max, reduce_min. The signatures are runtime/device/cpu/Reductions.cpp's.
#include "runtime/device/cuda/Launches.h"
#include "runtime/device/cuda/kernels/Reduction.h"
#include "runtime/plan/CudaWorkspace.h"

namespace amc::rt::cuda {
namespace {

Reduce kindOf(const std::string &kernel) {
  return kernel == "reduce_sum"    ? Reduce::Sum
         : kernel == "reduce_mean" ? Reduce::Mean
         : kernel == "reduce_prod" ? Reduce::Prod
         : kernel == "reduce_max"  ? Reduce::Max
                                   : Reduce::Min;
}

// Dimensions that are kept and those that are not, with their strides in the operand.
struct Axes {
  std::vector<int64_t> kept, keptStrides, reduced, reducedStrides;
  bool rowsReduced = false; // the innermost dimension is a reduced one
};

Axes axesOf(const InstructionSpec &spec) {
  const std::vector<int64_t> &shape = spec.inputs[0].shape;
  std::vector<int64_t> strides = stridesOf(shape);
  std::vector<bool> isReduced(shape.size());
  for (int64_t axis : spec.ints("axes"))
    isReduced[static_cast<size_t>(axis)] = true;
  Axes axes;
  for (size_t i = 0; i < shape.size(); ++i) {
    (isReduced[i] ? axes.reduced : axes.kept).push_back(shape[i]);
    (isReduced[i] ? axes.reducedStrides : axes.keptStrides).push_back(strides[i]);
    if (shape[i] != 1)
      axes.rowsReduced = isReduced[i];
  }
  return axes;
}

uint64_t terms(const InstructionSpec &spec) {
  uint64_t n = 1;
  for (int64_t axis : spec.ints("axes"))
    n *= static_cast<uint64_t>(spec.inputs[0].shape[static_cast<size_t>(axis)]);
  return n;
}

uint64_t workspaceOf(const InstructionSpec &spec) {
  plan::DType dtype = spec.inputs[0].dtype;
  bool single = isFloat(dtype) && dtype != plan::F64;
  return workspace::cuda::reduction(static_cast<uint64_t>(spec.outputs[0].elements), terms(spec), single ? 4 : 8);
}

Expected<std::unique_ptr<Kernel>> create(const InstructionSpec &spec, Maker &maker) {
  Reduce kind = kindOf(spec.kernel);
  Axes axes = axesOf(spec);
  Reduction r;
  r.kind = static_cast<int>(kind);
  r.from = static_cast<int>(storedOf(spec.inputs[0].dtype));
  r.to = static_cast<int>(storedOf(spec.outputs[0].dtype));
  r.kept = stridedOf(axes.kept, axes.keptStrides);
  r.reduced = stridedOf(axes.reduced, axes.reducedStrides);
  r.pieces =
      static_cast<int64_t>(workspace::cuda::reductionPieces(static_cast<uint64_t>(r.kept.elements), terms(spec)));
  r.each = ceilDiv(r.reduced.elements, r.pieces);
  std::string type = computeSuffix(spec.inputs[0].dtype);
  bool sums = kind == Reduce::Sum || kind == Reduce::Mean;
  AMC_CUDA_TRY(function,
               maker.context.function(ptx::Reductions, text("reduce_", axes.rowsReduced ? "rows_" : "columns_",
                                                            sums ? "sum_" : "other_", type)));
  AMC_CUDA_TRY(combine, maker.context.function(ptx::Reductions, "reduce_pieces_" + type));
  Grid grid{static_cast<uint64_t>(r.pieces * (axes.rowsReduced ? r.kept.elements : ceilDiv(r.kept.elements, 32)))};
  unsigned threads = axes.rowsReduced ? rowThreads(r.each) : 256;
  return makeKernel([=](const Operands &o, Stream &stream) {
    std::byte *pieces = r.pieces > 1 ? o.workspaces[0] : nullptr;
    AMC_TRY(stream.launch(function, grid, threads, 0, o.inputs[0], o.outputs[0], pieces, r));
    if (!pieces)
      return Status();
    Reduction whole = r;
    whole.pieces = 1;
    return stream.launch(combine, gridOf(r.kept.elements), blockThreads, 0, pieces, r.pieces, o.outputs[0], whole);
  });
}

} // namespace

void registerReductions(KernelRegistry &registry) {
  for (const char *name : {"reduce_sum", "reduce_mean", "reduce_prod", "reduce_max", "reduce_min"})
    registry.add(name, {create, workspaceOf});
}

} // namespace amc::rt::cuda
