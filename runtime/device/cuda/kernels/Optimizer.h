// Parameters of the optimizers' kernels. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_OPTIMIZER_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_OPTIMIZER_H

namespace amc {

// Scalars in f64 that one launch adds up.
struct Scalars {
  static constexpr int most = 480; // 4 KiB of parameters are what every driver takes
  int count = 0;
  const double *at[most] = {};
};

// An operand of an update, f32 or, if `narrow`, bf16; f64 in a kernel of f64.
struct Updated {
  void *data = nullptr; // null: it has none
  int narrow = 0;
};

struct AdamW {
  double beta1, beta2, epsilon, weightDecay;
  long long n;
  Updated parameter, gradient, first, second, master;
  const float *scale;
  const double *learningRate;
  const long long *step;
};

struct Sgd {
  double momentum, weightDecay;
  int nesterov;
  long long n;
  Updated parameter, gradient, buffer, master;
  const float *scale;
  const double *learningRate;
  const long long *step;
};

} // namespace amc

#endif
