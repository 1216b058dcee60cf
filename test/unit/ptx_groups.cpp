// Random groups on a CUDA driver, real or emulated (test/emulated_cuda), beside the CPU's code for the same groups. What is
// computed element by element, and sums over columns, have the same bits; what goes through a statistic of a row differs
// by the order of that sum alone. Skipped where there is no driver or no device.
#include "runtime/device/cpu/Code.h"
#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/Ranges.h"
#include "test/unit/random_groups.h"
#include <cmath>
#include <cuda.h>
#include <dlfcn.h>

using namespace amc;
using namespace amc::test;

namespace {

constexpr size_t guard = 64; // bytes behind a tensor, which nothing may change
constexpr std::byte untouched{0xa5};

#define AMC_TEXT(NAME) #NAME
// cuda.h renames some functions; the library has the name it gives them.
#define AMC_FUNCTION(NAME) decltype(&::NAME) NAME##_ = reinterpret_cast<decltype(&::NAME)>(dlsym(library, AMC_EXPANDED(NAME)))
#define AMC_EXPANDED(NAME) AMC_TEXT(NAME)

class Driver {
public:
  static Driver &get() {
    static Driver driver;
    return driver;
  }
  bool ready = false;
  std::string why;

  void *library = dlopen("libcuda.so.1", RTLD_NOW);
  AMC_FUNCTION(cuInit);
  AMC_FUNCTION(cuDeviceGet);
  AMC_FUNCTION(cuDevicePrimaryCtxRetain);
  AMC_FUNCTION(cuDevicePrimaryCtxRelease);
  AMC_FUNCTION(cuCtxSetCurrent);
  AMC_FUNCTION(cuStreamCreate);
  AMC_FUNCTION(cuStreamDestroy);
  AMC_FUNCTION(cuStreamSynchronize);
  AMC_FUNCTION(cuMemAlloc);
  AMC_FUNCTION(cuMemFree);
  AMC_FUNCTION(cuMemcpyHtoDAsync);
  AMC_FUNCTION(cuMemcpyDtoHAsync);
  AMC_FUNCTION(cuModuleLoadDataEx);
  AMC_FUNCTION(cuModuleUnload);
  AMC_FUNCTION(cuModuleGetFunction);
  AMC_FUNCTION(cuLaunchKernel);
  CUstream stream = nullptr;

  void close() {
    if (!ready)
      return;
    cuStreamDestroy_(stream);
    cuDevicePrimaryCtxRelease_(device);
    ready = false;
  }

private:
  Driver() {
    if (!library) {
      why = "no CUDA driver";
      return;
    }
    CUcontext context = nullptr;
    ready = cuInit_(0) == CUDA_SUCCESS && cuDeviceGet_(&device, 0) == CUDA_SUCCESS &&
            cuDevicePrimaryCtxRetain_(&context, device) == CUDA_SUCCESS && cuCtxSetCurrent_(context) == CUDA_SUCCESS &&
            cuStreamCreate_(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS;
    why = ready ? "" : "the CUDA driver finds no device";
  }
  CUdevice device = 0;
};

void expect(CUresult result) { ASSERT_EQ(result, CUDA_SUCCESS); }

// A tensor of either device, its guard behind it.
struct Tensor {
  plan::DType dtype;
  std::vector<uint64_t> shape;
  uint64_t bytes;
  std::vector<std::byte> host; // the CPU's
  std::vector<std::byte> back; // what the GPU has made
  CUdeviceptr device = 0;
};

class PtxGroups : public testing::Test {
protected:
  void SetUp() override {
    if (!Driver::get().ready)
      GTEST_SKIP() << Driver::get().why;
    auto made = rt::ThreadPool::create(1);
    ASSERT_TRUE(made.ok());
    pool = std::move(*made);
  }
  // An emulated driver reports what is left.
  static void TearDownTestSuite() { Driver::get().close(); }

  // Runs every kernel of the step on both.
  void compare(const std::string &text) {
    SCOPED_TRACE(text);
    plan::Plan cpu = compileStep(text, true), gpu = compileStep(text, true, "cuda:sm_80");
    ASSERT_FALSE(HasFailure());
    ASSERT_EQ(cpu.instructions_size(), gpu.instructions_size());
    auto code = rt::cpu::Code::load(cpu, "x86-64-v3");
    ASSERT_TRUE(code.ok());
    const plan::Code &ptx = gpu.code(0);
    CUmodule module = nullptr;
    char log[4096] = "";
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, reinterpret_cast<void *>(sizeof log)};
    ASSERT_EQ(driver.cuModuleLoadDataEx_(&module, ptx.image().c_str(), 2, options, values), CUDA_SUCCESS) << log;
    for (int i = 0; i < cpu.instructions_size() && !HasFailure(); ++i)
      if (const plan::FusedKernel *kernel = rt::fusedKernelOf(gpu, gpu.instructions(i)))
        compareKernel(cpu.instructions(i), **code, *kernel, ptx, module);
    expect(driver.cuModuleUnload_(module));
  }

  void compareKernel(const plan::Instruction &instruction, const rt::cpu::Code &code, const plan::FusedKernel &kernel,
                     const plan::Code &ptx, CUmodule module) {
    SCOPED_TRACE(kernel.name());
    std::vector<Tensor> tensors;
    std::vector<size_t> inputs, outputs, workspaces; // which of them
    auto add = [&](const plan::View &view, bool filled) {
      uint64_t bytes = *rt::viewBytes(view);
      std::vector<std::byte> host(bytes + guard, untouched);
      tensors.push_back({view.dtype(), {view.shape().begin(), view.shape().end()}, bytes, std::move(host), {}});
      if (filled)
        fill(view.dtype(), tensors.back().host.data(), bytes / rt::dtypeBytes(view.dtype()), tensors.size());
      return tensors.size() - 1;
    };
    for (const plan::View &view : instruction.inputs())
      inputs.push_back(add(view, true));
    for (int o = 0; o < instruction.outputs_size(); ++o) {
      int64_t from = kernel.replaces(o);
      bool inPlace = from >= 0 && instruction.inputs(static_cast<int>(from)).buffer() == instruction.outputs(o).buffer();
      outputs.push_back(inPlace ? inputs[static_cast<size_t>(from)] : add(instruction.outputs(o), false));
    }
    for (const plan::View &view : instruction.workspaces())
      workspaces.push_back(add(view, false));
    // On the device only inputs and guards are there before, so that an emulated one sees what is read too early.
    for (size_t t = 0; t < tensors.size(); ++t) {
      Tensor &tensor = tensors[t];
      expect(driver.cuMemAlloc_(&tensor.device, tensor.bytes + guard));
      size_t from = std::find(inputs.begin(), inputs.end(), t) != inputs.end() ? 0 : tensor.bytes;
      expect(driver.cuMemcpyHtoDAsync_(tensor.device + from, tensor.host.data() + from, tensor.bytes + guard - from,
                                       driver.stream));
    }
    expect(driver.cuStreamSynchronize_(driver.stream));
    runOnCpu(instruction, code, tensors, inputs, outputs, workspaces);
    std::vector<CUdeviceptr> addresses;
    std::vector<void *> arguments;
    for (const std::vector<size_t> *list : {&inputs, &outputs, &workspaces})
      for (size_t t : *list)
        addresses.push_back(tensors[t].device);
    for (CUdeviceptr &address : addresses)
      arguments.push_back(&address);
    for (const plan::FusedKernel::Launch &launch : kernel.launches()) {
      CUfunction function = nullptr;
      expect(driver.cuModuleGetFunction_(&function, module, ptx.names(static_cast<int>(launch.function())).c_str()));
      auto blocks = static_cast<unsigned>((launch.extent() + launch.grain() - 1) / launch.grain());
      expect(driver.cuLaunchKernel_(function, blocks, 1, 1, static_cast<unsigned>(launch.threads()), 1, 1, 0, driver.stream,
                                    arguments.data(), nullptr));
    }
    expect(driver.cuStreamSynchronize_(driver.stream));
    for (size_t t = 0; t < tensors.size(); ++t) {
      Tensor &tensor = tensors[t];
      bool scratch = std::find(workspaces.begin(), workspaces.end(), t) != workspaces.end();
      size_t from = scratch ? tensor.bytes : 0; // rows of the workspace are padded with what nobody writes
      tensor.back.resize(tensor.bytes + guard);
      expect(driver.cuMemcpyDtoHAsync_(tensor.back.data() + from, tensor.device + from, tensor.bytes + guard - from,
                                       driver.stream));
      expect(driver.cuStreamSynchronize_(driver.stream));
      expect(driver.cuMemFree_(tensor.device));
      for (size_t i = tensor.bytes; i < tensor.bytes + guard; ++i)
        ASSERT_EQ(tensor.back[i], untouched) << "behind operand " << t;
    }
    auto has = [&](const char *what) { return kernel.name().find(what) != std::string::npos; };
    const bool rows = has("norm") || has("softmax");
    // A gradient's sums over columns are of what forward has handed over.
    const bool sums = kernel.name() == "rms_norm_backward" || kernel.name() == "layer_norm_backward";
    for (size_t o = 0; o < outputs.size(); ++o)
      compareTensor(tensors[outputs[o]], rows && !(sums && o > 0), "output " + std::to_string(o));
    ++kernels;
  }

  void runOnCpu(const plan::Instruction &instruction, const rt::cpu::Code &code, std::vector<Tensor> &tensors,
                const std::vector<size_t> &inputs, const std::vector<size_t> &outputs,
                const std::vector<size_t> &workspaces) {
    auto spec = rt::InstructionSpec::create(instruction);
    ASSERT_TRUE(spec.ok());
    auto addresses = [&](const std::vector<size_t> &list) {
      std::vector<std::byte *> at;
      for (size_t t : list)
        at.push_back(tensors[t].host.data());
      return at;
    };
    std::vector<std::byte *> in = addresses(inputs), out = addresses(outputs), scratch = addresses(workspaces);
    rt::RunFailure failure;
    rt::cpu::RunContext context{*pool, failure};
    code.prepare(*spec)->run({in.data(), out.data(), scratch.data()}, context);
  }

  // `closely`: up to a few units in the last place of the row's largest.
  void compareTensor(const Tensor &tensor, bool closely, const std::string &what) {
    const uint64_t elements = tensor.bytes / rt::dtypeBytes(tensor.dtype);
    const uint64_t columns = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (tensor.dtype == plan::BOOL) {
      for (uint64_t i = 0; i < elements && !closely; ++i)
        ASSERT_EQ(tensor.back[i], tensor.host[i]) << what << " element " << i;
      return;
    }
    const double unit = tensor.dtype == plan::F32 ? 0x1p-23 : tensor.dtype == plan::F16 ? 0x1p-10 : 0x1p-7;
    for (uint64_t begin = 0; begin < elements; begin += columns) {
      double largest = 1;
      for (uint64_t i = begin; i < begin + columns; ++i)
        if (double x = std::fabs(readAt(tensor.dtype, tensor.host.data(), i)); std::isfinite(x))
          largest = std::max(largest, x);
      for (uint64_t i = begin; i < begin + columns; ++i) {
        double x = readAt(tensor.dtype, tensor.back.data(), i), y = readAt(tensor.dtype, tensor.host.data(), i);
        if (std::isnan(x) && std::isnan(y))
          continue; // one NaN is as good as another
        if (!closely)
          ASSERT_EQ(std::memcmp(&x, &y, sizeof x), 0) << what << " element " << i << ": " << x << " and " << y;
        else
          ASSERT_TRUE(x == y || std::fabs(x - y) <= 4 * unit * largest) << what << " element " << i << ": " << x << " and " << y;
      }
    }
  }

  Driver &driver = Driver::get();
  std::unique_ptr<rt::ThreadPool> pool;
  uint64_t kernels = 0;
};

TEST_F(PtxGroups, EqualTheCpus) {
  for (uint32_t seed = 1; seed <= 100 && !HasFailure(); ++seed)
    compare(randomStep(seed).text);
  EXPECT_GT(kernels, 100u);
}

TEST_F(PtxGroups, OfRowsAndTheirGradients) {
  for (auto *step : {normStep, softmaxStep})
    for (const char *element : {"f32", "bf16", "f16"})
      for (const Shape &domain : {Shape{3, 70, 48}, Shape{130, 20}, Shape{65, 2048}, Shape{2, 1}, Shape{70, 7}, Shape{9, 1027}})
        if (!HasFailure())
          compare(step(domain, element));
}

TEST_F(PtxGroups, OfMixedTypes) {
  for (const Shape &domain : {Shape{1}, Shape{16}, Shape{3, 33}, Shape{7, 1024}, Shape{2051}})
    if (!HasFailure())
      compare(mixedStep(domain));
}

} // namespace
