// Parameters of the reductions' kernels. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_REDUCTION_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_REDUCTION_H

#include "runtime/device/cuda/kernels/Strided.h"

namespace amc {

enum class Reduce : int { Sum, Mean, Prod, Max, Min };

struct Reduction {
  int kind = 0, from = 0, to = 0;         // Reduce; Stored, of operand and result
  long long pieces = 1, each = 0;         // terms of a result are cut into, and how many each has
  Strided kept, reduced;                  // where a result's terms begin in the operand, and where each is from there
};

} // namespace amc

#endif
