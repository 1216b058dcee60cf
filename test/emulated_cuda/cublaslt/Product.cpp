#include "test/emulated_cuda/cublaslt/Product.h"
#include "test/emulated_cuda/Elements.h"
#include <algorithm>
#include <immintrin.h>

namespace amc::emulated {
namespace {

constexpr size_t panelColumns = 192; // of D at a time
constexpr size_t cacheDepth = 256;   // of k at a time; at least blockDepth
constexpr size_t cacheRows = 128;    // of op(A) packed at a time

// A tile of D in registers: `columns` columns of two vectors each.
template <class T> struct Tile;
template <> struct Tile<float> {
  using Vector = __m256;
  static constexpr size_t columns = 6, lanes = 8, rows = 2 * lanes;
  static Vector zero() { return _mm256_setzero_ps(); }
  static Vector load(const float *from) { return _mm256_loadu_ps(from); }
  static void store(float *to, Vector value) { _mm256_storeu_ps(to, value); }
  static Vector spread(const float *from) { return _mm256_broadcast_ss(from); }
  static Vector multiplyAdd(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
};
template <> struct Tile<double> {
  using Vector = __m256d;
  static constexpr size_t columns = 6, lanes = 4, rows = 2 * lanes;
  static Vector zero() { return _mm256_setzero_pd(); }
  static Vector load(const double *from) { return _mm256_loadu_pd(from); }
  static void store(double *to, Vector value) { _mm256_storeu_pd(to, value); }
  static Vector spread(const double *from) { return _mm256_broadcast_sd(from); }
  static Vector multiplyAdd(Vector a, Vector b, Vector c) { return _mm256_fmadd_pd(a, b, c); }
  static Vector add(Vector a, Vector b) { return _mm256_add_pd(a, b); }
};

// Adds `depth` products to a tile of sums, going on with their chains or (fresh) adding the sum of a new one.
template <class T, bool fresh> void multiplyTile(const T *a, const T *b, size_t depth, T *sums, size_t ld) {
  using V = Tile<T>;
  typename V::Vector chain[V::columns][2];
  for (size_t j = 0; j < V::columns; ++j)
    for (size_t half = 0; half < 2; ++half)
      chain[j][half] = fresh ? V::zero() : V::load(sums + j * ld + half * V::lanes);
  for (size_t x = 0; x < depth; ++x, a += V::rows, b += V::columns) {
    typename V::Vector low = V::load(a), high = V::load(a + V::lanes);
    for (size_t j = 0; j < V::columns; ++j) {
      typename V::Vector factor = V::spread(b + j);
      chain[j][0] = V::multiplyAdd(low, factor, chain[j][0]);
      chain[j][1] = V::multiplyAdd(high, factor, chain[j][1]);
    }
  }
  for (size_t j = 0; j < V::columns; ++j)
    for (size_t half = 0; half < 2; ++half) {
      T *to = sums + j * ld + half * V::lanes;
      V::store(to, fresh ? V::add(V::load(to), chain[j][half]) : chain[j][half]);
    }
}

// A matrix with one index along k and one along m or n: where its element is.
struct Strided {
  const void *base;
  size_t outer, depth; // distances in elements
};

Strided strided(const MatrixLayout &layout, const void *base, bool depthIsRow) {
  size_t row = layout.order == CUBLASLT_ORDER_ROW ? layout.ld : 1,
         column = layout.order == CUBLASLT_ORDER_ROW ? 1 : layout.ld;
  return depthIsRow ? Strided{base, column, row} : Strided{base, row, column};
}

// [first, first + count) x [depth, depth + depths) into groups of `width`, each depth by depth, the last filled with 0.
template <class T, class E, bool tf32>
void pack(const Strided &from, size_t first, size_t count, size_t depth, size_t depths, size_t width, T *to) {
  const E *base = static_cast<const E *>(from.base) + first * from.outer + depth * from.depth;
  auto load = [](E element) {
    if constexpr (tf32)
      return toTf32(element);
    else
      return T(widen(element));
  };
  for (size_t group = 0; group < count; group += width, to += width * depths) {
    size_t used = std::min(width, count - group);
    const E *begin = base + group * from.outer;
    if (used < width)
      std::fill_n(to, width * depths, T(0));
    if (from.outer == 1)
      for (size_t x = 0; x < depths; ++x)
        for (size_t i = 0; i < used; ++i)
          to[x * width + i] = load(begin[x * from.depth + i]);
    else
      for (size_t i = 0; i < used; ++i)
        for (size_t x = 0; x < depths; ++x)
          to[x * width + i] = load(begin[i * from.outer + x * from.depth]);
  }
}

template <class T> using Packer = void (*)(const Strided &, size_t, size_t, size_t, size_t, size_t, T *);
template <class T> Packer<T> packer(const Problem &problem) {
  if constexpr (std::is_same_v<T, double>) {
    return pack<double, double, false>;
  } else {
    switch (problem.a().type) {
    case CUDA_R_16F:
      return pack<float, Half, false>;
    case CUDA_R_16BF:
      return pack<float, BFloat16, false>;
    default:
      return problem.desc.computeType == CUBLAS_COMPUTE_32F_FAST_TF32 ? pack<float, float, true>
                                                                      : pack<float, float, false>;
    }
  }
}

size_t roundUp(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

// The sums of one panel, as they come to be.
template <class T> class PanelProduct {
public:
  PanelProduct(const Problem &problem, const Operands &operands, Scratch<T> &scratch)
      : m(problem.m), a(strided(problem.a(), operands.a, problem.desc.transA != CUBLAS_OP_N)),
        b(strided(problem.b(), operands.b, problem.desc.transB == CUBLAS_OP_N)), packElements(packer<T>(problem)),
        scratch(scratch), ld(roundUp(m, V::rows)) {
    scratch.packedA.resize(roundUp(cacheRows, V::rows) * cacheDepth);
    scratch.packedB.resize(roundUp(panelColumns, V::columns) * cacheDepth);
    scratch.sums.resize(ld * roundUp(panelColumns, V::columns));
  }

  void clear() { std::fill(scratch.sums.begin(), scratch.sums.end(), T(0)); }

  // Adds k in [begin, end) to the sums of these columns: one chain, or one for each `block` (fresh).
  template <bool fresh> void add(uint64_t first, uint64_t count, uint64_t begin, uint64_t end, size_t block) {
    for (uint64_t depth = begin; depth < end; depth += block) {
      size_t depths = std::min<uint64_t>(block, end - depth);
      packElements(b, first, count, depth, depths, V::columns, scratch.packedB.data());
      for (size_t row = 0; row < m; row += cacheRows) {
        size_t rows = std::min<size_t>(cacheRows, m - row);
        packElements(a, row, rows, depth, depths, V::rows, scratch.packedA.data());
        for (size_t j = 0; j < count; j += V::columns)
          for (size_t i = 0; i < rows; i += V::rows)
            multiplyTile<T, fresh>(scratch.packedA.data() + i * depths, scratch.packedB.data() + j * depths, depths,
                                   scratch.sums.data() + j * ld + row + i, ld);
      }
    }
  }

  Panel<T> panel(uint64_t first, uint64_t count) const { return {scratch.sums.data(), ld, first, count}; }

private:
  using V = Tile<T>;
  const size_t m;
  const Strided a, b;
  const Packer<T> packElements;
  Scratch<T> &scratch;
  const size_t ld;
};

// The parts' sums go through the workspace ([part][column][row]), as they do on a device.
template <class T>
void addParts(PanelProduct<T> &product, const Problem &problem, int32_t parts, T *workspace, uint64_t first,
              uint64_t count, std::vector<T> &sums, size_t ld) {
  uint64_t length = (problem.k + parts - 1) / parts, matrix = problem.m * problem.n;
  for (int32_t part = 0; part < parts; ++part) {
    product.clear();
    product.template add<false>(first, count, std::min(problem.k, part * length),
                                std::min(problem.k, (part + 1) * length), cacheDepth);
    for (uint64_t j = 0; j < count; ++j)
      std::copy_n(sums.data() + j * ld, problem.m, workspace + part * matrix + (first + j) * problem.m);
  }
  for (uint64_t j = 0; j < count; ++j)
    for (uint64_t i = 0; i < problem.m; ++i) {
      const T *of = workspace + (first + j) * problem.m + i;
      T sum = of[0];
      for (int32_t part = 1; part < parts; ++part)
        sum += of[part * matrix];
      sums[j * ld + i] = sum;
    }
}

// The sums of op(A)'s rows or op(B)'s columns over k, ascending.
template <class T> void sumInput(const Problem &problem, const Operands &operands, std::vector<T> &sums) {
  bool ofA = problem.desc.epilogue == CUBLASLT_EPILOGUE_BGRADA;
  Strided from = ofA ? strided(problem.a(), operands.a, problem.desc.transA != CUBLAS_OP_N)
                     : strided(problem.b(), operands.b, problem.desc.transB == CUBLAS_OP_N);
  std::vector<T> row(problem.k);
  for (size_t i = 0; i < sums.size(); ++i) {
    packer<T>(problem)(from, i, 1, 0, problem.k, 1, row.data());
    T sum = 0;
    for (T value : row)
      sum += value;
    sums[i] = sum;
  }
}

template <class T> void storeBias(const Problem &problem, void *bias, const std::vector<T> &sums) {
  for (size_t i = 0; i < sums.size(); ++i)
    if constexpr (std::is_same_v<T, double>)
      static_cast<double *>(bias)[i] = sums[i];
    else if (problem.biasType == CUDA_R_16F)
      narrow(sums[i], static_cast<Half *>(bias)[i]);
    else if (problem.biasType == CUDA_R_16BF)
      narrow(sums[i], static_cast<BFloat16 *>(bias)[i]);
    else
      static_cast<float *>(bias)[i] = sums[i];
}

} // namespace

template <class T>
void multiply(const Problem &problem, const Algorithm &algorithm, const Operands &operands, T alpha, T beta,
              Scratch<T> &scratch) {
  PanelProduct<T> product(problem, operands, scratch);
  std::vector<T> biasSums(problem.writesBiasGradient() ? problem.biasLength() : 0);
  if (problem.desc.epilogue == CUBLASLT_EPILOGUE_BGRADA || problem.desc.epilogue == CUBLASLT_EPILOGUE_BGRADB)
    sumInput(problem, operands, biasSums);
  for (uint64_t first = 0; first < problem.n; first += panelColumns) {
    uint64_t count = std::min<uint64_t>(panelColumns, problem.n - first);
    Panel<T> panel = product.panel(first, count);
    if (algorithm.id == algorithmSplits) {
      addParts(product, problem, algorithm.splits, static_cast<T *>(operands.workspace), first, count, scratch.sums,
               panel.ld);
    } else {
      product.clear();
      if (algorithm.id == algorithmBlocks)
        product.template add<true>(first, count, 0, problem.k, blockDepth);
      else
        product.template add<false>(first, count, 0, problem.k, cacheDepth);
    }
    finish(problem, operands, alpha, beta, panel, biasSums);
  }
  if (!biasSums.empty())
    storeBias(problem, operands.bias, biasSums);
}

template void multiply<float>(const Problem &, const Algorithm &, const Operands &, float, float, Scratch<float> &);
template void multiply<double>(const Problem &, const Algorithm &, const Operands &, double, double, Scratch<double> &);

} // namespace amc::emulated
