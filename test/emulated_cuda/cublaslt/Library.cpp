// The handle, and what the library says of itself.
#include "test/emulated_cuda/cublaslt/Descriptors.h"
#include "test/emulated_cuda/cublaslt/Registry.h"

namespace amc::emulated {

constexpr const char *handleName = "handle";
constexpr size_t handleBytes = 4096; // of device memory, for the original takes some, too

cublasStatus_t checkHandle(cublasLtHandle_t handle, const char *call) {
  if (!handle)
    return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!alive(handle))
    return defect(CUBLAS_STATUS_NOT_INITIALIZED, "%s: the handle has been destroyed, or never was one", call);
  if (emulatedCudaDevice() != handle->device)
    return defect(CUBLAS_STATUS_INVALID_VALUE, "%s: a handle of device %d while the current context is of device %d",
                  call, handle->device, emulatedCudaDevice());
  return CUBLAS_STATUS_SUCCESS;
}

} // namespace amc::emulated

using namespace amc::emulated;

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  if (!handle)
    return CUBLAS_STATUS_INVALID_VALUE;
  auto made = std::make_shared<cublasLtContext>();
  made->device = emulatedCudaDevice();
  if (made->device < 0)
    return CUBLAS_STATUS_NOT_INITIALIZED;
  if (cuMemAlloc(&made->memory, handleBytes) != CUDA_SUCCESS)
    return CUBLAS_STATUS_ALLOC_FAILED;
  *handle = made.get();
  enter(std::move(made), handleName);
  return CUBLAS_STATUS_SUCCESS;
}

// Waits for the device, as the original does.
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  if (cublasStatus_t status = checkHandle(handle, __func__))
    return status;
  if (cuCtxSynchronize() != CUDA_SUCCESS || cuMemFree(handle->memory) != CUDA_SUCCESS)
    return CUBLAS_STATUS_INTERNAL_ERROR;
  retire(handle);
  return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

size_t cublasLtGetCudartVersion() { return CUDART_VERSION; }

cublasStatus_t cublasLtGetProperty(libraryPropertyType type, int *value) {
  if (!value || type > PATCH_LEVEL)
    return CUBLAS_STATUS_INVALID_VALUE;
  *value = type == MAJOR_VERSION ? CUBLAS_VER_MAJOR : type == MINOR_VERSION ? CUBLAS_VER_MINOR : CUBLAS_VER_PATCH;
  return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
  case CUBLAS_STATUS_SUCCESS:
    return "CUBLAS_STATUS_SUCCESS";
  case CUBLAS_STATUS_NOT_INITIALIZED:
    return "CUBLAS_STATUS_NOT_INITIALIZED";
  case CUBLAS_STATUS_ALLOC_FAILED:
    return "CUBLAS_STATUS_ALLOC_FAILED";
  case CUBLAS_STATUS_INVALID_VALUE:
    return "CUBLAS_STATUS_INVALID_VALUE";
  case CUBLAS_STATUS_ARCH_MISMATCH:
    return "CUBLAS_STATUS_ARCH_MISMATCH";
  case CUBLAS_STATUS_MAPPING_ERROR:
    return "CUBLAS_STATUS_MAPPING_ERROR";
  case CUBLAS_STATUS_EXECUTION_FAILED:
    return "CUBLAS_STATUS_EXECUTION_FAILED";
  case CUBLAS_STATUS_INTERNAL_ERROR:
    return "CUBLAS_STATUS_INTERNAL_ERROR";
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return "CUBLAS_STATUS_NOT_SUPPORTED";
  case CUBLAS_STATUS_LICENSE_ERROR:
    return "CUBLAS_STATUS_LICENSE_ERROR";
  }
  return "CUBLAS_STATUS_UNKNOWN";
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
  case CUBLAS_STATUS_SUCCESS:
    return "success";
  case CUBLAS_STATUS_NOT_INITIALIZED:
    return "the library was not initialized";
  case CUBLAS_STATUS_ALLOC_FAILED:
    return "the resource allocation failed";
  case CUBLAS_STATUS_INVALID_VALUE:
    return "an unsupported value or parameter was passed to the function";
  case CUBLAS_STATUS_ARCH_MISMATCH:
    return "the function requires an architectural feature absent from the architecture of the device";
  case CUBLAS_STATUS_MAPPING_ERROR:
    return "an access to GPU memory space failed";
  case CUBLAS_STATUS_EXECUTION_FAILED:
    return "the GPU program failed to execute";
  case CUBLAS_STATUS_INTERNAL_ERROR:
    return "the library failed due to an internal error";
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return "the requested functionality is not supported";
  case CUBLAS_STATUS_LICENSE_ERROR:
    return "the functionality requested requires a license, which was not found";
  }
  return "unknown status";
}
