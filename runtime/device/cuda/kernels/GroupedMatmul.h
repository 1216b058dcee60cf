// The parameter of grouped_matmul's kernels. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_GROUPEDMATMUL_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_GROUPEDMATMUL_H

namespace amc {

struct Grouped {
  int rows = 0, groups = 0;
  int inner = 0, columns = 0; // of x, of y or dy
  int tileRows = 0;           // rows of a tile of a group's product
  bool transposeW = false;    // [columns, inner]
  bool padded = false;        // rows of group `groups` have none
  bool wideIds = false;       // i64, else i32
  bool aligned = false;       // rows of all matrices begin at multiples of 16 bytes

  const void *x = nullptr, *w = nullptr, *dy = nullptr, *ids = nullptr;
  void *y = nullptr, *dw = nullptr;
  unsigned long long *failure = nullptr; // a group that there is not

  // In the workspace. Group e has rows order[starts[e]] to order[starts[e + 1] - 1], and tiles tiles[e] to tiles[e + 1] - 1;
  // `groups` stands for rows without one.
  int *counts = nullptr, *starts = nullptr, *tiles = nullptr, *order = nullptr;
};

} // namespace amc

#endif
