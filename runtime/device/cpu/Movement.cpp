// Kernels that move elements: transpose, slice, concat, broadcast.
//
// All dtypes, by width alone; nothing is computed. Results never overlap operands. Reference: for every element of the
// result, the source index as the op's description states it.
//
// Transposition joins dimensions that stay together. If the innermost dimension stays innermost, runs are copied;
// else the plane of result's and operand's innermost dimensions is transposed in tiles of 64 x 64.
#include "runtime/device/cpu/BroadcastLoop.h"
#include "runtime/device/cpu/Compute.h"
#include <algorithm>
#include <cstring>

namespace amc::rt::cpu {
namespace {

// A walk over the result in row-major order with any strides in the source; the innermost dimension is one run.
struct StridedCopy {
  size_t rank = 0; // outer dimensions
  int64_t dims[maxRank], strides[maxRank];
  int64_t rows = 1, inner = 1, step = 1, start = 0;

  // Dimensions outermost first.
  static StridedCopy create(const std::vector<int64_t> &shape, const std::vector<int64_t> &sourceStrides,
                            int64_t start) {
    StridedCopy copy;
    copy.start = start;
    std::vector<std::pair<int64_t, int64_t>> joined; // innermost first
    bool empty = false;
    for (size_t i = shape.size(); i-- > 0;) {
      empty |= shape[i] == 0;
      if (shape[i] == 1)
        continue;
      if (!joined.empty() && sourceStrides[i] == joined.back().first * joined.back().second)
        joined.back().first *= shape[i];
      else
        joined.push_back({shape[i], sourceStrides[i]});
    }
    if (empty)
      copy.rows = 0;
    if (joined.empty() || empty)
      return copy;
    copy.inner = joined[0].first;
    copy.step = joined[0].second;
    copy.rank = joined.size() - 1;
    for (size_t i = 0; i < copy.rank; ++i) {
      copy.dims[i] = joined[joined.size() - 1 - i].first;
      copy.strides[i] = joined[joined.size() - 1 - i].second;
      copy.rows *= copy.dims[i];
    }
    return copy;
  }

  int64_t offset(int64_t row) const {
    int64_t at = start;
    for (size_t d = rank; d-- > 0; row /= dims[d])
      at += row % dims[d] * strides[d];
    return at;
  }

  template <class T> void run(ThreadPool &pool, const T *x, T *y) const {
    int64_t segments = std::max<int64_t>(1, ceilDiv(inner, elementGrain));
    if (segments > 1) {
      pool.parallelFor(rows * segments, [&](int64_t piece, unsigned) {
        int64_t row = piece / segments, begin = piece % segments * elementGrain;
        move(x + offset(row) + begin * step, y + row * inner + begin, std::min(elementGrain, inner - begin));
      });
      return;
    }
    parallelRange(pool, rows, rowGrain(inner), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        move(x + offset(row), y + row * inner, inner);
    });
  }

  template <class T> void move(const T *x, T *y, int64_t n) const {
    if (step == 1)
      std::memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
    else
      for (int64_t i = 0; i < n; ++i)
        y[i] = x[i * step];
  }
};

std::vector<int64_t> stridesOf(const std::vector<int64_t> &shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i];
  return strides;
}

std::unique_ptr<Kernel> stridedKernel(plan::DType dtype, StridedCopy copy) {
  return withBits(dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) { copy.run(c.pool, o.in<T>(0), o.out<T>(0)); });
  });
}

// ---- transpose

Status checkTranspose(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}}, {{"y", AcceptAny}}, {{"permutation", Ints}}));
  const TensorSpec &x = spec.inputs[0];
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  std::vector<int64_t> permutation = spec.ints("permutation");
  AMC_EXPECT(permutation.size() == x.rank(), "attributes.permutation: has ", permutation.size(),
             " entries and should have ", x.rank());
  std::vector<bool> seen(x.rank());
  std::vector<int64_t> shape;
  for (int64_t p : permutation) {
    AMC_EXPECT(p >= 0 && static_cast<uint64_t>(p) < x.rank() && !seen[p], "attributes.permutation: ",
               shapeText(permutation), " is no permutation");
    seen[p] = true;
    shape.push_back(x.shape[p]);
  }
  return expectShape("outputs[0]", spec.outputs[0], shape);
}

template <class T>
void transposeTile(const T *x, int64_t ldx, T *y, int64_t ldy, int64_t rows, int64_t columns) {
  if constexpr (sizeof(T) == 4) {
    hot().transpose32(x, ldx, y, ldy, rows, columns);
  } else {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        y[c * ldy + r] = x[r * ldx + c];
  }
}

// The plane: result rows run along the operand's innermost dimension. Other dimensions are `outer`.
struct PlaneTranspose {
  size_t rank = 0;
  int64_t dims[maxRank], sourceStrides[maxRank], resultStrides[maxRank];
  int64_t planes = 1;
  int64_t rows, ldx;    // along the result's innermost dimension, and its stride in the operand
  int64_t columns, ldy; // along the operand's innermost dimension, and its stride in the result
  static constexpr int64_t tile = 64;

  template <class T> void run(ThreadPool &pool, const T *x, T *y) const {
    int64_t down = ceilDiv(rows, tile), across = ceilDiv(columns, tile);
    int64_t tiles = planes * down * across;
    parallelRange(pool, tiles, 4, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        int64_t plane = t / (down * across), r = t / across % down * tile, c = t % across * tile;
        int64_t from = 0, to = 0;
        for (size_t d = rank; d-- > 0; plane /= dims[d]) {
          from += plane % dims[d] * sourceStrides[d];
          to += plane % dims[d] * resultStrides[d];
        }
        transposeTile(x + from + r * ldx + c, ldx, y + to + c * ldy + r, ldy, std::min(tile, rows - r),
                      std::min(tile, columns - c));
      }
    });
  }
};

std::unique_ptr<Kernel> createTranspose(const InstructionSpec &spec) {
  const std::vector<int64_t> &shape = spec.outputs[0].shape;
  std::vector<int64_t> permutation = spec.ints("permutation"), in = stridesOf(spec.inputs[0].shape);
  // Dimensions of the result, outermost first, with their strides in the operand; neighbours that stay together
  // become one.
  struct Dim {
    int64_t size, stride;
  };
  std::vector<Dim> dims;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1)
      continue;
    int64_t stride = in[permutation[i]];
    if (!dims.empty() && dims.back().stride == stride * shape[i])
      dims.back() = {dims.back().size * shape[i], stride};
    else
      dims.push_back({shape[i], stride});
  }
  std::vector<int64_t> joined, strides;
  for (const Dim &dim : dims) {
    joined.push_back(dim.size);
    strides.push_back(dim.stride);
  }
  if (dims.size() < 2 || dims.back().stride == 1 || spec.inputs[0].elements == 0)
    return stridedKernel(spec.inputs[0].dtype, StridedCopy::create(joined, strides, 0));
  PlaneTranspose plane;
  std::vector<int64_t> out = stridesOf(joined);
  plane.rows = dims.back().size;
  plane.ldx = dims.back().stride;
  for (size_t i = 0; i + 1 < dims.size(); ++i) {
    if (dims[i].stride == 1) {
      plane.columns = dims[i].size;
      plane.ldy = out[i];
      continue;
    }
    plane.dims[plane.rank] = dims[i].size;
    plane.sourceStrides[plane.rank] = dims[i].stride;
    plane.resultStrides[plane.rank++] = out[i];
    plane.planes *= dims[i].size;
  }
  return withBits(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) { plane.run(c.pool, o.in<T>(0), o.out<T>(0)); });
  });
}

// ---- slice

Status checkSlice(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}}, {{"y", AcceptAny}},
                         {{"starts", Ints}, {"sizes", Ints}, {"steps", Ints}}));
  const TensorSpec &x = spec.inputs[0];
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  std::vector<int64_t> starts = spec.ints("starts"), sizes = spec.ints("sizes"), steps = spec.ints("steps");
  AMC_EXPECT(starts.size() == x.rank() && sizes.size() == x.rank() && steps.size() == x.rank(),
             "attributes: starts, sizes and steps should have ", x.rank(), " entries each");
  for (size_t i = 0; i < x.rank(); ++i) {
    constexpr int64_t bound = int64_t(1) << 48;
    bool fits = sizes[i] == 0;
    if (sizes[i] > 0 && sizes[i] < bound && steps[i] > -bound && steps[i] < bound && starts[i] >= 0 &&
        starts[i] < x.shape[i]) {
      // Products are compared, never formed.
      int64_t most = steps[i] > 0 ? (x.shape[i] - 1 - starts[i]) / steps[i]
                     : steps[i] < 0 ? starts[i] / -steps[i]
                                    : bound;
      fits = sizes[i] - 1 <= most;
    }
    AMC_EXPECT(fits, "attributes: starts ", starts[i], ", sizes ", sizes[i], ", steps ", steps[i],
               " leave dimension ", i, " of ", x.shape[i], " elements");
  }
  return expectShape("outputs[0]", spec.outputs[0], sizes);
}

std::unique_ptr<Kernel> createSlice(const InstructionSpec &spec) {
  std::vector<int64_t> starts = spec.ints("starts"), steps = spec.ints("steps");
  std::vector<int64_t> strides = stridesOf(spec.inputs[0].shape);
  int64_t start = 0;
  for (size_t i = 0; i < strides.size(); ++i) {
    start += spec.outputs[0].elements ? starts[i] * strides[i] : 0;
    strides[i] *= spec.outputs[0].shape[i] > 1 ? steps[i] : 0; // the step of a single element may be anything
  }
  return stridedKernel(spec.inputs[0].dtype, StridedCopy::create(spec.outputs[0].shape, strides, start));
}

// ---- concat

Status checkConcat(const InstructionSpec &spec) {
  AMC_EXPECT(!spec.inputs.empty(), "inputs: there are none and should be at least 1");
  AMC_TRY(expectAttributes(spec, {{"axis", Int}}));
  AMC_EXPECT(spec.outputs.size() == 1 && spec.outputs[0].present(), "outputs: there should be 1");
  const TensorSpec &y = spec.outputs[0];
  AMC_TRY(expectAxis(spec, "axis", y.rank()));
  size_t axis = static_cast<size_t>(spec.integer("axis"));
  std::vector<int64_t> shape = y.shape;
  shape[axis] = 0;
  for (size_t i = 0; i < spec.inputs.size(); ++i) {
    const TensorSpec &x = spec.inputs[i];
    std::string name = text("inputs[", i, "]");
    AMC_TRY(expectDType(name.c_str(), x, y.dtype));
    AMC_EXPECT(x.rank() == y.rank(), name, ": rank is ", x.rank(), " and should be ", y.rank());
    std::vector<int64_t> other = x.shape;
    other[axis] = y.shape[axis];
    AMC_EXPECT(other == y.shape, name, ": shape ", shapeText(x.shape), " does not join to ", shapeText(y.shape));
    shape[axis] += x.shape[axis];
  }
  return expectShape("outputs[0]", y, shape);
}

std::unique_ptr<Kernel> createConcat(const InstructionSpec &spec) {
  size_t axis = static_cast<size_t>(spec.integer("axis"));
  Split result = splitAt(spec.outputs[0].shape, axis);
  uint64_t width = dtypeBytes(spec.outputs[0].dtype);
  uint64_t pitch = static_cast<uint64_t>(result.axis * result.inner) * width;
  struct Part {
    uint64_t offset, bytes; // within a row of the result
  };
  std::vector<Part> parts;
  uint64_t offset = 0;
  for (const TensorSpec &x : spec.inputs) {
    Split split = splitAt(x.shape, axis);
    uint64_t bytes = static_cast<uint64_t>(split.axis * split.inner) * width;
    parts.push_back({offset, bytes});
    offset += bytes;
  }
  return makeKernel([=](const Operands &o, RunContext &c) {
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::byte *x = o.inputs[i];
      std::byte *y = o.outputs[0] + parts[i].offset;
      uint64_t bytes = parts[i].bytes;
      if (bytes == 0)
        continue;
      constexpr uint64_t grain = elementGrain * 4;
      int64_t segments = static_cast<int64_t>((bytes + grain - 1) / grain);
      int64_t together = segments > 1 ? 1 : static_cast<int64_t>((grain + bytes - 1) / bytes);
      c.pool.parallelFor(ceilDiv(result.outer, together) * segments, [&](int64_t piece, unsigned) {
        uint64_t begin = static_cast<uint64_t>(piece % segments) * grain;
        uint64_t length = std::min(grain, bytes - begin);
        int64_t first = piece / segments * together, last = std::min(first + together, result.outer);
        for (int64_t row = first; row < last; ++row)
          std::memcpy(y + static_cast<uint64_t>(row) * pitch + begin, x + static_cast<uint64_t>(row) * bytes + begin,
                      length);
      });
    }
  });
}

// ---- broadcast

Status checkBroadcast(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}}, {{"y", AcceptAny}}, {{"shape", Ints}}));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], spec.ints("shape")));
  return expectBroadcast("inputs[0]", spec.inputs[0], spec.outputs[0].shape);
}

std::unique_ptr<Kernel> createBroadcast(const InstructionSpec &spec) {
  auto loop = BroadcastLoop<1>::create(spec.outputs[0].shape, {&spec.inputs[0].shape});
  return withBits(spec.outputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      loop.run(c.pool, [&](int64_t position, const std::array<int64_t, 1> &from, int64_t n) {
        const T *x = o.in<T>(0) + from[0];
        T *y = o.out<T>(0) + position;
        if (loop.step[0])
          std::memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
        else
          std::fill_n(y, n, *x);
      });
    });
  });
}

} // namespace

void registerMovement(KernelRegistry &registry) {
  registry.add("transpose", {checkTranspose, createTranspose});
  registry.add("slice", {checkSlice, createSlice});
  registry.add("concat", {checkConcat, createConcat});
  registry.add("broadcast", {checkBroadcast, createBroadcast});
}

} // namespace amc::rt::cpu
