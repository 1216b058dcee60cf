// What stands in the opaque structures of cublasLt.h, and which of them are alive. The structures may lie in the
// caller's own memory (the Init functions) or be made here (the Create functions); both carry a mark, so that a
// descriptor that is none, is of another kind or has been destroyed is a finding rather than a strange product.
#ifndef AMC_TEST_EMULATED_CUDA_CUBLASLT_DESCRIPTORS_H
#define AMC_TEST_EMULATED_CUDA_CUBLASLT_DESCRIPTORS_H

#include "test/emulated_cuda/Emulation.h"
#include <cstdint>
#include <cublasLt.h>

// The handle. It belongs to the device that was current when it was made, and holds memory of it.
struct cublasLtContext {
  int device;
  CUdeviceptr memory;
};

namespace amc::emulated {

struct MatmulDesc {
  using Opaque = cublasLtMatmulDescOpaque_t;
  static constexpr uint32_t aliveMark = 0x4c74444d;
  static constexpr const char *name = "matmul descriptor";

  uint32_t mark;
  int32_t computeType, scaleType;
  int32_t pointerMode = CUBLASLT_POINTER_MODE_HOST;
  int32_t transA = CUBLAS_OP_N, transB = CUBLAS_OP_N, transC = CUBLAS_OP_N;
  int32_t fillMode = CUBLAS_FILL_MODE_FULL;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  int32_t biasType = -1, auxType = -1; // -1: the type of D
  int32_t smCountTarget = 0;
  void *bias = nullptr;
  int64_t biasBatchStride = 0;
  void *aux = nullptr;
  int64_t auxLd = 0, auxBatchStride = 0; // elements; of a mask, bits
};

struct MatrixLayout {
  using Opaque = cublasLtMatrixLayoutOpaque_t;
  static constexpr uint32_t aliveMark = 0x4c744d4c;
  static constexpr const char *name = "matrix layout";

  uint32_t mark;
  uint32_t type;
  int32_t order = CUBLASLT_ORDER_COL;
  int32_t batchCount = 1;
  uint64_t rows, cols;
  int64_t ld;
  int64_t batchStride = 0;
  int64_t planeOffset = 0;
  uint32_t batchMode = CUBLASLT_BATCH_MODE_STRIDED;

  // Runs of contiguous elements: columns, or rows in row-major order.
  uint64_t runs() const { return order == CUBLASLT_ORDER_ROW ? rows : cols; }
  uint64_t runLength() const { return order == CUBLASLT_ORDER_ROW ? cols : rows; }
};

struct MatmulPreference {
  using Opaque = cublasLtMatmulPreferenceOpaque_t;
  static constexpr uint32_t aliveMark = 0x4c745046;
  static constexpr const char *name = "matmul preference";

  uint32_t mark;
  uint32_t searchMode = CUBLASLT_SEARCH_BEST_FIT;
  uint64_t maxWorkspaceBytes = 0;
  uint32_t reductionSchemeMask = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t alignment[4] = {256, 256, 256, 256}; // bytes, of A, B, C, D
  float maxWaves = 0;
  uint64_t implementationMask = ~uint64_t(0);
};

static_assert(sizeof(MatmulDesc) <= sizeof(MatmulDesc::Opaque));
static_assert(sizeof(MatrixLayout) <= sizeof(MatrixLayout::Opaque));
static_assert(sizeof(MatmulPreference) <= sizeof(MatmulPreference::Opaque));

// Reports a defect of the caller, which the original may well have accepted, and is what to return.
cublasStatus_t defect(cublasStatus_t status, const char *format, ...) __attribute__((format(printf, 2, 3)));

// What is behind a caller's pointer; null, and a finding unless the pointer is null, when it is no such thing now.
const MatmulDesc *find(cublasLtMatmulDesc_t desc, const char *call);
const MatrixLayout *find(cublasLtMatrixLayout_t layout, const char *call);
const MatmulPreference *find(cublasLtMatmulPreference_t preference, const char *call);

// Whether the handle is alive and the current device is its own; a finding if the latter is not so.
cublasStatus_t checkHandle(cublasLtHandle_t handle, const char *call);

// Bytes of an element; 0: a type that is not modelled.
inline size_t elementBytes(uint32_t type) {
  switch (type) {
  case CUDA_R_16F:
  case CUDA_R_16BF:
    return 2;
  case CUDA_R_32F:
    return 4;
  case CUDA_R_64F:
    return 8;
  default:
    return 0;
  }
}
const char *typeName(uint32_t type);

// A descriptor's attribute: where it is. The getters and setters of all kinds are these two.
struct Field {
  int attribute;
  size_t offset, bytes;
};
cublasStatus_t setField(void *object, const Field *field, const void *value, size_t bytes);
cublasStatus_t getField(const void *object, const Field *field, void *value, size_t bytes, size_t *written);

template <size_t count> const Field *findField(const Field (&fields)[count], int attribute) {
  for (const Field &field : fields)
    if (field.attribute == attribute)
      return &field;
  return nullptr;
}

} // namespace amc::emulated

#endif
