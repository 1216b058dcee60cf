// Kernels that move elements: transpose. The signatures are runtime/device/cpu/Movement.cpp's.
#include "runtime/device/cuda/Ptx.h"
#include "runtime/device/cuda/Registry.h"
#include "runtime/device/cuda/kernels/Strided.h"

namespace amc::rt::cuda {
namespace {

constexpr unsigned threads = 256;

// What walks over a tensor of `shape`, row by row, with the strides of another; neighbours that stay together are joined.
Strided stridedOf(const std::vector<int64_t> &shape, const std::vector<int64_t> &strides, int64_t base = 0) {
  Strided walk;
  walk.base = base;
  for (size_t i = 0; i < shape.size(); ++i) {
    walk.elements *= shape[i];
    if (shape[i] == 1)
      continue;
    if (walk.rank > 0 && walk.strides[walk.rank - 1] == strides[i] * shape[i]) {
      walk.dims[walk.rank - 1] *= shape[i];
      walk.strides[walk.rank - 1] = strides[i];
      continue;
    }
    walk.dims[walk.rank] = shape[i];
    walk.strides[walk.rank++] = strides[i];
  }
  return walk;
}

std::vector<int64_t> stridesOf(const std::vector<int64_t> &shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i];
  return strides;
}

// y takes x at `from`.
Expected<std::unique_ptr<Kernel>> stridedCopy(const InstructionSpec &spec, const Strided &from, Maker &maker) {
  AMC_CUDA_TRY(function, maker.context.function(ptx::Movement, text("strided_copy_", dtypeBytes(spec.outputs[0].dtype))));
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, {static_cast<uint64_t>(ceilDiv(from.elements, threads))}, threads, 0, o.inputs[0],
                         o.outputs[0], from);
  });
}

Expected<std::unique_ptr<Kernel>> createTranspose(const InstructionSpec &spec, Maker &maker) {
  std::vector<int64_t> permutation = spec.ints("permutation"), in = stridesOf(spec.inputs[0].shape), strides;
  for (int64_t p : permutation)
    strides.push_back(in[static_cast<size_t>(p)]);
  return stridedCopy(spec, stridedOf(spec.outputs[0].shape, strides), maker);
}

} // namespace

void registerMovement(KernelRegistry &registry) {
  registry.add("transpose", {createTranspose});
}

} // namespace amc::rt::cuda
