// cublasLtMatmul: everything that can be wrong with a call is looked for before it is enqueued, and what the product
// touches is told to the driver element for element, so that it is checked and ordered like a kernel's work.
//
// The workspace belongs to the library for the whole of a product, all of the bytes that the caller has given: they are
// overwritten with a pattern that is a NaN in every type, before and after.
#include "test/emulated_cuda/cublaslt/Algorithms.h"
#include "test/emulated_cuda/cublaslt/Product.h"
#include "test/emulated_cuda/cublaslt/Ranges.h"
#include <cstring>
#include <memory>
#include <string>

namespace amc::emulated {
namespace {

constexpr int scribble = 0xff;
constexpr uint64_t vectorAlignment = 16; // of bias and aux: what is not promised, but is needed on some GPUs
constexpr const char *call = "cublasLtMatmul";
constexpr const char *names[] = {"A", "B", "C", "D"};

// A call that has been found good, as it is enqueued. A captured one runs once for each launch of its graph.
struct Call {
  Problem problem;
  Algorithm algorithm;
  CUdeviceptr operands[4]; // by Operand; C is 0 where it is not read
  CUdeviceptr workspace;
  size_t workspaceBytes;
  bool scalesOnDevice;
  CUdeviceptr alphaOnDevice, betaOnDevice;
  double alpha, beta; // exact for fp32, too
};

void *address(CUdeviceptr pointer) { return pointer ? emulatedCudaAddress(pointer) : nullptr; }

char *offset(char *base, int64_t bytes) { return base ? base + bytes : nullptr; }

template <class T> void runAs(const Call &work) {
  static thread_local Scratch<T> scratch;
  const Problem &problem = work.problem;
  const MatmulDesc &desc = problem.desc;
  T alpha = work.scalesOnDevice ? *static_cast<const T *>(address(work.alphaOnDevice)) : T(work.alpha);
  T beta = work.scalesOnDevice ? *static_cast<const T *>(address(work.betaOnDevice)) : T(work.beta);
  char *operands[4], *workspace = static_cast<char *>(address(work.workspaceBytes ? work.workspace : 0));
  for (int i = operandA; i <= operandD; ++i)
    operands[i] = static_cast<char *>(address(work.operands[i]));
  if (beta == 0)
    operands[operandC] = nullptr; // not read, so that a NaN in it does no harm
  // Of an earlier use there may be pointers that this epilogue does not look at.
  bool usesBias = problem.addsBias() || problem.writesBiasGradient();
  char *bias = static_cast<char *>(address(usesBias ? CUdeviceptr(desc.bias) : 0));
  char *aux = static_cast<char *>(address(problem.hasAux() ? CUdeviceptr(desc.aux) : 0));
  if (workspace)
    std::memset(workspace, scribble, work.workspaceBytes);
  for (int64_t i = 0; i < problem.batch; ++i) {
    auto of = [&](Operand operand) {
      const MatrixLayout &layout = problem.layouts[operand];
      return offset(operands[operand], i * layout.batchStride * elementBytes(layout.type));
    };
    Operands at{of(operandA),
                of(operandB),
                of(operandC),
                of(operandD),
                offset(bias, i * desc.biasBatchStride * elementBytes(problem.biasType)),
                offset(aux, problem.auxIsMask() ? i * desc.auxBatchStride / 8
                                                : i * desc.auxBatchStride * elementBytes(problem.auxType)),
                offset(workspace, i * work.algorithm.splits * problem.m * problem.n * sizeof(T))};
    multiply<T>(problem, work.algorithm, at, alpha, beta, scratch);
  }
  if (workspace)
    std::memset(workspace, scribble, work.workspaceBytes);
}

void run(void *state) {
  const Call &work = *static_cast<const Call *>(state);
  work.problem.wide() ? runAs<double>(work) : runAs<float>(work);
}

cublasStatus_t checkPointer(const char *name, CUdeviceptr pointer, uint64_t alignment) {
  if (!pointer)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (pointer % alignment)
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: %s at %#llx is not aligned to %llu bytes", call, name,
                  (unsigned long long)pointer, (unsigned long long)alignment);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t checkPointers(const Call &work) {
  for (int operand = operandA; operand <= operandD; ++operand)
    if (operand != operandC || work.operands[operandC])
      if (cublasStatus_t status =
              checkPointer(names[operand], work.operands[operand], uint64_t(1) << work.algorithm.alignmentLog[operand]))
        return status;
  const Problem &problem = work.problem;
  if (problem.addsBias() || problem.writesBiasGradient())
    if (cublasStatus_t status = checkPointer("the bias", CUdeviceptr(problem.desc.bias), vectorAlignment))
      return status;
  if (problem.hasAux())
    if (cublasStatus_t status = checkPointer("aux", CUdeviceptr(problem.desc.aux), vectorAlignment))
      return status;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t checkWorkspace(const Call &work) {
  uint64_t needed = workspaceBytes(work.algorithm, work.problem);
  if (work.workspaceBytes && !work.workspace)
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: a workspace of %zu bytes at null", call, work.workspaceBytes);
  if (work.workspaceBytes < needed)
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: the workspace has %zu bytes, the algorithm needs %llu", call,
                  work.workspaceBytes, (unsigned long long)needed);
  if (work.workspaceBytes && work.workspace % workspaceAlignment)
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: the workspace at %#llx is not aligned to %zu bytes", call,
                  (unsigned long long)work.workspace, workspaceAlignment);
  return CUBLAS_STATUS_SUCCESS;
}

// What a call reads and writes, by name.
struct Footprint {
  const char *name;
  bool written;
  Ranges ranges;
};

Ranges rangesOf(const MatrixLayout &layout, CUdeviceptr base) {
  Ranges ranges;
  size_t bytes = elementBytes(layout.type);
  append(ranges, base, layout.runLength() * bytes, layout.runs(), layout.ld * bytes, layout.batchCount,
         layout.batchStride * bytes);
  return ranges;
}

std::vector<Footprint> footprints(const Call &work) {
  const Problem &problem = work.problem;
  const MatmulDesc &desc = problem.desc;
  std::vector<Footprint> all;
  for (int operand = operandA; operand <= operandD; ++operand)
    if (work.operands[operand])
      all.push_back({names[operand], operand == operandD, rangesOf(problem.layouts[operand], work.operands[operand])});
  if (problem.addsBias() || problem.writesBiasGradient()) {
    size_t bytes = elementBytes(problem.biasType);
    Ranges ranges;
    append(ranges, CUdeviceptr(desc.bias), problem.biasLength() * bytes, 1, 0, problem.batch,
           desc.biasBatchStride * bytes);
    all.push_back({"the bias", problem.writesBiasGradient(), std::move(ranges)});
  }
  if (problem.hasAux()) {
    auto bytesOf = [&](uint64_t elements) {
      return problem.auxIsMask() ? elements / 8 : elements * elementBytes(problem.auxType);
    };
    Ranges ranges;
    append(ranges, CUdeviceptr(desc.aux), bytesOf(problem.auxIsMask() ? desc.auxLd : problem.m), problem.n,
           bytesOf(desc.auxLd), problem.batch, bytesOf(desc.auxBatchStride));
    all.push_back({"aux", !problem.backward(), std::move(ranges)});
  }
  if (work.workspace && work.workspaceBytes)
    all.push_back({"the workspace", true, {{work.workspace, work.workspaceBytes, 1, 0}}});
  if (work.scalesOnDevice) {
    all.push_back({"alpha", false, {{work.alphaOnDevice, problem.scaleBytes(), 1, 0}}});
    all.push_back({"beta", false, {{work.betaOnDevice, problem.scaleBytes(), 1, 0}}});
  }
  return all;
}

// C may be D, exactly.
bool inPlace(const Call &work) {
  const MatrixLayout &c = work.problem.c(), &d = work.problem.d();
  return work.operands[operandC] == work.operands[operandD] && c.ld == d.ld &&
         (c.batchCount == 1 || c.batchStride == d.batchStride);
}

cublasStatus_t checkOverlaps(const Call &work, const std::vector<Footprint> &all) {
  for (const Footprint &written : all) {
    if (!written.written)
      continue;
    if (overlapWithin(written.ranges))
      return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: the products of the batch overlap in %s", call, written.name);
    for (const Footprint &other : all) {
      bool isItself = &other == &written;
      bool isC = !std::strcmp(written.name, "D") && !std::strcmp(other.name, "C") && inPlace(work);
      if (!isItself && !isC && overlap(written.ranges, other.ranges))
        return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: %s, which is written, overlaps %s", call, written.name,
                      other.name);
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t enqueue(std::unique_ptr<Call> work, const std::vector<Footprint> &all, CUstream stream) {
  Ranges reads, writes;
  for (const Footprint &one : all)
    (one.written ? writes : reads).insert((one.written ? writes : reads).end(), one.ranges.begin(), one.ranges.end());
  const Problem &problem = work->problem;
  std::string what = std::string(call) + " " + typeName(problem.a().type) + " " + std::to_string(problem.m) + "x" +
                     std::to_string(problem.n) + "x" + std::to_string(problem.k);
  if (problem.batch > 1)
    what += ", a batch of " + std::to_string(problem.batch);
  CUresult result = emulatedCudaEnqueue(stream, what.c_str(), reads.data(), reads.size(), writes.data(), writes.size(),
                                        run, work.release(), [](void *state) { delete static_cast<Call *>(state); });
  return result == CUDA_SUCCESS ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

bool isOnDevice(const void *pointer) {
  unsigned type = 0;
  return cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CUdeviceptr(pointer)) == CUDA_SUCCESS &&
         type == CU_MEMORYTYPE_DEVICE;
}

// Scales of the host are read here and now. Those of the device are found out to be elsewhere when they are read.
cublasStatus_t setScales(Call &work, const void *alpha, const void *beta) {
  work.scalesOnDevice = work.problem.desc.pointerMode == CUBLASLT_POINTER_MODE_DEVICE;
  if (!work.scalesOnDevice && (isOnDevice(alpha) || isOnDevice(beta)))
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: alpha and beta are on the device, the pointer mode says host",
                  call);
  if (work.scalesOnDevice) {
    work.alphaOnDevice = CUdeviceptr(alpha);
    work.betaOnDevice = CUdeviceptr(beta);
  } else if (work.problem.wide()) {
    work.alpha = *static_cast<const double *>(alpha);
    work.beta = *static_cast<const double *>(beta);
  } else {
    work.alpha = *static_cast<const float *>(alpha);
    work.beta = *static_cast<const float *>(beta);
  }
  return CUBLAS_STATUS_SUCCESS;
}

} // namespace
} // namespace amc::emulated

using namespace amc::emulated;

// Without an algorithm the product is computed in one chain and nothing is taken to be promised of pointers.
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t aLayout, const void *b, cublasLtMatrixLayout_t bLayout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t cLayout, void *d,
                              cublasLtMatrixLayout_t dLayout, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspaceSize, cudaStream_t stream) {
  if (cublasStatus_t status = checkHandle(handle, call))
    return status;
  auto work = std::make_unique<Call>();
  if (cublasStatus_t status = makeProblem(desc, aLayout, bLayout, cLayout, dLayout, call, work->problem))
    return status;
  if (!alpha || !beta || !a || !b || !c || !d)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (cublasStatus_t status = setScales(*work, alpha, beta))
    return status;
  bool readsC = work->scalesOnDevice || work->beta != 0;
  work->operands[operandA] = CUdeviceptr(a);
  work->operands[operandB] = CUdeviceptr(b);
  work->operands[operandC] = readsC ? CUdeviceptr(c) : 0;
  work->operands[operandD] = CUdeviceptr(d);
  work->workspace = CUdeviceptr(workspace);
  work->workspaceBytes = workspaceSize;
  if (algo) {
    const Algorithm *algorithm = find(algo, call);
    if (!algorithm)
      return CUBLAS_STATUS_INVALID_VALUE;
    if (cublasStatus_t status = checkAlgorithm(*algorithm, work->problem, call))
      return status;
    work->algorithm = *algorithm;
  } else {
    work->algorithm = chainFor(work->problem);
  }
  if (cublasStatus_t status = checkPointers(*work))
    return status;
  if (cublasStatus_t status = checkWorkspace(*work))
    return status;
  const std::vector<Footprint> all = footprints(*work);
  if (cublasStatus_t status = checkOverlaps(*work, all))
    return status;
  return enqueue(std::move(work), all, stream);
}
