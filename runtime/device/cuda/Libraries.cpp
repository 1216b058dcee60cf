#include "runtime/device/cuda/Libraries.h"
#include <dlfcn.h>

namespace amc::rt::cuda {
namespace {

// One of several names that a library goes by.
Expected<void *> open(std::initializer_list<const char *> names, const char *what) {
  std::string errors;
  for (const char *name : names) {
    if (void *library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL))
      return library;
    errors += text("\n  ", ::dlerror());
  }
  return limitError(what, " cannot be loaded:", errors);
}

template <class Function> Status find(void *library, const char *name, Function &function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function ? Status() : limitError("has no ", name);
}

#define AMC_NAME_OF(name) #name
#define AMC_NAME(name) AMC_NAME_OF(name)
#define AMC_FIND(name)                                                                                                 \
  if (Status status = find(library, AMC_NAME(name), table.name); !status.ok())                                         \
    return status;

Status findAll(void *library, Driver &table) {
  AMC_DRIVER_FUNCTIONS(AMC_FIND)
  return Status();
}
Status findAll(void *library, BlasLibrary &table) {
  AMC_BLAS_FUNCTIONS(AMC_FIND)
  return Status();
}
Status findAll(void *library, NcclLibrary &table) {
  AMC_NCCL_FUNCTIONS(AMC_FIND)
  return Status();
}

std::string versionText(int version) { return text(version / 1000, ".", version % 1000 / 10); }

template <class Table> Expected<const Table *> loadOnce(std::initializer_list<const char *> names, const char *what) {
  static Table table;
  static bool loaded = false;
  if (loaded)
    return &table;
  Expected<void *> library = open(names, what);
  if (!library.ok())
    return library.status();
  if (Status status = findAll(*library, table); !status.ok())
    return std::move(status).withContext(what);
  loaded = true;
  return &table;
}

} // namespace

Expected<const Driver *> Driver::load() {
  Expected<const Driver *> driver = loadOnce<Driver>({"libcuda.so.1"}, "the NVIDIA driver");
  if (!driver.ok())
    return driver;
  if (Status status = (*driver)->check((*driver)->cuInit(0), "the NVIDIA driver"); !status.ok())
    return status;
  int version = 0;
  if (Status status = (*driver)->check((*driver)->cuDriverGetVersion(&version), "the NVIDIA driver"); !status.ok())
    return status;
  if (version < CUDA_VERSION)
    return limitError("the NVIDIA driver is for CUDA ", versionText(version), " and this program needs one for ",
                      versionText(CUDA_VERSION), " or later");
  return driver;
}

Status Driver::check(CUresult result, const char *what) const {
  if (result == CUDA_SUCCESS)
    return Status();
  const char *name = nullptr, *words = nullptr;
  cuGetErrorName(result, &name);
  cuGetErrorString(result, &words);
  return limitError(what, ": ", words ? words : "an unknown error", " (", name ? name : std::to_string(result), ")");
}

Expected<const BlasLibrary *> BlasLibrary::load() {
  return loadOnce<BlasLibrary>({"libcublasLt.so.13", "libcublasLt.so"}, "cuBLASLt");
}

Status BlasLibrary::check(cublasStatus_t status, const char *what) const {
  return status == CUBLAS_STATUS_SUCCESS ? Status() : limitError(what, ": ", cublasLtGetStatusString(status));
}

Expected<const NcclLibrary *> NcclLibrary::load() {
  return loadOnce<NcclLibrary>({"libnccl.so.2", "libnccl.so"}, "NCCL");
}

Status NcclLibrary::check(ncclResult_t result, const char *what, ncclComm_t communicator) const {
  if (result == ncclSuccess || result == ncclInProgress)
    return Status();
  const char *more = ncclGetLastError(communicator);
  return limitError(what, ": ", ncclGetErrorString(result), more && *more ? text(" (", more, ")") : std::string());
}

} // namespace amc::rt::cuda
