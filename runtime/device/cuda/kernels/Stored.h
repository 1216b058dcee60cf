// Types of elements, as kernels that take any are told them. For host and device.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_STORED_H
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_STORED_H

namespace amc {

enum class Stored : int { F32, BF16, F16, F64, I64, I32, I16, I8, U64, U32, U16, U8, Bool };

} // namespace amc

#endif
