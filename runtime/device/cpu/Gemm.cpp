#include "runtime/device/cpu/Gemm.h"
#include <cblas.h>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>

// Exported by OpenBLAS, declared in its internal common.h only.
extern "C" void *blas_memory_alloc(int procpos);
extern "C" void blas_memory_free(void *buffer);

namespace amc::rt::cpu {
namespace {

CBLAS_TRANSPOSE transposed(bool yes) { return yes ? CblasTrans : CblasNoTrans; }
blasint narrow(int64_t n) { return static_cast<blasint>(n); }

} // namespace

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
          const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
  cblas_sgemm(CblasRowMajor, transposed(transposeA), transposed(transposeB), narrow(m), narrow(n), narrow(k), alpha,
              a, narrow(lda), b, narrow(ldb), beta, c, narrow(ldc));
}

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
          int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc) {
  cblas_dgemm(CblasRowMajor, transposed(transposeA), transposed(transposeB), narrow(m), narrow(n), narrow(k), alpha,
              a, narrow(lda), b, narrow(ldb), beta, c, narrow(ldc));
}

Expected<uint64_t> prepareGemm(ThreadPool &pool) {
  openblas_set_num_threads(1);
  // Address space of one buffer in Debian's build; what a product touches of it becomes resident.
  constexpr uint64_t bufferBytes = (uint64_t(128) << 20) + 4096;
  const uint64_t bytes = bufferBytes * pool.threads();
  // OpenBLAS asks for a buffer again and again, for ever, where there is no room for one, so the room is tried first.
  void *room = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED)
    return limitError("no address space for OpenBLAS's buffers, ", bytes, " bytes for ", pool.threads(),
                      " threads: ", std::strerror(errno), "; use fewer threads");
  ::munmap(room, bytes);
  // OpenBLAS maps a buffer whenever more products run at once than ever before, and keeps it for later ones. Taking one
  // for each thread now means that no step maps any.
  std::vector<void *> buffers;
  for (unsigned i = 0; i < pool.threads(); ++i)
    buffers.push_back(blas_memory_alloc(0));
  for (void *buffer : buffers)
    if (buffer)
      blas_memory_free(buffer);
  return bytes;
}

ProductGrid ProductGrid::create(int64_t m, int64_t n, int64_t k, int64_t block) {
  ProductGrid g{m, n, k, block, static_cast<int64_t>(workspace::productRowTile),
                static_cast<int64_t>(workspace::productTileColumns(static_cast<uint64_t>(n))), 0, 0};
  g.down = ceilDiv(m, g.tileM);
  g.across = n ? ceilDiv(n, g.tileN) : 0;
  return g;
}

} // namespace amc::rt::cpu
