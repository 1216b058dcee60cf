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
    long long offset = base;
    for (int d = rank - 1; d >= 0; --d) {
      offset += element % dims[d] * strides[d];
      element /= dims[d];
    }
    return offset;
  }
};

} // namespace amc

#endif
