// shift_labels, cross_entropy, cross_entropy_backward. The signatures are runtime/device/cpu/Loss.cpp's.
#include "runtime/device/cuda/kernels/Loss.h"
#include "runtime/device/cuda/Launches.h"
#include "runtime/plan/CudaWorkspace.h"

namespace amc::rt::cuda {
namespace {

Expected<std::unique_ptr<Kernel>> createShift(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(function, maker.context.function(ptx::Loss, "shift_labels"));
  int64_t n = spec.inputs[0].elements, columns = spec.inputs[0].shape.back(), ignored = spec.integer("ignore_index");
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(n), blockThreads, 0, o.inputs[0], o.outputs[0], n, columns, ignored);
  });
}

// What the attributes say of rows of these logits. Plans may leave out label_smoothing and z_loss: then they are 0.
Expected<LossRows> lossRows(const InstructionSpec &spec, const TensorSpec &logits, Maker &maker) {
  cpu::Rows rows = cpu::rowsOf(logits.shape);
  auto real = [&](const char *name) { return spec.find(name) ? spec.real(name) : 0.0; };
  LossRows loss;
  loss.rows = rows.rows;
  loss.classes = rows.columns;
  loss.ignored = spec.integer("ignore_index");
  loss.onLabel = 1 - real("label_smoothing");
  loss.onAll = real("label_smoothing") / static_cast<double>(std::max<int64_t>(rows.columns, 1));
  loss.zLoss = real("z_loss");
  AMC_CUDA_TRY(failure, maker.failure(spec, "label", 0, rows.columns));
  loss.failure = reinterpret_cast<unsigned long long *>(failure);
  return loss;
}

uint64_t lossWorkspace(const InstructionSpec &spec) {
  return workspace::cuda::crossEntropy(static_cast<uint64_t>(spec.outputs[1].elements),
                                       dtypeBytes(spec.outputs[0].dtype));
}

Expected<std::unique_ptr<Kernel>> createLoss(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(rows, lossRows(spec, spec.inputs[0], maker));
  AMC_CUDA_TRY(function, maker.context.function(ptx::Loss, text("cross_entropy_", suffixOf(spec.inputs[0].dtype))));
  AMC_CUDA_TRY(sum, maker.context.function(ptx::Loss, text("sum_losses_", suffixOf(spec.outputs[0].dtype))));
  return makeKernel([=, bytes = spec.outputs[0].bytes](const Operands &o, Stream &stream) {
    if (rows.rows == 0)
      return stream.zero(o.outputs[0], bytes);
    LossRows loss = rows;
    loss.labels = o.in<long long>(1);
    loss.weights = o.inputs[2];
    AMC_TRY(stream.launch(function, {static_cast<uint64_t>(loss.rows)}, rowThreads(loss.classes, 1024), 0, o.inputs[0],
                          o.workspaces[0], o.outputs[1], loss));
    return stream.launch(sum, {}, 1024, 0, o.workspaces[0], o.outputs[0], loss.rows);
  });
}

Expected<std::unique_ptr<Kernel>> createBackward(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(rows, lossRows(spec, spec.inputs[1], maker));
  AMC_CUDA_TRY(function,
               maker.context.function(ptx::Loss, text("cross_entropy_backward_", suffixOf(spec.inputs[1].dtype))));
  return makeKernel([=](const Operands &o, Stream &stream) {
    LossRows loss = rows;
    loss.labels = o.in<long long>(2);
    loss.weights = o.inputs[4];
    return stream.launch(function, {static_cast<uint64_t>(loss.rows)}, rowThreads(loss.classes, 1024), 0, o.inputs[0],
                         o.inputs[1], o.inputs[3], o.outputs[0], loss);
  });
}

} // namespace

void registerLoss(KernelRegistry &registry) {
  registry.add("shift_labels", {createShift});
  registry.add("cross_entropy", {createLoss, lossWorkspace});
  registry.add("cross_entropy_backward", {createBackward});
}

} // namespace amc::rt::cuda
