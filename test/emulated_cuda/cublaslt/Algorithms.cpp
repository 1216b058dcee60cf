// The choice of algorithms, and the part of the interface that reads and changes one.
#include "test/emulated_cuda/cublaslt/Algorithms.h"
#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <vector>

namespace amc::emulated {
namespace {

constexpr uint32_t tiles[] = {CUBLASLT_MATMUL_TILE_64x64, CUBLASLT_MATMUL_TILE_128x128};
constexpr uint32_t stages[] = {CUBLASLT_MATMUL_STAGES_UNDEFINED};

// Bytes to which pointers, and the distances of runs and matrices, must be aligned.
uint32_t neededAlignment(int32_t id, uint32_t type) { return id == algorithmChain ? elementBytes(type) : 16; }

bool isAligned(const MatrixLayout &layout, uint32_t alignment) {
  size_t bytes = elementBytes(layout.type);
  return layout.ld * bytes % alignment == 0 && layout.batchStride * bytes % alignment == 0;
}

uint64_t numericalFlags(const Algorithm &algorithm) {
  uint64_t accumulator = algorithm.computeType == CUBLAS_COMPUTE_64F ? CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_64F
                                                                     : CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F;
  if (algorithm.computeType == CUBLAS_COMPUTE_32F_FAST_TF32)
    return CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | accumulator | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32;
  switch (algorithm.types[operandA]) {
  case CUDA_R_16F:
    return CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | accumulator | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F;
  case CUDA_R_16BF:
    return CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | accumulator | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF;
  case CUDA_R_64F:
    return CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | accumulator | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_64F;
  default:
    return CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | accumulator | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F;
  }
}

float waves(const Problem &problem) {
  uint64_t blocks = (problem.m + 63) / 64 * ((problem.n + 63) / 64) * problem.batch;
  return float(blocks) / 132;
}

Algorithm makeAlgorithm(int32_t id, int32_t splits, const Problem &problem) {
  Algorithm made;
  made.id = id;
  made.tile = tiles[problem.m >= 128 && problem.n >= 128];
  made.splits = splits;
  made.reductionScheme = splits > 1 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
  made.computeType = uint8_t(problem.desc.computeType);
  made.scaleType = uint8_t(problem.desc.scaleType);
  for (int operand = operandA; operand <= operandD; ++operand) {
    made.types[operand] = uint8_t(problem.layouts[operand].type);
    made.alignmentLog[operand] = uint8_t(std::countr_zero(neededAlignment(id, problem.layouts[operand].type)));
  }
  return made;
}

void store(const Algorithm &algorithm, cublasLtMatmulAlgo_t &algo) {
  std::memset(&algo, 0, sizeof algo);
  new (&algo) Algorithm(algorithm);
}

// Whether the problem, and pointers of these alignments, suit the algorithm.
bool suits(const Algorithm &algorithm, const Problem &problem, const uint32_t (&alignment)[4]) {
  for (int operand = operandA; operand <= operandD; ++operand) {
    uint32_t needed = neededAlignment(algorithm.id, problem.layouts[operand].type);
    if (alignment[operand] < needed || !isAligned(problem.layouts[operand], needed))
      return false;
  }
  return algorithm.id != algorithmSplits || problem.k >= uint64_t(algorithm.splits);
}

bool allowed(const Algorithm &algorithm, const Problem &problem, const MatmulPreference &preference) {
  return workspaceBytes(algorithm, problem) <= preference.maxWorkspaceBytes &&
         (algorithm.reductionScheme & ~preference.reductionSchemeMask) == 0 &&
         (numericalFlags(algorithm) & ~preference.implementationMask) == 0 &&
         (preference.maxWaves == 0 || waves(problem) <= preference.maxWaves);
}

// The best first: parts of k where it is long, for then a GPU would be short of work otherwise.
std::vector<Algorithm> candidates(const Problem &problem) {
  std::vector<Algorithm> all;
  if (problem.k >= 256)
    all = {makeAlgorithm(algorithmSplits, 4, problem), makeAlgorithm(algorithmSplits, 2, problem),
           makeAlgorithm(algorithmBlocks, 1, problem), makeAlgorithm(algorithmChain, 1, problem)};
  else
    all = {makeAlgorithm(algorithmBlocks, 1, problem), makeAlgorithm(algorithmSplits, 2, problem),
           makeAlgorithm(algorithmChain, 1, problem)};
  return all;
}

constexpr Field configFields[] = {
    {CUBLASLT_ALGO_CONFIG_ID, offsetof(Algorithm, id), 4},
    {CUBLASLT_ALGO_CONFIG_TILE_ID, offsetof(Algorithm, tile), 4},
    {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, offsetof(Algorithm, splits), 4},
    {CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, offsetof(Algorithm, reductionScheme), 4},
    {CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, offsetof(Algorithm, swizzling), 4},
    {CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, offsetof(Algorithm, customOption), 4},
    {CUBLASLT_ALGO_CONFIG_STAGES_ID, offsetof(Algorithm, stages), 4},
    {CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, offsetof(Algorithm, innerShape), 2},
    {CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, offsetof(Algorithm, clusterShape), 2},
};

// Whether the capabilities that are told of the algorithm allow these settings.
bool configured(const Algorithm &algorithm) {
  bool splits = algorithm.id == algorithmSplits;
  bool knownTile = algorithm.tile == CUBLASLT_MATMUL_TILE_UNDEFINED ||
                   std::find(std::begin(tiles), std::end(tiles), algorithm.tile) != std::end(tiles);
  return knownTile && algorithm.splits >= (splits ? 2 : 1) && algorithm.splits <= (splits ? maxSplits : 1) &&
         algorithm.reductionScheme ==
             (splits ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE) &&
         algorithm.swizzling == 0 && algorithm.customOption == 0 &&
         algorithm.stages == CUBLASLT_MATMUL_STAGES_UNDEFINED && algorithm.innerShape == 0 &&
         algorithm.clusterShape == CUBLASLT_CLUSTER_SHAPE_AUTO;
}

// A capability's value: one number of 4 or 8 bytes, or a list of 4 bytes each.
struct Capability {
  uint64_t value = 0;
  size_t bytes = 4;
  const uint32_t *list = nullptr;
};

bool capability(const Algorithm &algorithm, cublasLtMatmulAlgoCapAttributes_t attribute, Capability &told) {
  bool splits = algorithm.id == algorithmSplits;
  auto alignment = [&](Operand operand) { return neededAlignment(algorithm.id, algorithm.types[operand]); };
  switch (attribute) {
  case CUBLASLT_ALGO_CAP_SPLITK_SUPPORT:
    told.value = splits;
    return true;
  case CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK:
    told.value = splits ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
    return true;
  case CUBLASLT_ALGO_CAP_STRIDED_BATCH_SUPPORT:
  case CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT:
    told.value = 1;
    return true;
  case CUBLASLT_ALGO_CAP_CTA_SWIZZLING_SUPPORT:
  case CUBLASLT_ALGO_CAP_UPLO_SUPPORT:
  case CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX:
  case CUBLASLT_ALGO_CAP_CUSTOM_MEMORY_ORDER:
  case CUBLASLT_ALGO_CAP_LD_NEGATIVE:
  case CUBLASLT_ALGO_CAP_POINTER_ARRAY_BATCH_SUPPORT:
  case CUBLASLT_ALGO_CAP_FLOATING_POINT_EMULATION_SUPPORT:
    return true;
  case CUBLASLT_ALGO_CAP_TILE_IDS:
    told = {0, sizeof tiles, tiles};
    return true;
  case CUBLASLT_ALGO_CAP_STAGES_IDS:
    told = {0, sizeof stages, stages};
    return true;
  case CUBLASLT_ALGO_CAP_POINTER_MODE_MASK:
    told.value = CUBLASLT_POINTER_MODE_MASK_HOST | CUBLASLT_POINTER_MODE_MASK_DEVICE;
    return true;
  case CUBLASLT_ALGO_CAP_EPILOGUE_MASK:
    told.value = CUBLASLT_EPILOGUE_DEFAULT | CUBLASLT_EPILOGUE_RELU_AUX_BIAS | CUBLASLT_EPILOGUE_DRELU_BGRAD |
                 CUBLASLT_EPILOGUE_GELU_AUX_BIAS | CUBLASLT_EPILOGUE_DGELU_BGRAD | CUBLASLT_EPILOGUE_BGRADA |
                 CUBLASLT_EPILOGUE_BGRADB;
    return true;
  case CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS:
    told = {numericalFlags(algorithm), 8, nullptr};
    return true;
  case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES:
    told.value = alignment(operandA);
    return true;
  case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES:
    told.value = alignment(operandB);
    return true;
  case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_C_BYTES:
    told.value = alignment(operandC);
    return true;
  case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES:
    told.value = alignment(operandD);
    return true;
  }
  return false;
}

// The descriptors of a combination of types, as far as choosing by them goes.
Problem problemOfTypes(cublasComputeType_t computeType, cudaDataType_t scaleType, const cudaDataType_t (&types)[4]) {
  Problem problem{};
  problem.desc.computeType = computeType;
  problem.desc.scaleType = scaleType;
  for (int operand = operandA; operand <= operandD; ++operand)
    problem.layouts[operand].type = types[operand];
  return problem;
}

} // namespace

Algorithm chainFor(const Problem &problem) { return makeAlgorithm(algorithmChain, 1, problem); }

const Algorithm *find(const cublasLtMatmulAlgo_t *algo, const char *call) {
  auto *algorithm = reinterpret_cast<const Algorithm *>(algo);
  if (algorithm->mark == Algorithm::aliveMark && algorithm->id >= 0 && algorithm->id < algorithmCount)
    return algorithm;
  defect(CUBLAS_STATUS_INVALID_VALUE, "%s: the algorithm has never been initialised", call);
  return nullptr;
}

uint64_t workspaceBytes(const Algorithm &algorithm, const Problem &problem) {
  if (algorithm.id != algorithmSplits)
    return 0;
  uint64_t bytes = algorithm.splits * problem.m * problem.n * problem.batch * problem.scaleBytes();
  return (bytes + workspaceAlignment - 1) / workspaceAlignment * workspaceAlignment;
}

cublasStatus_t checkAlgorithm(const Algorithm &algorithm, const Problem &problem, const char *call) {
  bool same = algorithm.computeType == problem.desc.computeType && algorithm.scaleType == problem.desc.scaleType;
  for (int operand = operandA; operand <= operandD; ++operand)
    same &= algorithm.types[operand] == problem.layouts[operand].type;
  if (!same)
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: the algorithm was made for other types", call);
  if (!configured(algorithm))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  uint32_t alignment[4];
  for (int operand = operandA; operand <= operandD; ++operand)
    alignment[operand] = uint32_t(1) << algorithm.alignmentLog[operand];
  return suits(algorithm, problem, alignment) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

} // namespace amc::emulated

using namespace amc::emulated;

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int *returned) {
  if (returned)
    *returned = 0;
  const MatmulPreference *limits = find(preference, __func__);
  if (!limits || !results || !returned || requested < 1)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (cublasStatus_t status = checkHandle(handle, __func__))
    return status;
  Problem problem;
  if (cublasStatus_t status = makeProblem(desc, a, b, c, d, __func__, problem))
    return status;
  int32_t only = -1;
  if (limits->searchMode == CUBLASLT_SEARCH_LIMITED_BY_ALGO_ID) {
    const Algorithm *given = find(&results[0].algo, __func__);
    if (!given)
      return CUBLAS_STATUS_INVALID_VALUE;
    only = given->id;
  }
  for (Algorithm &candidate : candidates(problem)) {
    if (*returned == requested)
      break;
    if ((only >= 0 && candidate.id != only) || !suits(candidate, problem, limits->alignment) ||
        !allowed(candidate, problem, *limits))
      continue;
    for (int operand = operandA; operand <= operandD; ++operand)
      candidate.alignmentLog[operand] = uint8_t(std::countr_zero(limits->alignment[operand]));
    cublasLtMatmulHeuristicResult_t &result = results[(*returned)++];
    result = {};
    store(candidate, result.algo);
    result.workspaceSize = workspaceBytes(candidate, problem);
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = waves(problem);
  }
  return *returned ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoGetIds(cublasLtHandle_t handle, cublasComputeType_t, cudaDataType_t, cudaDataType_t,
                                        cudaDataType_t, cudaDataType_t, cudaDataType_t, int requested, int ids[],
                                        int *returned) {
  if (!ids || !returned || requested < 1)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (cublasStatus_t status = checkHandle(handle, __func__))
    return status;
  *returned = std::min(requested, int(algorithmCount));
  for (int id = 0; id < *returned; ++id)
    ids[id] = id;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoInit(cublasLtHandle_t handle, cublasComputeType_t computeType,
                                      cudaDataType_t scaleType, cudaDataType_t a, cudaDataType_t b, cudaDataType_t c,
                                      cudaDataType_t d, int id, cublasLtMatmulAlgo_t *algo) {
  if (!algo || id < 0 || id >= algorithmCount)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (cublasStatus_t status = checkHandle(handle, __func__))
    return status;
  for (cudaDataType_t type : {a, b, c, d})
    if (!elementBytes(type))
      return CUBLAS_STATUS_NOT_SUPPORTED;
  store(makeAlgorithm(id, id == algorithmSplits ? 2 : 1, problemOfTypes(computeType, scaleType, {a, b, c, d})), *algo);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result) {
  if (!algo || !result)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (cublasStatus_t status = checkHandle(handle, __func__))
    return status;
  Problem problem;
  cublasStatus_t status = makeProblem(desc, a, b, c, d, __func__, problem);
  if (status)
    return status;
  const Algorithm *algorithm = find(algo, __func__);
  status = algorithm ? checkAlgorithm(*algorithm, problem, __func__) : CUBLAS_STATUS_INVALID_VALUE;
  if (status)
    return status;
  result->workspaceSize = workspaceBytes(*algorithm, problem);
  result->state = CUBLAS_STATUS_SUCCESS;
  result->wavesCount = waves(problem);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                 cublasLtMatmulAlgoCapAttributes_t attribute, void *value, size_t bytes,
                                                 size_t *written) {
  const Algorithm *algorithm = algo ? find(algo, __func__) : nullptr;
  Capability told;
  if (!algorithm || !capability(*algorithm, attribute, told) || (bytes == 0 && !written) || (bytes && !value))
    return CUBLAS_STATUS_INVALID_VALUE;
  size_t given = bytes && told.list ? std::min(bytes / 4 * 4, told.bytes) : told.bytes; // a list may be cut
  if (bytes && !told.list && bytes != told.bytes)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes)
    std::memcpy(value, told.list ? static_cast<const void *>(told.list) : &told.value, given);
  if (written)
    *written = given;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, const void *value,
                                                    size_t bytes) {
  if (!algo || attribute == CUBLASLT_ALGO_CONFIG_ID || !find(algo, __func__))
    return CUBLAS_STATUS_INVALID_VALUE;
  return setField(algo, findField(configFields, attribute), value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void *value,
                                                    size_t bytes, size_t *written) {
  return algo && find(algo, __func__) ? getField(algo, findField(configFields, attribute), value, bytes, written)
                                      : CUBLAS_STATUS_INVALID_VALUE;
}
