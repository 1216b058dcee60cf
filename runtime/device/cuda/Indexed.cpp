// Kernels that read at indices and that combine updates there: gather, gather_nd, gather_elements, embedding, the
// adjoints of all but gather_elements, scatter_elements, scatter_nd, one_hot. The signatures are
// runtime/device/cpu/Gather.cpp's and Scatter.cpp's; none needs a workspace.
#include "runtime/device/cuda/Launches.h"
#include "runtime/device/cuda/Nccl.h"
#include "runtime/device/cuda/kernels/Slices.h"

namespace amc::rt::cuda {
namespace {

int wideIndices(const TensorSpec &indices) { return indices.dtype == plan::I64; }

Combine combineOf(const std::string &name) {
  return name == "none"  ? Combine::None
         : name == "add" ? Combine::Add
         : name == "mul" ? Combine::Mul
         : name == "max" ? Combine::Max
                         : Combine::Min;
}

// Slices and the batches of them.
struct Problem {
  Slices slices;
  int64_t batches = 1;
};

// A slot of failures for each place of a tuple, one behind the other.
Status addFailures(const InstructionSpec &spec, Maker &maker, Slices &slices) {
  for (int d = 0; d < slices.length; ++d) {
    AMC_CUDA_TRY(slot, maker.failure(spec, "index", -slices.limits[d], slices.limits[d]));
    if (d == 0)
      slices.failures = reinterpret_cast<unsigned long long *>(slot);
  }
  return Status();
}

// Single indices, inputs[1], along an axis of a tensor of this shape; of a table that is spread over ranks its rows
// are.
Expected<Problem> alongAxis(const InstructionSpec &spec, const std::vector<int64_t> &shape, size_t axis, Maker &maker) {
  cpu::Split split = cpu::splitAt(shape, axis);
  Problem p;
  p.batches = split.outer;
  p.slices.wide = wideIndices(spec.inputs[1]);
  p.slices.shared = true;
  p.slices.count = spec.inputs[1].elements;
  p.slices.slices = p.slices.limits[0] = split.axis;
  p.slices.inner = split.inner;
  if (spec.find("group")) {
    p.slices.limits[0] *= spec.integer("members");
    if (maker.nccl) {
      AMC_CUDA_TRY(group, maker.nccl->group(spec.string("group")));
      p.slices.first = split.axis * group.index;
    }
  }
  AMC_TRY(addFailures(spec, maker, p.slices));
  return p;
}

// Tuples behind `batch` dimensions that indices and tensor share.
Expected<Problem> byTuples(const InstructionSpec &spec, const std::vector<int64_t> &shape, size_t batch, Maker &maker) {
  const std::vector<int64_t> &ids = spec.inputs[1].shape;
  Problem p;
  p.slices.wide = wideIndices(spec.inputs[1]);
  p.slices.length = static_cast<int>(ids.back());
  for (size_t i = 0; i < batch; ++i)
    p.batches *= shape[i];
  for (size_t i = batch; i + 1 < ids.size(); ++i)
    p.slices.count *= ids[i];
  auto slices = uint64_t(1); // of a tensor without elements it may be anything: no index is in range then
  for (size_t i = batch; i < shape.size(); ++i)
    if (i < batch + static_cast<size_t>(p.slices.length)) {
      p.slices.limits[i - batch] = shape[i];
      slices *= static_cast<uint64_t>(shape[i]);
    } else {
      p.slices.inner *= shape[i];
    }
  p.slices.slices = static_cast<int64_t>(slices);
  AMC_TRY(addFailures(spec, maker, p.slices));
  return p;
}

// ---- reading

// y takes the slices that inputs[1] names.
Expected<std::unique_ptr<Kernel>> gatherKernel(const InstructionSpec &spec, const Problem &p, Maker &maker) {
  uint64_t width = dtypeBytes(spec.outputs[0].dtype);
  AMC_CUDA_TRY(mover, RowMover::create(maker, ptx::Indexed, "gather_slices", width,
                                       static_cast<uint64_t>(p.slices.inner) * width));
  return makeKernel([=, rows = p.batches * p.slices.count, slices = p.slices](const Operands &o, Stream &stream) {
    const RowMover::Way &way = mover.at(o.inputs[0], o.outputs[0]);
    Slices s = slices;
    s.indices = o.inputs[1];
    s.inner = way.inner;
    int64_t n = rows * way.inner;
    return stream.launch(way.function, gridOf(n), blockThreads, 0, o.inputs[0], o.outputs[0], s, n);
  });
}

Expected<std::unique_ptr<Kernel>> createGather(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(p, alongAxis(spec, spec.inputs[0].shape, static_cast<size_t>(spec.integer("axis")), maker));
  return gatherKernel(spec, p, maker);
}
Expected<std::unique_ptr<Kernel>> createEmbedding(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(p, alongAxis(spec, spec.inputs[0].shape, 0, maker));
  return gatherKernel(spec, p, maker);
}
Expected<std::unique_ptr<Kernel>> createGatherNd(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(p, byTuples(spec, spec.inputs[0].shape, static_cast<size_t>(spec.integer("batch_dims")), maker));
  return gatherKernel(spec, p, maker);
}

Expected<std::unique_ptr<Kernel>> createGatherElements(const InstructionSpec &spec, Maker &maker) {
  const std::vector<int64_t> &x = spec.inputs[0].shape;
  auto axis = static_cast<size_t>(spec.integer("axis"));
  std::vector<int64_t> strides = stridesOf(x);
  int64_t step = strides[axis], limit = x[axis];
  strides[axis] = 0;
  Strided others = stridedOf(spec.inputs[1].shape, strides);
  int wide = wideIndices(spec.inputs[1]);
  AMC_CUDA_TRY(function,
               maker.context.function(ptx::Indexed, text("gather_elements_", dtypeBytes(spec.inputs[0].dtype))));
  AMC_CUDA_TRY(failure, maker.failure(spec, "index", -limit, limit));
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(others.elements), blockThreads, 0, o.inputs[0], o.outputs[0], o.inputs[1],
                         wide, limit, step, others, failure);
  });
}

// ---- combining

// outputs[0], which holds what updates are combined with (`onto`) or nothing, takes the updates in inputs[update].
struct CombineSlices {
  static Expected<CombineSlices> create(const InstructionSpec &spec, const Problem &p, size_t update, Combine kind,
                                        bool onto, Maker &maker) {
    CombineSlices made;
    made.slices = p.slices;
    made.tiles = ceilDiv(p.slices.inner, 1024); // as kernels/Indexed.cu has it
    made.blocks = p.batches * p.slices.count * made.tiles;
    made.from = static_cast<int>(storedOf(spec.inputs[update].dtype));
    made.to = static_cast<int>(storedOf(spec.outputs[0].dtype));
    made.kind = static_cast<int>(kind);
    made.onto = onto;
    AMC_CUDA_TRY(function, maker.context.function(ptx::Indexed,
                                                  text("combine_slices_", computeSuffix(spec.inputs[update].dtype))));
    made.function = function;
    return made;
  }
  Status enqueue(Stream &stream, const std::byte *indices, const std::byte *updates, std::byte *y) const {
    Slices s = slices;
    s.indices = indices;
    return stream.launch(function, {static_cast<uint64_t>(blocks)}, 256, 0, updates, from, y, to, s, tiles, kind, onto);
  }

  CUfunction function;
  Slices slices;
  int64_t tiles, blocks;
  int from, to, kind, onto;
};

// Zeros, and added to them what goes to each slice.
Expected<std::unique_ptr<Kernel>> addKernel(const InstructionSpec &spec, const Problem &p, Maker &maker) {
  AMC_CUDA_TRY(add, CombineSlices::create(spec, p, 0, Combine::Add, false, maker));
  return makeKernel([=, bytes = spec.outputs[0].bytes](const Operands &o, Stream &stream) {
    AMC_TRY(stream.zero(o.outputs[0], bytes));
    return add.enqueue(stream, o.inputs[1], o.inputs[0], o.outputs[0]);
  });
}

Expected<std::unique_ptr<Kernel>> createGatherBackward(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(p, alongAxis(spec, spec.outputs[0].shape, static_cast<size_t>(spec.integer("axis")), maker));
  return addKernel(spec, p, maker);
}
Expected<std::unique_ptr<Kernel>> createEmbeddingBackward(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(p, alongAxis(spec, spec.outputs[0].shape, 0, maker));
  return addKernel(spec, p, maker);
}
Expected<std::unique_ptr<Kernel>> createGatherNdBackward(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(p, byTuples(spec, spec.outputs[0].shape, static_cast<size_t>(spec.integer("batch_dims")), maker));
  return addKernel(spec, p, maker);
}

Status copyThere(Stream &stream, const Operands &o, uint64_t bytes) {
  return o.inputs[0] == o.outputs[0] ? Status() : stream.copy(o.outputs[0], o.inputs[0], bytes);
}

Expected<std::unique_ptr<Kernel>> createScatterNd(const InstructionSpec &spec, Maker &maker) {
  AMC_CUDA_TRY(p, byTuples(spec, spec.inputs[0].shape, 0, maker));
  AMC_CUDA_TRY(combine, CombineSlices::create(spec, p, 2, combineOf(spec.string("reduction")), true, maker));
  return makeKernel([=, bytes = spec.outputs[0].bytes](const Operands &o, Stream &stream) {
    AMC_TRY(copyThere(stream, o, bytes));
    return combine.enqueue(stream, o.inputs[1], o.inputs[2], o.outputs[0]);
  });
}

Expected<std::unique_ptr<Kernel>> createScatterElements(const InstructionSpec &spec, Maker &maker) {
  const std::vector<int64_t> &x = spec.inputs[0].shape, &ids = spec.inputs[1].shape;
  auto axis = static_cast<size_t>(spec.integer("axis"));
  std::vector<int64_t> others = ids, xStrides = stridesOf(x), idStrides = stridesOf(ids);
  others[axis] = 1;
  Lines lines;
  lines.wide = wideIndices(spec.inputs[1]);
  lines.length = ids[axis];
  lines.limit = x[axis];
  lines.idStep = idStrides[axis];
  lines.xStep = xStrides[axis];
  lines.innermost = lines.idStep == 1;
  lines.ids = stridedOf(others, idStrides);
  lines.x = stridedOf(others, xStrides);
  int stored = static_cast<int>(storedOf(spec.inputs[0].dtype));
  int kind = static_cast<int>(combineOf(spec.string("reduction")));
  AMC_CUDA_TRY(function,
               maker.context.function(ptx::Indexed, text("combine_elements_", computeSuffix(spec.inputs[0].dtype))));
  AMC_CUDA_TRY(failure, maker.failure(spec, "index", -lines.limit, lines.limit));
  lines.failure = reinterpret_cast<unsigned long long *>(failure);
  return makeKernel([=, bytes = spec.outputs[0].bytes](const Operands &o, Stream &stream) {
    AMC_TRY(copyThere(stream, o, bytes));
    Lines l = lines;
    l.indices = o.inputs[1];
    return stream.launch(function, gridOf(l.ids.elements * l.length), blockThreads, 0, o.inputs[2], o.outputs[0],
                         stored, l, kind);
  });
}

// ---- one_hot

Expected<std::unique_ptr<Kernel>> createOneHot(const InstructionSpec &spec, Maker &maker) {
  const TensorSpec &y = spec.outputs[0];
  cpu::Split split = cpu::splitAt(y.shape, static_cast<size_t>(spec.integer("axis")));
  AMC_CUDA_TRY(function, maker.context.function(ptx::Indexed, text("one_hot_", dtypeBytes(y.dtype))));
  int wide = wideIndices(spec.inputs[0]);
  uint64_t one = elementBits(y.dtype, 1);
  return makeKernel([=, n = y.elements](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(n), blockThreads, 0, o.inputs[0], wide, o.outputs[0], n, split.axis,
                         split.inner, one);
  });
}

} // namespace

void registerIndexed(KernelRegistry &registry) {
  registry.add("gather", {createGather});
  registry.add("gather_backward", {createGatherBackward});
  registry.add("embedding", {createEmbedding});
  registry.add("embedding_backward", {createEmbeddingBackward});
  registry.add("gather_elements", {createGatherElements});
  registry.add("gather_nd", {createGatherNd});
  registry.add("gather_nd_backward", {createGatherNdBackward});
  registry.add("scatter_elements", {createScatterElements});
  registry.add("scatter_nd", {createScatterNd});
  registry.add("one_hot", {createOneHot});
}

} // namespace amc::rt::cuda
