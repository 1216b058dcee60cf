// Making, changing, reading and destroying of descriptors: the part of the interface that decides nothing. A value that
// an attribute cannot have is refused here, where the original stores it and fails, or does not, at the product.
#include "test/emulated_cuda/cublaslt/Descriptors.h"
#include "test/emulated_cuda/cublaslt/Registry.h"
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

namespace amc::emulated {

cublasStatus_t defect(cublasStatus_t status, const char *format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  emulatedCudaFinding("%s", text);
  return status;
}

const char *typeName(uint32_t type) {
  switch (type) {
  case CUDA_R_16F:
    return "f16";
  case CUDA_R_16BF:
    return "bf16";
  case CUDA_R_32F:
    return "f32";
  case CUDA_R_64F:
    return "f64";
  default:
    return "a type that is not modelled";
  }
}

namespace {

constexpr uint32_t destroyedMark = 0xdeadde5c;

template <class T> T *findAny(typename T::Opaque *opaque, const char *call) {
  if (!opaque)
    return nullptr;
  uint32_t mark;
  std::memcpy(&mark, opaque, sizeof mark);
  if (mark == T::aliveMark)
    return reinterpret_cast<T *>(opaque);
  defect(CUBLAS_STATUS_INVALID_VALUE, mark == destroyedMark ? "%s: the %s has been destroyed" : "%s: that is no %s",
         call, T::name);
  return nullptr;
}

template <class T> cublasStatus_t init(typename T::Opaque *opaque, size_t size, const T &value) {
  if (!opaque)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (size < sizeof *opaque)
    return CUBLAS_STATUS_ALLOC_FAILED;
  std::memset(static_cast<void *>(opaque), 0, sizeof *opaque);
  T *made = new (opaque) T(value);
  made->mark = T::aliveMark;
  return CUBLAS_STATUS_SUCCESS;
}

template <class T> cublasStatus_t create(typename T::Opaque **opaque, const T &value) {
  if (!opaque)
    return CUBLAS_STATUS_INVALID_VALUE;
  auto made = std::make_shared<typename T::Opaque>();
  init<T>(made.get(), sizeof *made, value);
  *opaque = made.get();
  enter(std::move(made), T::name);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T> cublasStatus_t destroy(typename T::Opaque *opaque, const char *call) {
  T *descriptor = findAny<T>(opaque, call);
  if (!descriptor)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!retire(opaque))
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: a %s that was not created but initialised in the caller's memory",
                  call, T::name);
  descriptor->mark = destroyedMark;
  return CUBLAS_STATUS_SUCCESS;
}

constexpr Field matmulFields[] = {
    {CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, offsetof(MatmulDesc, computeType), 4},
    {CUBLASLT_MATMUL_DESC_SCALE_TYPE, offsetof(MatmulDesc, scaleType), 4},
    {CUBLASLT_MATMUL_DESC_POINTER_MODE, offsetof(MatmulDesc, pointerMode), 4},
    {CUBLASLT_MATMUL_DESC_TRANSA, offsetof(MatmulDesc, transA), 4},
    {CUBLASLT_MATMUL_DESC_TRANSB, offsetof(MatmulDesc, transB), 4},
    {CUBLASLT_MATMUL_DESC_TRANSC, offsetof(MatmulDesc, transC), 4},
    {CUBLASLT_MATMUL_DESC_FILL_MODE, offsetof(MatmulDesc, fillMode), 4},
    {CUBLASLT_MATMUL_DESC_EPILOGUE, offsetof(MatmulDesc, epilogue), 4},
    {CUBLASLT_MATMUL_DESC_BIAS_POINTER, offsetof(MatmulDesc, bias), 8},
    {CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, offsetof(MatmulDesc, biasBatchStride), 8},
    {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, offsetof(MatmulDesc, biasType), 4},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, offsetof(MatmulDesc, aux), 8},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, offsetof(MatmulDesc, auxLd), 8},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, offsetof(MatmulDesc, auxBatchStride), 8},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, offsetof(MatmulDesc, auxType), 4},
    {CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, offsetof(MatmulDesc, smCountTarget), 4},
};

constexpr Field layoutFields[] = {
    {CUBLASLT_MATRIX_LAYOUT_TYPE, offsetof(MatrixLayout, type), 4},
    {CUBLASLT_MATRIX_LAYOUT_ORDER, offsetof(MatrixLayout, order), 4},
    {CUBLASLT_MATRIX_LAYOUT_ROWS, offsetof(MatrixLayout, rows), 8},
    {CUBLASLT_MATRIX_LAYOUT_COLS, offsetof(MatrixLayout, cols), 8},
    {CUBLASLT_MATRIX_LAYOUT_LD, offsetof(MatrixLayout, ld), 8},
    {CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, offsetof(MatrixLayout, batchCount), 4},
    {CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, offsetof(MatrixLayout, batchStride), 8},
    {CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, offsetof(MatrixLayout, planeOffset), 8},
    {CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, offsetof(MatrixLayout, batchMode), 4},
};

constexpr Field preferenceFields[] = {
    {CUBLASLT_MATMUL_PREF_SEARCH_MODE, offsetof(MatmulPreference, searchMode), 4},
    {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, offsetof(MatmulPreference, maxWorkspaceBytes), 8},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, offsetof(MatmulPreference, reductionSchemeMask), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, offsetof(MatmulPreference, alignment[0]), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, offsetof(MatmulPreference, alignment[1]), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, offsetof(MatmulPreference, alignment[2]), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, offsetof(MatmulPreference, alignment[3]), 4},
    {CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, offsetof(MatmulPreference, maxWaves), 4},
    {CUBLASLT_MATMUL_PREF_IMPL_MASK, offsetof(MatmulPreference, implementationMask), 8},
};

bool isOperation(int32_t value) { return value == CUBLAS_OP_N || value == CUBLAS_OP_T || value == CUBLAS_OP_C; }

bool isEpilogue(uint32_t value) {
  switch (value) {
  case CUBLASLT_EPILOGUE_DEFAULT:
  case CUBLASLT_EPILOGUE_RELU:
  case CUBLASLT_EPILOGUE_RELU_AUX:
  case CUBLASLT_EPILOGUE_BIAS:
  case CUBLASLT_EPILOGUE_RELU_BIAS:
  case CUBLASLT_EPILOGUE_RELU_AUX_BIAS:
  case CUBLASLT_EPILOGUE_DRELU:
  case CUBLASLT_EPILOGUE_DRELU_BGRAD:
  case CUBLASLT_EPILOGUE_GELU:
  case CUBLASLT_EPILOGUE_GELU_AUX:
  case CUBLASLT_EPILOGUE_GELU_BIAS:
  case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
  case CUBLASLT_EPILOGUE_DGELU:
  case CUBLASLT_EPILOGUE_DGELU_BGRAD:
  case CUBLASLT_EPILOGUE_BGRADA:
  case CUBLASLT_EPILOGUE_BGRADB:
    return true;
  default:
    return false;
  }
}

// The first thing that no descriptor can say, or null. What it says together is judged with the product.
const char *nonsense(const MatmulDesc &desc) {
  if (!isOperation(desc.transA) || !isOperation(desc.transB) || !isOperation(desc.transC))
    return "an operation that is none of N, T and C";
  if (desc.pointerMode < CUBLASLT_POINTER_MODE_HOST ||
      desc.pointerMode > CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_HOST)
    return "a pointer mode that does not exist";
  if (!isEpilogue(desc.epilogue))
    return "an epilogue that does not exist";
  return nullptr;
}

const char *nonsense(const MatrixLayout &layout) {
  if (layout.order < CUBLASLT_ORDER_COL || layout.order > CUBLASLT_ORDER_COL32_2R_4R4)
    return "an order that does not exist";
  if (layout.batchCount < 1)
    return "a batch of less than one";
  if (layout.batchMode > CUBLASLT_BATCH_MODE_POINTER_ARRAY)
    return "a batch mode that does not exist";
  return nullptr;
}

const char *nonsense(const MatmulPreference &preference) {
  for (uint32_t bytes : preference.alignment)
    if (!bytes || (bytes & (bytes - 1)))
      return "an alignment that is no power of two";
  if (preference.searchMode > CUBLASLT_SEARCH_LIMITED_BY_ALGO_ID)
    return "a search mode that does not exist";
  return nullptr;
}

template <class T, size_t count>
cublasStatus_t set(typename T::Opaque *opaque, const Field (&fields)[count], int attribute, const void *value,
                   size_t bytes, const char *call) {
  T *descriptor = findAny<T>(opaque, call);
  if (!descriptor)
    return CUBLAS_STATUS_INVALID_VALUE;
  T changed = *descriptor;
  if (cublasStatus_t status = setField(&changed, findField(fields, attribute), value, bytes))
    return status;
  if (const char *wrong = nonsense(changed))
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: attribute %d is %s", call, attribute, wrong);
  *descriptor = changed;
  return CUBLAS_STATUS_SUCCESS;
}

template <class T, size_t count>
cublasStatus_t get(typename T::Opaque *opaque, const Field (&fields)[count], int attribute, void *value, size_t bytes,
                   size_t *written, const char *call) {
  const T *descriptor = findAny<T>(opaque, call);
  return descriptor ? getField(descriptor, findField(fields, attribute), value, bytes, written)
                    : CUBLAS_STATUS_INVALID_VALUE;
}

MatmulDesc matmulDesc(cublasComputeType_t computeType, cudaDataType_t scaleType) {
  MatmulDesc desc{};
  desc.computeType = computeType;
  desc.scaleType = scaleType;
  return desc;
}

MatrixLayout matrixLayout(cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld) {
  MatrixLayout layout{};
  layout.type = type;
  layout.rows = rows;
  layout.cols = cols;
  layout.ld = ld;
  return layout;
}

} // namespace

const MatmulDesc *find(cublasLtMatmulDesc_t desc, const char *call) { return findAny<MatmulDesc>(desc, call); }
const MatrixLayout *find(cublasLtMatrixLayout_t layout, const char *call) {
  return findAny<MatrixLayout>(layout, call);
}
const MatmulPreference *find(cublasLtMatmulPreference_t preference, const char *call) {
  return findAny<MatmulPreference>(preference, call);
}

cublasStatus_t setField(void *object, const Field *field, const void *value, size_t bytes) {
  if (!field)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!value || bytes != field->bytes)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(static_cast<char *>(object) + field->offset, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t getField(const void *object, const Field *field, void *value, size_t bytes, size_t *written) {
  if (!field)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (bytes == 0 ? !written : !value || bytes != field->bytes)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (written)
    *written = field->bytes;
  if (bytes)
    std::memcpy(value, static_cast<const char *>(object) + field->offset, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

} // namespace amc::emulated

using namespace amc::emulated;

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t desc, size_t size, cublasComputeType_t computeType,
                                               cudaDataType_t scaleType) {
  return init<MatmulDesc>(desc, size, matmulDesc(computeType, scaleType));
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t computeType,
                                        cudaDataType_t scaleType) {
  return create<MatmulDesc>(desc, matmulDesc(computeType, scaleType));
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return destroy<MatmulDesc>(desc, __func__); }

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
  return set<MatmulDesc>(desc, matmulFields, attribute, value, bytes, __func__);
}

cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              void *value, size_t bytes, size_t *written) {
  return get<MatmulDesc>(desc, matmulFields, attribute, value, bytes, written, __func__);
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size, cudaDataType type,
                                                 uint64_t rows, uint64_t cols, int64_t ld) {
  return init<MatrixLayout>(layout, size, matrixLayout(type, rows, cols, ld));
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  return create<MatrixLayout>(layout, matrixLayout(type, rows, cols, ld));
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return destroy<MatrixLayout>(layout, __func__);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t bytes) {
  return set<MatrixLayout>(layout, layoutFields, attribute, value, bytes, __func__);
}

cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, void *value, size_t bytes,
                                                size_t *written) {
  return get<MatrixLayout>(layout, layoutFields, attribute, value, bytes, written, __func__);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t size) {
  return init<MatmulPreference>(preference, size, MatmulPreference{});
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
  return create<MatmulPreference>(preference, MatmulPreference{});
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy<MatmulPreference>(preference, __func__);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes) {
  return set<MatmulPreference>(preference, preferenceFields, attribute, value, bytes, __func__);
}

cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, void *value,
                                                    size_t bytes, size_t *written) {
  return get<MatmulPreference>(preference, preferenceFields, attribute, value, bytes, written, __func__);
}
