// Which bytes a matrix of a batch takes: the elements of its runs, not the padding between them.
#ifndef AMC_TEST_EMULATED_CUDA_CUBLASLT_RANGES_H
#define AMC_TEST_EMULATED_CUDA_CUBLASLT_RANGES_H

#include "test/emulated_cuda/Emulation.h"
#include <cstdint>
#include <vector>

namespace amc::emulated {

using Ranges = std::vector<EmulatedRange>;

// `batch` matrices, `stride` bytes apart, of `rows` rows of `bytes`, `pitch` bytes apart. What is contiguous becomes
// one row, what lies at equal distances one range. A stride or a pitch of 0 is the same matrix or row again. Matrices
// that overlap stay ranges of their own.
void append(Ranges &ranges, CUdeviceptr base, uint64_t bytes, uint64_t rows, uint64_t pitch, uint64_t batch,
            uint64_t stride);

// Whether some row of one is partly a row of the other.
bool overlap(const EmulatedRange &x, const EmulatedRange &y);
bool overlap(const Ranges &x, const Ranges &y);
// Whether two of the ranges have a byte in common.
bool overlapWithin(const Ranges &ranges);

} // namespace amc::emulated

#endif
