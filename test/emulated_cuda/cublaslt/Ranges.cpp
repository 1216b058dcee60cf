#include "test/emulated_cuda/cublaslt/Ranges.h"
#include <algorithm>
#include <utility>

namespace amc::emulated {
namespace {

CUdeviceptr endOf(const EmulatedRange &range) { return range.base + (range.rows - 1) * range.pitch + range.bytes; }

EmulatedRange hullOf(const Ranges &ranges) {
  CUdeviceptr begin = ~CUdeviceptr(0), end = 0;
  for (const EmulatedRange &range : ranges) {
    begin = std::min(begin, range.base);
    end = std::max(end, endOf(range));
  }
  return {begin, size_t(end - begin)};
}

} // namespace

void append(Ranges &ranges, CUdeviceptr base, uint64_t bytes, uint64_t rows, uint64_t pitch, uint64_t batch,
            uint64_t stride) {
  if (pitch == 0)
    rows = 1;
  if (stride == 0)
    batch = 1;
  if (pitch == bytes) {
    bytes *= rows;
    rows = 1;
  }
  if (rows == 1 && stride >= bytes) { // the matrices are the rows
    rows = batch;
    pitch = stride;
    batch = 1;
    if (pitch == bytes) {
      bytes *= rows;
      rows = 1;
    }
  } else if (stride == rows * pitch) { // the rows go on into the next matrix
    rows *= batch;
    batch = 1;
  }
  for (uint64_t i = 0; i < batch; ++i)
    ranges.push_back({base + i * stride, bytes, rows, rows == 1 ? bytes : pitch});
}

bool overlap(const EmulatedRange &x, const EmulatedRange &y) {
  if (!x.bytes || !y.bytes || endOf(x) <= y.base || endOf(y) <= x.base)
    return false;
  const auto [few, many] = x.rows <= y.rows ? std::pair(x, y) : std::pair(y, x);
  for (size_t row = 0; row < few.rows; ++row) {
    CUdeviceptr begin = few.base + row * few.pitch, firstEnd = many.base + many.bytes;
    size_t i = begin < firstEnd ? 0 : (begin - firstEnd) / many.pitch + 1; // the first that ends behind `begin`
    if (i < many.rows && many.base + i * many.pitch < begin + few.bytes)
      return true;
  }
  return false;
}

bool overlap(const Ranges &x, const Ranges &y) {
  if (x.empty() || y.empty() || !overlap(hullOf(x), hullOf(y)))
    return false;
  for (const EmulatedRange &one : x)
    for (const EmulatedRange &other : y)
      if (overlap(one, other))
        return true;
  return false;
}

bool overlapWithin(const Ranges &ranges) {
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].rows > 1 && ranges[i].pitch < ranges[i].bytes)
      return true;
    for (size_t j = 0; j < i; ++j)
      if (overlap(ranges[i], ranges[j]))
        return true;
  }
  return false;
}

} // namespace amc::emulated
