#include "runtime/device/cuda/Blas.h"
#include "runtime/plan/DTypes.h"
#include <algorithm>

namespace amc::rt::cuda {
namespace {

#define AMC_BLAS(call, what)                                                                                           \
  do {                                                                                                                 \
    if (Status amcChecked = library.check((call), (what)); !amcChecked.ok())                                           \
      return amcChecked;                                                                                               \
  } while (false)

cudaDataType_t typeOf(plan::DType dtype) {
  switch (dtype) {
  case plan::BF16: return CUDA_R_16BF;
  case plan::F16: return CUDA_R_16F;
  case plan::F64: return CUDA_R_64F;
  default: return CUDA_R_32F;
  }
}

class LtProduct final : public Product {
public:
  LtProduct(const BlasLibrary &library, cublasLtHandle_t handle, const ProductShape &shape)
      : library(library), handle(handle), shape(shape) {}
  ~LtProduct() override {
    for (cublasLtMatrixLayout_t layout : {left, right, result})
      if (layout)
        library.cublasLtMatrixLayoutDestroy(layout);
    if (description)
      library.cublasLtMatmulDescDestroy(description);
  }

  Status prepare() {
    // In columns: result^T [columns, rows] = b^T [columns, inner] a^T [inner, rows]. So b is the left operand.
    bool doubles = shape.operands == plan::F64;
    AMC_BLAS(library.cublasLtMatmulDescCreate(&description, doubles ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                              doubles ? CUDA_R_64F : CUDA_R_32F),
             "a product");
    if (Status s = describe(CUBLASLT_MATMUL_DESC_TRANSA, shape.transposeB ? CUBLAS_OP_T : CUBLAS_OP_N); !s.ok())
      return s;
    if (Status s = describe(CUBLASLT_MATMUL_DESC_TRANSB, shape.transposeA ? CUBLAS_OP_T : CUBLAS_OP_N); !s.ok())
      return s;
    if (shape.biased) {
      if (Status s = describe(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS); !s.ok())
        return s;
      if (Status s = describe(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, typeOf(shape.operands)); !s.ok())
        return s;
    }
    auto [aDown, aAcross] = stored(shape.rows, shape.inner, shape.transposeA);
    auto [bDown, bAcross] = stored(shape.inner, shape.columns, shape.transposeB);
    if (Status s = layOut(left, shape.operands, bDown, bAcross, shape.strideB, shape.batchB); !s.ok())
      return s;
    if (Status s = layOut(right, shape.operands, aDown, aAcross, shape.strideA, shape.batchA); !s.ok())
      return s;
    if (Status s = layOut(result, shape.result, shape.rows, shape.columns, shape.strideY, shape.batchY); !s.ok())
      return s;
    return choose();
  }

  Status enqueue(Stream &stream, const std::byte *a, const std::byte *b, const std::byte *bias, std::byte *y,
                 std::byte *workspace) const override {
    cublasLtMatmulDesc_t described = description;
    if (shape.biased) {
      // The only part that depends on where tensors are. Kept in the description, which one thread uses.
      const void *address = bias;
      AMC_BLAS(library.cublasLtMatmulDescSetAttribute(described, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &address, sizeof address),
               "a product");
    }
    double alpha64 = shape.alpha, beta64 = shape.beta;
    bool doubles = shape.operands == plan::F64;
    const void *alpha = doubles ? static_cast<const void *>(&alpha64) : &shape.alpha;
    const void *beta = doubles ? static_cast<const void *>(&beta64) : &shape.beta;
    return library.check(library.cublasLtMatmul(handle, described, alpha, b, left, a, right, beta, y, result, y, result,
                                                &algorithm.algo, algorithm.workspaceSize ? workspace : nullptr,
                                                algorithm.workspaceSize, stream.handle),
                         "a product");
  }

private:
  static std::pair<int64_t, int64_t> stored(int64_t down, int64_t across, bool transposed) {
    return transposed ? std::pair(across, down) : std::pair(down, across);
  }

  template <class Value> Status describe(cublasLtMatmulDescAttributes_t attribute, Value value) {
    return library.check(library.cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof value), "a product");
  }

  // `down` rows of `across` elements, as columns.
  Status layOut(cublasLtMatrixLayout_t &layout, plan::DType dtype, int64_t down, int64_t across, int64_t stride, int64_t batch) {
    AMC_BLAS(library.cublasLtMatrixLayoutCreate(&layout, typeOf(dtype), static_cast<uint64_t>(across),
                                                static_cast<uint64_t>(down), stride ? stride : std::max<int64_t>(across, 1)),
             "a product's matrix");
    if (shape.batches == 1)
      return Status();
    auto count = static_cast<int32_t>(shape.batches);
    AMC_BLAS(library.cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
             "a product's matrix");
    AMC_BLAS(library.cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch, sizeof batch),
             "a product's matrix");
    return Status();
  }

  Status choose() {
    cublasLtMatmulPreference_t preference = nullptr;
    AMC_BLAS(library.cublasLtMatmulPreferenceCreate(&preference), "choosing an algorithm");
    auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      return library.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
    };
    cublasStatus_t status = set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, shape.workspace);
    // What every tensor has, wherever the plan puts it: then its place has no part in the choice.
    auto alignment = static_cast<uint32_t>(std::min(dtypeBytes(shape.operands), dtypeBytes(shape.result)));
    uint32_t whole = alignedTo(alignment);
    for (auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                           CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      if (status == CUBLAS_STATUS_SUCCESS)
        status = set(attribute, whole);
    int found = 0;
    if (status == CUBLAS_STATUS_SUCCESS)
      status = library.cublasLtMatmulAlgoGetHeuristic(handle, description, left, right, result, result, preference, 1,
                                                      &algorithm, &found);
    library.cublasLtMatmulPreferenceDestroy(preference);
    AMC_BLAS(status, "choosing an algorithm");
    if (found == 0 || algorithm.state != CUBLAS_STATUS_SUCCESS)
      return limitError("cuBLASLt has no algorithm for a product of [", shape.rows, ", ", shape.inner, "] and [", shape.inner,
                        ", ", shape.columns, "]");
    return Status();
  }

  // Buffers begin at multiples of 256 bytes; matrices inside one at multiples of their strides.
  uint32_t alignedTo(uint32_t least) const {
    uint64_t bytes = 16;
    auto consider = [&](int64_t elements, plan::DType dtype) {
      for (uint64_t stride = static_cast<uint64_t>(elements) * dtypeBytes(dtype); stride % bytes != 0;)
        bytes /= 2;
    };
    consider(shape.batchA, shape.operands);
    consider(shape.batchB, shape.operands);
    consider(shape.batchY, shape.result);
    consider(shape.apartA, shape.operands);
    consider(shape.apartB, shape.operands);
    consider(shape.apartY, shape.result);
    return std::max(least, static_cast<uint32_t>(bytes));
  }

  const BlasLibrary &library;
  cublasLtHandle_t handle;
  ProductShape shape;
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatrixLayout_t left = nullptr, right = nullptr, result = nullptr;
  cublasLtMatmulHeuristicResult_t algorithm = {};
};

// Nothing to multiply: zeros, or what there is.
class EmptyProduct final : public Product {
public:
  explicit EmptyProduct(uint64_t zeroBytes) : zeroBytes(zeroBytes) {}
  Status enqueue(Stream &stream, const std::byte *, const std::byte *, const std::byte *, std::byte *y,
                 std::byte *) const override {
    return stream.zero(y, zeroBytes);
  }

private:
  uint64_t zeroBytes;
};

} // namespace

Blas::~Blas() {
  if (handle)
    library->cublasLtDestroy(handle);
}

Status Blas::start() {
  Expected<const BlasLibrary *> loaded = BlasLibrary::load();
  if (!loaded.ok())
    return loaded.status();
  library = *loaded;
  Expected<uint64_t> before = context.freeBytes();
  if (!before.ok())
    return before.status();
  if (Status status = library->check(library->cublasLtCreate(&handle), "cuBLASLt"); !status.ok())
    return status;
  Expected<uint64_t> after = context.freeBytes();
  if (!after.ok())
    return after.status();
  bytes = *before > *after ? *before - *after : 0;
  return Status();
}

Expected<std::unique_ptr<Product>> Blas::prepare(const ProductShape &shape) {
  if (shape.rows == 0 || shape.columns == 0 || shape.batches == 0)
    return std::unique_ptr<Product>(std::make_unique<EmptyProduct>(0));
  if (shape.inner == 0 && !shape.biased && shape.beta == 0)
    return std::unique_ptr<Product>(std::make_unique<EmptyProduct>(
        static_cast<uint64_t>(shape.rows * shape.columns * shape.batches) * dtypeBytes(shape.result)));
  if (!handle)
    if (Status status = start(); !status.ok())
      return status;
  auto made = std::make_unique<LtProduct>(*library, handle, shape);
  if (Status status = made->prepare(); !status.ok())
    return status;
  return std::unique_ptr<Product>(std::move(made));
}

} // namespace amc::rt::cuda
