// Modules of PTX text, and their functions.
#include "test/emulated_cuda/driver/Launch.h"
#include "test/emulated_cuda/driver/State.h"
#include <cstring>

using namespace emu;

namespace {

// Where cuModuleLoadDataEx is to put what is wrong.
struct Logs {
  char *error = nullptr;
  size_t errorBytes = 0;
  size_t *written = nullptr;
  char *info = nullptr;
  size_t infoBytes = 0;
};

void write(char *to, size_t bytes, const std::string &text) {
  if (to && bytes)
    snprintf(to, bytes, "%s", text.c_str());
}

void initialiseVariable(Region &region, const ptx::Variable &variable, const Addresses &addresses) {
  unsigned width = ptx::sizeOf(variable.type);
  if (variable.initial.size() > variable.count)
    throw ptx::LoadError(variable.line, concat("variable ", variable.name, " has too many initial values"));
  for (size_t i = 0; i < variable.initial.size(); ++i) {
    uint64_t value = variable.initial[i].bits;
    if (!variable.initial[i].symbol.empty()) {
      auto address = addresses.find(variable.initial[i].symbol);
      if (address == addresses.end() || width != 8)
        throw ptx::LoadError(variable.line,
                             concat("variable ", variable.name, " has an initial value that is not modelled"));
      value += address->second;
    }
    memcpy(region.host + i * width, &value, width);
  }
  region.shadow.setInitialised(0, region.bytes, true); // the rest is zero
}

void makeVariables(CUmod_st &module) {
  Memory &memory = module.context->memory;
  std::vector<std::pair<Region *, const ptx::Variable *>> made;
  for (const std::string &name : module.text->variableOrder) {
    const ptx::Variable &variable = module.text->variables.at(name);
    if (variable.space != ptx::Space::Global && variable.space != ptx::Space::Const)
      continue;
    if (variable.external)
      throw ptx::LoadError(variable.line, concat("variable ", name, " is external"));
    uint64_t count = variable.count ? variable.count : variable.initial.size();
    Region *region = memory.allocate(std::max<uint64_t>(1, count * ptx::sizeOf(variable.type)),
                                     concat("variable ", name, " of a module"));
    if (!region)
      throw std::bad_alloc();
    region->variable = true;
    region->readOnly = variable.space == ptx::Space::Const;
    module.addresses[name] = region->base;
    made.push_back({region, &variable});
  }
  for (auto &[region, variable] : made)
    initialiseVariable(*region, *variable, module.addresses);
}

void freeModule(CUmod_st *module) {
  for (const auto &[name, address] : module->addresses)
    module->context->memory.free(address);
  module->context->memory.take(-(int64_t)module->taken);
  for (auto &[name, function] : module->functions)
    driver().functions.erase(function.get());
  driver().modules.erase(module);
  delete module;
}

CUresult checkTarget(const ptx::Module &text, std::string &why) {
  const Driver &d = driver();
  int newest = d.version >= 13000   ? 90 + (d.version - 13000) / 10
               : d.version >= 12000 ? 80 + (d.version - 12000) / 10
                                    : 0;
  if (text.versionMajor * 10 + text.versionMinor > newest) {
    why = concat("PTX ", text.versionMajor, ".", text.versionMinor, " is newer than the driver");
    return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
  }
  int compute = d.major * 10 + d.minor;
  bool exact = text.target.back() == 'a' || text.target.back() == 'f'; // for one device only
  if (exact ? text.targetNumber != compute : text.targetNumber > compute) {
    why = concat("target ", text.target, " is not for a device of compute capability ", d.major, ".", d.minor);
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  return CUDA_SUCCESS;
}

CUresult load(Call &call, CUmodule *result, const void *image, const Logs &logs) {
  const char *text = static_cast<const char *>(image);
  if (!result || !image)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "a pointer is null");
  constexpr unsigned fatbin = 0xba55ed50, fatbinWrapper = 0x466243b1;
  unsigned magic;
  memcpy(&magic, image, strnlen(text, 4) < 4 ? 1 : 4);
  if (!memcmp(text, "\177ELF", 4) || magic == fatbin || magic == fatbinWrapper) {
    write(logs.error, logs.errorBytes, "the emulated device runs PTX text only");
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  auto module = std::make_unique<CUmod_st>();
  module->context = call.context;
  std::string why;
  CUresult code = CUDA_SUCCESS;
  try {
    module->text = std::make_shared<ptx::Module>(ptx::parse(text));
    code = checkTarget(*module->text, why);
    if (code == CUDA_SUCCESS) {
      makeVariables(*module);
      for (const ptx::Function &function : module->text->functions) {
        if (!function.entry || !function.hasBody)
          continue;
        auto made = std::make_shared<CUfunc_st>();
        made->module = module.get();
        made->kernel = decode(*module->text, function, module->addresses);
        module->functions[function.name] = std::move(made);
      }
    }
  } catch (const ptx::LoadError &error) {
    why = concat("PTX line ", error.line, ": ", error.what());
    code = CUDA_ERROR_INVALID_PTX;
    finding("module: ", why);
  } catch (const std::bad_alloc &) {
    why = "the module's variables do not fit into memory";
    code = CUDA_ERROR_OUT_OF_MEMORY;
  }
  write(logs.error, logs.errorBytes, why);
  write(logs.info, logs.infoBytes, "");
  if (logs.written)
    *logs.written = why.size();
  driver().modules.insert(module.get());
  for (auto &[name, function] : module->functions)
    driver().functions.insert(function.get());
  CUmod_st *made = module.release();
  if (code != CUDA_SUCCESS) {
    freeModule(made);
    return code;
  }
  made->taken = (strlen(text) + 65535) / 65536 * 65536; // its code
  call.context->memory.take(made->taken);
  *result = made;
  return CUDA_SUCCESS;
}

CUresult checkFunction(const Call &call, CUfunction function) {
  if (call.failed())
    return call.status;
  if (!driver().functions.count(function))
    return call.misuse(CUDA_ERROR_INVALID_HANDLE, "the function is none, or its module has been unloaded");
  return CUDA_SUCCESS;
}

CUresult checkModule(const Call &call, CUmodule module) {
  if (call.failed())
    return call.status;
  if (!driver().modules.count(module))
    return call.misuse(CUDA_ERROR_INVALID_HANDLE, "the module has been unloaded, or never was one");
  return CUDA_SUCCESS;
}

int threadsOf(const Kernel &kernel) {
  auto product = [](const std::array<unsigned, 3> &three) { return three[0] * three[1] * three[2]; };
  int most = product(kernel.requiredThreads) ? product(kernel.requiredThreads) : product(kernel.maxThreads);
  return most ? std::min(most, 1024) : 1024;
}

// Virtual registers say nothing of how many the assembler would need.
constexpr int nominalRegisters = 32;

} // namespace

CUresult CUDAAPI cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, CUjit_option *options,
                                    void **values) {
  Call call("cuModuleLoadDataEx", Needs::Context | Needs::NoCapture);
  if (call.failed())
    return call.status;
  Logs logs;
  for (unsigned i = 0; i < count; ++i) {
    switch (options[i]) {
    case CU_JIT_ERROR_LOG_BUFFER:
      logs.error = static_cast<char *>(values[i]);
      break;
    case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
      logs.errorBytes = reinterpret_cast<uintptr_t>(values[i]);
      logs.written = reinterpret_cast<size_t *>(&values[i]);
      break;
    case CU_JIT_INFO_LOG_BUFFER:
      logs.info = static_cast<char *>(values[i]);
      break;
    case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
      logs.infoBytes = reinterpret_cast<uintptr_t>(values[i]);
      break;
    default:
      break; // of the assembler that is not there
    }
  }
  return load(call, module, image, logs);
}

CUresult CUDAAPI cuModuleLoadData(CUmodule *module, const void *image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

CUresult CUDAAPI cuModuleLoadFatBinary(CUmodule *, const void *) { return CUDA_ERROR_NO_BINARY_FOR_GPU; }

CUresult CUDAAPI cuModuleUnload(CUmodule module) {
  Call call("cuModuleUnload", Needs::Context | Needs::NoCapture | Needs::AnyError);
  if (CUresult result = checkModule(call, module); result != CUDA_SUCCESS)
    return result;
  CUresult result = runAll(call.lock);
  freeModule(module);
  return result;
}

CUresult CUDAAPI cuModuleGetLoadingMode(CUmoduleLoadingMode *mode) {
  *mode = CU_MODULE_EAGER_LOADING;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  Call call("cuModuleGetFunction", Needs::Context);
  if (CUresult result = checkModule(call, module); result != CUDA_SUCCESS)
    return result;
  auto found = module->functions.find(name);
  if (found == module->functions.end())
    return CUDA_ERROR_NOT_FOUND;
  *function = found->second.get();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleGetGlobal(CUdeviceptr *pointer, size_t *bytes, CUmodule module, const char *name) {
  Call call("cuModuleGetGlobal", Needs::Context);
  if (CUresult result = checkModule(call, module); result != CUDA_SUCCESS)
    return result;
  auto found = module->addresses.find(name);
  if (found == module->addresses.end())
    return CUDA_ERROR_NOT_FOUND;
  if (pointer)
    *pointer = found->second;
  if (bytes)
    *bytes = module->context->memory.find(found->second)->bytes;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuFuncGetName(const char **name, CUfunction function) {
  Call call("cuFuncGetName", Needs::Context);
  CUresult result = checkFunction(call, function);
  if (result == CUDA_SUCCESS)
    *name = function->kernel.name.c_str();
  return result;
}

CUresult CUDAAPI cuFuncGetModule(CUmodule *module, CUfunction function) {
  Call call("cuFuncGetModule", Needs::Context);
  CUresult result = checkFunction(call, function);
  if (result == CUDA_SUCCESS)
    *module = function->module;
  return result;
}

CUresult CUDAAPI cuFuncLoad(CUfunction function) {
  Call call("cuFuncLoad", Needs::Context);
  return checkFunction(call, function);
}

CUresult CUDAAPI cuFuncSetCacheConfig(CUfunction function, CUfunc_cache) {
  Call call("cuFuncSetCacheConfig", Needs::Context);
  return checkFunction(call, function);
}

CUresult CUDAAPI cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
  Call call("cuFuncGetAttribute", Needs::Context);
  if (CUresult result = checkFunction(call, function); result != CUDA_SUCCESS)
    return result;
  const Kernel &kernel = function->kernel;
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    *value = threadsOf(kernel);
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    *value = kernel.staticShared;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: {
    uint64_t bytes = 0;
    for (const auto &[name, variable] : function->module->text->variables)
      bytes += variable.space == ptx::Space::Const ? variable.bytes() : 0;
    *value = bytes;
    return CUDA_SUCCESS;
  }
  case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
    *value = kernel.localBytes;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_NUM_REGS:
    *value = nominalRegisters;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    *value = kernel.module->targetNumber;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
    *value = driver().major * 10 + driver().minor;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    *value = function->maxDynamicShared - (int)kernel.staticShared;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    *value = function->carveout;
    return CUDA_SUCCESS;
  default:
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "attribute ", (int)attribute, " is not modelled");
  }
}

CUresult CUDAAPI cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  Call call("cuFuncSetAttribute", Needs::Context);
  if (CUresult result = checkFunction(call, function); result != CUDA_SUCCESS)
    return result;
  int fixed = function->kernel.staticShared;
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    if (value < 0 || value > maxSharedOptIn - fixed)
      return call.misuse(CUDA_ERROR_INVALID_VALUE, value, " bytes of dynamic shared memory and ", fixed,
                         " others should be within ", maxSharedOptIn);
    function->maxDynamicShared = std::max(maxSharedPerBlock, value + fixed);
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    if (value < -1 || value > 100)
      return call.misuse(CUDA_ERROR_INVALID_VALUE, "a carveout of ", value, " per cent");
    function->carveout = value;
    return CUDA_SUCCESS;
  default:
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "attribute ", (int)attribute, " cannot be set");
  }
}

CUresult CUDAAPI cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads,
                                                             size_t sharedBytes) {
  Call call("cuOccupancyMaxActiveBlocksPerMultiprocessor", Needs::Context);
  if (CUresult result = checkFunction(call, function); result != CUDA_SUCCESS)
    return result;
  if (!blocks || threads <= 0)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "blocks of ", threads, " threads");
  size_t shared = function->kernel.staticShared + sharedBytes;
  if (threads > threadsOf(function->kernel) || shared > (size_t)function->maxDynamicShared) {
    *blocks = 0;
    return CUDA_SUCCESS;
  }
  int warps = (threads + 31) / 32;
  int most = std::min(maxBlocksPerProcessor, maxThreadsPerProcessor / (32 * warps));
  most = std::min(most, registersPerBlock / (warps * 32 * nominalRegisters));
  *blocks = std::min<size_t>(most, maxSharedPerProcessor / (shared + 1024));
  return CUDA_SUCCESS;
}
