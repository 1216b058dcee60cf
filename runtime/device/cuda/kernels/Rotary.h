// Parameters of the rotary kernels. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_ROTARY_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_ROTARY_H

namespace amc {

// cos or sin, which broadcast to [batch, heads, length, width].
struct RotaryTable {
  const void *data = nullptr;
  int narrow = 0;              // bf16 beside data in bf16; else of the arithmetic type
  long long strides[4] = {};
};

struct Rotary {
  long long pairs = 0, heads = 1, length = 1, half = 1;
  int interleaved = 0, backward = 0;
  RotaryTable cos, sin;
};

} // namespace amc

#endif
