#include "test/emulated_cuda/cublaslt/Problem.h"
#include <climits>
#include <cstdlib>

namespace amc::emulated {
namespace {

constexpr const char *names[] = {"A", "B", "C", "D"};

// Runs may not overlap; C's may, being broadcast, if all of them are the same one.
cublasStatus_t checkLayout(const MatrixLayout &layout, Operand operand, const char *call) {
  const char *name = names[operand];
  if (!elementBytes(layout.type) || layout.order > CUBLASLT_ORDER_ROW || layout.planeOffset ||
      layout.batchMode != CUBLASLT_BATCH_MODE_STRIDED)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!layout.rows || !layout.cols)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (layout.rows > INT_MAX || layout.cols > INT_MAX || layout.ld > INT_MAX)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  bool broadcast = operand == operandC && layout.ld == 0;
  if (!broadcast && layout.ld < int64_t(layout.runLength()))
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: leading dimension %lld of %s is less than its %s of %llu", call,
                  (long long)layout.ld, name, layout.order == CUBLASLT_ORDER_ROW ? "columns" : "rows",
                  (unsigned long long)layout.runLength());
  if (layout.batchStride < 0)
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: batch stride %lld of %s is negative", call,
                  (long long)layout.batchStride, name);
  if (operand == operandD && layout.batchCount > 1 && layout.batchStride == 0)
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: the %d products of a batch would all be written to one place", call,
                  layout.batchCount);
  return CUBLAS_STATUS_SUCCESS;
}

// The combinations that are modelled: accumulation in fp32, or in f64 for f64. AMC promises exact fp32, so that what
// rounds fp32 operands to TF32 is a finding unless it is asked for in the environment.
cublasStatus_t checkTypes(const MatmulDesc &desc, const Problem &problem, const char *call) {
  uint32_t in = problem.a().type, out = problem.d().type;
  if (in != problem.b().type || out != problem.c().type)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  switch (desc.computeType) {
  case CUBLAS_COMPUTE_64F:
    return desc.scaleType == CUDA_R_64F && in == CUDA_R_64F && out == CUDA_R_64F ? CUBLAS_STATUS_SUCCESS
                                                                                 : CUBLAS_STATUS_NOT_SUPPORTED;
  case CUBLAS_COMPUTE_32F:
  case CUBLAS_COMPUTE_32F_PEDANTIC:
    return desc.scaleType == CUDA_R_32F && in != CUDA_R_64F && (out == CUDA_R_32F || out == in)
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_NOT_SUPPORTED;
  case CUBLAS_COMPUTE_32F_FAST_TF32:
    if (desc.scaleType != CUDA_R_32F || in != CUDA_R_32F || out != CUDA_R_32F)
      return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!std::getenv("EMULATED_CUBLASLT_TF32"))
      return defect(CUBLAS_STATUS_NOT_SUPPORTED,
                    "%s: the compute type rounds fp32 operands to TF32 (EMULATED_CUBLASLT_TF32=1 allows it)", call);
    return CUBLAS_STATUS_SUCCESS;
  default:
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t checkShapes(const MatmulDesc &desc, Problem &problem, const char *call) {
  bool ta = desc.transA != CUBLAS_OP_N, tb = desc.transB != CUBLAS_OP_N;
  const MatrixLayout &a = problem.a(), &b = problem.b(), &c = problem.c(), &d = problem.d();
  problem.m = ta ? a.cols : a.rows;
  problem.k = ta ? a.rows : a.cols;
  problem.n = tb ? b.rows : b.cols;
  uint64_t depth = tb ? b.cols : b.rows;
  if (problem.k != depth || d.rows != problem.m || d.cols != problem.n || c.rows != d.rows || c.cols != d.cols)
    return defect(CUBLAS_STATUS_INVALID_VALUE,
                  "%s: op(A) is %llu x %llu, op(B) %llu x %llu, C %llu x %llu, D %llu x %llu", call,
                  (unsigned long long)problem.m, (unsigned long long)problem.k, (unsigned long long)depth,
                  (unsigned long long)problem.n, (unsigned long long)c.rows, (unsigned long long)c.cols,
                  (unsigned long long)d.rows, (unsigned long long)d.cols);
  for (const MatrixLayout &layout : problem.layouts)
    if (layout.batchCount != d.batchCount)
      return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: batches of %d and %d", call, layout.batchCount, d.batchCount);
  problem.batch = d.batchCount;
  if (c.order != d.order)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t checkEpilogue(const MatmulDesc &desc, Problem &problem, const char *call) {
  uint32_t out = problem.d().type;
  problem.biasType = desc.biasType == -1 ? out : uint32_t(desc.biasType);
  problem.auxType = desc.auxType == -1 ? out : uint32_t(desc.auxType);
  if (problem.biasType != out || problem.auxType != out)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (desc.transC != CUBLAS_OP_N || desc.fillMode != CUBLAS_FILL_MODE_FULL ||
      desc.pointerMode > CUBLASLT_POINTER_MODE_DEVICE)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  // Bias and aux go by D's rows in column-major order: in a row-major D they would go across.
  bool vectors = problem.addsBias() || problem.writesBiasGradient() || problem.hasAux();
  if (vectors && problem.d().order != CUBLASLT_ORDER_COL)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (problem.hasAux()) {
    int64_t unit = problem.auxIsMask() ? 128 : 8;
    if (desc.auxLd < int64_t(problem.m) || desc.auxLd % unit)
      return defect(CUBLAS_STATUS_INVALID_VALUE,
                    "%s: the leading dimension %lld of aux should be a multiple of %lld and at least %llu", call,
                    (long long)desc.auxLd, (long long)unit, (unsigned long long)problem.m);
    bool apart = desc.auxBatchStride >= desc.auxLd * int64_t(problem.n) || (problem.backward() && !desc.auxBatchStride);
    if (problem.batch > 1 && (desc.auxBatchStride % unit || !apart))
      return defect(CUBLAS_STATUS_INVALID_VALUE,
                    "%s: batch stride %lld of aux does not keep %lld x %llu elements apart", call,
                    (long long)desc.auxBatchStride, (long long)desc.auxLd, (unsigned long long)problem.n);
  }
  if (problem.writesBiasGradient() && problem.batch > 1 && desc.biasBatchStride < int64_t(problem.biasLength()))
    return defect(CUBLAS_STATUS_INVALID_VALUE,
                  "%s: batch stride %lld of the bias gradient is less than its length %llu", call,
                  (long long)desc.biasBatchStride, (unsigned long long)problem.biasLength());
  if (desc.biasBatchStride < 0)
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: batch stride %lld of the bias is negative", call,
                  (long long)desc.biasBatchStride);
  return CUBLAS_STATUS_SUCCESS;
}

} // namespace

cublasStatus_t makeProblem(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                           cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, const char *call, Problem &problem) {
  const MatmulDesc *operation = find(desc, call);
  const MatrixLayout *layouts[] = {find(a, call), find(b, call), find(c ? c : d, call), find(d, call)};
  if (!operation)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (int operand = operandA; operand <= operandD; ++operand) {
    if (!layouts[operand])
      return CUBLAS_STATUS_INVALID_VALUE;
    if (cublasStatus_t status = checkLayout(*layouts[operand], Operand(operand), call))
      return status;
    problem.layouts[operand] = *layouts[operand];
  }
  problem.desc = *operation;
  cublasStatus_t status = checkTypes(*operation, problem, call);
  if (!status)
    status = checkShapes(*operation, problem, call);
  if (!status)
    status = checkEpilogue(*operation, problem, call);
  return status;
}

} // namespace amc::emulated
