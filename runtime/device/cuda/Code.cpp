#include "runtime/device/cuda/Code.h"
#include "runtime/plan/FusedKernels.h"
#include <algorithm>

namespace amc::rt::cuda {

class FusedKernel final : public Kernel {
public:
  FusedKernel(std::vector<Code::Launch> launches, const InstructionSpec &spec)
      : launches(std::move(launches)), inputs(spec.inputs.size()), outputs(spec.outputs.size()),
        workspaces(spec.workspaces.size()) {}

  Status enqueue(const Operands &operands, Stream &stream) const override {
    const std::byte *addresses[maxFusedOperands];
    void *arguments[maxFusedOperands];
    const std::byte **end = std::copy_n(operands.inputs, inputs, addresses);
    end = std::copy_n(operands.outputs, outputs, end);
    end = std::copy_n(operands.workspaces, workspaces, end);
    std::transform(addresses, end, arguments, [](const std::byte *&address) { return &address; });
    for (const Code::Launch &launch : launches)
      if (Status status = stream.launchWith(launch.function, {launch.blocks}, launch.threads, 0, arguments); !status.ok())
        return status;
    return Status();
  }

private:
  std::vector<Code::Launch> launches;
  size_t inputs, outputs, workspaces;
};

Expected<std::unique_ptr<Code>> Code::load(const plan::Plan &plan, Context &context) {
  auto made = std::make_unique<Code>();
  if (plan.fused_kernels().empty())
    return made;
  KernelImage image = {};
  for (const plan::Code &code : plan.code()) {
    if (code.level() == ptxLevel)
      image.text = code.image().c_str();
    else if (code.level() == "sm_" + std::to_string(context.capability)) // a cubin runs on GPUs of its own generation
      image.binary = code.image().data();
  }
  AMC_CUDA_TRY(module, context.loadModule(image, "the plan's kernels"));
  for (const plan::FusedKernel &kernel : plan.fused_kernels()) {
    std::vector<Launch> launches;
    for (const plan::FusedKernel::Launch &launch : kernel.launches()) {
      AMC_CUDA_TRY(function, context.function(module, plan.code(0).names(static_cast<int>(launch.function()))));
      launches.push_back({function, (launch.extent() + launch.grain() - 1) / launch.grain(),
                          static_cast<unsigned>(launch.threads())});
    }
    made->kernels.push_back(std::move(launches));
  }
  return made;
}

std::unique_ptr<Kernel> Code::prepare(const InstructionSpec &spec) const {
  return std::make_unique<FusedKernel>(kernels[static_cast<size_t>(spec.integer("number"))], spec);
}

} // namespace amc::rt::cuda
