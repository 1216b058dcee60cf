// A product as descriptors and layouts describe it, judged as a whole: whether they fit together, whether the types go
// together, and whether the original would have noticed. What it would not have, or might not have, is a finding.
#ifndef AMC_TEST_EMULATED_CUDA_CUBLASLT_PROBLEM_H
#define AMC_TEST_EMULATED_CUDA_CUBLASLT_PROBLEM_H

#include "test/emulated_cuda/cublaslt/Descriptors.h"

namespace amc::emulated {

enum Operand { operandA, operandB, operandC, operandD };

struct Problem {
  MatmulDesc desc;
  MatrixLayout layouts[4]; // by Operand; C is D where the caller gave none
  uint64_t m, n, k;
  int32_t batch;
  uint32_t biasType, auxType; // resolved

  const MatrixLayout &a() const { return layouts[operandA]; }
  const MatrixLayout &b() const { return layouts[operandB]; }
  const MatrixLayout &c() const { return layouts[operandC]; }
  const MatrixLayout &d() const { return layouts[operandD]; }
  bool wide() const { return desc.computeType == CUBLAS_COMPUTE_64F; } // computed in f64
  size_t scaleBytes() const { return wide() ? 8 : 4; }

  bool addsBias() const { return (desc.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0; }
  bool writesBiasGradient() const {
    return (desc.epilogue & (16 | CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB)) != 0;
  }
  bool backward() const { return (desc.epilogue & (8 | 64)) != 0; } // reads what a forward epilogue left in aux
  bool hasAux() const { return (desc.epilogue & 128) != 0; }
  bool auxIsMask() const { return hasAux() && (desc.epilogue & (CUBLASLT_EPILOGUE_RELU | 8)) != 0; }
  uint64_t biasLength() const { return desc.epilogue & CUBLASLT_EPILOGUE_BGRADB ? n : m; }
};

// Fills `problem` unless a status is returned. `call` names the caller's function in findings.
cublasStatus_t makeProblem(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                           cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, const char *call, Problem &problem);

} // namespace amc::emulated

#endif
