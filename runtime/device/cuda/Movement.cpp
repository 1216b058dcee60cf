// Kernels that move elements and make them: transpose, slice, concat, broadcast, full, iota, pad, triangle. The
// signatures are runtime/device/cpu/Movement.cpp's and Shaping.cpp's.
#include "runtime/device/cuda/Launches.h"
#include <algorithm>

namespace amc::rt::cuda {
namespace {

uint64_t widthOf(const InstructionSpec &spec) { return dtypeBytes(spec.outputs[0].dtype); }

// y takes x at `from`, row by row.
Expected<std::unique_ptr<Kernel>> stridedCopy(const InstructionSpec &spec, const Strided &from, Maker &maker) {
  AMC_CUDA_TRY(move, Move::create(maker, widthOf(spec), from, contiguous(from.elements)));
  return makeKernel([=](const Operands &o, Stream &stream) { return move.enqueue(stream, o.inputs[0], o.outputs[0]); });
}

// ---- transpose

// The plane: result rows run along the operand's innermost dimension.
Expected<std::unique_ptr<Kernel>> transposePlanes(const InstructionSpec &spec, const Strided &walk, Maker &maker) {
  std::vector<int64_t> dims(walk.dims, walk.dims + walk.rank), out = stridesOf(dims), outer, from, to;
  Planes planes;
  planes.rows = dims.back();
  planes.ldx = walk.strides[walk.rank - 1];
  for (size_t i = 0; i + 1 < dims.size(); ++i) {
    if (walk.strides[i] == 1) {
      planes.columns = dims[i];
      planes.ldy = out[i];
      continue;
    }
    outer.push_back(dims[i]);
    from.push_back(walk.strides[i]);
    to.push_back(out[i]);
  }
  planes.source = stridedOf(outer, from);
  planes.result = stridedOf(outer, to);
  uint64_t width = widthOf(spec);
  int64_t side = width >= 4 ? 32 : 64; // as kernels/Movement.cu has it
  planes.down = ceilDiv(planes.rows, side);
  planes.across = ceilDiv(planes.columns, side);
  AMC_CUDA_TRY(function, maker.context.function(ptx::Movement, text("transpose_planes_", width)));
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, {static_cast<uint64_t>(planes.source.elements * planes.down * planes.across)},
                         blockThreads, 0, o.inputs[0], o.outputs[0], planes);
  });
}

Expected<std::unique_ptr<Kernel>> createTranspose(const InstructionSpec &spec, Maker &maker) {
  std::vector<int64_t> in = stridesOf(spec.inputs[0].shape), strides;
  for (int64_t p : spec.ints("permutation"))
    strides.push_back(in[static_cast<size_t>(p)]);
  Strided walk = stridedOf(spec.outputs[0].shape, strides);
  bool staysInnermost = walk.rank < 2 || walk.strides[walk.rank - 1] == 1;
  return staysInnermost || walk.elements == 0 ? stridedCopy(spec, walk, maker) : transposePlanes(spec, walk, maker);
}

// ---- slice, concat, broadcast

Expected<std::unique_ptr<Kernel>> createSlice(const InstructionSpec &spec, Maker &maker) {
  std::vector<int64_t> starts = spec.ints("starts"), steps = spec.ints("steps"),
                       strides = stridesOf(spec.inputs[0].shape);
  const std::vector<int64_t> &shape = spec.outputs[0].shape;
  int64_t start = 0;
  for (size_t i = 0; i < strides.size(); ++i) {
    start += spec.outputs[0].elements ? starts[i] * strides[i] : 0;
    strides[i] *= shape[i] > 1 ? steps[i] : 0; // the step of a single element may be anything
  }
  return stridedCopy(spec, stridedOf(shape, strides, start), maker);
}

Expected<std::unique_ptr<Kernel>> createConcat(const InstructionSpec &spec, Maker &maker) {
  auto axis = static_cast<size_t>(spec.integer("axis"));
  cpu::Split result = cpu::splitAt(spec.outputs[0].shape, axis);
  std::vector<Move> moves;
  int64_t offset = 0; // within a row of the result
  for (const TensorSpec &x : spec.inputs) {
    cpu::Split split = cpu::splitAt(x.shape, axis);
    int64_t run = split.axis * split.inner;
    Strided to = stridedOf({split.outer, run}, {result.axis * result.inner, 1}, offset);
    AMC_CUDA_TRY(move, Move::create(maker, widthOf(spec), contiguous(x.elements), to));
    moves.push_back(std::move(move));
    offset += run;
  }
  return makeKernel([moves = std::move(moves)](const Operands &o, Stream &stream) {
    for (size_t i = 0; i < moves.size(); ++i)
      AMC_TRY(moves[i].enqueue(stream, o.inputs[i], o.outputs[0]));
    return Status();
  });
}

Expected<std::unique_ptr<Kernel>> createBroadcast(const InstructionSpec &spec, Maker &maker) {
  return stridedCopy(spec, broadcastWalk(spec.inputs[0].shape, spec.outputs[0].shape), maker);
}

// ---- full, iota, pad, triangle

Expected<std::unique_ptr<Kernel>> createFull(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(fill, Fill::create(maker, widthOf(spec), spec.outputs[0].elements));
  uint64_t bits = elementBits(spec.outputs[0].dtype, spec.real("value"));
  return makeKernel([=](const Operands &o, Stream &stream) { return fill.enqueue(stream, o.outputs[0], bits); });
}

Expected<std::unique_ptr<Kernel>> createIota(const InstructionSpec &spec, Maker &maker) {
  cpu::Split split = cpu::splitAt(spec.outputs[0].shape, static_cast<size_t>(spec.integer("axis")));
  AMC_CUDA_TRY(function, maker.context.function(ptx::Movement, text("iota_", suffixOf(spec.outputs[0].dtype))));
  int64_t n = spec.outputs[0].elements;
  double start = spec.real("start"), step = spec.real("step");
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(n), blockThreads, 0, o.outputs[0], n, split.axis, split.inner, start, step);
  });
}

// Padding everywhere, then x over it.
Expected<std::unique_ptr<Kernel>> createPad(const InstructionSpec &spec, Maker &maker) {
  std::vector<int64_t> low = spec.ints("low"), interior = spec.ints("interior"),
                       strides = stridesOf(spec.outputs[0].shape);
  const TensorSpec &x = spec.inputs[0];
  int64_t base = 0;
  for (size_t i = 0; i < strides.size(); ++i) {
    base += x.elements ? low[i] * strides[i] : 0;
    strides[i] *= x.shape[i] > 1 ? interior[i] + 1 : 0;
  }
  AMC_CUDA_TRY(fill, Fill::create(maker, widthOf(spec), spec.outputs[0].elements));
  AMC_CUDA_TRY(move, Move::create(maker, widthOf(spec), contiguous(x.elements), stridedOf(x.shape, strides, base)));
  uint64_t bits = elementBits(x.dtype, spec.real("value"));
  return makeKernel([=](const Operands &o, Stream &stream) {
    AMC_TRY(fill.enqueue(stream, o.outputs[0], bits));
    return move.enqueue(stream, o.inputs[0], o.outputs[0]);
  });
}

Expected<std::unique_ptr<Kernel>> createTriangle(const InstructionSpec &spec, Maker &maker) {
  const std::vector<int64_t> &shape = spec.inputs[0].shape;
  AMC_CUDA_TRY(function, maker.context.function(ptx::Movement, text("triangle_", widthOf(spec))));
  int64_t n = spec.inputs[0].elements, height = shape[shape.size() - 2], width = shape.back(), k = spec.integer("k");
  int upper = spec.flag("upper");
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(n), blockThreads, 0, o.inputs[0], o.outputs[0], n, height, width, k, upper);
  });
}

} // namespace

void registerMovement(KernelRegistry &registry) {
  registry.add("transpose", {createTranspose});
  registry.add("slice", {createSlice});
  registry.add("concat", {createConcat});
  registry.add("broadcast", {createBroadcast});
  registry.add("full", {createFull});
  registry.add("iota", {createIota});
  registry.add("pad", {createPad});
  registry.add("triangle", {createTriangle});
}

} // namespace amc::rt::cuda
