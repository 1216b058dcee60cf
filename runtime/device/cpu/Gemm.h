// Matrix products of one tile, by OpenBLAS on the calling thread, and the grid that cuts a product into tiles.
#ifndef AMC_RUNTIME_DEVICE_CPU_GEMM_H
#define AMC_RUNTIME_DEVICE_CPU_GEMM_H

#include "runtime/device/cpu/Registry.h"

namespace amc::rt::cpu {

// c[m, n] = alpha * op(a)[m, k] * op(b)[k, n] + beta * c, row-major; with beta 0, c is not read.
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
          const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
          int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);

// Tells OpenBLAS to stay on the calling thread and to map a buffer for every thread of the pool, so that no step
// allocates. Returns the bytes of address space OpenBLAS holds for that; a limit error if there are none.
Expected<uint64_t> prepareGemm(ThreadPool &pool);

// Tiles of one product, from its shape alone: large enough for the packing of operands to be cheap, small enough to
// keep several threads busy.
struct GemmGrid {
  int64_t m, n, k;
  int64_t tileM, tileN;
  int64_t down, across;
  static GemmGrid create(int64_t m, int64_t n, int64_t k, int64_t batch);
  int64_t tiles() const { return down * across; }
};

// One tile of the product.
template <class T>
void gemmTile(const GemmGrid &g, int64_t tile, bool transposeA, bool transposeB, const T *a, const T *b, T *c) {
  int64_t i = tile / g.across * g.tileM, j = tile % g.across * g.tileN;
  int64_t m = g.tileM < g.m - i ? g.tileM : g.m - i, n = g.tileN < g.n - j ? g.tileN : g.n - j;
  int64_t lda = transposeA ? g.m : g.k, ldb = transposeB ? g.k : g.n;
  gemm(transposeA, transposeB, m, n, g.k, T(1), transposeA ? a + i : a + i * lda, lda,
       transposeB ? b + j * ldb : b + j, ldb, T(0), c + i * g.n + j, g.n);
}

} // namespace amc::rt::cpu

#endif
