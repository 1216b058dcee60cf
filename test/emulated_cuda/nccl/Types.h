// What NCCL's types and operations are here: sizes, names, and the reduction.
//
// A reduction goes over the ranks in ascending order, element by element: f32, f16, bf16 and fp8 in fp32, rounded once
// at the end; f64 in f64; integers in their own type, wrapping around. An average is the sum divided by the number of
// ranks. In a minimum or maximum a NaN wins.
#ifndef AMC_TEST_EMULATED_CUDA_NCCL_TYPES_H
#define AMC_TEST_EMULATED_CUDA_NCCL_TYPES_H

#include <cstddef>
#include <nccl.h>
#include <string>
#include <vector>

namespace amc::emulated {

// 0: no such type.
size_t elementBytes(ncclDataType_t type);
const char *typeName(ncclDataType_t type);
// Null: no such operation, or one that is not modelled.
const char *operationName(ncclRedOp_t op);

// result[i] = the reduction of inputs[rank][i]. `result` may be none of the inputs.
void reduce(ncclDataType_t type, ncclRedOp_t op, const std::vector<const void *> &inputs, void *result, size_t count);

} // namespace amc::emulated

#endif
