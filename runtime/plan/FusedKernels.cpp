#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/DTypes.h"
#include "runtime/plan/Hash.h"
#include "runtime/plan/Ranges.h"
#include <algorithm>
#include <set>

namespace amc::rt {
namespace {

std::string operandText(plan::DType dtype, const google::protobuf::RepeatedField<uint64_t> &shape) {
  std::string out;
  for (uint64_t size : shape)
    out += text(size, "x");
  return text(out, dtypeName(dtype));
}

template <class Operands, class Views>
Status checkOperands(const char *what, const Operands &wanted, const Views &views) {
  if (wanted.size() != views.size())
    return inputError("has ", views.size(), " ", what, " and should have ", wanted.size());
  for (int i = 0; i < wanted.size(); ++i)
    if (views[i].dtype() != wanted[i].dtype() ||
        !std::equal(views[i].shape().begin(), views[i].shape().end(), wanted[i].shape().begin(), wanted[i].shape().end()))
      return inputError(what, "[", i, "]: is ", operandText(views[i].dtype(), views[i].shape()), " and should be ",
                        operandText(wanted[i].dtype(), wanted[i].shape()));
  return Status();
}

} // namespace

const plan::FusedKernel *fusedKernelOf(const plan::Plan &plan, const plan::Instruction &instruction) {
  if (instruction.kernel() != fusedKernel || instruction.attributes_size() != 1)
    return nullptr;
  const plan::Attribute &number = instruction.attributes(0);
  if (number.name() != "number" || number.value_case() != plan::Attribute::kI || number.i() < 0 ||
      number.i() >= plan.fused_kernels_size())
    return nullptr;
  return &plan.fused_kernels(static_cast<int>(number.i()));
}

std::string kernelTitle(const plan::Plan &plan, const plan::Instruction &instruction) {
  const plan::FusedKernel *kernel = fusedKernelOf(plan, instruction);
  return kernel && !kernel->name().empty() ? kernel->name() : instruction.kernel();
}

std::string codeHash(const plan::Plan &plan) {
  if (plan.fused_kernels_size() == 0 && plan.code_size() == 0)
    return "";
  // A text in which every list says how long it is, so that no two tables have one.
  std::string all;
  auto add = [&](auto number) { all += text(number, " "); };
  auto addBytes = [&](const std::string &bytes) {
    add(bytes.size());
    all += bytes;
  };
  auto addOperands = [&](const auto &operands) {
    add(operands.size());
    for (const plan::FusedKernel::Operand &operand : operands) {
      add(static_cast<int>(operand.dtype()));
      add(operand.shape_size());
      for (uint64_t size : operand.shape())
        add(size);
    }
  };
  add(plan.fused_kernels_size());
  for (const plan::FusedKernel &kernel : plan.fused_kernels()) {
    addBytes(kernel.name());
    addOperands(kernel.inputs());
    addOperands(kernel.outputs());
    add(kernel.workspace_bytes());
    add(kernel.launches_size());
    for (const plan::FusedKernel::Launch &launch : kernel.launches()) {
      add(launch.function());
      add(launch.extent());
      add(launch.grain());
    }
    add(kernel.replaces_size());
    for (int64_t input : kernel.replaces())
      add(input);
  }
  for (const plan::Code &code : plan.code()) {
    addBytes(code.level());
    addBytes(code.image());
    add(code.entries_size());
    for (uint64_t entry : code.entries())
      add(entry);
  }
  return hexadecimal(XXH3_128bits(all.data(), all.size()));
}

void checkCode(const plan::Plan &plan, const std::function<void(const std::string &)> &error) {
  if (plan.code_hash() != codeHash(plan))
    error("code_hash: does not fit fused_kernels and code, so they are not what was compiled");
  int functions = plan.code_size() ? plan.code(0).entries_size() : 0;
  std::set<std::string> levels;
  for (int i = 0; i < plan.code_size(); ++i) {
    const plan::Code &code = plan.code(i);
    std::string path = text("code[", i, "]");
    if (!levels.insert(code.level()).second)
      error(text(path, ".level: '", code.level(), "' is there already"));
    if (code.entries_size() != functions)
      error(text(path, ".entries: are ", code.entries_size(), " and should be as many as of code[0], ", functions));
    for (int k = 0; k < code.entries_size(); ++k)
      if (code.entries(k) >= code.image().size())
        error(text(path, ".entries[", k, "]: is ", code.entries(k), " and the image has ", code.image().size(), " bytes"));
  }
  for (int i = 0; i < plan.fused_kernels_size(); ++i) {
    const plan::FusedKernel &kernel = plan.fused_kernels(i);
    std::string path = text("fused_kernels[", i, "]");
    if (kernel.inputs_size() + kernel.outputs_size() + 1 > maxFusedOperands)
      error(text(path, ": has ", kernel.inputs_size() + kernel.outputs_size(), " operands and should have at most ",
                 maxFusedOperands - 1));
    if (kernel.replaces_size() != kernel.outputs_size())
      error(text(path, ".replaces: are ", kernel.replaces_size(), " and should be one for each output"));
    for (int64_t input : kernel.replaces())
      if (input < -1 || input >= kernel.inputs_size())
        error(text(path, ".replaces: ", input, " is no input"));
    for (int k = 0; k < kernel.launches_size(); ++k) {
      const plan::FusedKernel::Launch &launch = kernel.launches(k);
      if (launch.function() >= static_cast<uint64_t>(functions))
        error(text(path, ".launches[", k, "].function: is ", launch.function(), " and there are ", functions));
      if (launch.grain() == 0 || launch.extent() > uint64_t(1) << 48)
        error(text(path, ".launches[", k, "]: grain ", launch.grain(), " should not be 0, extent ", launch.extent(),
                   " at most 2^48"));
    }
  }
}

Status PlanSignatures::check(const plan::Instruction &instruction) const {
  if (instruction.kernel() != fusedKernel)
    return device.check(instruction);
  const plan::FusedKernel *kernel = fusedKernelOf(plan, instruction);
  if (!kernel)
    return inputError("attributes: should be `number`, that of one of the plan's ", plan.fused_kernels_size(), " kernels");
  if (Status status = checkOperands("inputs", kernel->inputs(), instruction.inputs()); !status.ok())
    return status;
  if (Status status = checkOperands("outputs", kernel->outputs(), instruction.outputs()); !status.ok())
    return status;
  uint64_t scratch = 0;
  for (const plan::View &view : instruction.workspaces())
    scratch += viewBytes(view).value_or(0);
  if (instruction.workspaces_size() > 1 || scratch < kernel->workspace_bytes())
    return inputError("workspaces: have ", scratch, " bytes and should be one of at least ", kernel->workspace_bytes());
  return Status();
}

bool PlanSignatures::mayAlias(const plan::Instruction &instruction, int output, int input) const {
  if (instruction.kernel() != fusedKernel)
    return device.mayAlias(instruction, output, input);
  const plan::FusedKernel *kernel = fusedKernelOf(plan, instruction);
  return kernel && output < kernel->replaces_size() && kernel->replaces(output) == input;
}

bool PlanSignatures::mustAlias(const plan::Instruction &instruction, int output, int input) const {
  return instruction.kernel() != fusedKernel && device.mustAlias(instruction, output, input);
}

} // namespace amc::rt
