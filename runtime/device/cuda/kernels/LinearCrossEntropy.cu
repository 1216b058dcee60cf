// What linear_cross_entropy and its backward do to a tile of logits between products: f32, f64, bf16 and f16, logits in fp32
// (f64 for f64). A block has a row of the tile, reads it twice while it is in the cache, and adds it up in a tree that the
// number of columns fixes; what is known of a row is carried from tile to tile in double. Formulas:
// runtime/device/cpu/RowLoss.h.
#include "Common.cuh"
#include "runtime/device/cuda/kernels/LinearCrossEntropy.h"

using namespace amc;

namespace {

constexpr int threads = 256;
constexpr double infinity = __builtin_huge_val();

// The options with the values of one run.
template <class T> struct Options {
  const RowLoss &p;
  T onLabel, onAll, zLoss, softcap, total;
  const T *weights;

  __device__ explicit Options(const RowLoss &p)
      : p(p), onLabel(static_cast<T>(p.onLabel)), onAll(static_cast<T>(p.onAll)), zLoss(static_cast<T>(p.zLoss)),
        softcap(static_cast<T>(p.softcap)), total(static_cast<T>(p.total ? *p.total : static_cast<double>(p.classes))),
        weights(static_cast<const T *>(p.weights)) {}
  __device__ T labelTarget(i64 label) const { return weights ? onLabel * weights[label] : onLabel; }
  __device__ bool isClass(i64 label) const { return label >= 0 && label < p.classes; }
};

// The logit of class `column` of this rank as it counts; `slope` becomes the derivative of the softcap.
template <class S>
__device__ WideOf<S> logitOf(WideOf<S> product, const Options<WideOf<S>> &options, i64 column, WideOf<S> &slope) {
  using T = WideOf<S>;
  T x = options.p.bias ? product + widen(static_cast<const S *>(options.p.bias)[column]) : product;
  slope = T(1);
  if (options.softcap > T(0)) {
    const T t = tanh(x / options.softcap);
    slope = T(1) - t * t;
    x = options.softcap * t;
  }
  return x;
}

// sums of the tile's rows += what the tile shows. The first tile begins them.
template <class S> __device__ void addToSums(const RowLoss &p, const LogitTile &tile, LogitSums *sums) {
  using T = WideOf<S>;
  __shared__ T partial[32];
  const Options<T> options(p);
  T *z = static_cast<T *>(tile.logits) + static_cast<i64>(blockIdx.x) * tile.columns;
  const bool changes = p.bias || options.softcap > T(0);
  T top = static_cast<T>(-infinity), sum = T(0), weighted = T(0), slope;
  for (int i = threadIdx.x; i < tile.columns; i += threads) {
    T x = z[i];
    if (changes)
      z[i] = x = logitOf<S>(x, options, tile.firstColumn + i, slope);
    top = max(top, x);
    if (options.onAll != T(0))
      weighted += options.weights ? options.weights[tile.firstColumn + i] * x : x;
  }
  top = maxOfBlock(top, partial);
  const T from = top == static_cast<T>(-infinity) ? T(0) : top;
  for (int i = threadIdx.x; i < tile.columns; i += threads)
    sum += exp(z[i] - from);
  sum = sumOfBlock(sum, partial);
  weighted = sumOfBlock(weighted, partial); // behind it all have written z
  if (threadIdx.x)
    return;
  const i64 row = tile.firstRow + blockIdx.x;
  LogitSums known = {-infinity, 0, 0, 0};
  if (tile.firstColumn > 0)
    known = sums[row];
  if (top > known.top) {
    known.sum = known.sum * exp(known.top - top) + sum;
    known.top = top;
  } else {
    known.sum += known.top == -infinity ? sum : sum * exp(top - known.top);
  }
  if (const i64 at = p.labels[row] - p.firstClass - tile.firstColumn; at >= 0 && at < tile.columns)
    known.label = z[at];
  known.weighted += weighted;
  sums[row] = known;
}

// The rows' log-sum-exp and losses, from what each of the members knows of them.
template <class T>
__device__ void finishRows(const RowLoss &p, const LogitSums *sums, int members, i64 tokens, T *lse, T *losses) {
  const i64 row = globalThread();
  if (row >= tokens)
    return;
  const Options<T> options(p);
  LogitSums all = sums[row];
  for (int member = 1; member < members; ++member) {
    const LogitSums other = sums[member * tokens + row];
    if (other.top > all.top) {
      all.sum = all.sum * exp(all.top - other.top) + other.sum;
      all.top = other.top;
    } else {
      all.sum += all.top == -infinity ? other.sum : other.sum * exp(other.top - all.top);
    }
    all.label += other.label;
    all.weighted += other.weighted;
  }
  const T sum = static_cast<T>(all.sum > 0 || all.sum != all.sum ? all.top + log(all.sum) : all.top);
  lse[row] = sum;
  const i64 label = p.labels[row];
  T loss = T(0);
  if (label != p.ignored && !options.isClass(label)) {
    fail(p.failure, row, label);
  } else if (label != p.ignored) {
    loss = options.labelTarget(label) * (sum - static_cast<T>(all.label));
    if (options.onAll != T(0))
      loss += options.onAll * (options.total * sum - static_cast<T>(all.weighted));
    if (options.zLoss != T(0))
      loss += options.zLoss * sum * sum;
  }
  losses[row] = loss;
}

// Logits become their gradient, in S.
template <class S> __device__ void makeGradient(const RowLoss &p, const LogitTile &tile, const WideOf<S> *dloss, const WideOf<S> *lse) {
  using T = WideOf<S>;
  constexpr int each = 4;
  const Options<T> options(p);
  const T *z = static_cast<const T *>(tile.logits) + static_cast<i64>(blockIdx.x) * tile.columns;
  S *dz = reinterpret_cast<S *>(static_cast<T *>(tile.logits) + static_cast<i64>(blockIdx.x) * tile.columns);
  const i64 row = tile.firstRow + blockIdx.x, label = p.labels[row];
  const bool counts = label != p.ignored && options.isClass(label);
  if (label != p.ignored && !counts && threadIdx.x == 0)
    fail(p.failure, row, label);
  const T scale = *dloss, sum = lse[row], onLabel = counts ? scale * options.labelTarget(label) : T(0), onEach = scale * options.onAll;
  T factor = counts ? options.labelTarget(label) : T(0);
  if (options.onAll != T(0))
    factor += options.onAll * options.total;
  if (options.zLoss != T(0))
    factor += 2 * options.zLoss * sum;
  factor *= scale;
  const i64 at = label - p.firstClass - tile.firstColumn;
  // Narrow ones move towards the row's beginning: all of a part are read before any is written.
  for (int first = 0; first < tile.columns; first += each * threads) {
    T gradients[each];
#pragma unroll
    for (int n = 0; n < each; ++n) {
      const int i = first + n * threads + threadIdx.x;
      if (i >= tile.columns || !counts)
        continue;
      T slope;
      T gradient = factor * exp(logitOf<S>(z[i], options, tile.firstColumn + i, slope) - sum);
      if (options.onAll != T(0))
        gradient -= options.weights ? onEach * options.weights[tile.firstColumn + i] : onEach;
      if (i == at)
        gradient -= onLabel;
      gradients[n] = gradient * slope;
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < each; ++n)
      if (const int i = first + n * threads + threadIdx.x; i < tile.columns)
        dz[i] = counts ? narrow<S>(gradients[n]) : narrow<S>(T(0));
  }
}

// sums[column] (+)= the column's sum over rows of a matrix, `pitch` elements apart. Blocks of 32 x 8 threads.
template <class S> __device__ void sumColumns(const S *x, int rows, int columns, i64 pitch, WideOf<S> *sums, bool add) {
  using T = WideOf<S>;
  __shared__ T partial[8][32];
  const int tx = threadIdx.x % 32, ty = threadIdx.x / 32, column = static_cast<int>(blockIdx.x) * 32 + tx;
  T sum = T(0);
  for (int row = ty; row < rows && column < columns; row += 8)
    sum += widen(x[row * pitch + column]);
  partial[ty][tx] = sum;
  __syncthreads();
  if (ty || column >= columns)
    return;
  for (int n = 1; n < 8; ++n)
    sum += partial[n][tx];
  sums[column] = add ? sums[column] + sum : sum;
}

// The sum of a tensor, in double, by one block.
template <class T, class R> __device__ void sumAll(const T *x, i64 n, R *result) {
  __shared__ double partial[32];
  double sum = 0;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x)
    sum += static_cast<double>(x[i]);
  sum = sumOfBlock(sum, partial);
  if (threadIdx.x == 0)
    *result = static_cast<R>(sum);
}

} // namespace

#define MAKE(S, suffix)                                                                                                \
  extern "C" __global__ void __launch_bounds__(threads) loss_sums_##suffix(RowLoss p, LogitTile tile, LogitSums *sums) { \
    addToSums<S>(p, tile, sums);                                                                                       \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(threads)                                                                \
      loss_gradient_##suffix(RowLoss p, LogitTile tile, const WideOf<S> *dloss, const WideOf<S> *lse) {                \
    makeGradient<S>(p, tile, dloss, lse);                                                                              \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(threads)                                                                \
      loss_bias_##suffix(const S *x, int rows, int columns, i64 pitch, WideOf<S> *sums, int add) {                     \
    sumColumns<S>(x, rows, columns, pitch, sums, add != 0);                                                            \
  }                                                                                                                    \
  /* Rows of `columns`, at pitches of their own, rounded. */                                                           \
  extern "C" __global__ void __launch_bounds__(threads)                                                                \
      loss_round_##suffix(const WideOf<S> *from, i64 fromPitch, S *to, i64 toPitch, i64 elements, i64 columns) {       \
    if (const i64 i = globalThread(); i < elements)                                                                    \
      to[i / columns * toPitch + i % columns] = narrow<S>(from[i / columns * fromPitch + i % columns]);                \
  }
AMC_FOR_FLOATS(MAKE)
#undef MAKE

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void loss_finish_##suffix(RowLoss p, const LogitSums *sums, int members, i64 tokens, T *lse,   \
                                                  T *losses) {                                                         \
    finishRows<T>(p, sums, members, tokens, lse, losses);                                                              \
  }                                                                                                                    \
  extern "C" __global__ void loss_total_##suffix(const T *losses, i64 tokens, T *loss) { sumAll(losses, tokens, loss); } \
  extern "C" __global__ void loss_weights_##suffix(const T *weights, i64 classes, double *total) {                     \
    sumAll(weights, classes, total);                                                                                   \
  }
MAKE(float, f32)
MAKE(double, f64)
#undef MAKE
