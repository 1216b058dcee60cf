// scatter_elements, scatter_nd, one_hot.
//
// Data of any dtype (reductions: numbers), indices i64 or i32, negative ones count from the end. An index out of range
// is a failure at run time and its update left out; in one_hot it gives zeros. Updates to one element are applied in
// ascending order of the index tensor ("none": the last one stays). Sums and products of bf16 and f16 are formed in
// fp32 and rounded once, in a line or sources sorted by destination (SortedSources.h) in the workspace.
// scatter_elements is cut along the dimensions that indices do not choose; scatter_nd runs on one thread but for those.
// y may replace x. Reference: ONNX ScatterElements, ScatterND.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Indices.h"
#include "runtime/device/cpu/SortedSources.h"
#include <algorithm>
#include <cstring>

namespace amc::rt::cpu {
namespace {

enum class Kind { None, Add, Mul, Max, Min };

Kind kindOf(const std::string &name) {
  return name == "none" ? Kind::None
         : name == "add" ? Kind::Add
         : name == "mul" ? Kind::Mul
         : name == "max" ? Kind::Max
                         : Kind::Min;
}

template <class T> T combine(Kind kind, T old, T update) {
  using U = std::conditional_t<std::is_integral_v<T>, uint64_t, T>; // integers wrap around
  switch (kind) {
  case Kind::Add: return static_cast<T>(static_cast<U>(old) + static_cast<U>(update));
  case Kind::Mul: return static_cast<T>(static_cast<U>(old) * static_cast<U>(update));
  case Kind::Max: return old != old || old > update ? old : update;
  case Kind::Min: return old != old || old < update ? old : update;
  case Kind::None: return update;
  }
  return update;
}

// y[at] = combine(y[at], x[from]) in arithmetic type T.
template <class T>
void apply(Kind kind, plan::DType dtype, void *y, int64_t at, const void *x, int64_t from) {
  Block<T> a, b, out;
  T value = combine(kind, *loadBlock(dtype, y, at, 1, a), *loadBlock(dtype, x, from, 1, b));
  *blockTarget(dtype, y, at, out) = value;
  storeBlock(dtype, y, at, 1, out);
}

// y = combine(y, x) in rows.
auto combineRows(Kind kind) {
  return [kind](float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
      y[i] = combine(kind, y[i], x[i]);
  };
}

// Whether several narrow elements are combined into one.
bool combinesNarrow(const InstructionSpec &spec) {
  Kind kind = kindOf(spec.string("reduction"));
  return isNarrowFloat(spec.outputs[0].dtype) && (kind == Kind::Add || kind == Kind::Mul);
}

void copyThere(ThreadPool &pool, const std::byte *x, std::byte *y, uint64_t bytes) {
  if (x == y)
    return;
  parallelRange(pool, static_cast<int64_t>(bytes), elementGrain * 4, [&](int64_t begin, int64_t end) {
    std::memcpy(y + begin, x + begin, static_cast<size_t>(end - begin));
  });
}

Status expectReduction(const InstructionSpec &spec) {
  AMC_TRY(expectOneOf(spec, "reduction", {"none", "add", "mul", "max", "min"}));
  AMC_EXPECT(spec.string("reduction") == "none" || spec.inputs[0].dtype != plan::BOOL,
             "attributes.reduction: should be 'none' for i1");
  AMC_TRY(expectDType("inputs[2]", spec.inputs[2], spec.inputs[0].dtype));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  return expectShape("outputs[0]", spec.outputs[0], spec.inputs[0].shape);
}

// ---- scatter_elements

Status checkElements(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}, {"indices", AcceptIndex}, {"updates", AcceptAny}},
                         {{"y", AcceptAny}}, {{"axis", Int}, {"reduction", Text}}));
  AMC_TRY(expectReduction(spec));
  const TensorSpec &x = spec.inputs[0], &ids = spec.inputs[1];
  AMC_TRY(expectAxis(spec, "axis", x.rank()));
  AMC_TRY(expectShape("inputs[2]", spec.inputs[2], ids.shape));
  AMC_EXPECT(ids.rank() == x.rank(), "inputs[1]: rank is ", ids.rank(), " and should be ", x.rank());
  for (size_t i = 0; i < x.rank(); ++i)
    AMC_EXPECT(static_cast<int64_t>(i) == spec.integer("axis") || ids.shape[i] <= x.shape[i], "inputs[1]: shape ",
               shapeText(ids.shape), " reaches beyond ", shapeText(x.shape));
  size_t axis = static_cast<size_t>(spec.integer("axis"));
  Split split = splitAt(ids.shape, axis);
  return expectWorkspace(spec, combinesNarrow(spec)
                                   ? workspace::scatterLines(static_cast<uint64_t>(split.outer * split.inner),
                                                             static_cast<uint64_t>(x.shape[axis]))
                                   : 0);
}

// A line runs along the axis; lines never meet.
struct Lines {
  size_t rank = 0; // other dimensions
  int64_t dims[maxRank], idStrides[maxRank], xStrides[maxRank];
  int64_t count = 1, length, limit, idStep, xStep;
};

Lines linesOf(const std::vector<int64_t> &ids, const std::vector<int64_t> &x, size_t axis) {
  Lines lines;
  int64_t idStride = 1, xStride = 1;
  for (size_t i = x.size(); i-- > 0;) {
    if (i == axis) {
      lines.length = ids[i];
      lines.limit = x[i];
      lines.idStep = idStride;
      lines.xStep = xStride;
    } else {
      lines.dims[lines.rank] = ids[i];
      lines.idStrides[lines.rank] = idStride;
      lines.xStrides[lines.rank++] = xStride;
      lines.count *= ids[i];
    }
    idStride *= ids[i];
    xStride *= x[i];
  }
  return lines;
}

// Where a line starts among the indices and in x.
struct LineStart {
  int64_t id = 0, x = 0;
  LineStart(const Lines &lines, int64_t line) {
    for (size_t d = 0; d < lines.rank; line /= lines.dims[d++]) {
      id += line % lines.dims[d] * lines.idStrides[d];
      x += line % lines.dims[d] * lines.xStrides[d];
    }
  }
};

// Lines of bf16 and f16 are combined in fp32, in the slot's part of the workspace.
std::unique_ptr<Kernel> narrowElements(const Lines &lines, Kind kind, plan::DType dtype, plan::DType idType,
                                       uint64_t bytes) {
  return makeKernel([=](const Operands &o, RunContext &c) {
    copyThere(c.pool, o.inputs[0], o.outputs[0], bytes);
    Indices ids = Indices::of(o, 1, idType);
    auto element = [&](const std::byte *x, int64_t at) {
      Block<float> block;
      return *loadBlock(dtype, x, at, 1, block);
    };
    c.pool.parallelFor(lines.length ? lines.count : 0, [&](int64_t line, unsigned slot) {
      float *sum = reinterpret_cast<float *>(o.workspaces[0] +
                                             slot * workspace::detail::pad(static_cast<uint64_t>(lines.limit) * 4));
      LineStart start(lines, line);
      for (int64_t i = 0; i < lines.limit; ++i)
        sum[i] = element(o.outputs[0], start.x + i * lines.xStep);
      for (int64_t i = 0; i < lines.length; ++i) {
        int64_t id = start.id + i * lines.idStep, index = ids.get(id, lines.limit, c);
        if (index >= 0)
          sum[index] = combine(kind, sum[index], element(o.inputs[2], id));
      }
      Block<float> block;
      for (int64_t i = 0; i < lines.limit; ++i) {
        block.data[0] = sum[i];
        storeBlock(dtype, o.outputs[0], start.x + i * lines.xStep, 1, block);
      }
    }, static_cast<unsigned>(std::clamp<int64_t>(lines.count, 1, workspace::scatterSlots)));
  });
}

std::unique_ptr<Kernel> createElements(const InstructionSpec &spec) {
  Lines lines = linesOf(spec.inputs[1].shape, spec.inputs[0].shape, static_cast<size_t>(spec.integer("axis")));
  Kind kind = kindOf(spec.string("reduction"));
  plan::DType dtype = spec.inputs[0].dtype, idType = spec.inputs[1].dtype;
  uint64_t bytes = spec.inputs[0].bytes;
  if (combinesNarrow(spec))
    return narrowElements(lines, kind, dtype, idType, bytes);
  return withCompute(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      copyThere(c.pool, o.inputs[0], o.outputs[0], bytes);
      Indices ids = Indices::of(o, 1, idType);
      parallelRange(c.pool, lines.length ? lines.count : 0, rowGrain(lines.length), [&](int64_t begin, int64_t end) {
        for (int64_t line = begin; line < end; ++line) {
          LineStart start(lines, line);
          for (int64_t i = 0; i < lines.length; ++i) {
            int64_t id = start.id + i * lines.idStep, index = ids.get(id, lines.limit, c);
            if (index >= 0)
              apply<T>(kind, dtype, o.outputs[0], start.x + index * lines.xStep, o.inputs[2], id);
          }
        }
      });
    });
  });
}

// ---- scatter_nd

// Index tuples and the slices of x, `inner` elements long, that they name.
struct Tuples {
  size_t length;
  int64_t limits[maxRank], count = 1, inner = 1;
  Tuples(const std::vector<int64_t> &x, const std::vector<int64_t> &ids) : length(static_cast<size_t>(ids.back())) {
    for (size_t i = 0; i + 1 < ids.size(); ++i)
      count *= ids[i];
    for (size_t i = 0; i < x.size(); ++i)
      if (i < length)
        limits[i] = x[i];
      else
        inner *= x[i];
  }
  int64_t slices() const {
    return boundedProduct(limits, limits + length);
  }
  // The slice that a tuple names, or -1.
  int64_t slice(const Indices &indices, int64_t tuple, RunContext &c) const {
    int64_t at = 0;
    for (size_t i = 0; i < length && at >= 0; ++i) {
      int64_t index = indices.get(tuple * static_cast<int64_t>(length) + static_cast<int64_t>(i), limits[i], c);
      at = index < 0 ? -1 : at * limits[i] + index;
    }
    return at;
  }
};

Status checkNd(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}, {"indices", AcceptIndex}, {"updates", AcceptAny}},
                         {{"y", AcceptAny}}, {{"reduction", Text}}));
  AMC_TRY(expectReduction(spec));
  const TensorSpec &x = spec.inputs[0], &ids = spec.inputs[1];
  AMC_EXPECT(ids.rank() >= 1, "inputs[1]: rank is 0 and should be at least 1");
  int64_t length = ids.shape.back();
  AMC_EXPECT(length >= 0 && static_cast<uint64_t>(length) <= x.rank(), "inputs[1]: tuples have ", length,
             " entries and should have at most ", x.rank());
  std::vector<int64_t> shape(ids.shape.begin(), ids.shape.end() - 1);
  shape.insert(shape.end(), x.shape.begin() + length, x.shape.end());
  AMC_TRY(expectShape("inputs[2]", spec.inputs[2], shape));
  if (!combinesNarrow(spec))
    return expectWorkspace(spec, 0);
  Tuples t(x.shape, ids.shape);
  AMC_TRY(SortedSources::expectSizes(t.slices(), t.count));
  return expectWorkspace(
      spec, workspace::sortedSources(static_cast<uint64_t>(t.slices()), static_cast<uint64_t>(t.count)));
}

std::unique_ptr<Kernel> createNd(const InstructionSpec &spec) {
  Tuples t(spec.inputs[0].shape, spec.inputs[1].shape);
  Kind kind = kindOf(spec.string("reduction"));
  plan::DType dtype = spec.inputs[0].dtype, idType = spec.inputs[1].dtype;
  uint64_t bytes = spec.inputs[0].bytes;
  if (combinesNarrow(spec))
    return makeKernel([=](const Operands &o, RunContext &c) {
      Indices indices = Indices::of(o, 1, idType);
      SortedSources sources(o.workspaces[0], t.slices(), t.count, [&](int64_t i) { return t.slice(indices, i, c); });
      parallelRange(c.pool, t.inner ? t.slices() : 0, rowGrain(t.inner), [&](int64_t begin, int64_t end) {
        combineSources(sources, dtype, dtype, begin, end, t.inner, o.inputs[0], o.outputs[0], 0, o.inputs[2], 0,
                       combineRows(kind));
      });
    });
  return withCompute(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      copyThere(c.pool, o.inputs[0], o.outputs[0], bytes);
      Indices indices = Indices::of(o, 1, idType);
      for (int64_t tuple = 0; tuple < t.count; ++tuple) {
        int64_t at = t.slice(indices, tuple, c);
        for (int64_t i = 0; at >= 0 && i < t.inner; ++i)
          apply<T>(kind, dtype, o.outputs[0], at * t.inner + i, o.inputs[2], tuple * t.inner + i);
      }
    });
  });
}

bool aliasX(const InstructionSpec &spec, size_t output, size_t input) {
  return input == 0 && aliasElementwise(spec, output, input);
}

// ---- one_hot

Status checkOneHot(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"indices", AcceptIndex}}, {{"y", AcceptAny}},
                         {{"depth", Int}, {"axis", Int}, {"element", Text}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], dtypeFromName(spec.string("element"))));
  std::vector<int64_t> shape = spec.inputs[0].shape;
  AMC_TRY(expectAxis(spec, "axis", shape.size() + 1));
  shape.insert(shape.begin() + spec.integer("axis"), spec.integer("depth"));
  return expectShape("outputs[0]", spec.outputs[0], shape);
}

std::unique_ptr<Kernel> createOneHot(const InstructionSpec &spec) {
  Split split = splitAt(spec.outputs[0].shape, static_cast<size_t>(spec.integer("axis")));
  plan::DType dtype = spec.outputs[0].dtype, idType = spec.inputs[0].dtype;
  return withBits(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    std::byte bytes[8];
    encodeElement(dtype, 1, bytes);
    T one;
    std::memcpy(&one, bytes, sizeof one);
    return makeKernel([=](const Operands &o, RunContext &c) {
      Indices ids = Indices::of(o, 0, idType);
      T *y = o.out<T>(0);
      parallelRange(c.pool, split.inner ? split.outer : 0, rowGrain(split.axis * split.inner), [&](int64_t begin, int64_t end) {
        std::fill(y + begin * split.axis * split.inner, y + end * split.axis * split.inner, T{});
        for (int64_t i = begin * split.inner; i < end * split.inner; ++i) {
          int64_t index = ids.raw(i);
          index += index < 0 ? split.axis : 0;
          if (index >= 0 && index < split.axis)
            y[(i / split.inner * split.axis + index) * split.inner + i % split.inner] = one;
        }
      });
    });
  });
}

} // namespace

void registerScatter(KernelRegistry &registry) {
  registry.add("scatter_elements", {checkElements, createElements, aliasX, false, true});
  registry.add("scatter_nd", {checkNd, createNd, aliasX, false, true});
  registry.add("one_hot", {checkOneHot, createOneHot});
}

} // namespace amc::rt::cpu
