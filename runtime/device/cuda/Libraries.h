// NVIDIA's libraries, loaded when a plan needs them: the driver always, cuBLASLt for products, NCCL for ranks. Functions have
// the types of the real headers.
#ifndef AMC_RUNTIME_DEVICE_CUDA_LIBRARIES_H
#define AMC_RUNTIME_DEVICE_CUDA_LIBRARIES_H

#include "runtime/support/Status.h"
#include <cublasLt.h>
#include <cuda.h>
#include <nccl.h>

namespace amc::rt::cuda {

// cuda.h maps names to versions (cuMemAlloc to cuMemAlloc_v2) by macros, which are expanded here.
#define AMC_DRIVER_FUNCTIONS(F)                                                                                        \
  F(cuInit) F(cuDriverGetVersion) F(cuGetErrorName) F(cuGetErrorString) F(cuDeviceGetCount) F(cuDeviceGet)             \
  F(cuDeviceGetName) F(cuDeviceGetAttribute) F(cuDevicePrimaryCtxRetain) F(cuDevicePrimaryCtxRelease)                  \
  F(cuCtxSetCurrent) F(cuMemGetInfo) F(cuMemAlloc) F(cuMemFree) F(cuMemHostAlloc) F(cuMemFreeHost)                     \
  F(cuMemcpyHtoDAsync) F(cuMemcpyDtoHAsync) F(cuMemcpyDtoDAsync) F(cuMemsetD8Async) F(cuModuleLoadDataEx)              \
  F(cuModuleUnload) F(cuModuleGetFunction) F(cuFuncSetAttribute) F(cuLaunchKernel) F(cuStreamCreateWithPriority)       \
  F(cuStreamDestroy) F(cuStreamSynchronize) F(cuStreamQuery) F(cuStreamWaitEvent) F(cuStreamBeginCapture)              \
  F(cuStreamEndCapture) F(cuEventCreate) F(cuEventDestroy) F(cuEventRecord) F(cuEventSynchronize)      \
  F(cuEventElapsedTime) F(cuGraphInstantiate) F(cuGraphDestroy) F(cuGraphExecDestroy) F(cuGraphLaunch)

struct Driver {
#define AMC_FUNCTION(name) decltype(&::name) name = nullptr;
  AMC_DRIVER_FUNCTIONS(AMC_FUNCTION)
#undef AMC_FUNCTION

  // Loads libcuda.so.1 and initialises it. Errors of kind Limit: none there, or one older than what this was built for.
  static Expected<const Driver *> load();
  // "WHAT: out of memory (CUDA_ERROR_OUT_OF_MEMORY)", of kind Limit.
  Status check(CUresult result, const char *what) const;
};

#define AMC_BLAS_FUNCTIONS(F)                                                                                          \
  F(cublasLtCreate) F(cublasLtDestroy) F(cublasLtGetStatusString) F(cublasLtMatmul)              \
  F(cublasLtMatmulDescCreate) F(cublasLtMatmulDescDestroy) F(cublasLtMatmulDescSetAttribute)                           \
  F(cublasLtMatrixLayoutCreate) F(cublasLtMatrixLayoutDestroy) F(cublasLtMatrixLayoutSetAttribute)                     \
  F(cublasLtMatmulPreferenceCreate) F(cublasLtMatmulPreferenceDestroy) F(cublasLtMatmulPreferenceSetAttribute)         \
  F(cublasLtMatmulAlgoGetHeuristic)

struct BlasLibrary {
#define AMC_FUNCTION(name) decltype(&::name) name = nullptr;
  AMC_BLAS_FUNCTIONS(AMC_FUNCTION)
#undef AMC_FUNCTION

  static Expected<const BlasLibrary *> load();
  Status check(cublasStatus_t status, const char *what) const;
};

#define AMC_NCCL_FUNCTIONS(F)                                                                                          \
  F(ncclGetUniqueId) F(ncclCommInitRankConfig) F(ncclCommDestroy)                   \
  F(ncclCommGetAsyncError) F(ncclGetErrorString) F(ncclGetLastError) F(ncclGroupStart) F(ncclGroupEnd)                 \
  F(ncclAllReduce) F(ncclAllGather) F(ncclReduceScatter) F(ncclBroadcast) F(ncclReduce) F(ncclSend) F(ncclRecv)

struct NcclLibrary {
#define AMC_FUNCTION(name) decltype(&::name) name = nullptr;
  AMC_NCCL_FUNCTIONS(AMC_FUNCTION)
#undef AMC_FUNCTION

  static Expected<const NcclLibrary *> load();
  Status check(ncclResult_t result, const char *what, ncclComm_t communicator = nullptr) const;
  // Several calls in a group of NCCL's: the first error.
  template <class Body> Status together(Body &&body) const {
    if (Status status = check(ncclGroupStart(), "NCCL"); !status.ok())
      return status;
    Status status = body(), ended = check(ncclGroupEnd(), "NCCL");
    return status.ok() ? std::move(ended) : std::move(status);
  }
};

} // namespace amc::rt::cuda

#endif
