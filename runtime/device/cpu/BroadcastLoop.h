// NumPy broadcasting as loops: all dimensions that advance alike are joined, so the innermost loop is long and each
// operand either advances by one element in it or stands still.
#ifndef AMC_RUNTIME_DEVICE_CPU_BROADCASTLOOP_H
#define AMC_RUNTIME_DEVICE_CPU_BROADCASTLOOP_H

#include "runtime/device/cpu/Registry.h"
#include <array>

namespace amc::rt::cpu {

template <size_t N> struct BroadcastLoop {
  int64_t inner = 1;              // elements of the innermost loop
  int64_t rows = 1;               // of them
  std::array<int, N> step{};      // 0 or 1, of each operand in the innermost loop
  size_t rank = 0;                // outer dimensions
  int64_t dims[maxRank];
  int64_t strides[N][maxRank];    // in elements
  bool empty = false;

  static BroadcastLoop create(const std::vector<int64_t> &result,
                              const std::array<const std::vector<int64_t> *, N> &shapes) {
    BroadcastLoop loop;
    struct Dim {
      int64_t size;
      int64_t stride[N];
    };
    std::vector<Dim> joined; // innermost first
    int64_t running[N];
    std::fill(running, running + N, 1);
    for (size_t i = 0; i < result.size(); ++i) {
      Dim dim{result[result.size() - 1 - i], {}};
      loop.empty |= dim.size == 0;
      bool joins = !joined.empty();
      for (size_t k = 0; k < N; ++k) {
        const std::vector<int64_t> &shape = *shapes[k];
        int64_t size = i < shape.size() ? shape[shape.size() - 1 - i] : 1;
        dim.stride[k] = size == 1 ? 0 : running[k];
        running[k] *= size;
      }
      if (dim.size == 1)
        continue;
      for (size_t k = 0; joins && k < N; ++k)
        joins = dim.stride[k] == joined.back().stride[k] * joined.back().size;
      if (joins)
        joined.back().size *= dim.size;
      else
        joined.push_back(dim);
    }
    if (joined.empty())
      return loop;
    loop.inner = joined[0].size;
    for (size_t k = 0; k < N; ++k)
      loop.step[k] = static_cast<int>(joined[0].stride[k]);
    loop.rank = joined.size() - 1;
    for (size_t i = 0; i < loop.rank; ++i) {
      const Dim &dim = joined[joined.size() - 1 - i]; // outermost first
      loop.dims[i] = dim.size;
      loop.rows *= dim.size;
      for (size_t k = 0; k < N; ++k)
        loop.strides[k][i] = dim.stride[k];
    }
    return loop;
  }

  // body(position in the result, offsets of the operands, count); in any order, never more than elementGrain at once.
  template <class Body> void run(ThreadPool &pool, Body &&body) const {
    if (empty)
      return;
    if (inner >= elementGrain) {
      int64_t segments = ceilDiv(inner, elementGrain);
      pool.parallelFor(rows * segments, [&](int64_t piece, unsigned) {
        int64_t row = piece / segments, begin = piece % segments * elementGrain;
        std::array<int64_t, N> at = offsets(row);
        for (size_t k = 0; k < N; ++k)
          at[k] += begin * step[k];
        body(row * inner + begin, at, std::min(elementGrain, inner - begin));
      });
      return;
    }
    parallelRange(pool, rows, rowGrain(inner), [&](int64_t begin, int64_t end) {
      int64_t index[maxRank];
      std::array<int64_t, N> at = offsets(begin, index);
      for (int64_t row = begin; row < end; ++row) {
        body(row * inner, at, inner);
        for (size_t d = rank; d-- > 0;) {
          bool carry = ++index[d] == dims[d];
          for (size_t k = 0; k < N; ++k)
            at[k] += carry ? -strides[k][d] * (dims[d] - 1) : strides[k][d];
          if (!carry)
            break;
          index[d] = 0;
        }
      }
    });
  }

private:
  std::array<int64_t, N> offsets(int64_t row, int64_t *index = nullptr) const {
    std::array<int64_t, N> at{};
    for (size_t d = rank; d-- > 0;) {
      int64_t i = row % dims[d];
      row /= dims[d];
      if (index)
        index[d] = i;
      for (size_t k = 0; k < N; ++k)
        at[k] += i * strides[k][d];
    }
    return at;
  }
};

} // namespace amc::rt::cpu

#endif
