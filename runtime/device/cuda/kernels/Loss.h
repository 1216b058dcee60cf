// Parameters of the loss kernels. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_LOSS_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_LOSS_H

namespace amc {

struct LossRows {
  long long rows = 0, classes = 0, ignored = 0;
  double onLabel = 1, onAll = 0, zLoss = 0; // target: onLabel * w[label] at the label, onAll * w[c] everywhere
  const long long *labels = nullptr;
  const void *weights = nullptr;            // in the type of the loss; null: all 1
  unsigned long long *failure = nullptr;
};

} // namespace amc

#endif
