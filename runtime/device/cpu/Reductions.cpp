// reduce_sum, reduce_mean, reduce_prod, reduce_max, reduce_min over any axes; all numbers.
//
// f16 and bf16 are computed in fp32, integers modulo 2^64 (means of integers truncate). NaN wins in max and min. Sums
// are exact to the order: contiguous rows as vectors of partial sums (Hot.h), other elements ascending in blocks of 64
// that are added up ascending; a result that everything is reduced to is cut into pieces of 65536 elements first.
// A `wide` sum is not rounded.
// Nothing depends on the number of threads. Results never overlap operands. Reference: for every result, its operands
// in row-major order.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {
namespace {

enum class Kind { Sum, Mean, Prod, Max, Min };

// Dimensions with neighbours of one kind joined: kept and reduced ones with their strides in the operand.
struct Reduction {
  plan::DType dtype, result;
  size_t kept = 0, reduced = 0;
  int64_t keptDims[maxRank], keptStrides[maxRank], reducedDims[maxRank], reducedStrides[maxRank];
  int64_t results = 1, terms = 1;
  bool rowsReduced = false; // the innermost dimension is a reduced one

  static int64_t at(int64_t flat, size_t rank, const int64_t *dims, const int64_t *strides) {
    int64_t offset = 0;
    for (size_t d = rank; d-- > 0; flat /= dims[d])
      offset += flat % dims[d] * strides[d];
    return offset;
  }
  int64_t keptAt(int64_t flat) const { return at(flat, kept, keptDims, keptStrides); }
  int64_t reducedAt(int64_t flat) const { return at(flat, reduced, reducedDims, reducedStrides); }
};

Reduction layOut(const InstructionSpec &spec) {
  Reduction r;
  r.dtype = spec.inputs[0].dtype;
  r.result = spec.outputs[0].dtype;
  const std::vector<int64_t> &shape = spec.inputs[0].shape;
  std::vector<bool> isReduced(shape.size());
  for (int64_t axis : spec.ints("axes"))
    isReduced[static_cast<size_t>(axis)] = true;
  struct Dim {
    int64_t size, stride;
    bool reduced;
  };
  std::vector<Dim> dims; // innermost first
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    (isReduced[i] ? r.terms : r.results) *= shape[i];
    if (shape[i] != 1) {
      if (!dims.empty() && dims.back().reduced == isReduced[i])
        dims.back().size *= shape[i];
      else
        dims.push_back({shape[i], stride, isReduced[i]});
    }
    stride *= shape[i];
  }
  r.rowsReduced = !dims.empty() && dims[0].reduced;
  for (size_t i = dims.size(); i-- > 0;) {
    const Dim &dim = dims[i];
    size_t &count = dim.reduced ? r.reduced : r.kept;
    (dim.reduced ? r.reducedDims : r.keptDims)[count] = dim.size;
    (dim.reduced ? r.reducedStrides : r.keptStrides)[count++] = dim.stride;
  }
  return r;
}

template <class T> T start(Kind kind) {
  if constexpr (std::is_floating_point_v<T>) {
    if (kind == Kind::Max || kind == Kind::Min)
      return kind == Kind::Max ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::infinity();
  }
  switch (kind) {
  case Kind::Prod: return 1;
  case Kind::Max: return std::numeric_limits<T>::lowest();
  case Kind::Min: return std::numeric_limits<T>::max();
  default: return 0;
  }
}

template <class T> T combine(Kind kind, T a, T b) {
  using U = std::conditional_t<std::is_integral_v<T>, uint64_t, T>; // integers wrap around
  switch (kind) {
  case Kind::Prod: return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
  case Kind::Max: return a != a || a > b ? a : b;
  case Kind::Min: return a != a || a < b ? a : b;
  default: return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  }
}

template <class T> T contiguous(Kind kind, const T *x, int64_t n) {
  if constexpr (std::is_same_v<T, float>) {
    if (kind == Kind::Sum || kind == Kind::Mean)
      return hot().sum(x, n);
  }
  T value = start<T>(kind);
  for (int64_t i = 0; i < n; ++i)
    value = combine(kind, value, x[i]);
  return value;
}

// Elements [begin, end) of a contiguous row, in blocks where they need converting.
template <class T> T rowValue(const Reduction &r, Kind kind, const void *x, int64_t begin, int64_t end) {
  bool direct = r.dtype == plan::F32 || dtypeBytes(r.dtype) == 8;
  int64_t step = direct ? end - begin : blockElements;
  T value = start<T>(kind);
  Block<T> block;
  for (int64_t at = begin; at < end; at += step) {
    int64_t count = std::min(step, end - at);
    value = combine(kind, value, contiguous(kind, loadBlock(r.dtype, x, at, count, block), count));
  }
  return value;
}

template <class T> void finish(const Reduction &r, Kind kind, T value, void *y, int64_t at) {
  if (kind == Kind::Mean) {
    if constexpr (std::is_floating_point_v<T>)
      value /= static_cast<T>(r.terms);
    else
      value = r.terms ? value / static_cast<T>(r.terms) : 0;
  }
  Block<T> block;
  *blockTarget(r.result, y, at, block) = value;
  storeBlock(r.result, y, at, 1, block);
}

// ---- the innermost dimension is reduced

template <class T> std::unique_ptr<Kernel> rowKernel(const Reduction &r, Kind kind) {
  int64_t row = r.reducedDims[r.reduced - 1], rows = r.terms / std::max<int64_t>(row, 1);
  constexpr int64_t piece = 65536;
  if (r.results == 1 && rows == 1 && row > piece) { // one long row: pieces, then their values in order
    auto values = std::make_shared<std::vector<T>>(static_cast<size_t>(ceilDiv(row, piece)));
    return makeKernel([=](const Operands &o, RunContext &c) {
      parallelRange(c.pool, row, piece, [&](int64_t begin, int64_t end) {
        (*values)[static_cast<size_t>(begin / piece)] = rowValue<T>(r, kind, o.inputs[0], begin, end);
      });
      T value = start<T>(kind);
      for (T part : *values)
        value = combine(kind, value, part);
      finish(r, kind, value, o.outputs[0], 0);
    });
  }
  return makeKernel([=](const Operands &o, RunContext &c) {
    parallelRange(c.pool, r.results, rowGrain(r.terms), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t base = r.keptAt(i);
        T value = start<T>(kind);
        for (int64_t k = 0; k < rows; ++k) {
          int64_t at = base + (rows == 1 ? 0 : r.reducedAt(k * row));
          value = combine(kind, value, rowValue<T>(r, kind, o.inputs[0], at, at + row));
        }
        finish(r, kind, value, o.outputs[0], i);
      }
    });
  });
}

// ---- the innermost dimension is kept: blocks of columns, rows added up

template <class T> void combineRow(Kind kind, T *total, const T *x, int64_t n) {
  if constexpr (std::is_same_v<T, float>) {
    if (kind == Kind::Sum || kind == Kind::Mean)
      return hot().addTo(total, x, n);
  }
  for (int64_t i = 0; i < n; ++i)
    total[i] = combine(kind, total[i], x[i]);
}

template <class T> std::unique_ptr<Kernel> columnKernel(const Reduction &r, Kind kind) {
  constexpr int64_t leastColumns = 64, termBlock = 64;
  // Sums of rows that are stored as they are computed with, at one distance.
  const bool evenly = r.dtype == plan::F32 && (kind == Kind::Sum || kind == Kind::Mean) && r.reduced <= 1;
  int64_t columns = r.kept ? r.keptDims[r.kept - 1] : 1;
  int64_t outer = columns ? r.results / columns : 0;
  // Wide blocks read rows in long runs, sixteen are enough for most threads. No bit depends on it.
  int64_t share = ceilDiv(ceilDiv(r.results, 16), leastColumns) * leastColumns;
  int64_t columnBlock = std::clamp(share, leastColumns, blockElements), blocks = ceilDiv(columns, columnBlock);
  int64_t grain = std::max<int64_t>(1, elementGrain / std::max<int64_t>(1, r.terms * std::min(columns, columnBlock)));
  return makeKernel([=](const Operands &o, RunContext &c) {
    parallelRange(c.pool, outer * blocks, grain, [&](int64_t first, int64_t last) {
      Block<T> block, total, part;
      auto combineRows = [&](int64_t base, int64_t begin, int64_t end, int64_t width) {
        if constexpr (std::is_same_v<T, float>)
          if (evenly)
            return hot().addRowsTo(part.data, o.in<float>(0) + base + r.reducedAt(begin), r.reduced ? r.reducedStrides[0] : 0,
                                   end - begin, width);
        for (int64_t k = begin; k < end; ++k)
          combineRow(kind, part.data, loadBlock(r.dtype, o.inputs[0], base + r.reducedAt(k), width, block), width);
      };
      for (int64_t piece = first; piece < last; ++piece) {
        int64_t j = piece % blocks * columnBlock, width = std::min(columnBlock, columns - j);
        int64_t result = piece / blocks * columns + j, base = r.keptAt(result);
        std::fill_n(total.data, width, start<T>(kind));
        for (int64_t begin = 0; begin < r.terms; begin += termBlock) {
          std::fill_n(part.data, width, start<T>(kind));
          combineRows(base, begin, std::min(begin + termBlock, r.terms), width);
          combineRow(kind, total.data, part.data, width);
        }
        for (int64_t i = 0; i < width; ++i)
          finish(r, kind, total.data[i], o.outputs[0], result + i);
      }
    });
  });
}

template <Kind kind> Status check(const InstructionSpec &spec) {
  if constexpr (kind == Kind::Sum)
    AMC_TRY(expectOperands(spec, {{"x", AcceptNumber}}, {{"y", AcceptNumber}},
                           {{"axes", Ints}, {"keepdims", Int}, {"wide", Int, Optional}}));
  else
    AMC_TRY(expectOperands(spec, {{"x", AcceptNumber}}, {{"y", AcceptNumber}}, {{"axes", Ints}, {"keepdims", Int}}));
  const TensorSpec &x = spec.inputs[0];
  AMC_TRY(expectSumType("outputs[0]", spec, spec.outputs[0], x));
  std::vector<int64_t> axes = spec.ints("axes"), shape;
  for (size_t i = 0; i < axes.size(); ++i)
    AMC_EXPECT(axes[i] >= 0 && static_cast<uint64_t>(axes[i]) < x.rank() && (i == 0 || axes[i] > axes[i - 1]),
               "attributes.axes: ", shapeText(axes), " should be ascending and in [0, ", x.rank(), ")");
  for (size_t i = 0; i < x.rank(); ++i) {
    bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
    if (!reduced)
      shape.push_back(x.shape[i]);
    else if (spec.flag("keepdims"))
      shape.push_back(1);
  }
  return expectShape("outputs[0]", spec.outputs[0], shape);
}

template <Kind kind> std::unique_ptr<Kernel> create(const InstructionSpec &spec) {
  Reduction r = layOut(spec);
  return withCompute(r.dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return r.rowsReduced ? rowKernel<T>(r, kind) : columnKernel<T>(r, kind);
  });
}

} // namespace

void registerReductions(KernelRegistry &registry) {
  registry.add("reduce_sum", {check<Kind::Sum>, create<Kind::Sum>});
  registry.add("reduce_mean", {check<Kind::Mean>, create<Kind::Mean>});
  registry.add("reduce_prod", {check<Kind::Prod>, create<Kind::Prod>});
  registry.add("reduce_max", {check<Kind::Max>, create<Kind::Max>});
  registry.add("reduce_min", {check<Kind::Min>, create<Kind::Min>});
}

} // namespace amc::rt::cpu
