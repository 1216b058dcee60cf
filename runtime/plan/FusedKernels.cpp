#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/DTypes.h"
#include "runtime/plan/Hash.h"
#include "runtime/plan/Ranges.h"
#include <algorithm>
#include <array>
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
    if (kernel.rows() || kernel.columns()) { // older plans have none
      all += "domain ";
      add(kernel.rows());
      add(kernel.columns());
    }
  }
  for (const plan::Code &code : plan.code()) {
    addBytes(code.level());
    addBytes(code.image());
    add(code.entries_size());
    for (uint64_t entry : code.entries())
      add(entry);
  }
  // What plans for a CPU do not have. No number stands where its first word does, so theirs is no other table's text.
  if (architectureOf(plan.target())) {
    all += "gpu ";
    for (const plan::FusedKernel &kernel : plan.fused_kernels())
      for (const plan::FusedKernel::Launch &launch : kernel.launches())
        add(launch.threads());
    for (const plan::Code &code : plan.code()) {
      add(code.names_size());
      for (const std::string &name : code.names())
        addBytes(name);
      add(code.resources_size());
      for (const plan::Code::Resources &resources : code.resources()) {
        add(resources.registers());
        add(resources.shared_bytes());
        add(resources.spill_bytes());
      }
    }
  }
  return hexadecimal(XXH3_128bits(all.data(), all.size()));
}

namespace {

using Report = std::function<void(const std::string &)>;

// An identifier of PTX's, as entries are called.
bool isName(const std::string &name) {
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

void checkCpuCode(const std::string &path, const plan::Code &code, int functions, const Report &error) {
  if (code.level().rfind("x86-64-", 0) != 0)
    error(text(path, ".level: '", code.level(), "' is none of this target's"));
  if (code.names_size() || code.resources_size())
    error(text(path, ": has names or resources of a GPU's functions, and the target has none"));
  if (code.entries_size() != functions)
    error(text(path, ".entries: are ", code.entries_size(), " and should be as many as of code[0], ", functions));
  for (int k = 0; k < code.entries_size(); ++k)
    if (code.entries(k) >= code.image().size())
      error(text(path, ".entries[", k, "]: is ", code.entries(k), " and the image has ", code.image().size(), " bytes"));
}

void checkGpuCode(const std::string &path, const plan::Code &code, const plan::Code &first,
                  const std::string &architecture, const Report &error) {
  if (code.level() != ptxLevel && code.level() != architecture)
    error(text(path, ".level: '", code.level(), "' is none of this target's"));
  if (code.image().empty())
    error(text(path, ".image: is empty"));
  if (code.entries_size())
    error(text(path, ".entries: are ", code.entries_size(), " and should be none, functions are found by name"));
  if (!std::equal(code.names().begin(), code.names().end(), first.names().begin(), first.names().end()))
    error(text(path, ".names: should be those of code[0]"));
  std::set<std::string> names;
  for (int k = 0; k < code.names_size(); ++k)
    if (!isName(code.names(k)) || !names.insert(code.names(k)).second)
      error(text(path, ".names[", k, "]: '", code.names(k), "' is no name of a function, or another's"));
  if (code.resources_size() && code.resources_size() != code.names_size())
    error(text(path, ".resources: are ", code.resources_size(), " and should be one for each of ", code.names_size(),
               " names"));
}

void checkLaunch(const std::string &path, const plan::FusedKernel::Launch &launch, int functions, bool gpu,
                 const Report &error) {
  if (launch.function() >= static_cast<uint64_t>(functions))
    error(text(path, ".function: is ", launch.function(), " and there are ", functions));
  if (launch.grain() == 0 || launch.extent() > uint64_t(1) << 48)
    error(text(path, ": grain ", launch.grain(), " should not be 0, extent ", launch.extent(), " at most 2^48"));
  else if (!gpu && launch.threads() != 0)
    error(text(path, ".threads: is ", launch.threads(), " and should be 0, the target has no blocks"));
  else if (gpu && (launch.threads() == 0 || launch.threads() > mostThreads))
    error(text(path, ".threads: is ", launch.threads(), " and should be in [1, ", mostThreads, "]"));
  else if (gpu && (launch.extent() == 0 || (launch.extent() - 1) / launch.grain() >= mostBlocks))
    error(text(path, ": extent ", launch.extent(), " in pieces of ", launch.grain(), " should be from 1 to 2^31 - 1 blocks"));
}

} // namespace

std::optional<std::string> architectureOf(const std::string &target) {
  constexpr std::string_view prefix = "cuda:";
  return target.rfind(prefix, 0) == 0 ? std::optional(target.substr(prefix.size())) : std::nullopt;
}

void checkCode(const plan::Plan &plan, const std::function<void(const std::string &)> &error) {
  if (plan.code_hash() != codeHash(plan))
    error("code_hash: does not fit fused_kernels and code, so they are not what was compiled");
  const std::optional<std::string> architecture = architectureOf(plan.target());
  int functions = 0;
  if (plan.code_size())
    functions = architecture ? plan.code(0).names_size() : plan.code(0).entries_size();
  std::set<std::string> levels;
  for (int i = 0; i < plan.code_size(); ++i) {
    const plan::Code &code = plan.code(i);
    std::string path = text("code[", i, "]");
    if (!levels.insert(code.level()).second)
      error(text(path, ".level: '", code.level(), "' is there already"));
    if (architecture)
      checkGpuCode(path, code, plan.code(0), *architecture, error);
    else
      checkCpuCode(path, code, functions, error);
  }
  if (architecture && plan.fused_kernels_size() && !levels.count(ptxLevel))
    error(text("code: has no '", ptxLevel, "', which every plan with kernels for ", plan.target(), " should have"));
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
    if (!shapeElements(std::array{kernel.rows(), kernel.columns()}))
      error(text(path, ": a domain of ", kernel.rows(), " rows of ", kernel.columns(), " is larger than any tensor"));
    for (int k = 0; k < kernel.launches_size(); ++k)
      checkLaunch(text(path, ".launches[", k, "]"), kernel.launches(k), functions, architecture.has_value(), error);
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
  if (architectureOf(plan.target()))
    for (const auto *views : {&instruction.inputs(), &instruction.outputs(), &instruction.workspaces()})
      for (const plan::View &view : *views)
        if (view.byte_offset() % gpuAlignment != 0) // buffers begin at multiples of more
          return inputError("an operand begins ", view.byte_offset(), " bytes into its buffer and should at a multiple of ",
                            gpuAlignment);
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
