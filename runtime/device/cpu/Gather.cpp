// Kernels that read at indices, and the adjoints that add there: gather, gather_backward, embedding,
// embedding_backward, gather_elements, gather_nd, gather_nd_backward.
//
// Data of any dtype, indices i64 or i32, negative ones count from the end. An index out of range is
// reported and its slice left untouched. Backward: floats; contributions to one element are added in ascending order of
// the index tensor by whoever owns the element, so any number of threads gives the same bits; those of bf16 and f16 in
// fp32 (SortedSources.h, whose workspace this is). No result overlaps an operand. Reference: ONNX Gather,
// GatherElements, GatherND, element by element.
#include "runtime/collective/Communicator.h"
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Indices.h"
#include "runtime/device/cpu/SortedSources.h"
#include <algorithm>
#include <cstring>

namespace amc::rt::cpu {
namespace {

// y[o, i, :] = x[o, ids[i], :]. Of a table that is spread over ranks the axis is what this one has: rows
// [first, first + axis) of `total`; what it does not have is zero.
struct GatherShape {
  int64_t outer, axis, inner, count;
  int64_t first = 0, total = axis;

  // Whose row of the table index i is; negative: nobody's, which has been reported, or another rank's.
  static constexpr int64_t nowhere = -1, elsewhere = -2;
  int64_t row(const Indices &ids, int64_t i, RunContext &c) const {
    int64_t index = ids.get(i, total, c);
    if (index < 0)
      return nowhere;
    index -= first;
    return index >= 0 && index < axis ? index : elsewhere;
  }
};

std::unique_ptr<Kernel> gatherKernel(GatherShape g, uint64_t width, size_t dataInput, size_t idInput,
                                     plan::DType idType) {
  uint64_t bytes = static_cast<uint64_t>(g.inner) * width;
  int64_t grain = rowGrain(static_cast<int64_t>(bytes / 4 + 1));
  return makeKernel([=](const Operands &o, RunContext &c) {
    Indices ids = Indices::of(o, idInput, idType);
    parallelRange(c.pool, g.outer * g.count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at) {
        int64_t index = g.row(ids, at % g.count, c);
        std::byte *to = o.outputs[0] + static_cast<uint64_t>(at) * bytes;
        if (index == GatherShape::elsewhere)
          std::memset(to, 0, bytes);
        if (index < 0)
          continue;
        uint64_t row = static_cast<uint64_t>(at / g.count * g.axis + index);
        std::memcpy(to, o.inputs[dataInput] + row * bytes, bytes);
      }
    });
  });
}

// dx[o, ids[i], :] += dy[o, i, :]. A piece owns a range of rows or a block of columns: whoever adds to an element
// is one thread, in ascending order.
template <class T>
std::unique_ptr<Kernel> scatterAddKernel(GatherShape g, size_t dyInput, size_t idInput, plan::DType idType) {
  // Ranges of the axis, so that a piece clears and fills whole rows; blocks of columns where the axis is too short.
  int64_t ranges = std::min<int64_t>(16, ceilDiv(g.axis, 16));
  int64_t columnBlock = g.outer * ranges >= 8 ? std::max<int64_t>(g.inner, 1) : 64;
  int64_t columns = ceilDiv(g.inner, columnBlock);
  int64_t rangeSize = ranges ? ceilDiv(g.axis, ranges) : 0;
  return makeKernel([=](const Operands &o, RunContext &c) {
    Indices ids = Indices::of(o, idInput, idType);
    const T *dy = o.in<T>(dyInput);
    T *dx = o.out<T>(0);
    c.pool.parallelFor(g.outer * ranges * columns, [&](int64_t piece, unsigned) {
      int64_t block = piece % columns * columnBlock, width = std::min(columnBlock, g.inner - block);
      int64_t low = piece / columns % ranges * rangeSize, high = std::min(low + rangeSize, g.axis);
      int64_t o0 = piece / columns / ranges;
      T *target = dx + o0 * g.axis * g.inner + block;
      for (int64_t row = low; row < high; ++row)
        std::fill_n(target + row * g.inner, width, T{});
      for (int64_t i = 0; i < g.count; ++i) {
        int64_t index = g.row(ids, i, c);
        if (index >= low && index < high)
          addToRow(target + index * g.inner, dy + (o0 * g.count + i) * g.inner + block, width);
      }
    });
  });
}

// The same for bf16 and f16. A piece is some rows of one dx[o].
std::unique_ptr<Kernel> narrowScatterAddKernel(plan::DType dtype, plan::DType result, GatherShape g,
                                               plan::DType idType) {
  int64_t grain = std::min(rowGrain(g.inner), std::max<int64_t>(1, g.axis)), ranges = ceilDiv(g.axis, grain);
  return makeKernel([=](const Operands &o, RunContext &c) {
    Indices ids = Indices::of(o, 1, idType);
    SortedSources sources(o.workspaces[0], g.axis, g.count, [&](int64_t i) { return g.row(ids, i, c); });
    c.pool.parallelFor(g.inner ? g.outer * ranges : 0, [&](int64_t piece, unsigned) {
      int64_t begin = piece % ranges * grain, outer = piece / ranges;
      combineSources(sources, dtype, result, begin, std::min(begin + grain, g.axis), g.inner, nullptr, o.outputs[0],
                     outer * g.axis, o.inputs[0], outer * g.count, addRows);
    });
  });
}

// Scratch of the adjoints.
Status expectSortedSources(const InstructionSpec &spec, int64_t destinations, int64_t sources) {
  if (!isNarrowFloat(spec.inputs[0].dtype))
    return expectWorkspace(spec, 0);
  AMC_TRY(SortedSources::expectSizes(destinations, sources));
  return expectWorkspace(spec, workspace::sortedSources(static_cast<uint64_t>(destinations),
                                                        static_cast<uint64_t>(sources)));
}

std::unique_ptr<Kernel> scatterAdd(const InstructionSpec &spec, GatherShape g) {
  if (isNarrowFloat(spec.inputs[0].dtype))
    return narrowScatterAddKernel(spec.inputs[0].dtype, spec.outputs[0].dtype, g, spec.inputs[1].dtype);
  if (spec.outputs[0].dtype == plan::F64)
    return scatterAddKernel<double>(g, 0, 1, spec.inputs[1].dtype);
  return scatterAddKernel<float>(g, 0, 1, spec.inputs[1].dtype);
}

std::vector<int64_t> gatheredShape(const std::vector<int64_t> &x, const std::vector<int64_t> &ids, size_t axis) {
  std::vector<int64_t> shape(x.begin(), x.begin() + static_cast<long>(axis));
  shape.insert(shape.end(), ids.begin(), ids.end());
  shape.insert(shape.end(), x.begin() + static_cast<long>(axis) + 1, x.end());
  return shape;
}

GatherShape gatherShape(const std::vector<int64_t> &x, size_t axis, int64_t count) {
  Split split = splitAt(x, axis);
  return {split.outer, split.axis, split.inner, count, 0, split.axis};
}

// ---- gather

Status checkGather(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}, {"indices", AcceptIndex}}, {{"y", AcceptAny}}, {{"axis", Int}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  AMC_TRY(expectAxis(spec, "axis", spec.inputs[0].rank()));
  return expectShape("outputs[0]", spec.outputs[0],
                     gatheredShape(spec.inputs[0].shape, spec.inputs[1].shape,
                                   static_cast<size_t>(spec.integer("axis"))));
}

std::unique_ptr<Kernel> createGather(const InstructionSpec &spec) {
  return gatherKernel(gatherShape(spec.inputs[0].shape, static_cast<size_t>(spec.integer("axis")),
                                  spec.inputs[1].elements),
                      dtypeBytes(spec.inputs[0].dtype), 0, 1, spec.inputs[1].dtype);
}

Status checkGatherBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"dy", AcceptFloat}, {"indices", AcceptIndex}}, {{"dx", AcceptFloat}},
                         {{"axis", Int}, {"shape", Ints}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], spec.ints("shape")));
  AMC_TRY(expectAxis(spec, "axis", spec.outputs[0].rank()));
  size_t axis = static_cast<size_t>(spec.integer("axis"));
  AMC_TRY(expectShape("inputs[0]", spec.inputs[0],
                      gatheredShape(spec.outputs[0].shape, spec.inputs[1].shape, axis)));
  return expectSortedSources(spec, spec.outputs[0].shape[axis], spec.inputs[1].elements);
}

std::unique_ptr<Kernel> createGatherBackward(const InstructionSpec &spec) {
  return scatterAdd(spec, gatherShape(spec.outputs[0].shape, static_cast<size_t>(spec.integer("axis")),
                                      spec.inputs[1].elements));
}

// ---- embedding

// Of a table's rows, this member's.
GatherShape inGroup(GatherShape g, const InstructionSpec &spec, const Group &group) {
  g.total = g.axis * spec.integer("members");
  g.first = g.axis * group.index();
  return g;
}

Status checkMembers(const InstructionSpec &spec, int64_t rows) {
  AMC_EXPECT(!spec.find("group") == !spec.find("members"), "attributes: group and members should be there both or not");
  int64_t members = spec.integer("members", 1);
  AMC_EXPECT(members >= 1 && rows <= (int64_t(1) << 48) / members, "attributes.members: is ", members,
             ", of which each has ", rows, " rows");
  return Status();
}

Status checkEmbedding(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"table", AcceptFloat}, {"ids", AcceptIndex}}, {{"y", AcceptFloat}},
                         {{"group", Text, Optional}, {"members", Int, Optional}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  AMC_EXPECT(spec.inputs[0].rank() == 2, "inputs[0] (table): rank is ", spec.inputs[0].rank(), " and should be 2");
  std::vector<int64_t> shape = spec.inputs[1].shape;
  shape.push_back(spec.inputs[0].shape[1]);
  AMC_TRY(checkMembers(spec, spec.inputs[0].shape[0]));
  return expectShape("outputs[0]", spec.outputs[0], shape);
}

GatherShape embeddingShape(const InstructionSpec &spec) {
  return gatherShape(spec.inputs[0].shape, 0, spec.inputs[1].elements);
}
std::unique_ptr<Kernel> createEmbedding(const InstructionSpec &spec) {
  return gatherKernel(embeddingShape(spec), dtypeBytes(spec.inputs[0].dtype), 0, 1, spec.inputs[1].dtype);
}
std::unique_ptr<Kernel> createEmbeddingInGroup(const InstructionSpec &spec, Group &group) {
  return gatherKernel(inGroup(embeddingShape(spec), spec, group), dtypeBytes(spec.inputs[0].dtype), 0, 1,
                      spec.inputs[1].dtype);
}

Status checkEmbeddingBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"dy", AcceptFloat}, {"ids", AcceptIndex}}, {{"dtable", AcceptFloat}},
                         {{"rows", Int}, {"group", Text, Optional}, {"members", Int, Optional}, {"wide", Int, Optional}}));
  AMC_TRY(expectSumType("outputs[0]", spec, spec.outputs[0], spec.inputs[0]));
  AMC_EXPECT(spec.outputs[0].rank() == 2, "outputs[0]: rank is ", spec.outputs[0].rank(), " and should be 2");
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], {spec.integer("rows"), spec.outputs[0].shape[1]}));
  std::vector<int64_t> shape = spec.inputs[1].shape;
  shape.push_back(spec.outputs[0].shape[1]);
  AMC_TRY(expectShape("inputs[0]", spec.inputs[0], shape));
  AMC_TRY(checkMembers(spec, spec.integer("rows")));
  return expectSortedSources(spec, spec.outputs[0].shape[0], spec.inputs[1].elements);
}

std::unique_ptr<Kernel> createEmbeddingBackward(const InstructionSpec &spec) {
  return scatterAdd(spec, gatherShape(spec.outputs[0].shape, 0, spec.inputs[1].elements));
}
std::unique_ptr<Kernel> createEmbeddingBackwardInGroup(const InstructionSpec &spec, Group &group) {
  return scatterAdd(spec, inGroup(gatherShape(spec.outputs[0].shape, 0, spec.inputs[1].elements), spec, group));
}

// ---- gather_elements

Status checkGatherElements(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}, {"indices", AcceptIndex}}, {{"y", AcceptAny}}, {{"axis", Int}}));
  const TensorSpec &x = spec.inputs[0], &ids = spec.inputs[1];
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], ids.shape));
  AMC_TRY(expectAxis(spec, "axis", x.rank()));
  AMC_EXPECT(ids.rank() == x.rank(), "inputs[1]: rank is ", ids.rank(), " and should be ", x.rank());
  for (size_t i = 0; i < x.rank(); ++i)
    AMC_EXPECT(static_cast<int64_t>(i) == spec.integer("axis") || ids.shape[i] <= x.shape[i], "inputs[1]: shape ",
               shapeText(ids.shape), " reaches beyond ", shapeText(x.shape));
  return Status();
}

std::unique_ptr<Kernel> createGatherElements(const InstructionSpec &spec) {
  struct {
    int64_t ids[maxRank], strides[maxRank];
  } dims;
  const std::vector<int64_t> &x = spec.inputs[0].shape, &ids = spec.inputs[1].shape;
  size_t rank = x.size(), axis = static_cast<size_t>(spec.integer("axis"));
  int64_t stride = 1;
  for (size_t i = rank; i-- > 0; stride *= x[i]) {
    dims.ids[i] = ids[i];
    dims.strides[i] = stride;
  }
  int64_t limit = x[axis], n = spec.inputs[1].elements;
  plan::DType idType = spec.inputs[1].dtype;
  return withBits(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      Indices indices = Indices::of(o, 1, idType);
      parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; ++at) {
          int64_t index = indices.get(at, limit, c), rest = at, from = 0;
          if (index < 0)
            continue;
          for (size_t d = rank; d-- > 0; rest /= dims.ids[d])
            from += (d == axis ? index : rest % dims.ids[d]) * dims.strides[d];
          o.out<T>(0)[at] = o.in<T>(0)[from];
        }
      });
    });
  });
}

// ---- gather_nd

// Index tuples select slices of `inner` elements; `limits` are the dimensions a tuple indexes.
struct TupleShape {
  int64_t batches = 1, tuples = 1, inner = 1; // tuples in a batch
  size_t length = 0;
  int64_t limits[maxRank];
  int64_t batchElements = 1; // of x
  // That a tuple can name, in a batch.
  int64_t slices() const {
    return boundedProduct(limits, limits + length);
  }
};

Status checkNd(const InstructionSpec &spec, const TensorSpec &x, const TensorSpec &ids, const TensorSpec &slices,
               const char *slicesName) {
  int64_t batch = spec.integer("batch_dims");
  AMC_EXPECT(batch >= 0 && static_cast<uint64_t>(batch) < ids.rank() && static_cast<uint64_t>(batch) < x.rank(),
             "attributes.batch_dims: is ", batch, " and should be less than the ranks");
  size_t b = static_cast<size_t>(batch);
  int64_t length = ids.shape.back();
  AMC_EXPECT(length >= 0 && static_cast<uint64_t>(length) <= x.rank() - b, "inputs[1]: tuples have ", length,
             " entries and should have at most ", x.rank() - b);
  for (size_t i = 0; i < b; ++i)
    AMC_EXPECT(x.shape[i] == ids.shape[i], "inputs[1]: batch dimensions of ", shapeText(ids.shape), " and ",
               shapeText(x.shape), " differ");
  std::vector<int64_t> shape(ids.shape.begin(), ids.shape.end() - 1);
  shape.insert(shape.end(), x.shape.begin() + batch + length, x.shape.end());
  return expectShape(slicesName, slices, shape);
}

TupleShape tupleShape(const InstructionSpec &spec, const std::vector<int64_t> &x) {
  const std::vector<int64_t> &ids = spec.inputs[1].shape;
  size_t batch = static_cast<size_t>(spec.integer("batch_dims"));
  TupleShape t;
  t.length = static_cast<size_t>(ids.back());
  for (size_t i = 0; i < batch; ++i)
    t.batches *= x[i];
  for (size_t i = batch; i + 1 < ids.size(); ++i)
    t.tuples *= ids[i];
  for (size_t i = 0; i < t.length; ++i)
    t.limits[i] = x[batch + i];
  for (size_t i = batch; i < x.size(); ++i)
    t.batchElements *= x[i];
  for (size_t i = batch + t.length; i < x.size(); ++i)
    t.inner *= x[i];
  return t;
}

// Which slice of its batch a tuple names, or -1.
int64_t tupleSlice(const TupleShape &t, const Indices &ids, int64_t tuple, RunContext &c) {
  int64_t at = 0;
  for (size_t i = 0; i < t.length; ++i) {
    int64_t index = ids.get(tuple * static_cast<int64_t>(t.length) + static_cast<int64_t>(i), t.limits[i], c);
    if (index < 0)
      return -1;
    at = at * t.limits[i] + index;
  }
  return at;
}

Status checkGatherNd(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}, {"indices", AcceptIndex}}, {{"y", AcceptAny}},
                         {{"batch_dims", Int}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  return checkNd(spec, spec.inputs[0], spec.inputs[1], spec.outputs[0], "outputs[0]");
}

std::unique_ptr<Kernel> createGatherNd(const InstructionSpec &spec) {
  TupleShape t = tupleShape(spec, spec.inputs[0].shape);
  uint64_t width = dtypeBytes(spec.inputs[0].dtype);
  plan::DType idType = spec.inputs[1].dtype;
  return makeKernel([=](const Operands &o, RunContext &c) {
    Indices ids = Indices::of(o, 1, idType);
    uint64_t bytes = static_cast<uint64_t>(t.inner) * width;
    parallelRange(c.pool, t.batches * t.tuples, rowGrain(t.inner), [&](int64_t begin, int64_t end) {
      for (int64_t tuple = begin; tuple < end; ++tuple) {
        int64_t at = tupleSlice(t, ids, tuple, c);
        if (at >= 0)
          std::memcpy(o.outputs[0] + static_cast<uint64_t>(tuple) * bytes,
                      o.inputs[0] + static_cast<uint64_t>(tuple / t.tuples * t.batchElements + at * t.inner) * width,
                      bytes);
      }
    });
  });
}

Status checkGatherNdBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"dy", AcceptFloat}, {"indices", AcceptIndex}}, {{"dx", AcceptFloat}},
                         {{"batch_dims", Int}, {"shape", Ints}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], spec.ints("shape")));
  AMC_TRY(checkNd(spec, spec.outputs[0], spec.inputs[1], spec.inputs[0], "inputs[0]"));
  TupleShape t = tupleShape(spec, spec.outputs[0].shape);
  int64_t destinations[] = {t.batches, t.slices()}, sources[] = {t.batches, t.tuples};
  return expectSortedSources(spec, boundedProduct(destinations, destinations + 2),
                             boundedProduct(sources, sources + 2));
}

// Of bf16 and f16. A piece is some slices of all batches.
std::unique_ptr<Kernel> narrowGatherNdBackward(const TupleShape &t, plan::DType dtype, plan::DType idType) {
  return makeKernel([=](const Operands &o, RunContext &c) {
    Indices ids = Indices::of(o, 1, idType);
    int64_t slices = t.slices();
    SortedSources sources(o.workspaces[0], t.batches * slices, t.batches * t.tuples, [&](int64_t tuple) {
      int64_t slice = tupleSlice(t, ids, tuple, c);
      return slice < 0 ? slice : tuple / t.tuples * slices + slice;
    });
    parallelRange(c.pool, t.inner ? t.batches * slices : 0, rowGrain(t.inner), [&](int64_t begin, int64_t end) {
      combineSources(sources, dtype, dtype, begin, end, t.inner, nullptr, o.outputs[0], 0, o.inputs[0], 0, addRows);
    });
  });
}

// A piece is a batch: slices of different batches never meet.
std::unique_ptr<Kernel> createGatherNdBackward(const InstructionSpec &spec) {
  TupleShape t = tupleShape(spec, spec.outputs[0].shape);
  plan::DType idType = spec.inputs[1].dtype;
  if (isNarrowFloat(spec.outputs[0].dtype))
    return narrowGatherNdBackward(t, spec.outputs[0].dtype, idType);
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      Indices ids = Indices::of(o, 1, idType);
      c.pool.parallelFor(t.batches, [&](int64_t batch, unsigned) {
        T *dx = o.out<T>(0) + batch * t.batchElements;
        std::fill_n(dx, t.batchElements, T{});
        for (int64_t i = 0; i < t.tuples; ++i) {
          int64_t tuple = batch * t.tuples + i, at = tupleSlice(t, ids, tuple, c);
          if (at >= 0)
            addToRow(dx + at * t.inner, o.in<T>(0) + tuple * t.inner, t.inner);
        }
      });
    });
  };
  return spec.outputs[0].dtype == plan::F64 ? make(double{}) : make(float{});
}

} // namespace

void registerGather(KernelRegistry &registry) {
  registry.add("gather", {checkGather, createGather});
  registry.add("gather_backward", {checkGatherBackward, createGatherBackward, nullptr, false, true});
  registry.add("embedding", {checkEmbedding, createEmbedding, nullptr, false, false, createEmbeddingInGroup});
  registry.add("embedding_backward", {checkEmbeddingBackward, createEmbeddingBackward, nullptr, false, true,
                                      createEmbeddingBackwardInGroup});
  registry.add("gather_elements", {checkGatherElements, createGatherElements});
  registry.add("gather_nd", {checkGatherNd, createGatherNd});
  registry.add("gather_nd_backward", {checkGatherNdBackward, createGatherNdBackward, nullptr, false, true});
}

} // namespace amc::rt::cpu
