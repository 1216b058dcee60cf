// A product as a test describes it, run through the library as a program would.
#ifndef AMC_TEST_EMULATED_CUDA_CUBLASLT_TEST_HARNESS_H
#define AMC_TEST_EMULATED_CUDA_CUBLASLT_TEST_HARNESS_H

#include "test/emulated_cuda/LibraryTest.h"
#include <cublasLt.h>
#include <gtest/gtest.h>

namespace amc::emulated::test {

template <class E> constexpr cudaDataType_t typeOf() {
  if constexpr (std::is_same_v<E, float>)
    return CUDA_R_32F;
  else if constexpr (std::is_same_v<E, double>)
    return CUDA_R_64F;
  else if constexpr (std::is_same_v<E, Half>)
    return CUDA_R_16F;
  else
    return CUDA_R_16BF;
}

// Descriptors of D = alpha op(A) op(B) + beta C, destroyed with it. Change what a test is about before `choose`.
class Descriptors {
public:
  Descriptors(cudaDataType_t in, cudaDataType_t out, uint64_t m, uint64_t n, uint64_t k, bool transA = false,
              bool transB = false)
      : wide(in == CUDA_R_64F) {
    cublasLtMatmulDescCreate(&desc, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F, wide ? CUDA_R_64F : CUDA_R_32F);
    setDesc(CUBLASLT_MATMUL_DESC_TRANSA, transA ? CUBLAS_OP_T : CUBLAS_OP_N);
    setDesc(CUBLASLT_MATMUL_DESC_TRANSB, transB ? CUBLAS_OP_T : CUBLAS_OP_N);
    cublasLtMatrixLayoutCreate(&a, in, transA ? k : m, transA ? m : k, transA ? k : m);
    cublasLtMatrixLayoutCreate(&b, in, transB ? n : k, transB ? k : n, transB ? n : k);
    cublasLtMatrixLayoutCreate(&d, out, m, n, m);
    cublasLtMatmulPreferenceCreate(&preference);
    allowWorkspace(1 << 26);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 16);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 16);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, 16);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 16);
  }
  ~Descriptors() {
    cublasLtMatmulPreferenceDestroy(preference);
    for (cublasLtMatrixLayout_t layout : {a, b, d})
      cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(desc);
  }
  Descriptors(const Descriptors &) = delete;

  template <class T> cublasStatus_t setDesc(cublasLtMatmulDescAttributes_t attribute, T value) {
    return cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof value);
  }
  template <class T>
  static cublasStatus_t setLayout(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, T value) {
    return cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof value);
  }
  static void setLd(cublasLtMatrixLayout_t layout, int64_t ld) { setLayout(layout, CUBLASLT_MATRIX_LAYOUT_LD, ld); }
  static void setBatch(cublasLtMatrixLayout_t layout, int32_t count, int64_t stride) {
    setLayout(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
    setLayout(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  }
  void allowWorkspace(uint64_t bytes) {
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
  }
  void align(cublasLtMatmulPreferenceAttributes_t attribute, uint32_t bytes) {
    cublasLtMatmulPreferenceSetAttribute(preference, attribute, &bytes, sizeof bytes);
  }

  // Up to eight algorithms.
  std::vector<cublasLtMatmulHeuristicResult_t> choose(cublasLtHandle_t handle, cublasStatus_t *status = nullptr) {
    std::vector<cublasLtMatmulHeuristicResult_t> results(8);
    int count = 0;
    cublasStatus_t got =
        cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, d, d, preference, 8, results.data(), &count);
    if (status)
      *status = got;
    results.resize(count);
    return results;
  }

  const bool wide;
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, b, d; // C's is D's
  cublasLtMatmulPreference_t preference;
};

class CublasLt : public testing::Test {
protected:
  void SetUp() override {
    EXPECT_EQ(takeFindings(), "");
    ASSERT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
  }
  void TearDown() override {
    EXPECT_EQ(cublasLtDestroy(handle), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(takeFindings(), "");
  }

  // Runs the product with one algorithm (null: none named) and waits.
  cublasStatus_t run(Descriptors &with, const void *a, const void *b, const void *c, void *d,
                     const cublasLtMatmulHeuristicResult_t *chosen = nullptr, double alpha = 1, double beta = 0) {
    Buffer<char> workspace(std::vector<char>(chosen && chosen->workspaceSize ? chosen->workspaceSize : 256));
    float alphas = float(alpha), betas = float(beta);
    cublasStatus_t status = cublasLtMatmul(
        handle, with.desc, with.wide ? (void *)&alpha : &alphas, a, with.a, b, with.b,
        with.wide ? (void *)&beta : &betas, c, with.d, d, with.d, chosen ? &chosen->algo : nullptr,
        chosen && chosen->workspaceSize ? workspace.at() : nullptr, chosen ? chosen->workspaceSize : 0, device.stream);
    MUST(cuStreamSynchronize(device.stream));
    return status;
  }

  Device device;
  cublasLtHandle_t handle;
};

} // namespace amc::emulated::test

#endif
