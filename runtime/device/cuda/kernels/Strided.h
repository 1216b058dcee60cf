// A parameter of kernels that walk over a tensor with strides of their own. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_STRIDED_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_STRIDED_H

#ifdef __CUDACC__
#define AMC_HOST_DEVICE __host__ __device__
#else
#define AMC_HOST_DEVICE
#endif

namespace amc {

struct Strided {
  static constexpr int maxRank = 12;
  long long elements = 1;
  long long base = 0; // where element 0 is
  int rank = 0;
  long long dims[maxRank] = {}, strides[maxRank] = {}; // in elements

  AMC_HOST_DEVICE long long offsetOf(long long element) const {
    return elements <= 0x7fffffff ? offsetIn(static_cast<unsigned>(element)) : offsetIn(element);
  }

private:
  // Divisions of 32 bits cost a GPU a fraction of those of 64.
  template <class Index> AMC_HOST_DEVICE long long offsetIn(Index element) const {
    if (rank == 0)
      return base;
    long long offset = base;
    for (int d = rank - 1; d > 0; --d) {
      const Index dim = static_cast<Index>(dims[d]);
      offset += static_cast<long long>(element % dim) * strides[d];
      element /= dim;
    }
    return offset + static_cast<long long>(element) * strides[0];
  }
};

// Transposition as a number of planes: a plane's rows are apart by `ldx` in the operand, its columns by `ldy` in the result,
// and the other stride is 1 in either.
struct Planes {
  long long rows = 1, ldx = 1, columns = 1, ldy = 1;
  long long down = 1, across = 1;    // tiles of a plane
  Strided source, result;            // where a plane begins
};

} // namespace amc

#endif
