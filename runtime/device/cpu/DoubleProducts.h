// What AMC wants of OpenBLAS, in a module of its own (libamrt_blas.so) that is loaded for plans which multiply f64.
//
// It is the build with threads, whose locks let ours call it side by side; the one without is wrong then. Its own threads
// start as it is loaded, unless OPENBLAS_NUM_THREADS is 1, and are waited for at a process's end: for ever, where they
// found no memory. So a process has the library only if it needs it, with room for it, and without threads.
#ifndef AMC_RUNTIME_DEVICE_CPU_DOUBLEPRODUCTS_H
#define AMC_RUNTIME_DEVICE_CPU_DOUBLEPRODUCTS_H

#include <cstdint>

namespace amc::rt::cpu {

struct DoubleProducts {
  // c[m, n] = alpha * op(a)[m, k] * op(b)[k, n] + beta * c, row-major; at most 2^31 - 1 of anything.
  void (*gemm)(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, double alpha, const double *a, int64_t lda,
               const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
  // A product's buffer, which the library keeps for later ones when it is given back.
  void *(*takeBuffer)();
  void (*giveBack)(void *buffer);
};

// What the module exports under this name, of type `const DoubleProducts`.
inline constexpr const char *doubleProductsSymbol = "amrtDoubleProducts1"; // with the number of its version

} // namespace amc::rt::cpu

#endif
