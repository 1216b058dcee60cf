#include "runtime/device/cpu/Gemm.h"
#include "runtime/device/cpu/DoubleProducts.h"
#include "runtime/support/Modules.h"
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <dnnl.h>
#include <malloc.h>
#include <omp.h>
#include <sched.h>
#include <sys/mman.h>

// Exported by oneDNN beside dnnl_sgemm, which it is like, declared in its sources only.
extern "C" dnnl_status_t dnnl_gemm_bf16bf16f32(char transposeA, char transposeB, dnnl_dim_t m, dnnl_dim_t n,
                                               dnnl_dim_t k, float alpha, const uint16_t *a, dnnl_dim_t lda,
                                               const uint16_t *b, dnnl_dim_t ldb, float beta, float *c,
                                               dnnl_dim_t ldc);

namespace amc::rt::cpu {
namespace {

std::atomic<int> failure{dnnl_success};

const DoubleProducts *doubles = nullptr; // once prepareGemm64 has loaded it

char letter(bool transposed) { return transposed ? 'T' : 'N'; }

void note(dnnl_status_t status) {
  if (status != dnnl_success)
    failure.store(status);
}

// oneDNN's limit is set before its first call. Its OpenMP asks every thread of ours how many threads it would like to
// have: one, so that there are no others.
void enter() {
  thread_local bool entered = false;
  if (entered)
    return;
  [[maybe_unused]] static const bool limited =
      !hasAvx512() && dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2) == dnnl_success;
  omp_set_num_threads(1);
  entered = true;
}

// A product of each kind that the library has code for: packed or not, with vectors, stored either way.
void multiplyOnce() {
  constexpr int64_t most = 64;
  float wide[3][most * most] = {};
  BFloat16 narrow[2][most * most] = {};
  for (auto [m, n, k] : {std::array<int64_t, 3>{most, most, most}, {16, 48, 16}, {1, most, most}, {most, 1, most}})
    for (int kind = 0; kind < 8; ++kind) {
      bool ta = kind & 1, tb = kind & 2;
      int64_t lda = ta ? m : k, ldb = tb ? k : n;
      float beta = kind & 4 ? 1 : 0;
      gemm(ta, tb, m, n, k, 1.0f, wide[0], lda, wide[1], ldb, beta, wide[2], n);
      if (multipliesBf16())
        gemm(ta, tb, m, n, k, 1.0f, narrow[0], lda, narrow[1], ldb, beta, wide[2], n);
    }
}

} // namespace

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
          const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
  enter();
  note(dnnl_sgemm(letter(transposeA), letter(transposeB), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc));
}

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, float alpha, const BFloat16 *a,
          int64_t lda, const BFloat16 *b, int64_t ldb, float beta, float *c, int64_t ldc) {
  enter();
  note(dnnl_gemm_bf16bf16f32(letter(transposeA), letter(transposeB), m, n, k, alpha, &a->bits, lda, &b->bits, ldb,
                             beta, c, ldc));
}

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
          int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc) {
  doubles->gemm(transposeA, transposeB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

bool multipliesBf16() {
  static const bool does = [] {
    enter(); // DNNL_MAX_CPU_ISA may limit the library, too
    auto has = [](int isa) { return (dnnl_get_effective_cpu_isa() & isa) == isa; };
    // Told by what processor it is, not measured: the same machine gives the same bits. Where Intel's tiles are absent, or
    // kept from a virtual machine, its vector products of bf16 ran at half fp32's rate; AMD's run at twice that.
    __builtin_cpu_init();
    const bool pays = !__builtin_cpu_is("intel") || has(dnnl_cpu_isa_avx512_core_amx);
    return pays && &hot() == &v4::hot && has(dnnl_cpu_isa_avx512_core_bf16);
  }();
  return does;
}

Expected<uint64_t> prepareGemm(ThreadPool &pool) {
  // What is smaller than the first comes from a heap, which shrinks when more than the second is free at its end.
  ::mallopt(M_MMAP_THRESHOLD, 4 * libraryBytes);
  ::mallopt(M_TRIM_THRESHOLD, 32 * libraryBytes);
  const int64_t threads = pool.threads();
  std::atomic<int64_t> arrived{0};
  std::atomic<bool> lacks{false};
  // Threads may share a heap: nobody gives back before all have asked, for which each thread has to take one piece.
  pool.parallelFor(threads, [&](int64_t, unsigned) {
    void *buffer = nullptr;
    if (::posix_memalign(&buffer, 128, libraryBytes) == 0)
      std::memset(buffer, 1, libraryBytes);
    else
      lacks.store(true);
    arrived.fetch_add(1);
    while (arrived.load() < threads)
      ::sched_yield();
    std::free(buffer);
    if (!lacks.load())
      multiplyOnce();
  });
  const uint64_t bytes = libraryBytes * static_cast<uint64_t>(threads);
  if (lacks.load() || failure.exchange(dnnl_success) != dnnl_success)
    return limitError("no memory for the matrix library's buffers, ", bytes, " bytes for ", threads,
                      " threads; use fewer threads");
  return bytes;
}

Expected<uint64_t> prepareGemm64(ThreadPool &pool) {
  // Address space of one buffer in Debian's build; what a product touches of it becomes resident.
  constexpr uint64_t bufferBytes = (uint64_t(128) << 20) + 4096;
  const uint64_t bytes = bufferBytes * pool.threads();
  // OpenBLAS asks for a buffer again and again, for ever, where there is no room for one, so the room is tried first.
  void *room = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED)
    return limitError("no address space for OpenBLAS's buffers, ", bytes, " bytes for ", pool.threads(),
                      " threads: ", std::strerror(errno), "; use fewer threads");
  ::munmap(room, bytes);
  if (!doubles) {
    ::setenv("OPENBLAS_NUM_THREADS", "1", 1);
    Expected<LoadedModule> module = loadModule("libamrt_blas.so");
    if (!module.ok())
      return std::move(module).status().withContext("the plan multiplies f64; the module that does");
    doubles = static_cast<const DoubleProducts *>(::dlsym(module->handle, doubleProductsSymbol));
    if (!doubles)
      return limitError(module->path, ": belongs to another version of this program");
  }
  // OpenBLAS maps a buffer whenever more products run at once than ever before, and keeps it for later ones. Taking one
  // for each thread now means that no step maps any.
  std::vector<void *> buffers;
  for (unsigned i = 0; i < pool.threads(); ++i)
    buffers.push_back(doubles->takeBuffer());
  for (void *buffer : buffers)
    if (buffer)
      doubles->giveBack(buffer);
  return bytes;
}

Status gemmFailure() {
  int status = failure.load();
  if (status == dnnl_success)
    return Status();
  if (status == dnnl_out_of_memory)
    return limitError("the matrix library found no memory for a product's buffer of up to ", libraryBytes, " bytes");
  return limitError("the matrix library refused a product: status ", status);
}

void clearGemmFailure() { failure.store(dnnl_success); }

bool hasAvx512() { return &hot() != &v3::hot; }

ProductGrid ProductGrid::create(int64_t m, int64_t n, int64_t k, int64_t block, int64_t rowTile, int64_t columnTile) {
  auto tileN = workspace::productTileColumns(static_cast<uint64_t>(n), static_cast<uint64_t>(columnTile));
  ProductGrid g{m, n, k, block, rowTile, static_cast<int64_t>(tileN), 0, 0};
  g.down = ceilDiv(m, g.tileM);
  g.across = n ? ceilDiv(n, g.tileN) : 0;
  return g;
}

void ProductGrid::refine(int64_t products) {
  constexpr int64_t enough = 4, leastRows = 64, leastColumns = 128;
  auto halve = [](int64_t &tile, int64_t of) { tile = ceilDiv(ceilDiv(std::min(tile, of), 2), 16) * 16; };
  while (tiles() > 0 && products * tiles() < enough && std::min(tileM, m) >= 2 * leastRows) {
    halve(tileM, m);
    down = ceilDiv(m, tileM);
  }
  while (tiles() > 0 && products * tiles() < enough && std::min(tileN, n) >= 2 * leastColumns) {
    halve(tileN, n);
    across = ceilDiv(n, tileN);
  }
}

} // namespace amc::rt::cpu
