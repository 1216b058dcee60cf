#include "runtime/device/cpu/Code.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/FusedKernels.h"
#include <algorithm>

namespace amc::rt::cpu {

FusedKernel::FusedKernel(std::vector<Launch> launches, int64_t rows, int64_t columns, const InstructionSpec &spec)
    : launches(std::move(launches)), rows(rows), columns(columns), inputs(spec.inputs.size()), outputs(spec.outputs.size()),
      workspaces(spec.workspaces.size()) {}

void FusedKernel::gather(const Operands &operands, std::byte **all) const {
  std::byte **end = std::copy_n(operands.inputs, inputs, all);
  end = std::copy_n(operands.outputs, outputs, end);
  std::copy_n(operands.workspaces, workspaces, end);
}

void FusedKernel::run(const Operands &operands, RunContext &context) const {
  std::byte *all[maxFusedOperands];
  gather(operands, all);
  for (const Launch &launch : launches)
    context.pool.parallelFor(ceilDiv(launch.extent, launch.grain), [&](int64_t piece, unsigned) {
      int64_t begin = piece * launch.grain;
      launch.function(all, begin, std::min(begin + launch.grain, launch.extent));
    });
}

Expected<std::unique_ptr<Code>> Code::load(const plan::Plan &plan, const std::string &isa) {
  std::unique_ptr<Code> made(new Code);
  if (plan.fused_kernels_size() == 0)
    return made;
  const plan::Code *code = nullptr;
  std::string levels;
  for (const plan::Code &one : plan.code()) {
    levels += (levels.empty() ? "" : " and ") + one.level();
    // Levels of x86-64 are ordered like their names.
    if (one.level() <= isa && (!code || code->level() < one.level()))
      code = &one;
  }
  if (!code)
    return inputError("the plan's kernels are compiled for ", levels.empty() ? "nothing" : levels, "; this processor runs ",
                      isa, "; compile the plan again here, or with --fusion=off");
  if (Status status = made->image.map(std::max<uint64_t>(code->image().size(), 1), "the plan's kernels"); !status.ok())
    return status;
  std::memcpy(made->image.base, code->image().data(), code->image().size());
  if (::mprotect(made->image.base, made->image.bytes, PROT_READ | PROT_EXEC) != 0)
    return limitError("the plan's kernels cannot be made executable: ", std::strerror(errno),
                      "; where the system forbids that, compile the plan with --fusion=off");
  for (const plan::FusedKernel &kernel : plan.fused_kernels()) {
    std::vector<FusedKernel::Launch> launches;
    for (const plan::FusedKernel::Launch &launch : kernel.launches()) {
      std::byte *at = made->image.base + code->entries(static_cast<int>(launch.function()));
      launches.push_back({reinterpret_cast<FusedKernel::Function>(at), static_cast<int64_t>(launch.extent()),
                          static_cast<int64_t>(std::min<uint64_t>(launch.grain(), launch.extent() + 1))});
    }
    made->kernels.push_back({std::move(launches), static_cast<int64_t>(kernel.rows()), static_cast<int64_t>(kernel.columns())});
  }
  return made;
}

std::unique_ptr<Kernel> Code::prepare(const InstructionSpec &spec) const {
  const Generated &kernel = kernels[static_cast<size_t>(spec.integer("number"))];
  return std::make_unique<FusedKernel>(kernel.launches, kernel.rows, kernel.columns, spec);
}

} // namespace amc::rt::cpu
