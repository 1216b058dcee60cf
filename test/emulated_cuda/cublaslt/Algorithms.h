// The ways in which a product can be computed, and how a caller's opaque algorithm names one. They differ in the order
// in which the k products of an element are added, each of them fixed for a shape; all start at zero and use fused
// multiply-adds in fp32 (f64 for f64):
//
//   chain   one chain over k, ascending. Takes any alignment.
//   blocks  one chain for each 128 of k, the sums added in ascending order.
//   splits  2 to 16 parts of k, of ceil(k / parts) each but the last, a chain each, stored in the workspace and
//           added in ascending order.
//
// Tiles, stages and the other settings are kept and checked, but change nothing here.
#ifndef AMC_TEST_EMULATED_CUDA_CUBLASLT_ALGORITHMS_H
#define AMC_TEST_EMULATED_CUDA_CUBLASLT_ALGORITHMS_H

#include "test/emulated_cuda/cublaslt/Problem.h"

namespace amc::emulated {

enum AlgorithmId { algorithmChain = 0, algorithmBlocks = 1, algorithmSplits = 2, algorithmCount = 3 };

inline constexpr uint64_t blockDepth = 128;
inline constexpr int32_t maxSplits = 16;
inline constexpr size_t workspaceAlignment = 256; // what the original asks for

// What stands in a cublasLtMatmulAlgo_t.
struct Algorithm {
  static constexpr uint32_t aliveMark = 0x4c74414c;
  uint32_t mark = aliveMark;
  int32_t id = algorithmChain;
  uint32_t tile = CUBLASLT_MATMUL_TILE_UNDEFINED;
  int32_t splits = 1;
  uint32_t reductionScheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  uint32_t swizzling = 0, customOption = 0, stages = CUBLASLT_MATMUL_STAGES_UNDEFINED;
  uint16_t innerShape = 0, clusterShape = 0;
  uint8_t computeType = 0, scaleType = 0, types[4] = {}; // it was made for these, by Operand
  uint8_t alignmentLog[4] = {};                          // what the caller has promised of its pointers, by Operand
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

// The one for a caller who names none: promised of the pointers is an element's alignment.
Algorithm chainFor(const Problem &problem);

// Null, and a finding, if the structure holds none.
const Algorithm *find(const cublasLtMatmulAlgo_t *algo, const char *call);

// Whether the algorithm can compute the problem; a finding where it was made for other types.
cublasStatus_t checkAlgorithm(const Algorithm &algorithm, const Problem &problem, const char *call);

// Bytes, a multiple of workspaceAlignment.
uint64_t workspaceBytes(const Algorithm &algorithm, const Problem &problem);

} // namespace amc::emulated

#endif
