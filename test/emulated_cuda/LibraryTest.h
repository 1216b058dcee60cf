// What the tests of the emulated libraries share: a device, memory of it, and comparisons that a NaN fails.
#ifndef AMC_TEST_EMULATED_CUDA_LIBRARYTEST_H
#define AMC_TEST_EMULATED_CUDA_LIBRARYTEST_H

#include "test/emulated_cuda/Elements.h"
#include "test/emulated_cuda/Emulation.h"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace amc::emulated::test {

// Calls of the driver that cannot fail in a test worth running.
inline void must(CUresult result, const char *what) {
  if (result != CUDA_SUCCESS) {
    fprintf(stderr, "%s: %d\n", what, int(result));
    std::abort();
  }
}
#define MUST(call) ::amc::emulated::test::must(call, #call)

// A device's primary context, current while it lives.
class Device {
public:
  explicit Device(int ordinal = 0) {
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, ordinal));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  }
  ~Device() {
    MUST(cuCtxSetCurrent(context));
    MUST(cuStreamDestroy(stream));
    MUST(cuCtxSetCurrent(nullptr));
    MUST(cuDevicePrimaryCtxRelease(device));
  }
  Device(const Device &) = delete;
  CUcontext context;
  CUstream stream;

private:
  CUdevice device;
};

// Elements in memory of the device.
template <class E> class Buffer {
public:
  explicit Buffer(const std::vector<E> &values) : count(values.size()) {
    MUST(cuMemAlloc(&base, count * sizeof(E)));
    MUST(cuMemcpyHtoD(base, values.data(), count * sizeof(E)));
  }
  ~Buffer() { cuMemFree(base); }
  Buffer(const Buffer &) = delete;
  std::vector<E> read() const {
    std::vector<E> values(count);
    MUST(cuMemcpyDtoH(values.data(), base, count * sizeof(E)));
    return values;
  }
  void *at(size_t element = 0) const { return reinterpret_cast<void *>(base + element * sizeof(E)); }

private:
  CUdeviceptr base = 0;
  size_t count;
};

// What has been found since the last call; the process may succeed nevertheless.
inline std::string takeFindings() {
  std::string text(16384, 0);
  size_t count = emulatedCudaTakeFindings(text.data(), text.size());
  text.resize(text.find('\0'));
  return count ? text : "";
}

template <class E> E element(double value) {
  E made;
  if constexpr (std::is_same_v<E, double>)
    made = value;
  else
    narrow(float(value), made);
  return made;
}

inline std::vector<double> uniform(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<double> values(count);
  for (double &value : values)
    value = double(random()) / double(1u << 31) - 1;
  return values;
}

template <class E> std::vector<E> elements(const std::vector<double> &values) {
  std::vector<E> made;
  for (double value : values)
    made.push_back(element<E>(value));
  return made;
}

template <class E> std::vector<double> numbers(const std::vector<E> &values) {
  std::vector<double> made;
  for (E value : values)
    made.push_back(double(widen(value)));
  return made;
}

// The largest difference as a share of its bound: within it if `<= 1`, which neither a NaN nor other sizes are.
inline double worst(const std::vector<double> &got, const std::vector<double> &want,
                    const std::vector<double> &bounds) {
  if (got.size() != want.size() || got.size() != bounds.size())
    return std::numeric_limits<double>::quiet_NaN();
  double share = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    double difference = std::fabs(got[i] - want[i]);
    double one = difference == 0 ? 0 : difference / bounds[i];
    if (!(one <= share))
      share = one;
    if (std::isnan(share))
      return share;
  }
  return share;
}

} // namespace amc::emulated::test

#endif
