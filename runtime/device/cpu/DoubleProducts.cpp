#include "runtime/device/cpu/DoubleProducts.h"
#include <openblas-pthread/cblas.h>

// Exported by OpenBLAS, declared in its internal common.h only.
extern "C" void *blas_memory_alloc(int procpos);
extern "C" void blas_memory_free(void *buffer);

namespace {

CBLAS_TRANSPOSE transposed(bool yes) { return yes ? CblasTrans : CblasNoTrans; }
blasint narrow(int64_t n) { return static_cast<blasint>(n); }

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, double alpha, const double *a, int64_t lda,
          const double *b, int64_t ldb, double beta, double *c, int64_t ldc) {
  cblas_dgemm(CblasRowMajor, transposed(transposeA), transposed(transposeB), narrow(m), narrow(n), narrow(k), alpha, a,
              narrow(lda), b, narrow(ldb), beta, c, narrow(ldc));
}
void *takeBuffer() { return blas_memory_alloc(0); }

} // namespace

extern "C" __attribute__((visibility("default"))) const amc::rt::cpu::DoubleProducts amrtDoubleProducts1 = {
    gemm, takeBuffer, blas_memory_free};
