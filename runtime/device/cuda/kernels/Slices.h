// Parameters of kernels that are driven by indices. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_SLICES_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_SLICES_H

#include "runtime/device/cuda/kernels/Strided.h"

namespace amc {

// Tuples of indices, each of which names a slice of `inner` elements of a tensor [batches, slices, inner]; negative indices
// count from the end. Of slices that are spread over ranks these are [first, first + slices).
struct Slices {
  const void *indices = nullptr;
  int wide = 0;                         // i64, else i32
  int shared = 0;                       // all batches have the same tuples
  int length = 1;                       // of a tuple
  long long limits[Strided::maxRank] = {};
  long long count = 1, slices = 1, inner = 1, first = 0; // `count` tuples of a batch
  unsigned long long *failures = nullptr; // a slot for each place in a tuple
};

// What scatter_elements and gather_elements do along the lines of an axis; `length` indices of a line choose among `limit`.
struct Lines {
  const void *indices = nullptr;
  int wide = 0;
  int innermost = 0;                    // the axis is: indices of a line stand in a row
  long long length = 1, limit = 1, idStep = 1, xStep = 1;
  Strided ids, x;                       // where a line begins among the indices, and in the tensor
  unsigned long long *failure = nullptr;
};

// How what is there and an update become one.
enum class Combine : int { None, Add, Mul, Max, Min };

} // namespace amc

#endif
