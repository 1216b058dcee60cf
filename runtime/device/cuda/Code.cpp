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
  // A cubin runs on GPUs of its own generation; the driver makes one for any later from the text.
  const plan::Code *text = nullptr, *best = nullptr;
  for (const plan::Code &code : plan.code()) {
    if (code.level() == "ptx")
      text = &code;
    if (code.level() == "sm_" + std::to_string(context.capability))
      best = &code;
  }
  CUmodule module = nullptr;
  if (best) {
    bool forOthers = false;
    Expected<CUmodule> loaded = context.loadModule(best->image().data(), "the plan's kernels", &forOthers);
    if (loaded.ok())
      module = *loaded;
    else if (!forOthers)
      return loaded.status();
    else
      best = nullptr; // an emulated device, or a driver that is older than what made it, takes the text
  }
  if (!best) {
    if (!text)
      return inputError("code: there is none for ", context.name, ", and no PTX");
    best = text;
    AMC_CUDA_TRY(loaded, context.loadModule(text->image().c_str(), "the plan's kernels"));
    module = loaded;
  }
  for (const plan::FusedKernel &kernel : plan.fused_kernels()) {
    std::vector<Launch> launches;
    for (const plan::FusedKernel::Launch &launch : kernel.launches()) {
      AMC_CUDA_TRY(function, context.function(module, best->names(static_cast<int>(launch.function()))));
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
