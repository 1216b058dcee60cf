// The parameter of attention's kernels: shapes, masks and addresses. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_ATTENTION_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_ATTENTION_H

namespace amc {

struct Attention {
  // Positions and lengths are below this, and so is what left and right say (it is unlimited, then).
  static constexpr int unlimited = 1 << 30;

  int batch = 0, heads = 0, keyHeads = 0, queries = 0, keys = 0, width = 0, valueWidth = 0;
  double scale = 1, softcap = 0;
  int left = unlimited, right = unlimited;
  int members = 1, member = 0; // of a group that queries are spread over
  bool zigzag = false;         // in two runs each: compiler/dialect/AttentionOps.td
  bool average = false;        // what a row with nothing to attend to gives
  bool wideBias = false;       // stored as what is computed in
  long long biasStrides[4] = {};

  // Dropout of probabilities: words below the threshold drop; none if it is 0. `counters`: seed, step, micro-batch.
  unsigned long long threshold = 0;
  unsigned stream = 0;
  double keepScale = 1;
  const long long *counters[3] = {};

  const void *q = nullptr, *k = nullptr, *v = nullptr;
  const unsigned char *padding = nullptr; // null: all keys are kept
  const void *bias = nullptr;
  bool aligned = false; // rows of q, k, v, y and their gradients begin at multiples of 16 bytes

  void *y = nullptr, *lse = nullptr; // results, in backward operands
  const void *dy = nullptr;
  void *dq = nullptr, *dk = nullptr, *dv = nullptr;
  void *delta = nullptr;             // of each row: the sum of dy * y
  unsigned char *averaged = nullptr; // of each row: whether it has nothing to attend to
};

} // namespace amc

#endif
