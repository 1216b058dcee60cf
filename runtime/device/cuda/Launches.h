// What families of kernels are launched with.
#ifndef AMC_RUNTIME_DEVICE_CUDA_LAUNCHES_H
#define AMC_RUNTIME_DEVICE_CUDA_LAUNCHES_H

#include "runtime/device/cuda/Ptx.h"
#include "runtime/device/cuda/Registry.h"
#include "runtime/device/cuda/kernels/Stored.h"
#include "runtime/device/cuda/kernels/Strided.h"

namespace amc::rt::cuda {

// Of a block, where a kernel does not say otherwise.
inline constexpr unsigned blockThreads = 256;
// A thread for each of `n`.
inline Grid gridOf(int64_t n) { return {static_cast<uint64_t>(ceilDiv(n, blockThreads))}; }
// Threads of a block that works on a row: whole warps, no more than the row or `most` have use for.
inline unsigned rowThreads(int64_t columns, unsigned most = blockThreads) {
  return static_cast<unsigned>(std::min<int64_t>(most, std::max<int64_t>(1, ceilDiv(columns, 32)) * 32));
}

// The type as kernels/Stored.cuh is told it.
Stored storedOf(plan::DType dtype);
// "f32", "f64", "i64" or "u64": what arithmetic on such elements is done in.
const char *computeSuffix(plan::DType dtype);

// ---- walks

std::vector<int64_t> stridesOf(const std::vector<int64_t> &shape);
// What walks over a tensor of `shape`, row by row, with the strides of another; neighbours that stay together are
// joined.
Strided stridedOf(const std::vector<int64_t> &shape, const std::vector<int64_t> &strides, int64_t base = 0);
inline Strided contiguous(int64_t elements) { return stridedOf({elements}, {1}); }
// The walk over a tensor of `shape` that NumPy broadcasts to `result`.
Strided broadcastWalk(const std::vector<int64_t> &shape, const std::vector<int64_t> &result);

// Moves elements of `width` bytes from one walk to another of as many, several at once where walks and addresses allow
// it.
class Move {
public:
  static Expected<Move> create(Maker &maker, uint64_t width, const Strided &from, const Strided &to);
  Status enqueue(Stream &stream, const std::byte *x, std::byte *y) const;

private:
  struct Way {
    CUfunction function;
    Strided from, to;
    uint64_t bytes; // that are moved at once
  };
  std::vector<Way> ways; // the widest first
};

// A kernel that moves rows of `rowBytes` bytes as elements of `inner` to a row: NAME_16, NAME_8 and so on, down to
// NAME_WIDTH.
class RowMover {
public:
  static Expected<RowMover> create(Maker &maker, const KernelImage &image, const std::string &name, uint64_t width,
                                   uint64_t rowBytes);
  struct Way {
    CUfunction function;
    int64_t inner;
    uint64_t bytes; // of an element
  };
  // The widest that these addresses allow.
  const Way &at(const std::byte *x, const std::byte *y) const;

private:
  std::vector<Way> ways; // the widest first
};

// What fills a tensor of `n` elements of `width` bytes.
class Fill {
public:
  static Expected<Fill> create(Maker &maker, uint64_t width, int64_t n);
  // `bits`: the element's, in the lowest bytes.
  Status enqueue(Stream &stream, std::byte *y, uint64_t bits) const;

private:
  CUfunction function;
  int64_t n;
};
// The bits of an element (f32 and narrower floats rounded once, integers to the nearest).
uint64_t elementBits(plan::DType dtype, double value);

} // namespace amc::rt::cuda

#endif
