// expert_slots, place_rows, take_rows. The signatures are runtime/device/cpu/Dispatch.cpp's.
#include "runtime/device/cuda/Launches.h"

namespace amc::rt::cuda {
namespace {

Expected<std::unique_ptr<Kernel>> createExpertSlots(const InstructionSpec &spec, Maker &maker) {
  int64_t rows = spec.inputs[0].shape[0], experts = spec.integer("experts"), members = spec.integer("members"),
          capacity = spec.integer("capacity"), each = experts / members, none = members * capacity;
  int wide = spec.inputs[0].dtype == plan::I64;
  AMC_CUDA_TRY(slots, maker.context.function(ptx::Dispatch, "expert_slots"));
  AMC_CUDA_TRY(count, maker.context.function(ptx::Dispatch, "count_dropped"));
  AMC_CUDA_TRY(failure, maker.failure(spec, "expert", 0, experts));
  return makeKernel([=](const Operands &o, Stream &stream) {
    AMC_TRY(stream.launch(slots, {static_cast<uint64_t>(members)}, 1024, 0, o.inputs[0], wide, o.outputs[0],
                          o.outputs[1], rows, experts, each, capacity, failure));
    return stream.launch(count, {}, 1024, 0, o.inputs[0], wide, o.outputs[0], o.outputs[2], rows, experts, none);
  });
}

// Rows of the tensor that has slots.
template <bool place> Expected<std::unique_ptr<Kernel>> createRows(const InstructionSpec &spec, Maker &maker) {
  const TensorSpec &slotted = place ? spec.outputs[0] : spec.inputs[0];
  cpu::Split split = cpu::splitAt(slotted.shape, 0);
  uint64_t width = dtypeBytes(slotted.dtype);
  AMC_CUDA_TRY(mover,
               RowMover::create(maker, ptx::Dispatch, spec.kernel, width, static_cast<uint64_t>(split.inner) * width));
  AMC_CUDA_TRY(failure, maker.failure(spec, "slot", 0, split.axis + 1));
  int64_t rows = spec.inputs[1].shape[0];
  int wide = spec.inputs[1].dtype == plan::I64;
  return makeKernel([=, bytes = spec.outputs[0].bytes](const Operands &o, Stream &stream) {
    if (place)
      AMC_TRY(stream.zero(o.outputs[0], bytes));
    const RowMover::Way &way = mover.at(o.inputs[0], o.outputs[0]);
    int64_t n = rows * way.inner;
    return stream.launch(way.function, gridOf(n), blockThreads, 0, o.inputs[0], o.outputs[0], o.inputs[1], wide, n,
                         way.inner, split.axis, failure);
  });
}

} // namespace

void registerDispatch(KernelRegistry &registry) {
  registry.add("expert_slots", {createExpertSlots});
  registry.add("place_rows", {createRows<true>});
  registry.add("take_rows", {createRows<false>});
}

} // namespace amc::rt::cuda
