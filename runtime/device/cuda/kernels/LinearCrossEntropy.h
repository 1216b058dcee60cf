// Parameters of the loss's kernels. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_LINEARCROSSENTROPY_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_LINEARCROSSENTROPY_H

namespace amc {

// What a row of logits adds to the loss: runtime/device/cpu/RowLoss.h has the formulas.
struct RowLoss {
  long long ignored = 0, classes = 0, firstClass = 0; // of the whole vocabulary; of this rank's piece of it
  double onLabel = 1, onAll = 0, zLoss = 0, softcap = 0;
  const long long *labels = nullptr;
  const void *weights = nullptr; // of classes; null: all 1
  const double *total = nullptr; // sum of the weights; null: there are none, or nobody asks
  const void *bias = nullptr;
  unsigned long long *failure = nullptr; // a label that is no class
};

// What has been seen of a row of logits; double, so that the number of pieces does not show.
struct LogitSums {
  double top, sum, label, weighted;
};

// A tile of logits in memory: row r at r * columns. Where the gradient is narrower it stands at the beginning of its row.
struct LogitTile {
  void *logits = nullptr;
  int columns = 0;
  long long firstRow = 0, firstColumn = 0; // of all tokens; of this rank's classes
};

} // namespace amc

#endif
